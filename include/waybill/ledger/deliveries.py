"""Deliveries and their attempts: plan, record, commit. Each function is one step inside one transaction of the caller."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from waybill.errors import TransientError
from waybill.ledger.database.engine import new_id
from waybill.ledger.database.taken import Taken, unless_taken
from waybill.ledger.delivered import keys
from waybill.ledger.delivered.digests import Digests
from waybill.ledger.facts import ColumnFacts, Facts, FileFacts, Position
from waybill.ledger.streams import Stream
from waybill.ledger.tables import IN_SEQUENCE, IS_ABANDONED, IS_OPEN, UNLISTED, attempt, delivery, digest, stream
from waybill.states import DeliveryStatus, Purpose


@dataclass(frozen=True)
class Delivery:
    """One stream and one window. `planned_to` is the boundary. `window_to` is the end that was really covered, known after the commit.

    `begun_at` is the time before which nothing at the destination can come from it. It is None for a delivery that is only planned.

    `purpose`, `kind` and `status` hold words of `waybill.states`.
    """

    id: str
    stream: int
    tenant: str
    entity: str
    generation: int
    sequence: int
    purpose: str
    kind: str
    window_from: datetime | None
    planned_to: datetime
    window_to: datetime | None
    export_date: str
    folder: str
    stem: str
    previous_sequence: int | None
    previous_sha256: str | None
    registration_version: int
    status: str
    adopted: str | None
    redelivers: str | None
    note: str
    error: str
    error_code: str
    failures: int
    created_at: datetime
    begun_at: datetime | None
    committed_at: datetime | None
    day_number: int | None
    feed_number: int | None

    @property
    def reads_all(self) -> bool:
        """Return whether it reads all rows, or a range of them, instead of the changes since the last delivery."""
        return self.purpose == Purpose.BACKFILL or (self.purpose == Purpose.SCHEDULE and self.window_from is None)


@dataclass(frozen=True, kw_only=True)
class NewDelivery:
    """What is known of a delivery when it is planned, by the names of `Delivery`."""

    stream: int
    tenant: str
    entity: str
    generation: int
    sequence: int
    purpose: Purpose
    kind: str
    window_from: datetime | None
    planned_to: datetime
    export_date: str
    folder: str
    stem: str
    previous_sequence: int | None = None
    previous_sha256: str | None = None
    registration_version: int
    redelivers: str | None = None
    created_at: datetime


@dataclass(frozen=True)
class Attempt:
    """What one attempt extracted. It is recorded before any byte can become visible. Afterwards only `publishing_at` is set."""

    id: str
    delivery: str
    window_to: datetime
    position_from: Position | None
    position_to: Position | None
    snapshot_time: datetime
    schema_version: int
    columns: list[ColumnFacts]
    facts: Facts
    files: list[FileFacts]
    rows: int
    bytes: int
    sha256: str
    possible_duplicate: bool
    note: str
    digests_from: datetime | None
    recorded_at: datetime
    publishing_at: datetime | None = None

    @property
    def deletes(self) -> FileFacts | None:
        """Return the file with the keys that are gone, if the delivery has one."""
        return self.facts.get("deletes")

    @property
    def all_files(self) -> list[FileFacts]:
        """Return the data files, and the deletes file after them if there is one."""
        return [*self.files, *([self.deletes] if self.deletes else [])]


@dataclass(frozen=True)
class LastDelivery:
    """The size of a stream's last delivery, and the window it covered."""

    bytes: int
    window_from: datetime | None
    window_to: datetime | None


def last_of(connection: Connection, streams: Sequence[int]) -> dict[int, LastDelivery]:
    """Return the last committed scheduled delivery of each of these streams that has one."""
    query = (
        select(stream.c.id, attempt.c.bytes, delivery.c.window_from, delivery.c.window_to)
        .join(delivery, (delivery.c.stream == stream.c.id) & (delivery.c.sequence == stream.c.sequence))
        .join(attempt, attempt.c.id == delivery.c.adopted)
        .where(stream.c.id.in_(streams), IN_SEQUENCE)
    )
    return {row[0]: LastDelivery(*row[1:]) for row in connection.execute(query)}


