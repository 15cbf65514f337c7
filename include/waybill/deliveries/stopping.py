"""Stops deliveries on SIGTERM (Airflow kills a task, a pod ends): reading and sending end early and clean up.

If the file of a delivery is about to become visible, the delivery goes on to its commit. These last steps are short.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from waybill.errors import TransientError

CHECK_SECONDS = 0.5
"""Seconds between two checks whether the process has to stop, while something waits."""

_asked = threading.Event()


def is_asked_to_stop() -> bool:
    """Return whether the process has received SIGTERM."""
    return _asked.is_set()


def check() -> None:
    """Raise TransientError if the process has received SIGTERM."""
    if is_asked_to_stop():
        raise TransientError(
            "the process was told to stop (SIGTERM) before the file was whole", next_step="The next run delivers it", code="stopped"
        )


@contextmanager
def on_sigterm() -> Iterator[None]:
    """Stop the deliveries inside this block on SIGTERM, then call the earlier handler. Only the main thread can set a handler."""
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
