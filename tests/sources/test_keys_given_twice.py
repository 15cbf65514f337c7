"""A key that a delta reads and that a row outside of it has, too: a copy that holds one row a key would lose one of them without a word."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.sources.test_equal_ids import Place, place
from waybill.configuration.catalog import Entity, LakeSource
from waybill.configuration.selection import ChangeSpan, FileStyle, Selection
from waybill.errors import PermanentError
from waybill.sources import Source
from waybill.sources.duckdb import engine
from waybill.sources.duckdb.lake import Lake

__all__ = ["place"]

DELTA = ChangeSpan(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))
ONE, OTHER = "0190f6b2-7c3e-7d11-8f00-3c5c6a1e9b42", "0190f6b2-7c3e-7d11-8f00-3c5c6a1e9b43"
KEYS: dict[str, tuple[str, str, str, list[str]]] = {
    "integer": ("bigint", "1", "2", ["integer", "string"]),
    "text": ("varchar(40)", "'ab'", "'Ab'", ["string"]),
    "uuid as text": ("varchar(40)", f"'{ONE}'", f"'{OTHER}'", ["uuid"]),
    "date": ("date", "'2026-01-02'", "'2026-01-03'", ["date"]),
    "decimal": ("decimal(20,2)", "1.50", "1.51", ["decimal"]),
}


def code(source: Source, kind: str, *key: str, changed: ChangeSpan = DELTA, relation: str = "orders") -> str:
    """Return what refuses the delta's rows, or nothing."""
    columns = {name: {"type": kind if name == "k" else "string"} for name in key}
    body = {"id": "orders", "source": "s", "relation": relation, "tenant_column": "tenant_id", "key": key, "columns": columns}
    changes = {"mode": "lookback", "column": "updated_at", "lookback": "1h"}
    entity = Entity.model_validate({**body, "changes": changes})
    selection = Selection(entity, "acme", entity.columns, changed)
    try:
        with source.snapshot([entity]) as snapshot:
            snapshot.check(selection)
            list(snapshot.csv(selection, FileStyle()))
    except PermanentError as error:
        return error.code
    return ""


def rows(place: Place, native: str, *found: tuple[str, str, str]) -> None:
    place.happens("drop table if exists orders")
    place.happens(f"create table orders (k {native}, part varchar(9), tenant_id varchar(9), updated_at timestamp)")
    place.happens(*(f"insert into orders values ({key}, 'a', '{tenant}', '{date} 00:00:00')" for key, tenant, date in found))


@pytest.mark.parametrize("key", KEYS)
def test_a_delta_is_refused_if_a_row_that_it_does_not_read_has_one_of_its_keys(place: Place, key: str) -> None:
    native, one, other, kinds = KEYS[key]
    before, within, later = "2026-01-01", "2026-03-02", "2026-04-02"
    for kind in kinds:
        for columns in (["k"], ["part", "k"]):
            for elsewhere in (before, later):
                rows(place, native, (one, "acme", within), (one, "acme", elsewhere))
                assert code(place.source, kind, *columns) == "key_not_unique"
            rows(place, native, (one, "acme", within), (one, "other", before), (other, "acme", before))
            assert code(place.source, kind, *columns) == ""
            if key != "text":  # a collation of MySQL's takes both for the same
                rows(place, native, (one, "acme", before), (one, "acme", before), (other, "acme", within))
                assert code(place.source, kind, *columns) == "", "no row of the delta has that key"


@pytest.mark.parametrize("elsewhere", ["2026-01-01", "2026-04-02"])
def test_a_delta_of_a_lake_is_refused_if_another_file_has_one_of_its_keys(tmp_path: Path, elsewhere: str) -> None:
    def write(name: str, key: int, date: str) -> None:
        duckdb.sql(f"select {key} as k, 'acme' as tenant_id, timestamp '{date}' as updated_at").write_parquet(str(tmp_path / name))

    source = Lake(LakeSource(kind="lake", path="."), tmp_path, {}.__getitem__)
    write("new.parquet", 1, "2026-03-02")
    write("old.parquet", 2, elsewhere)
    assert code(source, "integer", "k", relation="*.parquet") == ""
    write("old.parquet", 1, elsewhere)
    assert code(source, "integer", "k", relation="*.parquet") == "key_not_unique"


IN_ORDER = {
    "integer": ("i", "integer"),
    "integer as text": ("i", "string"),
    "text": ("printf('ORD-%09d', i)", "string"),
    "uuid": ("printf('01900000-0000-7000-8000-%012d', i)::uuid", "uuid"),
    "uuid as text": ("printf('01900000-0000-7000-8000-%012d', i)::uuid", "string"),
    "date": ("date '2000-01-01' + i::integer", "date"),
}


