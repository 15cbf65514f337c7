"""The in-memory DuckDB that reads files, formats rows and spills to disk: it is opened, spells SQL and streams rows here."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from waybill import duckdb_text
from waybill.canonical import ColumnType
from waybill.errors import PermanentError, TransientError, WaybillError
from waybill.sources import drift, reuse
from waybill.sources.base import AGAIN
from waybill.sources.duckdb import nested
from waybill.sources.duckdb.spill import spill_folder
from waybill.sources.query import Query
from waybill.sources.sql import Bind, Sql, integer_bounds, join, quote, sql

MEMORY = "512MB"
"""What hashing, and the sorting of rows of megabytes, may hold; both spill to disk beyond it."""

_THREADS = min(4, os.cpu_count() or 1)
"""More would wait for the one thread that hashes and writes, and each needs memory of its own."""


def _limits(memory: str, threads: int, buffer: str = "1MB") -> str:
    return f"SET memory_limit = '{memory}'; SET threads = {threads}; SET streaming_buffer_size = '{buffer}'"


MEMORY_STREAMING = tuple(_limits(memory, _THREADS, "32MB") for memory in ("80MB", "128MB"))
"""What reading rows in the order they are stored in is tried with: a table needs less than some Parquet files' row groups.

Several threads work at once only where what they are ahead fits the buffer, which is about the text of one group of rows.
"""
MEMORY_SORTING = (_limits("128MB", 1),)
"""What sorting about `SORTED_WITH_LITTLE` rows is tried with. Every thread sorts runs of its own, and merging needs memory for each run."""
SORTED_WITH_LITTLE = 6_000_000
MEMORY_NORMAL = _limits(MEMORY, os.cpu_count() or 1)
_BELIEVE_VALUES = "SET disabled_optimizers = 'statistics_propagation'"
"""The least and greatest value that a Parquet file notes pass over NaN. The engine would take them for the bounds of every value,
and decide what is compared with NaN before it reads it."""
_LOOK_UP_EACH = "SET dynamic_or_filter_threshold = 10000"
"""Up to so many values that rows are looked up by, each counts, and groups of rows that may hold none of them are passed over. Of more
values, or more than 50 as the engine comes, only the least and the greatest count, and those of texts not at all."""
MEMORY_LAST_RESORT = "RESET memory_limit; SET threads = 1"
"""What is tried when nothing else did: rows of megabytes, which the engine works on 2,048 at a time, and most of the machine's memory."""

BATCH_ROWS = 8_192

SOURCES, BESIDE = "engine", "engine beside"
"""The names that engines are kept under."""

_KINDS = {
    "VARCHAR": ColumnType.STRING,
    "UUID": ColumnType.UUID,
    "BLOB": ColumnType.BINARY,
    "BOOLEAN": ColumnType.BOOLEAN,
    "DATE": ColumnType.DATE,
    "JSON": ColumnType.JSON,
    "FLOAT": ColumnType.FLOAT,
    "DOUBLE": ColumnType.FLOAT,
}
_INTEGERS = frozenset(
    ["TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT", "BIGNUM"]
)
_ARROW = {
    ColumnType.INTEGER: "BIGINT",
    ColumnType.FLOAT: "DOUBLE",
    ColumnType.BOOLEAN: "BOOLEAN",
    ColumnType.DATE: "DATE",
    ColumnType.BINARY: "BLOB",
}
_WIDE_INTEGERS = frozenset({"UBIGINT", "HUGEINT"})
_UNBOUNDED_INTEGERS = frozenset({"UHUGEINT", "BIGNUM"})
"""They hold values of more than 38 digits, which no Arrow type has."""
_FRACTION = re.compile(r"^DECIMAL\((\d+), ?\1\)$")
"""A DECIMAL whose digits are all behind the point."""
_NANOSECONDS = frozenset({"TIMESTAMP_NS", "TIMESTAMPTZ_NS"})
_FIRST_NANOSECOND = datetime(1677, 9, 21, 0, 12, 43, 145225, tzinfo=UTC)
_LAST_NANOSECOND = datetime(2262, 4, 11, 23, 47, 16, 854775, tzinfo=UTC)
_UNFIT = {
    "VARIANT": ("whose values each have a type of their own", "Cast it to one type, or to JSON, in a view"),
    "TYPE": ("which holds types and no values", "Cast it to VARCHAR in a view"),
}
"""Types without a text that is the same from every source: why, and what to do."""


