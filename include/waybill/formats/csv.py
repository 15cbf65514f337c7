"""From blocks of canonical records to the CSV files of one attempt: header, byte order mark, compression, parts."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import zstandard

from waybill.canonical import csv_line
from waybill.configuration.selection import Dialect


class Sink(Protocol):
    """Where the bytes of one file go."""

    def write(self, block: bytes | memoryview) -> None: ...
    def finish(self) -> None: ...
    @property
    def sha256(self) -> str: ...
    @property
    def bytes(self) -> int: ...


@dataclass(frozen=True)
class Written:
    """One finished file: `number` counts from 1."""

    number: int
    rows: int
    bytes: int
    sha256: str


class _Compressed:
    """A sink's compressing front. Deterministic: no time stamp, no file name."""

    def __init__(self, sink: Sink, compression: str) -> None:
        self._sink = sink
        self._buffer = io.BytesIO()
        self._stream: gzip.GzipFile | zstandard.ZstdCompressionWriter | None = None
        if compression == "gzip":
            self._stream = gzip.GzipFile(fileobj=self._buffer, mode="wb", compresslevel=6, mtime=0, filename="")
        elif compression == "zstd":
            self._stream = zstandard.ZstdCompressor(level=3, write_checksum=True).stream_writer(self._buffer, closefd=False)

    def write(self, block: bytes | memoryview) -> None:
        if self._stream is None:
            self._sink.write(block)
            return
        self._stream.write(block)
        self._drain()

    def finish(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._drain()
        self._sink.finish()

    def _drain(self) -> None:
        if self._buffer.tell():
            self._sink.write(self._buffer.getvalue())
            self._buffer.seek(0)
            self._buffer.truncate()


def header(columns: Iterable[str], dialect: Dialect) -> bytes:
    line = csv_line(list(columns), dialect.delimiter, dialect.line_end).encode()
    return (b"\xef\xbb\xbf" if dialect.bom else b"") + line


def write_csv(
    blocks: Iterable[tuple[bytes | memoryview, int]],
    columns: Iterable[str],
    dialect: Dialect,
    new_file: Callable[[int], Sink],
    progress: Callable[[int], None] = lambda rows: None,
) -> list[Written]:
    """Write all records and return the finished files, at least one (header only when there are no rows).

    Each file begins with the header. With `max_rows_per_file` a new file begins when the last is full; no block crosses that bound
    (Snapshot.csv keeps to it). A block is compressed, hashed and written on a thread of its own while the next one is read.
    """
    head = header(columns, dialect)
    written: list[Written] = []
    sink, front = _begin(1, dialect, new_file)
    rows = total = 0
    with ThreadPoolExecutor(1, "waybill-write") as writing:
        before = writing.submit(front.write, head)
        for block, count in blocks:
            before.result()
            if dialect.max_rows_per_file and rows + count > dialect.max_rows_per_file:
                front.finish()
                written.append(Written(len(written) + 1, rows, sink.bytes, sink.sha256))
                sink, front, rows = *_begin(len(written) + 1, dialect, new_file), 0
                front.write(head)
            before = writing.submit(front.write, block)
            rows, total = rows + count, total + count
            progress(total)
        before.result()
    front.finish()
    return [*written, Written(len(written) + 1, rows, sink.bytes, sink.sha256)]


def _begin(number: int, dialect: Dialect, new_file: Callable[[int], Sink]) -> tuple[Sink, _Compressed]:
    sink = new_file(number)
    return sink, _Compressed(sink, dialect.compression)
