"""A PostgreSQL session for extraction: opening it, the facts before its snapshot, and the meaning of its errors."""

from __future__ import annotations

import re
import select
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, TransactionStatus

from waybill.connection import POOL_OF_STATEMENTS, Connection
from waybill.errors import PermanentError, TransientError, WaybillError
from waybill.sources import drift
from waybill.sources.base import AGAIN
from waybill.sources.postgres.relations.behind import Ask
from waybill.sources.postgres.settings import LOCK_SECONDS, REPLAYED, UNHEARD, transaction_settings
from waybill.sources.sql import Bind, sql

_OURS = frozenset({"client_encoding", "replication", "application_name", "fallback_application_name"})
"""Settings that no connection may change: rows are read as UTF-8, by SQL."""
_REFUSED = (
    *("authentication failed", "no pg_hba.conf entry", "does not exist", "no password supplied", "is not permitted to log in"),
    *("permission denied for database", "unrecognized configuration parameter", "invalid value for parameter", "permission denied to set"),
    *("unsupported startup parameter", "no such database", "no such user", "not allowed to connect"),
    *("SSL was required", "certificate", "private key file", "does not match host name", "channel binding", "authentication method"),
    *("invalid sslmode value", "invalid connection option", "invalid integer value", "invalid port number"),
)
"""What a server, a pooler or the library says of a login that cannot succeed. Only what is said before a session begins has no SQLSTATE."""
_MAY_PASS = frozenset(["OperationalError", "InterfaceError"])
"""Errors of the drivers, where the server says no SQLSTATE."""
_PASSING = ("08", "40", "53", "55006", "55P03", "57", "58", "HV001", "HV00N")
"""What SQLSTATEs begin with that tell of load, locks, the disk or lost connections, also those of a foreign server."""
_STAYING = ("53400", "57P04")
"""Those of them that tell of a limit that is set, and of a database that is gone."""
_STEP = "Correct the connection, or a view, a policy or a function that the entity reads"
_FACTS = f"""
SELECT clock_timestamp(),
       pg_is_in_recovery(),
       pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
       (SELECT min(xact_start) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type NOT IN ('autovacuum worker', 'walsender')),
       (SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()),
       (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'disabled'),
       {UNHEARD},
       (SELECT reset_val FROM pg_settings WHERE name = 'search_path')
"""  # noqa: S608 (a constant)
TIMELINE = "left(pg_walfile_name(pg_current_wal_lsn()), 8)"
_IDENTITY = f"SELECT system_identifier::text, {TIMELINE} FROM pg_control_system()"  # noqa: S608 (a constant)
_OFFSET = """
SELECT extract(epoch FROM (now() AT TIME ZONE reset_val) - (now() AT TIME ZONE 'UTC')) FROM pg_settings WHERE name = 'TimeZone'
"""
WRITES_NO_LOG = "pg_is_in_recovery() OR to_regproc('aurora_version') IS NOT NULL"
LOG_END = f"CASE WHEN {WRITES_NO_LOG} THEN '' ELSE pg_current_wal_insert_lsn()::text END"
_KEPT = "SELECT pg_current_wal_flush_lsn() >= {}, (SELECT setting::int FROM pg_settings WHERE name = 'wal_writer_delay')"
UNDECODABLE = ("22021", "22P05")
"""SQLSTATEs of bytes that are no text of the database's encoding, or that UTF-8 has no character for."""
_ENCODINGS = re.compile(r"\b[A-Z][A-Z0-9_]{2,}\b")
"""Of a character without an equivalent, a server names the encoding it has, then the one that lacks it, in whatever language it speaks."""
_STARTING = timedelta(seconds=1)
"""A transaction takes its start time a moment before other sessions can see it: only what is older than this counts as seen."""


@dataclass(frozen=True)
class Facts:
    """The facts just before the snapshot. Every transaction that began before `settled` has ended, except prepared and hidden ones."""

    settled: datetime
    oldest_transaction: datetime | None
    standby: bool
    reads_all_stats: bool
    prepared: int
    system: str
    timeline: str
    hidden: int = 0
    """Sessions of the database that do not show when their transactions began."""
    unheard: bool = False
    """Whether this is a standby that does not show us when it heard from its primary."""
    search_path: str = ""
    """The schemas for names without one, as role and database say, whatever another user of the session has set."""


