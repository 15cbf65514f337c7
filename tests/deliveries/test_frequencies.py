"""Entities under their own frequency: a daily feed and a monthly archive of one tenant, with one chain each and one day manifest a date."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.installations import DAY, Place, make_place
from waybill.airflow.schedule import schedules
from waybill.configuration.registration import Registration
from waybill.deliveries.planning import preview
from waybill.deliveries.recovery.reconciling import reconcile
from waybill.deliveries.reports.measures import measure
from waybill.deliveries.reports.notifying import watch
from waybill.deliveries.reports.overview import State, tenant_row
from waybill.files import places
from waybill.ledger.reports import notices
from waybill.registrations.applying import apply

MAY = datetime(2026, 5, 28, 6, tzinfo=UTC)
"""A Thursday; 1 June is a Monday."""
ARCHIVE = {"frequencies": {"theme": "monthly"}}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with closing(make_place(tmp_path / "place", clock=MAY)) as place:
        place.tenant(**ARCHIVE)
        for table in ("user", "theme"):
            place.user(1, "first", MAY - 40 * DAY, table=table)
        yield place


def day(place: Place, number: int) -> datetime:
    place.clock = MAY + number * DAY
    for table in ("user", "theme"):
        place.user(10 + number, f"day {number}", place.clock - DAY / 2, table=table)
    return place.clock


def dates(place: Place, entity: str) -> list[tuple[int, str, str | None, str]]:
    found = [delivery for _, delivery in place.manifests() if delivery["entity"] == entity]
    return [
        (delivery["sequence"], delivery["kind"], (delivery["window"]["from"] or "")[:10], delivery["window"]["to"][:10])
        for delivery in found
    ]


def test_each_entity_comes_by_its_own_frequency_and_every_date_is_closed(place: Place) -> None:
    for number in range(7):
        place.run(day(place, number))
    every = ("05-28", "05-29", "05-30", "05-31", "06-01", "06-02", "06-03")
    assert [item[3] for item in dates(place, "user")] == [f"2026-{date}" for date in every]
    assert dates(place, "theme") == [(1, "full", "", "2026-05-01"), (2, "full", "2026-05-01", "2026-06-01")]
    closed = sorted(path.parent.relative_to(place.out).as_posix() for path in place.out.rglob("_MANIFEST.json"))
    assert closed == [f"exports/acme/2026/{date}" for date in ("05/01", "05/28", "05/29", "05/30", "05/31", "06/01", "06/02", "06/03")]
    assert places.verify(str(place.out), pytest.fail).is_whole
    assert reconcile(place.installation(), "acme", actor="test").as_json()["problems"] == []


def test_another_frequency_moves_no_watermark_and_leaves_no_gap(place: Place) -> None:
    place.run(day(place, 0))
    place.tenant(frequencies={"theme": "weekly", "user": "monthly"})
    for number in range(1, 6):
        place.run(day(place, number))
    assert [date[1:] for date in dates(place, "user")] == [("full", "", "2026-05-28"), ("delta", "2026-05-28", "2026-06-01")]
    place.tenant()
    place.run(day(place, 6))
    ends = ["", "2026-05-01", "2026-05-25", "2026-06-01", "2026-06-03"]
    assert [date[2:] for date in dates(place, "theme")] == list(pairwise(ends))
    assert places.verify(str(place.out), pytest.fail).is_whole


def test_plan_and_dry_run_tell_the_frequency(place: Place) -> None:
    place.tenant()
    place.run(day(place, 0))
    place.tenant(**ARCHIVE)
    lines = list(apply(place.installation(), actor="test", dry_run=True).lines(dry_run=True))
    assert '    frequencies: null -> {"theme": "monthly"}' in lines
    due = [item.entity for item in preview(place.installation(), "acme", day(place, 2))]
    assert due == ["user"]


def test_who_is_behind_is_told_by_each_entitys_own_boundary(place: Place) -> None:
    place.run(day(place, 0))
    place.run(day(place, 1))
    row = tenant_row(place.installation(), "acme")
    assert row is not None
    assert (row.state, row.entities, str(row.until)[:10], str(row.next_run)[:10]) == (State.DELIVERED, 2, "2026-05-29", "2026-05-30")
    place.run(day(place, 4), entities=["user"])
    row = tenant_row(place.installation(), "acme")
    assert row is not None
    assert (row.state, str(row.until)[:10], str(row.due)[:10]) == (State.LATE, "2026-05-01", "2026-06-01")
    place.run(day(place, 4))
    row = tenant_row(place.installation(), "acme")
    assert row is not None
    assert row.state is State.DELIVERED


def test_a_promise_holds_for_each_frequency(place: Place) -> None:
    place.tenant(**ARCHIVE, deliverBy="05:00")
    place.run(day(place, 0))
    for number in (1, 4):
        place.run(day(place, number), entities=["user"])
        row = tenant_row(place.installation(), "acme")
        assert row is not None
        assert str(row.promise_state) == ("kept" if number == 1 else "breached")


def test_the_metric_of_lateness_holds_each_entity_to_its_own_frequency(place: Place) -> None:
    place.write("policy.yaml", {"notify": {"late_after": "2h"}})
    for number in range(3):
        place.run(day(place, number))
        assert measure(place.installation()).lateness == {"acme": 0}
    place.run(day(place, 4), entities=["user"])
    found = measure(place.installation())
    assert found.late == 1
    assert found.lateness["acme"] < DAY.total_seconds()


def test_pages_and_metrics_call_a_tenant_late_by_one_rule_where_policy_sets_no_time(place: Place) -> None:
    place.run(day(place, 0))
    due = day(place, 1)
    for hours, late in ((-12, 0), (6, 1)):
        place.clock = due + timedelta(hours=hours)
        row = tenant_row(place.installation(), "acme")
        assert row is not None
        assert (row.state is State.LATE, measure(place.installation()).late) == (bool(late), late)
    assert watch(place.installation()) == [], "nobody is told unless `notify.late_after` is set"


def test_the_overview_calls_a_tenant_late_by_the_time_that_policy_sets_for_it(place: Place) -> None:
    place.write("policy.yaml", {"notify": {"late_after": "9h"}, "tenants": {"acme": {"notify": {"late_after": "1h"}}}})
    place.run(day(place, 0))
    day(place, 1)
    assert watch(place.installation()) == [("acme", "breach")]
    row = tenant_row(place.installation(), "acme")
    assert row is not None
    assert row.state is State.LATE


def test_a_late_archive_is_told_once_and_a_feed_that_is_not_late_is_not_named(place: Place) -> None:
    place.write("policy.yaml", {"notify": {"late_after": "2h"}})
    place.run(day(place, 0))
    assert watch(place.installation()) == []
    for number in (4, 5):
        place.run(day(place, number), entities=["user"])
        assert watch(place.installation()) == ([("acme", "breach")] if number == 4 else [])
    installation = place.installation()
    with installation.ledger.read() as connection:
        [alarm] = notices.raised(connection, "acme")
    assert [delivery["entity"] for delivery in alarm.detail["missing"]] == ["theme"]
    place.run(day(place, 5))
    assert watch(place.installation()) == [("acme", "recovered")]


def test_a_ledger_that_lost_a_months_archive_is_found(place: Place) -> None:
    place.run(day(place, 0))
    place.run(day(place, 4))
    place.close()
    (place.root / ".waybill/ledger.db").unlink()
    place.clock = MAY + 40 * DAY
    stopped = place.run(place.clock, entities=["theme"])
    assert [result.error.code for result in stopped if result.error] == ["ledger_behind"]


@pytest.mark.parametrize(
    ("body", "cron"),
    [
        ({"frequency": "monthly"}, "0 2 1 * *"),
        ({"frequency": "monthly", "frequencies": {"user": "daily"}}, "0 2 * * *"),
        ({"frequency": "monthly", "frequencies": {"user": "weekly"}}, "0 2 1 * 1"),
        ({"frequency": "weekly", "frequencies": {"user": "monthly", "theme": "weekly"}}, "0 2 1 * 1"),
        ({"frequency": "daily", "frequencies": {"user": "monthly"}}, "0 2 * * *"),
    ],
    ids=str,
)
def test_runs_start_as_often_as_any_entity_needs(body: dict[str, Any], cron: str) -> None:
    assert Registration.model_validate({"deliverAt": "02:00", **body}).cron("acme") == cron


def test_the_dag_says_how_often_each_entity_comes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    apply(place.installation(), actor="test")
    monkeypatch.setenv("WAYBILL_CONFIG_DIR", str(place.root / "config"))
    [schedule] = schedules()
    assert (schedule.frequency, schedule.cron) == ("daily", Registration().cron("acme"))
    assert "daily (`theme` monthly)" in schedule.document


def test_the_run_after_both_boundaries_delivers_both(place: Place) -> None:
    place.tenant(frequency="weekly", **ARCHIVE)
    place.run(day(place, 0))
    assert [item[3] for item in (*dates(place, "user"), *dates(place, "theme"))] == ["2026-05-25", "2026-05-01"]
    place.run(day(place, 4) + timedelta(hours=1))
    assert [item[3] for item in (*dates(place, "user"), *dates(place, "theme"))] == ["2026-05-25", "2026-06-01", "2026-05-01", "2026-06-01"]
    assert sorted(path.parent.name for path in place.out.rglob("_MANIFEST.json")) == ["01", "01", "25"]
