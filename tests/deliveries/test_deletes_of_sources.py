"""Rows that vanish from every kind of source, in every mode it has, found by the same comparison."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from tests.consumer.conftest import url_of
from tests.consumer.copies import rows, well
from tests.copies import Copy
from tests.installations import DAY, NOON, Place, make_place
from tests.servers.postgres import Database
from waybill.airflow import connect_db, lookup
from waybill.deliveries.running import run
from waybill.registrations.applying import apply

KEYS = {
    "integer": ("bigint", lambda number: number * 7),
    "string": (
        "varchar(40)",
        lambda number: ['a "quoted" one', "two\nlines", "semi;colon, comma", "Ä", "10", "9"][number % 6] + str(number),
    ),
    "uuid": ("uuid", lambda number: f"{number:08d}-0000-4000-8000-000000000000"),
    "decimal": ("numeric(12,2)", lambda number: f"{number}.50"),
    "date": ("date", lambda number: f"2026-01-{number:02d}"),
    "timestamp": ("timestamptz", lambda number: f"2026-01-01 00:00:{number:02d}.5+00"),
    "boolean": ("boolean", lambda number: number % 2 == 0),
}
"""Native type in PostgreSQL, and a value by number."""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with closing(make_place(tmp_path)) as place:
        yield place


def use(place: Place, source: dict[str, str], **fields: Any) -> None:
    changes = fields.pop("changes", {"mode": "lookback", "column": "updated_at", "lookback": "1h"})
    entity = {
        "source": "db",
        "relation": "things",
        "tenant_column": "tenant_id",
        "key": ["id"],
        "changes": changes,
        "deletes": "compare",
        "columns": {"id": {"type": "integer"}, "name": {"type": "string"}},
    }
    place.write("catalog.yaml", {"sources": {"db": source}, "entities": {"user": {**entity, **fields}}})
    place.tenant(entityList=["user"])


def deliver(place: Place, until: datetime) -> dict[str, Any]:
    installation = replace(place.installation(), connections=lookup, connect_db=connect_db)
    apply(installation, actor="test")
    assert [str(result.error) for result in run(installation, "acme", until) if result.error] == []
    return max((value for _, value in place.manifests()), key=lambda delivery: (delivery["generation"], delivery["sequence"]))


def watched(place: Place, until: datetime, lose: Callable[[], None], restore: Callable[[], None]) -> list[int]:
    """Rows in the deletes file and in the data of three deliveries after the first: some lost, some back, nothing."""
    copy, counts = Copy(), []
    deliver(place, until)
    lose()
    for number in range(1, 4):
        delivered = deliver(place, until + number * DAY)
        counts += [delivered["deletes"]["rows"], delivered["rows"]]
        if number == 1:
            restore()
    copy.catch_up(place.out)
    assert len(copy.rows) == deliver(place, until + 4 * DAY)["source_rows"]
    return counts


@pytest.mark.parametrize(
    ("mode", "key"), [*((mode, "string") for mode in ("horizon", "snapshot", "append", "full")), *(("lookback", key) for key in KEYS)]
)
def test_postgres(place, postgres: Database, monkeypatch, mode, key):
    native, value = KEYS[key]
    count = 2 if key == "boolean" else 9
    add = "insert into things (tenant_id, id, name, updated_at) values (%s, %s, %s, %s)"
    old = NOON - 40 * DAY
    with psycopg.connect(postgres.dsn) as database:
        database.execute(
            f"create table things (tenant_id text, id {native} not null, name text, updated_at timestamptz not null,"
            " waybill_xid xid8 not null default pg_current_xact_id(), primary key (tenant_id, id))"
        )
        for number in range(1, count + 1):
            database.execute(add, ("acme", value(number), f"Ada {number}", old))
        database.execute(add, ("globex", value(1), "Mallory", old))

    def lose() -> None:
        with psycopg.connect(postgres.dsn) as database:
            database.execute("delete from things where name = any(%s)", [["Ada 1", "Ada 4", "Mallory"]])

    def restore() -> None:
        with psycopg.connect(postgres.dsn) as database:
            database.execute(add, ("acme", value(1), "Ada 1", old))

    monkeypatch.setenv("AIRFLOW_CONN_APP_DB", f"postgres://{postgres.user}@{postgres.host}:{postgres.port}/{postgres.name}")
    column = {"snapshot": "waybill_xid", "full": ""}.get(mode, "updated_at")
    columns = {"id": {"type": key}, "name": {"type": "string"}}
    use(place, {"kind": "postgres", "connection": "app_db"}, changes={"mode": mode, "column": column}, columns=columns)
    gone = 1 if key == "boolean" else 2
    all_rows = [count - gone, count - gone + 1, count - gone + 1] if mode == "full" else [0, 1, 0]
    assert watched(place, NOON, lose, restore) == [gone, all_rows[0], 0, all_rows[1], 0, all_rows[2]]


@pytest.mark.parametrize(
    ("native", "catalogued", "before", "after"),
    [("numeric", "decimal", "1.0", "1.00"), ("numeric", "decimal", "-0.0", "0"), ("double precision", "float", "-0", "0")],
)
def test_a_key_that_is_the_same_number_written_otherwise_stays_in_every_copy(
    place, tmp_path, postgres: Database, monkeypatch, native, catalogued, before, after
):
    """Databases that hold numbers delete the row 1.00 with the key 1.0, which a comparison finds gone some deliveries later."""
    values = ", ".join(f"'{value}'" for value in (before, "5", "NaN", "7.50"))
    postgres.psql(
        f"create table things (tenant_id text, part text, id {native}, name text, updated_at timestamptz,"
        " primary key (tenant_id, part, id));"
        f"insert into things select 'acme', 'p', v::{native}, 'first', '2026-04-01' from unnest(array[{values}]) v"
    )
    monkeypatch.setenv("AIRFLOW_CONN_APP_DB", f"postgres://{postgres.user}@{postgres.host}:{postgres.port}/{postgres.name}")
    columns = {"part": {"type": "string"}, "id": {"type": catalogued}, "name": {"type": "string"}}
    more = {"key": ["part", "id"], "columns": columns, "deletes": {"mode": "compare", "every": 2}}
    use(place, {"kind": "postgres", "connection": "app_db"}, **more)
    copies = {f"sqlite:{tmp_path}/copy.sqlite": "", f"duckdb:{tmp_path}/copy.duckdb": "", url_of(postgres): "copy"}
    postgres.psql("create schema copy")
    for day in range(6):
        if day == 2:
            stamp = NOON + 1.48 * DAY
            postgres.psql(f"update things set id = '{after}', name = 'second', updated_at = '{stamp}' where id = '{before}'")
        if day == 3:  # a late row: the delivery that finds the key gone reads its look back again, without the versions it knows
            postgres.psql(f"insert into things values ('acme', 'p', '8', 'late', '{stamp}')")
        if day == 4:
            postgres.psql("delete from things where id = '5'")
        deliver(place, NOON + day * DAY)
        for copy, schema in copies.items():
            well("load", place.out / "exports/acme", "--to", copy, *(["--schema", schema] if schema else []))
    for copy, schema in copies.items():
        assert rows(copy, "user", "name", schema) == [("first",), ("first",), ("late",), ("second",)], copy


def test_sqlite_through_its_airflow_hook(place, tmp_path, monkeypatch):
    path = tmp_path / "app.db"

    def execute(statement: str, *rows: Any) -> None:
        with closing(sqlite3.connect(path)) as database, database:
            database.executemany(statement, rows or [()])

    add = "insert into things values (?, ?, ?, ?)"
    execute("create table things (tenant_id text, id bigint, name text, updated_at timestamp)")
    execute(add, *(("acme", number, f"Ada {number}", "2026-04-01 10:00:00") for number in range(1, 10)))
    monkeypatch.setenv("AIRFLOW_CONN_APP_DB", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    use(place, {"kind": "dbapi", "connection": "app_db"}, source_rows=True)
    lose = lambda: execute("delete from things where id in (1, 4)")  # noqa: E731
    restore = lambda: execute(add, ("acme", 1, "Ada 1", "2026-04-01 10:00:00"))  # noqa: E731
    assert watched(place, NOON, lose, restore) == [2, 0, 0, 1, 0, 0]


def test_a_lake_of_parquet(place, tmp_path):
    lake = tmp_path / "lake"
    lake.mkdir()

    def write(*numbers: int) -> None:
        rows = ", ".join(f"('acme', {number}, 'Ada {number}', timestamptz '2026-04-01 10:00:00Z')" for number in numbers)
        duckdb.sql(
            f"copy (select * from (values {rows}) as t(tenant_id, id, name, updated_at)) to '{lake}/things.parquet' (format parquet)"
        )

    write(*range(1, 10))
    use(place, {"kind": "lake", "path": str(lake)}, relation="*.parquet")
    found = watched(place, NOON, lambda: write(2, 3, 5, 6, 7, 8, 9), lambda: write(1, 2, 3, 5, 6, 7, 8, 9))
    assert found == [2, 0, 0, 1, 0, 0]


def told(delivered: dict[str, Any]) -> dict[str, list[Any]]:
    """Of each column: nullable, precision, scale, length, native type."""
    names = ("nullable", "precision", "scale", "length", "native_type")
    return {column["name"]: [column[name] for name in names] for column in delivered["columns"]}


def test_a_manifest_tells_what_postgres_tells_of_its_columns(place, postgres: Database, monkeypatch):
    with psycopg.connect(postgres.dsn) as database:
        database.execute(
            "create table things (tenant_id text, id bigint primary key, name varchar(80), amount numeric(12,3) not null, free numeric,"
            " code char(3), updated_at timestamptz not null)"
        )
        database.execute("insert into things values ('acme', 1, 'Ada', 1.5, 2, 'abc', %s)", [datetime(2026, 4, 1, tzinfo=UTC)])
    monkeypatch.setenv("AIRFLOW_CONN_APP_DB", f"postgres://{postgres.user}@{postgres.host}:{postgres.port}/{postgres.name}")
    types = {"id": "integer", "amount": "decimal", "free": "decimal", "code": "string"}
    columns = {name: {"type": kind} for name, kind in types.items()} | {"name": {"type": "string", "export": "anonymize"}}
    use(place, {"kind": "postgres", "connection": "app_db"}, columns=columns, source_rows=True)
    delivered = deliver(place, NOON)
    assert told(delivered) == {
        "id": [False, None, None, None, "bigint"],
        "amount": [False, 12, 3, None, "numeric(12,3)"],
        "free": [True, None, None, None, "numeric"],
        "code": [True, None, None, 3, "character(3)"],
        "name": [True, None, None, 64, "character varying(80)"],
    }
    assert (delivered["source_rows"], delivered["rows"]) == (1, 1)


@pytest.mark.parametrize("by", ["relation", "query"])
def test_a_manifest_tells_no_limit_that_sqlite_does_not_keep(place, monkeypatch, by):
    with closing(sqlite3.connect(place.root / "books.sqlite")) as database, database:
        database.execute(
            "create table things (tenant_id text, id integer not null, name varchar(4), amount decimal(3,1), updated_at text not null)"
        )
        database.execute("insert into things values ('acme', 1, 'longer than four', 12345.678, '2026-04-01 10:00:00')")
    monkeypatch.setenv("AIRFLOW_CONN_BOOKS", json.dumps({"conn_type": "sqlite", "host": str(place.root / "books.sqlite")}))
    columns = {"id": {"type": "integer"}, "name": {"type": "string"}, "amount": {"type": "decimal"}}
    read = {"relation": "things"} if by == "relation" else {"relation": "", "query": "select * from things"}
    use(place, {"kind": "dbapi", "connection": "books"}, columns=columns, **read)
    delivered = deliver(place, NOON)
    assert (
        told(delivered)
        == {
            "relation": {
                "id": [False, None, None, None, "INTEGER"],
                "name": [True, None, None, None, "varchar(4)"],
                "amount": [True, None, None, None, "decimal(3,1)"],
            },
            "query": dict.fromkeys(columns, [None] * 5),
        }[by]
    )
