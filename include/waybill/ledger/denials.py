"""Folds denied attempts in the audit log: many refusals of one actor leave few lines, which say how many attempts there were."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta

SPAN = timedelta(hours=1)
MOST_KINDS = 50
"""The most different attempts of one actor within a span that get lines of their own. All others share one count."""

_MOST_ACTORS = 10_000


@dataclass
class _Actor:
    since: datetime
    counts: dict[tuple[str, ...], int]


class Denials:
    """Counts the denials of each actor within an hour of the first one. Safe to use from several threads."""

    def __init__(self) -> None:
        self._actors: OrderedDict[str, _Actor] = OrderedDict()
        self._lock = threading.Lock()

    def line(self, actor: str, attempt: tuple[str, ...], now: datetime) -> dict[str, int] | None:
        """Return what the audit log says about this attempt. None for an attempt that only counts.

        The 1st, the 10th, the 100th ... attempt of a kind get a line.
        """
        with self._lock:
            known = self._actors.get(actor)
            if known is None or now - known.since >= SPAN:
                known = self._actors[actor] = _Actor(now, {})
                while len(self._actors) > _MOST_ACTORS:
                    self._actors.popitem(last=False)
            self._actors.move_to_end(actor)
            shared = attempt not in known.counts and len(known.counts) >= MOST_KINDS
            key = () if shared else attempt
            known.counts[key] = known.counts.get(key, 0) + 1
            number, kinds = known.counts[key], len(known.counts) - 1
        if str(number).strip("0") != "1":
            return None
        return ({"attempts": number} if number > 1 or shared else {}) | ({"beyond_kinds": kinds} if shared else {})
