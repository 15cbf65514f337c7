"""What Airflow itself costs: a night of many tenants with small entities, first full loads and an ordinary day's changes, among few and
many registered tenants; and parsing at 100, 500 and 2,000 tenants.

`python -m bench airflow_cost [--quick]` prints one line per figure. A real `airflow standalone` (scheduler with LocalExecutor, DAG
processor, triggerer, API server) has its metadata and the ledger in PostgreSQL; rows come from DuckDB and go to a folder, so what is
measured is Airflow. `python -m bench.airflow_cost --tenants 20 --registered 200 --set CORE__PARALLELISM=4` measures one ordinary night with
settings of one's own, and `--processes` what the process of one tenant's night needs by itself, at 10 to 10,000 registered tenants.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg

from bench.leg import Figure, Line
from tests.installations import USER, Place, catalog
from tests.servers.postgres import Database, serve_postgres
from tests.servers.process import free_port
from tests.servers.redis import Redis
from waybill.airflow.names import exports_file
from waybill_demo.stage import Stage, environment
from waybill_demo.standalone import Airflow, standalone

REPOSITORY = Path(__file__).parents[1]
ENTITIES = 6
NAMES = [f"entity_{number}" for number in range(ENTITIES)]
ROWS = 200
MEASURED = 5
"""Tenants whose own processes are looked at."""
KINDS = ("worker", "supervisor", "scheduler", "api", "dag-processor", "triggerer", "standalone")
CELERY = """
trap 'kill $(jobs -p)' TERM
for command in scheduler dag-processor triggerer api-server 'celery worker'; do "$0" -m airflow $command & done
wait
wait
"""
"""The processes of docker-compose.yaml, under one shell."""
IDLE_SECONDS = 20.0
NIGHT_SECONDS = 3600.0
SETTINGS = {"CORE__PARALLELISM": "4", "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300"}
"""Those of docs/operating.md, for two cores."""
CELERY_SETTINGS = {
    "CORE__EXECUTOR": "CeleryExecutor",
    "CELERY__CELERY_CONFIG_OPTIONS": "waybill.airflow.celery_worker.CONFIG",
    "CELERY__WORKER_PREFETCH_MULTIPLIER": "1",
    "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.25",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "10",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "45",
}
"""Those of docker-compose.yaml that a night depends on."""


@dataclass(frozen=True)
class Night:
    """`cpu` is that of all of Airflow's processes, `database` that of PostgreSQL, both without what they need when idle."""

    seconds: float
    tasks: int
    deliveries: int
    cpu: float
    database: float
    idle: float
    slowest_start: float
    slots: float
    """The share of the time between the first task's start and the last one's end in which the slots ran tasks."""
    freed: float
    """Seconds from a task's end to the queueing of the next one in its slot, on average."""
    first: float
    """Seconds from the unpausing to the first task's start."""
    unused: float
    """The share of the machine's processor time that nobody used meanwhile."""
    parts: dict[str, float]
    """CPU seconds of Airflow by kind of process."""


def legs(quick: bool) -> Iterator[Line]:
    with _installation(1) as house:
        settings = _environment(house, SETTINGS, free_port(), "")
        subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], env=settings, check=True, capture_output=True)
        for tenants, files in ((100, 1), (500, 1)) if quick else ((100, 1), (500, 1), (2_000, 1), (2_000, 16), (10_000, 16)):
            _register(house.place, tenants)
            yield from _parsing(house, settings, tenants, files)
    yield from _processes((10, 100)) if quick else _processes()
    tenants = 10 if quick else 100
    with _installation(tenants) as house:
        yield from _told(f"first full loads of {tenants} tenants", tenants, spend(house, tenants, tenants, SETTINGS))
    for registered, celery in ((tenants, False), (20 * tenants, False), (20 * tenants, True)):
        with _installation(tenants, registered) as house:
            _deliver_full_loads(house, range(tenants))
            what = f"an ordinary night of {tenants} tenants among {registered:,} registered{', Celery' if celery else ''}"
            yield from _told(what, tenants, spend(house, tenants, registered, SETTINGS, celery=celery))


