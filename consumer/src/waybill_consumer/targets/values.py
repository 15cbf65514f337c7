"""Values of SQLite as the text that a file holds, and that text as a value of another type."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

from waybill_consumer.manifest import Column

_SHAPES = {
    "integer": re.compile(r"-?[0-9]+\Z"),
    "decimal": re.compile(r"-?[0-9]+(\.[0-9]+)?\Z|NaN\Z|-?Infinity\Z"),
    "boolean": re.compile(r"true\Z|false\Z"),
    "date": re.compile(r"[0-9]{4,}-[0-9]{2}-[0-9]{2}( BC)?\Z|-?infinity\Z"),
    "timestamp": re.compile(r"[0-9]{4,}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z( BC)?\Z|-?infinity\Z"),
}
_CHECKS: dict[str, Callable[[str], Any]] = {"uuid": UUID, "json": json.loads, "binary": lambda text: base64.b64decode(text, validate=True)}


def retyped(value: Any, was: Column, now: Column, make: Callable[[str], Any] | None) -> Any:
    """Return a stored value in a column of another type. `make` turns the text of a file into it. Raises ValueError if it cannot."""
    text = spelt(value, was)
    if now.type == "integer":
        text = re.sub(r"\.0+\Z", "", text)
    elif now.type == "timestamp" and was.type == "date" and "infinity" not in text:
        text = re.sub(r"^(\S+)( BC)?\Z", r"\1T00:00:00.000000Z\2", text)
    elif now.type == "date" and was.type == "timestamp":
        text = re.sub(r"T[0-9:.]+Z", "", text)
    if (shape := _SHAPES.get(now.type)) is not None and shape.match(text) is None:
        raise ValueError(text)
    if (check := _CHECKS.get(now.type)) is not None:
        check(text)
    return text if make is None else make(text)


def spelt(value: Any, column: Column) -> str:
    """Return a stored value as a file holds it."""
    if column.type == "boolean":
        return "true" if value else "false"
    if column.type == "float":
        return value if isinstance(value, str) else float_text(float(value))
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def float_text(value: float) -> str:
    """Return the shortest text that reads back as the same number, as PostgreSQL spells it."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value == 0:
        return "-0" if math.copysign(1, value) < 0 else "0"
    sign, digits, _ = (number := Decimal(repr(value)).normalize()).as_tuple()
    if -4 <= (exponent := number.adjusted()) < 15:
        return format(number, "f")
    first, *rest = map(str, digits)
    return f"{'-' if sign else ''}{first}{'.' if rest else ''}{''.join(rest)}e{exponent:+03d}"
