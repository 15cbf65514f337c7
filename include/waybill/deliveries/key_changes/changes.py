"""Finds rows that vanished from the source, and rows that came back: it compares delivered keys with those of the source.

The ledger knows exactly what a consumer holds: the keys of every delivered file, without those of every deletes file. So a key that is
there, due and not held is delivered, too, however old its change position is. A row restored from a backup comes with the next comparison.
With `deletes: compare_rows` the ledger also knows a digest of each row that the consumer holds, so a row that is not the same comes, too.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import zstandard

from waybill.canonical import ColumnType, key_digest
from waybill.configuration.catalog import Entity, Mode
from waybill.configuration.selection import ChangeSpan, FileStyle, Selection
from waybill.configuration.values.columns import Column
from waybill.deliveries.generations import NewGenerationNeeded
from waybill.deliveries.key_changes import keysets
from waybill.deliveries.key_changes.keysets import Buckets, ByBucket, Comparison, Held, Packed, Step
from waybill.files.records import fields_of
from waybill.language import tell
from waybill.ledger import Ledger
from waybill.ledger.delivered import keys
from waybill.ledger.delivered.keys import Change, KeySpelling, NewChange
from waybill.ledger.deliveries import Delivery
from waybill.ledger.facts import FileFacts
from waybill.ledger.streams import Stream
from waybill.sources import Snapshot
from waybill.states import Purpose
from waybill.window import latest

MOST_BACK = 100_000
"""If more rows than this came back, a full load delivers them. Picking them by their keys would cost more."""
_SMALL = 10_000
_MOST_STEPS = 30
_NUMBERS = ColumnType.DECIMAL, ColumnType.FLOAT
_PIECE = 1 << 20


@dataclass(frozen=True)
class KeyStore:
    """The place of a stream's delivered keys, and the time zone that says when they are compared. `folder` takes what exceeds memory."""

    ledger: Ledger
    folder: Path
    zone: ZoneInfo


@dataclass(frozen=True)
class FoundKeys:
    """The keys that an extraction found, for the ledger to record with the attempt. `gone` is None if nothing was compared.

    `rows` is the number of the tenant's rows, if known anyway. `back` counts the rows that are delivered because the comparison found them.
    """

    change: NewChange
    added: Packed | None
    gone: Packed | None
    departed: Packed | None
    """`gone`, with the marks of deleted rows that go."""
    noticed_at: datetime
    key: tuple[str, ...]
    folder: Path
    rows: int | None = None
    back: int = 0

    def blobs(self, file: Path | None) -> dict[str, Iterable[bytes]]:
        """Return what the ledger keeps, by kind. A whole change needs no `gone`."""
        found: dict[str, Iterable[bytes]] = {"added": self.added.blobs()} if self.added else {}
        if self.departed and not self.change.whole:
            found["gone"] = self.departed.blobs()
        return found | ({"file": _pieces(file)} if file else {})


@dataclass(frozen=True)
class Repeated:
    """The deletes file of a delivery that is sent again."""

    file: FileFacts
    blocks: Callable[[], Iterable[bytes]]
    change: NewChange
    rows: None = None

    def blobs(self, file: Path | None) -> dict[str, Iterable[bytes]]:
        return {"file": _pieces(file)} if file else {}


def with_key_changes(
    store: KeyStore, delivery: Delivery, stream: Stream, entity: Entity, snapshot: Snapshot, selection: Selection
) -> tuple[Selection, FoundKeys | None]:
    """Return the delivery's selection with the rows that came back, and what it reports about keys.

    It reads every key of the tenant if keys are compared, else the keys of the selection. Raises NewGenerationNeeded.
    """
    scan = _Scan(store.folder, entity, snapshot, selection)
    change = _change(stream, delivery, _key_spelling(entity, snapshot) | scan.row_spelling())
    if delivery.purpose == Purpose.SCHEDULE and stream.watermark is None:
        now = scan.delivered(selection)
        change = replace(change, whole=True, held=now.count, compared_at=snapshot.taken_at)
        return selection, _found(change, keysets.packed(now, store.folder, scan.live(selection)), None, scan, rows=now.count)
    with store.ledger.read() as connection:
        before = keys.changes(connection, stream.id)
    lost = _why_lost(before, stream, change.made_of)
    scheduled = delivery.purpose == Purpose.SCHEDULE
    if lost and scheduled:
        raise NewGenerationNeeded(lost)
    if lost:
        return selection, None
    change = replace(change, after=max(change.number or 0 for change in before))
    if not scheduled or not _is_due(entity, delivery, before, snapshot.taken_at, store.zone):
        now = scan.delivered(selection)
        return selection, _found(replace(change, changed=now.count), keysets.packed(now, store.folder, scan.live(selection)), None, scan)
    return _compared(store, before, change, scan, selection)


