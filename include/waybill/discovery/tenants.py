"""Whose rows a table holds: by a column of its own, by being the table of tenants, or through the foreign keys that lead to one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from waybill.canonical import ColumnType
from waybill.sources.structures.base import FoundTable, Reference

USUAL_NAMES = (
    "tenant_id", "tenant", "organization_id", "organisation_id", "org_id", "company_id", "account_id", "workspace_id", "client_id",
    "customer_id", "merchant_id", "shop_id", "store_id", "team_id",
)  # fmt: skip
_IDS = frozenset({ColumnType.STRING, ColumnType.INTEGER, ColumnType.UUID, None})


@dataclass(frozen=True)
class Owner:
    """How a table's rows know their tenant: `column` of the last of `steps`, or of the table itself if there are none."""

    column: str
    steps: tuple[Reference, ...] = ()

    def body(self) -> dict[str, Any]:
        """Return the keys of an entity that say so."""
        if not self.steps:
            return {"tenant_column": self.column}
        steps: list[dict[str, Any]] = [
            {"table": step.relation, "on": dict(zip(step.columns, step.theirs, strict=True))} for step in self.steps
        ]
        steps[-1]["column"] = self.column
        return {"tenant_through": steps}


def tenant_names(tables: Sequence[FoundTable], wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the names of tenant columns: those asked for, else the usual one that most tables have."""
    if wanted:
        return tuple(wanted)
    held = Counter(column.name.casefold() for table in tables for column in table.columns)
    usual = [name for name in USUAL_NAMES if held[name]]
    return (max(usual, key=lambda name: (held[name], -USUAL_NAMES.index(name))),) if usual else ()


def owners(tables: Sequence[FoundTable], names: Sequence[str]) -> tuple[dict[str, Owner], dict[str, str]]:
    """Return, by relation, how its rows know their tenant, and why they do not if a column of the right name cannot tell."""
    found: dict[str, Owner] = {}
    unfit: dict[str, str] = {}
    for table in tables:
        by_name = {column.name.casefold(): column for column in table.columns}
        exactly = {column.name: column for column in table.columns}
        columns = [column for name in names if (column := exactly.get(name) or by_name.get(name.casefold()))]
        fit = next((column for column in columns if column.kind in _IDS or _is_whole(column.native)), None)
        if fit is not None:
            found[table.relation] = Owner(fit.name)
        elif columns:
            unfit[table.relation] = (
                f"its tenant column {columns[0].name} is {columns[0].native}, which holds no id; allowed: text, integer or UUID"
            )
    for table in tables:  # the table of tenants is what tenant columns point to
        for reference in table.references:
            if (owner := found.get(table.relation)) and reference.columns == (owner.column,) and not owner.steps:
                found.setdefault(reference.relation, Owner(reference.theirs[0]))
    _follow(tables, found, unfit)
    return found, unfit


def _is_whole(native: str) -> bool:
    text = native.replace(" ", "").casefold()
    return text.startswith(("numeric(", "decimal(")) and ("," not in text or text.endswith(",0)"))


def _follow(tables: Sequence[FoundTable], found: dict[str, Owner], unfit: Mapping[str, str]) -> None:
    """Follow tables without a tenant of their own outwards from those that know theirs. The shortest way by references that are never empty
    wins. Only if there is none, a way counts that loses the rows without a reference.
    """
    waiting = [table for table in tables if table.relation not in found and table.relation not in unfit]
    while waiting:
        reached = _reached(waiting, found, whole=True) or _reached(waiting, found, whole=False)
        if not reached:
            return
        found |= reached
        waiting = [table for table in waiting if table.relation not in reached]


def _reached(waiting: Sequence[FoundTable], found: Mapping[str, Owner], *, whole: bool) -> dict[str, Owner]:
    return {table.relation: owner for table in waiting if (owner := _next(table, found, whole))}


def _next(table: FoundTable, found: Mapping[str, Owner], whole: bool) -> Owner | None:
    never_empty = {column.name for column in table.columns if column.not_null}
    ways = [reference for reference in table.references if reference.relation in found and reference.relation != table.relation]
    ways = [reference for reference in ways if not whole or set(reference.columns) <= never_empty]
    if not ways:
        return None
    way = min(ways, key=lambda reference: len(found[reference.relation].steps))
    owner = found[way.relation]
    if not owner.steps and way.theirs == (owner.column,):
        return Owner(way.columns[0])  # the reference holds the tenant's id itself
    return Owner(owner.column, (way, *owner.steps))
