"""Answers whether every tenant got its data: all tenants at a glance, failures first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Any, Literal
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from waybill.access import Visible
from waybill.configuration.promise import Promise, PromiseState
from waybill.configuration.registration import ExportOption, starts_at
from waybill.deliveries.reports.causes import Cause, causes
from waybill.deliveries.reports.frequencies import by_frequency
from waybill.deliveries.reports.promises import grace_of, promise_of
from waybill.installation import Installation
from waybill.language import table, tell
from waybill.ledger.reports import overviews
from waybill.ledger.reports.overviews import Day, Standing, Trouble
from waybill.window import Frequency, local_time

BARS = 30
_DAY = timedelta(days=1)
_SPAN = {Frequency.DAILY: _DAY * (BARS + 2), Frequency.WEEKLY: _DAY * 7 * (BARS + 1), Frequency.MONTHLY: _DAY * 31 * BARS}


class State(StrEnum):
    """The state of a tenant, worst first, in the words that the API and the classes of the pages show.

    `PAUSED_BEHIND`: data is due, and the DAG is paused, so nothing will come. `INACTIVE`: nothing is due, because the registration is
    disabled or has no entity, or because the DAG is paused and everything was delivered before.
    """

    FAILING = "failing"
    LATE = "late"
    PAUSED_BEHIND = "held"
    DUE = "due"
    DELIVERED = "delivered"
    INACTIVE = "paused"


RANK = {state: rank for rank, state in enumerate(State)}


@dataclass(frozen=True)
class SchedulerState:
    """What the scheduler does with a tenant now. `retry_at` is when it retries what failed in the current run.

    An operator has `paused` it. `scheduled` is false if it starts no run by itself, and `known` is false until the tenant has reached it.
    """

    paused: bool = False
    scheduled: bool = True
    known: bool = True
    run: Literal["", "queued", "running"] = ""
    retry_at: datetime | None = None


UNKNOWN = SchedulerState(known=False)
SchedulerStates = Mapping[str, SchedulerState]
"""What the scheduler does, by tenant. Tenants that it does not know are absent."""

_COMING = table("coming")


@dataclass(frozen=True)
class Row:
    """One tenant. `due` is the boundary data should reach by now, `until` what it reaches; `due_at` when the run for it started.

    `disabled` by its registration. `promise` is what is owed by when, where the registration has `deliverBy`. `scheduler_state` is None
    where nobody here knows the scheduler.
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
    scheduler_state: SchedulerState | None = None
    days: tuple[Day, ...] = ()
    promise: Promise | None = None
    promise_state: PromiseState | None = None

    @property
    def dag_paused(self) -> bool:
        """Return whether an operator paused the tenant's DAG, so that no scheduled run starts what its registration asks for."""
        return self.entities > 0 and not self.disabled and self.scheduler_state is not None and self.scheduler_state.paused

    @property
    def at_work(self) -> bool:
        """Return whether a run of what the registration asks for is under way or waits for room."""
        return not (self.dag_paused or self.disabled) and self.scheduler_state is not None and bool(self.scheduler_state.run)

    @property
    def by_hand(self) -> bool:
        """Return whether only a person starts the tenant's runs, although its registration asks for them."""
        return self.entities > 0 and not self.disabled and self.scheduler_state is not None and not self.scheduler_state.scheduled

    @property
    def last_at(self) -> datetime | None:
        """Return the time of the last commit, as far back as the charts go."""
        return max((day.committed_at for day in self.days), default=None)

    @property
    def behind(self) -> bool:
        """Return whether due data is outstanding."""
        return self.entities > 0 and (self.until is None or self.until < self.due)

    @property
    def promised(self) -> str:
        """Return the words before the time of the promise. The text is empty if nothing is promised."""
        return tell(f"promise.{self.promise_state.value}") if self.promise_state else ""

    @property
    def rows(self) -> list[tuple[str, int]]:
        """Return the rows by delivery day, oldest first."""
        return [(day.date, day.rows) for day in self.days]

    @property
    def sizes(self) -> list[tuple[str, int]]:
        """Return the bytes by delivery day, oldest first."""
        return [(day.date, day.bytes) for day in self.days]

    @property
    def causes(self) -> list[Cause]:
        return causes(self.troubles)

    @property
    def next_step(self) -> str:
        """Return what a person has to do. The text is empty if there is nothing to do."""
        if self.dag_paused:
            return tell("advice.held")
        if self.troubles:
            return self.causes[0].next_step
        unseen = self.state is State.LATE and self.scheduler_state is None
        return tell("advice.unseen", tenant=self.tenant) if unseen else ""

    @property
    def wanting(self) -> bool:
        """Return whether the state alone is not enough: a person must act, or the outstanding data does not come by itself."""
        return bool(self.next_step) or self.state is State.LATE or (self.state is State.DUE and self.by_hand and not self.at_work)

    def coming(self, *, may_run: bool) -> str:
        """Return what happens by itself, and what “Run what is due” would do. Instants are RFC 3339. Often empty."""
        key, at = self._coming
        with_button = f"{key}_button" if may_run and f"{key}_button" in _COMING else key
        return tell(f"coming.{with_button}", at=at.isoformat(timespec="seconds") if at else "") if key else ""

    @property
    def _coming(self) -> tuple[str, datetime | None]:
        """Return the key of the sentence that says what happens by itself, and when that is."""
        scheduler_state, missing = self.scheduler_state, bool(self.troubles) or self.state is State.LATE
        if self.dag_paused or self.disabled or not self.entities:
            return "", None
        if scheduler_state is None:
            return ("next_run" if self.troubles else ""), None
        if scheduler_state.retry_at:
            return "retry", scheduler_state.retry_at
        if scheduler_state.run:
            return scheduler_state.run, None
        if not scheduler_state.known:
            return "unknown", None
        if missing and self.next_run:
            return "scheduled", self.next_run
        return ("" if scheduler_state.scheduled else "by_hand"), None


