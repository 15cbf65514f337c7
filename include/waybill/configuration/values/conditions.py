"""Conditions on a column (`{column, op, value}`), the way to a tenant through other tables, and what makes a SELECT safe to wrap.

Everything here is identifiers and plain values. `waybill.sources.query` binds values and quotes identifiers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema

from waybill.canonical import ColumnType, parse_timestamp
from waybill.configuration.values.strict import Strict
from waybill.language import tell, unfit

Identifier = Annotated[str, StringConstraints(min_length=1)]
Operator = Literal["=", "!=", "<", "<=", ">", ">=", "in", "not in", "is null", "is not null"]
_SPELLINGS = {
    "==": "=", "eq": "=", "<>": "!=", "ne": "!=", "lt": "<", "le": "<=", "lte": "<=", "gt": ">", "ge": ">=", "gte": ">=",
    "not_in": "not in", "is_null": "is null", "null": "is null", "is_not_null": "is not null", "not null": "is not null",
    "not_null": "is not null",
}  # fmt: skip
_WITHOUT_VALUE = frozenset({"is null", "is not null"})
_LISTS = frozenset({"in", "not in"})
_NUMBERS = frozenset({ColumnType.INTEGER, ColumnType.DECIMAL, ColumnType.FLOAT})

Plain = bool | int | float | str


def _operator(value: Any) -> Any:
    word = " ".join(value.casefold().split()) if isinstance(value, str) else value
    return _SPELLINGS.get(word, word) if isinstance(word, str) else word


def _plain(value: Any) -> Any:
    """YAML reads an unquoted date as a date. It is kept as its ISO text."""
    if isinstance(value, list | tuple):
        return tuple(_plain(item) for item in value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if value is not None and not isinstance(value, bool | int | float | str):
        raise unfit("plain_value")
    return value


_VALUE_SCHEMA = {"anyOf": [{"type": kind} for kind in ("string", "number", "boolean", "null")] + [{"type": "array"}]}


class Condition(Strict):
    """One comparison of a column with a value. NULL meets no comparison but `is null`."""

    column: Identifier
    """The column that is compared."""
    op: Annotated[Operator, BeforeValidator(_operator)] = "="
    """How it is compared."""
    value: Annotated[Any, BeforeValidator(_plain), WithJsonSchema(_VALUE_SCHEMA)] = None
    """What it is compared with: a list for `in` and `not in`, nothing for `is null` and `is not null`."""

    def values(self) -> tuple[Plain, ...]:
        """Return what the column is compared with. There is nothing for `is null` and `is not null`."""
        if self.op in _WITHOUT_VALUE:
            return ()
        return self.value if isinstance(self.value, tuple) else (self.value,)

    def problem(self, kind: ColumnType | None) -> tuple[str, str] | None:
        """Return what is wrong with the value for a column of this type, and what is allowed, or None if nothing is."""
        if self.op in _WITHOUT_VALUE:
            return None if self.value is None else (tell("finding.takes_no_value", op=self.op), tell("allowed.takes_no_value"))
        if (self.op in _LISTS) != isinstance(self.value, tuple) or self.value in ((), None):
            return tell("finding.needs_values" if self.op in _LISTS else "finding.needs_one_value", op=self.op), ""
        if kind in (ColumnType.JSON, ColumnType.BINARY):
            return tell("finding.not_compared", type=kind), tell("allowed.not_compared")
        if kind is ColumnType.BOOLEAN and self.op not in ("=", "!="):
            return tell("finding.no_boolean", op=self.op), "=, !=, is null, is not null"
        wrong = next((value for value in self.values() if not _fits(value, kind)), None)
        if wrong is None:
            return None
        allowed = tell(_ALLOWED.get(kind or ColumnType.STRING, "allowed.text"))
        return tell("finding.not_of_type", value=_shown(wrong), type=kind), allowed


_ALLOWED = {
    ColumnType.BOOLEAN: "allowed.bool",
    ColumnType.INTEGER: "allowed.whole_number",
    ColumnType.DECIMAL: "allowed.number",
    ColumnType.FLOAT: "allowed.number",
    ColumnType.DATE: "allowed.date",
    ColumnType.TIMESTAMP: "allowed.timestamp",
    ColumnType.UUID: "allowed.uuid",
}


def _shown(value: Plain) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _fits(value: Plain, kind: ColumnType | None) -> bool:
    if kind is None:
        return True
    if kind is ColumnType.BOOLEAN or isinstance(value, bool):
        return kind is ColumnType.BOOLEAN and isinstance(value, bool)
    if kind in _NUMBERS:
        return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value) and kind is not ColumnType.INTEGER)
    if not isinstance(value, str):
        return False
    parsers: dict[ColumnType, Callable[[str], Any]] = {
        ColumnType.DATE: date.fromisoformat,
        ColumnType.TIMESTAMP: parse_timestamp,
        ColumnType.UUID: UUID,
    }
    try:
        parsers.get(kind, str)(value)
    except ValueError:
        return False
    return True


_ON = re.compile(r"^\s*([^=\s]+)\s*=\s*([^=\s]+)\s*\Z")


def _on(value: Any) -> Any:
    """`order_id` (both tables have it), `order_id = id`, or `{order_id: id}`: the column here to the column there."""
    if isinstance(value, str) and value.strip():
        match = _ON.match(value)
        return {match[1]: match[2]} if match else {value.strip(): value.strip()}
    return value


class Step(Strict):
    """One join on the way from an entity's table to its tenant: `on` maps a column of the table before to one of `table`.

    `column` of the last step is the one that holds the tenant.
    """

    table: Identifier
    """The next table on the way to the tenant."""
    on: Annotated[
        Mapping[str, str],
        BeforeValidator(_on),
        Field(min_length=1),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}}]}),
    ]
    """Which columns of the table before equal which of this one."""
    column: str = ""
    """In the last table: the column that tells the tenant."""


_TOKENS = re.compile(
    r"""(?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`)|(?P<comment>--|/\*)|(?P<dollar>\$\w*\$)|(?P<mark>[();?]|\$\d)|(?P<word>\w+)""",
)
_FORBIDDEN = frozenset(
    ["insert", "update", "delete", "merge", "into", "truncate", "alter", "drop", "create", "grant", "copy", "attach", "call"]
)


_PART = re.compile(
    r"\b(limit\s+[(\d]|offset\s+\d|fetch\s+(first|next)\b|tablesample\b|using\s+sample\b)|^\s*select\s+top\s+[(\d]", re.IGNORECASE
)
"""What keeps some rows of a query. Columns may be called limit or offset, too."""


def _outermost(query: str) -> str:
    """Return a query without its texts and without what stands in brackets, of which the first bracket stays."""
    depth, shown, end = 0, "", 0
    for match in _TOKENS.finditer(query):
        if match.lastgroup == "text" or match[0] in "()":
            shown += query[end : match.start()] if not depth else ""
            end = match.end()
            if match[0] == "(":
                shown, depth = shown + ("" if depth else "("), depth + 1
            elif match[0] == ")":
                depth -= 1
    return shown + query[end:]


def query_problem(query: str) -> tuple[str, str] | None:
    """Return why a text is not one SELECT that may stand in brackets, and what is allowed, or None if it is one."""
    allowed = "one SELECT without comments, semicolons and parameters"
    depth, first = 0, ""
    for match in _TOKENS.finditer(query):
        kind, piece = match.lastgroup, match[0].casefold()
        if kind in ("comment", "dollar"):
            return f"holds {piece!r}", allowed
        if kind == "mark":
            if piece in ";?" or piece.startswith("$"):
                return f"holds {piece!r}", allowed
            depth += 1 if piece == "(" else -1
            if depth < 0:
                return "closes a bracket that it did not open", allowed
        if kind == "word":
            first = first or piece
            if piece in _FORBIDDEN:
                return f"holds the word {piece.upper()}", allowed + "; put a name that is such a word into quotes"
    rest = _TOKENS.sub("", query)
    if depth or "'" in rest or '"' in rest or "`" in rest:
        return "does not close all its brackets and quotes", allowed
    if part := _PART.search(_outermost(query)):
        named = " ".join(word for word in part[0].upper().split() if word.isalpha())
        return f"keeps only some rows of all tenants together ({named})", "a condition on the rows; within brackets LIMIT may stand"
    return None if first in ("select", "with") else ("is no SELECT", allowed)
