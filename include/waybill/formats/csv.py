"""Makes the CSV files of one attempt from blocks of canonical records: header, byte order mark, compression, parts."""

from __future__ import annotations

import gzip
import io
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol

import zstandard

from waybill.canonical import csv_line
from waybill.configuration.selection import Block, FileStyle
from waybill.sink import Plain, Sink


@dataclass(frozen=True)
class WrittenFile:
    """One finished file. `number` counts from 1."""

    number: int
    rows: int
    bytes: int
    sha256: str
    plain: Plain | None = None
    """What an encrypted file was before."""


class Front(Protocol):
    """Makes the file's bytes of the records, in front of a sink. `finish` or `discard` ends it."""

    def write(self, block: bytes | memoryview) -> None: ...
    def finish(self) -> None: ...
    def discard(self) -> None: ...


class Compressed:
    """Compresses records as they are. The result is deterministic: no time stamp, no file name."""

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

    def discard(self) -> None:
        """Do nothing: there is nothing to release."""

    def _drain(self) -> None:
        if self._buffer.tell():
            self._sink.write(self._buffer.getvalue())
            self._buffer.seek(0)
            self._buffer.truncate()


def header(columns: Iterable[str], style: FileStyle) -> bytes:
    line = csv_line(list(columns), style.delimiter, style.line_end).encode()
    return (b"\xef\xbb\xbf" if style.bom else b"") + line


def write_csv(
    blocks: Iterable[Block],
    columns: Iterable[str],
    style: FileStyle,
    new_file: Callable[[int], Sink],
    progress: Callable[[int], None] = lambda rows: None,
    front: Callable[[Sink], Front] | None = None,
) -> list[WrittenFile]:
    """Write all records and return the finished files. There is at least one, with only a header if there are no rows.

    Each file begins with the header, unless `front` makes another format of the records. With `max_rows_per_file`, a new file begins when
    the last one is full. No block crosses that bound, because Snapshot.csv keeps to it. A thread of its own compresses, hashes and writes a
    block while the next one is read.
    """
    files = _Files(header(columns, style), style, new_file, front)
    return files.write(files.begin(), blocks, progress)


_SIGNAL_SECONDS = 1.0
"""How long a signal may go unnoticed."""


def write_side_by_side(
    streams: Sequence[tuple[Iterable[Block], Callable[[], None]]],
    columns: Iterable[str],
    style: FileStyle,
    new_file: Callable[[int], Sink],
    progress: Callable[[int], None] = lambda rows: None,
    front: Callable[[Sink], Front] | None = None,
) -> list[WrittenFile]:
    """Do as `write_csv`, for several streams at once. Each begins a file of its own and comes with what stops it.

    Several threads call `new_file` and `progress`, one at a time. The first error, or an interruption of this thread, stops the streams.
    """
    files = _Files(header(columns, style), style, new_file, front)
    totals = [0] * len(streams)
    telling = threading.Lock()

    def run(at: int, first: _Open) -> list[WrittenFile]:
        def tell(rows: int) -> None:
            with telling:
                totals[at] = rows
                progress(sum(totals))

        return files.write(first, streams[at][0], tell)

    begun = [files.begin() for _ in streams]  # numbered in the order of the streams
    with ThreadPoolExecutor(len(streams), "waybill-stream") as pool:
        try:
            running = [pool.submit(run, at, first) for at, first in enumerate(begun)]
            pending = set(running)
            while pending:  # a signal that comes right before the wait is seen at its end
                done, pending = wait(pending, timeout=_SIGNAL_SECONDS, return_when=FIRST_EXCEPTION)
                if failed := next((error for future in done if (error := future.exception())), None):
                    raise failed
        except BaseException:  # also what interrupts this thread, which would wait for all streams to end
            for _, stop in streams:
                stop()
            raise
    return sorted((file for future in running for file in future.result()), key=lambda file: file.number)


@dataclass
class _Open:
    number: int
    sink: Sink
    front: Front
    rows: int = 0


class _Files:
    """Begins files, each with the next number, from any thread."""

    def __init__(
        self, head: bytes, style: FileStyle, new_file: Callable[[int], Sink], front: Callable[[Sink], Front] | None = None
    ) -> None:
        self._head, self._style, self._new_file = b"" if front else head, style, new_file
        self._front = front or (lambda sink: Compressed(sink, style.compression))
        self._number, self._lock = 0, threading.Lock()

    def begin(self) -> _Open:
        with self._lock:
            self._number += 1
            sink = self._new_file(self._number)
            return _Open(self._number, sink, self._front(sink))

    def write(self, file: _Open, blocks: Iterable[Block], progress: Callable[[int], None]) -> list[WrittenFile]:
        written: list[WrittenFile] = []
        most, total = self._style.max_rows_per_file, 0
        try:
            with ThreadPoolExecutor(1, "waybill-write") as writing:
                before = writing.submit(file.front.write, self._head)
                for block, count in blocks:
                    before.result()
                    if most and file.rows + count > most:
                        written.append(_finished(file))
                        file = self.begin()
                        file.front.write(self._head)
                    before = writing.submit(file.front.write, block)
                    file.rows, total = file.rows + count, total + count
                    progress(total)
                before.result()
        except BaseException:
            file.front.discard()
            raise
        return [*written, _finished(file)]


def _finished(file: _Open) -> WrittenFile:
    file.front.finish()
    return WrittenFile(file.number, file.rows, file.sink.bytes, file.sink.sha256)
