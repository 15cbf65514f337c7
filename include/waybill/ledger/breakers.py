"""Circuit breakers: destinations that did not answer several times in a row are left alone for a while."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select, update

from waybill.ledger.tables import breaker

THRESHOLD = 5
FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(minutes=15)


def paused_until(connection: Connection, destination: str, now: datetime) -> datetime | None:
    """When the destination may be tried again, or None when that is now."""
    until = connection.execute(select(breaker.c.open_until).where(breaker.c.destination == destination)).scalar_one_or_none()
    return until if until is not None and until > now else None


def failed(connection: Connection, destination: str, now: datetime) -> None:
    """Count one failed connection; from the fifth in a row on the pause doubles each time, up to a quarter of an hour."""
    counted = connection.execute(update(breaker).where(breaker.c.destination == destination).values(failures=breaker.c.failures + 1))
    if counted.rowcount == 0:
        connection.execute(insert(breaker).values(destination=destination, failures=1))
    failures = connection.execute(select(breaker.c.failures).where(breaker.c.destination == destination)).scalar_one()
    if failures >= THRESHOLD:
        pause = min(FIRST_PAUSE * 2 ** min(failures - THRESHOLD, 10), LONGEST_PAUSE)
        connection.execute(update(breaker).where(breaker.c.destination == destination).values(open_until=now + pause))


def succeeded(connection: Connection, destination: str) -> None:
    """Forget earlier failures."""
    connection.execute(delete(breaker).where(breaker.c.destination == destination))
