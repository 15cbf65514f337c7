"""Relations that were replaced since the snapshot was taken, of those that no lock holds: the snapshot would see an empty table.

Nobody locks what only some columns are granted of, or what only the owner of a view or function may read. A lock on a table does not hold
what its policies read, and one on a view does not hold what the functions read that it calls.
"""

from __future__ import annotations

from collections.abc import Collection

from waybill.errors import TransientError
from waybill.sources.postgres.relations.behind import Ask
from waybill.sources.sql import Bind, join, sql

_REPLACED = """
SELECT n.name
  FROM (VALUES {}) AS n(name)
  LEFT JOIN (pg_namespace AS s JOIN pg_class AS c ON c.relnamespace = s.oid)
    ON s.nspname = (parse_ident(n.name))[1] AND c.relname = (parse_ident(n.name))[2]
 WHERE (c.oid IS DISTINCT FROM to_regclass(n.name) OR c.relkind = 'r' AND c.relfilenode <> pg_relation_filenode(c.oid))
   AND EXISTS (SELECT FROM pg_locks AS l
                WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.relation IN (c.oid, to_regclass(n.name)))
 ORDER BY n.name
"""
"""Compares pg_class in the snapshot with the server now: another oid or another heap under a name means that it was replaced. Who has read
a relation holds it from then on: the text of a function may name what nobody reads.
"""


def require_kept(ask: Ask, names: Collection[str]) -> None:
    """Raise TransientError if one of these relations, given by their full names, was replaced since the snapshot was taken."""
    if not names:
        return
    rows = join(", ", (sql("({}::text)", Bind(name)) for name in sorted(names)))
    if replaced := [name for (name,) in ask(sql(_REPLACED, rows))]:
        raise TransientError(
            f"{', '.join(replaced)} was replaced while this was read",
            code="source_busy",
            next_step="It is tried again, with a snapshot that sees the new table",
        )
