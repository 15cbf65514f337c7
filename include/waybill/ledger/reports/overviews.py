"""All tenants at a glance: a handful of queries whatever the number of tenants, none of which reads the whole delivery table."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, case, func, select, text

from waybill.ledger.database.rows import UNREADABLE, mapping, readable_rows
from waybill.ledger.tables import attempt, delivery, registration, stream, tenant
from waybill.states import DeliveryStatus, Purpose


@dataclass(frozen=True)
class Standing:
    """A tenant's registration in force and its active streams. `behind` is the earliest watermark, `new` counts streams without one.

    `new_since` is when the first of those became active. `entities` are those this is about where it is not about all.
    """

    tenant: str
    body: dict[str, Any]
    created_at: datetime
    streams: int
    new: int
    behind: datetime | None
    new_since: datetime | None
    entities: frozenset[str] | None = None


@dataclass(frozen=True)
class Trouble:
    """An open scheduled delivery that has failed so far."""

    tenant: str
    delivery: str
    entity: str
    error: str
    code: str
    failures: int
    created_at: datetime


@dataclass(frozen=True)
class Day:
    """What was committed of one export date."""

    tenant: str
    date: str
    rows: int
    bytes: int
    committed_at: datetime


def standings(connection: Connection, only: str | None = None) -> list[Standing]:
    """Return every registered tenant, ordered by id, or `only` that one."""
    active = (
        select(
            stream.c.tenant,
            func.count().label("streams"),
            func.sum(case((stream.c.watermark.is_(None), 1), else_=0)).label("new"),
            func.min(stream.c.watermark).label("behind"),
            func.min(case((stream.c.watermark.is_(None), stream.c.activated_at))).label("new_since"),
        )
        .where(stream.c.active, *(() if only is None else (stream.c.tenant == only,)))
        .group_by(stream.c.tenant)
        .subquery()
    )
    query = (
        select(
            tenant.c.id, registration.c.body, registration.c.created_at, active.c.streams, active.c.new, active.c.behind, active.c.new_since
        )
        .join(registration, (registration.c.tenant == tenant.c.id) & (registration.c.version == tenant.c.version))
        .outerjoin(active, active.c.tenant == tenant.c.id)
        .where(*(() if only is None else (tenant.c.id == only,)))
        .order_by(tenant.c.id)
    )
    return readable_rows(connection, query, tenant.c.id, _standing)


def _standing(row: Any) -> Standing:
    body = mapping(row[1])
    return Standing(row[0], UNREADABLE if body is None else body, row[2], row[3] or 0, row[4] or 0, row[5], row[6])


def troubles(connection: Connection, only: str | None = None) -> list[Trouble]:
    """Return every open scheduled delivery that has failed, newest first. With `only`, those of one tenant."""
    # Literals, not parameters: only so does SQLite see that its partial index of open deliveries answers this.
    is_open = text("delivery.status = 'open' AND delivery.purpose = 'schedule'")
    facts = delivery.c
    columns = (facts.tenant, facts.id, facts.entity, facts.error, facts.error_code, facts.failures, facts.created_at)
    mine = () if only is None else (facts.tenant == only,)
    query = select(*columns).where(is_open, facts.error != "", *mine).order_by(delivery.c.id.desc())
    return readable_rows(connection, query, delivery.c.id, lambda row: Trouble(*row))


def days(connection: Connection, tenants: Collection[str], since: datetime) -> list[Day]:
    """Return the rows and bytes of scheduled deliveries planned since then, by tenant and export date, oldest date first."""
    query = (
        select(
            delivery.c.tenant,
            delivery.c.export_date,
            func.sum(attempt.c.rows),
            func.sum(attempt.c.bytes),
            func.max(delivery.c.committed_at),
        )
        .join(attempt, attempt.c.id == delivery.c.adopted)
        .where(
            delivery.c.tenant.in_(list(tenants)),
            delivery.c.created_at >= since,
            delivery.c.status == DeliveryStatus.COMMITTED,
            delivery.c.purpose == Purpose.SCHEDULE,
        )
        .group_by(delivery.c.tenant, delivery.c.export_date)
        .order_by(delivery.c.tenant, delivery.c.export_date)
    )
    return readable_rows(connection, query, delivery.c.tenant, lambda row: Day(row[0], row[1], int(row[2]), int(row[3]), row[4]))


def committed_since(connection: Connection, since: datetime, planned_since: datetime) -> dict[str, tuple[int, int, int]]:
    """Return the deliveries, rows and bytes that were committed since then, by tenant.

    `planned_since` bounds the search by the time in the ids.
    """
    first = f"{int(planned_since.timestamp() * 1000):012x}"
    # An expression, not the column: else SQLite reads the whole table in the order of an index that begins with it.
    name = delivery.c.tenant.concat("")
    query = (
        select(name, func.count(), func.sum(attempt.c.rows), func.sum(attempt.c.bytes))
        .join(attempt, attempt.c.id == delivery.c.adopted)
        .where(delivery.c.id >= first, delivery.c.status == DeliveryStatus.COMMITTED, delivery.c.committed_at >= since)
        .group_by(name)
    )
    return {row[0]: (int(row[1]), int(row[2]), int(row[3])) for row in connection.execute(query)}
