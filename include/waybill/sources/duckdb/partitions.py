"""Partition columns of a lake: the values in the folders of a path, and their types."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import unquote
from uuid import UUID

from waybill.canonical import ColumnType
from waybill.configuration.catalog import Entity
from waybill.configuration.values.columns import described
from waybill.errors import PermanentError
from waybill.sources.sql import Bind, Sql, quote, sql

_HIVE_TYPES = {
    ColumnType.DATE: "DATE",
    ColumnType.INTEGER: "BIGINT",
    ColumnType.TIMESTAMP: "TIMESTAMP WITH TIME ZONE",
    ColumnType.BOOLEAN: "BOOLEAN",
    ColumnType.FLOAT: "DOUBLE",
    ColumnType.UUID: "UUID",
}
_NUMBERS = frozenset({ColumnType.INTEGER, ColumnType.DECIMAL})
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
PATTERN_MARKS = re.compile(r"([*?\[])")
_SPELT = {
    ColumnType.INTEGER: re.compile(r"-?[0-9]+"),
    ColumnType.DATE: re.compile(r"[0-9]{4,}-[0-9]{2}-[0-9]{2}"),
    ColumnType.TIMESTAMP: re.compile(r"[0-9]{4,}-[0-9]{2}-[0-9]{2}[^.]*(\.[0-9]{1,6}0*([^0-9.].*)?)?|-?infinity"),
    ColumnType.FLOAT: re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,3})?|[+-]?(nan|inf|infinity)", re.IGNORECASE),
    ColumnType.UUID: re.compile(r"\{?[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}\}?", re.IGNORECASE),
}
"""How partition values are spelt that the engine would also read out of others: 2 out of 1.5, a day out of a time, a rounded time."""
PARTITION = re.compile(r"^([^=/]+)=(.*)$", re.DOTALL)


def types_of(path: str, entity: Entity) -> dict[str, str]:
    """Return the hive partition columns of a path and the types to read them as.

    A type is what the catalog says, else text. It is never guessed.
    """
    catalogued = {column.source(name): _HIVE_TYPES.get(column.type, "VARCHAR") for name, column in entity.columns.items()}
    return {name: catalogued.get(name, "VARCHAR") for name in values_of(path)}


def values_of(path: str) -> dict[str, str]:
    """Return the hive partition columns of a path with their values."""
    return dict(_named(path))


def _named(path: str) -> list[tuple[str, str]]:
    matches = (PARTITION.match(part) for part in path.split("/")[:-1])
    return [(unquote(match[1]), unquote(match[2])) for match in matches if match]


def of_tenant(entity: Entity, values: Mapping[str, str | None], tenant: str) -> list[str]:
    """Return the paths that are the tenant's, by the values of their tenant column."""
    own = {value for value in set(values.values()) if _is_tenant(entity, value, tenant)}
    return [path for path, value in values.items() if value in own]


def _is_tenant(entity: Entity, value: str | None, tenant: str) -> bool:
    """Return whether a folder is the tenant's. `07` and `7.00` are the tenant 7 if the column is catalogued as a number, and a UUID is
    the same in all its spellings.
    """
    if value == tenant or value is None:
        return value == tenant
    column = described(entity.columns, entity.tenant_column)
    kind = column.type if column else None
    try:
        return (kind in _NUMBERS and Decimal(value) == Decimal(tenant)) or (kind is ColumnType.UUID and UUID(value) == UUID(tenant))
    except (InvalidOperation, ValueError):
        return False


def refuse_doubled(paths: list[str], entity: Entity) -> None:
    """Refuse a path that names one column twice with different values.

    The engine would believe the first, and the tenant's filter the last. The engine takes names for one that differ only by case.
    """
    for path in paths:
        seen: dict[str, tuple[str, str]] = {}
        for name, value in _named(path):
            if seen.setdefault(name.casefold(), (name, value)) != (name, value):
                raise PermanentError(
                    f"{path} lies in two folders that name the column {name}, with different values or in different letters",
                    where=entity.id,
                    code="schema_drift",
                    next_step="Rename one of the folders, or narrow the pattern to files that are partitioned once",
                )


