"""Replicas of MySQL and MariaDB: the time up to which they show what was written to the server that they follow.

A row that a replica does not have yet looks like one that is committed late, and it may be later than any look back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from waybill.configuration.catalog import Entity, Mode
from waybill.errors import TransientError
from waybill.sources.dbapi.drivers import Cursor, Database

_LAGS = ("Seconds_Behind_Source", "Seconds_Behind_Master")
_FIRST_WITH_REPLICA = (8, 0, 22)
_OF_A_GROUP = "group_replication_"
_MAY_NOT_ASK = 1227
_CLIENT = 2000
"""The first number of an error of MySQL's client library, which tells of the connection."""


@dataclass(frozen=True)
class Replica:
    """What a server says of the one that it follows. Nothing is said by a server that follows none."""

    replayed: datetime | None = None
    """None if it shows every row, or if nobody knows."""
    stopped: bool = False
    hidden: bool = False
    """True if it seems to follow another server, and the login may not ask how far it is."""
    secondary: bool = False
    """True if it is a member of a replication group that nobody writes to. Such a member does not say how far it is."""

    def require_running(self, entity: Entity, where: str) -> None:
        if self.stopped:
            raise TransientError(
                "this server is a replica, and its replication is stopped or cut off: nobody knows which rows it lacks",
                where=f"{entity.id} in {where}",
                code="source_clock",
                next_step="START REPLICA, or RESET REPLICA ALL where the server follows no other any more; it is tried again",
            )

    def remark(self, entity: Entity) -> str:
        """Return what may be missed, in words. A full load brings what the last one lacked."""
        if entity.changes.mode is Mode.FULL:
            return ""
        if self.secondary:
            return (
                "this server is a secondary of a replication group and does not say how far it lags behind, so that rows may be missed:"
                " read the group's primary, or look back for longer than it may lag"
            )
        if not self.hidden:
            return ""
        return (
            "the server seems to be a replica, and the login may not see how far it lags behind, so that rows may be missed:"
            " GRANT REPLICATION CLIENT ON *.* (MariaDB 10.5 and newer: REPLICA MONITOR) to it"
        )


def instant(server_says: Any) -> datetime:
    """Return a time of the server's, which is in UTC where it names no zone."""
    value: datetime = datetime.fromisoformat(server_says) if isinstance(server_says, str) else server_says
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def look(cursor: Cursor, database: Database) -> Replica:
    """Ask before the transaction begins, so that its snapshot holds all that is replayed by then."""
    if database.name != "MySQL":
        return Replica()
    [before] = _answer(cursor, "SELECT UTC_TIMESTAMP(6) AS now, VERSION() AS version") or [{}]
    channels, refused = _channels(cursor, before["version"])
    if refused:
        return Replica(hidden=refused == _MAY_NOT_ASK and _seems_one(cursor))
    return followed(channels, instant(before["now"]), lambda: _seems_one(cursor))


def followed(channels: Sequence[Mapping[str, Any]], now: datetime, seems_one: Callable[[], bool]) -> Replica:
    """Return what the server's channels say, by the columns of SHOW REPLICA STATUS.

    The channels of a replication group are among them, also at its primary, and never tell a lag: their rows come from all members.
    """
    sources = [channel for channel in channels if not str(channel.get("Channel_Name", "")).startswith(_OF_A_GROUP)]
    lags = [next(source[name] for name in _LAGS if name in source) for source in sources]
    if None in lags:
        return Replica(stopped=True)
    replayed = now - timedelta(seconds=max(map(int, lags))) if lags else None
    return Replica(replayed, secondary=len(sources) < len(channels) and seems_one())


def _channels(cursor: Cursor, version: str) -> tuple[list[dict[str, Any]], int]:
    """Return the state of each channel, which is one for each server that is followed, or the number of the error."""
    if "MariaDB" in version:
        what = "ALL SLAVES"
    else:
        numbers = version.partition("-")[0].split(".")
        what = "REPLICA" if tuple(int(part) for part in numbers if part.isdigit()) >= _FIRST_WITH_REPLICA else "SLAVE"
    try:
        return _answer(cursor, f"SHOW {what} STATUS"), 0
    except Exception as error:
        number = error.args[0] if error.args else None
        if not isinstance(number, int) or number >= _CLIENT:
            raise
        return [], number  # a database that only speaks like MySQL does not know the statement


def _seems_one(cursor: Cursor) -> bool:
    running = _answer(cursor, "SHOW GLOBAL STATUS LIKE 'Slave_running'")
    read_only = _answer(cursor, "SELECT @@GLOBAL.read_only AS read_only")
    return any(row["Value"] == "ON" for row in running) or str(read_only[0]["read_only"]) not in ("0", "OFF")


def _answer(cursor: Cursor, statement: str) -> list[dict[str, Any]]:
    cursor.execute(statement)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
