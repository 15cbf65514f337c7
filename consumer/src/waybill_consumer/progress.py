"""One line on a terminal that tells how far a command is. There is nothing if nobody looks."""

from __future__ import annotations

import re
import sys
import time

_WIDTH = 30
_EVERY = 0.1
_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but line ends and tabs, marks that turn the direction of what follows, and bytes of a name that are no text."""


def seen(text: str) -> str:
    """Return a text for a terminal: what a terminal would obey in a name or an answer of the other side is written out."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class Progress:
    """Counts towards `total`, which may be unknown (0)."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown and sys.stderr.isatty()
        self._last = 0.0
        self._what = ""
        self._done = 0
        self._total = 0

    def begin(self, what: str, total: int) -> None:
        self._what, self._done, self._total = what, 0, total
        self._draw(force=True)

    def add(self, count: int) -> None:
        self._done += count
        self._draw()

    def end(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _draw(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if not self._shown or (now - self._last < _EVERY and not force):
            return
        self._last = now
        part = min(1.0, self._done / self._total) if self._total else 0.0
        bar = f"[{'#' * round(part * _WIDTH):{_WIDTH}}] {part:4.0%} " if self._total else ""
        print(f"\r\x1b[K{bar}{seen(self._what)[-60:]}", end="", file=sys.stderr, flush=True)
