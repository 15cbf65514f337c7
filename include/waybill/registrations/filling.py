"""Columns that join the catalog after a stream began. Unchanged rows keep them empty until a full load, and every report says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from waybill.configuration.catalog import Entity, Mode
from waybill.configuration.values.columns import Column
from waybill.language import tell
from waybill.ledger.facts import ColumnFacts
from waybill.ledger.streams import Stream


def source_of(fact: ColumnFacts) -> str:
    """Return the source column that a delivered column was read from."""
    return str(fact.get("source_name") or fact["name"])


def followed(delivered: Sequence[ColumnFacts], catalogued: Mapping[str, Column]) -> dict[str, ColumnFacts]:
    """Return, for each column, the delivered column that it continues. New columns are absent.

    That is a column with the same name and the same source column, else one with the same source column under another name (it was
    renamed), else one with the same name that reads another source column now.
    """
    found: dict[str, ColumnFacts] = {}
    left = list(delivered)
    for same_name, same_source in ((True, True), (False, True), (True, False)):
        for name, column in catalogued.items():
            matching = (
                each
                for each in left
                if (not same_name or each["name"] == name) and (not same_source or source_of(each) == column.source(name))
            )
            if name not in found and (fact := next(matching, None)) is not None:
                found[name] = fact
                left.remove(fact)
    return found


def new_columns(stream: Stream, entity: Entity) -> list[str]:
    """Return the catalogued columns that no delivery of a running stream has carried, under any name.

    Mode full delivers every row each time: it has none.
    """
    if stream.watermark is None or stream.columns is None or entity.changes.mode is Mode.FULL:
        return []
    before = followed(stream.columns, entity.columns)
    return [name for name in entity.columns if name not in before]


def needs_full_load(stream: Stream, entity: Entity) -> str:
    """Return why the next delivery must be a full load, if the entity wants new columns filled at once. Else empty."""
    new = new_columns(stream, entity)
    if not new or not entity.fills_new_columns:
        return ""
    return tell("new_columns.asked", len(new), columns=", ".join(new), rule=rule(entity))


def rule(entity: Entity) -> str:
    """Return what in the catalog decides whether new columns are filled at once."""
    return f"deletes: {entity.deletes.mode}" if entity.deletes and entity.compares_rows else f"fill: {entity.fill}"


def kept_empty(new: list[str]) -> str:
    """Return what a delivery's note says about new columns."""
    return tell("new_columns.empty", len(new), columns=", ".join(new)) if new else ""


def filled_from(stream: Stream, entity: Entity, columns: Mapping[str, Column], sequence: int) -> dict[str, int]:
    """Return, by column, the first delivery that carried it, for the columns that older rows may lack.

    A redelivery may have columns that are gone since.
    """
    if stream.watermark is None or stream.columns is None or entity.changes.mode is Mode.FULL:
        return {}
    new, before = new_columns(stream, entity), followed(stream.columns, columns)
    found = {name: fact.get("filled_from_sequence") for name, fact in before.items()} | dict.fromkeys(new, sequence)
    return {name: first for name, first in found.items() if first and name in columns}
