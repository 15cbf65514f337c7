"""What the commands share: arguments and options, how an installation is opened, and how a command prints."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waybill.errors import counted
from waybill_consumer.progress import seen

if TYPE_CHECKING:
    from waybill.configuration.loading import Settings
    from waybill.configuration.registration import Registration
    from waybill.doctor import Check
    from waybill.installation import Installation

__all__ = [
    "AsJson", "Tenant", "actor", "applied", "complain", "counted", "dump", "instant", "moment", "reachable", "sources_of",
    "tell_source_findings", "write",
]  # fmt: skip

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Tenant = Annotated[str, typer.Argument(help="Tenant id.")]


def instant(text: str) -> datetime:
    """Return an RFC 3339 time with an offset. Raises a usage error for anything else."""
    from waybill.canonical import parse_timestamp

    try:
        return parse_timestamp(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not an RFC 3339 time with an offset, as in 2026-06-01T00:00:00Z") from error


def moment(text: str) -> date:
    """Do as `instant`, or read a date alone, which stands for its begin in the tenant's zone."""
    from waybill.window import is_at_an_end

    if len(text) != len("2026-01-31"):
        return instant(text)
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = date.min
    if is_at_an_end(day):
        raise typer.BadParameter(f"{text!r} is no date, as in 2026-06-01")
    return day


def reachable(until: datetime | None, now: datetime) -> datetime:
    """Return how far to deliver: `until`, or now. If `until` is in the future, say that nothing is delivered from there."""
    if until is not None and until > now:
        complain(f"--until {until.isoformat()} lies ahead: delivering up to now, {now.isoformat(timespec='seconds')}")
        return now
    return until or now


def tell_source_findings(settings: Settings, tenants: Mapping[str, Registration]) -> None:
    """Print what keeps entities from being read for these tenants, and warn of what hides rows. Exits with 1 if one cannot be read."""
    found = sources_of(settings, tenants)
    for check in found:
        if check.status == "warning":
            complain(f"warning: {check.found}. {check.next_step}")
    findings = [check for check in found if check.status == "failed"]
    for check in findings:
        write(f"{check.found}. {check.next_step}")
    if findings:
        complain(f"{counted(len(findings), 'problem')} found")
        raise typer.Exit(1)


def sources_of(settings: Settings, tenants: Mapping[str, Registration]) -> list[Check]:
    """Return what the sources say of these tenants' entities."""
    from waybill.airflow import connect_db, lookup
    from waybill.doctor import source_findings
    from waybill.installation import Installation
    from waybill.ledger import Ledger
    from waybill.window import utc_now

    ledger = Ledger(settings.ledger_url)
    try:
        return source_findings(Installation(settings, ledger, lookup, utc_now, connect_db), tenants)
    finally:
        ledger.close()


def applied(tenant: str) -> Installation:
    """Return the installation after applying this tenant's own file, if it has one. A bad file leaves the last good version, loudly."""
    from waybill.airflow import open_installation
    from waybill.registrations import applying

    installation = open_installation()
    for finding in applying.apply(installation, actor=actor(), only=tenant).findings:
        complain(str(finding))
    return installation


def actor() -> str:
    """Return who runs the command, as the audit trail names them."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container may run under a number that has no name
        return f"cli:{os.getuid()}"


def write(text: str) -> None:
    sys.stdout.write(f"{seen(text)}\n")


def complain(text: str) -> None:
    sys.stderr.write(f"{seen(text)}\n")


def dump(facts: Any) -> None:
    """Print facts as indented JSON on standard output."""
    sys.stdout.write(f"{json.dumps(facts, indent=2, ensure_ascii=False)}\n")
