"""The sign of life of a running request. A thread writes it into the ledger, and learns there if the attempt has lost its request.

`requests.upkeep` gives up requests without such a sign.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from waybill.errors import TransientError
from waybill.ledger import Ledger
from waybill.ledger.on_demand import requests
from waybill.ledger.on_demand.request_records import ExportRequest

log = logging.getLogger(__name__)
_SOON = 1.0
"""Seconds from one try to the next after which new progress is written without waiting for the next beat."""


class AttemptLost(Exception):
    """The request was cancelled, deleted, or given up as stalled. This attempt must stop and may publish nothing."""


class Heartbeat:
    """The heartbeat of one attempt, a context manager around the work. The working thread calls `tell` and `check`."""

    def __init__(self, ledger: Ledger, request: ExportRequest, every: timedelta, now: Callable[[], datetime]) -> None:
        self._ledger, self._request, self._every, self._now = ledger, request, every.total_seconds(), now
        self._wake, self._progress, self._told = threading.Event(), request.progress, request.progress
        self._stopped, self._lost = threading.Event(), threading.Event()
        self._last = time.monotonic()
        self._thread = threading.Thread(target=self._beat_on, name=f"pulse-{request.id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopped.set()
        self._wake.set()
        self._thread.join()

    def tell(self, progress: int) -> None:
        """Report progress in whole per cent, which never falls. Raises AttemptLost."""
        self._progress = max(self._progress, progress)
        if self._progress > self._told and time.monotonic() - self._last >= _SOON:
            self._wake.set()
        self.check()

    def check(self) -> None:
        """Raise AttemptLost if the ledger has said so."""
        if self._lost.is_set():
            raise AttemptLost

    def _beat_on(self) -> None:
        while not self._lost.is_set():
            self._wake.wait(self._every)
            self._wake.clear()
            if self._stopped.is_set():
                return
            self._beat()

    def _beat(self) -> None:
        progress, self._last = self._progress, time.monotonic()
        try:
            with self._ledger.begin() as connection:
                alive = requests.beat(connection, self._request, progress, self._now())
        except TransientError:
            return  # the ledger may be back at the next beat; otherwise the request is given up as stalled
        except Exception:
            log.exception("the sign of life of export %s was not written; the next one may be", self._request.id)
            return
        if not alive:
            self._lost.set()
        self._told = progress
