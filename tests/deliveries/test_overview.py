"""What the overview and the page of a tenant make of many failures."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from waybill.deliveries.reports.causes import causes
from waybill.deliveries.reports.overview import UNKNOWN, Row, SchedulerState, State
from waybill.ledger.reports.overviews import Trouble
from waybill.web.pages.render import marked_up
from waybill.window import Frequency

pytestmark = pytest.mark.fast

AT = datetime(2026, 1, 2, tzinfo=UTC)


def trouble(entity: str, error: str, code: str) -> Trouble:
    return Trouble("acme", "0" * 32, entity, error, code, 1, AT)


def test_failures_that_say_the_same_are_one_cause_and_a_spared_destination_counts_to_the_silent_one() -> None:
    dead = "tenant acme, destination: could not connect"
    found = causes(
        [
            trouble("a", "not tried before 2026-01-02T00:01:00+00:00", "destination_paused"),
            trouble("b", dead, "unreachable"),
            trouble("c", dead, "unreachable"),
            trouble("d", "tenant acme, entity d: gone", "relation_missing"),
            trouble("e", "tenant acme, entity e: gone", "relation_missing"),
        ]
    )
    assert [(cause.first.error, cause.entities) for cause in found] == [
        (dead, ["b", "c", "a"]),
        ("tenant acme, entity d: gone", ["d", "e"]),
    ]


def test_an_error_of_all_that_names_one_of_them_is_one_cause_and_its_advice_is_its_own() -> None:
    behind = "tenant acme, destination: entity b, folder /out: the ledger does not know d-1. Run: waybill reconcile acme"
    (cause,) = causes([trouble(name, behind, "ledger_behind") for name in "abc"])
    assert cause.entities == ["a", "b", "c"]
    assert cause.next_step == "Do what the message says; the log of the delivery's task has more."


def test_spared_destinations_alone_are_one_cause() -> None:
    found = causes([trouble(name, f"not tried before 2026-01-02T00:0{at}:00+00:00", "destination_paused") for at, name in enumerate("ab")])
    assert [cause.entities for cause in found] == [["a", "b"]]


def test_a_message_is_shown_with_code_and_local_time_and_nothing_of_it_is_markup() -> None:
    shown = str(marked_up("<b> before 2026-01-02T00:01:00+00:00; `waybill run` tries", ZoneInfo("Europe/Berlin")))
    assert shown.startswith("&lt;b&gt; before <time")
    assert "2026-01-02 01:01 CET" in shown
    assert shown.endswith("; <code>waybill run</code> tries")


BY_HAND = "It has no schedule in this Airflow: runs are started by hand, with “Run what is due”."
NEXT = "No run is under way; the next one is at 2026-01-02T00:00:00+00:00, “Run what is due” starts one at once."


@pytest.mark.parametrize(
    ("scheduler_state", "coming", "at_rest"),
    [
        (None, "The next run tries again.", ""),
        (SchedulerState(), NEXT, ""),
        (SchedulerState(scheduled=False), BY_HAND, BY_HAND),
        (SchedulerState(run="queued"), "A run is queued: Airflow starts it as soon as it has room.", ...),
        (SchedulerState(run="running"), "A run is under way; what “Run what is due” asks for begins after it.", ...),
        (
            SchedulerState(run="running", retry_at=AT),
            "Airflow tries again by itself at 2026-01-02T00:00:00+00:00; “Run what is due” tries at once.",
            ...,
        ),
        (UNKNOWN, "Its DAG is not in Airflow yet; it appears there once Airflow has parsed the DAG file again.", ...),
        (SchedulerState(paused=True, run="running"), "", ""),
    ],
)
def test_what_comes_by_itself_is_what_the_scheduler_does(scheduler_state: SchedulerState | None, coming: str, at_rest: object) -> None:
    next_run = None if scheduler_state is not None and not scheduler_state.scheduled else AT
    facts = {"frequency": Frequency.DAILY, "zone": ZoneInfo("UTC"), "entities": 1, "until": None, "due": AT, "due_at": AT}
    failing = Row(
        "acme", State.FAILING, next_run=next_run, troubles=(trouble("a", "gone", "lost"),), scheduler_state=scheduler_state, **facts
    )
    assert failing.coming(may_run=True) == coming
    assert "“Run what is due”" not in failing.coming(may_run=False)
    assert failing.next_step.startswith("Its DAG is paused" if scheduler_state and scheduler_state.paused else "Nothing, if it was once.")
    delivered = Row("acme", State.DELIVERED, next_run=next_run, scheduler_state=scheduler_state, **facts)
    assert delivered.coming(may_run=True) == (coming if at_rest is ... else at_rest)
