"""`waybill serve` as a process: it starts only when it knows whose tokens count, and one call registers a tenant."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.installations import Place, make_place
from tests.issuer import AUDIENCE, TestIssuer, serve_issuer
from tests.servers.http import PLAIN
from tests.servers.process import free_port


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = make_place(tmp_path)
    (tmp_path / "config/tenants/acme.yaml").unlink()
    place.write("policy.yaml", {"destination": {"kind": "folder", "root": "out"}})
    yield place
    place.close()


def waybill(place: Place, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "waybill", *arguments]
    settings = {**os.environ, "WAYBILL_CONFIG_DIR": str(place.root / "config"), **environment}
    return subprocess.run(command, env=settings, capture_output=True, text=True, timeout=600, check=False)


@contextmanager
def serving(place: Place, issuer: TestIssuer, log: int | None = None) -> Iterator[str]:
    port = free_port()
    settings = {
        **os.environ,
        "WAYBILL_CONFIG_DIR": str(place.root / "config"),
        "WAYBILL_OAUTH_ISSUER": issuer.url,
        "WAYBILL_OAUTH_AUDIENCE": AUDIENCE,
        "WAYBILL_OAUTH_JWKS_URL": f"{issuer.url}/jwks.json",
    }
    with subprocess.Popen([sys.executable, "-m", "waybill", "serve", "--port", str(port)], env=settings, stdout=log, stderr=log) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 600
            while True:
                assert process.poll() is None
                try:
                    httpx.get(f"{url}/openapi.json", verify=PLAIN, timeout=60)
                    break
                except httpx.ConnectError:
                    assert time.monotonic() < deadline
                    time.sleep(0.2)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=300)


def test_one_call_registers_a_tenant_and_the_next_run_delivers(place: Place) -> None:
    place.sql("insert into \"user\" values ('acme', 1, 'one', '2026-05-01', null)")
    with serve_issuer() as issuer, serving(place, issuer) as url, httpx.Client(base_url=f"{url}/api/v1/tenants", timeout=120) as client:
        assert client.get("/acme/export").status_code == 401
        client.headers.update(issuer.bearer())
        made = client.put("/acme/export", json={"entityList": ["user"], "frequency": "daily"})
        assert made.status_code == 201
        assert client.post("/acme/export/full-load", json={"when": "now"}).json()["when"] == "next"
        assert waybill(place, "run", "acme", "--until", "2026-06-01T00:00:00Z").returncode == 0
        delivered = client.get("/acme/deliveries").json()["items"]
        assert [(delivery["entity"], delivery["status"], delivery["rows"]) for delivery in delivered] == [("user", "committed", 1)]
        assert (place.out / delivered[0]["path"].lstrip("/")).is_file()
        place.write("tenants/acme.yaml", {"entityList": ["theme"]})
        time.sleep(1.1)  # the configuration is looked at once a second
        assert client.put("/acme/export", json={"entityList": ["user"]}).json()["code"] == "managed_as_code"


def test_the_access_log_holds_neither_query_strings_nor_the_tokens_of_links(place: Place, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as sink, serve_issuer() as issuer, serving(place, issuer, sink.fileno()) as url:
        for path in ("/tenants/acme/export?access_token=planted-1&dryRun=true", "/downloads/planted-2", "/downloads/planted/3?x=planted-4"):
            httpx.get(f"{url}/api/v1{path}", timeout=120)
    lines = log.read_text()
    assert '"GET /api/v1/tenants/acme/export HTTP/1.1" 401' in lines
    assert '"GET /api/v1/downloads/... HTTP/1.1" 404' in lines
    assert "planted" not in lines


def test_serve_names_every_setting_it_lacks(place: Place) -> None:
    refused = waybill(place, "serve", WAYBILL_OAUTH_AUDIENCE=AUDIENCE)
    assert refused.returncode == 1
    assert "WAYBILL_OAUTH_ISSUER, WAYBILL_OAUTH_JWKS_URL" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_schema_prints_the_schema_of_a_kind_of_file(place: Place) -> None:
    printed = waybill(place, "schema", "tenant")
    assert json.loads(printed.stdout)["properties"]["frequency"]
    assert waybill(place, "schema", "nothing").returncode == 2
