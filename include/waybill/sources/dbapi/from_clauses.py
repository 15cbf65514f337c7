"""Finds the tables that a statement of MySQL names, in every FROM clause: behind commas and joins, in brackets, subqueries, CTEs and UNION.

The server tells nobody: `EXPLAIN` shows aliases, and leaves out tables of one row and conditions that no row meets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

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


@dataclass
class _Level:
    """What lies between two brackets. `expects` says that a table comes next, or a bracket that holds some."""

    selects: bool = False
    in_from: bool = False
    expects: bool = False


def tables_named(statement: str) -> set[Name]:
    """Return the tables that a statement, or the body of a function, reads. Names of CTEs and table functions are among them."""
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
