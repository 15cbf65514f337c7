"""The ledger itself: migrations on both databases, constraints that hold under races, instants that keep their microseconds."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from waybill.configuration.registration import Registration
from waybill.errors import PermanentError, TransientError
from waybill.ledger import Ledger, deliveries, destinations, registrations, streams
from waybill.ledger.database import engine
from waybill.ledger.database.engine import MIGRATIONS
from waybill.ledger.on_demand import request_tables
from waybill.ledger.registrations import LostUpdate
from waybill.states import Purpose

NOW = datetime(2026, 6, 1, 2, 3, 4, 567891, tzinfo=UTC)
BODY = Registration.model_validate({"entityList": ["user"]})
BY = registrations.Provenance("api", "t")


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request, tmp_path) -> Iterator[Ledger]:
    url = request.getfixturevalue("postgres").url if request.param == "postgres" else f"sqlite:///{tmp_path}/ledger.db"
    ledger = Ledger(url)
    ledger.ready()
    yield ledger
    ledger.close()


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
def test_the_migrations_make_exactly_the_tables_of_the_code(ledger):
    def compared(_what, name, *_):
        return name not in {"ix_registration_in_data", "ix_registration_copy_of"}  # of expressions, which cannot be compared

    with ledger.begin() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": compared})
        assert compare_metadata(context, request_tables.metadata) == []


def test_the_newest_migration_is_the_one_alembic_takes(ledger):
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert Ledger.head() == ScriptDirectory.from_config(config).get_current_head() == ledger.revision()


def test_many_processes_may_upgrade_at_once(request, tmp_path):
    for url in (f"sqlite:///{tmp_path}/fresh.db", request.getfixturevalue("postgres").url):
        ledgers = [Ledger(url) for _ in range(6)]
        problems: list[BaseException] = []

        def work(ledger: Ledger, problems: list[BaseException] = problems) -> None:
            try:
                ledger.ready()
            except BaseException as error:  # noqa: BLE001 - the test reports whatever it was
                problems.append(error)

        threads = [threading.Thread(target=work, args=(ledger,)) for ledger in ledgers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert problems == []
        assert {ledger.revision() for ledger in ledgers} == {Ledger.head()}
        for ledger in ledgers:
            ledger.close()


def test_what_another_process_wrote_first_is_tried_again(ledger):
    with ledger.begin() as connection:
        registrations.replace(connection, "acme", BODY, ["user"], by=BY, now=NOW)
    with pytest.raises(TransientError, match="Run again") as caught, ledger.begin() as connection:
        streams.activate(connection, "acme", ["user"], NOW)
    assert caught.value.code == "overtaken"


def test_workers_that_see_a_destination_fail_for_the_first_time_at_once_are_both_counted(postgres):
    shared = Ledger(postgres.url)
    shared.ready()

    def fail() -> None:
        with shared.begin() as connection:
            destinations.note_failure(connection, "there", NOW)

    def waiting() -> bool:
        with shared.read() as connection:
            return bool(connection.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar_one())

    with ThreadPoolExecutor(1) as another:
        with shared.begin() as connection:
            destinations.note_failure(connection, "there", NOW)
            second, deadline = another.submit(fail), time.monotonic() + 60
            while not waiting():
                assert time.monotonic() < deadline
        second.result()
    with shared.read() as connection:
        assert destinations.failures_of(connection, "there") == (2, None)
    shared.close()


def test_a_failed_rehearsal_is_kept_beside_the_last_good_one(ledger):
    later = NOW + timedelta(hours=1)
    with ledger.begin() as connection:
        registrations.replace(connection, "acme", BODY, ["user"], by=BY, now=NOW)
        assert destinations.last_probe(connection, "acme") is None
        destinations.store_failed_probe(connection, "acme", {"what": "no answer"}, NOW)
        assert destinations.profile(connection, "acme") is None
        destinations.store_probe(connection, "acme", {"profile": "no_cas"}, NOW)
        assert destinations.last_probe(connection, "acme") == destinations.Rehearsed({"profile": "no_cas"}, NOW, None, None)
        destinations.store_failed_probe(connection, "acme", {"what": "no answer"}, later)
    with ledger.begin() as connection:
        kept = destinations.last_probe(connection, "acme")
        assert destinations.profile(connection, "acme") == "no_cas"
    assert kept == destinations.Rehearsed({"profile": "no_cas"}, NOW, {"what": "no answer", "at": later.isoformat()}, later)


def test_an_instant_comes_back_as_it_went_in(ledger):
    berlin = timezone(timedelta(hours=2))
    with ledger.begin() as connection:
        registrations.replace(connection, "acme", BODY, ["user"], by=BY, now=NOW.astimezone(berlin))
    with ledger.begin() as connection:
        found = registrations.current(connection, "acme")
    assert found is not None
    assert (found.created_at, found.created_at.tzinfo) == (NOW, UTC)


def test_the_same_body_twice_is_one_version_and_a_stale_one_is_refused(ledger):
    with ledger.begin() as connection:
        first, *_ = registrations.replace(connection, "acme", BODY, ["user"], by=BY, now=NOW)
        again, change, *_ = registrations.replace(connection, "acme", BODY, ["user"], by=BY, now=NOW)
    assert (first, again, change.is_empty) == (1, 1, True)
    weekly = Registration.model_validate({"entityList": ["user"], "frequency": "weekly"})
    with ledger.begin() as connection:
        registrations.replace(connection, "acme", weekly, ["user"], by=BY, now=NOW, expected=1)
    with pytest.raises(LostUpdate), ledger.begin() as connection:
        registrations.replace(connection, "acme", BODY, ["user"], by=BY, now=NOW, expected=1)


def test_racing_registrations_of_a_new_tenant_leave_one_active_stream(ledger):
    outcomes: list[str] = []

    def work(number: int) -> None:
        body = Registration.model_validate({"entityList": ["user"], "deliverAt": f"{number:02d}:00"})
        try:
            with ledger.begin() as connection:
                registrations.replace(connection, "acme", body, ["user"], by=BY, now=NOW)
            outcomes.append("done")
        except LostUpdate:
            outcomes.append("lost")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ledger.begin() as connection:
        assert [(stream.entity, stream.generation) for stream in streams.active(connection, "acme")] == [("user", 1)]
        versions = [version.version for version in registrations.history(connection, "acme")]
    assert versions == list(range(outcomes.count("done"), 0, -1))
    assert len(outcomes) == 12


def planned_of(stream: streams.Stream, stem: str) -> deliveries.NewDelivery:
    return deliveries.NewDelivery(
        stream=stream.id,
        tenant="acme",
        entity="user",
        generation=1,
        sequence=1,
        purpose=Purpose.SCHEDULE,
        kind="full",
        window_from=None,
        planned_to=NOW,
        export_date="2026-06-01",
        folder="/exports/acme/2026/06/01/user",
        stem=stem,
        registration_version=1,
        created_at=NOW,
    )


def test_a_stream_has_one_open_delivery_at_most_whoever_plans(ledger):
    with ledger.begin() as connection:
        registrations.replace(connection, "acme", BODY, ["user"], by=BY, now=NOW)
        (stream,) = streams.active(connection, "acme")
    planned: list[object] = []

    def work(number: int) -> None:
        with ledger.begin() as connection:
            planned.append(deliveries.plan(connection, planned_of(stream, f"user{number}")))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(delivery is not None for delivery in planned) == 1


def attempt_of(delivery: str, name: str, sha256: str) -> deliveries.Attempt:
    return deliveries.Attempt(
        id=name,
        delivery=delivery,
        window_to=NOW,
        position_from=None,
        position_to=None,
        snapshot_time=NOW,
        schema_version=1,
        columns=[],
        facts={},
        files=[{"path": "user.csv", "rows": 1, "bytes": 1, "sha256": sha256}],
        rows=1,
        bytes=1,
        sha256=sha256,
        possible_duplicate=False,
        note="",
        digests_from=None,
        recorded_at=NOW,
    )


def test_every_worker_adopts_the_attempt_chosen_first_also_one_recorded_after_its_own(ledger):
    with ledger.begin() as connection:
        registrations.replace(connection, "acme", BODY, ["user"], by=BY, now=NOW)
        (stream,) = streams.active(connection, "acme")
        planned = deliveries.plan(connection, planned_of(stream, "user"))
        assert planned is not None
        mine = deliveries.record(connection, attempt_of(planned.id, "mine", "a"), stream.id, [])
        later = deliveries.record(connection, attempt_of(planned.id, "later", "a"), stream.id, [])
        other = deliveries.record(connection, attempt_of(planned.id, "other", "b"), stream.id, [])
        assert deliveries.attempts(connection, planned.id) == sorted([mine, later, other], key=lambda item: item.id)
    with ledger.begin() as connection:
        assert deliveries.adopt(connection, later) == later
    with ledger.begin() as connection:
        assert deliveries.adopt(connection, mine) == later
        assert deliveries.adopt(connection, other) == other, "what stands under the final name decides, whatever was chosen before"


def test_a_read_of_a_shared_ledger_cannot_write(postgres):
    shared = Ledger(postgres.url)
    shared.ready()
    with pytest.raises(DBAPIError, match="read-only"), shared.read() as connection:
        connection.execute(text("DELETE FROM day"))
    with shared.begin() as connection:
        connection.execute(text("DELETE FROM day"))
    shared.close()


def test_a_ledger_out_of_reach_is_transient_and_names_no_password():
    ledger = Ledger("postgresql+psycopg://waybill:hunter2@127.0.0.1:1/none")
    with pytest.raises(TransientError, match="the ledger does not answer") as caught:
        ledger.ready()
    assert "hunter2" not in str(caught.value)
    assert "WAYBILL_LEDGER_URL" in str(caught.value)
    ledger.close()


def test_a_shared_ledger_that_is_behind_asks_for_the_upgrade(postgres):
    ledger = Ledger(postgres.url)
    ledger.ready()
    with ledger.begin() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '0000'")
    with pytest.raises(PermanentError, match="waybill ledger upgrade"):
        ledger.ready()
    ledger.close()


@pytest.mark.parametrize("step", [Ledger.ready, Ledger.upgrade])
def test_a_ledger_that_a_newer_version_upgraded_is_refused_by_name(ledger, step):
    with ledger.begin() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '9999'")
    with pytest.raises(PermanentError, match="migration 9999, which a newer version of Waybill made") as caught:
        step(ledger)
    assert caught.value.code == "ledger_newer"


def test_delivery_ids_sort_by_time_and_never_repeat():
    ids = [engine.new_id() for _ in range(2000)]
    assert len(set(ids)) == 2000
    assert {(item[12], item[16] in "89ab") for item in ids} == {("7", True)}
    assert [item[:12] for item in ids] == sorted(item[:12] for item in ids)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("nonsense", "is not a database URL"),
        ("postgresql+psycopg://u:planted@127.0.0.1:port/x", "is not a database URL"),
        ("mysql://u:planted@h/x", "names a database of another kind (mysql)"),
        ("postgresql+asdf://u:planted@h/x", "names a driver that is not installed (postgresql+asdf)"),
        ("sqlite://", "names a database in memory"),
        ("sqlite:///:memory:", "names a database in memory"),
    ],
)
def test_a_url_no_ledger_can_be_behind_is_refused_with_what_is_allowed(url: str, why: str) -> None:
    with pytest.raises(PermanentError) as caught:
        Ledger(url)
    assert why in str(caught.value)
    assert "allowed: sqlite:///" in str(caught.value)
    assert "planted" not in str(caught.value)
