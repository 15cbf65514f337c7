"""Turns Arrow into lines of text, a whole piece at a time: DuckDB joins the columns, and Arrow's own buffer goes to the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import duckdb
import pyarrow as pa

from waybill import duckdb_text
from waybill.canonical import ColumnType

BLOCK = 8_192
"""Lines that are made before they are written."""


LARGE = 16 << 20
"""Bytes of a piece from which an engine may take more memory: a piece is larger only if it is one row."""
_ROOM = 80
"""How many times its bytes the line of one row may take, with much in it to escape."""
_LIMIT = 512 << 20

MOST_SPARE = 4
"""Engines that wait for the next file. Opening one takes longer than the text of a thousand rows."""
_spare: list[duckdb.DuckDBPyConnection] = []


class Lines:
    """An engine that evaluates one SQL expression over the pieces of a file. It touches neither disk nor network.

    Nobody else uses it until it is released. The engine of a file that was written to its end serves the next file.
    """

    def __init__(self) -> None:
        self.engine = _opened()
        self._is_released = False

    def texts(self, piece: pa.RecordBatch, expression: str, values: Sequence[str] = ()) -> Iterator[memoryview]:
        """Return the text of `expression` for every row, in order and back to back.

        It uses the piece's columns or, with `values`, those as v0, v1, ...: what it repeats is then computed once.
        """
        if piece.nbytes > LARGE:
            self.engine.execute(f"SET memory_limit = '{piece.nbytes * _ROOM}B'")
        relation = self.engine.from_arrow(pa.Table.from_batches([piece]))
        if values:
            relation = relation.project(", ".join(f"{value} AS v{number}" for number, value in enumerate(values)))
        for batch in relation.project(f"{expression} AS line").to_arrow_reader(BLOCK):
            yield _bytes(batch.column(0))

    def release(self) -> None:
        """Leave the engine to the next file. It must have nothing left to do."""
        self._is_released = True
        if len(_spare) < MOST_SPARE:
            _spare.append(self.engine)
        else:
            self.engine.close()

    def close(self) -> None:
        """End the engine, whatever it is doing. It does nothing to one that was released."""
        if not self._is_released:
            self.engine.close()


def _opened() -> duckdb.DuckDBPyConnection:
    with suppress(IndexError):
        return _spare.pop()
    settings: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "memory_limit": f"{_LIMIT}B",
        "autoinstall_known_extensions": "false",
        "temp_directory": "",
    }
    connection = duckdb.connect(config=settings)
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET python_enable_replacements = false")
    return connection


def _bytes(texts: pa.Array) -> memoryview:
    """Return all texts of an array without NULL, as Arrow holds them. Nothing is copied."""
    _, offsets, data = texts.buffers()
    ends: memoryview[int] = memoryview(offsets).cast("q" if pa.types.is_large_string(texts.type) else "i")
    return memoryview(data)[ends[texts.offset] : ends[texts.offset + len(texts)]] if data else memoryview(b"")


def literal(text: str) -> str:
    quoted = text.replace("'", "''")
    return f"'{quoted}'"


def text(x: str, kind: ColumnType, arrow: pa.DataType) -> str:
    """Return the canonical text of a column. What comes as text is canonical already."""
    if pa.types.is_string(arrow) or pa.types.is_large_string(arrow) or pa.types.is_string_view(arrow):
        return x
    match kind:
        case ColumnType.FLOAT:
            return duckdb_text.float_text(f"CAST({x} AS DOUBLE)")
        case ColumnType.TIMESTAMP:
            aware = pa.types.is_timestamp(arrow) and arrow.tz
            return duckdb_text.timestamp_text(f"({x} AT TIME ZONE 'UTC')" if aware else f"CAST({x} AS TIMESTAMP)")
        case ColumnType.DATE:
            return duckdb_text.date_text(x)
        case ColumnType.BINARY:
            return f"to_base64({x})"
    return duckdb_text.decimal_text(x) if pa.types.is_decimal(arrow) and arrow.precision == arrow.scale else f"CAST({x} AS VARCHAR)"


def json_token(x: str, kind: ColumnType, arrow: pa.DataType) -> str:
    """Return a JSON value that loses nothing. Integers and finite floats are numbers, and decimals are strings, as are times and bytes."""
    shown = text(x, kind, arrow)
    match kind:
        case ColumnType.INTEGER | ColumnType.BOOLEAN:
            token = shown
        case ColumnType.FLOAT:
            token = f"CASE WHEN isfinite({x}) THEN {shown} ELSE '\"' || ({shown}) || '\"' END"
        case ColumnType.STRING:
            token = f"to_json({x})"
        case ColumnType.JSON:
            token = f"CASE WHEN {duckdb_text.is_json(x)} THEN {x} ELSE to_json({x}) END"
        case _:
            token = f"'\"' || ({shown}) || '\"'"
    return f"coalesce({token}, 'null')"


def concat(pieces: Iterable[str]) -> str:
    """Return all pieces in a row, with NULL as nothing."""
    return f"concat({', '.join(pieces)})"
