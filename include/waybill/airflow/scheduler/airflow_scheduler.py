"""Starts runs, has changed registrations parsed within seconds, and tells what a DAG is doing. The pages and the API use it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import quote

from waybill.access import Caller
from waybill.airflow.names import dag_id

if TYPE_CHECKING:
    from waybill.deliveries.reports.overview import SchedulerState
    from waybill.registrations.applying import Failed

log = logging.getLogger(__name__)


class AirflowScheduler:
    """Tells Airflow about changes. It has DAGs parsed at once, and starts runs that people ask for."""

    def changed(self, *tenants: str) -> None:
        """Ask the DAG processor to parse the tenants' DAG file first, and ask again until their DAGs are there.

        The first run of a new tenant then starts by itself. A failure here never fails the change: the file is also parsed on schedule.
        """
        from sqlalchemy.exc import SQLAlchemyError

        from waybill.airflow.scheduler import reparsing

        try:
            reparsing.ask(tenants)
            if reparsing.is_processed():
                reparsing.following.follow(tenants)
        except SQLAlchemyError:
            log.warning("the DAG processor was not asked to parse the DAGs of %s now", ", ".join(tenants), exc_info=True)

    def run_now(self, tenant: str, caller: Caller) -> str:
        """Start a run of the tenant's DAG. Tasks of the current run that wait for another try are tried now.

        Returns "now"; "behind" or "again" if a run is under way; "paused" if the DAG is paused; "" if there is no DAG yet.
        """
        from airflow.api.common.trigger_dag import trigger_dag
        from airflow.exceptions import DagNotFound
        from airflow.utils.types import DagRunTriggeredByType

        from waybill.airflow.scheduler.state import try_now

        dag = dag_id(tenant)
        is_paused, states = _state_of(dag)
        if "queued" not in states:  # a queued run will do what this one would
            try:
                trigger_dag(dag, triggered_by=DagRunTriggeredByType.REST_API, triggering_user_name=caller.name)
            except DagNotFound:
                self.changed(tenant)
                return ""
        if is_paused:
            return "paused"
        return ("again" if try_now(dag) else "behind") if states else "now"

    def scheduler_state(self, tenant: str | None = None) -> dict[str, SchedulerState]:
        """Return what Airflow does with every tenant's DAG, or with one of them, in one query. DAGs that Airflow has not seen yet are
        absent.
        """
        from waybill.airflow.scheduler.state import scheduler_state

        return scheduler_state(tenant)

    def applying_failed(self) -> Failed | None:
        """Return the failed runs of the DAG that applies the configuration."""
        from waybill.airflow.scheduler.state import applying_failed

        return applying_failed()

    def log_of(self, tenant: str, delivery: str) -> str | None:
        """Return the address of the latest try's log in Airflow's own pages: the run that last planned this delivery, its task, and the
        try.

        The task is the mapped task if the delivery had one, and else `plan`, which delivers what is small.
        """
        from airflow.models.taskinstance import TaskInstance
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session
        from sqlalchemy import String, cast, select

        dag = dag_id(tenant)
        plans = select(XComModel).where(
            XComModel.dag_id == dag, XComModel.task_id == "plan", cast(XComModel.value, String).contains(delivery)
        )
        with create_session() as session:
            planned = session.scalars(plans.order_by(XComModel.timestamp.desc()).limit(1)).first()
            if planned is None:
                return None
            same = (XComModel.dag_id == dag, XComModel.run_id == planned.run_id, XComModel.task_id == "plan")
            left = session.scalars(select(XComModel).where(*same, XComModel.key == "return_value")).first()
            batches = XComModel.deserialize_value(left) if left is not None else []
            index = next((at for at, batch in enumerate(batches) if delivery in batch.values()), None)
            task = "plan" if index is None else "deliver"
            where = (TaskInstance.dag_id == dag, TaskInstance.run_id == planned.run_id, TaskInstance.task_id == task)
            tried = session.scalar(
                select(TaskInstance.try_number).where(*where, TaskInstance.map_index == (-1 if index is None else index))
            )
        path = f"dags/{dag}/runs/{quote(planned.run_id)}/tasks/{task}" + ("" if index is None else f"/mapped/{index}")
        return path + (f"?try_number={tried}" if tried else "")


def _state_of(dag: str) -> tuple[bool, set[str]]:
    """Return whether the DAG is paused, and the states of its runs that have not ended."""
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    unfinished = select(DagRun.state).where(DagRun.dag_id == dag, DagRun.state.in_(("queued", "running")))
    with create_session() as session:
        is_paused = session.scalar(select(DagModel.is_paused).where(DagModel.dag_id == dag))
        return bool(is_paused), {str(state) for state in session.scalars(unfinished)}
