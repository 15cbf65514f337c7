"""PLAN, step 1 of the delivery protocol: it decides which deliveries are due and freezes them in the ledger.

Before that it asks the sources of what is due for their time, and brings the tenant's streams up to what the catalog offers now. A stream
for which a full load was asked begins its new generation here, and so does one that was delivered by a clock that was ahead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from waybill import layout
from waybill.configuration.catalog import Catalog, Entity, Mode, closest
from waybill.configuration.registration import Registration, resolve_entities
from waybill.errors import PermanentError, WaybillError
from waybill.installation import Installation
from waybill.language import tell
from waybill.ledger import deliveries, registrations, streams
from waybill.ledger.deliveries import Delivery, NewDelivery
from waybill.ledger.registrations import Provenance, Registered
from waybill.ledger.streams import Stream
from waybill.registrations.applying import replace_in
from waybill.states import GenerationReason, Kind, Purpose
from waybill.window import Window, export_date, next_window

_ALIKE = timedelta(minutes=1)
"""Clocks that differ by less than this count as equal: a standby that was promoted has one of its own."""

_WAITED_FOR = timedelta(minutes=30)
"""A lag that a delivery may outlast: Airflow tries again for that long. A longer one may be on purpose, and would fail every night."""


@dataclass(frozen=True)
class _SourceTime:
    """Up to when deliveries are planned: the earlier of what was asked for and the source's own `clock`, which is None while the source is
    out of reach. Of a standby or replica that is kept further behind than deliveries wait, what it shows counts.
    """

    until: datetime
    clock: datetime | None

    def passed(self, stream: Stream) -> bool:
        """Return whether the stream was delivered up to a time that has not come yet: the clock was ahead then, and was set back.

        A delta would begin at that time, and leave out all that changes until then.
        """
        return self.clock is not None and stream.watermark is not None and stream.watermark > self.clock + _ALIKE


def plan(installation: Installation, tenant: str, until: datetime, *, entities: Collection[str] = ()) -> list[Delivery]:
    """Plan what is due for a tenant, and return its open and newly planned deliveries, by entity.

    `entities` (ids or display names) narrows the streams that are looked at. Raises PermanentError for an unknown tenant or entity.
    """
    registered = installation.registered(tenant)
    if registered.registration.is_disabled:
        return []
    chosen = entity_ids(installation, tenant, entities)
    wanted, _ = resolve_entities(registered.registration, installation.catalog.offered_to(tenant), "")
    with installation.ledger.read() as connection:
        active = streams.active(connection, tenant)
        due = _due(connection, installation, registered, active, until) | {*wanted}.difference(stream.entity for stream in active)
    clocks = _source_clocks(installation, due & chosen if chosen else due, until)
    with installation.ledger.begin() as connection:
        active = _synchronized(connection, installation, registered)
        return _plan_streams(connection, installation, registered, active, clocks, until, chosen)


def plan_after(installation: Installation, tenant: str, until: datetime, delivered: Collection[str]) -> list[Delivery]:
    """Plan what is due once these entities are delivered. Nothing is written, and no source is asked, where that is nothing."""
    registered = installation.registered(tenant)
    with installation.ledger.read() as connection:
        due = _due(connection, installation, registered, streams.active(connection, tenant), until).intersection(delivered)
    return plan(installation, tenant, until, entities=due) if due else []


def preview(installation: Installation, tenant: str, until: datetime) -> list[Delivery]:
    """Return what `plan` would return after `apply`. Nothing is written, so the ids of new deliveries mean nothing.

    Raises PermanentError for a tenant that neither the ledger nor a file knows.
    """
    file = installation.configuration.file_of(tenant)
    registration = file.registration if file else installation.registered(tenant).registration
    coming, _ = resolve_entities(registration, installation.catalog.offered_to(tenant), "")
    with installation.ledger.read() as connection:
        active = {stream.entity for stream in streams.active(connection, tenant)}
    clocks = _source_clocks(installation, active.union(coming), until)
    with installation.ledger.rolled_back() as connection:
        if file is not None:
            replace_in(connection, installation, tenant, file.registration, file.entities, by=Provenance("preview", "preview"))
        registered = registrations.current(connection, tenant)
        if registered is None or registered.registration.is_disabled:
            return []
        synchronized = _synchronized(connection, installation, registered)
        return _plan_streams(connection, installation, registered, synchronized, clocks, until, set())


def _plan_streams(
    connection: Connection,
    installation: Installation,
    registered: Registered,
    active: Iterable[Stream],
    clocks: Mapping[str, _SourceTime],
    until: datetime,
    chosen: set[str],
) -> list[Delivery]:
    found: list[Delivery] = []
    for stream in active:
        if not chosen or stream.entity in chosen:
            entity = installation.catalog.entity(stream.entity)
            time = clocks.get(entity.source) if entity else _SourceTime(until, None)
            planned = _plan_stream(connection, installation, stream, entity, registered, time)
            found += [planned] if planned else []
    return found


def undelivered(installation: Installation, tenant: str) -> list[str]:
    """Return the active entities whose current generation has delivered nothing yet."""
    with installation.ledger.read() as connection:
        return [stream.entity for stream in streams.active(connection, tenant) if stream.watermark is None]


def entity_ids(installation: Installation, tenant: str, words: Collection[str]) -> set[str]:
    """Return the ids of entities that are given by id or display name. Raises PermanentError for one that the tenant does not receive."""
    if not words:
        return set()
    names = installation.catalog.ids_by_name()
    with installation.ledger.read() as connection:
        active = {stream.entity for stream in streams.active(connection, tenant)}
    wanted = {names.get(word.strip().casefold(), word.strip()) for word in words}
    if unknown := sorted(wanted - active):
        meant = closest(unknown[0], active)
        allowed = ", ".join(sorted(active)) + (f"; did you mean {meant}?" if meant else "")
        raise PermanentError(
            tell("call.not_received", tenant=tenant, entities=", ".join(unknown)),
            allowed=allowed or tell("call.nothing_registered"),
            code="not_registered",
        )
    return wanted


def _synchronized(connection: Connection, installation: Installation, registered: Registered) -> list[Stream]:
    """Return the active streams, with the entities that joined the catalog later for a tenant with `export all`. Planning never
    deactivates one.
    """
    wanted, _ = resolve_entities(registered.registration, installation.catalog.offered_to(registered.tenant), "")
    active = streams.active(connection, registered.tenant)
    new = [entity for entity in wanted if entity not in {stream.entity for stream in active}]
    if not new:
        return active
    streams.activate(connection, registered.tenant, new, installation.now(), GenerationReason.CATALOGUED)
    return streams.active(connection, registered.tenant)


def _due(connection: Connection, installation: Installation, registered: Registered, active: Iterable[Stream], until: datetime) -> set[str]:
    """Return the entities for which a delivery may be due. Those of a source whose clock is behind `until` are due no sooner."""
    here = _SourceTime(until, installation.now())
    next_of = partial(_window, connection, registered.registration, installation.configuration.catalog, here)
    return {stream.entity for stream in active if stream.full_load or here.passed(stream) or next_of(stream)}


def _source_clocks(installation: Installation, entities: Iterable[str], until: datetime) -> dict[str, _SourceTime]:
    """Return, by source of these entities, up to when it may be read.

    If a source is out of reach, this machine's clock counts: its deliveries are planned, fail with the source's own message, and are
    finished later.
    """
    names = {entity.source for name in entities if (entity := installation.catalog.entity(name))}
    clocks = {}
    for name in names:
        try:
            with installation.source(name).snapshot() as snapshot:
                lags_long = snapshot.clock - snapshot.taken_at > _WAITED_FOR
                clocks[name] = _SourceTime(min(until, snapshot.taken_at if lags_long else snapshot.clock), snapshot.clock)
        except WaybillError:
            clocks[name] = _SourceTime(min(until, installation.now()), None)
    return clocks


def _plan_stream(
    connection: Connection,
    installation: Installation,
    stream: Stream,
    entity: Entity | None,
    registered: Registered,
    time: _SourceTime | None,
) -> Delivery | None:
    """Return the stream's open delivery or plan its next one.

    Nothing is due where the source's clock was not asked: what has become due only since then waits for the next run.
    """
    existing = deliveries.open_of(connection, stream.id)
    if existing is not None:
        return existing
    now, was_ahead = installation.now(), time is not None and time.passed(stream)
    if stream.full_load or was_ahead:
        reason = GenerationReason.CLOCK_WAS_AHEAD if was_ahead else GenerationReason.FULL_LOAD_ASKED
        registrations.begin_generation(connection, stream.tenant, stream.entity, reason, now)
        stream = next(active for active in streams.active(connection, stream.tenant) if active.entity == stream.entity)
    window = _window(connection, registered.registration, installation.configuration.catalog, time, stream) if time else None
    if window is None:
        return None
    kind = Kind.FULL if window.is_full or (entity is not None and entity.changes.mode is Mode.FULL) else Kind.DELTA
    return deliveries.plan(connection, _next(connection, stream, window, kind, registered, now))


def _window(connection: Connection, registration: Registration, catalog: Catalog, time: _SourceTime, stream: Stream) -> Window | None:
    """Return the window that is due for a stream at its entity's frequency, or None."""
    no_later = time.clock + _ALIKE if time.clock else None
    reached = streams.reached(connection, stream.tenant, stream.entity, no_later) if stream.watermark is None else None
    return next_window(registration.frequency_of(stream.entity, catalog), registration.zone, time.until, stream.watermark, reached)


def _next(connection: Connection, stream: Stream, window: Window, kind: Kind, registered: Registered, now: datetime) -> NewDelivery:
    """Return the stream's next delivery, over this window."""
    day = export_date(window.end, registered.registration.zone)
    # What an unknown delivery of the date has left must not be in the way.
    unseen = stream.reason == GenerationReason.MANIFESTS_COLLECTED and stream.sequence == 0
    first = not unseen and deliveries.is_first_of_day(connection, stream.tenant, stream.entity, day.isoformat())
    return NewDelivery(
        stream=stream.id,
        tenant=stream.tenant,
        entity=stream.entity,
        generation=stream.generation,
        sequence=stream.sequence + 1,
        purpose=Purpose.SCHEDULE,
        kind=kind,
        window_from=window.start,
        planned_to=window.end,
        export_date=day.isoformat(),
        folder=layout.entity_folder(stream.tenant, day, stream.entity),
        stem=layout.stem(stream.entity, stream.generation, stream.sequence + 1, first_of_day=first),
        previous_sequence=stream.sequence or None,
        previous_sha256=stream.sha256,
        registration_version=registered.version,
        created_at=now,
    )
