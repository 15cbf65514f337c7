"""XLSX in which every cell says what the source says.

Text stays text. A number, a date or a time has its type and a format if a spreadsheet keeps all of it. Otherwise it is its exact text.

XlsxWriter makes the package (styles, sheet list, header rows). The data rows are put into its sheets as they come, a whole piece at a time.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import IO
from xml.sax.saxutils import escape

import pyarrow as pa
import pyarrow.compute as pc
import xlsxwriter
from xlsxwriter.utility import xl_col_to_name

from waybill import private
from waybill.canonical import ColumnType
from waybill.configuration.values.columns import Column
from waybill.formats import lines
from waybill.formats.base import WriterOptions, Written, disk_errors, does_not_fit, give_up
from waybill.formats.intake import Intake

ROWS = 1_048_575
"""Rows of a sheet, below its header."""

COLUMNS = 16_384
CHARACTERS = 32_767
SHEET_BYTES = 1_500_000_000
"""Bytes after which rows go to the next sheet. Past 2 GiB of XML the package would need zip64, which spreadsheet programs want to
repair.
"""

_MOMENT = 'yyyy-mm-dd hh:mm:ss.000"Z"'
_FORMATS = ("yyyy-mm-dd", _MOMENT, "0", *(f"0.{'0' * scale}" for scale in range(1, 10)))
"""The styles of dates, of times (in UTC), and of decimals by their scale. Style 1 is the header's; these are 2 and up."""
_WIDTHS = {ColumnType.DATE: 12, ColumnType.TIMESTAMP: 26}
"""Widths in characters. A date that does not fit its column is shown as `####`."""

_LEVEL = 3
_UNSAFE = "[\x00-\x08\x0b-\x1f\ufffe\uffff]"
"""Characters that XML cannot hold, or turns into something else (CR)."""
_LOOKS_ESCAPED = f"_x[0-9A-Fa-f]{{4}}(?:_|{_UNSAFE})"
_TO_ESCAPE = re.compile(f"{_UNSAFE}|_(?=x[0-9A-Fa-f]{{4}}(?:_|{_UNSAFE}))")


class SheetWriter:
    def __init__(self, path: Path, entity_id: str, columns: Mapping[str, Column], options: WriterOptions) -> None:
        if len(columns) > COLUMNS:
            raise does_not_fit(f"{len(columns)} columns", entity_id, f"at most {COLUMNS} columns in XLSX")
        self._intake = Intake(columns)
        self._entity_id = entity_id
        self._package = _Package(entity_id, {name: column.leaves_as for name, column in columns.items()}, options.exported_at)
        self._options = options
        self._engine = lines.Lines()
        self._path = path
        with disk_errors(path):
            self._file = private.create(path)
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL)
        self._sheet: IO[bytes] | None = None
        self._is_over = False
        self._sheets = self._rows = self._size = 0
        self._tail = b""

    def write(self, batch: pa.RecordBatch) -> None:
        for piece in self._intake.take(batch):
            self._put(piece)

    def close(self) -> Written:
        for piece in self._intake.rest():
            self._put(piece)
        with disk_errors(self._path):
            self._end_sheet()
            for name, content in self._package.others(self._sheets):
                with self._zip.open(name, "w") as member:
                    member.write(content)
            self._zip.close()
            self._file.close()
            with self._path.open("rb") as finished:
                digest = hashlib.file_digest(finished, "sha256").hexdigest()
        self._engine.release()
        self._is_over = True
        return Written(self._intake.rows, self._path.stat().st_size, digest, tuple(self._intake.columns), dict(self._intake.withheld))

    def discard(self) -> None:
        self._engine.close()
        if not self._is_over:
            self._is_over = True
            give_up(self._path)
            for part in (self._sheet, self._zip, self._file):
                with suppress(OSError):  # the disk may be full; what is not closed now would try again when it is collected
                    if part is not None:
                        part.close()

    def _put(self, piece: pa.RecordBatch) -> None:
        self._check(piece)
        while piece.num_rows:
            if self._rows == ROWS or self._size > SHEET_BYTES:
                with disk_errors(self._path):
                    self._end_sheet()
            part = piece.slice(0, ROWS - self._rows)
            piece = piece.slice(part.num_rows)
            self._put_rows(part)
            self._options.heartbeat()

    def _put_rows(self, part: pa.RecordBatch) -> None:
        first = self._rows + 2
        numbers = pa.array(range(first, first + part.num_rows), pa.int32())
        arrays = [_escaped(array) for array in part.columns]
        prepared = pa.RecordBatch.from_arrays([numbers, *arrays], names=["n", *part.schema.names])
        for texts in self._engine.texts(prepared, self._expression(part.schema)):
            with disk_errors(self._path):
                self._open_sheet().write(texts)
            self._size += len(texts)
        self._rows += part.num_rows

    def _expression(self, schema: pa.Schema) -> str:
        cells = [
            _cell(field.name, column.leaves_as, field.type, xl_col_to_name(number))
            for number, (field, column) in enumerate(zip(schema, self._intake.columns.values(), strict=True))
        ]
        return lines.concat(["'<row r=\"'", "n", "'\">'", *cells, "'</row>'"])

    def _check(self, piece: pa.RecordBatch) -> None:
        for name, array in zip(self._intake.columns, piece.columns, strict=True):
            if _longest(array) > CHARACTERS:
                what = f"a text of the column {name} has more than {CHARACTERS:,} characters"
                raise does_not_fit(what, self._entity_id, f"at most {CHARACTERS:,} characters in a cell of XLSX")

    def _open_sheet(self) -> IO[bytes]:
        if self._sheet is None:
            self._sheets += 1
            head, self._tail = self._package.sheet(self._sheets)
            self._sheet = self._zip.open(f"xl/worksheets/sheet{self._sheets}.xml", "w")
            self._sheet.write(head)
        return self._sheet

    def _end_sheet(self) -> None:
        """Close the sheet. Every workbook has one, also one without rows."""
        sheet = self._open_sheet()
        sheet.write(self._tail)
        sheet.close()
        self._sheet, self._rows, self._size = None, 0, 0


