"""PostgreSQL through a driver: the server spells what drivers have no value for, or change: JSON, arrays, composites, intervals, ranges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from psycopg.pq import TransactionStatus

from waybill.canonical import ColumnType
from waybill.configuration.catalog import Entity
from waybill.connection import POOL_OF_STATEMENTS
from waybill.sources.dbapi.drivers import POSTGRES_DRIVERS, root_of
from waybill.sources.dbapi.flavours import TableFlavour
from waybill.sources.dbapi.query import TableQuery
from waybill.sources.definitions import Definition
from waybill.sources.postgres import nested, session, undecodable
from waybill.sources.postgres.extent import unheard
from waybill.sources.postgres.nested import base
from waybill.sources.postgres.relations import definition as relations
from waybill.sources.postgres.relations.behind import Ask, Behind
from waybill.sources.postgres.settings import UNHEARD
from waybill.sources.postgres.spelling import PostgresFlavour
from waybill.sources.query import Query
from waybill.sources.sql import Sql, quote, sql

_TIMES = (ColumnType.DATE, ColumnType.TIMESTAMP)
"""Python has none before year 1, after 9999, or infinite: they come as the engine reads them, in UTC."""
_NOT_ALLOWED = "42501"
"""SQLSTATE of a relation that cannot be locked, because only some of its columns are granted, and of a function that is not granted."""
_NAMED = "SELECT oid::bigint, format_type(oid, NULL) FROM pg_type WHERE oid = ANY(%s::oid[])"

_CLUSTER = f"""
SELECT CASE WHEN {session.WRITES_NO_LOG} THEN '' ELSE {session.TIMELINE} END, {UNHEARD}
"""
"""All servers of an Aurora cluster share one storage, and lose nothing to each other."""


@contextmanager
def told_by_pool(connection: Any) -> Iterator[None]:
    """Raise what a pool of statements says of our first transaction. psycopg2 drops that and calls the connection lost, so psycopg asks."""
    if root_of(connection) != "psycopg2":
        yield
        return
    address = {**connection.info.dsn_parameters, "password": connection.info.password}
    try:
        yield
    except Exception as error:
        if connection.closed and not session.sqlstate(error) and (told := _beginning(address)):
            raise told from error
        raise


def _beginning(address: Mapping[str, Any]) -> Exception | None:
    """Return what is said of a transaction that begins at this address, if that is the pool's mode."""
    import psycopg

    try:
        with psycopg.connect(**{name: value for name, value in address.items() if value}, autocommit=True) as again:
            again.execute("BEGIN")
    except psycopg.Error as error:
        return error if POOL_OF_STATEMENTS in str(error) else None
    return None


@dataclass(frozen=True)
class PostgresTable(TableFlavour):
    """Types, equality and order are those of the native source."""

    spelling: PostgresFlavour = field(default_factory=PostgresFlavour)

    def kind(self, native: str) -> ColumnType | None:
        return self.spelling.kind(native)

    def bounds(self, native: str) -> tuple[int, int] | None:
        return self.spelling.bounds(native)

    def unfit(self, native: str) -> tuple[str, str] | None:
        return self.spelling.unfit(native)

    def order(self, x: str, kind: ColumnType, native: str) -> str:
        return self.spelling.order(x, kind, native)

    def mixes(self, x: str, native: str, other: str) -> bool:
        return self.collated and self.spelling.mixes(x, native, other)

    def by_bytes(self, x: str) -> str:
        return self.spelling.by_bytes(x)

    def equal(self, x: str, native: str, value: str) -> Sql:
        return self.spelling.equal(x, native, value)

    def value(self, x: str, kind: ColumnType, native: str) -> str:
        """Return the column itself if every driver gives what is stored, else its text."""
        natural, is_text = self.kind(native), kind is ColumnType.STRING
        if base(native) == "character":
            return f"{x}::text"
        if natural in (None, ColumnType.JSON) or (is_text and natural in _TIMES):
            return f"({self.spelling.text(x, kind, native)})::text"
        if natural is ColumnType.DATE:
            return f"replace({x}::text, ' BC', ' (BC)')"
        if natural is ColumnType.TIMESTAMP:
            return f"regexp_replace({self.spelling.instant(x, native)}::text, '^([^ ]+) (.*) BC$', '\\1 (BC) \\2')"
        return x


