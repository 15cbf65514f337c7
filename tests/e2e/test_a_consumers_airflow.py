"""The consumer's example DAGs in a real Airflow, against a real SFTP server: days start them, and a sensor waits without a worker."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.consumer.copies import run
from tests.e2e.topology import wait_for
from tests.installations import DAY, NOON, Place, make_place
from tests.servers.process import free_port
from tests.servers.sshd import SftpAccess
from waybill_demo.stage import Stage, environment
from waybill_demo.standalone import Airflow, standalone

pytestmark = pytest.mark.slow


@pytest.fixture
def sender(tmp_path: Path, sshd: SftpAccess) -> Iterator[Place]:
    with closing(make_place(tmp_path / "place")) as place:
        place.tenant(entityList=["user", "theme"], destination={"kind": "folder", "root": str(sshd.root)})
        (sshd.root / "exports/acme").mkdir(parents=True)
        yield place


@pytest.fixture
def airflow(tmp_path: Path, sshd: SftpAccess, repository: Path) -> Iterator[Airflow]:
    """An Airflow of the consumer's own: the example is all there is in it."""
    project = tmp_path / "project"
    for name in ("dags", "plugins"):
        (project / name).mkdir(parents=True)
    shutil.copy(repository / "consumer/examples/airflow_dags.py", project / "dags")
    extra = {"private_key": sshd.private_key.read_text(), "host_key": sshd.host_key}
    said = {"conn_type": "sftp", "host": sshd.host, "port": sshd.port, "login": sshd.login, "extra": extra}
    port = free_port()
    (tmp_path / "house").mkdir()
    stage = Stage(project, tmp_path / "house")
    settings = environment(stage, {"files_example": json.dumps(said)}, port, "not-a-secret", calendar=True)
    settings |= {
        "PYTHONPATH": str(repository / "consumer/src"),
        "WAYBILL_SOURCE": f"{sshd.remote_root}/exports/acme",
        "WAYBILL_CONNECTION": "files_example",
        "WAYBILL_FOLDER": str(tmp_path / "held"),
        "WAYBILL_TO": f"sqlite:{tmp_path}/copy.sqlite",
        "WAYBILL_EVERY": "1",
    }
    with standalone(settings, f"http://127.0.0.1:{port}", tmp_path / "airflow.log") as airflow:
        airflow.wait_until_healthy()
        airflow.log_in("admin", "not-a-secret")
        for dag in ("keep_a_copy", "wait_for_a_day"):
            airflow.wait_for_dag(dag)
        yield airflow


def states(airflow: Airflow, dag: str) -> list[str]:
    answer = airflow.client.get(f"/api/v2/dags/{dag}/dagRuns", params={"order_by": "run_after"}).json()
    return [run["state"] for run in answer["dag_runs"]]


def task_state(airflow: Airflow, run_id: str, task: str) -> str:
    return str(airflow.client.get(f"/api/v2/dags/wait_for_a_day/dagRuns/{run_id}/taskInstances/{task}").json()["state"])


def test_a_complete_day_starts_the_copy_and_ends_the_wait(airflow: Airflow, sender: Place, tmp_path: Path) -> None:
    copy = f"sqlite:{tmp_path}/copy.sqlite"

    def names() -> list[str]:
        return sorted(name for (name,) in run(copy, 'select name from "user"'))

    assert states(airflow, "keep_a_copy") == []
    sender.user(1, "Ada", NOON - 2 * DAY)
    sender.run(NOON)
    wait_for("the first day's copy", lambda: states(airflow, "keep_a_copy") == ["success"], 300)
    assert names() == ["Ada"]

    started = airflow.trigger("wait_for_a_day", {"date": "2026-06-01"})
    wait_for("the sensor is deferred", lambda: task_state(airflow, started, "day") == "deferred", 300)
    sender.user(1, "Ada Lovelace", NOON)
    sender.user(2, "Bob", NOON)
    sender.run(NOON + DAY)
    airflow.wait_for_run("wait_for_a_day", started)
    found = airflow.client.get(f"/api/v2/dags/wait_for_a_day/dagRuns/{started}/taskInstances/rows/xcomEntries/return_value").json()
    assert json.loads(str(found["value"])) == 2
    wait_for("the second day's copy", lambda: states(airflow, "keep_a_copy") == ["success", "success"], 300)
    assert names() == ["Ada Lovelace", "Bob"]

    def kept() -> str:
        return str(run(f"sqlite:{next(tmp_path.rglob('airflow.db'))}", "select value from asset_state_store"))

    wait_for("the watcher keeps what it told", lambda: "2026-06-01" in kept(), 60)
