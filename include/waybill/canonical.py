"""Defines the text of each type in a file, and what identifies a row version. Every source is compared with this reference.

The rules: timestamps are RFC 3339 in UTC with six digits and `Z`. Floats are spelt as in PostgreSQL 12 and newer (shortest round trip).
Decimals are exact, in the scale they come with. Binary values are base64. Nested values are compact JSON in the key order they come with.
NULL is None.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID


def timestamp_text(value: datetime) -> str:
    """Return the time as RFC 3339 in UTC with six fraction digits and `Z`. A value without a zone is taken as UTC."""
    aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return aware.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def optional_timestamp_text(value: datetime | None) -> str | None:
    """Return `timestamp_text` of the value, or None for None."""
    return None if value is None else timestamp_text(value)


class BeyondCalendar(ValueError):
    """A well-formed time of the first or last day of the calendar that UTC has no date for."""


def parse_timestamp(text: str) -> datetime:
    """Return the instant that a text means: the inverse of `timestamp_text`.

    It accepts any RFC 3339 offset. Raises ValueError for a naive or malformed time, and BeyondCalendar, which is one, too.
    """
    value = datetime.fromisoformat(text)
    if value.tzinfo is None:
        raise ValueError(f"{text!r} has no offset; allowed: RFC 3339 with an offset, as in 2026-06-01T00:00:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise BeyondCalendar(f"{text!r} lies beyond the calendar of UTC") from error


def float_text(value: float) -> str:
    """Return the shortest text that reads back as the same double, spelt as in PostgreSQL: `1e+15`, `100`, `-0`, `NaN`, `Infinity`."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    digits, exponent = _shortest(value)
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    if not -4 <= exponent < 15:
        mantissa = digits if len(digits) == 1 else f"{digits[0]}.{digits[1:]}"
        return f"{sign}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    whole, fraction = digits[: exponent + 1].ljust(exponent + 1, "0"), digits[exponent + 1 :]
    return f"{sign}{whole}" + (f".{fraction}" if fraction else "")


def _shortest(value: float) -> tuple[str, int]:
    """Return the shortest significant digits of |value|, and the decimal exponent of the first one."""
    mantissa, _, exponent = f"{Decimal(repr(abs(value))):e}".partition("e")
    digits = mantissa.replace(".", "").rstrip("0") or "0"
    return digits, int(exponent) if digits != "0" else 0


def json_text(value: Any) -> str:
    """Return compact JSON; non-ASCII text stays as it is. A string is JSON text: it is made compact, and key order, duplicates and the
    spelling of numbers are kept.

    The members of a nested value are spelt like a column of their type: numbers as they are; NaN, infinities and everything else as
    strings.
    """
    return compact_json(value) if isinstance(value, str) else _json_member(value)


