"""One file of a delivery on its way into a database. It is read once, and refused at its end if it differs from the manifest."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from waybill_consumer import shapes
from waybill_consumer.errors import Damaged, Refused
from waybill_consumer.manifest import Column, Csv, File, packing_of
from waybill_consumer.records import BLOCK, BOM, Record, Stored, records, text, unpacked


@dataclass(frozen=True)
class DataFile:
    """`columns` are those of the file in its order, with the types of the table.

    A file that is not CSV comes out as CSV all the same. `dialect` is how `plain` yields it.
    """

    path: Path
    file: File
    dialect: Csv
    columns: tuple[Column, ...]
    count: Callable[[int], None]
    format: str = "csv"

    @contextmanager
    def as_csv(self) -> Iterator[Path]:
        """A CSV file with these records, checked."""
        if self.format == "csv":
            self.check()
            yield self.path
            return
        with tempfile.NamedTemporaryFile(suffix=".csv") as copy:
            for block in self.plain():
                copy.write(block)
            copy.flush()
            yield Path(copy.name)

    def plain(self) -> Iterator[bytes]:
        """Yield the unpacked bytes, header first, without byte order mark. Raises Damaged, at the latest after the last block."""
        if self.format != "csv":
            yield from shapes.csv_of(self.records(), self.columns)
            return
        stored = Stored(self._blocks())
        is_first = True
        with self._placed(stored):
            for block in unpacked(stored, self.dialect.compression):
                if is_first:
                    self._check_header(block)
                    yield block[len(BOM) :] if block.startswith(BOM) else block
                else:
                    yield block
                is_first = False
        self._check(stored)

    def records(self) -> Iterator[Record]:
        """Yield every record without the header. Raises Damaged, at the latest after the last one."""
        if self.format != "csv":
            yield from self._shaped()
            return
        stored = Stored(self._blocks())
        rows, width = 0, len(self.columns)
        with self._placed(stored):
            found = records(text(unpacked(stored, self.dialect.compression)), self.dialect)
            self._compare(next(found, []))
            for record in found:
                if len(record) != width:
                    raise self._damaged(f"record {rows + 1} has {len(record)} fields instead of {width}")
                rows += 1
                yield record
        self._check(stored)
        self.check_rows(rows)

    def _shaped(self) -> Iterator[Record]:
        """Yield the records of a file that is not CSV. Parquet is read from its end, so its bytes are checked before."""
        rows = 0
        stored = Stored(self._blocks())
        if self.format == "parquet":
            self._check(stored)
        packing = packing_of(self.path.name)
        with self._placed(stored):
            found = (
                shapes.parquet_records(self.path, self.columns)
                if self.format == "parquet"
                else shapes.ndjson_records(text(unpacked(stored, packing)), self.columns)
            )
            for record in found:
                rows += 1
                yield record
        self._check(stored)
        self.check_rows(rows)

    @contextmanager
    def _placed(self, stored: Stored) -> Iterator[None]:
        """Name the file. Bytes that differ from the manifest explain whatever else is wrong with it."""
        try:
            yield
        except Refused as error:
            self._check(stored)
            raise error if error.where else type(error)(error.what, where=str(self.path), next_step=error.next_step) from None

    def header(self) -> list[str]:
        """Return the names in the first record. Raises Damaged if there is none."""
        stored = Stored(self._blocks())
        with self._placed(stored):
            first = next(records(text(unpacked(stored, self.dialect.compression)), self.dialect), [])
        return [text or "" for text in first]

    def check(self) -> None:
        """Read it only to know that it is whole. Raises Damaged."""
        stored = Stored(self._blocks())
        stored.drain()
        self._check(stored)

    def check_records(self) -> None:
        """Read it to its last record only to know that it is whole. Raises Damaged."""
        for _ in self.records():
            pass

    def check_rows(self, rows: int) -> None:
        if rows != self.file.rows:
            raise self._damaged(f"has {rows} records, its manifest says {self.file.rows}")

    def _blocks(self) -> Iterator[bytes]:
        try:
            with self.path.open("rb") as file:
                while block := file.read(BLOCK):
                    self.count(len(block))
                    yield block
        except FileNotFoundError:
            raise self._damaged("is listed in its manifest and missing") from None
        except PermissionError as error:
            step = "Let this account read it, then load again"
            raise Refused(f"cannot be read: {error.strerror}", where=str(self.path), next_step=step) from error
        except OSError as error:
            raise self._damaged(f"cannot be read: {error.strerror}") from error

    def _check(self, stored: Stored) -> None:
        stored.drain()
        if stored.bytes != self.file.bytes:
            raise self._damaged(f"has {stored.bytes} bytes, its manifest says {self.file.bytes}")
        if stored.sha256 != self.file.sha256:
            raise self._damaged(f"has SHA-256 {stored.sha256}, its manifest says {self.file.sha256}")

    def _check_header(self, block: bytes) -> None:
        line_end = self.dialect.line_ending.encode()
        head = block[: block.rfind(line_end) + len(line_end)]
        self._compare(next(records(text([head]), self.dialect), []))

    def _compare(self, header: Record) -> None:
        names = [column.name for column in self.columns]
        if header != names:
            raise self._damaged(
                f"has the header {', '.join(text or '' for text in header)[:200]}, its manifest says {', '.join(names)[:200]}"
            )

    def _damaged(self, what: str) -> Damaged:
        return Damaged(what, where=str(self.path))