def _told(what: str, tenants: int, night: Night) -> Iterator[Line]:
    what = f"Airflow, {what} x {ENTITIES} small entities"
    yield Figure(f"{what} | per tenant (goal: 0.9)", night.cpu / tenants, "s of CPU")
    yield Figure(f"{what} | 1,000 of them on these cores (goal: 15)", 1000 * night.seconds / tenants / 60, "minutes")
    yield Figure(f"{what} | wall time", night.seconds, "s")
    yield Figure(f"{what} | tasks per minute", 60 * night.tasks / night.seconds, "tasks")
    yield Figure(f"{what} | per task", night.cpu / night.tasks, "s of CPU")
    yield Figure(f"{what} | per delivered entity", night.cpu / night.deliveries, "s of CPU")
    yield Figure(f"{what} | its database, per delivered entity", night.database / night.deliveries, "s of CPU")
    yield Figure(f"{what} | when idle", 100 * night.idle, "% of a core")
    yield Figure(f"{what} | longest start of a task", night.slowest_start, "s")
    yield Figure(f"{what} | first task begins after", night.first, "s")
    yield Figure(f"{what} | slots that run a task, from then on", 100 * night.slots, "%")
    yield Figure(f"{what} | a freed slot gets its next task after", night.freed, "s")
    yield Figure(f"{what} | of the machine, used by nobody", 100 * night.unused, "%")


def _processes(sizes: Sequence[int] = (10, 100, 2_000, 10_000)) -> Iterator[Line]:
    """The process that Airflow forks for a tenant's ordinary night, from its parse of the DAG file to the closed day, without Airflow's own
    supervisor, scheduler and API server: the median of the processes of a few tenants.
    """
    with ExitStack() as stack:
        houses = {registered: stack.enter_context(_installation(MEASURED, registered)) for registered in sizes}
        settings = {}
        for registered, house in houses.items():
            _deliver_full_loads(house, range(MEASURED))
            settings[registered] = _environment(house, SETTINGS, free_port(), "")
        used: dict[int, list[float]] = {registered: [] for registered in sizes}
        for number in range(MEASURED):  # in turn, so that a busy machine is as busy for each
            for registered, environment in settings.items():
                argv = [sys.executable, "-m", "bench.airflow_cost", "--night", _name(number)]
                done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
                used[registered].append(float(done.stdout.splitlines()[-1]))
    for registered, seconds in used.items():
        what = f"Airflow, the process of one ordinary night x {ENTITIES} small entities"
        yield Figure(f"{what} | at {registered:,} registered tenants (goal: flat within 10 %)", statistics.median(seconds), "s of CPU")


def _measured_night(tenant: str) -> float:
    """CPU seconds of the process of a tenant's night, forked from one that is as warm as a worker."""
    from waybill.airflow.listener import warm

    warm()
    _forked(lambda: None)
    return _forked(lambda: _night(tenant))


def _forked(work: Callable[[], None]) -> float:
    child = os.fork()
    if not child:
        done = False
        try:
            work()
            done = True
        finally:
            if not done:
                traceback.print_exc()
            os._exit(0 if done else 1)
    _, status, used = os.wait4(child, 0)
    if status:
        raise RuntimeError("the night failed")
    return used.ru_utime + used.ru_stime


def _night(tenant: str) -> None:
    from waybill.airflow import tasks

    os.environ |= {"_AIRFLOW_PARSING_CONTEXT_DAG_ID": f"export__{tenant}", "_AIRFLOW_PARSING_CONTEXT_TASK_ID": "plan"}
    runpy.run_path(str(REPOSITORY / "dags" / "tenant_exports.py"))
    run = SimpleNamespace(run_type="scheduled", data_interval_end=datetime.now(UTC), run_after=datetime.now(UTC))
    begun = tasks.begin(tasks.plan(tenant, {"dag_run": run, "params": {}}))
    if not begun.closed or len(begun.events) != ENTITIES:
        raise RuntimeError(f"{tenant}: {begun}")


