"""XLSX, read by openpyxl: every cell says what the source says, and no text ever runs."""

from __future__ import annotations

import datetime as dt
import re
import zipfile
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.parsers import expat

import openpyxl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.format_rows import COLUMNS, OPTIONS, SAMPLE, batch, hostile, rows, text, written
from waybill import canonical
from waybill.canonical import ColumnType
from waybill.configuration.values.columns import Column
from waybill.errors import PermanentError
from waybill.formats import open_writer, xlsx

pytestmark = pytest.mark.fast


def local(*parts: int) -> dt.datetime:
    """What openpyxl reads: a cell knows no zone."""
    return dt.datetime(*parts, tzinfo=dt.UTC).replace(tzinfo=None)  # type: ignore[misc, arg-type]


MARCH_1900 = local(1900, 3, 1)
"""From here on every spreadsheet program counts the same days."""

in_one_folder = settings(max_examples=20)


def cells(path: Path) -> list[list[Any]]:
    [sheet] = openpyxl.load_workbook(path).worksheets
    return [list(row) for row in sheet.iter_rows(values_only=True)]


def unescaped(text: str) -> str:
    """`_xHHHH_` as spreadsheet programs read it; openpyxl leaves it to its caller."""
    return re.sub("_x([0-9A-Fa-f]{4})_", lambda match: chr(int(match[1], 16)), text)


def expected(value: Any, kind: ColumnType) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if kind is ColumnType.INTEGER and abs(value) < 10**15:
        return value
    if kind is ColumnType.FLOAT and (value == 0 or 2.2250738585072014e-308 <= abs(value) <= 9.99999999999999e307):
        return value
    if kind is ColumnType.DECIMAL and abs(value) < 10**15 and len("".join(map(str, value.as_tuple().digits)).strip("0")) <= 15:
        return float(value)
    if kind is ColumnType.DATE and value >= MARCH_1900.date():
        return dt.datetime.combine(value, dt.time())
    if kind is ColumnType.TIMESTAMP and value.replace(tzinfo=None) >= MARCH_1900 and value.microsecond % 1000 == 0:
        return value.replace(tzinfo=None)
    return canonical.text(value, kind)


@given(rows(tuple(name for name in COLUMNS if name != "json"), max_size=8))
@in_one_folder
def test_every_cell_reads_back(tmp_path: Path, given: list[dict[str, Any]]) -> None:
    columns = {name: column for name, column in COLUMNS.items() if name != "json"}
    header, *read = cells(written(tmp_path, "xlsx", [batch(given, list(columns))], columns)[0])
    assert header == list(columns)
    read += [[None] * len(columns)] * (len(given) - len(read))  # a reader sees no rows behind the last cell
    for line, row in zip(read, given, strict=True):
        shown = [unescaped(value) if isinstance(value, str) else value for value in line]
        assert shown == [expected(row[name], column.type) for name, column in columns.items()]


@given(st.lists(text | hostile | st.text(st.sampled_from("_x041DFf\x01\r")), min_size=1, max_size=8))
@in_one_folder
def test_text_that_looks_escaped_is_not_mistaken(tmp_path: Path, values: list[str]) -> None:
    given = batch([{"string": value} for value in values], ["string"])
    _, *read = cells(written(tmp_path, "xlsx", [given], {"string": COLUMNS["string"]})[0])
    assert [unescaped(value or "") for [value] in read] == values


@pytest.mark.parametrize("value", ["=1+1", '=HYPERLINK("http://x")', "+1", "@SUM(A1)", "{=1}", "http://x", "mailto:a@b.c", "internal:A1"])
def test_text_is_neither_formula_nor_link(tmp_path: Path, value: str) -> None:
    path, _ = written(tmp_path, "xlsx", [batch([{"string": value}], ["string"])], {"string": COLUMNS["string"]})
    cell = openpyxl.load_workbook(path).active["A2"]  # type: ignore[index]
    assert (cell.value, cell.data_type, cell.hyperlink) == (value, "inlineStr" if cell.data_type == "inlineStr" else "s", None)
    with zipfile.ZipFile(path) as package:
        content = package.read("xl/worksheets/sheet1.xml")
    assert b"<f" not in content
    assert b"<hyperlink" not in content


def test_floats_keep_all_seventeen_digits_as_numbers(tmp_path: Path) -> None:
    columns = {"float": COLUMNS["float"]}
    read = cells(written(tmp_path, "xlsx", [batch([{"float": 0.1 + 0.2}], ["float"])], columns)[0])
    assert read[1] == [0.30000000000000004]


