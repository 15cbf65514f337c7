"""What a value begins with stays: a reader of text may take it for a mark of the encoding, a sign or a comment."""

from contextlib import closing

import pyarrow as pa
import pytest

from waybill.canonical import ColumnType
from waybill.configuration.values.columns import Column
from waybill.sources import arrow

pytestmark = pytest.mark.fast

FIRST = ["\ufeff", "\ufeffx", "\ufeff\ufeff", "\ufffe", "\u200b", " ", "\t", "#x", "'", "\\", "-", "+", "=", "\x00", "\x1a", "x"]


def arrows(data: bytes) -> memoryview:
    """Blocks of DuckDB lie in buffers of signed bytes."""
    return memoryview(pa.py_buffer(data)).cast("b")


@pytest.mark.parametrize("wrapped", [bytes, memoryview, arrows])
@pytest.mark.parametrize("value", FIRST, ids=ascii)
def test_the_first_value_of_a_block_keeps_its_first_character(value, wrapped):
    columns = {"k": Column(type=ColumnType.STRING), "n": Column(type=ColumnType.INTEGER)}
    block = wrapped(f"{value},1\n{value},2\n".encode())
    with closing(arrow.reader(columns, {"k": "varchar", "n": "bigint"})) as reader:
        for _ in range(2):
            found = [row for batch in reader.read(block) for row in batch.to_pylist()]
            assert found == [{"k": value, "n": 1}, {"k": value, "n": 2}]
