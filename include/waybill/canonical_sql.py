"""The canonical texts of `waybill.canonical` as DuckDB spells them: the same rules, for whole columns at a time.

`x` is always a quoted column or an expression; NULL stays NULL.
"""

from __future__ import annotations

JSON_STRING = r'"(?:[^"\\]|\\.)*"'
"""A JSON string with its quotes, as a regular expression."""

_WHITE_SPACE_BETWEEN_TOKENS = rf"({JSON_STRING})|[ \t\r\n]+"


def float_text(x: str) -> str:
    """Of a DOUBLE.

    DuckDB writes 1e15 to 1e16 in full, a `.0` behind whole numbers, and `nan` and `inf`; the rest is spelt as in
    PostgreSQL.
    """
    shown = f"CAST({x} AS VARCHAR)"
    digits = f"rtrim(replace({shown}, '.', ''), '0')"
    scientific = f"regexp_replace({digits}, '^(-?[0-9])([0-9]+)$', '\\1.\\2') || 'e+15'"
    return (
        f"CASE WHEN abs({x}) < 1e15 THEN CASE WHEN {x} = trunc({x}) THEN left({shown}, -2) ELSE {shown} END"
        f" WHEN isnan({x}) THEN 'NaN' WHEN isinf({x}) THEN CASE WHEN {x} > 0 THEN 'Infinity' ELSE '-Infinity' END"
        f" WHEN abs({x}) < 1e16 THEN {scientific} ELSE {shown} END"
    )


def timestamp_text(x: str) -> str:
    """Of a TIMESTAMP in UTC.

    Infinite times and times before year 1, which no RFC 3339 text can hold, are spelt as PostgreSQL spells them.
    """
    shown = f"CAST({x} AS VARCHAR)"
    ancient = f"regexp_extract({shown}, '^[0-9]+') || strftime({x}, '-%m-%dT%H:%M:%S.%fZ BC')"
    return (
        f"CASE WHEN {x} >= TIMESTAMP '0001-01-01' THEN strftime({x}, '%Y-%m-%dT%H:%M:%S.%fZ')"
        f" WHEN isinf({x}) THEN {shown} ELSE {ancient} END"
    )


def date_text(x: str) -> str:
    """Of a DATE."""
    return f"replace(CAST({x} AS VARCHAR), ' (BC)', ' BC')"


def compact_json(x: str) -> str:
    """Of JSON text: without the white space between tokens."""
    return f"regexp_replace(CAST({x} AS VARCHAR), '{_WHITE_SPACE_BETWEEN_TOKENS}', '\\1', 'g')"


def csv_field(x: str, *separators: str) -> str:
    """Of a text that could hold one of the separators (SQL literals), a quote or a line end: quoted where it must be."""
    marks = " OR ".join(f"contains({x}, {mark})" for mark in (*separators, "chr(10)", "chr(13)"))
    doubled = f"""'"' || replace({x}, '"', '""') || '"'"""
    return f"""CASE WHEN contains({x}, '"') THEN {doubled} WHEN {x} = '' OR {marks} THEN '"' || {x} || '"' ELSE {x} END"""
