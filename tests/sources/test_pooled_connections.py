"""A source and a ledger behind PgBouncer in transaction mode: whoever shares the pool notices nothing, and no byte differs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import psycopg2
import pytest

from tests.consumer.copies import consumer
from tests.consumer.sender import Sender
from tests.servers.pgbouncer import serve_pgbouncer
from tests.servers.postgres import Database
from tests.sources.test_source_postgres import entity, source
from waybill.configuration.catalog import DbApiSource
from waybill.configuration.selection import FileStyle, Selection
from waybill.errors import PermanentError, TransientError, WaybillError
from waybill.ledger.database.engine import Ledger
from waybill.sources import Snapshot, Source, reuse
from waybill.sources.dbapi.source import DbApi

SHARED = "default_transaction_read_only", "statement_timeout", "lock_timeout", "TimeZone", "DateStyle", "extra_float_digits", "row_security"


@pytest.fixture
def pooled(postgres: Database) -> Iterator[Database]:
    postgres.psql(
        """CREATE TABLE orders (id int PRIMARY KEY, tenant_id text, version float8, updated_at timestamptz, waybill_xid xid8);
           INSERT INTO orders SELECT i, 'acme', 0.1::float8 + 0.2 * i, '2026-01-01Z', pg_current_xact_id() FROM generate_series(1, 20) i"""
    )
    postgres.psql(f"ALTER DATABASE {postgres.name} SET extra_float_digits = 0; ALTER DATABASE {postgres.name} SET DateStyle = 'SQL, DMY'")
    with serve_pgbouncer(postgres) as pool:
        yield pool


def settings(pool: Database) -> set[tuple[str, ...]]:
    """What every server connection of the pool is set to, as the application sees it."""
    shown = ", ".join(f"current_setting('{name}')" for name in SHARED)
    with psycopg.connect(pool.dsn, autocommit=True, prepare_threshold=None) as application:
        return {tuple(application.execute(f"SELECT {shown}".encode()).fetchone() or ()) for _ in range(9)}


@pytest.mark.parametrize("mode", ["snapshot", "horizon", "lookback", "full"])
def test_an_extraction_through_a_pool_is_the_same_and_leaves_nothing_behind(postgres: Database, pooled: Database, mode: str) -> None:
    wanted = entity(mode, columns={"id": {"type": "integer"}, "version": {"type": "float"}})
    selection = Selection(wanted, "acme", wanted.columns)
    before = settings(pooled)
    read = []
    for place in (postgres, pooled):
        with source(place).snapshot([wanted]) as snapshot:
            snapshot.check(selection)
            snapshot.extent(wanted, "acme", None, snapshot.taken_at)
            assert sum(map(len, snapshot.digests(selection))) == snapshot.count(selection) == 20
            read.append(b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle())))
    assert read[0] == read[1]
    assert b"\n1,0.30000000000000004\n" in b"\n" + read[1]
    assert settings(pooled) == before
    with psycopg.connect(pooled.dsn, autocommit=True, prepare_threshold=None) as application:
        for number in range(100, 109):
            application.execute("INSERT INTO orders VALUES (%s, 'acme', 1, now())", [number])


def test_an_extraction_given_up_half_way_leaves_nothing_behind(pooled: Database) -> None:
    wanted = entity("lookback", columns={"id": {"type": "integer"}})
    before = settings(pooled)
    for _ in range(6):
        with source(pooled).snapshot([wanted]) as snapshot:
            next(iter(snapshot.csv(Selection(wanted, "acme", wanted.columns), FileStyle())))
    assert settings(pooled) == before


LEAVING: dict[str, Callable[[Snapshot, Selection], object]] = {
    "at once": lambda snapshot, selection: None,
    "after a count": lambda snapshot, selection: snapshot.count(selection),
    "half way": lambda snapshot, selection: next(iter(snapshot.csv(selection, FileStyle()))),
    "at an error": lambda snapshot, selection: snapshot.columns(entity("full", relation="", query="SELECT nothing")),
}


@pytest.mark.parametrize("leaving", LEAVING)
@pytest.mark.parametrize("kind", ["postgres", "dbapi"])
def test_a_pool_keeps_the_server_connection_that_was_read_over(postgres: Database, kind: str, leaving: str) -> None:
    """It closes those of clients that leave in the middle of a transaction, and opens another for the next client."""
    postgres.psql("CREATE TABLE orders AS SELECT i AS id, 'acme' AS tenant_id, now() AS updated_at FROM generate_series(1, 9) i")
    wanted = entity("lookback", columns={"id": {"type": "integer"}})
    with serve_pgbouncer(postgres, 1) as pool, psycopg.connect(pool.dsn, autocommit=True, prepare_threshold=None) as application:
        before = application.execute("SELECT pg_backend_pid()").fetchone()
        with contextlib.suppress(WaybillError), over(pool, kind).snapshot([wanted]) as snapshot:
            LEAVING[leaving](snapshot, Selection(wanted, "acme", wanted.columns))
        assert application.execute("SELECT pg_backend_pid()").fetchone() == before


def test_a_pool_of_statements_is_refused_with_what_it_says(postgres: Database, tmp_path: Path) -> None:
    """Trying again cannot help: neither a source, nor the ledger, nor a consumer's database."""
    said = "statement pooling mode"
    sender = Sender(tmp_path / "in")
    sender.deliver([("1", "Ada")], kind="full")
    with serve_pgbouncer(postgres, 1, mode="statement") as pool:
        with_psycopg2 = DbApi(DbApiSource(kind="dbapi", connection="x"), lambda _: psycopg2.connect(pool.dsn))
        for place in (over(pool, "postgres"), over(pool, "dbapi"), with_psycopg2):
            with pytest.raises(PermanentError, match=said) as caught, place.snapshot([entity("lookback")]):
                raise AssertionError("it was opened")
            assert caught.value.code == "source_refused"
        with pytest.raises(PermanentError, match=said) as refused, closing(Ledger(pool.url)) as ledger:
            ledger.upgrade()
        assert refused.value.code == "ledger_refused"
        told = consumer("load", tmp_path / "in", "--to", pool.url.replace("+psycopg", ""))
        assert (told.code, said in told.err, "Set pool_mode to" in told.err) == (1, True, True), told.err


