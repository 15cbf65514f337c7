"""Options for Celery workers. `[celery] celery_config_options` names them, and a worker reads them before its pool forks.

They extend Airflow's own options. A task inherits more than a CPU second of imports instead of paying for them, as under LocalExecutor. A
worker that receives SIGTERM lets its tasks end for `worker_soft_shutdown_timeout` seconds (`[celery] extra_celery_config`). It also tells
the tasks to stop while there is time to clean up, because the kill that follows leaves none.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG
from celery.signals import worker_init, worker_shutting_down  # type: ignore[import-untyped]

from waybill.airflow.listener import warm

CONFIG: dict[str, Any] = DEFAULT_CELERY_CONFIG


@worker_init.connect  # type: ignore[untyped-decorator]
def _warm(**_: Any) -> None:
    """Runs once in the worker itself, before it forks. The scheduler reads these options too, but starts no worker."""
    warm()


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _stop_in_time(how: str = "", **_: Any) -> None:
    """Celery's warm shutdown waits for tasks without a limit. Its cold shutdown kills the process that tells Airflow how a task ended."""
    seconds = float(CONFIG.get("worker_soft_shutdown_timeout") or 0)
    if how == "Warm" and seconds > 0:
        timer = threading.Timer(seconds, _stop_tasks)
        timer.daemon = True
        timer.start()


def _stop_tasks() -> None:
    """Send SIGTERM to the process that runs a task. It is the child of the pool's process that holds the task."""
    import psutil  # type: ignore[import-untyped]
    from celery.worker import state  # type: ignore[import-untyped]

    for request in list(state.active_requests):
        with suppress(psutil.Error):
            for runner in psutil.Process(request.worker_pid).children():
                with suppress(psutil.Error):
                    runner.terminate()
