"""Day manifests: numbered, immutable, written when every entity of the day is committed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, insert, select, update

from waybill.ledger.database.taken import Taken, unless_taken
from waybill.ledger.deliveries import Delivery
from waybill.ledger.tables import IS_OPEN, UNLISTED, day, delivery
from waybill.states import DeliveryStatus, Kind


@dataclass(frozen=True)
class Day:
    """One day manifest, its bytes frozen before it was published."""

    tenant: str
    export_date: str
    number: int
    sha256: str
    document: bytes
    created_at: datetime
    published_at: datetime | None


def unlisted_dates(connection: Connection, tenant: str) -> list[str]:
    """Return dates with committed deliveries that no day manifest lists yet."""
    query = select(delivery.c.export_date).where(delivery.c.tenant == tenant, UNLISTED)
    return sorted(set(connection.execute(query).scalars()))


def committed(connection: Connection, tenant: str, export_date: str) -> list[Delivery]:
    """Return the committed deliveries of a date, in the order they were planned. Day manifests do not list backfills."""
    query = (
        select(delivery)
        .where(
            delivery.c.tenant == tenant,
            delivery.c.export_date == export_date,
            delivery.c.status == DeliveryStatus.COMMITTED,
            delivery.c.kind != Kind.BACKFILL,
        )
        .order_by(delivery.c.id)
    )
    return [Delivery(**row._mapping) for row in connection.execute(query)]


def count_open(connection: Connection, tenant: str, export_date: str) -> int:
    query = select(func.count()).where(
        delivery.c.tenant == tenant, delivery.c.export_date == export_date, IS_OPEN, delivery.c.kind != Kind.BACKFILL
    )
    return int(connection.execute(query).scalar_one())


def next_number(connection: Connection, tenant: str, export_date: str) -> int:
    last = connection.execute(select(func.max(day.c.number)).where(day.c.tenant == tenant, day.c.export_date == export_date)).scalar_one()
    return (last or 0) + 1


def freeze(connection: Connection, manifest: Day, listed: list[str]) -> bool:
    """Record the bytes of a day manifest and mark its new deliveries as listed. Returns False if another worker took the number."""
    try:
        with unless_taken(connection, day, "pk_day"):
            connection.execute(insert(day).values(**vars(manifest)))
    except Taken:
        return False
    connection.execute(
        update(delivery).where(delivery.c.id.in_(listed), delivery.c.day_number.is_(None)).values(day_number=manifest.number)
    )
    return True


def unpublished(connection: Connection, tenant: str) -> list[Day]:
    """Return the day manifests that are frozen and not yet known to be published, oldest first."""
    query = select(day).where(day.c.tenant == tenant, day.c.published_at.is_(None)).order_by(day.c.export_date, day.c.number)
    return [Day(**row._mapping) for row in connection.execute(query)]


def mark_published(connection: Connection, manifest: Day, now: datetime) -> None:
    same = (day.c.tenant == manifest.tenant, day.c.export_date == manifest.export_date, day.c.number == manifest.number)
    connection.execute(update(day).where(*same).values(published_at=now))