def flavour(connection: Any, plain: TableFlavour, natives: Mapping[str, str]) -> PostgresTable:
    """Return the flavour of one relation, with what its types are made of.

    Every text is compared by its bytes, whatever its collation says.
    """
    spelling = PostgresFlavour()
    unknown = [native for native in natives.values() if spelling.unknown(native)]
    shapes = nested.shapes(_rows(connection, nested.SHAPES, unknown)) if unknown else {}
    texts = frozenset(quote(name) for name, native in natives.items() if spelling.kind(native) is ColumnType.STRING)
    return PostgresTable(plain.database, spelling=PostgresFlavour(loose=texts, shapes=shapes))


def lock(cursor: Any, names: Iterable[str]) -> set[str]:
    """Hold relations against replacement until the transaction ends, before its snapshot is taken, as the native source does. Return those
    that are held.
    """
    held: set[str] = set()
    for name in names:
        try:
            cursor.execute(f"SAVEPOINT locking; LOCK TABLE {name} IN ACCESS SHARE MODE; RELEASE locking")
            held.add(name)
        except Exception as error:
            if session.sqlstate(error) != _NOT_ALLOWED:
                raise
            cursor.execute("ROLLBACK TO locking; RELEASE locking")
    return held


@dataclass(frozen=True)
class Cluster:
    """The timeline that a cluster writes, empty where it is not known, and whether it is a standby that does not show when it heard from
    its primary.
    """

    timeline: str
    is_unheard: bool


def cluster(connection: Any) -> Cluster:
    """Ask for it in a savepoint, because a role may lack the right to see where the log ends. Then the timeline is not known."""
    with closing(connection.cursor()) as cursor:
        try:
            cursor.execute(f"SAVEPOINT cluster; {_CLUSTER}")
        except Exception as error:
            if session.sqlstate(error) != _NOT_ALLOWED:
                raise
            cursor.execute(f"ROLLBACK TO cluster; SELECT '', {UNHEARD}")
        while cursor.description is None and cursor.nextset():
            continue
        return Cluster(*cursor.fetchone())


def definition(ask: Ask, query: Query, behind: Behind, found: Cluster) -> Definition:
    """Return what gives the rows their values, as the native source does."""
    return relations.definition(ask, "", query, behind, found.timeline)


def unseen(ask: Ask, entity: Entity, behind: Behind, found: Cluster) -> str:
    """Return what nobody would notice, in words, as the native source does."""
    return "; ".join(filter(None, (relations.unseen(ask, behind), unheard(entity, found.is_unheard))))


def undecodable_column(connection: Any, query: TableQuery, render: Callable[[Sql], tuple[str, Any]]) -> str:
    """Return the first column with bytes that are no text, or nothing. The connection reads nothing more: its snapshot is over."""
    if root_of(connection) not in POSTGRES_DRIVERS:
        return ""
    with suppress(Exception):  # the first error is what is told
        connection.rollback()
        with closing(connection), closing(connection.cursor()) as cursor:
            return undecodable.first(query, lambda statement: cursor.execute(*render(statement)))
    return ""


def wait_until_on_disk(connection: Any, ask: Ask) -> None:
    """Wait until the server's disk has what was read, as the native source does. Nothing is asked in the transaction afterwards."""
    if root_of(connection) not in POSTGRES_DRIVERS or connection.info.transaction_status != TransactionStatus.INTRANS:
        return
    if hasattr(connection, "prepare_threshold"):  # a pool gives what is asked often, and so prepared, to other sessions
        connection.prepare_threshold = None
    try:
        session.wait_until_on_disk(connection, ask, ask(sql("SELECT {}", session.LOG_END))[0][0])
    except Exception as error:
        if session.sqlstate(error) != _NOT_ALLOWED:
            raise


def end(connection: Any) -> None:
    """Roll back what is open in PostgreSQL: a pool closes the server's session of a client that leaves in the middle of a transaction."""
    if root_of(connection) in POSTGRES_DRIVERS:
        with suppress(Exception):  # whatever is wrong with it: it is closed next
            connection.rollback()


def types_of_result(connection: Any, description: Any) -> dict[str, str]:
    """Return the native types of a query's columns, whose numbers every driver of PostgreSQL tells."""
    numbers = [(column[0], int(column[1])) for column in description or ()]
    names = dict(_rows(connection, _NAMED, [number for _, number in numbers]))
    return {name: names[number] for name, number in numbers}


def _rows(connection: Any, statement: str, values: list[Any]) -> list[Any]:
    with closing(connection.cursor()) as cursor:
        cursor.execute(statement, [values])
        return list(cursor.fetchall())
