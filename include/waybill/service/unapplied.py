"""What the configuration files say that is not in force, and why. The findings are those of `waybill check`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from waybill.errors import Finding
from waybill.ledger import tenants
from waybill.ledger.registrations import Registered
from waybill.service.applying import change_of, is_gone, tenant_of
from waybill.service.estate import Estate
from waybill.service.overview import Visible


@dataclass(frozen=True)
class Failed:
    """Rounds of applying that failed since the last good one: when the first of them ended, and where the newest stands below the
    shell's root.
    """

    since: datetime
    place: str


@dataclass(frozen=True)
class Unapplied:
    """What one reader may know of it. `tenants` have a file with mistakes; `whole`: mistakes in what all share hold up every file.

    `findings` are those the reader may read: a tenant's by the right to see it, those of the shared files by seeing every tenant.
    """

    tenants: tuple[str, ...]
    whole: bool
    findings: tuple[Finding, ...]
    failed: Failed | None


def unapplied(estate: Estate, visible: Visible, failed: Failed | None = None) -> Unapplied | None:
    """None where all is in force, or only mistakes in files of tenants that `visible` does not let through keep it from being so."""
    configuration = estate.configuration
    if not (configuration.findings or failed):
        return None
    shared = configuration.shared_findings
    seen = set(visible(sorted(configuration.broken)))
    own = tuple(one for one in configuration.tenants_findings if tenant_of(one) in seen)
    if configuration.findings and not (shared or own):
        return None
    readable = shared if shared and _sees_all(estate, visible) else ()
    return Unapplied(tuple(dict.fromkeys(tenant_of(one) for one in own)), bool(shared), (*readable, *own), failed)


def _sees_all(estate: Estate, visible: Visible) -> bool:
    with estate.ledger.begin() as connection:
        every = {*tenants.ids(connection), *estate.configuration.tenants, *estate.configuration.broken}
    return len(set(visible(sorted(every)))) == len(every)


@dataclass(frozen=True)
class File:
    """How a tenant's file stands to its registration in force. `outstanding` is what the next round does: change, deactivate, or nothing.

    `findings` keep the file from being applied.
    """

    findings: tuple[Finding, ...] = ()
    outstanding: str = ""


def file_of(estate: Estate, tenant: str, registered: Registered | None, active: Collection[str] = ()) -> File:
    """`active` are the tenant's entities that are delivered now."""
    configuration = estate.configuration
    if tenant in configuration.broken:
        return File(tuple(one for one in configuration.tenants_findings if tenant_of(one) == tenant))
    if file := configuration.tenants.get(tenant):
        action = change_of(file, registered, list(active)).action
        return File(outstanding="" if action == "keep" else action)
    return File(outstanding="deactivate" if registered and is_gone(configuration, registered) else "")