def connect() -> AbstractContextManager[duckdb.DuckDBPyConnection]:
    """Return an in-memory DuckDB with a bounded memory and its own spill folder. It never downloads anything and sees no Python variable.

    A task that does one thing after the other gets the same one again (`reuse.kept`).
    """
    return reuse.lent(SOURCES, _opened, _emptied)


def connect_beside() -> AbstractContextManager[duckdb.DuckDBPyConnection]:
    """Do as `connect` for a thread that works on what a source yields. Waiting for the source's engine, it would wait for itself:
    the source is read to its end only if its rows are worked on. Tasks keep another engine for these threads, and none of them waits.
    """
    return reuse.lent(BESIDE, _opened, _emptied, patient=False)


@contextmanager
def _opened() -> Iterator[duckdb.DuckDBPyConnection]:
    with spill_folder() as spill:
        settings: dict[str, Any] = {"temp_directory": spill, "autoinstall_known_extensions": "false"}
        connection = duckdb.connect(config=settings)
        try:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET python_enable_replacements = false")
            connection.execute("SET enable_progress_bar = false")
            connection.execute("SET enable_external_file_cache = false")
            connection.execute(_BELIEVE_VALUES)
            connection.execute(_LOOK_UP_EACH)
            connection.execute(MEMORY_NORMAL)
            yield connection
        finally:
            connection.close()


def _emptied(connection: duckdb.DuckDBPyConnection) -> None:
    """Empty a connection for its next user: no transaction, no attached file, no file system, and the usual limits."""
    with suppress(duckdb.TransactionException):  # none is open
        connection.execute("ROLLBACK")
    connection.execute("USE memory")
    connection.execute("DETACH DATABASE IF EXISTS warehouse")
    for name in connection.list_filesystems():
        connection.unregister_filesystem(name)
    connection.execute(MEMORY_NORMAL)


@contextmanager
def errors(where: str) -> Iterator[None]:
    """Translate DuckDB's errors. None of its messages is repeated where it could quote a row."""
    try:
        yield
    except WaybillError:
        raise
    except duckdb.Error as error:
        raise _translated(error, where) from error
    except PermissionError as error:
        raise denied(str(error), where) from error
    except (pa.ArrowException, OSError) as error:
        # What fails while a result is being streamed comes through Arrow, with only the text of DuckDB's error.
        kind = next((kind for mark, kind in _MARKS.items() if mark in str(error)), duckdb.Error)
        raise _translated(kind(str(error)), where) from error


_MARKS = {
    "Out of Memory Error": duckdb.OutOfMemoryException,
    "Conversion Error": duckdb.ConversionException,
    "Out of Range Error": duckdb.OutOfRangeException,
    "Invalid Input Error": duckdb.InvalidInputException,
    "IO Error": duckdb.IOException,
}


def _translated(error: duckdb.Error, where: str) -> WaybillError:
    lines = str(error).strip().splitlines() or [""]
    if "Traceback (most recent call last)" in str(error):  # a file system of ours raised it
        [*_, (kind, storage_says)] = _RAISED.findall(str(error)) or [("", "")]
        return _storage_failed(kind, storage_says, where)
    engine_says = lines[0]
    if found := _NOT_UTF8.search(str(error)):  # the value follows, of whichever tenant
        step = "Write the file again with text in UTF-8, or take the column out of the catalog"
        return PermanentError(f"{found[1]} holds text that is not UTF-8", where=where, code="source_unreadable", next_step=step)
    if not isinstance(error, duckdb.DataError) and any(mark in engine_says for mark in ("Parquet", "magic bytes", "Failed to read file")):
        step = "Write the file again if it was cut short; a view over read_csv or read_json in a duckdb source reads CSV and JSON"
        return PermanentError(engine_says.partition(": ")[2], where=where, code="source_unreadable", next_step=step)
    if isinstance(error, duckdb.DataError | duckdb.InvalidInputException):
        step = "Compare the column types of the catalog with the data, and look at what a view or query of the entity casts"
        return drift.EngineMisfit(drift.MISFIT, where=where, next_step=step)
    if isinstance(error, duckdb.ProgrammingError | duckdb.NotSupportedError | duckdb.PermissionException | duckdb.DependencyException):
        step = "Correct the entity's relation or columns in the catalog, or the source's path"
        return PermanentError(engine_says, where=where, code="source_refused", next_step=step)
    if isinstance(error, duckdb.OutOfMemoryException) or "No space left on device" in str(error):
        step = "Free memory, and disk space in the temporary folder; many rows of megabytes need most"
        return TransientError("the engine ran out of memory or spill space", where=where, code="out_of_memory", next_step=step)
    if isinstance(error, duckdb.IOException) and "lock" not in engine_says:
        step = "Correct the source's path, or put the file back"
        return PermanentError(engine_says, where=where, code="source_unreadable", next_step=step)
    return TransientError(engine_says, where=where, code="source_busy", next_step="Another process may be writing; it is tried again")


