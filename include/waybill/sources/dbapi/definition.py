"""What a database behind a driver tells of views, functions and tables behind an entity, for `waybill.sources.definitions`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from waybill.configuration.catalog import Entity, Mode
from waybill.errors import PermanentError
from waybill.sources import definitions
from waybill.sources.dbapi.drivers import Database
from waybill.sources.dbapi.over_mysql import tables_named
from waybill.sources.definitions import Definition
from waybill.sources.sql import Bind, Sql, join, quote, split_name, sql

_MYSQL_SCHEMAS = """
SELECT schema_name, schema_name = DATABASE() FROM information_schema.schemata
 WHERE schema_name NOT IN ('information_schema', 'performance_schema', 'mysql', 'sys')
"""
_MYSQL_VIEWS = "SELECT table_name, view_definition FROM information_schema.views WHERE table_schema IN ({}) ORDER BY table_schema"
_MYSQL_FUNCTIONS = """
SELECT routine_name, coalesce(routine_definition, last_altered) FROM information_schema.routines
 WHERE routine_schema IN ({}) AND routine_type = 'FUNCTION' ORDER BY routine_schema
"""
_MYSQL_COLUMNS = """
SELECT table_name, column_name, column_type FROM information_schema.columns
 WHERE table_schema IN ({}) ORDER BY table_name, table_schema, ordinal_position
"""
_MYSQL_WITHOUT_TRANSACTIONS = """
SELECT t.table_schema, t.table_name, t.engine, t.table_schema = DATABASE()
  FROM information_schema.tables AS t
  JOIN information_schema.engines AS e ON e.engine = t.engine AND e.transactions <> 'YES'
 WHERE t.table_schema IN ({})
"""
_MYSQL_SHOWN = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema IN ({})"
_SQLITE_VIEWS = "SELECT name, sql FROM {}.sqlite_master WHERE type = 'view'"
_SQLITE_COLUMNS = """
SELECT m.name, x.name, x.type
  FROM {}.sqlite_master AS m
  JOIN pragma_table_xinfo(m.name, {}) AS x
 WHERE m.type = 'table'
 ORDER BY m.name, x.cid
"""

_MYSQL_GENERATED = """
SELECT table_name, column_name, generation_expression FROM information_schema.columns
 WHERE table_schema IN ({}) AND generation_expression <> ''{}
"""
_SQLITE_GENERATED = """
SELECT m.name, x.name, m.sql
  FROM {}.sqlite_master AS m
  JOIN pragma_table_xinfo(m.name, {}) AS x
 WHERE m.type = 'table' AND x.hidden IN (2, 3)
