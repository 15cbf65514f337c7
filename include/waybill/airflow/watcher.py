"""The trigger that watches the ledger for export requests. With it, the API needs no right to start runs, and no start can be lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from waybill.airflow import open_installation
from waybill.errors import WaybillError

REMIND = 60.0
"""Seconds after which a waiting request is announced again, because a run may have died before it claimed anything."""

log = logging.getLogger(__name__)


class RequestWatcher(BaseEventTrigger):
    """Fires when a request waits that it has not announced yet. It remembers nothing over a restart, and that is harmless: a request is
    claimed once, however often it is announced.
    """

    def __init__(self, every: float = 1.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.every = every

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", {"every": self.every}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        announced: dict[str, float] = {}
        installation: Any = None
        while True:
            try:
                if installation is None:
                    installation = await asyncio.to_thread(open_installation)
                found = await asyncio.to_thread(_look, installation)
            except Exception as error:  # Airflow would not start the trigger again, and no request would be announced
                if isinstance(error, WaybillError):
                    log.warning("%s", error)
                else:
                    log.exception("the ledger's requests could not be looked at, and are looked at again")
                    installation = None
                found = []
                await asyncio.sleep(self.every * 10)
            now = time.monotonic()
            fresh = [word for word in found if now - announced.get(word, -REMIND) >= REMIND]
            announced = {word: announced.get(word, now) for word in found} | dict.fromkeys(fresh, now)
            if fresh:
                yield TriggerEvent({"waiting": len(fresh), "first": fresh[:10]})  # type: ignore[no-untyped-call]
            await asyncio.sleep(self.every)


def _look(installation: Any) -> list[str]:
    from waybill.requests.upkeep import waiting

    # A fresh copy has not read its configuration, so a changed policy counts from now on.
    return waiting(replace(installation))
