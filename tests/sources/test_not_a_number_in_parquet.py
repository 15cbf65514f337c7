"""NaN in Parquet as other programs write it: the least and greatest values that they note pass over it, and the engine believes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from waybill.configuration.catalog import Entity, LakeSource
from waybill.configuration.selection import FileStyle, Selection
from waybill.configuration.values.conditions import Condition
from waybill.errors import PermanentError
from waybill.sources.duckdb.lake import Lake

pytestmark = pytest.mark.fast

NAN, INFINITY = float("nan"), float("inf")
VALUES = [NAN, 1.0, 9.0, NAN, -0.0, None]


def delivered(root: Path, kind: pa.DataType, values: list[Any], catalogued: str, *where: Condition) -> list[str]:
    """The values, read of a file whose groups of rows hold two each."""
    (root / "sample").mkdir()
    ids = list(range(len(values)))
    table = pa.table({"id": ids, "value": pa.array(values, kind), "tenant": ["acme"] * len(values)})
    pq.write_table(table, root / "sample" / "0.parquet", row_group_size=2)
    plain = {"source": "any", "tenant_column": "tenant", "key": ["id"], "changes": {"mode": "full"}}
    columns = {"id": {"type": "integer"}, "value": {"type": catalogued}}
    entity = Entity.model_validate({"id": "sample", "relation": "sample/*.parquet", "columns": columns, **plain})
    selection = Selection(entity, "acme", entity.columns, where=where)
    with Lake(LakeSource(kind="lake"), root, no_connection).snapshot() as snapshot:
        snapshot.check(selection)
        text = b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle())).decode()
    return [line.partition(",")[2] for line in text.splitlines()]


def no_connection(name: str) -> Any:
    raise PermanentError(name)


@pytest.mark.parametrize("catalogued", ["float", "string"])
@pytest.mark.parametrize("kind", [pa.float64(), pa.float32(), pa.float16()], ids=str)
def test_a_column_with_nan_is_delivered_as_it_is(tmp_path: Path, kind: pa.DataType, catalogued: str) -> None:
    assert delivered(tmp_path, kind, VALUES, catalogued) == ["NaN", "1", "9", "NaN", "-0", ""]


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32()], ids=str)
def test_nan_in_nested_values_is_delivered_as_it_is(tmp_path: Path, kind: pa.DataType) -> None:
    nested = pa.struct([("a", kind), ("b", pa.list_(kind))])
    found = delivered(tmp_path, nested, [{"a": NAN, "b": [1.0, NAN]}, {"a": 1.0, "b": []}], "json")
    assert found == ['"{""a"":""NaN"",""b"":[1,""NaN""]}"', '"{""a"":1,""b"":[]}"']
