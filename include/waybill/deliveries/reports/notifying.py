"""Decides which messages people are owed about scheduled deliveries: failed, at risk, late, well again, delivered.

People hear of each state of a tenant once when it begins and once when it ends. The ledger records the state together with the messages it
owes, and `sending` sends them. Airflow's deadline alerts are not used (decision 0018): they end with their run and know no recovery.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Connection

from waybill.canonical import timestamp_text
from waybill.configuration.channels import Event
from waybill.configuration.promise import Promise, PromiseState
from waybill.configuration.registration import Registration
from waybill.deliveries.reports.frequencies import by_frequency
from waybill.deliveries.reports.promises import promise_of
from waybill.installation import Installation
from waybill.ledger import deliveries, registrations, streams
from waybill.ledger.deliveries import Attempt, Delivery
from waybill.ledger.registrations import Registered
from waybill.ledger.reports import notices, overviews
from waybill.ledger.reports.notices import Alarm, ChannelFacts
from waybill.ledger.reports.overviews import Standing
from waybill.states import DeliveryStatus

if TYPE_CHECKING:
    from waybill.deliveries.reports.describing import Described

_LATE = {PromiseState.AT_RISK: Event.LATE_WARNING, PromiseState.BREACHED: Event.BREACH}
_GRAVEST = (Event.BREACH, Event.FAILED, Event.LATE_WARNING)

Committed = Callable[[Connection, Delivery, Attempt], None]


def channels_of(installation: Installation, tenant: str, registration: Registration, actor: str) -> list[ChannelFacts]:
    """Return the operator's channels and the tenant's own, in the form that a notice keeps. A `guarded` one calls public addresses only."""
    policy = installation.configuration.policy
    house = installation.configuration.export_policy(tenant).notify.every_channel
    named = policy.rules_for(tenant)
    found: list[ChannelFacts] = []
    for channel in (*house, *registration.notify):
        own, connection = channel not in house, getattr(channel, "connection", "")
        by_name = connection in named and getattr(channel, "url", None) is None
        kept = cast(ChannelFacts, channel.model_dump(mode="json"))
        guarded = own and actor.startswith("api:") and not by_name
        found.append(kept | {"after": channel.after.total_seconds(), "own": own, "guarded": guarded})
    return found


def _channels(installation: Installation, connection: Connection, tenant: str) -> list[ChannelFacts]:
    found = registrations.readable([registered] if (registered := registrations.current(connection, tenant)) else [])
    return channels_of(installation, tenant, found[0].registration, found[0].actor) if found else []


def _listening(channels: Sequence[ChannelFacts], event: Event) -> list[ChannelFacts]:
    return [channel for channel in channels if event in channel["events"]]


def on_commit(installation: Installation, registered: Registered) -> Committed:
    """Return the function that adds the owed messages to the transaction that commits a delivery."""
    channels = channels_of(installation, registered.tenant, registered.registration, registered.actor)
    listening = [channel | {"after": 0} for channel in _listening(channels, Event.DELIVERED)]

    def owe(connection: Connection, delivery: Delivery, adopted: Attempt) -> None:
        notices.owe(connection, delivery.tenant, Event.DELIVERED, listening, {}, installation.now(), delivery=delivery.id)

    return owe


def failed(installation: Installation, tenant: str, waiting: Sequence[Described]) -> bool:
    """Owe a message about the deliveries that a run left open. Returns False if people know of all of them already."""
    now = installation.now()
    with installation.ledger.begin() as connection:
        channels = _listening(_channels(installation, connection, tenant), Event.FAILED)
        before = next((alarm for alarm in notices.raised(connection, tenant) if alarm.event == Event.FAILED), None)
        known = before.detail["deliveries"] if before else []
        fresh = [trouble for trouble in waiting if trouble["delivery_id"] not in known]
        if not fresh:
            return False
        ids = {"deliveries": [*known, *(trouble["delivery_id"] for trouble in fresh)]}
        alarm = before or notices.raise_alarm(connection, tenant, Event.FAILED, ids, now)
        if alarm is None or (before and not notices.change(connection, before, ids)):
            return False  # another process sends it, or the alarm has just ended
        failures = [{key: trouble[key] for key in ("delivery_id", "entity", "sequence", "error_code", "error")} for trouble in fresh]
        notices.owe(connection, tenant, Event.FAILED, channels, {"deliveries": failures}, now, alarm=alarm.id)
    return True


@dataclass(frozen=True)
class _Status:
    """The state of a tenant now: its current promise, if any, and the raised alarms about it.

    For a tenant with several frequencies this is the gravest and oldest debt. `is_only` is true if no other one is late or at risk.
    """

    standing: Standing
    promise: Promise | None
    event: Event | None
    alarms: Sequence[Alarm]
    is_only: bool = True

    @property
    def late(self) -> list[Alarm]:
        return [alarm for alarm in self.alarms if alarm.event != Event.FAILED]

    @property
    def changed(self) -> bool:
        return [alarm.event for alarm in self.late] != ([self.event] if self.event else []) or any(
            _is_over(alarm, self) for alarm in self.late
        )


def watch(installation: Installation, tenant: str | None = None) -> list[tuple[str, Event]]:
    """Compare promises with deliveries, for all tenants or for one, and owe messages about each change. Returns the changes.

    A tenant without `deliverBy` is held to policy's `notify.late_after`, where that is set.
    """
    now = installation.now()
    with installation.ledger.read() as connection:
        alarms: dict[str, list[Alarm]] = {}
        for alarm in notices.raised(connection, tenant):
            alarms.setdefault(alarm.tenant, []).append(alarm)
        standings = by_frequency(connection, installation.configuration.catalog, overviews.standings(connection, tenant))
        each = [_status_of(installation, connection, standing, alarms.get(standing.tenant, ()), now) for standing in standings]
    statuses = [_gravest(list(parts)) for _, parts in groupby(each, key=lambda status: status.standing.tenant)]
    events = []
    for status in statuses:
        if status.changed or status.alarms:
            with installation.ledger.begin() as connection:
                events += [(status.standing.tenant, event) for event in _settle(installation, connection, status, now)]
    return events


def _status_of(installation: Installation, connection: Connection, standing: Standing, alarms: Sequence[Alarm], now: datetime) -> _Status:
    notify = installation.configuration.export_policy(standing.tenant).notify
    promise = promise_of(connection, standing, notify.warn_before, now, notify.late_after)
    return _Status(standing, promise, _LATE.get(promise.state(now)) if promise else None, alarms)


def _gravest(parts: Sequence[_Status]) -> _Status:
    def rank(status: _Status) -> tuple[int, str]:
        events = (Event.BREACH, Event.LATE_WARNING)
        boundary = timestamp_text(status.promise.boundary) if status.promise else "~"
        return events.index(status.event) if status.event else len(events), boundary

    return replace(min(parts, key=rank), is_only=sum(part.event is not None for part in parts) < 2)


def _is_over(alarm: Alarm, status: _Status) -> bool:
    """Return whether the alarm's promise is no longer the open one."""
    return status.promise is None or alarm.detail["data_until"] != timestamp_text(status.promise.boundary) or alarm.event != status.event


