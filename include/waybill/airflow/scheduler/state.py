"""Reads from Airflow's own tables what it does with the tenants' DAGs now: schedules, current runs, and tasks that wait for another try."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance, clear_task_instances
from airflow.timetables.simple import NullTimetable
from airflow.utils.session import create_session
from sqlalchemy import func, select

from waybill.airflow.names import APPLY_DAG, dag_id, tenant_of
from waybill.airflow.retries import retrying
from waybill.deliveries.reports.overview import SchedulerState
from waybill.registrations.applying import Failed

_UNDER_WAY = ("queued", "running")
_BY_HAND = NullTimetable().summary


def scheduler_state(tenant: str | None = None) -> dict[str, SchedulerState]:
    """Return the state of every tenant's DAG, or of one, by tenant. One query returns one row for a DAG at rest."""
    mine = DagModel.dag_id.startswith(dag_id(""), autoescape=True) if tenant is None else DagModel.dag_id == dag_id(tenant)
    run = (DagRun.dag_id == DagModel.dag_id) & DagRun.state.in_(_UNDER_WAY)
    waiting = (TaskInstance.dag_id == DagRun.dag_id) & (TaskInstance.run_id == DagRun.run_id) & (TaskInstance.state == "up_for_retry")
    facts = (DagModel.dag_id, DagModel.is_paused, DagModel.timetable_summary, DagRun.state)
    # Tasks of one run that failed at the same try wait equally long, however many entities there are.
    tried = (TaskInstance.task_id, DagRun.logical_date, TaskInstance.try_number, TaskInstance.retry_delay_override)
    query = (
        select(*facts, *tried, func.min(TaskInstance.end_date).label("end_date"))
        .select_from(DagModel)
        .outerjoin(DagRun, run)
        .outerjoin(TaskInstance, waiting)
        .where(mine, DagModel.is_stale.is_(False))
        .group_by(*facts, *tried)
    )
    found: dict[str, SchedulerState] = {}
    with create_session() as session:
        for row in session.execute(query):
            if name := tenant_of(row.dag_id):
                found[name] = _with(found.get(name), row)
    return found


def _with(before: SchedulerState | None, row: Any) -> SchedulerState:
    times = [time for time in (before.retry_at if before else None, _retry_at(row)) if time]
    states = {before.run if before else "", str(row.state or "")}
    return SchedulerState(
        paused=bool(row.is_paused),
        scheduled=row.timetable_summary != _BY_HAND,
        run="running" if "running" in states else "queued" if "queued" in states else "",
        retry_at=min(times, default=None),
    )


def _retry_at(row: Any) -> datetime | None:
    """Return when Airflow tries these tasks again, by its own formula with the arguments that `retrying` gives every task."""
    if row.end_date is None:
        return None
    waits = {name: value for name, value in retrying().items() if name != "retry_policy"}
    formula: Callable[[Any], datetime] = TaskInstance.next_retry_datetime
    return formula(SimpleNamespace(task=SimpleNamespace(**waits), **row._mapping))


def applying_failed() -> Failed | None:
    """Return the runs of `apply_config` that failed since its last good one. This takes one query of one row, or two if there are any."""
    mine = select(DagRun.run_id, DagRun.state, DagRun.end_date).where(DagRun.dag_id == APPLY_DAG, DagRun.end_date.is_not(None))
    with create_session() as session:
        newest = session.execute(mine.order_by(DagRun.id.desc()).limit(1)).first()
        if newest is None or newest.state != "failed":
            return None
        good = select(func.max(DagRun.id)).where(DagRun.dag_id == APPLY_DAG, DagRun.state == "success").scalar_subquery()
        first = session.execute(mine.where(DagRun.state == "failed", DagRun.id > func.coalesce(good, 0)).order_by(DagRun.id).limit(1)).one()
    return Failed(first.end_date, f"dags/{APPLY_DAG}/runs/{quote(newest.run_id)}")


def try_now(dag: str) -> bool:
    """Try at once what waits for another try in the DAG's run, as *Clear* in Airflow does. Returns whether there was anything."""
    waiting = (
        select(TaskInstance)
        .join(TaskInstance.dag_run)
        .where(TaskInstance.dag_id == dag, TaskInstance.state == "up_for_retry", DagRun.state.in_(_UNDER_WAY))
    )
    with create_session() as session:
        tasks = list(session.scalars(waiting).unique())
        clear_task_instances(tasks, session)
    return bool(tasks)
