"""The tutorial's commands run as they stand there, on a database of film rentals and a real SFTP server."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psycopg
import pytest

from tests.discovery import estates
from tests.e2e.test_readme import commands
from tests.servers.postgres import Database
from tests.servers.sshd import SftpAccess

INSTALLING = ("git clone", "cd waybill", "make setup", "source .venv")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["docs/tutorial.md"])
def test_the_tutorial_ends_with_three_tenants_and_a_loaded_copy(
    repository: Path, tmp_path: Path, postgres: Database, sshd: SftpAccess, name: str
) -> None:
    with psycopg.connect(postgres.dsn, autocommit=True) as database:
        database.execute(estates.PAGILA)
        database.execute("insert into store (manager_staff_id, address_id) values (1, 3)")
    (sshd.root / "in").mkdir(exist_ok=True)
    text = (repository / name).read_text()
    for written, here in {
        "reader:secret@db.example:5432/shop": f"{postgres.user}@{postgres.host}:{postgres.port}/{postgres.name}",
        '"host": "sftp.example", "port": 22, "login": "waybill"': f'"host": "{sshd.host}", "port": {sshd.port}, "login": "{sshd.login}"',
        "/home/me/.ssh/id_ed25519": str(sshd.private_key),
        "ssh-ed25519 AAAA...": sshd.host_key,
        "root: /in}": f"root: {sshd.remote_root}/in}}",
    }.items():
        assert written in text
        text = text.replace(written, here)
    script = "\n".join(line for line in commands(text) if not line.startswith(INSTALLING))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WAYBILL_", "AIRFLOW_"))}
    environment |= {"PATH": f"{repository}/.venv/bin:{os.environ['PATH']}", "AIRFLOW_HOME": str(tmp_path / "airflow")}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for store in (1, 2):
        assert list((tmp_path / f"exports/delivered/exports/store-{store}").rglob("_MANIFEST.json"))
    assert list((sshd.root / "in/exports/store-3").rglob("_MANIFEST.json"))
    assert (tmp_path / "exports/copy.duckdb").exists()
