"""Celery workers as warm as LocalExecutor's: named by `[celery] celery_config_options`, which a worker reads before its pool forks.

The options are Airflow's own. A task then inherits more than a CPU second of imports instead of paying them.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG
from celery.signals import worker_init  # type: ignore[import-untyped]

from waybill.airflow.listener import warm

CONFIG: dict[str, Any] = DEFAULT_CELERY_CONFIG


@worker_init.connect  # type: ignore[untyped-decorator]
def _warm(**_: Any) -> None:
    """In the worker itself, once, before it forks. The scheduler reads these options too and starts no worker."""
    warm()
