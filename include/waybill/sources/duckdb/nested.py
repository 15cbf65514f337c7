"""How DuckDB spells nested values: JSON whose members are the canonical texts of their types, as every other source writes them.

Its own `to_json` writes NaN and Infinity as no JSON reader takes them, loses the scale of decimals, and leaves the zone and the digits of
times to chance.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from waybill.canonical import ColumnType
from waybill.sources.sql import quote

Leaf = Callable[[str, str], tuple[ColumnType | None, str]]
"""By expression and native type: what a plain value is by nature, and the canonical text of it."""

_ARRAY = re.compile(r"^(.*)\[\d*\]$", re.DOTALL)
_FIELD = re.compile(r'^("(?:[^"]|"")*"|\S+) (.*)$', re.DOTALL)
_BARE = frozenset({ColumnType.INTEGER, ColumnType.BOOLEAN, ColumnType.DECIMAL, ColumnType.JSON})
_PRINTED_IN_CAPITALS = "[\\x0b\\x0e\\x0f\\x1a-\\x1f]"
"""Control characters that DuckDB escapes with capital hex digits, unlike PostgreSQL and Python."""


def is_nested(native: str) -> bool:
    return native.endswith("]") or native.startswith(("STRUCT(", "TUPLE(", "MAP(", "UNION("))


def parts(native: str) -> list[tuple[str, str]]:
    """Return what a nested type is made of, as (name, native type); a list has one part, a map two, and they have no names."""
    if match := _ARRAY.match(native):
        return [("", match[1])]
    family, _, inner = native.removesuffix(")").partition("(")
    found = _separated(inner)
    if family not in ("STRUCT", "UNION"):
        return [("", part) for part in found]
    fields = (_FIELD.match(part) for part in found)
    return [(match[1].removeprefix('"').removesuffix('"').replace('""', '"'), match[2]) for match in fields if match]


@lru_cache(maxsize=1_000)
def leaves(native: str) -> frozenset[str]:
    """Return the plain types inside a type, or the type itself if it is plain."""
    return frozenset().union(*(leaves(part) for _, part in parts(native))) if is_nested(native) else frozenset({native})


def json(x: str, native: str, leaf: Leaf, depth: int = 0) -> str:
    """Return the canonical JSON of a value; NULL stays NULL."""
    if not is_nested(native):
        return _plain(x, native, leaf)
    found = parts(native)
    if native.endswith("]"):
        return _list(x, depth, lambda item: _member(item, found[0][1], leaf, depth + 1))
    if native.startswith("MAP("):
        (_, key), (_, value) = found
        pairs = f"map_entries({x})"

        def entry(item: str) -> str:
            return f"{_key(f'{item}.key', key, leaf, depth + 1)} || ':' || {_member(f'{item}.value', value, leaf, depth + 1)}"

        return _list(pairs, depth, entry, "{}")
    if native.startswith("UNION("):
        cases = [
            f"WHEN {_text(name)} THEN {_object([_pair(f'union_extract({x}, {_text(name)})', name, part, leaf, depth)])}"
            for name, part in found
        ]
        return f"CASE CAST(union_tag({x}) AS VARCHAR) {' '.join(cases)} END"
    if native.startswith("TUPLE("):
        members = [_member(f"struct_extract({x}, {at})", part, leaf, depth) for at, (_, part) in enumerate(found, 1)]
        return f"CASE WHEN {x} IS NOT NULL THEN '[' || {_joined(members)} || ']' END"
    members = [_pair(f"struct_extract({x}, {_text(name)})", name, part, leaf, depth) for name, part in found]
    return f"CASE WHEN {x} IS NOT NULL THEN {_object(members)} END"


def _plain(x: str, native: str, leaf: Leaf) -> str:
    kind, shown = leaf(x, native)
    if kind in _BARE:
        return shown
    if kind is ColumnType.FLOAT:
        return f"CASE WHEN isfinite({x}) THEN {shown} ELSE '\"' || ({shown}) || '\"' END"
    return string(shown) if kind in (None, ColumnType.STRING) else f"'\"' || ({shown}) || '\"'"


def string(x: str) -> str:
    """Return a text as JSON, in DuckDB's own spelling except for the letters of escaped control characters."""
    each = "lambda c: CASE WHEN c < ' ' THEN lower(CAST(to_json(c) AS VARCHAR)) ELSE CAST(to_json(c) AS VARCHAR) END"
    spelt = f"array_to_string(list_transform(list_transform(string_split({x}, ''), {each}), lambda c: c[2:-2]), '')"
    return f"CASE WHEN regexp_matches({x}, '{_PRINTED_IN_CAPITALS}') THEN '\"' || {spelt} || '\"' ELSE CAST(to_json({x}) AS VARCHAR) END"


def _member(x: str, native: str, leaf: Leaf, depth: int) -> str:
    return f"coalesce({json(x, native, leaf, depth)}, 'null')"


def _pair(x: str, name: str, native: str, leaf: Leaf, depth: int) -> str:
    return f"CAST(to_json({_text(name)}) AS VARCHAR) || ':' || {_member(x, native, leaf, depth)}"


def _key(x: str, native: str, leaf: Leaf, depth: int) -> str:
    """Return the key of a map. It is its text, whatever its type, because JSON has no other keys."""
    if is_nested(native):
        return string(f"({json(x, native, leaf, depth)})")
    kind, shown = leaf(x, native)
    return string(f"({shown})") if kind in (None, ColumnType.STRING, ColumnType.JSON) else f"'\"' || ({shown}) || '\"'"


def _list(x: str, depth: int, item: Callable[[str], str], brackets: str = "[]") -> str:
    name = f"e{depth}"
    return f"'{brackets[0]}' || array_to_string(list_transform({x}, lambda {name}: {item(name)}), ',') || '{brackets[1]}'"


def _object(members: list[str]) -> str:
    return f"'{{' || {_joined(members)} || '}}'"


def _joined(members: list[str]) -> str:
    return " || ',' || ".join(members) or "''"


def _text(name: str) -> str:
    return quote(name, "'")


def _separated(inner: str) -> list[str]:
    """Return the parts between commas that stand neither in quotes nor in parentheses."""
    found, depth, start, mark = [], 0, 0, ""
    for at, character in enumerate(inner):
        if mark:
            mark = "" if character == mark else mark
        elif character in "'\"":
            mark = character
        elif character in "([":
            depth += 1
        elif character in ")]":
            depth -= 1
        elif character == "," and not depth:
            found.append(inner[start:at].strip())
            start = at + 1
    return [*found, inner[start:].strip()] if inner.strip() else []
