"""How PostgreSQL spells nested values: JSON whose members are the canonical texts of their types, as every other source writes them.

Its own `to_json` does so for most arrays. It does not for times, four-byte floats, bytea and JSON with white space, at any depth.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from waybill.sources.sql import quote

SHAPES = """
WITH RECURSIVE seen(oid) AS (
    SELECT unnest(%s::text[]::regtype[])::oid
    UNION
    SELECT inner_type.oid
      FROM seen
      JOIN pg_type t ON t.oid = seen.oid
      CROSS JOIN LATERAL (
        SELECT t.typelem WHERE t.typcategory = 'A' AND t.typelem <> 0
         UNION ALL
        SELECT t.typbasetype WHERE t.typtype = 'd'
         UNION ALL
        SELECT r.rngsubtype FROM pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
         UNION ALL
        SELECT a.atttypid FROM pg_attribute a WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
      ) AS inner_type(oid)
)
SELECT format_type(t.oid, NULL), t.typtype, t.typcategory = 'A' AND t.typelem <> 0,
       coalesce(format_type(nullif(t.typelem, 0), NULL), ''), coalesce(format_type(nullif(t.typbasetype, 0), NULL), ''),
       coalesce((SELECT format_type(r.rngsubtype, NULL) FROM pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)), ''),
       array(SELECT ARRAY[a.attname::text, format_type(a.atttypid, NULL)] FROM pg_attribute a
              WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)
  FROM seen
  JOIN pg_type t ON t.oid = seen.oid
"""
"""What some types, given by their names, are made of, at any depth."""

_AS_TO_JSON_SPELLS_THEM = frozenset(
    ["smallint", "integer", "bigint", "numeric", "double precision", "boolean", "text", "character varying", "name", "uuid", "date"]
)
_MOST_DIMENSIONS = 6


@dataclass(frozen=True)
class Shape:
    """What one type is made of: an array of something, a composite with fields, a domain or a range over something, or none of these."""

    element: str = ""
    fields: tuple[tuple[str, str], ...] | None = None
    domain_over: str = ""
    range_over: str = ""


Shapes = Mapping[str, Shape]
"""By the name of a type, without modifier."""


def base(native: str) -> str:
    """Return a type without its modifier: `timestamp(3) with time zone` is `timestamp with time zone`."""
    return re.sub(r"\([^)]*\)", "", native)


def shapes(rows: list[tuple[str, str, bool, str, str, str, list[list[str]]]]) -> Shapes:
    """Return the shapes of all types, from the rows of `SHAPES`."""
    return {
        base(name): Shape(
            base(element) if is_array else "",
            tuple((field, base(native)) for field, native in fields) if kind == "c" else None,
            base(domain_over),
            base(range_over),
        )
        for name, kind, is_array, element, domain_over, range_over, fields in rows
    }


def resolved(native: str, known: Shapes) -> str:
    """The type below every domain, without its modifier."""
    name = base(native)
    while (shape := known.get(name)) and shape.domain_over:
        name = shape.domain_over
    return name


def shape_of(native: str, known: Shapes) -> Shape | None:
    """Return what an array or composite is made of; None for anything else."""
    shape = known.get(resolved(native, known))
    return shape if shape and (shape.element or shape.fields is not None) else None


def leaves(native: str, known: Shapes) -> frozenset[str]:
    """Return the plain types inside a type, and for a range the type it is over. A plain type is returned itself."""
    name = resolved(native, known)
    shape = known.get(name, Shape())
    inner = [shape.element, shape.range_over] + [field for _, field in shape.fields or ()]
    found = frozenset().union(*(leaves(member, known) for member in inner if member))
    return found or frozenset({name})


def json(x: str, native: str, known: Shapes, leaf: Callable[[str, str], str], depth: int = 0) -> str:
    """Return the canonical JSON of a value; NULL stays NULL. `leaf` spells a plain value as JSON."""
    shape = shape_of(native, known)
    if shape is None:
        return leaf(x, resolved(native, known))
    if shape.fields is not None:
        members = [
            f"{_name(name)} || coalesce({json(f'({x}).{quote(name)}', field, known, leaf, depth)}, 'null')" for name, field in shape.fields
        ]
        # A record whose fields are all NULL is NULL by IS NULL, though not by IS DISTINCT FROM.
        return f"CASE WHEN {x} IS DISTINCT FROM NULL THEN '{{' || {_joined(members)} || '}}' END"
    if resolved(shape.element, known) in _AS_TO_JSON_SPELLS_THEM:
        return f"to_json({x})::text"
    item, at = f"e{depth}", f"i{depth}"
    value = f"coalesce({json(f'u{depth}.{item}', shape.element, known, leaf, depth + 1)}, 'null')"
    opened, closed = _brackets(x, f"u{depth}.{at} - 1", "["), _brackets(x, f"u{depth}.{at}", "]")
    items = f"(SELECT unnest({x}) AS {item}, generate_series(1, cardinality({x})) AS {at}) AS u{depth}"
    listed = f"(SELECT string_agg({opened} || {value} || {closed}, ',' ORDER BY u{depth}.{at}) FROM {items})"  # noqa: S608 (expressions)
    return f"CASE WHEN cardinality({x}) = 0 THEN '[]' WHEN {x} IS NOT NULL THEN {listed} END"


def _brackets(x: str, place: str, bracket: str) -> str:
    """One bracket for each dimension that begins or ends at a place of the flattened array."""
    sizes = [f"coalesce(array_length({x}, {number}), 1)" for number in range(1, _MOST_DIMENSIONS + 1)]
    more = " + ".join(
        f"(array_ndims({x}) >= {number} AND ({place}) % ({' * '.join(sizes[number - 1 :])}) = 0)::int"
        for number in range(1, _MOST_DIMENSIONS + 1)
    )
    return f"CASE WHEN array_ndims({x}) = 1 AND ({place}) % {sizes[0]} <> 0 THEN '' ELSE repeat('{bracket}', {more}) END"


def _joined(members: list[str]) -> str:
    return " || ',' || ".join(members) or "''"


def _name(name: str) -> str:
    return f"to_json({quote(name, chr(39))}::text)::text || ':'"
