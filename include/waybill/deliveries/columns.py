"""A delivery's columns: how the ledger keeps them, and how one file's follow the last one's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from waybill.configuration.catalog import Column
from waybill.registrations.filling import FILLED_FROM


def as_json(columns: Mapping[str, Column], filled_from: Mapping[str, int]) -> list[dict[str, Any]]:
    """Columns in file order, as the ledger keeps them."""
    found: list[dict[str, Any]] = []
    for name, column in columns.items():
        found.append({"name": name, "type": column.type.value, "description": column.description, "export": column.export})
        if name in filled_from:
            found[-1][FILLED_FROM] = filled_from[name]
    return found


def from_json(columns: Sequence[Mapping[str, Any]]) -> dict[str, Column]:
    return {one["name"]: Column(type=one["type"], description=one["description"], export=one["export"]) for one in columns}


def arranged(
    delivered: Sequence[Mapping[str, Any]] | None, version: int, catalogued: Mapping[str, Column]
) -> tuple[dict[str, Column], int]:
    """The columns of the next file and its schema version.

    Columns of the last file come first, in its order; columns catalogued since are appended in catalog order. The version is raised by one
    when a name, a type or the anonymization of a column differs from the last file; a changed description raises nothing.
    """
    if delivered is None:
        return dict(catalogued), version
    kept = [one["name"] for one in delivered if one["name"] in catalogued]
    columns = {name: catalogued[name] for name in [*kept, *(name for name in catalogued if name not in kept)]}
    before = [(one["name"], one["type"], one["export"]) for one in delivered]
    return columns, version + (before != [(name, column.type.value, column.export) for name, column in columns.items()])


def same_texts(one: Mapping[str, Column], other: Mapping[str, Column]) -> bool:
    """Whether two sets of columns give every row the same texts."""
    spelt = [{name: (column.type, column.export) for name, column in columns.items()} for columns in (one, other)]
    return spelt[0] == spelt[1]
