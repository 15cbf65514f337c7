"""Decides how far a delivery reads in the modes that need only a clock or an id (docs/protocol.md section 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from waybill.canonical import parse_timestamp, timestamp_text
from waybill.configuration.catalog import Entity, Mode
from waybill.configuration.selection import ChangeSpan, Extent
from waybill.errors import PermanentError
from waybill.sources.query import counts_by_tenant


def plain(entity: Entity, start: Any, end: datetime, now: datetime, max_id: Callable[[], int | None] | None) -> Extent:
    """Return the extent of `lookback`, `append` and `full`. `now` is the source's clock. `max_id` comes with an integer change column.

    The position is the end as RFC 3339 text, or for `append` by id the first id that was not there yet.
    """
    if entity.changes.mode in (Mode.SNAPSHOT, Mode.HORIZON):
        raise PermanentError(
            f"mode {entity.changes.mode} needs PostgreSQL",
            where=entity.id,
            code="mode_unsupported",
            allowed="lookback, append, full",
            next_step=f"Set entities.{entity.id}.changes.mode to lookback",
        )
    if entity.changes.mode is Mode.FULL:
        until = min(end, now)
        return Extent(until, ChangeSpan(), timestamp_text(until), _behind(until, end, now))
    if max_id is not None:
        return _by_id(entity, start, end, now, max_id)
    return by_time(start, end, now, _behind(min(end, now), end, now))


def by_time(start: Any, end: datetime, limit: datetime, short: str) -> Extent:
    """`[start, min(end, limit))`.

    The end never falls behind the start: windows must abut even when a clock was set back.
    """
    since = instant(start)
    until = min(end, limit)
    if since is not None and until < since:
        until, short = since, short or "the source's clock lies before the end of the last delivery"
    return Extent(until, ChangeSpan(since, until), timestamp_text(until), short)


def _by_id(entity: Entity, start: Any, end: datetime, now: datetime, max_id: Callable[[], int | None]) -> Extent:
    if entity.changes.mode is not Mode.APPEND:
        raise PermanentError(
            f"mode {entity.changes.mode} needs a time column, {entity.changes.column} is an integer",
            where=entity.id,
            code="mode_unsupported",
            next_step=f"If its numbers stand for times, make times of them in a view, or in entities.{entity.id}.query. Else name a column"
            " that tells the time, or set the mode to append if they are ids and rows are never updated",
        )
    since = None if start is None else int(start)
    newest = max_id()
    until = (newest if newest is not None else -1) + 1
    boundary = min(end, now)
    short = _behind(boundary, end, now)
    if since is not None and until < since and counts_by_tenant(entity):
        since = until  # the tenant cleared its last rows away, and counts on from what is left
    elif since is not None and until < since:
        short = short or f"the highest {entity.changes.column} is {until - 1} and was {since - 1} before: rows with lower ones are not seen"
        until = since
    return Extent(boundary, ChangeSpan(since, until), until, short)


def looks_back_too_little(entity: Entity, zoneless: Sequence[str], offset: timedelta) -> str:
    """Return what may be missed if columns of changes have no zone and the database's clock is `offset` from UTC. Empty if nothing is.

    A local time west of UTC reads as one that is hours past, which a short look back does not reach.
    """
    changes = entity.changes
    if not zoneless or changes.mode not in (Mode.LOOKBACK, Mode.APPEND) or changes.lookback + offset >= timedelta(0):
        return ""
    behind = f"{-offset.total_seconds() / 3600:g} hours behind UTC"
    name = zoneless[0]
    return (
        f"{name} has no zone and counts as UTC, but the database's clock is {behind}: if that clock fills it, rows are missed;"
        f" look back for longer than that, or give {name} a zone"
    )


def instant(position: Any) -> datetime | None:
    """Return the instant of a stored position."""
    if position is None or isinstance(position, datetime):
        return position
    try:
        return parse_timestamp(position)
    except (TypeError, ValueError) as error:
        step = "Queue a full load: it starts a new generation"
        raise PermanentError(f"the stream's position {position!r} is not a time", code="position_invalid", next_step=step) from error


def _behind(until: datetime, end: datetime, now: datetime) -> str:
    return f"the source's clock shows {timestamp_text(now)}, before the planned boundary" if until < end else ""
