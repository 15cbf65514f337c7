"""DuckDB. Its own CSV reader reads with every column named, never guessed. Types are DuckDB's own, and decimals are as wide as their
values.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from waybill_consumer.errors import Refused, Unreachable
from waybill_consumer.manifest import Column
from waybill_consumer.shapes import SHORT_OF_MEMORY, SPELT, half_of_memory, no_pattern
from waybill_consumer.targets import Shape, Widen, former
from waybill_consumer.targets.data import DataFile
from waybill_consumer.targets.sql import (
    RebuildingTarget,
    is_long,
    names,
    no_such_value,
    not_unique,
    on_conflict,
    quoted,
    refused_by_database,
    same_key,
)

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

STAGE = "temp._waybill_stage"
MEMORY = 256
"""Megabytes that DuckDB works in at first. Rows wait on the disk. Only the index of a key must fit, so long keys of many rows get more."""
MOST_DIGITS = 38
"""What DECIMAL and HUGEINT hold. Longer numbers stay text."""
_LONGEST_LINE = 1 << 21, 1 << 28, 1 << 31
_TYPES = {
    "string": "VARCHAR",
    "float": "DOUBLE",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMPTZ",
    "uuid": "UUID",
    "json": "JSON",
    "binary": "BLOB",
}
_BEFORE_CHRIST = {
    "date": "replace({}, ' BC', ' (BC)')",
    "timestamp": "regexp_replace({}, '^([^T]*)T(.*)Z BC$', '\\1 (BC) \\2+00')",
}
"""What DuckDB reads for the years that files mark with BC."""
_NUMBERS = {"integer": "-?[0-9]+", "decimal": "-?[0-9]+([.][0-9]+)?|NaN|-?Infinity"}
"""How numbers are spelt. A cast would round what is none."""


class DuckDB(RebuildingTarget):
    def __init__(self, connection: DuckDBPyConnection, schema: str, memory: int = MEMORY) -> None:
        super().__init__()
        self._connection = connection
        self.schema = schema
        self._memory = memory

    def sql_type(self, column: Column, *, is_key: bool = False) -> str:
        if column.type == "integer":
            return "BIGINT" if not is_long(column) else "HUGEINT" if (column.precision or 0) <= MOST_DIGITS else "VARCHAR"
        if column.type == "decimal":
            # Without a scale, the first values set it: see `_measure`.
            precision, scale = 18 if column.precision is None else max(column.precision, 1), column.scale or 0
            # PostgreSQL's numeric(5,-2) holds up to seven digits before the point, numeric(3,5) five behind it.
            precision, scale = max(precision - min(scale, 0), scale), max(scale, 0)
            return f"DECIMAL({precision}, {scale})" if precision <= MOST_DIGITS else "VARCHAR"
        return _TYPES.get(column.type, "VARCHAR")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._run(f"set memory_limit = '{self._memory}MB'")
        self._run("begin")
        try:
            yield
            self._run("commit")
        except BaseException:
            with contextlib.suppress(Exception):
                self._connection.rollback()
            raise

    def prepare(self) -> None:
        if self.schema:
            self._run(f"create schema if not exists {quoted(self.schema)}")
        super().prepare()

    def _columns(self, table: str) -> dict[str, str]:
        place = "database_name = current_database() and schema_name = coalesce(nullif(?, ''), current_schema())"
        asked = f"select column_name, data_type from duckdb_columns() where {place} and table_name = ? order by column_index"
        return dict(self._run(asked, [self.schema, table]))

    def _rebuild(self, entity: str, old: Shape, new: Shape, own: dict[str, str], *, emptied: bool) -> None:
        """DuckDB changes no column that an index reads, so a new table takes the old one's name. Views follow the name."""
        before = former(old.columns, new.columns)
        kept = [column for column in new.columns if column.name in before]
        retyped = {now.name: (was, now) for was, now in self._changes(old, new).retyped}
        if not emptied:
            spelt = {column.name: _spelt(before[column.name], *retyped[column.name]) for column in kept if column.name in retyped}
            values = ", ".join(
                [
                    *(f"{spelt.get(column.name) or quoted(before[column.name])} as {quoted(column.name)}" for column in kept),
                    *map(quoted, own),
                ]
            )
            self._run(f"create or replace temp table _waybill_kept as select {values} from {self.table(entity)}")
            self._check_kept(entity, [now for _, now in retyped.values()])
        self._run(f"drop table {self.table(entity)}")
        self._run(f"create table {self.table(entity)} ({self._definitions(new)})")
        for name, kind in own.items():
            self._run(f"alter table {self.table(entity)} add column {quoted(name)} {kind}")
        if not emptied:
            values = ", ".join(
                [*(self._value(column) if column.name in retyped else quoted(column.name) for column in kept), *map(quoted, own)]
            )
            self._run(f"insert into {self.table(entity)} ({names([*kept, *own])}) select {values} from temp._waybill_kept", key=new.key)
            self._run("drop table temp._waybill_kept")

    def _check_kept(self, entity: str, columns: Sequence[Column]) -> None:
        """Check whether existing values, as text, are of the types that their columns get. Raises Refused, or Widen for longer numbers."""
        for column in columns:
            name, kind = quoted(column.name), self.sql_type(column)
            right = f"regexp_full_match({name}, '{_NUMBERS[column.type]}')" if column.type in _NUMBERS else ""
            right = right or (f"try_cast({name} as {kind}) is not null" if kind not in ("VARCHAR", "BLOB") else "")
            if right and self._run(f"select 1 from temp._waybill_kept where {name} is not null and not ({right}) limit 1"):
                raise no_such_value(entity, [column])
        self._measure(columns, "temp._waybill_kept")

    def replace(self, entity: str, shape: Shape, files: Sequence[DataFile]) -> None:
        self._stage(entity, files)
        self._run(f"delete from {self.table(entity)}")
        self._insert(entity, shape, files, "")

    def append(self, entity: str, shape: Shape, files: Sequence[DataFile]) -> None:
        self._stage(entity, files)
        self._insert(entity, shape, files, "")

    def upsert(self, entity: str, shape: Shape, files: Sequence[DataFile]) -> None:
        self._stage(entity, files)
        keys = names(shape.key)
        if self._run(f"select 1 from {STAGE} group by {keys} having count(*) > 1 limit 1"):
            raise not_unique(entity, shape.key)
        self._insert(entity, shape, files, on_conflict(files[0].columns, shape.key))

    def delete(self, entity: str, shape: Shape, file: DataFile) -> None:
        self._stage(entity, [file])
        keys = file.columns[:-1]
        typed = f"(select {', '.join(f'{self._value(key)} as {quoted(key.name)}' for key in keys)} from {STAGE})"
        matching = same_key("held", "gone", [column.name for column in keys])
        self._run(f"delete from {self.table(entity)} as held using {typed} as gone where {matching}")
        self._run(f"drop table {STAGE}")

    def _insert(self, entity: str, shape: Shape, files: Sequence[DataFile], conflict: str) -> None:
        columns = files[0].columns
        values = ", ".join(self._value(column) for column in columns)
        self._run(f"insert into {self.table(entity)} ({names(columns)}) select {values} from {STAGE} {conflict}", key=shape.key)
        self._run(f"drop table {STAGE}")

    def _value(self, column: Column) -> str:
        name = quoted(column.name)
        if column.type == "binary":
            return f"from_base64({name})"
        if column.type in _BEFORE_CHRIST:
            name = _BEFORE_CHRIST[column.type].format(name)
        return name if self.sql_type(column) == "VARCHAR" else f"cast({name} as {self.sql_type(column)})"

    def _stage(self, entity: str, files: Sequence[DataFile]) -> None:
        """Read all rows as text into a table that DuckDB may keep on disk. Each file is checked before it is read."""
        for number, file in enumerate(files):
            before = self._run(f"select count(*) from {STAGE}")[0][0] if number else 0
            into = f"insert into {STAGE}" if number else f"create or replace temp table {STAGE.partition('.')[2]} as"
            with file.as_csv() as path:
                self._read(entity, path, file, into)
            file.check_rows(self._run(f"select count(*) from {STAGE}")[0][0] - before)
        self._measure(files[0].columns)

    def _read(self, entity: str, path: Path, file: DataFile, into: str) -> None:
        import duckdb

        dialect = file.dialect
        options = {
            "delim": f"'{dialect.delimiter}'" if dialect.delimiter != "'" else "''''",
            "columns": "{" + ", ".join(f"{_text(column.name)}: 'VARCHAR'" for column in file.columns) + "}",
            "compression": _text(dialect.compression),
        }
        fixed = (
            "auto_detect = false, header = true, quote = '\"', escape = '\"', nullstr = '', allow_quoted_nulls = false, strict_mode = true"
        )
        listed = ", ".join(f"{name} = {value}" for name, value in options.items())
        for longest in _LONGEST_LINE:
            try:
                reading = f"read_csv({_text(no_pattern(str(path)))}, {fixed}, {listed}, max_line_size = {longest})"
                self._connection.execute(f"{into} select * from {reading}")
            except duckdb.InvalidInputException as error:
                # A line is longer than the reader expected, or the bytes are those of the manifest and no CSV.
                if longest == _LONGEST_LINE[-1] or "line size" not in str(error).lower():
                    file.check_records()
                    raise refused_by_database(entity, str(error)) from error
                continue
            except duckdb.IOException as error:
                file.check_records()
                raise self._refused(entity, error) from error
            except duckdb.Error as error:
                raise self._refused(entity, error) from error
            return

    def _refused(self, entity: str, error: Exception) -> Exception:
        """Return what an error means. If memory was short, the delivery is done again with twice as much, up to half of this machine's."""
        if SHORT_OF_MEMORY.search(str(error)) and self._memory * 2 <= half_of_memory():
            self._memory *= 2
            return Widen()
        return refused_by_database(entity, str(error))

    def _measure(self, columns: Sequence[Column], table: str = STAGE) -> None:
        """Raises Widen for numbers that do not fit into their columns."""
        numbers = [column for column in columns if column.type in ("integer", "decimal") and self.sql_type(column) != "VARCHAR"]
        if not numbers:
            return
        asked = ", ".join(f"{_digits(column)}, {_misfits(column, 'BIGINT')}, {_misfits(column, 'HUGEINT')}" for column in numbers)
        found = self._run(f"select {asked} from {table}")[0]
        wider = [_fitting(column, self.sql_type(column), *found[5 * at : 5 * at + 5]) for at, column in enumerate(numbers)]
        if any(wider):
            raise Widen(*(column for column in wider if column is not None))

    def _run(self, statement: str, parameters: Sequence[Any] = (), key: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        import duckdb

        try:
            return self._connection.execute(statement, list(parameters)).fetchall()
        except duckdb.ConstraintException:
            raise not_unique(self.entity or "duckdb", key) from None
        except duckdb.Error as error:
            raise self._refused(self.entity or "duckdb", error) from error


def _spelt(name: str, was: Column, now: Column) -> str:
    """Return a column's values as the text that a file holds."""
    text = SPELT.get(was.type, "cast({} as varchar)").format(quoted(name))
    return f"regexp_replace({text}, '[.]0+$', '')" if was.type == "float" or now.type == "integer" else text


def _digits(column: Column) -> str:
    """Return the most digits before and after the point, and whether anything is no finite number."""
    name = quoted(column.name)
    whole = f"max(length(ltrim(split_part({name}, '.', 1), '-0')))"
    return f"{whole}, max(length(split_part({name}, '.', 2))), bool_or(not regexp_full_match({name}, '-?[0-9]+([.][0-9]+)?'))"


def _misfits(column: Column, kind: str) -> str:
    return f"bool_or({quoted(column.name)} is not null and try_cast({quoted(column.name)} as {kind}) is null)"


def _fitting(column: Column, held_as: str, digits: int | None, scale: int | None, *misfits: bool | None) -> Column | None:
    """Return the column that holds such numbers, or None if this one does, or if there are none."""
    is_odd, beyond_bigint, beyond_hugeint = misfits
    if column.type == "integer":
        is_too_long = beyond_hugeint or (beyond_bigint and held_as == "BIGINT")
        return column._replace(precision=MOST_DIGITS + bool(beyond_hugeint)) if is_too_long else None
    if is_odd:  # NaN and infinity, which only text holds
        return column._replace(precision=MOST_DIGITS + 1, scale=0)
    digits, scale = digits or 0, scale or 0
    if column.precision is None or column.scale is None:
        return column._replace(precision=max(18, digits + scale + 2), scale=scale) if digits or scale else None
    whole = column.precision - column.scale
    if digits > whole or scale > column.scale:
        return column._replace(precision=max(whole, digits) + max(column.scale, scale), scale=max(column.scale, scale))
    return None


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _make(path: str) -> None:
    """Complete a new file before it has its name, because DuckDB does not open one whose creation was cut short."""
    import duckdb

    final = Path(path)
    if not final.exists():
        part = final.with_name(f".{final.name}.{os.getpid()}.part")
        part.unlink(missing_ok=True)
        duckdb.connect(str(part)).close()
        try:
            final.hardlink_to(part)  # never in the place of one that another load made meanwhile
        except FileExistsError:
            pass
        except OSError:  # a disk without links
            part.replace(final)
        part.unlink(missing_ok=True)


@contextmanager
def duckdb_target(path: str, schema: str) -> Iterator[DuckDB]:
    try:
        import duckdb
    except ImportError:
        raise Refused("duckdb: needs DuckDB", next_step='Install it: pip install "waybill-consumer[duckdb]"') from None
    try:
        _make(path)
        connection = duckdb.connect(path, config={"preserve_insertion_order": False, "memory_limit": f"{MEMORY}MB"})
    except duckdb.IOException as error:
        message = str(error).splitlines()[0]
        if "lock" in message.lower():
            raise Unreachable(
                f"the file is in use: {message}", where=path, next_step="Load again when the other program closed it"
            ) from error
        raise Refused(f"the file cannot be opened: {message}", where=path) from error
    try:
        connection.execute("set TimeZone = 'UTC'")
        yield DuckDB(connection, schema)
    finally:
        connection.close()
