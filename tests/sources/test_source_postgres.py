"""The postgres source on a real server: no change mode loses or repeats a version, and what it must refuse it refuses with advice."""

from __future__ import annotations

import csv
import io
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.servers.postgres import Database
from tests.servers.process import free_port
from waybill.configuration.catalog import Entity, PostgresSource
from waybill.configuration.selection import ChangeSpan, FileStyle, Selection
from waybill.connection import Connection
from waybill.deliveries.extraction.columns import as_json
from waybill.deliveries.extraction.row_versions import to_remember, unrepeated
from waybill.errors import PermanentError, TransientError
from waybill.ledger import streams
from waybill.sources import reuse
from waybill.sources.postgres import extent as postgres_extent
from waybill.sources.postgres.session import Facts
from waybill.sources.postgres.source import Postgres
from waybill.sources.postgres.structure import look_into_postgres

MIGRATION = Path(__file__).parents[2] / "examples" / "postgres_snapshot_mode.sql"
FAR = timedelta(days=1)
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def entity(mode: str, column: str = "", **more: Any) -> Entity:
    body = {
        "id": "orders",
        "source": "pg",
        "relation": "orders",
        "tenant_column": "tenant_id",
        "key": "id",
        "changes": {"mode": mode, "column": column or {"snapshot": "waybill_xid", "full": ""}.get(mode, "updated_at"), "lookback": "1h"},
        "columns": {"id": {"type": "integer"}, "version": {"type": "integer"}},
    }
    return Entity.model_validate(body | more)


def source(database: Database, **changes: Any) -> Postgres:
    target = Connection("pg", "postgres", database.host, database.port, database.user, database.name)
    return Postgres(PostgresSource(kind="postgres", connection="pg"), lambda _: replace(target, **changes))


@pytest.fixture
def orders(postgres: Database) -> Database:
    """A table prepared for snapshot mode by the shipped migration, run twice to show that it may be."""
    postgres.psql(
        """CREATE TABLE orders (id int PRIMARY KEY, tenant_id text NOT NULL, version int NOT NULL DEFAULT 1,
           updated_at timestamptz NOT NULL DEFAULT now(), deleted_at timestamptz);
           INSERT INTO orders SELECT i, CASE WHEN i % 2 = 0 THEN 'acme' ELSE 'globex' END FROM generate_series(1, 10) i"""
    )
    for _ in range(2):
        argv = ["psql", "-X", "-q", "-d", postgres.dsn, "-v", "table=orders", "-v", "tenant=tenant_id", "-f", str(MIGRATION)]
        subprocess.run(argv, check=True, capture_output=True, timeout=120)
    return postgres


@dataclass
class Stream:
    """A consumer that keeps a position between deliveries, as the delivery protocol does."""

    entity: Entity
    position: Any = None
    delivered: Counter[tuple[str, ...]] = field(default_factory=Counter)
    known: set[bytes] = field(default_factory=set)
    shorts: list[str] = field(default_factory=list)
    lost: str = ""

    def __post_init__(self) -> None:
        columns = as_json(self.entity.columns, {}, {})
        self.kept = streams.Stream(1, "acme", "orders", 1, True, "", 0, None, None, None, 1, columns, None, False, NOW, None)

    def deliver(self, origin: Postgres, end: datetime | None = None) -> int:
        with origin.snapshot() as snapshot:
            extent = snapshot.extent(self.entity, "acme", self.position, end or snapshot.taken_at)
            changed = ChangeSpan() if extent.changed.start is None else extent.changed
            selection = Selection(self.entity, "acme", self.entity.columns, changed)
            selection, _ = unrepeated(self.kept, snapshot, selection, lambda: self.known)
            blocks = [bytes(block) for block, _ in snapshot.csv(selection, FileStyle())]
            remembered = to_remember(self.kept, snapshot, selection, extent, lambda: self.known)
        self.known = {blob[at : at + 16] for blob in remembered.blobs for at in range(0, len(blob), 16)}
        self.kept = replace(self.kept, position=remembered.position(), digests_from=remembered.digests_from)
        rows = list(csv.reader(io.StringIO(b"".join(blocks).decode())))
        self.delivered.update(map(tuple, rows))
        self.position, self.lost = extent.position, extent.lost
        self.shorts.append(extent.short)
        return len(rows)


