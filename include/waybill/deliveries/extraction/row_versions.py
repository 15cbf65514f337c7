"""The row versions that a delivery must not repeat, and those that the next one has to know.

A full load holds every visible row, also rows with a change position at or past the window's end. A delta also holds rows that were
committed late, and rows with a position that no span ever reaches (a date in the future, infinity). The digest of each version shows
whether it was delivered before. The ledger keeps the digests of the last delivery.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from waybill.canonical import ColumnType
from waybill.configuration.catalog import Entity, Mode
from waybill.configuration.selection import ChangeSpan, Extent, Selection
from waybill.configuration.values.columns import described, sources
from waybill.deliveries.extraction.columns import from_json, same_texts
from waybill.deliveries.job import Known
from waybill.ledger.facts import Position
from waybill.ledger.streams import Stream
from waybill.sources import Snapshot

_BLOB = 4096 * 16
_WESTERNMOST = timedelta(hours=12)
"""The zone that is furthest behind UTC. A local time without a zone lies at most this far before its instant."""
_OF_A_DATE = timedelta(days=1) + _WESTERNMOST
"""A date counts as the midnight that begins it in UTC: a row that is written in its last second is that old at once."""


@dataclass(frozen=True)
class Remembered:
    """The versions of a delivery that the ledger keeps.

    `blobs` are their digests. `since` is the change position from which on every delivered version is among them. `past` counts the
    versions at or past the window's end, which a later window must leave out. `inexact` is true if some of those are not known.
    """

    blobs: list[bytes]
    since: Any = None
    past: int = 0
    inexact: bool = False

    @property
    def digests_from(self) -> datetime | None:
        return self.since if isinstance(self.since, datetime) else None

    def position(self) -> Position:
        """Return what the stream's position says, besides the place where the next extraction starts."""
        found: Position = {"past": self.past} if self.past else {}
        if isinstance(self.since, int):
            found["since"] = self.since
        if self.inexact:
            found["inexact"] = True
        return found


def reach(entity: Entity, end: Any, natives: Mapping[str, str]) -> Any:
    """Return how far below a window's end a version may still be committed late, or None if that is impossible."""
    if isinstance(end, int):
        return entity.changes.lag
    mode = entity.changes.mode
    if mode not in (Mode.HORIZON, Mode.LOOKBACK, Mode.APPEND):
        return timedelta(0)
    vague = max(_vagueness(entity, name, natives) for name in (entity.changes.column, entity.deleted_column) if name)
    if mode is Mode.HORIZON:
        return vague
    return entity.changes.lookback + (vague if vague == _OF_A_DATE else timedelta(0))


def _vagueness(entity: Entity, name: str, natives: Mapping[str, str]) -> timedelta:
    """Return how far the position that a change or deletion column gives a row may lie before the instant it was written."""
    native = natives.get(name, "").lower()
    if _is_catalogued_date(entity, name) or "time" not in native:  # what is no time either way is a text of SQLite's, which may be a date
        return _OF_A_DATE
    return timedelta(0) if "with time zone" in native else _WESTERNMOST


def changes_by_date(entity: Entity, natives: Mapping[str, str]) -> bool:
    """Return whether the change column holds dates."""
    column = entity.changes.column
    return natives.get(column, "").lower() == "date" or _is_catalogued_date(entity, column)


def _is_catalogued_date(entity: Entity, name: str) -> bool:
    catalogued = described(entity.columns, name)
    return catalogued is not None and catalogued.type is ColumnType.DATE


def earliest(entity: Entity, changed: ChangeSpan, natives: Mapping[str, str]) -> Any:
    """Return the change position from which on a delta finds every version that was not delivered."""
    return changed.start - reach(entity, changed.end, natives) if counts_changes(changed) else changed.start


def counts_changes(changed: ChangeSpan) -> bool:
    """Return whether the span is one of times or ids. Versions may lie outside such a span."""
    return isinstance(changed.end, datetime | int)


