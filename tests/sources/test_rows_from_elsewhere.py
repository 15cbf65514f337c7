"""Rows that get into a PostgreSQL relation otherwise than by a transaction that stamps them there: none is lost without a word."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import psycopg2
import pytest
from sqlalchemy import update

from tests.copies import Copy
from tests.faults.proxy import proxied
from tests.installations import DAY, NOON, Place
from tests.servers.postgres import Cluster, Database, serve_postgres
from tests.servers.process import program
from tests.sources.test_replaced_tables import _wait_until_somebody_waits
from tests.sources.test_source_postgres import MIGRATION, Role, Stream, entity, source
from waybill.configuration.catalog import DbApiSource
from waybill.connection import Connection
from waybill.errors import PermanentError, WaybillError
from waybill.ledger.tables import stream
from waybill.sources.dbapi.source import DbApi

TABLE = """create table {} (id bigint not null, tenant_id text not null, version int not null default 1,
    updated_at timestamptz not null default now(){})"""
BEFORE = "2026-05-30 10:00Z"
ROWS = f"insert into {{}} select i, 'acme', 1, '{BEFORE}' from generate_series({{}}, {{}}) i"
CHANGES = {
    "snapshot": {"mode": "snapshot", "column": "waybill_xid"},
    "horizon": {"mode": "horizon", "column": "updated_at"},
    "lookback": {"mode": "lookback", "column": "updated_at", "lookback": "1h"},
}


@pytest.fixture(scope="module")
def logical() -> Iterator[Cluster]:
    with serve_postgres(extra_config="wal_level = logical\nlog_min_messages = fatal") as cluster:
        yield cluster


def stamp(database: Database, table: str = "orders") -> None:
    argv = [program("psql"), "-X", "-q", "-d", database.dsn, "-v", f"table={table}", "-f", str(MIGRATION)]
    subprocess.run(argv, check=True, capture_output=True, timeout=120)


def make(database: Database, table: str = "orders", more: str = ", primary key (id)") -> None:
    database.psql(TABLE.format(table, more) if more.startswith(",") else TABLE.format(table, "") + more)
    stamp(database, table)


def place_for(root: Path, database: Database, mode: str, **more: Any) -> Place:
    place = Place(root, connections={"pg": Connection("pg", "postgres", database.host, database.port, database.user, database.name)})
    columns = {"id": {"type": "integer"}, "version": {"type": "integer"}}
    plain = {"source": "pg", "relation": "orders", "tenant_column": "tenant_id", "key": ["id"], "deletes": "never", "columns": columns}
    entities = {"user": {**plain, "changes": CHANGES[mode], **more}}
    place.write("catalog.yaml", {"sources": {"pg": {"kind": "postgres", "connection": "pg"}}, "entities": entities})
    place.tenant(entityList=["user"])
    return place


def deliver(place: Place, until: datetime) -> list[WaybillError]:
    return [result.error for result in place.run(until) if result.error]


def differing(place: Place, database: Database, relation: str = "orders") -> set[tuple[str, str]]:
    with psycopg.connect(database.dsn) as connection:
        found = connection.execute(f"select id, version from {relation} where tenant_id = 'acme'".encode()).fetchall()
    copy = Copy().catch_up(place.out / "exports/acme", "user")
    return {(str(key), str(version)) for key, version in found} ^ {(row["id"], row["version"]) for row in copy.rows.values()}


@pytest.fixture
def around(tmp_path: Path, postgres: Database) -> Iterator[Callable[..., tuple[set[tuple[str, str]], list[str]]]]:
    """Delivers, lets something happen, delivers again: what the copy then holds otherwise than the relation, and each delivery's kind."""
    places = []

    def run(mode: str, happens: str, **more: Any) -> tuple[set[tuple[str, str]], list[str]]:
        place = place_for(tmp_path, postgres, mode, **more)
        places.append(place)
        assert deliver(place, NOON) == []
        postgres.psql(happens)
        assert deliver(place, NOON + DAY) == []
        return differing(place, postgres, more.get("relation", "orders")), [manifest["kind"] for _, manifest in place.manifests()]

    yield run
    for place in places:
        place.close()


