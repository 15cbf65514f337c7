"""What is wrong with a tenant's deliveries and what to do about it: failures that say the same are one cause."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from waybill.language import table
from waybill.ledger.reports.overviews import Trouble

NEXT_STEPS = table("next_steps")
"""What to do about an error, by its code, where the error itself leaves that open."""

OUTSIDE = table("outside")
"""What people with a tenant's token read of an error, by its code: no host, login, connection or path of the house."""


def said_outside(code: str) -> str:
    """An error in words for people outside the house."""
    return OUTSIDE.get(code, OUTSIDE["other"])


def described_outside(described: dict[str, Any]) -> dict[str, Any]:
    """A delivery as `describing.describe` tells it, with its error in words for people outside the house."""
    return {**described, "error": said_outside(described["error_code"] or "")} if described["error"] else described


def discreet(troubles: Iterable[Trouble]) -> tuple[Trouble, ...]:
    """The same failures in words for people outside the house."""
    return tuple(replace(trouble, error=said_outside(trouble.code)) for trouble in troubles)


_DERIVED = "destination_paused"
"""The code of a failure that only follows from others: the destination was spared after it had not answered."""

_SILENT = ("unreachable", "lost")


@dataclass(frozen=True)
class Cause:
    """What is wrong, and all whom it hits, newest first. `first` is told in full."""

    troubles: tuple[Trouble, ...]

    @property
    def first(self) -> Trouble:
        return self.troubles[0]

    @property
    def entities(self) -> list[str]:
        return list(dict.fromkeys(trouble.entity for trouble in self.troubles))

    @property
    def next_step(self) -> str:
        return NEXT_STEPS.get(self.first.code, NEXT_STEPS["other"])


def causes(troubles: Sequence[Trouble]) -> list[Cause]:
    """Failures that say the same but for their own names are one cause. What only follows from a silent destination counts to that."""
    groups: dict[tuple[str, str], list[Trouble]] = {}
    for trouble in sorted(troubles, key=lambda candidate: candidate.code == _DERIVED):
        silent = next((key for key in groups if key[0] in _SILENT), None) if trouble.code == _DERIVED else None
        own = rf"\b(?:{re.escape(trouble.entity)}|{trouble.delivery})\b"
        key = silent or (trouble.code, "" if trouble.code == _DERIVED else re.sub(own, "", trouble.error))
        groups.setdefault(key, []).append(trouble)
    return [Cause(tuple(found)) for found in groups.values()]
