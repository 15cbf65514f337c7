"""Any database behind an Airflow connection. The database picks the rows, its driver streams them, and the engine makes the text."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import Any

import duckdb
import pyarrow as pa

from waybill.canonical import ColumnType
from waybill.configuration.catalog import DbApiSource, Entity, Mode
from waybill.configuration.selection import Block, Extent, FileStyle, Selection
from waybill.configuration.values.columns import described
from waybill.errors import PermanentError
from waybill.sources import arrow, drift, extents, row_security
from waybill.sources.base import Rows, Slice
from waybill.sources.dbapi import chunks, drivers, flavours, over_mysql, over_postgres, over_sqlite, replicas
from waybill.sources.dbapi.definition import Structure
from waybill.sources.dbapi.flavours import TableFlavour
from waybill.sources.dbapi.frames import FrameConnection
from waybill.sources.dbapi.query import TableQuery
from waybill.sources.dbapi.refusals import errors
from waybill.sources.definitions import Definition
from waybill.sources.duckdb import engine
from waybill.sources.parents import Parent
from waybill.sources.postgres import undecodable
from waybill.sources.postgres.relations import replaced
from waybill.sources.postgres.relations.behind import Behind
from waybill.sources.query import Query, with_ids
from waybill.sources.sql import Sql, quote, quoted_name, split_name, sql

Connect = Callable[[str], Any]
"""By Airflow connection id: an open DB-API connection (PEP 249, `DbApiHook.get_conn`), or a hook that only has `get_df_by_chunks`.

