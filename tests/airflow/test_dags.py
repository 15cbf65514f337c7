"""The DAG files: what parsing them costs, what they look like, what a run delivers, what fails how."""

import importlib.util
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pendulum
import pytest
from sqlalchemy import text

from tests.airflows import environment
from tests.installations import DAY, NOON, THEME, Place, catalog, make_place
from waybill.airflow import tasks
from waybill.airflow.retries import retry_policy
from waybill.configuration.registration import Registration, starts_at
from waybill.deliveries import repairs, sizing
from waybill.deliveries.planning import plan
from waybill.deliveries.reports.describing import listed
from waybill.deliveries.running import PlannedRun, finish
from waybill.errors import ConfigError, ConflictError, PermanentError, TransientError
from waybill.ledger import deliveries, destinations
from waybill.ledger.registrations import Provenance
from waybill.registrations.applying import apply, record
from waybill.sources.duckdb import engine
from waybill.window import Frequency, cron, local_time

HEAVY = (
    *("pandas", "pyarrow", "asyncssh", "duckdb", "paramiko", "boto3", "alembic"),
    *("waybill.configuration.loading", "waybill.deliveries.running", "waybill.installation"),
    *("waybill.registrations.applying", "waybill.requests.fulfilment.running"),
)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """An installation that the environment points to, as Airflow's processes find it."""
    with closing(make_place(tmp_path)) as made, environment(WAYBILL_CONFIG_DIR=str(tmp_path / "config")):
        yield made


