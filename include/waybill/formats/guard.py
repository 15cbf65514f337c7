"""The spreadsheet guard: text that a spreadsheet would take for a formula gets one `'` in front, and stripping that one restores it.

Guarded is text that is not a number and starts with `= + - @` TAB CR LF NUL, also after leading `'`.
"""

from __future__ import annotations

import re

_DANGEROUS = r"^'*[=+\-@\t\r\n\x00]"
_GUARDED = re.compile(r"^'+[=+\-@\t\r\n\x00]")
_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"


def guard(text: str) -> str:
    return f"'{text}" if re.match(_DANGEROUS, text) and not re.fullmatch(_NUMBER, text) else text


def unguard(text: str) -> str:
    """The inverse of `guard`, for every text."""
    return text[1:] if _GUARDED.match(text) else text


def guarded(x: str) -> str:
    """`guard` as an SQL expression of DuckDB; NULL stays NULL."""
    dangerous = _DANGEROUS.replace("'", "''")
    return f"CASE WHEN regexp_matches({x}, '{dangerous}') AND NOT regexp_full_match({x}, '{_NUMBER}') THEN '''' || {x} ELSE {x} END"