def _json_member(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float() | Decimal():
            shown = natural_text(value)
            return shown if math.isfinite(value) else f'"{shown}"'
        case dict():
            return "{" + ",".join(f"{_json_string(natural_text(key))}:{_json_member(member)}" for key, member in value.items()) + "}"
        case list() | tuple():
            return "[" + ",".join(map(_json_member, value)) + "]"
    return _json_string(natural_text(value))


def _json_string(shown: str) -> str:
    return json.dumps(shown, ensure_ascii=False)


def natural_text(value: Any) -> str:
    """Return the text of a value by its own type. Binary becomes base64."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case float():
            return float_text(value)
        case Decimal():
            return format(value, "f")
        case datetime():
            return timestamp_text(value)
        case time():
            return _trimmed(value.isoformat("microseconds"))
        case timedelta():
            return _clock_text(value)
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode("ascii")
        case dict() | list() | tuple():
            return _json_member(value)
    return str(value)


def _clock_text(value: timedelta) -> str:
    """Return a time of day, or a span of hours, as databases write it: `-838:59:59`, `01:02:03.5`."""
    micros = abs(value) // timedelta(microseconds=1)
    seconds, fraction = divmod(micros, 1_000_000)
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{fraction:06d}"
    return ("-" if value < timedelta() else "") + _trimmed(clock)


def _trimmed(clock: str) -> str:
    return re.sub(r"\.?0+(?=[+-]|$)", "", clock) if "." in clock else clock


def compact_json(text: str) -> str:
    """Return JSON text without the white space between tokens. Every token stays as it is spelt."""
    out, inside, escaped = [], False, False
    for character in text:
        if inside:
            out.append(character)
            inside = escaped or character != '"'
            escaped = not escaped and character == "\\"
        elif character not in " \t\r\n":
            out.append(character)
            inside = character == '"'
    return "".join(out)


def text(value: Any, kind: ColumnType) -> str | None:
    """Return the canonical text of one value, or None for NULL. Raises ValueError if the value does not have this type."""
    if value is None:
        return None
    match kind:
        case ColumnType.BOOLEAN:
            return "true" if value else "false"
        case ColumnType.INTEGER:
            return str(int(value))
        case ColumnType.FLOAT:
            return float_text(float(value))
        case ColumnType.DECIMAL:
            return format(value if isinstance(value, Decimal) else Decimal(str(value)), "f")
        case ColumnType.TIMESTAMP:
            return timestamp_text(value)
        case ColumnType.DATE:
            return (value.date() if isinstance(value, datetime) else date.fromisoformat(str(value))).isoformat()
        case ColumnType.UUID:
            return str(value if isinstance(value, UUID) else UUID(str(value)))
        case ColumnType.BINARY:
            return base64.b64encode(value).decode("ascii")
        case ColumnType.JSON:
            return json_text(value)
        case ColumnType.STRING:
            return str(value)


def is_uuid(text: str) -> bool:
    """Return whether a text is a UUID with its hyphens, in letters of either case."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def csv_field(value: str | None, delimiter: str) -> str:
    """Return one field. NULL is empty, and the empty string is `""`. A field is quoted if it contains the delimiter, a quote, CR or LF."""
    if value is None:
        return ""
    if value == "" or any(mark in value for mark in (delimiter, '"', "\r", "\n")):
        return '"' + value.replace('"', '""') + '"'
    return value


def csv_line(fields: list[str | None], delimiter: str = ",", line_end: str = "\n") -> str:
    """Return one record. A record of a single NULL is an empty line, which readers skip: RFC 4180 leaves it so."""
    return delimiter.join(csv_field(field, delimiter) for field in fields) + line_end


def anonymize(value: str | None, salt: bytes) -> str | None:
    """Return the HMAC-SHA256 of the canonical text in hex, keyed by the tenant's salt. NULL stays NULL. Within a tenant, the same value
    gives the same pseudonym.
    """
    return None if value is None else hmac.new(salt, value.encode(), hashlib.sha256).hexdigest()


def hmac_pads(key: bytes) -> tuple[bytes, bytes]:
    """Return the inner and outer key blocks of HMAC-SHA256 (RFC 2104): HMAC is sha256(outer + sha256(inner + text))."""
    block = (hashlib.sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    return bytes(byte ^ 0x36 for byte in block), bytes(byte ^ 0x5C for byte in block)


def row_digest(keys: list[str | None], position: str | None, fields: list[str | None]) -> bytes:
    """Return what identifies a row version: the first 16 bytes of the SHA-256 of one record of the raw key, the change position and the
    exported fields.
    """
    return hashlib.sha256(csv_line([*keys, position, *fields]).encode()).digest()[:16]


def key_digest(record: bytes) -> bytes:
    """Return what identifies a key: the first 16 bytes of the SHA-256 of one record of the exported key columns, without its line end."""
    return hashlib.sha256(record + b"\n").digest()[:16]


class ColumnType(StrEnum):
    STRING = "string"
    INTEGER = "integer"
    DECIMAL = "decimal"
    FLOAT = "float"
    BOOLEAN = "boolean"
    DATE = "date"
    TIMESTAMP = "timestamp"
    UUID = "uuid"
    JSON = "json"
    BINARY = "binary"
