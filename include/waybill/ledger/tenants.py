"""Facts kept per tenant beside its registration: the last rehearsal of its destination."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update

from waybill.ledger.tables import tenant


def ids(connection: Connection) -> list[str]:
    """Every tenant that was ever registered."""
    return list(connection.scalars(select(tenant.c.id).order_by(tenant.c.id)))


def profile(connection: Connection, tenant_id: str) -> str | None:
    """The destination profile found by the last probe, or None when it was never probed."""
    probe = connection.execute(select(tenant.c.probe).where(tenant.c.id == tenant_id)).scalar_one_or_none()
    return probe["profile"] if probe else None


def last_probe(connection: Connection, tenant_id: str) -> tuple[dict[str, Any], datetime] | None:
    row = connection.execute(select(tenant.c.probe, tenant.c.probed_at).where(tenant.c.id == tenant_id)).one_or_none()
    return None if row is None or row.probe is None else (row.probe, row.probed_at)


def store_probe(connection: Connection, tenant_id: str, probe: dict[str, Any], now: datetime) -> None:
    connection.execute(update(tenant).where(tenant.c.id == tenant_id).values(probe=probe, probed_at=now))