MODES = ["snapshot", "horizon", "lookback"]


def _write(database: Database, number: int, enough: threading.Event) -> None:
    """Hold transactions open while writing inside and outside of savepoints; some roll back."""
    dice = random.Random(number)
    own: list[int] = []
    with closing(psycopg.connect(database.dsn, autocommit=True)) as connection:
        while not enough.is_set():
            connection.execute("BEGIN")
            fresh = 1_000_000 * number + len(own) + dice.randrange(10) * 100_000
            connection.execute("INSERT INTO orders (id, tenant_id) VALUES (%s, 'acme') ON CONFLICT DO NOTHING", [fresh])
            connection.execute("SAVEPOINT inner_one")
            if own:
                connection.execute("UPDATE orders SET version = version + 1, updated_at = now() WHERE id = %s", [dice.choice(own)])
            if dice.random() < 0.2:
                connection.execute("ROLLBACK TO SAVEPOINT inner_one")
            time.sleep(dice.random() * 0.4)
            if dice.random() < 0.1:
                connection.execute("ROLLBACK")
            else:
                connection.execute("COMMIT")
                own.append(fresh)


def test_twelve_writers_with_open_transactions_lose_and_repeat_no_version_in_any_mode(orders: Database) -> None:
    streams = {mode: Stream(entity(mode)) for mode in MODES}
    enough = threading.Event()
    writers = [threading.Thread(target=_write, args=(orders, number, enough)) for number in range(1, 13)]
    for writer in writers:
        writer.start()
    deadline = time.monotonic() + 300
    while len(streams["lookback"].delivered) < 400:
        assert time.monotonic() < deadline
        for stream in streams.values():
            stream.deliver(source(orders))
        time.sleep(0.05)
    enough.set()
    for writer in writers:
        writer.join()
    time.sleep(1.1)  # what began within the last second counts as unsettled
    for stream in streams.values():
        stream.deliver(source(orders))
    final = {(str(row[0]), str(row[1])) for row in _query(orders, "SELECT id, version FROM orders WHERE tenant_id = 'acme'")}
    assert len(final) > 100
    for mode, stream in streams.items():
        assert final - stream.delivered.keys() == set(), f"{mode} lost versions"
        assert [version for version, times in stream.delivered.items() if times > 1] == [], f"{mode} repeated versions"
        assert stream.lost == ""


def _query(database: Database, text: str) -> list[Any]:
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        return connection.execute(text).fetchall()  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("mode", MODES)
def test_what_is_not_committed_at_one_delivery_comes_with_the_next(orders: Database, mode: str) -> None:
    stream = Stream(entity(mode))
    time.sleep(1.1 if mode == "horizon" else 0)
    with psycopg.connect(orders.dsn) as connection:
        connection.execute("UPDATE orders SET version = 2, updated_at = now() WHERE id = 2")
        assert stream.deliver(source(orders)) == 5
        assert stream.deliver(source(orders)) == 0
    time.sleep(1.1 if mode == "horizon" else 0)
    assert stream.deliver(source(orders)) == 1
    assert stream.delivered[("2", "2")] == 1


def test_an_idle_transaction_holds_the_horizon_back_and_is_named(orders: Database) -> None:
    with psycopg.connect(orders.dsn) as connection:
        connection.execute("SELECT 1")
        time.sleep(1.1)
        end = datetime.now(UTC) + timedelta(milliseconds=1)
        with source(orders).snapshot() as snapshot:
            extent = snapshot.extent(entity("horizon"), "acme", None, end)
    assert extent.end < end
    assert "a transaction open since" in extent.short