@pytest.mark.parametrize("mode", CHANGES)
def test_a_partition_attached_with_rows_it_already_had_is_delivered(around, postgres, mode):
    make(postgres, more=" partition by range (id); create table low partition of orders for values from (0) to (100)")
    postgres.psql(f"create table high (like orders including all); {ROWS.format('high', 101, 105)}; {ROWS.format('orders', 1, 5)}")
    happens = "alter table orders attach partition high for values from (100) to (200)"
    assert around(mode, happens) == (set(), ["full", "full"])


SWAPS = {
    "swapped": "alter table orders detach partition low; alter table orders attach partition high for values from (0) to (100)",
    "attached": "lock table orders; alter table orders attach partition high for values from (100) to (200)",
    "detached": "alter table orders detach partition low",
}


@pytest.mark.parametrize("swap", SWAPS)
@pytest.mark.parametrize("mode", ["snapshot", "lookback"])
def test_partitions_that_change_while_a_run_waits_leave_the_copy_right(tmp_path: Path, postgres: Database, mode: str, swap: str) -> None:
    make(postgres, more=" partition by range (id); create table low partition of orders for values from (0) to (100)")
    first = 6 if swap == "swapped" else 101
    postgres.psql(f"create table high (like orders including all); {ROWS.format('high', first, first + 4)}; {ROWS.format('orders', 1, 5)}")
    with closing(place_for(tmp_path, postgres, mode, deletes="compare")) as place:
        assert deliver(place, NOON) == []
        with psycopg.connect(postgres.dsn) as writer:
            for statement in SWAPS[swap].split("; "):
                writer.execute(statement.encode())
            run = threading.Thread(target=deliver, args=(place, NOON + DAY))
            run.start()
            _wait_until_somebody_waits(postgres, run)
            writer.commit()
        run.join(120)
        assert differing(place, postgres) == set()
        assert deliver(place, NOON + 2 * DAY) == []
        assert differing(place, postgres) == set()


@pytest.mark.parametrize("mode", CHANGES)
def test_a_partition_made_for_new_rows_starts_nothing_over(around, postgres, mode):
    make(postgres, more=" partition by range (id); create table low partition of orders for values from (0) to (100)")
    postgres.psql(ROWS.format("orders", 1, 5))
    fresh = ROWS.format("orders", 101, 105).replace(BEFORE, "2026-05-31 10:00Z")
    happens = f"create table high partition of orders for values from (100) to (200); {fresh}"
    assert around(mode, happens) == (set(), ["full", "delta"])


@pytest.mark.parametrize("relation", ["orders", "shown"])
@pytest.mark.parametrize("mode", ["snapshot", "horizon"])
def test_a_table_swapped_in_with_what_its_copy_held_is_delivered(around, postgres, mode, relation):
    make(postgres)
    postgres.psql(f"{ROWS.format('orders', 1, 5)}; create table new (like orders including all); insert into new table orders")
    postgres.psql(f"update new set version = 2 where id = 1; create view shown as table {'orders' if relation == 'shown' else 'new'}")
    swap = "alter table orders rename to old; alter table new rename to orders"
    assert around(mode, swap + "; create or replace view shown as table orders", relation=relation) == (set(), ["full", "full"])


def test_a_table_rewritten_in_place_starts_nothing_over(around, postgres):
    make(postgres)
    postgres.psql(ROWS.format("orders", 1, 5))
    happens = f"vacuum full orders; {ROWS.format('orders', 6, 9)}"
    assert around("snapshot", happens) == (set(), ["full", "delta"])


def refused(place: Place) -> WaybillError:
    with closing(place):
        [error] = deliver(place, NOON)
    assert isinstance(error, PermanentError)
    return error


@pytest.mark.parametrize("mode", ["snapshot", "horizon"])
@pytest.mark.parametrize("relation", ["kept", "shown"])
def test_rows_of_a_materialized_view_are_not_told_by_their_transactions(tmp_path, postgres, mode, relation):
    make(postgres)
    postgres.psql("create materialized view kept as table orders; create view shown as table kept")
    error = refused(place_for(tmp_path, postgres, mode, relation=relation))
    assert (error.code, "public.kept is a materialized view" in str(error)) == ("mode_unsupported", True)


