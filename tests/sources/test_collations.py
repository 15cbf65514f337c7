"""A tenant, a condition and a key are compared by their bytes, whatever the collation or the lack of a type makes the database think."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.servers.mariadb import MariaDatabase
from waybill.configuration.catalog import DbApiSource, Entity
from waybill.configuration.selection import FileStyle, Selection
from waybill.configuration.values.conditions import Condition
from waybill.sources import Source
from waybill.sources.dbapi.source import DbApi
from waybill.sources.duckdb.source import DuckDB

COLUMNS = {"id": {"type": "string"}, "name": {"type": "string"}}
FACTS: dict[str, Any] = {"id": "orders", "source": "db", "relation": "orders", "tenant_column": "tenant_id", "key": ["id"]}
UUID = "0190f6b2-7c3e-7d11-8f00-3c5c6a1e9b42"


def read(source: Source, tenant: str, *where: Condition) -> list[str]:
    entity = Entity.model_validate({**FACTS, "columns": COLUMNS, "changes": {"mode": "full"}})
    selection = Selection(entity, tenant, entity.columns, where=where)
    with source.snapshot([entity]) as snapshot:
        snapshot.check(selection)
        return b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle())).decode().split()


def choices(source: Source, tenant: str) -> list[str]:
    entity = Entity.model_validate({**FACTS, "columns": COLUMNS, "changes": {"mode": "full"}})
    with source.snapshot([entity]) as snapshot:
        return snapshot.values(Selection(entity, tenant, {"name": entity.columns["name"]}), 9)


@pytest.mark.parametrize("collation", ["", "collate nocase", "collate noaccent", "collate nocase.noaccent"])
def test_a_collation_of_duckdb_gives_nobody_the_rows_of_another_tenant(tmp_path: Path, collation: str) -> None:
    with duckdb.connect(tmp_path / "shop.duckdb") as connection:
        connection.execute(f"create table orders (tenant_id varchar {collation}, id varchar {collation}, name varchar {collation})")
        connection.execute("insert into orders values ('acme', 'a', 'x'), ('acme', 'B', 'X'), ('acme', 'A', 'é'), ('acme', 'á', 'e')")
        connection.execute("insert into orders values ('ACME', 'c', 'x'), ('acmé', 'd', 'x')")
    source = DuckDB(tmp_path / "shop.duckdb")
    assert read(source, "acme") == ["A,é", "B,X", "a,x", "á,e"]
    assert read(source, "ACME") == ["c,x"]
    assert read(source, "acme", Condition(column="name", op="=", value="x")) == ["a,x"]
    assert read(source, "acme", Condition(column="name", op=">", value="e")) == ["A,é", "a,x"]
    assert sorted(choices(source, "acme")) == ["X", "e", "x", "é"]


def test_a_collation_of_duckdb_leads_to_the_parent_itself(tmp_path: Path) -> None:
    with duckdb.connect(tmp_path / "shop.duckdb") as connection:
        connection.execute("create table customers (id varchar collate nocase primary key, tenant_id varchar)")
        connection.execute("insert into customers values ('c1', 'acme'), ('C1', 'globex')")
        connection.execute("create table orders (customer varchar collate nocase, id varchar, name varchar)")
        connection.execute("insert into orders values ('c1', 'a', 'x'), ('C1', 'b', 'x')")
    facts = {name: value for name, value in FACTS.items() if name != "tenant_column"}
    through = [{"table": "customers", "on": "customer = id", "column": "tenant_id"}]
    entity = Entity.model_validate({**facts, "tenant_through": through, "columns": COLUMNS, "changes": {"mode": "full"}})
    with DuckDB(tmp_path / "shop.duckdb").snapshot([entity]) as snapshot:
        for tenant, row in (("acme", b"a,x\n"), ("globex", b"b,x\n")):
            selection = Selection(entity, tenant, entity.columns)
            assert b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle())) == row


def test_a_column_of_sqlite_without_a_type_tells_tenants_by_numbers_and_by_texts(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "app.sqlite")) as connection, connection:
        connection.execute("create table stored (owner integer, id text, name text)")
        connection.execute("insert into stored values (7, 'a', 'x'), (70, 'b', 'x'), (null, 'c', 'x')")
        connection.execute("create view orders as select coalesce(owner, 7) as tenant_id, id, name from stored")
    source = DbApi(DbApiSource(kind="dbapi", connection="lite"), lambda _: sqlite3.connect(tmp_path / "app.sqlite"))
    assert read(source, "7") == ["a,x", "c,x"]


def test_a_uuid_of_mariadb_is_found_however_its_letters_are_written(mariadb: MariaDatabase) -> None:
    import pymysql

    def connect() -> Any:
        return pymysql.connect(host=mariadb.host, port=mariadb.port, user=mariadb.user, database=mariadb.name, autocommit=True)

    with closing(connect()) as connection, connection.cursor() as cursor:
        cursor.execute("create table orders (tenant_id uuid, id varchar(9), name varchar(9))")
        cursor.execute(f"insert into orders values ('{UUID}', 'a', 'x')")
    source = DbApi(DbApiSource(kind="dbapi", connection="my"), lambda _: connect())
    assert read(source, UUID) == read(source, UUID.upper()) == ["a,x"]
