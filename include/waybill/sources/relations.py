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

    def __init__(self, connection: duckdb.DuckDBPyConnection, where: str) -> None:
        self.connection = connection
        self.where = where
        self._columns: dict[str, dict[str, str]] = {}
        self._in_order: Selection | None = None
        [(now,)] = connection.execute("SELECT now()").fetchall()
        self.taken_at: datetime = now.astimezone(UTC)

    @abstractmethod
    def relation(self, entity: Entity) -> Sql:
        """What stands behind FROM."""

    def columns(self, entity: Entity) -> dict[str, str]:
        found = self._columns.get(entity.id)
        if found is None:
            with engine.errors(f"{entity.id} in {self.where}"):
                rows = engine.run(self.connection, sql("DESCRIBE SELECT * FROM {}", self.relation(entity)))
            found = self._columns[entity.id] = {row[0]: row[1] for row in rows}
        return found

    def check(self, selection: Selection) -> None:
        drift.check_columns(selection, self.columns(selection.entity), _FLAVOUR)
        query = self.query(selection)
        if selection.entity.changes.column and selection.entity.changes.mode is not Mode.FULL:
            [(nulls,)] = self._run(selection, query.null_changes())
            if nulls:
                raise drift.null_changes(selection, nulls)
        if not self._is_in_order(selection) and self._run(selection, query.repeated_key()):
            raise drift.repeated_key(selection)

    def extent(self, entity: Entity, tenant: str, start: Any, end: datetime) -> Extent:
        column = entity.changes.column
        by_id = column and _FLAVOUR.kind(self.columns(entity).get(column, "")) is ColumnType.INTEGER
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
        return Query(_FLAVOUR, self.relation(selection.entity), self.columns(selection.entity), selection)

    def _max_id(self, entity: Entity) -> int | None:
        statement = sql("SELECT max({}) FROM {}", _FLAVOUR.name(entity.changes.column), self.relation(entity))
        with engine.errors(f"{entity.id} in {self.where}"):
            [(newest,)] = engine.run(self.connection, statement)
        return None if newest is None else int(newest)

    def _reading(self, selection: Selection) -> Query:
        """The query that reads whole rows: it sorts unless they are stored in key order, which costs far less to see than to sort."""
        query = self.query(selection)
        return replace(query, sorted=query.has_late() or not self._is_in_order(selection))

    def _is_in_order(self, selection: Selection) -> bool:
        if self._in_order != selection and not self._run(selection, self.query(selection).disorder()):
            self._in_order = selection
        return self._in_order == selection

    def _run(self, selection: Selection, statement: Sql) -> list[tuple[Any, ...]]:
        with engine.errors(self._at(selection)):
            return engine.run(self.connection, statement)

    def _at(self, selection: Selection) -> str:
        return f"{selection.entity.id} of {selection.tenant} in {self.where}"
