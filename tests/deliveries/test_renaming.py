"""Columns that leave under another name than the source's: by the catalog's `from`, and by a tenant's `rename`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from tests.consumer.copies import rows, well
from tests.exports import Office, make_office
from tests.installations import DAY, NOON, USER, Place, catalog, make_place
from waybill.deliveries.recovery.reconciling import reconcile
from waybill.deliveries.repairs import backfill
from waybill.errors import InvalidInput
from waybill.files import places
from waybill.registrations import applying, replacing
from waybill.requests.fulfilment import running

MIDNIGHT = NOON.replace(hour=0)
PLAIN = {key: value for key, value in USER.items() if key != "deleted_column"}
COMPARED = {**PLAIN, "deletes": "compare"}
RENAMED = {"user": {"id": "user_no", "name": "who"}}
ANOTHER = {
    **COMPARED,
    "key": ["number"],
    "changes": {"mode": "lookback", "column": "changed", "lookback": "24h"},
    "columns": {
        "number": {"type": "integer", "from": "id"},
        "name": {"type": "string"},
        "changed": {"type": "timestamp", "from": "updated_at"},
    },
}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with closing(make_place(tmp_path / "place", clock=NOON)) as place:
        place.write("catalog.yaml", catalog(user=COMPARED))
        place.tenant(entityList=["user"])
        for number, name in enumerate(["Ada", "Grace", "Joan"], 1):
            place.user(number, name, MIDNIGHT - 2 * DAY)
        yield place


def newest(place: Place) -> dict[str, Any]:
    return max((value for _, value in place.manifests()), key=lambda delivery: (delivery["generation"], delivery["sequence"]))


def headers(place: Place, suffix: str) -> list[str]:
    return [path.read_text().splitlines()[0] for path in sorted(place.out.rglob(f"*{suffix}"))]


def tomorrow(place: Place) -> None:
    place.clock = (place.clock or NOON) + DAY
    place.run(place.clock)


def said(manifest: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(column["name"], column.get("source_name")) for column in manifest["columns"]]


@pytest.mark.parametrize("url", ["sqlite", "duckdb"])
def test_a_rename_reaches_files_manifest_deletes_and_the_consumers_copy(place: Place, tmp_path: Path, url: str) -> None:
    database = f"{url}:{tmp_path}/copy.db"
    place.run(NOON)
    well("load", place.out / "exports/acme", "--to", database)
    place.tenant(entityList=["user"], rename=RENAMED)
    place.sql('delete from "user" where id = 2')
    place.user(4, "Edsger", NOON)
    tomorrow(place)
    manifest = newest(place)
    assert said(manifest) == [("user_no", "id"), ("who", "name"), ("updated_at", None), ("deleted_at", None)]
    assert (manifest["sequence"], manifest["rows"], manifest["key"], manifest["deletes"]["rows"]) == (2, 1, ["user_no"], 1)
    assert (manifest["schema_version"], manifest["previous_schema_version"]) == (2, 1)
    assert "note" not in manifest
    assert headers(place, ".deletes.csv") == ["user_no,deleted_noticed_at"]
    assert headers(place, "user.csv")[-1] == "user_no,who,updated_at,deleted_at"
    assert places.verify(str(place.out), pytest.fail).is_whole
    well("verify", place.out / "exports/acme")
    well("load", place.out / "exports/acme", "--to", database)
    assert rows(database, "user", "user_no, who") == [(1, "Ada"), (3, "Joan"), (4, "Edsger")]


def test_a_rename_repeats_no_row_and_loses_none(place: Place) -> None:
    place.user(5, "late", MIDNIGHT - DAY / 2)
    place.run(NOON)
    place.tenant(entityList=["user"], rename=RENAMED)
    tomorrow(place)
    assert newest(place)["rows"] == 0
    place.tenant(entityList=["user"])
    place.user(6, "later", MIDNIGHT - DAY / 4)
    tomorrow(place)
    assert (newest(place)["rows"], newest(place)["schema_version"], newest(place)["sequence"]) == (1, 3, 3)
    assert places.verify(str(place.out), pytest.fail).is_whole


def test_chosen_columns_and_conditions_name_the_catalogs_columns(place: Place) -> None:
    chosen = {"columns": {"user": ["name", "id"]}, "where": {"user": [{"column": "name", "op": "!=", "value": "Joan"}]}}
    place.tenant(entityList=["user"], rename={"user": {"name": "who"}}, **chosen)
    place.run(NOON)
    assert said(newest(place)) == [("who", "name"), ("id", None)]
    assert place.rows() == [("Ada", "1"), ("Grace", "2")]


def test_a_catalogued_column_may_read_another_and_everything_may_be_named_by_it(place: Place) -> None:
    place.write("catalog.yaml", catalog(user=ANOTHER))
    place.run(NOON)
    first = newest(place)
    assert said(first) == [("number", "id"), ("name", None), ("changed", "updated_at")]
    assert (first["key"], first["schema_version"]) == (["number"], 1)
    place.sql('delete from "user" where id = 2')
    place.user(1, "Ada L.", NOON)
    tomorrow(place)
    assert place.rows()[3:] == [("1", "Ada L.", "2026-05-31T12:00:00.000000Z")]
    assert headers(place, ".deletes.csv") == ["number,deleted_noticed_at"]
    done = backfill(place.installation(), "acme", "user", MIDNIGHT - 3 * DAY, MIDNIGHT, actor="test")
    assert done.error is None
    assert reconcile(place.installation(), "acme", actor="test").as_json() == {
        "imported": [], "problems": [], "notes": [], "differences": []
    }  # fmt: skip


def test_a_column_that_comes_to_read_another_is_renamed_or_new(place: Place) -> None:
    place.run(NOON)
    place.write("catalog.yaml", catalog(user=ANOTHER))
    tomorrow(place)
    assert said(newest(place)) == [("number", "id"), ("name", None), ("changed", "updated_at")]
    assert (newest(place)["generation"], newest(place)["rows"]) == (1, 0)
    columns = {**ANOTHER["columns"], "name": {"type": "timestamp", "from": "deleted_at"}}
    place.write("catalog.yaml", catalog(user={**ANOTHER, "columns": columns, "fill": "full_load"}))
    tomorrow(place)
    assert (newest(place)["generation"], newest(place)["rows"]) == (2, 3)


def test_a_restored_ledger_takes_back_what_was_delivered_under_other_names(place: Place) -> None:
    place.tenant(entityList=["user"], rename=RENAMED)
    place.run(NOON)
    place.close()
    (place.root / ".waybill/ledger.db").unlink()
    installation = place.installation()
    applying.apply(installation, actor="test")
    done = reconcile(installation, "acme", actor="test")
    assert (len(done.imported), done.problems, done.notes, done.differences) == (1, [], [], [])
    place.user(4, "Edsger", NOON)
    tomorrow(place)
    assert (newest(place)["schema_version"], said(newest(place))[0]) == (1, ("user_no", "id"))


def test_reconcile_finds_rows_that_were_never_delivered_across_a_rename(place: Place) -> None:
    place.run(NOON)
    place.tenant(entityList=["user"], rename=RENAMED)
    tomorrow(place)
    place.user(9, "long before", MIDNIGHT - 3 * DAY)
    [missing] = reconcile(place.installation(), "acme", actor="test").differences
    assert (missing.missing, missing.source_rows) == (1, 4)


def test_an_export_on_demand_has_the_names_of_the_tenant(tmp_path: Path) -> None:
    office: Office = make_office(tmp_path)
    office.place.tenant(entityList=["measurement"], rename={"measurement": {"value": "reading"}}, columns={"measurement": ["id", "value"]})
    office.measure(1)
    with closing(office.place):
        office.ask(formats=["csv", "ndjson"])
        [done] = running.fulfil_all(office.installation())
        assert done.status == "done"
        (archive,) = (path for path in tmp_path.rglob("*.zip"))
        with ZipFile(archive) as packed:
            assert packed.read("measurement.csv").splitlines()[0] == b"id,reading"
            assert list(json.loads(packed.read("measurement.ndjson").splitlines()[0])) == ["id", "reading"]
            [about] = json.loads(packed.read("manifest.json"))["entities"]
            assert said(about) == [("id", None), ("reading", "value")]


def test_a_column_catalogued_under_a_given_name_stops_that_stream_alone(place: Place) -> None:
    place.write("policy.yaml", {"api_destinations": "any"})
    (place.root / "config/tenants/acme.yaml").unlink()
    body = {"entityList": ["user"], "destination": {"kind": "folder", "root": str(place.out)}, "rename": RENAMED}
    replacing.replace(place.installation(), "acme", body, actor="operator", operator=True)
    place.run(NOON)
    columns = {**COMPARED["columns"], "who": {"type": "string", "from": "name"}}  # type: ignore[dict-item]
    place.write("catalog.yaml", catalog(user={**COMPARED, "columns": columns}))
    place.clock = NOON + DAY
    [stopped] = place.run(NOON + DAY)
    assert stopped.error is not None
    assert stopped.error.code == "column_name_taken"
    with pytest.raises(InvalidInput, match="another column of user is delivered as 'who', too"):
        replacing.rehearse(place.installation(), "acme", body, operator=True)


def test_a_dry_run_tells_a_rename_and_sending_it_twice_changes_nothing(place: Place) -> None:
    place.run(NOON)
    place.tenant(entityList=["user"], rename=RENAMED)
    lines = list(applying.apply(place.installation(), actor="test", dry_run=True).lines(dry_run=True))
    assert '    rename: null -> {"user": {"id": "user_no", "name": "who"}}' in lines
    assert [change.action for change in applying.apply(place.installation(), actor="test").changes] == ["change"]
    assert [change.action for change in applying.apply(place.installation(), actor="test").changes] == ["keep"]
