"""A table that is emptied, rewritten, swapped or dropped while an extraction waits for it: all of its rows arrive, never none."""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg
import pytest

from tests.servers.postgres import Database
from tests.sources.test_source_postgres import entity, source
from waybill.configuration.catalog import DbApiSource, Entity, PostgresSource
from waybill.configuration.selection import FileStyle, Selection
from waybill.errors import TransientError
from waybill.sources import Source
from waybill.sources.dbapi.source import DbApi
from waybill.sources.postgres.source import Postgres

ROWS = "SELECT i, 'acme', 1, '2026-01-01Z', pg_current_xact_id() FROM generate_series(1, 20) AS i"
SHAPE = "(id int PRIMARY KEY, tenant_id text, version int, updated_at timestamptz, waybill_xid xid8)"
REPLACEMENTS = {
    "emptied and filled": f"TRUNCATE orders; INSERT INTO orders {ROWS}",
    "rewritten": "ALTER TABLE orders ALTER version TYPE bigint",
    "swapped": f"CREATE TABLE new {SHAPE}; INSERT INTO new {ROWS}; ALTER TABLE orders RENAME TO old; ALTER TABLE new RENAME TO orders",
    "dropped and made": f"DROP TABLE orders CASCADE; CREATE TABLE orders {SHAPE}; INSERT INTO orders {ROWS}",
    "clustered": "CLUSTER orders USING orders_pkey",
}
VIEWS = """CREATE VIEW shown AS SELECT * FROM orders; CREATE VIEW shown_again AS SELECT * FROM shown;
CREATE FUNCTION of_text() RETURNS SETOF orders LANGUAGE sql STABLE AS 'SELECT * FROM orders LIMIT 100';
CREATE FUNCTION another() RETURNS SETOF orders LANGUAGE plpgsql AS 'BEGIN RETURN QUERY SELECT * FROM of_text(); END';
CREATE VIEW of_function AS SELECT * FROM another();
CREATE TABLE owner (code text PRIMARY KEY, name text); INSERT INTO owner VALUES ('acme', 'acme')"""
SHAPES: dict[str, dict[str, Any]] = {
    "table": {},
    "view": {"relation": "shown"},
    "view of a view": {"relation": "shown_again"},
    "query": {"relation": "", "query": "SELECT * FROM shown WHERE version > 0"},
    "view of a function": {"relation": "of_function"},
    "query of a function": {"relation": "", "query": "SELECT * FROM another()"},
    "through a parent": {
        "relation": "child",
        "tenant_column": "",
        "tenant_through": [{"table": "orders", "on": {"id": "id"}, "column": "tenant_id"}],
    },
}


@pytest.fixture
def orders(postgres: Database) -> Database:
    postgres.psql(f"CREATE TABLE orders {SHAPE}; INSERT INTO orders {ROWS}")
    postgres.psql("GRANT pg_read_all_stats TO CURRENT_USER")
    return postgres


def read_while(database: Database, replacement: str, wanted: Entity, user: str = "", through: Source | None = None) -> list[bytes]:
    """What an extraction delivers that begins while the replacement is open and goes on when it commits."""
    origin = through or source(database, **({"login": user} if user else {}))
    got: list[bytes] = []
    failed: list[BaseException] = []

    def extract() -> None:
        try:
            with origin.snapshot([wanted]) as snapshot:
                extent = snapshot.extent(wanted, "acme", None, snapshot.taken_at)
                selection = Selection(wanted, "acme", wanted.columns, extent.changed)
                snapshot.check(selection)
                assert snapshot.count(selection) == 20
                got.extend(bytes(block) for block, _ in snapshot.csv(selection, FileStyle()))
        except BaseException as error:  # noqa: BLE001 (told to the test below)
            failed.append(error)

    with psycopg.connect(database.dsn) as writer:
        for statement in replacement.split("; "):
            writer.execute(statement.encode())
        reader = threading.Thread(target=extract)
        reader.start()
        _wait_until_somebody_waits(database, reader)
        writer.commit()
    reader.join(120)
    if failed:
        raise failed[0]
    return b"".join(got).splitlines()


