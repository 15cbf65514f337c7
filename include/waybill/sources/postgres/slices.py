"""One snapshot over several sessions: each reads a range of the key, so that the server and the network work for all of them at once.

The delivery's own session exports its snapshot (`pg_export_snapshot`), keeps its locks and reads the first range; the others import the
snapshot and see the same rows. The ranges come from the planner's statistics of the first column of the key that parts the rows evenly,
which costs no scan. A relation without statistics (a view, a query, a table that was never analysed) is read over one session.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg

from waybill.configuration.selection import Selection
from waybill.errors import TransientError
from waybill.sources.base import Rows, Slice
from waybill.sources.postgres import session
from waybill.sources.postgres.spelling import relation_name
from waybill.sources.query import Query, within_tenant
from waybill.sources.sql import Sql

if TYPE_CHECKING:
    from waybill.sources.postgres.source import PostgresSnapshot

_log = logging.getLogger(__name__)

_VALUES = """
SELECT {spelling} AS spelling, weight
  FROM pg_stats s
  JOIN pg_class c ON c.oid = to_regclass(%s)
  JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = s.schemaname,
  LATERAL (
    SELECT f.value, f.share::float8
      FROM (SELECT unnest(s.most_common_vals::text::{native}[]), unnest(s.most_common_freqs)) AS f(value, share)
    UNION ALL
    SELECT value, (1 - s.null_frac - coalesce((SELECT sum(f) FROM unnest(s.most_common_freqs) AS f), 0))
                  / array_length(s.histogram_bounds::text::{native}[], 1)
      FROM (SELECT unnest(s.histogram_bounds::text::{native}[])) AS h(value)
  ) AS known(bound, weight)
 WHERE s.tablename = c.relname AND s.attname = %s AND s.inherited = EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid)
 ORDER BY {order}, weight
"""
"""Values of a column in the order of the file, each with the share of the rows that have it or come behind it. Behind FROM, `unnest` would
make a column of each field of a composite type.
"""

WAIT = 2.0
"""How many seconds to wait for a server connection of a pool."""
EVEN = 1.5
"""How many times its fair share the largest range may hold before another column of the key is looked at."""


@dataclass(frozen=True)
class _Cuts:
    """Where to part the rows by a column, and the share of them in the largest range."""

    column: str
    at: tuple[str, ...]
    largest: float


@contextmanager
def opened(snapshot: PostgresSnapshot, selection: Selection, most: int, statement_timeout: timedelta) -> Iterator[list[Slice]]:
    """Yield up to `most` slices that hold each selected row once, and fewer where the server has no connections left."""
    if len(_ranges(snapshot, selection, most)) < 2:
        yield [Rows(snapshot, selection)]
        return
    with ExitStack() as sessions, session.errors(snapshot.where):
        connections = [snapshot.connection, *_beside(snapshot, sessions, most - 1, statement_timeout)]
        conditions = _ranges(snapshot, selection, len(connections)) or [Sql()]
        slices: list[Slice] = []
        for connection, condition in zip(connections, conditions, strict=False):
            ranged = copy(snapshot)
            ranged.part, ranged.connection = condition, connection
            slices.append(Rows(ranged, selection))
        yield slices


def _beside(snapshot: PostgresSnapshot, sessions: ExitStack, most: int, statement_timeout: timedelta) -> list[psycopg.Connection]:
    """Return as many more sessions of the same snapshot as there are at once. A limit makes a delivery slower, and does not stop it.

    Nobody waits here for long, because this delivery holds a session already: deliveries that held one each would wait for each other.
    """
    [(exported,)] = snapshot.connection.execute("SELECT pg_export_snapshot()").fetchall()
    found: list[psycopg.Connection] = []
    try:
        while len(found) < most:
            connection = sessions.enter_context(snapshot.another())
            session.begin(connection, "REPEATABLE READ", statement_timeout, snapshot.facts.search_path, within=WAIT)
            connection.execute(f"SET TRANSACTION SNAPSHOT '{exported}'".encode())
            found.append(connection)
    except (TransientError, psycopg.Error) as error:
        _log.warning("reading over %d connections instead of %d: %s", len(found) + 1, most + 1, error)
    return found


def _ranges(snapshot: PostgresSnapshot, selection: Selection, most: int) -> list[Sql]:
    """Return conditions of up to `most` ranges; none where the statistics show no way to part the rows."""
    if selection.entity.query or selection.changed.back or most < 2:
        return []
    query = snapshot.query(selection)
    best: _Cuts | None = None
    for column in within_tenant(selection.entity):
        found = _cuts(column, _values(snapshot, query, column), most)
        if found.at and (best is None or found.largest < best.largest):
            best = found
        if best and best.largest * most <= EVEN:
            break
    return query.parts(list(best.at), best.column) if best else []


def _cuts(column: str, values: Sequence[tuple[str, float]], most: int) -> _Cuts:
    """Return the values before which a range is full."""
    whole = sum(weight for _, weight in values)
    cuts: list[str] = []
    largest = before = held = 0.0
    for value, weight in values:
        goal = whole * (len(cuts) + 1) / most
        if held > 0 and len(cuts) + 1 < most and abs(before - goal) <= abs(before + weight - goal):
            cuts.append(value)
            largest, held = max(largest, held), 0.0
        before, held = before + weight, held + weight
    return _Cuts(column, tuple(cuts), max(largest, held) / whole if whole else 1.0)


def _values(snapshot: PostgresSnapshot, query: Query, name: str) -> list[tuple[str, float]]:
    """Return the most common values of a column and the bounds of its histogram, each once."""
    native = query.natives[name]
    order = query.flavour.order("bound", query.kind(name), native).replace("%", "%%")
    statement = _VALUES.format(native=native, spelling="bound::text" if order == "bound" else order, order=order)
    connection = snapshot.connection
    with session.errors(f"{query.entity.id} in {snapshot.where}"):
        connection.execute("SAVEPOINT values")
        try:
            rows = connection.execute(statement.encode(), [relation_name(query.entity), name]).fetchall()
        except psycopg.DataError:  # a list, whose statistics are no list of lists
            connection.execute("ROLLBACK TO values")
            rows = []
        connection.execute("RELEASE values")
    shares: dict[str, float] = {}
    for value, weight in rows:
        shares[value] = shares.get(value, 0.0) + max(weight, 0.0)
    return list(shares.items())
