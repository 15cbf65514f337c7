"""The rows of the list of exports. Every value that the ledger can hold becomes words. A value without words is shown as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from waybill.configuration.policy import Page
from waybill.language import table, tell
from waybill.ledger.on_demand.request_records import ACTIVE, Status
from waybill.requests.answers import Export
from waybill.requests.ranges import PREVIOUS_PERIOD, spoken
from waybill.web.pages.requests.names import joined

SCOPES = table("scopes")
RANGES = table("ranges")
MOST_NAMES = 4
"""The number of entities that a row names. If there are more, the row says how many."""


@dataclass(frozen=True)
class Row:
    """One export. `export` is what the API answers, for what is shown unchanged: times, numbers, error."""

    export: Export
    scope: str
    scope_details: list[str]
    entities: str
    range: str
    formats: str
    is_active: bool
    starts: datetime | None
    """The time that a pending export waits for. None if it only waits for a worker."""
    is_empty: bool
    until: datetime | None
    """When a finished archive is removed. None for any other export."""
    actions: list[str]
    """The actions that the page offers, of those the caller may do."""

    def acts(self, columns: Sequence[str]) -> bool:
        """Whether there is anything in the column of actions. A download has a column of its own, if there is one."""
        return any(name != "download" or "download" not in columns for name in self.actions)


def rows(described: Sequence[Export], looks: Page, zone: str) -> list[Row]:
    """Return the rows of a list."""
    return [_row(request, looks, zone) for request in described]


def _row(request: Export, looks: Page, zone: str) -> Row:
    waits = request.status == Status.PENDING and request.due_at > request.created_at
    return Row(
        export=request,
        scope=scope_label(request.scope, looks),
        scope_details=scope_details(request.scope),
        entities=few(request.entity_names),
        range=range_words(request.range, looks, zone),
        formats=", ".join(name.upper() for name in request.formats),
        is_active=request.status in ACTIVE,
        starts=request.due_at if waits else None,
        is_empty=request.status == Status.DONE and request.rows == 0,
        until=request.expires_at if request.status == Status.DONE else None,
        actions=[name for name, may in request.actions if may and (name != "cancel" or looks.cancel)],
    )


def scope_label(scope: Mapping[str, Any], looks: Page) -> str:
    level = str(scope.get("level", "tenant"))
    return dict(looks.scope_labels).get(level) or SCOPES.get(level, level)


def scope_details(scope: Mapping[str, Any]) -> list[str]:
    named = [tell(f"scope_details.{field}", name=scope[field]) for field in table("scope_details") if scope.get(field)]
    apps = [joined(map(str, scope["apps"]))] if scope.get("apps") else []
    return named + apps


def few(names: list[str]) -> str:
    """Return as many names as a row has room for."""
    rest = len(names) - MOST_NAMES
    shown = ", ".join(names[:MOST_NAMES])
    return tell("listing.more_names", names=shown, rest=rest) if rest > 0 else shown


def range_words(asked: Mapping[str, Any], looks: Page, zone: str) -> str:
    """Return a range by its name, or by its days and their zone."""
    preset = asked.get("preset")
    if preset and preset != PREVIOUS_PERIOD:
        known = RANGES | dict(looks.range_labels)
        return known.get(str(preset), str(preset))
    words = spoken(asked, zone)
    return words[:1].upper() + words[1:]
