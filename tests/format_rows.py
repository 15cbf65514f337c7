"""Rows of every catalogued type as sources yield them, and a writer for a test's own folder."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from waybill.canonical import ColumnType
from waybill.configuration.values.columns import Column
from waybill.formats import SUFFIXES, open_writer
from waybill.formats.base import WriterOptions, Written

EXPORTED_AT = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
OPTIONS = WriterOptions(EXPORTED_AT)
COLUMNS = {kind.value: Column(type=kind) for kind in ColumnType}
ARROW = {
    "string": pa.string(),
    "integer": pa.int64(),
    "decimal": pa.decimal128(38, 9),
    "float": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
    "uuid": pa.string(),
    "json": pa.string(),
    "binary": pa.binary(),
}

HOSTILE = ["", "=1+1", "-5", "+49 30", "@x", "\t", "\r", "\r\n", "\n", "\0", "'=x", "''-1", "'x", ",", '"', "a\rb", "_x0041_", "_x0041\x01"]
HOSTILE += [
    "#",
    " edge ",
    "\\N",
    "NULL",
    "NaN",
    "<b>&amp;</b>",
    "\ufffe\uffff",
    "]]>",
    "http://x",
    "\x7f\x85\u2028",
    "١",
    "true",
    "1e5",
    "😀",
]
JSON_TEXTS = ["{}", "[]", "null", '""', "0", '{"a":1.50}', '{"a":{"b":[1,{"c":null}]}}', '{"a":1,"a":2}', '{"a.b":1,"a":{"b":2}}']
JSON_TEXTS += ['{"é":"😀","n":123456789012345678901234567890}', '{"":{"":"x"}}', '{"a":NaN}', "[1,]", "not json", '"=1+1"']
JSON_TEXTS += ['{"x":"\\ud800"}', '"\\u0000"']

_GUARDED = re.compile(r"^'+[=+\-@＝＋－＠\t\r\n\x00]")


def unguard(shown: str) -> str:
    """Return the text that `human_csv.guard` was given: its inverse, for every text."""
    return shown[1:] if _GUARDED.match(shown) else shown


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
hostile = st.sampled_from(HOSTILE)
json_text = st.sampled_from(JSON_TEXTS)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": text | hostile,
    "integer": st.integers(-(2**63), 2**63 - 1),
    "decimal": st.decimals(allow_nan=False, allow_infinity=False, places=9, min_value=-(10**28), max_value=10**28),
    "float": st.floats(),
    "boolean": st.booleans(),
    "date": st.dates(),
    "timestamp": st.datetimes(timezones=st.just(dt.UTC)),
    "uuid": st.uuids().map(str),
    "json": json_text,
    "binary": st.binary(max_size=20),
}


def rows(names: Sequence[str] = tuple(COLUMNS), max_size: int = 12) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(st.fixed_dictionaries({name: st.none() | VALUES[name] for name in names}), max_size=max_size)


def batch(rows: Sequence[Mapping[str, Any]], names: Sequence[str] = tuple(COLUMNS)) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([row[name] for row in rows], ARROW[name]) for name in names], names=list(names))


def written(
    folder: Path,
    format: str,
    batches: Sequence[pa.RecordBatch],
    columns: Mapping[str, Column] = COLUMNS,
    options: WriterOptions = OPTIONS,
    entity: str = "orders",
) -> tuple[Path, Written]:
    """Write one file, replacing an earlier one."""
    path = folder / f"{entity}{SUFFIXES[format]}"
    path.unlink(missing_ok=True)
    writer = open_writer(format, path, entity, columns, options)
    try:
        for item in batches:
            writer.write(item)
        return path, writer.close()
    finally:
        writer.discard()


def same(a: Any, b: Any) -> bool:
    """Equal, NaN to NaN too."""
    return a == b or (isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b))


SAMPLE: list[dict[str, Any]] = [
    {
        "string": 'a, "b"',
        "integer": 9_007_199_254_740_993,
        "decimal": Decimal("0.100000000"),
        "float": 0.1 + 0.2,
        "boolean": True,
        "date": dt.date(1969, 12, 31),
        "timestamp": dt.datetime(2026, 6, 1, 1, 2, 3, 45, tzinfo=dt.UTC),
        "uuid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "json": '{"plan":"pro","seats":1.50,"geo":{"city":"Köln"},"tags":["a","b"]}',
        "binary": b"\x00\xff",
    },
    dict.fromkeys(COLUMNS),
    {
        "string": "",
        "integer": -1,
        "decimal": Decimal("-12345678901234567890123456789.000000001"),
        "float": float("-inf"),
        "boolean": False,
        "date": dt.date(1, 1, 1),
        "timestamp": dt.datetime(1960, 1, 1, tzinfo=dt.UTC),
        "uuid": "00000000-0000-0000-0000-000000000001",
        "json": "[]",
        "binary": b"",
    },
]
