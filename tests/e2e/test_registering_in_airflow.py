"""A tenant registered by one call: its DAG, its first full load, and what later calls change, without anybody touching Airflow."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.e2e.conftest import NEWCOMER, House
from tests.installations import THEME
from tests.servers.process import tail
from waybill.airflow.names import full_pool, pool_name
from waybill.deliveries.reports import describing
from waybill.deliveries.running import run
from waybill.registrations import replacing

pytestmark = pytest.mark.slow

DAG_WITHIN = 300.0
"""Seconds from registering to the DAG's presence. Measured: about 3 on an idle machine; a busy one is slow, not broken."""
RUN_WITHIN = 600.0


def wait(house: House, what: str, seconds: float, done: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < deadline, f"{what}\n{tail(house.log)}"
        time.sleep(0.5)
    return found


def ask(house: House, method: str, path: str, **options: Any) -> httpx.Response:
    """Airflow's answer. On SQLite it answers 500 while another of its processes writes for long, and is asked again."""

    def answered() -> httpx.Response | None:
        answer = house.airflow.client.request(method, f"/api/v2{path}", **options)
        return None if answer.status_code == httpx.codes.INTERNAL_SERVER_ERROR else answer

    answer: httpx.Response = wait(house, f"{method} {path}", DAG_WITHIN, answered)
    return answer


@dataclass(frozen=True)
class Newcomer:
    """The tenant that is registered in the running Airflow."""

    house: House

    def api(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return self.house.api(method, f"/{NEWCOMER}{path}", body)

    def wait(self, what: str, seconds: float, done: Callable[[], Any]) -> Any:
        return wait(self.house, what, seconds, done)

    def dag(self) -> dict[str, Any] | None:
        answer = self.house.airflow.client.get(f"/api/v2/dags/export__{NEWCOMER}")
        return dict(answer.json()) if answer.is_success else None

    def committed(self) -> list[dict[str, Any]]:
        return list(self.api("GET", "/deliveries?status=committed").json()["items"])


def session(repository: Path) -> str:
    """The commands of docs/api.md, as they stand there."""
    found = re.search(r"^## Register a tenant$.*?^```bash\n(.*?)^```$", (repository / "docs/api.md").read_text(), re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def test_one_call_brings_the_dag_and_the_first_full_load_and_disabling_keeps_history(house: House, repository: Path) -> None:
    login = {"PATH": os.environ["PATH"], "AIRFLOW": house.url, "LOGIN": "admin", "PASSWORD": house.passwords["admin"]}
    newcomer = Newcomer(house)
    asked = time.monotonic()
    made = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", session(repository)], env=login, capture_output=True, text=True, timeout=300, check=False
    )
    assert made.returncode == 0, made.stderr
    newcomer.wait("the DAG did not appear", DAG_WITHIN, newcomer.dag)
    appeared = time.monotonic() - asked
    newcomer.wait("the first run delivered nothing", RUN_WITHIN, lambda: len(newcomer.committed()) == 2)
    print(f"DAG after {appeared:.1f} s, first full load after {time.monotonic() - asked:.1f} s")
    assert {(delivery["entity"], delivery["kind"], delivery["rows"]) for delivery in newcomer.committed()} == {
        ("user", "full", 3),
        ("theme", "full", 0),
    }
    assert all((house.office.place.out / delivery["path"].lstrip("/")).is_file() for delivery in newcomer.committed())

    started = newcomer.api("POST", "/export/full-load", {"entities": ["user"], "when": "now"})
    assert started.json()["when"] == "now"
    newcomer.wait("the full load did not run", RUN_WITHIN, lambda: any(delivery["generation"] == 2 for delivery in newcomer.committed()))

    clear_whole_run_with_mapped_tasks(newcomer)

    again = newcomer.api("POST", f"/deliveries/{newcomer.committed()[0]['deliveryId']}/redeliver")
    assert (again.status_code, again.json()["when"]) == (202, "now")
    newcomer.wait(
        "the redelivery did not run", RUN_WITHIN, lambda: any(delivery["purpose"] == "redelivery" for delivery in newcomer.committed())
    )

    newcomer.api("PUT", "/export", {"exportOption": "export selected", "entityList": ["user"], "frequency": "weekly"})
    newcomer.wait("the schedule did not follow", DAG_WITHIN, lambda: (newcomer.dag() or {})["timetable_summary"].endswith("1"))
    before = len(newcomer.committed())
    newcomer.api("PUT", "/export", {"exportOption": "disable export"})
    newcomer.wait(
        "the schedule did not stop", DAG_WITHIN, lambda: not ((newcomer.dag() or {}).get("timetable_summary") or "").endswith("1")
    )
    assert len(newcomer.committed()) == before


def clear_whole_run_with_mapped_tasks(newcomer: Newcomer) -> None:
    """The second time, `plan` has nothing left for a mapped task, and Airflow still has the one of the first time."""
    runs = f"/dags/export__{NEWCOMER}/dagRuns"

    def tasks_of(run: str) -> dict[tuple[str, int], tuple[str, int]]:
        found = ask(newcomer.house, "GET", f"{runs}/{run}/taskInstances").json()["task_instances"]
        return {(each["task_id"], each["map_index"]): (each["state"], each["try_number"]) for each in found}

    run = next(
        run["dag_run_id"]
        for run in ask(newcomer.house, "GET", f"{runs}?order_by=-run_after").json()["dag_runs"]
        if ("deliver", 0) in tasks_of(run["dag_run_id"])
    )

    def ended() -> bool:
        return bool(ask(newcomer.house, "GET", f"{runs}/{run}").json()["state"] == "success")

    newcomer.wait("the full load did not end", RUN_WITHIN, ended)
    before = newcomer.committed()
    body = {"dry_run": False, "dag_run_id": run, "only_failed": False, "reset_dag_runs": True}
    assert ask(newcomer.house, "POST", f"/dags/export__{NEWCOMER}/clearTaskInstances", json=body).is_success
    newcomer.wait("the cleared run did not end", RUN_WITHIN, lambda: ended() and tasks_of(run)["plan", -1][1] > 1)
    assert tasks_of(run)["deliver", 0][0] == "removed"
    assert newcomer.committed() == before


def _schedule(house: House, tenant: str) -> str | None:
    """What Airflow shows of a tenant's DAG; None while there is none."""
    answer = house.airflow.client.get(f"/api/v2/dags/export__{tenant}")
    return str(answer.json().get("timetable_summary") or "") if answer.is_success else None


def test_of_ten_tenants_registered_within_seconds_and_of_one_registered_again_no_dag_is_missing(house: House) -> None:
    names = [f"tenth{number}" for number in range(10)]
    asked = time.monotonic()
    for name in names:
        assert house.api("PUT", f"/{name}/export", {"exportOption": "disable export"}).is_success
    took = time.monotonic() - asked
    for name in names:
        wait(house, f"the DAG of {name} did not appear", DAG_WITHIN, lambda name=name: _schedule(house, name) is not None)
    print(f"ten registrations in {took:.1f} s, ten DAGs after {time.monotonic() - asked:.1f} s")
    first = f"/{names[0]}/export"
    for body, ends in (
        ({"entityList": ["user"], "frequency": "monthly"}, "1 * *"),
        ({"exportOption": "disable export"}, ""),
        ({"entityList": ["user"], "frequency": "weekly"}, "* * 1"),
    ):
        assert house.api("PUT", first, body).is_success
        wait(house, f"no schedule like {ends!r}", DAG_WITHIN, lambda ends=ends: (_schedule(house, names[0]) or "").endswith(ends))
    house.api("PUT", first, {"exportOption": "disable export"})


@contextmanager
def one_slot_each(house: House) -> Iterator[None]:
    """Both lanes of the folder take one delivery at a time."""
    pools = [pool_name("folder"), full_pool(pool_name("folder"))]

    def change(slots: int) -> None:
        for name in pools:
            if not ask(house, "PATCH", f"/pools/{name}", json={"pool": name, "slots": slots, "include_deferred": False}).is_success:
                ask(house, "POST", "/pools", json={"name": name, "slots": slots}).raise_for_status()

    change(1)
    try:
        yield
    finally:
        change(64)


def _running(house: House, tenant: str) -> bool:
    """Whether a mapped task of the tenant delivers now."""
    answer = ask(house, "GET", f"/dags/export__{tenant}/dagRuns/~/taskInstances", params={"state": "running"})
    return answer.is_success and any(task["task_id"] == "deliver" for task in answer.json()["task_instances"])


@contextmanager
def a_long_full_load(house: House, tenant: str) -> Iterator[None]:
    """One that a task is reading and sending. It is ended as by the button *Mark as failed*: Airflow sends the task SIGTERM."""
    place = house.office.place
    before = (place.root / "config/catalog.yaml").read_text()
    place.sql(
        f"create or replace view long as select '{tenant}' tenant_id, range id, 'a name of some length' name, "
        "timestamptz '2026-05-01' updated_at, null::timestamptz deleted_at from range(400000000)"
    )
    held = yaml.safe_load(before)
    place.write("catalog.yaml", {**held, "entities": {**held["entities"], "long": {**THEME, "name": "long", "relation": "long"}}})
    try:
        wait(house, "refused", DAG_WITHIN, lambda: house.api("PUT", f"/{tenant}/export", {"entityList": ["long"]}).is_success)
        wait(house, "the full load did not begin", RUN_WITHIN, lambda: _running(house, tenant) and _parts(house, tenant))
        yield
        runs = f"/dags/export__{tenant}/dagRuns"
        for dag_run in ask(house, "GET", runs).json()["dag_runs"]:
            ask(house, "PATCH", f"{runs}/{dag_run['dag_run_id']}", json={"state": "failed"}).raise_for_status()
        wait(house, "the attempt does not say that it was stopped", RUN_WITHIN, lambda: _stopped(house, tenant))
        assert not _parts(house, tenant)
    finally:
        house.api("PUT", f"/{tenant}/export", {"exportOption": "disable export"})
        (place.root / "config/catalog.yaml").write_text(before)


def _stopped(house: House, tenant: str) -> bool:
    listed = describing.listed(house.office.installation(), tenant)
    return [(delivery["status"], delivery["error_code"]) for delivery in listed] == [("open", "stopped")]


def _parts(house: House, tenant: str) -> list[Path]:
    return [path for path in (house.office.place.out / f"exports/{tenant}").rglob(".*.part") if path.exists() and path.stat().st_size]


def test_a_daily_delivery_starts_beside_a_long_full_load_which_ends_in_order_when_airflow_stops_it(house: House) -> None:
    today = datetime.now(UTC)
    with one_slot_each(house), a_long_full_load(house, "fabrikam"):
        # Its full load, of no row, before Airflow knows of the tenant and would begin with it: what is left is a delta.
        replacing.replace(house.office.installation(), "wingtip", {"entityList": ["user"], "deliverAt": "01:00"}, actor="test")
        assert [result.error for result in run(house.office.installation(), "wingtip", today - timedelta(days=3))] == [None]
        assert house.api("PUT", "/wingtip/export", {"entityList": ["user"]}).json()["changed"]
        wait(
            house,
            "the daily delivery waits",
            RUN_WITHIN,
            lambda: [
                item for item in describing.listed(house.office.installation(), "wingtip") if (item["kind"], item["rows"]) == ("delta", 0)
            ],
        )
        assert _running(house, "fabrikam")
