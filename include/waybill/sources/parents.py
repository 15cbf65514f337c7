"""Leads from a row to the tables that know its tenant (`tenant_through`). No row belongs to a parent that is only equal to its own one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from waybill.configuration.catalog import Entity
from waybill.errors import PermanentError
from waybill.sources import equality
from waybill.sources.sql import Flavour, Natives, Sql, either, every, join, sql


@dataclass(frozen=True)
class Parent:
    """A table on the way to the tenant, as written after FROM, with its columns. `entity` bears the id of the entity that needs it."""

    flavour: Flavour
    relation: Sql
    natives: Natives
    entity: Entity

    def name(self, column: str) -> str:
        """Return the quoted column. A name that the table lacks is refused: in a subquery it would mean a column of the outer table."""
        if column not in self.natives:
            raise PermanentError(
                f"column {column} is missing from {self.entity.relation}, which tenant_through names",
                where=self.entity.id,
                allowed=", ".join(self.natives),
                code="schema_drift",
                next_step="Correct tenant_through in the catalog",
            )
        return self.flavour.name(column)

    def equal(self, column: str, value: str) -> Sql:
        return equality.equal(self.flavour, self.name(column), self.natives[column], value)


def belongs(flavour: Flavour, natives: Natives, on: Mapping[str, str], parent: Parent, condition: Sql) -> Sql:
    """Return whether the parent of a row meets a condition. `flavour` and `natives` are those of the row's relation.

    The database says which parent is meant, as its foreign keys do. Where it may take several parents for the same, a row belongs to the
    one with the same bytes. Without such a one it belongs to those it means, unless one of them does not meet the condition.
    """
    pairs, exact = [], []
    for here, there in on.items():
        ours, theirs = (flavour.name(here), natives.get(here, "")), (parent.name(there), parent.natives[there])
        pairs.append((flavour.joined(*ours, theirs[1]), parent.flavour.joined(*theirs, ours[1])))
        if flavour.mixes(*ours, theirs[1]) or parent.flavour.mixes(*theirs, ours[1]):
            exact.append((flavour.by_bytes(ours[0]), parent.flavour.by_bytes(theirs[0])))
    if not exact:
        return _among(pairs, parent.relation, condition)
    # SQLite compares in IN as the row's column does, and beside a column of the parent as that one does, which its keys do, too.
    meant = _exists(flavour, pairs, parent.relation, condition) if flavour.dynamic else _among(pairs, parent.relation, condition)
    itself = _exists(flavour, [*pairs, *exact], parent.relation, condition)
    another = _exists(flavour, pairs, parent.relation, sql("NOT coalesce({}, false)", condition))
    return every((meant, either((itself, sql("NOT {}", another)))))


def _among(pairs: Iterable[tuple[str, str]], relation: Sql, condition: Sql) -> Sql:
    ours, theirs = (", ".join(side) for side in zip(*pairs, strict=True))
    return sql("({}) IN (SELECT {} FROM {} WHERE {})", ours, theirs, relation, condition)


def _exists(flavour: Flavour, pairs: list[tuple[str, str]], relation: Sql, condition: Sql) -> Sql:
    """Return whether there is such a parent. Its columns bear names of their own, so that all others mean the row's."""
    names = [flavour.name(f"parent's {number}") for number, _ in enumerate(pairs)]
    wanted = ", ".join(f"{theirs} AS {name}" for (_, theirs), name in zip(pairs, names, strict=True))
    same = join(" AND ", (sql("{} = {}", name, ours) for (ours, _), name in zip(pairs, names, strict=True)))
    return sql("EXISTS (SELECT 1 FROM (SELECT {} FROM {} WHERE {}) AS parent WHERE {})", wanted, relation, condition, same)
