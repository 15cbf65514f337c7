"""Did every tenant get its data? One look at all tenants, failures first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from waybill.ledger import overviews
from waybill.ledger.overviews import Day, Standing, Trouble
from waybill.registration import ExportOption, starts_at
from waybill.service.estate import Estate
from waybill.window import Frequency

GRACE = timedelta(hours=3)
"""How long after its run a delivery may be outstanding before it is late, where policy's `notify.late_after` says nothing."""

BARS = 30
_DAY = timedelta(days=1)
_SPAN = {
    Frequency.DAILY: timedelta(days=BARS + 2),
    Frequency.WEEKLY: timedelta(weeks=BARS + 1),
    Frequency.MONTHLY: timedelta(days=31 * BARS),
}


class State(StrEnum):
    """How a tenant stands, worst first."""

    FAILING = "failing"
    LATE = "late"
    DUE = "due"
    DELIVERED = "delivered"
    PAUSED = "paused"


RANK = {state: rank for rank, state in enumerate(State)}

NEXT_STEPS = {
    "login": "Correct the user, key or password in the Airflow connection, then rehearse the destination.",
    "host_key": "Compare the server's host key with its owner; change the connection only if they confirm it.",
    "missing_connection": "Create the Airflow connection the registration names, then rehearse the destination.",
    "connection": "Correct the Airflow connection, then rehearse the destination.",
    "unreachable": "Check that the server is up and reachable, then rehearse the destination. The next run tries again.",
    "lost": "Nothing, if it was once: the next run tries again. If it stays, ask the server's owner.",
    "destination_paused": "Check the server, then rehearse the destination; it is tried again by itself once the pause is over.",
    "disk_full": "Ask the server's owner for space; the next run goes on by itself.",
    "refused": "Ask the server's owner for the right to write below the tenant's folder, then rehearse the destination.",
    "foreign_file": "Somebody else's file stands where this delivery belongs. Have it moved away, then run again.",
    "schema_drift": "The source changed its columns. Bring config/catalog.yaml in line with it.",
    "source_unreachable": "Check the source database; the next run tries again.",
    "source_missing": "Check the source's path or name in config/catalog.yaml.",
    "relation_missing": "Check the entity's relation in config/catalog.yaml.",
}
"""What to do about an error, by its code, where the error itself leaves that open."""

_DERIVED = "destination_paused"
"""The code of a failure that only follows from others: the destination was spared after it had not answered."""

_SILENT = ("unreachable", "lost")
_OTHERWISE = "Read the task log of the delivery. The next run tries again."
_WAITING = "No delivery has failed: see whether its run is queued or running, or start one with “Run what is due”."
_HELD = "Its DAG is paused in Airflow. Switch it on there: the next run delivers everything since the last delivery."


@dataclass(frozen=True)
class Cause:
    """What is wrong, and all whom it hits, newest first. `first` is told in full."""

    troubles: tuple[Trouble, ...]

    @property
    def first(self) -> Trouble:
        return self.troubles[0]

    @property
    def entities(self) -> list[str]:
        return list(dict.fromkeys(one.entity for one in self.troubles))

    @property
    def next_step(self) -> str:
        return NEXT_STEPS.get(self.first.code, _OTHERWISE)


def causes(troubles: Sequence[Trouble]) -> list[Cause]:
    """Failures that say the same but for their own names are one cause. What only follows from a silent destination counts to that."""
    groups: dict[tuple[str, str], list[Trouble]] = {}
    for one in sorted(troubles, key=lambda one: one.code == _DERIVED):
        silent = next((key for key in groups if key[0] in _SILENT), None) if one.code == _DERIVED else None
        own = rf"\b(?:{re.escape(one.entity)}|{one.delivery})\b"
        key = silent or (one.code, "" if one.code == _DERIVED else re.sub(own, "", one.error))
        groups.setdefault(key, []).append(one)
    return [Cause(tuple(found)) for found in groups.values()]


