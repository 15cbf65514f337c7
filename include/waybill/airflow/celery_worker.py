"""Celery workers for Waybill: named by `[celery] celery_config_options`, which a worker reads before its pool forks.

The options are Airflow's own. Workers are as warm as LocalExecutor's: a task inherits more than a CPU second of imports instead of paying
them. A worker that is told to stop (SIGTERM) lets its tasks end for `worker_soft_shutdown_timeout` seconds of
`[celery] extra_celery_config`, and tells the others to stop while there is time to clean up: what kills it next gives none.
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
    """In the worker itself, once, before it forks. The scheduler reads these options too and starts no worker."""
    warm()


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _stop_in_time(how: str = "", **_: Any) -> None:
    """Celery's own warm end waits for tasks without a limit, its cold one kills the process that tells Airflow how a task ended."""
    seconds = float(CONFIG.get("worker_soft_shutdown_timeout") or 0)
    if how == "Warm" and seconds > 0:
        timer = threading.Timer(seconds, _stop_tasks)
        timer.daemon = True
        timer.start()


def _stop_tasks() -> None:
    """SIGTERM to what runs a task, which is the child of the process of the pool that has it."""
    import psutil  # type: ignore[import-untyped]
    from celery.worker import state  # type: ignore[import-untyped]

    for request in list(state.active_requests):
        with suppress(psutil.Error):
            for runner in psutil.Process(request.worker_pid).children():
                with suppress(psutil.Error):
                    runner.terminate()
