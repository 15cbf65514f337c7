"""Restores deliveries and days that a destination proves, and removes plans that are in their way."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from waybill import layout
from waybill.ledger.database.taken import Taken, unless_taken
from waybill.ledger.days import Day
from waybill.ledger.delivered import keys
from waybill.ledger.deliveries import Attempt, Delivery
from waybill.ledger.streams import Stream
from waybill.ledger.tables import IN_SEQUENCE, IS_OPEN, attempt, day, delivery, digest, key_change, stream
from waybill.states import DeliveryStatus, GenerationReason, Purpose


@dataclass(frozen=True)
class KnownPlaces:
    """The places of a tenant's deliveries that the ledger knows.

    `since` is, by entity, the first date that can hold an unknown delivery. That is any date (an empty text) of an entity of which nothing
    was ever committed, because a lost ledger may have delivered it long before another entity. `since` is empty if nothing was ever
    committed for the tenant. From the earliest of these dates on: `committed` (folder, stem), `touched`, the folders and names that
    deliveries which have begun explain, and `days` (date, number), the day manifests.
    """

    since: dict[str, str]
    committed: set[tuple[str, str]]
    touched: set[str]
    days: set[tuple[str, int]]


def placed(connection: Connection, tenant: str, entities: Collection[str]) -> KnownPlaces:
    mine = delivery.c.tenant == tenant
    last = (delivery.c.stream == stream.c.id) & (delivery.c.sequence == stream.c.sequence)
    newest = select(delivery.c.entity, func.max(delivery.c.export_date)).join(stream, last)
    newest = newest.where(stream.c.tenant == tenant, IN_SEQUENCE, delivery.c.status == DeliveryStatus.COMMITTED)
    known = {row[0]: row[1] for row in connection.execute(newest.group_by(delivery.c.entity))}
    since = {entity: known.get(entity, "") for entity in entities} if known else {}
    first = min(since.values(), default="")
    known_places = select(
        delivery.c.export_date, delivery.c.entity, delivery.c.folder, delivery.c.stem, delivery.c.status, delivery.c.begun_at
    ).where(mine, delivery.c.export_date >= first)
    rows = connection.execute(known_places.where(delivery.c.entity.in_(entities)) if known else known_places).all()
    numbers = connection.execute(select(day.c.export_date, day.c.number).where(day.c.tenant == tenant, day.c.export_date >= first))
    return KnownPlaces(
        since,
        {(row.folder, row.stem) for row in rows if row.status == DeliveryStatus.COMMITTED},
        {
            place
            for row in rows
            if row.begun_at is not None or row.status == DeliveryStatus.COMMITTED
            for place in _places(tenant, row.export_date, row.entity, f"{row.folder}/{row.stem}")
        },
        {(row.export_date, row.number) for row in numbers},
    )


def _places(tenant: str, export_date: str, entity: str, named: str) -> tuple[str, str, str]:
    """Return everything that a delivery makes at its destination: the folders of its date and entity, and its own name."""
    day = date.fromisoformat(export_date)
    return layout.day_folder(tenant, day), layout.entity_folder(tenant, day, entity), named


def states(connection: Connection, tenant: str) -> dict[str, str]:
    """Return the status of every delivery the ledger knows of a tenant, by id."""
    query = select(delivery.c.id, delivery.c.status).where(delivery.c.tenant == tenant)
    return {row.id: row.status for row in connection.execute(query)}


def unfinished(connection: Connection, tenant: str) -> set[str]:
    """Return the places of recorded attempts at open deliveries. The next run goes on from them."""
    found = connection.execute(_FILES.where(delivery.c.tenant == tenant, IS_OPEN))
    return {place for row in found for place in _file_places(row)}


def committed_files(connection: Connection, tenant: str) -> dict[str, str]:
    """Return the id of each committed delivery by the places of its files."""
    found = connection.execute(_FILES.where(delivery.c.tenant == tenant, delivery.c.adopted == attempt.c.id))
    return {place: row.delivery for row in found for place in _file_places(row)}


_FILES = select(attempt.c.delivery, attempt.c.facts, attempt.c.files).join(delivery, delivery.c.id == attempt.c.delivery)


def _file_places(row: Any) -> list[str]:
    return [f"{row.facts['folder']}/{file['path']}" for file in [*row.files, row.facts.get("deletes")] if file]


def stream_for(connection: Connection, tenant: str, entity: str, generation: int, now: datetime) -> Stream:
    """Return the stream of a generation. A missing one is made, and becomes the active one if it is newer than that of its entity."""
    same = (stream.c.tenant == tenant, stream.c.entity == entity)
    row = connection.execute(select(stream).where(*same, stream.c.generation == generation)).one_or_none()
    if row is None:
        current = connection.execute(select(stream).where(*same, stream.c.active)).one_or_none()
        newer = False
        if current is not None and current.generation < generation:
            newer = True
            connection.execute(update(stream).where(stream.c.id == current.id).values(active=False, deactivated_at=now))
        values = {"tenant": tenant, "entity": entity, "generation": generation, "active": newer, "reason": GenerationReason.RECONCILED}
        connection.execute(insert(stream).values(**values, activated_at=now))
        row = connection.execute(select(stream).where(*same, stream.c.generation == generation)).one()
    return Stream(**row._mapping)


def in_the_way(connection: Connection, back: Delivery) -> list[Delivery]:
    """Return the deliveries that hold the id, sequence or place of a forgotten one, or wait behind it in an older generation."""
    same_place = (delivery.c.folder == back.folder) & (delivery.c.stem == back.stem)
    condition = same_place | (delivery.c.id == back.id)
    if back.purpose == Purpose.SCHEDULE:
        scheduled = (delivery.c.purpose == Purpose.SCHEDULE) & (delivery.c.status != DeliveryStatus.ABANDONED)
        condition |= scheduled & (delivery.c.stream == back.stream) & (delivery.c.sequence == back.sequence)
        condition |= scheduled & (delivery.c.stream == back.stream) & (delivery.c.status == DeliveryStatus.OPEN)
    return [Delivery(**row._mapping) for row in connection.execute(select(delivery).where(condition))]


def forget(connection: Connection, delivery_id: str) -> None:
    """Remove a planned delivery that was never published, so that the delivery of the destination can be restored."""
    ids = select(attempt.c.id).where(attempt.c.delivery == delivery_id)
    connection.execute(delete(digest).where(digest.c.attempt.in_(ids)))
    keys.forget(connection, key_change.c.attempt.in_(ids))
    connection.execute(delete(attempt).where(attempt.c.delivery == delivery_id))
    connection.execute(delete(delivery).where(delivery.c.id == delivery_id))


def bring_back(connection: Connection, back: Delivery, adopted: Attempt) -> None:
    """Insert a committed delivery with its adopted attempt. A scheduled one moves its stream forward.

    No manifest tells which keys a backfill held, so those of its stream are no longer known.
    """
    connection.execute(insert(delivery).values(**vars(back)))
    connection.execute(insert(attempt).values(**vars(adopted)))
    if back.purpose == Purpose.BACKFILL:
        keys.forget(connection, key_change.c.stream == back.stream)
    if back.purpose != Purpose.SCHEDULE:
        return
    connection.execute(
        update(stream)
        .where(stream.c.id == back.stream)
        .values(
            sequence=back.sequence,
            watermark=back.window_to,
            position=adopted.position_to,
            sha256=adopted.sha256,
            schema_version=adopted.schema_version,
            columns=adopted.columns,
            digests_from=None,
        )
    )


def published_days(connection: Connection, tenant: str) -> set[str]:
    """Return the hashes of the day manifests that the ledger knows as published."""
    query = select(day.c.sha256).where(day.c.tenant == tenant, day.c.published_at.is_not(None))
    return set(connection.execute(query).scalars())


def bring_back_day(connection: Connection, manifest: Day, listed: list[str]) -> bool:
    """Insert a published day manifest. It replaces one that was only frozen. Returns False if the ledger holds another published one."""
    same = (day.c.tenant == manifest.tenant, day.c.export_date == manifest.export_date, day.c.number == manifest.number)
    connection.execute(delete(day).where(*same, day.c.published_at.is_(None)))
    try:
        with unless_taken(connection, day, "pk_day"):
            connection.execute(insert(day).values(**vars(manifest)))
    except Taken:
        kept = connection.execute(select(day.c.sha256).where(*same)).scalar_one()
        return bool(kept == manifest.sha256)
    connection.execute(
        update(delivery).where(delivery.c.id.in_(listed), delivery.c.day_number.is_(None)).values(day_number=manifest.number)
    )
    return True


def committed(connection: Connection, stream_id: int) -> list[Delivery]:
    """Return every committed delivery of a stream, of any purpose, in sequence. Backfills come first."""
    query = select(delivery).where(delivery.c.stream == stream_id, delivery.c.status == DeliveryStatus.COMMITTED)
    return [Delivery(**row._mapping) for row in connection.execute(query.order_by(delivery.c.sequence, delivery.c.id))]
