"""The differences between DB-API drivers and databases: placeholders, quoting, streaming, transactions, clocks, lists of columns."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any, Protocol

from waybill.errors import PermanentError
from waybill.sources.dbapi import over_sqlite
from waybill.sources.postgres.settings import REPLAYED, transaction_settings
from waybill.sources.postgres.spelling import BASE_TYPE, KEEPS_NULLS_OUT, SCHEMA_IN_PATH
from waybill.sources.sql import Bind, Sql, sql

CONNECTOR = "named, of MySQL's connector"
"""The parameter style of mysql-connector-python as it is used here."""
STATEMENT_TIMEOUT = timedelta(hours=1)
"""The time after which PostgreSQL cancels one query, whatever the role says."""
_STREAMING_BY_NATURE = frozenset({"sqlite3", "pyodbc", "snowflake", "mysql", "trino", "duckdb"})
"""Root modules of drivers with a plain cursor that streams."""

_STANDARD_COLUMNS = """
SELECT column_name, data_type FROM information_schema.columns WHERE table_name = {} AND table_schema = {} ORDER BY ordinal_position
"""
_POSTGRES_COLUMNS = f"""
SELECT a.attname, t.native
  FROM pg_attribute a
  {BASE_TYPE}
  JOIN pg_class c ON c.oid = a.attrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relname = {{}} AND n.nspname = {{}} AND a.attnum > 0 AND NOT a.attisdropped AND has_column_privilege(c.oid, a.attnum, 'SELECT')
 ORDER BY a.attnum
"""  # noqa: S608 (a constant)

_STANDARD_NEVER_NULL = """
SELECT column_name FROM information_schema.columns WHERE table_name = {} AND table_schema = {} AND is_nullable = 'NO'
"""
_POSTGRES_NEVER_NULL = f"""
SELECT a.attname
  FROM pg_attribute a
  JOIN pg_class r ON r.oid = a.attrelid
  JOIN pg_namespace n ON n.oid = r.relnamespace
 WHERE r.relname = {{}} AND n.nspname = {{}} AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull AND {KEEPS_NULLS_OUT}
"""  # noqa: S608 (a constant)
"""The standard's view also lists columns that only a domain keeps free of NULL, which a subquery without rows puts there anyway."""

_POSTGRES_CLOCK = f"""
SELECT clock_timestamp(), {REPLAYED}, set_config('search_path', concat_ws(', ', nullif(nullif(reset_val, ''), '""'), 'pg_temp'), true)
  FROM pg_settings WHERE name = 'search_path'
"""  # noqa: S608 (a constant)
"""The times, and our search path. The first query takes the snapshot: what has to happen before it cannot wait for another one.

The search path of role and database, with temporary tables last: another user of a pooled session may have changed it."""

_WITHOUT_SNAPSHOTS = """
SELECT t.table_name, t.engine
  FROM information_schema.tables AS t
  JOIN information_schema.engines AS e ON e.engine = t.engine AND e.transactions <> 'YES'
 WHERE t.table_schema = {} AND t.table_name = {}
"""
_SQLITE_COLLATED = """
SELECT (SELECT count(*) FROM pragma_database_list) > 1 OR EXISTS (SELECT 1 FROM sqlite_master WHERE sql LIKE '%collate%')
"""
"""Other databases that are attached are not looked into."""
_POSTGRES_COLLATED = """
SELECT EXISTS (SELECT FROM pg_collation WHERE NOT collisdeterministic) OR EXISTS (SELECT FROM pg_type WHERE typname = 'citext')
"""
_MYSQL_OFFSET = "SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), CONVERT_TZ(UTC_TIMESTAMP(), '+00:00', @@GLOBAL.time_zone))"
_MYSQL_ROWS = f"""SET SESSION sql_select_limit = 18446744073709551615, max_join_size = 18446744073709551615, sql_big_selects = 1,
    group_concat_max_len = 1073741824
/*!50708 , max_execution_time = {int(STATEMENT_TIMEOUT.total_seconds() * 1000)} */
/*M!100100 , max_statement_time = {int(STATEMENT_TIMEOUT.total_seconds())} */ /*M!100305 , system_versioning_asof = DEFAULT */"""
"""What decides which rows a session of MySQL or MariaDB sees, and how long it may look.

A limit for all sessions cuts every result, or the texts that a view gathers, without a word. Of these, MariaDB allows no more than here,
and a session of `STRICT_ALL_TABLES` is refused what is not allowed. MySQL takes the lines of MariaDB's
for comments, and MariaDB that of MySQL's.
"""
_CHANGING_TEXT = frozenset({"PAD_CHAR_TO_FULL_LENGTH", "EMPTY_STRING_IS_NULL"})
"""Modes of a MySQL session that change the text of a value."""


