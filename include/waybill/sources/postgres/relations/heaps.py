"""What stores the rows behind a relation, and how rows get there that no new transaction stamps.

`snapshot` and `horizon` find a row by the transaction that wrote it. That misses rows which others could see only later: those of a
materialized view when it is refreshed, of a foreign table when another server commits, of a subscription when it catches up, and those of
a partition that is attached or a table that is swapped in with rows it already had.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from waybill.configuration.catalog import Entity, Mode
from waybill.errors import PermanentError
from waybill.sources.sql import Bind, Sql, every, sql

if TYPE_CHECKING:
    from waybill.sources.query import Query

HEAPS = """
SELECT c.oid::bigint,
       format('%%I.%%I', n.nspname, c.relname),
       c.relkind::text,
       format_type(a.atttypid, a.atttypmod),
       EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid),
       c.relkind = 'r' AND pg_relation_size(c.oid) = 0,
       has_column_privilege(c.oid, a.attnum, 'SELECT'),
       EXISTS (SELECT FROM pg_subscription_rel s WHERE s.srrelid = c.oid),
       array(SELECT DISTINCT t.tgenabled::text
               FROM pg_trigger t
               JOIN pg_proc p ON p.oid = t.tgfoid
              WHERE t.tgrelid = c.oid AND t.tgtype & 19 = 19 AND position(a.attname IN p.prosrc) > 0),
       array(SELECT format('%%s/%%s', t.oid, t.xmin)
               FROM pg_trigger t
               JOIN pg_proc p ON p.oid = t.tgfoid
              WHERE t.tgrelid = c.oid AND t.tgtype & 19 = 19 AND position(a.attname IN p.prosrc) > 0
              ORDER BY t.oid)
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = %s AND a.attnum > 0 AND NOT a.attisdropped
 WHERE c.oid = ANY(%s::oid[])
 ORDER BY c.oid
"""
"""The heaps that have the change column: relations of a query that lack it only decorate rows. 19: a row trigger before an update."""
_BY_COMMIT = (Mode.SNAPSHOT, Mode.HORIZON)
_STAMP = "Apply examples/postgres_snapshot_mode.sql to it, or use lookback"


@dataclass(frozen=True)
class Heap:
    """`native` is the type of its change column; `triggers` are the states (`pg_trigger.tgenabled`) of those that set that column."""

    number: int
    name: str
    kind: str
    native: str
    branch: bool
    """Whether it is a partition, or inherits from another table."""
    empty: bool
    readable: bool
    subscribed: bool
    triggers: Collection[str]
    marks: Collection[str]
    """The same triggers, each with the transaction that made it, or switched it on or off, last."""


def require_stamps(entity: Entity, heaps: Iterable[Heap]) -> str:
    """Refuse what the mode cannot see, and say what it may not see.

    Raises PermanentError for heaps whose rows appear later than the transactions they tell, and for a trigger that is switched off.
    """
    mode, column = entity.changes.mode, entity.changes.column
    if mode not in _BY_COMMIT:
        names = ", ".join(heap.name for heap in heaps if heap.subscribed)
        return f"a subscription fills {names}: rows that it brings later than this stream looks back are missed" if names else ""
    notes = []
    for heap in heaps:
        if heap.kind in ("m", "f"):
            what = "a materialized view, whose rows appear when it is refreshed" if heap.kind == "m" else "a foreign table"
            raise _unsafe(entity, f"{heap.name} is {what}", "Use lookback, and let it reach back further than rows come late")
        replicated = "A" in heap.triggers or "R" in heap.triggers
        if heap.subscribed and not (mode is Mode.SNAPSHOT and replicated):
            step = _STAMP if mode is Mode.SNAPSHOT else "Use snapshot, or lookback with a span that the subscription never lags behind"
            raise _unsafe(entity, f"{heap.name} is filled by a subscription, and its rows tell the publisher's transactions", step)
        if mode is Mode.SNAPSHOT and heap.triggers and set(heap.triggers) <= {"D"}:
            what = f"the trigger that sets {column} on {heap.name} is switched off, so changed rows would not be seen"
            step = "Switch it on (ALTER TABLE ... ENABLE ALWAYS TRIGGER), and queue a full load for what changed meanwhile"
            raise PermanentError(what, where=entity.id, code="change_column_unkept", next_step=step)
        if mode is Mode.SNAPSHOT and not heap.triggers:
            notes.append(f"no trigger of {heap.name} sets {column}: changes that do not set it are not seen")
    return "; ".join(notes)


def _unsafe(entity: Entity, why: str, step: str) -> PermanentError:
    return PermanentError(f"mode {entity.changes.mode} would miss rows: {why}", where=entity.id, code="mode_unsupported", next_step=step)


def appeared(heaps: Iterable[Heap], before: Collection[int], mode: Mode) -> list[Heap]:
    """Return the heaps that hold rows and were not there at the last delivery, as far as the mode depends on it.

    Modes that look back by a time the application sets depend on it where a partition joins: with other tables nothing tells how old what
    they hold is.
    """
    new = [heap for heap in heaps if heap.number not in before and not heap.empty]
    return new if mode in _BY_COMMIT else [heap for heap in new if heap.branch]


def passed_over(query: Query, heap: Heap, start: object, *, view: bool) -> Sql | None:
    """Return the statement that finds a row of a new heap which the next span does not hold; None where that cannot be asked."""
    before = query.before(start)
    if not view:
        conditions = every((query.tenant(), *map(query.condition, query.selection.where), before))
        return sql("SELECT 1 FROM {} WHERE tableoid = {} AND {} LIMIT 1", query.relation, Bind(heap.number, "oid"), conditions)
    column = query.entity.changes.column
    if not heap.readable or heap.native != query.natives[column]:
        return None
    return sql("SELECT 1 FROM {} WHERE {} LIMIT 1", heap.name, before if isinstance(start, str) else query.precedes(column, start))


def sentence(heaps: Iterable[Heap]) -> str:
    names = ", ".join(heap.name for heap in heaps)
    return f"rows lie in {names}, which was not there at the last delivery, and tell of transactions before it"
