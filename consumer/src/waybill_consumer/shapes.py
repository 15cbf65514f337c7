"""Reads data files that are not CSV as the records that CSV would hold: NDJSON by Python alone, Parquet by DuckDB, which is an extra."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from waybill_consumer.errors import Damaged, Refused
from waybill_consumer.manifest import Column
from waybill_consumer.records import MOST_FIELDS, Record, with_line_ends

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_SPACE = " \t\r"
_AT_ONCE = 10_000
SHORT_OF_MEMORY = re.compile(r"\([^()/]+/[^()/]+ used\)")
"""What DuckDB says in every message about memory, whichever step lacked it."""
_decode = json.JSONDecoder().raw_decode


def members(line: str) -> Iterator[tuple[str, str]]:
    """Return each name of an object on one line with its value as it is spelt. Raises ValueError for anything else."""
    at = _past(line, 0, "{")
    for _ in range(MOST_FIELDS):
        name, at = _decode(line, at)
        start = _past(line, at, ":")
        _, at = _decode(line, start)
        yield str(name), line[start:at]
        if line[at : at + 1] == "}" and not line[at + 1 :].strip(_SPACE):
            return
        at = _past(line, at, ",")
    raise ValueError("too many members")


def _past(line: str, at: int, mark: str) -> int:
    if line[at : at + 1] != mark:
        raise ValueError(f"{mark} is missing")
    return at + 1


def ndjson_lines(blocks: Iterable[str]) -> Iterator[list[tuple[str, str]]]:
    """Yield the members of every record. Raises Damaged for a line that is no JSON object, and for one without its end.

    Raises Refused for a record that is larger than one may be.
    """
    waiting, number = "", 0
    for block in with_line_ends(blocks, "\n"):
        *whole, waiting = (waiting + block).split("\n")
        for line in whole:
            number += 1
            try:
                yield list(members(line))
            except (ValueError, RecursionError):
                raise Damaged(f"line {number} is no JSON object") from None
    if waiting:
        raise Damaged("the last record does not end in a line end")


def ndjson_records(blocks: Iterable[str], columns: Sequence[Column]) -> Iterator[Record]:
    """Yield every record as CSV would hold it. Raises Damaged if one has other fields than the manifest says."""
    names = [column.name for column in columns]
    for number, found in enumerate(ndjson_lines(blocks), 1):
        if [name for name, _ in found] != names:
            listed = ", ".join(name for name, _ in found)[:200]
            raise Damaged(f"record {number} has the fields {listed}, its manifest says {', '.join(names)[:200]}")
        yield [_text(spelt, column.type) for (_, spelt), column in zip(found, columns, strict=True)]


def _text(spelt: str, kind: str) -> str | None:
    if spelt == "null":
        return None
    if kind == "json" or not spelt.startswith('"'):
        return spelt
    return str(json.loads(spelt))


def half_of_memory() -> int:
    """Return half of the memory of this machine, in megabytes."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 21
    except (AttributeError, OSError, ValueError):  # Windows
        return 4 << 10


@cache
def _engine() -> DuckDBPyConnection:
    """Return the engine that reads every Parquet file of this process: opening one takes longer than reading a small file.

    It takes what some thousand rows at a time need, which may be megabytes each.
    """
    import duckdb

    limit = f"{max(1 << 10, half_of_memory())}MB"
    return duckdb.connect(config={"threads": 1, "memory_limit": limit, "enable_external_file_cache": False})


@contextmanager
def _opened(path: Path) -> Iterator[tuple[DuckDBPyConnection, str]]:
    """Return DuckDB and what reads the file. Raises Damaged for a file that is no Parquet.

    Raises Refused if DuckDB is not installed, or if its rows take more memory than there is.
    """
    try:
        import duckdb
    except ImportError:
        step = 'Install it: pip install "waybill-consumer[duckdb]"; or ask the sender for files: {format: csv}'
        raise Refused("is Parquet, and reading that needs DuckDB", where=str(path), next_step=step) from None
    pattern = no_pattern(str(path)).replace("'", "''")
    with _engine().cursor() as connection:
        connection.execute("set TimeZone = 'UTC'")
        try:
            yield connection, f"read_parquet('{pattern}')"
        except duckdb.Error as error:
            if SHORT_OF_MEMORY.search(str(error)):
                step = "Read it on a machine with more memory, or ask the sender for files: {format: csv}"
                raise Refused("has rows that take more than half of this machine's memory", where=str(path), next_step=step) from None
            raise Damaged(f"is not whole Parquet: {str(error).splitlines()[0]}") from None


