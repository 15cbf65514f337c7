"""How PostgreSQL spells the pieces of a query."""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from waybill.canonical import ColumnType
from waybill.configuration.catalog import Entity
from waybill.sources.postgres import nested
from waybill.sources.postgres.nested import Shape, base
from waybill.sources.sql import Bind, Sql, integer_bounds, quote, quoted_name, sql

_KINDS = {
    "text": ColumnType.STRING,
    "character varying": ColumnType.STRING,
    "character": ColumnType.STRING,
    "name": ColumnType.STRING,
    "citext": ColumnType.STRING,
    "smallint": ColumnType.INTEGER,
    "integer": ColumnType.INTEGER,
    "bigint": ColumnType.INTEGER,
    "oid": ColumnType.INTEGER,
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
_TEXTS = (ColumnType.STRING, ColumnType.JSON)
"""Nothing else has a collation unless it becomes text."""
_FORMAT = """'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'"""
_TOKENS = r"""'("(?:[^"\\]|\\.)*")|[ \t\r\n]+'"""
_NO_NUMBERS = r"""'("(?:[^"\\]|\\.)*")|(NaN|-?Infinity)'"""
_NO_NULL = "9999e-7777777"
BASE_TYPE = """JOIN LATERAL (
       WITH RECURSIVE under AS (
         SELECT a.atttypid AS oid, a.atttypmod AS modifier
          UNION ALL
         SELECT d.typbasetype, d.typtypmod FROM under JOIN pg_type d ON d.oid = under.oid AND d.typtype = 'd')
       SELECT b.typname, format_type(b.oid, under.modifier) AS native FROM under JOIN pg_type b ON b.oid = under.oid AND b.typtype <> 'd'
  ) AS t ON true"""
"""Joins `t`, the type below every domain of attribute `a`; the innermost domain holds the modifier."""
KEEPS_NULLS_OUT = """(r.relkind = 'r' AND NOT EXISTS (SELECT FROM pg_inherits AS h WHERE h.inhparent = r.oid)
        OR r.relkind = 'p' AND NOT EXISTS
           (SELECT FROM pg_partition_tree(r.oid) AS p JOIN pg_class AS f ON f.oid = p.relid WHERE f.relkind = 'f'))"""
"""Whether NOT NULL holds for every row that is read of relation `r`. Tables that inherit may drop it, and nobody checks foreign tables."""
SCHEMA_IN_PATH = """(SELECT v.nspname FROM pg_class AS r JOIN pg_namespace AS v ON v.oid = r.relnamespace
        WHERE r.relname = {} AND pg_table_is_visible(r.oid))"""
"""The schema of the search path that a relation's name without one means."""
_MOST_ARGUMENTS = 90
"""PostgreSQL passes at most 100 arguments to a function."""
_MONEY = (
    "of which lc_monetary decides how many digits are decimals",
    "Store the amount as numeric, or export amount::numeric through a view where the currency has two decimals",
)
_RECORD = ("which has no named fields", "Cast it to a composite type in a view")
_OBJECT = ("whose text depends on search_path", "Export it as ::oid through a view")
_OBJECTS = ["regclass", "regcollation", "regconfig", "regdictionary", "regoper", "regoperator", "regproc", "regprocedure", "regtype"]
_UNFIT = {"money": _MONEY, "record": _RECORD} | dict.fromkeys(_OBJECTS, _OBJECT)
"""Types without a text that is the same for everybody who reads them: why, and what to do."""


def relation_name(entity: Entity) -> str:
    """Return an entity's table, view or query as it follows FROM."""
    if entity.query:
        return f"({entity.query}) AS q"
    return quoted_name(entity.relation)


@dataclass(frozen=True)
class PostgresFlavour:
    """`waybill.sources.sql.Flavour` for one relation. It counts on a session in UTC, ISO dates and extra_float_digits 1.

    `bytewise` holds the quoted names of the columns whose own collation is bytewise already, so that their index can serve the order;
    `loose` those whose equality takes different texts as equal; `shapes` what the relation's nested types are made of.
    """

    bytewise: AbstractSet[str] = frozenset()
    loose: AbstractSet[str] = frozenset()
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    naive: str = "timestamp without time zone"
    dynamic: bool = False

    def name(self, identifier: str) -> str:
        return quote(identifier)

    def literal(self, text: str) -> str:
        return "E" + quote(text.replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t"), "'")

    def kind(self, native: str) -> ColumnType | None:
        if native.endswith("[]") or nested.shape_of(native, self.shapes):
            return ColumnType.JSON
        return _KINDS.get(base(native))

    def bounds(self, native: str) -> tuple[int, int] | None:
        return integer_bounds(native)

    def unfit(self, native: str) -> tuple[str, str] | None:
        inside = nested.leaves(native, self.shapes) & _UNFIT.keys()
        return _UNFIT[min(inside)] if inside else None

    def unknown(self, native: str) -> bool:
        """Return whether only the server can tell what a type is made of."""
        return base(native) not in _KINDS

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
                if nested.shape_of(native, self.shapes):
                    return nested.json(x, native, self.shapes, self._json_leaf)
                return _json_text(x, native)
            case ColumnType.INTEGER if natural is ColumnType.DECIMAL:
                return _whole_text(x)
        return x

    def _json_leaf(self, x: str, native: str) -> str:
        """Return a plain value inside a nested one, as JSON."""
        kind = self.kind(native)
        match kind:
            case ColumnType.JSON:
                return _json_text(x, native)
            case ColumnType.TIMESTAMP | ColumnType.BINARY:
                return f"""'"' || ({self.text(x, kind, native)}) || '"'"""
            case ColumnType.FLOAT | ColumnType.DECIMAL:
                return f"to_json({self.text(x, kind, native)})::text"
            case ColumnType.INTEGER:
                return f"{x}::text"
            case ColumnType.BOOLEAN:
                return self.text(x, kind, native)
        return f"to_json({x}::text)::text"

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
        if text == x and x in self.bytewise:
            return text
        return f'({text}) COLLATE "C"' if self.kind(native) in _TEXTS else f'({text})::text COLLATE "C"'

    def joined(self, x: str, native: str, other: str) -> str:
        return x

    def mixes(self, x: str, native: str, other: str) -> bool:
        return x in self.loose and self.kind(native) is ColumnType.STRING

    def by_bytes(self, x: str) -> str:
        return bytewise(x)

    def equal(self, x: str, native: str, value: str) -> Sql:
        if self.kind(native) is None:
            return sql('{}::text COLLATE "C" = {}', x, Bind(value))
        same = sql("{} = {}", x, Bind(value))
        is_loose = x in self.loose or base(native) == "character"  # which ignores trailing blanks
        return sql('{} AND {}::text COLLATE "C" = {}', same, x, Bind(value)) if is_loose else same

    def quoted(self, x: str, delimiter: str) -> str:
        marks = self.literal(f'[{re.escape(delimiter)}"\r\n]')
        text = bytewise(x)
        return f"""CASE WHEN {text} = '' OR {text} ~ {marks} THEN '"' || replace({text}, '"', '""') || '"' ELSE {text} END"""

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


def bytewise(x: str) -> str:
    """Return a value as a text that is compared and searched by its bytes: PostgreSQL searches no text of a collation that takes
    different texts as equal.
    """
    return f'{x}::text COLLATE "C"'


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


def _whole_text(x: str) -> str:
    """Return the text of a numeric that is catalogued as integer.

    A value that is no whole number fails to become one, because NaN and the infinities have no scale.
    """
    refused = f"('no whole number' || left({x}::text, 0))::bigint::text"
    return f"CASE WHEN scale({x}) = 0 THEN {x}::text WHEN {x} = trunc({x}) AND scale({x}) >= 0 THEN trunc({x})::text ELSE {refused} END"


def _json_text(x: str, native: str) -> str:
    """Compact, token by token as it is spelt.

    json_strip_nulls writes JSON anew without white space, ten times as fast as the regular expression. Nulls survive it disguised as a
    number that does not occur otherwise; escapes would not always (`\\u00e9` becomes é), save jsonb's, which are in that spelling already.
    """
    text = f"{x}::text" if native in ("json", "jsonb") else _with_numbers_of_json(x)
    tokens = f"regexp_replace({text}, {_TOKENS}, '\\1', 'g')"
    safe = f"position('{_NO_NULL}' in {text}) = 0" + ("" if native == "jsonb" else f" AND position('\\' in {text}) = 0")
    rewritten = f"replace(json_strip_nulls(replace({text}, 'null', '{_NO_NULL}')::json)::text, '{_NO_NULL}', 'null')"
    compact = "" if native == "jsonb" else f" WHEN {text} !~ '[ \\t\\r\\n]' THEN {text}"
    spelt = f"CASE{compact} WHEN {safe} THEN {rewritten} ELSE {tokens} END"
    return spelt if native in ("json", "jsonb") else f"CASE WHEN {text}::json IS NOT NULL THEN {spelt} END"


def _with_numbers_of_json(x: str) -> str:
    """Return a text that is to be JSON, with NaN and infinities, which JSON does not have, as strings.

    The cast to JSON tells what is none.
    """
    text = bytewise(x)
    marked = f"regexp_replace({text}, {_NO_NUMBERS}, '\\1' || chr(1) || '\\2' || chr(2), 'g')"
    quoted = f"""replace(replace(replace({marked}, chr(1) || chr(2), ''), chr(1), '"'), chr(2), '"')"""
    return f"(CASE WHEN {text} ~ 'NaN|Infinity' THEN {quoted} ELSE {text} END)"


def render(statement: Sql) -> tuple[str, list[Any]]:
    return statement.render(lambda bind: f"%s::{bind.cast}" if bind.cast else "%s", lambda text: text.replace("%", "%%"))