@contextmanager
def connect(target: Connection) -> Iterator[psycopg.Connection]:
    """Open an autocommit session. Nothing is set outside of a transaction, and nothing is prepared on the server.

    Raises TransientError if the server is out of reach, and PermanentError if it refuses the login.
    """
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()} - _OURS
    settings = {name: str(value) for name, value in target.extra.items() if name in known}
    settings = {"connect_timeout": "15", "keepalives_idle": "30", "tcp_user_timeout": "60000", "client_encoding": "UTF8"} | settings
    place = {"host": target.host, "port": target.port, "dbname": target.schema, "user": target.login, "password": target.password}
    settings |= {name: str(value) for name, value in place.items() if value}
    with errors(f"PostgreSQL connection {target.id}"):
        connection = psycopg.connect(autocommit=True, application_name="waybill", prepare_threshold=None, **settings)  # type: ignore[arg-type]
    try:
        yield connection
    finally:
        with suppress(psycopg.Error, RuntimeError):  # whoever shares a pool gets the server's session as it was
            emptied(connection)
        connection.close()


def emptied(connection: psycopg.Connection) -> None:
    """Make a session as it was opened: roll back what is open. Raises RuntimeError for one that is closed or in the middle of something."""
    match connection.info.transaction_status:
        case TransactionStatus.IDLE:
            pass
        case TransactionStatus.INTRANS | TransactionStatus.INERROR:
            connection.execute("ROLLBACK")
        case status:
            raise RuntimeError(f"the session is {status.name}")


def is_fresh(connection: psycopg.Connection) -> bool:
    """Return whether the server has said nothing since its last answer. It does so when it ends a session that was idle for too long."""
    unheard = select.poll()
    unheard.register(connection, select.POLLIN)
    return not unheard.poll(0)


def begin(
    connection: psycopg.Connection, isolation: str, statement_timeout: timedelta, search_path: str = "", *, within: float | None = None
) -> None:
    """Open a read-only transaction with our settings, in place of one that is open. It takes no snapshot: the first query does.

    Raises TransientError if a pool has no server connection for the session `within` so many seconds.
    """
    opening, local = _opening(connection, isolation, statement_timeout), _looking_up(search_path)
    if within is None:
        connection.execute("; ".join([*opening, local]).encode())
    else:
        _answered(connection, opening[0], within)
        connection.execute("; ".join([*opening[1:], local]).encode())


def _opening(connection: psycopg.Connection, isolation: str, statement_timeout: timedelta) -> list[str]:
    before = "" if connection.info.transaction_status == TransactionStatus.IDLE else "ROLLBACK; "
    settings = transaction_settings(connection.info.server_version, statement_timeout)
    return [f"{before}BEGIN ISOLATION LEVEL {isolation} READ ONLY", *settings]


def _answered(connection: psycopg.Connection, statement: str, within: float) -> None:
    """Execute a statement that the server answers at once. Raises TransientError if no answer comes `within` so many seconds."""
    connection.pgconn.send_query(statement.encode())
    answer = select.poll()
    answer.register(connection, select.POLLIN)
    if not answer.poll(within * 1000):
        raise TransientError(f"the pool had no server connection within {within:.0f} seconds", code="source_busy")
    while result := connection.pgconn.get_result():
        if result.status != ExecStatus.COMMAND_OK:
            raise error_from_result(result)


def _row(connection: psycopg.Connection, statements: str) -> tuple[Any, ...] | None:
    """Execute statements together, and return the first row that one of them answers."""
    cursor = connection.execute(statements.encode())
    while cursor.description is None and cursor.nextset():
        continue
    return cursor.fetchone() if cursor.description else None


def _looking_up(search_path: str) -> str:
    """Temporary tables come last, because in a pooled session they belong to somebody else."""
    if not search_path:
        return ""
    return f"SET LOCAL search_path = {', '.join([*_schemas(search_path), 'pg_temp'])}"


def _schemas(search_path: str) -> list[str]:
    """Return the names of a search path as the server shows it. A path without a name (`SET search_path = ''`) means no schema."""
    names = (name.strip() for name in re.findall(r'(?:"(?:[^"]|"")*"|[^",])+', search_path))
    return [name for name in names if name not in ("", '""', "pg_temp")]


