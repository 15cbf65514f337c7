"""The real sources that the story in `mirror` is written into, one of each kind."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import duckdb
import psycopg

from tests.faults.live import MIGRATION
from tests.servers.mariadb import MariaDatabase
from tests.servers.postgres import Database

Values = dict[str, Any]
Statement = tuple[str, Sequence[Any]]

COLUMNS = {
    "id": "integer",
    "code": "string",
    "name": "string",
    "amount": "decimal",
    "seen": "date",
    "flag": "boolean",
    "updated_at": "timestamp",
    "deleted_at": "timestamp",
}


class Source(Protocol):
    """A real source: what the catalog says of it, and how rows get into it."""

    spec: dict[str, Any]
    env: dict[str, str]
    modes: tuple[str, ...]

    def make(self) -> None: ...
    def write(self, statements: Sequence[Statement]) -> None: ...
    def hold(self, statement: Statement) -> Callable[[], None] | None:
        """Write in a transaction that stays open. Returns what commits it, or None where an open writer holds up all others."""

    def rebuild(self, dice: random.Random) -> None:
        """Put the same rows into another table of the same name, as jobs that swap, rewrite or reload do."""


_COLUMNS = "id bigint, code {text}, name {text}, amount {decimal}, seen date, flag boolean, updated_at {time}, deleted_at {time}"
TABLES = {
    "thing": (f"tenant_id {{text}}, {_COLUMNS}", "tenant_id, id"),
    "event": (f"tenant_id {{text}}, {_COLUMNS}", "tenant_id, id"),
    "parent": ("tenant_id {text}, id bigint", "id"),
    "child": (f"parent_id bigint, {_COLUMNS}", "id"),
}
"""Columns and key. Rows of `thing` change in every way. To `event` rows are added, with a higher id than before or one that was left out,
and purged. Whose a `child` is, only its `parent` tells.
"""


def _tables(*, keyed: bool = True, **types: str) -> Iterator[str]:
    for name, (columns, key) in TABLES.items():
        yield f"create table {name} ({columns.format(**types)}{f', primary key ({key})' if keyed else ''})"


@dataclass
class PostgresBooks:
    database: Database
    pool: Database | None = None
    """What the product connects to in its place."""
    modes: tuple[str, ...] = ("snapshot", "lookback", "full", "append")

    def __post_init__(self) -> None:
        shown = self.pool or self.database
        at = {"conn_type": "postgres", "host": shown.host, "port": shown.port, "login": shown.user}
        self.spec: dict[str, Any] = {"kind": "postgres", "connection": "books", "statement_timeout": "60s"}
        self.env = {"AIRFLOW_CONN_BOOKS": json.dumps({**at, "schema": self.database.name})}

    def make(self) -> None:
        for table in _tables(text="text", decimal="numeric(12,2)", time="timestamptz"):
            self.database.psql(table)
        self._stamped()

    def _stamped(self) -> None:
        script = MIGRATION.read_text().replace(":'table'", "'thing'").replace(":table", "thing").replace(":'tenant'", "'tenant_id'")
        self.database.psql("".join(line for line in script.splitlines(True) if not line.startswith(("\\if", "\\set"))))

    def write(self, statements: Sequence[Statement]) -> None:
        with psycopg.connect(self.database.dsn) as connection:
            for text, values in statements:
                connection.execute(text.replace("?", "%s").encode(), values)

    def hold(self, statement: Statement) -> Callable[[], None]:
        connection = psycopg.connect(self.database.dsn)
        connection.execute(statement[0].replace("?", "%s").encode(), statement[1])

        def commit() -> None:
            with connection:
                connection.commit()

        return commit

    def rebuild(self, dice: random.Random) -> None:
        how = dice.choice(
            [
                "vacuum full thing",
                "analyze thing",
                "cluster thing using thing_pkey",
                "alter table thing alter amount type numeric(14,2)",
                "alter table thing alter amount type numeric(12,2)",
                "begin; create temp table kept on commit drop as table thing; truncate thing; insert into thing table kept; commit",
                "begin; alter table thing add extra int default 7; alter table thing drop extra; commit",
            ]
        )
        self.database.psql(how)


@dataclass
class DuckDBBooks:
    path: Path
    modes: tuple[str, ...] = ("lookback", "full", "append")
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.spec: dict[str, Any] = {"kind": "duckdb", "path": str(self.path)}

    def make(self) -> None:
        with duckdb.connect(str(self.path)) as connection:
            for table in _tables(keyed=False, text="varchar", decimal="decimal(12,2)", time="timestamptz"):
                connection.execute(table)

    def write(self, statements: Sequence[Statement]) -> None:
        with duckdb.connect(str(self.path)) as connection:
            for text, values in statements:
                connection.execute(text, list(values))

    def hold(self, statement: Statement) -> None:
        return None

    def rebuild(self, dice: random.Random) -> None:
        how = dice.choice(["order by id desc", "order by random()", ""])
        swap = "create table other as select * from thing " + how, "drop table thing", "alter table other rename to thing"
        self.write([(text, ()) for text in swap])


@dataclass
class LakeBooks(DuckDBBooks):
    """Parquet: written anew after every change, in files that are laid out otherwise each time."""

    dice: random.Random = field(default_factory=lambda: random.Random(1))

    def __post_init__(self) -> None:
        self.folder = self.path.parent / "lake"
        self.spec = {"kind": "lake", "path": str(self.folder)}

    def make(self) -> None:
        super().make()
        self._write_files()

    def write(self, statements: Sequence[Statement]) -> None:
        super().write(statements)
        self._write_files()

    def _write_files(self) -> None:
        for name in TABLES:
            self._write_files_of(name)

    def _write_files_of(self, name: str) -> None:
        new = self.folder / "_new"
        new.mkdir(parents=True, exist_ok=True)
        parts = self.dice.randrange(1, 4)
        with duckdb.connect(str(self.path)) as connection:
            for number in range(parts):
                target = new / f"{self.dice.randrange(10**9)} [{number}].parquet"
                connection.execute(f"copy (select * from {name} where hash(id) % {parts} = {number}) to '{target}' (format parquet)")
        (self.folder / name).mkdir(exist_ok=True)
        old = list((self.folder / name).iterdir())
        for path in new.iterdir():
            path.rename(self.folder / name / path.name)
        for path in old:
            path.unlink()

    def rebuild(self, dice: random.Random) -> None:
        self._write_files()


@dataclass
class SqliteBooks:
    path: Path
    modes: tuple[str, ...] = ("lookback", "full", "append")

    def __post_init__(self) -> None:
        self.spec: dict[str, Any] = {"kind": "dbapi", "connection": "books"}
        self.env = {"AIRFLOW_CONN_BOOKS": json.dumps({"conn_type": "sqlite", "host": str(self.path)})}

    def make(self) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("pragma journal_mode = wal")
            for table in _tables(text="text", decimal="decimal(12,2)", time="timestamp"):
                connection.execute(table)

    def write(self, statements: Sequence[Statement]) -> None:
        def plain(value: Any) -> Any:
            if isinstance(value, datetime):
                return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ")
            return str(value) if isinstance(value, date | Decimal) else value

        with closing(sqlite3.connect(self.path)) as connection, connection:
            for text, values in statements:
                connection.execute(text, [plain(value) for value in values])

    def hold(self, statement: Statement) -> None:
        return None

    def rebuild(self, dice: random.Random) -> None:
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("vacuum")


@dataclass
class MariaBooks:
    """Read in this process, through `connect`: Airflow's own hook for MySQL needs a provider with a library of its own."""

    database: MariaDatabase
    modes: tuple[str, ...] = ("lookback", "full", "append")

    def __post_init__(self) -> None:
        self.spec: dict[str, Any] = {"kind": "dbapi", "connection": "books"}
        self.env: dict[str, str] = {}

    def connect(self) -> Any:
        return self.database.connect()

    def make(self) -> None:
        tables = _tables(text="varchar(40)", decimal="decimal(12,2)", time="datetime(6)")
        self.write([(f"{table} engine = InnoDB", ()) for table in tables])

    def write(self, statements: Sequence[Statement]) -> None:
        with closing(self.connect()) as connection:
            for statement in statements:
                self._execute(connection, statement)
            connection.commit()

    def _execute(self, connection: Any, statement: Statement) -> None:
        text, values = statement
        plain = [value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) else value for value in values]
        with connection.cursor() as cursor:
            cursor.execute(text.replace("?", "%s"), plain)

    def hold(self, statement: Statement) -> Callable[[], None]:
        connection = self.connect()
        self._execute(connection, statement)

        def commit() -> None:
            with closing(connection):
                connection.commit()

        return commit

    def rebuild(self, dice: random.Random) -> None:
        how = dice.choice(["alter table thing engine = InnoDB", "alter table thing order by id desc", "analyze table thing"])
        self.write([(how, ())])


def books(kind: str, folder: Path, server: Callable[[str], Any]) -> Source:
    """A source of a kind. `server` returns what is named: a database of PostgreSQL or MariaDB."""
    match kind:
        case "postgres":
            return PostgresBooks(server("postgres"))
        case "pgbouncer":
            return PostgresBooks(server("postgres"), server("pooled"))
        case "mariadb":
            return MariaBooks(server("mariadb"))
        case "duckdb":
            return DuckDBBooks(folder / "books.duckdb")
        case "lake":
            return LakeBooks(folder / "books.duckdb")
    return SqliteBooks(folder / "books.sqlite")
