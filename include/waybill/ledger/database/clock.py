"""The clock that every process of an installation uses: that of the ledger, whatever the machine's own clock says."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import func, select

from waybill.errors import TransientError
from waybill.ledger.database.engine import Ledger
from waybill.window import utc_now

_EVERY = 60.0
"""Seconds after which the clocks are compared again."""
_ALIKE = timedelta(seconds=2)
"""Clocks that differ by less than this count as equal: the time of an answer differs from call to call."""


class LedgerClock:
    """Returns the time of the ledger's database, in aware UTC.

    So one clock writes and judges every heartbeat, and a worker with a wrong clock loses nobody's export. A SQLite ledger is on the machine
    itself and has no other clock. While the ledger does not answer, the last comparison counts.
    """

    def __init__(self, ledger: Ledger, local: Callable[[], datetime] = utc_now) -> None:
        self._ledger, self._local = ledger, local
        self._ahead, self._compared = timedelta(0), float("-inf")

    def __call__(self) -> datetime:
        if self._ledger.engine.dialect.name == "postgresql" and time.monotonic() - self._compared >= _EVERY:
            self._compare()
        return self._local() + self._ahead

    def _compare(self) -> None:
        self._compared = time.monotonic()
        try:
            with self._ledger.read() as connection:
                there: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
        except TransientError:
            return
        ahead = there - self._local()
        self._ahead = ahead if abs(ahead) >= _ALIKE else timedelta(0)
