"""What each tenant got in each month, as the view `monthly_usage` adds it up for billing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, TableClause, column, exists, func, select, table

from waybill.ledger.tables import attempt, delivery, stream
from waybill.states import DeliveryStatus

MONTHS = 12
YEAR, STAYS_OPEN = timedelta(days=366), timedelta(days=92)
_USAGE = table("monthly_usage", *map(column, ("tenant", "month", "deliveries", "rows", "bytes", "seconds")))
_EACH = table("delivery_usage", *map(column, ("id", "tenant", "month", "rows", "bytes", "seconds")))


@dataclass(frozen=True)
class Month:
    """All deliveries of a tenant that were committed in a month of UTC, `2026-05`, backfills and redeliveries among them.

    `seconds` add up from each delivery's snapshot of the source to its commit.
    """

    tenant: str
    month: str
    deliveries: int
    rows: int
    bytes: int
    seconds: float


def months(connection: Connection) -> list[Month]:
    """Return the newest months of every tenant, newest first."""
    found: dict[str, list[Month]] = {}
    for month in _added_up(connection, _USAGE, func.sum(_USAGE.c.deliveries), ()):
        found.setdefault(month.tenant, []).append(month)
    return [month for each in found.values() for month in each[:MONTHS]]


def without_rows(connection: Connection) -> list[str]:
    """Return the tenants that have received deliveries, and never a row in any of them."""
    mine = (delivery.c.tenant == stream.c.tenant) & (delivery.c.status == DeliveryStatus.COMMITTED)
    filled = select(delivery.c.id).join(attempt, attempt.c.id == delivery.c.adopted).where(mine, attempt.c.rows > 0)
    query = select(stream.c.tenant).where(stream.c.active, stream.c.sequence > 0, ~exists(filled)).distinct()
    return list(connection.scalars(query.order_by(stream.c.tenant)))


def last_months(connection: Connection, tenant: str, now: datetime) -> list[Month]:
    """Return the months of one tenant in the year before `now`, newest first. Earlier ones are not read.

    A delivery that was open for more than a quarter before its month does not count here, although it counts in the view.
    """
    begin = now.astimezone(UTC) - YEAR
    planned = f"{int((begin - STAYS_OPEN).timestamp() * 1000):012x}"  # ids begin with the time of planning
    wanted = (_EACH.c.tenant == tenant, _EACH.c.id >= planned, _EACH.c.month >= f"{begin:%Y-%m}")
    return list(_added_up(connection, _EACH, func.count(), wanted))[:MONTHS]


def _added_up(
    connection: Connection, view: TableClause, deliveries: ColumnElement[Any], wanted: Iterable[ColumnElement[bool]]
) -> Iterator[Month]:
    sums = [func.sum(view.c[name]) for name in ("rows", "bytes", "seconds")]
    query = select(view.c.tenant, view.c.month, deliveries, *sums).where(*wanted).group_by(view.c.tenant, view.c.month)
    for row in connection.execute(query.order_by(view.c.tenant, view.c.month.desc())):
        yield Month(row[0], row[1], int(row[2]), int(row[3]), int(row[4]), round(float(row[5]), 3))
