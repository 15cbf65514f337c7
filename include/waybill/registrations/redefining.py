"""Notices that the catalog gives unchanged rows other values. A consumer then holds other rows than the catalog describes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping

from waybill.configuration.catalog import Catalog, Entity, Mode
from waybill.errors import PermanentError
from waybill.ledger.registrations import Registered
from waybill.ledger.streams import Stream
from waybill.registrations import filling
from waybill.registrations.filling import followed, source_of

_MEANINGS = {
    "relation": "other rows (relation or query)",
    "tenant": "the tenant's rows otherwise (tenant_column or tenant_through)",
    "key": "rows by another key",
    "deleted": "deletions otherwise (deleted_column or deleted_when)",
}


def reading(entity: Entity) -> dict[str, str]:
    """Return hashes of what the catalog says of an entity's rows, by subject. The stream's position keeps them."""
    state = entity.deleted_when
    values = {
        "relation": [entity.source, entity.relation, entity.query],
        "tenant": [entity.tenant_column, *(step.model_dump(mode="json") for step in entity.tenant_through)],
        "key": list(entity.key),
        "deleted": [entity.deleted_column, state.model_dump(mode="json") if state else None],
    }
    return {name: hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16] for name, what in values.items()}


def catalog_change(stream: Stream, entity: Entity, same: Callable[[str, str], bool] = lambda before, now: False) -> str:
    """Return why the catalog now means other rows or values than those that were delivered. The text is empty if it does not.

    `same` may know that two names are one renamed column of the source. Mode full delivers every row each time, so nothing is compared.
    """
    if stream.watermark is None or entity.changes.mode is Mode.FULL:
        return ""
    before = (stream.position or {}).get("reading") or {}
    now = reading(entity)
    for name, what in _MEANINGS.items():
        if before.get(name, now[name]) != now[name]:
            return f"the catalog now reads {what}"
    for name, fact in followed(stream.columns or [], entity.columns).items():
        column = entity.columns[name]
        if fact.get("export", column.export) != column.export:
            return f"the column {name} is {'' if column.export == 'anonymize' else 'not '}anonymized now"
        if source_of(fact) != column.source(name) and not same(source_of(fact), column.source(name)):
            return f"the column {name} now reads {column.source(name)}, before {source_of(fact)}"
    return ""


def announced(catalog: Catalog, samples: list[Stream], registered: Mapping[str, Registered]) -> list[str]:
    """Return what `apply` prints: a line for each entity with new columns or another meaning.

    One stream of the entity is looked at, with the columns that its tenant chose.
    """
    lines = []
    for stream in samples:
        entity = catalog.entity(stream.entity)
        if entity and (owner := registered.get(stream.tenant)):
            try:
                entity = owner.registration.sees(entity)
            except PermanentError as error:
                lines.append(str(error.located(f"tenant {stream.tenant}")))
                continue
        if entity and (why := catalog_change(stream, entity)):
            lines.append(f"{entity.id}: {why}: the next delivery is a full load")
        new = filling.new_columns(stream, entity) if entity else []
        if entity and new:
            wanted = entity.fill == "full_load"
            note = f"{filling.named(new)} new: the next delivery is a full load" if wanted else filling.kept_empty(new)
            lines.append(f"{entity.id}: {note} (fill: {entity.fill})")
    return lines
