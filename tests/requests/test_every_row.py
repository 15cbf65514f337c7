"""An export without a range holds every row that is visible; a range of dates means the days it names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.exports import MEASUREMENT, MINUTE, SITE, START, Office, make_office
from tests.installations import catalog
from tests.requests.test_requests_fulfilled import archive, fulfilled, lines
from waybill.registrations.applying import apply
from waybill.requests.fulfilment.running import fulfil

AHEAD = datetime.now(UTC).replace(microsecond=0) + timedelta(days=365)
MODES: dict[str, dict[str, str]] = {
    "lookback": {"mode": "lookback", "column": "updated_at"},
    "full": {"mode": "full"},
    "append by id": {"mode": "append", "column": "id"},
    "append by time": {"mode": "append", "column": "updated_at"},
}


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = make_office(tmp_path)
    yield office
    office.place.close()


def use(office: Office, mode: str, **changes: Any) -> None:
    office.place.write("catalog.yaml", catalog(measurement={**MEASUREMENT, "changes": MODES[mode], **changes}, site=SITE))


@pytest.mark.parametrize("mode", MODES)
def test_rows_without_a_time_or_ahead_of_the_clock_are_in_an_export_without_a_range(office: Office, mode: str) -> None:
    use(office, mode)
    office.measure(1)
    office.measure(2, taken_at=None)
    office.measure(3, AHEAD)
    office.measure(4, START - MINUTE, updated=AHEAD)
    office.measure(5, deleted_at=AHEAD)
    office.measure(6, deleted_at="infinity")
    office.measure(7, deleted_at=START - MINUTE)
    export = fulfilled(office)
    assert sorted(row["id"] for row in lines(office, export)) == [1, 2, 3, 4, 5, 6]
    assert json.loads(archive(office, export).read("manifest.json"))["entities"][0]["rows_left_out_as_later"] == 0


@pytest.mark.parametrize("mode", MODES)
def test_rows_added_after_the_request_are_left_out_and_counted(office: Office, mode: str) -> None:
    use(office, mode)
    office.measure(1)
    office.measure(2, AHEAD)
    export = office.ask()
    office.measure(3, START + MINUTE)
    done = fulfil(office.installation(), export.id)
    assert done is not None
    assert sorted(row["id"] for row in lines(office, done)) == [1, 2]
    assert json.loads(archive(office, done).read("manifest.json"))["entities"][0]["rows_left_out_as_later"] == 1


def dated(office: Office, mode: str, zone: str) -> None:
    """Times of rows are dates, and the tenant is in a zone."""
    use(office, mode, columns={**MEASUREMENT["columns"], "taken_at": {"type": "date"}})
    office.place.tenant(entityList=["measurement"], timezone=zone)
    apply(office.installation(), actor="test")
    office.place.sql("alter table measurement alter taken_at type date")


@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles", "Pacific/Kiritimati"])
@pytest.mark.parametrize("hour", [-10, 10])
@pytest.mark.parametrize("mode", ["full", "append by id"])
def test_days_that_began_before_the_request_are_held_and_later_ones_counted_as_left_out(
    office: Office, mode: str, hour: int, zone: str
) -> None:
    dated(office, mode, zone)
    today = (office.later(timedelta(hours=hour)).astimezone(ZoneInfo(zone)).date() - date(2026, 5, 31)).days
    for day in range(5):
        office.measure(day, taken_at=f"{date(2026, 5, 31) + timedelta(days=day)}", updated_at=START - MINUTE)
    office.measure(5, taken_at=f"{AHEAD:%Y-%m-%d}", updated_at=START - MINUTE)
    export = fulfilled(office)
    held = sorted(row["id"] for row in lines(office, export))
    left_out = json.loads(archive(office, export).read("manifest.json"))["entities"][0]["rows_left_out_as_later"]
    assert (held, left_out) == ([*range(today + 1), 5], 4 - today)


@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles", "Pacific/Kiritimati"])
def test_a_date_is_compared_with_the_dates_asked_for_wherever_the_tenant_is(office: Office, zone: str) -> None:
    dated(office, "full", zone)
    for day in range(1, 8):
        office.measure(day, taken_at=f"2026-05-0{day}", updated_at=START - MINUTE)
    export = fulfilled(office, range={"from": "2026-05-03", "to": "2026-05-05"})
    assert sorted(row["id"] for row in lines(office, export)) == [3, 4, 5]
