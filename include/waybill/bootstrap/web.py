"""The API inside Airflow's API server: Airflow's users, DAG rights as permissions, and DAGs that follow registrations within seconds."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from waybill.access import Caller, Permission
from waybill.bootstrap.names import dag_id

if TYPE_CHECKING:
    from waybill.service.overview import Doing
    from waybill.service.unapplied import Failed

EXPORTS_FILE = "tenant_exports.py"
"""The DAG file, relative to its bundle, that holds every tenant's DAG."""

log = logging.getLogger(__name__)

_RIGHTS: dict[Permission, tuple[Literal["GET", "PUT", "POST"], bool]] = {
    Permission.REGISTRATIONS_VIEW: ("GET", False),
    Permission.EXPORTS_VIEW: ("GET", False),
    Permission.REGISTRATIONS_EDIT: ("PUT", False),
    Permission.EXPORTS_ADMIN: ("PUT", False),
    Permission.DELIVERIES_RUN: ("POST", True),
    Permission.EXPORTS_CREATE: ("POST", True),
    Permission.EXPORTS_DOWNLOAD: ("POST", True),
}
"""Permission -> method on the tenant's DAG, and whether it is its runs the method is about."""


@dataclass(frozen=True)
class DagRights:
    """What an Airflow user may do with a tenant: the auth manager's word on `export__<tenant>`, whether that DAG exists yet or not."""

    user: Any

    def allows(self, wanted: Permission, tenant: str) -> bool:
        from airflow.api_fastapi.app import get_auth_manager
        from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
        from airflow.models.dag import DagModel

        method, on_runs = _RIGHTS[wanted]
        details = DagDetails(id=dag_id(tenant), team_name=DagModel.get_team_name(dag_id(tenant)))
        entity = DagAccessEntity.RUN if on_runs else None
        return bool(get_auth_manager().is_authorized_dag(method=method, access_entity=entity, details=details, user=self.user))

    def reaches(self, tenant: str) -> bool:
        return self.allows(Permission.REGISTRATIONS_VIEW, tenant)

    def needed(self, wanted: Permission, tenant: str) -> str:
        method, on_runs = _RIGHTS[wanted]
        right = "create runs of" if on_runs else {"GET": "read", "PUT": "edit"}.get(method, "use")
        return f"the right to {right} the DAG {dag_id(tenant)}, which an administrator of Airflow can give"

    def among(self, wanted: Permission, tenants: Iterable[str]) -> list[str]:
        from airflow.api_fastapi.app import get_auth_manager

        readable = get_auth_manager().get_authorized_dag_ids(user=self.user, method="GET")
        # A tenant registered a moment ago has no DAG that could be listed: it is asked about by itself, as are rights beyond reading.
        plain = _RIGHTS[wanted] == ("GET", False)
        return [one for one in tenants if (plain and dag_id(one) in readable) or self.allows(wanted, one)]


class AirflowAccess:
    """Recognises Airflow's users: a token of `/auth/token`, or the session of Airflow's own pages."""

    async def caller(self, request: Any) -> Caller:
        """Raises Airflow's HTTPException when nobody is logged in."""
        from airflow.api_fastapi.core_api.security import bearer_scheme, get_user

        user = await get_user(request, None, await bearer_scheme(request))
        email = getattr(user, "email", "") or ""
        return Caller(user.get_name(), DagRights(user), name=user.get_name(), email=str(email), origin="airflow")

    def still_may(self, person: str, tenant: str) -> bool:
        """Whether the person a link was made for may still download (`rechecking.still_may`)."""
        from waybill.bootstrap.rechecking import still_may

        return still_may(person, tenant)


class AirflowScheduler:
    """Tells Airflow of changes: DAGs are parsed anew at once, and runs start when asked for."""

    def changed(self, tenant: str) -> None:
        """Ask the DAG processor to parse the tenants' DAG file before anything else; a new tenant's first run starts by itself then.

        Never fails the change that was made: the file is parsed again on schedule anyhow.
        """
        from sqlalchemy.exc import SQLAlchemyError

        try:
            _ask_for_parsing()
        except SQLAlchemyError:
            log.warning("the DAG of %s follows its registration only with the next regular parse", tenant, exc_info=True)

    def run_now(self, tenant: str, caller: Caller) -> str:
        """Start a run of the tenant's DAG; what waits in the one under way to be tried again is tried now.

        Returns "now", "behind" or "again" for one under way, "paused" while the DAG is, "" where there is none yet.
        """
        from airflow.api.common.trigger_dag import trigger_dag
        from airflow.exceptions import DagNotFound
        from airflow.utils.types import DagRunTriggeredByType

        from waybill.bootstrap.doing import try_now

        dag = dag_id(tenant)
        is_paused, states = _state_of(dag)
        if "queued" not in states:  # one that waits will do what this one would
            try:
                trigger_dag(dag, triggered_by=DagRunTriggeredByType.REST_API, triggering_user_name=caller.name)
            except DagNotFound:
                self.changed(tenant)
                return ""
        if is_paused:
            return "paused"
        return ("again" if try_now(dag) else "behind") if states else "now"

    def doing(self, tenant: str | None = None) -> dict[str, Doing]:
        """What Airflow does with every tenant's DAG, or with that one's, by one query: those it has not seen yet are absent."""
        from waybill.bootstrap.doing import doing

        return doing(tenant)

    def applying_failed(self) -> Failed | None:
        """By the runs of the DAG that applies it."""
        from waybill.bootstrap.doing import applying_failed

        return applying_failed()

    def log_of(self, tenant: str, delivery: str) -> str | None:
        """The latest try's log in Airflow's own pages: the run that last planned this delivery, its mapped task, and the try."""
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
            batches = XComModel.deserialize_value(planned)
            index = next((at for at, batch in enumerate(batches) if delivery in batch.values()), 0)
            where = (TaskInstance.dag_id == dag, TaskInstance.run_id == planned.run_id, TaskInstance.task_id == "deliver")
            tried = session.scalar(select(TaskInstance.try_number).where(*where, TaskInstance.map_index == index))
        return f"dags/{dag}/runs/{quote(planned.run_id)}/tasks/deliver/mapped/{index}" + (f"?try_number={tried}" if tried else "")


def _state_of(dag: str) -> tuple[bool, set[str]]:
    """Whether the DAG is paused, and the states of its runs that have not ended."""
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    unfinished = select(DagRun.state).where(DagRun.dag_id == dag, DagRun.state.in_(("queued", "running")))
    with create_session() as session:
        is_paused = session.scalar(select(DagModel.is_paused).where(DagModel.dag_id == dag))
        return bool(is_paused), {str(state) for state in session.scalars(unfinished)}


def _ask_for_parsing() -> None:
    """What `PUT /api/v2/parseDagFile` does, for the file of all tenants, in every bundle that holds it or may hold it."""
    from airflow.models.dag import DagModel
    from airflow.models.dagbag import DagPriorityParsingRequest
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session
    from sqlalchemy import select
    from sqlalchemy.exc import IntegrityError

    with create_session() as session:
        known = select(DagModel.bundle_name).where(DagModel.relative_fileloc == EXPORTS_FILE).distinct()
        every = select(DagBundleModel.name).where(DagBundleModel.active.is_(True))
        bundles = [name for name in session.scalars(known) if name] or list(session.scalars(every))
    for bundle in bundles:
        try:
            with create_session() as session:
                session.add(DagPriorityParsingRequest(bundle_name=bundle, relative_fileloc=EXPORTS_FILE))
        except IntegrityError:
            continue  # asked for already
