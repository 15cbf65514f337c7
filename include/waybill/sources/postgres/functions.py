"""What PostgreSQL reads for an entity behind its views: functions, and the relations that they read.

The server records what views and functions with parsed bodies (`BEGIN ATOMIC`) read. Of a body that is text, and of a query, the words
tell: whatever has the name of one counts as read. A name that a function puts together at run time is not found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from waybill.sources import row_security
from waybill.sources.definitions import words
from waybill.sources.sql import Bind, Sql, join, sql

Ask = Callable[[Sql], Sequence[Any]]
"""Executes a statement with whatever driver, and returns its rows."""

_QUERY = 0
"""The caller of what a query's own words name."""
_PARSED_BODIES = 140_000

NEXT = """
SELECT d.refclassid, d.refobjid
  FROM pg_rewrite w
  JOIN pg_class v ON v.oid = w.ev_class AND v.relkind = 'v'
  JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refobjid <> v.oid
 WHERE b.catalog = 'pg_class'::regclass AND w.ev_class = b.place AND d.refclassid IN {kinds}
 UNION ALL
SELECT d.refclassid, d.refobjid
  FROM pg_policy p
  JOIN pg_class t ON t.oid = p.polrelid AND t.relrowsecurity
  JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refobjid <> t.oid
 WHERE b.catalog = 'pg_class'::regclass AND p.polrelid = b.place AND d.refclassid IN {kinds}
 UNION ALL
SELECT d.refclassid, d.refobjid
  FROM pg_depend d
 WHERE b.catalog IN ('pg_proc'::regclass, 'pg_operator'::regclass) AND d.classid = b.catalog AND d.objid = b.place
   AND d.refclassid IN {kinds}
 UNION ALL
SELECT c.catalog, c.place FROM calls c WHERE b.catalog = 'pg_proc'::regclass AND c.caller = b.place
""".replace("{kinds}", "('pg_class'::regclass, 'pg_proc'::regclass, 'pg_operator'::regclass)")
"""What `b` reads. An operator reads what its function reads, and an aggregate what its functions read."""
_BEHIND = f"""
WITH RECURSIVE calls(caller, catalog, place) AS ({{}}),
behind(catalog, place) AS (
    SELECT 'pg_class'::regclass::oid, to_regclass(name)::oid FROM ({{}}) AS named(name)
    UNION
    SELECT c.catalog, c.place FROM calls c WHERE c.caller = {_QUERY}
    UNION
    SELECT n.catalog, n.place FROM behind AS b CROSS JOIN LATERAL ({NEXT}) AS n(catalog, place)),
functions AS (
    SELECT p.*
      FROM (SELECT DISTINCT place FROM behind WHERE catalog = 'pg_proc'::regclass) AS f
      JOIN pg_proc p ON p.oid = f.place
      JOIN pg_language l ON l.oid = p.prolang AND l.lanname NOT IN ('internal', 'c'))
"""  # noqa: S608 (constants)
_BODIES = "{} SELECT oid::bigint, prosrc || ' ' || coalesce(array_to_string(proconfig, ' '), '') FROM functions"
_NAMED = """
WITH said(caller, word) AS ({})
SELECT s.caller, 'pg_class'::regclass::oid::bigint, c.oid::bigint
  FROM said s
  JOIN pg_class c ON lower(c.relname) = s.word AND c.oid >= 16384
                 AND (c.relkind = 'v' OR c.relkind IN ('r', 'p', 'm', 'f') AND s.caller <> 0)
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE pg_table_is_visible(c.oid) OR EXISTS (SELECT FROM said o WHERE o.caller = s.caller AND o.word = lower(n.nspname))
 UNION
SELECT s.caller, 'pg_proc'::regclass::oid::bigint, p.oid::bigint
  FROM said s
  JOIN pg_proc p ON lower(p.proname) = s.word AND p.oid >= 16384 AND p.prorettype <> 'trigger'::regtype
  JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE pg_function_is_visible(p.oid) OR EXISTS (SELECT FROM said o WHERE o.caller = s.caller AND o.word = lower(n.nspname))
 UNION
SELECT s.caller, 'pg_operator'::regclass::oid::bigint, o.oid::bigint
  FROM said s
  JOIN pg_operator o ON o.oprname = s.word AND o.oid >= 16384
"""
"""What is younger than the server's own (16384) and is found by that name: in the search path, or where its schema is named too.

The plan of a query tells its tables, but neither its views nor its functions.
"""
_VIEWS = """
{}
SELECT format('%I.%I', n.nspname, c.relname), md5(pg_get_viewdef(c.oid))
  FROM (SELECT DISTINCT place FROM behind WHERE catalog = 'pg_class'::regclass) AS b
  JOIN pg_class c ON c.oid = b.place AND c.relkind = 'v'
  JOIN pg_namespace n ON n.oid = c.relnamespace
"""
_TABLES = """
{}
SELECT DISTINCT format('%I.%I', s.nspname, c.relname)
  FROM behind AS b
 CROSS JOIN LATERAL ({}) AS n(catalog, place)
  JOIN pg_class c ON c.oid = n.place AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  JOIN pg_namespace s ON s.oid = c.relnamespace
 WHERE b.catalog = 'pg_proc'::regclass AND n.catalog = 'pg_class'::regclass
"""
_LOCKABLE = """
SELECT named.name, format('%I.%I', n.nspname, c.relname)
  FROM ({}) AS named(name)
  JOIN pg_class c ON c.oid = to_regclass(named.name) AND c.relkind IN ('r', 'p', 'v') AND c.oid >= 16384
  JOIN pg_namespace n ON n.oid = c.relnamespace
"""
_FUNCTIONS = """
{}
SELECT oid::regprocedure::text,
       md5(concat_ws(E'\\n', prosrc, {}, pg_get_function_arguments(oid), pg_get_function_result(oid), array_to_string(proconfig, ','),
                     CASE WHEN prosecdef THEN proowner::text END))
  FROM functions
"""
_POLICIES = """
SELECT c.oid::regclass::text,
       md5(string_agg(concat_ws(',', p.polname, p.polpermissive, p.polroles::text, pg_get_expr(p.polqual, p.polrelid)), E'\\n'
                      ORDER BY p.polname))
  FROM ({}) AS named(name)
  JOIN pg_class c ON c.oid = to_regclass(named.name) AND c.oid >= 16384
  LEFT JOIN pg_policy p ON p.polrelid = c.oid AND p.polcmd IN ('r', '*')
 GROUP BY c.oid
"""


