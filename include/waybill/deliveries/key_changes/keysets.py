"""Sets of keys that exceed memory. They are split by hash into buckets on disk, packed into blobs, and compared bucket by bucket.

A key is one canonical CSV record (comma, no line end) of an entity's delivered key columns. Where whole rows are compared, each key has a
version, a digest of its row's record. No code here depends on the order in which a source sorts, because that differs by type, collation
and kind of source. Memory holds one bucket at a time.
"""

from __future__ import annotations

import heapq
import re
import struct
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import IO
from zlib import crc32

import zstandard

from waybill import private
from waybill.canonical import key_digest
from waybill.configuration.selection import Block
from waybill.deliveries import stopping

_BITS = 10
BUCKETS = 1 << _BITS
_SHIFT = 32 - _BITS
_IN_MEMORY = 200_000
"""The number of records that wait in memory before they are written."""
_BLOB = 1 << 20
_RUN_BLOCK = 1 << 16
_FRAME = struct.Struct("<HI")
_DEAD = b"\xff"
"""Before a key: the consumer's version of it is a deleted row. It stands beside the key itself, which is UTF-8 and never begins so."""
_VERSION = b"\xfe"
"""Before a version and its key, in place of the key alone."""
_VERSION_SIZE = 16
_UNKNOWN = b"?" * _VERSION_SIZE
"""A version that no row has, so the row comes again."""
_FIELD = rb'(?:"(?:[^"]|"")*"|[^,"]*)'


def records(block: bytes | memoryview) -> list[bytes]:
    """Return the records of a block. The block holds whole records, each ends in LF, and a line break inside a field is quoted."""
    data = bytes(block)
    lines = data.split(b"\n")
    lines.pop()
    if b'"' not in data:
        return lines
    found: list[bytes] = []
    waiting: list[bytes] = []
    for line in lines:
        is_odd = line.count(b'"') % 2
        if not (is_odd or waiting):
            found.append(line)
            continue
        waiting.append(line)
        if is_odd and len(waiting) > 1:
            found.append(b"\n".join(waiting))
            waiting = []
    return found


class Scratch:
    """A file without a name on this machine's disk. It goes with the process. Raises what `private.not_written` returns."""

    def __init__(self, folder: Path) -> None:
        with _disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed when nobody refers to it any more)
        self._folder = folder
        self._end = 0

    def append(self, data: bytes) -> tuple[int, int]:
        """Append the bytes and return their offset and length."""
        with _disk(self._folder):
            self._file.seek(self._end)
            self._file.write(data)
        place = (self._end, len(data))
        self._end += len(data)
        return place

    def read(self, place: tuple[int, int]) -> bytes:
        with _disk(self._folder):
            self._file.seek(place[0])
            return self._file.read(place[1])

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise private.not_written(error, "cannot part keys on disk", f"spool folder {folder}", "WAYBILL_SPOOL_DIR", "spool") from error


class Buckets:
    """Records in any order, split by the hash of their keys. `count` includes repetitions.

    The first `key_fields` fields of a record are its key, and a digest of the record is the key's version. Without them, a record is a key.
    """

    def __init__(self, folder: Path, key_fields: int = 0) -> None:
        self.count = 0
        self._key = re.compile(b",".join([_FIELD] * key_fields)) if key_fields else None
        self._scratch = Scratch(folder)
        self._places: list[list[tuple[int, int]]] = [[] for _ in range(BUCKETS)]
        self._waiting: list[list[bytes]] = [[] for _ in range(BUCKETS)]
        self._in_memory = 0

    def add(self, found: list[bytes]) -> None:
        waiting = self._waiting
        if self._key is None:
            for record in found:
                waiting[crc32(record) >> _SHIFT].append(record)
        else:
            for record in found:
                key = self._key.match(record)[0]  # type: ignore[index]  # it matches every record, if only with an empty field
                waiting[crc32(key) >> _SHIFT].append(_VERSION + _version(record) + key)
        self.count += len(found)
        self._in_memory += len(found)
        if self._in_memory >= _IN_MEMORY:
            self._write()

    def fill(self, blocks: Iterable[Block]) -> Buckets:
        """Add every record of the canonical CSV that a source yields."""
        for block, _ in blocks:
            stopping.check()
            self.add(records(block))
        return self

    def _write(self) -> None:
        for bucket, waiting in enumerate(self._waiting):
            if waiting:
                self._places[bucket].append(self._scratch.append(b"\n".join([*waiting, b""])))
                waiting.clear()
        self._in_memory = 0

    def at(self, bucket: int) -> dict[bytes, bytes]:
        """Return the keys of a bucket with their versions, which are empty without `key_fields`."""
        found = list(self._waiting[bucket])
        for place in self._places[bucket]:
            found += records(self._scratch.read(place))
        return _versions(found)