@pytest.mark.parametrize("mode", ["snapshot", "horizon"])
def test_rows_of_a_foreign_table_are_not_told_by_their_transactions(tmp_path, postgres_cluster, postgres, mode):
    make(postgres)
    with postgres_cluster.database() as other:
        other.psql(
            f"""create extension postgres_fdw;
            create server far foreign data wrapper postgres_fdw
                options (host '127.0.0.1', port '{postgres.port}', dbname '{postgres.name}');
            create user mapping for current_user server far options (user '{postgres.user}');
            import foreign schema public limit to (orders) from server far into public"""
        )
        error = refused(place_for(tmp_path, other, mode))
    assert (error.code, "public.orders is a foreign table" in str(error)) == ("mode_unsupported", True)


FAR = """create extension postgres_fdw;
    create server far foreign data wrapper postgres_fdw options (host '127.0.0.1', port '{port}', dbname '{name}');
    create user mapping for current_user server far options (user '{user}');"""
COLUMNS = "(id bigint, tenant_id text, version int, updated_at timestamptz)"
BESIDE = {
    "foreign table": (FAR + f"create foreign table shown {COLUMNS} server far options (table_name 'orders')", "public.shown"),
    "view": (
        FAR + f"create foreign table away {COLUMNS} server far options (table_name 'orders'); create view shown as select * from away",
        "public.away",
    ),
    "partition": (
        FAR
        + f"create table shown {COLUMNS} partition by list (tenant_id);"
        + "create foreign table away partition of shown for values in ('acme') server far options (table_name 'orders')",
        "public.away",
    ),
    "dblink": (
        "create extension dblink; create view shown as select * from"
        " dblink('host=127.0.0.1 port={port} dbname={name} user={user}', 'select id, tenant_id, version, updated_at from orders')"
        f" as t{COLUMNS}",
        "dblink(text,text)",
    ),
    "nothing": ("create view shown as select * from orders", ""),
}


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("kind", ["postgres", "psycopg2"])
def test_a_delta_of_rows_that_another_server_holds_is_told(postgres: Database, beside: str, kind: str) -> None:
    """That server may lag, its clock may be late, and what it shows may be a view that is defined otherwise: nothing tells here."""
    make(postgres)
    statements, told = BESIDE[beside]
    postgres.psql(statements.format(port=postgres.port, name=postgres.name, user=postgres.user))
    through = DbApi(DbApiSource(kind="dbapi", connection="pg"), lambda _: psycopg2.connect(postgres.dsn))
    for mode in ("lookback", "append", "full"):
        wanted = entity(mode, relation="shown", changes=CHANGES.get(mode, {"mode": mode} | ({"column": "id"} if mode == "append" else {})))
        with (source(postgres) if kind == "postgres" else through).snapshot([wanted]) as snapshot:
            remarks = snapshot.extent(wanted, "acme", None, snapshot.taken_at).remarks
        expected = f"rows come through {told} from another server or a file" if told and mode != "full" else ""
        assert expected in remarks
        assert bool(expected) is bool(remarks)


def test_a_delta_of_rows_that_a_subscription_brings_is_told(tmp_path, postgres, logical):
    with logical.database() as publisher:
        for item in (publisher, postgres):
            make(item)
        publisher.psql(f"create publication p for table orders; {ROWS.format('orders', 1, 5)}")
        postgres.psql(f"create subscription s connection '{publisher.dsn}' publication p")
        try:
            with source(postgres).snapshot([entity("lookback")]) as snapshot:
                remarks = snapshot.extent(entity("lookback"), "acme", None, snapshot.taken_at).remarks
            assert remarks.startswith("a subscription fills public.orders: ")
        finally:
            postgres.psql("alter subscription s disable; alter subscription s set (slot_name = none)")
            postgres.psql("drop subscription s")
            publisher.psql("select pg_drop_replication_slot('s')")


@pytest.mark.parametrize(("mode", "always"), [("snapshot", True), ("snapshot", False), ("horizon", True)])
def test_rows_of_a_subscription_tell_the_publishers_transactions(tmp_path, postgres, logical, mode, always):
    with logical.database() as publisher:
        for item in (publisher, postgres):
            make(item)
        if not always:
            postgres.psql("alter table orders enable trigger waybill_stamp")
        publisher.psql(f"create publication p for table orders; {ROWS.format('orders', 1, 5)}")
        postgres.psql(f"create subscription s connection '{publisher.dsn}' publication p")
        try:
            _wait(lambda: postgres.psql("select count(*) from orders").strip() == "5")
            if always and mode == "snapshot":
                place = place_for(tmp_path, postgres, mode)
                with closing(place):
                    assert deliver(place, NOON) == []
                    assert differing(place, postgres) == set()
            else:
                assert "public.orders is filled by a subscription" in str(refused(place_for(tmp_path, postgres, mode)))
        finally:
            postgres.psql("alter subscription s disable; alter subscription s set (slot_name = none)")
            postgres.psql("drop subscription s")
            publisher.psql("select pg_drop_replication_slot('s')")