def latest_of_entity(connection: Connection, entity: str, tenant: str | None, most: int) -> list[Attempt]:
    """Return the last committed attempts of the newest streams of an entity, of one tenant or of all."""
    newest = select(stream.c.id).where(stream.c.entity == entity, stream.c.sequence > 0)
    # Each in the order of the index that answers it.
    own = newest.where(stream.c.tenant == tenant).order_by(stream.c.generation.desc())
    ids = connection.scalars((own if tenant is not None else newest.order_by(stream.c.id.desc())).limit(most)).all()
    query = (
        select(attempt)
        .join(delivery, attempt.c.id == delivery.c.adopted)
        .join(stream, (delivery.c.stream == stream.c.id) & (delivery.c.sequence == stream.c.sequence))
        .where(stream.c.id.in_(ids), IN_SEQUENCE)
    )
    return [Attempt(**row._mapping) for row in connection.execute(query)] if ids else []


def last_columns(connection: Connection, streams: Sequence[int]) -> dict[int, list[ColumnFacts]]:
    """Return the columns in the manifest of each stream's last committed delivery, by stream."""
    query = (
        select(stream.c.id, attempt.c.facts)
        .join(delivery, (delivery.c.stream == stream.c.id) & (delivery.c.sequence == stream.c.sequence))
        .join(attempt, attempt.c.id == delivery.c.adopted)
        .where(stream.c.id.in_(streams), IN_SEQUENCE)
    )
    return {row[0]: row[1].get("columns", []) for row in connection.execute(query)}


def get(connection: Connection, delivery_id: str) -> Delivery | None:
    row = connection.execute(select(delivery).where(delivery.c.id == delivery_id)).one_or_none()
    return None if row is None else Delivery(**row._mapping)


def several(connection: Connection, ids: Sequence[str]) -> dict[str, Delivery]:
    """Return the deliveries with these ids that exist, by id."""
    rows = connection.execute(select(delivery).where(delivery.c.id.in_(ids)))
    return {row.id: Delivery(**row._mapping) for row in rows}


def open_of(connection: Connection, stream_id: int) -> Delivery | None:
    """Return the stream's open scheduled delivery, if any. A stream has at most one."""
    row = connection.execute(
        select(delivery).where(delivery.c.stream == stream_id, IS_OPEN, delivery.c.purpose == Purpose.SCHEDULE)
    ).one_or_none()
    return None if row is None else Delivery(**row._mapping)


def open_windows(connection: Connection) -> tuple[int, datetime | None]:
    """Return how many scheduled deliveries are open, and when the first of them was planned."""
    query = select(func.count(), func.min(delivery.c.created_at)).where(IS_OPEN, delivery.c.purpose == Purpose.SCHEDULE)
    count, first = connection.execute(query).one()
    return count, first


_OF_FEW = {DeliveryStatus.OPEN.value: IS_OPEN, DeliveryStatus.ABANDONED.value: IS_ABANDONED}
"""States that few deliveries are in have an index of their own. A database uses it only for a condition without a parameter."""


def listed(
    connection: Connection, tenant: str | None = None, *, entity: str = "", limit: int = 1000, before: str = "", status: str = ""
) -> list[Delivery]:
    """Return deliveries, newest first. The list goes on after the delivery with the id `before`."""
    if tenant and entity and not connection.execute(select(stream.c.id).filter_by(tenant=tenant, entity=entity).limit(1)).first():
        return []  # without a walk through the tenant's whole history
    query = select(delivery).order_by(delivery.c.id.desc()).limit(limit)
    for column, value in ((delivery.c.tenant, tenant), (delivery.c.entity, entity)):
        if value:
            query = query.where(column == value)
    if status:
        query = query.where(_OF_FEW.get(status, delivery.c.status == status))
    if before:
        query = query.where(delivery.c.id < before)
    return [Delivery(**row._mapping) for row in connection.execute(query)]


def committed_since(connection: Connection, tenant: str, first: str) -> list[Delivery]:
    """Return the tenant's committed scheduled deliveries from the id `first` on, oldest first. Ids rise with the time of planning."""
    query = select(delivery).where(
        delivery.c.tenant == tenant,
        delivery.c.id >= first,
        delivery.c.status == DeliveryStatus.COMMITTED,
        delivery.c.purpose == Purpose.SCHEDULE,
    )
    return [Delivery(**row._mapping) for row in connection.execute(query.order_by(delivery.c.id))]


def unlisted_since(connection: Connection, tenant: str, instant: datetime) -> list[Delivery]:
    """Return the tenant's scheduled deliveries committed since an instant that no day manifest lists yet."""
    query = select(delivery).where(delivery.c.tenant == tenant, UNLISTED, delivery.c.purpose == Purpose.SCHEDULE)
    return [Delivery(**row._mapping) for row in connection.execute(query.where(delivery.c.committed_at >= instant))]


