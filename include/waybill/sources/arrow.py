"""Reads canonical CSV as Arrow, for sources that make their text in the database."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing

import pyarrow as pa
from pyarrow import csv

from waybill.canonical import ColumnType
from waybill.configuration.selection import Block, Selection
from waybill.configuration.values.columns import Column
from waybill.sources import drift
from waybill.sources.duckdb import engine
from waybill.sources.sql import Natives, quote

_DECIMALS = ("numeric", "decimal")
_WIDE = frozenset({"hugeint", "ubigint"})
"""Integers that may need more than 64 bits."""
_UNBOUNDED = frozenset({"uhugeint", "bignum"})
"""Integers that may need more than 38 digits."""
_CASTS = {
    ColumnType.INTEGER: "CAST({} AS BIGINT)",
    ColumnType.FLOAT: "CAST({} AS DOUBLE)",
    ColumnType.BOOLEAN: "CAST({} AS BOOLEAN)",
    ColumnType.DATE: "CAST(replace({}, ' BC', ' (BC)') AS DATE)",
    ColumnType.TIMESTAMP: "CAST(regexp_replace({}, '^([^T]*)T(.*)Z BC$', '\\1 (BC) \\2+00') AS TIMESTAMP WITH TIME ZONE)",
    ColumnType.BINARY: "from_base64({})",
}


class Reader:
    """Takes blocks of canonical records (comma, LF) and gives them as Arrow, each column by its expression. `close` ends it."""

    def __init__(self, columns: Iterable[str], casts: Sequence[str]) -> None:
        self._names = [f"c{number}" for number, _ in enumerate(casts)]
        named = zip(casts, columns, strict=True)
        self._projection = ", ".join(
            f"{cast.format(name)} AS {quote(column)}" for name, (cast, column) in zip(self._names, named, strict=True)
        )
        self._convert = csv.ConvertOptions(
            column_types=dict.fromkeys(self._names, pa.string()),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        )
        self._held = ExitStack()
        self._connection = self._held.enter_context(engine.connect_beside())

    @property
    def schema(self) -> pa.Schema:
        """Return the schema of every batch, also if there is no batch."""
        empty = pa.table({name: pa.array([], pa.string()) for name in self._names})
        return self._connection.from_arrow(empty).project(self._projection).to_arrow_reader(1).schema

    def read(self, block: bytes | memoryview) -> Iterator[pa.RecordBatch]:
        """Raises duckdb.Error, or the OSError that Arrow makes of it, for a text that is no value of its column's type."""
        read = csv.ReadOptions(column_names=self._names, block_size=len(block) + len(BOM_UTF8) + 1, use_threads=False)
        parse = csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)
        if bytes(block[:3]) == BOM_UTF8:  # the reader takes it for a mark of the encoding, but here it is the first character of a value
            block = BOM_UTF8 + block
        texts = csv.read_csv(pa.py_buffer(block), read, parse, self._convert)
        yield from self._connection.from_arrow(texts).project(self._projection).to_arrow_reader(engine.BATCH_ROWS)

    def close(self) -> None:
        self._held.close()


def reader(columns: Mapping[str, Column], natives: Natives, typed: bool = True) -> Reader:
    """Return a reader into the Arrow types of the columns. What the source declares of numbers counts, so that no value is rounded.

    Without `typed`, a column stays text if such a type might not hold a value.
    """
    declared = {name: natives[column.source(name)].lower() for name, column in columns.items()}
    return Reader(
        columns,
        [_cast(column, declared[name]) if typed or not drift.tight(declared[name], column) else "{}" for name, column in columns.items()],
    )


def texts(columns: Mapping[str, Column]) -> Reader:
    """Return the expressions for texts. Floats become numbers, because infinity is written differently."""
    return Reader(columns, ["CAST({} AS DOUBLE)" if column.leaves_as is ColumnType.FLOAT else "{}" for column in columns.values()])


def batches(blocks: Iterable[Block], selection: Selection, natives: Natives, where: str, typed: bool) -> Iterator[pa.RecordBatch]:
    """Yield the records of canonical CSV in the Arrow types of the selection's columns. Errors name `where` they come from."""
    with closing(reader(selection.columns, natives, typed)) as into, engine.errors(where):
        for block, _ in blocks:
            yield from into.read(block)


def _cast(column: Column, native: str) -> str:
    """A number of no declared precision, or of more than 38 digits, stays text: no Arrow type holds every value of it."""
    if column.export == "anonymize":
        return "{}"
    if column.type is ColumnType.DECIMAL:
        return _decimal(native)
    if column.type is ColumnType.INTEGER and native.startswith(_DECIMALS):
        return _decimal(native)
    if column.type is ColumnType.INTEGER and native in _UNBOUNDED:
        return "{}"
    if column.type is ColumnType.INTEGER and ("unsigned" in native or native in _WIDE):
        return "CAST({} AS DECIMAL(38, 0))"
    return _CASTS.get(column.type, "{}")


def _decimal(native: str) -> str:
    match = re.match(r"(?:numeric|decimal)\((\d+)(?:,\s*(\d+))?\)", native)
    if match and (digits := max(int(match[1]), int(match[2] or 0))) <= 38:  # PostgreSQL takes more decimals than digits, for small values
        return f"CAST({{}} AS DECIMAL({digits}, {match[2] or 0}))"
    return "CAST({} AS DECIMAL(38, 0))" if "int" in native and native not in _UNBOUNDED else "{}"