class _Package:
    """Make the workbook without its data rows."""

    def __init__(self, entity_id: str, header: Mapping[str, ColumnType], exported_at: datetime) -> None:
        self.entity_id = entity_id
        self.header = header
        self.exported_at = exported_at

    def sheet(self, number: int) -> tuple[bytes, bytes]:
        """Return what comes before and after the data rows of a sheet. The cell range is left out, because nobody knows it in advance."""
        content = dict(self._members(number))[f"xl/worksheets/sheet{number}.xml"]
        head, _, rest = re.sub(rb"<dimension [^>]*/>", b"", content).partition(b"<sheetData>")
        return head + b"<sheetData>" + self._header_row(), rest[rest.index(b"</sheetData>") :]

    def _header_row(self) -> bytes:
        """Return the header's row. Its cells have the first style that XlsxWriter was given."""
        names = (escape(_TO_ESCAPE.sub(_escape, name)) for name in self.header)
        inline = 't="inlineStr"><is><t xml:space="preserve">'
        cells = (f'<c r="{xl_col_to_name(place)}1" s="1" {inline}{name}</t></is></c>' for place, name in enumerate(names))
        return f'<row r="1">{"".join(cells)}</row>'.encode()

    def others(self, sheets: int) -> Iterator[tuple[str, bytes]]:
        return ((name, content) for name, content in self._members(sheets) if not name.startswith("xl/worksheets/"))

    def _members(self, sheets: int) -> Iterator[tuple[str, bytes]]:
        file = io.BytesIO()
        with xlsxwriter.Workbook(file, {"in_memory": True}) as workbook:
            workbook.set_properties({"created": self.exported_at.replace(tzinfo=None)})
            styles = [
                workbook.add_format({"bold": True}),
                *(workbook.add_format({"num_format": number_format}) for number_format in _FORMATS),
            ]
            for number in range(1, sheets + 1):
                sheet = workbook.add_worksheet(_sheet_name(self.entity_id, number))
                sheet.freeze_panes(1, 0)
                for place, kind in enumerate(self.header.values()):
                    if kind in _WIDTHS:
                        sheet.set_column(place, place, _WIDTHS[kind])
                for place, style in enumerate(styles):  # numbers the styles; the row itself is taken out again
                    sheet.write_blank(0, place, None, style)
        with zipfile.ZipFile(file) as package:
            yield from ((info.filename, package.read(info)) for info in package.infolist())


def _sheet_name(entity_id: str, number: int) -> str:
    """Return a sheet's name of at most 31 characters. Excel keeps the name `history` for itself."""
    suffix = f" ({number})" if number > 1 else ""
    name = "history_" if entity_id == "history" else entity_id
    return f"{name[: 31 - len(suffix)]}{suffix}"


