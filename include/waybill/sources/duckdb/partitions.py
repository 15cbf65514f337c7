"""Partition columns of a lake: the values in the folders of a path, and their types."""

from __future__ import annotations

import math
import re
from urllib.parse import unquote

from waybill.canonical import ColumnType
from waybill.configuration.catalog import Entity
from waybill.errors import PermanentError

_HIVE_TYPES = {
    ColumnType.DATE: "DATE",
    ColumnType.INTEGER: "BIGINT",
    ColumnType.TIMESTAMP: "TIMESTAMP WITH TIME ZONE",
    ColumnType.BOOLEAN: "BOOLEAN",
    ColumnType.FLOAT: "DOUBLE",
}
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_SPELT = {
    ColumnType.INTEGER: re.compile(r"-?[0-9]+"),
    ColumnType.DATE: re.compile(r"[0-9]{4,}-[0-9]{2}-[0-9]{2}"),
    ColumnType.TIMESTAMP: re.compile(r"[0-9]{4,}-[0-9]{2}-[0-9]{2}[^.]*(\.[0-9]{1,6}0*([^0-9.].*)?)?|-?infinity"),
    ColumnType.FLOAT: re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,3})?|[+-]?(nan|inf|infinity)", re.IGNORECASE),
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
    matches = (PARTITION.match(part) for part in path.split("/")[:-1])
    return {unquote(match[1]): unquote(match[2]) for match in matches if match}


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
