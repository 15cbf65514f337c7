"""What is dear to open and cheap to use again, such as an engine, is kept for the length of a task.

Outside `kept` everything is opened when it is wanted and closed after it. Imports nothing heavy: whoever keeps may never open anything.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TypeVar

Thing = TypeVar("Thing")

WAIT = 5.0
"""Seconds one thread waits for what another one uses before it opens its own. Small extractions are through in a few hundredths."""


class _Kept:
    """One thing, lent to one thread at a time."""

    def __init__(self) -> None:
        self._free = threading.Lock()
        self._user = 0
        self._open = ExitStack()
        self._thing: Any = None

    def lend(self) -> bool:
        """Whether the caller may use the thing now. A thread that already uses it gets False, as its second use would disturb its first."""
        if self._user == threading.get_ident() or not self._free.acquire(timeout=WAIT):
            return False
        self._user = threading.get_ident()
        return True

    def thing(self, opened: Callable[[], AbstractContextManager[Any]]) -> Any:
        if self._thing is None:
            self._thing = self._open.enter_context(opened())
        return self._thing

    def take_back(self, emptied: Callable[[Any], None]) -> None:
        try:
            if self._thing is not None:
                emptied(self._thing)
        except Exception:  # noqa: BLE001 (whatever is wrong with it: nobody should work with it again)
            self.close()
        finally:
            self._user = 0
            self._free.release()

    def close(self) -> None:
        self._thing = None
        self._open.close()


_kept: dict[str, _Kept] | None = None
_guard = threading.Lock()


@contextmanager
def lent(name: str, opened: Callable[[], AbstractContextManager[Thing]], emptied: Callable[[Thing], None]) -> Iterator[Thing]:
    """What `opened` gives, new or kept. `emptied` makes it as good as new; where that fails the next user gets another."""
    with _guard:
        mine = None if _kept is None else _kept.setdefault(name, _Kept())
    if mine is None or not mine.lend():
        with opened() as thing:
            yield thing
        return
    try:
        yield mine.thing(opened)
    finally:
        mine.take_back(emptied)


@contextmanager
def kept() -> Iterator[None]:
    """Whatever this process borrows inside, from whichever thread, is kept until the end. For a process that does one thing: a task."""
    global _kept
    before, _kept = _kept, {}
    try:
        yield
    finally:
        mine, _kept = _kept, before
        for kept in mine.values():
            kept.close()
