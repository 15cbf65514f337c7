"""One Airflow for all tests of requests and pages inside it: it takes most of a minute to come up."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.exports import MEASUREMENT, SITE, Office, make_office
from tests.installations import THEME, USER, catalog
from tests.servers.process import free_port
from tests.servers.smtp import SmtpServer, serve_smtp
from waybill.registrations import applying
from waybill_demo.stage import Stage, environment
from waybill_demo.standalone import Airflow, standalone

NEWCOMER = "contoso"
"""A tenant with data whom nobody has registered."""


@dataclass(frozen=True)
class House:
    """A running Airflow over an office: acme and globex have a folder to deliver to, initech a server that does not answer.

    Users are `admin` and the viewer `vic`; `passwords` are theirs.
    """

    office: Office
    airflow: Airflow
    smtp: SmtpServer
    log: Path
    url: str
    passwords: dict[str, str]

    def api(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return self.airflow.client.request(method, f"/waybill/api/v1/tenants{path}", json=body)


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[House]:
    root = tmp_path_factory.mktemp("house")
    office = make_office(root)
    office.place.clock = None
    office.policy(max_active_per_project="none", notify=["ready"], destination={"kind": "folder", "root": "out"})
    office.place.write("catalog.yaml", catalog(measurement=MEASUREMENT, site=SITE, user=USER, theme=THEME))
    office.place.tenant("initech", entityList=["site"], destination={"kind": "sftp", "connection": "initech_sftp"})
    for number in range(3):
        office.measure(number, datetime.now(UTC) - timedelta(days=1))
        office.place.user(number, f"user {number}", datetime.now(UTC) - timedelta(days=40), tenant=NEWCOMER)
    applying.apply(office.installation(), actor="test")
    port, password = free_port(), secrets.token_urlsafe(12)
    with serve_smtp() as smtp:
        mail = {"disable_ssl": True, "disable_tls": True, "from_email": "exports@example.com"}
        dead = {"host_key": Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()}
        connections = {
            "smtp_default": json.dumps({"conn_type": "smtp", "host": smtp.host, "port": smtp.port, "extra": mail}),
            "initech_sftp": json.dumps(
                {"conn_type": "sftp", "host": "127.0.0.1", "port": free_port(), "login": "x", "password": "not-a-secret", "extra": dead}
            ),
        }
        stage = Stage(repository, root)
        settings = environment(stage, connections, port, password, calendar=True)
        url = f"http://127.0.0.1:{port}"
        settings |= {
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,vic:viewer",
            "WAYBILL_PUBLIC_URL": f"{url}/waybill",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",  # what appears sooner was asked for
        }
        log = root / "airflow.log"
        with standalone(settings, url, log) as airflow:
            airflow.wait_until_healthy()
            airflow.log_in("admin", password)
            for dag in ("export_requests", "export__acme"):
                airflow.wait_for_dag(dag)
            passwords = json.loads((stage.airflow_home / "passwords.json").read_text())
            yield House(office, airflow, smtp, log, url, passwords)
    office.place.close()
