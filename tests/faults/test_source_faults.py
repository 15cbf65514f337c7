"""What a PostgreSQL source can do to a run: restarts, cuts, cancelled and slow queries, open transactions, drift between runs."""

import signal
import threading
from dataclasses import replace
from datetime import date

import psycopg
import pytest

from tests.faults import FULL
from tests.faults.consumer import deliveries
from tests.faults.live import environment, final_versions, miscounted, prepare
from tests.faults.oracle import judge, unclear, watched
from tests.faults.proxy import proxied
from tests.servers.postgres import serve_postgres

SNAPSHOT = {"mode": "snapshot", "column": "waybill_xid"}
HORIZON = {"mode": "horizon", "column": "updated_at"}
LOOKBACK = {"mode": "lookback", "column": "updated_at", "lookback": "3d"}
ROWS = "insert into orders (id, tenant_id, updated_at) select i, 'acme', timestamptz '2026-02-27' from generate_series({}, {}) i"
FIRST, SECOND = "2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z"


@pytest.fixture(scope="module")
def cluster():
    """One that may be stopped."""
    with serve_postgres() as started:
        yield started


@pytest.fixture
def database(cluster):
    with cluster.database() as found:
        yield found


def run(launcher, place, env, until):
    return launcher.run(place.root, "run", "acme", "--until", until, env=env)


def recovers(launcher, place, env, database, until):
    done = run(launcher, place, env, until)
    assert done.status == 0, done.said
    assert judge(place.out) + miscounted(place.out, database) == []


@pytest.mark.parametrize("how", ["restart", "crash"])
def test_a_source_that_restarts_in_the_middle_of_a_scan_delays_the_delivery(launcher, cluster, database, tmp_path, how):
    place, env = prepare(tmp_path, database, orders=SNAPSHOT), environment(database)
    database.psql(ROWS.format(1, 200_000))
    with proxied(database.port, down=900_000) as proxy, watched(place.out) as seen:
        proxy.stall = True  # the scan stands still after so many bytes
        begun = launcher.start(tmp_path, "run", "acme", "--until", FIRST, env=environment(database, proxy.port))
        while proxy.passed["down"] < 900_000:
            threading.Event().wait(0.02)
        cluster.stop(signal.SIGINT if how == "restart" else signal.SIGQUIT)
        proxy.close()
        done = begun.wait()
        cluster.start()
    assert done.status == 1
    assert unclear(done.err, "tenant acme", "entity orders", "folder", "again") == []
    recovers(launcher, place, env, database, FIRST)
    assert seen == []


@pytest.mark.parametrize("after", [5_000, 60_000, 700_000, 1_500_000] if FULL else [60_000, 700_000])
def test_a_connection_to_the_source_cut_at_any_byte_delays_the_delivery(launcher, database, tmp_path, after):
    place, env = prepare(tmp_path, database, orders=SNAPSHOT), environment(database)
    database.psql(ROWS.format(1, 100_000))
    with proxied(database.port, down=after) as proxy, watched(place.out) as seen:
        done = run(launcher, place, environment(database, proxy.port), FIRST)
    assert done.status == 0 or unclear(done.err, "tenant acme", "entity orders", "folder") == []
    recovers(launcher, place, env, database, FIRST)
    assert seen == []