@dataclass(frozen=True)
class Totals:
    """The sums over all tenants that the caller sees. Deliveries, rows and bytes count from midnight UTC.

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
class OverviewQuery:
    """The part of the overview that is wanted. `page` counts from 1."""

    search: str = ""
    state: State | None = None
    page: int = 1
    size: int = 50


def overview(
    installation: Installation, visible: Visible, asked: OverviewQuery = OverviewQuery(), scheduler_states: SchedulerStates | None = None
) -> Overview:
    """Return the tenants that `visible` lets through, worst first, then by id.

    Without `scheduler_states`, nobody here knows the scheduler.
    """
    now = installation.now()
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with installation.ledger.read() as connection:
        standings = by_frequency(connection, installation.configuration.catalog, overviews.standings(connection))
        troubles = overviews.troubles(connection)
        promises = _promises(installation, connection, standings, now)
        today = overviews.committed_since(connection, midnight, midnight - 2 * _DAY)
    seen = set(visible([standing.tenant for standing in standings]))
    rows = _rows(installation, [standing for standing in standings if standing.tenant in seen], troubles, promises, scheduler_states, now)
    counts = Counter(row.state for row in rows)
    sums = [today[row.tenant] for row in rows if row.tenant in today]
    failing = Counter(row.causes[0].first.code for row in rows if row.state is State.FAILING).most_common()
    totals = Totals(
        len(rows), {state: counts[state] for state in State}, failing, *(sum(usage[place] for usage in sums) for place in range(3))
    )
    word = asked.search.strip().casefold()
    matching = [row for row in rows if word in row.tenant and asked.state in (None, row.state)]
    matching.sort(key=lambda row: (RANK[row.state], row.tenant))
    pages = max(1, -(-len(matching) // asked.size))
    page = min(max(1, asked.page), pages)
    chosen = matching[(page - 1) * asked.size : page * asked.size]
    return Overview(_charted(installation, chosen, now), len(matching), page, pages, totals)


def tenant_row(installation: Installation, tenant: str, scheduler_states: SchedulerStates | None = None) -> Row | None:
    """Return one tenant as the overview shows it, without its charts. Returns None if the tenant is not registered."""
    now = installation.now()
    with installation.ledger.read() as connection:
        standings = by_frequency(connection, installation.configuration.catalog, overviews.standings(connection, tenant))
        troubles = overviews.troubles(connection, tenant)
        promises = _promises(installation, connection, standings, now)
    return next(iter(_rows(installation, standings, troubles, promises, scheduler_states, now)), None)


def of_tenant(installation: Installation, tenant: str) -> Row | None:
    """Return one tenant as the overview shows it, with its charts, for a place where nobody knows the scheduler."""
    row = tenant_row(installation, tenant)
    return _charted(installation, [row], installation.now())[0] if row else None


_Part = tuple[str, Any]
"""A tenant and one of its frequencies."""


def _part(standing: Standing) -> _Part:
    return standing.tenant, standing.body.get("frequency")


def _promises(installation: Installation, connection: Connection, standings: Sequence[Standing], now: datetime) -> dict[_Part, Promise]:
    """Return what is owed by when, for the tenants with a promise."""
    configuration = installation.configuration
    found = {}
    for standing in standings:
        if standing.body.get("deliverBy"):
            promise = promise_of(connection, standing, configuration.export_policy(standing.tenant).notify.warn_before, now)
            if promise is not None:
                found[_part(standing)] = promise
    return found


def _rows(
    installation: Installation,
    standings: Sequence[Standing],
    troubles: Sequence[Trouble],
    promises: Mapping[_Part, Promise],
    scheduler_states: SchedulerStates | None,
    now: datetime,
) -> list[Row]:
    broken: dict[str, list[Trouble]] = {}
    for trouble in troubles:
        broken.setdefault(trouble.tenant, []).append(trouble)
    clocks: dict[_Clock, tuple[datetime, datetime, datetime]] = {}
    scheduler_state = (
        {} if scheduler_states is None else {standing.tenant: scheduler_states.get(standing.tenant, UNKNOWN) for standing in standings}
    )
    rows: dict[str, list[Row]] = {}
    for standing in standings:
        mine = [each for each in broken.get(standing.tenant, ()) if standing.entities is None or each.entity in standing.entities]
        grace = grace_of(installation.configuration.export_policy(standing.tenant).notify)
        row = _row(standing, mine, grace, promises.get(_part(standing)), scheduler_state.get(standing.tenant), clocks, now)
        rows.setdefault(standing.tenant, []).append(row)
    return [_together(parts) for parts in rows.values()]


def _together(parts: Sequence[Row]) -> Row:
    """Return one row for a tenant from the rows of its frequencies: the worst of them, the shortest frequency first."""
    worst = min(parts, key=lambda row: RANK[row.state])
    if len(parts) == 1:
        return worst
    promised = [row for row in parts if row.promise_state]
    owed = max(promised, key=lambda row: list(PromiseState).index(row.promise_state or PromiseState.KEPT), default=worst)
    return replace(
        worst,
        frequency=parts[0].frequency,
        entities=sum(row.entities for row in parts),
        next_run=min((row.next_run for row in parts if row.next_run), default=None),
        troubles=tuple(
            sorted((trouble for row in parts for trouble in row.troubles), key=lambda candidate: candidate.delivery, reverse=True)
        ),
        promise=owed.promise,
        promise_state=owed.promise_state,
    )


@dataclass(frozen=True)
class _Clock:
    zone: ZoneInfo
    frequency: Frequency
    at: time

    def on(self, day: date) -> datetime:
        return local_time(day, self.at, self.zone)

    def around(self, now: datetime) -> tuple[datetime, datetime]:
        """Return the time of the last run that should have started at or before now, and the time of the next one."""
        today = now.astimezone(self.zone).date()
        first = self.frequency.first_day(today)
        candidates = [self.on(self.frequency.first_day(first - _DAY)), self.on(first), self.on(self.frequency.first_day_after(today))]
        return max(candidate for candidate in candidates[:2] if candidate <= now), min(
            candidate for candidate in candidates[1:] if candidate > now
        )


def _clock_of(standing: Standing) -> _Clock:
    zone, frequency = ZoneInfo(standing.body.get("timezone", "UTC")), Frequency(standing.body["frequency"])
    return _Clock(zone, frequency, starts_at(standing.tenant, standing.body.get("deliverAt")))


def _row(
    standing: Standing,
    troubles: Sequence[Trouble],
    grace: timedelta,
    promise: Promise | None,
    scheduler_state: SchedulerState | None,
    clocks: dict[_Clock, tuple[datetime, datetime, datetime]],
    now: datetime,
) -> Row:
    # The body was validated when it was recorded. Validating two thousand again would take most of this page's time.
    try:
        clock = _clock_of(standing)
    except (KeyError, ValueError, TypeError, OSError):  # this version cannot read it any more
        clock = _Clock(ZoneInfo("UTC"), Frequency.DAILY, starts_at(standing.tenant, None))
        why = tell("advice.unreadable")
        troubles = [Trouble(standing.tenant, "0" * 32, "registration", why, "registration_unreadable", 1, standing.created_at), *troubles]
    if clock not in clocks:
        before, after = clock.around(now)
        clocks[clock] = before, after, clock.frequency.floor(before, clock.zone)
    last, following, due = clocks[clock]
    # A first run starts as soon as the tenant is registered.
    due_at = max(last, standing.created_at) if standing.new else last
    disabled = standing.body.get("exportOption") == ExportOption.DISABLE.value
    off = disabled or not standing.streams
    known = scheduler_state or SchedulerState()
    until = None if standing.new else standing.behind
    late = now >= due_at + grace if promise is None else promise.state(now) is PromiseState.BREACHED
    return Row(
        tenant=standing.tenant,
        state=State.INACTIVE if off else _state(known.paused, bool(troubles), until is None or until < due, late),
        frequency=clock.frequency,
        zone=clock.zone,
        entities=standing.streams,
        until=until,
        due=due,
        due_at=due_at,
        next_run=None if off or known.paused or not (known.scheduled and known.known) else following,
        troubles=() if off else tuple(troubles),
        disabled=disabled,
        scheduler_state=scheduler_state,
        promise=promise,
        promise_state=None if promise is None else promise.state(now),
    )


def _state(dag_paused: bool, failed: bool, behind: bool, late: bool) -> State:
    if dag_paused:
        return State.PAUSED_BEHIND if behind else State.INACTIVE
    if failed:
        return State.FAILING
    if not behind:
        return State.DELIVERED
    return State.LATE if late else State.DUE


def _charted(installation: Installation, rows: list[Row], now: datetime) -> list[Row]:
    found: dict[str, list[Day]] = {}
    with installation.ledger.read() as connection:
        for frequency, span in _SPAN.items():
            names = [row.tenant for row in rows if row.frequency is frequency]
            for day in overviews.days(connection, names, now - span) if names else []:
                found.setdefault(day.tenant, []).append(day)
    return [replace(row, days=tuple(found.get(row.tenant, [])[-BARS:])) for row in rows]
