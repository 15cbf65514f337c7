"""A replica of MariaDB's that does not have every row yet: what it lacks is waited for, or told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from tests.installations import DAY, make_place
from tests.servers.mariadb import MariaDatabase, MariaServer, serve_mariadb
from tests.sources.test_mysql_sessions import ROWS, TABLE, execute
from tests.sources.test_source_postgres import entity
from waybill.configuration.catalog import DbApiSource
from waybill.configuration.selection import Extent
from waybill.deliveries.running import run
from waybill.errors import TransientError
from waybill.ledger.tables import stream
from waybill.registrations.applying import apply
from waybill.sources.dbapi.replicas import followed
from waybill.sources.dbapi.source import DbApi

PATIENCE = 60.0
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def primary() -> Iterator[MariaServer]:
    with serve_mariadb("--server-id=1", "--log-bin=log") as server:
        execute(system(server), "create user following", "grant replication slave on *.* to following")
        yield server


@pytest.fixture(scope="module")
def replica() -> Iterator[MariaServer]:
    with serve_mariadb("--server-id=2") as server:
        execute(system(server), "create user reader", "grant select on *.* to reader")
        yield server


def system(server: MariaServer) -> MariaDatabase:
    return MariaDatabase(server.host, server.port, "mysql", server.user)


@contextmanager
def following(primary: MariaServer, replica: MariaServer, *statements: str) -> Iterator[tuple[MariaDatabase, MariaDatabase]]:
    """A database of the primary and the same one at its replica, which has two rows; then statements at the replica."""
    with primary.database() as database:
        there = MariaDatabase(replica.host, replica.port, database.name, "reader")
        execute(database, TABLE.format("InnoDB"), ROWS)
        source = f"master_host = '{primary.host}', master_port = {primary.port}, master_user = 'following'"
        follow = f"change master to {source}, master_use_gtid = slave_pos, master_delay = 0"
        execute(system(replica), follow, "start slave")
        try:
            wait(lambda: len(asked(system(replica), f"show tables from {database.name}")) == 1)
            wait(lambda: asked(there, "select count(*) from orders") == [(2,)])
            execute(system(replica), *statements)
            yield database, there
        finally:
            execute(system(replica), "stop slave")


def asked(database: MariaDatabase, statement: str) -> list[Any]:
    with closing(database.connect(autocommit=True)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def wait(happened: Any) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            if happened():
                return
        except Exception as error:
            if time.monotonic() > end:
                raise AssertionError(error) from error
        assert time.monotonic() < end, "the replica did not get there in time"


def look(database: MariaDatabase) -> tuple[datetime, Extent]:
    """The clock of a snapshot, and what a delta up to there would read."""
    wanted = entity("lookback")
    with DbApi(DbApiSource(kind="dbapi", connection="db"), lambda _: database.connect()).snapshot([wanted]) as snapshot:
        return snapshot.taken_at, snapshot.extent(wanted, "acme", START.isoformat(), snapshot.taken_at)


def as_operator(database: MariaDatabase) -> MariaDatabase:
    return MariaDatabase(database.host, database.port, database.name, "root")


def test_the_clock_of_a_replica_that_lags_is_what_it_has_replayed(primary, replica):
    """The row of an hour that it lacks would be older than the next delta looks back."""
    delay = ("stop slave", "change master to master_delay = 86400", "start slave")
    with following(primary, replica, *delay) as (database, there):
        written = datetime.now(UTC)
        execute(database, "insert into orders values (3, 'acme', 'late', utc_timestamp(6))")
        wait(lambda: datetime.now(UTC) - look(as_operator(there))[0] > timedelta(seconds=2))
        assert look(as_operator(there))[0] < written + timedelta(seconds=2)
        assert asked(there, "select count(*) from orders") == [(2,)]


def test_a_run_waits_for_a_replica_that_is_behind_the_last_delivery(primary, replica, tmp_path):
    """Its time is earlier than what was delivered, as after a clock that was ahead; but the clock of its own is right."""
    with following(primary, replica) as (database, there):
        server = as_operator(there)
        plain = {"source": "db", "relation": "orders", "tenant_column": "tenant_id", "key": ["id"], "columns": {"id": {"type": "integer"}}}
        changes = {"mode": "lookback", "column": "updated_at", "lookback": "1h"}
        place = make_place(tmp_path)
        sources = {"db": {"kind": "dbapi", "connection": "db"}}
        place.write("catalog.yaml", {"sources": sources, "entities": {"user": {**plain, "changes": changes}}})
        place.tenant(entityList=["user"])
        installation = replace(place.installation(), connect_db=lambda _: server.connect())
        apply(installation, actor="test")
        assert [result.error for result in run(installation, "acme", START)] == [None]
        execute(system(replica), "stop slave", "change master to master_delay = 86400", "start slave")
        execute(database, "insert into orders values (3, 'acme', 'late', utc_timestamp(6))")
        wait(lambda: datetime.now(UTC) - look(server)[0] > timedelta(seconds=5))
        delivered = datetime.now(UTC) + timedelta(seconds=57)
        with installation.ledger.begin() as connection:
            connection.execute(update(stream).values(watermark=delivered))
        assert run(installation, "acme", delivered + timedelta(days=2)) == []


@pytest.mark.parametrize("what", ["slave", "slave sql_thread", "slave io_thread"])
def test_a_replica_that_is_stopped_delivers_nothing_until_it_goes_on(primary, replica, what):
    with following(primary, replica, f"stop {what}") as (_, there), pytest.raises(TransientError, match="replication is stopped"):
        look(as_operator(there))


def test_a_replica_that_has_everything_is_read_up_to_now_and_so_is_a_primary(primary, replica):
    with following(primary, replica) as (database, there):
        for server in (database, as_operator(there)):
            before = datetime.now(UTC)
            wait(lambda server=server, before=before: look(server)[0] > before)
            assert look(server)[1].remarks == ""


def test_a_login_that_may_not_see_how_far_a_replica_is_is_told(primary, replica):
    with following(primary, replica) as (_, there):
        assert "GRANT REPLICATION CLIENT" in look(there)[1].remarks


OF_A_GROUP = [
    {"Source_Host": "<NULL>", "Replica_IO_Running": "No", "Channel_Name": "group_replication_applier", "Seconds_Behind_Source": None},
    {"Source_Host": "a", "Replica_IO_Running": "No", "Channel_Name": "group_replication_recovery", "Seconds_Behind_Source": None},
]
"""The channels that each member of a replication group of MySQL shows, as long as all is well."""


@pytest.mark.parametrize("lag", [None, 90], ids=["on its own", "that follows another cluster"])
@pytest.mark.parametrize("secondary", [False, True], ids=["primary", "secondary"])
def test_a_member_of_a_replication_group_is_no_replica_that_is_stopped(secondary, lag):
    channels = [*OF_A_GROUP, *([{"Channel_Name": "", "Seconds_Behind_Source": lag}] if lag else [])]
    found = followed(channels, START, lambda: secondary)
    found.require_running(entity("lookback"), "connection crm")
    assert found.replayed == (START - timedelta(seconds=lag) if lag else None)
    assert ("secondary of a replication group" in found.remark(entity("lookback"))) is secondary
    assert found.remark(entity("full")) == ""


def test_a_login_to_a_server_that_follows_none_is_told_nothing(mariadb):
    execute(mariadb, "create or replace user reader", "grant select on *.* to reader", TABLE.format("InnoDB"))
    assert look(MariaDatabase(mariadb.host, mariadb.port, mariadb.name, "reader"))[1].remarks == ""


def test_a_replica_that_lags_is_waited_for_as_long_as_deliveries_are_tried_again(primary, replica, tmp_path):
    """What came due while it lags by minutes is tried again until it is there. It would come a day later if nothing was planned."""
    place = make_place(tmp_path)
    changes = {"mode": "lookback", "column": "updated_at", "lookback": "1h"}
    columns = {"id": {"type": "integer"}, "updated_at": {"type": "timestamp"}}
    orders = {"source": "crm", "relation": "orders", "tenant_column": "tenant_id", "key": ["id"], "changes": changes, "columns": columns}
    place.write("catalog.yaml", {"sources": {"crm": {"kind": "dbapi", "connection": "crm"}}, "entities": {"orders": orders}})
    place.tenant(entityList=["orders"])
    midnight = datetime(2026, 6, 3, tzinfo=UTC)

    def delivered(now: datetime) -> list[str | None]:
        place.clock = now
        installation = replace(place.installation(), connect_db=lambda _: showing(as_operator(there), now))
        apply(installation, actor="test")
        return [result.error and result.error.code for result in run(installation, "acme", now)]

    with following(primary, replica) as (_, there):
        assert delivered(midnight) == [None]
    for number, (behind, while_it_lags) in enumerate([(timedelta(minutes=15), ["source_clock"]), (2 * DAY, [])], start=1):
        now = midnight + number * DAY + timedelta(minutes=5)
        with following(primary, replica) as (database, there):
            with lagging(database, replica, behind):
                assert delivered(now) == while_it_lags
            wait(lambda: datetime.now(UTC) - look(as_operator(there))[0] < timedelta(minutes=1))
            assert delivered(now) == [None]
    assert [manifest["kind"] for _, manifest in place.manifests()] == ["full", "delta", "delta"]


@contextmanager
def lagging(database: MariaDatabase, replica: MariaServer, behind: timedelta) -> Iterator[None]:
    """Let the replica wait within the block for a table, on behalf of a row that was written so long ago."""
    there = as_operator(MariaDatabase(replica.host, replica.port, database.name, ""))
    execute(database, "create table other (id int primary key) engine = InnoDB")
    wait(lambda: len(asked(there, "show tables")) == 2)
    with closing(there.connect(autocommit=True)) as holding, holding.cursor() as cursor:
        cursor.execute("lock tables other write")
        written = f"set binlog_format = row, timestamp = unix_timestamp() - {behind.total_seconds()}"
        execute(database, written, "insert into other values (1)")
        wait(lambda: datetime.now(UTC) - look(there)[0] > 0.9 * behind)
        yield


def showing(database: MariaDatabase, now: datetime) -> Any:
    """A connection to the server as it is while its clock shows `now`."""
    connection = database.connect()
    with connection.cursor() as cursor:
        cursor.execute("set timestamp = %s", [now.timestamp()])
    return connection
