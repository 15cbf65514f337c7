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
        except sqlite3.IntegrityError:
            raise not_unique(entity, new.key) from None
        except sqlite3.Error as error:
            raise next(iter(self._misfits), refused_by_database(entity, str(error))) from error

    def replace(self, entity: str, shape: Shape, files: Sequence[DataFile]) -> None:
        self._run(f"delete from {quoted(entity)}")
        self.append(entity, shape, files)

    def append(self, entity: str, shape: Shape, files: Sequence[DataFile]) -> None:
        for file in files:
            self._insert(entity, shape, file, "")

    def upsert(self, entity: str, shape: Shape, files: Sequence[DataFile]) -> None:
        for file in files:
            self._insert(entity, shape, file, on_conflict(file.columns, shape.key))

    def delete(self, entity: str, shape: Shape, file: DataFile) -> None:
        places = " and ".join(f"{quoted(column.name)} = ?" for column in file.columns[:-1])
        self._many(entity, shape, f"delete from {quoted(entity)} where {places}", (row[:-1] for row in _values(file)))

    def _insert(self, entity: str, shape: Shape, file: DataFile, conflict: str) -> None:
        marks = ", ".join("?" * len(file.columns))
        statement = f"insert into {quoted(entity)} ({names(file.columns)}) values ({marks}) {conflict}"
        self._many(entity, shape, statement, _values(file))

    def _many(self, entity: str, shape: Shape, statement: str, rows: Iterator[list[Any]]) -> None:
        try:
            self._connection.executemany(statement, rows)
        except sqlite3.IntegrityError:
            raise not_unique(entity, shape.key) from None
        except sqlite3.Error as error:
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
