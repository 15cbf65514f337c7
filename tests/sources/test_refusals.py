"""Nothing that cannot pass by itself is called transient, whatever the source: what a server, a pooler, a driver or an engine refuses."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import psycopg2
import pymysql
import pytest

from tests.servers.mariadb import MariaDatabase
from tests.servers.postgres import Database
from waybill.airflow.connections.lookup import connect_db
from waybill.configuration.catalog import DbApiSource, Entity, PostgresSource
from waybill.configuration.selection import FileStyle, Selection
from waybill.connection import Connection
from waybill.errors import PermanentError, TransientError, WaybillError
from waybill.sources import Source
from waybill.sources.dbapi.source import DbApi
from waybill.sources.duckdb.source import DuckDB
from waybill.sources.postgres.source import Postgres

TABLE = "create table orders (tenant_id varchar(20) not null, id bigint, name varchar(40))"
ROW = "insert into orders values ('acme', 1, 'Ada')"


@dataclass
class Shop:
    """A table of one row in one kind of source. `source` opens it, with settings of the connection's own."""

    run: Callable[[str], object]
    source: Callable[..., Source]

    def error(self, *, relation: str = "orders", query: str = "", **settings: Any) -> WaybillError:
        """The error of reading everything."""
        read = {"query": query} if query else {"relation": relation}
        columns = {"id": {"type": "integer"}, "name": {"type": "string"}}
        facts = {"id": "orders", "source": "db", "tenant_column": "tenant_id", "key": ["id"], "changes": {"mode": "full"}, **read}
        entity = Entity.model_validate({**facts, "columns": columns})
        try:
            with self.source(**settings).snapshot([entity]) as snapshot:
                selection = Selection(entity, "acme", entity.columns)
                snapshot.check(selection)
                list(snapshot.csv(selection, FileStyle()))
        except WaybillError as error:
            return error
        pytest.fail("nothing was refused")

    def view(self, expression: str) -> WaybillError:
        self.run("drop view if exists bad")
        self.run(f"create view bad as select tenant_id, id, {expression} as name from orders")
        return self.error(relation="bad")


def _postgres(database: Database, **settings: str) -> Source:
    facts = {"type": "postgres", "host": database.host, "port": database.port, "schema": database.name}
    connection = Connection("pg", login=settings.pop("user", database.user), extra=settings, **facts)
    return Postgres(PostgresSource(kind="postgres", connection="pg"), lambda _: connection)


def _over_driver(connect: Callable[..., Any], dsn: str, **settings: str) -> Source:
    return DbApi(DbApiSource(kind="dbapi", connection="pg"), lambda _: connect(dsn, **settings))


@pytest.fixture(params=["postgres", "psycopg", "psycopg2"])
def on_postgres(request: pytest.FixtureRequest, postgres: Database) -> Shop:
    postgres.psql(f"{TABLE}; {ROW}")
    drivers = {"psycopg": psycopg.connect, "psycopg2": psycopg2.connect}
    if request.param == "postgres":
        return Shop(postgres.psql, partial(_postgres, postgres))
    return Shop(postgres.psql, partial(_over_driver, drivers[request.param], postgres.dsn))


@pytest.fixture
def reader(postgres: Database) -> Iterator[str]:
    """A role that may read the table, for one test."""
    name = f"reader_of_{postgres.name}"
    postgres.psql(f"create role {name} login")
    yield name
    postgres.psql(f"drop owned by {name}; drop role {name}")


@pytest.mark.parametrize(
    ("said", "settings"),
    [
        ("unrecognized configuration parameter", {"options": "-c nosuch=1"}),
        ("invalid value for parameter", {"options": "-c work_mem=much"}),
        ("invalid sslmode value", {"sslmode": "perhaps"}),
        ("does not exist", {"user": "nobody_at_all"}),
        ("SSL was required", {"sslmode": "require"}),
    ],
)
def test_a_login_to_postgres_that_cannot_succeed(on_postgres: Shop, said: str, settings: dict[str, str]) -> None:
    error = on_postgres.error(**settings)
    assert (type(error), error.code, said in str(error)) == (PermanentError, "login_refused", True)


