"""Repairs beside the stream. A backfill delivers a past range again, and a redelivery sends the bytes of a committed delivery again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

from waybill import layout
from waybill.canonical import timestamp_text
from waybill.configuration.selection import Selection
from waybill.deliveries.extraction.columns import arranged
from waybill.deliveries.extraction.extracting import within
from waybill.deliveries.kept_bytes import require_bytes
from waybill.deliveries.planning import entity_ids
from waybill.deliveries.publishing.days import publish_listings
from waybill.deliveries.running import Progress, Result, deliver_batch, silent
from waybill.errors import PermanentError, TransientError
from waybill.installation import Installation
from waybill.language import tell
from waybill.ledger import deliveries, registrations, streams
from waybill.ledger.deliveries import Delivery, NewDelivery
from waybill.ledger.registrations import Registered
from waybill.ledger.streams import Stream
from waybill.states import DeliveryStatus, Kind, Purpose
from waybill.window import export_date


def redeliver(installation: Installation, delivery_id: str, *, actor: str, progress: Progress = silent) -> Result:
    """Deliver the bytes of a committed delivery again as `<entity>.g<generation>.<sequence>.r<n>`, n from 1.

    If an unfinished redelivery of the same delivery exists, it is finished instead. Raises PermanentError if the delivery is unknown or not
    committed, or if its bytes are gone. The message then names the remaining repair.
    """
    family = _committed_family(installation, delivery_id)
    original = family[0]
    unfinished = [delivery for delivery in family if delivery.status == DeliveryStatus.OPEN]
    if not unfinished:
        with installation.ledger.read() as connection:
            adopted = deliveries.adopted_of(connection, family)
        with installation.session(installation.registered(original.tenant)) as session:
            require_bytes(installation, session, family, adopted)
        unfinished = [_plan_redelivery(installation, family, actor)]
    result = deliver_batch(installation, [unfinished[0].id], progress)[0]
    if result.error and result.error.code == "bytes_gone":  # what was left of them was damaged
        raise result.error
    publish_listings(installation, original.tenant)
    return result


def queue_redelivery(installation: Installation, tenant: str, delivery_id: str, *, actor: str) -> Delivery:
    """Plan a redelivery for the tenant's next run, without a look at the destination. An unfinished one is returned instead.

    Raises PermanentError if the tenant has no such delivery, or if it is not committed. Only the run shows whether the bytes still exist.
    """
    with installation.ledger.read() as connection:
        found = deliveries.get(connection, delivery_id)
    if found is None or found.tenant != tenant:
        raise PermanentError(tell("call.no_delivery", tenant=tenant, id=delivery_id), code="unknown_delivery")
    family = _committed_family(installation, delivery_id)
    return next((delivery for delivery in family if delivery.status == DeliveryStatus.OPEN), None) or _plan_redelivery(
        installation, family, actor
    )


def unfinished_repairs(installation: Installation, tenant: str) -> list[Delivery]:
    """Return the tenant's open redeliveries and backfills, oldest first. The next run finishes them."""
    with installation.ledger.read() as connection:
        return deliveries.open_repairs(connection, tenant)


def _committed_family(installation: Installation, delivery_id: str) -> list[Delivery]:
    """Return the original of a delivery and every repetition of it. Raises PermanentError if it is unknown or not committed."""
    with installation.ledger.read() as connection:
        found = deliveries.get(connection, delivery_id)
        family = deliveries.family(connection, found.redelivers or found.id) if found else []
    if not family:
        raise PermanentError(f"there is no delivery {delivery_id!r}", next_step="`waybill deliveries` lists them", code="unknown_delivery")
    if family[0].status != DeliveryStatus.COMMITTED:
        step = tell("call.delivered_next") if family[0].status == DeliveryStatus.OPEN else tell("call.nothing_to_send")
        raise PermanentError(tell("call.not_committed", id=family[0].id, status=family[0].status), next_step=step, code="not_committed")
    return family


def _plan_redelivery(installation: Installation, family: Sequence[Delivery], actor: str) -> Delivery:
    original = family[0]
    if installation.catalog.entity(original.entity) is None:
        what = f"the catalog has no entity {original.entity!r} any more, so its deliveries cannot be sent again"
        raise PermanentError(what, next_step="Put it back into the catalog until this one is sent", code="unknown_entity")
    # A ledger of version 0.1.0 has names that begin at 2, so the next number follows the highest one in use.
    number = 1 + max((layout.repetition(delivery.stem) for delivery in family), default=0)
    stem = layout.repeated_stem(original.entity, original.generation, original.sequence, number)
    now = installation.now()
    new = NewDelivery(
        stream=original.stream,
        tenant=original.tenant,
        entity=original.entity,
        generation=original.generation,
        sequence=original.sequence,
        purpose=Purpose.REDELIVERY,
        kind=original.kind,
        window_from=original.window_from,
        planned_to=original.planned_to,
        export_date=original.export_date,
        folder=original.folder,
        stem=stem,
        previous_sequence=original.previous_sequence,
        previous_sha256=original.previous_sha256,
        registration_version=original.registration_version,
        redelivers=original.id,
        created_at=now,
    )
    with installation.ledger.begin() as connection:
        planned = deliveries.plan(connection, new)
        if planned is not None:
            detail = {"delivery": original.id, "redelivery": planned.id}
            registrations.note(connection, original.tenant, actor, "redeliver", detail, now)
            return planned
        beside = [delivery for delivery in deliveries.family(connection, original.id) if delivery.stem == stem]
    if not beside:
        raise TransientError(f"{stem} is taken", where=original.folder, next_step="Try again", code="busy")
    return beside[0]