_NOT_UTF8 = re.compile(r'Invalid string encoding found in (Parquet file "[^"]*")')
_RAISED = re.compile(r"^(?:\w+\.)*(\w*(?:Error|Exception))(?:: (.*))?$", re.MULTILINE)
"""The end of a traceback. The engine may put the place in its statement behind it."""
_MAY_PASS = re.compile(r"ExpiredToken|RequestTimeTooSkewed|token .*expired|request time and the current time")
"""What S3 says of credentials that were good before, and of a clock that is wrong. To s3fs both are a PermissionError."""


def denied(storage_says: str, where: str) -> WaybillError:
    """Return what a refusal of a storage means."""
    if _MAY_PASS.search(storage_says):
        step = "It is tried again with new credentials. A session token of the connection has to be renewed there, and clocks set by NTP"
        what = "the storage takes the credentials no longer, or the clock of this machine is wrong"
        return TransientError(what, where=where, code="source_unreachable", next_step=step)
    step = "Grant s3:ListBucket and s3:GetObject, or read permission on the files"
    return PermanentError("access was denied", where=where, code="source_refused", next_step=step)


def _storage_failed(kind: str, storage_says: str, where: str) -> WaybillError:
    """Return what a file system raised in the middle of a statement, by its class and words: no more of it reaches us."""
    if kind == "PermissionError":
        return denied(storage_says, where)
    if kind == "FileNotFoundError":
        return PermanentError("a file is gone", where=where, code="source_unreadable", next_step="Put it back, or run again without it")
    return TransientError(f"the storage stopped answering ({kind})", where=where, code="source_unreachable", next_step=AGAIN)


def run(connection: duckdb.DuckDBPyConnection, statement: Sql) -> list[tuple[Any, ...]]:
    text, values = render(statement)
    return connection.execute(text, values).fetchall()


def render(statement: Sql) -> tuple[str, list[Any]]:
    text, values = statement.render(lambda bind: f"CAST(? AS {bind.cast})" if bind.cast else "?")
    return text, [list(value) if isinstance(value, tuple) else value for value in values]


def stream(connection: duckdb.DuckDBPyConnection, statement: Sql) -> Iterator[pa.RecordBatch]:
    """Yield the result as Arrow batches while it is being computed."""
    text, values = render(statement)
    yield from connection.sql(text, params=values).to_arrow_reader(BATCH_ROWS)


def arrow(query: Query, typed: bool = True) -> Sql:
    """Yield the selected rows in key order, in Arrow's types and under their own names. Anonymized columns hold their pseudonyms.

    Without `typed`, a column stays text if an Arrow type might not hold a value.
    """
    flavour = DuckDBFlavour()
    values, wanted = [], []
    for number, (name, column) in enumerate(query.selection.columns.items()):
        hidden = column.export == "anonymize"
        if not hidden:
            source = column.source(name)
            native = query.natives[source]
            value = (flavour.arrow if typed or not drift.tight(native, column) else flavour.text)(quote(source), column.type, native)
            values.append(sql("{} AS a{}", value, str(number)))
        wanted.append(f"{'c' if hidden else 'a'}{number} AS {quote(name)}")
    return query.ordered(query.rows(extra=join(", ", values)), ", ".join(wanted))


