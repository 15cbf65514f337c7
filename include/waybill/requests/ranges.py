"""Date ranges: inclusive days in the tenant's zone or exact instants, as half-open spans of time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from waybill.canonical import BeyondCalendar, parse_timestamp
from waybill.configuration.policy import RangeRule
from waybill.errors import Finding
from waybill.language import tell
from waybill.ledger.on_demand.request_records import RangeAsked
from waybill.window import is_at_an_end, start_of_day

DAY = timedelta(days=1)
_EARLIEST, _LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
"""The first and the last midnight that exist in every zone."""
PREVIOUS_PERIOD = "previous_period"
"""The name of the range of a recurring export. Only a template asks for it."""

A_YEAR = 366
"""Days of the longest year, counting both ends."""

PRESET_DAYS = {"last_7_days": 7, "last_30_days": 30, "last_90_days": 90}


@dataclass(frozen=True)
class Span:
    """A half-open span `[start, end)`. None leaves a side open. `asked` is the range as given, with a preset frozen to dates."""

    start: datetime | None = None
    end: datetime | None = None
    asked: RangeAsked | None = None


def frozen(preset: str, today: date) -> RangeAsked:
    """Return a named preset as inclusive dates that end today: a number of days, or a year. `all_time` has no dates."""
    if preset == "all_time":
        return {"preset": preset, "from": None, "to": None}
    first = _a_year_before(today) + DAY if preset == "last_year" else today - (PRESET_DAYS[preset] - 1) * DAY
    return {"preset": preset, "from": first.isoformat(), "to": today.isoformat()}


def _a_year_before(day: date) -> date:
    try:
        return day.replace(year=day.year - 1)
    except ValueError:  # 29 February
        return day.replace(year=day.year - 1, day=28)


def resolve(given: RangeAsked, zone: ZoneInfo) -> Span:
    """Return `from` and `to` as instants. A date means its whole local day. Raises ValueError with the name of the field."""
    start, end = _edge(given.get("from"), zone, "range.from", 0), _edge(given.get("to"), zone, "range.to", 1)
    asked: RangeAsked = {"from": given.get("from"), "to": given.get("to")}
    return Span(start, end, {"preset": preset, **asked} if (preset := given.get("preset")) else asked)


def _edge(text: Any, zone: ZoneInfo, field: str, days: int) -> datetime | None:
    """Return one end of a range. None is an open end, and so is a time at the end of the calendar that the range reaches to."""
    if text is None:
        return None
    try:
        if not isinstance(text, str):
            raise ValueError
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            day = date.fromisoformat(text)
            return _at_an_end(day, days) if is_at_an_end(day) else start_of_day(day + days * DAY, zone)
        instant = parse_timestamp(text)
        return _at_an_end(instant.date(), days) if is_at_an_end(instant.date()) else instant
    except (OverflowError, BeyondCalendar):  # a time of the first or last day may lie beyond the calendar in its zone
        return _at_an_end(date.max if text.startswith("9") else date.min, days)
    except ValueError as error:
        raise ValueError(field) from error


def _at_an_end(day: date, days: int) -> datetime | None:
    """Return a time that the zone cannot hold: an open end, or, where a range begins so late or ends so early, what no row is beyond."""
    is_late, is_start = day.year > 1, days == 0
    if is_late != is_start:
        return None
    return _LATEST if is_late else _EARLIEST


def span_problems(span: Span, rule: RangeRule, zone: ZoneInfo, now: datetime) -> Iterator[Finding]:
    """Return the problems of a span under policy."""
    asked: RangeAsked = span.asked or {}
    if rule.required and not (asked.get("from") and asked.get("to")):
        for field, given in (("range.from", asked.get("from")), ("range.to", asked.get("to"))):
            if not given:
                yield Finding("", field, tell("submission.range_required"), code="range_required")
        return
    if span.start is not None and span.end is not None and span.start >= span.end:
        yield Finding("", "range.from", tell("submission.start_after_end"), code="start_after_end")
        return
    tomorrow = start_of_day(now.astimezone(zone).date() + DAY, zone)
    if rule.not_in_future:
        late = [("range.from", span.start, now), ("range.to", span.end, tomorrow)]
        for field, edge, latest in late:
            if edge is not None and edge > latest:
                yield Finding("", field, tell("submission.in_the_future"), code="date_in_future")
    if rule.max_days is None:
        return
    if span.start is None or _days(span.start, span.end or tomorrow, zone) > rule.max_days:
        limit = tell("submission.one_year") if rule.max_days == A_YEAR else tell("submission.days", count=rule.max_days)
        yield Finding("", "range", tell("submission.range_too_long", limit=limit), code="range_too_long")


def _days(start: datetime, end: datetime, zone: ZoneInfo) -> int:
    """Return how many local days a span touches."""
    return ((end - timedelta(microseconds=1)).astimezone(zone).date() - start.astimezone(zone).date()).days + 1


def spoken(span: Mapping[str, Any], zone: str = "") -> str:
    """Return a range for people: `all time`, `since 2026-01-01`, `2026-01-01 to 2026-01-31`. Days come with their zone."""
    first, last = span.get("from"), span.get("to")
    if not first and not last:
        return tell("span.all")
    form = "between" if first and last else "since" if first else "until"
    words = tell(f"span.{form}", first=first, last=last)
    return tell("span.zoned", words=words, zone=zone) if zone else words


def previous_period(frequency: str, boundary: datetime, zone: ZoneInfo) -> RangeAsked:
    """Return the week or month that ended at `boundary`, as inclusive dates."""
    last = boundary.astimezone(zone).date() - DAY
    first = last.replace(day=1) if frequency == "monthly" else last - 6 * DAY
    return {"preset": PREVIOUS_PERIOD, "from": first.isoformat(), "to": last.isoformat()}
