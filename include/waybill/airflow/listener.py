"""The plugin's listener: what Airflow's own processes do for Waybill. Tasks cannot do it, because they cannot reach the metadata database.

The scheduler imports once what every task needs, before it forks workers (`celery_worker` does the same for Celery). It creates a pool in
the transaction that starts the first run with that pool, so no task waits for an unknown pool. The API server has the DAG file of all
tenants parsed as soon as the configuration has changed, instead of at the next interval.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl

from waybill.airflow.names import CONFIGURATION_ASSET, POOL_PREFIX, daily_pool, pool_name

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from waybill.configuration.policy import Policy

FOLDER_SLOTS = 64
"""The slots of a pool for folders. A folder has no limit of connections, so the executor's own slots are the limit."""

WARM = (
    "waybill.deliveries.reports.notifying",
    "waybill.deliveries.reports.sending",
    "waybill.deliveries.repairs",
    "waybill.deliveries.running",
    "waybill.deliveries.sizing",
    "waybill.deliveries.reports.describing",
    "waybill.housekeeping",
    "waybill.registrations.applying",
    "waybill.requests.mailing",
    "waybill.requests.fulfilment.running",
    "waybill.destinations.sftp.session",
    "waybill.destinations.folder",
    "waybill.sources.duckdb.source",
    "waybill.sources.postgres.source",
    "waybill.airflow.retries",
    "waybill.airflow.tasks",
    "waybill.airflow.schedule",
    "airflow.dag_processing.bundles.local",
    "airflow.dag_processing.dagbag",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_mapping",
    "airflow.timetables.trigger",
    "croniter",
    "pytz",
    "airflow.providers.standard.decorators.python",
    "airflow.sdk.definitions.decorators",
    "airflow.sdk.definitions.retry_policy",
    "jinja2.ext",
)
"""Importing these takes more than a CPU second. LocalExecutor's tasks inherit the imports instead of each paying for them."""


@hookimpl
def on_starting(component: Any) -> None:
    """Runs in the scheduler before LocalExecutor forks its workers. Only the command line tells at this point which component is
    starting.
    """
    if sys.argv[1:2] != ["scheduler"]:
        return
    from airflow.configuration import conf

    if "LocalExecutor" in conf.get("core", "executor"):
        warm()


def warm() -> None:
    for name in WARM:
        import_module(name)


@hookimpl
def on_dag_run_running(dag_run: Any, msg: str) -> None:
    """Create the pools that this run's tasks name, and any other pool of ours that a task already waits for."""
    from airflow.models.pool import Pool
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select
    from sqlalchemy.orm import object_session

    session = object_session(dag_run)
    if session is None:
        return
    waiting = select(TaskInstance.pool).where(TaskInstance.state == "scheduled", TaskInstance.pool.startswith(POOL_PREFIX)).distinct()
    names = {task.pool for task in dag_run.dag.tasks} if dag_run.dag else set()
    names = {name for name in names | set(session.scalars(waiting)) if name.startswith(POOL_PREFIX)}
    if names:
        missing = names - set(session.scalars(select(Pool.pool).where(Pool.pool.in_(names))))
        if missing:
            policy = _policy()
            for name in missing:
                _create_pool(session, name, slots_of(name, policy))


def _policy() -> Policy:
    from waybill.configuration.loading import Settings, load

    return load(Settings.from_environment().config_dir).readable_policy


def slots_of(pool: str, policy: Policy) -> int:
    """Return the slots of a new pool. Operators may change them later: an existing pool is never touched.

    The daily lane of a destination gets the `connections` of the policy. The lane for large deliveries gets half as many beside it.
    """
    lane = daily_pool(pool)
    if lane == pool_name("default"):
        lane = pool_name(policy.destination.kind, getattr(policy.destination, "connection", ""))
    connection = lane.removeprefix(POOL_PREFIX).partition(".")[2]
    slots = policy.connections_of.get(connection, policy.connections) if connection else FOLDER_SLOTS
    return slots if daily_pool(pool) == pool else max(1, slots // 2)


def _create_pool(session: Session, name: str, slots: int) -> None:
    """Insert the pool, unless another scheduler inserts it at the same time. The scheduler forbids commits in its loop, so there is no
    savepoint.
    """
    from airflow.models.pool import Pool
    from sqlalchemy.dialects import mysql, postgresql, sqlite

    values = {"pool": name, "slots": slots, "description": "Deliveries to one destination (Waybill)", "include_deferred": False}
    match session.get_bind().dialect.name:
        case "postgresql":
            session.execute(postgresql.insert(Pool).values(**values).on_conflict_do_nothing())
        case "mysql":
            session.execute(mysql.insert(Pool).values(**values).prefix_with("IGNORE"))
        case _:
            session.execute(sqlite.insert(Pool).values(**values).on_conflict_do_nothing())


@hookimpl
def on_asset_event_emitted(asset_event: Any) -> None:
    """After a change of the configuration, tenants get their new schedules at once. This includes tenants that were registered through the
    API.
    """
    if asset_event.asset.name == CONFIGURATION_ASSET:
        from waybill.airflow.scheduler import AirflowScheduler

        AirflowScheduler().changed(*asset_event.extra)