def facts(connection: psycopg.Connection, statement_timeout: timedelta) -> Facts:
    """Read in a transaction before the snapshot's: what commits in between is in the snapshot and before every limit taken here. It is
    left open, with our search path.
    """
    row = _row(connection, "; ".join([*_opening(connection, "READ COMMITTED", statement_timeout), _FACTS]))
    if row is None:
        raise TransientError("the server answered nothing", code="source_busy")
    clock, standby, all_stats, oldest, prepared, hidden, unheard, path = row
    system = timeline = ""
    identity = "" if standby else f"; SAVEPOINT identity; {_IDENTITY}"
    try:
        row = _row(connection, _looking_up(path) + identity)
        system, timeline = row or ("", "")
    except psycopg.errors.InsufficientPrivilege:
        connection.execute("ROLLBACK TO identity")
    oldest = oldest.astimezone(UTC) if oldest else None
    settled = min(clock.astimezone(UTC) - _STARTING, oldest) if oldest else clock.astimezone(UTC) - _STARTING
    return Facts(settled, oldest, standby, all_stats, prepared, system, timeline, hidden, unheard, path)


def taken(connection: psycopg.Connection, facts: Facts) -> tuple[str, datetime, datetime, str]:
    """Take the transaction's snapshot. Return what it sees (`pg_snapshot`), the server's clock, up to when it shows what was written, and
    where the server's log ends then.
    """
    seen = "''" if facts.standby else "pg_current_snapshot()::text"
    log = LOG_END if facts.timeline else "''"  # who may not ask for the one may not ask for the other
    row = connection.execute(f"SELECT {seen}, clock_timestamp(), {REPLAYED}, {log}".encode()).fetchone()
    if row is None:
        raise TransientError("the server answered nothing", code="source_busy")
    visible, now, replayed, log_end = row
    return visible, now.astimezone(UTC), replayed.astimezone(UTC), log_end


def wait_until_on_disk(connection: Any, ask: Ask, log_end: str) -> None:
    """Wait until the server's disk has its log up to there, in a transaction of psycopg's or psycopg2's that may still ask.

    With `synchronous_commit` off others see what is committed some time before, and a crash takes it back. That time is at most three
    times `wal_writer_delay`.
    """
    deadline: float | None = None
    while log_end and connection.info.transaction_status == TransactionStatus.INTRANS:
        [(is_kept, delay)] = ask(sql(_KEPT, Bind(log_end, "pg_lsn")))
        deadline = deadline or time.monotonic() + 3 * delay / 1000
        if is_kept or time.monotonic() >= deadline:
            return
        time.sleep(0.02)


def offset(connection: psycopg.Connection) -> timedelta:
    """Return how far the clock of a session that sets no zone of its own is from UTC now, or nothing if nobody can tell."""
    try:
        row = _row(connection, f"SAVEPOINT zone; {_OFFSET}; RELEASE zone")
    except psycopg.DataError:
        connection.execute("ROLLBACK TO zone; RELEASE zone")
        row = None
    return timedelta(seconds=int(row[0])) if row else timedelta(0)


def lock(connection: psycopg.Connection, names: Iterable[str]) -> set[str]:
    """Hold relations against replacement until the transaction ends; those that are held. Takes no snapshot; a view is locked with all it
    reads.

    Raises TransientError when somebody else holds one for too long. A relation of which only some columns are granted cannot be locked;
    `PostgresSnapshot` looks afterwards whether it was replaced.
    """
    held: set[str] = set()
    for name in names:
        try:  # a snapshot cannot be exported from within a savepoint
            connection.execute(f"SAVEPOINT locking; LOCK TABLE {name} IN ACCESS SHARE MODE; RELEASE locking".encode())
            held.add(name)
        except psycopg.errors.InsufficientPrivilege:
            connection.execute("ROLLBACK TO locking; RELEASE locking")
        except psycopg.errors.LockNotAvailable as error:
            raise TransientError(
                f"{name} has been locked by somebody else for {LOCK_SECONDS} seconds",
                code="source_busy",
                next_step="It is tried again; pg_locks names who rewrites or replaces the table",
            ) from error
    return held


@contextmanager
def errors(where: str, parsed: Collection[str] = ()) -> Iterator[None]:
    """Translate psycopg's errors by what recovers from them. Messages that may quote a row are not repeated.

    `parsed` names the types that the statement itself reads from text. Any other value at fault is at fault inside of a view, a policy
    or a function: what a column holds is compared with the catalog before.
    """
    try:
        yield
    except WaybillError:
        raise
    except psycopg.Error as error:
        raise translated(error, where, parsed) from error


def sqlstate(error: BaseException) -> str:
    """Return the SQLSTATE of an error of psycopg's or psycopg2's. It is empty if there is none."""
    return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or ""


