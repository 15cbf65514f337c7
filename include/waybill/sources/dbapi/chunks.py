"""Turns the rows of a driver into Arrow: one array for each column, in a type that the engine formats exactly like every other source's."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from waybill import canonical
from waybill.canonical import ColumnType
from waybill.errors import PermanentError

FIRST_ROWS = 8
FETCH_ROWS = 2_000
CHUNK_BYTES = 16 << 20
"""The size of a chunk. Few rows stay in the processor's caches while they become columns, but the engine plans every chunk again."""
_Values = Sequence[Any]
_PLAIN_DECIMAL = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?$"
"""Text that is already the canonical spelling of a decimal."""
_DAY = r"^-?[0-9]{4,}-[0-9]{2}-[0-9]{2}([ T]00:00(:00(\.0+)?)?)?( \(BC\))?$|^-?infinity$"
"""Text that is a date, which the engine would also read out of a time. Midnight loses nothing."""
_NO_DAY = r"^(0000-|[0-9]{4}-00|[0-9]{4}-[0-9]{2}-00)"
"""MySQL's dates without a year, month or day."""
_TOO_FINE = r"\.[0-9]{6}[0-9]*[1-9]"
"""Part of a time that is finer than a microsecond, which would be rounded."""
_MOST_WHOLE = 10**38
"""Integers that are as long are text for the engine, too."""
_BINARY = (bytes, bytearray, memoryview)


Binding = Callable[[str], str]
"""A database's own type, as far as it says what a value is."""


def table(
    rows: list[Any], columns: Mapping[str, tuple[ColumnType, str]], binding: Binding, times: Container[str] = frozenset()
) -> pa.Table:
    """Return rows as a table of the columns. Each column comes with its kind and the database's own type.

    `times` say when a row changed or ceased to be, so that no other type in the catalog helps them.
    """
    by_column = zip(*rows, strict=True) if rows else ((),) * len(columns)
    filled = zip(columns.items(), by_column, strict=True)
    return pa.table({name: array(name, values, kind, native, binding, name in times) for (name, (kind, native)), values in filled})