def is_first_of_day(connection: Connection, tenant: str, entity: str, export_date: str) -> bool:
    """Return whether nothing of the entity was ever planned under this date. Backfills do not count: they have their own folders."""
    same = (delivery.c.tenant == tenant, delivery.c.entity == entity, delivery.c.export_date == export_date)
    taken = select(func.count()).where(*same, delivery.c.purpose != Purpose.BACKFILL)
    return connection.execute(taken).scalar_one() == 0


def plan(connection: Connection, new: NewDelivery) -> Delivery | None:
    """Insert a delivery. Returns None if another worker has just planned one for the same stream."""
    try:
        with unless_taken(connection, delivery, "uq_delivery_open", "uq_delivery_sequence", "uq_delivery_folder"):
            row = connection.execute(
                insert(delivery).values(id=new_id(), status=DeliveryStatus.OPEN, **vars(new)).returning(delivery)
            ).one()
    except Taken:
        return None
    return Delivery(**row._mapping)


def begin(connection: Connection, delivery_id: str, now: datetime) -> None:
    """Note that a worker is about to touch the destination for a delivery. The first time counts."""
    connection.execute(update(delivery).where(delivery.c.id == delivery_id, delivery.c.begun_at.is_(None)).values(begun_at=now))


def record(connection: Connection, new: Attempt, stream_id: int, digests: Sequence[bytes]) -> Attempt:
    """Record an attempt and its version digests, given as blobs of 16 byte digests. Returns it as the ledger keeps it."""
    recorded = connection.execute(insert(attempt).values(**vars(new)).returning(attempt)).one()
    rows = [{"attempt": new.id, "chunk": number, "stream": stream_id, "digests": blob} for number, blob in enumerate(digests)]
    if rows:
        connection.execute(insert(digest), rows)
    return Attempt(**recorded._mapping)


def known_digests(connection: Connection, stream_id: int) -> Digests:
    """Return the version digests promoted by the stream's last commit."""
    promoted = select(digest.c.digests).join(attempt, attempt.c.id == digest.c.attempt).join(delivery, delivery.c.id == attempt.c.delivery)
    query = promoted.where(digest.c.stream == stream_id, delivery.c.adopted == attempt.c.id, delivery.c.status == DeliveryStatus.COMMITTED)
    return Digests(connection.execute(query).scalars())


def attempts(connection: Connection, delivery_id: str) -> list[Attempt]:
    """Return all recorded attempts of a delivery, oldest first."""
    query = select(attempt).where(attempt.c.delivery == delivery_id).order_by(attempt.c.recorded_at, attempt.c.id)
    return [Attempt(**row._mapping) for row in connection.execute(query)]


def mark_publishing(connection: Connection, attempt_id: str, now: datetime) -> None:
    """Note that this attempt's file may become visible from now on."""
    connection.execute(update(attempt).where(attempt.c.id == attempt_id).values(publishing_at=now))


def adopt(connection: Connection, preferred: Attempt) -> Attempt:
    """Choose which of several attempts with equal files a delivery adopts, and return it: the one chosen before, else `preferred`.

    Raises TransientError if another worker chooses differently at the same moment.
    """
    mine = (delivery.c.id == preferred.delivery, delivery.c.status == DeliveryStatus.OPEN)
    if connection.execute(update(delivery).where(*mine, delivery.c.adopted.is_(None)).values(adopted=preferred.id)).rowcount == 1:
        return preferred
    chosen = connection.execute(select(delivery.c.adopted).where(delivery.c.id == preferred.delivery)).scalar_one_or_none()
    # Read after the choice, because another worker may have recorded the chosen attempt only now.
    found = next((attempt for attempt in attempts(connection, preferred.delivery) if attempt.id == chosen), None)
    if found is not None and found.files == preferred.files:
        return found
    taken = chosen is not None and connection.execute(
        update(delivery).where(*mine, delivery.c.adopted == chosen).values(adopted=preferred.id)
    )
    if not taken or taken.rowcount != 1:
        raise TransientError(
            "another worker is at the same delivery", where=f"delivery {preferred.delivery}", next_step="Run again", code="overtaken"
        )
    return preferred


def forget_adopted(connection: Connection, delivery_id: str, attempt_id: str) -> None:
    """Take back an adoption if its files vanished before COMMIT."""
    same = (delivery.c.id == delivery_id, delivery.c.adopted == attempt_id, delivery.c.status == DeliveryStatus.OPEN)
    connection.execute(update(delivery).where(*same).values(adopted=None))


