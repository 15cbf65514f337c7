"""What the overview and the page of a tenant make of many failures."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from waybill.ledger.overviews import Trouble
from waybill.service.overview import causes
from waybill.web.pages_render import told

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
    assert [(one.first.error, one.entities) for one in found] == [
        (dead, ["b", "c", "a"]),
        ("tenant acme, entity d: gone", ["d", "e"]),
    ]


def test_spared_destinations_alone_are_one_cause() -> None:
    found = causes([trouble(name, f"not tried before 2026-01-02T00:0{at}:00+00:00", "destination_paused") for at, name in enumerate("ab")])
    assert [one.entities for one in found] == [["a", "b"]]


def test_a_message_is_shown_with_code_and_local_time_and_nothing_of_it_is_markup() -> None:
    shown = str(told("<b> before 2026-01-02T00:01:00+00:00; `waybill run` tries", ZoneInfo("Europe/Berlin")))
    assert shown.startswith("&lt;b&gt; before <time")
    assert "2026-01-02 01:01 CET" in shown
    assert shown.endswith("; <code>waybill run</code> tries")
