"""The demo, once, for real: Airflow, the embedded SFTP server, full loads, a day, deltas; then OpenSSH's `sftp` reads it all back."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.installations import read_csv
from tests.servers.process import end, program, spawn, tail

READY_SECONDS = 1500
TENANTS = {"acme": ("2026/05/31", "2026/06/01", 4), "globex": ("2026/05/25", "2026/06/01", 7), "initech": ("2026/05/01", "2026/06/01", 26)}

pytestmark = pytest.mark.slow


class Demo:
    """A running `waybill demo`."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], log: Path) -> None:
        self.folder, self.process, self.log = folder, process, log

    @property
    def access(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "access.json").read_text())
        return found

    def wait_for(self, words: str) -> str:
        deadline = time.monotonic() + READY_SECONDS
        while words not in (text := self.log.read_text()):
            assert self.process.poll() is None, f"the demo ended\n{text}\n{tail(self.folder / 'airflow.log')}"
            assert time.monotonic() < deadline, f"the demo is stuck\n{text}\n{tail(self.folder / 'airflow.log')}"
            time.sleep(0.5)
        return text

    def sftp(self, tenant: str, *commands: str) -> str:
        """Commands through the `sftp` program, logged in with the tenant's password."""
        access = self.access["sftp"]
        known_hosts = self.folder / "known_hosts"
        known_hosts.write_text(f"[{access['host']}]:{access['port']} {access['host_key']}\n")
        askpass = self.folder / "askpass"
        askpass.write_text('#!/bin/sh\nprintf "%s\\n" "$DEMO_PASSWORD"\n')
        askpass.chmod(0o700)
        options = [f"UserKnownHostsFile={known_hosts}", "GlobalKnownHostsFile=/dev/null", "StrictHostKeyChecking=yes"]
        options += ["PreferredAuthentications=password", "PubkeyAuthentication=no", "NumberOfPasswordPrompts=1"]
        argv = [program("sftp"), "-q", "-F", "/dev/null", "-P", str(access["port"])]
        argv += [part for option in options for part in ("-o", option)]
        env = {**os.environ, "SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force", "DEMO_PASSWORD": access["passwords"][tenant]}
        done = subprocess.run(
            [*argv, f"{tenant}@{access['host']}"],
            input="\n".join(commands) + "\n",
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def demo(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("demo")
    log = folder.with_name("demo.out")
    with socket.socket() as occupied:
        occupied.bind(("127.0.0.1", 0))
        occupied.listen()
        argv = [sys.executable, "-m", "waybill", "demo", "--folder", str(folder), "--port", str(occupied.getsockname()[1])]
        env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        process = spawn(argv, log=log, cwd=repository, env=env)
        try:
            yield Demo(folder, process, log)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(180)
            end(process)


def test_the_demo_holds_and_each_tenant_reads_its_files_with_sftp_and_nobody_elses(demo, tmp_path):
    told = demo.wait_for("Ctrl-C ends everything")
    assert "PROBLEM" not in told
    for tenant, (first, second, entities) in TENANTS.items():
        target = tmp_path / tenant
        target.mkdir()
        listing = demo.sftp(tenant, "ls -1 /exports", f"get -r /exports {target}")
        assert [other for other in TENANTS if f"/exports/{other}" in listing] == [tenant]
        assert sorted(path.parent for path in target.rglob("_MANIFEST.json")) == [
            target / "exports" / tenant / first,
            target / "exports" / tenant / second,
        ]
        manifests = {path: json.loads(path.read_text()) for path in target.rglob("*.manifest.json")}
        assert len(manifests) == 2 * entities
        for path, manifest in manifests.items():
            assert len(read_csv(path.parent / manifest["files"][0]["path"], manifest)) == manifest["rows"]


def test_the_page_stays_open_for_the_one_who_was_told_the_password(demo):
    import httpx

    demo.wait_for("Ctrl-C ends everything")
    airflow = demo.access["airflow"]
    assert f"{airflow['url']}   user admin   password {airflow['password']}" in demo.log.read_text()
    with httpx.Client(base_url=airflow["url"], trust_env=False, timeout=180) as client:
        token = client.post("/auth/token", json={"username": "admin", "password": airflow["password"]}).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        pools = client.get("/api/v2/pools", headers=headers).json()["pools"]
        assert {f"waybill.sftp.{tenant}_sftp" for tenant in TENANTS} <= {pool["name"] for pool in pools}
        events = client.get("/api/v2/assets/events?limit=100", headers=headers).json()
        assert events["total_entries"] == 2 * sum(entities for _, _, entities in TENANTS.values()) + 1
        errors = client.get("/api/v2/importErrors", headers=headers).json()
        assert errors["total_entries"] == 0


def test_an_export_asked_for_in_the_demo_starts_by_itself(demo):
    import httpx

    demo.wait_for("Ctrl-C ends everything")
    airflow = demo.access["airflow"]
    with httpx.Client(base_url=airflow["url"], trust_env=False, timeout=180) as client:
        token = client.post("/auth/token", json={"username": "admin", "password": airflow["password"]}).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        exports = "/waybill/api/v1/tenants/acme/exports"
        made = client.post(exports, json={"entities": ["user"], "formats": ["csv"]}).json()
        deadline = time.monotonic() + 600
        while client.get(f"{exports}/{made['id']}").json()["status"] != "done":
            assert time.monotonic() < deadline, tail(demo.folder / "airflow.log")
            time.sleep(0.5)


def test_ctrl_c_ends_everything_the_demo_started(demo):
    demo.wait_for("Ctrl-C ends everything")
    assert len(processes_of(demo.folder)) > 4
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(300) == 0
    assert "everything is stopped" in demo.log.read_text()
    assert processes_of(demo.folder) == []


def processes_of(folder: Path) -> list[str]:
    """Command lines of running processes that work in the folder, as all of its Airflow do."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cwd").readlink() == folder:
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
    return found
