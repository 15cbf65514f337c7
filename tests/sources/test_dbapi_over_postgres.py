"""PostgreSQL through a driver of Airflow's: no setting of a role or a database changes a byte, or a statement's time."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import psycopg2
import pytest

from tests.servers.postgres import Database, serve_postgres
from tests.sources.test_source_postgres import Role, entity, source
from waybill.configuration.catalog import DbApiSource
from waybill.configuration.selection import FileStyle, Selection
from waybill.errors import PermanentError
from waybill.sources.base import Snapshot
from waybill.sources.dbapi.source import DbApi
from waybill.sources.postgres.settings import transaction_settings
from waybill.sources.sql import sql

Through = Callable[[Database], DbApi]
HOSTILE = {
    "extra_float_digits": "-10",
    "DateStyle": "'SQL, DMY'",
    "IntervalStyle": "'sql_standard'",
    "bytea_output": "'escape'",
    "TimeZone": "'Asia/Kathmandu'",
    "client_encoding": "'LATIN1'",
    "lc_monetary": "'C'",
    "xmlbinary": "'hex'",
    "row_security": "off",
    "statement_timeout": "'20s'",
    "lock_timeout": "'20s'",
    "idle_in_transaction_session_timeout": "'20s'",
    "default_transaction_read_only": "off",
}
KINDS = {"id": "integer", "f": "float", "d": "date", "t": "timestamp", "z": "timestamp", "b": "binary", "n": "decimal", "s": "string"}
SHAPE = entity("lookback", "z", columns={name: {"type": kind} for name, kind in KINDS.items()})


@pytest.fixture
def orders(postgres: Database) -> Database:
    postgres.psql(
        """CREATE TABLE orders (id int PRIMARY KEY, tenant_id text, f float8, d date, t timestamp, z timestamptz, b bytea,
                               n numeric, s text);
           INSERT INTO orders SELECT i, 'acme', 0.1::float8 + 0.2 * i, date '2026-02-03', timestamp '2026-02-03 04:05:06.789',
                  timestamptz '2026-02-03 04:05:06.789+01', '\\x00ff5c', 1.50, 'é→😀' FROM generate_series(1, 9) i;"""
    )
    for name, value in HOSTILE.items():
        postgres.psql(f"ALTER DATABASE {postgres.name} SET {name} = {value}")
    return postgres


@pytest.fixture(params=[psycopg, psycopg2], ids=lambda driver: driver.__name__)
def dbapi(request: pytest.FixtureRequest) -> Through:
    """The database through a driver: Airflow's hook takes the older one, or the newer where it is asked to."""
    connect = request.param.connect
    return lambda database: DbApi(DbApiSource(kind="dbapi", connection="pg"), lambda _: connect(database.dsn))


def read(snapshot: Snapshot, shape: Any = SHAPE) -> bytes:
    selection = Selection(shape, "acme", shape.columns)
    snapshot.check(selection)
    return b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle()))


def test_the_bytes_are_those_of_the_native_source_whatever_the_database_sets(dbapi: Through, orders: Database) -> None:
    with source(orders).snapshot([SHAPE]) as native, dbapi(orders).snapshot([SHAPE]) as snapshot:
        assert read(snapshot) == read(native)
        assert "1,0.30000000000000004,2026-02-03,2026-02-03T04:05:06.789000Z,2026-02-03T03:05:06.789000Z,AP9c,1.50,é→😀\n".encode() in read(
            snapshot
        )


def test_every_setting_of_the_native_source_is_set_and_the_transaction_is_read_only(dbapi: Through, orders: Database) -> None:
    with source(orders).snapshot([SHAPE]) as native, dbapi(orders).snapshot([SHAPE]) as snapshot:
        ours = transaction_settings(native.connection.info.server_version, timedelta(hours=1))
        names = [setting.split()[2] for setting in ours if setting.startswith("SET LOCAL")]
        asked = "SELECT " + ", ".join(f"current_setting('{name}')" for name in names)
        assert snapshot.ask(sql(asked)) == native.connection.execute(asked.encode()).fetchall()
        assert snapshot.ask(sql("SHOW transaction_read_only")) == [("on",)]


@pytest.mark.parametrize("raising", ["('x' || id)::int", "(id * 40000)::smallint", "1 / (id - id)", "('x' || id)::date"])
def test_what_a_view_raises_is_told_as_that(dbapi: Through, orders: Database, raising: str) -> None:
    orders.psql(f"CREATE VIEW bad AS SELECT id, tenant_id, ({raising})::text AS s FROM orders")
    shape = entity("full", relation="bad", columns={"s": {"type": "string"}})
    with (
        dbapi(orders).snapshot([shape]) as snapshot,
        pytest.raises(PermanentError, match="a view, a policy or a function that the entity reads") as caught,
    ):
        read(snapshot, shape)
    assert caught.value.code == "source_refused"


