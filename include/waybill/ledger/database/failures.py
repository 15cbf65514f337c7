"""Translates a database's refusal: try again, correct something, or restore.

The message leaves out the driver's text if that may quote values.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from waybill.connection import POOL_OF_STATEMENTS
from waybill.errors import PermanentError, TransientError

READ_ONLY = ("25006", "0A000")
"""A write to a read-only database, and to a standby: it does not know a transaction that writes."""

_NO_TABLE = "42P01"
_NO_RIGHT = "42501"
_NO_SPACE = "53100"
_TAKEN = ("23505", "SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY")
"""What PostgreSQL and SQLite call a row that is there already."""

_NO_PARENT = ("23503", "SQLITE_CONSTRAINT_FOREIGNKEY")
"""What they call a row that refers to one that is gone. Waybill removes none that others refer to."""


def sqlstate(error: DBAPIError) -> str:
    """Return PostgreSQL's code for an error. It is empty if the server was not reached, or is not PostgreSQL."""
    return getattr(error.orig, "sqlstate", None) or ""


def translated(error: DBAPIError, where: str) -> TransientError | PermanentError | None:
    """Return what a database error means for the caller. None for a mistake in a statement."""
    if isinstance(error.orig, sqlite3.Error):
        return _sqlite(error.orig, where)
    state = sqlstate(error)
    if POOL_OF_STATEMENTS in str(error.orig):
        step = "Set pool_mode to transaction or session for this database in the pool"
        what = "the pool in front of the ledger's database gives every statement another connection, and no transaction can be made"
        return PermanentError(f"{what} ({POOL_OF_STATEMENTS})", where=where, next_step=step, code="ledger_refused")
    if state == _NO_TABLE:
        return _no_tables(where)
    if state in READ_ONLY:
        return TransientError(
            "the ledger's database takes no writes: it is a standby, is failing over, or was set to read-only",
            where=where,
            next_step="The next try connects again. If this stays, WAYBILL_LEDGER_URL has to reach the primary",
            code="ledger_read_only",
        )
    if state == _NO_RIGHT:
        step = "Grant the account of WAYBILL_LEDGER_URL the rights to read and write the ledger's tables"
        return PermanentError("the ledger's database does not let this account do that", where=where, next_step=step, code="ledger_refused")
    if state == _NO_SPACE:
        return _full(where)
    if state in _TAKEN:
        return _overtaken(where)
    if state in _NO_PARENT:
        return set_back(where)
    if isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated:
        return _silent(type(error.orig).__name__, where)
    return None


def _sqlite(error: sqlite3.Error, where: str) -> TransientError | PermanentError | None:
    reason, name = str(error).splitlines()[0], getattr(error, "sqlite_errorname", "")
    if "no such table" in reason:
        return _no_tables(where)
    if type(error) is sqlite3.DatabaseError:
        return PermanentError(
            f"the ledger is damaged ({reason})",
            where=where,
            next_step="Restore it from a backup and run `waybill reconcile` for each tenant",
            code="ledger_damaged",
        )
    if name.startswith("SQLITE_READONLY"):
        step = "Give this account the right to write to the file and its folder, or mount the disk writable"
        return PermanentError(f"the ledger cannot be written ({reason})", where=where, next_step=step, code="ledger_read_only")
    if name == "SQLITE_FULL":
        return _full(where)
    if name in _TAKEN:
        return _overtaken(where)
    if name in _NO_PARENT:
        return set_back(where)
    return _silent(reason, where) if isinstance(error, sqlite3.OperationalError | sqlite3.InterfaceError) else None


def refused(where: str) -> PermanentError:
    """The file of a ledger is another account's, or no file."""
    step = "Let WAYBILL_LEDGER_URL name a file that this account may read and write, in a folder where it may make files"
    return PermanentError("this account may not open the ledger's file", where=where, next_step=step, code="ledger_refused")


def _no_tables(where: str) -> PermanentError:
    return PermanentError("the ledger has no tables yet", where=where, next_step="Run: waybill ledger upgrade", code="ledger_not_upgraded")


def _full(where: str) -> TransientError:
    step = "Free space on its disk; the next try goes on from there"
    return TransientError("the ledger's disk is full", where=where, next_step=step, code="ledger_full")


def _overtaken(where: str) -> TransientError:
    return TransientError("another process has just written the same", where=where, next_step="Run again", code="overtaken")


def set_back(where: str) -> TransientError:
    """An older state of the ledger took the place of the one that a run had begun with."""
    older = "an older state took its place, by a restore or a failover to a standby that lagged"
    step = "The next run plans anew; if it stops with ledger_behind, do what that says"
    return TransientError(f"the ledger no longer knows what this run planned: {older}", where=where, next_step=step, code="ledger_set_back")


def _silent(reason: Any, where: str) -> TransientError:
    return TransientError(
        f"the ledger does not answer ({reason})",
        where=where,
        next_step="Check WAYBILL_LEDGER_URL and that the database is up",
        code="ledger_unreachable",
    )
