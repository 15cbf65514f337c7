"""Runs a real Airflow on this machine for the length of a block, with the few calls of its REST API that the demo makes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from waybill.errors import PermanentError, TransientError

START_SECONDS = 600.0
RUN_SECONDS = 600.0
STOP_SECONDS = 3.0
"""Limits, not expectations: a busy machine is slow, not broken."""

_COMPONENTS = ("metadatabase", "scheduler", "dag_processor", "triggerer")


@dataclass(frozen=True)
class Airflow:
    """A running Airflow. `alive` raises if its process has ended. `process` leads the session of all its processes."""

    client: httpx.Client
    alive: Callable[[], None]
    process: int = 0

    def wait_until_healthy(self) -> None:
        self._wait(self._healthy, START_SECONDS, "Airflow did not become healthy")

    def _healthy(self) -> bool:
        """The first answer to tasks costs an API server seconds of work. Asking for it here spares the tasks the wait."""
        try:
            found = self.client.get("/api/v2/monitor/health").json()
            serves_tasks = self.client.get("/execution/health").is_success
        except (httpx.HTTPError, ValueError):
            return False
        return serves_tasks and all((found.get(component) or {}).get("status") == "healthy" for component in _COMPONENTS)

    def log_in(self, user: str, password: str) -> None:
        token = self._ask("POST", "/auth/token", {"username": user, "password": password})["access_token"]
        self.client.headers["Authorization"] = f"Bearer {token}"

    def wait_for_dag(self, dag: str) -> None:
        self._wait(
            lambda: self.client.get(f"/api/v2/dags/{dag}").status_code == httpx.codes.OK, START_SECONDS, f"the DAG {dag} did not appear"
        )

    def trigger(self, dag: str, conf: Mapping[str, Any]) -> str:
        """Start a run and return its id."""
        return str(self._ask("POST", f"/api/v2/dags/{dag}/dagRuns", {"logical_date": None, "conf": dict(conf)})["dag_run_id"])

    def wait_for_run(self, dag: str, run: str) -> None:
        """Wait until the run has succeeded. Raises PermanentError if it failed, and TransientError if it takes too long."""
        self._wait(lambda: self._succeeded(dag, run), RUN_SECONDS, f"the run {run} of {dag} did not end")

    def _succeeded(self, dag: str, run: str) -> bool:
        state = self._ask("GET", f"/api/v2/dags/{dag}/dagRuns/{run}")["state"]
        if state == "failed":
            tasks = self._ask("GET", f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
            failed = ", ".join(f"{task['task_id']}[{task['map_index']}]" for task in tasks if task["state"] == "failed")
            raise PermanentError(f"the run {run} of {dag} failed in {failed}", next_step="Read the tasks' logs", code="run_failed")
        return bool(state == "success")

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        try:
            answer = self.client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise TransientError(f"Airflow does not answer {method} {path}: {type(error).__name__}", code="airflow_unreachable") from error
        if answer.is_error:
            raise PermanentError(f"Airflow answers {method} {path} with {answer.status_code}: {answer.text[:500]}", code="airflow_refused")
        return answer.json()

    def _wait(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            self.alive()
            if time.monotonic() > deadline:
                raise TransientError(f"{what} within {seconds:.0f} s", next_step="Read the log, or try on a less busy machine", code="slow")
            time.sleep(1)


STANDALONE = (sys.executable, "-m", "airflow", "standalone")


@contextmanager
def standalone(environment: Mapping[str, str], url: str, log: Path, argv: Sequence[str] = STANDALONE) -> Iterator[Airflow]:
    """Run `airflow standalone`, or another `argv`, in a process group of its own, which ends whole with the block. Its output goes to
    `log`.
    """
    with log.open("wb") as output, httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        process = subprocess.Popen(
            argv,
            env=dict(environment),
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

        def alive() -> None:
            if process.poll() is not None:
                raise PermanentError(f"Airflow ended with status {process.returncode}", next_step=f"Read {log}", code="airflow_ended")

        try:
            yield Airflow(client, alive, process.pid)
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the whole group: first by asking, after a few seconds by killing. The parent alone would wait for pipes that its grandchildren
    hold open.
    """
    _signal_group(process.pid, signal.SIGTERM)
    process.wait()
    deadline = time.monotonic() + STOP_SECONDS
    while _signal_group(process.pid, 0) and time.monotonic() < deadline:
        time.sleep(0.2)
    _signal_group(process.pid, signal.SIGKILL)


def _signal_group(group: int, number: int) -> bool:
    """Return False if the group is gone."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
