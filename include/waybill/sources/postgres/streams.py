"""One snapshot over several sessions: each reads a range of the key, so that the server and the network work for all of them at once.

The first session exports its snapshot (`pg_export_snapshot`) and keeps its locks; the others import it and see the same rows. The ranges
come from the planner's statistics of the key, which costs no scan. A relation without statistics (a view, a query, a table that was never
analysed) is read over one session.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from copy import copy
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import psycopg

from waybill.configuration.selection import Selection
from waybill.sources.base import Rows, Stream
from waybill.sources.postgres import session
from waybill.sources.postgres.spelling import relation_name
from waybill.sources.query import Query, leading_key
from waybill.sources.sql import Sql

if TYPE_CHECKING:
    from waybill.sources.postgres.source import PostgresSnapshot

_BOUNDS = """
SELECT array(SELECT b::text AS bound FROM unnest(s.histogram_bounds::text::{native}[]) AS b ORDER BY {order})
  FROM pg_stats s
  JOIN pg_class c ON c.oid = to_regclass(%s)
  JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = s.schemaname
 WHERE s.tablename = c.relname AND s.attname = %s AND s.histogram_bounds IS NOT NULL AND s.inherited = (c.relkind = 'p')
"""


@contextmanager
def opened(snapshot: PostgresSnapshot, selection: Selection, most: int, statement_timeout: timedelta) -> Iterator[list[Stream]]:
    """Up to `most` streams, in the order of the key, that hold each selected row once."""
    conditions = _ranges(snapshot, selection, most)
    if len(conditions) < 2:
        yield [Rows(snapshot, selection)]
        return
    with ExitStack() as sessions, session.errors(snapshot.where):
        [(exported,)] = snapshot.connection.execute("SELECT pg_export_snapshot()").fetchall()
        streams: list[Stream] = []
        for condition in conditions:
            beside = copy(snapshot)
            beside.part = condition
            beside.connection = sessions.enter_context(snapshot.another())
            session.begin(beside.connection, "REPEATABLE READ", statement_timeout, snapshot.facts.search_path)
            beside.connection.execute(f"SET TRANSACTION SNAPSHOT '{exported}'".encode())
            streams.append(Rows(beside, selection, partial(_stop, beside.connection)))
        yield streams


def _stop(connection: psycopg.Connection) -> None:
    with suppress(psycopg.Error):
        connection.cancel_safe(timeout=5)


def _ranges(snapshot: PostgresSnapshot, selection: Selection, most: int) -> list[Sql]:
    if selection.entity.query or selection.changed.back:
        return []
    query = snapshot.query(selection)
    bounds = _bounds(snapshot, query)
    cuts = dict.fromkeys(bounds[number * len(bounds) // most] for number in range(1, most)) if len(bounds) > most else {}
    return query.parts(list(cuts), leading_key(selection.entity)) if cuts else []


def _bounds(snapshot: PostgresSnapshot, query: Query) -> list[str]:
    """The histogram of the key's leading column, in the order of the file."""
    name = leading_key(query.entity)
    native = query.natives[name]
    statement = _BOUNDS.format(native=native, order=query.flavour.order("b", query.kind(name), native))
    with session.errors(f"{query.entity.id} in {snapshot.where}"):
        row = snapshot.connection.execute(statement.encode(), [relation_name(query.entity), name]).fetchone()
    return list(row[0]) if row else []
