"""How PostgreSQL spells the pieces of a query."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime

from waybill.canonical import ColumnType
from waybill.configuration.catalog import Entity
from waybill.sources.sql import Bind, Sql, quote, split_name, sql

_KINDS = {
    "text": ColumnType.STRING,
    "character varying": ColumnType.STRING,
    "character": ColumnType.STRING,
    "name": ColumnType.STRING,
    "citext": ColumnType.STRING,
    "smallint": ColumnType.INTEGER,
    "integer": ColumnType.INTEGER,
    "bigint": ColumnType.INTEGER,
    "numeric": ColumnType.DECIMAL,
    "real": ColumnType.FLOAT,
    "double precision": ColumnType.FLOAT,
    "boolean": ColumnType.BOOLEAN,
    "date": ColumnType.DATE,
    "timestamp with time zone": ColumnType.TIMESTAMP,
    "timestamp without time zone": ColumnType.TIMESTAMP,
    "uuid": ColumnType.UUID,
    "json": ColumnType.JSON,
    "jsonb": ColumnType.JSON,
    "bytea": ColumnType.BINARY,
}
_FORMAT = """'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'"""
_TOKENS = r"""'("(?:[^"\\]|\\.)*")|[ \t\r\n]+'"""
_NO_NULL = "9999e-7777777"
BASE_TYPE = """JOIN LATERAL (
       WITH RECURSIVE under AS (
         SELECT a.atttypid AS oid, a.atttypmod AS modifier
          UNION ALL
         SELECT d.typbasetype, d.typtypmod FROM under JOIN pg_type d ON d.oid = under.oid AND d.typtype = 'd')
       SELECT b.typname, format_type(b.oid, under.modifier) AS native FROM under JOIN pg_type b ON b.oid = under.oid AND b.typtype <> 'd'
  ) AS t ON true"""
"""Joins `t`, the type below every domain of attribute `a`; the innermost domain holds the modifier."""
_MOST_ARGUMENTS = 90
"""PostgreSQL passes at most 100 arguments to a function."""


def base(native: str) -> str:
    """A type without its modifier: `timestamp(3) with time zone` is `timestamp with time zone`."""
    return re.sub(r"\([^)]*\)", "", native)


def relation_name(entity: Entity) -> str:
    """An entity's table, view or query as it stands behind FROM."""
    if entity.query:
        return f"({entity.query}) AS q"
    return ".".join(quote(part) for part in split_name(entity.relation))


