"""What every relation read by the DuckDB engine has in common, be it a table or a set of Parquet files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa

from waybill.catalog import ColumnType, Entity, Mode
from waybill.selection import Dialect, Extent, Selection
from waybill.sources import drift, engine, extents
from waybill.sources.query import Query
from waybill.sources.sql import Sql, sql

_FLAVOUR = engine.DuckDBFlavour()


class EngineSnapshot(ABC):
    """A `Snapshot` over relations inside a DuckDB connection whose transaction is open."""

    streaming_memory = engine.MEMORY

    def __init__(self, connection: duckdb.DuckDBPyConnection, where: str) -> None:
        self.connection = connection
        self.where = where
        self._described: dict[Sql, dict[str, str]] = {}
        self._in_order: Selection | None = None
        [(now,)] = connection.execute("SELECT now()").fetchall()
        self.taken_at: datetime = now.astimezone(UTC)

    @abstractmethod
    def relation(self, entity: Entity, tenant: str = "") -> Sql:
        """What stands behind FROM; with a tenant it may be narrowed to what can hold the tenant's rows."""

    def columns(self, entity: Entity) -> dict[str, str]:
        return self._describe(entity, self.relation(entity))

    def check(self, selection: Selection) -> None:
        query = self.query(selection)
        drift.check_columns(selection, query.natives, _FLAVOUR)
        if selection.entity.changes.column and selection.entity.changes.mode is not Mode.FULL:
            [(nulls,)] = self._run(selection, query.null_changes())
            if nulls:
                raise drift.null_changes(selection, nulls)
        if not self._is_in_order(selection) and self._run(selection, query.repeated_key())[0][0]:
            raise drift.repeated_key(selection)

    def extent(self, entity: Entity, tenant: str, start: Any, end: datetime) -> Extent:
        column = entity.changes.column
        natives = self._describe(entity, self.relation(entity, tenant))
        by_id = column and _FLAVOUR.kind(natives.get(column, "")) is ColumnType.INTEGER
        return extents.plain(entity, start, end, self.taken_at, (lambda: self._max_id(entity)) if by_id else None)

    def csv(self, selection: Selection, dialect: Dialect) -> Iterator[tuple[bytes | memoryview, int]]:
        with engine.errors(self._at(selection)):
            yield from engine.blocks(engine.stream(self.connection, self._reading(selection).csv(dialect)), dialect.max_rows_per_file)

    def digests(self, selection: Selection) -> Iterator[list[bytes]]:
        with engine.errors(self._at(selection)):
            for batch in engine.stream(self.connection, self.query(selection).digests()):
                yield batch.column(0).to_pylist()

    def batches(self, selection: Selection) -> Iterator[pa.RecordBatch]:
        with engine.errors(self._at(selection)):
            yield from engine.stream(self.connection, engine.arrow(self._reading(selection)))

    def count(self, selection: Selection) -> int:
        [(count,)] = self._run(selection, self.query(selection).count())
        return int(count)

    def query(self, selection: Selection) -> Query:
        relation = self.relation(selection.entity, selection.tenant)
        return Query(_FLAVOUR, relation, self._describe(selection.entity, relation), selection)

    def _describe(self, entity: Entity, relation: Sql) -> dict[str, str]:
        found = self._described.get(relation)
        if found is None:
            with engine.errors(f"{entity.id} in {self.where}"):
                rows = engine.run(self.connection, sql("DESCRIBE SELECT * FROM {}", relation))
            found = self._described[relation] = {row[0]: row[1] for row in rows}
        return found

    def _max_id(self, entity: Entity) -> int | None:
        statement = sql("SELECT max({}) FROM {}", _FLAVOUR.name(entity.changes.column), self.relation(entity))
        with engine.errors(f"{entity.id} in {self.where}"):
            [(newest,)] = engine.run(self.connection, statement)
        return None if newest is None else int(newest)

    def _reading(self, selection: Selection) -> Query:
        """The query that reads whole rows: it sorts unless they are stored in key order, which costs far less to see than to sort."""
        query = self.query(selection)
        ordered = query.has_late() or not self._is_in_order(selection)
        self.connection.execute(f"SET memory_limit = '{engine.MEMORY if ordered else self.streaming_memory}'")
        return replace(query, sorted=ordered)

    def _is_in_order(self, selection: Selection) -> bool:
        if self._in_order != selection and not self._run(selection, self.query(selection).disorder()):
            self._in_order = selection
        return self._in_order == selection

    def _run(self, selection: Selection, statement: Sql) -> list[tuple[Any, ...]]:
        with engine.errors(self._at(selection)):
            return engine.run(self.connection, statement)

    def _at(self, selection: Selection) -> str:
        return f"{selection.entity.id} of {selection.tenant} in {self.where}"
