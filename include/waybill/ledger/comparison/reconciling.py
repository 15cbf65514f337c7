"""Reconciling in the ledger: deliveries and days that a destination proves are brought back, and plans in their way are forgotten."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from waybill.ledger.comparison import keys
from waybill.ledger.days import Day
from waybill.ledger.deliveries import Delivery
from waybill.ledger.streams import Stream
from waybill.ledger.tables import IN_SEQUENCE, IS_OPEN, attempt, day, delivery, digest, key_change, stream
from waybill.states import DeliveryStatus, Purpose
from waybill.window import Frequency


@dataclass(frozen=True)
class Placed:
    """Where the ledger knows deliveries of a tenant to stand.

    `since`: per entity asked for, the first date at which a delivery can stand that the ledger does not know; empty where nothing was ever
    committed for the tenant. From the least of them on: `committed` (folder, stem), `planned` (date, entity) of any state, and `days`
    (date, number), the day manifests.
    """

    since: dict[str, str]
    committed: set[tuple[str, str]]
    planned: set[tuple[str, str]]
    days: set[tuple[str, int]]


def placed(connection: Connection, tenant: str, entities: Collection[str]) -> Placed:
    mine = delivery.c.tenant == tenant
    last = (delivery.c.stream == stream.c.id) & (delivery.c.sequence == stream.c.sequence)
    newest = select(delivery.c.entity, func.max(delivery.c.export_date)).join(stream, last)
    newest = newest.where(stream.c.tenant == tenant, IN_SEQUENCE, delivery.c.status == DeliveryStatus.COMMITTED)
    known = {row[0]: row[1] for row in connection.execute(newest.group_by(delivery.c.entity))}
    since = {entity: known.get(entity) or _earliest(max(known.values())) for entity in entities} if known else {}
    first = min(since.values(), default="")
    rows = connection.execute(
        select(delivery.c.export_date, delivery.c.entity, delivery.c.folder, delivery.c.stem, delivery.c.status).where(
            mine, delivery.c.export_date >= first
        )
    ).all()
    numbers = connection.execute(select(day.c.export_date, day.c.number).where(day.c.tenant == tenant, day.c.export_date >= first))
    return Placed(
        since,
        {(row.folder, row.stem) for row in rows if row.status == DeliveryStatus.COMMITTED},
        {(row.export_date, row.entity) for row in rows},
        {(row.export_date, row.number) for row in numbers},
    )


def _earliest(newest: str) -> str:
    """The first date of a delivery that followed the tenant's newest one, were its frequency changed in between."""
    at = date.fromisoformat(newest)
    return min(frequency.first_day(at) for frequency in Frequency).isoformat()


def states(connection: Connection, tenant: str) -> dict[str, str]:
    """The status of every delivery the ledger knows of a tenant, by id."""
    query = select(delivery.c.id, delivery.c.status).where(delivery.c.tenant == tenant)
    return {row.id: row.status for row in connection.execute(query)}


def unfinished(connection: Connection, tenant: str) -> set[str]:
    """Where the files of recorded attempts at open deliveries stand or will stand: the next run goes on from them."""
    query = select(attempt.c.facts, attempt.c.files).join(delivery, delivery.c.id == attempt.c.delivery)
    found = connection.execute(query.where(delivery.c.tenant == tenant, IS_OPEN))
    return {f"{row.facts['folder']}/{file['path']}" for row in found for file in [*row.files, row.facts.get("deletes")] if file}


