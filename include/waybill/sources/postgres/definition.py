"""What PostgreSQL tells of views and columns behind an entity, for `waybill.sources.definitions`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import psycopg

from waybill.configuration.catalog import Entity
from waybill.sources import definitions
from waybill.sources.definitions import Definition, Table
from waybill.sources.postgres.spelling import relation_name

_BEGINNING = "SELECT to_regclass(name)::oid, true FROM unnest(%(names)s::text[]) AS named(name)"
_BEGINNING_OF_QUERY = """
SELECT c.oid, true FROM pg_class c
 WHERE lower(c.relname) = ANY(%(names)s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND pg_table_is_visible(c.oid)
"""
"""A query's words: a table that has the name of one and is not read does no harm unless somebody alters it."""
_BEHIND = """
WITH RECURSIVE behind(oid, named) AS (
    {}
    UNION
    SELECT d.refobjid, false
      FROM behind AS b
      JOIN pg_class v ON v.oid = b.oid AND v.relkind IN ('v', 'm')
      JOIN pg_rewrite w ON w.ev_class = v.oid
      JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
                      AND d.refobjid <> v.oid)
SELECT c.oid::bigint, format('%%I.%%I', n.nspname, c.relname), c.relkind::text, bool_or(behind.named),
       CASE WHEN c.relkind IN ('v', 'm') THEN md5(pg_get_viewdef(c.oid)) END
  FROM behind JOIN pg_class c ON c.oid = behind.oid JOIN pg_namespace n ON n.oid = c.relnamespace
 GROUP BY c.oid, n.nspname, c.relname, c.relkind
"""
_COLUMNS = """
SELECT a.attrelid::bigint, a.attname, a.attnum, a.atttypid || '.' || a.atttypmod || '/' ||
       CASE WHEN a.atthasmissing THEN '' ELSE a.xmin::text END
  FROM pg_attribute a
 WHERE a.attrelid = ANY(%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
"""
"""The row of pg_attribute is written again by every alteration of its column, and when VACUUM FULL gives old rows its default."""
_STORED = """
WITH RECURSIVE parts(root, oid) AS (
    SELECT unnest(%s::oid[]), unnest(%s::oid[])
    UNION
    SELECT p.root, i.inhrelid FROM parts p JOIN pg_inherits i ON i.inhparent = p.oid)
SELECT p.root::bigint, md5(string_agg(c.oid || ':' || c.relfilenode, ',' ORDER BY c.oid))
  FROM parts p JOIN pg_class c ON c.oid = p.oid
 GROUP BY p.root
"""
"""A column whose values are computed again gets its table another file, and so does VACUUM FULL, which alters no column."""


def definition(connection: psycopg.Connection, system: str, entity: Entity) -> Definition:
    """A view reads columns by their numbers, whatever they are called later, so that tables matter only where they are named."""
    if entity.query:
        statement, names = _BEHIND.format(_BEGINNING_OF_QUERY), sorted(definitions.words(entity.query))
    else:
        statement, names = _BEHIND.format(_BEGINNING), [relation_name(table) for table in (entity, *entity.parents())]
    found = connection.execute(statement.encode(), {"names": names}).fetchall()
    tables = {oid: name for oid, name, kind, named, _ in found if named and kind in ("r", "p")}
    needed = None if entity.query else frozenset(entity.needed_columns)
    return {
        "views": {name: text[:16] for _, name, _, _, text in found if text},
        "tables": _tables(connection, system, tables, needed),
    }


def _tables(connection: psycopg.Connection, system: str, tables: dict[int, str], needed: Iterable[str] | None) -> dict[str, Table]:
    if not tables:
        return {}
    oids = list(tables)
    stored: dict[int, str] = dict(connection.execute(_STORED, [oids, oids]).fetchall())
    columns: dict[int, dict[str, tuple[int, str]]] = defaultdict(dict)
    for oid, name, number, mark in connection.execute(_COLUMNS, [oids]).fetchall():
        if needed is None or name in needed:
            columns[oid][name] = number, mark
    return {name: {"of": f"{system}/{oid}", "stored": stored[oid][:16], "columns": columns[oid]} for oid, name in tables.items()}