def _compared(store: KeyStore, before: list[Change], change: NewChange, scan: _Scan, selection: Selection) -> tuple[Selection, FoundKeys]:
    now = scan.delivered(selection)
    here = now if selection.entity.changes.mode is Mode.FULL else scan.all()
    later, live = scan.later(selection), scan.live()
    whole = before[0].held < _SMALL or len(before) > _MOST_STEPS or sum(change.changed for change in before[1:]) * 4 > before[0].held

    def compared_with(now: Buckets) -> Comparison:
        held = _consumer_keys(store.ledger, before)
        return keysets.compare(held, here, now, later, store.folder, whole=whole, most_back=MOST_BACK, live=live)

    compared = compared_with(now)
    if compared.missing > MOST_BACK:
        why = f"{compared.missing} rows came back, came late, or are not as they were delivered: more than a delta picks one by one"
        raise NewGenerationNeeded(why)
    back = (*compared.back, *scan.equal(compared.gone, here, now, later))
    if back:
        selection = replace(selection, changed=scan.with_back(selection, back))
        now = scan.delivered(selection)
        compared = compared_with(now)
    change = replace(change, whole=whole, held=compared.kept, changed=compared.changed, compared_at=scan.snapshot.taken_at)
    return selection, _found(change, compared.added, compared, scan, rows=here.count, back=len(back))


@dataclass(frozen=True)
class _KnownExcept:
    """The known digests, except some."""

    known: Container[bytes]
    forgotten: frozenset[bytes]

    def __contains__(self, digest: object) -> bool:
        return digest in self.known and digest not in self.forgotten


class _Scan:
    """Reads the keys of one tenant in one snapshot."""

    def __init__(self, folder: Path, entity: Entity, snapshot: Snapshot, selection: Selection) -> None:
        self.folder = folder
        self.entity = entity
        self.snapshot = snapshot
        everything = replace(selection, changed=ChangeSpan(), time_from=None, time_to=None)
        self._plain = replace(everything, columns=key_columns(entity), in_key_order=False)
        self._rows = dict(self._plain.columns) | dict(selection.columns) if entity.compares_rows else None

    def _read(self, selection: Selection) -> Buckets:
        return Buckets(self.folder).fill(self.snapshot.csv(selection, FileStyle()))

    def _read_rows(self, selection: Selection) -> Buckets:
        """Return the keys of a selection, with their versions if whole rows are compared."""
        if self._rows is None:
            return self._read(selection)
        rows = Buckets(self.folder, key_fields=len(self._plain.columns))
        return rows.fill(self.snapshot.csv(replace(selection, columns=self._rows), FileStyle()))

    def row_spelling(self) -> KeySpelling:
        """Return what decides the versions of rows, if whole rows are compared."""
        if self._rows is None:
            return {}
        return {"rows": [[column.source(name), column.type.value, column.export] for name, column in self._rows.items()]}

    def all(self) -> Buckets:
        return self._read_rows(self._plain)

    def with_known_columns(self, selection: Selection) -> ChangeSpan:
        """Return the span with the columns that its digests cover, so that fewer columns can be read."""
        return replace(selection.changed, known_columns=selection.changed.known_columns or selection.columns)

    def with_back(self, selection: Selection, back: tuple[bytes, ...]) -> ChangeSpan:
        """Return the span with the rows that came back. Consumers deleted their versions, so these no longer count as known."""
        changed = self.with_known_columns(selection)
        if changed.known is None:
            return replace(changed, back=back)
        came_back = replace(selection, columns=changed.known_columns or selection.columns, changed=ChangeSpan(back=back, only_back=True))
        digests = frozenset(digest for batch in self.snapshot.digests(came_back) for digest in batch)
        return replace(changed, back=back, known=_KnownExcept(changed.known, digests))

    def delivered(self, selection: Selection) -> Buckets:
        """Return the keys of exactly the rows that a selection delivers."""
        return self._read_rows(self._keys_of(selection))

    def _keys_of(self, selection: Selection) -> Selection:
        return replace(selection, columns=self._plain.columns, changed=self.with_known_columns(selection), in_key_order=False)

    def live(self, delivered: Selection | None = None) -> Buckets | None:
        """Return the keys of rows that are not deleted, of all or of those that a selection delivers.

        None if no consumer learns from a row whether it is deleted.
        """
        if not (self.entity.tombstone_column or self.entity.deleted_when):
            return None
        return self._read(replace(self._plain if delivered is None else self._keys_of(delivered), live_only=True))

    def equal(self, gone: Packed, here: Buckets, now: Buckets, later: Buckets) -> Iterator[bytes]:
        """Yield the digests of keys that equal a gone one as numbers, such as 1.00 and 1.0, and that are delivered neither now nor next.

        A consumer whose database holds numbers deletes their row with the gone key, so it has to come again.
        """
        columns = self._plain.columns.values()
        numbers = [at for at, column in enumerate(columns) if column.leaves_as in _NUMBERS]
        records = gone.records() if numbers else iter(())

        def value(record: bytes) -> tuple[str | Decimal | None, ...]:
            found = fields_of(record.decode())
            return tuple(_number(text) if at in numbers else text for at, text in enumerate(found))

        while some := {value(record) for record in islice(records, MOST_BACK)}:
            for bucket in range(keysets.BUCKETS):
                equal = {record for record in here.at(bucket) if value(record) in some}
                if equal:
                    yield from map(key_digest, sorted(equal.difference(now.at(bucket), later.at(bucket))))

    def later(self, selection: Selection) -> Buckets:
        """Return the keys of rows that the next delivery brings, because their change position is at or past the end of this one.

        Rows past the source's clock are due in every delivery.
        """
        end = selection.changed.end
        if end is None or self.entity.changes.mode in (Mode.FULL, Mode.SNAPSHOT):
            return Buckets(self.folder)
        until = self.snapshot.taken_at if isinstance(end, datetime) else None
        return self._read(replace(self._plain, changed=ChangeSpan(start=end, end=until)))


