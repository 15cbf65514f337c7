"""CSV for people: RFC 4180 as in scheduled deliveries, with nested values in dotted columns and the spreadsheet guard on text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from waybill import duckdb_text
from waybill.canonical import ColumnType, csv_field
from waybill.configuration.values.columns import Column
from waybill.formats import flatten, lines
from waybill.formats.base import Output, WriterOptions, Written
from waybill.formats.json_text import TextWriter

_OTHERS = ("';'", "chr(9)", "'|'")
"""What separates fields in some spreadsheet programs, as SQL. Text with one of these is quoted, or what follows might be a formula."""

_FREE_TEXT = (ColumnType.STRING, ColumnType.JSON, ColumnType.BINARY)


class HumanCsvWriter(TextWriter):
    """Without nested columns, rows go straight to the file. With them, they wait in a hidden file beside it until the header is known."""

    def __init__(self, path: Path, columns: Mapping[str, Column], options: WriterOptions) -> None:
        super().__init__(Output(path), columns, options)
        self._header = [(name, column.leaves_as) for name, column in columns.items()]
        self._names = dict(zip(self._intake.names, columns, strict=True))
        nested = [name for name, (_, kind) in zip(self._intake.names, self._header, strict=True) if kind is ColumnType.JSON]
        self._spool = flatten.Spool(path.with_name(f".{path.name}.rows"), nested) if nested else None

    @property
    def opening(self) -> bytes:
        names = [guard(name) if self._options.spreadsheet_guard else name for name, _ in self._header]
        return (b"\xef\xbb\xbf" if self._options.csv_bom else b"") + (",".join(_quoted(name) for name in names) + "\n").encode()

    def write(self, batch: pa.RecordBatch) -> None:
        for piece in self._intake.take(batch):
            self._keep(piece)

    def close(self) -> Written:
        for piece in self._intake.rest():
            self._keep(piece)
        if self._spool is not None:
            self._settle(self._spool)
            for piece in self._spool.read():
                self._put(piece)
            self._spool.discard()
        return self._finish(tuple(name for name, _ in self._header))

    def discard(self) -> None:
        super().discard()
        if self._spool is not None:
            self._spool.discard()

    def _keep(self, piece: pa.RecordBatch) -> None:
        if self._spool is None:
            self._put(piece)
        else:
            self._spool.write(piece)
            self._options.heartbeat()

    def _settle(self, spool: flatten.Spool) -> None:
        spool.settle(self._names)
        header: list[tuple[str, ColumnType]] = []
        for neutral, (name, kind) in zip(self._intake.names, self._header, strict=True):
            paths = spool.paths.get(neutral)
            header += [(dotted, kind) for dotted in paths.names(name)] if paths else [(name, kind)]
        self._header = header

    def values(self, schema: pa.Schema) -> list[str]:
        shown = []
        for field, (_, kind) in zip(schema, self._header, strict=True):
            text = lines.text(field.name, kind, field.type)
            shown.append(guarded(text) if self._options.spreadsheet_guard and kind in _FREE_TEXT else text)
        return shown

    def expression(self) -> str:
        pieces: list[str] = []
        for number, (_, kind) in enumerate(self._header):
            pieces += ["','", duckdb_text.csv_field(f"v{number}", "','", *_OTHERS) if kind in _FREE_TEXT else f"v{number}"]
        return lines.concat([*pieces[1:], "chr(10)"])


def _quoted(name: str) -> str:
    return csv_field(name, next((mark for mark in ";\t|" if mark in name), ","))


_SIGNS = r"[=+\-@＝＋－＠\t\r\n\x00]"
"""What begins a formula. The full-width signs do so where people type Chinese, Japanese or Korean."""

_DANGEROUS = f"^'*{_SIGNS}"
_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"


def guard(text: str) -> str:
    return f"'{text}" if re.match(_DANGEROUS, text) and not re.fullmatch(_NUMBER, text) else text


def guarded(x: str) -> str:
    """Return `guard` as an SQL expression of DuckDB. NULL stays NULL."""
    dangerous = _DANGEROUS.replace("'", "''")
    return f"CASE WHEN regexp_matches({x}, '{dangerous}') AND NOT regexp_full_match({x}, '{_NUMBER}') THEN '''' || {x} ELSE {x} END"
