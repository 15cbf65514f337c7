"""Keeps what is expensive to open and cheap to reuse, such as an engine, for the length of a task.

Outside `kept`, everything is opened for each use and closed after it. This module imports nothing heavy, because a caller of `kept` may
never open anything.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TypeVar

Thing = TypeVar("Thing")

WAIT = 5.0
"""Seconds that a thread waits for a thing in use before it opens its own. Small extractions take a few hundredths of a second."""


class _Kept:
    """A thing that is lent to one thread at a time."""

    def __init__(self) -> None:
        self._free = threading.Lock()
        self._user = 0
        self._open = ExitStack()
        self._thing: Any = None

    def lend(self, patient: bool) -> bool:
        """Return whether the caller may use the thing now. A thread that uses it already gets False: two uses would clash."""
        if self._user == threading.get_ident() or not self._free.acquire(timeout=WAIT if patient else 0):
            return False
        self._user = threading.get_ident()
        return True

    def thing(self, opened: Callable[[], AbstractContextManager[Any]], is_fresh: Callable[[Any], bool]) -> Any:
        if self._thing is not None and not is_fresh(self._thing):
            self.close()
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
_names: tuple[str, ...] = ()
_guard = threading.Lock()


@contextmanager
def lent(
    name: str,
    opened: Callable[[], AbstractContextManager[Thing]],
    emptied: Callable[[Thing], None],
    is_fresh: Callable[[Thing], bool] = lambda _: True,
    patient: bool = True,
) -> Iterator[Thing]:
    """Lend what `opened` returns, new or kept. `emptied` makes it as good as new. If that fails, the next user gets another, and so does
    one who would get a thing that went bad meanwhile (`is_fresh`).

    A caller who is not `patient` waits for no other user. It must not be if that user may be waiting for the caller.
    """
    with _guard:
        mine = None if _kept is None or (_names and name not in _names) else _kept.setdefault(name, _Kept())
    if mine is None or not mine.lend(patient):
        with opened() as thing:
            yield thing
        return
    try:
        yield mine.thing(opened, is_fresh)
    finally:
        mine.take_back(emptied)


@contextmanager
def kept(*names: str) -> Iterator[None]:
    """Keep everything that any thread of this process borrows inside, until the end. It is for a process with one purpose: a task.

    With `names`, it keeps only what bears one of them.
    """
    global _kept, _names
    before, _kept, _names = (_kept, _names), {}, names
    try:
        yield
    finally:
        mine, (_kept, _names) = _kept, before
        for kept in mine.values():
            kept.close()