def _number(text: str | None) -> str | Decimal | None:
    """Return what databases compare of a number in a key. They take -0 for 0, and NaN for itself, as it is not to Python."""
    return text if text is None or text == "NaN" else Decimal(text)


def key_columns(entity: Entity) -> dict[str, Column]:
    """Return the columns of the key, by the names that consumers see."""
    return {name: entity.columns[name] for name in entity.delivered_key}


def _key_spelling(entity: Entity, snapshot: Snapshot) -> KeySpelling:
    """Return what decides the text of a key, by the source's names. A decimal's scale does, so its native type is included."""
    columns = dict(zip(entity.key, key_columns(entity).values(), strict=True))
    natives = snapshot.columns(entity)
    exact = {source: natives.get(source, "") for source, column in columns.items() if column.type is ColumnType.DECIMAL}
    return {"key": [[source, column.type.value, column.export] for source, column in columns.items()], "natives": exact}


def _why_lost(before: list[Change], stream: Stream, spelling: KeySpelling) -> str:
    if not before or max(change.sequence for change in before) != stream.sequence:
        return tell("redefined.uncompared")
    if any(change.made_of.get(part) != spelling.get(part) for change in before for part in ("key", "natives")):
        return "the key, or the type of a key column, is another one than before, so delivered keys cannot be compared"
    if "rows" in spelling and any(change.made_of.get("rows") != spelling["rows"] for change in before):
        return tell("redefined.uncompared_rows")
    return ""


def _is_due(entity: Entity, delivery: Delivery, before: list[Change], now: datetime, zone: ZoneInfo) -> bool:
    if entity.deletes_at:
        last = max((change.compared_at for change in before if change.compared_at), default=None)
        return last is None or latest(entity.deletes_at, now, zone) > last
    return entity.deletes is not None and delivery.sequence % entity.deletes.every == 0


def _consumer_keys(ledger: Ledger, before: list[Change]) -> Callable[[int], Held]:
    def packed(change: Change, kind: str) -> ByBucket:
        return ByBucket(keys.blobs(ledger, change, kind))

    steps = [Step(change.whole, packed(change, "added"), packed(change, "gone"), _is_unordered(change, before)) for change in before]
    return keysets.consumer_keys(steps)


def _is_unordered(change: Change, others: list[Change]) -> bool:
    """Return whether another change does not know this one although it comes later, or the other way round, as with a backfill that a
    killed worker had read and a run finished.
    """

    def missed(one: Change, other: Change) -> bool:
        return one.after < (other.number or 0) < (one.number or 0)

    return any(missed(change, other) or missed(other, change) for other in others)


def known(ledger: Ledger, stream: Stream, entity: Entity, snapshot: Snapshot) -> Callable[[int], Held] | None:
    """Return a reader of the keys that the stream's consumer holds, bucket by bucket. None if the ledger does not know them."""
    with ledger.read() as connection:
        before = keys.changes(connection, stream.id)
    if _why_lost(before, stream, _key_spelling(entity, snapshot)):
        return None
    return _consumer_keys(ledger, before)


def _change(stream: Stream, delivery: Delivery, spelling: KeySpelling) -> NewChange:
    return NewChange(stream.id, delivery.sequence if delivery.purpose == Purpose.SCHEDULE else 0, spelling)


def _found(
    change: NewChange, added: Packed, compared: Comparison | None, scan: _Scan, rows: int | None = None, back: int = 0
) -> FoundKeys:
    gone, departed = (compared.gone, compared.departed) if compared else (None, None)
    return FoundKeys(change, added, gone, departed, scan.snapshot.taken_at, scan.entity.delivered_key, scan.folder, rows, back)


def repeated(stream: Stream, delivery: Delivery, file: FileFacts, blocks: Callable[[], Iterable[bytes]]) -> Repeated:
    return Repeated(file, blocks, _change(stream, delivery, {}))


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_PIECE):
            yield zstandard.compress(block, 3)
