"""Row-level security of PostgreSQL: what is said where policies decide what a connection sees, and when that is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from waybill.configuration.selection import ChangeSpan, Selection
from waybill.errors import PermanentError
from waybill.sources.query import Query
from waybill.sources.sql import Sql, quote, sql


def tables_read(query: str | Sql) -> Sql:
    """Return the plan of what follows FROM. `tables_of` reads it."""
    return sql("EXPLAIN (VERBOSE, FORMAT JSON) SELECT * FROM {}", query)


def tables_of(plan: Any) -> list[str]:
    """Return every relation in the plan of `tables_read`, quoted."""
    return [".".join(quote(part) for part in names) for names in _named(plan)]


def _named(plan: Any) -> Iterator[tuple[str, str]]:
    if isinstance(plan, list):
        for node in plan:
            yield from _named(node)
    elif isinstance(plan, dict):
        if "Relation Name" in plan and "Schema" in plan:
            yield plan["Schema"], plan["Relation Name"]
        for node in plan.values():
            yield from _named(node)


def sentence(tables: Iterable[str]) -> str:
    """Return which rules hide rows, in words. The text is empty if nothing is hidden."""
    names = ", ".join(tables)
    return f"row-level security of {names} decides which rows this connection sees (row_security_active)" if names else ""


def require_rows(selection: Selection, query: Query, tables: Callable[[], list[str]], run: Callable[[Sql], Sequence[Any]]) -> None:
    """Refuse a full read that sees no row of the tenant while policies decide what it sees. `run` executes a statement.

    Raises PermanentError: the consumer would be told that the tenant has no rows.
    """
    if not selection.tenant or selection.changed != ChangeSpan() or not (hidden := tables()):
        return
    if not run(sql("SELECT 1 FROM {} WHERE {} LIMIT 1", query.relation, query.tenant())):
        raise PermanentError(
            f"the connection sees no row of the tenant, and row-level security of {', '.join(hidden)} applies to it",
            where=selection.entity.id,
            code="rows_hidden",
            next_step="Give the connection's user a policy that shows the rows, or the attribute BYPASSRLS",
        )