def unknown(batches: Iterator[pa.RecordBatch], known: Container[bytes] | None) -> Iterator[pa.RecordBatch]:
    """Yield the rows with an unknown digest in the second column. All rows if no digest is known."""
    if known is None:
        yield from batches
        return
    for batch in batches:
        # From bits and not by pa.array, which imports pandas first and so takes a third of a second in each process.
        bits = np.packbits([digest not in known for digest in batch.column(1).to_pylist()], bitorder="little")
        fresh = batch.filter(pa.BooleanArray.from_buffers(pa.bool_(), len(batch), [None, pa.py_buffer(bits)]))
        if len(fresh):
            yield fresh


def blocks(batches: Iterator[pa.RecordBatch], most: int | None) -> Iterator[tuple[memoryview, int]]:
    """Yield the texts of the first column back to back, as Arrow holds them, with their number. Nothing is copied.

    No block crosses a multiple of `most` texts.
    """
    seen = 0
    for batch in batches:
        lines = batch.column(0)
        _, offsets, data = lines.buffers()
        ends: memoryview[int] = memoryview(offsets).cast("q") if pa.types.is_large_string(lines.type) else memoryview(offsets).cast("i")
        start, stop = lines.offset, lines.offset + len(lines)
        while start < stop:
            cut = min(stop, start + most - seen % most) if most else stop
            yield memoryview(data)[ends[start] : ends[cut]], cut - start
            seen += cut - start
            start = cut


def apart(names: Sequence[str]) -> dict[str, str]:
    """Return names that the engine tells apart, which ignores case. Nothing if it tells the given ones apart."""
    if len(set(map(str.casefold, names))) == len(names):
        return {}
    return {name: f"{number} {name}" for number, name in enumerate(names)}


def _bytewise(x: str) -> str:
    """Return the text as it compares by its bytes. A column of a collation such as NOCASE would take `ACME` for `acme`."""
    return f'({x} COLLATE "C")'


