"""Row-level security of PostgreSQL: finds the tables whose policies decide what a connection sees, with any driver."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from waybill.configuration.selection import Changed, Selection
from waybill.errors import PermanentError
from waybill.sources.query import Query
from waybill.sources.sql import Bind, Sql, join, quote, sql

_HIDING = """
WITH RECURSIVE me AS (SELECT oid FROM pg_roles WHERE rolname = current_user),
calls(caller, catalog, place) AS ({}),
reads(catalog, place, reader, account) AS (
    SELECT 'pg_class'::regclass::oid, to_regclass(name)::oid, me.oid, me.oid FROM me, ({}) AS named(name)
    UNION
    SELECT c.catalog, c.place, me.oid, me.oid FROM me, calls c WHERE c.caller = 0
    UNION
    SELECT n.catalog,
           n.place,
           CASE WHEN v.oid IS NULL OR v.reloptions && '{security_invoker=true,security_invoker=on,security_invoker=1}' THEN b.account
                WHEN v.relkind = 'v' THEN v.relowner
                ELSE b.reader END,
           CASE WHEN f.prosecdef THEN f.proowner ELSE b.account END
      FROM reads AS b
     CROSS JOIN LATERAL ({}) AS n(catalog, place)
      LEFT JOIN pg_class v ON b.catalog = 'pg_class'::regclass AND v.oid = b.place
      LEFT JOIN pg_proc f ON n.catalog = 'pg_proc'::regclass AND f.oid = n.place
)
SELECT DISTINCT c.oid::regclass::text
  FROM reads r
  JOIN pg_class c ON r.catalog = 'pg_class'::regclass AND c.oid = r.place
  JOIN pg_roles u ON u.oid = r.reader
 WHERE c.relrowsecurity AND NOT u.rolsuper AND NOT u.rolbypassrls
   AND (c.relforcerowsecurity OR NOT pg_has_role(r.reader, c.relowner, 'USAGE'))
 ORDER BY 1
"""
"""A view that reads as its invoker reads as the session's user, also where a view with an owner's rights is in between. A function runs as
that user, too, and as its owner where it says so (SECURITY DEFINER), with everything it calls.
"""

_UNHIDDEN = "pg_catalog.pg_class"


def hiding(relations: Iterable[str], calls: str, following: str) -> Sql:
    """Return the tables whose policies decide what these relations show, views by the tables and the account they read as.

    `calls` and `following` are those of `waybill.sources.postgres.functions`.
    """
    return sql(_HIDING, calls, listed(relations), following)


def listed(relations: Iterable[str]) -> Sql:
    """Return names as rows. A query may read no table, and VALUES must hold a row."""
    return sql("VALUES {}", join(", ", (sql("({}::text)", Bind(name)) for name in (_UNHIDDEN, *relations))))


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
    if not selection.tenant or selection.changed != Changed() or not (hidden := tables()):
        return
    if not run(sql("SELECT 1 FROM {} WHERE {} LIMIT 1", query.relation, query.tenant())):
        raise PermanentError(
            f"the connection sees no row of the tenant, and row-level security of {', '.join(hidden)} applies to it",
            where=selection.entity.id,
            code="rows_hidden",
            next_step="Give the connection's user a policy that shows the rows, or the attribute BYPASSRLS",
        )
