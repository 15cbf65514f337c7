"""Tells which rows hold a value that is given as text: exactly, because what a database takes for the same may be two tenants."""

from __future__ import annotations

import re

from waybill.canonical import ColumnType, is_uuid
from waybill.sources.sql import Bind, Flavour, Sql, sql

_BY_VALUE = frozenset({None, ColumnType.STRING, ColumnType.INTEGER, ColumnType.UUID, ColumnType.DECIMAL})
ADDRESSES = frozenset({"inet", "cidr"})
"""Types of PostgreSQL, which writes the length of every address, also of a single host's."""
_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?")
_PRECISION = re.compile(r"(?:decimal|numeric)\((\d+), ?(\d+)\)", re.IGNORECASE)


def equal(flavour: Flavour, x: str, native: str, value: str) -> Sql:
    """Return exact equality with a value given as text; a text that is not the canonical spelling of the column's type equals nothing."""
    if not can_equal(flavour, native, value):
        return sql("1 = 0")
    kind = flavour.kind(native)
    if flavour.dynamic or kind in _BY_VALUE or _is_whole(flavour, native):
        return flavour.equal(x, native, value.lower() if kind is ColumnType.UUID and not flavour.dynamic else value)
    return sql("{} = {}", flavour.text(x, kind or ColumnType.STRING, native), Bind(value))


def can_equal(flavour: Flavour, native: str, value: str) -> bool:
    """Return whether a text is the canonical spelling of some value of this type, as far as the type says."""
    kind = flavour.kind(native)
    if _is_whole(flavour, native):
        least, most = flavour.bounds(native) or (float("-inf"), float("inf"))
        return value.isascii() and value.removeprefix("-").isdigit() and str(int(value)) == value and least <= int(value) <= most
    if kind is ColumnType.DECIMAL and not flavour.dynamic:
        return plain(value) == value and _fits(native, value)
    if native in ADDRESSES and not flavour.dynamic:
        return "/" in value
    return kind is not ColumnType.UUID or is_uuid(value)


def delivered(flavour: Flavour, native: str, value: str) -> str:
    """Return a value as `equal` takes it, from how it may be written in a file: with the zeros of a scale, or as a word."""
    if flavour.kind(native) is ColumnType.DECIMAL:
        return plain(value) or value
    return {"true": "1", "false": "0"}.get(value, value) if _is_whole(flavour, native) else value


def plain(number: str) -> str:
    """Return the only spelling of a decimal number that tells a tenant: no zeros that could be left out. Empty if it is no such number."""
    found = _NUMBER.fullmatch(number)
    if found is None:
        return ""
    sign, whole, fraction = found[1], found[2].lstrip("0") or "0", (found[3] or "").rstrip("0")
    text = f"{whole}.{fraction}" if fraction else whole
    return text if text == "0" else sign + text


def _fits(native: str, number: str) -> bool:
    """Return whether a type of fixed precision holds this number. Rounded to the type, it would equal another one."""
    declared = _PRECISION.match(native)
    if declared is None:
        return True
    whole, _, fraction = number.removeprefix("-").partition(".")
    return len(fraction) <= int(declared[2]) and len(whole.removeprefix("0")) <= int(declared[1]) - int(declared[2])


def _is_whole(flavour: Flavour, native: str) -> bool:
    """Return whether a type holds whole numbers. MySQL's boolean does."""
    return flavour.kind(native) is ColumnType.INTEGER or (not flavour.dynamic and flavour.bounds(native) is not None)
