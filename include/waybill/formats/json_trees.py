"""Reads JSON text as a tree that keeps what Python's own reading would lose: repeated keys, key order, the spelling of numbers."""

from __future__ import annotations

import json
from typing import Any


class Number(str):
    """A number (or NaN, Infinity) as it is spelt."""

    __slots__ = ()


class Object(list[tuple[str, Any]]):
    """The members of an object in their order."""

    __slots__ = ()


def parse(text: str) -> Any:
    """Return the tree: `Object`, list, str, `Number`, bool, None. Raises ValueError for what is no JSON or nests too deep to read."""
    try:
        return _DECODER.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def spell(value: Any) -> str:
    """Return the compact JSON text of a tree. Raises ValueError if it nests too deep."""
    try:
        return "".join(_pieces(value))
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _pieces(value: Any) -> list[str]:
    if isinstance(value, Number):
        return [str(value)]
    if isinstance(value, str):
        return [_spelt(value)]
    if isinstance(value, Object):
        members = (f"{_spelt(key)}:{''.join(_pieces(inner))}" for key, inner in value)
        return ["{", ",".join(members), "}"]
    if isinstance(value, list):
        return ["[", ",".join("".join(_pieces(inner)) for inner in value), "]"]
    return ["null" if value is None else "true" if value else "false"]


def is_unicode(text: str) -> bool:
    """Return whether UTF-8 can hold it. JSON may hold half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _spelt(text: str) -> str:
    return json.dumps(text, ensure_ascii=not is_unicode(text))


_DECODER = json.JSONDecoder(object_pairs_hook=Object, parse_float=Number, parse_int=Number, parse_constant=Number)