Raises PermanentError when there is no such connection.
"""

UNSTREAMED_ROWS = 100_000
"""The most rows that are read through a driver that gathers them all in memory."""

_FLAVOURS = {"MySQL": over_mysql.MySqlTable, "PostgreSQL": over_postgres.PostgresTable, "SQLite": over_sqlite.SqliteTable}
_FROM_TEXT = {ColumnType.TIMESTAMP: "TIMESTAMP WITH TIME ZONE", ColumnType.DATE: "DATE"}


class DbApi:
    """The source. One connection per snapshot."""

    def __init__(self, spec: DbApiSource, connect: Connect | None) -> None:
        self.spec = spec
        self.connect = connect

    @contextmanager
    def snapshot(self, entities: Iterable[Entity] = ()) -> Iterator[DbApiSnapshot]:
        where = f"connection {self.spec.connection}"
        if self.connect is None:
            step = "Run it where Airflow's providers are installed"
            raise PermanentError("nothing here can open a database through Airflow", where=where, code="driver", next_step=step)
        with errors(where):
            opened = self.connect(self.spec.connection)
            connection = opened if hasattr(opened, "cursor") else FrameConnection(opened)
        try:
            read = tuple(entities)
            snapshot = DbApiSnapshot(connection, where, read)
            yield snapshot
            if read:
                with errors(where):
                    replaced.require_kept(snapshot._rows, [name for names in snapshot._unheld.values() for name in names])
                    over_postgres.wait_until_on_disk(connection, snapshot._rows)
        finally:
            over_postgres.end(connection)
            connection.close()


class DbApiSnapshot:
    """One transaction. It is repeatable if the database can do that."""

    counts_cheaply = False

    def __init__(self, connection: Any, where: str, entities: tuple[Entity, ...] = ()) -> None:
        self.connection = connection
        self.where = where
        with errors(where):
            self.database = drivers.database(connection)
        self.flavour: TableFlavour = _FLAVOURS.get(self.database.name, TableFlavour)(self.database)
        self._columns: dict[str, dict[str, str]] = {}
        self._behind: dict[str, Behind] = {}
        self._structure = Structure(self._rows, self.database.name)
        self._flavours: dict[str, TableFlavour] = {}
        with errors(where), over_postgres.told_by_pool(connection), closing(connection.cursor()) as cursor:
            self.database.settle(connection)
            if self.database.name == "SQLite":
                over_sqlite.refuse_unread_log(cursor, where)
            behind = self._behind_entities(cursor, entities) if self._is_postgres else {}
            self.replica = replicas.look(cursor, self.database)
            for statement in self.database.begin:
                cursor.execute(statement)
            held = over_postgres.lock(cursor, [name for found in behind.values() for name in found.lockable()])
            self._unheld = {name: found.unheld(held) for name, found in behind.items()}
            if self.database.name == "MySQL":
                read = [self._from(table) for entity in entities for table in (entity, *entity.parents())]
                over_mysql.hold(cursor, [self.database.render(sql(over_mysql.OPEN, relation)) for relation in read], where)
            cursor.execute(self.database.clock)
            self.clock, *replayed = map(replicas.instant, cursor.fetchone()[:2])
            self.taken_at: datetime = min(self.clock, self.replica.replayed or self.clock, *replayed)

    def _behind_entities(self, cursor: Any, entities: Iterable[Entity]) -> dict[str, Behind]:
        """Return what entities read in PostgreSQL, found in a transaction of its own for each."""
        found = {}
        for entity in entities:
            for statement in (*self.database.begin, self.database.clock):
                cursor.execute(statement)
            found[entity.id] = self._found_behind(entity, closely=False)
            self.connection.rollback()
        return found

    def columns(self, entity: Entity) -> dict[str, str]:
        found = self._columns.get(entity.query or entity.relation)
        if found is None:
            with errors(f"{entity.id} in {self.where}"):
                if entity.query:
                    found = self._columns_of_query(entity)
                else:
                    found = dict(self._rows(self.database.literal_columns(split_name(entity.relation))))
                if found and (names := self._unheld.get(entity.id)):
                    self._rows(sql("SELECT 1 FROM {} LIMIT 0", self._from(entity)))  # waits for whoever is replacing it now
                    replaced.require_kept(self._rows, names)
            if not found:
                raise PermanentError(
                    f"there is no relation {entity.relation}",
                    where=f"{entity.id} in {self.where}",
                    code="relation_missing",
                    next_step=f"Correct entities.{entity.id}.{entity.named_by}, grant SELECT on it, or mend it if it is a view",
                )
            self._columns[entity.query or entity.relation] = found
        return found

    def binding(self, entity: Entity) -> dict[str, str]:
        return {name: self.database.binding(native) for name, native in self.columns(entity).items()}

    def _columns_of_query(self, entity: Entity) -> dict[str, str]:
        """Return the columns of a query. Drivers describe most types in their own way: there, the catalog's count."""
        text, values = self.database.render(sql("SELECT * FROM {} WHERE 1 = 0", self._from(entity)))
        with closing(self.connection.cursor()) as cursor:
            cursor.execute(text, values)
            described_as = cursor.description or ()
        if self._is_postgres:
            return over_postgres.types_of_result(self.connection, described_as)
        found = {column[0]: described(entity.columns, column[0]) for column in described_as}
        types = {name: flavours.DECLARED.get(column.type, "") if column else "" for name, column in found.items()}
        return types | (over_mysql.times_of_result(described_as) if self.database.name == "MySQL" else {})

    def _from(self, entity: Entity) -> Sql:
        """Return what follows FROM."""
        if entity.query:
            return sql("({}) AS q", entity.query)
        return sql("{}", quoted_name(entity.relation, self.database.mark))

    def never_null(self, entity: Entity) -> frozenset[str] | None:
        if entity.query:
            return frozenset() if self._is_postgres else None
        with errors(f"{entity.id} in {self.where}"):
            return frozenset(row[0] for row in self._rows(self.database.never_null(split_name(entity.relation))))

    def heaps(self, entity: Entity) -> list[int]:
        return []

    def passed_over(self, selection: Selection, start: Any, before: Collection[int]) -> str:
        return ""

    def definition(self, selection: Selection) -> Definition:
        entity = selection.entity
        with errors(f"{entity.id} in {self.where}"):
            if self._is_postgres:
                return over_postgres.definition(self._rows, self.query(selection), self._look_behind(entity), self._cluster)
            return self._structure.definition(entity, self.columns(entity))

    def narrowed(self, entity: Entity) -> str:
        return row_security.sentence(self._hiding(entity))

    def _hiding(self, entity: Entity) -> list[str]:
        """Return the tables whose row-level security applies to this session. Only PostgreSQL has it."""
        with errors(f"{entity.id} in {self.where}"):
            return self._look_behind(entity).hidden() if self._is_postgres else []

    def _unseen(self, entity: Entity) -> str:
        if entity.changes.mode is Mode.FULL:
            return ""
        with errors(f"{entity.id} in {self.where}"):
            if self._is_postgres:
                return over_postgres.unseen(self._rows, entity, self._look_behind(entity), self._cluster)
            return self._structure.unseen(entity)

    @cached_property
    def _cluster(self) -> over_postgres.Cluster:
        return over_postgres.cluster(self.connection)

    def _look_behind(self, entity: Entity) -> Behind:
        """Return what PostgreSQL reads for an entity."""
        if entity.id not in self._behind:
            self._behind[entity.id] = self._found_behind(entity)
        return self._behind[entity.id]

    def _found_behind(self, entity: Entity, *, closely: bool = True) -> Behind:
        if entity.query:
            [(plan,)] = self._rows(row_security.tables_read(self._from(entity)))
            names = row_security.tables_of(json.loads(plan) if isinstance(plan, str) else plan)
        else:
            names = ["".join(map(str, self._from(joined).parts)) for joined in (entity, *entity.parents())]
        return Behind(self._rows, names, entity.query, self.connection.info.server_version, closely=closely)

    def check(self, selection: Selection) -> None:
        entity, query = selection.entity, self.query(selection)
        holds = partial(flavours.holds, self.database)
        drift.check_columns(selection, query.natives, query.flavour, holds, lists_all=self.database.dynamic)
        drift.check_tenant(query)
        with errors(self._at(selection)):
            if entity.changes.column and entity.changes.mode is not Mode.FULL:
                [(nulls,)] = self._rows(query.without([entity.changes.column], query.tenant()))
                if nulls:
                    raise drift.null_changes(selection, nulls)
                for name in query.loose_positions():
                    [(strange,)] = self._rows(query.unreadable(name))
                    if strange:
                        unreadable = drift.unreadable_ids if query.counts(name) else drift.unreadable_times
                        raise unreadable(selection, name, strange)
            self._structure.require_transactions(entity, self.database)
            over_mysql.refuse_unconvertible(self.database.name, query, self._rows)
            row_security.require_rows(selection, query, lambda: self._hiding(entity), self._rows)
            if nulls := self._rows(query.without(entity.key, query.where()))[0][0]:
                raise drift.null_keys(selection, nulls)
            if self._rows(query.repeated_key())[0][0]:
                raise drift.repeated_key(selection)
            if self.database.stream is None and self._rows(query.count())[0][0] > UNSTREAMED_ROWS:
                raise PermanentError(
                    f"more than {UNSTREAMED_ROWS:,} rows through {self.database.name}, a driver not known to stream results",
                    where=entity.id,
                    code="driver",
                    next_step="Use a driver with server-side cursors, a postgres source, or Parquet files in a lake",
                )

    def extent(self, entity: Entity, tenant: str, start: Any, end: datetime) -> Extent:
        self.replica.require_running(entity, self.where)
        natives = self._natives(entity)
        by_id = self.flavour.kind(natives.get(entity.changes.column, "")) is ColumnType.INTEGER
        found = extents.plain(entity, start, end, self.taken_at, (lambda: self._max_id(entity, tenant)) if by_id else None)
        early = ""
        names = (entity.changes.column, entity.deleted_column)
        zoneless = [name for name in names if natives.get(name, "").lower().startswith("datetime")]
        if self.database.offset and zoneless:
            with errors(f"{entity.id} in {self.where}"):
                [(seconds,)] = self._rows(sql(self.database.offset))
            early = extents.looks_back_too_little(entity, zoneless, timedelta(seconds=int(seconds or 0)))
        remarks = (self.narrowed(entity), self._unseen(entity), early, self.replica.remark(entity))
        return replace(found, remarks="; ".join(filter(None, remarks)))

    def csv(self, selection: Selection, style: FileStyle) -> Iterator[Block]:
        lines = self._each_chunk(selection, lambda query: query.csv(style), ordered=selection.in_key_order)
        yield from engine.blocks(engine.unknown(lines, selection.changed.known), style.max_rows_per_file)

    @contextmanager
    def slices(self, selection: Selection, most: int) -> Iterator[list[Slice]]:
        """Yield one stream, because a driver's connection cannot share its snapshot."""
        yield [Rows(self, selection)]

    def changes_by_time(self, selection: Selection) -> bool:
        return self.query(selection).changes_by_time()

    def digests(self, selection: Selection) -> Iterator[list[bytes]]:
        for batch in self._each_chunk(selection, lambda query: query.digests(), ordered=False):
            yield batch.column(0).to_pylist()

    def batches(self, selection: Selection, typed: bool = True) -> Iterator[pa.RecordBatch]:
        natives, lines = self.columns(selection.entity), self.csv(selection, FileStyle())
        flavour = self.flavour_of(selection.entity)
        with drift.naming(selection, natives, flavour, binding=not self.database.dynamic), drift.fitting(selection, natives):
            yield from arrow.batches(lines, selection, self.binding(selection.entity), self._at(selection), typed)

    def count(self, selection: Selection) -> int:
        return sum(batch.column(0)[0].as_py() for batch in self._each_chunk(selection, lambda query: query.count(), ordered=False))

    def values(self, selection: Selection, most: int) -> list[str]:
        found: set[str] = set()
        for batch in self._each_chunk(selection, lambda query: query.values(most), ordered=False):
            found.update(batch.column(0).to_pylist())
        return sorted(found)[:most]

    def least_id(self, selection: Selection) -> int | None:
        return self._id(selection.entity, self.query(selection).least_id())

    def has_ids(self, entity: Entity, ids: Sequence[int]) -> bool:
        return bool(self._id(entity, with_ids(self.flavour.name(entity.changes.column), self._from(entity), ids)))

    def interrupt(self) -> None:
        """PEP 249 names no way to end a statement, and drivers of MySQL have none."""
        stop = getattr(self.connection, "interrupt", None) or getattr(self.connection, "cancel", None)
        if stop is not None:
            with suppress(Exception):  # it has just ended, or the connection was lost
                stop()

    def query(self, selection: Selection) -> TableQuery:
        entity = selection.entity
        parents = tuple(Parent(self._joining(parent), self._from(parent), self.columns(parent), parent) for parent in entity.parents())
        flavour = self._joining(entity) if parents else self.flavour_of(entity)
        natives = self._natives(entity)
        return TableQuery(flavour, self._from(entity), natives, selection, parents=parents, clock=self.taken_at)

    def _joining(self, entity: Entity) -> TableFlavour:
        """Return the flavour of a relation that leads to another one, or that another one leads to."""
        return replace(self.flavour_of(entity), collated=self._collated or "collate" in entity.query.lower())

    @cached_property
    def _collated(self) -> bool:
        with errors(self.where):
            return bool(self.database.collated) and bool(self._rows(sql(self.database.collated))[0][0])

    @property
    def _is_postgres(self) -> bool:
        return self.database.name == "PostgreSQL"

    def flavour_of(self, entity: Entity) -> TableFlavour:
        if not self._is_postgres:
            return self.flavour
        name = entity.query or entity.relation  # the tables that lead to the tenant bear the entity's id, too
        if name not in self._flavours:
            with errors(f"{entity.id} in {self.where}"):
                self._flavours[name] = over_postgres.flavour(self.connection, self.flavour, self.columns(entity))
        return self._flavours[name]

    def _natives(self, entity: Entity) -> dict[str, str]:
        """Return the declared types.

        If those bind nobody, a time column that is declared otherwise counts as a time stored as text, or as a date if it is catalogued so.
        """
        natives = self.columns(entity)
        if not self.database.dynamic:
            return natives
        times = [name for name in (entity.changes.column, entity.deleted_column, entity.time_column) if name in natives]
        catalogued = {name: column.type for name in times if (column := described(entity.columns, name))}
        textual = [name for name in times if self.flavour.kind(natives[name]) in (None, ColumnType.STRING)]
        told = {name: "DATE" if catalogued.get(name) is ColumnType.DATE else "TIMESTAMP" for name in textual}
        return natives | {name: kind for name, kind in told.items() if catalogued.get(name) is not ColumnType.INTEGER}

    def _each_chunk(self, selection: Selection, ask: Callable[[Query], Sql], *, ordered: bool) -> Iterator[pa.RecordBatch]:
        """Yield the answers of the engine, chunk by chunk. It sees the tenant's rows and applies what the database only narrowed down."""
        query = self.query(selection)
        with (
            undecodable.naming(selection, lambda: over_postgres.undecodable_column(self.connection, query, self.database.render)),
            drift.naming(selection, query.natives, query.flavour, binding=not self.database.dynamic),
            errors(self._at(selection)),
            engine.connect() as connection,
            engine.errors(self._at(selection)),
            ThreadPoolExecutor(1, "waybill-format") as formatting,
        ):
            before: Future[list[pa.RecordBatch]] | None = None
            for chunk in self._chunks(query, ordered):
                batches = before.result() if before else []
                before = formatting.submit(_answers, connection, chunk, query, ask)
                yield from batches
            if before:
                yield from before.result()

    def _chunks(self, query: TableQuery, ordered: bool) -> Iterator[pa.Table]:
        names = query.columns()
        text, values = self.database.render(query.select(names, ordered))
        times = self._times(query)
        columns = {name: (times.get(name) or self._kind(query, name), query.natives[name]) for name in names}
        stream = self.database.stream or (lambda connection: connection.cursor())
        with closing(stream(self.connection)) as cursor:
            cursor.execute(text, values)
            gathered: list[pa.Table] = []
            size, wanted = 0, chunks.FIRST_ROWS
            while (fetched := chunks.table(cursor.fetchmany(wanted), columns, self.database.binding, times)).num_rows:
                wanted = chunks.as_many(fetched)
                if gathered and (fetched.schema != gathered[0].schema or size >= chunks.CHUNK_BYTES):
                    yield pa.concat_tables(gathered)
                    gathered, size = [], 0
                gathered.append(fetched)
                size += fetched.nbytes
            if gathered:
                yield pa.concat_tables(gathered)

    def _kind(self, query: TableQuery, name: str) -> ColumnType:
        """Return what a column is read as. A time as text that is only compared stays text until it is, however fine it is."""
        kind, catalogued = query.kind(name), described(query.entity.columns, name)
        return ColumnType.STRING if self.database.dynamic and kind is ColumnType.TIMESTAMP and catalogued is None else kind

    def _times(self, query: TableQuery) -> dict[str, ColumnType]:
        """The columns that say when a row changed or ceased to be, with their own types. They are times, also if delivered as strings."""
        if self.database.dynamic:
            return {}
        kinds = {name: query.flavour.kind(query.natives[name]) for name in query.compared()}
        return {name: kind for name, kind in kinds.items() if kind in (ColumnType.DATE, ColumnType.TIMESTAMP)}

    def ask(self, statement: Sql) -> list[Any]:
        """Return the rows of a statement about the database's structure or data."""
        with errors(self.where):
            return self._rows(statement)

    def _rows(self, statement: Sql) -> list[Any]:
        text, values = self.database.render(statement)
        with closing(self.connection.cursor()) as cursor:
            cursor.execute(text, values)
            return list(cursor.fetchall())

    def _max_id(self, entity: Entity, tenant: str) -> int | None:
        return self._id(entity, self.query(Selection(entity, tenant, entity.columns)).greatest_id())

    def _id(self, entity: Entity, statement: Sql) -> int | None:
        with errors(f"{entity.id} in {self.where}"):
            [(found,)] = self._rows(statement)
        return None if found is None else int(found)

    def _at(self, selection: Selection) -> str:
        return drift.place(selection, self.where)


def _answers(connection: duckdb.DuckDBPyConnection, chunk: pa.Table, query: Query, ask: Callable[[Query], Sql]) -> list[pa.RecordBatch]:
    """Return the engine's answer to a chunk. It runs while the next chunk is fetched."""
    names = chunk.column_names
    flavour = engine.DuckDBFlavour(engine.apart(names))
    view = connection.from_arrow(chunk.rename_columns([flavour.names.get(name, name) for name in names]))
    view = view.project(", ".join(map(_parsed, map(query.kind, names), view.columns, map(str, view.types))))
    view.create_view("chunk", replace=True)
    natives = dict(zip(names, map(str, view.types), strict=True))
    second = Query(
        flavour,
        sql("chunk"),
        natives,
        query.selection,
        narrowed=True,
        sorted=bool(query.selection.changed.back),
        clock=query.clock,
    )
    return list(engine.stream(connection, ask(second)))


def _parsed(kind: ColumnType, name: str, native: str) -> str:
    """Times and dates that came as text become what they say."""
    target = _FROM_TEXT.get(kind) if native == "VARCHAR" else None
    return f"CAST({quote(name)} AS {target}) AS {quote(name)}" if target else quote(name)