def test_a_stamping_trigger_that_is_switched_off_stops_the_stream(tmp_path, postgres):
    make(postgres)
    postgres.psql("alter table orders disable trigger waybill_stamp")
    error = refused(place_for(tmp_path, postgres, "snapshot"))
    assert (error.code, "waybill_xid on public.orders is switched off" in str(error)) == ("change_column_unkept", True)


UNSTAMPED = "update orders set version = version + 1 where id = 2;"
AGAIN = "create trigger waybill_stamp before insert or update on orders for each row execute function waybill_stamp()"
GAPS = {
    "switched off and on": f"alter table orders disable trigger waybill_stamp; {UNSTAMPED}alter table orders enable trigger waybill_stamp;",
    "dropped and made again": f"drop trigger waybill_stamp on orders; {UNSTAMPED} {AGAIN}",
    "all triggers": f"alter table orders disable trigger all; {UNSTAMPED} alter table orders enable trigger all;",
}


@pytest.mark.parametrize("gap", GAPS)
def test_what_a_stamping_trigger_missed_between_two_deliveries_starts_the_stream_over(tmp_path, postgres, gap):
    make(postgres)
    postgres.psql(ROWS.format("orders", 1, 5))
    with closing(place_for(tmp_path, postgres, "snapshot")) as place:
        assert deliver(place, NOON) == []
        assert deliver(place, NOON + DAY) == []
        postgres.psql(GAPS[gap])
        assert deliver(place, NOON + 2 * DAY) == []
        assert differing(place, postgres) == set()
        assert deliver(place, NOON + 3 * DAY) == []
        assert [manifest["kind"] for _, manifest in place.manifests()] == ["full", "delta", "full", "delta"]


def test_a_table_without_a_stamping_trigger_is_told_in_the_manifest(tmp_path, postgres):
    make(postgres)
    postgres.psql(f"drop trigger waybill_stamp on orders; {ROWS.format('orders', 1, 5)}")
    with closing(place_for(tmp_path, postgres, "snapshot")) as place:
        assert deliver(place, NOON) == []
        [(_, manifest)] = place.manifests()
    assert manifest["note"] == "no trigger of public.orders sets waybill_xid: changes that do not set it are not seen"


SPEAKS_OFTEN = "wal_sender_timeout = 4s"
"""An idle primary sends a message after half of that time: otherwise after half a minute."""


def test_a_standby_reads_no_further_than_it_has_replayed():
    with serve_postgres(extra_config=SPEAKS_OFTEN) as cluster, cluster.database() as database, cluster.standby() as copy:
        database.psql(TABLE.format("orders", ", primary key (id)"))
        there = Database("127.0.0.1", copy.port, database.name, database.user)
        _wait(lambda: there.psql("select to_regclass('orders')").strip() == "orders")
        assert abs(_clock(there) - datetime.now(UTC)) < timedelta(seconds=30)
        there.psql("select pg_wal_replay_pause()")
        database.psql(ROWS.format("orders", 1, 5))
        written = datetime.now(UTC)
        _wait(lambda: there.psql("select pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()").strip() == "t")
        with_psycopg2 = DbApi(DbApiSource(kind="dbapi", connection="x"), lambda _: psycopg2.connect(there.dsn))
        for place in (source(there), with_psycopg2):
            with place.snapshot([entity("lookback")]) as snapshot:
                assert snapshot.taken_at < written < snapshot.clock
        there.psql("select pg_wal_replay_resume()")
        _wait(lambda: there.psql("select count(*) from orders").strip() == "5" and _clock(there) > written)


