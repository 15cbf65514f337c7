"""One spelling of each value that SQLite keeps as a text: `1.0` and `1.00` are one number, and one key at the consumer."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import Any

from waybill.canonical import ColumnType

FUNCTION = "waybill_spelt_once"
STORED_AS_NUMBERS = frozenset({ColumnType.INTEGER, ColumnType.FLOAT, ColumnType.DECIMAL})
"""Columns that are declared so: SQLite makes numbers of the texts that they are given."""
KINDS = STORED_AS_NUMBERS | {ColumnType.BOOLEAN, ColumnType.DATE, ColumnType.TIMESTAMP}
"""The catalogued types of which one value has several texts."""
_WORDS = {"true": 1, "t": 1, "false": 0, "f": 0}
_MOST = 2**63
_EVERY_DIGIT = Context(prec=1000)
"""Of a number with more digits than the default of 28, `normalize` would drop those past them."""


def teach(connection: Any) -> None:
    """Give a connection to SQLite the function that finds one spelling."""
    connection.create_function(FUNCTION, 2, _spelt_once)


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
