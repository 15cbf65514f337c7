"""Triggers, which run in Airflow's triggerer: one that waits for a day, one that tells every day there comes to be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from airflow.sdk import BaseHook
from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

from waybill_consumer.airflow import days
from waybill_consumer.airflow.connections import opened
from waybill_consumer.airflow.days import Day
from waybill_consumer.errors import Refused, Unreachable
from waybill_consumer.places import Place

log = logging.getLogger(__name__)
_T = TypeVar("_T")


async def look(source: str, connection: str, ask: Callable[[Place], _T]) -> _T:
    """What a place says, asked in a thread. Raises Refused, Unreachable."""
    found = await BaseHook.aget_connection(connection) if connection else None

    def asked() -> _T:
        with opened(source, found) as place:
            return ask(place)

    return await asyncio.to_thread(asked)


class DayTrigger(BaseTrigger):
    """Fires once, when the day is complete. A server that is away is asked again; a login that it refuses is told to the task."""

    def __init__(self, source: str, date: str, connection: str = "", tenant: str = "", every: float = 60.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.source, self.date, self.connection, self.tenant, self.every = source, date, connection, tenant, every

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = ("source", "date", "connection", "tenant", "every")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        while True:
            try:
                found = await look(self.source, self.connection, lambda place: days.on(place, self.date, self.tenant))
            except Unreachable as error:
                log.warning("%s", error)
            except Refused as error:
                yield TriggerEvent({"problem": str(error)})  # type: ignore[no-untyped-call]
                return
            else:
                if found is not None:
                    yield TriggerEvent(found.as_json())  # type: ignore[no-untyped-call]
                    return
            await asyncio.sleep(self.every)


class DayWatcher(BaseEventTrigger):
    """Fires for every day that becomes complete, and for a later list of one of the newest days.

    It remembers nothing over a restart of the triggerer: the newest complete day is then told once more, which does a pull no harm.
    """

    def __init__(self, source: str, connection: str = "", tenant: str = "", every: float = 60.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.source, self.connection, self.tenant, self.every = source, connection, tenant, every

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = ("source", "connection", "tenant", "every")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        told: set[tuple[str, str, int]] | None = None
        while True:
            try:
                found = await look(self.source, self.connection, lambda place: days.newest(place, self.tenant))
            except Refused as error:  # a person may mend it while this waits
                log.warning("%s", error)
            else:
                for day in fresh(found, told):
                    yield TriggerEvent(day.as_json())  # type: ignore[no-untyped-call]
                told = (told or set()) | {(day.tenant, day.date, day.number) for day in found}
            await asyncio.sleep(self.every)


def fresh(found: list[Day], told: set[tuple[str, str, int]] | None) -> list[Day]:
    """What is to be told: at the beginning the newest day of each tenant, then whatever was not told."""
    if told is None:
        return list({day.tenant: day for day in found}.values())
    return [day for day in found if (day.tenant, day.date, day.number) not in told]