def test_a_server_that_is_gone_is_not_called_a_pool_of_statements(postgres: Database) -> None:
    with serve_pgbouncer(postgres, 1) as pool:
        connection = psycopg2.connect(pool.dsn)
    with pytest.raises(TransientError) as caught, DbApi(DbApiSource(kind="dbapi", connection="x"), lambda _: connection).snapshot([]):
        raise AssertionError("it was opened")
    assert caught.value.code == "source_unreachable"


@pytest.mark.parametrize("reset", ["", "DISCARD ALL"])
@pytest.mark.parametrize("mode", ["session", "transaction"])
@pytest.mark.parametrize("kind", ["postgres", "dbapi"])
def test_a_pool_of_one_is_read_over_whatever_it_resets(postgres: Database, kind: str, mode: str, reset: str) -> None:
    postgres.psql("CREATE TABLE orders AS SELECT i AS id, 'acme' AS tenant_id, now() AS updated_at FROM generate_series(1, 9) i")
    wanted = entity("lookback", columns={"id": {"type": "integer"}})
    with serve_pgbouncer(postgres, 1, mode=mode, reset=reset) as pool:
        for _ in range(3):
            with over(pool, kind).snapshot([wanted]) as snapshot:
                assert snapshot.count(Selection(wanted, "acme", wanted.columns)) == 9


def test_a_session_that_the_server_ended_while_it_was_idle_is_replaced(postgres: Database) -> None:
    wanted, ended = entity("lookback"), 0
    postgres.psql("CREATE TABLE orders AS SELECT 1 AS id, 'acme' AS tenant_id, 1 AS version, now() AS updated_at")
    idle = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with psycopg.connect(postgres.dsn, autocommit=True) as other, reuse.kept():
        for _ in range(3):
            with source(postgres).snapshot([wanted]) as snapshot:
                assert snapshot.count(Selection(wanted, "acme", wanted.columns)) == 1
            ended += len(other.execute(idle).fetchall())
    assert ended == 3


def over(pool: Database, kind: str) -> Source:
    spec = DbApiSource(kind="dbapi", connection="pg")
    return source(pool) if kind == "postgres" else DbApi(spec, lambda _: psycopg.connect(pool.dsn, prepare_threshold=None))


