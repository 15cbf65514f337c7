"""Times with nanoseconds, alone and in lists, in a `lookback` delivery of each format: full load, delta and the copy at the consumer."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.consumer.copies import well
from tests.installations import DAY, NOON, catalog, make_place

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
