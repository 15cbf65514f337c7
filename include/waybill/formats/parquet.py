"""Parquet with the catalogued types as Arrow carries them: exact decimals, UTC timestamps, JSON and UUID as text."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
from pyarrow import parquet

from waybill.canonical import ColumnType
from waybill.configuration.values.columns import Column
from waybill.formats.base import Target, WriterOptions, Written
from waybill.formats.intake import Intake

_EMPTY = {
    ColumnType.INTEGER: pa.int64(),
    ColumnType.DECIMAL: pa.decimal128(38, 9),
    ColumnType.FLOAT: pa.float64(),
    ColumnType.BOOLEAN: pa.bool_(),
    ColumnType.DATE: pa.date32(),
    ColumnType.TIMESTAMP: pa.timestamp("us", "UTC"),
    ColumnType.BINARY: pa.binary(),
}
"""What a file without rows says of its columns."""


class ParquetWriter:
    """`schema` gives the columns' types if they are known before the first row. Otherwise the first rows tell them."""

    def __init__(self, output: Target, columns: Mapping[str, Column], options: WriterOptions, schema: pa.Schema | None = None) -> None:
        self._options = options
        self._schema = schema
        self._intake = Intake(columns, clean_values=options.clean)
        self._output = output
        self._parquet: parquet.ParquetWriter | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        for piece in self._intake.take(batch):
            self._put(piece)

    def close(self) -> Written:
        for piece in self._intake.rest():
            self._put(piece)
        if self._parquet is None:
            kinds = [_EMPTY.get(column.leaves_as, pa.string()) for column in self._intake.columns.values()]
            self._parquet = self._begin(kinds if self._schema is None else self._schema.types, None)
        self._parquet.close()
        return self._output.finish(self._intake.rows, tuple(self._intake.columns), self._intake.withheld)

    def discard(self) -> None:
        self._output.discard()
        if self._parquet is not None:
            self._parquet.close()

    def _put(self, piece: pa.RecordBatch) -> None:
        if self._parquet is None:
            self._parquet = self._begin((self._schema or piece.schema).types, piece)
        schema = self._parquet.schema
        arrays = [array.cast(field.type) for array, field in zip(piece.columns, schema, strict=True)]
        self._parquet.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
        self._options.heartbeat()

    def _begin(self, types: list[pa.DataType], first: pa.RecordBatch | None) -> parquet.ParquetWriter:
        fields = [
            pa.field(name, kind, metadata={"description": column.description, "type": column.leaves_as.value})
            for (name, column), kind in zip(self._intake.columns.items(), types, strict=True)
        ]
        repeating = [name for name, array in zip(self._intake.columns, first.columns, strict=True) if _repeats(array)] if first else []
        file = pa.PythonFile(self._output, mode="w")
        return parquet.ParquetWriter(file, pa.schema(fields), compression="zstd", use_dictionary=repeating)


def _repeats(array: pa.Array) -> bool:
    """Return whether a dictionary of its values is likely to be smaller than the values. A useless one costs half of the time."""
    sample = array.slice(0, 1_000)
    return 2 * len(sample.unique()) <= len(sample)
