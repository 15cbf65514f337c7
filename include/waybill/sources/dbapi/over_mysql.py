"""What only MySQL and MariaDB do behind a driver: how their values compare, which of them the server has to spell, and which tables a
statement of theirs names.

Drivers disagree about some values. Of a date such as `0000-00-00` some make None, which would leave as if it were absent; a SET is a text
or a set without an order, and bits are bytes or a number. What the server spells is the same through all of them. And in the place of a
character that the server cannot convert, it gives a question mark and says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from waybill.canonical import ColumnType
from waybill.configuration.values.columns import sources
from waybill.errors import PermanentError
from waybill.sources.dbapi.drivers import Cursor
from waybill.sources.dbapi.flavours import TableFlavour
from waybill.sources.dbapi.refusals import errors
from waybill.sources.query import Query
from waybill.sources.sql import Bind, Sql, integer_bounds, join, sql

OPEN = "SELECT 1 FROM {} WHERE 1 = 0"
_GEOMETRIES = frozenset(
    ["geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geometrycollection"]
)
_TIMES = {7: "timestamp", 10: "date", 12: "datetime"}
"""The numbers by which every driver of MySQL tells that a result's column holds times."""
_WHOLE = frozenset({"utf8mb4", "utf8mb3", "utf8", "ucs2", "utf16", "utf16le", "utf32", "gb18030", "latin1", "binary", None})
"""Character sets of which every text becomes UTF-8. Numbers and times count as text of the session's, which is utf8mb4."""
_PIECES = re.compile(
    r"""
    (?:--(?=\s|\Z)[^\n]* | \#[^\n]* | /\*(?!M?!).*?\*/ | /\*M?!\d* | \*/ | \s+)  # what counts as a blank: comments, but not their code
    | (?i: for \s+ (?: join | order \s+ by | group \s+ by ) \b )  # what an index hint is for: no clause begins there
    | (?P<text> '(?:[^'\\]|''|\\.)*' )
    | (?P<name> `(?:[^`]|``)*` | "(?:[^"\\]|""|\\.)*" | [\w$]+ )
    | (?P<mark> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_ENDS = frozenset(
    ["where", "group", "having", "order", "limit", "window", "union", "except", "intersect", "into", "procedure", "fetch", "values"]
)
_JOINS = frozenset(["join", "straight_join"])

Name = tuple[str, ...]
"""A table as a statement names it, in small letters, maybe behind its database."""


@dataclass(frozen=True)
class MySqlTable(TableFlavour):
    """Collations ignore case by default, and a number equals each text that begins with it."""

    def kind(self, native: str) -> ColumnType | None:
        declared = native.lower()
        return ColumnType.BINARY if declared.startswith("bit(") and declared != "bit(1)" else super().kind(native)

    def bounds(self, native: str) -> tuple[int, int] | None:
        return integer_bounds(native)

    def unfit(self, native: str) -> tuple[str, str] | None:
        is_geometry = native.lower() in _GEOMETRIES
        return ("which comes in bytes of MySQL's own", "Take ST_AsText of it in a view or query") if is_geometry else None

    def order(self, x: str, kind: ColumnType, native: str) -> str:
        return self.by_bytes(x) if self.is_textual(kind, native) else x

    def mixes(self, x: str, native: str, other: str) -> bool:
        return ColumnType.STRING in {self.kind(native), self.kind(other)}

    def by_bytes(self, x: str) -> str:
        return f"CAST(CONVERT({x} USING utf8mb4) AS BINARY)"

    def equal(self, x: str, native: str, value: str) -> Sql:
        """A collation may call texts equal that differ in case, accents or trailing blanks; the second comparison does not."""
        kind = self.kind(native)
        if kind is ColumnType.DECIMAL:  # beside a text it would be rounded to 53 bits, and equal to a text that only begins with it
            precision = native.lower().removesuffix(" zerofill").removesuffix(" unsigned")
            return sql("{} = CAST({} AS {})", x, Bind(value), precision if "(" in precision else "decimal(65,30)")
        shown = x if kind not in (ColumnType.INTEGER, ColumnType.BOOLEAN) else f"{x} + 0"  # without the zeros of ZEROFILL
        exact = sql("{} = CAST(CONVERT({} USING utf8mb4) AS BINARY)", self.by_bytes(shown), Bind(value))
        return sql("{} = {} AND {}", x, Bind(value), exact)

    def value(self, x: str, kind: ColumnType, native: str) -> str:
        """Return what is selected of a column: itself if every driver gives what is stored, else what the server makes of it.

        The server prints a FLOAT with six digits unless it is asked for as a double.
        """
        natural, declared = self.kind(native), native.lower()
        if natural is ColumnType.FLOAT:
            return f"CAST({x} AS DOUBLE)"
        if declared.startswith("bit"):
            return f"CAST({x} AS BINARY)"
        if natural is ColumnType.TIMESTAMP and kind is ColumnType.STRING:  # what is no day stays as it is
            moment = f"CONCAT(REPLACE(CAST({x} AS DATETIME(6)), ' ', 'T'), 'Z')"
            return f"CASE WHEN TO_DAYS({x}) IS NULL THEN CAST({x} AS CHAR) ELSE {moment} END"
        is_spelt = natural in (ColumnType.DATE, ColumnType.TIMESTAMP) or declared.startswith("set(")
        return f"CAST({x} AS CHAR)" if is_spelt else x


def hold(cursor: Cursor, openings: Collection[tuple[str, list[Any]]], where: str) -> None:
    """Hold relations against replacement until the transaction ends, by statements that open their tables, before its snapshot is taken.

    A table that is swapped in later (RENAME, EXCHANGE PARTITION, another view) may hold rows that an older snapshot does not show. The
    statements read no row: the first row that it reads gives a transaction its snapshot.
    """
    if openings:
        cursor.execute("START TRANSACTION READ ONLY")
    for opening in openings:
        with suppress(PermanentError), errors(where):  # what is wrong with a relation is told where it is read
            cursor.execute(*opening)
            cursor.fetchall()


def times_of_result(description: Iterable[Any]) -> dict[str, str]:
    """Return the native types of those columns of a query that hold times."""
    return {column[0]: _TIMES[column[1]] for column in description if column[1] in _TIMES}


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


@dataclass
class _Level:
    """What lies between two brackets. `expects` says that a table comes next, or a bracket that holds some."""

    selects: bool = False
    in_from: bool = False
    expects: bool = False


def tables_named(statement: str) -> set[Name]:
    """Return the tables that a statement, or the body of a function, reads, in every FROM clause: behind commas and joins, in brackets,
    subqueries, CTEs and UNION. Names of CTEs and table functions are among them.

    The server tells nobody: `EXPLAIN` shows aliases, and leaves out tables of one row and conditions that no row meets.
    """
    pieces = [(kind, found[0]) for found in _PIECES.finditer(statement) if (kind := found.lastgroup)]
    found: set[Name] = set()
    levels = [_Level()]
    at, after_brace = 0, False
    while at < len(pieces):
        (kind, piece), level = pieces[at], levels[-1]
        at += 1
        word = piece.casefold()
        if piece == "(":
            levels.append(_Level(in_from=level.expects, expects=level.expects))
            level.expects = False
        elif piece == ")":
            levels = levels[:-1] or [_Level()]
        elif piece == ";":
            levels = [_Level()]
        elif kind == "mark":
            level.expects = level.expects or (piece == "," and level.in_from)
        elif word == "select":
            levels[-1] = _Level(selects=True)
        elif (word == "from" and level.selects) or (word in _JOINS and level.in_from):
            level.in_from = level.expects = True
        elif word == "table":
            level.expects = True
        elif level.expects and kind == "name" and (word, pieces[at : at + 1]) != ("lateral", [("mark", "(")]) and not after_brace:
            name = [_bare(piece)]
            while at + 1 < len(pieces) and pieces[at][1] == "." and pieces[at + 1][0] == "name":
                name.append(_bare(pieces[at + 1][1]))
                at += 2
            found.add(tuple(name))
            level.expects = False
        elif word in _ENDS:
            level.in_from = level.expects = False
        after_brace = piece == "{"  # of ODBC: the word behind it is OJ
    return found


def _bare(piece: str) -> str:
    quote = piece[0] if piece[0] in '`"' else ""
    return (piece[1:-1].replace(quote * 2, quote) if quote else piece).casefold()
