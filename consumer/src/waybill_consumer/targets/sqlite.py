"""SQLite. Numbers and booleans are its own, binary is BLOB, and everything else is the text in the file.

Decimals and integers past 64 bits stay text, because SQLite would round them. NaN, which it cannot store, is the text `NaN`.
"""

from __future__ import annotations

import base64
import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from waybill_consumer.errors import Refused, Unreachable
from waybill_consumer.manifest import Column
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
)
from waybill_consumer.targets.values import retyped

_TYPES = {"integer": "INTEGER", "float": "REAL", "boolean": "BOOLEAN", "binary": "BLOB"}


class Sqlite(RebuildingTarget):
    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__()
        self._connection = connection
        self._misfits: list[Exception] = []
        """Why a value could not be retyped. SQLite only says that a function failed."""

    def sql_type(self, column: Column, *, is_key: bool = False) -> str:
        return "TEXT" if column.type == "integer" and is_long(column) else _TYPES.get(column.type, "TEXT")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._run("begin immediate")
        try:
            yield
            self._run("commit")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._connection.rollback()
            raise

    def _columns(self, table: str) -> dict[str, str]:
        return dict(self._run("select name, type from pragma_table_info(?)", [table]))

    def _rebuild(self, entity: str, old: Shape, new: Shape, own: dict[str, str], *, emptied: bool) -> None:
        """SQLite changes no type in place, so a new table takes the old one's name. Views follow the name."""
        fresh = quoted(f"_waybill_new_{entity}")
        self._run(f"create table {fresh} ({self._definitions(new)})")
        for name, kind in own.items():
            self._run(f"alter table {fresh} add column {quoted(name)} {kind}")
        before = former(old.columns, new.columns)
        kept = [column for column in new.columns if column.name in before]
        if kept and not emptied:
            values = ", ".join(self._kept(old.column(before[column.name]), column) for column in kept)
            mine = "".join(f", {quoted(name)}" for name in own)
            self._keep(entity, new, f"insert into {fresh} ({names(kept)}{mine}) select {values}{mine} from {quoted(entity)}")
        self._run(f"drop table {quoted(entity)}")
        self._run(f"alter table {fresh} rename to {quoted(entity)}")

    def _kept(self, was: Column, now: Column) -> str:
        """Return a column's values in the new table."""
        value = quoted(was.name)
        if was.type == now.type and self.sql_type(was) == self.sql_type(now):
            return value

        def retype(held: Any) -> Any:
            try:
                return None if held is None else retyped(held, was, now, _maker(now))
            except ValueError:
                self._misfits.append(no_such_value(self.entity, [now]))
                raise
            except Widen as error:
                self._misfits.append(error)
                raise

        name = f"_waybill_{now.name}"
        self._connection.create_function(name, 1, retype)
        return f"{quoted(name)}({value})"

    def _keep(self, entity: str, new: Shape, statement: str) -> None:
        self._misfits.clear()
        try:
            self._connection.execute(statement)
        except sqlite3.Error as error:
            if _is_not_unique(error):
                raise not_unique(entity, new.key) from None
            raise next(iter(self._misfits), refused_by_database(entity, str(error))) from error

    def replace(self, entity: str, shape: Shape, files: Sequence[DataFile]) -> None:
        self._run(f"delete from {quoted(entity)}")
        self.append(entity, shape, files)

    def append(self, entity: str, shape: Shape, files: Sequence[DataFile]) -> None:
        for file in files:
            self._insert(entity, shape, file, "")

    def upsert(self, entity: str, shape: Shape, files: Sequence[DataFile]) -> None:
        for file in files:
            self._insert(entity, shape, file, on_conflict(file.columns, shape.key), self._numbers_in_key(shape))

    def _numbers_in_key(self, shape: Shape) -> list[str]:
        """Return the columns of the key in which the source takes 1.0 and 1.00 for one number, while each is a text of its own here."""
        return [name for name in shape.key if (column := shape.column(name)).type == "decimal" and column.native_type == "numeric"]

    @contextmanager
    def _one_spelling(self, entity: str, key: Sequence[str], numbers: Sequence[str]) -> Iterator[Callable[[dict[str, Any]], None]]:
        """Delete at the end the rows whose key is spelt otherwise than one that was handed over, and is the same."""
        self._connection.create_function("_waybill_plain", 1, _plain, deterministic=True)
        terms = ", ".join(f"k{at}" for at, _ in enumerate([*key, *numbers]))
        self._run("drop table if exists temp._waybill_keys")
        self._run(f"create temp table _waybill_keys ({terms})")
        insert = f"insert into _waybill_keys values ({', '.join('?' * (len(key) + len(numbers)))})"

        def keep(row: dict[str, Any]) -> None:
            same = [_plain(row[name]) if name in numbers else row[name] for name in key]
            self._connection.execute(insert, [*same, *(row[name] for name in numbers)])

        yield keep
        same = " and ".join(
            f"k{at} = {f'_waybill_plain(t.{quoted(name)})' if name in numbers else f't.{quoted(name)}'}" for at, name in enumerate(key)
        )
        other = " or ".join(f"k{len(key) + at} <> t.{quoted(name)}" for at, name in enumerate(numbers))
        self._run(f"create index temp._waybill_same on _waybill_keys ({terms})")
        found = f"select t.rowid from {quoted(entity)} as t cross join _waybill_keys where {same} and ({other})"
        self._run(f"delete from {quoted(entity)} where rowid in ({found})")
        self._run("drop table temp._waybill_keys")

    def delete(self, entity: str, shape: Shape, file: DataFile) -> None:
        places = " and ".join(f"{quoted(column.name)} = ?" for column in file.columns[:-1])
        self._many(entity, shape, f"delete from {quoted(entity)} where {places}", (row[:-1] for row in _values(file)))

    def _insert(self, entity: str, shape: Shape, file: DataFile, conflict: str, numbers: Sequence[str] = ()) -> None:
        marks = ", ".join("?" * len(file.columns))
        statement = f"insert into {quoted(entity)} ({names(file.columns)}) values ({marks}) {conflict}"
        if not numbers:
            self._many(entity, shape, statement, _values(file))
            return
        read = [column.name for column in file.columns]
        with self._one_spelling(entity, shape.key, numbers) as keep:
            self._many(entity, shape, statement, _each(_values(file), lambda row: keep(dict(zip(read, row, strict=True)))))

    def _many(self, entity: str, shape: Shape, statement: str, rows: Iterator[list[Any]]) -> None:
        try:
            self._connection.executemany(statement, rows)
        except sqlite3.Error as error:
            if _is_not_unique(error):
                raise not_unique(entity, shape.key) from None
            raise refused_by_database(entity, str(error)) from error

    def _run(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(statement, parameters).fetchall()
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise Unreachable("the database is locked by another program", next_step="Load again when it is done") from error
            raise refused_by_database(self.entity or "sqlite", str(error)) from error
        except sqlite3.DatabaseError as error:
            raise refused_by_database(self.entity or "sqlite", str(error)) from error


def _plain(number: str | None) -> str | None:
    """Return the spelling of a number that all its spellings share."""
    if number is None or not number[-1:].isdigit():
        return number
    sign, whole = ("-", number[1:]) if number.startswith("-") else ("", number)
    if "." in whole:
        whole = whole.rstrip("0").rstrip(".")
    return sign + whole if whole != "0" else whole


def _is_not_unique(error: sqlite3.Error) -> bool:
    """Return whether two rows have the same key, or one has none. A trigger that somebody added raises the same class of error."""
    return isinstance(error, sqlite3.IntegrityError) and str(error).startswith(("UNIQUE ", "NOT NULL "))


def _each(rows: Iterator[list[Any]], see: Callable[[list[Any]], None]) -> Iterator[list[Any]]:
    for row in rows:
        see(row)
        yield row


def _values(file: DataFile) -> Iterator[list[Any]]:
    """Yield the records as SQLite's own values."""
    makers = [(at, maker) for at, column in enumerate(file.columns) if (maker := _maker(column)) is not None]
    for record in file.records():
        row: list[Any] = record
        for at, maker in makers:
            if row[at] is not None:
                row[at] = maker(row[at])
        yield row


def _maker(column: Column) -> Callable[[str], Any] | None:
    if column.type == "integer" and not is_long(column):

        def integer(text: str) -> int:
            value = int(text)
            if not -(2**63) <= value < 2**63:
                raise Widen(column._replace(precision=38))
            return value

        return integer
    makers: dict[str, Callable[[str], Any]] = {"float": _float, "boolean": _boolean, "binary": base64.b64decode}
    return makers.get(column.type)


def _float(text: str) -> float | str:
    return text if text == "NaN" else float(text)


def _boolean(text: str) -> int:
    return int(text == "true")


@contextmanager
def sqlite_target(path: str, schema: str) -> Iterator[Sqlite]:
    if schema:
        raise Refused("SQLite has no schemas", next_step="Leave --schema out, or load into a file of its own")
    try:
        connection = sqlite3.connect(path, timeout=30, isolation_level=None)
        connection.execute("pragma legacy_alter_table = on")  # a view may name a table that is renamed
    except sqlite3.Error as error:
        raise Refused(f"the file cannot be opened: {error}", where=path) from error
    try:
        yield Sqlite(connection)
    finally:
        connection.close()