def unrepeated(stream: Stream, snapshot: Snapshot, selection: Selection, known: Known) -> tuple[Selection, bool]:
    """Return the rows of a delta: its span, versions committed late, and versions ahead of the clock, without those delivered before.

    The second value is true if the delta may repeat rows, because the ledger no longer knows what was delivered before.
    """
    changed, entity = selection.changed, selection.entity
    if changed.start is None or not counts_changes(changed):
        return selection, False
    room = reach(entity, changed.end, snapshot.columns(entity))
    changed = replace(changed, ahead=_ahead(snapshot, selection))
    position = stream.position or {}
    if is_imported(stream):
        repeats = bool(room or changed.ahead or _has_past(stream))
        return replace(selection, changed=replace(changed, start=changed.start - room)), repeats
    since = position.get("since") if isinstance(changed.start, int) else stream.digests_from
    overlap = changed.start if since is None else max(changed.start - room, since)
    past = _has_past(stream)
    if not past and not changed.ahead and overlap >= changed.start:
        return selection, False
    delivered_columns = from_json(stream.columns or [])
    lost = not set(sources(delivered_columns)) <= snapshot.columns(entity).keys()
    columns = selection.columns if lost else delivered_columns  # a digest covers the columns that the version was delivered with
    delivered = known()
    look = replace(selection, columns=columns, changed=ChangeSpan(overlap, changed.start))
    late = overlap < changed.start and _count_unknown(snapshot.digests(look), delivered)
    repeats = bool(lost or position.get("inexact"))
    if late or past or changed.ahead:
        changed = replace(changed, start=overlap if late else changed.start, known=delivered, known_columns=columns)
    return replace(selection, changed=changed), repeats


def _count_unknown(batches: Iterable[list[bytes]], delivered: Container[bytes]) -> int:
    """Count the unknown digests. This reads to the end: PostgreSQL ends the whole transaction if a COPY is left early."""
    return sum(digest not in delivered for batch in batches for digest in batch)


def _ahead(snapshot: Snapshot, selection: Selection) -> datetime | None:
    """Return the source's clock if some rows have a change position that no span reaches, else None."""
    if not isinstance(selection.changed.end, datetime):
        return None
    apart = replace(selection, changed=ChangeSpan(ahead=snapshot.taken_at))
    return snapshot.taken_at if snapshot.count(apart) else None


def to_remember(stream: Stream, snapshot: Snapshot, selection: Selection, extent: Extent, known: Known) -> Remembered:
    """Return the delivered versions that a later delivery could read again. `selection` is what this delivery read."""
    changed = extent.changed
    if not counts_changes(changed):
        return Remembered([])
    room, end = reach(selection.entity, changed.end, snapshot.columns(selection.entity)), changed.end
    ahead = snapshot.taken_at if isinstance(end, datetime) else None
    digests = _Blobs()
    if room:
        digests.keep(snapshot.digests(replace(selection, changed=ChangeSpan(end - room, end))))
    recent, inexact = digests.count, False
    if changed.start is None:
        digests.keep(snapshot.digests(replace(selection, changed=ChangeSpan(end, ahead=ahead))))
    else:
        if selection.changed.ahead:
            digests.keep(snapshot.digests(replace(selection, changed=ChangeSpan(ahead=ahead))))
        if _has_past(stream) and ahead:
            delivered = known()
            between = replace(selection, changed=ChangeSpan(end, ahead))
            digests.keep([digest for digest in batch if digest in delivered] for batch in snapshot.digests(between))
            inexact = not same_texts(selection.columns, selection.changed.known_columns or {}) and snapshot.count(between) > 0
    return Remembered(digests.blobs(), end - room if room else None, digests.count - recent, inexact)


def is_imported(stream: Stream) -> bool:
    """Return whether `reconciling` restored the last delivery from its manifest, which does not name the versions it held."""
    return bool(stream.position and stream.position.get("imported"))


def _has_past(stream: Stream) -> bool:
    """Return whether the last delivery held versions at or past its window's end."""
    position = stream.position or {}
    return bool(position.get("past") or (is_imported(stream) and position.get("inexact")))


class _Blobs:
    """Digests, one after another, in blobs that the ledger keeps as rows."""

    def __init__(self) -> None:
        self.count = 0
        self._full: list[bytes] = []
        self._pending = bytearray()

    def keep(self, batches: Iterable[list[bytes]]) -> None:
        for batch in batches:
            self.count += len(batch)
            self._pending += b"".join(batch)
            while len(self._pending) >= _BLOB:
                self._full.append(bytes(self._pending[:_BLOB]))
                del self._pending[:_BLOB]

    def blobs(self) -> list[bytes]:
        return [*self._full, bytes(self._pending)] if self._pending else self._full
