"""Windows tile time: in every zone, at every frequency, whatever the hour of the look."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waybill.window import Frequency, export_date, next_window, start_of_day

pytestmark = pytest.mark.fast

ZONES = sorted(available_timezones() - {"localtime", "Factory"})
zones = st.sampled_from(ZONES).map(ZoneInfo)
frequencies = st.sampled_from(Frequency)
instants = st.datetimes(datetime(1972, 1, 1), datetime(2037, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants naive bounds


def local_midnight(day: date, zone: str) -> datetime:
    return start_of_day(day, ZoneInfo(zone))


@given(frequencies, zones, instants)
def test_a_boundary_is_at_or_before_the_look_and_the_next_one_is_after_it(frequency, zone, instant):
    end = frequency.floor(instant, zone)
    assert end <= instant
    assert frequency.floor(end, zone) == end
    assert instant - end < timedelta(days={"daily": 1, "weekly": 7, "monthly": 31}[frequency] + 1, hours=2)


@given(frequencies, zones, st.lists(instants, min_size=2, max_size=12))
def test_windows_tile_time_whenever_runs_happen(frequency, zone, runs):
    watermark = None
    for until in sorted(runs):
        window = next_window(frequency, zone, until, watermark)
        if window is None:
            continue
        assert window.start == watermark
        assert watermark is None or window.end > watermark
        assert window.end <= until
        watermark = window.end
    assert watermark == frequency.floor(max(runs), zone)


@given(zones, st.lists(st.tuples(frequencies, instants), min_size=2, max_size=12))
def test_a_frequency_change_opens_no_gap_and_no_overlap(zone, runs):
    watermark = None
    for frequency, until in sorted(runs, key=lambda run: run[1]):
        window = next_window(frequency, zone, until, watermark)
        if window is not None:
            assert window.start == watermark
            watermark = window.end


@given(frequencies, zones, instants, instants)
def test_a_full_load_ends_no_earlier_than_what_an_older_generation_has_reached(frequency, zone, until, reached):
    window = next_window(frequency, zone, until, None, reached)
    assert window.is_full
    assert window.end == max(reached, frequency.floor(until, zone))


@given(zones, st.dates(date(1972, 1, 2), date(2037, 12, 30)))
def test_a_day_begins_at_the_first_instant_that_bears_its_date_or_a_later_one(zone, day):
    start = start_of_day(day, zone)
    assert start.astimezone(zone).date() >= day
    assert (start - timedelta(microseconds=1)).astimezone(zone).date() < day


@given(frequencies, zones, instants)
def test_the_export_date_is_a_pure_function_of_the_boundary(frequency, zone, instant):
    end = frequency.floor(instant, zone)
    day = export_date(end, zone)
    assert start_of_day(day, zone) == end


@pytest.mark.parametrize(
    ("zone", "day", "start"),
    [
        pytest.param("Europe/Berlin", date(2026, 3, 30), "2026-03-29T22:00:00+00:00", id="the day after a 23 hour day"),
        pytest.param("Europe/Berlin", date(2026, 10, 26), "2026-10-25T23:00:00+00:00", id="the day after a 25 hour day"),
        pytest.param("Africa/Cairo", date(2026, 4, 24), "2026-04-23T22:00:00+00:00", id="no midnight in Cairo"),
        pytest.param("America/Santiago", date(2026, 9, 6), "2026-09-06T04:00:00+00:00", id="no midnight in Santiago"),
        pytest.param("Asia/Beirut", date(2026, 3, 29), "2026-03-28T22:00:00+00:00", id="no midnight in Beirut"),
        pytest.param("America/Havana", date(2026, 11, 1), "2026-11-01T04:00:00+00:00", id="midnight twice in Havana"),
        pytest.param("America/St_Johns", date(2006, 10, 29), "2006-10-29T02:30:00+00:00", id="today, yesterday, today in St John's"),
        pytest.param("Pacific/Apia", date(2011, 12, 30), "2011-12-30T10:00:00+00:00", id="a day that Samoa skipped"),
    ],
)
def test_days_begin_where_people_say_they_do(zone, day, start):
    assert local_midnight(day, zone) == datetime.fromisoformat(start)


@pytest.mark.parametrize(
    ("frequency", "until", "end"),
    [
        pytest.param("daily", "2026-06-01T00:00:00Z", "2026-06-01", id="a boundary belongs to its own look"),
        pytest.param("daily", "2026-05-31T23:59:59.999999Z", "2026-05-31", id="a microsecond earlier it is still yesterday"),
        pytest.param("weekly", "2026-06-07T23:00:00Z", "2026-06-01", id="weeks end on Monday"),
        pytest.param("monthly", "2028-02-29T12:00:00Z", "2028-02-01", id="leap day"),
        pytest.param("monthly", "2026-12-31T23:59:59Z", "2026-12-01", id="year end"),
        pytest.param("daily", "2027-01-01T00:00:00Z", "2027-01-01", id="new year"),
    ],
)
def test_boundaries_in_utc(frequency, until, end):
    assert Frequency(frequency).floor(datetime.fromisoformat(until), ZoneInfo("UTC")) == datetime.fromisoformat(f"{end}T00:00:00+00:00")


@given(st.dates(min_value=date(1990, 1, 1), max_value=date(2090, 1, 1)), st.sampled_from(Frequency))
def test_the_first_day_after_a_period_begins_the_very_next_one(day: date, frequency: Frequency) -> None:
    after = frequency.first_day_after(day)
    assert frequency.first_day(after) == after > day
    assert frequency.first_day(after - timedelta(days=1)) == frequency.first_day(day)
