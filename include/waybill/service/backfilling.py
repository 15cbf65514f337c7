"""Backfill: a past range delivered again on purpose, apart from the stream, whose sequence and watermark stay as they are."""

from __future__ import annotations

import hashlib
from datetime import datetime

from waybill import layout, schema
from waybill.canonical import timestamp_text
from waybill.errors import PermanentError, TransientError
from waybill.extraction import ranged
from waybill.ledger import deliveries, registrations, repairs, streams
from waybill.ledger.deliveries import Delivery
from waybill.ledger.registrations import Registered
from waybill.ledger.streams import Stream
from waybill.selection import Selection
from waybill.service.estate import Estate
from waybill.service.planning import entity_ids
from waybill.service.running import Progress, Result, deliver, silent
from waybill.window import export_date

FIRST_YEAR = 1970
"""No change is dated earlier than computers count their time: an earlier year is a slip of the hand. What is older a full load brings."""


class BadRange(PermanentError):
    """A range that cannot be delivered again: empty, `too_early`, or ending after `delivered_until`, None while nothing was delivered."""

    code = "bad_range"

    def __init__(self, what: str, stream: Stream, *, allowed: str = "", next_step: str = "", too_early: bool = False) -> None:
        super().__init__(what, where=f"tenant {stream.tenant}, entity {stream.entity}", allowed=allowed, next_step=next_step)
        self.delivered_until = stream.watermark
        self.too_early = too_early


def backfill(
    estate: Estate,
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

    The id follows from stream and range: asking twice finishes or verifies the same backfill, `again` makes another. Raises PermanentError
    when the tenant does not receive the entity, the range begins before 1970 or is not wholly delivered yet, or the entity's rows cannot be
    told apart by time.
    """
    registered = estate.registered(tenant)
    (name,) = entity_ids(estate, tenant, [entity])
    with estate.ledger.begin() as connection:
        stream = next(one for one in streams.active(connection, tenant) if one.entity == name)
        earlier = repairs.backfills(connection, stream.id, start, end)
    if earlier and not (again and earlier[-1].status == "committed"):
        return deliver(estate, [earlier[-1].id], progress)[0]
    _check(stream, start, end)
    _rehearse(estate, stream, start, end)
    return deliver(estate, [_plan(estate, registered, stream, start, end, len(earlier), actor).id], progress)[0]


def queue_backfill(estate: Estate, tenant: str, entity: str, start: datetime, end: datetime, *, actor: str) -> Delivery:
    """Plan a backfill for the tenant's next run; an unfinished one of the same range is returned instead. Raises as `backfill`."""
    registered = estate.registered(tenant)
    (name,) = entity_ids(estate, tenant, [entity])
    with estate.ledger.begin() as connection:
        stream = next(one for one in streams.active(connection, tenant) if one.entity == name)
        earlier = repairs.backfills(connection, stream.id, start, end)
    if earlier and earlier[-1].status == "open":
        return earlier[-1]
    _check(stream, start, end)
    _rehearse(estate, stream, start, end)
    return _plan(estate, registered, stream, start, end, len(earlier), actor)


def backfill_id(stream: Stream, start: datetime, end: datetime, number: int) -> str:
    """12 hex digits that stand for the `number`th backfill (from 0) of a range of a stream."""
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


def _rehearse(estate: Estate, stream: Stream, start: datetime, end: datetime) -> None:
    """Let the source refuse what it cannot cut by time before anything is planned."""
    entity = estate.entity(stream.entity)
    columns, _ = schema.arranged(stream.columns, stream.schema_version, entity.columns)
    with estate.source(entity.source).snapshot() as snapshot:
        snapshot.count(ranged(Selection(entity, stream.tenant, columns), start, end))


def _plan(estate: Estate, registered: Registered, stream: Stream, start: datetime, end: datetime, number: int, actor: str) -> Delivery:
    own = backfill_id(stream, start, end, number)
    day = export_date(end, registered.registration.zone)
    folder, now = layout.backfill_folder(stream.tenant, day, stream.entity, own), estate.now()
    values = {
        "stream": stream.id,
        "tenant": stream.tenant,
        "entity": stream.entity,
        "generation": stream.generation,
        "sequence": 0,
        "purpose": "backfill",
        "kind": "backfill",
        "window_from": start,
        "planned_to": end,
        "export_date": day.isoformat(),
        "folder": folder,
        "stem": stream.entity,
        "registration_version": registered.version,
        "created_at": now,
    }
    with estate.ledger.begin() as connection:
        planned = deliveries.plan(connection, values)
        if planned is not None:
            span = {"entity": stream.entity, "from": timestamp_text(start), "to": timestamp_text(end), "delivery": planned.id}
            registrations.note(connection, stream.tenant, actor, "backfill", span, now)
            return planned
        beside = [one for one in repairs.backfills(connection, stream.id, start, end) if one.folder == folder]
    if not beside:
        raise TransientError(f"{folder} is taken", next_step="Try again", code="busy")
    return beside[0]
