"""Counts rows that consumers hold and the source no longer has. `reconcile` reports them for every stream.

If the entity compares keys, the ledger knows what a consumer holds. Otherwise it follows from the delivered files, while they exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import islice

from waybill.canonical import ColumnType, csv_line
from waybill.configuration.catalog import Entity, Mode
from waybill.configuration.selection import FileStyle, Selection
from waybill.deliveries.kept_bytes import BytesGone, delivered_texts, find_bytes
from waybill.deliveries.key_changes import changes, keysets
from waybill.deliveries.key_changes.changes import key_columns
from waybill.deliveries.key_changes.keysets import Buckets, ByBucket, Held, Step
from waybill.deliveries.manifests import is_encrypted
from waybill.destinations import Session
from waybill.files.manifest import csv_of, records_of
from waybill.files.records import fields_of
from waybill.installation import Installation
from waybill.ledger import deliveries, registrations
from waybill.ledger.delivered import restoring
from waybill.ledger.deliveries import Attempt, Delivery
from waybill.ledger.registrations import Registered
from waybill.ledger.streams import Stream
from waybill.registrations.filling import source_of
from waybill.sources import Snapshot
from waybill.states import Kind, Purpose

_AT_ONCE = 10_000
_NUMBERS = (ColumnType.INTEGER, ColumnType.DECIMAL, ColumnType.FLOAT)
_SPELT_AS_GIVEN = (ColumnType.STRING, ColumnType.BOOLEAN, ColumnType.DATE)
"""The types whose values files spell as the catalog does."""


def count(
    installation: Installation, registered: Registered, session: Session, stream: Stream, entity: Entity
) -> tuple[int, int, int] | None:
    """Return how many of the consumer's keys are gone, how many it holds, and how many the source has. None if that is unknown."""
    if not set(entity.delivered_key) <= entity.columns.keys() or (entity.changes.mode is Mode.FULL and not entity.compares_keys):
        return None
    folder = installation.settings.spool_dir
    with installation.ledger.read() as connection:
        salt = registrations.salt(connection, stream.tenant)
    source_tenant, where = registered.registration.reads(registered.tenant, installation.entity(entity.id))
    selection = Selection(entity, source_tenant, key_columns(entity), salt=salt, where=where, in_key_order=False)
    with installation.source(entity.source).snapshot([entity]) as snapshot:
        exact = entity.compares_keys
        consumer_keys = (
            changes.known(installation.ledger, stream, entity, snapshot) if exact else _of_files(installation, session, stream, entity)
        )
        if consumer_keys is None:
            return None
        here = _keys_in_source(snapshot, selection, Buckets(folder), exact=exact)
    gone = total = 0
    for bucket in range(keysets.BUCKETS):
        held = consumer_keys(bucket).rows
        total += len(held)
        gone += len(held.keys() - here.at(bucket).keys())
    return gone, total, here.count


def _keys_in_source(snapshot: Snapshot, selection: Selection, found: Buckets, *, exact: bool) -> Buckets:
    for block, _ in snapshot.csv(selection, FileStyle()):
        records = keysets.records(block)
        found.add(records if exact else [_loose(fields_of(record.decode())) for record in records])
    return found


def _loose(fields: list[str | None]) -> bytes:
    """Return a key's record in which NULL and the empty string are the same, because a file that is read back may not show which."""
    return csv_line([field or None for field in fields], line_end="").encode()


def _of_files(installation: Installation, session: Session, stream: Stream, entity: Entity) -> Callable[[int], Held] | None:
    """Return the keys that a consumer of all delivered files holds, bucket by bucket.

    None if a file is gone, is encrypted, or holds other keys, or if its rows do not show which of them are deleted.
    """
    with installation.ledger.read() as connection:
        committed = [delivery for delivery in restoring.committed(connection, stream.id) if delivery.purpose != Purpose.REDELIVERY]
        adopted = deliveries.adopted_of(connection, committed)
    committed.sort(key=lambda closed: (closed.committed_at or closed.created_at, closed.id))
    steps: list[Step] = []
    for delivery in committed:
        attempt = adopted[delivery.id]
        exports = {source_of(column): column.get("export", "yes") for column in attempt.columns}
        if is_encrypted(attempt) or any(exports.get(column.source(name)) != column.export for name, column in key_columns(entity).items()):
            return None
        is_deleted = _deletion_test(entity, [source_of(column) for column in attempt.columns])
        if is_deleted is None:
            return None
        try:
            steps.append(_step(installation, session, delivery, attempt, entity, is_deleted))
        except BytesGone:
            return None
    return keysets.consumer_keys(steps)


def _step(
    installation: Installation,
    session: Session,
    delivery: Delivery,
    attempt: Attempt,
    entity: Entity,
    is_deleted: Callable[[list[str]], bool],
) -> Step:
    """Return the step of one delivery's files. Raises BytesGone if a file is gone."""
    folder = installation.settings.spool_dir
    added, gone = Buckets(folder), Buckets(folder)
    dialect = csv_of(attempt.facts["csv"])
    names = [source_of(column) for column in attempt.columns]
    at = [names.index(name) for name in entity.key]
    files = find_bytes(installation, session, [delivery], {delivery.id: attempt})
    for number, blocks in enumerate(files):
        rows = records_of(blocks(), dialect) if number >= len(attempt.files) else delivered_texts(attempt, blocks())
        if number >= len(attempt.files):
            _add(gone, (_loose(list(record[:-1])) for record in rows))
            continue
        while some := list(islice(rows, _AT_ONCE)):
            added.add([_loose([record[i] for i in at]) for record in some if not is_deleted(record)])
            gone.add([_loose([record[i] for i in at]) for record in some if is_deleted(record)])
    all_added, all_gone = (ByBucket(keysets.packed(keys, folder).blobs()) for keys in (added, gone))
    return Step(delivery.kind == Kind.FULL, all_added, all_gone)


def _add(found: Buckets, records: Iterator[bytes]) -> None:
    while some := list(islice(records, _AT_ONCE)):
        found.add(some)


def _deletion_test(entity: Entity, names: list[str]) -> Callable[[list[str]], bool] | None:
    """Return what tells whether a delivered row marks itself as deleted. The consumer keeps such a row as a tombstone, so it is not stale.

    `names` are the source's. None if a delivered text does not show what the source compares, such as an order or a time.
    """
    state = entity.deleted_when
    if entity.tombstone_column and entity.deleted_column in names:
        at = names.index(entity.deleted_column)
        return lambda record: record[at] != ""
    if not state or state.column not in names:
        return lambda record: False
    at, column = names.index(state.column), entity.columns.get(entity.exported(state.column) or "")
    shows_value = column is not None and column.export == "yes" and column.type in (*_NUMBERS, *_SPELT_AS_GIVEN)
    read: Callable[[str], str | Decimal] = Decimal if column is not None and column.type in _NUMBERS else str
    values = {read(str(value).lower() if isinstance(value, bool) else str(value)) for value in state.values()}
    match state.op:
        case "is null":
            return lambda record: record[at] == ""
        case "is not null":
            return lambda record: record[at] != ""
        case "=" | "in" if shows_value:
            return lambda record: record[at] != "" and read(record[at]) in values
        case "!=" | "not in" if shows_value:
            return lambda record: record[at] != "" and read(record[at]) not in values
    return None
