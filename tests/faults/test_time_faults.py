"""Clocks: days of 23 and 25 hours, midnights that do not exist, leap days, year ends, and clocks that jump."""

import json
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from zoneinfo import ZoneInfo

import pytest

from tests.faults.oracle import judge
from tests.faults.scenes import text
from tests.installations import DAY, make_place, read_csv
from waybill.deliveries.running import run
from waybill.registrations.applying import apply

DAYS = [
    ("Europe/Berlin", date(2026, 3, 27), {"2026-03-28T23:00:00.000000Z": 23}),
    ("Europe/Berlin", date(2025, 10, 24), {"2025-10-25T22:00:00.000000Z": 25}),
    ("Africa/Cairo", date(2026, 4, 22), {"2026-04-23T22:00:00.000000Z": 23}),
    ("America/Santiago", date(2025, 9, 5), {"2025-09-07T04:00:00.000000Z": 23}),
    ("America/Havana", date(2025, 11, 1), {"2025-11-02T04:00:00.000000Z": 25}),
    ("Asia/Kolkata", date(2024, 2, 27), {}),
    ("Pacific/Auckland", date(2025, 12, 30), {}),
]


@pytest.mark.parametrize(("zone", "first", "odd"), DAYS, ids=[f"{zone} {first:%Y-%m-%d}" for zone, first, _ in DAYS])
def test_days_of_any_length_abut_and_lose_nothing(tmp_path, zone, first, odd):
    """One row every hour, there from its hour on; a run at each local noon."""
    place = make_place(tmp_path)
    place.tenant(timezone=zone, entityList=["user"])
    noons = [datetime.combine(first + number * DAY, time(12), ZoneInfo(zone)).astimezone(UTC) for number in range(4)]
    start = noons[0] - 2 * DAY
    written = [start + timedelta(hours=number) for number in range(24 * 7)]
    there = 0
    for noon in noons:
        fresh = [(number, at) for number, at in enumerate(written) if at < noon][there:]
        there += len(fresh)
        place.sql(
            'insert into "user" values ' + ", ".join(f"('acme', {number}, 'row', timestamptz '{text(at)}', null)" for number, at in fresh)
        )
        assert all(result.error is None for result in place.run(noon))
    found = [value for _, value in sorted(place.manifests(), key=lambda pair: pair[1]["sequence"])]
    ends = [datetime.fromisoformat(delivery["window"]["to"]) for delivery in found]
    hours = {
        name["window"]["from"]: (end - begin).total_seconds() / 3600 for name, begin, end in zip(found[1:], ends, ends[1:], strict=False)
    }
    assert {start: length for start, length in hours.items() if length != 24} == odd
    expected = [(str(number), "row", text(at), None) for number, at in enumerate(written) if at < ends[-1]]
    assert judge(place.out, {"user": expected}) == []


def test_a_clock_that_jumps_ahead_and_back_delivers_every_row_once(tmp_path):
    place = make_place(tmp_path)
    place.tenant(entityList=["user"])
    noon = datetime(2026, 5, 31, 12, tzinfo=UTC)
    for number in range(6):
        place.user(number, "row", noon - 2 * DAY + number * DAY / 2)
    for until in (noon, noon + DAY, noon - 40 * DAY, noon + timedelta(hours=11), noon + DAY, noon + 3 * DAY, noon + 2 * DAY):
        place.clock = until
        assert all(result.error is None for result in place.run(until))
    expected = [(str(number), "row", text(noon - 2 * DAY + number * DAY / 2), None) for number in range(6)]
    assert judge(place.out, {"user": expected}) == []
    assert [delivery["sequence"] for _, delivery in place.manifests()] == [1, 2, 3]


def test_a_time_to_come_is_limited_by_the_source_s_own_clock(tmp_path):
    place = make_place(tmp_path)
    place.tenant(entityList=["user"])
    place.user(1, "row", datetime(2026, 5, 1, tzinfo=UTC))
    place.run(datetime(2126, 1, 1, tzinfo=UTC))
    [(_, manifest)] = place.manifests()
    assert datetime.fromisoformat(manifest["window"]["to"]) <= datetime.now(UTC)


@pytest.mark.parametrize("frequency", ["daily", "monthly"])
@pytest.mark.parametrize("asked", [False, True], ids=["by itself", "as a full load"])
def test_a_clock_that_was_ahead_loses_no_row_that_changes_until_it_is_right(tmp_path, mariadb, frequency, asked):
    """A machine starts with a wrong time, delivers, and is set right: all that changes until that time comes is delivered, too."""
    right, wrong = datetime(2026, 6, 3, 3, tzinfo=UTC), datetime(2026, 8, 3, 3, tzinfo=UTC)
    _sql(mariadb, right, "create table user (tenant_id varchar(9), id int primary key, updated_at timestamp(6)) engine = InnoDB")
    place = make_place(tmp_path)
    columns = {"id": {"type": "integer"}, "updated_at": {"type": "timestamp"}}
    changes = {"mode": "lookback", "column": "updated_at", "lookback": "1h"}
    user = {"source": "crm", "relation": "user", "tenant_column": "tenant_id", "key": ["id"], "changes": changes, "columns": columns}
    place.write("catalog.yaml", {"sources": {"crm": {"kind": "dbapi", "connection": "crm"}}, "entities": {"user": user}})
    place.tenant(entityList=["user"], frequency=frequency)
    delivered = []
    for number, now in enumerate((right, wrong, right + DAY, right + 9 * DAY, right + 40 * DAY, wrong + 40 * DAY)):
        _sql(mariadb, now - 15 * DAY if number == 5 else now - DAY / 2, f"insert into user values ('acme', {number}, now(6))")
        place.clock = now
        installation = replace(place.installation(), connect_db=partial(_connect, mariadb, now))
        apply(installation, actor="test")
        results = run(installation, "acme", now, full_load=asked and now == right + DAY)
        assert [result.error for result in results if result.error] == []
        delivered += [result.delivery for result in results]
    copy = set()
    for delivery in delivered:
        manifest = json.loads((place.out / delivery.folder.strip("/") / f"{delivery.stem}.manifest.json").read_text())
        rows = {row[0] for row in read_csv(place.out / delivery.folder.strip("/") / manifest["files"][0]["path"], manifest)}
        copy = rows if manifest["kind"] == "full" else copy | rows
        assert datetime.fromisoformat(manifest["window"]["to"]) <= datetime.fromisoformat(manifest["snapshot_time"])
    assert copy == {"0", "1", "2", "3", "4", "5"}


def _connect(database, now, name=""):
    """Log in to the server as it is while its clock shows `now`."""
    connection = database.connect()
    with connection.cursor() as cursor:
        cursor.execute("set timestamp = %s", [now.timestamp()])
    return connection


def _sql(database, now, statement):
    with closing(_connect(database, now)) as connection, connection.cursor() as cursor:
        cursor.execute("set time_zone = '+00:00'")
        cursor.execute(statement)
        connection.commit()