@dataclass(frozen=True)
class Row:
    """One tenant. `due` is the boundary data should reach by now, `until` what it reaches; `due_at` when the run for it started.

    `disabled` by its registration; `held` when an operator paused its DAG, so that no scheduled run starts.
    """

    tenant: str
    state: State
    frequency: Frequency
    zone: ZoneInfo
    entities: int
    until: datetime | None
    due: datetime
    due_at: datetime
    next_run: datetime | None
    troubles: tuple[Trouble, ...] = ()
    disabled: bool = False
    held: bool = False
    days: tuple[Day, ...] = ()

    @property
    def last_at(self) -> datetime | None:
        """When something was last committed, as far back as the charts go."""
        return max((one.committed_at for one in self.days), default=None)

    @property
    def behind(self) -> bool:
        """Whether data is outstanding that was due."""
        return self.entities > 0 and (self.until is None or self.until < self.due)

    @property
    def rows(self) -> list[tuple[str, int]]:
        """Rows by delivery day, oldest first."""
        return [(one.date, one.rows) for one in self.days]

    @property
    def sizes(self) -> list[tuple[str, int]]:
        """Bytes by delivery day, oldest first."""
        return [(one.date, one.bytes) for one in self.days]

    @property
    def causes(self) -> list[Cause]:
        return causes(self.troubles)

    @property
    def next_step(self) -> str:
        if self.held:
            return _HELD
        if self.troubles:
            return self.causes[0].next_step
        return _WAITING if self.state is State.LATE else ""


@dataclass(frozen=True)
class Totals:
    """All tenants the caller sees. Deliveries, rows and bytes are those committed since midnight UTC.

    `causes` counts the failing tenants by their newest error's code, most frequent first.
    """

    tenants: int
    states: dict[State, int]
    causes: list[tuple[str, int]]
    deliveries: int
    rows: int
    bytes: int


@dataclass(frozen=True)
class Overview:
    """One page of tenants, failures first; `found` counts those that match search and filter."""

    rows: list[Row]
    found: int
    page: int
    pages: int
    totals: Totals


@dataclass(frozen=True)
class Asked:
    """What part of the overview is wanted. `page` counts from 1."""

    search: str = ""
    state: State | None = None
    page: int = 1
    size: int = 50


Visible = Callable[[Iterable[str]], Collection[str]]