def test_an_open_prepared_transaction_holds_at_the_watermark(orders: Database) -> None:
    watermark = datetime.now(UTC)
    orders.psql("BEGIN; INSERT INTO orders (id, tenant_id) VALUES (99, 'acme'); PREPARE TRANSACTION 'open one'")
    try:
        with source(orders).snapshot() as snapshot:
            extent = snapshot.extent(entity("horizon"), "acme", watermark.isoformat(), watermark + FAR)
            with pytest.raises(TransientError, match="prepared transactions"):
                snapshot.extent(entity("horizon"), "acme", None, watermark)
    finally:
        orders.psql("ROLLBACK PREPARED 'open one'")
    assert extent.end == watermark
    assert "pg_prepared_xacts" in extent.short


def test_a_session_that_hides_its_transactions_holds_at_the_watermark(orders: Database) -> None:
    """What it wrote by then has a time before the end of the next delivery, and would come with none."""
    watermark = datetime.now(UTC)
    with psycopg.connect(orders.dsn) as connection:
        connection.execute("SET track_activities = off")
        connection.execute("INSERT INTO orders (id, tenant_id) VALUES (99, 'acme')")
        with source(orders).snapshot() as snapshot:
            extent = snapshot.extent(entity("horizon"), "acme", watermark.isoformat(), watermark + FAR)
            with pytest.raises(TransientError, match="1 session with track_activities off"):
                snapshot.extent(entity("horizon"), "acme", None, watermark)
            assert snapshot.extent(entity("lookback"), "acme", None, watermark).end == watermark
    assert extent.end == watermark
    assert "track_activities" in extent.short


def test_what_holds_a_delivery_back_is_told_apart_from_remarks(orders: Database) -> None:
    orders.psql(
        "CREATE FUNCTION put_together() RETURNS bigint LANGUAGE plpgsql AS"
        " $$ DECLARE n bigint; BEGIN EXECUTE 'SELECT 1' INTO n; RETURN n; END $$;"
        "CREATE VIEW computed AS SELECT *, put_together() AS n FROM orders;"
        "BEGIN; INSERT INTO orders (id, tenant_id) VALUES (99, 'acme'); PREPARE TRANSACTION 'open one'"
    )
    wanted = entity("lookback").model_copy(update={"relation": "computed"})
    try:
        with source(orders).snapshot([wanted]) as snapshot:
            extent = snapshot.extent(wanted, "acme", None, datetime.now(UTC) + FAR)
    finally:
        orders.psql("ROLLBACK PREPARED 'open one'")
    assert ("put_together" in extent.short, "put_together" in extent.remarks) == (False, True)


def test_snapshot_mode_delivers_a_prepared_transaction_once_it_is_committed(orders: Database) -> None:
    stream = Stream(entity("snapshot"))
    orders.psql("BEGIN; INSERT INTO orders (id, tenant_id) VALUES (99, 'acme'); PREPARE TRANSACTION 'later'")
    assert stream.deliver(source(orders)) == 5
    orders.psql("COMMIT PREPARED 'later'")
    assert stream.deliver(source(orders)) == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"system": "1"}, "another cluster"),
        ({"timeline": "00000009"}, "failover or a restore"),
        ({"snapshot": "1:99999999:"}, "went back"),
    ],
    ids=["system", "timeline", "xmax"],
)
def test_a_failover_loses_the_position_and_says_so(orders: Database, change: dict[str, str], sentence: str) -> None:
    stream = Stream(entity("snapshot"))
    stream.deliver(source(orders))
    stream.position |= change
    assert stream.deliver(source(orders)) == 5
    assert sentence in stream.lost


@pytest.mark.parametrize("mode", ["snapshot", "horizon"])
def test_a_standby_is_refused(mode: str) -> None:
    facts = Facts(NOW, None, standby=True, reads_all_stats=True, prepared=0, system="", timeline="")
    with pytest.raises(PermanentError, match="primary, or use lookback"):
        postgres_extent.extent(entity(mode), None, NOW, NOW, facts, {"waybill_xid": "xid8"}, "", lambda: None)