def _wait_until_somebody_waits(database: Database, reader: threading.Thread) -> None:
    deadline = time.monotonic() + 60
    with psycopg.connect(database.dsn, autocommit=True) as watcher:
        while reader.is_alive() and not watcher.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
            assert time.monotonic() < deadline, "nobody waits"
            time.sleep(0.02)


@pytest.mark.parametrize("replacement", REPLACEMENTS.values(), ids=REPLACEMENTS)
def test_a_table_replaced_while_a_full_load_waits_for_it_is_delivered_whole(orders: Database, replacement: str) -> None:
    assert len(read_while(orders, replacement, entity("lookback"))) == 20


@pytest.mark.parametrize("mode", ["snapshot", "horizon", "lookback", "append", "full"])
def test_no_change_mode_takes_its_snapshot_before_it_holds_the_table(orders: Database, mode: str) -> None:
    wanted = entity(mode, {"append": "id"}.get(mode, ""))
    assert len(read_while(orders, REPLACEMENTS["emptied and filled"], wanted)) == 20


@pytest.mark.parametrize("shape", SHAPES)
def test_what_an_entity_reads_is_held_whatever_is_between(orders: Database, shape: str) -> None:
    orders.psql(VIEWS)
    if shape == "through a parent":
        orders.psql(
            "CREATE TABLE child (id int PRIMARY KEY, version int, updated_at timestamptz);"
            " INSERT INTO child SELECT id, version, updated_at FROM orders"
        )
    assert len(read_while(orders, REPLACEMENTS["emptied and filled"], entity("lookback", **SHAPES[shape]))) == 20


@pytest.mark.parametrize(
    ("shape", "replacement"),
    [
        *(("table", what) for what in REPLACEMENTS),
        *((what, "emptied and filled") for what in SHAPES if what not in ("table", "through a parent")),
    ],
)
def test_a_driver_of_postgresql_takes_its_snapshot_after_the_table_is_held(orders: Database, replacement: str, shape: str) -> None:
    if shape != "table":
        orders.psql(VIEWS)
    driver = DbApi(DbApiSource(kind="dbapi", connection="pg"), lambda _: psycopg.connect(orders.dsn))
    assert (
        len(
            read_while(
                orders, REPLACEMENTS[replacement], entity("full" if "query" in shape else "lookback", **SHAPES[shape]), through=driver
            )
        )
        == 20
    )


@pytest.mark.parametrize("replacement", [REPLACEMENTS["emptied and filled"], REPLACEMENTS["rewritten"]], ids=["emptied", "rewritten"])
def test_a_reader_of_some_columns_who_cannot_lock_is_told_to_try_again_and_delivers_nothing(orders: Database, replacement: str) -> None:
    orders.psql("CREATE ROLE narrow LOGIN; GRANT SELECT (id, tenant_id, version, updated_at) ON orders TO narrow")
    try:
        with pytest.raises(TransientError, match="was replaced while it was about to be read"):
            read_while(orders, replacement, entity("lookback"), user="narrow")
        with source(orders, login="narrow").snapshot([entity("lookback")]) as snapshot:
            assert snapshot.count(Selection(entity("lookback"), "acme", entity("lookback").columns)) == 20
    finally:
        orders.psql("DROP OWNED BY narrow; DROP ROLE narrow")


def test_a_table_that_stays_locked_is_waited_for_no_longer_than_a_statement_may_take(orders: Database) -> None:
    spec = PostgresSource.model_validate({"kind": "postgres", "connection": "pg", "statement_timeout": "1s"})
    origin = Postgres(spec, source(orders).connections)
    with psycopg.connect(orders.dsn) as writer:
        writer.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(TransientError, match="statement timeout"), origin.snapshot([entity("lookback")]):
            raise AssertionError("it was opened")


def test_the_session_goes_back_as_it_came(orders: Database) -> None:
    origin = source(orders)
    with origin.snapshot([entity("lookback")]) as snapshot:
        connection = snapshot.connection
        connection.execute("COMMIT")
        left = connection.execute(
            "SELECT name FROM pg_settings WHERE source = 'session' AND name NOT IN ('application_name', 'client_encoding')"
        ).fetchall()
    assert left == []
