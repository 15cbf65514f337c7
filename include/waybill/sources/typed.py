"""Canonical CSV as Arrow, for sources that make text in the database."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyarrow import csv

from waybill.canonical import ColumnType
from waybill.configuration.columns import Column
from waybill.configuration.selection import Selection
from waybill.sources import engine
from waybill.sources.sql import Natives, quote

_CASTS = {
    ColumnType.INTEGER: "CAST({} AS BIGINT)",
    ColumnType.FLOAT: "CAST({} AS DOUBLE)",
    ColumnType.BOOLEAN: "CAST({} AS BOOLEAN)",
    ColumnType.DATE: "CAST(replace({}, ' BC', ' (BC)') AS DATE)",
    ColumnType.TIMESTAMP: "CAST(regexp_replace({}, '^([^T]*)T(.*)Z BC$', '\\1 (BC) \\2+00') AS TIMESTAMP WITH TIME ZONE)",
    ColumnType.BINARY: "from_base64({})",
}


def batches(blocks: Iterable[tuple[bytes | memoryview, int]], selection: Selection, natives: Natives) -> Iterator[pa.RecordBatch]:
    """The records of canonical CSV (comma, LF) in the Arrow types of the selection's columns."""
    names = [f"c{number}" for number, _ in enumerate(selection.columns)]
    casts = [
        f"{_cast(name, column, natives[column.source(leaves_as)])} AS {quote(leaves_as)}"
        for name, (leaves_as, column) in zip(names, selection.columns.items(), strict=True)
    ]
    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""]
    )
    parse = csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)
    with engine.connect() as connection:
        for block, _ in blocks:
            read = csv.ReadOptions(column_names=names, block_size=len(block) + 1, use_threads=False)
            texts = csv.read_csv(pa.py_buffer(block), read, parse, convert)
            yield from connection.from_arrow(texts).project(", ".join(casts)).to_arrow_reader(engine.BATCH_ROWS)


def _cast(name: str, column: Column, native: str) -> str:
    """A decimal of no declared precision, or of more than 38 digits, stays text: no Arrow type holds every value of it."""
    if column.export == "anonymize":
        return name
    if column.type is ColumnType.DECIMAL:
        return _decimal(name, native)
    if column.type is ColumnType.INTEGER and native.startswith(("numeric", "decimal")):
        return f"CAST({name} AS DECIMAL(38, 0))"
    return _CASTS.get(column.type, "{}").format(name)


def _decimal(name: str, native: str) -> str:
    match = re.match(r"(?:numeric|decimal)\((\d+)(?:,\s*(\d+))?\)", native)
    if match and int(match[1]) <= 38:
        return f"CAST({name} AS DECIMAL({match[1]}, {match[2] or 0}))"
    return f"CAST({name} AS DECIMAL(38, 0))" if "int" in native else name
