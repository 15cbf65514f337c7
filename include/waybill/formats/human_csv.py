"""CSV for people: RFC 4180 as in scheduled deliveries, nested values flattened to dotted columns, the spreadsheet guard on text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from waybill import canonical_sql
from waybill.canonical import csv_line
from waybill.catalog import Column, ColumnType
from waybill.formats import lines
from waybill.formats.base import kind_of
from waybill.formats.guard import guard as guarded_name
from waybill.formats.guard import guarded
from waybill.formats.json_text import TextWriter

_FREE_TEXT = (ColumnType.STRING, ColumnType.JSON, ColumnType.BINARY)


class HumanCsvWriter(TextWriter):
    def __init__(self, path: Path, columns: Mapping[str, Column], *, guard: bool) -> None:
        super().__init__(path, columns)
        self._guard = guard
        self.opening = csv_line([guarded_name(name) if guard else name for name in columns]).encode()

    def expression(self, schema: pa.Schema) -> str:
        pieces: list[str] = []
        for field, column in zip(schema, self._intake.columns.values(), strict=True):
            kind = kind_of(column)
            shown = lines.text(field.name, kind, field.type)
            if kind in _FREE_TEXT and self._guard:
                shown = guarded(shown)
            if kind in _FREE_TEXT:
                shown = canonical_sql.csv_field(f"({shown})", "','")
            pieces += ["','", shown]
        return lines.concat([*pieces[1:], "chr(10)"])
