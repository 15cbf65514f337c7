"""Compares a source with its deliveries, window by window, by counts and by keys, and names the smallest repair.

A row that was changed again has left its old window, so a source may hold fewer rows than were delivered. Each row that it holds must be
the version of its key that was delivered last, except in the last look back: the next delta brings the late rows of that. So a row whose
change time was set back, to a version that was delivered long ago, is found as well.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from waybill.canonical import parse_timestamp, timestamp_text
from waybill.configuration.catalog import Entity, Mode
from waybill.configuration.selection import ChangeSpan, FileStyle, Selection
from waybill.configuration.values.columns import Column, sources
from waybill.deliveries.comparison import stale_rows
from waybill.deliveries.extraction.row_versions import reach
from waybill.deliveries.kept_bytes import BytesGone, delivered_texts, find_bytes
from waybill.deliveries.manifests import is_encrypted
from waybill.destinations import Session
from waybill.errors import counted
from waybill.files.manifest import csv_of, records_of
from waybill.installation import Installation
from waybill.ledger import deliveries, streams
from waybill.ledger.delivered import restoring
from waybill.ledger.deliveries import Attempt, Delivery
from waybill.ledger.registrations import Registered
from waybill.ledger.streams import Stream
from waybill.registrations.filling import source_of
from waybill.sources import Snapshot
from waybill.states import Purpose
from waybill_consumer.manifest import Csv

_TICK = timedelta(microseconds=1)
_PLAIN = Csv()
_GONE = 0
"""Stands for the version of a key whose row was reported as gone."""


@dataclass(frozen=True)
class Difference:
    """A window in which the source holds rows that consumers do not: `missing` or more. `command` repairs it.

    If `gone` is set, it is about delivered rows that the source no longer holds.
    """

    entity: str
    start: datetime | None
    end: datetime
    source_rows: int
    delivered_rows: int
    missing: int
    command: str
    gone: int = 0

    def __str__(self) -> str:
        window = f"[{timestamp_text(self.start) if self.start else 'beginning'}, {timestamp_text(self.end)})"
        if self.gone:
            are = "is" if self.gone == 1 else "are"
            return f"{self.entity}: {counted(self.gone, 'delivered row')} {are} gone from the source. Repair: {self.command}"
        counts = f"the source holds {counted(self.source_rows, 'row')}, {self.delivered_rows} were delivered"
        return f"{self.entity} {window}: {counts}; consumers lack {self.missing}, or hold another version. Repair: {self.command}"

    def as_json(self) -> dict[str, Any]:
        span = {"from": timestamp_text(self.start) if self.start else None, "to": timestamp_text(self.end)}
        return {**vars(self), "start": span["from"], "end": span["to"]}


@dataclass(frozen=True)
class _Window:
    """One delivery's reach over the entity's change position."""

    delivery: Delivery
    attempt: Attempt
    changed: ChangeSpan
    earlier: int = 0
    """The most versions of this window that an earlier full load can have delivered, because a full load holds every visible row."""
    later: int = 0
    """The most versions of this window that deliveries read afterwards can hold: late ones, compared ones, and those of backfills."""


def compare(installation: Installation, registered: Registered, session: Session, progress: Callable[[str], None]) -> list[Difference]:
    """Return each window of the tenant's active streams in which the source holds more than was delivered, and each stream with gone rows.

    Windows are compared in the modes whose windows are spans of a change column (lookback, append, horizon). Keys are compared if they are
    exported as they are and the files still exist. Otherwise only counts are compared. Memory holds sixteen bytes a row.
    """
    found: list[Difference] = []
    with installation.ledger.read() as connection:
        active = streams.active(connection, registered.tenant)
    for stream in active:
        entity = installation.catalog.entity(stream.entity)
        if entity is None or stream.watermark is None:
            continue
        progress(stream.entity)
        entity = registered.registration.sees(entity)
        if entity.changes.mode not in (Mode.FULL, Mode.SNAPSHOT):
            found += _compare_stream(installation, registered, session, stream, entity)
        found += _compare_keys(installation, registered, session, stream, entity)
    return found


def _compare_keys(
    installation: Installation, registered: Registered, session: Session, stream: Stream, entity: Entity
) -> Iterator[Difference]:
    """Return a difference for rows that are gone and that consumers still hold. The next comparison or a full load removes them there."""
    counted = stale_rows.count(installation, registered, session, stream, entity)
    if counted and counted[0] and stream.watermark:
        gone, held, there = counted
        command = f"waybill run {stream.tenant} --entity {stream.entity}" + ("" if entity.compares_keys else " --full-load")
        yield Difference(entity.id, None, stream.watermark, there, held, 0, command, gone)


def _compare_stream(
    installation: Installation, registered: Registered, session: Session, stream: Stream, entity: Entity
) -> Iterator[Difference]:
    with installation.ledger.read() as connection:
        committed = restoring.committed(connection, stream.id)
        adopted = deliveries.adopted_of(connection, committed)
    committed = [delivery for delivery in committed if delivery.purpose != Purpose.REDELIVERY]
    identity = _identity(entity, [adopted[delivery.id] for delivery in committed])
    delivered = _delivered(installation, session, committed, adopted, entity, identity) if identity else None
    with installation.source(entity.source).snapshot([entity]) as snapshot:
        end = _watermark(stream)
        back = reach(entity, end, snapshot.columns(entity))
        windows = [_window(delivery, adopted[delivery.id], end and end - back) for delivery in committed]
        for window in [window for window in windows if window.delivery.purpose == Purpose.SCHEDULE]:
            span = window.changed
            if span.start is None or span.start < span.end:
                source_tenant, where = registered.registration.reads(registered.tenant, installation.entity(entity.id))
                selection = Selection(entity, source_tenant, identity or entity.columns, span, where=where)
                later = sum(other.attempt.rows for other in windows if _may_repeat(other, window, entity, back))
                yield from _compare_window(snapshot, selection, replace(window, later=later), delivered)


def _watermark(stream: Stream) -> Any:
    """Return the instant or id up to which the stream has delivered."""
    at = (stream.position or {}).get("at")
    return at if isinstance(at, int) else stream.watermark


def _may_repeat(other: _Window, window: _Window, entity: Entity, back: Any) -> bool:
    """Return whether a delivery that was read after a window's may hold versions of that window."""
    if other.attempt.snapshot_time <= window.attempt.snapshot_time:
        return False
    start, end = other.changed.start, window.changed.end
    if other.delivery.purpose != Purpose.BACKFILL:
        return entity.compares_keys or start is None or start - back < end
    by_time = isinstance(end, datetime) and isinstance(start, datetime)  # a backfill by another column may hold any version
    return not by_time or (start < end and (window.changed.start is None or other.changed.end > window.changed.start))