def _parsing(house: House, settings: Mapping[str, str], tenants: int, files: int) -> Iterator[Line]:
    """CPU seconds of one of `files` DAG files, without those of the database, in processes that have Airflow imported, as those
    that the DAG processor and workers fork.
    """
    folder = house.folder / f"dags-of-{files}"
    folder.mkdir(exist_ok=True)
    for number in range(1, files + 1):
        shutil.copy(REPOSITORY / "dags" / "tenant_exports.py", folder / exports_file(number))
    settings = {**settings, "WAYBILL_DAG_FILES": str(files)}
    argv = [sys.executable, "-m", "bench.airflow_cost", "--parse", str(folder)]
    everything = json.loads(subprocess.run(argv, env=dict(settings), capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    context = {"_AIRFLOW_PARSING_CONTEXT_DAG_ID": f"export__{_name(tenants - 1)}", "_AIRFLOW_PARSING_CONTEXT_TASK_ID": "plan"}
    single = json.loads(
        subprocess.run(argv, env={**settings, **context}, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    )
    if single["dags"] != 1 or not 0.5 < everything["dags"] * files / tenants < 2:
        raise RuntimeError(f"{everything['dags']} of {tenants} DAGs in one of {files} files, {single['dags']} instead of one")
    what = f"Airflow, {tenants:,} tenants" + (f" in {files} files, one of them" if files > 1 else "")
    yield Figure(f"{what} | DAG processor parses", everything["parse"], "s of CPU")
    yield Figure(f"{what} | DAG processor serialises", everything["serialise"], "s of CPU")
    yield Figure(f"{what} | DAG processor writes into the database at first", everything["first"], "s of CPU")
    yield Figure(f"{what} | DAG processor writes when nothing changed", everything["again"], "s of CPU")
    yield Figure(f"{what} | a worker parses", single["parse"], "s of CPU")


def _parse(folder: Path) -> dict[str, float]:
    from airflow.dag_processing.collection import update_dag_parsing_results_in_db
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.dag_processing.processor import _serialize_dags
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session

    told: dict[str, float] = {}
    file = folder / exports_file()

    def timed(what: str, began: float) -> None:
        told[what] = time.process_time() - began

    began = time.process_time()
    bag = BundleDagBag(dag_folder=str(file), bundle_path=folder, bundle_name="dags-folder", load_op_links=False)
    timed("parse", began)
    told["dags"] = len(bag.dags)
    if bag.import_errors:
        raise RuntimeError(str(bag.import_errors))
    if "_AIRFLOW_PARSING_CONTEXT_DAG_ID" in os.environ:
        return told
    began = time.process_time()
    serialised, _ = _serialize_dags(bag, None)  # type: ignore[arg-type]
    timed("serialise", began)
    with create_session() as session:
        session.merge(DagBundleModel(name="dags-folder"))
    for what in ("first", "again"):
        began = time.process_time()
        with create_session() as session:
            update_dag_parsing_results_in_db("dags-folder", None, serialised, {}, 1.0, set(), session, files_parsed=set())
        timed(what, began)
    return told


@dataclass(frozen=True)
class House:
    place: Place
    metadata: Database
    postgres: int
    """Process id of the server of both databases."""

    @property
    def folder(self) -> Path:
        return self.place.root


@contextmanager
def _installation(tenants: int, registered: int = 0) -> Iterator[House]:
    """`tenants` have rows; `registered` have a file, where that is more."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        serve_postgres() as cluster,
        cluster.database() as metadata,
        cluster.database() as ledger,
    ):
        place = Place(Path(scratch), ledger_url=ledger.url)
        place.write("catalog.yaml", catalog(**{name: {**USER, "name": name, "relation": name} for name in NAMES}))
        for name in NAMES:
            place.sql(
                f"create table {name} as select 'tenant-' || lpad((i // {ROWS})::varchar, 4, '0') as tenant_id, i as id, "
                "'name ' || i as name, "
                "timestamptz '2026-01-01 00:00:00+00' + to_seconds(i) as updated_at, null::timestamptz as deleted_at "
                f"from range({tenants * ROWS}) t(i)"
            )
        _register(place, max(tenants, registered))
        yield House(place, metadata, cluster.pid)


def _deliver_full_loads(house: House, tenants: Iterable[int]) -> None:
    """What an ordinary night begins with: everything was delivered two days ago, and a few rows changed since."""
    from waybill.deliveries.running import run

    installation, before = house.place.installation(), datetime.now(UTC) - timedelta(days=2)
    for number in tenants:
        if failed := [result.error for result in run(installation, _name(number), before) if result.error]:
            raise RuntimeError(str(failed[0]))
    house.place.close()
    changed = (datetime.now(UTC) - timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(hours=6)
    for name in NAMES:
        house.place.sql(f"update {name} set updated_at = timestamptz '{changed.isoformat()}' where id % {ROWS} < 5")


def _register(place: Place, tenants: int) -> None:
    from waybill.registrations import applying

    for number in range(tenants):
        place.tenant(_name(number), entityList=NAMES)
    applying.apply(place.installation(), actor="bench")
    place.close()


def _name(number: int) -> str:
    return f"tenant-{number:04}"


def _environment(house: House, settings: Mapping[str, str], port: int, password: str) -> dict[str, str]:
    stage = Stage(REPOSITORY, house.folder)
    return {
        **environment(stage, {}, port, password, calendar=True),
        "WAYBILL_LEDGER_URL": house.place.ledger_url,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": house.metadata.url,
        **{f"AIRFLOW__{name}": value for name, value in settings.items()},
    }


@contextmanager
def _airflow(house: House, settings: Mapping[str, str], *, celery: bool) -> Iterator[Airflow]:
    """Airflow under LocalExecutor, or under Celery with one worker and Redis, with every DAG paused."""
    port, password = free_port(), secrets.token_urlsafe(12)
    environment = _environment(house, {"CORE__DAGS_ARE_PAUSED_AT_CREATION": "True", **settings}, port, password)
    url, log = f"http://127.0.0.1:{port}", house.folder / "airflow.log"
    if not celery:
        with standalone(environment, url, log) as airflow:
            yield airflow
        return
    redis = Redis(house.folder, free_port(), [])
    redis.start()
    parallelism = environment["AIRFLOW__CORE__PARALLELISM"]
    environment |= {f"AIRFLOW__{name}": value for name, value in (CELERY_SETTINGS | settings).items()}
    environment |= {
        "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{redis.port}/0",
        "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{house.metadata.url}",
        "AIRFLOW__CELERY__WORKER_CONCURRENCY": settings.get("CELERY__WORKER_CONCURRENCY", parallelism),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
    }
    try:
        subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], env=environment, check=True, capture_output=True)
        with standalone(environment, url, log, ["bash", "-c", CELERY, sys.executable]) as airflow:
            yield airflow
    finally:
        redis.stop()


def spend(house: House, tenants: int, registered: int, settings: Mapping[str, str], *, celery: bool = False) -> Night:
    """Start Airflow with every DAG paused, unpause the tenants' at once, and wait until each has its run behind it."""
    with (
        _airflow(house, settings, celery=celery) as airflow,
        psycopg.connect(house.metadata.dsn, autocommit=True) as connection,
    ):
        airflow.wait_until_healthy()
        airflow._wait(lambda: _count(connection, "dag where dag_id like 'export\\_\\_%'") == registered, 1800, "the DAGs did not appear")
        time.sleep(5)
        idle, began = _cpu(airflow, house), time.monotonic()
        time.sleep(IDLE_SECONDS)
        rate = {kind: seconds / (time.monotonic() - began) for kind, seconds in (_cpu(airflow, house) - idle).items()}
        before, began, machine = _cpu(airflow, house), time.monotonic(), _machine()
        unpaused = datetime.now(UTC)
        due = [f"export__{_name(number)}" for number in range(tenants)]
        connection.execute("update dag set is_paused = false where dag_id = any(%s)", [due])
        airflow._wait(lambda: _finished(connection) == tenants, NIGHT_SECONDS, "the night did not end")
        seconds, unused = time.monotonic() - began, [now - then for now, then in zip(_machine(), machine, strict=True)]
        spent = {kind: used - rate.get(kind, 0.0) * seconds for kind, used in (_cpu(airflow, house) - before).items()}
        database = spent.pop("database")
        tasks = _count(connection, "task_instance where dag_id like 'export\\_\\_%' and state = 'success'")
        waits = "select max(extract(epoch from start_date - queued_dttm)) from task_instance where dag_id like 'export\\_\\_%'"
        slowest = connection.execute(waits).fetchone()
        times = "select queued_dttm, start_date, end_date from task_instance where dag_id like 'export\\_\\_%' and state = 'success'"
        queued, starts, ends = (sorted(each) for each in zip(*connection.execute(times).fetchall(), strict=True))
        failed = _count(connection, "dag_run where dag_id like 'export\\_\\_%' and state = 'failed'")
        if failed:
            raise RuntimeError(f"{failed} of {tenants} runs failed")
    idle_rate = sum(each for kind, each in rate.items() if kind != "database")
    start = float(slowest[0]) if slowest else 0.0
    at_once = int(settings["CORE__PARALLELISM"])
    busy = sum((end - start).total_seconds() for start, end in zip(starts, ends, strict=True))
    slots = busy / (ends[-1] - starts[0]).total_seconds() / at_once
    freed = statistics.fmean((then - end).total_seconds() for then, end in zip(queued[at_once:], ends, strict=False))
    return Night(
        seconds,
        tasks,
        tenants * ENTITIES,
        sum(spent.values()),
        database,
        idle_rate,
        start,
        slots,
        freed,
        (starts[0] - unpaused).total_seconds(),
        unused[0] / unused[1],
        spent,
    )


def _count(connection: psycopg.Connection[Any], table: str) -> int:
    try:
        found = connection.execute(f"select count(*) from {table}").fetchone()  # type: ignore[arg-type]
    except psycopg.errors.UndefinedTable:
        return 0
    return int(found[0]) if found else 0


def _finished(connection: psycopg.Connection[Any]) -> int:
    return _count(connection, "dag_run where dag_id like 'export\\_\\_%' and state in ('success', 'failed')")


def _machine() -> tuple[int, int]:
    """Processor time of the whole machine so far, in ticks: idle, and all."""
    ticks = [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return ticks[3] + ticks[4], sum(ticks)


def _cpu(airflow: Airflow, house: House) -> Counter[str]:
    """Processor seconds so far by kind of process: Airflow's own by name, `tasks` those its workers waited for, and `database`."""
    used: Counter[str] = Counter()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            stat, title = (folder / "stat").read_text().rpartition(")")[2].split(), (folder / "cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue
        own, waited = (sum(map(int, stat[start : start + 2])) / os.sysconf("SC_CLK_TCK") for start in (11, 13))
        if int(stat[3]) == airflow.process:
            kind = next((kind for kind in KINDS if kind in title), "other")
            used[kind] += own
            used["tasks" if kind == "worker" else kind] += waited
        elif house.postgres in (int(folder.name), int(stat[1])):
            used["database"] += own + waited
    return used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenants", type=int, default=10, help="how many are due")
    parser.add_argument("--registered", type=int, default=0, help="how many there are")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION__KEY=VALUE", help="another setting of Airflow for that night"
    )
    parser.add_argument("--celery", action="store_true", help="under Celery with Redis instead of LocalExecutor")
    parser.add_argument("--processes", action="store_true", help="what a tenant's own process needs, at 10 to 10,000 registered tenants")
    parser.add_argument("--parse", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--night", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.night:
        print(_measured_night(given.night))
        return
    if given.processes:
        for line in _processes():
            print(line, flush=True)
        return
    if given.parse:
        print(json.dumps(_parse(given.parse)))
        return
    registered = max(given.tenants, given.registered)
    with _installation(given.tenants, registered) as house:
        _deliver_full_loads(house, range(given.tenants))
        night = spend(
            house, given.tenants, registered, SETTINGS | dict(setting.split("=", 1) for setting in given.set), celery=given.celery
        )
        what = f"an ordinary night of {given.tenants} tenants among {registered:,} registered{', Celery' if given.celery else ''}"
        print(*_told(what, given.tenants, night), sep="\n")
        print({kind: round(used, 1) for kind, used in night.parts.items()})


if __name__ == "__main__":
    main()