def test_a_standby_reads_no_further_than_its_primary_last_spoke():
    """It has replayed all that it received, and cannot know what else there is: nothing comes through, and the connection stands."""
    with serve_postgres() as cluster, cluster.database() as database, cluster.standby() as copy, proxied(cluster.port) as proxy:
        there = Database("127.0.0.1", copy.port, database.name, database.user)
        there.psql(f"alter system set primary_conninfo = 'host=127.0.0.1 port={proxy.port} user={cluster.user}'; select pg_reload_conf()")
        database.psql(TABLE.format("orders", ", primary key (id)"))
        connected = f"select count(*) from pg_stat_wal_receiver where status = 'streaming' and conninfo like '%port={proxy.port} %'"
        _wait(lambda: there.psql(connected).strip() == "1" and there.psql("select to_regclass('orders')").strip() == "orders")
        proxy.waits = True
        proxy.limits["down"] = proxy.passed["down"]
        written = datetime.now(UTC)
        database.psql(ROWS.format("orders", 1, 5))
        assert there.psql("select pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn()").strip() == "t"
        assert _clock(there) < written
        assert there.psql(connected).strip() == "1"
        proxy.limits["down"] = None
        _wait(lambda: there.psql("select count(*) from orders").strip() == "5" and _clock(there) > written)


def test_a_run_waits_for_a_standby_that_is_behind_the_last_delivery(tmp_path):
    """Its time is earlier than what was delivered, as after a clock that was ahead; but the clock of its own is right."""
    with serve_postgres() as cluster, cluster.database() as database, cluster.standby() as copy:
        there = Database("127.0.0.1", copy.port, database.name, database.user)
        database.psql(TABLE.format("orders", ", primary key (id)") + ";" + ROWS.format("orders", 1, 5))
        _wait(lambda: there.psql("select to_regclass('orders')").strip() == "orders")
        _wait(lambda: there.psql("select count(*) from orders").strip() == "5")
        place = place_for(tmp_path, there, "lookback")
        assert deliver(place, NOON) == []
        there.psql("select pg_wal_replay_pause()")
        database.psql(ROWS.format("orders", 6, 7))
        _wait(lambda: datetime.now(UTC) - _clock(there) > timedelta(seconds=5))
        delivered = datetime.now(UTC) + timedelta(seconds=57)
        with place.installation().ledger.begin() as connection:
            connection.execute(update(stream).values(watermark=delivered))
        assert deliver(place, delivered + 2 * DAY) == []
        assert [manifest["kind"] for _, manifest in place.manifests()] == ["full"]
        place.close()


def test_a_standby_that_shows_nothing_of_its_primary_is_told():
    with (
        serve_postgres() as cluster,
        cluster.database() as database,
        cluster.standby() as copy,
        Role(database, TABLE.format("orders", "") + "; GRANT SELECT ON orders TO {}") as role,
    ):
        there = Database("127.0.0.1", copy.port, database.name, database.user)
        granted = (
            f"select count(*) from pg_stat_wal_receiver, pg_roles where rolname = '{role}' and has_table_privilege(oid, 'orders', 'SELECT')"
        )
        _wait(
            lambda: (
                there.state() != ""
                and there.psql("select to_regclass('orders')").strip() == "orders"
                and there.psql(granted).strip() == "1"
            )
        )
        as_reader = replace(there, user=role)
        with_psycopg2 = DbApi(DbApiSource(kind="dbapi", connection="x"), lambda _: psycopg2.connect(as_reader.dsn))
        for mode, told in (("lookback", True), ("full", False)):
            for place in (source(there, login=role), with_psycopg2):
                with place.snapshot([entity(mode)]) as snapshot:
                    remarks = snapshot.extent(entity(mode), "acme", None, snapshot.taken_at).remarks
                assert ("GRANT pg_read_all_stats" in remarks) is told
            with source(there).snapshot([entity(mode)]) as snapshot:
                assert snapshot.extent(entity(mode), "acme", None, snapshot.taken_at).remarks == ""


OF_ALL_MODES = {**CHANGES, "append": {"mode": "append", "column": "id"}}


