"""`make demo`: the main job on this machine, told while it happens.

Three tenants are registered and receive their full loads, the company's life goes on by a day, deltas follow, and each tenant reads back
and checks what it got.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from waybill import private
from waybill.airflow.names import APPLY_DAG, dag_id
from waybill.configuration.catalog import DuckDBSource
from waybill.configuration.loading import Configuration
from waybill.errors import PermanentError
from waybill_consumer.manifest import Manifest, parse
from waybill_demo import consumer
from waybill_demo.consumer import Account
from waybill_demo.sftp_server import RunningServer, new_accounts, serve
from waybill_demo.stage import Stage, environment, free_port, interruptible, stage
from waybill_demo.standalone import Airflow, standalone
from waybill_demo.warehouse import build

UI_PORT = 8080
FULL_UNTIL = datetime(2026, 5, 31, 12, tzinfo=UTC)
DELTA_UNTIL = datetime(2026, 6, 1, 12, tzinfo=UTC)
"""A Monday that is also a first, so that something is due for every frequency."""


@dataclass
class Teller:
    """Prints plain lines with the seconds since the beginning."""

    began: float = field(default_factory=time.monotonic)

    def __call__(self, text: str) -> None:
        print(f"[{time.monotonic() - self.began:4.0f} s] {text}", flush=True)


def demo(*, once: bool, port: int = 0, folder: Path | None = None) -> bool:
    """Run the demo. Returns True if everything held. Without `once`, all stays up until Ctrl-C. Raises WaybillError if a step fails."""
    tell = Teller()
    if datetime.now(UTC) < DELTA_UNTIL:
        raise PermanentError(f"the demo's story reaches {DELTA_UNTIL:%Y-%m-%d}, this machine's clock does not", next_step="Set the clock")
    with interruptible(), stage(folder) as place:
        configuration = place.configuration()
        path = _warehouse(place, configuration)
        tenants = sorted(configuration.tenants)
        build.build(path, tenants)
        tell(f"built a warehouse with {build.DAYS} days of {', '.join(tenants)} up to {build.HISTORY_UNTIL}")
        with serve(new_accounts(tenants), place.served, place.folder) as server:
            tell(f"SFTP server on {server.host}:{server.port}, one account per tenant")
            return _with_airflow(_Scene(place, configuration, path, server, tell), once, port)


@dataclass(frozen=True)
class _Scene:
    place: Stage
    configuration: Configuration
    warehouse: Path
    server: RunningServer
    tell: Callable[[str], None]

    @property
    def tenants(self) -> list[str]:
        return sorted(self.configuration.tenants)


def _with_airflow(scene: _Scene, once: bool, wanted_port: int) -> bool:
    place, tell = scene.place, scene.tell
    port = free_port(wanted_port or UI_PORT)
    url, password, log = f"http://127.0.0.1:{port}", secrets.token_urlsafe(12), place.folder / "airflow.log"
    connections = {
        file.registration.destination.connection: scene.server.connection_uri(tenant)
        for tenant, file in scene.configuration.tenants.items()
        if file.registration.destination is not None and file.registration.destination.kind == "sftp"
    }
    _write_access(place, scene.server, url, password)
    with standalone(environment(place, connections, port, password), url, log) as airflow:
        tell(f"starting Airflow, its output is in {log}")
        airflow.wait_until_healthy()
        airflow.log_in("admin", password)
        tell("Airflow is healthy")
        _deliver(scene, airflow)
        held = _read_back(scene)
        _say_goodbye(scene, url, password, held, once)
        if not once:
            _wait_for_the_end(airflow)
    tell("everything is stopped")
    return held


def _deliver(scene: _Scene, airflow: Airflow) -> None:
    tell, dags = scene.tell, [dag_id(tenant) for tenant in scene.tenants]
    airflow.wait_for_dag(APPLY_DAG)
    airflow.wait_for_run(APPLY_DAG, airflow.trigger(APPLY_DAG, {}))
    tell(f"{APPLY_DAG} registered {', '.join(scene.tenants)}")
    for dag in dags:
        airflow.wait_for_dag(dag)
    tell(f"Airflow made their DAGs: {', '.join(dags)}")
    _run_all(airflow, dags, FULL_UNTIL)
    tell(f"full loads up to {FULL_UNTIL:%Y-%m-%d} delivered")
    build.advance(scene.warehouse)
    tell(f"a day went by: the warehouse stands at {build.today(scene.warehouse)}")
    _run_all(airflow, dags, DELTA_UNTIL)
    tell(f"deltas up to {DELTA_UNTIL:%Y-%m-%d} delivered")


def _run_all(airflow: Airflow, dags: Sequence[str], until: datetime) -> None:
    runs = {dag: airflow.trigger(dag, {"until": until.isoformat()}) for dag in dags}
    for dag, run in runs.items():
        airflow.wait_for_run(dag, run)


def _read_back(scene: _Scene) -> bool:
    """Let each tenant fetch what it sees and check it. Returns True if all of it is right."""
    problems: list[str] = []
    for tenant in scene.tenants:
        server, target = scene.server, scene.place.received / tenant
        account = Account(server.host, server.port, server.host_key, tenant, server.accounts[tenant])
        paths = consumer.fetch(account, target)
        scene.tell(f"what {tenant} sees over SFTP:")
        print("\n".join(consumer.tree(target, paths)), flush=True)
        report = consumer.check(target)
        found = [*(str(remark) for remark in report.problems), *_unexpected(scene, tenant, paths, target)]
        verdict = "all verified" if not found else "NOT all right"
        scene.tell(f"{tenant}: {report.manifests} manifests, {report.files} files, {report.rows:,} rows: {verdict}")
        problems += [f"{tenant}: {problem}" for problem in found]
    for problem in problems:
        scene.tell(f"PROBLEM {problem}")
    return not problems


def _unexpected(scene: _Scene, tenant: str, paths: Sequence[str], fetched: Path) -> Iterator[str]:
    """Return what a tenant lacks or should not see. It gets two deliveries of each entity, which end at the two boundaries, and nothing of
    anybody else.
    """
    file = scene.configuration.tenants[tenant]
    ends = [file.registration.frequency.floor(until, file.registration.zone) for until in (FULL_UNTIL, DELTA_UNTIL)]
    yield from (f"{path} is not this tenant's" for path in paths if not path.startswith(f"/exports/{tenant}/"))
    manifests = [_manifest(fetched, path) for path in paths if path.endswith(".manifest.json")]
    for entity in file.entities:
        got = sorted((manifest.sequence, manifest.start, manifest.end) for manifest in manifests if manifest.entity == entity)
        if got != [(1, None, ends[0]), (2, ends[0], ends[1])]:
            yield f"{entity} came as {got}, expected a full load and a delta up to {ends[0]} and {ends[1]}"
    if sum(path.endswith("/_MANIFEST.json") for path in paths) != len(ends):
        yield "there are not two day manifests"


def _manifest(fetched: Path, path: str) -> Manifest:
    return parse((fetched / path.lstrip("/")).read_bytes())


def _warehouse(place: Stage, configuration: Configuration) -> Path:
    source = configuration.catalog.sources.get("warehouse")
    if not isinstance(source, DuckDBSource):
        raise PermanentError("the demo fills the DuckDB source `warehouse`, and config/catalog.yaml has none", code="no_warehouse")
    return place.folder / source.path


def _write_access(place: Stage, server: RunningServer, url: str, password: str) -> None:
    """Write how to reach it all, for people and programs. Only the owner may read it."""
    facts = {
        "airflow": {"url": url, "user": "admin", "password": password},
        "sftp": {"host": server.host, "port": server.port, "host_key": server.host_key, "passwords": dict(server.accounts)},
    }
    private.write_text(place.access_file, json.dumps(facts, indent=2) + "\n")


def _say_goodbye(scene: _Scene, url: str, password: str, held: bool, once: bool) -> None:
    server, tell = scene.server, scene.tell
    tell("every manifest, file and chain is right" if held else "something is wrong, see the problems above")
    if once:
        return
    tell(f"Airflow:  {url}   user admin   password {password}")
    every = len(scene.tenants)
    tell(f"Waybill:  {url}/plugin/waybill   says that {every} of {every} tenants did not get their data, all late:")
    tell(f"it goes by today's date, and this company's life ends on {DELTA_UNTIL:%Y-%m-%d}. No DAG has a schedule here; “Run what is due”")
    tell("on that page delivers up to today, in files without rows.")
    tell("Exports asked for there start by themselves.")
    tell(f"SFTP:     sftp -P {server.port} {scene.tenants[0]}@{server.host}   passwords in {scene.place.access_file}")
    tell("Ctrl-C ends everything")


def _wait_for_the_end(airflow: Airflow) -> None:
    try:
        while True:
            airflow.alive()
            time.sleep(1)
    except KeyboardInterrupt:
        pass