def parquet_records(path: Path, columns: Sequence[Column]) -> Iterator[Record]:
    """Yield every record as CSV would hold it. Raises Damaged if the columns differ from the manifest, and Refused without DuckDB."""
    with _opened(path) as (connection, reader):
        names, wanted = _names(connection, reader), [column.name for column in columns]
        if names != wanted:
            raise Damaged(f"has the columns {', '.join(names)[:200]}, its manifest says {', '.join(wanted)[:200]}")
        values = ", ".join(SPELT.get(column.type, "cast({} as varchar)").format(_quoted(column.name)) for column in columns)
        cursor = connection.execute(f"select {values} from {reader}")  # noqa: S608 (quoted names)
        while rows := cursor.fetchmany(_AT_ONCE):
            yield from ([*row] for row in rows)


def parquet_counted(blocks: Iterable[bytes]) -> tuple[tuple[str, ...], int] | None:
    """Return the columns and the number of records, each of which is read. It is None without DuckDB, or without the memory for the rows.

    Raises Damaged for what is no Parquet.
    """
    with tempfile.NamedTemporaryFile(suffix=".parquet") as copy:
        for block in blocks:
            copy.write(block)
        copy.flush()
        try:
            with _opened(Path(copy.name)) as (connection, reader):
                names = _names(connection, reader)
                read = ", ".join(f"count({_quoted(name)})" for name in names)
                [row] = connection.execute(f"select count(*), {read} from {reader}").fetchall()  # noqa: S608 (quoted names)
                return tuple(names), int(row[0])
        except Damaged:
            raise
        except Refused:
            return None


def no_pattern(path: str) -> str:
    """Return a path as DuckDB reads that file alone, whatever letters of a pattern are in it."""
    return "".join(f"[{letter}]" if letter in "[*?" else letter for letter in path)


def _names(connection: DuckDBPyConnection, reader: str) -> list[str]:
    rows: list[Any] = connection.execute(f"describe select * from {reader}").fetchall()  # noqa: S608
    return [str(row[0]) for row in rows]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


SPELT = {
    "float": "replace(replace(cast({} as varchar), 'nan', 'NaN'), 'inf', 'Infinity')",
    "date": "replace(cast({} as varchar), ' (BC)', ' BC')",
    "decimal": r"regexp_replace(cast({} as varchar), '^(-?)[.]', '\10.')",
    "timestamp": (
        "case when isfinite({0}) then regexp_extract(cast({0} at time zone 'UTC' as varchar), '^[0-9]+') || "
        "strftime({0} at time zone 'UTC', '-%m-%dT%H:%M:%S.%fZ') || if({0} < '0001-01-01 00:00:00+00', ' BC', '') "
        "else cast({0} as varchar) end"
    ),
    "binary": "to_base64({})",
}
"""Types that DuckDB spells differently from the files."""


def csv_of(records: Iterable[Record], columns: Sequence[Column]) -> Iterator[bytes]:
    """Yield records as CSV with a header, in blocks."""
    lines = [",".join(_field(column.name) for column in columns)]
    for record in records:
        lines.append(",".join(_field(text) for text in record))
        if len(lines) >= _AT_ONCE:
            yield ("\n".join(lines) + "\n").encode()
            lines = []
    if lines:
        yield ("\n".join(lines) + "\n").encode()


def _field(value: str | None) -> str:
    if value is None:
        return ""
    if value == "" or any(mark in value for mark in ',"\r\n'):
        return '"' + value.replace('"', '""') + '"'
    return value