def _window(delivery: Delivery, attempt: Attempt, settled: Any) -> _Window:
    """Return the window by id if positions are ids, else by time. The first window has no beginning.

    Everything below `settled` must have been delivered. The next delta may still bring rows beyond it.
    """
    start, end = (None if at is None else at["at"] for at in (attempt.position_from, attempt.position_to))
    before = attempt.position_from or {}
    earlier = 0 if before.get("imported") else before.get("past", 0)  # after a restored one, nothing is left out
    if isinstance(end, int):
        return _Window(delivery, attempt, ChangeSpan(start, min(end, settled)), earlier)
    until = delivery.window_to or delivery.planned_to
    if delivery.purpose != Purpose.BACKFILL:
        until = min(until, settled or until)
    return _Window(delivery, attempt, ChangeSpan(delivery.window_from, until), earlier)


def _identity(entity: Entity, attempts: list[Attempt]) -> dict[str, Column]:
    """Return the exported columns that identify a row version: key, change, deletion. Empty if the key is not exported as it is.

    Without the change column, a row is the version that its other columns show, as far as every delivery holds them.
    """
    plain = {name: column for name, column in entity.columns.items() if column.export != "anonymize"}
    change, key = entity.exported(entity.changes.column), set(entity.delivered_key)
    if not key <= plain.keys():
        return {}
    if change in plain:
        return {name: column for name, column in plain.items() if name in {*key, change, entity.tombstone_column}}
    held = [{source_of(column) for column in attempt.columns if column.get("export") != "anonymize"} for attempt in attempts]
    return {name: column for name, column in plain.items() if name in key or all(column.source(name) in names for names in held)}


