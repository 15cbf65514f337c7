"""Deliveries beside the schedule: backfills and redeliveries. Neither moves a stream."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, or_, select, update

from waybill.ledger.deliveries import Delivery
from waybill.ledger.tables import delivery


def open_of(connection: Connection, tenant: str) -> list[Delivery]:
    """The tenant's backfills and redeliveries that are not finished, oldest first."""
    query = select(delivery).where(delivery.c.tenant == tenant, delivery.c.status == "open", delivery.c.purpose != "schedule")
    return [Delivery(**row._mapping) for row in connection.execute(query.order_by(delivery.c.id))]


def backfills(connection: Connection, stream_id: int, start: datetime, end: datetime) -> list[Delivery]:
    """All backfills of a stream over exactly this range, oldest first."""
    same = (delivery.c.stream == stream_id, delivery.c.purpose == "backfill", delivery.c.window_from == start, delivery.c.planned_to == end)
    query = select(delivery).where(*same, delivery.c.status != "abandoned").order_by(delivery.c.id)
    return [Delivery(**row._mapping) for row in connection.execute(query)]


def family(connection: Connection, original: str) -> list[Delivery]:
    """A delivery and everything that ever repeated it, the original first."""
    query = select(delivery).where(or_(delivery.c.id == original, delivery.c.redelivers == original)).order_by(delivery.c.id)
    return [Delivery(**row._mapping) for row in connection.execute(query)]


def abandon(connection: Connection, delivery_id: str, reason: str) -> None:
    """Give an open delivery up for good."""
    closed = update(delivery).where(delivery.c.id == delivery_id, delivery.c.status == "open")
    connection.execute(closed.values(status="abandoned", note=reason))
