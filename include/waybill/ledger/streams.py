"""Streams: each is (tenant, entity, generation) and owns a sequence and a watermark.

Streams begin and end here. They move elsewhere, each time in the transaction that commits a delivery: `ledger.deliveries.commit` moves
sequence and watermark, and so does `ledger.delivered.restoring` for a delivery that a manifest brings back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, insert, select, update

from waybill.ledger.facts import ColumnFacts, Position
from waybill.ledger.tables import delivery, stream
from waybill.states import DeliveryStatus, GenerationReason, Purpose


@dataclass(frozen=True)
class Stream:
    """`sequence`, `watermark`, `position` and `sha256` are those of the last committed delivery; `columns` its columns in file order.

    `reason` is a word of `GenerationReason`, or a sentence about the source or the catalog.
    """

    id: int
    tenant: str
    entity: str
    generation: int
    active: bool
    reason: str
    sequence: int
    watermark: datetime | None
    position: Position | None
    sha256: str | None
    schema_version: int
    columns: list[ColumnFacts] | None
    digests_from: datetime | None
    full_load: bool
    activated_at: datetime
    deactivated_at: datetime | None


def active(connection: Connection, tenant: str) -> list[Stream]:
    """Return the tenant's active streams, by entity."""
    query = select(stream).where(stream.c.tenant == tenant, stream.c.active).order_by(stream.c.entity)
    return [Stream(**row._mapping) for row in connection.execute(query)]


def active_entities(connection: Connection, only: str) -> dict[str, list[str]]:
    """Return the active entities of every tenant that has any, or of `only` that one if it is not empty. They are ordered by entity."""
    query = select(stream.c.tenant, stream.c.entity).where(stream.c.active).order_by(stream.c.tenant, stream.c.entity)
    found: dict[str, list[str]] = {}
    for tenant, entity in connection.execute(query.where(stream.c.tenant == only) if only else query):
        found.setdefault(tenant, []).append(entity)
    return found


def samples(connection: Connection) -> list[Stream]:
    """Return one active stream of each entity that has delivered something."""
    newest = select(func.max(stream.c.id)).where(stream.c.active, stream.c.watermark.is_not(None)).group_by(stream.c.entity)
    return [Stream(**row._mapping) for row in connection.execute(select(stream).where(stream.c.id.in_(newest)).order_by(stream.c.entity))]


@dataclass(frozen=True)
class StreamProgress:
    """The progress of an active stream, and since when it is active."""

    entity: str
    watermark: datetime | None
    activated_at: datetime


def reached_by_all(connection: Connection, only: Collection[str] | None) -> dict[str, list[StreamProgress]]:
    """Return the progress of the active streams of every tenant, or of `only` these, by entity, in one query."""
    query = select(stream.c.tenant, stream.c.entity, stream.c.watermark, stream.c.activated_at).where(stream.c.active)
    if only is not None:
        query = query.where(stream.c.tenant.in_(list(only)))
    found: dict[str, list[StreamProgress]] = {}
    for row in connection.execute(query.order_by(stream.c.tenant, stream.c.entity)):
        found.setdefault(row[0], []).append(StreamProgress(*row[1:]))
    return found


def every(connection: Connection, tenant: str) -> list[Stream]:
    """Return all streams that the tenant ever had, by entity, newest generation first."""
    query = select(stream).where(stream.c.tenant == tenant).order_by(stream.c.entity, stream.c.generation.desc())
    return [Stream(**row._mapping) for row in connection.execute(query)]


def get(connection: Connection, stream_id: int) -> Stream:
    return Stream(**connection.execute(select(stream).where(stream.c.id == stream_id)).one()._mapping)


def reached(connection: Connection, tenant: str, entity: str, no_later: datetime | None = None) -> datetime | None:
    """Return how far any generation of the entity has been delivered, leaving out times after `no_later`."""
    query = select(stream.c.watermark).where(stream.c.tenant == tenant, stream.c.entity == entity, stream.c.watermark.is_not(None))
    return max((each for each in connection.execute(query).scalars() if no_later is None or each <= no_later), default=None)


def activate(
    connection: Connection,
    tenant: str,
    entities: Iterable[str],
    now: datetime,
    reason: str = GenerationReason.REGISTERED,
    *,
    least: int = 1,
) -> None:
    """Begin a generation of each entity, numbered `least` or more. Its first delivery is a full load.

    Column order and schema version continue from the last generation.
    """
    for entity in entities:
        before = select(stream).where(stream.c.tenant == tenant, stream.c.entity == entity).order_by(stream.c.generation.desc()).limit(1)
        last = connection.execute(before).one_or_none()
        schema = {"columns": last.columns, "schema_version": last.schema_version} if last else {}
        number = max(last.generation + 1 if last else 1, least)
        values = {"tenant": tenant, "entity": entity, "generation": number, "active": True, "reason": reason, "activated_at": now}
        connection.execute(insert(stream).values(**values, **schema))


def deactivate(connection: Connection, tenant: str, entities: Iterable[str], now: datetime) -> None:
    """End the active streams of these entities. Their open deliveries are abandoned, and committed ones stay as they are.

    Open backfills and redeliveries are still carried out, because they do not belong to the stream's sequence.
    """
    names = list(entities)
    if not names:
        return
    ended = select(stream.c.id).where(stream.c.tenant == tenant, stream.c.entity.in_(names), stream.c.active)
    ids = connection.execute(ended).scalars().all()
    connection.execute(
        update(delivery)
        .where(delivery.c.stream.in_(ids), delivery.c.status == DeliveryStatus.OPEN, delivery.c.purpose == Purpose.SCHEDULE)
        .values(status=DeliveryStatus.ABANDONED, note="the stream was ended")
    )
    connection.execute(update(stream).where(stream.c.id.in_(ids)).values(active=False, deactivated_at=now))


def begin_generation(connection: Connection, tenant: str, entity: str, now: datetime, reason: str, *, least: int = 1) -> None:
    """End the active stream and begin the next generation, numbered `least` or more. It begins with a full load."""
    deactivate(connection, tenant, [entity], now)
    activate(connection, tenant, [entity], now, reason, least=least)


def ask_full_load(connection: Connection, tenant: str, entities: Iterable[str]) -> None:
    """Queue full history for the next run of these active entities."""
    these = (stream.c.tenant == tenant, stream.c.entity.in_(list(entities)), stream.c.active)
    connection.execute(update(stream).where(*these).values(full_load=True))