def test_a_role_without_the_right_to_connect_and_one_whose_connections_are_taken(
    on_postgres: Shop, postgres: Database, reader: str
) -> None:
    on_postgres.run(f"revoke connect on database {postgres.name} from public; grant select on orders to {reader}")
    error = on_postgres.error(user=reader)
    assert (type(error), error.code) == (PermanentError, "login_refused")
    on_postgres.run(f"grant connect on database {postgres.name} to {reader}; alter role {reader} connection limit 0")
    assert type(on_postgres.error(user=reader)) is TransientError


def test_a_column_that_is_not_granted_is_told_as_that(on_postgres: Shop, reader: str) -> None:
    on_postgres.run(f"grant select (tenant_id, id) on orders to {reader}")
    error = on_postgres.error(user=reader)
    assert type(error) is PermanentError
    assert "not granted to the login" in str(error) or "permission denied for table orders" in str(error)
    assert "grant SELECT on" in str(error)


RAISES = "create or replace function f() returns text language plpgsql as $$ begin {}; return 'a'; end $$"


@pytest.mark.parametrize(
    "body",
    [
        "raise exception 'planted'",
        *(f"raise exception 'planted' using errcode = '{state}'" for state in ("XX000", "APP01", "42P01", "55000", "53400", "HV00R")),
        "insert into orders values ('acme', 2, 'x')",
        "perform f()",
        "assert false, 'planted'",
    ],
)
def test_what_a_function_of_postgres_raises_stays(on_postgres: Shop, body: str) -> None:
    on_postgres.run(RAISES.format(body))
    error = on_postgres.view("f()")
    assert (type(error), error.code, "planted" in str(error)) == (PermanentError, "source_refused", False)


@pytest.mark.parametrize("state", ["53100", "40001", "08006", "57014", "55P03", "HV00N"])
def test_trouble_of_postgres_that_may_pass_is_tried_again(on_postgres: Shop, state: str) -> None:
    on_postgres.run(RAISES.format(f"raise exception 'planted' using errcode = '{state}'"))
    error = on_postgres.view("f()")
    assert (type(error), "planted" in str(error)) == (TransientError, False)


def test_a_limit_on_temporary_files_stays(on_postgres: Shop, postgres: Database) -> None:
    on_postgres.run("insert into orders select 'acme', i, repeat('x', 40) from generate_series(10, 19999) as i")
    for limit in ("work_mem = '64kB'", "temp_file_limit = '64kB'"):
        on_postgres.run(f"alter database {postgres.name} set {limit}")
    error = on_postgres.view("name")
    assert (type(error), "the server's own limit is exceeded: temporary file size" in str(error)) == (PermanentError, True)


@pytest.fixture
def on_maria(mariadb: MariaDatabase) -> Iterator[Shop]:
    def connect(**settings: str) -> Any:
        facts = {"host": mariadb.host, "port": mariadb.port, "user": mariadb.user, "database": mariadb.name, **settings}
        return pymysql.connect(charset="utf8mb4", autocommit=True, **facts)

    with closing(connect()) as connection:

        def run(statement: str) -> None:
            with connection.cursor() as cursor:
                cursor.execute(statement)

        run(TABLE)
        run(ROW)
        yield Shop(run, lambda **settings: DbApi(DbApiSource(kind="dbapi", connection="my"), lambda _: connect(**settings)))


def test_what_mysql_refuses_stays_and_its_values_are_not_repeated(on_maria: Shop) -> None:
    on_maria.run(
        "create function f() returns varchar(40) deterministic begin"
        " if 1 then signal sqlstate '45000' set message_text = 'planted'; end if; return 'a'; end"
    )
    for expression in ("f()", "(select 1 union select 2)", "9223372036854775807 + id", "cast(exp(id * 999) as char)"):
        error = on_maria.view(expression)
        assert (type(error), error.code, "planted" in str(error)) == (PermanentError, "source_refused", False), expression
    assert type(on_maria.error(query="select tenant_id, id, nme as name from orders")) is PermanentError
    assert type(on_maria.error(query="select tenant_id, id, name from orders whre 1")) is PermanentError


