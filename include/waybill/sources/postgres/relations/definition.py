"""What PostgreSQL tells of views, functions and columns behind an entity, with any driver, for `waybill.sources.definitions`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping

from waybill.sources.definitions import Definition, Table
from waybill.sources.postgres.relations import materialized
from waybill.sources.postgres.relations.behind import Ask, Behind, Thing
from waybill.sources.query import Query
from waybill.sources.sql import Bind, Sql, join, sql

_COLUMNS = """
SELECT a.attrelid::bigint, a.attname, a.attnum, a.atttypid || '.' || a.atttypmod || '/' ||
       CASE WHEN a.atthasmissing THEN '' ELSE a.xmin::text END
  FROM pg_attribute a
 WHERE a.attrelid IN ({}) AND a.attnum > 0 AND NOT a.attisdropped
"""
"""The row of pg_attribute is written again by every alteration of its column, and when VACUUM FULL gives old rows its default."""
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


def definition(ask: Ask, system: str, query: Query, behind: Behind, timeline: str) -> Definition:
    """A view reads columns by their numbers, whatever they are called later, so that tables matter only where they are named.

    `system` tells databases apart. `timeline` is the one that the cluster writes, as far as it is known.
    """
    entity = query.entity
    tables = [thing for thing in behind.relations if thing.kind in ("r", "p")]
    own = {thing.place for thing in tables}
    called = [thing for thing in behind.of_functions if thing.is_own_table and thing.place not in own]
    read = [thing.place for thing in (*behind.behind_relations(), *called) if thing.kind != "v"]
    needed = None if entity.query else frozenset(entity.needed_columns)
    return {
        "views": behind.views(),
        "functions": behind.functions(),
        "policies": behind.policies(),
        "types": _types(ask, read, own, needed),
        "tables": _tables(ask, system, behind, [*called, *tables], {} if needed is None else dict.fromkeys(own, needed)),
        "refreshed": materialized.refreshed(ask, behind.materialized(), _rows_of(query, behind)),
        "timeline": timeline,
    }


def unseen(ask: Ask, behind: Behind) -> str:
    """Return which changes behind an entity nobody would notice, in words. The text is empty if there are none."""
    told = materialized.unseen(ask, behind.materialized()), behind.unfollowed(), behind.varying(), behind.elsewhere()
    return "; ".join(filter(None, told))


def _rows_of(query: Query, behind: Behind) -> dict[int, tuple[Sql, Sql]]:
    """Return the tenant's rows in the entity's relation."""
    return {} if query.entity.query else {thing.place: (query.relation, query.tenant()) for thing in behind.relations[:1]}


def _types(ask: Ask, read: list[int], direct: Iterable[int], needed: frozenset[str] | None) -> dict[str, str]:
    """Return the labels of enumerations and a digest of the names within composites, of the columns that are read."""
    if not read:
        return {}
    unneeded = sql("")
    if needed is not None and (own := ", ".join(map(str, direct))):
        names = join(", ", (sql("{}", Bind(name)) for name in sorted(needed)))
        unneeded = sql("AND (a.attrelid NOT IN ({}) OR a.attname IN ({}))", own, names)
    return dict(ask(sql(_TYPES, ", ".join(map(str, read)), unneeded)))


def _tables(ask: Ask, system: str, behind: Behind, tables: list[Thing], needed: Mapping[int, Container[str]]) -> dict[str, Table]:
    if not tables:
        return {}
    columns: dict[int, dict[str, tuple[int, str]]] = defaultdict(dict)
    for oid, name, number, mark in ask(sql(_COLUMNS, ", ".join(str(table.place) for table in tables))):
        if oid not in needed or name in needed[oid]:
            columns[oid][name] = number, mark
    return {
        table.full_name: {"of": f"{system}/{table.place}", "stored": behind.stored(table), "columns": columns[table.place]}
        for table in tables
    }
