"""Scheduled files that are not CSV. They are made of the same canonical records, so every kind of source gives the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from waybill.configuration.selection import FileStyle, Selection
from waybill.errors import PermanentError
from waybill.formats.base import Written
from waybill.formats.csv import Compressed, Front
from waybill.sink import Sink
from waybill.sources import drift
from waybill.sources.sql import Natives

if TYPE_CHECKING:
    import pyarrow as pa

    from waybill.formats.base import Writer
    from waybill.sources.arrow import Reader

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""The time of writing that the files name: always the same, so that the same rows give the same bytes."""
GROUP = 10_000
"""Rows in a row group of Parquet. The number is fixed, so that the same rows give the same bytes, in whatever blocks they come."""


def other_format(style: FileStyle, selection: Selection, natives: Natives) -> Callable[[Sink], Front]:
    """Return the object that makes files of the style's format out of canonical records. The format is not CSV."""
    return lambda sink: _FormattedFile(style, selection, natives, sink)


class _Output:
    """A sink in the form of a file that a library can write to."""

    closed = False

    def __init__(self, front: Compressed) -> None:
        self._front = front
        self._bytes = 0
        self._given_up = False

    def write(self, block: bytes | memoryview) -> int:
        """Append. What a library still writes while it is being released is dropped."""
        if not self._given_up:
            self._front.write(block)
            self._bytes += len(block)
        return len(block)

    def tell(self) -> int:
        return self._bytes

    def flush(self) -> None:
        """Do nothing: no bytes are held back."""

    def finish(self, rows: int, columns: tuple[str, ...], withheld: Mapping[str, int]) -> Written:
        return Written(rows, self._bytes, "", columns, withheld)  # the sink knows the hash

    def discard(self) -> None:
        self._given_up = True


class _FormattedFile:
    """One file. The first records begin it, because a run may end before there are any."""

    def __init__(self, style: FileStyle, selection: Selection, natives: Natives, sink: Sink) -> None:
        self._selection, self._natives, self._is_parquet = selection, natives, style.format == "parquet"
        self._front = Compressed(sink, "none" if self._is_parquet else style.compression)
        self._open: tuple[Reader, Writer] | None = None
        self._waiting: list[pa.RecordBatch] = []

    def write(self, block: bytes | memoryview) -> None:
        import duckdb

        if not block:
            return
        reader, writer = self._begun()
        try:
            for batch in reader.read(block):
                self._waiting.append(batch)
                for group in self._groups(GROUP):
                    writer.write(group)
        except duckdb.Error:
            # The database's own message would repeat the value.
            raise self._does_not_fit() from None

    def finish(self) -> None:
        reader, writer = self._begun()
        for group in self._groups(1):
            writer.write(group)
        writer.close()
        reader.close()
        self._open = None
        self._front.finish()

    def discard(self) -> None:
        if self._open is not None:
            reader, writer = self._open
            writer.discard()
            reader.close()

    def _groups(self, least: int) -> Iterator[pa.RecordBatch]:
        """Yield the waiting rows in groups of `GROUP`, as long as there are that many."""
        import pyarrow as pa

        if sum(batch.num_rows for batch in self._waiting) < least:
            return
        whole = pa.concat_batches(self._waiting)
        self._waiting = []
        for start in range(0, whole.num_rows, GROUP):
            group = whole.slice(start, GROUP)
            if group.num_rows < GROUP and least > 1:
                self._waiting.append(group)
            else:
                yield group

    def _does_not_fit(self) -> PermanentError:
        step = "Set files: {format: ndjson} or csv for the tenant, or catalogue the column as string"
        return drift.too_large(self._selection.entity.id, drift.tight_columns(self._selection, self._natives), step)

    def _begun(self) -> tuple[Reader, Writer]:
        from waybill.formats.base import WriterOptions
        from waybill.formats.json_text import NdjsonWriter
        from waybill.formats.parquet import ParquetWriter
        from waybill.sources import arrow

        if self._open is None:
            columns, output = self._selection.columns, _Output(self._front)
            options = WriterOptions(EPOCH, clean=False)
            if self._is_parquet:
                reader = arrow.reader(columns, self._natives)
                self._open = reader, ParquetWriter(output, columns, options, reader.schema)
            else:
                self._open = arrow.texts(columns), NdjsonWriter(output, columns, options)
        return self._open
