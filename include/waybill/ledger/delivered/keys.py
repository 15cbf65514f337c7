"""The keys that a stream has delivered, as changes by attempt. A comparison needs them to find keys that are gone from the source.

A change is recorded with its attempt and counts from the commit on, in the order of `number`. A `whole` change holds every key and replaces
all changes up to the number in `after`. Blobs are opaque here: `added`, `gone`, and until the commit the `file` itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import count, islice
from typing import TypedDict

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from waybill.errors import TransientError
from waybill.ledger.database.engine import Ledger
from waybill.ledger.database.taken import Taken, unless_taken
from waybill.ledger.tables import attempt, delivery, key_blob, key_change
from waybill.states import DeliveryStatus

_AT_ONCE = 8


class KeySpelling(TypedDict, total=False):
    """What decides the text of a key: its columns as [source, type, export], and the native types of decimals. A redelivery has none.

    Where whole rows are compared, also what decides their versions: `rows` has the delivered columns, those of the key first.
    """

    key: list[list[str]]
    natives: dict[str, str]
    rows: list[list[str]]


@dataclass(frozen=True)
class NewChange:
    """What an attempt changes. `sequence` is that of its delivery (0: a backfill). `held` counts the keys after a `whole` change, `changed`
    its own.
    """

    stream: int
    sequence: int
    made_of: KeySpelling
    whole: bool = False
    after: int = 0
    held: int = 0
    changed: int = 0
    compared_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Change(NewChange):
    """A recorded change. `number` is None until its attempt is adopted."""

    attempt: str
    blobs: dict[str, int]
    number: int | None


def record(connection: Connection, attempt_id: str, change: NewChange, blobs: dict[str, Iterable[bytes]]) -> None:
    """Record the change of an attempt with its blobs, by kind."""
    connection.execute(insert(key_change).values(attempt=attempt_id, **asdict(change), blobs={}))
    counts = {}
    for kind, found in blobs.items():
        part = count()
        waiting = iter(found)
        while some := list(islice(waiting, _AT_ONCE)):
            connection.execute(insert(key_blob), [{"attempt": attempt_id, "kind": kind, "part": next(part), "data": data} for data in some])
        counts[kind] = next(part)
    connection.execute(update(key_change).where(key_change.c.attempt == attempt_id).values(blobs=counts))


def changes(connection: Connection, stream: int) -> list[Change]:
    """Return the committed changes that count, in order: the last whole one, and those committed since it was read."""
    query = select(key_change).where(key_change.c.stream == stream, key_change.c.number.is_not(None)).order_by(key_change.c.number)
    found = [Change(**row._mapping) for row in connection.execute(query)]
    base = next((change for change in reversed(found) if change.whole), None)
    if base is None:
        return []
    return [base, *(change for change in found if change is not base and (change.number or 0) > base.after)]


def known(connection: Connection, those: Sequence[int]) -> dict[int, KeySpelling]:
    """Return those of these streams whose delivered keys are known, with what their keys are made of."""
    if not those:
        return {}
    counting = key_change.c.whole, key_change.c.number.is_not(None)
    query = select(key_change.c.stream, key_change.c.made_of).where(key_change.c.stream.in_(those), *counting)
    return {row.stream: row.made_of for row in connection.execute(query.order_by(key_change.c.number))}


def blobs(ledger: Ledger, change: Change, kind: str) -> Iterator[bytes]:
    """Yield the blobs of a kind, in order, each in its own transaction. Raises TransientError if they were removed meanwhile."""
    for part in range(change.blobs.get(kind, 0)):
        wanted = (key_blob.c.attempt == change.attempt, key_blob.c.kind == kind, key_blob.c.part == part)
        with ledger.read() as connection:
            data = connection.execute(select(key_blob.c.data).where(*wanted)).scalar_one_or_none()
        if data is None:
            raise TransientError("another worker has committed the delivery meanwhile", next_step="Run again", code="overtaken")
        yield data


def of_attempt(connection: Connection, attempt_id: str) -> Change | None:
    row = connection.execute(select(key_change).where(key_change.c.attempt == attempt_id)).one_or_none()
    return None if row is None else Change(**row._mapping)


def settle(connection: Connection, stream: int, delivery_id: str, adopted: str) -> None:
    """Let the adopted attempt's change count. Drop the changes of other attempts, and those that a whole change replaces.

    Raises TransientError if another delivery of the stream is committed at the same moment.
    """
    others = select(attempt.c.id).where(attempt.c.delivery == delivery_id, attempt.c.id != adopted)
    forget(connection, key_change.c.attempt.in_(others))
    own = of_attempt(connection, adopted)
    if own is None or not own.made_of:  # a redelivery changes nothing
        forget(connection, key_change.c.attempt == adopted)
        return
    last = connection.execute(select(func.max(key_change.c.number)).where(key_change.c.stream == stream)).scalar_one()
    try:
        with unless_taken(connection, key_change, "uq_key_change_stream"):
            connection.execute(update(key_change).where(key_change.c.attempt == adopted).values(number=(last or 0) + 1))
    except Taken as error:
        what = "another delivery of the stream is being committed"
        raise TransientError(what, where=f"delivery {delivery_id}", next_step="Run again", code="overtaken") from error
    connection.execute(delete(key_blob).where(key_blob.c.attempt == adopted, key_blob.c.kind == "file"))
    if own.whole:
        forget(connection, (key_change.c.stream == stream) & (key_change.c.number <= own.after))


def forget(connection: Connection, which: ColumnElement[bool]) -> None:
    """Remove changes with their blobs."""
    connection.execute(delete(key_blob).where(key_blob.c.attempt.in_(select(key_change.c.attempt).where(which))))
    connection.execute(delete(key_change).where(which))


def forget_unfinished(connection: Connection) -> None:
    """Remove the changes of attempts whose delivery was closed without them: a worker believed dead may record one late."""
    closed = (
        select(key_change.c.attempt)
        .join(attempt, attempt.c.id == key_change.c.attempt)
        .join(delivery, delivery.c.id == attempt.c.delivery)
        .where(key_change.c.number.is_(None), delivery.c.status != DeliveryStatus.OPEN)
    )
    forget(connection, key_change.c.attempt.in_(list(connection.execute(closed).scalars())))