def as_many(fetched: pa.Table) -> int:
    """Return how many rows to fetch next: an eighth of a chunk, if they are as long as these. A row may be megabytes long."""
    rows: int = fetched.num_rows
    size = max(1, int(fetched.nbytes))
    return max(1, min(CHUNK_BYTES // 8 * rows // size, 8 * rows, FETCH_ROWS))


class _TooFineError(ValueError):
    """A time has more digits than a timestamp holds."""


def array(name: str, values: _Values, kind: ColumnType, native: str, binding: Binding, is_time: bool = False) -> pa.Array:
    """Return one column of a chunk. Raises PermanentError if a value is not of the catalogued type. The message holds no value."""
    try:
        return _ARRAYS[kind](values, binding(native))
    except (pa.ArrowException, ValueError, TypeError, OverflowError, ArithmeticError) as error:
        kinds = sorted({type(value).__name__ for value in values if value is not None})
        what = f"column {name} is {native or 'of no declared type'}: a value is not {kind}; the driver yields {', '.join(kinds)}"
        step = f"Set the column's type in the catalog to {_NATURES.get(kinds[0], 'string')}"
        if isinstance(error, _TooFineError):
            what = f"column {name} holds times that are finer than a microsecond, which would be rounded"
            step = "Give them six digits in a view or query; a column that tells no changes may be catalogued as string instead"
        if is_time:
            step = "Let the column hold times and NULL only, or read a view in which it does: dates such as 0000-00-00 tell no time"
        raise PermanentError(what, code="schema_drift", next_step=step) from error


_NATURES = {"bytes": "binary", "bytearray": "binary", "int": "integer", "Decimal": "decimal", "bool": "boolean"}
"""The catalogued type for what a driver yields; string where it is something else."""


def _refuse(values: _Values, why: str, *kinds: type) -> None:
    """Raise TypeError for values that Arrow would misread: a blob as a text, a number as a day, 1.5 as 1."""
    if any(issubclass(kind, kinds) for kind in set(map(type, values))):
        raise TypeError(why)


def _number(value: Any) -> Any:
    """Python reads more as a number than databases do: `1_000`, blanks around it, digits of other scripts."""
    if isinstance(value, str) and (not value.isascii() or "_" in value or value != value.strip()):
        raise ValueError("no number")
    return value


def _texts(values: _Values, native: str) -> pa.Array:
    _refuse(values, "binary is no text, and a set has no order", *_BINARY, set)
    try:
        return pa.array(values, pa.string())
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        natural = [_shortest(value) for value in values] if _is_single(native) else values
        return pa.array([_natural_text(value) for value in natural], pa.string())


def _natural_text(value: Any) -> str | None:
    """Return the canonical text of a value by its own nature, for a column catalogued as string."""
    return None if value is None else canonical.natural_text(value)


def _integers(values: _Values, native: str) -> pa.Array:
    try:
        _refuse(values, "may have a fraction", float, Decimal)
        return pa.array(values, pa.int64())
    except (pa.ArrowTypeError, pa.ArrowInvalid, OverflowError, TypeError):
        whole = [None if value is None else _whole(value) for value in values]
        if any(value is not None and abs(value) >= _MOST_WHOLE for value in whole):
            return pa.array([None if value is None else str(value) for value in whole], pa.string())
        return pa.array([None if value is None else Decimal(value) for value in whole], pa.decimal128(38, 0))


def _whole(value: Any) -> int:
    number = int(_number(value))
    if not isinstance(value, str) and number != value:
        raise ValueError("not a whole number")
    if isinstance(value, float) and abs(value) >= 2**53:
        raise ValueError("a float that large may have been another number")
    return number


def _is_single(native: str) -> bool:
    """Return whether the column is MySQL's FLOAT. It has four bytes, so its shortest text is that of a four byte number."""
    return native.startswith("float")


def _shortest(value: Any) -> float | None:
    return None if value is None else float(str(np.float32(value)))


def _floats(values: _Values, native: str) -> pa.Array:
    single = _is_single(native)
    return pa.array([None if value is None else float(_number(value)) for value in values], pa.float32() if single else pa.float64())


def _decimals(values: _Values, native: str) -> pa.Array:
    """Return decimals in the scale that the column declares, else as text, each in the scale it comes with."""
    declared = re.match(r"(?:decimal|numeric)\((\d+),\s*(\d+)\)", native.lower())
    if declared and int(declared[1]) <= 38 and all(value is None or (isinstance(value, Decimal) and value.is_finite()) for value in values):
        return pa.array(values, pa.decimal128(int(declared[1]), int(declared[2])))
    with suppress(pa.ArrowTypeError, pa.ArrowInvalid):
        texts = pa.array(values, pa.string())
        if pc.all(pc.match_substring_regex(texts, _PLAIN_DECIMAL), min_count=0).as_py():
            return texts
    return pa.array([canonical.text(_number(value), ColumnType.DECIMAL) for value in values], pa.string())


def _booleans(values: _Values, native: str) -> pa.Array:
    with suppress(pa.ArrowTypeError, pa.ArrowInvalid):
        return pa.array(values, pa.bool_())
    with suppress(pa.ArrowTypeError, pa.ArrowInvalid, OverflowError, TypeError):
        _refuse(values, "may have a fraction", float, Decimal)
        numbers = pa.array(values, pa.int64())
        if pc.all(pc.is_in(numbers, pa.array([0, 1, None], pa.int64()))).as_py():
            return numbers.cast(pa.bool_())
    return pa.array([None if value is None else _truth(value) for value in values], pa.bool_())


def _truth(value: Any) -> bool:
    known = {0: False, 1: True, b"\0": False, b"\1": True, "0": False, "1": True, "false": False, "true": True, "f": False, "t": True}
    folded = value.lower() if isinstance(value, str) else value
    if folded not in known:
        raise ValueError("neither true nor false")
    return known[folded]


def _dates(values: _Values, native: str) -> pa.Array:
    _refuse(values, "a number, a time or binary is no date", int, float, Decimal, datetime, *_BINARY)
    if not any(isinstance(value, str) for value in values):
        return pa.array(values, pa.date32())
    texts = pa.array([value.isoformat() if isinstance(value, date) else value for value in values], pa.string())
    if not pc.all(pc.match_substring_regex(texts, _DAY), min_count=0).as_py():
        raise ValueError("no date, or one with a time")
    _refuse_no_day(texts)
    return _parsed(texts, pa.date32())


def _refuse_no_day(texts: pa.Array) -> None:
    if pc.any(pc.match_substring_regex(texts, _NO_DAY)).as_py():
        raise ValueError("no day of the calendar")


def _timestamps(values: _Values, native: str) -> pa.Array:
    _refuse(values, "a number, a span or binary is no time", int, float, Decimal, timedelta, *_BINARY)
    if any(isinstance(value, str) for value in values):
        texts = pa.array([value.isoformat() if isinstance(value, date) else value for value in values], pa.string())
        _refuse_no_day(texts)
        if pc.any(pc.match_substring_regex(texts, _TOO_FINE)).as_py():
            raise _TooFineError("finer than a microsecond")
        return _parsed(texts, pa.timestamp("us"))
    aware = any(value is not None and value.tzinfo is not None for value in values)
    return pa.array(values, pa.timestamp("us", "UTC") if aware else pa.timestamp("us"))


def _parsed(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return the texts parsed, or as they are if Arrow does not know the spelling, because the engine may know it."""
    with suppress(pa.ArrowInvalid):
        return texts.cast(kind)
    return texts


def _uuids(values: _Values, native: str) -> pa.Array:
    _refuse(values, "binary is no text", *_BINARY)
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def _json(values: _Values, native: str) -> pa.Array:
    _refuse(values, "a time, a set or binary is no JSON", timedelta, time, set, *_BINARY)
    return pa.array([value if value is None or isinstance(value, str) else canonical.json_text(value) for value in values], pa.string())


def _binary(values: _Values, native: str) -> pa.Array:
    _refuse(values, "a number is not binary", int, float, Decimal)
    return pa.array([value if value is None or isinstance(value, bytes) else bytes(value) for value in values], pa.binary())


_ARRAYS: dict[ColumnType, Callable[[_Values, str], pa.Array]] = {
    ColumnType.STRING: _texts,
    ColumnType.INTEGER: _integers,
    ColumnType.FLOAT: _floats,
    ColumnType.DECIMAL: _decimals,
    ColumnType.BOOLEAN: _booleans,
    ColumnType.DATE: _dates,
    ColumnType.TIMESTAMP: _timestamps,
    ColumnType.UUID: _uuids,
    ColumnType.JSON: _json,
    ColumnType.BINARY: _binary,
}