def translated(error: Any, where: str, parsed: Collection[str] = ()) -> WaybillError:
    """Return the error of psycopg's, or of psycopg2's, as what recovers from it."""
    state = sqlstate(error)
    # Without an answer of the server the first line says what happened, the rest are guesses of the library.
    database_says = error.diag.message_primary or str(error).strip().partition("\n")[0].removeprefix("connection failed: ")
    match "P0" if _is_raised(error, state) and not _may_pass(error, state) else state[:2]:
        case "22" if state == "22P05" and (encoding := _ENCODINGS.findall(database_says)[1:]) and "UTF8" not in encoding:
            what = f"the encoding {encoding[0]} of the database cannot hold a text that it was asked for ({type(error).__name__})"
            step = "Correct the tenant's id, a value of a condition, or a name in the catalog, or move the data to a database of UTF8"
            return PermanentError(what, where=where, code="source_refused", next_step=step)
        case "22" if state in UNDECODABLE:
            what = f"the database holds text that does not become UTF-8 ({type(error).__name__})"
            step = "Correct the text, or move the data to a database with the encoding UTF8"
            return PermanentError(what, where=where, code="source_unreadable", next_step=step)
        case "22" if _names(database_says, parsed):
            return drift.Misfit(
                f"{drift.MISFIT} ({type(error).__name__})",
                where=where,
                next_step="Compare the column types of the catalog with the data",
            )
        case "28" | "3D":
            return PermanentError(database_says, where=where, code="login_refused", next_step="Correct the Airflow connection")
        case "54":
            what, step = _beyond(database_says), "Export fewer columns, or give the entity a simpler query or view"
            return PermanentError(what, where=where, code="source_refused", next_step=step)
        case "53" if state in _STAYING:
            what, step = _beyond(database_says), "Raise it for the connection's user, or index the tenant and change columns"
            return PermanentError(what, where=where, code="source_refused", next_step=step)
        case "22" | "P0" | "21" | "2F" | "38" | "39":
            step = "Correct it in the database: the server's log shows the statement and what it says"
            return PermanentError(_theirs(error), where=where, code="source_refused", next_step=step)
        case "42" if state == "42704" and "parameter" in database_says:
            what = f"a view, a policy or a function that the entity reads asks for a setting that this session lacks: {database_says}"
            step = "Set it for the connection's user (ALTER ROLE ... SET), or let the policy of that user do without it"
            return PermanentError(what, where=where, code="source_refused", next_step=step)
        case "42":
            step = "Correct the catalog, or grant SELECT on the relation and USAGE on its schema to the connection's user"
            return PermanentError(database_says, where=where, code="source_refused", next_step=step)
    return _of_the_connection(error, where, state, database_says)


def _of_the_connection(error: Any, where: str, state: str, database_says: str) -> WaybillError:
    if POOL_OF_STATEMENTS in database_says:
        step = "Set pool_mode to transaction or session for this database in the pool: one transaction reads everything"
        return PermanentError(database_says, where=where, code="source_refused", next_step=step)
    if state == "57014" and "statement timeout" in database_says:
        step = "Raise the source's statement_timeout, or index the tenant and change columns"
        return TransientError("the query took longer than the statement timeout", where=where, code="statement_timeout", next_step=step)
    if not state and "conversion between UTF8 and" in database_says:
        step = "Move the data to a database with the encoding UTF8"
        return PermanentError(database_says, where=where, code="source_unreadable", next_step=step)
    if not state and any(mark in str(error) for mark in _REFUSED):
        return PermanentError(database_says, where=where, code="login_refused", next_step="Correct the Airflow connection")
    if not _may_pass(error, state):
        return PermanentError(database_says, where=where, code="source_refused", next_step=_STEP)
    what = _theirs(error) if _is_raised(error, state) else database_says
    return TransientError(what, where=where, code="source_unreachable", next_step=AGAIN)


def _may_pass(error: Any, state: str) -> bool:
    if state:
        return state.startswith(_PASSING) and state not in _STAYING
    return not _MAY_PASS.isdisjoint(base.__name__ for base in type(error).__mro__)


def _is_raised(error: Any, state: str) -> bool:
    """Return whether somebody's own words are in the message: those of RAISE in PL/pgSQL, or of a SQLSTATE that no server has."""
    return error.diag.source_function == "exec_stmt_raise" or (bool(state) and type(error).__name__ == "DatabaseError")


def _beyond(database_says: str) -> str:
    return f"the server's own limit is exceeded: {database_says}"


def _theirs(error: Any) -> str:
    return f"a view, a policy or a function that the entity reads raised an error ({type(error).__name__})"


def _names(message: str, types: Collection[str]) -> bool:
    """Return whether an error is about one of these types; the value comes behind the colon."""
    words = message.partition(":")[0]
    return any(re.search(rf"\b{re.escape(native)}\b", words) for native in types)
