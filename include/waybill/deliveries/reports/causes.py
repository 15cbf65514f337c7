"""Groups the failures of a tenant's deliveries into causes, and says what to do about each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from waybill.language import table
from waybill.ledger.reports.overviews import Trouble

NEXT_STEPS = table("next_steps")
"""The next step for an error, by its code."""

_WORD = re.compile(r"\w+")
"""Ids of entities and deliveries are such words."""

OUTSIDE = table("outside")
"""What people with a tenant's token read about an error, by its code: no host, login, connection or path of the operator."""


def words_for_outsiders(code: str) -> str:
    """Return the words of an error for people outside the operator's organisation."""
    return OUTSIDE.get(code, OUTSIDE["other"])


def discreet(troubles: Iterable[Trouble]) -> tuple[Trouble, ...]:
    """Return the same failures in words for people outside."""
    return tuple(replace(trouble, error=words_for_outsiders(trouble.code)) for trouble in troubles)


_DERIVED = "destination_paused"
"""The code of a failure that only follows from others: a destination that did not answer is left alone for a while."""

_SILENT = ("unreachable", "lost")


@dataclass(frozen=True)
class Cause:
    """One cause and every entity that it stops, newest first. `first` is shown in full."""

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
    """Return the causes. Failures with the same message, apart from the names of what failed, are one cause.

    A failure that only follows from a silent destination belongs to the cause of that.
    """
    groups: dict[tuple[str, str], list[Trouble]] = {}
    names = {name for trouble in troubles for name in (trouble.entity, trouble.delivery)}
    for trouble in sorted(troubles, key=lambda candidate: candidate.code == _DERIVED):
        silent = next((key for key in groups if key[0] in _SILENT), None) if trouble.code == _DERIVED else None
        unnamed = _WORD.sub(lambda word: "" if word[0] in names else word[0], trouble.error)
        key = silent or (trouble.code, "" if trouble.code == _DERIVED else unnamed)
        groups.setdefault(key, []).append(trouble)
    return [Cause(tuple(found)) for found in groups.values()]
