"""Reading a delivered file back as a stranger would: bytes, hash, and records counted by parsers that are not Waybill's, in one pass."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, cast

import zstandard

from waybill.files import shapes
from waybill.files.manifest import Csv

BLOCK = 1 << 18
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Recount:
    """Facts of one file's bytes. `header` and `rows` are None when it could not be read as the CSV it is said to be; `faults` say why."""

    bytes: int
    sha256: str
    header: tuple[str, ...] | None
    rows: int | None
    faults: tuple[str, ...]


class _Stored(io.RawIOBase):
    """The stored bytes as they arrive, hashed on the way."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._rest = memoryview(b"")
        self._hash = hashlib.sha256()
        self.bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        target = memoryview(cast("bytearray", buffer))
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._hash.update(block)
            self.bytes += len(block)
            self._rest = memoryview(block)
        count = min(len(target), len(self._rest))
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def drain(self) -> None:
        """Hash what nobody read."""
        self._rest = memoryview(b"")
        for block in self._blocks:
            self._hash.update(block)
            self.bytes += len(block)


class _Text(io.RawIOBase):
    """The unpacked bytes; remembers how they begin and end."""

    def __init__(self, inner: IO[bytes]) -> None:
        self._inner = inner
        self.head = b""
        self.tail = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        target = memoryview(cast("bytearray", buffer))
        block = self._inner.read(len(target))
        target[: len(block)] = block
        self.head += block[: 3 - len(self.head)]
        self.tail = (self.tail + block[-2:])[-2:]
        return len(block)


def recount(blocks: Iterable[bytes], dialect: Csv, columns: int, format: str = "csv") -> Recount:
    """Read a whole file in constant memory. Never raises for what the file holds; what reading `blocks` raises passes through.

    A file of NDJSON without records has no columns: `header` is None then.
    """
    if format == "parquet":
        return _recount_parquet(blocks)
    csv.field_size_limit(sys.maxsize)  # a field may be as long as the source holds
    stored = _Stored(blocks)
    header: tuple[str, ...] | None = None
    rows: int | None = None
    faults: list[str] = []
    try:
        text = _Text(_unpacked(io.BufferedReader(stored, BLOCK), dialect.compression))
        if format == "ndjson":
            lines = io.TextIOWrapper(io.BufferedReader(text, BLOCK), encoding="utf-8", newline="\n")
            header, rows, faults = shapes.count_ndjson(lines)
        else:
            lines = io.TextIOWrapper(io.BufferedReader(text, BLOCK), encoding="utf-8-sig", newline="")
            header, rows, faults = _count(records(lines, dialect), columns)
            faults += _edges(text.head, text.tail, dialect)
    except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        faults.append(f"is not whole {dialect.compression} data: {error}")
    except UnicodeDecodeError as error:
        faults.append(f"is not UTF-8: {error.reason}")
    except csv.Error as error:
        faults.append(f"is not the CSV its manifest describes: {error}")
    stored.drain()
    return Recount(stored.bytes, stored.sha256, header, rows, tuple(faults))


def records(lines: Iterable[str], dialect: Csv) -> Iterator[list[str]]:
    """Every record, header first. Raises csv.Error for misplaced quotes and an unfinished last record."""
    return csv.reader(lines, delimiter=dialect.delimiter, doublequote=True, strict=True)


def _recount_parquet(blocks: Iterable[bytes]) -> Recount:
    import pyarrow as pa

    stored = _Stored(blocks)
    buffered = io.BufferedReader(stored, BLOCK)
    with shapes.on_disk(iter(lambda: buffered.read(BLOCK), b"")) as file:
        try:
            header, rows = shapes.count_parquet(file)
        except (pa.ArrowException, OSError) as error:
            what = str(error).splitlines()[0]
            return Recount(stored.bytes, stored.sha256, None, None, (f"is not whole Parquet: {what}",))
    return Recount(stored.bytes, stored.sha256, header, rows, ())


def texts_of(blocks: Iterable[bytes], dialect: Csv, format: str, kinds: list[str]) -> Iterator[list[str]]:
    """Every record of a data file known to be whole, as the texts that CSV holds. `kinds` are the types of its columns."""
    if format == "parquet":
        with shapes.on_disk(blocks) as file:
            yield from shapes.parquet_records(file, kinds)
    elif format == "ndjson":
        unpacked = _unpacked(io.BufferedReader(_Stored(blocks), BLOCK), dialect.compression)
        yield from shapes.ndjson_records(io.TextIOWrapper(unpacked, encoding="utf-8", newline="\n"), kinds)
    else:
        yield from records_of(blocks, dialect)


def records_of(blocks: Iterable[bytes], dialect: Csv) -> Iterator[list[str]]:
    """Every record of a CSV file known to be whole, without its header."""
    csv.field_size_limit(sys.maxsize)
    unpacked = _unpacked(io.BufferedReader(_Stored(blocks), BLOCK), dialect.compression)
    found = records(io.TextIOWrapper(unpacked, encoding="utf-8-sig", newline=""), dialect)
    next(found, None)
    return found


def _unpacked(stored: io.BufferedReader, compression: str) -> IO[bytes]:
    if compression == "gzip":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=stored, mode="rb"))
    if compression == "zstd":
        return cast("IO[bytes]", zstandard.ZstdDecompressor().stream_reader(stored, read_across_frames=True))
    return stored


def _count(found: Iterator[list[str]], columns: int) -> tuple[tuple[str, ...] | None, int | None, list[str]]:
    first = next(found, None)
    if first is None:
        return None, None, ["is empty: not even a header"]
    rows = uneven = 0
    for record in found:
        rows += 1
        # A record of one NULL is an empty line.
        if len(record) != columns and not (columns == 1 and not record):
            uneven += 1
    return tuple(first), rows, [f"{uneven} records do not have {columns} fields"] if uneven else []


def _edges(head: bytes, tail: bytes, dialect: Csv) -> Iterator[str]:
    marked = head == _BOM
    if marked != dialect.bom:
        yield f"begins {'with' if marked else 'without'} a byte order mark, its manifest says the opposite"
    if not tail.endswith(dialect.line_ending.encode()) or (dialect.line_ending == "\n" and tail == b"\r\n"):
        yield f"the last record does not end in {dialect.line_ending!r}"
