"""The meaning of a driver's error: whether somebody has to correct something, or trying again may help.

Where a database numbers its errors, its number decides. Whatever does not tell of load, a lock or a lost connection cannot pass by itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from waybill.errors import PermanentError, TransientError, WaybillError
from waybill.sources.base import AGAIN
from waybill.sources.dbapi.drivers import POSTGRES_DRIVERS, root_of
from waybill.sources.postgres import session

_UNDECODABLE = "Could not decode to UTF-8"
"""Of SQLite; the text itself follows, which is not repeated."""
_UNREADABLE = ("codec not available", "no python encoding", "conversion between")
"""What drivers of PostgreSQL say of a database with an encoding that they cannot read (EUC_TW, MULE_INTERNAL)."""
_REFUSED = ("denied", "authentication", "unable to open", "unknown database", "does not exist", "no such", "doesn't exist")
_SQLITE_PASSES = frozenset(
    [
        *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_SCHEMA),
        *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT),
    ]
)
_MYSQL_PASSES = frozenset(
    [
        *(1021, 1030, 1037, 1041, 1114, 1135),  # disk, storage, memory, threads
        *(1040, 1129, 1203, 1226, 1637),  # too many connections, queries or transactions
        *(1042, 1043, 1152, 1158, 1159, 1160, 1161, 1184),  # the network
        *(1053, 1205, 1213, 1317, 1412, 1615, 1927, 1969, 3024),  # shut down, locked, killed, altered meanwhile, out of time
    ]
)
_MYSQL_CLIENT = range(2000, 3000)
"""Numbers of MySQL's client library. They are about the connection."""
_MYSQL_CLIENT_STAYS = frozenset([2007, 2019, 2026, 2049, 2054, 2059, 2061])
"""Those of them about what client and server have in common: protocol, character set, TLS, ways to log in."""
_MYSQL_VALUES = frozenset([1264, 1292, 1366, 1406, 1411, 1644, 1690])
"""Numbers of MySQL about a value, or about a view's own refusal, whose text may quote one."""
_OF_OUR_ASKING = (ArithmeticError, TypeError, AttributeError, NotImplementedError, ImportError, UnicodeError)
"""What a driver raises itself if it cannot do what it is asked for, however often it is asked."""


@contextmanager
def errors(where: str) -> Iterator[None]:
    """Translate a driver's errors. Drivers share no base class, only the names of PEP 249, and hooks raise anything."""
    try:
        yield
    except (WaybillError, duckdb.Error):
        raise
    except OSError as error:
        system_says = error.strerror or type(error).__name__
        raise TransientError(system_says, where=where, code="source_unreachable", next_step=AGAIN) from error
    except Exception as error:
        names = {base.__name__ for base in type(error).__mro__}
        if not names & {"Error", "DatabaseError", "InterfaceError"}:
            if isinstance(error, UnicodeDecodeError):
                raise _not_utf8(where) from error
            if isinstance(error, _OF_OUR_ASKING):
                what = f"the driver or its hook cannot do what it is asked for, and raised {type(error).__name__}"
                raise PermanentError(what, where=where, code="driver", next_step="The log shows where it came from") from error
            what = f"the driver or its hook raised an unexpected {type(error).__name__}"
            raise TransientError(what, where=where, code="driver", next_step="The log shows where it came from") from error
        raise _translated(error, names, where) from error


def _translated(error: Exception, names: set[str], where: str) -> WaybillError:
    """Return the translated error. A driver's message is dropped if it may quote a row, which is so if a value is at fault."""
    texts = [text for text in error.args if isinstance(text, str)]  # drivers put numbers and SQLSTATEs before or behind what they say
    driver_says = (max(texts, key=len, default=str(error)).splitlines() or [type(error).__name__])[0]
    if any(mark in driver_says.lower() for mark in _UNREADABLE):
        step = "Use another driver or a postgres source, or move the data to a database with the encoding UTF8"
        return PermanentError(driver_says, where=where, code="driver", next_step=step)
    if root_of(error) in POSTGRES_DRIVERS:
        return session.translated(error, where)
    if driver_says.startswith(_UNDECODABLE):
        column = driver_says.removeprefix(_UNDECODABLE).partition(" with text")[0].strip()
        return _not_utf8(where, f", in {column}" if column else "")
    number = _mysql_number(error)
    if names & {"DataError", "IntegrityError"} or number in _MYSQL_VALUES:
        what = f"a value was refused, or a view or function that the entity reads raised an error ({type(error).__name__})"
        return PermanentError(what, where=where, code="source_refused", next_step="The database's log shows the statement")
    if "NotSupportedError" in names:
        return PermanentError(driver_says, where=where, code="driver", next_step="Use another driver, or a view that it can read")
    if _passes(error, number, driver_says, names):
        return TransientError(driver_says, where=where, code="source_unreachable", next_step=AGAIN)
    step = "Correct the catalog, a view that the entity reads, the connection, or its rights"
    return PermanentError(driver_says, where=where, code="source_refused", next_step=step)


def _not_utf8(where: str, column: str = "") -> PermanentError:
    what = f"the database holds text that is not UTF-8{column}"
    return PermanentError(what, where=where, code="source_unreadable", next_step="Correct the text, or leave the column out")


def _mysql_number(error: Exception) -> int:
    """Return the number of an error of MySQL's. It is 0 for other databases, and where a driver gives none."""
    number = error.args[0] if error.args and root_of(error) in ("pymysql", "MySQLdb", "mysql") else 0
    return number if isinstance(number, int) else 0


def _passes(error: Exception, number: int, driver_says: str, names: set[str]) -> bool:
    """Return whether trying again may help. If the database numbers no errors, its words decide."""
    if (code := getattr(error, "sqlite_errorcode", None)) is not None:
        return code & 0xFF in _SQLITE_PASSES  # the other bits say more about the same
    if number:
        return number not in _MYSQL_CLIENT_STAYS if number in _MYSQL_CLIENT else number in _MYSQL_PASSES
    return "ProgrammingError" not in names and not any(mark in driver_says.lower() for mark in _REFUSED)
