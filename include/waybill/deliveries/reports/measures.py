"""Measures an installation: who is late and by how long, what is open, and what waits on this machine's disk."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from waybill.configuration.promise import PromiseState
from waybill.deliveries.reports.frequencies import by_frequency
from waybill.deliveries.reports.promises import grace_of, promise_of
from waybill.installation import Installation
from waybill.ledger import deliveries
from waybill.ledger.reports import overviews


@dataclass(frozen=True)
class Measures:
    """`lateness` is the seconds past the promise, by tenant: 0 if it holds. Tenants without a promise are absent.

    `at_risk` counts tenants. `open_windows` counts scheduled deliveries that are not committed, and `oldest_open` is the seconds since the
    first of them was planned.
    """

    lateness: dict[str, float]
    at_risk: int
    open_windows: int
    oldest_open: float

    @property
    def late(self) -> int:
        return sum(seconds > 0 for seconds in self.lateness.values())


def measure(installation: Installation) -> Measures:
    """Measure all tenants by a handful of queries, however many there are.

    A tenant without `deliverBy` is held to what pages call late (`grace_of`), and one with several frequencies to that of each entity.
    """
    now, lateness, at_risk = installation.now(), dict[str, float](), set[str]()
    with installation.ledger.read() as connection:
        for standing in by_frequency(connection, installation.configuration.catalog, overviews.standings(connection)):
            notify = installation.configuration.export_policy(standing.tenant).notify
            promise = promise_of(connection, standing, notify.warn_before, now, grace_of(notify))
            if promise is not None:
                late_by = (now - promise.deliver_by).total_seconds()
                lateness[standing.tenant] = max(0.0, late_by, lateness.get(standing.tenant, 0.0))
                at_risk |= {standing.tenant} if promise.state(now) is PromiseState.AT_RISK else set()
        count, first = deliveries.open_windows(connection)
    return Measures(lateness, len(at_risk), count, _age(first, now))


def _age(first: datetime | None, now: datetime) -> float:
    return max(0.0, (now - first).total_seconds()) if first else 0.0


def spool_bytes(installation: Installation) -> int:
    """Return the bytes that wait on this machine to be delivered or kept. Files that vanish meanwhile do not count."""
    return sum(_size(path) for path in installation.settings.spool_dir.rglob("*"))


def _size(path: Path) -> int:
    try:
        return 0 if path.is_dir() else path.lstat().st_size
    except OSError:
        return 0