def test_the_database_tells_which_columns_are_never_null(dbapi: Through, orders: Database, tmp_path: Path) -> None:
    with dbapi(orders).snapshot([SHAPE]) as snapshot:
        assert snapshot.never_null(SHAPE) == {"id"}
        assert snapshot.never_null(entity("full", relation="", query="SELECT * FROM orders")) == set()
    with closing(sqlite3.connect(tmp_path / "lite")) as lite:
        lite.execute("CREATE TABLE orders (id text PRIMARY KEY, tenant_id text NOT NULL, f real)")
    source = DbApi(DbApiSource(kind="dbapi", connection="lite"), lambda _: sqlite3.connect(tmp_path / "lite"))
    with source.snapshot([SHAPE]) as snapshot:
        assert snapshot.never_null(SHAPE) == {"tenant_id"}


SPELT = {
    "json": '\'{"a": 0.1000000000000000055511151231257827, "b": 1e400}\'',
    "interval": "'1 year 2 mons -3 days 04:05:06.5'",
    "timetz": "'10:00:00+02'",
    "numrange": "'[1.0,2.50)'",
    "numeric[]": "'{1.50,NULL,NaN}'",
    "inet": "'10.0.0.1'",
    "date": "'0044-03-15 BC'",
    "timestamptz": "'20000-01-01 12:00Z'",
    "timestamp": "'-infinity'",
    "char(5)": "'a'",
    "money": "1",
}


@pytest.mark.parametrize("shape", [{}, {"relation": "", "query": "SELECT * FROM things"}], ids=["table", "query"])
def test_the_server_spells_what_a_driver_would_change(dbapi: Through, postgres: Database, shape: dict[str, str]) -> None:
    columns = ", ".join(f"c{number} {native}" for number, native in enumerate(SPELT))
    postgres.psql(f"CREATE TABLE things (id int PRIMARY KEY, tenant_id text, updated_at timestamptz DEFAULT '2026-01-01Z', {columns})")
    names, values = ", ".join(f"c{number}" for number, _ in enumerate(SPELT)), ", ".join(SPELT.values())
    postgres.psql(f"INSERT INTO things (id, tenant_id, {names}) VALUES (1, 'acme', {values})")
    kept = {f"c{number}": {"type": "string"} for number, native in enumerate(SPELT) if native != "money"}
    wanted = entity("lookback", **{"relation": "things", "columns": {"id": {"type": "integer"}, **kept}, **shape})
    with source(postgres).snapshot([wanted]) as native, dbapi(postgres).snapshot([wanted]) as snapshot:
        assert read(snapshot, wanted) == read(native, wanted)
    money = entity("lookback", **{"relation": "things", "columns": {f"c{list(SPELT).index('money')}": {"type": "string"}}, **shape})
    with dbapi(postgres).snapshot([money]) as snapshot, pytest.raises(PermanentError, match="of which lc_monetary decides"):
        read(snapshot, money)


def test_a_role_that_may_not_ask_for_the_server_s_log_reads_and_knows_no_timeline(dbapi: Through, orders: Database) -> None:
    found = []
    grants = "GRANT SELECT ON orders TO {0}"
    for rights in (grants, f"{grants}; REVOKE EXECUTE ON FUNCTION pg_current_wal_lsn(), pg_walfile_name(pg_lsn) FROM PUBLIC"):
        with Role(orders, rights) as role, dbapi(replace(orders, user=role)).snapshot([SHAPE]) as snapshot:
            found.append(snapshot.definition(Selection(SHAPE, "acme", SHAPE.columns))["timeline"])
            assert snapshot.extent(SHAPE, "acme", None, snapshot.taken_at).remarks == ""
            assert read(snapshot).count(b"\n") == 9
    assert found == ["00000001", ""]


def test_a_tenant_is_compared_exactly_whatever_its_column_takes_as_equal(dbapi: Through, postgres: Database) -> None:
    postgres.psql(
        """CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
           CREATE TABLE orders (id int PRIMARY KEY, tenant_id text COLLATE loose, version int,
                               updated_at timestamptz DEFAULT '2026-01-01Z');
           INSERT INTO orders VALUES (1, 'acme', 1), (2, 'ACME', 2);"""
    )
    wanted = entity("lookback")
    with source(postgres).snapshot([wanted]) as native, dbapi(postgres).snapshot([wanted]) as snapshot:
        assert read(snapshot, wanted) == read(native, wanted) == b"1,1\n"


def test_a_delivery_ends_when_the_server_s_disk_has_what_it_read(dbapi: Through) -> None:
    """Others see a commit before the disk has it, and a crash takes it back: the native source waits for the disk, too."""
    with serve_postgres(extra_config="synchronous_commit = off\nwal_writer_delay = 1s") as cluster, cluster.database() as database:
        database.execute("create table orders (id int primary key, tenant_id text, version int, updated_at timestamptz)")
        wanted = entity("lookback")
        with psycopg.connect(database.dsn, autocommit=True) as connection:
            for number in range(3):
                connection.execute("insert into orders values (%s, 'acme', 1, now())", [number])
                written = connection.execute("select pg_current_wal_insert_lsn()").fetchone()
                with dbapi(database).snapshot([wanted]) as snapshot:
                    assert snapshot.count(Selection(wanted, "acme", wanted.columns)) == number + 1
                assert connection.execute("select pg_current_wal_flush_lsn() >= %s::pg_lsn", written).fetchone() == (True,)
