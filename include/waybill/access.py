"""Who may do what: permissions, and the person or program that calls. Pure values; each shell decides how a caller is recognised."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from waybill.errors import PermanentError


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


READING = frozenset({Permission.REGISTRATIONS_VIEW, Permission.EXPORTS_VIEW, Permission.EXPORTS_DOWNLOAD})
ON_REQUESTS = frozenset({Permission.EXPORTS_VIEW, Permission.EXPORTS_CREATE, Permission.EXPORTS_DOWNLOAD, Permission.EXPORTS_ADMIN})

Granted = Callable[[str, frozenset[str]], Collection[str]]
"""What policy lets roles do with requests: (tenant, roles) -> names of permissions."""


class Rights(Protocol):
    """What one caller may do, tenant by tenant."""

    def allows(self, wanted: Permission, tenant: str) -> bool: ...

    def reaches(self, tenant: str) -> bool:
        """False when the caller must not learn whether this tenant exists: the answer is then 404, not 403."""
        ...

    def needed(self, wanted: Permission, tenant: str) -> str:
        """What a caller who lacks a permission has to ask for, to stand behind "It needs"."""
        ...

    def operates(self) -> bool:
        """Whether the caller may change the registration of every tenant, also of those to come."""
        ...

    def among(self, wanted: Permission, tenants: Iterable[str]) -> list[str]:
        """Those of `tenants` the permission is held for, in their order. One question for thousands of tenants."""
        ...


@dataclass(frozen=True)
class Caller:
    """A recognised person or program. `subject` is stable and unique, `name` is for people, `email` may be empty.

    `projects` are those they are a member of, where that is known: to their exports they are bound then. None means all.
    """

    subject: str
    rights: Rights = field(repr=False, compare=False)
    name: str = ""
    email: str = ""
    origin: str = "api"
    projects: frozenset[str] | None = None

    @property
    def actor(self) -> str:
        """How ledger and audit name this caller: `api:<sub>` or `airflow:<user>`, at most 255 characters."""
        return f"{self.origin}:{self.subject}"[:255]

    def allows(self, wanted: Permission, tenant: str) -> bool:
        return self.rights.allows(wanted, tenant)

    @property
    def is_operator(self) -> bool:
        return self.rights.operates()

    def belongs_to(self, project: str | None) -> bool:
        """Whether exports of that project are theirs to see; None stands for what reaches beyond one project."""
        return self.projects is None or project in self.projects


def _scope(wanted: Permission) -> str:
    return "read" if wanted in READING else "write"


@dataclass(frozen=True)
class TokenRights:
    """Rights out of a bearer token: its tenants, its scopes `read` and `write`, and its roles.

    The scope bounds everything: views and downloads need `read`, all else `write`. Permissions on requests need the policy's word as well.
    """

    tenants: frozenset[str]
    scopes: frozenset[str]
    roles: frozenset[str]
    granted: Granted = field(repr=False, compare=False)

    def reaches(self, tenant: str) -> bool:
        return tenant in self.tenants

    def operates(self) -> bool:
        return False  # a token binds its tenants

    def needed(self, wanted: Permission, tenant: str) -> str:
        return f"a token with the scope {_scope(wanted)}"

    def allows(self, wanted: Permission, tenant: str) -> bool:
        in_scope = _scope(wanted) in self.scopes
        return tenant in self.tenants and in_scope and (wanted not in ON_REQUESTS or wanted in self.granted(tenant, self.roles))

    def among(self, wanted: Permission, tenants: Iterable[str]) -> list[str]:
        return [tenant for tenant in tenants if self.allows(wanted, tenant)]


TENANT_ID = re.compile(r"^[a-z0-9][a-z0-9_-]{0,62}\Z")


def tenant_id(text: str) -> str:
    """`text` itself when it is a valid tenant id. Raises PermanentError when not."""
    if not TENANT_ID.match(text):
        raise PermanentError(
            f"{text!r} is not a tenant id", allowed="1 to 63 of a-z 0-9 _ -, beginning with a letter or digit", code="tenant_id"
        )
    return text


Visible = Callable[[Iterable[str]], Collection[str]]
