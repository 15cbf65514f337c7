"""The columns of Parquet files as their footers describe them: whether files agree, and columns that have no type.

Writers note one type in several ways: a BIGINT is `INT64` to Arrow and `INT_64` to DuckDB, a text `UTF8` or `STRING`, a decimal has 4,
8 or 16 bytes. What counts is the type that the engine reads a file's values as. A column of the null type holds no value. pandas and Arrow
write it where every value is None, so that it agrees with every other type.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from waybill.canonical import ColumnType
from waybill.configuration.catalog import Entity
from waybill.configuration.values.columns import described
from waybill.errors import PermanentError


class Element(NamedTuple):
    """A column or a part of it. `native` is the engine's type, and `group` what kind of group it is, if it has children."""

    name: str
    native: str | None
    group: str | None
    digits: int | None
    children: int | None


Shape = tuple[Element, ...]
"""A column: its element, and behind it those of its children."""

_MOST_DIGITS = 38
"""Of a decimal in DuckDB."""
_NO_TYPE = '"NULL"'
FOOTERS = "SELECT file_name, name, duckdb_type, converted_type, precision, num_children FROM parquet_schema({})"
"""Each element behind its file, depth first."""
_READ_AS = {
    ColumnType.INTEGER: "BIGINT",
    ColumnType.DECIMAL: "DECIMAL(38, 0)",
    ColumnType.FLOAT: "DOUBLE",
    ColumnType.BOOLEAN: "BOOLEAN",
    ColumnType.DATE: "DATE",
    ColumnType.TIMESTAMP: "TIMESTAMP WITH TIME ZONE",
    ColumnType.UUID: "UUID",
    ColumnType.BINARY: "BLOB",
}
"""The engine's type for a column of which only the catalog says one; text otherwise."""


def untyped(natives: Mapping[str, str]) -> set[str]:
    """Return the columns that have no type, as a whole or in a part of it."""
    return {name for name, native in natives.items() if _NO_TYPE in native}


def assumed(entity: Entity, natives: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    """Return what to read the needed columns as that have no type in any file: what is `known`, else what the catalog says."""
    times = {entity.changes.column, entity.deleted_column, entity.time_column}
    found = {}
    for name in dict.fromkeys(entity.needed_columns):
        if natives.get(name) == _NO_TYPE:
            column = described(entity.columns, name)
            kind = column.type if column else ColumnType.TIMESTAMP if name in times else ColumnType.STRING
            found[name] = known.get(name, _READ_AS.get(kind, "VARCHAR"))
    return found


def refuse_differing(entity: Entity, needed: Collection[str], elements: Iterable[tuple[Any, ...]]) -> dict[str, list[str]]:
    """Return the names of each file's columns. Raise PermanentError `schema_drift` if files disagree in a needed column.

    Each element follows its file.
    """
    files: dict[str, list[Element]] = defaultdict(list)
    for file, *element in elements:
        files[file].append(Element(*element))
    seen: dict[str, dict[Shape | None, str]] = {name: {} for name in sorted(needed)}
    names: dict[str, list[str]] = {}
    for file, found in files.items():
        listed = _columns(found)
        names[file] = [name for name, _ in listed]
        _refuse_alike(entity, seen, names[file], file)
        columns = dict(listed)
        for name, shapes in seen.items():
            shape = columns.get(name)
            if shape in shapes:
                continue
            _refuse_rounded(entity, name, shape or ())
            for other, first in shapes.items():
                if not _agree(shape or (), other or ()):
                    raise PermanentError(
                        f"column {name} is {_shown(shape)} in {file}, but {_shown(other)} in {first}",
                        where=entity.id,
                        code="schema_drift",
                        next_step="Rewrite the files that differ with the schema of the others",
                    )
            shapes[shape] = file
    return names


def _refuse_alike(entity: Entity, needed: Collection[str], columns: Collection[str], file: str) -> None:
    """Refuse needed columns that another one differs from only by case, or not at all: the engine may read the other one."""
    folded = set(map(str.casefold, needed))
    alike = sorted(name for name in columns if name.casefold() in folded)
    for one, other in pairwise(sorted(alike, key=str.casefold)):
        if one.casefold() == other.casefold():
            by_case = f"columns {one} and {other} of {file} differ only by case, which the engine ignores"
            raise PermanentError(
                by_case if one != other else f"{file} has two columns {one}",
                where=entity.id,
                code="schema_drift",
                next_step="Write the files again with names that differ otherwise",
            )


def _refuse_rounded(entity: Entity, name: str, shape: Shape) -> None:
    if any((element.digits or 0) > _MOST_DIGITS for element in shape):
        raise PermanentError(
            f"column {name} holds decimals of more than {_MOST_DIGITS} digits, which the engine would read as rounded doubles",
            where=entity.id,
            code="schema_drift",
            next_step=f"Write it with at most {_MOST_DIGITS} digits or as text, or take {name} out of the catalog",
        )


def _agree(one: Shape, other: Shape) -> bool:
    """Return whether two shapes are the same where both have a type."""
    if one and other and one[0].native == other[0].native:
        return True
    at = beside = 0
    while at < len(one) and beside < len(other):
        first, second = one[at], other[beside]
        if _is_untyped(first) or _is_untyped(second):
            if first.name != second.name:
                return False
            at, beside = _end(one, at), _end(other, beside)
        elif _alone(first) != _alone(second):
            return False
        else:
            at, beside = at + 1, beside + 1
    return at == len(one) and beside == len(other)


def _is_untyped(element: Element) -> bool:
    return element.native == _NO_TYPE


def _alone(element: Element) -> tuple[Any, ...]:
    """Return what tells an element from others, without its children."""
    return element.name, element.group if element.children else element.native, element.children


def _columns(elements: list[Element]) -> list[tuple[str, Shape]]:
    """Return each top-level column with its elements, from Parquet's depth-first list. The first element of the list is the root."""
    found: list[tuple[str, Shape]] = []
    at = 1
    while at < len(elements):
        end = _end(elements, at)
        found.append((elements[at].name, tuple(elements[at:end])))
        at = end
    return found


def _end(elements: Shape | list[Element], at: int) -> int:
    """Return where the element and its children end."""
    open_children = elements[at].children or 0
    while open_children:
        at += 1
        open_children += (elements[at].children or 0) - 1
    return at + 1


def _shown(shape: Shape | None) -> str:
    return str(shape[0].native) if shape else "missing"
