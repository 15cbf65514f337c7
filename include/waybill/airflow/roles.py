"""Makes a role for each tenant under Airflow's FAB auth manager. It gives access to that tenant's DAG, page and API alone."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from waybill.airflow.names import dag_id
from waybill.errors import PermanentError

SHARED = (
    ("can_read", "Website"),
    ("can_read", "My Profile"),
    ("can_edit", "My Profile"),
    ("can_read", "My Password"),
    ("can_edit", "My Password"),
    ("menu_access", "DAGs"),
    ("can_read", "DAG Runs"),
    ("can_create", "DAG Runs"),
    ("can_edit", "DAG Runs"),
    ("can_read", "Task Instances"),
    ("can_read", "Task Logs"),
)
"""Permissions about runs only count for DAGs that the role may see."""


def make_roles(tenants: Iterable[str]) -> list[str]:
    """Create the missing roles, named by tenant id, and give them their permissions. No role loses anything.

    Raises PermanentError if FAB does not keep Airflow's users.
    """
    from airflow.configuration import conf

    if not conf.get("core", "auth_manager").endswith(".FabAuthManager") or find_spec("airflow.providers.fab") is None:
        raise PermanentError(
            "Airflow's users are not kept by the FAB auth manager, which alone has roles for single DAGs",
            next_step="Set [core] auth_manager, or give rights on the DAGs where your auth manager keeps them",
            code="no_roles",
        )
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    made = []
    with get_application_builder() as builder:
        security = builder.sm
        known = {role.name for role in security.get_all_roles()}
        for tenant in tenants:
            role = security.add_role(tenant)
            for action, resource in (*SHARED, *((action, f"DAG:{dag_id(tenant)}") for action in ("can_read", "can_edit"))):
                security.add_permission_to_role(role, security.create_permission(action, resource))
            made += [] if tenant in known else [tenant]
    return made
