"""What the overview says first: one verdict about all tenants, and its reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from waybill.deliveries.reports.overview import State, Totals
from waybill.web.pages.sentences import say

Tone = Literal["good", "wait", "warn", "bad"]
_COUNTED = (State.FAILING, State.LATE, State.PAUSED_BEHIND, State.DUE, State.DELIVERED, State.INACTIVE)


@dataclass(frozen=True)
class Verdict:
    """`tone` is its colour, `title` the sentence, `counts` the tenants by state if that explains it, and `causes` why some fail."""

    tone: Tone
    title: Markup
    counts: str
    causes: str


def verdict(totals: Totals, *, unapplied: bool) -> Verdict:
    """Return the worst that is true of some tenant. `unapplied` says that some configuration is not in force."""
    states = totals.states
    owed, paused_behind, due = states[State.FAILING] + states[State.LATE], states[State.PAUSED_BEHIND], states[State.DUE]
    tone: Tone = "bad" if owed else "warn" if paused_behind or unapplied else "wait" if due else "good"
    counts = causes = ""
    if owed or paused_behind or states[State.INACTIVE]:
        counts = ", ".join(f"{states[name]} {name}" for name in _COUNTED if states[name])
    if states[State.FAILING] > 1:
        causes = ", ".join(f"{count:,} {code.replace('_', ' ') or say('verdict.unknown')}" for code, count in totals.causes)
    return Verdict(tone, _title(totals, owed, paused_behind, due, unapplied), counts, causes)


def _title(totals: Totals, owed: int, paused_behind: int, due: int, unapplied: bool) -> Markup:
    if owed:
        of = say("verdict.of_tenants", count=totals.tenants)
        return say("verdict.owed", count=owed, of=of)
    if paused_behind:
        return say("verdict.held", count=paused_behind)
    if due:
        return say("verdict.due", count=due)
    if totals.states[State.DELIVERED]:
        return say("verdict.delivered_not_all_applied" if unapplied else "verdict.delivered")
    return say("verdict.paused")
