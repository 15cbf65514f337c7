"""Windows of time: when one ends, and what the next one covers. The functions are pure, and the clock is an argument."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

_DAY = timedelta(days=1)
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def utc_now() -> datetime:
    """Return the machine's own time, aware and in UTC. An installation uses the `LedgerClock` of `ledger.database.clock`."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Window:
    """Half-open `[start, end)` of source changes, in aware UTC instants. Without a start it is a full load."""

    start: datetime | None
    end: datetime

    @property
    def is_full(self) -> bool:
        return self.start is None


class Frequency(StrEnum):
    """How often a tenant is delivered to. A boundary is the local midnight that begins a day, a Monday, or a 1st."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"

    def first_day(self, day: date) -> date:
        """Return the first day of the period that contains `day`."""
        if self is Frequency.WEEKLY:
            return day - timedelta(days=day.weekday())
        return day.replace(day=1) if self is Frequency.MONTHLY else day

    def first_day_after(self, day: date) -> date:
        """Return the first day of the period that follows the one with `day`."""
        first = self.first_day(day)
        if self is Frequency.MONTHLY:
            return (first + 31 * _DAY).replace(day=1)
        return first + _DAY * (7 if self is Frequency.WEEKLY else 1)

    def floor(self, instant: datetime, zone: ZoneInfo) -> datetime:
        """Return the latest boundary at or before `instant`, as a UTC instant."""
        today = instant.astimezone(zone).date()
        # A clock set back over midnight shows yesterday's date again after today has begun, so tomorrow's boundary may already be past.
        ahead = start_of_day(self.first_day(today + _DAY), zone)
        return ahead if ahead <= instant else start_of_day(self.first_day(today), zone)

    def following(self, instant: datetime, zone: ZoneInfo) -> datetime:
        """Return the first boundary after `instant`, as a UTC instant."""
        first = self.first_day_after(instant.astimezone(zone).date())
        boundary = start_of_day(first, zone)
        return boundary if boundary > instant else start_of_day(self.first_day_after(first), zone)


def cron(frequencies: Collection[Frequency], minute: int, hour: int) -> str:
    """Return the cron expression of these frequencies' runs at a local time of day. Cron runs if either the day or the weekday matches."""
    if Frequency.DAILY in frequencies:
        return f"{minute} {hour} * * *"
    return f"{minute} {hour} {'1' if Frequency.MONTHLY in frequencies else '*'} * {'1' if Frequency.WEEKLY in frequencies else '*'}"


def is_at_an_end(day: date) -> bool:
    """Return whether a day is so near an end of the calendar that its neighbour does not exist in every zone."""
    return not date.min + _DAY < day < date.max - _DAY


def start_of_day(day: date, zone: ZoneInfo) -> datetime:
    """Return the first instant of `day` in `zone`, as UTC. It is local midnight, or the end of the gap if the clock skips midnight."""
    early, late = (datetime(day.year, day.month, day.day, tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if early <= late:
        return early
    return _end_of_gap(late, early, day, zone)


def _end_of_gap(low: datetime, high: datetime, day: date, zone: ZoneInfo) -> datetime:
    """Return the instant in `(low, high]` at which the local date becomes `day` or later. Bisection finds it to the microsecond."""
    while high - low > timedelta(microseconds=1):
        middle = low + (high - low) / 2
        if middle.astimezone(zone).date() < day:
            low = middle
        else:
            high = middle
    return high


def next_window(
    frequency: Frequency, zone: ZoneInfo, until: datetime, watermark: datetime | None, reached: datetime | None = None
) -> Window | None:
    """Return the window that the next delivery must cover, or None if nothing is due.

    The watermark, not the calendar, sets the start. After a missed run the next window is longer and leaves no gap. A full load ends no
    earlier than an older generation has `reached`. Under a new frequency or zone the last boundary may be before that, and a consumer who
    replaces the old generation must not lose what came in between.
    """
    end = frequency.floor(until, zone)
    if watermark is None:
        return Window(start=None, end=reached if reached is not None and reached > end else end)
    return Window(start=watermark, end=end) if watermark < end else None


def latest(at: str, now: datetime, zone: ZoneInfo) -> datetime:
    """Return the last instant at or before `now` that a local time of day, a weekday (from its midnight) or both name: `02:00`, `sunday
    02:00`.
    """
    weekday, _, clock = at.rpartition(" ") if ":" in at else (at, "", "00:00")
    hour, minute = map(int, clock.split(":"))
    today = now.astimezone(zone).date()
    for back in range(9):
        day = today - back * _DAY
        instant = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).astimezone(UTC)
        if instant <= now and weekday in ("", _WEEKDAYS[day.weekday()]):
            return instant
    raise ValueError(f"{at!r} names no time of day or of the week")


def local_time(day: date, clock: time, zone: ZoneInfo) -> datetime:
    """Return a time of day on a day in `zone`, as UTC, by the rules of Airflow's schedules.

    That is the second of two equal times, and what the clock shows instead of a time that it skips.
    """
    return max(datetime.combine(day, clock.replace(fold=fold), zone).astimezone(UTC) for fold in (0, 1))


def export_date(end: datetime, zone: ZoneInfo) -> date:
    """Return the date of a window's files: the planned boundary in the tenant's zone."""
    return end.astimezone(zone).date()
