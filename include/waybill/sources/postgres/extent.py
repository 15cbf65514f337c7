"""How far a delivery reads from PostgreSQL (docs/protocol.md section 2) by `snapshot` and `horizon`: nothing is lost that commits late."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from waybill.canonical import timestamp_text
from waybill.configuration.catalog import Entity, Mode
from waybill.configuration.selection import ChangeSpan, Extent
from waybill.errors import PermanentError, TransientError, counted
from waybill.sources import extents
from waybill.sources.postgres.session import Facts


def extent(
    entity: Entity,
    start: Any,
    end: datetime,
    now: datetime,
    facts: Facts,
    natives: dict[str, str],
    snapshot: str,
    max_id: Callable[[], int | None],
) -> Extent:
    """`snapshot` is the text of the open snapshot. Raises PermanentError when the mode is not safe here."""
    mode, column = entity.changes.mode, entity.changes.column
    if mode in (Mode.SNAPSHOT, Mode.HORIZON) and facts.standby:
        raise PermanentError(
            f"mode {mode} is not safe on a standby, which shows neither the primary's transactions nor its snapshots",
            where=entity.id,
            code="standby",
            next_step="Point the connection at the primary, or use lookback",
        )
    match mode:
        case Mode.SNAPSHOT:
            return _by_snapshot(entity, start, min(end, now), facts, natives.get(column, ""), snapshot)
        case Mode.HORIZON:
            return _by_horizon(entity, start, end, facts, _grain(natives.get(column, "")))
    by_id = natives.get(column, "") in ("smallint", "integer", "bigint")
    return extents.plain(entity, start, end, now, max_id if by_id else None)


def _by_snapshot(entity: Entity, start: Any, end: datetime, facts: Facts, native: str, snapshot: str) -> Extent:
    if native != "xid8":
        raise PermanentError(
            f"the change column {entity.changes.column} is {native or 'missing'}",
            where=entity.id,
            allowed="a column of type xid8 that a default and a trigger keep at the writing transaction",
            code="schema_drift",
            next_step="Apply examples/postgres_snapshot_mode.sql to the table",
        )
    position = {"snapshot": snapshot, "system": facts.system, "timeline": facts.timeline}
    if start is None:
        return Extent(end, ChangeSpan(), position)
    lost = _lost(start, facts, snapshot)
    return Extent(end, ChangeSpan() if lost else ChangeSpan(start["snapshot"], snapshot), position, lost=lost)


def unheard(entity: Entity, is_unheard: bool) -> str:
    """Return what may be missed on a standby that does not show when it heard from its primary. The text is empty if nothing is."""
    if not is_unheard or entity.changes.mode is Mode.FULL:
        return ""
    return (
        "this standby does not show when it last heard from its primary, and what is committed there while it hears nothing may be missed:"
        " GRANT pg_read_all_stats TO the connection's user"
    )


def _lost(start: Any, facts: Facts, snapshot: str) -> str:
    if not isinstance(start, dict) or not {"snapshot", "system", "timeline"} <= start.keys():
        return "the stream's position is not a PostgreSQL snapshot"
    if start["system"] != facts.system:
        return f"this is another cluster than before (system identifier {facts.system or 'unknown'}, was {start['system'] or 'unknown'})"
    if start["timeline"] != facts.timeline:
        was = start["timeline"] or "unknown"
        return f"the cluster went through a failover or a restore (timeline {facts.timeline or 'unknown'}, was {was})"
    if _newest(snapshot) < _newest(start["snapshot"]):
        return "the cluster's transaction ids went back: it was restored from an older state"
    return ""


def _newest(snapshot: str) -> int:
    """Return the xmax of a pg_snapshot text, `xmin:xmax:running,running`."""
    return int(snapshot.split(":")[1])


def _by_horizon(entity: Entity, start: Any, end: datetime, facts: Facts, grain: timedelta) -> Extent:
    if not facts.reads_all_stats:
        raise PermanentError(
            "mode horizon must see when other users' transactions began",
            where=entity.id,
            code="missing_rights",
            next_step="GRANT pg_read_all_stats TO the connection's user",
        )
    since = extents.instant(start)
    if untold := _untold(entity, facts):
        if since is None:
            raise untold
        return Extent(since, ChangeSpan(since, since), timestamp_text(since), f"{untold.what}. {untold.next_step}")
    return extents.by_time(since, end, facts.settled - grain, _held(end, facts, grain))


def _untold(entity: Entity, facts: Facts) -> TransientError | None:
    """Return what hides when transactions began that may still commit."""
    if facts.prepared:
        return TransientError(
            f"{facts.prepared} prepared transactions are open, and when they began cannot be told: nothing is read past the last delivery",
            where=entity.id,
            code="held_back",
            next_step="Commit or roll them back (pg_prepared_xacts)",
        )
    if facts.hidden:
        return TransientError(
            f"{counted(facts.hidden, 'session')} with track_activities off may have transactions open,"
            " and when they began cannot be told: nothing is read past the last delivery",
            where=entity.id,
            code="held_back",
            next_step="Set track_activities to on for the server, database and roles, then end these sessions, or use snapshot or lookback",
        )
    return None


def _held(end: datetime, facts: Facts, grain: timedelta) -> str:
    if facts.settled - grain >= end:
        return ""
    if facts.oldest_transaction is not None and facts.oldest_transaction <= facts.settled:
        return f"a transaction open since {timestamp_text(facts.oldest_transaction)} holds the end back (pg_stat_activity names it)"
    return f"the source's clock had not passed the planned boundary {timestamp_text(end)}"


def _grain(native: str) -> timedelta:
    """How much earlier than its transaction's start a stored time may read because its type rounds."""
    if native == "date":
        return timedelta(days=1)
    match = re.match(r"timestamp\((\d)\)", native)
    return timedelta(seconds=10 ** -int(match[1])) if match and match[1] != "6" else timedelta(0)