FIRST_YEAR = 1970
"""The first year that a backfill may name. An earlier year is a typing error: a full load delivers rows that old."""


class BadRange(PermanentError):
    """A range that cannot be delivered again: it is empty, `too_early`, or ends after `delivered_until` (None before any delivery)."""

    code = "bad_range"

    def __init__(self, what: str, stream: Stream, *, allowed: str = "", next_step: str = "", too_early: bool = False) -> None:
        super().__init__(what, where=f"tenant {stream.tenant}, entity {stream.entity}", allowed=allowed, next_step=next_step)
        self.delivered_until = stream.watermark
        self.too_early = too_early


def backfill(
    installation: Installation,
    tenant: str,
    entity: str,
    start: datetime,
    end: datetime,
    *,
    actor: str,
    again: bool = False,
    progress: Progress = silent,
) -> Result:
    """Deliver the rows of `[start, end)` as they are now, at `<entity>/backfill-<id>/`.

    The id follows from stream and range, so asking twice finishes or verifies the same backfill; `again` makes another one. Raises
    PermanentError if the tenant does not receive the entity, if the range begins before 1970 or is not completely delivered yet, or if
    no column tells the time of the entity's rows.
    """
    planned = queue_backfill(installation, tenant, entity, start, end, actor=actor, again=again)
    result = deliver_batch(installation, [planned.id], progress)[0]
    publish_listings(installation, tenant)
    return result


def queue_backfill(
    installation: Installation, tenant: str, entity: str, start: datetime, end: datetime, *, actor: str, again: bool = True
) -> Delivery:
    """Plan a backfill for the tenant's next run. An unfinished one of the same range is returned instead, or without `again` also a
    committed one. Raises as `backfill` does.
    """
    registered = installation.registered(tenant)
    (name,) = entity_ids(installation, tenant, [entity])
    with installation.ledger.read() as connection:
        stream = next(stream for stream in streams.active(connection, tenant) if stream.entity == name)
        earlier = deliveries.backfills(connection, stream.id, start, end)
    if earlier and not (again and earlier[-1].status == DeliveryStatus.COMMITTED):
        return earlier[-1]
    _check(stream, start, end)
    _rehearse(installation, registered, stream, start, end)
    return _plan_backfill(installation, registered, stream, start, end, len(earlier), actor)


def backfill_id(stream: Stream, start: datetime, end: datetime, number: int) -> str:
    """Return 12 hex digits that identify backfill `number` (from 0) of a range of a stream."""
    words = (stream.tenant, stream.entity, str(stream.generation), timestamp_text(start), timestamp_text(end), str(number))
    return hashlib.sha256("/".join(words).encode()).hexdigest()[:12]


def _check(stream: Stream, start: datetime, end: datetime) -> None:
    if start >= end:
        raise BadRange("the range is empty: --from must lie before --to", stream)
    if start.year < FIRST_YEAR:
        step = "Look at the year; a full load delivers whatever is older"
        raise BadRange(f"the range begins in the year {start.year}", stream, allowed=f"from {FIRST_YEAR}", next_step=step, too_early=True)
    if stream.watermark is None:
        step = "The first run delivers the complete history"
        raise BadRange("nothing was delivered yet, so there is nothing to backfill", stream, next_step=step)
    if end > stream.watermark:
        raise BadRange(
            f"the range ends after the last delivery, which covers everything before {timestamp_text(stream.watermark)}",
            stream,
            allowed=f"--to up to {timestamp_text(stream.watermark)}",
            next_step="What follows comes with the next run",
        )


def _rehearse(installation: Installation, registered: Registered, stream: Stream, start: datetime, end: datetime) -> None:
    """Let the source refuse what it cannot cut by time before anything is planned."""
    catalogued = installation.entity(stream.entity)
    entity = registered.registration.sees(catalogued)
    columns, _ = arranged(stream.columns, stream.schema_version, entity.columns)
    with installation.source(entity.source).snapshot([entity]) as snapshot:
        source_tenant, where = registered.registration.reads(stream.tenant, catalogued)
        snapshot.count(within(snapshot, Selection(entity, source_tenant, columns, where=where), start, end, registered.registration.zone))


def _plan_backfill(
    installation: Installation, registered: Registered, stream: Stream, start: datetime, end: datetime, number: int, actor: str
) -> Delivery:
    own = backfill_id(stream, start, end, number)
    day = export_date(end, registered.registration.zone)
    folder, now = layout.backfill_folder(stream.tenant, day, stream.entity, own), installation.now()
    new = NewDelivery(
        stream=stream.id,
        tenant=stream.tenant,
        entity=stream.entity,
        generation=stream.generation,
        sequence=0,
        purpose=Purpose.BACKFILL,
        kind=Kind.BACKFILL,
        window_from=start,
        planned_to=end,
        export_date=day.isoformat(),
        folder=folder,
        stem=stream.entity,
        registration_version=registered.version,
        created_at=now,
    )
    with installation.ledger.begin() as connection:
        planned = deliveries.plan(connection, new)
        if planned is not None:
            span = {"entity": stream.entity, "from": timestamp_text(start), "to": timestamp_text(end), "delivery": planned.id}
            registrations.note(connection, stream.tenant, actor, "backfill", span, now)
            return planned
        beside = [planned for planned in deliveries.backfills(connection, stream.id, start, end) if planned.folder == folder]
    if not beside:
        raise TransientError(f"{folder} is taken", next_step="Try again", code="busy")
    return beside[0]
