"""Warns of what a catalog or a tenant's file may say and seldom means: rows, deletions or a choice that would not reach consumers."""

from __future__ import annotations

from collections.abc import Iterator

from waybill.canonical import ColumnType
from waybill.configuration.catalog import Catalog, Entity, Mode
from waybill.configuration.registration import ExportOption, Registration
from waybill.configuration.values.columns import described
from waybill.errors import Finding


def warnings(catalog: Catalog, file: str) -> list[Finding]:
    """Return the warnings about a valid catalog, in the order of its entities."""
    rules = (_deletions, _ids_that_repeat, _ids_out_of_turn)
    return [warning for entity in catalog.entities.values() for rule in rules for warning in rule(entity, file)]


def ignored(registration: Registration, file: str) -> Iterator[Finding]:
    """Yield a warning if a tenant's file lists entities and its option gives the tenant all of them."""
    if registration.export_option is ExportOption.ALL and registration.entity_list:
        what = "export all ignores this list: the tenant receives every entity, also those that the catalog gets later"
        yield Finding(file, "entityList", what, "exportOption: export selected, or no entityList")


def _deletions(entity: Entity, file: str) -> Iterator[Finding]:
    """Yield which deletions consumers cannot tell from changes, or never learn of."""
    name = entity.deleted_when.column if entity.deleted_when else entity.deleted_column
    key = "deleted_when" if entity.deleted_when else "deleted_column"
    if name and entity.exported(name) is None:
        what = f"deleted rows are delivered looking like live ones: {name} is not among the columns"
        yield Finding(file, f"entities.{entity.id}.{key}", what, f"add it to columns, or leave {key} out")
    if not name and entity.deletes is None and entity.changes.mode is not Mode.FULL:
        what = "rows that are deleted in the source stay in consumers' copies: nothing tells their deletion, and nothing compares keys"
        allowed = "deletes: compare, a deleted_column, or deletes: never where rows are not removed"
        yield Finding(file, f"entities.{entity.id}", what, allowed)
    elif entity.tenant_through and not entity.compares_keys and entity.changes.mode is not Mode.FULL:
        what = "rows whose parent goes to another tenant reach neither tenant: the rows themselves do not change"
        yield Finding(file, f"entities.{entity.id}.tenant_through", what, "deletes: compare, where parents can change tenants")


def _ids_that_repeat(entity: Entity, file: str) -> Iterator[Finding]:
    """Yield a warning if `append` goes by an id that is counted anew for each value of another column of the key.

    A delivery ends at the highest id, so a row with a lower one that comes later would be passed over.
    """
    column, kind = entity.changes.column, described(entity.columns, entity.changes.column)
    others = [name for name in entity.key if name not in (column, entity.tenant_column)]
    by_id = kind is not None and kind.type is ColumnType.INTEGER
    if entity.changes.mode is Mode.APPEND and by_id and column in entity.key and others and not entity.compares_keys:
        what = f"if {column} is counted anew for each {' and '.join(others)}, rows below the highest {column} of all are passed over"
        allowed = "a column that rises over all rows, mode lookback, or deletes: compare, which finds such rows"
        yield Finding(file, f"entities.{entity.id}.changes.column", what, allowed)


def _ids_out_of_turn(entity: Entity, file: str) -> Iterator[Finding]:
    """Yield a warning if `append` by id reads no id again: databases give ids out before they commit, so lower ones may appear later."""
    kind = described(entity.columns, entity.changes.column)
    by_id = entity.changes.mode is Mode.APPEND and kind is not None and kind.type is ColumnType.INTEGER
    if by_id and not entity.changes.lag and not entity.compares_keys:
        what = "a row that is committed after one with a higher id never arrives: no id is read again"
        allowed = "lag: 10000, to read that many ids again, or more than one transaction may span, or deletes: compare"
        yield Finding(file, f"entities.{entity.id}.changes.lag", what, allowed)