def _version(record: bytes) -> bytes:
    return blake2b(record, digest_size=_VERSION_SIZE // 2).hexdigest().encode()


def _versions(found: list[bytes]) -> dict[bytes, bytes]:
    """Return keys with their versions. All of these records have one, or none has."""
    if not found or not found[0].startswith(_VERSION):
        return dict.fromkeys(found, b"")
    behind = 1 + _VERSION_SIZE
    return {record[behind:]: record[1:behind] for record in found}


class Packed:
    """Sorted records by rising bucket, packed into blobs of about a megabyte before compression."""

    def __init__(self, folder: Path) -> None:
        self.count = 0
        self._scratch = Scratch(folder)
        self._places: list[tuple[int, int]] = []
        self._frames: list[bytes] = []
        self._size = 0

    def add(self, bucket: int, found: list[bytes]) -> None:
        """Add one bucket. Buckets come in rising order."""
        if not found:
            return
        data = b"\n".join([*found, b""])
        self._frames += [_FRAME.pack(bucket, len(data)), data]
        self._size += len(data)
        self.count += len(found)
        if self._size >= _BLOB:
            self._pack()

    def _pack(self) -> None:
        if self._frames:
            self._places.append(self._scratch.append(zstandard.compress(b"".join(self._frames), 3)))
            self._frames, self._size = [], 0

    def blobs(self) -> Iterator[bytes]:
        self._pack()
        yield from map(self._scratch.read, self._places)

    def records(self) -> Iterator[bytes]:
        for _, found in unpacked(self.blobs()):
            yield from found


def unpacked(blobs: Iterable[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the bucket and the records of each frame of `Packed.blobs`."""
    for blob in blobs:
        data = zstandard.decompress(blob)
        at = 0
        while at < len(data):
            bucket, size = _FRAME.unpack_from(data, at)
            at += _FRAME.size
            yield bucket, records(data[at : at + size])
            at += size


class ByBucket:
    """Packed records. Callers ask for them bucket by bucket, in rising order."""

    def __init__(self, blobs: Iterable[bytes]) -> None:
        self._found = unpacked(blobs)
        self._next = next(self._found, None)

    def at(self, bucket: int) -> list[bytes]:
        if self._next is None or self._next[0] != bucket:
            return []
        found = self._next[1]
        self._next = next(self._found, None)
        return found


@dataclass(frozen=True)
class Held:
    """What a consumer holds of one bucket: keys with the versions of their rows, and those keys whose rows are deleted ones."""

    rows: dict[bytes, bytes]
    dead: set[bytes]

    @classmethod
    def of(cls, found: list[bytes]) -> Held:
        """Return what the sorted records of `Held.records` say."""
        versioned, dead = bisect_left(found, _VERSION), bisect_left(found, _DEAD)
        return cls(_versions(found[:versioned]) | _versions(found[versioned:dead]), {record[1:] for record in found[dead:]})

    def beside(self, added: Held, gone: Held) -> Held:
        """Return all that a consumer may hold that applies a step in the order of snapshots, which need not be that of the steps."""
        rows = self.rows | {key: version and _UNKNOWN for key, version in added.rows.items()}
        return Held(rows | {key: rows[key] and _UNKNOWN for key in gone.rows.keys() & rows.keys()}, self.dead | added.dead)

    def records(self) -> list[bytes]:
        """Return the keys, with their versions and the marks of deleted rows, in the order of their bytes."""
        rows = (_VERSION + version + key if version else key for key, version in self.rows.items())
        return sorted([*rows, *map(_DEAD.__add__, self.dead)])


@dataclass(frozen=True)
class Step:
    """The change of one delivery to its consumer's keys: first `gone`, then `added`. If `whole`, nothing before it counts.

    A key that is added is live, unless its mark is added with it. An `unordered` step was read while another one was on its way.
    """

    whole: bool
    added: ByBucket
    gone: ByBucket
    unordered: bool = False


def consumer_keys(steps: list[Step]) -> Callable[[int], Held]:
    """Return a reader of the keys after all steps, bucket by bucket, in rising order."""

    def at(bucket: int) -> Held:
        held = Held({}, set())
        for step in steps:
            gone, added = Held.of(step.gone.at(bucket)), Held.of(step.added.at(bucket))
            if step.whole:
                held = added
                continue
            if step.unordered:
                held = held.beside(added, gone)
                continue
            for key in gone.rows:
                held.rows.pop(key, None)
            held.dead.difference_update(gone.dead, added.rows)
            held.rows.update(added.rows)
            held.dead.update(added.dead)
        return held

    return at


@dataclass
class Comparison:
    """The result of a comparison. `missing` counts the keys that are there and due, and were delivered neither before nor now, or in
    another version, or as deleted while they are live again.

    `back` holds their digests. `kept` counts the keys held afterwards, `changed` those that went or came. `departed` is `gone` with the
    marks that go.
    """

    gone: Packed
    departed: Packed
    added: Packed
    back: list[bytes]
    missing: int = 0
    kept: int = 0
    changed: int = 0


def compare(
    before: Callable[[int], Held],
    here: Buckets,
    now: Buckets,
    later: Buckets,
    folder: Path,
    *,
    whole: bool,
    most_back: int,
    live: Buckets | None = None,
) -> Comparison:
    """Compare exactly: `before` was delivered, `here` is in the source, `now` is delivered now, `later` is not due yet.

    `live` holds those keys of `here` whose rows are not deleted. Without it no consumer sees a deletion, and marks of earlier ones go.

    `added` holds the keys that the delivery adds, or with `whole` every key held after it. At most `most_back` digests are kept.
    """
    found = Comparison(Packed(folder), Packed(folder), Packed(folder), [])
    for bucket in range(BUCKETS):
        stopping.check()
        held, there, delivered = before(bucket), here.at(bucket), now.at(bucket)
        was_dead = held.dead if live else set()
        dead = there.keys() - live.at(bucket) if live else set()
        gone = held.rows.keys() - there.keys()
        missing = (_unlike(there, held.rows) | ((was_dead & there.keys()) - dead)) - delivered.keys()
        if missing:
            missing.difference_update(later.at(bucket))
            found.missing += len(missing)
            if found.missing <= most_back:
                found.back += map(key_digest, sorted(missing))
        kept = {key: version for key, version in held.rows.items() if key not in gone} if gone else held.rows
        new = {key: delivered[key] for key in _unlike(delivered, kept)}
        after = kept | new
        is_dead = dead & (after.keys() - later.at(bucket).keys() | was_dead) if dead else dead
        departed, added = Held(dict.fromkeys(gone, b""), held.dead - is_dead).records(), Held(new, is_dead - was_dead).records()
        found.kept += len(after)
        found.changed += len(departed) + len(added)
        found.gone.add(bucket, sorted(gone))
        found.departed.add(bucket, departed)
        found.added.add(bucket, Held(after, is_dead).records() if whole else added)
    return found


def _unlike(some: dict[bytes, bytes], others: dict[bytes, bytes]) -> set[bytes]:
    """Return the keys that others do not hold, or hold in another version. Without a version, a key is like every version of it."""
    return {key for key, version in some.items() if (held := others.get(key)) is None or (version and held != version)}


def packed(keys: Buckets, folder: Path, live: Buckets | None = None) -> Packed:
    """Return each of these keys once, packed, with the marks of those that are not `live`."""
    done = Packed(folder)
    for bucket in range(BUCKETS):
        found = keys.at(bucket)
        done.add(bucket, Held(found, found.keys() - live.at(bucket) if live else set()).records())
    return done


def in_order(found: Iterable[bytes], folder: Path, in_memory: int = _IN_MEMORY) -> Iterator[bytes]:
    """Yield all records in the order of their bytes. More than `in_memory` of them are sorted in runs on disk."""
    runs: list[list[tuple[int, int]]] = []
    scratch = Scratch(folder)
    waiting: list[bytes] = []
    for record in found:
        waiting.append(record)
        if len(waiting) >= in_memory:
            runs.append(_run(scratch, waiting))
            waiting = []
    yield from heapq.merge(sorted(waiting), *(_reread(scratch, run) for run in runs))


def _run(scratch: Scratch, waiting: list[bytes]) -> list[tuple[int, int]]:
    waiting.sort()
    places, block, size = [], [], 0
    for record in waiting:
        block.append(record)
        size += len(record)
        if size >= _RUN_BLOCK:
            places.append(scratch.append(b"\n".join([*block, b""])))
            block, size = [], 0
    return [*places, scratch.append(b"\n".join([*block, b""]))] if block else places


def _reread(scratch: Scratch, run: list[tuple[int, int]]) -> Iterator[bytes]:
    for place in run:
        yield from records(scratch.read(place))