def stream_for(connection: Connection, tenant: str, entity: str, generation: int, now: datetime) -> Stream:
    """The stream of a generation, made when it is missing: it becomes the active one when it is newer than the active one of its entity."""
    same = (stream.c.tenant == tenant, stream.c.entity == entity)
    row = connection.execute(select(stream).where(*same, stream.c.generation == generation)).one_or_none()
    if row is None:
        current = connection.execute(select(stream).where(*same, stream.c.active)).one_or_none()
        newer = False
        if current is not None and current.generation < generation:
            newer = True
            connection.execute(update(stream).where(stream.c.id == current.id).values(active=False, deactivated_at=now))
        values = {"tenant": tenant, "entity": entity, "generation": generation, "active": newer, "reason": "reconciled"}
        connection.execute(insert(stream).values(**values, activated_at=now))
        row = connection.execute(select(stream).where(*same, stream.c.generation == generation)).one()
    return Stream(**row._mapping)


def in_the_way(connection: Connection, values: dict[str, Any]) -> list[Delivery]:
    """Deliveries that hold the id, the sequence number or the place of a forgotten one, or wait behind it in an older generation."""
    same_place = (delivery.c.folder == values["folder"]) & (delivery.c.stem == values["stem"])
    condition = same_place | (delivery.c.id == values["id"])
    if values["purpose"] == Purpose.SCHEDULE:
        scheduled = (delivery.c.purpose == Purpose.SCHEDULE) & (delivery.c.status != DeliveryStatus.ABANDONED)
        condition |= scheduled & (delivery.c.stream == values["stream"]) & (delivery.c.sequence == values["sequence"])
        condition |= scheduled & (delivery.c.stream == values["stream"]) & (delivery.c.status == DeliveryStatus.OPEN)
    return [Delivery(**row._mapping) for row in connection.execute(select(delivery).where(condition))]


def forget(connection: Connection, delivery_id: str) -> None:
    """Remove a planned delivery that was never published, so that the one it stood for can come back."""
    ids = select(attempt.c.id).where(attempt.c.delivery == delivery_id)
    connection.execute(delete(digest).where(digest.c.attempt.in_(ids)))
    keys.forget(connection, key_change.c.attempt.in_(ids))
    connection.execute(delete(attempt).where(attempt.c.delivery == delivery_id))
    connection.execute(delete(delivery).where(delivery.c.id == delivery_id))


def bring_back(connection: Connection, values: dict[str, Any], adopted: dict[str, Any]) -> None:
    """Insert a committed delivery with its adopted attempt; a scheduled one moves its stream on to it."""
    connection.execute(insert(delivery).values(**values))
    connection.execute(insert(attempt).values(**adopted))
    if values["purpose"] != Purpose.SCHEDULE:
        return
    connection.execute(
        update(stream)
        .where(stream.c.id == values["stream"])
        .values(
            sequence=values["sequence"],
            watermark=values["window_to"],
            position=adopted["position_to"],
            sha256=adopted["sha256"],
            schema_version=adopted["schema_version"],
            columns=adopted["columns"],
            digests_from=None,
        )
    )


def bring_back_day(connection: Connection, manifest: Day, listed: list[str]) -> bool:
    """Insert a published day manifest, in the place of one that was only frozen. False when the ledger holds another published one."""
    same = (day.c.tenant == manifest.tenant, day.c.export_date == manifest.export_date, day.c.number == manifest.number)
    connection.execute(delete(day).where(*same, day.c.published_at.is_(None)))
    try:
        with connection.begin_nested():
            connection.execute(insert(day).values(**vars(manifest)))
    except IntegrityError:
        kept = connection.execute(select(day.c.sha256).where(*same)).scalar_one()
        return bool(kept == manifest.sha256)
    connection.execute(
        update(delivery).where(delivery.c.id.in_(listed), delivery.c.day_number.is_(None)).values(day_number=manifest.number)
    )
    return True


def committed(connection: Connection, stream_id: int) -> list[Delivery]:
    """Everything committed of a stream, of any purpose, in sequence; backfills come first."""
    query = select(delivery).where(delivery.c.stream == stream_id, delivery.c.status == DeliveryStatus.COMMITTED)
    return [Delivery(**row._mapping) for row in connection.execute(query.order_by(delivery.c.sequence, delivery.c.id))]
