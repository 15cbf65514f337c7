"""Takes batches of any size, cleans them of credentials, and cuts them into pieces of a size that keeps memory flat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import pyarrow as pa

from waybill.configuration.values.columns import Column
from waybill.formats import clean

ROWS = 50_000
BYTES = 8 << 20


class Intake:
    """Counts and cleans what a writer is given. `names` are neutral (c0, c1, ...), so that no column name ever meets a query."""

    def __init__(self, columns: Mapping[str, Column], *, clean_values: bool = True) -> None:
        self.columns = columns
        self._cleans = clean_values
        self.names = [f"c{number}" for number, _ in enumerate(columns)]
        self.rows = 0
        self.withheld: Counter[str] = Counter()
        self._waiting: list[pa.RecordBatch] = []
        self._size = 0

    def take(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Return the pieces that are ready. Small batches wait until there is enough for one."""
        self.rows += batch.num_rows
        batch = batch.select(list(self.columns))
        for piece in _cut(batch):
            self._waiting.append(piece)
            self._size += piece.nbytes
            if self._size >= BYTES or sum(waiting.num_rows for waiting in self._waiting) >= ROWS:
                yield from self.rest()

    def rest(self) -> Iterator[pa.RecordBatch]:
        """Return what still waits, as one piece."""
        if self._waiting:
            waiting, self._waiting, self._size = self._waiting, [], 0
            piece = waiting[0] if len(waiting) == 1 else pa.concat_batches(waiting)
            if piece.num_rows:
                yield self._clean(piece)

    def _clean(self, piece: pa.RecordBatch) -> pa.RecordBatch:
        arrays = piece.columns
        if self._cleans:
            found = list(clean.columns(arrays, list(self.columns.values())))
            arrays = [cleaned for cleaned, _ in found]
            self.withheld.update({name: count for name, (_, count) in zip(self.columns, found, strict=True) if count})
        return pa.RecordBatch.from_arrays(arrays, names=self.names)


def _cut(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    if batch.num_rows <= 1 or (batch.num_rows <= ROWS and batch.nbytes <= BYTES):
        yield batch
        return
    half = batch.num_rows // 2
    yield from _cut(batch.slice(0, half))
    yield from _cut(batch.slice(half))
