"""What each tenant got in each month, as the view `monthly_usage` adds it up for billing."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, column, func, select, table

MONTHS = 12
_USAGE = table("monthly_usage", *map(column, ("tenant", "month", "deliveries", "rows", "bytes", "seconds")))


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


def months(connection: Connection, tenant: str | None = None, most: int = MONTHS) -> list[Month]:
    """The newest months of a tenant, or of every tenant, newest first."""
    sums = [func.sum(_USAGE.c[name]) for name in ("deliveries", "rows", "bytes", "seconds")]
    query = select(_USAGE.c.tenant, _USAGE.c.month, *sums).group_by(_USAGE.c.tenant, _USAGE.c.month)
    if tenant is not None:
        query = query.where(_USAGE.c.tenant == tenant)
    found: dict[str, list[Month]] = {}
    for row in connection.execute(query.order_by(_USAGE.c.tenant, _USAGE.c.month.desc())):
        found.setdefault(row[0], []).append(Month(row[0], row[1], int(row[2]), int(row[3]), int(row[4]), round(float(row[5]), 3)))
    return [month for each in found.values() for month in each[:most]]