@dataclass(frozen=True)
class PostgresFlavour:
    """`waybill.sources.sql.Flavour` for one relation. It counts on a session in UTC, ISO dates and extra_float_digits 1.

    `bytewise` holds the quoted names of the columns whose own collation is bytewise already, so that their index can serve the order;
    `loose` those whose equality takes different texts as equal.
    """

    bytewise: AbstractSet[str] = frozenset()
    loose: AbstractSet[str] = frozenset()
    naive: str = "timestamp without time zone"

    def name(self, identifier: str) -> str:
        return quote(identifier)

    def literal(self, text: str) -> str:
        return "E" + quote(text.replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t"), "'")

    def kind(self, native: str) -> ColumnType | None:
        return ColumnType.JSON if native.endswith("[]") else _KINDS.get(base(native))

    def text(self, x: str, kind: ColumnType, native: str) -> str:
        natural = self.kind(native)
        if kind is ColumnType.STRING and natural is not ColumnType.STRING:
            kind = natural or ColumnType.STRING
        match kind:
            case ColumnType.TIMESTAMP:
                return _timestamp_text(x, native)
            case ColumnType.BOOLEAN:
                return f"CASE WHEN {x} THEN 'true' WHEN NOT {x} THEN 'false' END"
            case ColumnType.STRING:
                return x if native == "text" or native.startswith("character varying") else f"{x}::text"
            case ColumnType.FLOAT:
                return x if native == "double precision" else f"{x}::text::float8"
            case ColumnType.BINARY:
                return f"translate(encode({x}, 'base64'), E'\\n', '')"
            case ColumnType.UUID:
                return x if natural is ColumnType.UUID else f"{x}::uuid"
            case ColumnType.JSON:
                return _json_text(x, native)
        return x

    def instant(self, x: str, native: str) -> str:
        return f"({x} AT TIME ZONE 'UTC')" if base(native) == "timestamp with time zone" else f"{x}::timestamp"

    def bind_instant(self, value: datetime, native: str) -> Sql:
        if base(native) == "timestamp with time zone":
            return sql("{}", Bind(value, "timestamptz"))
        return sql("{}", Bind(value.astimezone(UTC).replace(tzinfo=None), "timestamp"))

    def order(self, x: str, kind: ColumnType, native: str) -> str:
        if kind not in (ColumnType.STRING, ColumnType.JSON):
            return x
        text = self.text(x, kind, native)
        return text if text == x and x in self.bytewise else f'({text}) COLLATE "C"'

    def equal(self, x: str, native: str, value: str) -> Sql:
        if self.kind(native) is None:
            return sql('{}::text COLLATE "C" = {}', x, Bind(value))
        same = sql("{} = {}", x, Bind(value))
        return sql('{} AND {}::text COLLATE "C" = {}', same, x, Bind(value)) if x in self.loose else same

    def quoted(self, x: str, delimiter: str) -> str:
        marks = self.literal(f'[{re.escape(delimiter)}"\r\n]')
        return f"""CASE WHEN {x}::text = '' OR {x}::text ~ {marks} THEN '"' || replace({x}::text, '"', '""') || '"' ELSE {x}::text END"""

    def concat(self, pieces: list[str]) -> str:
        while len(pieces) > _MOST_ARGUMENTS:
            pieces = [self.concat(pieces[at : at + _MOST_ARGUMENTS]) for at in range(0, len(pieces), _MOST_ARGUMENTS)]
        return f"concat({', '.join(pieces)})"

    def pseudonym(self, x: str, inner: Bind, outer: Bind) -> Sql:
        salted = sql("sha256({} || convert_to(({})::text, 'UTF8'))", Bind(inner.value, "bytea"), x)
        return sql("encode(sha256({} || {}), 'hex')", Bind(outer.value, "bytea"), salted)

    def sha16(self, x: str) -> Sql:
        return sql("substring(sha256(convert_to({}, 'UTF8')) FROM 1 FOR 16)", x)

    def among(self, x: Sql, digests: tuple[bytes, ...]) -> Sql:
        return sql("{} = ANY({})", x, Bind(list(digests), "bytea[]"))


def _timestamp_text(x: str, native: str) -> str:
    """to_char is the slow way, needed for 1 to 5 fraction digits only. It makes NULL of infinity and drops the era.

    The native text costs half as much: it has a blank for the T and no fraction, or all six digits.
    """
    kind = "timestamptz" if base(native) == "timestamp with time zone" else "timestamp"
    written = f"to_char({x}, {_FORMAT})"
    naive = x if base(native) == "timestamp without time zone" else f"{x}::timestamp"
    shown = f"replace({naive}::text, ' ', 'T')"
    return (
        f"CASE WHEN {x} >= '0001-01-01' AND {x} < '10000-01-01' THEN"
        f" CASE WHEN {x} = {x}::{kind}(0) THEN {shown} || '.000000Z' WHEN {x} <> {x}::{kind}(5) THEN {shown} || 'Z' ELSE {written} END"
        f" WHEN {x} >= '0001-01-01' AND {x} < 'infinity' THEN {written}"
        f" WHEN isfinite({x}) THEN {written} || ' BC' ELSE {x}::text END"
    )


def _json_text(x: str, native: str) -> str:
    """Compact, token by token as it is spelt.

    json_strip_nulls writes JSON anew without white space, ten times as fast as the regular expression. Nulls survive it disguised as a
    number that does not occur otherwise; escapes would not always (`\\u00e9` becomes é), save jsonb's, which are in that spelling already.
    """
    if native.endswith("[]"):
        return f"to_json({x})::text"
    text = f"{x}::text"
    tokens = f"regexp_replace({text}, {_TOKENS}, '\\1', 'g')"
    safe = f"position('{_NO_NULL}' in {text}) = 0" + ("" if native == "jsonb" else f" AND position('\\' in {text}) = 0")
    rewritten = f"replace(json_strip_nulls(replace({text}, 'null', '{_NO_NULL}')::json)::text, '{_NO_NULL}', 'null')"
    compact = "" if native == "jsonb" else f" WHEN {text} !~ '[ \\t\\r\\n]' THEN {text}"
    return f"CASE{compact} WHEN {safe} THEN {rewritten} ELSE {tokens} END"
