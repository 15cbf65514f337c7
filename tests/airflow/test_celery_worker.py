"""A Celery worker that is told to stop while a task is under way."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from celery import Celery

from tests.servers.process import end, free_port, scratch, spawn, tail
from tests.servers.redis import Redis

APP = """
import subprocess, sys
from celery import Celery
import waybill.airflow.celery_worker as ours

app = Celery("tasks", broker={broker!r})
app.conf.update(worker_concurrency=1, task_acks_late=True)
RUNNER = '''
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
def stop(*_):
    (folder / "stopped").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
(folder / "begun").touch()
time.sleep(3600)
(folder / "ended").touch()
'''

@app.task(name="deliver")
def deliver(folder):
    "As Airflow's: a process of its own runs the task, and this one tells how it ended."
    subprocess.run([sys.executable, "-c", RUNNER, folder], check=True)
    open(folder + "/told", "w").close()
"""


def until(done: Callable[[], bool], log: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, tail(log)
        time.sleep(0.05)


@pytest.mark.slow
def test_a_worker_that_is_told_to_stop_stops_its_tasks_in_order_before_it_would_be_killed(tmp_path: Path) -> None:
    place, log = tmp_path / "place", tmp_path / "log"
    place.mkdir()
    with ExitStack() as stack:
        redis = Redis(stack.enter_context(scratch("redis")), free_port(), [])
        redis.start()
        stack.callback(redis.stop)
        broker = f"redis://127.0.0.1:{redis.port}/0"
        (tmp_path / "tasks.py").write_text(APP.format(broker=broker))
        environment = {
            **os.environ,
            "AIRFLOW__CELERY__EXTRA_CELERY_CONFIG": '{"worker_soft_shutdown_timeout": 1}',
            "AIRFLOW_HOME": str(tmp_path / "airflow"),
        }
        argv = [sys.executable, "-m", "celery", "--app", "tasks", "worker", "--pool", "prefork", "--without-gossip", "--without-mingle"]
        worker = spawn(argv, log=log, env=environment, cwd=tmp_path)
        stack.callback(end, worker)
        client = stack.enter_context(Celery("client", broker=broker))
        client.send_task("deliver", [str(place)])
        until((place / "begun").exists, log)
        worker.send_signal(signal.SIGTERM)
        until(lambda: worker.poll() is not None, log)
    assert {path.name for path in place.iterdir()} == {"begun", "stopped", "told"}
