"""A key that leaves as text is ordered by that text, whatever the column is by nature."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import psycopg
import pytest

from tests.servers.mariadb import MariaDatabase
from tests.servers.postgres import Database
from tests.sources.test_mysql_sessions import connect
from tests.sources.test_source_postgres import entity, source
from waybill.configuration.catalog import DbApiSource
from waybill.configuration.selection import FileStyle, Selection
from waybill.sources import Source
from waybill.sources.dbapi.source import DbApi
from waybill.sources.duckdb.source import DuckDB

NATIVES = {
    "bigint": ["9", "10", "-1"],
    "numeric": ["9.5", "10.25", "-1"],
    "double precision": ["9.5", "10.25", "-1.5"],
    "real": ["9.5", "10.25", "-1.5"],
    "boolean": ["true", "false"],
    "date": ["'2024-02-29'", "'1999-01-01'"],
    "timestamp": ["'2024-02-29 10:00'", "'1999-01-01'"],
    "timestamptz": ["'2024-02-29 10:00Z'", "'1999-01-01Z'"],
    "time": ["'10:00'", "'09:30:00.5'"],
    "interval": ["'1 mon'", "'25 hours'", "'9 days'"],
    "uuid": ["'ffffffff-ffff-ffff-ffff-ffffffffffff'", "'00000000-0000-0000-0000-00000000000a'"],
    "oid": ["9", "10", "4294967295"],
    "inet": ["'9.0.0.1'", "'10.0.0.1'", "'::1'"],
    "mood": ["'sad'", "'ok'"],
    "int[]": ["'{9}'", "'{10}'", "'{}'"],
    "jsonb": ["'9'", "'10'", "'{}'"],
    "char(3)": ["'b'", "'a'", "'B'"],
    '"char"': ["'b'", "'a'"],
    "name": ["'b'", "'a'", "'B'"],
    "bit(3)": ["'101'", "'011'"],
    "numrange": ["'[9,10)'", "'[10,11)'", "'empty'"],
}


def keys(origin: Source, **more: object) -> list[str]:
    wanted = entity("lookback", columns={"id": {"type": "string"}}, **more)
    with origin.snapshot([wanted]) as snapshot:
        selection = Selection(wanted, "acme", wanted.columns)
        snapshot.check(selection)
        return b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle())).decode().splitlines()


@pytest.mark.parametrize("native", NATIVES)
def test_every_type_of_postgresql_is_a_key_as_text(postgres: Database, native: str) -> None:
    postgres.psql("CREATE TYPE mood AS ENUM ('sad', 'ok')")
    postgres.psql(f"CREATE TABLE orders (tenant_id text, id {native} PRIMARY KEY, updated_at timestamptz DEFAULT '2026-01-01Z')")
    rows = ", ".join(f"('acme', {value})" for value in NATIVES[native])
    postgres.psql(f"INSERT INTO orders (tenant_id, id) VALUES {rows}")
    found = keys(source(postgres))
    assert len(found) == len(NATIVES[native])
    plain = [text.strip('"').replace('""', '"') for text in found]
    assert plain == sorted(plain, key=str.encode)
    driver = DbApi(DbApiSource(kind="dbapi", connection="pg"), lambda _: psycopg.connect(postgres.dsn))
    if native in ("bigint", "numeric", "boolean", "date", "uuid", "mood", "char(3)", "name"):
        assert [key.rstrip() for key in keys(driver)] == [text.rstrip() for text in found]


NUMBERS = ["9", "10", "-1", "100"]


def test_numbers_that_leave_as_text_have_one_order_in_every_source(tmp_path: Path, mariadb: MariaDatabase) -> None:
    rows = ", ".join(f"('acme', {number}, '2026-01-01 00:00:00')" for number in NUMBERS)
    table = "CREATE TABLE orders (tenant_id varchar(20), id bigint PRIMARY KEY, updated_at {})"
    with duckdb.connect(str(tmp_path / "w.duckdb")) as engine:
        engine.execute(table.format("timestamp"))
        engine.execute(f"INSERT INTO orders VALUES {rows}")
    with closing(sqlite3.connect(tmp_path / "w.sqlite")) as lite, lite:
        lite.execute(table.format("text"))
        lite.execute(f"INSERT INTO orders VALUES {rows}")
    with closing(connect(mariadb)) as connection, connection.cursor() as cursor:
        cursor.execute(table.format("datetime"))
        cursor.execute(f"INSERT INTO orders VALUES {rows}")
        connection.commit()
    spec = DbApiSource(kind="dbapi", connection="any")
    sources = [
        DuckDB(tmp_path / "w.duckdb"),
        DbApi(spec, lambda _: sqlite3.connect(tmp_path / "w.sqlite")),
        DbApi(spec, lambda _: connect(mariadb)),
    ]
    assert [keys(source) for source in sources] == [sorted(NUMBERS)] * 3
