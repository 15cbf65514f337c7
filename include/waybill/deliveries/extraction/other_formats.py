"""Scheduled files that are not CSV. They are made of the same canonical records, so every kind of source gives the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

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
"""Rows that are written at once. The number is fixed, so that the same rows give the same bytes, in whatever blocks they come."""
GROUP_BYTES = 64 << 20
"""Bytes of texts that end a group of fewer rows, which may be megabytes long."""


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
        self._rows = self._bytes = 0

    def write(self, block: bytes | memoryview) -> None:
        if not block:
            return
        reader, writer = self._begun()
        for batch in self._read(reader, block):
            for group in self._groups(batch):
                writer.write(group)

    def finish(self) -> None:
        reader, writer = self._begun()
        for group in self._rest():
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

    def _read(self, reader: Reader, block: bytes | memoryview) -> Iterator[pa.RecordBatch]:
        from waybill.sources.duckdb import engine

        try:
            with engine.errors(self._selection.entity.id):
                yield from reader.read(block)
        except drift.EngineMisfit:
            raise self._does_not_fit() from None  # the engine's own message would repeat the value

    def _groups(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Yield the groups that a batch fills. Where a group ends depends on the rows alone."""
        import numpy as np

        ends, start, count = np.cumsum(_sizes(batch)), 0, batch.num_rows
        while start < count:
            before = int(ends[start - 1]) if start else 0
            full = int(np.searchsorted(ends, before + GROUP_BYTES - self._bytes)) + 1
            stop = min(count, start + GROUP - self._rows, full)
            self._waiting.append(batch.slice(start, stop - start))
            self._rows, self._bytes, start = self._rows + stop - start, self._bytes + int(ends[stop - 1]) - before, stop
            if self._rows == GROUP or self._bytes >= GROUP_BYTES:
                yield from self._rest()

    def _rest(self) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        if self._waiting:
            group = pa.concat_batches(self._waiting)
            self._waiting, self._rows, self._bytes = [], 0, 0
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


def _sizes(batch: pa.RecordBatch) -> Any:
    """Return how many bytes of texts each row holds."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    found = np.zeros(batch.num_rows, np.int64)
    for column in batch.columns:
        if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
            found += np.asarray(pc.fill_null(pc.binary_length(column), 0))
    return found
