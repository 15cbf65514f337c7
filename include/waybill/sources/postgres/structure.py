"""The structure of a PostgreSQL database, out of its system catalogues: five statements, however many tables there are."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from waybill.configuration.catalog import PostgresSource
from waybill.connection import Connections
from waybill.sources.postgres import session
from waybill.sources.postgres.spelling import BASE_TYPE, PostgresFlavour, render
from waybill.sources.sql import Sql, quote, quoted_name, sql
from waybill.sources.structures.base import FoundTable, Reference, found_column, written

_TABLES = """
SELECT c.oid, n.nspname, c.relname, c.relkind = 'p', coalesce(obj_description(c.oid, 'pg_class'), ''), c.reltuples::bigint,
       has_schema_privilege(n.oid, 'USAGE'), has_any_column_privilege(c.oid, 'SELECT'),
       (SELECT string_agg(lower(p.prosrc) || ' ' || lower(encode(t.tgargs, 'escape')), ' ')
          FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
         WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgtype & 19 = 19 AND t.tgenabled IN ('O', 'A') AND t.tgattr = ''),
       (SELECT sum(pg_stat_get_tuples_inserted(part)) > 0 AND sum(pg_stat_get_tuples_updated(part) + pg_stat_get_tuples_deleted(part)) = 0
          FROM (SELECT c.oid AS part UNION SELECT relid FROM pg_partition_tree(c.oid)) parts),
       row_security_active(c.oid), pg_table_is_visible(c.oid)
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't' AND NOT c.relispartition
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%%' AND n.nspname NOT LIKE 'pg\\_temp%%'
   AND NOT EXISTS (SELECT 1 FROM pg_inherits i WHERE i.inhrelid = c.oid)
   AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
   AND (%(schema)s = '' OR n.nspname = %(schema)s)
 ORDER BY n.nspname, c.relname
"""
_COLUMNS = f"""
SELECT a.attrelid, a.attname,
       t.native,
       a.attnotnull, coalesce(col_description(a.attrelid, a.attnum), ''),
       a.attidentity <> '' OR coalesce(pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%%', false),
       has_column_privilege(a.attrelid, a.attnum, 'SELECT')
  FROM pg_attribute a
  {BASE_TYPE}
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE a.attrelid = ANY(%s) AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attrelid, a.attnum
"""  # noqa: S608 (both parts are constants)
_INDEXES = """
SELECT i.indrelid, i.indisunique AND i.indexprs IS NULL,
       array(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY AS k(number, at)
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number WHERE k.at <= i.indnkeyatts ORDER BY k.at)
  FROM pg_index i
 WHERE i.indrelid = ANY(%s) AND i.indisvalid AND i.indpred IS NULL
 ORDER BY i.indrelid, i.indisprimary DESC, i.indnkeyatts, i.indexrelid
"""
_REFERENCES = """
SELECT f.conrelid, f.confrelid,
       array(SELECT a.attname::text FROM unnest(f.conkey) WITH ORDINALITY AS k(number, at)
               JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.number ORDER BY k.at),
       array(SELECT a.attname::text FROM unnest(f.confkey) WITH ORDINALITY AS k(number, at)
               JOIN pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.number ORDER BY k.at)
  FROM pg_constraint f
 WHERE f.contype = 'f' AND f.conrelid = ANY(%s)
 ORDER BY f.conrelid, f.conname
"""


@contextmanager
def look_into_postgres(spec: PostgresSource, connections: Connections) -> Iterator[PostgresStructure]:
    target = connections(spec.connection)
    where = f"PostgreSQL connection {spec.connection}"
    with session.connect(target) as connection, session.errors(where):
        session.begin(connection, "REPEATABLE READ", spec.statement_timeout)
        yield PostgresStructure(connection, where)


class PostgresStructure:
    """One read-only transaction. A statement that fails does not end it."""

    def __init__(self, connection: psycopg.Connection, where: str) -> None:
        self.connection = connection
        self.where = where

    def tables(self, schema: str) -> list[FoundTable]:
        found = self.connection.execute(_TABLES, {"schema": schema}).fetchall()
        oids = [row[0] for row in found]
        names = {oid: _relation(space, name, visible) for oid, space, name, *_, visible in found}
        columns, indexes, references = (self._by_table(text, oids) for text in (_COLUMNS, _INDEXES, _REFERENCES))
        flavour = PostgresFlavour()
        tables = []
        for oid, space, name, parted, comment, rows, usable, readable, triggers, inserts, filtered, _ in found:
            withheld = {c for c, *_, granted in columns[oid] if not granted} if usable and readable else set()
            lacking = [] if usable else [f"GRANT USAGE ON SCHEMA {quote(space)}"]
            lacking += [] if readable else [f"GRANT SELECT ON {quoted_name(names[oid])}"]
            tables.append(
                FoundTable(
                    names[oid],
                    name,
                    tuple(found_column(flavour, *facts) for *facts, _ in columns[oid] if facts[0] not in withheld),
                    tuple(tuple(key) for unique, key in indexes[oid] if unique and key and withheld.isdisjoint(key)),
                    tuple(
                        Reference(tuple(ours), names[to], tuple(theirs))
                        for to, ours, theirs in references[oid]
                        if to in names and withheld.isdisjoint(ours)
                    ),
                    frozenset(key[0] for _, key in indexes[oid] if key),
                    comment,
                    rows if rows > 0 and not parted else None,
                    _stamped(triggers, columns[oid]),
                    bool(inserts),
                    f"the connection's user may not read it; {' and '.join(lacking)} to it" if lacking else "",
                    tuple(c for c, *_ in columns[oid] if c in withheld),
                    bool(filtered),
                )
            )
        return tables

    def name(self, identifier: str) -> str:
        return quote(identifier)

    def relation(self, table: FoundTable) -> Sql:
        return sql("{}", quoted_name(table.relation))

    def ask(self, statement: Sql) -> list[Any]:
        text, values = render(statement)
        with session.errors(self.where), self.connection.transaction():
            return self.connection.execute(text, values).fetchall()

    def _by_table(self, text: str, oids: list[int]) -> dict[int, list[tuple[Any, ...]]]:
        found: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
        for oid, *rest in self.connection.execute(text, [oids]):
            found[oid].append(tuple(rest))
        return found


def _stamped(triggers: str | None, columns: list[tuple[Any, ...]]) -> frozenset[str]:
    """Return the columns that triggers before each update name, in their code or among their arguments."""
    named = set(re.findall(r"\w+", triggers or ""))
    return frozenset(name for name, *_ in columns if name.lower() in named)


def _relation(schema: str, name: str, visible: bool) -> str:
    """Return the name of a table as an entity's relation says it, which means this table and no other one of the search path."""
    return written(name) if schema == "public" and visible else written(schema, name)
