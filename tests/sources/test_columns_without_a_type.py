"""Parquet columns of the null type, as pandas writes a column of None: empty as every catalogued type, and no quarrel with files that have
the type.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.format_rows import OPTIONS
from tests.native_types.parquet import lake
from waybill.canonical import ColumnType
from waybill.configuration.catalog import Entity
from waybill.configuration.selection import FileStyle, Selection
from waybill.errors import PermanentError
from waybill.formats import open_writer
from waybill.sources.base import Snapshot
from waybill.sources.definitions import source_change

pytestmark = pytest.mark.fast

_AT = datetime(2026, 2, 1, 1, 2, 3, 500000, tzinfo=UTC)
VALUES: dict[str, tuple[Any, pa.DataType, str]] = {
    "integer": (-7, pa.int32(), "-7"),
    "decimal": (Decimal("1.50"), pa.decimal128(5, 2), "1.50"),
    "float": (0.5, pa.float64(), "0.5"),
    "boolean": (True, pa.bool_(), "true"),
    "date": (date(2026, 2, 1), pa.date32(), "2026-02-01"),
    "timestamp": (_AT, pa.timestamp("us", "UTC"), "2026-02-01T01:02:03.500000Z"),
    "uuid": ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", pa.string(), "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    "string": ("say", pa.string(), "say"),
    "json": ([{"a": 1}, None], pa.list_(pa.struct([("a", pa.int8())])), '[{"a":1},null]'),
    "binary": (b"\x00\xff", pa.binary(), "AP8="),
}
UNTYPED: dict[str, Any] = {"json": pa.list_(pa.struct([("a", pa.null())]))}
"""Of a nested type only a part may have no type."""


def _write(path: Path, first: int, columns: dict[str, pa.Array]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = {"id": list(range(first, first + 2)), "tenant": ["acme"] * 2, "updated_at": pa.array([_AT] * 2)}
    pq.write_table(pa.table({**ids, **columns}), path)


def _empty(kind: pa.DataType) -> pa.Array:
    return pa.array([None, None], kind)


def _full(kind: str) -> pa.Array:
    value, native, _ = VALUES[kind]
    return pa.array([value, None], native)


def _entity(kinds: dict[str, str], relation: str = "*.parquet", **more: Any) -> Entity:
    columns = {"id": {"type": "integer"}, **{name: {"type": kind} for name, kind in kinds.items()}}
    plain = {"id": "sample", "source": "s", "relation": relation, "key": ["id"], "tenant_column": "tenant"}
    return Entity.model_validate({**plain, "changes": {"mode": "full"}, **more, "columns": columns})


def _lines(snapshot: Snapshot, entity: Entity) -> list[list[str]]:
    selection = Selection(entity, "acme", entity.columns)
    snapshot.check(selection)
    text = b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle())).decode()
    digests = [digest for batch in snapshot.digests(selection) for digest in batch]
    rows = list(csv.reader(text.splitlines()))
    assert len(rows) == len(set(digests)) == snapshot.count(selection)
    return rows


def test_a_column_without_a_type_is_empty_as_every_catalogued_type(tmp_path: Path) -> None:
    assert VALUES.keys() == set(ColumnType)
    _write(tmp_path / "a.parquet", 1, {f"v_{kind}": _empty(pa.null()) for kind in VALUES})
    entity = _entity({f"v_{kind}": kind for kind in VALUES})
    with lake(tmp_path).snapshot() as snapshot:
        assert _lines(snapshot, entity) == [[str(number), *[""] * len(VALUES)] for number in (1, 2)]


@pytest.mark.parametrize("order", list(permutations(["null", "typed", "part"])), ids="-".join)
def test_files_with_and_without_a_type_are_one_relation_whichever_comes_first(tmp_path: Path, order: tuple[str, ...]) -> None:
    columns: dict[str, Callable[[str], pa.Array]] = {
        "null": lambda kind: _empty(pa.null()),
        "typed": _full,
        "part": lambda kind: _empty(UNTYPED.get(kind, pa.null())),
    }
    expected = []
    for number, name in enumerate(order):
        _write(tmp_path / f"{number}.parquet", 10 * number, {f"v_{kind}": columns[name](kind) for kind in VALUES})
        full = [text for _, _, text in VALUES.values()] if name == "typed" else [""] * len(VALUES)
        expected += [[str(10 * number), *full], [str(10 * number + 1), *[""] * len(VALUES)]]
    with lake(tmp_path).snapshot() as snapshot:
        assert _lines(snapshot, _entity({f"v_{kind}": kind for kind in VALUES})) == expected


@pytest.mark.parametrize("first", ["null", "typed"])
@pytest.mark.parametrize("format", ["csv", "ndjson", "json", "xlsx", "parquet"])
def test_an_export_on_demand_holds_them_in_every_format(tmp_path: Path, format: str, first: str) -> None:
    for number, name in enumerate([first, "null"]):
        columns = {f"v_{kind}": _full(kind) if name == "typed" else _empty(pa.null()) for kind in VALUES}
        _write(tmp_path / f"{number}.parquet", 10 * number, columns)
    entity = _entity({f"v_{kind}": kind for kind in VALUES})
    selection = Selection(entity, "acme", entity.columns)
    writer = open_writer(format, tmp_path / "out", "sample", entity.columns, OPTIONS)
    with lake(tmp_path).snapshot() as snapshot:
        snapshot.check(selection)
        for batch in snapshot.batches(selection, typed=format in ("xlsx", "parquet")):
            writer.write(batch)
    writer.close()
    if format == "ndjson":
        rows = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
        assert [row["id"] for row in rows] == [0, 1, 10, 11]
        assert all((value is None) is (first == "null" or row["id"] != 0) for row in rows for name, value in row.items() if name != "id")
    if format == "parquet":
        assert pq.read_table(tmp_path / "out").num_rows == 4


def test_the_streams_of_a_large_lake_agree_on_the_type_that_some_files_lack(tmp_path: Path) -> None:
    for number in range(4):
        _write(tmp_path / f"{number}.parquet", 10 * number, {"v": _full("decimal") if number == 2 else _empty(pa.null())})
    entity = _entity({"v": "decimal"})
    with lake(tmp_path).snapshot() as snapshot, snapshot.slices(Selection(entity, "acme", entity.columns), 4) as slices:
        blocks = [bytes(block) for one in slices for block, _ in one.csv(FileStyle())]
        assert len(slices) == 4
    assert b"".join(blocks).decode().splitlines() == ["0,", "1,", "10,", "11,", "20,1.50", "21,", "30,", "31,"]


def test_a_deletion_time_nobody_has_yet_and_partitions_of_tenants_are_read(tmp_path: Path) -> None:
    for tenant in ("acme", "bolt"):
        columns = {"deleted_at": _empty(pa.null()) if tenant == "acme" else _full("timestamp")}
        table = pa.table({"id": [1, 2], "updated_at": pa.array([_AT] * 2), **columns})
        (tmp_path / f"tenant={tenant}").mkdir()
        pq.write_table(table, tmp_path / f"tenant={tenant}/a.parquet")
    deleted: dict[str, Any] = {"deleted_column": "deleted_at", "changes": {"mode": "lookback", "column": "updated_at"}}
    entity = _entity({}, "*/*.parquet", **deleted)
    with lake(tmp_path).snapshot() as snapshot:
        assert _lines(snapshot, entity) == [["1"], ["2"]]


def test_a_column_that_gets_its_type_later_is_not_told_as_altered(tmp_path: Path) -> None:
    entity = _entity({"v": "integer", "w": "json"})
    _write(tmp_path / "0.parquet", 0, {"v": _empty(pa.null()), "w": _empty(UNTYPED["json"])})
    with lake(tmp_path).snapshot() as snapshot:
        before = snapshot.definition(Selection(entity, "acme", entity.columns))
    _write(tmp_path / "1.parquet", 10, {"v": _full("integer"), "w": _full("json")})
    with lake(tmp_path).snapshot() as snapshot:
        assert source_change(before, snapshot.definition(Selection(entity, "acme", entity.columns))) == ""


def test_files_that_disagree_are_refused_although_the_first_one_has_no_type(tmp_path: Path) -> None:
    for number, column in enumerate([_empty(pa.null()), _full("integer"), _full("string")]):
        _write(tmp_path / f"{number}.parquet", 10 * number, {"v": column})
    entity = _entity({"v": "string"})
    with lake(tmp_path).snapshot() as snapshot, pytest.raises(PermanentError, match=r"column v is .*in .*2\.parquet, but .* in .*1\.parq"):
        snapshot.check(Selection(entity, "acme", entity.columns))


def test_a_key_without_a_type_is_a_key_without_values(tmp_path: Path) -> None:
    _write(tmp_path / "0.parquet", 0, {"v": _empty(pa.null())})
    entity = _entity({"v": "integer"}, key=["v"])
    with lake(tmp_path).snapshot() as snapshot, pytest.raises(PermanentError, match="2 rows of the tenant have no value in a column"):
        snapshot.check(Selection(entity, "acme", entity.columns))
