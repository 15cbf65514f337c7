"""How a database picks and orders rows, and what its declared types hold. What only one database does is in its `over_...` module."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from waybill.canonical import ColumnType
from waybill.sources.sql import Bind, Sql, quote, sql

if TYPE_CHECKING:
    from waybill.sources.dbapi.drivers import Database


@dataclass(frozen=True)
class TableFlavour:
    """The part of `waybill.sources.sql.Flavour` that picks and orders rows in the database; their text is made elsewhere.

    It is that of a database of which nothing is known.
    """

    database: Database
    collated: bool = False
    """True if columns of SQLite or PostgreSQL may compare otherwise than by their bytes."""

    @property
    def naive(self) -> str:
        return "timestamp"

    @property
    def dynamic(self) -> bool:
        return self.database.dynamic

    def name(self, identifier: str) -> str:
        return quote(identifier, self.database.mark)

    def kind(self, native: str) -> ColumnType | None:
        return _declared(native.lower())

    def bounds(self, native: str) -> tuple[int, int] | None:
        return None

    def unfit(self, native: str) -> tuple[str, str] | None:
        return None

    def text(self, x: str, kind: ColumnType, native: str) -> str:
        return x

    def instant(self, x: str, native: str) -> str:
        return x

    def bind_instant(self, value: datetime, native: str) -> Sql:
        return sql("{}", Bind(value.astimezone(UTC).replace(tzinfo=None)))

    def order(self, x: str, kind: ColumnType, native: str) -> str:
        return x

    def is_textual(self, kind: ColumnType, native: str) -> bool:
        """Return whether a column is ordered by its text. Whatever leaves as text is, also what is a number by nature."""
        return kind is ColumnType.STRING or self.kind(native) not in _ORDERED_AS_THEY_ARE

    def value(self, x: str, kind: ColumnType, native: str) -> str:
        """Return what is selected of a column."""
        return x

    def joined(self, x: str, native: str, other: str) -> str:
        return x

    def mixes(self, x: str, native: str, other: str) -> bool:
        return False

    def by_bytes(self, x: str) -> str:
        return f"CAST({x} AS TEXT) COLLATE BINARY"

    def equal(self, x: str, native: str, value: str) -> Sql:
        return sql("{} = {}", x, Bind(value))

    def quoted(self, x: str, delimiter: str) -> str:
        return x

    def concat(self, pieces: list[str]) -> str:
        return pieces[0]

    def literal(self, text: str) -> str:
        return quote(text, "'")

    def pseudonym(self, x: str, inner: Bind, outer: Bind) -> Sql:
        return sql("{}", x)

    def sha16(self, x: str) -> Sql:
        return sql("{}", x)

    def among(self, x: Sql, digests: tuple[bytes, ...]) -> Sql:
        return sql("1 = 1")


_ORDERED_AS_THEY_ARE = frozenset(set(ColumnType) - {ColumnType.STRING, ColumnType.JSON, ColumnType.UUID})
_DECLARED = (
    (("enum(", "set("), ColumnType.STRING),  # whatever words they list
    (("bool", "tinyint(1)", "bit(1)"), ColumnType.BOOLEAN),
    (("point", "interval", "time without", "time with "), None),
    (("datetime", "timestamp"), ColumnType.TIMESTAMP),
    (("date",), ColumnType.DATE),
    (("uuid",), ColumnType.UUID),
    (("json",), ColumnType.JSON),
    (("int", "year", "serial"), ColumnType.INTEGER),
    (("char", "text", "clob", "string"), ColumnType.STRING),
    (("blob", "binary", "bytea"), ColumnType.BINARY),
    (("real", "floa", "doub"), ColumnType.FLOAT),
    (("dec", "num"), ColumnType.DECIMAL),
)


def _declared(native: str) -> ColumnType | None:
    """Return a declared type's nature by the word in it, as SQLite judges affinity; None when nothing is known."""
    for words, kind in _DECLARED:
        if any(word in native for word in words):
            return kind
    return None


DECLARED = {
    ColumnType.STRING: "text",
    ColumnType.INTEGER: "bigint",
    ColumnType.DECIMAL: "decimal",
    ColumnType.FLOAT: "double",
    ColumnType.BOOLEAN: "boolean",
    ColumnType.DATE: "date",
    ColumnType.TIMESTAMP: "timestamp",
    ColumnType.UUID: "uuid",
    ColumnType.JSON: "json",
    ColumnType.BINARY: "blob",
}
"""A declared type for each catalogued one, for columns that only the catalog describes."""


def holds(database: Database, native: str, kind: ColumnType) -> bool | None:
    """Return whether a declared type may hold a catalogued type. None leaves it to the general rule."""
    if database.name == "PostgreSQL":
        return None
    natural = _declared(native.lower())
    if natural is None or (database.dynamic and natural in (ColumnType.STRING, ColumnType.DECIMAL)):
        return True
    if natural is ColumnType.BOOLEAN and kind is ColumnType.INTEGER:
        return True
    return True if database.dynamic and natural is ColumnType.INTEGER and kind is ColumnType.BOOLEAN else None