def test_a_rounding_change_column_moves_the_horizon_by_its_grain() -> None:
    facts = Facts(NOW, None, standby=False, reads_all_stats=True, prepared=0, system="", timeline="")
    natives = {"updated_at": "timestamp(0) with time zone"}
    extent = postgres_extent.extent(entity("horizon"), None, NOW + FAR, NOW + FAR, facts, natives, "1:1:", lambda: None)
    assert extent.end == NOW - timedelta(seconds=1)


def test_horizon_without_the_right_to_see_other_sessions_is_refused(orders: Database) -> None:
    with (
        Role(orders, "GRANT SELECT ON orders TO {}") as role,
        source(orders, login=role).snapshot() as snapshot,
        pytest.raises(PermanentError, match="pg_read_all_stats"),
    ):
        snapshot.extent(entity("horizon"), "acme", None, NOW)


class Role:
    """A login for the length of a block, with these rights and no others."""

    def __init__(self, database: Database, grants: str) -> None:
        self.database, self.name = database, f"reader_{database.name}"
        database.psql(f"CREATE ROLE {self.name} LOGIN; " + grants.format(self.name))

    def __enter__(self) -> str:
        return self.name

    def __exit__(self, *_: object) -> None:
        self.database.psql(f"DROP OWNED BY {self.name} CASCADE; DROP ROLE {self.name}")


def test_a_read_only_role_is_enough(orders: Database) -> None:
    with Role(orders, "GRANT SELECT ON orders TO {0}; GRANT pg_read_all_stats TO {0}") as role:
        origin = source(orders, login=role)
        time.sleep(1.1)
        for mode in [*MODES, "full"]:
            assert Stream(entity(mode)).deliver(origin) == 5


def test_a_role_that_may_not_ask_for_the_server_s_log_is_enough(orders: Database) -> None:
    functions = "pg_control_system(), pg_current_wal_lsn(), pg_current_wal_insert_lsn(), pg_current_wal_flush_lsn()"
    grants = f"GRANT SELECT ON orders TO {{0}}; REVOKE EXECUTE ON FUNCTION {functions} FROM PUBLIC"
    with Role(orders, grants) as role:
        for mode in ("lookback", "full"):
            assert Stream(entity(mode)).deliver(source(orders, login=role)) == 5


def test_a_policy_that_shows_rows_as_time_passes_is_told(orders: Database) -> None:
    policy = "ALTER TABLE orders ENABLE ROW LEVEL SECURITY; CREATE POLICY due ON orders USING (updated_at <= now())"
    with Role(orders, f"GRANT SELECT ON orders TO {{0}}; {policy}") as role:
        for login, told in ((role, True), (orders.user, False)):
            with source(orders, login=login).snapshot([entity("lookback")]) as snapshot:
                remarks = snapshot.extent(entity("lookback"), "acme", None, NOW).remarks
            assert ("orders take the time, chance or a setting into account" in remarks) is told


def test_append_by_id_holds_nothing_back_and_brings_the_ids_that_were_committed_late(orders: Database) -> None:
    stream = Stream(entity("append", changes={"mode": "append", "column": "id", "lag": 4}))
    assert stream.deliver(source(orders)) == 5  # ids 2 to 10
    with psycopg.connect(orders.dsn) as late:
        late.execute("INSERT INTO orders (id, tenant_id) VALUES (12, 'acme')")
        orders.psql("INSERT INTO orders (id, tenant_id) VALUES (13, 'acme'), (15, 'acme')")
        assert stream.deliver(source(orders)) == 2
    assert stream.deliver(source(orders)) == 1
    assert stream.deliver(source(orders)) == 0
    assert (stream.position, set(stream.delivered.values())) == (16, {1})