def parsed(repository: Path, name: str) -> ModuleType:
    """A DAG file, executed anew as the DAG processor does."""
    spec = importlib.util.spec_from_file_location(name, repository / "dags" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def dags(repository: Path) -> Callable[[], dict[str, Any]]:
    """Parses the DAG files and returns their DAGs by id; no file may fail."""

    def load() -> dict[str, Any]:
        from airflow.dag_processing.dagbag import DagBag

        bag = DagBag(str(repository / "dags"), bundle_path=repository / "dags", bundle_name="dags-folder")
        assert bag.import_errors == {}
        return dict(bag.dags)

    return load


def imported_by(repository: Path, *names: str, **env: str) -> set[str]:
    """The heavy modules a fresh process has loaded after parsing these DAG files, beyond those airflow.sdk brings itself."""
    program = (
        "import sys, json, runpy\n"
        "from airflow.sdk import DAG, AssetAlias, CronTriggerTimetable, Param, task\n"
        "from airflow.sdk.exceptions import AirflowSkipException\n"
        "before = set(sys.modules)\n"
        f"for name in {[str(repository / 'dags' / f'{name}.py') for name in names]!r}: runpy.run_path(name)\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in set(sys.modules) - before]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, **env}, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "zone", ["America/New_York", "America/Havana", "America/Santiago", "Africa/Cairo", "Australia/Lord_Howe", "Antarctica/Troll"]
)
def test_pages_and_promises_expect_a_run_when_airflow_starts_it_on_days_when_clocks_change(zone):
    """Troll's clock moves by two hours; in Havana, Santiago and Cairo clocks change at midnight."""
    from airflow.timetables.base import DataInterval, TimeRestriction
    from airflow.timetables.trigger import CronTriggerTimetable

    noons = [datetime(2026, 1, 1, 12, tzinfo=UTC) + number * DAY for number in range(365)]
    offsets = [noon.astimezone(ZoneInfo(zone)).utcoffset() for noon in noons]
    changes = [noon.date() for noon, before, after in zip(noons[1:], offsets, offsets[1:], strict=False) if before != after]
    for half_hour in range(48):
        at = starts_at("acme", f"{half_hour // 2:02}:{half_hour % 2 * 30:02}")
        timetable = CronTriggerTimetable(cron([Frequency.DAILY], at.minute, at.hour), timezone=zone)
        for day in (change + number * DAY for change in changes for number in (-1, 0)):
            expected, last = local_time(day, at, ZoneInfo(zone)), local_time(day - DAY, at, ZoneInfo(zone))
            interval = DataInterval.exact(pendulum.instance(last))
            run = timetable.next_dagrun_info(last_automated_data_interval=interval, restriction=TimeRestriction(None, None, True))
            assert run is not None
            assert run.run_after == expected, (day, at)


def test_a_tenants_dag_has_the_structure_and_schedule_of_its_registration(place, dags):
    place.tenant(timezone="Europe/Berlin", deliverAt="02:30", destination={"kind": "sftp", "connection": "acme_sftp", "root": "/in"})
    apply(place.installation(), actor="test")
    found = dags()
    assert {"apply_config", "export__acme", "housekeeping"} <= set(found)
    dag = found["export__acme"]
    assert {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks} == {
        "plan": ["deliver"],
        "deliver": ["announce"],
        "announce": ["close_day"],
        "close_day": [],
    }
    assert type(dag.timetable).__name__ == "CronTriggerTimetable"
    assert (dag.timetable.expression, str(dag.timetable.timezone)) == ("30 2 * * *", "Europe/Berlin")
    assert (dag.catchup, dag.max_active_runs, dag.tags) == (False, 1, {"tenant:acme", "daily"})
    assert dag.start_date == datetime(2020, 1, 1, tzinfo=UTC)
    assert dag.get_task("plan").pool == "waybill.sftp.acme_sftp"
    assert dag.get_task("deliver").partial_kwargs["pool"] == "waybill.sftp.acme_sftp.full", "a full load delays no daily delivery"
    for words in (
        "acme",
        "config/tenants/acme.yaml",
        "`theme`, `user`",
        "daily, at 02:30 Europe/Berlin",
        "`acme_sftp`",
        "waybill backfill acme",
    ):
        assert words in dag.doc_md


def test_the_manual_trigger_offers_the_tenants_entities(place, dags):
    apply(place.installation(), actor="test")
    params = dags()["export__acme"].params
    assert params.get_param("entities").schema["examples"] == ["theme", "user"]
    assert params.dump() == {"entities": None, "full_load": False, "until": None}


@pytest.mark.parametrize(
    ("body", "expression"),
    [
        ({"frequency": "weekly", "deliverAt": "05:00"}, "0 5 * * 1"),
        ({"frequency": "monthly", "deliverAt": "05:00"}, "0 5 1 * *"),
    ],
    ids=["weekly", "monthly"],
)
def test_each_frequency_has_its_cron(place, dags, body, expression):
    place.tenant(**body)
    apply(place.installation(), actor="test")
    assert dags()["export__acme"].timetable.expression == expression


def next_run(dag: Any, last: datetime) -> datetime:
    """When Airflow's scheduler would run this DAG after its run of `last`."""
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.timetables.base import DataInterval, TimeRestriction

    stored = LazyDeserializedDAG.from_dag(dag)._real_dag
    found = stored.timetable.next_dagrun_info(
        last_automated_data_interval=DataInterval(pendulum.instance(last), pendulum.instance(last)),
        restriction=TimeRestriction(pendulum.instance(stored.start_date), None, stored.catchup),
    )
    return datetime.fromisoformat(found.run_after.isoformat())


@pytest.mark.parametrize(("frequency", "days"), [("weekly", range(1, 8)), ("monthly", range(1, 32))])
def test_after_a_change_of_the_frequency_the_first_due_day_is_not_skipped(place, dags, frequency, days):
    place.tenant(frequency=frequency, deliverAt="01:00")
    apply(place.installation(), actor="test")
    last = datetime.now(UTC).replace(hour=1, minute=0, second=0, microsecond=0)
    starts = Frequency(frequency).first_day
    expected = next(day for day in (last + number * DAY for number in days) if starts(day.date()) == day.date())
    assert next_run(dags()["export__acme"], last) == expected


def test_a_disabled_tenant_keeps_its_dag_without_a_schedule(place, dags):
    place.tenant(exportOption="disable export")
    apply(place.installation(), actor="test")
    dag = dags()["export__acme"]
    assert type(dag.timetable).__name__ == "NullTimetable"
    assert [task.task_id for task in dag.tasks] == ["plan", "deliver", "announce", "close_day"]
    assert "disabled" in dag.tags
    assert "**disabled**" in dag.doc_md


def test_a_tenant_on_a_server_without_safe_renames_is_delivered_one_at_a_time(place, dags):

    installation = place.installation()
    apply(installation, actor="test")
    with installation.ledger.begin() as connection:
        destinations.store_probe(connection, "acme", {"profile": "no_cas"}, NOON)
    assert dags()["export__acme"].get_task("deliver").partial_kwargs["max_active_tis_per_dag"] == 1


def test_an_installation_without_a_ledger_has_no_tenant_dags_and_no_import_error(place, dags):
    assert sorted(dags()) == ["apply_config", "export_requests", "housekeeping"]


def test_a_ledger_out_of_reach_is_an_import_error_and_not_an_empty_house(place, repository):
    with environment(WAYBILL_LEDGER_URL="postgresql+psycopg://nobody@127.0.0.1:1/none"), pytest.raises(TransientError, match="ledger"):
        parsed(repository, "tenant_exports")


def test_a_worker_parses_its_own_dag_and_asks_no_ledger(place, repository):
    with environment(_AIRFLOW_PARSING_CONTEXT_DAG_ID="export__globex", WAYBILL_LEDGER_URL="postgresql+psycopg://nobody@127.0.0.1:1/none"):
        module = parsed(repository, "tenant_exports")
    assert not hasattr(module, "each")
    assert module.tenant_dag("globex").task_dict.keys() == {"plan", "deliver", "announce", "close_day"}


def dags_by_file(folder: Path, *files: str) -> list[dict[str, list[str]]]:
    """The tenants' DAGs that each file of a folder has, for each value of WAYBILL_DAG_FILES. A process apart imports Airflow once, and
    parses them in a fresh process each time.
    """
    program = (
        "import os, sys, json\n"
        "from airflow.dag_processing.dagbag import DagBag\n"
        "for value in sys.argv[1:]:\n"
        "    os.environ['WAYBILL_DAG_FILES'] = value\n"
        "    if (child := os.fork()) == 0:\n"
        f"        bag = DagBag({str(folder)!r}, bundle_path={str(folder)!r}, bundle_name='dags-folder')\n"
        "        assert bag.import_errors == {}, bag.import_errors\n"
        "        print(json.dumps([[dag.relative_fileloc, dag.dag_id] for dag in bag.dags.values()]), flush=True)\n"
        "        os._exit(0)\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
    )
    env = os.environ | {"WAYBILL_DAG_PREFIX": "ours__\r"}  # as a file with the line ends of Windows gives it
    done = subprocess.run([sys.executable, "-c", program, *files], capture_output=True, text=True, check=True, env=env)
    lines = [line for line in done.stdout.splitlines() if line.startswith("[[")]
    assert len(lines) == len(files), done.stdout
    every = []
    for line in lines:
        found: dict[str, list[str]] = {}
        for file, dag in json.loads(line):
            found.setdefault(file, []).append(dag)
        every.append(found)
    return every


@pytest.mark.slow
def test_tenants_are_shared_out_to_several_dag_files(place, repository, tmp_path):
    tenants = ["acme", *(f"tenant-{number}" for number in range(40))]
    for tenant in tenants:
        place.tenant(tenant)
    apply(place.installation(), actor="test")
    folder = tmp_path / "dags"
    folder.mkdir()
    source = (repository / "dags/tenant_exports.py").read_text()
    for name in ("tenant_exports.py", "tenant_exports_2.py", "tenant_exports_4.py", "tenant_exports_5.py"):
        (folder / name).write_text(source)
    found, alone = dags_by_file(folder, "4", "")
    assert found.keys() == {"tenant_exports.py", "tenant_exports_2.py", "tenant_exports_4.py"}, "the fifth is one too many"
    every = sorted(f"ours__export__{tenant}" for tenant in tenants)
    assert sorted(dag for dags in found.values() for dag in dags) == every
    assert len(found["tenant_exports.py"]) > len(found["tenant_exports_2.py"]), "the first holds those of the missing third, too"
    assert {file: sorted(dags) for file, dags in alone.items()} == {"tenant_exports.py": every}


def test_a_worker_imports_nothing_heavy_to_parse(repository):
    files = ("tenant_exports", "apply_config", "export_requests", "housekeeping")
    assert imported_by(repository, *files, _AIRFLOW_PARSING_CONTEXT_DAG_ID="export__acme") == set()


def test_the_scheduler_imports_no_reader_or_sender_to_parse(place, repository):
    apply(place.installation(), actor="test")
    assert imported_by(repository, "tenant_exports") <= {"waybill.configuration.loading"}


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (TransientError("x"), "retry"),
        (PermanentError("x"), "fail"),
        (ConfigError([]), "fail"),
        (ConflictError("x"), "fail"),
        (OSError(), "default"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_the_class_of_an_error_decides_whether_airflow_tries_again(error, action):
    assert retry_policy().evaluate(error, 1, 3).action.value == action


def test_several_errors_are_tried_again_when_that_may_help_any_of_them():
    assert isinstance(tasks.together([PermanentError("a"), TransientError("b")]), TransientError)
    assert isinstance(tasks.together([ConflictError("a"), PermanentError("b")]), ConflictError)
    assert "a\nb" in str(tasks.together([PermanentError("a"), PermanentError("b")]))


def test_deliveries_share_a_task_but_one_that_failed_before_has_its_own(place):
    entities = {f"e{number}": {**THEME, "name": f"e{number}"} for number in range(11)}
    place.write("catalog.yaml", catalog(**entities))
    place.tenant(exportOption="export all", entityList=[])
    installation = place.installation()
    apply(installation, actor="test")
    third = plan(installation, "acme", NOON)[2]
    with installation.ledger.begin() as connection:
        deliveries.fail(connection, third.id, "no", "transient")
    batches = tasks.batches(plan(installation, "acme", NOON))
    assert [len(batch) for batch in batches] == [8, 2, 1]
    assert list(batches[-1]) == ["e10"]


# Runs, through Airflow's own machinery.


@pytest.fixture(scope="module")
def metadata() -> None:
    from airflow.utils.db import initdb

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Airflow's own, about its own libraries
        initdb()


@pytest.fixture
def run(metadata: None, place: Place, dags: Callable[[], dict[str, Any]]) -> Callable[..., Any]:
    """Runs a DAG to its end in this process; returns the run."""

    def run(dag: str = "export__acme", **conf: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dags()[dag].test(logical_date=None, run_conf=conf)

    return run


def states(found: Any) -> dict[str, str]:
    return {
        f"{instance.task_id}{'' if instance.map_index < 0 else instance.map_index}": str(instance.state)
        for instance in found.get_task_instances()
    }


def events(after: int = 0) -> list[tuple[int, str, dict[str, Any]]]:
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    query = select(AssetEvent.id, AssetModel.name, AssetEvent.extra).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
    with create_session() as session:
        return [tuple(row) for row in session.execute(query.where(AssetEvent.id > after).order_by(AssetEvent.id))]  # type: ignore[misc]


def last_event() -> int:
    return max((number for number, _, _ in events()), default=0)


def test_a_misspelt_parameter_of_a_trigger_is_refused_and_nothing_is_planned(place):
    """Airflow passes on what a trigger names, so a full load that was misspelt ended green without one."""
    apply(place.installation(), actor="test")
    with pytest.raises(PermanentError, match=r"no parameter 'full_laod' \(allowed: entities, full_load, until\)"):
        tasks.plan("acme", context("manual", None, full_laod=True))
    assert place.files() == []


def test_a_trigger_up_to_a_time_that_lies_ahead_delivers_up_to_now_and_says_so(place, caplog):
    apply(place.installation(), actor="test")
    with caplog.at_level("INFO"):
        found = tasks.plan("acme", context("manual", None, until="2999-01-01T00:00:00Z"))
    assert [delivery.planned_to <= found.until <= datetime.now(UTC) for delivery in found.due] == [True, True]
    assert "until 2999-01-01 00:00:00+00:00 lies ahead: delivering up to now, " in caplog.text
    finish(place.installation(), "acme", found.until, [delivery.id for delivery in found.due])
    caplog.clear()
    with caplog.at_level("INFO"):
        tasks.plan("acme", context("manual", None, until="2999-01-01T00:00:00Z"))
    assert "nothing more is due up to 20" in caplog.text


def test_a_run_delivers_the_full_load_and_the_next_the_delta_and_announces_both(run, place):
    seen = last_event()
    apply(place.installation(), actor="test")
    place.user(1, "Ada", NOON - DAY)
    first = run(until=NOON.isoformat())
    assert states(first) == {"plan": "success", "deliver0": "success", "announce": "success", "close_day": "success"}
    assert [instance.rendered_map_index for instance in first.get_task_instances() if instance.task_id == "deliver"] == ["theme, user"]
    place.user(2, "Bob", NOON)
    second = run(until=(NOON + DAY).isoformat())
    assert str(second.state) == "success"
    assert states(second) == {"plan": "success", "deliver": "skipped", "announce": "skipped", "close_day": "skipped"}, "one process did it"
    assert [row[1] for row in place.rows()] == ["Ada", "Bob"]
    assert "exports/acme/2026/06/01/_MANIFEST.json" in place.files()
    announced = [(name, extra["sequence"], extra["kind"], extra["rows"]) for _, name, extra in events(seen)]
    assert announced == [
        ("export/acme/theme", 1, "full", 0),
        ("export/acme/user", 1, "full", 1),
        ("export/acme/theme", 2, "full", 0),
        ("export/acme/user", 2, "delta", 1),
    ]
    manifests = {delivery["delivery_id"]: delivery["sha256"] for _, delivery in place.manifests()}
    assert {extra["delivery_id"]: extra["sha256"] for _, _, extra in events(seen)} == manifests


def test_a_failing_entity_fails_the_run_and_leaves_the_others_delivered_and_announced(run, place):
    seen = last_event()
    apply(place.installation(), actor="test")
    place.sql('alter table "user" rename column name to nome')
    found = run(until=NOON.isoformat())
    assert states(found) == {"plan": "success", "deliver0": "failed", "announce": "success", "close_day": "failed"}
    assert str(found.state) == "failed"
    assert "exports/acme/2026/05/31/theme/theme.manifest.json" in place.files()
    assert [name for _, name, _ in events(seen)] == ["export/acme/theme"]
    place.sql('alter table "user" rename column nome to name')
    place.user(1, "Ada", NOON - 2 * DAY)
    place.user(2, "Bob", NOON)
    repaired = run(until=(NOON + DAY).isoformat())
    assert str(repaired.state) == "success"
    assert [instance.rendered_map_index for instance in repaired.get_task_instances() if instance.task_id == "deliver"] == ["user"]
    assert [row[1] for row in place.rows()] == ["Ada", "Bob"], "the overdue window and the one behind it"
    assert {"exports/acme/2026/05/31/_MANIFEST.json", "exports/acme/2026/06/01/_MANIFEST.json"} <= set(place.files())


def test_a_small_delivery_that_fails_gets_a_task_that_bears_its_name_and_the_others_are_announced_once(run, place):
    from waybill.airflow.scheduler import AirflowScheduler

    apply(place.installation(), actor="test")
    run(until=NOON.isoformat())
    seen = last_event()
    place.sql('alter table "user" rename column name to nome')
    place.user(1, "Ada", NOON)
    found = run(until=(NOON + DAY).isoformat())
    assert states(found) == {"plan": "success", "deliver0": "failed", "announce": "success", "close_day": "failed"}
    assert [instance.rendered_map_index for instance in found.get_task_instances() if instance.task_id == "deliver"] == ["user"]
    assert [(name, extra["sequence"]) for _, name, extra in events(seen)] == [("export/acme/theme", 2)]
    newest = {delivery["entity"]: delivery["delivery_id"] for delivery in listed(place.installation(), "acme", limit=2)}
    run_id = quote(found.run_id)
    log_of = AirflowScheduler().log_of
    assert log_of("acme", newest["user"]) == f"dags/export__acme/runs/{run_id}/tasks/deliver/mapped/0?try_number=1"
    assert log_of("acme", newest["theme"]) == f"dags/export__acme/runs/{run_id}/tasks/plan?try_number=1"


def test_entities_that_one_cause_stopped_share_a_task(place):
    entities = {f"e{number}": {**THEME, "name": f"e{number}"} for number in range(5)}
    place.write("catalog.yaml", catalog(**entities))
    place.tenant(exportOption="export all", entityList=[])
    place.run(NOON)
    (place.root / "out").rename(place.root / "away")
    (place.root / "out").write_text("a file where the destination's folder was")
    installation = place.installation()
    found = PlannedRun(installation, "acme", NOON + DAY, plan(installation, "acme", NOON + DAY), [])
    begun = tasks.begin(found)
    assert [len(batch) for batch in begun.batches] == [5]
    assert (begun.events, begun.closed) == ([], False)


def test_what_a_killed_try_committed_is_announced_by_the_next(place):
    place.run(NOON)
    installation = place.installation()
    started = datetime.now(UTC)
    due = plan(installation, "acme", NOON + DAY)
    assert all(result.error is None for result in finish(installation, "acme", NOON + DAY, [due[0].id]))
    again = PlannedRun(installation, "acme", NOON + DAY, plan(installation, "acme", NOON + DAY), [])
    begun = tasks.begin(again, killed_since=started)
    # What was planned within one millisecond has ids in any order.
    assert sorted(name for name, _ in begun.events) == [f"export/acme/{delivery.entity}" for delivery in due]
    assert begun.closed


def test_what_is_large_by_its_last_delivery_or_unknown_gets_a_mapped_task(place):
    installation = place.installation()
    apply(installation, actor="test")
    first = plan(installation, "acme", NOON)
    assert sizing.small(installation, first) == [], "nobody knows how large a full load is"
    place.run(NOON)
    due = plan(installation, "acme", NOON + DAY)
    assert {delivery.entity for delivery in sizing.small(installation, due)} == {"theme", "user"}
    with installation.ledger.begin() as connection:
        connection.execute(text("UPDATE attempt SET bytes = 100000000 WHERE delivery = :id"), {"id": first[1].id})
    assert {delivery.entity for delivery in sizing.small(installation, due)} == {"theme"}
    with installation.ledger.begin() as connection:
        deliveries.fail(connection, due[0].id, "no", "transient")
    assert sizing.small(installation, plan(installation, "acme", NOON + DAY)) == []


def test_a_longer_window_is_expected_to_hold_more(place):
    place.run(NOON)
    place.run(NOON + DAY)
    installation = place.installation()
    user = next(delivery for delivery in plan(installation, "acme", NOON + 11 * DAY) if delivery.entity == "user")
    last = deliveries.LastDelivery(1000, NOON, NOON + DAY)
    assert sizing.expected_bytes(user, last) == 10_000
    assert sizing.expected_bytes(user, deliveries.LastDelivery(1000, None, NOON)) == 1000
    assert sizing.expected_bytes(user, None) is None


def test_a_run_delivers_over_one_connection_and_one_engine(place):
    place.run(NOON)
    installation = place.installation()
    due = PlannedRun(installation, "acme", NOON + DAY, plan(installation, "acme", NOON + DAY), [])
    registered = installation.registered("acme")
    with installation.kept_open():
        with installation.session(registered) as first, installation.session(registered) as second:
            assert first is second
        with engine.connect() as single, engine.connect() as other:
            assert other is not single, "it is in use"
        with engine.connect() as again:
            assert again is single
    with engine.connect() as outside:
        assert outside is not single
    assert tasks.begin(due).closed


def test_a_manual_run_takes_entities_and_a_full_load(run, place):
    apply(place.installation(), actor="test")
    run(until=NOON.isoformat())
    found = run(until=NOON.isoformat(), entities=["user"], full_load=True)
    assert str(found.state) == "success"
    assert [(delivery["entity"], delivery["generation"]) for _, delivery in place.manifests()] == [("theme", 1), ("user", 2), ("user", 1)]


def test_a_plan_that_is_tried_again_asks_for_no_second_full_load(run, place):
    apply(place.installation(), actor="test")
    run(until=NOON.isoformat())
    again = context("manual", None, entities=["user"], full_load=True, until=NOON.isoformat())
    again["dag_run"].run_after = datetime.now(UTC)
    first, second = tasks.plan("acme", again), tasks.plan("acme", again)
    assert first.planned == second.planned
    (left,) = tasks.begin(second).batches
    tasks.deliver("acme", left, again)
    assert tasks.plan("acme", again).due == []
    assert [(delivery["entity"], delivery["generation"]) for _, delivery in place.manifests()] == [("theme", 1), ("user", 2), ("user", 1)]


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({}, "user/user.csv"),
        ({"csv": {"compression": "gzip"}}, "user/user.csv.gz"),
        ({"files": {"format": "parquet"}}, "user/user.parquet"),
        ({"csv": {"max_rows_per_file": 1}}, "05/31/user"),
    ],
)
def test_the_log_of_a_plan_names_the_files_as_they_will_be(place, caplog, files, name):
    place.tenant(entityList=["user"], **files)
    apply(place.installation(), actor="test")
    with caplog.at_level("INFO"):
        found = tasks.plan("acme", context("manual", None, until=NOON.isoformat()))
        finish(place.installation(), "acme", NOON, [delivery.id for delivery in found.due])
        [sent] = place.manifests()
        repairs.queue_redelivery(place.installation(), "acme", sent[1]["delivery_id"], actor="test")
        tasks.plan("acme", context("manual", None, until=NOON.isoformat()))
    shown = [record.getMessage().rpartition(" -> ")[2] for record in caplog.records if " -> " in record.getMessage()]
    assert shown[0].endswith(f"/{name}")
    assert shown[1].endswith(name.rpartition("/")[2].replace("user", "user.g1.1.r1", 1))


def test_a_run_of_nothing_due_or_of_a_disabled_tenant_succeeds(run, place):
    place.tenant(exportOption="disable export")
    apply(place.installation(), actor="test")
    found = run(until=NOON.isoformat())
    assert states(found) == {"plan": "success", "deliver": "skipped", "announce": "skipped", "close_day": "skipped"}
    assert place.files() == []


def test_apply_config_records_the_good_files_announces_the_change_and_fails_for_the_bad_one(run, place):
    seen = last_event()
    place.write("tenants/globex.yaml", {"frequency": "hourly"})
    found = run("apply_config")
    assert states(found) == {"apply": "success", "check": "failed", "start": "skipped"}
    assert place.installation().registered("acme").actor == "airflow:apply_config"
    assert [(name, list(extra), extra["acme"]["action"]) for _, name, extra in events(seen)] == [
        ("waybill/configuration", ["acme"], "create")
    ]
    (place.root / "config/tenants/globex.yaml").unlink()
    assert states(run("apply_config")) == {"apply": "success", "check": "success", "start": "skipped"}
    assert len(events(seen)) == 1, "an apply that changes nothing announces nothing"
    of_api = Provenance("api", "operator")
    record(place.installation(), "umbrella", Registration.model_validate({"sourceTenant": "initech"}), ("user",), by=of_api)
    place.tenant("initech")
    assert states(run("apply_config")) == {"apply": "success", "check": "failed", "start": "skipped"}, "only the ledger knows it"


def test_apply_config_switches_off_many_tenants_only_when_told_to(run, place):
    apply(place.installation(), actor="test")
    (place.root / "config/tenants/acme.yaml").unlink()
    assert states(run("apply_config"))["apply"] == "failed"
    assert not place.installation().registered("acme").registration.is_disabled
    assert states(run("apply_config", allow_mass_deactivation=True))["apply"] == "success"
    assert place.installation().registered("acme").registration.is_disabled


def test_apply_config_starts_the_dag_of_a_tenant_that_is_to_receive_something_new(run, place):
    place.tenant(entityList=["user"])
    apply(place.installation(), actor="test")
    run(until=NOON.isoformat())
    place.tenant(entityList=["user", "theme"])
    assert states(run("apply_config")) == {"apply": "success", "check": "success", "start0": "success"}
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import delete, select

    with create_session() as session:
        waiting = (DagRun.dag_id == "export__acme", DagRun.state == "queued")
        assert len(list(session.scalars(select(DagRun).where(*waiting)))) == 1
        session.execute(delete(DagRun).where(*waiting))


def parse_requests() -> int:
    """How many there are; they are taken away, as the DAG processor does."""
    from airflow.models.dagbag import DagPriorityParsingRequest
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        return int(session.execute(delete(DagPriorityParsingRequest)).rowcount)


def test_the_dag_file_is_asked_for_again_until_the_dag_of_the_registration_is_there(run, place):
    from airflow.jobs.job import Job
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    from waybill.airflow.scheduler import reparsing
    from waybill.configuration.loading import Settings

    apply(place.installation(), actor="test")
    run(until=NOON.isoformat())
    settings = Settings.from_environment()
    assert reparsing.behind(settings, ["acme", "nobody"]) == set()
    place.tenant(frequency="weekly")
    apply(place.installation(), actor="test")
    assert reparsing.behind(settings, ["acme"]) == {"acme"}
    follower = reparsing.Reparser(every=0.05)
    with create_session() as session:
        session.merge(DagBundleModel(name="dags-folder"))
        session.add(Job(job_type="DagProcessorJob", state="running", latest_heartbeat=datetime.now(UTC)))
    parse_requests()
    try:
        follower.follow(["acme"])
        for _ in range(3):  # each is dropped, as one that comes while the file is being parsed
            deadline = time.monotonic() + 60
            while not parse_requests():
                assert time.monotonic() < deadline
        run(until=NOON.isoformat())
        assert follower.wait(60)
    finally:
        with create_session() as session:
            session.execute(delete(Job).where(Job.job_type == "DagProcessorJob"))
        parse_requests()


def test_housekeeping_runs(run, place):
    apply(place.installation(), actor="test")
    assert states(run("housekeeping")) == {"tidy": "success"}


def context(run_type: str, end: datetime | None, **params: Any) -> dict[str, Any]:
    """What tasks are told about their run, in the types of Airflow's SDK."""
    from airflow.sdk.api.datamodels._generated import DagRun

    facts = {"dag_id": "export__acme", "run_id": "a", "run_type": run_type, "data_interval_end": end, "state": "running"}
    rest = dict.fromkeys(("logical_date", "data_interval_start", "end_date", "partition_key"))
    times = {"run_after": NOON, "start_date": NOON, "consumed_asset_events": [], **rest}
    return {"dag_run": DagRun.model_validate({**facts, **times}), "params": params}


def test_a_scheduled_run_delivers_up_to_the_end_of_its_interval_and_a_manual_one_up_to_now_or_what_is_asked():
    assert tasks.until_of(context("scheduled", NOON)) == NOON
    assert tasks.until_of(context("manual", NOON, until="2026-05-31T14:00:00+02:00")) == NOON
    assert abs(tasks.until_of(context("manual", None)) - datetime.now(UTC)) < timedelta(minutes=1)
    with pytest.raises(PermanentError, match="RFC 3339"):
        tasks.until_of(context("manual", None, until="2026-05-31"))


def test_a_backfill_of_airflows_plans_nothing():
    assert tasks.is_backfill(context("backfill", NOON))
    assert tasks.planned_by(context("backfill", NOON)) == {}
    assert not tasks.is_backfill(context("scheduled", NOON))


def test_a_pool_is_made_when_the_first_run_that_needs_it_starts_and_never_changed_again(metadata, place, dags):
    from airflow.models.dagrun import DagRun
    from airflow.models.pool import Pool
    from airflow.utils.session import create_session
    from sqlalchemy import select

    from waybill.airflow import listener

    place.write("policy.yaml", {"connections": 6, "connections_of": {"other": 1}})
    place.tenant(destination={"kind": "sftp", "connection": "pooled_sftp", "root": "/"})
    apply(place.installation(), actor="test")
    dag = dags()["export__acme"]
    with create_session() as session:
        started = DagRun(dag_id="export__acme", run_id="a", run_type="manual")
        session.add(started)
        started.dag = dag
        listener.on_dag_run_running(started, "started")
        session.flush()
        made = {value.pool: value for value in session.scalars(select(Pool).where(Pool.pool.startswith("waybill.sftp.pooled_sftp")))}
        assert {name: value.slots for name, value in made.items()} == {"waybill.sftp.pooled_sftp": 6, "waybill.sftp.pooled_sftp.full": 3}
        changed = made["waybill.sftp.pooled_sftp"]
        changed.slots = 1
        session.flush()
        listener.on_dag_run_running(started, "started")
        session.refresh(changed)
        assert changed.slots == 1
        session.rollback()


@pytest.mark.parametrize(
    ("pool", "slots"),
    [
        ("waybill.sftp.acme_sftp", 4),
        ("waybill.sftp.acme_sftp.full", 2),
        ("waybill.sftp.narrow", 1),
        ("waybill.sftp.narrow.full", 1),
        ("waybill.s3.wide", 30),
        ("waybill.folder", 64),
        ("waybill.folder.full", 32),
        ("waybill.default", 9),
        ("waybill.default.full", 4),
    ],
)
def test_the_slots_of_a_pool_follow_policy_and_folders_have_no_narrow_lane(pool, slots):
    from waybill.airflow import listener
    from waybill.configuration.policy import Policy

    of = {"narrow": 1, "wide": 30, "house": 9}
    policy = Policy.model_validate({"connections_of": of, "destination": {"kind": "sftp", "connection": "house"}})
    assert listener.slots_of(pool, policy) == slots


def test_a_celery_worker_imports_before_its_pool_forks_what_every_task_needs(tmp_path):
    program = (
        "import sys, json\n"
        "from airflow.configuration import conf\n"
        "options = conf.getimport('celery', 'celery_config_options')\n"
        "from celery import Celery\n"
        "app = Celery('worker', config_source=options)\n"
        "before = 'waybill.deliveries.running' in sys.modules\n"
        "from celery.signals import worker_init\n"
        "worker_init.send(sender=None)\n"
        "print(json.dumps([before, 'waybill.deliveries.running' in sys.modules, 'duckdb' in sys.modules]))\n"
    )
    named = {"AIRFLOW__CELERY__CELERY_CONFIG_OPTIONS": "waybill.airflow.celery_worker.CONFIG", "AIRFLOW_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, **named}, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [False, True, True]
