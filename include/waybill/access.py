"""Who may do what: permissions, and the person or program that calls. Pure values; each shell decides how a caller is recognised."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Permission(StrEnum):
    """What a caller may do with a tenant.

    Airflow grants them by DAG rights on `export__<tenant>`: the two views by read, `registrations.edit` and `exports.admin` by edit, the
    rest by the right to create runs. Under `waybill serve` they come with the token's scopes and roles (`TokenRights`).
    """

    REGISTRATIONS_VIEW = "registrations.view"
    REGISTRATIONS_EDIT = "registrations.edit"
    DELIVERIES_RUN = "deliveries.run"
    EXPORTS_VIEW = "exports.view"
    EXPORTS_CREATE = "exports.create"
    EXPORTS_DOWNLOAD = "exports.download"
    EXPORTS_ADMIN = "exports.admin"


ALIASES = {
    "data.exports.create": Permission.EXPORTS_CREATE,
    "pf.export_requests.create": Permission.EXPORTS_CREATE,
    "pf.export_requests.view": Permission.EXPORTS_VIEW,
}
"""Names the product documents use."""

READING = frozenset({Permission.REGISTRATIONS_VIEW, Permission.EXPORTS_VIEW})
ON_REQUESTS = frozenset({Permission.EXPORTS_VIEW, Permission.EXPORTS_CREATE, Permission.EXPORTS_DOWNLOAD, Permission.EXPORTS_ADMIN})

Grants = Mapping[str, frozenset[Permission]]
"""Policy's roles: role name -> permissions on requests."""


def permission(name: str) -> Permission:
    """The permission of that name or alias. Raises ValueError for any other word."""
    found = ALIASES.get(name)
    return found if found is not None else Permission(name)


class Rights(Protocol):
    """What one caller may do, tenant by tenant."""

    def allows(self, wanted: Permission, tenant: str) -> bool: ...

    def reaches(self, tenant: str) -> bool:
        """False when the caller must not learn whether this tenant exists: the answer is then 404, not 403."""
        ...

    def among(self, wanted: Permission, tenants: Iterable[str]) -> list[str]:
        """Those of `tenants` the permission is held for, in their order. One question for thousands of tenants."""
        ...


@dataclass(frozen=True)
class Caller:
    """A recognised person or program. `subject` is stable and unique, `name` is for people, `email` may be empty."""

    subject: str
    rights: Rights = field(repr=False, compare=False)
    name: str = ""
    email: str = ""
    origin: str = "api"

    @property
    def actor(self) -> str:
        """How ledger and audit name this caller: `api:<sub>` or `airflow:<user>`, at most 255 characters."""
        return f"{self.origin}:{self.subject}"[:255]

    def allows(self, wanted: Permission, tenant: str) -> bool:
        return self.rights.allows(wanted, tenant)


@dataclass(frozen=True)
class TokenRights:
    """Rights out of a bearer token: its tenants, its scopes `read` and `write`, and its roles as far as policy defines any.

    The scope bounds everything: views need `read`, all else `write`. Where policy defines roles, permissions on requests need a role that
    grants them as well.
    """

    tenants: frozenset[str]
    scopes: frozenset[str]
    roles: frozenset[str] = frozenset()
    grants: Grants = field(default_factory=dict)

    def reaches(self, tenant: str) -> bool:
        return tenant in self.tenants

    def allows(self, wanted: Permission, tenant: str) -> bool:
        in_scope = ("read" if wanted in READING else "write") in self.scopes
        granted = not self.grants or wanted not in ON_REQUESTS or any(wanted in self.grants.get(role, ()) for role in self.roles)
        return tenant in self.tenants and in_scope and granted

    def among(self, wanted: Permission, tenants: Iterable[str]) -> list[str]:
        return [tenant for tenant in tenants if self.allows(wanted, tenant)]
