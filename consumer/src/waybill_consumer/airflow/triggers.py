"""Triggers, which run in Airflow's triggerer: one that waits for a day, one that tells every day there comes to be."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, TypeVar

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

from waybill_consumer.airflow import days
from waybill_consumer.airflow.connections import opened
from waybill_consumer.airflow.days import Day
from waybill_consumer.errors import Refused, Unreachable
from waybill_consumer.places import Place

log = logging.getLogger(__name__)
_T = TypeVar("_T")
Told = tuple[str, str, int]
"""Tenant, date, and the number of the date's list."""


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

    What it told it keeps in Airflow's store of the asset's state, so after a restart of the triggerer it tells what became complete
    meanwhile. A day whose event may not have reached Airflow's database before is told once more, which does a pull no harm.
    """

    def __init__(self, source: str, connection: str = "", tenant: str = "", every: float = 60.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.source, self.connection, self.tenant, self.every = source, connection, tenant, every

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = ("source", "connection", "tenant", "every")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        told = await self._remembered()
        while True:
            since = _newest(told or set())
            try:
                found = await look(self.source, self.connection, partial(days.newest, tenant=self.tenant, since=since))
            except Refused as error:  # a person may mend it while this waits
                log.warning("%s", error)
                await asyncio.sleep(self.every)
                continue
            news = fresh(found, told)
            for day in news:
                yield TriggerEvent(day.as_json())  # type: ignore[no-untyped-call]
            is_first = told is None
            told = _recent((told or set()) | {(day.tenant, day.date, day.number) for day in found})
            await asyncio.sleep(self.every)
            if news or is_first:  # by now the events have reached Airflow's database
                await self._remember(told)

    async def _remembered(self) -> set[Told] | None:
        """What was told before the triggerer was started; None where nobody knows."""
        try:
            kept: Any = await self.asset_state_store.aget(self._place()) if self.asset_state_store is not None else None
            return {(str(tenant), str(date), int(number)) for tenant, date, number in kept} if isinstance(kept, list) else None
        except (ValueError, TypeError, AirflowRuntimeError) as error:  # several assets share this trigger, or it is not what was kept
            log.warning("What was told before is not known, so the newest day is told once more: %s", error)
            return None

    async def _remember(self, told: set[Told]) -> None:
        if self.asset_state_store is not None:
            with contextlib.suppress(ValueError, AirflowRuntimeError):
                await self.asset_state_store.aset(self._place(), [list(told_of) for told_of in sorted(told)])

    def _place(self) -> str:
        """One for each place that is watched: several watchers may stand behind one asset."""
        return f"waybill-days-{hashlib.sha256(repr((self.source, self.connection, self.tenant)).encode()).hexdigest()[:16]}"


def _newest(told: set[Told]) -> dict[str, str]:
    """The newest date that was told of each tenant."""
    return {tenant: date for tenant, date, _ in sorted(told)}


def _recent(told: set[Told]) -> set[Told]:
    """The newest dates of each tenant: what is older is not looked at."""
    dates: dict[str, list[str]] = {}
    for tenant, date in sorted({(tenant, date) for tenant, date, _ in told}):
        dates.setdefault(tenant, []).append(date)
    return {(tenant, date, number) for tenant, date, number in told if date in dates[tenant][-2 * days.RECENT :]}


def fresh(found: list[Day], told: set[Told] | None) -> list[Day]:
    """What is to be told: at the beginning the newest day of each tenant, then whatever was not told."""
    if told is None:
        return list({day.tenant: day for day in found}.values())
    return [day for day in found if (day.tenant, day.date, day.number) not in told]
