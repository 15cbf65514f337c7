"""Materialized views: a refresh brings rows with change positions that a stream has long passed, and no later delta would find them.

`REFRESH MATERIALIZED VIEW` gives the view another file. `CONCURRENTLY`, which takes a unique index, writes only the rows that differ: then
it is the transactions that wrote the rows, and how many each, that are others than before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from waybill.sources.postgres.relations.behind import Ask, Thing
from waybill.sources.sql import Sql, sql

_RIGHTS = """
SELECT c.oid::bigint, has_table_privilege(c.oid, 'SELECT')
  FROM pg_class c
 WHERE c.oid IN ({})
   AND EXISTS (SELECT FROM pg_index i
                WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL)
"""
_VERSIONS = """
SELECT md5(string_agg(version || ':' || rows, ',' ORDER BY version))
  FROM (SELECT xmin::text AS version, count(*) AS rows FROM {} WHERE {} GROUP BY 1) AS v
"""


def _readable(ask: Ask, views: Iterable[Thing]) -> dict[int, bool]:
    """Return the views that can be refreshed concurrently, and of each whether its rows may be looked at."""
    places = ", ".join(str(view.place) for view in views)
    return dict(ask(sql(_RIGHTS, places))) if places else {}


def unseen(ask: Ask, views: list[Thing]) -> str:
    """Return which refreshes nobody would notice, in words. The text is empty if there are none."""
    readable = _readable(ask, views)
    names = ", ".join(view.full_name for view in views if readable.get(view.place) is False)
    return (
        f"the connection's user may not SELECT from {names}: rows that REFRESH MATERIALIZED VIEW CONCURRENTLY changes may be missed"
        if names
        else ""
    )


def refreshed(ask: Ask, views: list[Thing], rows_of: Mapping[int, tuple[Sql, Sql]]) -> dict[str, str]:
    """Return a mark for each view, `file/rows`, of which the second part is empty if it cannot tell anything.

    `rows_of` holds the relation and the condition for those of which only some rows matter.
    """
    readable = _readable(ask, views)
    marks = {}
    for view in views:
        versions = ""
        if readable.get(view.place):
            [(digest,)] = ask(sql(_VERSIONS, *rows_of.get(view.place, (sql("{}", view.full_name), sql("true")))))
            versions = (digest or "none")[:16]
        marks[view.full_name] = f"{view.place}.{view.storage}/{versions}"
    return marks
