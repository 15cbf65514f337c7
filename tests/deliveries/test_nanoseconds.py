"""Times with nanoseconds, alone and in lists, in a `lookback` delivery of each format: full load, delta and the copy at the consumer."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.consumer.copies import well
from tests.installations import DAY, NOON, Place, catalog, make_place

EVENT = {
    "name": "event",
    "source": "warehouse",
    "relation": "event",
    "tenant_column": "tenant_id",
    "key": ["id"],
    "changes": {"mode": "lookback", "column": "changed", "lookback": "0s"},
    "deletes": "never",
    "columns": {"id": {"type": "integer"}, "changed": {"type": "string"}, "times": {"type": "json"}, "deep": {"type": "json"}},
}
LAST = "23:59:59.999999999"


@pytest.mark.parametrize("format", ["csv", "ndjson", "parquet"])
def test_lists_of_nanoseconds_and_a_change_time_with_them_arrive_once_and_to_the_last_digit(tmp_path: Path, format: str) -> None:
    with closing(make_place(tmp_path)) as place:
        place.write("catalog.yaml", catalog(event=EVENT))
        place.tenant(entityList=["event"], files={"format": format})
        place.sql(
            "create table event (tenant_id varchar, id bigint, changed timestamp_ns, times timestamp_ns[],"
            " deep struct(stamps timestamp_ns[])[])"
        )
        at = f"'2026-05-29 {LAST}'::timestamp_ns"
        place.sql(f"insert into event values ('acme', 1, {at}, [{at}, null], [{{'stamps': [{at}]}}]), ('acme', 2, {at}, [], null)")
        place.run(NOON - DAY)
        place.sql(f"insert into event values ('acme', 3, {at.replace('29', '30')}, null, [])")
        place.sql(f"update event set times = [{at.replace('29', '30')}], changed = {at.replace('29', '30')} where id = 2")
        assert [result.error for result in place.run(NOON)] == [None]
        place.run(NOON + DAY)
        rows_by_sequence = {delivery["sequence"]: delivery["rows"] for _, delivery in place.manifests()}
        well("pull", place.out / "exports/acme", tmp_path / "held")
        well("load", tmp_path / "held", "--to", f"sqlite:{tmp_path}/copy.sqlite")
    with closing(sqlite3.connect(tmp_path / "copy.sqlite")) as connection:
        found = connection.execute('select id, changed, times, deep from "event" order by id').fetchall()
    earlier, later = f"2026-05-29T{LAST}Z", f"2026-05-30T{LAST}Z"
    rows = [(number, changed, *(None if text is None else json.loads(text) for text in nested)) for number, changed, *nested in found]
    assert rows == [(1, earlier, [earlier, None], [{"stamps": [earlier]}]), (2, later, [later], None), (3, later, None, [])]
    assert list(rows_by_sequence.values()) == [2, 2, 0]


class LitePlace(Place):
    """An installation whose database connections are all one SQLite file."""

    def installation(self):
        return replace(super().installation(), connect_db=lambda name: sqlite3.connect(self.root / "app.sqlite"))


@pytest.mark.parametrize("exported", [True, False])
def test_a_finer_time_as_text_is_refused_and_never_rounded_and_may_tell_changes(tmp_path: Path, exported: bool) -> None:
    """.NET writes seven digits."""
    with closing(LitePlace(tmp_path)) as place, closing(sqlite3.connect(tmp_path / "app.sqlite")) as connection:
        columns = {"id": {"type": "integer"}} | ({"changed": {"type": "timestamp"}} if exported else {})
        entity = {**EVENT, "columns": columns}
        place.write("catalog.yaml", catalog(event=entity) | {"sources": {"warehouse": {"kind": "dbapi", "connection": "lite"}}})
        place.tenant(entityList=["event"])
        connection.execute("create table event (tenant_id text, id integer, changed text)")
        connection.execute("insert into event values ('acme', 1, '2026-05-29 10:00:00.1234567')")
        connection.commit()
        [first] = place.run(NOON - DAY)
        if exported:
            assert "column changed holds times that are finer than a microsecond, which would be rounded" in str(first.error)
            return
        assert first.error is None
        connection.execute("insert into event values ('acme', 2, '2026-05-30 23:59:59.9999999')")
        connection.execute("insert into event values ('acme', 3, '2026-05-31 00:00:00.0000001')")
        connection.commit()
        assert [result.error for result in place.run(NOON)] == [None]
        assert place.rows("event") == [("1",), ("2",)]
        assert [result.error for result in place.run(NOON + DAY)] == [None]
        assert place.rows("event") == [("1",), ("2",), ("3",)]
