"""Texts that are no UTF-8, and roles and databases with a search path of their own."""

from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing
from datetime import UTC, datetime

import psycopg
import psycopg2
import pytest

from tests.servers.postgres import Database
from tests.servers.process import program
from tests.sources.test_equal_ids import Place, place
from tests.sources.test_source_postgres import entity, source
from waybill.configuration.catalog import DbApiSource
from waybill.configuration.selection import FileStyle, Selection
from waybill.configuration.values.conditions import Condition
from waybill.errors import PermanentError
from waybill.sources.base import Source
from waybill.sources.dbapi.source import DbApi

__all__ = ["place"]

TABLE = "create table public.orders (id int primary key, tenant_id text, name text, updated_at timestamptz default '2026-01-01')"


def read(origin: Source, relation: str = "public.orders", tenant: str = "acme") -> bytes:
    wanted = entity("lookback", relation=relation, columns={"id": {"type": "integer"}, "name": {"type": "string"}})
    selection = Selection(wanted, tenant, wanted.columns)
    with origin.snapshot([wanted]) as snapshot:
        snapshot.check(selection)
        return b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle()))


@pytest.mark.parametrize("kind", ["postgres", "dbapi"])
def test_bytes_of_a_database_without_an_encoding_are_told(postgres: Database, kind: str) -> None:
    name = f"{postgres.name}_ascii"
    postgres.psql(f"create database {name} encoding 'SQL_ASCII' template template0 lc_collate 'C' lc_ctype 'C'")
    there = Database(postgres.host, postgres.port, name, postgres.user)
    there.psql(TABLE)
    with psycopg.connect(there.dsn, client_encoding="SQL_ASCII") as writer:
        writer.execute(b"insert into orders values (1, 'acme', E'planted\\xe9')")
    origin = source(there) if kind == "postgres" else DbApi(DbApiSource(kind="dbapi", connection="x"), lambda _: psycopg.connect(there.dsn))
    with pytest.raises(PermanentError, match="UTF-8") as told:
        read(origin)
    assert (told.value.code, "planted" in str(told.value)) == ("source_unreadable", False)
    assert "orders" in told.value.where
    assert "in column name" in told.value.what


def origins(there: Database) -> dict[str, Source]:
    spec = DbApiSource(kind="dbapi", connection="x")
    found: dict[str, Source] = {driver.__name__: DbApi(spec, lambda _, connect=driver.connect: connect(there.dsn)) for driver in DRIVERS}
    return {"postgres": source(there), **found}


DRIVERS = [psycopg, psycopg2]
UNREADABLE = {"EUC_TW": ["psycopg", "psycopg2"], "MULE_INTERNAL": ["postgres", "psycopg", "psycopg2"], "EUC_JP": [], "KOI8R": []}


@pytest.mark.parametrize("encoding", UNREADABLE)
def test_an_encoding_that_nothing_here_reads_is_refused_for_good(postgres: Database, encoding: str) -> None:
    name = f"{postgres.name}_{encoding.lower()}"
    postgres.psql(f"create database {name} encoding '{encoding}' template template0 lc_collate 'C' lc_ctype 'C'")
    there = Database(postgres.host, postgres.port, name, postgres.user)
    subprocess.run([program("psql"), "-X", "-q", "-d", there.dsn, "-c", TABLE], check=True, timeout=60)
    for kind, origin in origins(there).items():
        if kind not in UNREADABLE[encoding]:
            assert read(origin) == b""
            continue
        with pytest.raises(PermanentError, match="encoding UTF8") as told:
            read(origin)
        assert told.value.code in ("source_unreadable", "driver")


