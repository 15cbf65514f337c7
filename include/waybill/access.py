"""Permissions, and the person or program that calls. All of it is pure values; each shell decides how a caller is recognised."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from waybill.errors import PermanentError
from waybill.language import tell


class Permission(StrEnum):
    """What a caller may do with a tenant.

    Airflow grants permissions by DAG rights on `export__<tenant>`: read gives the two views, edit gives `registrations.manage` and
    `exports.admin`, and the right to create runs gives the rest. Under `waybill serve` they come from the token's scopes and roles
    (`TokenRights`), and `registrations.manage` covers `deliveries.run` as well.
    """

    REGISTRATIONS_VIEW = "registrations.view"
    REGISTRATIONS_MANAGE = "registrations.manage"
    DELIVERIES_RUN = "deliveries.run"
    EXPORTS_VIEW = "exports.view"
    EXPORTS_CREATE = "exports.create"
    EXPORTS_DOWNLOAD = "exports.download"
    EXPORTS_ADMIN = "exports.admin"


READING = frozenset({Permission.REGISTRATIONS_VIEW, Permission.EXPORTS_VIEW, Permission.EXPORTS_DOWNLOAD})
ON_REQUESTS = frozenset({Permission.EXPORTS_VIEW, Permission.EXPORTS_CREATE, Permission.EXPORTS_DOWNLOAD, Permission.EXPORTS_ADMIN})
MANAGING = frozenset({Permission.REGISTRATIONS_MANAGE, Permission.DELIVERIES_RUN})
"""Registering, restoring, full loads, redeliveries, backfills and rehearsals: they decide where all of a tenant's rows go, and when."""

Granted = Callable[[str, frozenset[str] | None], Collection[str]]
"""Maps (tenant, roles) to the names of the permissions that the policy gives. The roles are None for a token that names none."""


class Rights(Protocol):
    """What one caller may do, tenant by tenant."""

    def allows(self, wanted: Permission, tenant: str) -> bool: ...

    def reaches(self, tenant: str) -> bool:
        """Return False if the caller must not learn whether this tenant exists. The answer is then 404, not 403."""
        ...

    def needed(self, wanted: Permission, tenant: str) -> str:
        """Return what a caller without a permission has to ask for. The text follows "It needs"."""
        ...

    def operates(self) -> bool:
        """Return whether the caller may change the registration of every tenant, including future ones."""
        ...

    def among(self, wanted: Permission, tenants: Iterable[str]) -> list[str]:
        """Return those of `tenants` for which the caller holds the permission, in their order. One question covers thousands of tenants."""
        ...


@dataclass(frozen=True)
class Caller:
    """A recognised person or program. `subject` is stable and unique, `name` is for people, and `email` may be empty.

    `projects` are the projects the caller is a member of. They limit the caller to the exports of those projects. None means every project.
    """

    subject: str
    rights: Rights = field(repr=False, compare=False)
    name: str = ""
    email: str = ""
    origin: str = "api"
    projects: frozenset[str] | None = None

    @property
    def actor(self) -> str:
        """The name of this caller in the ledger and the audit: `api:<sub>` or `airflow:<user>`, at most 255 characters."""
        return f"{self.origin}:{self.subject}"[:255]

    def allows(self, wanted: Permission, tenant: str) -> bool:
        return self.rights.allows(wanted, tenant)

    @property
    def is_operator(self) -> bool:
        return self.rights.operates()

    @property
    def is_insider(self) -> bool:
        """Whether the caller may read of hosts, logins and connections. Airflow's users may; people with a tenant's token may not."""
        return self.origin == "airflow" or self.is_operator

    def belongs_to(self, project: str | None) -> bool:
        """Return whether the caller may see exports of that project. None stands for what reaches beyond one project."""
        return self.projects is None or project in self.projects


def _scope(wanted: Permission) -> str:
    return "read" if wanted in READING else "write"


@dataclass(frozen=True)
class TokenRights:
    """Rights from a bearer token: its tenants, its scopes `read` and `write`, and its roles.

    The scope limits everything: views and downloads need `read`, all else needs `write`. Beyond the views, the policy must allow it as
    well. `roles` is None for a token that names no roles. A token bound to some projects never manages what all of them share.
    """

    tenants: frozenset[str]
    scopes: frozenset[str]
    roles: frozenset[str] | None
    granted: Granted = field(repr=False, compare=False)
    bound_to_projects: bool = False

    def reaches(self, tenant: str) -> bool:
        return tenant in self.tenants

    def operates(self) -> bool:
        return False  # a token binds its tenants

    def needed(self, wanted: Permission, tenant: str) -> str:
        if wanted not in MANAGING:
            return tell("call.needs_scope", scope=_scope(wanted))
        return tell("call.needs_role", scope=_scope(wanted), permission=Permission.REGISTRATIONS_MANAGE)

    def allows(self, wanted: Permission, tenant: str) -> bool:
        if tenant not in self.tenants or _scope(wanted) not in self.scopes:
            return False
        if wanted in MANAGING:
            return not self.bound_to_projects and Permission.REGISTRATIONS_MANAGE in self.granted(tenant, self.roles)
        return wanted not in ON_REQUESTS or wanted in self.granted(tenant, self.roles)

    def among(self, wanted: Permission, tenants: Iterable[str]) -> list[str]:
        return [tenant for tenant in tenants if self.allows(wanted, tenant)]


LONGEST_ID = 63
TENANT_ID = re.compile(rf"^[a-z0-9][a-z0-9_-]{{0,{LONGEST_ID - 1}}}\Z")


def tenant_id(text: str) -> str:
    """Return `text` if it is a valid tenant id. Raises PermanentError if not."""
    if not TENANT_ID.match(text):
        raise PermanentError(tell("call.no_tenant_id", text=repr(text)), allowed=tell("call.tenant_id"), code="tenant_id")
    return text


Visible = Callable[[Iterable[str]], Collection[str]]