class Cursor(Protocol):
    """The part of PEP 249 that is used."""

    description: Any
    arraysize: int

    def execute(self, statement: str, parameters: Any = ..., /) -> Any: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> Any: ...
    def fetchmany(self, size: int = ..., /) -> Any: ...
    def close(self) -> None: ...


def _nothing(connection: Any) -> None:
    """A connection reads values as they are stored already."""


@dataclass(frozen=True)
class Database:
    """One kind of database, reached through one driver."""

    name: str
    mark: str
    paramstyle: str
    begin: tuple[str, ...]
    clock: str
    """The statement for the server's clock, and beside it, for PostgreSQL, the time up to which it shows what was committed."""
    schema: str
    columns: str
    stream: Callable[[Any], Cursor] | None
    """Opens a cursor that does not gather the result in memory. None if no such cursor is known."""
    settle: Callable[[Any], None] = _nothing
    """Makes a connection read values as they are stored, whatever its own settings say."""
    offset: str = ""
    """The statement for the seconds between the server's own clock and UTC."""
    collated: str = ""
    """Asks whether columns may compare otherwise than by their bytes. Empty if it is not known."""
    declared_not_null: str = _STANDARD_NEVER_NULL
    """Asks for the columns of a relation that never hold NULL."""
    bytewise: str = "BINARY"
    """The collation of SQLite that orders texts by their bytes in UTF-8."""
    dynamic: bool = False
    """True if a declared type does not restrict values (SQLite). Each value is then checked as it is read."""

    def binding(self, native: str) -> str:
        """Return the declared type, in small letters, as far as it says what a value is.

        A FLOAT has four bytes in MySQL, eight elsewhere.
        """
        declared = "" if self.dynamic else native.lower()
        return "double" if declared.startswith("float") and self.name != "MySQL" else declared

    def placeholder(self, bind: Bind) -> str:
        mark = {"qmark": "?", "format": "%s", "pyformat": "%s"}.get(self.paramstyle)
        if mark is None:
            raise PermanentError(
                f"the driver's parameter style {self.paramstyle} is not supported",
                where=self.name,
                allowed="qmark, format, pyformat",
                code="driver",
            )
        return mark

    def render(self, statement: Sql) -> tuple[str, Any]:
        """Return the statement and its parameters, as the driver takes them."""
        if self.paramstyle == CONNECTOR:
            return _render_for_connector(statement)
        escape = str if self.paramstyle == "qmark" else (lambda text: text.replace("%", "%%"))
        return statement.render(self.placeholder, escape)

    def never_null(self, relation: list[str]) -> Sql:
        """Return the statement that lists a relation's columns that are declared NOT NULL."""
        if self.dynamic:  # a primary key that is no INTEGER may hold NULL in SQLite
            return sql("""SELECT name FROM pragma_table_xinfo({}, {}) WHERE "notnull" = 1""", Bind(relation[-1]), _attached(relation))
        return sql(self.declared_not_null, Bind(relation[-1]), self._schema(relation))

    def without_snapshots(self, relation: list[str]) -> Sql | None:
        """Return the statement that names a table's engine if it has no transactions. None if all engines of the database have them."""
        if self.name != "MySQL":
            return None
        return sql(_WITHOUT_SNAPSHOTS, self._schema(relation), Bind(relation[-1]))

    def literal_columns(self, relation: list[str]) -> Sql:
        """Return the statement that lists a relation's columns and declared types."""
        if self.dynamic:
            return sql("SELECT name, type FROM pragma_table_xinfo({}, {})", Bind(relation[-1]), _attached(relation))
        return sql(self.columns, Bind(relation[-1]), self._schema(relation))

    def _schema(self, relation: list[str]) -> Sql:
        if len(relation) > 1:
            return sql("{}", Bind(relation[-2]))
        return sql(SCHEMA_IN_PATH, Bind(relation[-1])) if self.name == "PostgreSQL" else sql("{}", self.schema)


