"""Alarms (states of a tenant that people should know) and notices (messages that each channel is owed).

Each function is one step inside the caller's transaction. A state and the messages about it are written together, so a crash loses neither.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Required, TypedDict

from sqlalchemy import Connection, and_, delete, insert, or_, select, update

from waybill.ledger.database.engine import new_id
from waybill.ledger.database.rows import readable_rows, require
from waybill.ledger.database.taken import Taken, unless_taken
from waybill.ledger.tables import IS_OWED, IS_RAISED, alarm, notice
from waybill.states import NoticeState

MOST = 500
"""The most messages of one look at what is due."""

LEASE = timedelta(minutes=10)
"""The time that a process has to send a claimed message. After that another process sends it."""


class ChannelFacts(TypedDict, total=False):
    """A channel as a notice keeps it: what `configuration.channels` reads, and two facts more.

    `own` is a channel of the tenant's. A `guarded` one calls public addresses only. `after` counts seconds.
    """

    kind: Required[str]
    events: list[str]
    to: list[str]
    connection: str
    url: str | None
    after: float
    own: bool
    guarded: bool


@dataclass(frozen=True)
class Alarm:
    """A state of a tenant, from when it began until it ended."""

    id: int
    tenant: str
    event: str
    detail: dict[str, Any]
    raised_at: datetime
    cleared_at: datetime | None


@dataclass(frozen=True)
class Notice:
    """One message to one channel. `alarm` and `delivery` are what it is about."""

    id: str
    tenant: str
    event: str
    alarm: int | None
    delivery: str | None
    channel: ChannelFacts
    detail: dict[str, Any]
    state: str
    tries: int
    error: str
    created_at: datetime
    due_at: datetime
    claimed_at: datetime | None
    sent_at: datetime | None


def raised(connection: Connection, tenant: str | None = None) -> list[Alarm]:
    """Return the raised alarms, of all tenants or of one."""
    query = select(alarm).where(IS_RAISED).order_by(alarm.c.id)
    return readable_rows(connection, query if tenant is None else query.where(alarm.c.tenant == tenant), alarm.c.id, _alarm)


def _alarm(row: Any) -> Alarm:
    """Raises LookupError, TypeError or the like for a row that cannot be read."""
    found = Alarm(**require(row, detail=dict))
    if not found.detail.keys() & {"data_until", "deliveries"}:
        raise LookupError("detail")
    return found


def is_pending(connection: Connection, tenant: str) -> bool:
    """Return whether an alarm is raised, or a message is owed."""
    stands = select(alarm.c.id).where(IS_RAISED, alarm.c.tenant == tenant).exists()
    owed = select(notice.c.id).where(IS_OWED, notice.c.tenant == tenant).exists()
    return bool(connection.execute(select(or_(stands, owed))).scalar_one())


def raise_alarm(connection: Connection, tenant: str, event: str, detail: Mapping[str, Any], now: datetime) -> Alarm | None:
    """Raise an alarm. Returns None if it is raised already."""
    try:
        with unless_taken(connection, alarm, "uq_alarm_raised"):
            values = {"tenant": tenant, "event": event, "detail": detail, "raised_at": now}
            row = connection.execute(insert(alarm).values(values).returning(alarm)).one()
    except Taken:
        return None
    return Alarm(**row._mapping)


def change(connection: Connection, raised_alarm: Alarm, detail: Mapping[str, Any]) -> bool:
    """Change the detail of a raised alarm. Returns False if it is over."""
    return connection.execute(update(alarm).where(alarm.c.id == raised_alarm.id, IS_RAISED).values(detail=detail)).rowcount == 1


def clear(connection: Connection, raised_alarm: Alarm, now: datetime) -> bool:
    """End an alarm, and drop its unsent messages. Returns False if another process did so.

    A message that was tried and refused is due at once: sent after the end, it would look like news.
    """
    if connection.execute(update(alarm).where(alarm.c.id == raised_alarm.id, IS_RAISED).values(cleared_at=now)).rowcount != 1:
        return False
    owed = (notice.c.alarm == raised_alarm.id, IS_OWED, notice.c.claimed_at.is_(None))
    connection.execute(update(notice).where(*owed, notice.c.tries > 0).values(due_at=now))
    connection.execute(update(notice).where(*owed, notice.c.tries == 0).values(state=NoticeState.DROPPED))
    return True


def owe(
    connection: Connection,
    tenant: str,
    event: str,
    channels: Sequence[ChannelFacts],
    detail: Mapping[str, Any],
    now: datetime,
    *,
    alarm: int | None = None,
    delivery: str | None = None,
) -> None:
    """Owe each of these channels a message, at once or `after` so many seconds."""
    about = {
        "tenant": tenant,
        "event": event,
        "alarm": alarm,
        "delivery": delivery,
        "detail": detail,
        "state": NoticeState.OWED,
        "created_at": now,
    }
    rows = [
        {**about, "id": new_id(), "channel": channel, "due_at": now + timedelta(seconds=channel.get("after", 0))} for channel in channels
    ]
    if rows:
        connection.execute(insert(notice), rows)


def sent_about(connection: Connection, alarms: Collection[int]) -> list[ChannelFacts]:
    """Return the channels that have, or may have, received a message about one of these alarms, each once."""
    tried = or_(notice.c.state == NoticeState.SENT, notice.c.tries > 0, notice.c.claimed_at.is_not(None))
    query = select(notice.c.channel).where(notice.c.alarm.in_(list(alarms)), tried).order_by(notice.c.id)
    found: list[ChannelFacts] = []
    for channel in connection.scalars(query):
        if channel not in found:
            found.append(channel)
    return found


def due(connection: Connection, now: datetime, tenant: str | None = None) -> list[Notice]:
    """Return the due messages that no other process is sending, oldest first."""
    free = or_(notice.c.claimed_at.is_(None), notice.c.claimed_at <= now - LEASE)
    query = select(notice).where(IS_OWED, notice.c.due_at <= now, free).order_by(notice.c.id).limit(MOST)
    return readable_rows(connection, query if tenant is None else query.where(notice.c.tenant == tenant), notice.c.id, _notice)


def _notice(row: Any) -> Notice:
    """Raises LookupError, TypeError or the like for a row that cannot be read."""
    found = Notice(**require(row, channel=dict, detail=dict))
    if not {"kind", "after", "own", "guarded"} <= found.channel.keys():
        raise LookupError("channel")
    return found


def claim(connection: Connection, owed: Notice, now: datetime) -> bool:
    """Claim a message in order to send it. Returns False if another process has it."""
    seen = notice.c.claimed_at.is_(None) if owed.claimed_at is None else notice.c.claimed_at == owed.claimed_at
    same = and_(notice.c.id == owed.id, IS_OWED, notice.c.tries == owed.tries, seen)
    return connection.execute(update(notice).where(same).values(claimed_at=now)).rowcount == 1


def sent(connection: Connection, owed: Notice, now: datetime) -> None:
    connection.execute(
        update(notice).where(notice.c.id == owed.id).values(state=NoticeState.SENT, sent_at=now, tries=owed.tries + 1, error="")
    )


def postponed(connection: Connection, owed: Notice, until: datetime | None, error: str) -> None:
    """Postpone a message. It is given up if `until` is None, and dropped if its subject is over."""
    values: dict[str, Any] = {"tries": owed.tries + 1, "claimed_at": None, "error": error}
    values |= {"state": NoticeState.GIVEN_UP} if until is None else {"due_at": until}
    if owed.alarm and connection.execute(select(alarm.c.cleared_at).where(alarm.c.id == owed.alarm)).scalar_one() is not None:
        values |= {"state": NoticeState.DROPPED}
    connection.execute(update(notice).where(notice.c.id == owed.id).values(values))


def put_off(connection: Connection, waiting: Collection[str], until: datetime) -> None:
    """Postpone messages that nobody tried, because their channel does not answer."""
    free = (notice.c.id.in_(list(waiting)), IS_OWED, notice.c.claimed_at.is_(None), notice.c.due_at < until)
    connection.execute(update(notice).where(*free).values(due_at=until))


def forget(connection: Connection, before: datetime) -> None:
    """Remove messages that were settled before an instant."""
    connection.execute(delete(notice).where(notice.c.state != NoticeState.OWED, notice.c.created_at < before))
    kept = select(notice.c.alarm).where(notice.c.alarm.is_not(None))
    connection.execute(delete(alarm).where(alarm.c.cleared_at < before, alarm.c.id.not_in(kept)))
