"""Compares what a source holds now with its entities: new tables and columns, and dropped and retyped ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from waybill.canonical import ColumnType
from waybill.configuration.catalog import Entity, is_credential
from waybill.configuration.values.columns import Column, described
from waybill.errors import counted
from waybill.sources.drift import holds
from waybill.sources.sql import split_name
from waybill.sources.structures.base import FoundColumn, FoundTable

_SIGNS = {"new_table": "+", "new_column": "+", "dropped_table": "-", "dropped_column": "-", "retyped_column": "~"}


@dataclass(frozen=True)
class Drift:
    """One difference. With `breaks`, the entity's next delivery stops at it."""

    kind: str
    place: str
    what: str

    @property
    def breaks(self) -> bool:
        return not self.kind.startswith("new_")

    def __str__(self) -> str:
        return f"{_SIGNS[self.kind]} {self.place}: {self.what}"


def drifts(entities: Iterable[Entity], tables: Sequence[FoundTable]) -> list[Drift]:
    """Return the differences in the order of the entities, with new tables last. Entities that are queries have no table to compare
    with.
    """
    by_name = {tuple(split_name(table.relation)): table for table in tables}
    known = set()
    found: list[Drift] = []
    for entity in entities:
        if not entity.relation:
            continue
        name = tuple(split_name(entity.relation))
        name = name if name in by_name or len(name) == 1 else (name[-1],) if (name[-1],) in by_name else name
        known.add(name)
        table = by_name.get(name)
        if table is None:
            found.append(Drift("dropped_table", entity.id, f"{entity.relation} is gone from the source"))
        else:
            found += _columns(entity, table)
    return found + [
        Drift("new_table", table.relation, f"no entity reads it ({counted(len(table.columns), 'column')})")
        for name, table in by_name.items()
        if name not in known
    ]


def _columns(entity: Entity, table: FoundTable) -> Iterator[Drift]:
    for name in entity.needed_columns:
        column, catalogued = table.column(name), described(entity.columns, name)
        place = f"{entity.id}.{name}"
        if column is None:
            yield Drift("dropped_column", place, f"the column is gone from {entity.relation}{_renamed(entity, name, table)}")
        elif catalogued and column.kind is not None and not holds(column.native, column.kind, catalogued.type):
            yield Drift("retyped_column", place, f"the column is {column.native} now, the catalog says {catalogued.type}")
    for column in _fresh(entity, table):
        yield Drift("new_column", f"{entity.id}.{column.name}", f"{column.native}, not exported")


def _fresh(entity: Entity, table: FoundTable) -> list[FoundColumn]:
    """Return the columns that the catalog does not have and may have: no credentials, and none that only tells changes."""
    return [
        column
        for column in table.columns
        if column.name not in entity.needed_columns
        and not is_credential(column.name, Column(type=column.kind or ColumnType.STRING))
        and column.native != "xid8"
    ]


def _renamed(entity: Entity, gone: str, table: FoundTable) -> str:
    """Return what the column may be called now: the only new one of its type, if no other column of that type is gone."""
    catalogued = described(entity.columns, gone)
    if catalogued is None:
        return ""
    fresh = [column.name for column in _fresh(entity, table) if column.kind is catalogued.type]
    missing = [name for name in entity.needed_columns if table.column(name) is None]
    alike = [name for name in missing if (other := described(entity.columns, name)) and other.type is catalogued.type]
    return f"; is it {fresh[0]} now?" if len(fresh) == 1 and alike == [gone] else ""
