"""What PostgreSQL tells of views, functions and columns behind an entity, with any driver, for `waybill.sources.definitions`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from waybill.configuration.catalog import Entity
from waybill.sources import definitions, row_security
from waybill.sources.definitions import Definition, Table
from waybill.sources.postgres.functions import Ask, Behind
from waybill.sources.postgres.spelling import relation_name
from waybill.sources.sql import Bind, join, sql

_BEGINNING = "SELECT to_regclass(name)::oid, true FROM (VALUES {}) AS named(name)"
_BEGINNING_OF_QUERY = """
SELECT c.oid, true FROM pg_class c
 WHERE lower(c.relname) IN ({}) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND pg_table_is_visible(c.oid)
"""
"""A query's words: a table that has the name of one and is not read does no harm unless somebody alters it."""
_TABLES = """
SELECT c.oid::bigint, named.name FROM ({}) AS named(name) JOIN pg_class c ON c.oid = to_regclass(named.name) AND c.relkind IN ('r', 'p')
 WHERE c.oid >= 16384
"""
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
SELECT c.oid::bigint, format('%I.%I', n.nspname, c.relname), c.relkind::text, bool_or(behind.named),
       CASE WHEN c.relkind IN ('v', 'm') THEN md5(pg_get_viewdef(c.oid)) END
  FROM behind JOIN pg_class c ON c.oid = behind.oid JOIN pg_namespace n ON n.oid = c.relnamespace
 GROUP BY c.oid, n.nspname, c.relname, c.relkind
"""
_COLUMNS = """
SELECT a.attrelid::bigint, a.attname, a.attnum, a.atttypid || '.' || a.atttypmod || '/' ||
       CASE WHEN a.atthasmissing THEN '' ELSE a.xmin::text END
  FROM pg_attribute a
 WHERE a.attrelid IN ({}) AND a.attnum > 0 AND NOT a.attisdropped
"""
"""The row of pg_attribute is written again by every alteration of its column, and when VACUUM FULL gives old rows its default."""
_STORED = """
WITH RECURSIVE parts(root, oid) AS (
    SELECT oid, oid FROM pg_class WHERE oid IN ({})
    UNION
    SELECT p.root, i.inhrelid FROM parts p JOIN pg_inherits i ON i.inhparent = p.oid)
SELECT p.root::bigint, md5(string_agg(c.oid || ':' || c.relfilenode, ',' ORDER BY c.oid))
  FROM parts p JOIN pg_class c ON c.oid = p.oid
 GROUP BY p.root
"""
"""A column whose values are computed again gets its table another file, and so does VACUUM FULL, which alters no column."""


_TYPES = """
WITH RECURSIVE used(oid) AS (
    SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid IN ({}) AND a.attnum > 0 AND NOT a.attisdropped {}
    UNION
    SELECT n.oid
      FROM used u
      JOIN pg_type t ON t.oid = u.oid
     CROSS JOIN LATERAL (
           SELECT t.typelem WHERE t.typelem <> 0
            UNION ALL
           SELECT t.typbasetype WHERE t.typbasetype <> 0
            UNION ALL
           SELECT a.atttypid FROM pg_attribute a
            WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) AS n(oid))
SELECT used.oid::regtype || '/' || e.oid, e.enumlabel::text FROM used JOIN pg_enum e ON e.enumtypid = used.oid
 UNION ALL
SELECT used.oid::regtype::text, md5(string_agg(a.attname, ',' ORDER BY a.attnum))
  FROM used
  JOIN pg_type t ON t.oid = used.oid AND t.typtype = 'c'
  JOIN pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
 GROUP BY used.oid
"""
"""What stands in a row is the number of a label and the values of a composite: their names are not stored with it."""


def definition(ask: Ask, system: str, entity: Entity, behind: Behind, version: int) -> Definition:
    """A view reads columns by their numbers, whatever they are called later, so that tables matter only where they are named.

    `system` tells databases apart, and `version` is the server's, as libpq counts.
    """
    if entity.query:
        beginning = sql(_BEGINNING_OF_QUERY, join(", ", (sql("{}", Bind(word)) for word in sorted(definitions.words(entity.query)))))
    else:
        beginning = sql(_BEGINNING, join(", ", (sql("({}::text)", Bind(relation_name(named))) for named in (entity, *entity.parents()))))
    found = ask(sql(_BEHIND, beginning))
    tables = {oid: name for oid, name, kind, named, _ in found if named and kind in ("r", "p")}
    called = {oid: name for oid, name in ask(sql(_TABLES, row_security.listed(behind.tables()))) if oid not in tables}
    needed = None if entity.query else frozenset(entity.needed_columns)
    return {
        "views": behind.views() | {name: text[:16] for _, name, _, _, text in found if text},
        "functions": behind.functions(version),
        "policies": behind.policies(),
        "types": _types(ask, [oid for oid, _, kind, *_ in found if kind not in ("v",)] + list(called), tables, needed),
        "tables": _tables(ask, system, called, None) | _tables(ask, system, tables, needed),
    }


def _types(ask: Ask, read: list[int], direct: Iterable[int], needed: frozenset[str] | None) -> dict[str, str]:
    """Return the labels of enumerations and a digest of the names within composites, of the columns that are read."""
    if not read:
        return {}
    unneeded = sql("")
    if needed is not None and (own := ", ".join(map(str, direct))):
        names = join(", ", (sql("{}", Bind(name)) for name in sorted(needed)))
        unneeded = sql("AND (a.attrelid NOT IN ({}) OR a.attname IN ({}))", own, names)
    return dict(ask(sql(_TYPES, ", ".join(map(str, read)), unneeded)))


def _tables(ask: Ask, system: str, tables: dict[int, str], needed: Iterable[str] | None) -> dict[str, Table]:
    if not tables:
        return {}
    oids = ", ".join(map(str, tables))
    stored: dict[int, str] = dict(ask(sql(_STORED, oids)))
    columns: dict[int, dict[str, tuple[int, str]]] = defaultdict(dict)
    for oid, name, number, mark in ask(sql(_COLUMNS, oids)):
        if needed is None or name in needed:
            columns[oid][name] = number, mark
    return {name: {"of": f"{system}/{oid}", "stored": stored[oid][:16], "columns": columns[oid]} for oid, name in tables.items()}