def test_ids_that_went_back_are_said(orders: Database) -> None:
    stream = Stream(entity("append", changes={"mode": "append", "column": "id"}))
    stream.deliver(source(orders))
    orders.psql("DELETE FROM orders WHERE id > 6")
    assert stream.deliver(source(orders)) == 0
    assert "the highest id is 6 and was 10 before" in stream.shorts[-1]


def test_a_change_column_of_numbers_is_refused_and_the_error_says_how_times_are_made_of_them(orders: Database) -> None:
    stream = Stream(entity("lookback", changes={"mode": "lookback", "column": "id"}))
    with pytest.raises(PermanentError, match=r"If its numbers stand for times, make times of them in a view, or in entities\.\w+\.query"):
        stream.deliver(source(orders))


DRIFTS: dict[str, tuple[str, Callable[[Entity], Entity], str, str]] = {
    "dropped": ("ALTER TABLE orders DROP version", lambda e: e, "schema_drift", "column version is missing"),
    "renamed": (
        "ALTER TABLE orders RENAME version TO versions",
        lambda e: e,
        "schema_drift",
        "versions is new there: if version was renamed, write `from: versions` at version, so that consumers keep its values, in entities",
    ),
    "renamed beyond": ("ALTER TABLE orders RENAME version TO edition", lambda e: e, "schema_drift", "`from: NEW_NAME` at version"),
    "renamed, not delivered": (
        "ALTER TABLE orders RENAME updated_at TO updated",
        lambda e: e.model_copy(update={"columns": {name: of for name, of in e.columns.items() if name != "updated_at"}}),
        "schema_drift",
        "if updated_at was renamed, name the new one in entities",
    ),
    "retyped": ("ALTER TABLE orders ALTER version TYPE text", lambda e: e, "schema_drift", "version of orders is text"),
    "null change": (
        "ALTER TABLE orders ALTER updated_at DROP NOT NULL; UPDATE orders SET updated_at = NULL WHERE id = 2",
        lambda e: e,
        "change_column_null",
        "1 row of the tenant has no updated_at",
    ),
    "key not unique": (
        "SELECT 1",
        lambda e: e.model_copy(update={"key": ("version",)}),
        "key_not_unique",
        r"key \(version\) is not unique",
    ),
    "no relation": ("SELECT 1", lambda e: e.model_copy(update={"relation": "nowhere.orders"}), "relation_missing", "there is no relation"),
}


@pytest.mark.parametrize("name", DRIFTS)
def test_drift_stops_the_stream_before_anything_is_read(orders: Database, name: str) -> None:
    ddl, changed, code, sentence = DRIFTS[name]
    orders.psql(ddl)
    shape = changed(entity("lookback"))
    with source(orders).snapshot() as snapshot, pytest.raises(PermanentError, match=sentence) as caught:
        snapshot.check(Selection(shape, "acme", shape.columns))
    assert caught.value.code == code


def test_a_key_of_another_tenant_may_repeat_ours(orders: Database) -> None:
    orders.psql("ALTER TABLE orders DROP CONSTRAINT orders_pkey; INSERT INTO orders (id, tenant_id) VALUES (2, 'globex')")
    shape = entity("lookback")
    with source(orders).snapshot() as snapshot:
        snapshot.check(Selection(shape, "acme", shape.columns))


def test_a_new_source_column_is_no_drift(orders: Database) -> None:
    orders.psql("ALTER TABLE orders ADD password text")
    assert Stream(entity("full")).deliver(source(orders)) == 5


def test_a_value_that_does_not_fit_is_not_repeated_in_the_error(orders: Database) -> None:
    orders.psql("ALTER TABLE orders ADD code text; UPDATE orders SET code = 'planted row value'")
    shape = entity("full", columns={"code": {"type": "uuid"}})
    with source(orders).snapshot() as snapshot, pytest.raises(PermanentError) as caught:
        list(snapshot.csv(Selection(shape, "acme", shape.columns), FileStyle()))
    assert "planted" not in str(caught.value)
    assert caught.value.code == "schema_drift"