@pytest.mark.parametrize("mode", [mode for mode in OF_ALL_MODES if mode != "snapshot"])
def test_what_a_failover_lost_does_not_stay_in_the_copy(tmp_path, mode):
    """The standby lags when it takes over: a version that was delivered is gone there, and the one before it tells an older time."""
    with serve_postgres() as cluster, cluster.database() as database, cluster.standby() as copy:
        there = Database("127.0.0.1", copy.port, database.name, database.user)
        make(database)
        database.psql(ROWS.format("orders", 1, 3))
        _wait(
            lambda: (
                there.psql("select to_regclass('orders')").strip() == "orders" and there.psql("select count(*) from orders").strip() == "3"
            )
        )
        copy.stop()
        database.psql("update orders set version = 2, updated_at = updated_at + interval '1 hour' where id = 1")
        database.psql("insert into orders values (4, 'acme', 1, '2026-05-30 11:00Z')")
        place = place_for(tmp_path, database, "lookback", changes=OF_ALL_MODES[mode], deletes="compare")
        assert deliver(place, NOON) == []
        cluster.stop(signal.SIGQUIT)
        copy.start()
        copy.promote()
        place.connections["pg"] = Connection("pg", "postgres", there.host, there.port, there.user, there.name)
        there.psql("insert into orders values (4, 'acme', 7, '2026-05-31 11:00Z')")
        assert deliver(place, NOON + DAY) == []
        assert differing(place, there) == set()
        assert deliver(place, NOON + 2 * DAY) == []
        assert [manifest["kind"] for _, manifest in place.manifests()] == ["full", "full", "delta"]
        place.close()


@pytest.mark.parametrize("mode", ["snapshot", "lookback"])
def test_what_a_crash_takes_back_was_never_delivered(tmp_path, mode):
    """Others see a commit before the server's disk has it, and numbers of transactions that were lost are given out again."""
    with serve_postgres(extra_config="synchronous_commit = off\nwal_writer_delay = 1s") as cluster, cluster.database() as database:
        make(database)
        place = place_for(tmp_path, database, mode)
        with psycopg.connect(database.dsn, autocommit=True) as connection:
            for number in range(1, 21):
                connection.execute(ROWS.format("orders", number, number).encode())
            assert deliver(place, NOON) == []
        cluster.stop(signal.SIGQUIT)
        cluster.start()
        assert differing(place, database) == set()
        with psycopg.connect(database.dsn, autocommit=True) as connection:
            for number in range(101, 131):
                connection.execute(f"insert into orders values ({number}, 'acme', 1, '2026-05-31 10:00Z')".encode())
        assert deliver(place, NOON + DAY) == []
        assert differing(place, database) == set()
        assert [manifest["kind"] for _, manifest in place.manifests()] == ["full", "delta"]
        place.close()


def _clock(database: Database) -> datetime:
    with source(database).snapshot([entity("lookback")]) as snapshot:
        return snapshot.taken_at


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("kind", ["timestamp", "timestamp(3)"])
@pytest.mark.parametrize("zone", ["America/New_York", "Etc/GMT+12"])
def test_horizon_finds_times_without_a_zone_that_lie_behind_utc(postgres, zone, kind):
    """What an application writes by a clock of its own zone lies hours before the last delivery's end, and comes once all the same."""
    postgres.psql(TABLE.format("orders", ", primary key (id)").replace("timestamptz", kind))
    stream = Stream(entity("horizon"))
    for number in range(1, 4):
        postgres.psql(f"set timezone = '{zone}'; insert into orders values ({number}, 'acme')")
        assert stream.deliver(source(postgres)) == 1
    assert stream.deliver(source(postgres)) == 0
    assert set(stream.delivered.values()) == {1}


@pytest.mark.parametrize(
    ("zone", "kind", "told"), [("Etc/GMT+5", "timestamp", True), ("Etc/GMT+5", "timestamptz", False), ("UTC", "timestamp", False)]
)
def test_a_database_west_of_utc_is_told_where_the_look_back_is_too_short(postgres, zone, kind, told):
    postgres.psql(TABLE.format("orders", "").replace("timestamptz", kind))
    postgres.psql(f"alter database {postgres.name} set timezone = '{zone}'")
    wanted = entity("lookback")
    with source(postgres).snapshot([wanted]) as snapshot:
        remarks = snapshot.extent(wanted, "acme", None, snapshot.taken_at).remarks
    assert ("the database's clock is 5 hours behind UTC" in remarks) is told


def test_a_database_west_of_utc_is_told_of_a_deletion_time_without_a_zone(postgres):
    postgres.psql(TABLE.format("orders", ", deleted_at timestamp"))
    postgres.psql(f"alter database {postgres.name} set timezone = 'Etc/GMT+5'")
    wanted = entity("lookback", deleted_column="deleted_at")
    with source(postgres).snapshot([wanted]) as snapshot:
        assert snapshot.extent(wanted, "acme", None, snapshot.taken_at).remarks.startswith("deleted_at has no zone and counts as UTC")
