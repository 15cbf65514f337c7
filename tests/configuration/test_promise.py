"""Until when data is promised: a time of day in the tenant's zone, whatever the calendar does."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waybill.configuration.promise import PromiseState, Terms
from waybill.window import Frequency, start_of_day

pytestmark = pytest.mark.fast

HOUR = timedelta(hours=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("frequency", "start", "by", "boundary", "run_at", "deadline"),
    [
        pytest.param("daily", 2, 6, "2026-01-09T23:00Z", "2026-01-10T01:00Z", "2026-01-10T05:00Z", id="day"),
        pytest.param("daily", 22, 6, "2026-01-09T23:00Z", "2026-01-10T21:00Z", "2026-01-11T05:00Z", id="over midnight"),
        pytest.param("daily", 2, 2, "2026-01-09T23:00Z", "2026-01-10T01:00Z", "2026-01-11T01:00Z", id="a whole day"),
        pytest.param("daily", 1, 6, "2026-03-28T23:00Z", "2026-03-29T00:00Z", "2026-03-29T04:00Z", id="the clock goes forward"),
        pytest.param("daily", 1, 6, "2026-10-24T22:00Z", "2026-10-24T23:00Z", "2026-10-25T05:00Z", id="the clock goes back"),
        pytest.param("monthly", 23, 4, "2026-02-28T23:00Z", "2026-03-01T22:00Z", "2026-03-02T03:00Z", id="month"),
    ],
)
def test_a_promise_is_the_first_such_time_after_the_run_starts(frequency, start, by, boundary, run_at, deadline):
    terms = Terms(ZoneInfo("Europe/Berlin"), Frequency(frequency), time(start), time(by))
    assert terms.run_for(at(boundary)) == at(run_at)
    assert terms.deadline(at(boundary)) == at(deadline)


@pytest.mark.parametrize("by", ["00:15", "01:00", "02:15", "02:30", "03:00", "03:15", "03:45", "04:00"])
@pytest.mark.parametrize("start", ["01:00", "02:00", "02:30", "03:00"])
@pytest.mark.parametrize("day", [date(2026, 3, 28), date(2026, 3, 29), date(2026, 10, 24), date(2026, 10, 25)])
def test_no_promise_ends_before_its_run_starts_or_after_the_same_time_of_the_next_day(day, start, by):
    """On 29 March the hour after 02:00 does not exist in Berlin, on 25 October it comes twice."""
    terms = Terms(ZoneInfo("Europe/Berlin"), Frequency.DAILY, time.fromisoformat(start), time.fromisoformat(by))
    boundary = start_of_day(day, terms.zone)
    assert terms.run_for(boundary) < terms.deadline(boundary) <= terms.run_for(boundary) + timedelta(hours=25)


def test_people_are_warned_while_there_is_time_and_no_sooner_than_half_way():
    midnight = at("2026-01-10T00:00Z")
    long = Terms(ZoneInfo("UTC"), Frequency.DAILY, time(2), time(6)).promise([midnight], HOUR)
    short = Terms(ZoneInfo("UTC"), Frequency.DAILY, time(2), time(3)).promise([midnight], HOUR)
    assert (long.warn_at, short.warn_at) == (at("2026-01-10T05:00Z"), at("2026-01-10T02:30Z"))
    instants = ["01:59", "02:00", "04:59", "05:00", "05:59", "06:00", "23:00"]
    kept, open_, risk, breached = PromiseState
    assert [long.state(at(f"2026-01-10T{instant}Z")) for instant in instants] == [kept, open_, open_, risk, risk, breached, breached]


zones = st.sampled_from(["UTC", "Europe/Berlin", "America/Santiago", "Africa/Cairo", "Australia/Lord_Howe", "Pacific/Apia"]).map(ZoneInfo)
clocks = st.times(max_value=time(23, 59)).map(lambda item: item.replace(second=0, microsecond=0))
instants = st.integers(0, 22 * 366 * 24 * 3600).map(lambda seconds: datetime(2008, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds))
terms = st.builds(Terms, zones, st.sampled_from(Frequency), clocks, clocks)


@given(terms, instants)
def test_what_is_owed_lies_ahead_of_what_is_there_and_its_promise_is_kept_before_its_run(item, watermark):
    owed = item.owed(watermark, watermark)
    assert owed > watermark
    assert item.frequency.floor(owed, item.zone) == owed, "a boundary"
    assert item.run_for(item.owed(None, watermark)) >= watermark, "runs before the promise was made do not count"
    promise = item.promise([owed], HOUR)
    assert promise.run_at < promise.warn_at < promise.deliver_by <= promise.run_at + timedelta(hours=25)


@given(terms, instants, instants)
def test_the_earliest_debt_counts_however_many_days_are_owed(item, watermark, now):
    first, second = item.owed(watermark, watermark), item.owed(item.owed(watermark, watermark), watermark)
    assert item.promise([second, first], HOUR).boundary == first
    order = list(PromiseState)
    assert order.index(item.promise([first], HOUR).state(now)) >= order.index(item.promise([second], HOUR).state(now))
