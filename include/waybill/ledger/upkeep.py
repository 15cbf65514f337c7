"""The queries of housekeeping: dead attempts, old records, stuck deliveries."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select

from waybill.ledger.database.rows import readable_rows
from waybill.ledger.days import Day
from waybill.ledger.delivered import keys
from waybill.ledger.deliveries import Delivery
from waybill.ledger.tables import IS_OPEN, attempt, day, delivery, digest, key_change, stream
from waybill.states import DeliveryStatus

_MANY = 500


@dataclass(frozen=True)
class Owner:
    """The delivery an attempt belongs to, and how far the attempt came."""

    delivery: str
    status: str
    adopted: bool
    recorded_at: datetime
    publishing_at: datetime | None

    def may_be_needed(self, recorded_after: datetime | None = None) -> bool:
        """Return whether an open delivery may still be made of this attempt: its files may be visible, or it is recorded since then."""
        if self.status != DeliveryStatus.OPEN:
            return False
        return self.publishing_at is not None or (recorded_after is not None and self.recorded_at > recorded_after)


def owners(connection: Connection, attempts: Collection[str]) -> dict[str, Owner]:
    """Return the deliveries of recorded attempts, by attempt id. An attempt that died before RECORD is absent."""
    ids = list(attempts)
    found: dict[str, Owner] = {}
    for start in range(0, len(ids), _MANY):
        query = select(
            attempt.c.id, attempt.c.delivery, delivery.c.status, delivery.c.adopted, attempt.c.recorded_at, attempt.c.publishing_at
        )
        query = query.join(delivery, delivery.c.id == attempt.c.delivery).where(attempt.c.id.in_(ids[start : start + _MANY]))
        found |= dict(readable_rows(connection, query, attempt.c.id, _owner))
    return found


def _owner(row: Any) -> tuple[str, Owner]:
    return row.id, Owner(row.delivery, row.status, row.adopted == row.id, row.recorded_at, row.publishing_at)


def committed_at(connection: Connection, ids: Collection[str]) -> dict[str, datetime | None]:
    """Return when these deliveries were committed. Unknown ones are absent."""
    wanted = list(ids)
    found: dict[str, datetime | None] = {}
    for start in range(0, len(wanted), _MANY):
        query = select(delivery.c.id, delivery.c.committed_at).where(delivery.c.id.in_(wanted[start : start + _MANY]))
        found |= dict(readable_rows(connection, query, delivery.c.id, lambda row: (row.id, row.committed_at)))
    return found


def of_date(connection: Connection, tenant: str, export_date: str) -> list[Delivery]:
    """Return every delivery planned under a date, whatever its purpose and state."""
    query = select(delivery).where(delivery.c.tenant == tenant, delivery.c.export_date == export_date).order_by(delivery.c.id)
    return [Delivery(**row._mapping) for row in connection.execute(query)]


def days_of(connection: Connection, tenant: str, export_date: str) -> list[Day]:
    """Return the day manifests of a date."""
    query = select(day).where(day.c.tenant == tenant, day.c.export_date == export_date).order_by(day.c.number)
    return [Day(**row._mapping) for row in connection.execute(query)]


def open_since(connection: Connection, before: datetime) -> list[Delivery]:
    """Return deliveries that are still open and were planned before an instant, oldest first."""
    query = select(delivery).where(IS_OPEN, delivery.c.created_at < before).order_by(delivery.c.id)
    return readable_rows(connection, query, delivery.c.id, lambda row: Delivery(**row._mapping))


def drop_ended_digests(connection: Connection) -> int:
    """Remove the version digests and the delivered keys of ended streams. No delivery looks back over them.

    What an open repair has recorded stays, because it still has to publish the deletes file from there.
    """
    ended = select(stream.c.id).where(stream.c.active.is_(False))
    unfinished = select(attempt.c.id).join(delivery, delivery.c.id == attempt.c.delivery).where(IS_OPEN)
    keys.forget(connection, key_change.c.stream.in_(ended) & key_change.c.attempt.not_in(unfinished))
    return connection.execute(delete(digest).where(digest.c.stream.in_(ended))).rowcount
