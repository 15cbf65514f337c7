"""PostgreSQL 13 and later: COPY straight from the file into a staging table, then one INSERT ... ON CONFLICT.

A full delivery changes only the rows that differ, so readers never see an empty table and are never locked out.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from waybill_consumer.errors import Refused, Unreachable, without_password
from waybill_consumer.manifest import Column
from waybill_consumer.targets import Shape, Widen
from waybill_consumer.targets.data import DataFile
from waybill_consumer.targets.sql import (
    DELIVERIES,
    Changes,
    SqlTarget,
    is_long,
    names,
    no_such_value,
    not_unique,
    on_conflict,
    quoted,
    refused_by_database,
)

if TYPE_CHECKING:
    import psycopg

STAGE = "pg_temp._waybill_stage"
"""The name with its schema. A table of that name that somebody else has in the search path is another one."""
_LONGEST_NAME = 63
_TYPES = {
    "integer": "bigint",
    "float": "double precision",
    "boolean": "boolean",
    "date": "date",
    "timestamp": "timestamptz",
    "uuid": "uuid",
    "binary": "bytea",
}
_SPELT = {
    "timestamp": (
        'case when isfinite({0}) then to_char({0}, \'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\') || '
        "case when {0} < '0001-01-01Z' then ' BC' else '' end else {0}::text end"
    ),
    "binary": "translate(encode({}, 'base64'), E'\\n', '')",
}
"""Types that PostgreSQL spells differently from the files."""
_BY_TEXT = ("decimal", "float", "json")
"""Equal values may be written differently, and json has no equality, so they are compared as text."""
_IN_SCHEMA = "join pg_class c on c.oid = {} join pg_namespace n on n.oid = c.relnamespace where n.nspname = ? and c.relname = ?"
_COLUMNS = (
    f"select attname, format_type(atttypid, atttypmod) from pg_attribute {_IN_SCHEMA.format('attrelid')} "
    "and attnum > 0 and not attisdropped order by attnum"
)
_KEY = f"select conname from pg_constraint {_IN_SCHEMA.format('conrelid')} and contype = 'p'"


class Postgres(SqlTarget):
    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]], schema: str) -> None:
        super().__init__()
        self._connection = connection
        self.schema = schema
        self._unindexed: set[str] = set()

    def sql_type(self, column: Column, *, is_key: bool = False) -> str:
        if column.type == "decimal" or (column.type == "integer" and is_long(column)):
            fits = column.type == "decimal" and column.precision is not None and column.scale is not None
            return f"numeric({column.precision}, {column.scale})" if fits else "numeric"
        if column.type == "json" and is_key:
            return "text"  # json has no equality
        if column.type == "json":
            # jsonb reorders keys and drops double ones, so it is only used for what was jsonb before it came.
            return "jsonb" if column.native_type.lower() == "jsonb" else "json"
        return _TYPES.get(column.type, "text")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        import psycopg

        self._unindexed.clear()
        try:
            with self._connection.transaction():
                yield
        except psycopg.DatabaseError as error:  # of the transaction's own statements: begin, commit
            raise self._refusal(self.entity or "postgresql", error) from error

    def tenants(self) -> list[str]:
        self._name_schema()
        return super().tenants()

    def _name_schema(self) -> None:
        """The schema is named, so that no table of the system's own comes before the entity's."""
        self.schema = self.schema or str(self._run("select coalesce(current_schema(), '')")[0][0])
        if not self.schema:
            raise Refused("this login has no schema to load into", where="postgresql", next_step="Name one with --schema")

    def prepare(self) -> None:
        self._name_schema()
        if len(self.schema.encode()) > _LONGEST_NAME:
            raise Refused(f"the schema {self.schema} has a longer name than PostgreSQL keeps", next_step="Choose a shorter one")
        # Two loads that begin at once would both make the tables of the memory. The second one waits, and then sees them.
        self._run("select pg_advisory_xact_lock(hashtext('waybill-consumer'), hashtext(?))", [self.schema])
        if not self._run("select 1 from pg_namespace where nspname = ?", [self.schema]):
            self._run(f"create schema if not exists {quoted(self.schema)}")
        super().prepare()

    def _columns(self, table: str) -> dict[str, str]:
        return dict(self._run(_COLUMNS, [self.schema, table]))

    def is_applied(self, content: str) -> bool:
        # Another load waits here, and then sees what was loaded.
        self._run(f"lock table {self.table(DELIVERIES)} in share row exclusive mode")
        return super().is_applied(content)

    def _reshape(self, entity: str, old: Shape | None, new: Shape, own: dict[str, str], *, emptied: bool) -> None:
        if too_long := next((column.name for column in new.columns if len(column.name.encode()) > _LONGEST_NAME), None):
            raise Refused(f"the column {too_long} has a longer name than PostgreSQL keeps", where=entity, next_step="Ask for a shorter one")
        table = self.table(entity)
        if old is None:
            # The key comes after the rows of a full delivery. That is one sort instead of as many look-ups as rows.
            self._run(f"create table {table} ({self._definitions(new, keyed=False)})")
            self._unindexed.add(entity)
        else:
            changes = self._changes(old, new)
            if changes.retyped and emptied:
                self._run(f"truncate {table}")
            self._rename(table, changes)
            actions = [f"add column {quoted(column.name)} {self.sql_type(column)}" for column in changes.added]
            actions += [self._retype(was, now, self._kept_as(now, new)) for was, now in changes.retyped]
            if changes.key(old) != new.key:
                for (name,) in self._run(_KEY, [self.schema, entity]):
                    self._run(f"alter table {table} drop constraint {quoted(name)}")
                self._unindexed.add(entity)
            if actions:
                self._alter(entity, actions, [now for _, now in changes.retyped])

    def _rename(self, table: str, changes: Changes) -> None:
        """Drop what goes first, then rename all columns at once, because one may take the name of another."""
        for column in changes.gone:
            self._run(f"alter table {table} drop column {quoted(column.name)}")
        for number, was in enumerate(changes.renamed):
            self._run(f"alter table {table} rename column {quoted(was)} to {quoted(f'_waybill_renamed_{number}')}")
        for number, name in enumerate(changes.renamed.values()):
            self._run(f"alter table {table} rename column {quoted(f'_waybill_renamed_{number}')} to {quoted(name)}")

    def _alter(self, entity: str, actions: Sequence[str], retyped: Sequence[Column]) -> None:
        import psycopg

        try:
            self._run(f"alter table {self.table(entity)} {', '.join(actions)}")
        except Refused as error:
            if isinstance(error.__cause__, psycopg.errors.NumericValueOutOfRange):
                longer = [column._replace(precision=38 if column.type == "integer" else None, scale=None) for column in retyped]
                if wider := [column for column in longer if column.type in ("integer", "decimal") and column not in retyped]:
                    raise Widen(*wider) from error
            if retyped and isinstance(error.__cause__, psycopg.DataError):
                raise no_such_value(entity, retyped) from error
            raise

    def _retype(self, was: Column, now: Column, kind: str) -> str:
        name = quoted(now.name)
        text = _SPELT.get(was.type, "{}::text").format(name)
        if now.type == "integer" and was.type in ("decimal", "float"):
            text = f"trim_scale({text}::numeric)::text"  # 5.0 is an integer, and 5.5 is refused instead of rounded
        value = f"decode({text}, 'base64')" if now.type == "binary" else text
        return f"alter column {name} type {kind} using {value}::{kind}"

    def replace(self, entity: str, shape: Shape, files: Sequence[DataFile]) -> None:
        table = self.table(entity)
        if not self._run(f"select 1 from {table} limit 1"):
            if any(column.type == "binary" for column in files[0].columns):
                self.append(entity, shape, files)
            else:
                self._copy(entity, table, files)
            self._index(entity, shape)
            return
        self._index(entity, shape)
        self._stage(entity, files)
        if not shape.key:
            self._run(f"delete from {table}")
            self._insert(entity, shape, files, "")
            return
        self._run(f"analyze {STAGE}")
        matching = _same_key("staged", [shape.column(name) for name in shape.key])
        self._run(f"delete from {table} as held where not exists (select from {STAGE} as staged where {matching})")
        changed = " or ".join(
            f"{_compared('held', column)} is distinct from {_compared('excluded', column)}" for column in files[0].columns
        )
        conflict = on_conflict(files[0].columns, shape.key)
        self._insert(entity, shape, files, conflict + (f" where {changed}" if "do update" in conflict else ""), alias=" as held")

    def append(self, entity: str, shape: Shape, files: Sequence[DataFile]) -> None:
        self._stage(entity, files)
        self._insert(entity, shape, files, "")

    def upsert(self, entity: str, shape: Shape, files: Sequence[DataFile]) -> None:
        self._index(entity, shape)
        self._stage(entity, files)
        self._insert(entity, shape, files, on_conflict(files[0].columns, shape.key))

    def delete(self, entity: str, shape: Shape, file: DataFile) -> None:
        self._index(entity, shape)
        self._stage(entity, [file])
        matching = _same_key("gone", file.columns[:-1])
        self._run(f"delete from {self.table(entity)} as held using {STAGE} as gone where {matching}")
        self._run(f"drop table {STAGE}")

    def _index(self, entity: str, shape: Shape) -> None:
        if entity in self._unindexed:
            self._unindexed.discard(entity)
            if shape.key:
                self._run(f"alter table {self.table(entity)} add primary key ({names(shape.key)})", (), shape.key)

    def _insert(self, entity: str, shape: Shape, files: Sequence[DataFile], conflict: str, alias: str = "") -> None:
        columns = files[0].columns
        values = ", ".join(self._value(column, shape) for column in columns)
        self._run(f"insert into {self.table(entity)}{alias} ({names(columns)}) select {values} from {STAGE} {conflict}", (), shape.key)
        self._run(f"drop table {STAGE}")

    def _value(self, column: Column, shape: Shape) -> str:
        """Return a staged value as its column holds it."""
        value = _unstaged(quoted(column.name), column)
        return f"{value}::{self._kept_as(column, shape)}" if column.type == "json" else value

    def _stage(self, entity: str, files: Sequence[DataFile]) -> None:
        columns = files[0].columns
        staged = [(column, "text" if column.type in ("binary", "json") else self.sql_type(column)) for column in columns]
        listed = ", ".join(f"{quoted(column.name)} {kind}" for column, kind in staged)
        self._run(f"create temporary table {STAGE.partition('.')[2]} ({listed}) on commit drop")
        self._copy(entity, STAGE, files)

    def _copy(self, entity: str, table: str, files: Sequence[DataFile]) -> None:
        import psycopg

        for file in files:
            delimiter = file.dialect.delimiter.replace("'", "''")
            options = f"format csv, header true, delimiter '{delimiter}', null '', encoding 'UTF8'"
            try:
                with self._connection.cursor() as cursor:
                    with cursor.copy(f"copy {table} ({names(file.columns)}) from stdin ({options})") as copy:
                        for block in file.plain():
                            copy.write(block)
                    file.check_rows(cursor.rowcount)
            except psycopg.errors.NumericValueOutOfRange as error:
                raise _too_narrow(entity, file, error) from error
            except psycopg.DatabaseError as error:
                if not self._connection.closed and not isinstance(error, _passing()):
                    file.check_records()  # damage in the file explains it better
                raise self._refusal(entity, error) from error

    def _run(self, statement: str, parameters: Sequence[Any] = (), key: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        import psycopg

        try:
            # Names may contain a per cent sign, which means something to the driver only if there are parameters.
            cursor = self._connection.execute(statement.replace("?", "%s") if parameters else statement, parameters or None)
            return cursor.fetchall() if cursor.description else []
        except psycopg.DatabaseError as error:
            raise self._refusal(self.entity or "postgresql", error, key) from error

    def _refusal(self, entity: str, error: psycopg.DatabaseError, key: Sequence[str] = ()) -> Exception:
        import psycopg

        if isinstance(error, psycopg.errors.UniqueViolation | psycopg.errors.NotNullViolation | psycopg.errors.CardinalityViolation):
            return not_unique(entity, key or ("key columns",))
        if "statement pooling mode" in str(error):
            step = "Set pool_mode to transaction or session for this database in its pool: every load is one transaction"
            return Refused(_first(error), where=entity, next_step=step)
        if self._connection.closed or (isinstance(error, psycopg.OperationalError) and error.sqlstate is None):
            return Unreachable(f"the database stopped answering: {_first(error)}", next_step="Load again")
        if isinstance(error, _passing()):
            step = "Load again; if it is still so, give this login more time in PostgreSQL, or look who holds the table"
            return Refused(f"the database gave up: {_first(error)}", where=entity, next_step=step)
        if isinstance(error, psycopg.errors.CharacterNotInRepertoire) and "0x00" in str(error):
            step = "Ask the sender to leave that character out, or load into DuckDB or SQLite"
            return Refused("a text holds the character NUL, which PostgreSQL cannot keep", where=entity, next_step=step)
        if isinstance(error, psycopg.errors.DependentObjectsStillExist | psycopg.errors.FeatureNotSupported) and error.diag.message_detail:
            step = "Drop the view that reads it, load, and make the view again; nothing of this delivery was kept"
            detail = "; ".join(error.diag.message_detail.splitlines())
            return Refused(f"the database refuses it: {_first(error)} ({detail})", where=entity, next_step=step)
        return refused_by_database(entity, str(error))


def _unstaged(value: str, column: Column) -> str:
    """Return a staged value that can be compared. Binary and JSON are staged as they are in the file."""
    return f"decode({value}, 'base64')" if column.type == "binary" else value


def _same_key(staged: str, key: Sequence[Column]) -> str:
    return " and ".join(f"held.{quoted(column.name)} = {_unstaged(f'{staged}.{quoted(column.name)}', column)}" for column in key)


def _compared(row: str, column: Column) -> str:
    return f"{row}.{quoted(column.name)}{'::text' if column.type in _BY_TEXT else ''}"


def _too_narrow(entity: str, file: DataFile, error: psycopg.Error) -> Exception:
    """A number is longer than its column. PostgreSQL names the column only in the context of the error."""
    named = re.search(r"column (.+): \"", error.diag.context or "")
    column = next((column for column in file.columns if named is not None and named[1] in (column.name, quoted(column.name))), None)
    if column is None or column.type not in ("integer", "decimal") or (column.type == "integer" and is_long(column)):
        return refused_by_database(entity, str(error))
    return Widen(column._replace(precision=38 if column.type == "integer" else None, scale=None))


def _passing() -> tuple[type[psycopg.Error], ...]:
    """What another run may not meet: time limits, locks, deadlocks."""
    import psycopg

    errors = psycopg.errors
    return errors.QueryCanceled, errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure


def _first(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0]


@contextmanager
def postgres_target(url: str, schema: str) -> Iterator[Postgres]:
    try:
        import psycopg
    except ImportError:
        raise Refused("postgresql: needs psycopg", next_step='Install it: pip install "waybill-consumer[postgres]"') from None
    scheme, mark, rest = url.partition("://")
    try:
        connection = psycopg.connect(f"{scheme.partition('+')[0]}{mark}{rest}", autocommit=True, connect_timeout=30, client_encoding="utf8")
    except psycopg.ProgrammingError as error:
        # What the library says of a URL may quote the password.
        is_open = without_password(url) == url and "password" not in url.lower()
        why = f": {_first(error)}" if is_open else ""
        step = "Write postgresql://user@host/database; a password goes into PGPASSWORD or ~/.pgpass"
        raise Refused(f"the URL is not one PostgreSQL understands{why}", next_step=step) from None
    except psycopg.OperationalError as error:
        step = "Check host, user and database; a password goes into PGPASSWORD or ~/.pgpass"
        raise Unreachable(f"the database cannot be reached: {_first(error)}", next_step=step) from None
    # psycopg logs what it cannot send after an error together with the row, and no log may contain rows.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    try:
        connection.execute("set timezone = 'UTC'; set datestyle = 'ISO'")  # values that become text are spelt the same everywhere
        yield Postgres(connection, schema)
    finally:
        connection.close()