@pytest.mark.parametrize(
    ("name", "value", "read", "shown_as"),
    [
        ("integer", 9_007_199_254_740_993, "9007199254740993", "General"),
        ("decimal", Decimal("1.500000000"), 1.5, "0.000000000"),
        ("decimal", Decimal("-99999999999.999900000"), -99999999999.9999, "0.000000000"),
        ("decimal", Decimal("123456789012345.600000000"), "123456789012345.600000000", "General"),
        ("decimal", Decimal("1000000000000000.000000000"), "1000000000000000.000000000", "General"),
        ("date", dt.date(2026, 2, 28), local(2026, 2, 28), "yyyy-mm-dd"),
        ("date", dt.date(9999, 12, 31), local(9999, 12, 31), "yyyy-mm-dd"),
        ("date", dt.date(1900, 2, 28), "1900-02-28", "General"),
        ("timestamp", dt.datetime(2026, 6, 1, 23, 59, 59, 999_000, dt.UTC), local(2026, 6, 1, 23, 59, 59, 999_000), None),
        ("timestamp", dt.datetime(9999, 12, 31, 23, 59, 59, 1000, dt.UTC), local(9999, 12, 31, 23, 59, 59, 1000), None),
        ("timestamp", dt.datetime(2026, 6, 1, 23, 59, 59, 999_999, dt.UTC), "2026-06-01T23:59:59.999999Z", "General"),
    ],
)
def test_what_a_spreadsheet_holds_is_a_number_or_a_date_with_a_format_and_text_beyond(
    tmp_path: Path, name: str, value: Any, read: Any, shown_as: str | None
) -> None:
    path, _ = written(tmp_path, "xlsx", [batch([{name: value}], [name])], {name: COLUMNS[name]})
    cell = openpyxl.load_workbook(path).active["A2"]  # type: ignore[index]
    assert (cell.value, cell.number_format) == (read, 'yyyy-mm-dd hh:mm:ss.000"Z"' if shown_as is None else shown_as)


@pytest.mark.parametrize(
    "value", ["x" * 32_767, "😀" * 16_383, "é" * 32_767, "\r" * 32_767], ids=["ascii", "astral", "two bytes", "escaped"]
)
def test_a_cell_holds_32767_characters(tmp_path: Path, value: str) -> None:
    path, _ = written(tmp_path, "xlsx", [batch([{"string": value}], ["string"])], {"string": COLUMNS["string"]})
    assert unescaped(cells(path)[1][0]) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [("string", "x" * 32_768), ("string", "😀" * 16_384), ("json", '"' + "x" * 32_767 + '"'), ("binary", b"x" * 24_576)],
    ids=["ascii", "astral", "json", "base64"],
)
def test_a_cell_of_more_fails_the_request_and_says_what_to_do(tmp_path: Path, name: str, value: Any) -> None:
    with pytest.raises(
        PermanentError, match=rf"orders: a text of the column {name} has more than 32,767 characters.*Choose NDJSON"
    ) as caught:
        written(tmp_path, "xlsx", [batch([{name: value}], [name])], {name: COLUMNS[name]})
    assert caught.value.code == "row_limit_format"
    assert list(tmp_path.iterdir()) == []


def test_more_columns_than_a_sheet_has_fail_at_once(tmp_path: Path) -> None:
    columns = dict.fromkeys((f"c{number}" for number in range(16_385)), COLUMNS["integer"])
    with pytest.raises(PermanentError, match="at most 16384 columns in XLSX"):
        open_writer("xlsx", tmp_path / "x", "orders", columns, OPTIONS)


def test_sheet_names_are_short_enough_and_never_history(tmp_path: Path) -> None:
    for entity, name in (("history", "history_"), ("a" * 63, "a" * 31), ("orders", "orders")):
        path, _ = written(tmp_path, "xlsx", [batch(SAMPLE)], entity=entity)
        assert openpyxl.load_workbook(path).sheetnames == [name]


def test_the_header_is_bold_and_stays_in_sight(tmp_path: Path) -> None:
    sheet = openpyxl.load_workbook(written(tmp_path, "xlsx", [batch(SAMPLE)])[0]).worksheets[0]
    assert sheet.freeze_panes == "A2"
    assert sheet["A1"].font.bold
    assert not sheet["A2"].font.bold


@pytest.mark.slow
def test_past_the_last_row_of_a_sheet_the_next_one_begins(tmp_path: Path) -> None:
    rows = xlsx.ROWS + 3
    columns = {"n": Column(type=ColumnType.INTEGER)}
    batches = [
        pa.RecordBatch.from_arrays([pa.array(range(start, min(start + 99_999, rows)))], names=["n"]) for start in range(0, rows, 99_999)
    ]
    path, result = written(tmp_path, "xlsx", batches, columns)
    assert result.rows == rows
    with closing(openpyxl.load_workbook(path, read_only=True)) as workbook:
        assert workbook.sheetnames == ["orders", "orders (2)"]
    sheets = [numbers(path, number) for number in (1, 2)]
    assert [len(sheet) for sheet in sheets] == [xlsx.ROWS, 3]
    assert [number for sheet in sheets for number in sheet] == list(range(rows))
    with zipfile.ZipFile(path) as package:
        assert all(not info.extra for info in package.infolist())  # no zip64, which spreadsheet programs want to repair


def numbers(path: Path, sheet: int) -> list[int]:
    """The numbers of a sheet, which is XML: openpyxl would need minutes."""
    with zipfile.ZipFile(path) as package:
        content = package.read(f"xl/worksheets/sheet{sheet}.xml")
    expat.ParserCreate().Parse(content, True)
    return [*map(int, re.findall(b"<v>([0-9]+)</v>", content))]