def overview(estate: Estate, visible: Visible, asked: Asked = Asked(), held: Collection[str] = ()) -> Overview:
    """Tenants out of those `visible` lets through, worst first, then by id; `held` are those whose DAG is paused."""
    now = estate.now()
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with estate.ledger.begin() as connection:
        standings = overviews.standings(connection)
        troubles = overviews.troubles(connection)
        today = overviews.committed_since(connection, midnight, midnight - 2 * _DAY)
    seen = set(visible([one.tenant for one in standings]))
    rows = _rows(estate, [one for one in standings if one.tenant in seen], troubles, held, now)
    counts = Counter(row.state for row in rows)
    sums = [today[row.tenant] for row in rows if row.tenant in today]
    causes = Counter(row.causes[0].first.code for row in rows if row.state is State.FAILING).most_common()
    totals = Totals(len(rows), {state: counts[state] for state in State}, causes, *(sum(one[place] for one in sums) for place in range(3)))
    word = asked.search.strip().casefold()
    matching = [row for row in rows if word in row.tenant and (asked.state is None or row.state is asked.state)]
    matching.sort(key=lambda row: (RANK[row.state], row.tenant))
    pages = max(1, -(-len(matching) // asked.size))
    page = min(max(1, asked.page), pages)
    chosen = matching[(page - 1) * asked.size : page * asked.size]
    return Overview(_charted(estate, chosen, now), len(matching), page, pages, totals)


def look(estate: Estate, tenant: str, held: Collection[str] = ()) -> Row | None:
    """One tenant as the overview shows it, without its charts, or None when it is not registered."""
    with estate.ledger.begin() as connection:
        standings = overviews.standings(connection, tenant)
        troubles = overviews.troubles(connection, tenant)
    return next(iter(_rows(estate, standings, troubles, held, estate.now())), None)


def _rows(estate: Estate, standings: Sequence[Standing], troubles: Sequence[Trouble], held: Collection[str], now: datetime) -> list[Row]:
    broken: dict[str, list[Trouble]] = {}
    for trouble in troubles:
        broken.setdefault(trouble.tenant, []).append(trouble)
    grace = estate.configuration.policy.notify.late_after or GRACE
    clocks: dict[_Clock, tuple[datetime, datetime, datetime]] = {}
    return [_row(one, broken.get(one.tenant, ()), grace, one.tenant in held, clocks, now) for one in standings]


@dataclass(frozen=True)
class _Clock:
    zone: ZoneInfo
    frequency: Frequency
    at: time

    def on(self, day: date) -> datetime:
        return datetime.combine(day, self.at, self.zone).astimezone(UTC)

    def around(self, now: datetime) -> tuple[datetime, datetime]:
        """The last run that should have started at or before now, and the next one after it."""
        today = now.astimezone(self.zone).date()
        first = self.frequency.first_day(today)
        before = self.frequency.first_day(first - _DAY)
        after = first + (_DAY if self.frequency is Frequency.DAILY else timedelta(days=7 if self.frequency is Frequency.WEEKLY else 32))
        candidates = [self.on(before), self.on(first), self.on(self.frequency.first_day(after))]
        return max(one for one in candidates[:2] if one <= now), min(one for one in candidates[1:] if one > now)


def _row(
    one: Standing,
    troubles: Sequence[Trouble],
    grace: timedelta,
    held: bool,
    clocks: dict[_Clock, tuple[datetime, datetime, datetime]],
    now: datetime,
) -> Row:
    # The body was validated when it was recorded; validating two thousand again would be most of this page's time.
    clock = _Clock(
        ZoneInfo(one.body.get("timezone", "UTC")), Frequency(one.body["frequency"]), starts_at(one.tenant, one.body.get("deliverAt"))
    )
    if clock not in clocks:
        before, after = clock.around(now)
        clocks[clock] = before, after, clock.frequency.floor(before, clock.zone)
    last, following, due = clocks[clock]
    # A first run starts as soon as the tenant is registered.
    due_at = max(last, one.created_at) if one.new else last
    disabled = one.body["exportOption"] == ExportOption.DISABLE.value
    off = disabled or not one.streams
    until = None if one.new else one.behind
    return Row(
        tenant=one.tenant,
        state=_state(off or held, bool(troubles), until, due, due_at + grace, now),
        frequency=clock.frequency,
        zone=clock.zone,
        entities=one.streams,
        until=until,
        due=due,
        due_at=due_at,
        next_run=None if off or held else following,
        troubles=() if off else tuple(troubles),
        disabled=disabled,
        held=held and not off,
    )


def _state(paused: bool, failed: bool, until: datetime | None, due: datetime, late_from: datetime, now: datetime) -> State:
    if paused:
        return State.PAUSED
    if failed:
        return State.FAILING
    if until is not None and until >= due:
        return State.DELIVERED
    return State.LATE if now >= late_from else State.DUE


def _charted(estate: Estate, rows: list[Row], now: datetime) -> list[Row]:
    found: dict[str, list[Day]] = {}
    with estate.ledger.begin() as connection:
        for frequency, span in _SPAN.items():
            names = [row.tenant for row in rows if row.frequency is frequency]
            for day in overviews.days(connection, names, now - span) if names else []:
                found.setdefault(day.tenant, []).append(day)
    return [replace(row, days=tuple(found.get(row.tenant, [])[-BARS:])) for row in rows]
