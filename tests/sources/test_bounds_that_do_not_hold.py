"""Parquet files note the least and greatest value of each group of rows. Where those do not hold, no row is passed over by them.

The bounds of these files are those that named writers note; `tests.parquet_footers` puts them there.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.parquet_footers import MAX, MAX_VALUE, MIN, MIN_VALUE, NULL_COUNT, renote
from waybill.configuration.catalog import Entity, LakeSource
from waybill.configuration.selection import ChangeSpan, FileStyle, Selection
from waybill.configuration.values.conditions import Condition
from waybill.errors import PermanentError
from waybill.sources.duckdb import bounds
from waybill.sources.duckdb.lake import Lake
from waybill.sources.sql import Bind

pytestmark = pytest.mark.fast

NAN = float("nan")
FLOATS = [NAN, 1.0, 9.0, NAN, None, -0.0]
DAY = datetime(2026, 5, 1, tzinfo=UTC)
Notes = dict[int, Any]


def written(root: Path, kind: pa.DataType, values: list[Any], note: Callable[[Notes], Notes] | None = None, **options: Any) -> Entity:
    """Write a file whose groups hold two rows each, and return its entity."""
    path = root / "sample" / "0.parquet"
    path.parent.mkdir()
    table = pa.table({"id": range(len(values)), "x": pa.array(values, kind), "tenant": ["acme"] * len(values)})
    pq.write_table(table, path, row_group_size=2, **options)
    if note:
        renote(path, "x", note)
    return entity("string")


def entity(catalogued: str, **fields: Any) -> Entity:
    columns = {"id": {"type": "integer"}, "x": {"type": catalogued}}
    plain = {"source": "any", "tenant_column": "tenant", "key": ["id"], "columns": columns, "changes": {"mode": "full"}}
    return Entity.model_validate({"id": "sample", "relation": "sample/*.parquet", **plain, **fields})


def ids(root: Path, selection: Selection) -> list[int]:
    with Lake(LakeSource(kind="lake"), root, no_connection).snapshot() as snapshot:
        snapshot.check(selection)
        records = b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle())).split()
        assert snapshot.count(selection) == len(records)
    return [int(record.partition(b",")[0]) for record in records]


def no_connection(name: str) -> Any:
    raise PermanentError(name)


def where(of: Entity, op: str, value: Any = None) -> Selection:
    return Selection(of, "acme", of.columns, where=(Condition(column="x", op=op, value=value),))


CONDITIONS: dict[str, tuple[str, Any, list[int]]] = {
    "more": (">", 5.0, [0, 2, 3]),
    "at least": (">=", 9.0, [0, 2, 3]),
    "less": ("<", 9.0, [1, 5]),
    "zero": ("=", 0.0, [5]),
    "one of": ("in", [1.0, 0.0], [1, 5]),
    "not": ("!=", 1.0, [0, 2, 3, 5]),
    "none of": ("not in", [1.0, 9.0], [0, 3, 5]),
    "there": ("is not null", None, [0, 1, 2, 3, 5]),
}


@pytest.mark.parametrize("hashed", [False, True], ids=["no filter", "Bloom filter"])
@pytest.mark.parametrize("kind", [pa.float64(), pa.float32(), pa.float16()], ids=str)
@pytest.mark.parametrize(("op", "value", "expected"), CONDITIONS.values(), ids=CONDITIONS)
def test_a_condition_finds_nan_and_both_zeros(
    tmp_path: Path, op: str, value: Any, expected: list[int], kind: pa.DataType, hashed: bool
) -> None:
    options: dict[str, Any] = {"bloom_filter_options": {"x": True}} if hashed else {}
    written(tmp_path, kind, FLOATS, **options)
    assert ids(tmp_path, where(entity("float"), op, value)) == expected


def by_signed_bytes(least: str, most: str) -> Callable[[Notes], Notes]:
    """Bounds as parquet-mr noted them up to 1.9, and so Spark up to 2.3."""
    return lambda noted: {MIN: least.encode(), MAX: most.encode(), NULL_COUNT: 0}


OLD_TEXTS = {
    "signed bytes": (["é", "b"], by_signed_bytes("é", "b")),
    "order of categories": (["low", "mid"], by_signed_bytes("mid", "low")),  # what fastparquet notes of a Categorical
    "one buffer": (["a", "b"], by_signed_bytes("b", "b")),  # PARQUET-251
}


@pytest.mark.parametrize(("values", "note"), OLD_TEXTS.values(), ids=OLD_TEXTS)
def test_a_text_is_found_whose_group_is_noted_in_another_order(tmp_path: Path, values: list[str], note: Callable[[Notes], Notes]) -> None:
    sample = written(tmp_path, pa.string(), values, note)
    scoped = entity("string", scopes={"project": "x"})
    for number, value in enumerate(values):
        assert ids(tmp_path, where(sample, "=", value)) == [number]
        assert ids(tmp_path, where(sample, "!=", value)) == [1 - number]
        assert ids(tmp_path, Selection(scoped, "acme", scoped.columns, scope={"project": (value,)})) == [number]


def test_the_rows_of_a_tenant_are_found_whose_group_is_noted_in_another_order(tmp_path: Path) -> None:
    written(tmp_path, pa.string(), ["é", "b"], by_signed_bytes("é", "b"))
    owned = entity("string", tenant_column="x")
    assert [ids(tmp_path, Selection(owned, tenant, owned.columns)) for tenant in ("é", "b")] == [[0], [1]]


def test_a_state_of_deletion_is_found_whose_group_is_noted_in_another_order(tmp_path: Path) -> None:
    written(tmp_path, pa.string(), ["gone", "här"], by_signed_bytes("här", "a"))
    gone = entity("string", deleted_when={"column": "x", "op": "=", "value": "gone"})
    assert ids(tmp_path, Selection(gone, "acme", gone.columns, live_only=True)) == [1]


def test_a_decimal_is_found_whose_group_is_noted_as_unsigned_bytes(tmp_path: Path) -> None:
    """Arrow did so before 1.0 (PARQUET-1655)."""
    digits = [bytes(8) + bytes([number]) for number in (0, 100)]
    written(tmp_path, pa.decimal128(20, 2), [Decimal(-1), Decimal(1)], lambda noted: {**noted, MIN_VALUE: digits[0], MAX_VALUE: digits[1]})
    assert ids(tmp_path, where(entity("decimal"), "<", 0)) == [0]


def test_a_change_is_found_whose_group_is_noted_by_the_bytes_of_int96(tmp_path: Path) -> None:
    times = [DAY, DAY + timedelta(days=9, hours=1), DAY + timedelta(days=3, hours=2)]
    noted = {MIN_VALUE: int96(times[0]), MAX_VALUE: int96(times[2]), NULL_COUNT: 0}
    written(tmp_path, pa.timestamp("us"), [times[0], times[1], times[2]], lambda _: noted, use_deprecated_int96_timestamps=True)
    changes = entity("timestamp", changes={"mode": "lookback", "column": "x", "lookback": "1h"})
    span = ChangeSpan(DAY + timedelta(days=5), DAY + timedelta(days=20))
    assert ids(tmp_path, Selection(changes, "acme", changes.columns, changed=span)) == [1]


def int96(time: datetime) -> bytes:
    """Nanoseconds of the day, and the day of Julius Scaliger."""
    day = (time.date() - DAY.date()).days + 2_461_162
    return (time.hour * 3_600_000_000_000).to_bytes(8, "little") + day.to_bytes(4, "little")


@pytest.mark.parametrize(("op", "expected"), [("is null", [5, 6]), ("is not null", [0, 1, 2, 3, 4])])
def test_a_page_that_notes_one_text_hides_no_null(tmp_path: Path, op: str, expected: list[int]) -> None:
    (tmp_path / "sample").mkdir()
    table = pa.table({"id": range(7), "x": [*["é"] * 5, None, None], "tenant": ["acme"] * 7})
    pq.write_table(table, tmp_path / "sample" / "0.parquet", use_dictionary=False, max_rows_per_page=5)
    assert ids(tmp_path, where(entity("string"), op)) == expected


def test_bounds_of_a_defined_order_are_believed_of_texts_that_tell_the_tenant(tmp_path: Path) -> None:
    written(tmp_path, pa.string(), ["a" * 300, "é", None, None])
    kinds = {"id": "BIGINT", "x": "VARCHAR", "tenant": "VARCHAR"}
    with duckdb.connect() as connection:
        files = Bind([str(tmp_path / "sample" / "0.parquet")], "VARCHAR[]")

        def run(asked: Any) -> list[Any]:
            text, values = asked.render(lambda bind: "?")
            return connection.execute(text, values).fetchall()

        disordered = bounds.disordered(files, run)
        assert bounds.doubted(kinds, disordered, {"x"}) == {"tenant"}