def _delivered(
    installation: Installation,
    session: Session,
    committed: list[Delivery],
    adopted: dict[str, Attempt],
    entity: Entity,
    identity: dict[str, Column],
) -> pa.Array | None:
    """Return a hash of the version of each key that was delivered last. None if a file is gone, is encrypted or lacks a column."""
    keys, versions = array("q"), array("q")
    for delivery in sorted(committed, key=lambda delivery: adopted[delivery.id].snapshot_time):
        attempt = adopted[delivery.id]
        read = [source_of(column) for column in attempt.columns]
        if not set(sources(identity)) <= set(read) or is_encrypted(attempt):
            return None
        try:
            files = find_bytes(installation, session, [delivery], adopted)
        except BytesGone:
            return None
        for blocks in files[len(attempt.files) :]:
            gone = array("q", (_hash(record[:-1]) for record in records_of(blocks(), csv_of(attempt.facts["csv"]))))
            keys += gone
            versions += array("q", [_GONE]) * len(gone)
        key, version = ([read.index(name) for name in names] for names in (entity.key, sources(identity)))
        for blocks in files[: len(attempt.files)]:
            for record in delivered_texts(attempt, blocks()):
                keys.append(_hash([record[at] for at in key]))
                versions.append(_hash([record[at] for at in version]))
    last = pa.table({"key": _arrow(keys), "version": _arrow(versions)}).group_by("key", use_threads=False)
    return last.aggregate([("version", "last")]).column("version_last").combine_chunks()


def _compare_window(snapshot: Snapshot, selection: Selection, window: _Window, delivered: pa.Array | None) -> Iterator[Difference]:
    delivery, entity = window.delivery, selection.entity
    count = snapshot.count(selection)
    start, end = delivery.window_from, delivery.window_to or delivery.planned_to
    if delivered is None:
        missing = count - window.attempt.rows - window.earlier - window.later
    else:
        hashes = array("q", (_hash(record) for record in _records(snapshot, selection)))
        known = pc.is_in(_arrow(hashes), value_set=delivered)
        missing = len(hashes) - (pc.sum(known).as_py() or 0)
        if missing:
            start, end = _narrowed(snapshot, selection, known, start, end)
    if missing > 0:
        command = _repair(delivery, start if snapshot.changes_by_time(selection) else None, end)
        yield Difference(entity.id, delivery.window_from, delivery.window_to or end, count, window.attempt.rows, missing, command)


def _narrowed(
    snapshot: Snapshot, selection: Selection, known: pa.Array, start: datetime | None, end: datetime
) -> tuple[datetime | None, datetime]:
    """Return the smallest range of change positions around the missing rows, if positions are times that are delivered."""
    names, entity = list(selection.columns), selection.entity
    change = entity.exported(entity.changes.column)
    if change not in names:
        return start, end
    times = [names.index(name) for name in dict.fromkeys((change, entity.tombstone_column)) if name in names]
    missing = (record for record, kept in zip(_records(snapshot, selection), known, strict=True) if not kept.as_py())
    try:
        positions = [max(parse_timestamp(record[at]) for at in times if record[at]) for record in missing]
    except ValueError:
        return start, end
    return min(positions), max(positions) + _TICK


def _records(snapshot: Snapshot, selection: Selection) -> Iterator[list[str]]:
    """Yield the source's rows as they would be delivered, each as a record of text."""
    header = b",".join(b"" for _ in selection.columns) + b"\n"
    yield from records_of(_with(header, (bytes(block) for block, _ in snapshot.csv(selection, FileStyle()))), _PLAIN)


def _with(header: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    yield header
    yield from blocks


def _hash(fields: list[str]) -> int:
    return int.from_bytes(hashlib.blake2b("\x1f".join(fields).encode(), digest_size=8).digest(), "little", signed=True)


def _arrow(hashes: array[int]) -> pa.Array:
    return pa.Array.from_buffers(pa.int64(), len(hashes), [None, pa.py_buffer(hashes)])


def _repair(delivery: Delivery, start: datetime | None, end: datetime) -> str:
    """Return the command that repairs a window.

    `start` is None if no range of time holds what is missing, so that only a full load helps.
    """
    if start is None:
        return f"waybill run {delivery.tenant} --entity {delivery.entity} --full-load"
    return f"waybill backfill {delivery.tenant} {delivery.entity} --from {timestamp_text(start)} --to {timestamp_text(end)}"
