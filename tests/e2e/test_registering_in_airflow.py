"""A tenant registered by one call: its DAG, its first full load, and what later calls change, without anybody touching Airflow."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.estates import Place, make_place
from tests.servers.process import free_port, tail
from waybill.demo.stage import Stage, environment
from waybill.demo.standalone import Airflow, standalone

pytestmark = pytest.mark.slow

DAG_WITHIN = 60.0
"""Seconds from registering to the DAG's presence. Measured: about 3 on an idle machine; a busy one is slow, not broken."""
RUN_WITHIN = 240.0


@dataclass(frozen=True)
class House:
    place: Place
    airflow: Airflow
    log: Path
    login: dict[str, str]

    def api(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return self.airflow.client.request(method, f"/waybill/api/v1/tenants{path}", json=body)

    def wait(self, what: str, seconds: float, done: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := done()):
            assert time.monotonic() < deadline, f"{what}\n{tail(self.log)}"
            time.sleep(0.5)
        return found

    def dag(self) -> dict[str, Any] | None:
        answer = self.airflow.client.get("/api/v2/dags/export__acme")
        return dict(answer.json()) if answer.is_success else None

    def committed(self) -> list[dict[str, Any]]:
        return list(self.api("GET", "/acme/deliveries?status=committed").json()["items"])


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[House]:
    root = tmp_path_factory.mktemp("house")
    place = make_place(root)
    (root / "config/tenants/acme.yaml").unlink()
    place.write("policy.yaml", {"destination": {"kind": "folder", "root": "out"}})
    for number in range(5):
        place.user(number, f"user {number}", datetime.now(UTC) - timedelta(days=40))
    port, password = free_port(), secrets.token_urlsafe(12)
    settings = environment(Stage(repository, root), {}, port, password, calendar=True)
    settings["WAYBILL_CONFIG_DIR"] = str(root / "config")
    settings["AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL"] = "600"  # what appears sooner was asked for
    log = root / "airflow.log"
    with standalone(settings, f"http://127.0.0.1:{port}", log) as airflow:
        airflow.wait_until_healthy()
        airflow.log_in("admin", password)
        airflow.wait_for_dag("apply_config")
        login = {"PATH": os.environ["PATH"], "AIRFLOW": f"http://127.0.0.1:{port}", "LOGIN": "admin", "PASSWORD": password}
        yield House(place, airflow, log, login)
    place.close()


def session(repository: Path) -> str:
    """The commands of docs/api.md, as they stand there."""
    found = re.search(r"^## Register a tenant$.*?^```bash\n(.*?)^```$", (repository / "docs/api.md").read_text(), re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def test_one_call_brings_the_dag_and_the_first_full_load_and_disabling_keeps_history(house: House, repository: Path) -> None:
    asked = time.monotonic()
    made = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", session(repository)], env=house.login, capture_output=True, text=True, timeout=60, check=False
    )
    assert made.returncode == 0, made.stderr
    house.wait("the DAG did not appear", DAG_WITHIN, house.dag)
    appeared = time.monotonic() - asked
    house.wait("the first run delivered nothing", RUN_WITHIN, lambda: len(house.committed()) == 2)
    print(f"DAG after {appeared:.1f} s, first full load after {time.monotonic() - asked:.1f} s")
    assert {(one["entity"], one["kind"], one["rows"]) for one in house.committed()} == {("user", "full", 5), ("theme", "full", 0)}
    assert all((house.place.out / one["path"].lstrip("/")).is_file() for one in house.committed())

    started = house.api("POST", "/acme/export/full-load", {"entities": ["user"], "when": "now"})
    assert started.json()["when"] == "now"
    house.wait("the full load did not run", RUN_WITHIN, lambda: any(one["generation"] == 2 for one in house.committed()))

    again = house.api("POST", f"/acme/deliveries/{house.committed()[0]['deliveryId']}/redeliver")
    assert (again.status_code, again.json()["when"]) == (202, "now")
    house.wait("the redelivery did not run", RUN_WITHIN, lambda: any(one["purpose"] == "redelivery" for one in house.committed()))

    house.api("PUT", "/acme/export", {"exportOption": "export selected", "entityList": ["user"], "frequency": "weekly"})
    house.wait("the schedule did not follow", DAG_WITHIN, lambda: (house.dag() or {})["timetable_summary"].endswith("1"))
    before = len(house.committed())
    house.api("PUT", "/acme/export", {"exportOption": "disable export"})
    house.wait("the schedule did not stop", DAG_WITHIN, lambda: not ((house.dag() or {}).get("timetable_summary") or "").endswith("1"))
    assert len(house.committed()) == before