def refuse_disagreeing(entity: Entity, needed: Collection[str], columns: Mapping[str, list[str]], run: Callable[[Sql], list[Any]]) -> None:
    """Refuse files that hold another value in a needed column than the name of their folder, which the engine believes.

    `columns` are those of each file, and `run` executes a statement.
    """
    wanted = {name.casefold() for name in needed}
    held: dict[str, dict[str, str | None]] = defaultdict(dict)
    for path, names in columns.items():
        folders = {folder.casefold(): (folder, value) for folder, value in values_of(path).items()}
        for name in names:
            folder, value = folders.get(name.casefold(), (name, None))
            if name != folder and name.casefold() in wanted:
                what = f"{path} holds a column {name}, which differs only by case from {folder} in its folder's name"
                raise _disagreeing(entity, what)
            if name.casefold() in folders.keys() & wanted:
                held[name][path] = None if value == _NULL_PARTITION else value
    for name, told in held.items():
        files, values = Bind(tuple(told), "VARCHAR[]"), Bind(tuple(told.values()), "VARCHAR[]")
        patterns = Bind(tuple(map(literal, told)), "VARCHAR[]")
        read = sql("read_parquet({}, filename = 'waybill_path', hive_partitioning = false)", patterns)
        rows = sql("SELECT {} AS held, waybill_path AS path FROM {}", quote(name), read)
        folders_say = sql("SELECT unnest({}) AS path, unnest({}) AS told", files, values)
        differ = sql("held IS DISTINCT FROM TRY(cast_to_type(told, held)) LIMIT 1")
        asked = sql("SELECT path FROM ({}) AS r JOIN ({}) AS t USING (path) WHERE {}", rows, folders_say, differ)
        for (path,) in run(asked):
            raise _disagreeing(entity, f"{path} holds another value in its column {name} than its folder's name says")


def _disagreeing(entity: Entity, what: str) -> PermanentError:
    step = "Move the rows into the folder of their value, or write the file without this column"
    return PermanentError(what, where=entity.id, code="schema_drift", next_step=step)


def literal(path: str) -> str:
    """Return the pattern that matches only this path."""
    return PATTERN_MARKS.sub(r"[\1]", path)


def refuse_misread(paths: list[str], entity: Entity) -> None:
    read = {column.source(name): column.type for name, column in entity.columns.items() if column.type in _SPELT}
    for path in paths if read else ():
        for name, value in values_of(path).items():
            if name in read and value != _NULL_PARTITION and not _is_spelt(read[name], value):
                raise PermanentError(
                    f"the partition column {name} is catalogued as {read[name]}, and {path} holds another value",
                    where=entity.id,
                    code="schema_drift",
                    next_step=f"Rename the folder, or set the column's type in entities.{entity.id} of the catalog to string",
                )


def _is_spelt(kind: ColumnType, value: str) -> bool:
    """Return whether the engine reads this text as exactly what it says."""
    if not _SPELT[kind].fullmatch(value):
        return False
    return kind is not ColumnType.FLOAT or not math.isinf(float(value)) or "inf" in value.lower()


def refuse_unreadable(path: str, entity: Entity) -> None:
    """Refuse two kinds of names that DuckDB does not read as they are written."""
    in_partition = any("?" in part for part in path.split("/")[:-1] if PARTITION.match(part))
    if in_partition or ("\\" in path and PATTERN_MARKS.search(path)):
        raise PermanentError(
            f"the name {path} holds a {'question mark in a partition value' if in_partition else 'backslash beside a pattern character'}",
            where=entity.id,
            code="source_unreadable",
            next_step="Spell it %3F, as Hive and Spark do" if in_partition else "Rename it",
        )
