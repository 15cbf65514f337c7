"""Reads the data files: unpacks and hashes them on the way, and takes them apart into records in which NULL and the empty string differ.

Python's own csv module cannot tell an unquoted empty field (NULL) from a quoted one before 3.13. Memory holds a block and a record, and a
record has a largest size: a few packed bytes could otherwise unpack to one record that fills the memory.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import os
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any, cast

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from waybill_consumer.errors import Damaged, Refused
from waybill_consumer.manifest import Csv

BLOCK = 1 << 18
LARGEST_RECORD = "WAYBILL_CONSUMER_LARGEST_RECORD"
"""The environment variable that says how many MiB a record may have."""
USUAL_LARGEST_MIB, MOST_LARGEST_MIB = 64, 4096
MOST_FIELDS = 1 << 16
"""No more fields of a record are taken apart. What follows stays in one, and the record has other fields than the manifest says."""
BOM = b"\xef\xbb\xbf"
Record = list["str | None"]


class Stored(io.RawIOBase):
    """Stored bytes as they arrive, counted and hashed on the way."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._rest = memoryview(b"")
        self._hash = hashlib.sha256()
        self._failed: Refused | None = None
        self.bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        target = memoryview(cast("bytearray", buffer))
        while not self._rest:
            if not self._next():
                return 0
        count = min(len(target), len(self._rest))
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def drain(self) -> None:
        """Hash what nobody read. Raises again what ended the bytes too early: they tell nothing of the file then."""
        while self._next():
            pass

    def _next(self) -> bool:
        if self._failed is not None:
            raise self._failed
        try:
            block = next(self._blocks, None)
        except Refused as error:
            self._failed = error
            raise
        if block is None:
            return False
        self._hash.update(block)
        self.bytes += len(block)
        self._rest = memoryview(block)
        return True


def unpacked(stored: Stored, compression: str) -> Iterator[bytes]:
    """Yield the plain bytes in blocks, including a byte order mark. Raises Damaged if they do not unpack."""
    raw = io.BufferedReader(stored, BLOCK)
    plain = cast("IO[bytes]", _OPEN[compression](raw))
    try:
        while block := plain.read(BLOCK):
            yield block
    except (EOFError, gzip.BadGzipFile, zlib.error, zstd.ZstdError) as error:
        raise Damaged(f"is not whole {compression} data: {error}") from None


def _gzip(raw: Any) -> Any:
    return gzip.GzipFile(fileobj=raw, mode="rb")


def _zstd(raw: Any) -> Any:
    return zstd.ZstdFile(raw)


def _none(raw: Any) -> Any:
    return raw


_OPEN = {"none": _none, "gzip": _gzip, "zstd": _zstd}


def text(blocks: Iterable[bytes]) -> Iterator[str]:
    """Yield UTF-8 without its byte order mark. Raises Damaged for anything else."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    try:
        for block in blocks:
            yield decoder.decode(block)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise Damaged(f"is not UTF-8: {error.reason}") from None


def largest_record() -> int:
    """Return how many characters a record may have. Raises Refused for a setting that is no number of MiB."""
    configured = os.environ.get(LARGEST_RECORD, "").strip()
    if not configured:
        return USUAL_LARGEST_MIB << 20
    if not re.fullmatch("[0-9]{1,4}", configured) or not 1 <= int(configured) <= MOST_LARGEST_MIB:
        step = f"Set it to a whole number from 1 to {MOST_LARGEST_MIB}, or leave it out"
        raise Refused(f"{LARGEST_RECORD} is no number of MiB", next_step=step)
    return int(configured) << 20


def require_record_size(size: int, largest: int) -> None:
    """Raise Refused if a record that is not at its end yet already has more characters than a record may have."""
    if size > largest:
        step = f"Ask the sender whether it has to be; if it has, set {LARGEST_RECORD} to more MiB"
        raise Refused(f"holds a record of more than {largest >> 20} MiB", next_step=step)


def records(blocks: Iterable[str], dialect: Csv) -> Iterator[Record]:
    """Yield every record, header first. An unquoted empty field is None. Raises Damaged for what is not RFC 4180 in this dialect."""
    field = _field(dialect.delimiter)
    delimiter, end = dialect.delimiter, dialect.line_ending
    for line in _lines(blocks, end):
        if '"' in line:
            yield _quoted(line, field, delimiter)
        elif "\r" in line or "\n" in line:
            raise Damaged("holds a line end outside quotes")
        else:
            yield [text or None for text in line.split(delimiter, MOST_FIELDS)]


def _lines(blocks: Iterable[str], end: str) -> Iterator[str]:
    """Yield what is between line ends outside quotes. A quote inside a field is doubled, so there is an even number of quotes outside."""
    rest = io.StringIO()  # a list of a record's lines would take many times the memory of the record
    size, largest = 0, largest_record()
    is_open = False
    waiting = ""
    for text_ in with_line_ends(blocks, end):
        *whole, waiting = (waiting + text_).split(end)
        for line in whole:
            if line.count('"') % 2:
                is_open = not is_open
            if is_open or size:
                rest.write(line)
                size += len(line) + len(end)
                require_record_size(size, largest)
                if is_open:
                    rest.write(end)
                else:
                    yield rest.getvalue()
                    rest, size = io.StringIO(), 0
            else:
                yield line
    if size or '"' in waiting:
        raise Damaged("ends inside a record")
    if waiting:
        raise Damaged(f"the last record does not end in {end!r}")


def with_line_ends(blocks: Iterable[str], end: str) -> Iterator[str]:
    """Yield the same text in blocks that hold a line end, so that a record of many blocks is put together once.

    Raises Refused for a line that is longer than a record may be.
    """
    pieces: list[str] = []
    size, largest = 0, largest_record()
    for block in blocks:
        pieces.append(block)
        size += len(block)
        if end in block or (end == "\r\n" and block.startswith("\n")):
            yield "".join(pieces)
            pieces, size = [], 0
        require_record_size(size, largest)
    if pieces:
        yield "".join(pieces)


def _field(delimiter: str) -> re.Pattern[str]:
    mark = re.escape(delimiter)
    return re.compile(rf'(?:"((?:[^"]|"")*)"|([^"\r\n{mark}]*))({mark}|\Z)')


def _quoted(line: str, field: re.Pattern[str], delimiter: str) -> Record:
    """Return a record with quotes in it."""
    found: Record = [*line.split(delimiter, MOST_FIELDS)]
    if line.count('"') == 2 * found.count('""'):  # the only quotes are those of empty strings
        return ["" if text == '""' else text or None for text in found]
    found = []
    at = 0
    while True:
        match = field.match(line, at)
        if match is None:
            raise Damaged("holds a quote in the wrong place")
        quoted, bare, after = match.groups()
        found.append((bare or None) if quoted is None else quoted.replace('""', '"'))
        at = match.end()
        if after != delimiter or len(found) > MOST_FIELDS:
            return found