def test_a_query_that_takes_too_long_is_cut_with_advice(orders: Database) -> None:
    orders.psql("CREATE VIEW slow AS SELECT id, tenant_id, version, pg_sleep(2)::text AS updated FROM orders")
    shape = entity("full", relation="slow", columns={"updated": {"type": "string"}})
    target = Connection("pg", "postgres", orders.host, orders.port, orders.user, orders.name)
    hasty = Postgres(PostgresSource(kind="postgres", connection="pg", statement_timeout="1s"), lambda _: target)  # type: ignore[arg-type]
    with hasty.snapshot() as snapshot, pytest.raises(TransientError, match="statement_timeout"):
        list(snapshot.csv(Selection(shape, "acme", shape.columns), FileStyle()))


def test_a_lost_server_can_be_tried_again_and_an_unknown_role_cannot(orders: Database) -> None:
    with pytest.raises(TransientError), source(orders, port=free_port()).snapshot():
        pass
    with pytest.raises(PermanentError, match="Correct the Airflow connection"), source(orders, login="nobody").snapshot():
        pass


def test_what_libpq_knows_may_be_in_the_extra_of_a_connection(orders: Database) -> None:
    place = {"host": orders.host, "port": str(orders.port), "user": orders.user, "options": "-c search_path=public", "cursor": "ignored"}
    target = Connection("pg", "postgres", schema=orders.name, extra=place)
    with Postgres(PostgresSource(kind="postgres", connection="pg"), lambda _: target).snapshot() as snapshot:
        assert snapshot.taken_at.tzinfo is UTC
    demanding = replace(target, extra=place | {"sslmode": "require"})
    with (
        pytest.raises(PermanentError, match="Correct the Airflow connection"),
        Postgres(PostgresSource(kind="postgres", connection="pg"), lambda _: demanding).snapshot(),
    ):
        pass


def test_a_killed_session_can_be_tried_again(orders: Database) -> None:
    shape = entity("full")
    mine = "application_name = 'waybill' AND datname = current_database()"
    with source(orders).snapshot() as snapshot:
        orders.psql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}")
        with pytest.raises(TransientError):
            list(snapshot.csv(Selection(shape, "acme", shape.columns), FileStyle()))


def test_a_task_has_one_session_that_sees_new_rows_in_each_snapshot_and_is_replaced_when_it_breaks(orders: Database) -> None:
    shape = entity("full")
    everything = Selection(shape, "acme", shape.columns)

    def looked() -> tuple[int, int]:
        with source(orders).snapshot() as snapshot:
            return snapshot.connection.info.backend_pid, snapshot.count(everything)

    with reuse.kept():
        first, rows = looked()
        orders.psql("INSERT INTO orders (id, tenant_id) VALUES (100, 'acme')")
        assert looked() == (first, rows + 1)
        with source(orders).snapshot() as snapshot:
            blocks = snapshot.csv(everything, FileStyle())
            next(blocks)  # the rest is not read: whoever comes next has no use for what is left of it
            blocks.close()  # type: ignore[attr-defined]
        again, _ = looked()
        with source(orders).snapshot() as snapshot:
            orders.psql(f"SELECT pg_terminate_backend({again}, 60000)")
            with pytest.raises(TransientError):
                snapshot.count(everything)
        assert looked()[0] not in (first, again)
    assert looked()[0] != again


def test_every_method_sees_the_same_rows_though_others_write(orders: Database) -> None:
    shape = entity("full")
    selection = Selection(shape, "acme", shape.columns)
    with source(orders).snapshot() as snapshot:
        before = [bytes(block) for block, _ in snapshot.csv(selection, FileStyle())]
        orders.psql("DELETE FROM orders")
        assert [bytes(block) for block, _ in snapshot.csv(selection, FileStyle())] == before
        assert snapshot.count(selection) == 5


def test_a_session_cannot_write(orders: Database) -> None:
    with source(orders).snapshot() as snapshot, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        snapshot.connection.execute("DELETE FROM orders")


