"""Columns catalogued after a stream began: rows that do not change keep them empty until a full load, and everybody is told so."""

from __future__ import annotations

from collections.abc import Mapping

from waybill.configuration.catalog import Catalog, Column, Entity, Mode
from waybill.ledger.registrations import Registered
from waybill.ledger.streams import Stream

FILLED_FROM = "filled_from_sequence"
"""In the facts of a column: the first delivery that carried it. Rows not delivered since then hold nothing in it."""


def new_columns(stream: Stream, entity: Entity) -> list[str]:
    """The catalogued columns that no delivery of a running stream has carried. Mode full delivers every row each time: it has none."""
    if stream.watermark is None or stream.columns is None or entity.changes.mode is Mode.FULL:
        return []
    delivered = {column["name"] for column in stream.columns}
    return [name for name in entity.columns if name not in delivered]


def needs_full_load(stream: Stream, entity: Entity) -> str:
    """Why the next delivery must be a full load, or nothing: the entity wants new columns filled at once."""
    new = new_columns(stream, entity)
    if not new or entity.fill != "full_load":
        return ""
    return f"{_named(new)} new in the catalog, and fill: full_load asks for every row"


def told(new: list[str]) -> str:
    """What a delivery's note says of new columns."""
    return f"{_named(new)} new: rows that did not change keep {'it' if len(new) == 1 else 'them'} empty until a full load" if new else ""


def announced(catalog: Catalog, samples: list[Stream], registered: Mapping[str, Registered]) -> list[str]:
    """What `apply` says: a line for each entity with new columns, as one of its streams shows them, for the columns its tenant chose."""
    lines = []
    for stream in samples:
        entity = catalog.entity(stream.entity)
        if entity and (owner := registered.get(stream.tenant)):
            entity = owner.registration.sees(entity)
        new = new_columns(stream, entity) if entity else []
        if entity and new:
            wanted = entity.fill == "full_load"
            says = f"{_named(new)} new: the next delivery is a full load" if wanted else told(new)
            lines.append(f"{entity.id}: {says} (fill: {entity.fill})")
    return lines


def filled_from(stream: Stream, entity: Entity, columns: Mapping[str, Column], sequence: int) -> dict[str, int]:
    """By column, the first delivery that carried it, for the columns that older rows may lack."""
    if stream.watermark is None or stream.columns is None or entity.changes.mode is Mode.FULL:
        return {}
    since = {column["name"]: column.get(FILLED_FROM) for column in stream.columns}
    found = {name: since.get(name, sequence) for name in columns}
    return {name: first for name, first in found.items() if first}


def _named(new: list[str]) -> str:
    return f"the column {new[0]} is" if len(new) == 1 else f"the columns {', '.join(new)} are"