def test_a_ledger_behind_a_pool_prepares_nothing_on_the_server(pooled: Database) -> None:
    ledgers = [Ledger(pooled.url) for _ in range(2)]
    ledgers[0].upgrade()
    for _ in range(12):  # psycopg prepares what it runs for the sixth time
        for ledger in ledgers:
            assert ledger.revision() == Ledger.head()
    for ledger in ledgers:
        ledger.close()
    with psycopg.connect(pooled.dsn, autocommit=True, prepare_threshold=None) as application:
        prepared = {application.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() for _ in range(9)}
        application.execute("CREATE TABLE theirs (id int)")
    assert prepared == {(0,)}


@pytest.mark.parametrize("left", ["CREATE TEMP TABLE orders (LIKE public.orders)", "SET search_path = other"])
@pytest.mark.parametrize("shape", [{}, {"relation": "", "query": "SELECT * FROM orders"}, {"relation": "shown"}])
@pytest.mark.parametrize("kind", ["postgres", "dbapi"])
def test_what_others_left_in_a_pooled_session_is_not_read(
    postgres: Database, pooled: Database, left: str, shape: dict[str, str], kind: str
) -> None:
    """Not their temporary tables, nor the tables of another schema that they looked names up in."""
    postgres.psql("CREATE VIEW shown AS TABLE orders; CREATE SCHEMA other; CREATE TABLE other.orders (LIKE orders)")
    postgres.psql("CREATE VIEW other.shown AS TABLE other.orders")
    with psycopg.connect(pooled.dsn, autocommit=True, prepare_threshold=None) as application:
        for _ in range(9):
            with contextlib.suppress(psycopg.errors.DuplicateTable):
                application.execute(left.encode())
    wanted = entity("lookback", columns={"id": {"type": "integer"}}, **shape)
    for _ in range(3):
        with over(pooled, kind).snapshot([wanted]) as snapshot:
            assert snapshot.count(Selection(wanted, "acme", wanted.columns)) == 20


SHOWS = "CREATE ROLE {{0}}; CREATE VIEW told AS SELECT id, tenant_id, updated_at, ({}) AS version FROM orders"
GRANTED = "; GRANT SELECT ON told TO {0}"
LEFT: dict[str, tuple[str, str]] = {
    "what a policy asks for": (SHOWS.format("id") + " WHERE tenant_id = current_setting('app.tenant')", "app.tenant = 'globex'"),
    "whether NULL is a word in a list": (SHOWS.format("('{{NULL,' || id || '}}')::text[]::text"), "array_nulls = off"),
    "what counts as XML": (SHOWS.format("('<a/>' || id)::xml::text"), "xmloption = document"),
    "the language of words": (SHOWS.format("to_tsvector('rates ' || id)::text"), "default_text_search_config = 'simple'"),
    "who reads": (SHOWS.format("current_user::text") + GRANTED, "ROLE {0}"),
    "whose session it is": (SHOWS.format("session_user::text") + GRANTED, "SESSION AUTHORIZATION {0}"),
}


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("kind", ["postgres", "dbapi"])
def test_nothing_that_others_set_in_a_pooled_session_changes_a_row(postgres: Database, left: str, kind: str) -> None:
    postgres.psql("CREATE TABLE orders AS SELECT i AS id, 'acme' AS tenant_id, now() AS updated_at FROM generate_series(1, 9) i")
    made, setting = (text.replace("{0}", f"other_{postgres.name}") for text in LEFT[left])
    postgres.psql(made)
    postgres.psql(f"ALTER DATABASE {postgres.name} SET app.tenant = 'acme'")
    wanted = entity("lookback", relation="told", columns={"id": {"type": "integer"}, "version": {"type": "string"}})
    shown = f"SHOW {setting.split(' = ')[0].removesuffix(f' other_{postgres.name}')}".encode()

    def read(place: Database) -> bytes:
        with over(place, kind).snapshot([wanted]) as snapshot:
            return b"".join(bytes(block) for block, _ in snapshot.csv(Selection(wanted, "acme", wanted.columns), FileStyle()))

    with serve_pgbouncer(postgres, 1) as pool, psycopg.connect(pool.dsn, autocommit=True, prepare_threshold=None) as application:
        application.execute(f"SET {setting}".encode())
        as_left = application.execute(shown).fetchone()
        assert read(pool) == read(postgres)
        assert read(pool).count(b"\n") == 9
        assert application.execute(shown).fetchone() == as_left
