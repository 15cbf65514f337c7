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
    """Return, by relation, how its rows know their tenant, and why they do not if a column of the right name cannot tell.

    The first of `names` is the tenant's id. A table that holds another id of the tenant, such as a UUID or a slug, is led to the first one.
    """
    found: dict[str, Owner] = {}
    unfit: dict[str, str] = {}
    rank: dict[str, int] = {}
    for table in tables:
        by_name = {column.name.casefold(): column for column in table.columns}
        exactly = {column.name: column for column in table.columns}
        columns = [(number, column) for number, name in enumerate(names) if (column := exactly.get(name) or by_name.get(name.casefold()))]
        fit = next(((number, column) for number, column in columns if column.kind in _IDS or _is_whole(column.native)), None)
        if fit is not None:
            rank[table.relation], found[table.relation] = fit[0], Owner(fit[1].name)
        elif columns:
            column = columns[0][1]
            unfit[table.relation] = f"its tenant column {column.name} is {column.native}, which holds no id; allowed: text, integer or UUID"
    for table in sorted((table for table in tables if table.relation in found), key=lambda table: rank[table.relation]):
        for reference in table.references:  # the table of tenants is what tenant columns point to
            at = rank[table.relation]
            if reference.columns == (found[table.relation].column,) and at < rank.get(reference.relation, len(names)):
                rank[reference.relation], found[reference.relation] = at, Owner(reference.theirs[0])
    led = _led_to_the_first(tables, found, rank)
    found |= led
    for relation, why in _contradicting(tables, found, {name: at for name, at in rank.items() if name not in led}).items():
        del found[relation]
        unfit[relation] = why
    _follow(tables, found, unfit)
    return found, unfit


def _led_to_the_first(tables: Sequence[FoundTable], found: Mapping[str, Owner], rank: Mapping[str, int]) -> dict[str, Owner]:
    """Return the tables that hold another id of their tenant: over a foreign key to a table that knows the first id, else over a table in
    which each of the two ids is unique.
    """
    pointed = Counter(reference.relation for table in tables for reference in table.references)
    firsts = sorted((table for table in tables if rank.get(table.relation) == 0), key=lambda table: -pointed[table.relation])
    led = {}
    for table in (table for table in tables if rank.get(table.relation)):
        own = found[table.relation].column
        declared = [way for way in table.references if way.columns == (own,) and rank.get(way.relation) == 0]
        same = [way for first in firsts if (way := _same_id(table, own, first, found[first.relation].column))]
        for way in [*declared, *same][:1]:
            if way.theirs != (found[way.relation].column,):  # else it is the first id under another name
                led[table.relation] = Owner(found[way.relation].column, (way,))
    return led


def _contradicting(tables: Sequence[FoundTable], found: Mapping[str, Owner], rank: Mapping[str, int]) -> dict[str, str]:
    """Return the tables of which no row could belong to a tenant with the first id, because one is a UUID and the other a number."""
    telling = {table.relation: table.column(found[table.relation].column) for table in tables if table.relation in rank}
    firsts = [column for relation, column in telling.items() if column and rank[relation] == 0]
    kinds = {column.kind for column in firsts}
    return {
        relation: f"its tenant column {column.name} is {column.native}, and {firsts[0].name} is {firsts[0].native}: no table leads from one"
        f" id to the other; `waybill discover` with --tenant-column {column.name} alone proposes it for tenants registered by that id"
        for relation, column in telling.items()
        if column and rank[relation] and len(kinds) == 1 and {*kinds, column.kind} == {ColumnType.INTEGER, ColumnType.UUID}
    }


def _same_id(table: FoundTable, own: str, first: FoundTable, id_column: str) -> Reference | None:
    """Return the way from a table to another that holds the same id in a column of the same name, beside the first id."""
    mine = table.column(own)
    theirs = next((column for column in first.columns if column.name.casefold() == own.casefold()), None)
    if mine is None or theirs is None or mine.kind is not theirs.kind or not {(theirs.name,), (id_column,)} <= set(first.keys):
        return None
    return Reference((own,), first.relation, (theirs.name,))


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