@pytest.mark.parametrize("changed", [2000, 200_000], ids=["ids that follow", "and an old row"])
@pytest.mark.parametrize("key", IN_ORDER)
def test_a_delta_looks_for_its_keys_where_the_files_of_a_lake_may_hold_them(tmp_path: Path, key: str, changed: int) -> None:
    """98 groups of rows in the order of their keys, of which the delta changed the last and one row of another."""
    spelt, kind = IN_ORDER[key]
    time = f"timestamp '2026-03-02' - to_hours(if(i < 198000 and i != {200_000 - changed}, 2000, 0))"
    rows = f"select {spelt} as k, 'acme' as tenant_id, {time} as updated_at from range(200000) r(i)"
    duckdb.sql(rows).write_parquet(str(tmp_path / "orders.parquet"), row_group_size=2048)
    columns = {"k": {"type": kind}}
    body = {"id": "orders", "source": "s", "relation": "*.parquet", "tenant_column": "tenant_id", "key": ["k"], "columns": columns}
    entity = Entity.model_validate({**body, "changes": {"mode": "lookback", "column": "updated_at", "lookback": "1h"}})
    selection = Selection(entity, "acme", entity.columns, DELTA)
    with Lake(LakeSource(kind="lake", path="."), tmp_path, {}.__getitem__).snapshot([entity]) as snapshot:
        snapshot.check(selection)
        text, values = engine.render(snapshot.lookup(selection).repeated_key())
        plan = snapshot.connection.execute(f"EXPLAIN ANALYZE {text}", values).fetchall()[0][1]
    scanned = [int(groups) for groups in re.findall(r"Row Groups Scanned: (\d+) / 98", plan)]
    assert len(scanned) == 2
    assert max(scanned) <= 4


def test_a_key_is_found_in_a_page_that_notes_one_text_as_its_least_and_greatest(tmp_path: Path) -> None:
    """The engine takes such texts for NULL where NULL is asked for. Here other tenants have the key, too."""
    old, new = ([datetime(2026, month, 2, tzinfo=UTC)] * 5 for month in (1, 3))
    tenants = ["acme", "b", "c", "d", "e"]
    for name, texts, times in (("old", ["é"] * 5, old), ("new", ["é", *"bcde"], new)):
        table = pa.table({"k": texts, "tenant_id": tenants, "updated_at": times})
        pq.write_table(table, tmp_path / f"{name}.parquet", use_dictionary=False, max_rows_per_page=5)
    source = Lake(LakeSource(kind="lake", path="."), tmp_path, {}.__getitem__)
    assert code(source, "string", "k", relation="*.parquet") == "key_not_unique"


BEHIND: dict[str, tuple[str, ...]] = {
    "a view": ("create view shown as select * from orders union all select * from older",),
    "tables that inherit": ("create view shown as select * from orders", "alter table older inherit orders"),
    "a foreign table": (
        "create extension postgres_fdw",
        "create server here foreign data wrapper postgres_fdw options (port '{port}', host '127.0.0.1', dbname '{name}')",
        "create user mapping for current_user server here options (user '{user}')",
        "create view behind as select * from orders union all select * from older",
        "create foreign table shown (k bigint, tenant_id text, updated_at timestamptz) server here options (table_name 'behind')",
    ),
}


@pytest.mark.parametrize("place", ["postgres", "psycopg"], indirect=True)
@pytest.mark.parametrize("what", BEHIND)
def test_a_delta_of_postgres_is_refused_where_an_index_holds_only_some_of_the_rows(place: Place, request: Any, what: str) -> None:
    database = request.getfixturevalue("postgres")
    for name in ("orders", "older"):
        place.happens(f"create table {name} (k bigint primary key, tenant_id text not null, updated_at timestamptz not null)")
    place.happens("insert into orders values (1, 'acme', '2026-03-02Z')", "insert into older values (2, 'acme', '2026-01-01Z')")
    place.happens(*(each.format(port=database.port, name=database.name, user=database.user) for each in BEHIND[what]))
    relation = "orders" if what == "tables that inherit" else "shown"
    assert code(place.source, "integer", "k", relation=relation) == ""
    place.happens("insert into older values (1, 'acme', '2026-01-01Z')")
    assert code(place.source, "integer", "k", relation=relation) == "key_not_unique"
