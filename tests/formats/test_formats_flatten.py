"""Nested values as dotted columns of the CSV for people: nothing is cut, no two values share a column by accident."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.format_rows import COLUMNS, batch, json_text, written
from waybill.canonical import ColumnType
from waybill.configuration.values.columns import Column
from waybill.formats import flatten

pytestmark = pytest.mark.fast

JSON = COLUMNS["json"]


def flat(folder: Path, *values: str | None, columns: dict[str, Column] | None = None) -> tuple[list[str], list[list[str]]]:
    """Header and records of one JSON column `p`."""
    given = pa.RecordBatch.from_arrays([pa.array(list(values), pa.string())], names=["p"])
    path, result = written(folder, "csv", [given], columns or {"p": JSON})
    header, *records = csv.reader(io.StringIO(path.read_bytes().decode(), newline=""), strict=True)
    assert tuple(header) == result.columns
    return header, records


def test_members_become_dotted_columns_in_the_order_they_are_first_seen(tmp_path: Path) -> None:
    header, records = flat(tmp_path, '{"plan":"pro","geo":{"city":"Köln","lat":50.90}}', '{"seats":5,"plan":"free"}')
    assert header == ["p.plan", "p.geo.city", "p.geo.lat", "p.seats"]
    assert records == [["pro", "Köln", "50.90", ""], ["free", "", "", "5"]]


def test_lists_empty_objects_and_repeated_keys_stay_json(tmp_path: Path) -> None:
    header, records = flat(tmp_path, '{"a":[1,{"b":2.0}],"c":{},"d":{"x":1,"x":2}}')
    assert dict(zip(header, records[0], strict=True)) == {"p.a": '[1,{"b":2.0}]', "p.c": "{}", "p.d": '{"x":1,"x":2}'}


def test_a_value_that_is_no_object_keeps_the_column_itself(tmp_path: Path) -> None:
    header, records = flat(tmp_path, '{"a":1}', "[1,2]", '"text"', "12.50", "true", "not json", "{}")
    assert header == ["p.a", "p"]
    assert records == [["1", ""], ["", "[1,2]"], ["", "text"], ["", "12.50"], ["", "true"], ["", "not json"], ["", "{}"]]


def test_null_and_missing_are_empty_and_an_empty_text_is_quoted(tmp_path: Path) -> None:
    path, _ = written(tmp_path, "csv", [batch([{"json": value} for value in ('{"a":null,"b":""}', None)], ["json"])], {"json": JSON})
    assert path.read_text() == 'json.a,json.b\n,""\n,\n'


def test_dots_in_keys_are_escaped_so_that_paths_never_meet(tmp_path: Path) -> None:
    header, records = flat(tmp_path, '{"a.b":1,"a":{"b":2},"a\\\\":{"b":3},"":{"":4}}')
    assert header == ["p.a\\.b", "p.a.b", "p.a\\\\.b", "p.."]
    assert records == [["1", "2", "3", "4"]]


def test_a_key_that_is_object_here_and_text_there_has_both_columns(tmp_path: Path) -> None:
    assert flat(tmp_path, '{"a":{"b":1}}', '{"a":"x"}') == (["p.a.b", "p.a"], [["1", ""], ["", "x"]])


def test_a_dotted_name_that_another_column_has_leaves_the_column_whole(tmp_path: Path) -> None:
    columns = {"p": JSON, "p.a": Column(type=ColumnType.INTEGER), "q": JSON}
    given = pa.RecordBatch.from_arrays([pa.array(['{"a":1}']), pa.array([7]), pa.array(['{"a":1}'])], names=list(columns))
    path, _ = written(tmp_path, "csv", [given], columns)
    assert path.read_text() == 'p,p.a,q.a\n"{""a"":1}",7,1\n'


def test_keys_that_are_data_rather_than_names_stay_in_one_cell(tmp_path: Path) -> None:
    values = [json.dumps({f"user-{number}": number}) for number in range(flatten.MOST + 1)]
    header, records = flat(tmp_path, *values)
    assert header == ["p"]
    assert [record for [record] in records] == [value.replace(" ", "") for value in values] or [record for [record] in records] == values
    assert len(flat(tmp_path, *values[:-1])[0]) == flatten.MOST


def test_a_key_seen_late_has_its_column_from_the_first_row_on(tmp_path: Path) -> None:
    batches = [batch([{"json": '{"a":1}'}] * 60_000, ["json"]), batch([{"json": '{"b":2}'}], ["json"])]
    path, _ = written(tmp_path, "csv", batches, {"json": JSON})
    text = path.read_text().splitlines()
    assert (text[0], text[1], text[60_000], text[60_001]) == ("json.a,json.b", "1,", "1,", ",2")


def test_flattened_texts_and_names_are_guarded(tmp_path: Path) -> None:
    header, records = flat(tmp_path, '{"a":"=1+1","n":-5}', columns={"p": JSON})
    assert dict(zip(header, records[0], strict=True)) == {"p.a": "'=1+1", "p.n": "-5"}


@pytest.mark.parametrize(
    "value", ['{"a":' * 5_000 + "1" + "}" * 5_000, "[" * 100_000, '{"a":"\\ud800"}', '{"\\ud800":1}'], ids=["deep", "open", "value", "key"]
)
def test_hostile_json_comes_through_whole(tmp_path: Path, value: str) -> None:
    header, [record] = flat(tmp_path, value)
    assert record == [value] if header == ["p"] else record == ['"\\ud800"']


@given(st.lists(st.none() | json_text, min_size=1, max_size=8))
@settings(max_examples=40)
def test_every_leaf_is_found_under_its_path(tmp_path: Path, values: list[str | None]) -> None:
    header, records = flat(tmp_path, *values)
    for value, record in zip(values, records, strict=False) if len(header) > 1 else []:
        leaves: dict[str, Any] = {} if value is None else {f"p{path}": text or "" for path, text in flatten.leaves(value)}
        shown = {name: re.sub(r"^'(?='*[=+\-@\t\r\n\0])", "", text) for name, text in zip(header, record, strict=True)}
        assert shown == {name: leaves.get(name, "") for name in header}
