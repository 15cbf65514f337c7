"""Airflow's users, and what they may do with a tenant. It is what they may do with the DAG `export__<tenant>`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from waybill.access import Caller, Permission
from waybill.airflow.names import dag_id
from waybill.language import tell

PREFIX = "airflow:"


def still_may(person: str, tenant: str) -> bool:
    """Return whether the person a link was made for may still download a tenant's exports.

    This is false for a user who is gone or locked. It is true for people of other shells, because the policy's roles decide about them, and
    under an auth manager that cannot look up a user by name. There, only the link's own end limits it.
    """
    from airflow.api_fastapi.app import get_auth_manager

    if not person.startswith(PREFIX):
        return True
    manager = get_auth_manager()
    known, user = _user(manager, person.removeprefix(PREFIX))
    if not known:
        return True
    return user is not None and DagRights(user).allows(Permission.EXPORTS_DOWNLOAD, tenant)


def _user(manager: Any, name: str) -> tuple[bool, Any]:
    """Return whether this auth manager can be asked, and the user of that name, if there is one."""
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
    from airflow.configuration import conf

    if isinstance(manager, SimpleAuthManager):
        if conf.getboolean("core", "simple_auth_manager_all_admins"):  # everybody is the one nameless administrator
            return False, None
        return True, next((user for user in manager.get_users() if user.get_name() == name), None)
    if type(manager).__module__.startswith("airflow.providers.fab."):
        return True, _fab_user(manager, name)
    return False, None


def _fab_user(manager: Any, name: str) -> Any:
    from airflow.providers.fab.auth_manager.models import User
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        found = session.scalar(select(User.id).where(User.username == name, User.active.is_(True)))
    if found is None:
        return None
    try:
        return manager.deserialize_user({"sub": str(found)})
    except ValueError:  # locked, or removed just now
        return None


_RIGHTS: dict[Permission, tuple[Literal["GET", "PUT", "POST"], bool]] = {
    Permission.REGISTRATIONS_VIEW: ("GET", False),
    Permission.EXPORTS_VIEW: ("GET", False),
    Permission.REGISTRATIONS_MANAGE: ("PUT", False),
    Permission.EXPORTS_ADMIN: ("PUT", False),
    Permission.DELIVERIES_RUN: ("POST", True),
    Permission.EXPORTS_CREATE: ("POST", True),
    Permission.EXPORTS_DOWNLOAD: ("POST", True),
}
"""For each permission, the method on the tenant's DAG, and whether the method is about the DAG's runs."""


@dataclass(frozen=True)
class DagRights:
    """What an Airflow user may do with a tenant. The auth manager decides it by `export__<tenant>`, whether that DAG exists yet or not."""

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

    def operates(self) -> bool:
        from airflow.api_fastapi.app import get_auth_manager

        return bool(get_auth_manager().is_authorized_dag(method="PUT", user=self.user))  # without details: every DAG

    def needed(self, wanted: Permission, tenant: str) -> str:
        method, on_runs = _RIGHTS[wanted]
        right = "runs" if on_runs else {"GET": "read", "PUT": "edit"}.get(method, "use")
        return tell(f"call.needs_{right}", dag=dag_id(tenant))

    def among(self, wanted: Permission, tenants: Iterable[str]) -> list[str]:
        from airflow.api_fastapi.app import get_auth_manager

        readable = get_auth_manager().get_authorized_dag_ids(user=self.user, method="GET")
        # A tenant that was registered a moment ago has no DAG to list, so it is asked about by itself. So are rights beyond reading.
        plain = _RIGHTS[wanted] == ("GET", False)
        return [tenant for tenant in tenants if (plain and dag_id(tenant) in readable) or self.allows(wanted, tenant)]


class AirflowAccess:
    """Recognises Airflow's users by a token of `/auth/token`, or by the session of Airflow's own pages."""

    async def caller(self, request: Any) -> Caller:
        """Raises Airflow's HTTPException if nobody is logged in."""
        from airflow.api_fastapi.core_api.security import bearer_scheme, get_user

        user = await get_user(request, None, await bearer_scheme(request))
        email = getattr(user, "email", "") or ""
        return Caller(user.get_name(), DagRights(user), name=user.get_name(), email=str(email), origin="airflow")

    def still_may(self, person: str, tenant: str) -> bool:
        """Return whether the person a link was made for may still download (see the function `still_may` of this module)."""
        return still_may(person, tenant)