def _cell(x: str, kind: ColumnType, arrow: pa.DataType, letters: str) -> str:
    """Return the cell's XML. NULL has none."""
    at = f"'<c r=\"{letters}' || n || '\""
    shown = lines.text(x, kind, arrow)
    number = f"{at}><v>' || {x} || '</v></c>'"
    free = kind in (ColumnType.STRING, ColumnType.JSON)
    shown, space = (_xml(shown), ' xml:space="preserve"') if free else (f"({shown})", "")
    inline = f"{at} t=\"inlineStr\"><is><t{space}>' || {shown} || '</t></is></c>'"
    match kind:
        case ColumnType.BOOLEAN:
            cell = f"{at} t=\"b\"><v>' || CAST({x} AS INTEGER) || '</v></c>'"
        case ColumnType.INTEGER:
            cell = f"CASE WHEN TRY_CAST({x} AS BIGINT) BETWEEN -999999999999999 AND 999999999999999 THEN {number} ELSE {inline} END"
        case ColumnType.FLOAT:
            kept = f"{x} = 0 OR abs({x}) BETWEEN 2.2250738585072014e-308 AND 9.99999999999999e307"
            cell = f"CASE WHEN {kept} THEN {number} ELSE {inline} END"
        case ColumnType.DECIMAL:
            cell = f"CASE WHEN {_is_kept_whole(shown)} THEN {at}{_decimal_style(arrow)}><v>' || {shown} || '</v></c>' ELSE {inline} END"
        case ColumnType.DATE if pa.types.is_date(arrow):
            serial = f"date_diff('day', DATE '1899-12-30', CAST({x} AS DATE))"
            cell = f"CASE WHEN {_is_in_calendar(x)} THEN {at} s=\"2\"><v>' || {serial} || '</v></c>' ELSE {inline} END"
        case ColumnType.TIMESTAMP if pa.types.is_timestamp(arrow):
            moment = f"({x} AT TIME ZONE 'UTC')" if arrow.tz else f"CAST({x} AS TIMESTAMP)"
            kept = f"CASE WHEN {_is_in_calendar(moment)} THEN epoch_us({moment}) % 1000 = 0 ELSE false END"
            serial = f"CAST(CAST(epoch_us({moment}) + {_EPOCH_US} AS DOUBLE) / 86400000000 AS VARCHAR)"
            cell = f"CASE WHEN {kept} THEN {at} s=\"3\"><v>' || {serial} || '</v></c>' ELSE {inline} END"
        case _:
            cell = inline
    return f"coalesce({cell}, '')"


_DIGITS = 15
"""Decimal digits that every spreadsheet program keeps of a number."""
_EPOCH_US = 25_569 * 86_400_000_000
"""Microseconds from the day that spreadsheets count as zero to 1970."""


def _is_kept_whole(shown: str) -> str:
    digits = f"trim(regexp_replace({shown}, '[-.]', '', 'g'), '0')"
    whole = f"split_part(ltrim({shown}, '-'), '.', 1)"
    is_number = f"regexp_full_match({shown}, '-?[0-9]+([.][0-9]+)?')"
    return f"{is_number} AND length({digits}) <= {_DIGITS} AND length({whole}) <= {_DIGITS}"


def _decimal_style(arrow: pa.DataType) -> str:
    """Return the attribute of the style that shows all digits of this scale, or nothing if the scale is unknown or long."""
    known = pa.types.is_decimal(arrow) and 0 <= arrow.scale <= 9
    return f' s="{2 + 2 + arrow.scale}"' if known else ""


def _is_in_calendar(x: str) -> str:
    """Return whether every spreadsheet program agrees on the day. Before March 1900 they do not, and after 9999 there is none."""
    return f"{x} >= DATE '1900-03-01' AND {x} < DATE '10000-01-01'"


def _xml(shown: str) -> str:
    return f"replace(replace(replace({shown}, '&', '&amp;'), '<', '&lt;'), '>', '&gt;')"


def _escaped(array: pa.Array) -> pa.Array:
    """Return text with what XML cannot hold as `_xHHHH_`, as spreadsheet programs write it."""
    if not _is_text(array):
        return array
    found = pc.match_substring_regex(array, f"{_UNSAFE}|{_LOOKS_ESCAPED}")
    if not pc.any(found).as_py():
        return array
    mended = [_TO_ESCAPE.sub(_escape, text) for text in array.filter(found).to_pylist()]
    return pc.replace_with_mask(array, pc.fill_null(found, False), pa.array(mended, array.type))


def _escape(match: re.Match[str]) -> str:
    return f"_x{ord(match[0]):04X}_"


def _longest(array: pa.Array) -> int:
    """Return the most characters of any text, as spreadsheet programs count them: units of UTF-16. Binary counts as base64."""
    if not (_is_text(array) or pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type)):
        return 0
    sizes = pc.binary_length(array)
    if not _is_text(array):
        return -(-(pc.max(sizes).as_py() or 0) // 3) * 4
    if (pc.max(sizes).as_py() or 0) <= CHARACTERS:
        return 0
    return max(len(text.encode("utf-16-le")) // 2 for text in array.filter(pc.greater(sizes, CHARACTERS)).to_pylist())


def _is_text(array: pa.Array) -> bool:
    return bool(pa.types.is_string(array.type) or pa.types.is_large_string(array.type))
