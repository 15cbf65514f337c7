"""The structure of a DuckDB file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from waybill.sources.duckdb import engine
from waybill.sources.duckdb.source import DuckDB
from waybill.sources.sql import Bind, Sql, quote, quoted_name, sql
from waybill.sources.structures.base import FoundTable, Reference, found_column, written

_FLAVOUR = engine.DuckDBFlavour()
_OWN = "database_name = 'warehouse' AND ({} = '' OR schema_name = {})"


@contextmanager
def look_into_duckdb(path: Path) -> Iterator[DuckDBStructure]:
    with DuckDB(path).snapshot() as snapshot:
        yield DuckDBStructure(snapshot.connection, f"DuckDB file {path}")


class DuckDBStructure:
    """One read-only transaction over the attached file."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, where: str) -> None:
        self.connection = connection
        self.where = where

    def tables(self, schema: str) -> list[FoundTable]:
        listed = self._own("SELECT schema_name, table_name, coalesce(comment, ''), estimated_size FROM duckdb_tables()", schema)
        views = self._own("SELECT schema_name, view_name, coalesce(comment, ''), NULL FROM duckdb_views()", schema, " AND NOT internal")
        columns = self._own(
            "SELECT schema_name, table_name, column_name, data_type, NOT is_nullable, coalesce(comment, ''),"
            " coalesce(column_default LIKE 'nextval(%', false) FROM duckdb_columns()",
            schema,
            order=" ORDER BY column_index",
        )
        constraints = self._own(
            "SELECT schema_name, table_name, constraint_type, constraint_column_names, referenced_table, referenced_column_names"
            " FROM duckdb_constraints()",
            schema,
        )
        by_table, bound = defaultdict(list), defaultdict(list)
        for space, table, *rest in columns:
            by_table[space, table].append(rest)
        for space, table, *rest in constraints:
            bound[space, table].append(rest)
        found = []
        for space, name, comment, rows in sorted([*listed, *views]):
            facts = bound[space, name]
            keys = sorted(
                (constraint for constraint in facts if constraint[0] in ("PRIMARY KEY", "UNIQUE")),
                key=lambda constraint: (constraint[0] != "PRIMARY KEY", len(constraint[1])),
            )
            found.append(
                FoundTable(
                    _relation(space, name),
                    name,
                    tuple(found_column(_FLAVOUR, c, native, *rest) for c, native, *rest in by_table[space, name]),
                    tuple(tuple(key) for _, key, *_ in keys),
                    tuple(
                        Reference(tuple(own), _relation(space, to), tuple(theirs))
                        for kind, own, to, theirs in facts
                        if kind == "FOREIGN KEY"
                    ),
                    frozenset(key[0] for _, key, *_ in keys),
                    comment,
                    rows,
                )
            )
        return found

    def name(self, identifier: str) -> str:
        return quote(identifier)

    def relation(self, table: FoundTable) -> Sql:
        return sql("{}", f"{quote('warehouse')}.{quoted_name(table.relation)}")

    def ask(self, statement: Sql) -> list[Any]:
        with engine.errors(self.where):
            return engine.run(self.connection, statement)

    def _own(self, query: str, schema: str, condition: str = "", order: str = "") -> list[Any]:
        own = sql(_OWN, Bind(schema), Bind(schema))
        return self.ask(sql("{} WHERE {}{}{}", query, own, condition, order))


def _relation(schema: str, name: str) -> str:
    return written(name) if schema == "main" else written(schema, name)
