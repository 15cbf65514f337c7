"""The types of Parquet: what stands in a file (physical) and what it means (logical), as pyarrow and DuckDB write them."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.native_types.values import ID, Case
from waybill.configuration.catalog import LakeSource
from waybill.connection import Connection
from waybill.sources import Source
from waybill.sources.duckdb.lake import Lake

_AT = datetime(2026, 2, 1, 1, 2, 3, 500000, tzinfo=UTC)
_FINER = 1769907723500000007
"""Nanoseconds since 1970."""
_TIME = time(1, 2, 3, 500000)
_RECORD = pa.struct([("a", pa.list_(pa.decimal128(5, 2)))])
ARROW: list[tuple[str, Any, pa.DataType, str]] = [
    ("BOOLEAN", True, pa.bool_(), "true"),
    ("INT32 INTEGER(8)", -7, pa.int8(), "small"),
    ("INT32 INTEGER(16)", -7, pa.int16(), "small"),
    ("INT32", -7, pa.int32(), "small"),
    ("INT64", -7, pa.int64(), "small"),
    ("INT32 INTEGER(8, unsigned)", 200, pa.uint8(), "one byte"),
    ("INT32 INTEGER(16, unsigned)", 200, pa.uint16(), "one byte"),
    ("INT32 INTEGER(32, unsigned)", 200, pa.uint32(), "one byte"),
    ("INT64 INTEGER(64, unsigned)", 2**64 - 1, pa.uint64(), "unsigned 64"),
    ("FIXED_LEN_BYTE_ARRAY FLOAT16", 1.5, pa.float16(), "half"),
    ("FLOAT", 16777216.0, pa.float32(), "single"),
    ("FLOAT", float("inf"), pa.float32(), "infinity"),
    ("DOUBLE", 1e15, pa.float64(), "double"),
    ("DOUBLE", float("nan"), pa.float64(), "NaN"),
    ("FIXED_LEN_BYTE_ARRAY DECIMAL(2,2)", Decimal("-0.25"), pa.decimal128(2, 2), "decimal fraction"),
    ("FIXED_LEN_BYTE_ARRAY DECIMAL(5,2)", Decimal("1.50"), pa.decimal128(5, 2), "decimal"),
    ("FIXED_LEN_BYTE_ARRAY DECIMAL(5,0)", Decimal("12"), pa.decimal128(5, 0), "whole decimal"),
    ("INT32 DATE", date(2026, 2, 1), pa.date32(), "date"),
    ("INT64 TIMESTAMP(ms)", _AT.replace(tzinfo=None), pa.timestamp("ms"), "timestamp"),
    ("INT64 TIMESTAMP(us)", _AT.replace(tzinfo=None), pa.timestamp("us"), "timestamp"),
    ("INT64 TIMESTAMP(ns)", _AT.replace(tzinfo=None), pa.timestamp("ns"), "timestamp"),
    ("INT64 TIMESTAMP(ns)", _FINER, pa.timestamp("ns"), "nanoseconds"),
    ("INT64 TIMESTAMP(ms, UTC)", _AT, pa.timestamp("ms", "UTC"), "timestamp"),
    ("INT64 TIMESTAMP(us, UTC)", _AT, pa.timestamp("us", "Europe/Berlin"), "timestamp"),
    ("INT64 TIMESTAMP(ns, UTC)", _FINER, pa.timestamp("ns", "UTC"), "nanoseconds"),
    ("INT32 TIME(ms)", _TIME, pa.time32("ms"), "time"),
    ("INT64 TIME(us)", _TIME, pa.time64("us"), "time"),
    ("INT64 TIME(ns)", 3723000000007, pa.time64("ns"), "time of nanoseconds"),
    ("BYTE_ARRAY STRING", 'say "hi"', pa.string(), "text"),
    ("BYTE_ARRAY STRING", ID, pa.large_string(), "id as text"),
    ("BYTE_ARRAY STRING, of a dictionary", "it's", pa.dictionary(pa.int8(), pa.string()), "enum"),
    ("BYTE_ARRAY JSON", '{"a": [1, 2.50]}', pa.json_(), "json"),
    ("BYTE_ARRAY", b"\x00\xff", pa.binary(), "binary"),
    ("FIXED_LEN_BYTE_ARRAY", b"\x00\xff", pa.binary(2), "binary"),
    ("FIXED_LEN_BYTE_ARRAY UUID", uuid.UUID(ID).bytes, pa.uuid(), "uuid"),
    ("LIST", [1, None, -3], pa.list_(pa.int32()), "list of integers"),
    ("LIST", [1, None, -3], pa.list_(pa.int32(), 3), "list of integers"),
    ("LIST", [Decimal("1.50"), None, Decimal("-0.05")], pa.large_list(pa.decimal128(5, 2)), "list of decimals"),
    ("LIST", [_AT, datetime(2026, 2, 1, tzinfo=UTC), None], pa.list_(pa.timestamp("us", "UTC")), "list of timestamps"),
    ("LIST", [1769907723500000000, _FINER], pa.list_(pa.timestamp("ns")), "list of nanoseconds"),
    ("LIST", [b"\x00\xff", None], pa.list_(pa.binary(2)), "list of binaries"),
    ("LIST", [_TIME], pa.list_(pa.time64("us")), "list of times"),
    ("MAP", [(Decimal("1.50"), float("nan"))], pa.map_(pa.decimal128(5, 2), pa.float64()), "map by decimal"),
    ("group", {"a": [Decimal("1.50")]}, _RECORD, "group of a list"),
]
NOT_HERE = {
    "Enum": "no writer at hand makes it",
    "Bson": "no writer at hand makes it",
    "Null": "it has no value: a column of it is empty as every type (tests/sources/test_columns_without_a_type.py)",
    "Geometry": "only DuckDB writes it; its own table has it",
    "Geography": "no writer at hand makes it",
    "Variant": "only DuckDB writes it; its own table has it, and it is refused",
}
"""Logical types of the format that this table lacks, and why."""
LOGICAL = {
    *("String", "Map", "List", "Enum", "Decimal", "Date", "Time", "Timestamp", "Int", "Null", "Json", "Bson", "UUID", "Float16"),
    *("Variant", "Geometry", "Geography"),
}
"""Every logical type of the format, by the names that DuckDB shows."""
PARQUET = [Case(native, "", value) for native, _, _, value in ARROW]


def filled(path: Path) -> Source:
    values = {f"v{number}": _column(value, kind) for number, (_, value, kind, _) in enumerate(ARROW)}
    table = pa.table({"id": [1, 2], "tenant": ["acme", "acme"], **values})
    pq.write_table(table, path / "sample.parquet", version="2.6")
    return lake(path)


def lake(path: Path) -> Source:
    return Lake(LakeSource(kind="lake"), path, _no_connection)


def _column(value: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(kind, pa.ExtensionType | pa.UuidType | pa.JsonType):
        return pa.ExtensionArray.from_storage(kind, pa.array([value, None], kind.storage_type))
    return pa.array([value, None], kind)


def _no_connection(name: str) -> Connection:
    raise AssertionError(name)
