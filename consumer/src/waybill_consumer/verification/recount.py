"""Reads one delivered file back in constant memory: its bytes, its hash, its header and its records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from waybill_consumer import shapes
from waybill_consumer.errors import Refused
from waybill_consumer.manifest import Csv, File, packing_of
from waybill_consumer.records import BOM, Stored, records, text, unpacked


class Recount(NamedTuple):
    """Facts of one file's bytes. `header` and `rows` are None if it is not the CSV that it should be. `faults` say why."""

    bytes: int
    sha256: str
    header: tuple[str, ...] | None
    rows: int | None
    faults: tuple[str, ...]


class _Edges:
    """Remembers how a stream of bytes begins."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = blocks
        self.head = b""

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self.head += block[: max(0, 3 - len(self.head))]
            yield block


def recount(blocks: Iterable[bytes], dialect: Csv, columns: int, format: str = "csv") -> Recount:
    """Read a whole file. This never raises for what the file holds. What reading `blocks` raises passes through."""
    stored = Stored(blocks)
    if format == "pgp":
        stored.drain()
        return Recount(stored.bytes, stored.sha256, None, None, ())
    if format != "csv":
        return _recount_shaped(stored, dialect, format)
    plain = _Edges(unpacked(stored, dialect.compression))
    header: tuple[str, ...] | None = None
    rows: int | None = None
    faults: list[str] = []
    try:
        found = records(text(plain), dialect)
        first = next(found, None)
        if first is None:
            faults.append("is empty: not even a header")
        else:
            counted, uneven = 0, 0
            for record in found:
                counted += 1
                uneven += len(record) != columns
            header, rows = tuple(text or "" for text in first), counted
            faults += [f"{uneven} records do not have {columns} fields"] if uneven else []
        if (plain.head == BOM) != dialect.bom:
            faults.append(f"begins {'without' if dialect.bom else 'with'} a byte order mark, its manifest says the opposite")
    except Refused as error:
        faults.append(error.what)
    stored.drain()
    return Recount(stored.bytes, stored.sha256, header, rows, tuple(faults))


def _recount_shaped(stored: Stored, dialect: Csv, format: str) -> Recount:
    """NDJSON without records has no columns, and Parquet is not counted without DuckDB. None stands for both."""
    header: tuple[str, ...] | None = None
    rows: int | None = None
    faults: tuple[str, ...] = ()
    try:
        if format == "parquet":
            header, rows = shapes.parquet_counted(unpacked(stored, "none")) or (None, None)
        else:
            lines = shapes.ndjson_lines(text(unpacked(stored, dialect.compression)))
            rows, uneven = 0, 0
            for number, found in enumerate(lines, 1):
                rows = number
                names = tuple(name for name, _ in found)
                header = header or names
                uneven += names != header
            faults = (f"{uneven} records have other fields than the first",) if uneven else ()
    except Refused as error:
        rows, faults = None, (error.what,)
    stored.drain()
    return Recount(stored.bytes, stored.sha256, header, rows, faults)


def differences(found: Recount, file: File, names: tuple[str, ...]) -> Iterator[str]:
    """Return where a file differs from its manifest. `names` are the columns that its header must hold."""
    if found.bytes != file.bytes:
        yield f"has {found.bytes} bytes, its manifest says {file.bytes}"
    if found.sha256 != file.sha256:
        yield f"has SHA-256 {found.sha256}, its manifest says {file.sha256}"
    if found.rows is not None and found.rows != file.rows:
        yield f"has {found.rows} records, its manifest says {file.rows}"
    if found.header is not None and found.header != names:
        yield f"has the header {', '.join(found.header)[:200]}, its manifest says {', '.join(names)[:200]}"
    yield from found.faults


def dialect_of(file: File, dialect: Csv) -> Csv:
    """Return the dialect of one file. Its own name tells whether it is compressed."""
    return dialect._replace(compression=packing_of(file.path))