@pytest.mark.parametrize("function", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_query_that_somebody_cancels_delays_the_delivery(launcher, database, tmp_path, function):
    place, env = prepare(tmp_path, database, orders=SNAPSHOT), environment(database)
    database.psql(ROWS.format(1, 200_000))
    with proxied(database.port, down=900_000) as proxy:
        proxy.stall = True
        begun = launcher.start(tmp_path, "run", "acme", "--until", FIRST, env=environment(database, proxy.port))
        while proxy.passed["down"] < 900_000:
            threading.Event().wait(0.02)
        mine = "pid <> pg_backend_pid() and datname = current_database()"
        database.psql(f"select {function}(pid) from pg_stat_activity where {mine}")
        proxy.limits["down"] = None
        proxy.close()
        done = begun.wait()
    assert done.status == 1
    assert unclear(done.err, "tenant acme", "entity orders", "folder") == []
    recovers(launcher, place, env, database, FIRST)


def test_a_table_that_stays_locked_ends_in_bounded_time_with_advice(launcher, database, tmp_path):
    place, env = prepare(tmp_path, database, orders=SNAPSHOT), environment(database)
    catalog = tmp_path / "config/catalog.yaml"
    catalog.write_text(catalog.read_text().replace("statement_timeout: 30s", "statement_timeout: 2s"))
    database.psql(ROWS.format(1, 10))
    with psycopg.connect(database.dsn) as other:
        other.execute("lock table orders in access exclusive mode")
        done = run(launcher, place, env, FIRST)
        other.rollback()
    assert done.status == 1
    assert unclear(done.err, "tenant acme", "entity orders", "folder", "statement_timeout") == []
    recovers(launcher, place, env, database, FIRST)


def test_open_savepoints_prepared_transactions_and_equal_times_arrive_once_when_they_are_committed(launcher, database, tmp_path):
    place, env = prepare(tmp_path, database, by_snapshot=SNAPSHOT, by_lookback=LOOKBACK), environment(database)
    database.psql(ROWS.format(1, 50))
    with psycopg.connect(database.dsn) as late, psycopg.connect(database.dsn) as prepared:
        late.execute(ROWS.format(51, 60))
        late.execute("savepoint inner_one")
        late.execute(ROWS.format(61, 70))
        late.execute("update orders set version = 2 where id = 5")
        prepared.tpc_begin(prepared.xid(1, "waybill", "one"))
        prepared.execute(ROWS.format(71, 80))
        prepared.tpc_prepare()
        assert run(launcher, place, env, FIRST).status == 0
        late.commit()
        prepared.tpc_commit()
    recovers(launcher, place, env, database, SECOND)


def test_an_idle_transaction_of_a_day_shortens_horizon_deliveries_and_says_why(launcher, database, tmp_path):
    place = prepare(tmp_path, database, by_horizon=HORIZON, by_snapshot=SNAPSHOT)
    env = environment(database)
    database.psql(ROWS.format(1, 20))
    with psycopg.connect(database.dsn) as idle:
        idle.execute("insert into orders (id, tenant_id) values (1000, 'acme')")
        until = f"{date.today():%Y-%m-%d}T00:00:00Z"  # noqa: DTZ011 (only a past boundary is wanted)
        assert run(launcher, place, env, until).status == 0
        idle.rollback()
    recovers(launcher, place, env, database, until)


@pytest.mark.parametrize(
    ("change", "back", "says", "goes_on"),
    [
        ("rename column version to revision", "rename column revision to version", "revision", True),
        ("drop column version", "add column version int not null default 1", "version", False),
        ("alter column version type text", "alter column version type int using version::int", "version", False),
    ],
    ids=["renamed", "dropped", "retyped"],
)
def test_schema_drift_stops_its_stream_until_it_is_settled(launcher, database, tmp_path, change, back, says, goes_on):
    """A column that was made again may hold other values in every row: the stream begins anew, and its full load repeats them."""
    place, env = prepare(tmp_path, database, orders=SNAPSHOT), environment(database)
    database.psql(ROWS.format(1, 20))
    assert run(launcher, place, env, FIRST).status == 0
    database.psql(f"alter table orders {change}; {ROWS.format(21, 30)}")
    done = run(launcher, place, env, SECOND)
    assert done.status == 1
    assert unclear(done.err, "tenant acme", "entity orders", "folder", says, "catalog") == []
    database.psql(f"alter table orders {back}")
    if goes_on:
        recovers(launcher, place, env, database, SECOND)
        return
    assert run(launcher, place, env, SECOND).status == 0
    assert judge(place.out) == []
    last = deliveries(place.out / "exports/acme")[0][-1]
    assert (last.manifest["generation"], last.manifest["kind"]) == (2, "full")
    assert {(row[0], row[1]) for row in last.rows} == final_versions(database)


def test_a_standby_is_refused_and_after_a_failover_a_new_generation_starts_with_a_full_load(launcher, cluster, database, tmp_path):
    place, env = prepare(tmp_path, database, by_snapshot=SNAPSHOT, by_horizon=HORIZON), environment(database)
    database.psql(ROWS.format(1, 50))
    assert run(launcher, place, env, FIRST).status == 0
    with cluster.standby() as standby:
        there = environment(database, standby.port)
        refused = run(launcher, place, there, SECOND)
        assert refused.status == 1
        assert unclear(refused.err, "tenant acme", "entity by_snapshot", "folder", "not safe on a standby", "primary") == []
        standby.promote()
        taken_over = replace(database, port=standby.port)
        taken_over.psql(ROWS.format(51, 60))
        assert run(launcher, place, there, SECOND).status == 0
        lasting = final_versions(taken_over)
    found, _ = deliveries(place.out / "exports/acme")
    found = [delivery for delivery in found if delivery.manifest["entity"] == "by_snapshot"]
    assert [(delivery.manifest["generation"], delivery.manifest["kind"], len(delivery.rows)) for delivery in found] == [
        (1, "full", 50),
        (2, "full", 60),
    ]
    assert {(row[0], row[1]) for row in found[-1].rows} == lasting
    assert judge(place.out) == []