def test_a_login_to_mysql_that_cannot_succeed_and_one_that_may(on_maria: Shop, mariadb: MariaDatabase) -> None:
    user = f"reader_{mariadb.name}"
    on_maria.run(f"create user {user} identified by 'x'")
    try:
        on_maria.run(f"grant select on {mariadb.name}.* to {user}")
        on_maria.run(f"alter user {user} password expire")
        assert type(on_maria.error(user=user, password="x")) is PermanentError
        on_maria.run(f"alter user {user} identified by 'x'")
        on_maria.run(f"grant usage on *.* to {user} with max_queries_per_hour 2")
        assert type(on_maria.error(user=user, password="x")) is TransientError
    finally:
        on_maria.run(f"drop user {user}")
    assert type(on_maria.error(port=1)) is TransientError


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Shop:
    def run(statement: str) -> None:
        with closing(sqlite3.connect(tmp_path / "app.sqlite")) as connection, connection:
            connection.execute(statement)

    run(TABLE)
    run(ROW)
    connect = partial(sqlite3.connect, tmp_path / "app.sqlite", timeout=0)
    return Shop(run, lambda: DbApi(DbApiSource(kind="dbapi", connection="lite"), lambda _: connect()))


def test_what_sqlite_refuses_stays_and_a_lock_passes(on_sqlite: Shop, tmp_path: Path) -> None:
    for expression in ("json_extract('{', '$.a')", "abs(-9223372036854775808)", "nosuch(id)"):
        assert type(on_sqlite.view(expression)) is PermanentError, expression
    assert type(on_sqlite.error(query="select tenant_id, id, name from orders whre 1")) is PermanentError
    with closing(sqlite3.connect(tmp_path / "app.sqlite", isolation_level=None)) as other:
        other.execute("begin exclusive")
        assert type(on_sqlite.error()) is TransientError
    (tmp_path / "app.sqlite").write_bytes(b"no database " * 999)
    assert type(on_sqlite.error()) is PermanentError


def test_a_sqlite_file_that_is_not_there_is_named_and_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "nowhere.sqlite"
    monkeypatch.setenv("AIRFLOW_CONN_LITE", f'{{"conn_type": "sqlite", "host": "{file}"}}')
    with pytest.raises(PermanentError, match=r"there is no SQLite file .*nowhere.sqlite. Correct the host of the Airflow connection lite"):
        connect_db("lite")
    assert not file.exists()


def test_what_duckdb_refuses_stays(tmp_path: Path) -> None:
    def run(statement: str) -> None:
        with duckdb.connect(tmp_path / "shop.duckdb") as connection:
            connection.execute(statement)

    run(TABLE)
    run(ROW)
    shop = Shop(run, lambda: DuckDB(tmp_path / "shop.duckdb"))
    for expression in ("error('planted')", "'x'::int", "9223372036854775807 + id"):
        error = shop.view(expression)
        assert (isinstance(error, PermanentError), "planted" in str(error)) == (True, False), expression
    assert type(shop.error(query="select tenant_id, id, name from orders whre 1")) is PermanentError
    nowhere = Shop(run, lambda: DuckDB(tmp_path / ("d" * 300)))
    assert (type(nowhere.error()), nowhere.error().code) == (PermanentError, "source_missing")
    assert type(shop.error(query="select tenant_id, id, name from read_parquet('/nowhere/x.parquet')")) is PermanentError


class Overflows:
    """A connection whose driver cannot bind what it is asked to."""

    def cursor(self) -> Any:
        raise OverflowError("planted")

    def close(self) -> None:
        """Nothing was opened."""


def test_what_a_driver_cannot_do_at_all_is_not_tried_again() -> None:
    source = DbApi(DbApiSource(kind="dbapi", connection="odd"), lambda _: Overflows())
    with pytest.raises(PermanentError, match="raised OverflowError"), source.snapshot():
        pass
