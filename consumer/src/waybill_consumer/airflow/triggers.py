"""Triggers, which run in Airflow's triggerer. One waits for a day, and one reports every day that becomes complete."""

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
from waybill_consumer.errors import Refused, Unreachable, without_password
from waybill_consumer.places import Place

log = logging.getLogger(__name__)
_T = TypeVar("_T")
KnownDay = tuple[str, str, int]
"""Tenant, date, and the number of the date's list."""


async def look(source: str, connection: str, ask: Callable[[Place], _T]) -> _T:
    """Ask a place, in a thread. Raises Refused, Unreachable."""
    found = await BaseHook.aget_connection(connection) if connection else None

    def asked() -> _T:
        with opened(source, found) as place:
            return ask(place)

    return await asyncio.to_thread(asked)


class DayTrigger(BaseTrigger):
    """Fires once, when the day is complete. A server that is away is asked again. If it refuses a login, the task hears of it."""

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

    It keeps what it reported in Airflow's store of the asset's state. So after a restart of the triggerer it reports what became complete
    meanwhile. A day whose event may not have reached Airflow's database is reported once more, which does a pull no harm.
    """

    def __init__(self, source: str, connection: str = "", tenant: str = "", every: float = 60.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.source, self.connection, self.tenant, self.every = source, connection, tenant, every

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = ("source", "connection", "tenant", "every")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        known = await self._remembered()
        while True:
            since = _newest(known or set())
            try:
                found = await look(self.source, self.connection, partial(days.newest, tenant=self.tenant, since=since))
            except Exception as error:  # Airflow would not start the watcher again; a person may mend it meanwhile
                if isinstance(error, Refused):
                    log.warning("%s", error)
                else:
                    log.exception("%s could not be looked at, and is looked at again", without_password(self.source))
                await asyncio.sleep(self.every)
                continue
            news = fresh(found, known)
            for day in news:
                yield TriggerEvent(day.as_json())  # type: ignore[no-untyped-call]
            is_first = known is None
            known = _recent((known or set()) | {(day.tenant, day.date, day.number) for day in found})
            await asyncio.sleep(self.every)
            if news or is_first:  # by now the events have reached Airflow's database
                await self._remember(known)

    async def _remembered(self) -> set[KnownDay] | None:
        """Return what was reported before the triggerer started, or None if nobody knows."""
        try:
            kept: Any = await self.asset_state_store.aget(self.store_key()) if self.asset_state_store is not None else None
            return {(str(tenant), str(date), int(number)) for tenant, date, number in kept} if isinstance(kept, list) else None
        except (ValueError, TypeError, AirflowRuntimeError) as error:  # several assets share this trigger, or it is not what was kept
            log.warning("What was told before is not known, so the newest day is told once more: %s", error)
            return None

    async def _remember(self, known: set[KnownDay]) -> None:
        if self.asset_state_store is not None:
            with contextlib.suppress(ValueError, AirflowRuntimeError):
                await self.asset_state_store.aset(self.store_key(), [list(told_of) for told_of in sorted(known)])

    def store_key(self) -> str:
        """Return a key for each place that is watched, because several watchers may share one asset."""
        return f"waybill-days-{hashlib.sha256(repr((self.source, self.connection, self.tenant)).encode()).hexdigest()[:16]}"


def _newest(known: set[KnownDay]) -> dict[str, str]:
    """Return the newest date that was reported of each tenant."""
    return {tenant: date for tenant, date, _ in sorted(known)}


def _recent(known: set[KnownDay]) -> set[KnownDay]:
    """Return the newest dates of each tenant. Nobody looks at older ones."""
    dates: dict[str, list[str]] = {}
    for tenant, date in sorted({(tenant, date) for tenant, date, _ in known}):
        dates.setdefault(tenant, []).append(date)
    return {(tenant, date, number) for tenant, date, number in known if date in dates[tenant][-2 * days.RECENT :]}


def fresh(found: list[Day], known: set[KnownDay] | None) -> list[Day]:
    """Return what to report: at the beginning the newest day of each tenant, then everything that was not reported."""
    if known is None:
        return list({day.tenant: day for day in found}.values())
    return [day for day in found if (day.tenant, day.date, day.number) not in known]
