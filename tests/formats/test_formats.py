"""Every format holds the same rows, and what it promises to keep reads back."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.format_rows import ARROW, COLUMNS, EXPORTED_AT, OPTIONS, SAMPLE, batch, rows, same, unguard, written
from waybill import canonical
from waybill.canonical import ColumnType
from waybill.configuration.catalog import FORMATS
from waybill.configuration.values.columns import Column
from waybill.errors import PermanentError
from waybill.files.manifest import columns_of
from waybill.formats import SUFFIXES, open_writer
from waybill.formats.human_csv import guard

pytestmark = pytest.mark.fast

in_one_folder = settings(max_examples=30)
FLAT = tuple(name for name in COLUMNS if name != "json")
READ = {
    "string": str,
    "integer": int,
    "decimal": Decimal,
    "float": float,
    "boolean": bool,
    "date": dt.date.fromisoformat,
    "timestamp": canonical.parse_timestamp,
    "uuid": str,
    "binary": base64.b64decode,
}


def restored(name: str, value: Any) -> Any:
    """A value of NDJSON as the source has it."""
    return None if value is None else READ[name](value)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


@given(rows(FLAT))
@in_one_folder
def test_ndjson_loses_nothing(tmp_path: Path, given: list[dict[str, Any]]) -> None:
    columns = {name: COLUMNS[name] for name in FLAT}
    path, result = written(tmp_path, "ndjson", [batch(given, FLAT)], columns)
    read = lines(path)
    assert result.rows == len(read) == len(given)
    for line, row in zip(read, given, strict=True):
        assert list(line) == list(columns)
        assert all(same(restored(name, value), row[name]) for name, value in line.items())


@given(rows(), st.integers(1, 5))
@in_one_folder
def test_json_in_both_layouts_holds_what_ndjson_holds(tmp_path: Path, given: list[dict[str, Any]], size: int) -> None:
    batches = [batch(given[start : start + size]) for start in range(0, len(given), size)]
    expected = lines(written(tmp_path, "ndjson", batches)[0])
    objects = json.loads(written(tmp_path, "json", batches)[0].read_bytes())
    arrays = json.loads(written(tmp_path, "json", batches, options=replace(OPTIONS, json_layout="arrays"))[0].read_bytes())
    assert repr(objects["data"]["orders"]) == repr(expected)
    assert repr(arrays) == repr([list(COLUMNS), *(list(line.values()) for line in expected)])


def test_the_envelope_tells_when_and_what(tmp_path: Path) -> None:
    options = replace(OPTIONS, date_range=(dt.datetime(2026, 5, 1, tzinfo=dt.UTC), None), scope={"level": "project", "project": "p-1"})
    document = json.loads(written(tmp_path, "json", [], options=options)[0].read_bytes())
    assert document == {
        "exportedAt": "2026-06-01T12:00:00.000000Z",
        "dateRange": {"from": "2026-05-01T00:00:00.000000Z", "to": None},
        "scope": {"level": "project", "project": "p-1"},
        "data": {"orders": []},
    }


@pytest.mark.parametrize(
    ("value", "embedded"),
    [
        ('{"a":1.50,"a":2}', '{"a":1.50,"a":2}'),
        ('{"n":123456789012345678901234567890}', '{"n":123456789012345678901234567890}'),
        ("null", "null"),
        ('"nan, [1,]"', '"nan, [1,]"'),
        ('{"a":NaN}', r'"{\"a\":NaN}"'),
        ("[1,]", '"[1,]"'),
        ("no json", '"no json"'),
        ("", '""'),
    ],
    ids=repr,
)
def test_nested_json_is_embedded_as_it_is_spelt_and_what_is_no_json_stays_text(tmp_path: Path, value: str, embedded: str) -> None:
    path, _ = written(tmp_path, "ndjson", [batch([{"json": value}], ["json"])], {"json": COLUMNS["json"]})
    assert path.read_text() == f'{{"json":{embedded}}}\n'


@given(rows(FLAT), st.booleans())
@in_one_folder
@example([{**dict.fromkeys(FLAT), "binary": b"\xfb"}], True)
def test_csv_without_nested_columns_is_canonical_with_the_guard_on_its_text(tmp_path: Path, given: list[dict[str, Any]], on: bool) -> None:
    def field(name: str, row: dict[str, Any]) -> str:
        shown = canonical.text(row[name], ColumnType(name))
        shown = guard(shown) if on and shown is not None and name in ("string", "binary") else shown
        other = next((mark for mark in ";\t|" if shown and mark in shown), ",")  # what separates fields elsewhere is quoted too
        return canonical.csv_field(shown, other)

    columns = {name: COLUMNS[name] for name in FLAT}
    path, result = written(tmp_path, "csv", [batch(given, FLAT)], columns, replace(OPTIONS, spreadsheet_guard=on))
    expected = [canonical.csv_line(list(FLAT)), *(",".join(field(name, row) for name in FLAT) + "\n" for row in given)]
    assert path.read_bytes().decode() == "".join(expected)
    assert result.rows == len(given)


@given(st.text())
@example("'=1")
@example("-5")
@example("''\0")
def test_the_guard_is_undone_by_stripping_one_quote(text: str) -> None:
    assert unguard(guard(text)) == text
    assert guard(text) in (text, f"'{text}")


@pytest.mark.parametrize("text", ["-5", "+1", "-5.", "-.5", "+1.5e-10", "-1E5", "5", "", "a=b", "'x", "x", "1-2"], ids=repr)
def test_numbers_and_plain_text_are_not_guarded(text: str) -> None:
    assert guard(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "=1",
        "+a",
        "-",
        "-5a",
        "@x",
        "\tx",
        "\rx",
        "\nx",
        "\0",
        "'=1",
        "''@",
        "-1,000",
        "+49 30",
        "-٥",
        "'-5",
        "＝1+1",
        "＋1",
        "－1",
        "＠A1",
        "'＝1",
    ],
)
def test_whatever_a_spreadsheet_could_run_is_guarded(text: str) -> None:
    assert guard(text) == f"'{text}"


def test_a_number_column_is_never_guarded(tmp_path: Path) -> None:
    columns = {name: COLUMNS[name] for name in ("float", "decimal", "integer")}
    row = {"float": float("-inf"), "decimal": Decimal("-1.500000000"), "integer": -5}
    path, _ = written(tmp_path, "csv", [batch([row], list(columns))], columns)
    assert path.read_text().splitlines()[1] == "-Infinity,-1.500000000,-5"


def test_a_header_is_guarded_too(tmp_path: Path) -> None:
    columns = {"=cmd": Column(type=ColumnType.INTEGER)}
    path, _ = written(tmp_path, "csv", [], columns)
    assert path.read_text() == "'=cmd\n"


@given(rows())
@in_one_folder
def test_parquet_keeps_every_value_in_its_type(tmp_path: Path, given: list[dict[str, Any]]) -> None:
    path, _ = written(tmp_path, "parquet", [batch(given)])
    read = pq.read_table(path)
    assert read.num_rows == len(given)
    for name in COLUMNS:
        if given:
            assert read.schema.field(name).type == ARROW[name]
        assert all(same(a, row[name]) for a, row in zip(read.column(name).to_pylist(), given, strict=True))
        assert read.schema.field(name).metadata[b"type"] == name.encode()


@pytest.mark.parametrize("format", FORMATS)
def test_rows_bytes_and_hash_are_those_of_the_file(tmp_path: Path, format: str) -> None:
    path, result = written(tmp_path, format, [batch(SAMPLE)] * 3)
    content = path.read_bytes()
    assert (result.rows, result.bytes, result.sha256) == (9, len(content), hashlib.sha256(content).hexdigest())
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_rows_give_the_same_bytes_however_they_come(tmp_path: Path, format: str) -> None:
    given = batch(SAMPLE * 10)
    whole = written(tmp_path, format, [given])[1]
    assert written(tmp_path, format, [given.slice(0, 7), given.slice(7, 0), given.slice(7)])[1] == whole


@pytest.mark.parametrize("format", [format for format in FORMATS if format != "parquet"])
def test_a_batch_too_large_for_one_piece_becomes_the_same_file(tmp_path: Path, format: str) -> None:
    given = batch(SAMPLE * 20_000)
    whole = written(tmp_path, format, [given])[1]
    assert whole.rows == 60_000
    assert written(tmp_path, format, [given.slice(start, 9_999) for start in range(0, 60_000, 9_999)])[1] == whole


@pytest.mark.parametrize("format", FORMATS)
def test_without_rows_there_is_still_a_file_that_reads(tmp_path: Path, format: str) -> None:
    path, result = written(tmp_path, format, [])
    assert result.rows == 0
    assert result.columns == tuple(COLUMNS)
    if format == "parquet":
        assert pq.read_table(path).column_names == list(COLUMNS)
    if format == "csv":
        assert path.read_text() == ",".join(COLUMNS) + "\n"


@pytest.mark.parametrize("format", FORMATS)
def test_giving_up_leaves_nothing_and_may_be_said_twice(tmp_path: Path, format: str) -> None:
    writer = open_writer(format, tmp_path / "x", "orders", COLUMNS, OPTIONS)
    writer.write(batch(SAMPLE * 20_000))
    writer.discard()
    writer.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", FORMATS)
def test_giving_up_after_the_end_changes_nothing(tmp_path: Path, format: str) -> None:
    path, result = written(tmp_path, format, [batch(SAMPLE)])
    assert hashlib.sha256(path.read_bytes()).hexdigest() == result.sha256


@pytest.mark.parametrize("format", FORMATS)
def test_an_existing_file_is_not_touched(tmp_path: Path, format: str) -> None:
    path = tmp_path / "x"
    path.write_text("mine")
    with pytest.raises(PermanentError, match="cannot write x: File exists"):
        open_writer(format, path, "orders", COLUMNS, OPTIONS)
    assert path.read_text() == "mine"


class Cancelled(Exception):
    pass


@pytest.mark.parametrize("format", FORMATS)
def test_the_heartbeat_can_end_the_writing(tmp_path: Path, format: str) -> None:
    def beat() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        written(tmp_path, format, [batch(SAMPLE)], options=replace(OPTIONS, heartbeat=beat))
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'xml' is not a format; allowed: ndjson, csv, json, xlsx, parquet"):
        open_writer("xml", tmp_path / "x", "orders", COLUMNS, OPTIONS)


def test_every_format_of_the_catalogue_has_a_suffix_and_a_writer() -> None:
    assert set(SUFFIXES) == set(FORMATS)


def test_columns_go_by_name_and_follow_the_catalogue(tmp_path: Path) -> None:
    columns = {"integer": COLUMNS["integer"], "string": COLUMNS["string"]}
    given = batch([{"string": "a", "integer": 1, "json": "{}"}], ["string", "integer", "json"])
    assert written(tmp_path, "csv", [given], columns)[0].read_text() == "integer,string\n1,a\n"


def test_a_pseudonym_is_text_whatever_it_stands_for(tmp_path: Path) -> None:
    columns = {"integer": Column(type=ColumnType.INTEGER, export="anonymize"), "json": Column(type=ColumnType.JSON, export="anonymize")}
    given = pa.RecordBatch.from_arrays([pa.array(["ab12"]), pa.array(["cd34"])], names=["integer", "json"])
    assert written(tmp_path, "ndjson", [given], columns)[0].read_text() == '{"integer":"ab12","json":"cd34"}\n'
    assert written(tmp_path, "csv", [given], columns)[0].read_text() == "integer,json\nab12,cd34\n"


def test_decimals_of_any_size_and_wide_integers_are_kept(tmp_path: Path) -> None:
    columns = {"decimal": COLUMNS["decimal"], "integer": COLUMNS["integer"]}
    wide = 10**37
    given = pa.RecordBatch.from_arrays([pa.array(["1" * 60 + ".5"]), pa.array([Decimal(wide)], pa.decimal128(38, 0))], names=list(columns))
    assert lines(written(tmp_path, "ndjson", [given], columns)[0]) == [{"decimal": "1" * 60 + ".5", "integer": wide}]
    assert written(tmp_path, "csv", [given], columns)[0].read_text().splitlines()[1] == f"{'1' * 60}.5,{wide}"


def test_infinite_and_ancient_times_are_spelt_as_in_scheduled_files(tmp_path: Path) -> None:
    columns = {"timestamp": COLUMNS["timestamp"], "date": COLUMNS["date"]}
    times = pa.array([2**63 - 1, -(2**63) + 1, -62_198_755_200_000_000], pa.int64()).cast(ARROW["timestamp"])
    days = pa.array([2**31 - 1, -(2**31) + 1, -719_893], pa.int32()).cast(pa.date32())
    path, _ = written(tmp_path, "csv", [pa.RecordBatch.from_arrays([times, days], names=list(columns))], columns)
    assert path.read_text().splitlines()[1:] == [
        "infinity,infinity",
        "-infinity,-infinity",
        "0002-01-01T00:00:00.000000Z BC,0002-01-01 BC",
    ]


def test_the_export_time_is_the_only_time_in_a_workbook(tmp_path: Path) -> None:
    first = written(tmp_path, "xlsx", [batch(SAMPLE)])[1]
    later = written(tmp_path, "xlsx", [batch(SAMPLE)], options=replace(OPTIONS, exported_at=EXPORTED_AT + dt.timedelta(days=1)))[1]
    assert first.sha256 != later.sha256


def test_a_manifest_declares_a_pseudonym_as_the_text_it_is() -> None:
    columns = {"id": Column(type=ColumnType.INTEGER, export="anonymize"), "at": Column(type=ColumnType.TIMESTAMP)}
    assert [column["type"] for column in columns_of(columns)] == ["string", "timestamp"]
