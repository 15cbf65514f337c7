"""A row without a value in a column of its key cannot be told apart by whoever loads it: it is refused by every kind of source."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import duckdb
import psycopg
import pytest

from tests.servers.postgres import Database
from tests.sources.test_source_postgres import entity, source
from waybill.configuration.catalog import DbApiSource, LakeSource
from waybill.configuration.selection import Selection
from waybill.errors import PermanentError
from waybill.sources import Source
from waybill.sources.dbapi.source import DbApi
from waybill.sources.duckdb.lake import Lake
from waybill.sources.duckdb.source import DuckDB

TABLE = "CREATE TABLE orders (a int, b varchar(9), tenant_id varchar(9), updated_at timestamp, version int);"
ROWS = "INSERT INTO orders VALUES (1, 'x', 'acme', '2026-01-01', 1), {}, (NULL, 'y', 'globex', '2026-01-01', 1);"
NULLS = {"first": "(NULL, 'x', 'acme', '2026-01-01', 1)", "second": "(1, NULL, 'acme', '2026-01-01', 1)"}
NONE = "(2, 'x', 'acme', '2026-01-01', 1)"
Made = Callable[[str], tuple[Source, str]]


@pytest.fixture(params=["postgres", "postgres, unique", "duckdb", "lake", "sqlite"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    """A source with these rows, and the relation they stand in."""

    def make(row: str) -> tuple[Source, str]:
        statements = TABLE + ROWS.format(row)
        if request.param.startswith("postgres"):
            database: Database = request.getfixturevalue("postgres")
            database.psql(statements + ("CREATE UNIQUE INDEX ON orders (a, b, tenant_id);" if "unique" in request.param else ""))
            return source(database), "orders"
        if request.param == "sqlite":
            path = str(tmp_path / "lite")
            connection = sqlite3.connect(path)
            connection.executescript(statements)
            connection.close()
            return DbApi(DbApiSource(kind="dbapi", connection="lite"), lambda _: sqlite3.connect(path)), "orders"
        with duckdb.connect(str(tmp_path / "file.duckdb")) as engine:
            engine.execute(statements)
            engine.execute("COPY orders TO '" + str(tmp_path / "orders.parquet") + "'")
        if request.param == "duckdb":
            return DuckDB(tmp_path / "file.duckdb"), "orders"
        return Lake(LakeSource(kind="lake", path="."), tmp_path, {}.__getitem__), "orders.parquet"

    return make


@pytest.mark.parametrize("which", NULLS)
@pytest.mark.parametrize("mode", ["lookback", "full"])
def test_a_null_in_any_column_of_the_key_stops_the_stream(made: Made, mode: str, which: str) -> None:
    opened, relation = made(NULLS[which])
    shape = entity(mode, relation=relation, key=["a", "b"], columns={"a": {"type": "integer"}, "b": {"type": "string"}})
    with (
        opened.snapshot([shape]) as snapshot,
        pytest.raises(PermanentError, match=r"1 row .* has no value .*\(a, b\)") as caught,
    ):
        snapshot.check(Selection(shape, "acme", shape.columns))
    assert caught.value.code == "key_null"


def test_a_null_in_another_tenants_key_stops_nobody_else(made: Made) -> None:
    opened, relation = made(NONE)
    shape = entity("full", relation=relation, key=["a", "b"], columns={"a": {"type": "integer"}, "b": {"type": "string"}})
    with opened.snapshot([shape]) as snapshot:
        snapshot.check(Selection(shape, "acme", shape.columns))
        assert snapshot.count(Selection(shape, "acme", shape.columns)) == 2


def test_not_null_of_a_table_says_nothing_of_a_view_that_joins_it(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "file.duckdb")) as engine:
        engine.execute("CREATE TABLE orders (id int, item int, tenant_id text NOT NULL)")
        engine.execute("CREATE TABLE items (item int PRIMARY KEY, name text NOT NULL)")
        engine.execute("INSERT INTO orders VALUES (1, 1, 'acme'), (2, 9, 'acme'); INSERT INTO items VALUES (1, 'x')")
        joined = "SELECT o.tenant_id, o.id, i.item, i.name FROM orders AS o LEFT JOIN items AS i ON i.item = o.item"
        engine.execute(f"CREATE VIEW seen AS {joined}")
    opened = DuckDB(tmp_path / "file.duckdb")
    columns = {"item": {"type": "integer"}, "name": {"type": "string"}}
    for relation, query, kept in (
        ("seen", "", set()),
        ("", joined, set()),
        ("items", "", {"item", "name"}),
        ("MAIN.items", "", {"item", "name"}),
    ):
        shape = entity("full", relation=relation, query=query, key=["item"], columns=columns)
        with opened.snapshot([shape]) as snapshot:
            assert snapshot.never_null(shape) == kept
            if not kept:
                with pytest.raises(PermanentError, match="1 row") as caught:
                    snapshot.check(Selection(shape, "acme", shape.columns))
                assert caught.value.code == "key_null"


@pytest.mark.parametrize("through", ["postgres", "dbapi"])
def test_not_null_counts_only_where_every_row_keeps_it(postgres: Database, through: str) -> None:
    columns = "(id int NOT NULL, name text NOT NULL, tenant_id text NOT NULL, updated_at timestamp, version int)"
    postgres.psql(
        f"CREATE TABLE orders {columns}; CREATE TABLE more () INHERITS (orders); ALTER TABLE more ALTER id DROP NOT NULL;"
        "INSERT INTO more VALUES (NULL, 'x', 'acme', '2026-01-01', 1);"
        f"CREATE TABLE days {columns} PARTITION BY LIST (tenant_id); CREATE TABLE ours PARTITION OF days FOR VALUES IN ('acme');"
        f"CREATE TABLE years {columns} PARTITION BY LIST (tenant_id);"
        "CREATE FOREIGN DATA WRAPPER wrapper; CREATE SERVER elsewhere FOREIGN DATA WRAPPER wrapper;"
        "CREATE FOREIGN TABLE far PARTITION OF years FOR VALUES IN ('acme') SERVER elsewhere;"
        "CREATE DOMAIN filled AS int NOT NULL; CREATE TABLE tidy (id filled, name text NOT NULL,"
        "tenant_id text, updated_at timestamp, version int);"
        "INSERT INTO tidy VALUES ((SELECT 1::filled WHERE false), 'x', 'acme', '2026-01-01', 1)"
    )
    opened = source(postgres)
    if through == "dbapi":
        opened = DbApi(DbApiSource(kind="dbapi", connection="pg"), lambda _: psycopg.connect(postgres.dsn))
    kept = {"orders": set(), "more": {"name", "tenant_id"}, "days": {"id", "name", "tenant_id"}, "years": set(), "tidy": {"name"}}
    for relation, names in kept.items():
        shape = entity("full", relation=relation, key=["id"], columns={"id": {"type": "integer"}, "name": {"type": "string"}})
        with opened.snapshot([shape]) as snapshot:
            assert snapshot.never_null(shape) == names, relation
            if relation in ("orders", "more", "tidy"):
                with pytest.raises(PermanentError) as caught:
                    snapshot.check(Selection(shape, "acme", shape.columns))
                assert caught.value.code == "key_null", relation


@pytest.mark.parametrize("parent", ["", "PARTITION OF"])
def test_a_unique_index_says_nothing_of_tables_that_inherit(postgres: Database, parent: str) -> None:
    partitioned, child = (
        (" PARTITION BY RANGE (id)", "PARTITION OF orders FOR VALUES FROM (0) TO (9)") if parent else ("", "() INHERITS (orders)")
    )
    postgres.psql(
        f"CREATE TABLE orders (id int PRIMARY KEY, name text, tenant_id text, updated_at timestamp, version int){partitioned};"
        f"CREATE TABLE more {child}; INSERT INTO more VALUES (1, 'x', 'acme', '2026-01-01', 1);"
        + ("" if parent else "INSERT INTO orders VALUES (1, 'y', 'acme', '2026-01-01', 1);")
    )
    wanted = entity("lookback", key=["id"], columns={"id": {"type": "integer"}, "name": {"type": "string"}})
    with source(postgres).snapshot([wanted]) as snapshot:
        if parent:
            snapshot.check(Selection(wanted, "acme", wanted.columns))
            return
        with pytest.raises(PermanentError, match=r"key \(id\) is not unique"):
            snapshot.check(Selection(wanted, "acme", wanted.columns))
