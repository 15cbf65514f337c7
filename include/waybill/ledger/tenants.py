"""Facts kept per tenant beside its registration: the last rehearsal of its destination."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update

from waybill.ledger.tables import tenant


def ids(connection: Connection) -> list[str]:
    """Every tenant that was ever registered."""
    return list(connection.scalars(select(tenant.c.id).order_by(tenant.c.id)))


@dataclass(frozen=True)
class Rehearsed:
    """What is kept of a destination's rehearsals: the last good one, and what the last one failed on if it did."""

    found: dict[str, Any] | None
    found_at: datetime | None
    failed: dict[str, Any] | None
    failed_at: datetime | None


_FAILED = "failed"
"""Where in the kept JSON the failure stands, beside the facts of the last good rehearsal, which deliveries go by."""


def profile(connection: Connection, tenant_id: str) -> str | None:
    """The destination profile found by the last good probe, or None when there was none."""
    probe = connection.execute(select(tenant.c.probe).where(tenant.c.id == tenant_id)).scalar_one_or_none()
    return probe.get("profile") if probe else None


def last_probe(connection: Connection, tenant_id: str) -> Rehearsed | None:
    """None when nothing was ever rehearsed."""
    row = connection.execute(select(tenant.c.probe, tenant.c.probed_at).where(tenant.c.id == tenant_id)).one_or_none()
    if row is None or not row.probe:
        return None
    found = {key: value for key, value in row.probe.items() if key != _FAILED}
    failed = row.probe.get(_FAILED)
    return Rehearsed(found or None, row.probed_at, failed, datetime.fromisoformat(failed["at"]) if failed else None)


def store_probe(connection: Connection, tenant_id: str, probe: dict[str, Any], now: datetime) -> None:
    """Keep a good rehearsal. It is the last word: what failed before it is forgotten."""
    connection.execute(update(tenant).where(tenant.c.id == tenant_id).values(probe=probe, probed_at=now))


def store_failed_probe(connection: Connection, tenant_id: str, failed: dict[str, Any], now: datetime) -> None:
    """Keep why a rehearsal failed, beside the last good one."""
    kept = connection.execute(select(tenant.c.probe).where(tenant.c.id == tenant_id).with_for_update()).scalar_one() or {}
    probe = {**kept, _FAILED: {**failed, "at": now.isoformat()}}
    connection.execute(update(tenant).where(tenant.c.id == tenant_id).values(probe=probe))