def _render_for_connector(statement: Sql) -> tuple[str, dict[str, Any]]:
    """Return a statement whose parameters have names, and what they stand for.

    MySQL's connector makes `%` of `%(x)%` where there is a parameter, and knows no other way to write what might be one.
    """
    numbers = count()
    escape = (lambda text: text.replace("%(", "%(x)%(")) if any(isinstance(part, Bind) for part in statement.parts) else str
    text, values = statement.render(lambda _: f"%(w{next(numbers)})s", escape)
    return text, {f"w{number}": value for number, value in enumerate(values)}


def _attached(relation: list[str]) -> Bind:
    """Return the database of SQLite's that a relation names. None lets SQLite look into all that are attached."""
    return Bind(relation[-2] if len(relation) > 1 else None)


def database(connection: Any) -> Database:
    """Return how to talk to the database behind a connection, by the driver's module."""
    root = root_of(connection)
    style = getattr(connection, "paramstyle", "") or getattr(sys.modules.get(root), "paramstyle", "format")
    if root == "sqlite3":
        return Database(
            "SQLite",
            '"',
            style,
            ("PRAGMA query_only = ON", "BEGIN"),
            "SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')",
            "",
            "",
            _plain,
            over_sqlite.teach,
            collated=_SQLITE_COLLATED,
            bytewise=over_sqlite.bytewise(connection),
            dynamic=True,
        )
    if root in ("pymysql", "MySQLdb", "mysql"):
        return _mysql(root, style)
    if root in POSTGRES_DRIVERS:
        settings = transaction_settings(connection.info.server_version, STATEMENT_TIMEOUT)
        begin = ("; ".join(["SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY", *settings]),)
        settle = _settle_psycopg2 if root == "psycopg2" else _nothing
        return Database(
            "PostgreSQL",
            '"',
            style,
            begin,
            _POSTGRES_CLOCK,
            "current_schema()",
            _POSTGRES_COLUMNS,
            _named,
            settle,
            collated=_POSTGRES_COLLATED,
            declared_not_null=_POSTGRES_NEVER_NULL,
        )
    stream = _plain if root in _STREAMING_BY_NATURE else None
    return Database(root, '"', style, (), "SELECT CURRENT_TIMESTAMP", "CURRENT_SCHEMA", _STANDARD_COLUMNS, stream)


def _mysql(root: str, style: str) -> Database:
    is_connector = root == "mysql"
    begin = (
        "SET SESSION time_zone = '+00:00'",
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET SESSION max_sort_length = 65536",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
    )
    columns = _STANDARD_COLUMNS.replace("data_type", "column_type")
    return Database(
        "MySQL",
        "`",
        CONNECTOR if is_connector else style,
        begin,
        "SELECT UTC_TIMESTAMP(6)",
        "DATABASE()",
        columns,
        _plain if is_connector else _unbuffered,
        _settle_mysql,
        _MYSQL_OFFSET,
    )


def _settle_psycopg2(connection: Any) -> None:
    connection.set_client_encoding("UTF8")


def _settle_mysql(connection: Any) -> None:
    """Make all rows arrive, and text as it is stored. Another character set would silently replace what it lacks by question marks."""
    for name in ("set_character_set", "set_charset_collation"):
        if hasattr(connection, name):
            getattr(connection, name)("utf8mb4")
            break
    if hasattr(connection, "can_consume_results"):  # else the connector refuses what follows, even a close, before all rows are read
        connection.can_consume_results = True
    with closing(connection.cursor()) as cursor:
        cursor.execute(_MYSQL_ROWS)
        cursor.execute("SELECT @@SESSION.sql_mode, @@SESSION.optimizer_switch")
        modes, switches = (str(setting).split(",") for setting in cursor.fetchone())
        if not _CHANGING_TEXT.isdisjoint(modes):
            cursor.execute(f"SET SESSION sql_mode = '{','.join(mode for mode in modes if mode not in _CHANGING_TEXT)}'")
        if "subquery_cache=on" in switches:  # MariaDB would take what it found for `c1` as the answer for `C1`, whatever is asked
            cursor.execute("SET SESSION optimizer_switch = 'subquery_cache=off'")


POSTGRES_DRIVERS = frozenset({"psycopg", "psycopg2"})


def root_of(thing: Any) -> str:
    """Return the driver's package, by a connection or an error of its own."""
    return type(thing).__module__.partition(".")[0]


def _plain(connection: Any) -> Any:
    return connection.cursor()


def _named(connection: Any) -> Any:
    return connection.cursor(name="waybill")


def _unbuffered(connection: Any) -> Any:
    root = root_of(connection)
    return connection.cursor(sys.modules[f"{root}.cursors"].SSCursor)
