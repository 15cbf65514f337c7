"""Export requests in a real Airflow: asked for through the API with `curl`'s means, started within seconds by the trigger that watches."""

from __future__ import annotations

import hashlib
import io
import json
import secrets
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.asking import Office, make_office
from tests.servers.process import free_port, tail
from tests.servers.smtp import SmtpServer, serve_smtp
from waybill import service
from waybill.demo.stage import Stage, environment
from waybill.demo.standalone import Airflow, standalone

pytestmark = pytest.mark.slow

STARTED_WITHIN = 60.0
"""Seconds from asking to running. Measured: about 5 on an idle machine; a busy one is slow, not broken."""


@dataclass(frozen=True)
class House:
    office: Office
    airflow: Airflow
    smtp: SmtpServer
    log: Path

    def api(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return self.airflow.client.request(method, f"/waybill/api/v1/tenants{path}", json=body)

    def wait(self, request_id: str, *states: str, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while (one := self.api("GET", f"/acme/exports/{request_id}").json())["status"] not in states:
            assert time.monotonic() < deadline, f"{one}\n{tail(self.log)}"
            time.sleep(0.3)
        return dict(one)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[House]:
    root = tmp_path_factory.mktemp("house")
    office = make_office(root)
    office.place.clock = None
    office.policy(max_active_per_project="none", notify=["ready"])
    service.apply(office.estate(), actor="test")
    port, password = free_port(), secrets.token_urlsafe(12)
    with serve_smtp() as smtp:
        connections = {
            "smtp_default": json.dumps(
                {
                    "conn_type": "smtp",
                    "host": smtp.host,
                    "port": smtp.port,
                    "extra": {"disable_ssl": True, "disable_tls": True, "from_email": "exports@example.com"},
                }
            )
        }
        stage = Stage(repository, root)
        settings = environment(stage, connections, port, password)
        settings["WAYBILL_PUBLIC_URL"] = f"http://127.0.0.1:{port}/waybill"
        log = root / "airflow.log"
        with standalone(settings, f"http://127.0.0.1:{port}", log) as airflow:
            airflow.wait_until_healthy()
            airflow.log_in("admin", password)
            airflow.wait_for_dag("export_requests")
            yield House(office, airflow, smtp, log)
    office.place.close()


def test_a_request_starts_within_seconds_and_can_be_followed_and_downloaded(house: House) -> None:
    for number in range(3):
        house.office.measure(number, datetime.now(UTC) - timedelta(days=1))
    asked = time.monotonic()
    made = house.api("POST", "/acme/exports", {"entities": ["measurement"], "formats": ["ndjson", "csv"]})
    assert made.status_code == 202, made.text
    one = house.wait(made.json()["id"], "running", "done", seconds=STARTED_WITHIN)
    print(f"started after {time.monotonic() - asked:.1f} s")
    one = house.wait(one["id"], "done", "failed", seconds=120)
    print(f"done after {time.monotonic() - asked:.1f} s")
    assert (one["status"], one["rows"], one["progress"]) == ("done", 3, 100)
    link = house.api("POST", f"/acme/exports/{one['id']}/link").json()["url"]
    content = httpx.get(link, trust_env=False).content
    assert hashlib.sha256(content).hexdigest() == one["sha256"]
    assert "measurement.ndjson" in zipfile.ZipFile(io.BytesIO(content)).namelist()


def test_a_request_is_seen_in_airflow_by_tenant_and_id(house: House) -> None:
    made = house.api("POST", "/acme/exports", {"entities": ["measurement"], "formats": ["csv"]}).json()
    house.wait(made["id"], "done", seconds=180)
    runs = house.airflow.client.get("/api/v2/dags/export_requests/dagRuns/~/taskInstances?limit=100").json()["task_instances"]
    named = [one["rendered_map_index"] for one in runs if one["task_id"] == "fulfil"]
    assert f"acme {made['id']}" in named