_SYMBOLS = re.compile(r"[-+*/<>=~!@#%^&|`?]+")


class Call(NamedTuple):
    """The body of `caller` names something: the row `place` of the catalog table `catalog`."""

    caller: int
    catalog: int
    place: int


def lockable(ask: Ask, names: Sequence[str]) -> dict[str, str]:
    """Return the tables and views among these names, in their order, each with the name that LOCK TABLE takes."""
    found = dict(ask(sql(_LOCKABLE, row_security.listed(names))))
    return {name: found[name] for name in names if name in found}


class Behind:
    """What is behind the relations of these names, or behind what a query's words name. Looked for once, in one transaction."""

    def __init__(self, ask: Ask, names: Sequence[str], query: str = "") -> None:
        self.names = names
        self.calls: list[Call] = []
        self._ask = ask
        waiting, seen = ({_QUERY: _words(query)} if query else {}), set[int]()
        while True:
            self._look_up(waiting)
            bodies = dict(ask(sql(_BODIES, self._behind)))
            waiting = {number: _words(body) for number, body in bodies.items() if number not in seen}
            if not waiting:
                break
            seen |= waiting.keys()
        self.has_functions = bool(seen)

    def _look_up(self, said: dict[int, set[str]]) -> None:
        pairs = [sql("({}::bigint, {}::text)", str(caller), Bind(word)) for caller in said for word in sorted(said[caller])]
        if pairs:
            self.calls += [Call(*row) for row in self._ask(sql(_NAMED, sql("VALUES {}", join(", ", pairs))))]

    @property
    def _behind(self) -> Sql:
        return sql(_BEHIND, self._written, row_security.listed(self.names))

    @property
    def _written(self) -> str:
        rows = (f"({call.caller}::oid, {call.catalog}::oid, {call.place}::oid)" for call in (Call(0, 0, 0), *self.calls))
        return f"VALUES {', '.join(rows)}"

    def tables(self) -> list[str]:
        """Return the quoted names of what functions read, beside `names`."""
        return [name for (name,) in self._ask(sql(_TABLES, self._behind, NEXT))] if self.has_functions else []

    def views(self) -> dict[str, str]:
        """Return a digest of each view's text, by its quoted name."""
        return {name: digest[:16] for name, digest in self._ask(sql(_VIEWS, self._behind))} if self.has_functions else {}

    @cached_property
    def hidden(self) -> list[str]:
        """Return the tables whose row-level security decides what this session sees."""
        return [name for (name,) in self._ask(row_security.hiding(self.names, self._written, NEXT))]

    def functions(self, version: int) -> dict[str, str]:
        """Return a digest of each function's definition. `version` is the server's, as libpq counts."""
        if not self.has_functions:
            return {}
        parsed = "pg_get_function_sqlbody(oid)" if version >= _PARSED_BODIES else "''"
        return {name: digest[:16] for name, digest in self._ask(sql(_FUNCTIONS, self._behind, parsed))}

    def policies(self) -> dict[str, str]:
        """Return a digest of the policies of each table that hides rows from this session."""
        return (
            {name: (digest or "")[:16] for name, digest in self._ask(sql(_POLICIES, row_security.listed(self.hidden)))}
            if self.hidden
            else {}
        )


def _words(text: str) -> set[str]:
    """Return what may name a relation, a function or an operator."""
    return {*words(text), *_SYMBOLS.findall(text)}
