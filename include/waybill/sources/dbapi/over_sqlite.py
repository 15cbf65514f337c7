"""What only SQLite does behind a driver: how its values compare, and which of them are one.

Values that it keeps as texts have several spellings: `1.0` and `1.00` are one number, and one key at the consumer. And the newest rows of
a file stand in its write-ahead log, which a connection that is opened as immutable passes over.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

from waybill.canonical import ColumnType
from waybill.errors import PermanentError
from waybill.sources.dbapi.flavours import TableFlavour
from waybill.sources.sql import Bind, Sql, quote, sql

FUNCTION = "waybill_spelt_once"
_COLLATION = "waybill_bytes"
STORED_AS_NUMBERS = frozenset({ColumnType.INTEGER, ColumnType.FLOAT, ColumnType.DECIMAL})
"""Columns that are declared so: SQLite makes numbers of the texts that they are given."""
KINDS = STORED_AS_NUMBERS | {ColumnType.BOOLEAN, ColumnType.DATE, ColumnType.TIMESTAMP}
"""The catalogued types of which one value has several texts."""
_WORDS = {"true": 1, "t": 1, "false": 0, "f": 0}
_MOST = 2**63
_EVERY_DIGIT = Context(prec=1000)
"""Of a number with more digits than the default of 28, `normalize` would drop those past them."""


@dataclass(frozen=True)
class SqliteTable(TableFlavour):
    """A column holds values of any type, whatever it is declared as. Its collation decides what compares as equal."""

    def bounds(self, native: str) -> tuple[int, int] | None:
        return -_MOST, _MOST - 1

    def order(self, x: str, kind: ColumnType, native: str) -> str:
        if kind is ColumnType.DECIMAL:
            return f"CAST({x} AS REAL), {x}"
        return f"{f'CAST({x} AS TEXT)' if kind is ColumnType.STRING else x} COLLATE {self.database.bytewise}"

    def mixes(self, x: str, native: str, other: str) -> bool:
        kinds = {self.kind(native), self.kind(other)}
        return self.collated or (ColumnType.STRING in kinds and len(kinds) > 1)

    def equal(self, x: str, native: str, value: str) -> Sql:
        """A collation may call texts equal that differ in case or trailing blanks; the second comparison does not."""
        kind = self.kind(native)
        whole = f"CASE WHEN typeof({x}) = 'real' AND {x} = CAST({x} AS INTEGER) THEN CAST({x} AS INTEGER) ELSE {x} END"
        stored = x if kind in (ColumnType.STRING, ColumnType.INTEGER, ColumnType.UUID) else whole
        exact = sql("CAST({} AS TEXT) = {} COLLATE BINARY", stored, Bind(value))
        # A column without a type (of a view's expression, say) compares numbers with no text, and so does a BLOB.
        return exact if kind in (None, ColumnType.BINARY) else sql("{} = {} AND {}", x, Bind(value), exact)


def teach(connection: Any) -> None:
    """Give a connection to SQLite the function that finds one spelling, and an order of texts by their bytes in UTF-8."""
    connection.create_function(FUNCTION, 2, _spelt_once)
    connection.create_collation(_COLLATION, lambda one, other: (one > other) - (one < other))


def bytewise(connection: Any) -> str:
    """Return the collation that orders texts by their bytes in UTF-8. `BINARY` compares the bytes of a file, which may hold UTF-16."""
    [(encoding,)] = connection.execute("PRAGMA encoding").fetchall()
    return "BINARY" if encoding == "UTF-8" else _COLLATION


def refuse_unread_log(cursor: Any, where: str) -> None:
    """Raise PermanentError for a database with rows in its log that this connection does not see."""
    cursor.execute("PRAGMA database_list")
    for _, name, file in cursor.fetchall():
        log = Path(f"{file}-wal")
        if not file or not log.is_file() or not log.stat().st_size:
            continue
        cursor.execute(f"PRAGMA {quote(name)}.journal_mode")
        if cursor.fetchone()[0] != "wal":
            raise PermanentError(
                f"{log} holds rows, and a connection that is opened as immutable does not read them",
                where=where,
                code="source_unreadable",
                next_step="Open the file with mode=ro instead of immutable=1, or have its writer run PRAGMA wal_checkpoint(TRUNCATE) first",
            )


def _spelt_once(text: str, kind: str) -> str | int | float:
    """Return what equals the other spellings of a value, and the number itself where SQLite can hold it.

    What is no such value stays as it is: whoever reads it says so.
    """
    with suppress(ValueError, ArithmeticError):
        if kind == ColumnType.DATE:
            return text[:10]
        if kind == ColumnType.TIMESTAMP:
            at = datetime.fromisoformat(text)
            return (at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)).isoformat(timespec="microseconds")
        if kind == ColumnType.BOOLEAN and text.lower() in _WORDS:
            return _WORDS[text.lower()]
        if kind == ColumnType.FLOAT:
            return float(text)
        number = Decimal(text)
        if abs(number) < _MOST and number == number.to_integral_value():
            return int(number)
        return float(number) if Decimal(repr(float(number))) == number else str(number.normalize(_EVERY_DIGIT))
    return text
