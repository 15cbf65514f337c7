"""Whether an Airflow user, known by name alone, still holds a right: asked when a signed link is used without a login."""

from __future__ import annotations

from typing import Any

from waybill.access import Permission

PREFIX = "airflow:"


def still_may(person: str, tenant: str) -> bool:
    """Whether somebody a link was made for may still download a tenant's exports.

    False for a user who is gone or locked. True for people of other shells, whom policy's roles decide about, and under an auth manager
    that cannot be asked for a user by name: there the link's own end is the limit.
    """
    from airflow.api_fastapi.app import get_auth_manager

    from waybill.bootstrap.web import DagRights

    if not person.startswith(PREFIX):
        return True
    manager = get_auth_manager()
    known, user = _user(manager, person.removeprefix(PREFIX))
    if not known:
        return True
    return user is not None and DagRights(user).allows(Permission.EXPORTS_DOWNLOAD, tenant)


def _user(manager: Any, name: str) -> tuple[bool, Any]:
    """Whether this kind of manager can be asked, and the user of that name, if any."""
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
