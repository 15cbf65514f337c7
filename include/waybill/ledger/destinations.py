"""What the ledger knows of destinations: how often one failed in a row, and what its last rehearsal found."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NotRequired, TypedDict

from sqlalchemy import Connection, delete, insert, select, update

from waybill.ledger.database.rows import mapping
from waybill.ledger.database.taken import Taken, unless_taken
from waybill.ledger.tables import breaker, tenant

THRESHOLD = 5
FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(minutes=15)


def failures_of(connection: Connection, destination: str) -> tuple[int, datetime | None]:
    """Return how often in a row the destination failed, and until when it is left alone, if it is."""
    found = connection.execute(select(breaker.c.failures, breaker.c.open_until).where(breaker.c.destination == destination)).one_or_none()
    return (found.failures, found.open_until) if found else (0, None)


def note_failure(connection: Connection, destination: str, now: datetime) -> None:
    """Count one failed connection. From the fifth in a row the pause doubles each time, up to a quarter of an hour."""
    one_more = update(breaker).where(breaker.c.destination == destination).values(failures=breaker.c.failures + 1)
    if connection.execute(one_more).rowcount == 0:
        try:
            with unless_taken(connection, breaker, "pk_breaker"):
                connection.execute(insert(breaker).values(destination=destination, failures=1))
        except Taken:  # another worker has just counted the first one
            connection.execute(one_more)
    failures = connection.execute(select(breaker.c.failures).where(breaker.c.destination == destination)).scalar_one()
    if failures >= THRESHOLD:
        pause = min(FIRST_PAUSE * 2 ** min(failures - THRESHOLD, 10), LONGEST_PAUSE)
        connection.execute(update(breaker).where(breaker.c.destination == destination).values(open_until=now + pause))


def forget_failures(connection: Connection, destination: str) -> None:
    """Forget earlier failures."""
    connection.execute(delete(breaker).where(breaker.c.destination == destination))


class FailedRehearsal(TypedDict):
    """Why a rehearsal failed: a code, what happened, and what to do. `destination` is the one that was in force."""

    code: str
    what: str
    next_step: str
    destination: dict[str, Any]
    at: NotRequired[str]


@dataclass(frozen=True)
class Rehearsed:
    """The kept rehearsals of a destination: the last good one, and the failure of the last one, if it failed."""

    found: dict[str, Any] | None
    found_at: datetime | None
    failed: FailedRehearsal | None
    failed_at: datetime | None


_FAILED = "failed"
"""The key of the failure in the kept JSON, beside the facts of the last good rehearsal, which deliveries use."""


def profile(connection: Connection, tenant_id: str) -> str | None:
    """Return the destination profile found by the last good probe, or None."""
    probe = mapping(connection.execute(select(tenant.c.probe).where(tenant.c.id == tenant_id)).scalar_one_or_none())
    return probe.get("profile") if probe else None


def last_probe(connection: Connection, tenant_id: str) -> Rehearsed | None:
    """Return the kept rehearsals, or None."""
    row = connection.execute(select(tenant.c.probe, tenant.c.probed_at).where(tenant.c.id == tenant_id)).one_or_none()
    probe = mapping(row.probe) if row else None
    if row is None or not probe:
        return None
    found = {key: value for key, value in probe.items() if key != _FAILED}
    failed = probe.get(_FAILED)
    return Rehearsed(found or None, row.probed_at, failed, datetime.fromisoformat(failed["at"]) if failed else None)


def store_probe(connection: Connection, tenant_id: str, probe: dict[str, Any], now: datetime) -> None:
    """Keep a good rehearsal. It replaces an earlier failure."""
    connection.execute(update(tenant).where(tenant.c.id == tenant_id).values(probe=probe, probed_at=now))


def store_failed_probe(connection: Connection, tenant_id: str, failed: FailedRehearsal, now: datetime) -> None:
    """Keep why a rehearsal failed, beside the last good one."""
    kept = connection.execute(select(tenant.c.probe).where(tenant.c.id == tenant_id).with_for_update()).scalar_one()
    probe = {**(mapping(kept) or {}), _FAILED: {**failed, "at": now.isoformat()}}
    connection.execute(update(tenant).where(tenant.c.id == tenant_id).values(probe=probe))