class DuckDBFlavour:
    """How DuckDB spells the pieces of a query (`waybill.sources.sql.Flavour`). `names` are those of columns that bear another one here."""

    naive = "TIMESTAMP"
    dynamic = False

    def __init__(self, names: Mapping[str, str] = MappingProxyType({})) -> None:
        self.names = names

    def name(self, identifier: str) -> str:
        return quote(self.names.get(identifier, identifier))

    def literal(self, text: str) -> str:
        return quote(text, "'")

    def kind(self, native: str) -> ColumnType | None:
        if nested.is_nested(native):
            return ColumnType.JSON
        if native in _INTEGERS:
            return ColumnType.INTEGER
        if native.startswith("DECIMAL"):
            return ColumnType.DECIMAL
        if native.startswith("TIMESTAMP"):
            return ColumnType.TIMESTAMP
        return _KINDS.get(native)

    def bounds(self, native: str) -> tuple[int, int] | None:
        return integer_bounds(native)

    def unfit(self, native: str) -> tuple[str, str] | None:
        inside = nested.leaves(native) & _UNFIT.keys()
        return _UNFIT[min(inside)] if inside else None

    def text(self, x: str, kind: ColumnType, native: str) -> str:
        if kind is ColumnType.STRING and native != "VARCHAR":
            return self._natural(x, native)[1]
        match kind:
            case ColumnType.STRING:
                return x
            case ColumnType.FLOAT:
                return duckdb_text.float_text(f"CAST(CAST({x} AS VARCHAR) AS DOUBLE)" if native == "FLOAT" else f"CAST({x} AS DOUBLE)")
            case ColumnType.TIMESTAMP:
                return duckdb_text.timestamp_text(self.instant(x, native))
            case ColumnType.DATE:
                return f"replace(CAST(CAST({x} AS DATE) AS VARCHAR), ' (BC)', ' BC')"
            case ColumnType.UUID:
                return f"CAST(CAST({x} AS UUID) AS VARCHAR)"
            case ColumnType.BINARY:
                return f"to_base64({x})"
            case ColumnType.DECIMAL if _FRACTION.match(native):
                return duckdb_text.decimal_text(x)
            case ColumnType.JSON:
                return nested.json(x, native, self._natural) if nested.is_nested(native) else duckdb_text.json_text(x)
        return f"CAST({x} AS VARCHAR)"

    def _natural(self, x: str, native: str) -> tuple[ColumnType | None, str]:
        """Return the natural type of a value, and its text."""
        kind = self.kind(native)
        if native in _NANOSECONDS:
            return kind, duckdb_text.nanosecond_text(x)
        if native == "INTERVAL":
            return kind, duckdb_text.interval_text(x)
        return kind, f"CAST({x} AS VARCHAR)" if kind in (None, ColumnType.STRING) else self.text(x, kind, native)

    def arrow(self, x: str, kind: ColumnType, native: str) -> str:
        """Return the value in the Arrow type of its catalogued type: UUID and JSON as text, times in UTC."""
        natural = self.kind(native)
        if kind is ColumnType.TIMESTAMP:
            return f"{self.instant(x, native)} AT TIME ZONE 'UTC'"
        if kind is ColumnType.DECIMAL:
            if native in _UNBOUNDED_INTEGERS:
                return f"CAST({x} AS VARCHAR)"
            return x if natural is ColumnType.DECIMAL else f"CAST({x} AS DECIMAL(38, 0))"
        if kind is ColumnType.INTEGER and native in _UNBOUNDED_INTEGERS:
            return f"CAST({x} AS VARCHAR)"
        if kind is ColumnType.INTEGER and (native in _WIDE_INTEGERS or natural is ColumnType.DECIMAL):
            return f"CAST({x} AS DECIMAL(38, 0))"
        if kind is ColumnType.FLOAT and native == "FLOAT":
            return f"CAST(CAST({x} AS VARCHAR) AS DOUBLE)"
        return f"CAST({x} AS {_ARROW[kind]})" if kind in _ARROW else self.text(x, kind, native)

    def instant(self, x: str, native: str) -> str:
        if native == "TIMESTAMP WITH TIME ZONE":
            return f"({x} AT TIME ZONE 'UTC')"
        if native == "VARCHAR":
            return f"(CAST({x} AS TIMESTAMP WITH TIME ZONE) AT TIME ZONE 'UTC')"
        if native in _NANOSECONDS:
            return duckdb_text.microseconds(x)
        return x if native == "TIMESTAMP" else f"CAST({x} AS TIMESTAMP)"

    def bind_instant(self, value: datetime, native: str) -> Sql:
        if native == "TIMESTAMP WITH TIME ZONE":
            return sql("{}", Bind(value, native))
        if native in _NANOSECONDS:  # no value of the column is beyond, and the engine refuses to compare it with one that is
            value = min(max(value, _FIRST_NANOSECOND), _LAST_NANOSECOND)
        if native == "TIMESTAMPTZ_NS":
            return sql("{}", Bind(value, "TIMESTAMP WITH TIME ZONE"))
        return sql("{}", Bind(value.astimezone(UTC).replace(tzinfo=None), "TIMESTAMP"))

    def order(self, x: str, kind: ColumnType, native: str) -> str:
        text = self.text(x, kind, native) if kind in (ColumnType.STRING, ColumnType.JSON) else x
        return _bytewise(text) if kind is ColumnType.STRING and native == "VARCHAR" else text

    def joined(self, x: str, native: str, other: str) -> str:
        is_text = native == "VARCHAR" or (other == "VARCHAR" and self.kind(native) is ColumnType.INTEGER)  # else 7 would equal `07`
        return self.by_bytes(x) if is_text else x

    def mixes(self, x: str, native: str, other: str) -> bool:
        return False

    def by_bytes(self, x: str) -> str:
        return _bytewise(f"CAST({x} AS VARCHAR)")

    def equal(self, x: str, native: str, value: str) -> Sql:
        if self.kind(native) is None:  # not every text is a value of an ENUM
            return sql("CAST({} AS VARCHAR) = {}", x, Bind(value))
        return sql("{} = {}", _bytewise(x) if native == "VARCHAR" else x, Bind(value, native))

    def quoted(self, x: str, delimiter: str) -> str:
        return duckdb_text.csv_field(x, self.literal(delimiter))

    def concat(self, pieces: list[str]) -> str:
        return f"concat({', '.join(pieces)})"

    def pseudonym(self, x: str, inner: Bind, outer: Bind) -> Sql:
        return sql("sha256({} || unhex(sha256({} || encode({}))))", Bind(outer.value, "BLOB"), Bind(inner.value, "BLOB"), x)

    def sha16(self, x: str) -> Sql:
        return sql("unhex(left(sha256({}), 32))", x)

    def among(self, x: Sql, digests: tuple[bytes, ...]) -> Sql:
        return sql("{} IN (SELECT unnest({}))", x, Bind(list(digests), "BLOB[]"))