@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1252", "EUC_JP"])
def test_a_tenant_whose_id_the_encoding_of_the_database_cannot_hold_is_told(postgres: Database, encoding: str) -> None:
    name = f"{postgres.name}_asked_{encoding.lower()}"
    postgres.psql(f"create database {name} encoding '{encoding}' template template0 lc_collate 'C' lc_ctype 'C'")
    there = Database(postgres.host, postgres.port, name, postgres.user)
    there.psql(f"set client_encoding = 'UTF8'; {TABLE}")
    for origin in origins(there).values():
        with pytest.raises(PermanentError, match=f"the encoding {encoding} of the database cannot hold a text that it was asked for"):
            read(origin, tenant="a🚀")


def test_bytes_of_sqlite_that_are_no_text_are_told_without_them(tmp_path) -> None:
    with closing(sqlite3.connect(tmp_path / "app.db")) as database, database:
        database.execute("create table orders (id int primary key, tenant_id text, name text, updated_at timestamp)")
        database.execute("insert into orders values (1, 'acme', cast(x'706c616e746564e9' as text), '2026-01-01 00:00:00')")
    with pytest.raises(PermanentError, match="is not UTF-8, in column 'name'") as told:
        read(DbApi(DbApiSource(kind="dbapi", connection="x"), lambda _: sqlite3.connect(tmp_path / "app.db")), "orders")
    assert (told.value.code, "planted" in str(told.value)) == ("source_unreadable", False)


@pytest.mark.parametrize("path", ["''", '"$user", "od""d, name", public', "pg_temp, public", "public"])
def test_the_search_path_of_a_role_is_taken_as_it_is(postgres: Database, path: str) -> None:
    postgres.psql(f"{TABLE}; insert into public.orders values (1, 'acme', 'Ada'); alter database {postgres.name} set search_path = {path}")
    assert read(source(postgres)) == b"1,Ada\n"
    assert read(DbApi(DbApiSource(kind="dbapi", connection="x"), lambda _: psycopg.connect(postgres.dsn))) == b"1,Ada\n"


def test_a_percent_sign_in_a_query_means_what_it_says(place: Place) -> None:
    place.happens("create table orders (tenant_id varchar(9), id int, share varchar(9))")
    place.happens("insert into orders values ('acme', 1, '100%'), ('acme', 2, '100%'), ('acme', 3, '50%')")
    query = "select tenant_id, id, id % 2 as odd from orders where share = '100%'"
    columns = {"id": {"type": "integer"}, "odd": {"type": "integer"}}
    wanted = entity("append", relation="", query=query, columns=columns, changes={"mode": "append", "column": "id"})
    with place.source.snapshot([wanted]) as snapshot:
        selection = Selection(wanted, "acme", wanted.columns)
        snapshot.check(selection)
        assert snapshot.extent(wanted, "acme", None, datetime(2026, 6, 1, tzinfo=UTC)).position == 3
        assert b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle())) == b"1,1\n2,0\n"


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_the_encoding_of_a_file_of_sqlite_changes_neither_the_order_of_rows_nor_who_meets_a_condition(tmp_path, encoding: str) -> None:
    """SQLite compares texts by the bytes of the file."""
    keys = ["a", "ab", "z", "é", "Ā", "ſ", "漢", "\ue000", "\uffee", "🚀"]
    with closing(sqlite3.connect(tmp_path / "app.db")) as database, database:
        database.execute(f"pragma encoding = '{encoding}'")
        database.execute("create table orders (id text primary key, tenant_id text, updated_at timestamp)")
        database.executemany("insert into orders values (?, 'acme', '2026-01-01 00:00:00')", [(key,) for key in keys[::-1]])
    wanted = entity("lookback", columns={"id": {"type": "string"}})
    with DbApi(DbApiSource(kind="dbapi", connection="x"), lambda _: sqlite3.connect(tmp_path / "app.db")).snapshot([wanted]) as snapshot:
        for start in range(len(keys)):
            condition = Condition(column="id", op=">=", value=keys[start])
            selection = Selection(wanted, "acme", wanted.columns, where=(condition,))
            lines = b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle()))
            assert lines.decode().split() == keys[start:]
