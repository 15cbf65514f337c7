"""SIGTERM while a file is read and sent: the upload stops, its part and its spool go, and the ledger says why."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installations import NOON, THEME, Place, catalog, make_place
from tests.servers.sshd import SftpAccess, serve_sshd
from waybill.deliveries.reports import describing

ROWS = 40_000_000
"""Far more than can be read before the signal comes."""


@pytest.fixture(scope="module")
def server() -> Iterator[SftpAccess]:
    with serve_sshd() as started:
        yield started


@pytest.fixture(params=["folder", "sftp"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Place, Path, dict[str, str]]]:
    """An installation with one entity that takes long to read, the destination's folder here, and what a process needs to know."""
    place = make_place(tmp_path)
    place.sql(
        f"create view long as select 'acme' tenant_id, range id, 'a name of some length' name, timestamptz '2026-05-01' updated_at, "
        f"null::timestamptz deleted_at from range({ROWS})"
    )
    place.write("catalog.yaml", catalog(long={**THEME, "name": "long", "relation": "long"}))
    place.tenant(entityList=["long"])
    out, known = place.out, {}
    if request.param == "sftp":
        server: SftpAccess = request.getfixturevalue("server")
        out = server.root / tmp_path.name
        out.mkdir()
        place.tenant(
            entityList=["long"],
            destination={"kind": "sftp", "connection": "acme_sftp", "root": f"{server.remote_root.rstrip('/')}/{tmp_path.name}"},
        )
        extra = {"host_key": server.host_key, "private_key": server.private_key.read_text()}
        fields = {"conn_type": "sftp", "host": server.host, "port": server.port, "login": server.login, "extra": extra}
        known = {"AIRFLOW_CONN_ACME_SFTP": json.dumps(fields)}
    yield place, out, {**os.environ, **known, "WAYBILL_CONFIG_DIR": str(tmp_path / "config")}
    place.close()


def parts(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.part") if path.exists()] if folder.exists() else []


def test_a_process_that_is_told_to_stop_ends_its_upload_and_leaves_nothing(scene: tuple[Place, Path, dict[str, str]]) -> None:
    place, out, env = scene
    program = "from waybill.cli.app import main; main()"
    argv = [sys.executable, "-c", program, "run", "acme", "--until", NOON.isoformat()]
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not any(part.stat().st_size for part in parts(out)):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "told to stop (SIGTERM)" in said
    assert parts(out) == []
    assert not list((place.root / ".waybill/spool").iterdir())
    (delivery,) = describing.listed(place.installation(), "acme")
    assert (delivery["status"], delivery["error_code"]) == ("open", "stopped")
