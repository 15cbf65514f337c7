"""The DuckDB source, and the common part of every relation that its engine reads: tables and sets of Parquet files."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from waybill.canonical import ColumnType
from waybill.configuration.catalog import Entity, Mode
from waybill.configuration.selection import Block, Extent, FileStyle, Selection
from waybill.errors import PermanentError, TransientError
from waybill.sources import definitions, drift, extents
from waybill.sources.base import Rows, Slice
from waybill.sources.definitions import NOTHING, Definition
from waybill.sources.duckdb import engine, storage
from waybill.sources.parents import Parent
from waybill.sources.query import Query, counts_by_tenant, with_ids
from waybill.sources.sql import Bind, Sql, quote, split_name, sql

_FLAVOUR = engine.DuckDBFlavour()


class EngineSnapshot(ABC):
    """A `Snapshot` over relations inside a DuckDB connection whose transaction is open."""

    counts_cheaply = True
    """True if counting a tenant's rows costs next to nothing."""

    reads_again = True
    """True if it costs little to read the rows several times."""

    at_once = engine.SORTED_WITH_LITTLE
    """More rows are sorted in parts, where the rows can be read again."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, where: str) -> None:
        self.connection = connection
        self.where = where
        self._described: dict[Sql, dict[str, str]] = {}
        self._parted: tuple[Selection, list[Sql]] | None = None
        [(now,)] = connection.execute("SELECT now()").fetchall()
        self.clock: datetime = now.astimezone(UTC)
        self.taken_at = self.clock

    @abstractmethod
    def relation(self, entity: Entity, tenant: str = "") -> Sql:
        """Return what follows FROM. With a tenant, it may be narrowed to what can hold the tenant's rows."""

    def lookup(self, selection: Selection) -> Query:
        """Return the query for the rows that have one of the selection's keys."""
        return self.query(selection)

    def columns(self, entity: Entity) -> dict[str, str]:
        return self._describe(entity, self.relation(entity))

    def binding(self, entity: Entity) -> dict[str, str]:
        return self.columns(entity)

    @abstractmethod
    def never_null(self, entity: Entity) -> frozenset[str] | None:
        """See `base.Snapshot`."""

    def flavour_of(self, entity: Entity) -> engine.DuckDBFlavour:
        return _FLAVOUR

    @abstractmethod
    def changed_file(self) -> str:
        """Return a file that was read and is not what it was when the snapshot first looked at its entity. Empty if there is none."""

    @contextmanager
    def unchanging(self) -> Iterator[None]:
        """Raise TransientError if a file changed: two of our statements may have read different rows."""
        cause: PermanentError | None = None
        try:
            yield
        except PermanentError as error:
            cause = error
        if changed := self.changed_file():
            raise TransientError(
                f"{changed} was written again, removed or added while its rows were read",
                where=self.where,
                code="source_busy",
                next_step="It is tried again; write new files, and leave those that are there alone",
            ) from cause
        if cause:
            raise cause

    def heaps(self, entity: Entity) -> list[int]:
        return []

    def passed_over(self, selection: Selection, start: Any, before: Collection[int]) -> str:
        return ""

    def definition(self, selection: Selection) -> Definition:
        """Files are written whole, in whatever order of columns: only their types tell anything."""
        entity = selection.entity
        types = {name: (0, native) for name, native in self.columns(entity).items() if name in entity.needed_columns}
        return {**NOTHING, "tables": {entity.relation: {"of": "", "stored": "", "columns": types}}}

    def narrowed(self, entity: Entity) -> str:
        return ""

    def check(self, selection: Selection) -> None:
        query = self.query(selection)
        drift.check_columns(selection, query.natives, _FLAVOUR)
        drift.check_tenant(query)
        if selection.entity.changes.column and selection.entity.changes.mode is not Mode.FULL:
            [(nulls,)] = self._run(selection, query.without([selection.entity.changes.column], query.tenant()))
            if nulls:
                raise drift.null_changes(selection, nulls)
        key = set(selection.entity.key) - (self.never_null(selection.entity) or frozenset())
        if key and (nulls := self._run(selection, query.without(sorted(key), query.where()))[0][0]):
            raise drift.null_keys(selection, nulls)
        parts = [] if query.respells_key() else self.parts(selection)
        whole = [self.lookup(selection)] if query.respells_key() or query.changed() else []
        for asked in [replace(query, part=part) for part in parts] or whole:
            [repeated] = self._stream(selection, asked.repeated_key(), engine.MEMORY_SORTING)
            if repeated.column(0)[0].as_py():
                raise drift.repeated_key(selection)

    def extent(self, entity: Entity, tenant: str, start: Any, end: datetime) -> Extent:
        column = entity.changes.column
        natives = self._describe(entity, self.relation(entity, tenant))
        by_id = column and _FLAVOUR.kind(natives.get(column, "")) is ColumnType.INTEGER
        return extents.plain(entity, start, end, self.taken_at, (lambda: self._max_id(entity, tenant)) if by_id else None)

    def csv(self, selection: Selection, style: FileStyle) -> Iterator[Block]:
        with self.unchanging():
            lines = engine.unknown(self._read(selection, lambda query: query.csv(style)), selection.changed.known)
            yield from engine.blocks(lines, style.max_rows_per_file)

    @contextmanager
    def slices(self, selection: Selection, most: int) -> Iterator[list[Slice]]:
        """Yield one stream, because the engine already reads with all cores."""
        yield [Rows(self, selection)]

    def changes_by_time(self, selection: Selection) -> bool:
        return self.query(selection).changes_by_time()

    def digests(self, selection: Selection) -> Iterator[list[bytes]]:
        with self.unchanging():
            for batch in self._stream(selection, self.query(selection).digests(), ()):
                yield batch.column(0).to_pylist()

    def batches(self, selection: Selection, typed: bool = True) -> Iterator[pa.RecordBatch]:
        with self.unchanging(), drift.fitting(selection, self.columns(selection.entity)):
            yield from self._read(selection, lambda query: engine.arrow(query, typed))

    def count(self, selection: Selection) -> int:
        [(count,)] = self._run(selection, self.query(selection).count())
        return int(count)

    def values(self, selection: Selection, most: int) -> list[str]:
        return [str(value) for (value,) in self._run(selection, self.query(selection).values(most))]

    def least_id(self, selection: Selection) -> int | None:
        [(least,)] = self._run(selection, self.query(selection).least_id())
        return None if least is None else int(least)

    def has_ids(self, entity: Entity, ids: Sequence[int]) -> bool:
        with engine.errors(f"{entity.id} in {self.where}"):
            x = _FLAVOUR.name(entity.changes.column)
            return bool(engine.run(self.connection, with_ids(x, self.relation(entity), ids))[0][0])

    def interrupt(self) -> None:
        self.connection.interrupt()

    def query(self, selection: Selection) -> Query:
        entity = selection.entity
        relation = self.relation(entity, selection.tenant)
        parents = tuple(self._parent(parent) for parent in entity.parents())
        return Query(_FLAVOUR, relation, self._describe(entity, relation), selection, parents=parents, clock=self.taken_at)

    def _parent(self, entity: Entity) -> Parent:
        relation = self.relation(entity)
        return Parent(_FLAVOUR, relation, self._describe(entity, relation), entity)

    def _describe(self, entity: Entity, relation: Sql) -> dict[str, str]:
        found = self._described.get(relation)
        if found is None:
            with engine.errors(f"{entity.id} in {self.where}"):
                rows = engine.run(self.connection, sql("DESCRIBE SELECT * FROM {}", relation))
            found = self._described[relation] = {row[0]: row[1] for row in rows}
        return found

    def _max_id(self, entity: Entity, tenant: str) -> int | None:
        wanted = Selection(entity, tenant, entity.columns)
        query = self.query(wanted) if counts_by_tenant(entity) else replace(self.query(wanted), relation=self.relation(entity))
        with engine.errors(f"{entity.id} in {self.where}"):
            [(newest,)] = engine.run(self.connection, query.greatest_id())
        return None if newest is None else int(newest)

    def _read(self, selection: Selection, ask: Callable[[Query], Sql]) -> Iterator[pa.RecordBatch]:
        """Yield what is asked of whole rows, in key order.

        Rows that are stored in key order are not sorted, because it costs far less to see that order than to sort.

        Rows are sorted as they are stored, and become text afterwards, which is longer.
        """
        query = self.query(selection)
        if not selection.in_key_order:
            yield from self._stream(selection, ask(replace(query, sorted=False)), engine.MEMORY_STREAMING)
            return
        if selection.changed.back:
            yield from self._stream(selection, ask(query), engine.MEMORY_SORTING)
            return
        parts = self.parts(selection)
        if not parts:
            yield from self._stream(selection, ask(replace(query, sorted=False)), engine.MEMORY_STREAMING)
            return
        limits = engine.MEMORY_SORTING if self.reads_again or self.count(selection) <= self.at_once else ()
        for part in parts:
            stored = replace(query, part=part).stored()
            rows = replace(query, relation=sql("({}) AS r", stored), narrowed=True, sorted=False)
            yield from self._stream(selection, ask(rows), limits)

    def _stream(self, selection: Selection, statement: Sql, limits: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a statement that has one order. Where the limits leave too little memory, it is begun again with more.

        It goes on from where it was: no row comes twice.
        """
        seen = 0
        for limit in (*limits, engine.MEMORY_NORMAL, engine.MEMORY_LAST_RESORT):
            read = 0
            try:
                with self._reading(selection):
                    self.connection.execute(limit)
                    for batch in engine.stream(self.connection, statement):
                        read += len(batch)
                        if read > seen:
                            yield batch.slice(max(0, len(batch) - read + seen))
                            seen = read
                    self.connection.execute(engine.MEMORY_NORMAL)
                return
            except TransientError as error:
                if error.code != "out_of_memory" or limit == engine.MEMORY_LAST_RESORT:
                    raise
                self.connection.execute("ROLLBACK")
                self.connection.execute("BEGIN TRANSACTION")

    def parts(self, selection: Selection) -> list[Sql]:
        """Return conditions, in key order, each of which picks few enough rows to be sorted in little memory.

        There are none if the rows are stored in key order.
        """
        if self._parted is None or self._parted[0] != selection:
            query = self.query(selection)
            in_order = not self._run(selection, query.disorder())
            self._parted = selection, [] if in_order else query.parts(self._cuts(selection, query))
        return self._parted[1]

    def _cuts(self, selection: Selection, query: Query) -> list[Any]:
        """Where to part the rows, by a sample of their keys. A source that is costly to read again is sorted at once."""
        parts = ceil(self.count(selection) / self.at_once) if self.reads_again else 1
        if parts < 2:
            return []
        points = ", ".join(str(number / parts) for number in range(1, parts))
        sample = sql("SELECT * FROM ({}) AS k USING SAMPLE reservoir(20000 ROWS) REPEATABLE (1)", query.first_keys())
        [(cuts,)] = self._run(selection, sql("SELECT quantile_disc(o0, [{}]) FROM ({}) AS s", points, sample))
        return list(dict.fromkeys(cuts or ()))

    def _run(self, selection: Selection, statement: Sql) -> list[tuple[Any, ...]]:
        with self._reading(selection):
            return engine.run(self.connection, statement)

    @contextmanager
    def _reading(self, selection: Selection) -> Iterator[None]:
        natives = self._described.get(self.relation(selection.entity, selection.tenant), {})
        with drift.naming(selection, natives, _FLAVOUR), engine.errors(self._at(selection)):
            yield

    def _at(self, selection: Selection) -> str:
        return drift.place(selection, self.where)


class DuckDB:
    """The source. Opens the file per snapshot, so that a writer is kept out no longer than an extraction takes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def snapshot(self, entities: Iterable[Entity] = ()) -> Iterator[DuckDBSnapshot]:
        where = f"DuckDB file {self.path}"
        is_there = False
        with suppress(OSError):  # a path may be too long to be looked for
            is_there = self.path.is_file()
        if not is_there:
            step = "Correct its path in the catalog; it counts from the parent of the config folder"
            raise PermanentError("there is no such file", where=where, code="source_missing", next_step=step)
        with engine.connect() as connection:
            with engine.errors(where):
                connection.execute(f"ATTACH {quote(str(self.path), chr(39))} AS warehouse (READ_ONLY)")
                connection.execute("USE warehouse")
                connection.execute("BEGIN TRANSACTION")
            yield DuckDBSnapshot(connection, where)


_QUOTED = re.compile(r"""'((?:[^']|'')+)'|"((?:[^"]|"")+)\"""")
_FILE = re.compile(r"[/.]")
_VIEWS = "SELECT view_name, sql FROM duckdb_views() WHERE database_name = 'warehouse' AND NOT internal"
_MACROS = """
SELECT function_name, string_agg(concat_ws(' ', parameters, macro_definition), chr(10) ORDER BY parameters::text)
  FROM duckdb_functions() WHERE database_name = 'warehouse' AND NOT internal AND function_type IN ('macro', 'table_macro')
 GROUP BY function_name
"""
_TABLES = """
SELECT table_name, column_name, data_type, coalesce(generation_expression, '')
  FROM duckdb_columns() WHERE database_name = 'warehouse' AND NOT internal
 ORDER BY table_name, schema_name, column_index
"""


_NEVER_NULL = """
SELECT DISTINCT unnest(constraint_column_names) FROM duckdb_constraints()
 WHERE database_name = 'warehouse' AND constraint_type IN ('NOT NULL', 'PRIMARY KEY')
   AND lower(schema_name) = lower({}) AND lower(table_name) = lower({})
"""


class DuckDBSnapshot(EngineSnapshot):
    """One transaction over the attached file, and the files that its views read."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, where: str) -> None:
        super().__init__(connection, where)
        self._seen: dict[tuple[str, ...], dict[str, storage.Stamp]] = {}

    @cached_property
    def _views(self) -> dict[str, str]:
        return dict(engine.run(self.connection, sql(_VIEWS)))

    @cached_property
    def _macros(self) -> dict[str, str]:
        return dict(engine.run(self.connection, sql(_MACROS)))  # some 20 ms: the engine lists all of its own

    def changed_file(self) -> str:
        for names, seen in self._seen.items():
            now = self._stamps(names)
            if changed := sorted(path for path in seen.keys() | now.keys() if seen.get(path) != now.get(path)):
                return changed[0]
        return ""

    def _look_behind(self, entity: Entity) -> None:
        """Note the files that the entity's views, macros and query name. The engine opens them anew for each statement."""
        text = definitions.text_of(entity)
        behind = definitions.behind(text, self._views)
        if entity.query or behind:
            behind = definitions.behind(text, {**self._macros, **self._views})
        quoted = [a or b for each in (entity.query, *behind.values()) for a, b in _QUOTED.findall(each)]
        names = tuple(sorted({name.replace("''", "'") for name in quoted if _FILE.search(name) and "://" not in name}))
        if names and names not in self._seen:
            self._seen[names] = self._stamps(names)

    def _stamps(self, names: tuple[str, ...]) -> dict[str, storage.Stamp]:
        files, found = storage.LocalFiles(), {}
        for (path,) in engine.run(self.connection, sql("SELECT file FROM glob({})", Bind(names, "VARCHAR[]"))):
            with suppress(FileNotFoundError):
                found[path] = storage.stamp(files.info(path))
        return found

    def never_null(self, entity: Entity) -> frozenset[str]:
        """What the engine describes of a view or a query is no promise: it passes NOT NULL on through a LEFT JOIN."""
        if entity.query:
            return frozenset()
        schema, name = ["main", *split_name(entity.relation)][-2:]
        with engine.errors(f"{entity.id} in {self.where}"):
            return frozenset(column for (column,) in engine.run(self.connection, sql(_NEVER_NULL, Bind(schema), Bind(name))))

    def definition(self, selection: Selection) -> Definition:
        """Views and macros find columns by name, so that every table behind them counts."""
        entity = selection.entity
        with engine.errors(f"{entity.id} in {self.where}"):
            text = definitions.text_of(entity)
            columns = engine.run(self.connection, sql(_TABLES))
            calls = entity.query or definitions.behind(text, self._views) or any(expression for *_, expression in columns)
            return definitions.by_words(entity, self._views, self._macros if calls else {}, columns)

    def relation(self, entity: Entity, tenant: str = "") -> Sql:
        with engine.errors(f"{entity.id} in {self.where}"):
            self._look_behind(entity)
        if entity.query:
            return sql("({}) AS q", entity.query)
        parts: list[Any] = split_name(entity.relation)
        return sql("{}", ".".join(quote(part) for part in ["warehouse", *parts] if len(parts) < 3))
