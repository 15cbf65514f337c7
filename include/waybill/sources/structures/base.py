"""The structure of a source from its own catalogue: tables, columns, keys, references, comments. `waybill discover` reads it.

Each family of engines has one module, and all of them return these records.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from waybill.canonical import ColumnType
from waybill.configuration.catalog import DuckDBSource, LakeSource, PostgresSource, SourceSpec
from waybill.connection import Connections
from waybill.sources.sql import Flavour, Sql


@dataclass(frozen=True)
class FoundColumn:
    """A column of a source. `kind` is None for a type without a counterpart in the catalog. Its values are exported as text."""

    name: str
    native: str
    kind: ColumnType | None
    not_null: bool = False
    comment: str = ""
    identity: bool = False
    """True if the database increments it."""
    unfit: str = ""
    """Why its values cannot be exported."""


@dataclass(frozen=True)
class Reference:
    """A foreign key: these columns name a row of another table, given by its relation."""

    columns: tuple[str, ...]
    relation: str
    theirs: tuple[str, ...]


@dataclass(frozen=True)
class FoundTable:
    """`relation` is what an entity's relation says. `keys` are its unique constraints, the primary key first; `indexed` the first columns
    of its indexes. `obstacle` says why it cannot be read.
    """

    relation: str
    name: str
    columns: tuple[FoundColumn, ...] = ()
    keys: tuple[tuple[str, ...], ...] = ()
    references: tuple[Reference, ...] = ()
    indexed: frozenset[str] = frozenset()
    comment: str = ""
    rows: int | None = None
    """The approximate number. None if it would have to be counted."""
    stamped: frozenset[str] = frozenset()
    """Columns that something in the database sets at each update: an enabled trigger that names them, or `ON UPDATE`."""
    only_inserts: bool = False
    """True if the database has counted inserts, but no update and no deletion."""
    obstacle: str = ""
    withheld: tuple[str, ...] = ()
    """Columns that the connection's user may not read. They are not among `columns`."""
    filtered: bool = False
    """Whether row-level security decides which rows the connection's user sees."""

    def column(self, name: str) -> FoundColumn | None:
        return next((column for column in self.columns if column.name == name), None)


class Structure(Protocol):
    """An open look at a source."""

    def tables(self, schema: str) -> list[FoundTable]:
        """By relation; of one schema, or of all that are the user's own. What another table holds as its part is not listed."""
        ...

    def name(self, identifier: str) -> str: ...

    def relation(self, table: FoundTable) -> Sql:
        """Return what follows FROM."""
        ...

    def ask(self, statement: Sql) -> list[Any]:
        """Return the rows of one statement. Raises what a snapshot of the source raises."""
        ...


def found_column(
    flavour: Flavour, name: str, native: str, not_null: bool = False, comment: str = "", identity: bool = False
) -> FoundColumn:
    """Return a column as its engine knows the type."""
    unfit = flavour.unfit(native)
    why = f"it is {native}, {unfit[0]}. {unfit[1]}" if unfit else ""
    return FoundColumn(name, native, flavour.kind(native), not_null, comment, identity, why)


def written(*parts: str) -> str:
    """Return the parts of a name as an entity's relation says them: a part with a dot in double quotes."""
    return ".".join(f'"{part}"' if "." in part else part for part in parts)


def look_into(
    spec: SourceSpec, base: Path, connections: Connections, connect: Callable[[str], Any] | None
) -> AbstractContextManager[Structure]:
    """Open a source to look at its structure; relative paths are resolved against `base`."""
    match spec:
        case PostgresSource():
            from waybill.sources.postgres.structure import look_into_postgres

            return look_into_postgres(spec, connections)
        case DuckDBSource():
            from waybill.sources.structures.duckdb import look_into_duckdb

            return look_into_duckdb(base / spec.path)
        case LakeSource():
            from waybill.sources.structures.lake import look_into_lake

            return look_into_lake(spec, base, connections)
    from waybill.sources.structures.dbapi import look_into_dbapi

    return look_into_dbapi(spec, connect)
