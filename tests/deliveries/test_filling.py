"""A column catalogued later: what rows that do not change hold in it, and who is told."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.installations import DAY, NOON, THEME, USER, Place, catalog, make_place
from waybill.ledger import streams
from waybill.registrations.applying import apply

MIDNIGHT = NOON.replace(hour=0)
SHORT = {**USER, "columns": {name: column for name, column in USER["columns"].items() if name != "name"}}


@pytest.fixture
def place(tmp_path) -> Iterator[Place]:
    with closing(make_place(tmp_path)) as place:
        place.write("catalog.yaml", catalog(user=SHORT, theme=THEME))
        place.user(1, "Ada", MIDNIGHT - 40 * DAY)
        place.user(2, "Eve", MIDNIGHT - 40 * DAY)
        place.run(NOON)
        yield place


def newest(place: Place, entity: str = "user") -> dict[str, Any]:
    found = [delivery for _, delivery in place.manifests() if delivery["entity"] == entity]
    return max(found, key=lambda delivery: (delivery["generation"], delivery["sequence"]))


def name_of(manifest: dict[str, Any]) -> dict[str, Any]:
    return next(column for column in manifest["columns"] if column["name"] == "name")


def test_unchanged_rows_keep_a_new_column_empty_and_apply_manifest_and_stream_say_so(place):
    place.write("catalog.yaml", catalog(user=USER, theme=THEME))
    said = "the column name is new: rows that did not change keep it empty until a full load"
    assert f"note: user: {said} (fill: from_now)" in apply(place.installation(), actor="test", dry_run=True).lines(dry_run=True)
    place.user(2, "Eve, changed", MIDNIGHT + DAY / 24)
    place.run(NOON + DAY)
    second = newest(place)
    assert (second["kind"], second["rows"], second["note"]) == ("delta", 1, said)
    assert (second["schema_version"], second["previous_schema_version"]) == (2, 1)
    assert name_of(second)["filled_from_sequence"] == 2
    assert list(apply(place.installation(), actor="test").notes) == []
    place.run(NOON + 2 * DAY)
    third = newest(place)
    assert ("note" in third, "previous_schema_version" in third, name_of(third)["filled_from_sequence"]) == (False, False, 2)
    place.run(NOON + 3 * DAY, full_load=True)
    assert (newest(place)["rows"], "filled_from_sequence" in name_of(newest(place))) == (2, False)


def test_a_full_load_fills_it_where_the_entity_asks_for_that(place):
    place.write("catalog.yaml", catalog(user={**USER, "fill": "full_load"}, theme=THEME))
    assert (
        "user: the column name is new: the next delivery is a full load (fill: full_load)"
        in apply(place.installation(), actor="test").notes
    )
    results = place.run(NOON + DAY)
    assert [result.error for result in results if result.error] == []
    full = newest(place)
    assert (full["kind"], full["generation"], full["rows"], "filled_from_sequence" in name_of(full)) == ("full", 2, 2, False)
    place.run(NOON + 2 * DAY)
    assert (newest(place)["kind"], newest(place)["generation"]) == ("delta", 2)
    with place.installation().ledger.read() as connection:
        reasons = [stream.reason for stream in streams.every(connection, "acme") if stream.entity == "user"]
    assert reasons[0] == "the column name is new in the catalog, and fill: full_load asks for every row"


def test_mode_full_delivers_every_row_with_it_anyway(place):
    place.write("catalog.yaml", catalog(user=SHORT, theme={**THEME, "columns": {**THEME["columns"], "name2": {"type": "string"}}}))
    place.sql("alter table theme add column name2 varchar")
    assert list(apply(place.installation(), actor="test").notes) == []
    place.run(NOON + DAY)
    assert all("filled_from_sequence" not in column for column in newest(place, "theme")["columns"])
