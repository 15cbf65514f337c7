"""What a process does with SIGTERM (Airflow's kill, the end of a pod) while it delivers: what is being read or sent ends, and cleans up.

A delivery whose file is about to become visible goes on to its commit: those last steps are short, and best done.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from waybill.errors import TransientError

LOOK = 0.5
"""Seconds between two looks, while something waits, at whether the process has to stop."""

_asked = threading.Event()


def is_asked_to_stop() -> bool:
    """Whether the process was asked to stop."""
    return _asked.is_set()


def check() -> None:
    """Raises TransientError when the process was asked to stop."""
    if is_asked_to_stop():
        raise TransientError(
            "the process was told to stop (SIGTERM) before the file was whole", next_step="The next run delivers it", code="stopped"
        )


@contextmanager
def on_sigterm() -> Iterator[None]:
    """SIGTERM stops what is delivered inside; whoever handled it before is called too. Only a process's main thread can ask for it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)

    def stop(number: int, frame: FrameType | None) -> None:
        _asked.set()
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _asked.clear()
