"""Takes credentials out of what people export, whatever the format.

In JSON, the whole member is removed, at any depth: because of its name (`waybill.configuration.values.credentials.looks_secret`), also as
`{"name": "api_key", "value": ...}` and in JSON inside a string; or because its value is an unmistakable credential. A text with an
unmistakable credential becomes NULL, and so does JSON with a secret name that cannot be taken apart. A column's written reason lets its
values pass, but never a secret name inside its JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from waybill.canonical import ColumnType
from waybill.configuration.values.columns import Column
from waybill.configuration.values.credentials import ABROAD_PATTERN, VALUE_PATTERN, looks_secret, secret_below, secret_value
from waybill.formats import json_trees

_LABELS = frozenset(["name", "key", "field", "header", "parameter", "label", "title", "type", "setting", "property", "param"])
_LABELLED = frozenset(["value", "val", "data", "content", "text"])
_IN_ENGLISH = r"pass|pwd|secret|cred|token|jwt|cv[vc]|key|dsn|seed|bcrypt|pin|connection|cookie|auth|bearer|dek|code|\\u[0-9a-f]{4}|\\/"
_LETTER = r"[^\x00-\x7f]"
_NAME_WITH_OTHER_LETTERS = rf"""(?:"[^"]*{_LETTER}(?:[^"\\]|\\.)*"|'[^']*{_LETTER}(?:[^'\\]|\\.)*')\s*:"""
_LABEL_WITH_OTHER_LETTERS = rf"""["'](?:{"|".join(sorted(_LABELS))})["']\s*:\s*(?:"[^"]*|'[^']*){_LETTER}"""
MENTIONS = f"(?i:{_IN_ENGLISH}|{ABROAD_PATTERN}|{_NAME_WITH_OTHER_LETTERS}|{_LABEL_WITH_OTHER_LETTERS})"
"""Every JSON text with a secret name matches this. Most others do not, and need no closer look."""

_SUSPICIOUS = f"{MENTIONS}|{VALUE_PATTERN}"
_LOOKS_LIKE_JSON = r"^[ \t\r\n]*[\[{]"
_MEMBER_NAME = re.compile(r"""(["'])((?:[^"'\\]|\\.)*)\1\s*:""")

_looks_secret = lru_cache(maxsize=10_000)(looks_secret)
_secret_below = lru_cache(maxsize=10_000)(secret_below)


def columns(arrays: Sequence[pa.Array], columns: Sequence[Column]) -> Iterator[tuple[pa.Array, int]]:
    """Yield each array without credentials, and how many of its values had any."""
    for array, column, suspects in zip(arrays, columns, _suspects(arrays, columns), strict=True):
        if suspects is None:
            yield array, 0
            continue
        found = array.filter(suspects).to_pylist()
        cleaned = _cleaned(found, values=not column.reason)
        withheld = sum(before is not after for before, after in zip(found, cleaned, strict=True))
        yield (pc.replace_with_mask(array, suspects, pa.array(cleaned, array.type)), withheld) if withheld else (array, 0)


def _suspects(arrays: Sequence[pa.Array], columns: Sequence[Column]) -> list[pa.Array | None]:
    """Return for each array which of its texts need a closer look, or None if none does. It costs one pass over the bytes of most."""
    found = _matches(arrays, list(map(_pattern, columns)))
    for number, (array, column) in enumerate(zip(arrays, columns, strict=True)):
        if _is_cleaned(column) and column.leaves_as is ColumnType.STRING:
            like_json = pc.match_substring_regex(array, _LOOKS_LIKE_JSON)
            if pc.any(like_json).as_py():
                mentions = pc.and_(like_json, pc.match_substring_regex(array, MENTIONS))
                found[number] = mentions if (values := found[number]) is None else pc.or_(mentions, values)
    return [None if one is None or not pc.any(one).as_py() else pc.fill_null(one, False) for one in found]


def _is_cleaned(column: Column) -> bool:
    return column.leaves_as in (ColumnType.STRING, ColumnType.JSON) and column.export != "anonymize"


def _pattern(column: Column) -> str | None:
    """Return what every text of a column is searched for."""
    if not _is_cleaned(column):
        return None
    if column.leaves_as is ColumnType.JSON:
        return MENTIONS if column.reason else _SUSPICIOUS
    return None if column.reason else VALUE_PATTERN


def _matches(arrays: Sequence[pa.Array], patterns: Sequence[str | None]) -> list[pa.Array | None]:
    """Return which texts of each array match its pattern, or None where there is none.

    Arrays with the same pattern are searched at once: Arrow compiles it for each search, which takes as long as a thousand texts.
    """
    found: list[pa.Array | None] = [None] * len(arrays)
    alike: dict[tuple[str, pa.DataType], list[int]] = {}
    for number, (array, pattern) in enumerate(zip(arrays, patterns, strict=True)):
        if pattern is not None:
            alike.setdefault((pattern, array.type), []).append(number)
    for (pattern, _), numbers in alike.items():
        matches = pc.match_substring_regex(pa.concat_arrays([arrays[number] for number in numbers]), pattern)
        start = 0
        for number in numbers:
            found[number] = matches.slice(start, len(arrays[number]))
            start += len(arrays[number])
    return found


def _cleaned(texts: Iterable[str], values: bool) -> list[str | None]:
    """Return `text` of each. It is the very same object if nothing had to go."""
    known: dict[str, str | None] = {}
    cleaned = []
    for raw in texts:
        if raw not in known:
            known[raw] = text(raw, values)
        cleaned.append(raw if known[raw] == raw else known[raw])
    return cleaned


def text(original: str, values: bool = True) -> str | None:
    """Return a text without the credentials in it, or None if nothing else is left or it cannot be taken apart. Without `values`, only
    names count.
    """
    if not re.match(_LOOKS_LIKE_JSON, original) and not original.startswith('"'):
        return None if values and secret_value(original) else original
    try:
        tree = json_trees.parse(original)  # a lone JSON string may hold JSON itself
        cleaned = _tree(tree, values)
        return original if cleaned is tree else None if cleaned is None else json_trees.spell(cleaned)
    except (ValueError, RecursionError):
        return None if _names_a_secret(original) or (values and secret_value(original)) else original


def _tree(value: Any, values: bool, above: str = "") -> Any:
    """Return the value without credentials. It is the very same object if nothing had to go, and None if nothing is left.

    `above` is the name it is under: a `key` below `api` is an API key.
    """
    if isinstance(value, json_trees.Object):
        members = [(key, _tree(inner, values, key), inner) for key, inner in value]
        kept = json_trees.Object((key, after) for key, after, before in members if not _goes(key, before, after, value, above))
        same = len(kept) == len(value) and all(after is before for _, after, before in members)
        return value if same else kept
    if isinstance(value, list):
        cleaned = [_tree(inner, values, above) for inner in value]
        if len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], str) and _looks_secret(value[0]):
            cleaned[1] = None  # a name and its value, as lists of headers have them
        return value if all(after is before for after, before in zip(cleaned, value, strict=True)) else cleaned
    if isinstance(value, str) and not isinstance(value, json_trees.Number):
        cleaned_text = text(value, values)
        return value if cleaned_text == value else cleaned_text
    return value


def _goes(key: str, before: Any, after: Any, among: json_trees.Object, above: str) -> bool:
    """Return whether a member goes: its key names a credential or is one, or its value was one."""
    if after is None and before is not None:
        return True
    if before is None or isinstance(before, bool):
        return False
    if isinstance(before, json_trees.Number) and key.lower().endswith("tokens"):
        return False  # how many were used
    label_is_secret = key.lower() in _LABELLED and any(
        other.lower() in _LABELS and isinstance(label, str) and _looks_secret(label) for other, label in among
    )
    return label_is_secret or (isinstance(before, str) and _secret_below(above, key)) or _looks_secret(key) or secret_value(key)


def _names_a_secret(broken: str) -> bool:
    return any(_looks_secret(_unescaped(name)) for _, name in _MEMBER_NAME.findall(broken))


def _unescaped(name: str) -> str:
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), name)
