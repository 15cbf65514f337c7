"""Reading delivered files that are not CSV: their columns, their records, and the records as the text that CSV would hold."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, Any

from waybill.canonical import ColumnType

_SPACE = " \t\r"
_decode = json.JSONDecoder().raw_decode


def members(line: str) -> Iterator[tuple[str, str]]:
    """Each name of an object on one line with its value as it is spelt. Raises ValueError for anything else."""
    at = _expect(line, 0, "{")
    while True:
        name, at = _decode(line, at)
        if not isinstance(name, str):
            raise ValueError("a name is no string")
        start = _expect(line, at, ":")
        _, at = _decode(line, start)
        yield name, line[start:at]
        if line[at : at + 1] == "}" and not line[at + 1 :].strip(_SPACE):
            return
        at = _expect(line, at, ",")


def _expect(line: str, at: int, mark: str) -> int:
    if line[at : at + 1] != mark:
        raise ValueError(f"{mark} is missing")
    return at + 1


def canonical(spelt: str, kind: str) -> str:
    """A JSON value as the text that CSV holds; NULL is an empty text."""
    if spelt == "null":
        return ""
    if kind == ColumnType.JSON.value or not spelt.startswith('"'):
        return spelt
    return str(json.loads(spelt))


def count_ndjson(lines: Iterable[str]) -> tuple[tuple[str, ...] | None, int, list[str]]:
    """The columns of the first record, or None where there is none; the records; what is wrong with them."""
    header: tuple[str, ...] | None = None
    rows, uneven, broken, last = 0, 0, 0, "\n"
    for last in lines:
        rows += 1
        try:
            found = tuple(name for name, _ in members(last.removesuffix("\n")))
        except (ValueError, RecursionError):
            broken += 1
            continue
        header = header or found
        uneven += found != header
    faults = [f"{broken} lines are no JSON object"] if broken else []
    faults += [f"{uneven} records have other fields than the first"] if uneven else []
    faults += [] if last.endswith("\n") else ["the last record does not end in a line end"]
    return header, rows, faults


def on_disk(blocks: Iterable[bytes]) -> IO[bytes]:
    """All bytes in a file that is gone when it is closed: what stands at the end of Parquet tells where the rest is."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 (whoever asked closes it)
    for block in blocks:
        file.write(block)
    file.seek(0)
    return file


def count_parquet(file: IO[bytes]) -> tuple[tuple[str, ...], int]:
    """The columns, and the records, each of them read. Raises pyarrow.ArrowException for what is not whole."""
    from pyarrow import parquet

    opened = parquet.ParquetFile(file)
    return tuple(opened.schema_arrow.names), sum(batch.num_rows for batch in opened.iter_batches())


def parquet_records(file: IO[bytes], kinds: list[str]) -> Iterator[list[str]]:
    """Every record as the texts that CSV holds."""
    import duckdb
    import pyarrow as pa
    from pyarrow import parquet

    from waybill.formats import lines

    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for batch in parquet.ParquetFile(file).iter_batches():
            names = [f"c{number}" for number in range(batch.num_columns)]
            renamed = pa.Table.from_arrays(batch.columns, names)
            typed = zip(names, kinds, renamed.schema, strict=True)
            texts = ", ".join(f"coalesce({lines.text(name, ColumnType(kind), field.type)}, '')" for name, kind, field in typed)
            for row in connection.from_arrow(renamed).project(texts).fetchall():
                yield list(row)


def ndjson_records(lines: Iterable[str], kinds: list[str]) -> Iterator[list[str]]:
    """Every record as the texts that CSV holds."""
    for line in lines:
        found: list[Any] = [spelt for _, spelt in members(line.removesuffix("\n"))]
        yield [canonical(spelt, kind) for spelt, kind in zip(found, kinds, strict=True)]
