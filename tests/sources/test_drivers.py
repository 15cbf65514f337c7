"""Every driver that docs/sources.md names gives the same bytes of a table, a view and a query, whatever their names hold."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import mysql.connector
import psycopg
import psycopg2
import pytest

from tests.servers.mariadb import MariaDatabase
from tests.servers.postgres import Database
from tests.sources.test_source_dbapi import Frames, Unknown
from tests.sources.test_source_postgres import entity
from waybill.configuration.catalog import DbApiSource
from waybill.configuration.selection import FileStyle, Selection
from waybill.errors import PermanentError
from waybill.sources.dbapi.source import DbApi
from waybill.sources.sql import quote

Connect = Callable[[], Any]
OF_SQLITE = {"sqlite3": sqlite3.connect, "a driver nobody knows": Unknown, "a hook of frames": Frames}
OF_POSTGRES = {"psycopg": psycopg.connect, "psycopg2": psycopg2.connect}
OF_MYSQL = ["pymysql", "mysql-connector-python"]
NAMES = ["100%", "%s", "%(x)s", "%(x)%", "a`b", 'a"b', "q?", "{}", "{x}", ":c", "$1", "a;b", "a -- b", "\\", "é", "漢 字"]
BYTES = ("1,ab" + ",7" * len(NAMES) + "\n3,%s" + ",9" * len(NAMES) + "\n").encode()


def opening(driver: str, request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Connect, Connect, str]:
    """Return how to open a database with this driver, and with one that writes to it, and what it quotes names with."""
    if driver in OF_SQLITE:
        path = tmp_path / "app.db"
        return partial(OF_SQLITE[driver], path), partial(sqlite3.connect, path), '"'
    if driver in OF_POSTGRES:
        database: Database = request.getfixturevalue("postgres")
        return partial(OF_POSTGRES[driver], database.dsn), partial(psycopg.connect, database.dsn), '"'
    maria: MariaDatabase = request.getfixturevalue("mariadb")
    if driver == "pymysql":
        return maria.connect, maria.connect, "`"
    place = {"host": maria.host, "port": maria.port, "user": maria.user, "database": maria.name}
    return partial(mysql.connector.connect, **place, use_pure=True, ssl_disabled=True), maria.connect, "`"


def execute(connect: Connect, *statements: str) -> None:
    with closing(connect()) as connection, closing(connection.cursor()) as cursor:
        for statement in statements:
            cursor.execute(statement)
        connection.commit()


def read(connect: Connect, tenant: str = "acme", **shape: Any) -> bytes:
    wanted = entity("full", **shape)
    selection = Selection(wanted, tenant, wanted.columns)
    with DbApi(DbApiSource(kind="dbapi", connection="db"), lambda _: connect()).snapshot([wanted]) as snapshot:
        snapshot.check(selection)
        snapshot.definition(selection)
        lines = b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle()))
        assert snapshot.count(selection) == lines.count(b"\n")
    return lines


@pytest.mark.parametrize("driver", [*OF_SQLITE, *OF_POSTGRES, *OF_MYSQL])
def test_every_driver_reads_tables_views_and_queries_with_odd_names(driver: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    connect, write, mark = opening(driver, request, tmp_path)
    columns = ", ".join(f"{quote(name, mark)} int" for name in NAMES)
    row = ", ".join(["{0}"] * len(NAMES))
    execute(
        write,
        f"create table orders (id int primary key, tenant_id varchar(20) not null, note varchar(20), {columns})",
        f"insert into orders values (1, 'acme', 'ab', {row.format(7)}), (2, 'globex', 'c', {row.format(8)})",
        f"insert into orders values (3, 'acme', '%s', {row.format(9)})",
        f"create table {quote('50% of %s', mark)} as select * from orders",
        "create view shown as select * from orders",
    )
    kinds = {"id": {"type": "integer"}, "note": {"type": "string"}} | {name: {"type": "integer"} for name in NAMES}
    for relation in ("orders", "50% of %s", "shown"):
        assert read(connect, relation=relation, columns=kinds) == BYTES, relation
    for query in ("select * from orders", "select * from orders where note <> '%' and note not like '_c%' and id % (2) = 1"):
        assert read(connect, relation="", query=query, columns=kinds) == BYTES, query
    assert read(connect, columns=kinds, tenant="%s") == b""


@pytest.mark.parametrize("driver", [*OF_SQLITE, *OF_POSTGRES, *OF_MYSQL])
def test_what_is_wrong_with_a_row_is_told_as_that_by_every_driver(driver: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """The rows behind it are not read by then, and some drivers refuse to go on."""
    connect, write, _ = opening(driver, request, tmp_path)
    rows = ", ".join(f"({number}, 'acme', 'x')" for number in range(900))
    execute(
        write,
        "create table orders (id int primary key, tenant_id varchar(20) not null, note varchar(20))",
        f"insert into orders values {rows}",
    )
    with pytest.raises(PermanentError, match="note") as told:
        read(connect, relation="", query="select * from orders", columns={"id": {"type": "integer"}, "note": {"type": "integer"}})
    assert told.value.code == "schema_drift"


@pytest.mark.parametrize("driver", [*OF_SQLITE, *OF_POSTGRES, *OF_MYSQL])
@pytest.mark.parametrize(("mode", "column"), [("lookback", "updated_at"), ("append", "id"), ("full", "")])
def test_a_mode_of_several_statements_is_refused_where_no_snapshot_holds_them(
    driver: str, mode: str, column: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A version that is written between the rows and their digests would count as delivered."""
    connect, write, _ = opening(driver, request, tmp_path)
    execute(
        write,
        "create table orders (id int primary key, tenant_id varchar(20) not null, updated_at timestamp)",
        "insert into orders values (1, 'acme', '2026-01-01 00:00:00')",
    )
    shape = {"changes": {"mode": mode, "column": column}, "columns": {"id": {"type": "integer"}}}
    if mode == "full" or driver not in ("a driver nobody knows", "a hook of frames"):
        assert read(connect, **shape) == b"1\n"
        return
    with pytest.raises(PermanentError, match="mode to full") as told:
        read(connect, **shape)
    assert told.value.code == "no_snapshot"