def commit(connection: Connection, closing: Delivery, adopted: Attempt, now: datetime) -> bool:
    """Close the delivery and move its stream forward, in one compare and set.

    Returns False, and changes nothing, if another worker did so first.
    """
    closed = update(delivery).where(delivery.c.id == closing.id, delivery.c.status == DeliveryStatus.OPEN)
    done = connection.execute(
        closed.values(
            status=DeliveryStatus.COMMITTED,
            adopted=adopted.id,
            window_to=adopted.window_to,
            committed_at=now,
            note=adopted.note,
            error="",
            error_code="",
        )
    )
    if done.rowcount != 1:
        return False
    if "deletes" in adopted.facts:
        keys.settle(connection, closing.stream, closing.id, adopted.id)
    if closing.purpose != Purpose.SCHEDULE:
        return True
    moved = connection.execute(
        update(stream)
        .where(stream.c.id == closing.stream, stream.c.sequence == closing.sequence - 1)
        .values(
            sequence=closing.sequence,
            watermark=adopted.window_to,
            position=adopted.position_to,
            sha256=adopted.sha256,
            schema_version=adopted.schema_version,
            columns=adopted.columns,
            digests_from=adopted.digests_from,
        )
    )
    if moved.rowcount != 1:
        raise RuntimeError(f"stream {closing.stream} is not at sequence {closing.sequence - 1}")  # the unique indexes make this unreachable
    connection.execute(delete(digest).where(digest.c.stream == closing.stream, digest.c.attempt != adopted.id))
    return True


def fail(connection: Connection, delivery_id: str, error: str, code: str) -> None:
    """Keep the last failure of an open delivery, for people to read."""
    connection.execute(
        update(delivery)
        .where(delivery.c.id == delivery_id, delivery.c.status == DeliveryStatus.OPEN)
        .values(error=error, error_code=code, failures=delivery.c.failures + 1)
    )


def adopted_of(connection: Connection, deliveries: Iterable[Delivery]) -> dict[str, Attempt]:
    """Return the adopted attempts of committed deliveries, by delivery id."""
    ids = [delivery.adopted for delivery in deliveries if delivery.adopted]
    found: dict[str, Attempt] = {}
    for start in range(0, len(ids), 500):
        query = select(attempt).where(attempt.c.id.in_(ids[start : start + 500]))
        found |= {row.delivery: Attempt(**row._mapping) for row in connection.execute(query)}
    return found


def scheduled(connection: Connection, stream_id: int, sequence: int) -> Delivery | None:
    """Return the committed delivery that has this sequence in its stream."""
    same = (delivery.c.stream == stream_id, delivery.c.sequence == sequence, delivery.c.purpose == Purpose.SCHEDULE)
    row = connection.execute(select(delivery).where(*same, delivery.c.status == DeliveryStatus.COMMITTED)).first()
    return Delivery(**row._mapping) if row else None


def stream_of(connection: Connection, planned: Delivery) -> Stream:
    return Stream(**connection.execute(select(stream).where(stream.c.id == planned.stream)).one()._mapping)


def open_repairs(connection: Connection, tenant: str) -> list[Delivery]:
    """Return the tenant's backfills and redeliveries that are not finished, oldest first."""
    query = select(delivery).where(delivery.c.tenant == tenant, IS_OPEN, delivery.c.purpose != Purpose.SCHEDULE)
    return [Delivery(**row._mapping) for row in connection.execute(query.order_by(delivery.c.id))]


def backfills(connection: Connection, stream_id: int, start: datetime, end: datetime) -> list[Delivery]:
    """Return all backfills of a stream over exactly this range, oldest first."""
    same = (
        delivery.c.stream == stream_id,
        delivery.c.purpose == Purpose.BACKFILL,
        delivery.c.window_from == start,
        delivery.c.planned_to == end,
    )
    query = select(delivery).where(*same, delivery.c.status != DeliveryStatus.ABANDONED).order_by(delivery.c.id)
    return [Delivery(**row._mapping) for row in connection.execute(query)]


def family(connection: Connection, original: str) -> list[Delivery]:
    """Return a delivery and every repetition of it, the original first."""
    query = select(delivery).where(or_(delivery.c.id == original, delivery.c.redelivers == original)).order_by(delivery.c.id)
    return [Delivery(**row._mapping) for row in connection.execute(query)]


def abandon(connection: Connection, delivery_id: str, reason: str) -> None:
    """Abandon an open delivery."""
    closed = update(delivery).where(delivery.c.id == delivery_id, delivery.c.status == DeliveryStatus.OPEN)
    connection.execute(closed.values(status=DeliveryStatus.ABANDONED, note=reason))