"""
"""SQLite tells an expression only within the statement that made the table."""

Ask = Callable[[Sql], Sequence[Any]]


@dataclass
class _Told:
    """The texts of views and functions by name. Things of one name in several schemas count as one, so that none is overlooked."""

    views: dict[str, str] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)
    schemas: list[str] = field(default_factory=list)

    def texts(self) -> str:
        return " ".join([*self.views.values(), *self.functions.values()])


class Structure:
    """What is behind entities in SQLite or MySQL. It is the same for a whole snapshot, so views and functions are asked for once."""

    def __init__(self, ask: Ask, database: str) -> None:
        self._ask = ask
        self._database = database
        self._told: dict[str, _Told] = {}

    def definition(self, entity: Entity, columns: Mapping[str, str]) -> Definition:
        """Return what gives an entity's rows their values. `columns` are those of its relation.

        Views and queries find columns by name, so that every table behind them counts.
        """
        told = self._of(entity)
        is_table = not entity.query and not definitions.behind(definitions.text_of(entity), told.views)
        if is_table:
            listed: Sequence[Any] = [(entity.relation, name, native) for name, native in columns.items()]
        elif self._database == "MySQL":
            listed = self._ask(sql(_MYSQL_COLUMNS, _names(told.schemas)))
        else:
            listed = [row for schema in told.schemas for row in self._ask(sql(_SQLITE_COLUMNS, quote(schema), Bind(schema)))]
        expressions = self._generated(told, split_name(entity.relation)[-1] if is_table else "")
        texts = [(table, name, native, expressions.get((split_name(table)[-1].casefold(), name), "")) for table, name, native in listed]
        return definitions.by_words(entity, told.views, told.functions, texts)

    def _generated(self, told: _Told, table: str) -> dict[tuple[str, str], str]:
        """Return the expressions of generated columns by table and name: those of one table, or of all."""
        rows: Sequence[Any] = []
        if self._database == "MySQL":
            one = sql(" AND table_name = {}", Bind(table)) if table else sql("")
            rows = self._ask(sql(_MYSQL_GENERATED, _names(told.schemas), one))
        elif self._database == "SQLite":
            rows = [row for schema in told.schemas for row in self._ask(sql(_SQLITE_GENERATED, quote(schema), Bind(schema)))]
        return {(name.casefold(), column): expression for name, column, expression in rows}

    def require_transactions(self, entity: Entity, database: Database) -> None:
        """Refuse a table without transactions, also behind views and queries, unless one statement reads everything."""
        if entity.changes.mode is Mode.FULL:
            return
        if not database.begin:
            raise PermanentError(
                "Waybill does not know how this database keeps statements in one snapshot: rows written while it is read would be lost",
                where=entity.id,
                code="no_snapshot",
                next_step=f"Set entities.{entity.id}.changes.mode to full, or let the database write Parquet files for a lake",
            )
        names = [joined.relation for joined in (entity, *entity.parents()) if joined.relation]
        statements = [statement for name in names if (statement := database.without_snapshots(split_name(name)))]
        found = [row for statement in statements for row in self._ask(statement)]
        for table, kind in (*found, *self._without_transactions(entity)):
            raise PermanentError(
                f"the table {table} has the engine {kind}, which has no transactions: rows written while it is read would be lost",
                where=entity.id,
                code="no_snapshot",
                next_step=f"ALTER TABLE {table} ENGINE = InnoDB, or set entities.{entity.id}.changes.mode to full",
            )

    def _without_transactions(self, entity: Entity) -> list[tuple[str, str]]:
        """Return the tables of MySQL behind views, functions and queries whose engine has no transactions, each with that engine.

        The text of a view names each table with its database, in quotes.
        """
        if self._database != "MySQL":
            return []
        text, told = definitions.text_of(entity), self._of(entity)
        texts = " ".join(definitions.behind(text, told.views).values())
        called = {name: body for name, body in told.functions.items() if re.search(rf"(?i)\b{re.escape(name)}`?\s*\(", f"{text} {texts}")}
        called |= definitions.behind(" ".join(called.values()), told.functions)
        queries = [table.query for table in (entity, *entity.parents()) if table.query]
        named = {name for query in queries for name in tables_named(query)}
        inside = {name for body in called.values() for name in tables_named(body)}
        if not texts and not named and not inside:
            return []
        return [
            (table, engine)
            for schema, table, engine, is_own in self._ask(sql(_MYSQL_WITHOUT_TRANSACTIONS, _names(told.schemas)))
            for whole, bare in [((schema.casefold(), table.casefold()), (table.casefold(),))]
            if f"`{schema}`.`{table}`" in texts or whole in named | inside or (is_own and bare in named) or bare in inside
        ]

    def unseen(self, entity: Entity) -> str:
        """Return which views, or tables behind them, MySQL hides from the login, in words. Such a view has an empty text."""
        views = definitions.behind(definitions.text_of(entity), self._of(entity).views)
        if self._database != "MySQL" or not views:
            return ""
        shown = {(schema.casefold(), table.casefold()) for schema, table in self._ask(sql(_MYSQL_SHOWN, _names(self._of(entity).schemas)))}
        tables = {name for text in views.values() for name in tables_named(text) if len(name) > 1} - shown
        hidden = sorted([*(name for name, text in views.items() if not text), *map(".".join, tables)])
        return definitions.hidden_from_login(hidden) if hidden else ""

    def _of(self, entity: Entity) -> _Told:
        text = definitions.text_of(entity)
        if text not in self._told:
            self._told[text] = {"SQLite": _sqlite, "MySQL": _mysql}.get(self._database, _nothing)(self._ask, entity)
        return self._told[text]


def _nothing(ask: Ask, entity: Entity) -> _Told:
    return _Told()


def _sqlite(ask: Ask, entity: Entity) -> _Told:
    """Look into every database that is attached to the connection."""
    told = _Told(schemas=[name for (name,) in ask(sql("SELECT name FROM pragma_database_list ORDER BY seq"))])
    for schema in told.schemas:
        _add(told.views, ask(sql(_SQLITE_VIEWS, quote(schema))))
    return told


def _mysql(ask: Ask, entity: Entity) -> _Told:
    """Look into the connection's own database, and into each that the texts found so far name."""
    own: set[str] = set()
    others: dict[str, str] = {}
    for name, is_own in ask(sql(_MYSQL_SCHEMAS)):
        if is_own:
            own.add(name)
        else:
            others[name.casefold()] = name
    told, text, new = _Told(), definitions.text_of(entity), own
    while True:
        new = new | {others.pop(word) for word in definitions.words(f"{text} {told.texts()}") & others.keys()}
        if not new:
            return told
        _add(told.views, ask(sql(_MYSQL_VIEWS, _names(new))))
        _add(told.functions, ask(sql(_MYSQL_FUNCTIONS, _names(new))))
        told.schemas, new = [*told.schemas, *sorted(new)], set()


def _names(schemas: Collection[str]) -> Sql:
    return join(", ", (sql("{}", Bind(name)) for name in sorted(schemas))) or sql("''")


def _add(found: dict[str, str], rows: Sequence[Any]) -> None:
    for name, text in rows:
        found[name] = f"{found.get(name, '')}{text or ''}"