def _settle(installation: Installation, connection: Connection, status: _Status, now: datetime) -> list[Event]:
    """End the alarms that are over, owe a message that all is well again, and raise the new ones."""
    tenant, events = status.standing.tenant, []
    over = [alarm for alarm in status.late if _is_over(alarm, status)]
    reached = timestamp_text(status.standing.behind) if status.is_only and status.standing.behind else ""
    well = [alarm for alarm in over if alarm.detail["data_until"] <= reached]
    for raised in status.alarms:
        if raised.event == Event.FAILED:
            found = deliveries.several(connection, raised.detail["deliveries"]).values()
            if all(each.status != DeliveryStatus.OPEN for each in found):
                over.append(raised)
                well += [raised] if any(each.status == DeliveryStatus.COMMITTED for each in found) else []
    heard = _listening(notices.sent_about(connection, [alarm.id for alarm in well]), Event.RECOVERED)
    ended = {alarm.id for alarm in over if notices.clear(connection, alarm, now)}
    if ended & {alarm.id for alarm in well}:
        was = min((alarm.event for alarm in well), key=_GRAVEST.index)
        detail = {"was": was, "since": timestamp_text(min(alarm.raised_at for alarm in well)), **_reached(status.standing)}
        notices.owe(connection, tenant, Event.RECOVERED, [channel | {"after": 0} for channel in heard], detail, now)
        events.append(Event.RECOVERED)
    if status.event and status.promise and not any(alarm.event == status.event and alarm.id not in ended for alarm in status.late):
        detail = _debt(connection, status.standing, status.promise)
        if alarm := notices.raise_alarm(connection, tenant, status.event, detail, now):
            listening = _listening(_channels(installation, connection, tenant), status.event)
            notices.owe(connection, tenant, status.event, listening, detail, now, alarm=alarm.id)
            events.append(status.event)
    return events


def _reached(standing: Standing) -> dict[str, str]:
    return {"data_until": timestamp_text(standing.behind)} if standing.behind else {}


def _debt(connection: Connection, standing: Standing, promise: Promise) -> dict[str, Any]:
    """Return what is owed by when, which entities lack it, and why, if something failed."""
    troubles = {trouble.entity: trouble for trouble in reversed(overviews.troubles(connection, standing.tenant))}
    owed = [
        stream for stream in streams.active(connection, standing.tenant) if standing.entities is None or stream.entity in standing.entities
    ]
    missing = [stream.entity for stream in owed if stream.watermark is None or stream.watermark < promise.boundary]
    return {
        "data_until": timestamp_text(promise.boundary),
        "deliver_by": timestamp_text(promise.deliver_by),
        "missing": [
            {"entity": entity, "error_code": why.code if why else None, "error": why.error if why else None}
            for entity in missing
            for why in [troubles.get(entity)]
        ],
    }
