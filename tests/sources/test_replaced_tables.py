"""A table that is emptied, rewritten, swapped or dropped while an extraction waits for it: all of its rows arrive, never none."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from tests.servers.postgres import Database
from tests.sources.test_source_postgres import Role, entity, source
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


def read_while(database: Database, replacement: str, wanted: Entity, through: Source | None = None) -> list[bytes]:
    """What an extraction delivers that begins while the replacement is open and goes on when it commits."""
    origin = through or source(database)
    got: list[bytes] = []
    failed: list[BaseException] = []

    def extract() -> None:
        try:
            with origin.snapshot([wanted]) as snapshot:
                extent = snapshot.extent(wanted, "acme", None, snapshot.taken_at)
                selection = Selection(wanted, "acme", wanted.columns, extent.changed)
                snapshot.check(selection)
                count = snapshot.count(selection)
                got.extend(bytes(block) for block, _ in snapshot.csv(selection, FileStyle()))
            assert count == 20
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


SOME = "id, tenant_id, version, updated_at"
OF_OWNER = f"""CREATE FUNCTION of_owner() RETURNS TABLE (id int, tenant_id text, version int, updated_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT {SOME} FROM orders'"""
HIDDEN = """CREATE TABLE shown_tenants AS SELECT 'acme' AS code; ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION shown_to_us() RETURNS SETOF text LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT code FROM shown_tenants';
GRANT SELECT ON orders"""
PARTED = f"CREATE TABLE whole {SHAPE.replace(' PRIMARY KEY', '')} PARTITION BY RANGE (id); GRANT SELECT ({SOME}) ON whole TO {{0}}"
INHERITED = f"""CREATE TABLE heir () INHERITS (orders); WITH moved AS (DELETE FROM orders RETURNING *) INSERT INTO heir TABLE moved;
GRANT SELECT ({SOME}) ON orders TO {{0}}"""
MADE_BEFORE = f"INSERT INTO new {ROWS}; ALTER TABLE orders RENAME TO old; ALTER TABLE new RENAME TO orders"
UNHELD: dict[str, tuple[str, str, str]] = {
    "a table, of which some columns are granted": (f"GRANT SELECT ({SOME}) ON orders TO {{0}}", "orders", ""),
    "such a table that is rewritten": (f"GRANT SELECT ({SOME}) ON orders TO {{0}}", "orders", REPLACEMENTS["rewritten"]),
    "such a table, by one that was there before": (
        f"CREATE TABLE new {SHAPE}; GRANT SELECT ({SOME}) ON orders, new TO {{0}}",
        "orders",
        MADE_BEFORE,
    ),
    "behind a view, of which some columns are granted": (
        f"CREATE VIEW shown AS TABLE orders; GRANT SELECT ({SOME}) ON shown TO {{0}}",
        "shown",
        "",
    ),
    "behind a view of one who is granted some columns": (
        f"CREATE VIEW shown AS SELECT {SOME} FROM orders; GRANT SELECT ({SOME}) ON orders TO {{0}}; ALTER VIEW shown OWNER TO {{0}}",
        "shown",
        "",
    ),
    "behind a view that reads as its reader": (
        f"CREATE VIEW shown WITH (security_invoker) AS SELECT {SOME} FROM orders; GRANT SELECT ({SOME}) ON orders, shown TO {{0}}",
        "shown",
        "",
    ),
    "behind a function with its owner's rights": (
        f"{OF_OWNER}; CREATE VIEW shown AS SELECT * FROM of_owner(); GRANT SELECT ON shown TO {{0}}",
        "shown",
        "",
    ),
    "which a policy reads": (
        f"{HIDDEN}, shown_tenants TO {{0}}; CREATE POLICY p ON orders USING (tenant_id IN (SELECT code FROM shown_tenants))",
        "orders",
        "TRUNCATE shown_tenants; INSERT INTO shown_tenants VALUES ('acme')",
    ),
    "which a function of a policy reads": (
        f"{HIDDEN} TO {{0}}; CREATE POLICY p ON orders USING (tenant_id IN (SELECT shown_to_us()))",
        "orders",
        "TRUNCATE shown_tenants; INSERT INTO shown_tenants VALUES ('acme')",
    ),
    "a partition": (f"{PARTED}; ALTER TABLE whole ATTACH PARTITION orders FOR VALUES FROM (0) TO (99)", "whole", ""),
    "a table that inherits": (INHERITED, "orders", f"TRUNCATE heir; INSERT INTO heir {ROWS}"),
}


@pytest.mark.parametrize("kind", ["postgres", "dbapi"])
@pytest.mark.parametrize("what", UNHELD)
def test_what_nobody_can_hold_is_read_again_if_it_is_replaced_meanwhile(orders: Database, what: str, kind: str) -> None:
    made, relation, replacement = UNHELD[what]
    with Role(orders, made) as role:
        reader = replace(orders, user=role)
        driver = DbApi(DbApiSource(kind="dbapi", connection="pg"), lambda _: psycopg.connect(reader.dsn))
        wanted, through = entity("lookback", relation=relation), source(reader) if kind == "postgres" else driver
        with pytest.raises(TransientError, match="was replaced while this was read"):
            read_while(orders, replacement or REPLACEMENTS["emptied and filled"], wanted, through=through)
        if replacement != MADE_BEFORE:
            with through.snapshot([wanted]) as snapshot:
                assert snapshot.count(Selection(wanted, "acme", wanted.columns)) == 20


@pytest.mark.parametrize(("body", "is_read"), [("SELECT 'x' AS notes FROM orders", False), ("SELECT text FROM notes", True)])
def test_only_what_a_function_reads_is_read_again(orders: Database, body: str, is_read: bool) -> None:
    """Its text may name a table and not mean it."""
    orders.psql("CREATE TABLE notes AS SELECT 'x' AS text")
    orders.psql(f"CREATE FUNCTION f() RETURNS SETOF text LANGUAGE sql STABLE SECURITY DEFINER AS $$ {body} $$")
    orders.psql("CREATE VIEW shown AS SELECT * FROM orders WHERE EXISTS (SELECT FROM f())")
    wanted = entity("lookback", relation="shown")
    refused = pytest.raises(TransientError, match="was replaced while") if is_read else nullcontext()
    with Role(orders, "GRANT SELECT ON shown TO {0}") as role, refused, source(orders, login=role).snapshot([wanted]) as snapshot:
        orders.psql("TRUNCATE notes; INSERT INTO notes VALUES ('y')")
        assert snapshot.count(Selection(wanted, "acme", wanted.columns)) == (0 if is_read else 20)


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
