"""What a database behind a driver tells of views, functions and tables behind an entity, for `waybill.sources.definitions`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from waybill.configuration.catalog import Entity
from waybill.sources import definitions
from waybill.sources.definitions import Definition
from waybill.sources.sql import Sql, sql

_VIEWS = {
    "SQLite": "SELECT name, sql FROM sqlite_master WHERE type = 'view'",
    "MySQL": "SELECT table_name, view_definition FROM information_schema.views WHERE table_schema = DATABASE()",
}
_FUNCTIONS = {
    "MySQL": """
SELECT routine_name, coalesce(routine_definition, last_altered) FROM information_schema.routines
 WHERE routine_schema = DATABASE() AND routine_type = 'FUNCTION'
"""
}
_COLUMNS = {
    "SQLite": """
SELECT m.name, x.name, x.type FROM sqlite_master AS m JOIN pragma_table_xinfo(m.name) AS x WHERE m.type = 'table' ORDER BY m.name, x.cid
""",
    "MySQL": """
SELECT table_name, column_name, column_type FROM information_schema.columns
 WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position
""",
}


def definition(ask: Callable[[Sql], Sequence[Any]], database: str, entity: Entity, columns: Mapping[str, str]) -> Definition:
    """Return what gives an entity's rows their values. `columns` are those of its relation.

    Views and queries find columns by name, so that every table behind them counts.
    """

    def texts(statements: Mapping[str, str]) -> dict[str, str]:
        return {name: text or "" for name, text in ask(sql(statements[database]))} if database in statements else {}

    views, functions = texts(_VIEWS), texts(_FUNCTIONS)
    if not entity.query and not definitions.behind(definitions.text_of(entity), views):
        return definitions.by_words(entity, views, functions, [(entity.relation, name, native) for name, native in columns.items()])
    return definitions.by_words(entity, views, functions, ask(sql(_COLUMNS[database])) if database in _COLUMNS else [])