ODD_TIMES = ["infinity", "-infinity", "0044-03-15 12:00:00.5 BC", "10000-01-01 00:00:00"]


def test_times_no_rfc_3339_text_can_hold_are_not_lost(postgres: Database) -> None:
    postgres.psql("CREATE TABLE orders (id int PRIMARY KEY, tenant_id text, at timestamptz, day date)")
    for number, value in enumerate(ODD_TIMES):
        postgres.psql(f"INSERT INTO orders VALUES ({number}, 'acme', '{value}', '{value}'::timestamp::date)")
    shape = entity("full", columns={"at": {"type": "timestamp"}, "day": {"type": "date"}})
    with source(postgres).snapshot() as snapshot:
        data = b"".join(bytes(block) for block, _ in snapshot.csv(Selection(shape, "acme", shape.columns), FileStyle()))
    assert data.decode().splitlines() == [
        "infinity,infinity",
        "-infinity,-infinity",
        "0044-03-15T12:00:00.500000Z BC,0044-03-15 BC",
        "10000-01-01T00:00:00.000000Z,10000-01-01",
    ]


def test_a_tenant_never_matches_another_in_a_loose_collation(postgres: Database) -> None:
    postgres.psql(
        """CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
           CREATE TABLE orders (id int, tenant_id text COLLATE folded); INSERT INTO orders VALUES (1, 'acme'), (2, 'ACME')"""
    )
    shape = entity("full", columns={"id": {"type": "integer"}})
    with source(postgres).snapshot() as snapshot:
        assert snapshot.count(Selection(shape, "acme", shape.columns)) == 1


def test_an_integer_tenant_column_matches_only_the_same_spelling(postgres: Database) -> None:
    postgres.psql("CREATE TABLE orders (id int, tenant_id int); INSERT INTO orders VALUES (1, 42)")
    shape = entity("full", columns={"id": {"type": "integer"}})
    with source(postgres).snapshot() as snapshot:
        assert [snapshot.count(Selection(shape, tenant, shape.columns)) for tenant in ("42", "042", "acme")] == [1, 0, 0]


def test_a_table_of_more_columns_than_a_function_takes_arguments_has_digests(postgres: Database) -> None:
    names = [f"c{number}" for number in range(150)]
    postgres.psql(f"CREATE TABLE orders (id int, tenant_id text, {', '.join(f'{name} text' for name in names)})")
    postgres.psql("INSERT INTO orders (id, tenant_id, c7) VALUES (1, 'acme', 'x')")
    shape = entity("full", columns={name: {"type": "string"} for name in names})
    with source(postgres).snapshot() as snapshot:
        assert len([digest for batch in snapshot.digests(Selection(shape, "acme", shape.columns)) for digest in batch]) == 1


def test_a_domain_over_a_domain_is_read_as_the_type_below_it(postgres: Database) -> None:
    postgres.psql(
        "CREATE DOMAIN amount AS numeric(9, 2); CREATE DOMAIN price AS amount; CREATE DOMAIN net_price AS price CHECK (VALUE >= 0)"
    )
    postgres.psql("CREATE TABLE orders (id bigint PRIMARY KEY, tenant_id text, price net_price, prices price[])")
    postgres.psql("INSERT INTO orders VALUES (1, 'acme', 1.5, '{2.5}')")
    asked = entity("full", columns={"id": {"type": "integer"}, "price": {"type": "decimal"}, "prices": {"type": "json"}})
    selection = Selection(asked, "acme", asked.columns)
    with source(postgres).snapshot() as snapshot:
        snapshot.check(selection)
        assert b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle())).endswith(b"1,1.50,[2.50]\n")
    with look_into_postgres(PostgresSource(kind="postgres", connection="pg"), source(postgres).connections) as structure:
        natives = {column.name: column.native for column in structure.tables("")[0].columns}
    assert natives["price"] == "numeric(9,2)"
