"""Columns with names that differ only by case are columns of their own; where an engine cannot tell them apart, that is said."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.deliveries.test_redefined import Books, books  # noqa: F401 (a fixture)
from tests.installations import DAY, NOON

COLUMNS: dict[str, dict[str, Any]] = {
    "own names": {"Name": {"type": "string"}, "NAME": {"type": "string"}, "name": {"type": "string"}},
    "other names": {
        "b": {"type": "string", "from": "Name"},
        "c": {"type": "string", "from": "NAME"},
        "a": {"type": "string", "from": "name"},
    },
}
READERS: dict[str, Callable[[Path], list[list[str]]]] = {
    "csv": lambda path: list(csv.reader(path.read_text().splitlines()))[1:],
    "ndjson": lambda path: [[str(value) for value in json.loads(line).values()] for line in path.read_text().splitlines()],
    "parquet": lambda path: [list(map(str, row)) for row in duckdb.read_parquet(str(path)).fetchall()],
}


@pytest.mark.parametrize("books", ["postgres", "dbapi over postgres"], indirect=True)
@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("shape", READERS)
def test_columns_that_differ_only_by_case_hold_each_its_own_values(books: Books, columns: str, shape: str) -> None:  # noqa: F811
    books.happens(
        'create table thing (tenant_id text, id bigint primary key, name text, "Name" text, "NAME" text, updated_at timestamptz, "Id" int)',
        "insert into thing values ('acme', 1, 'low', 'cap', 'up', '2026-05-30 10:00:00', 7)",
    )
    books.catalogued(columns={"id": {"type": "integer"}, **COLUMNS[columns]})
    books.tenant(entityList=["thing"], files={"format": shape})
    books.deliver(0)
    books.happens(f"insert into thing values ('acme', 2, 'low2', 'cap2', 'up2', '{NOON}', 8)")
    books.deliver(1)
    found = [(READERS[shape](path.parent / manifest["files"][0]["path"]), manifest) for path, manifest in books.manifests()]
    assert [rows for rows, _ in found] == [[["1", "cap", "up", "low"]], [["2", "cap2", "up2", "low2"]]]
    assert [column["name"] for column in found[0][1]["columns"]] == ["id", *COLUMNS[columns]]
    books.close()


def test_a_parquet_file_with_such_columns_is_refused_by_name_unless_nothing_reads_them(tmp_path: Path) -> None:
    with closing(Books(tmp_path, spec={"kind": "lake", "path": "lake"})) as place:
        (tmp_path / "lake/thing").mkdir(parents=True)
        row = {"tenant_id": ["acme"], "id": [1], "name": ["low"], "Name": ["cap"], "updated_at": pa.array([NOON - DAY])}
        pq.write_table(pa.table(row), tmp_path / "lake/thing/a.parquet")
        for read in ("name", "Name"):
            place.catalogued(columns={"id": {"type": "integer"}, "x": {"type": "string", "from": read}}, relation="thing/*.parquet")
            [result] = place.run(NOON)
            assert "columns Name and name of" in str(result.error)
            assert "differ only by case" in str(result.error)
        place.catalogued(columns={"id": {"type": "integer"}}, relation="thing/*.parquet")
        assert [result.error for result in place.run(NOON)] == [None]
