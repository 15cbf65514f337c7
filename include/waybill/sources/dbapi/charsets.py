"""Texts that MySQL cannot convert. In the place of such a character it gives a question mark, and says nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from waybill.configuration.values.columns import sources
from waybill.errors import PermanentError
from waybill.sources.query import Query
from waybill.sources.sql import Sql, join, sql

_WHOLE = frozenset({"utf8mb4", "utf8mb3", "utf8", "ucs2", "utf16", "utf16le", "utf32", "gb18030", "latin1", "binary", None})
"""Character sets of which every text becomes UTF-8. Numbers and times count as text of the session's, which is utf8mb4."""


def refuse_unconvertible(database: str, query: Query, run: Callable[[Sql], list[Any]]) -> None:
    """Raise PermanentError if a selected row holds a text that would arrive with question marks in the place of characters.

    `run` executes a statement. Only columns whose character set has such characters are read.
    """
    if database != "MySQL":
        return
    names = list(dict.fromkeys([*sources(query.selection.columns), *query.entity.key]))
    asked = join(", ", (sql("CHARSET({})", query.flavour.name(name)) for name in names))
    for charsets in run(sql("SELECT {} FROM {} LIMIT 1", asked, query.relation)):
        for name, charset in zip(names, charsets, strict=True):
            if charset not in _WHOLE and (count := run(_unconvertible(query, name))[0][0]):
                raise PermanentError(
                    f"column {name} holds {count} texts with characters that the server cannot convert from {charset} to UTF-8",
                    where=query.entity.id,
                    code="source_unreadable",
                    next_step="Correct the texts (it would replace the characters by question marks), or leave the column out",
                )


def _unconvertible(query: Query, name: str) -> Sql:
    x = query.flavour.name(name)
    text = f"CONVERT({x} USING utf8mb4)"
    marks = " <> ".join(f"CHAR_LENGTH({some}) - CHAR_LENGTH(REPLACE({some}, '?', ''))" for some in (x, text))
    lost = sql(f"({marks} OR LOCATE(_utf8mb4 x'EFBFBD', {text}) > 0)")
    return sql("SELECT count(*) FROM {} WHERE {} AND {}", query.relation, query.where(), lost)
