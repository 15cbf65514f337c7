"""Notices that the catalog gives unchanged rows other values. A consumer then holds other rows than the catalog describes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping

from waybill.configuration.catalog import Catalog, Entity, Mode
from waybill.errors import PermanentError
from waybill.installation import Installation
from waybill.language import tell
from waybill.ledger import registrations, streams
from waybill.ledger.delivered import keys
from waybill.ledger.delivered.keys import KeySpelling
from waybill.ledger.registrations import Registered
from waybill.ledger.streams import Stream
from waybill.registrations import filling
from waybill.registrations.filling import followed, source_of


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
    for name, digest in now.items():
        if before.get(name, digest) != digest:
            return tell(f"redefined.{name}")
    for name, fact in followed(stream.columns or [], entity.columns).items():
        column = entity.columns[name]
        if fact.get("export", column.export) != column.export:
            return tell("redefined.anonymized" if column.export == "anonymize" else "redefined.not_anonymized", column=name)
        if source_of(fact) != column.source(name) and not same(source_of(fact), column.source(name)):
            return tell("redefined.source", column=name, now=column.source(name), before=source_of(fact))
    return tell("redefined.rows") if entity.compares_rows and _is_other_row(stream, entity) else ""


def renamed(stream: Stream, entity: Entity, took_over: Callable[[str, str], bool]) -> str:
    """Return which delivered column was renamed at the source and has its new name in the catalog as well. Else the text is empty.

    To a consumer the new name is a new column: without a full load it would hold nothing in unchanged rows, and the old one is gone.
    """
    new, kept = filling.new_columns(stream, entity), followed(stream.columns or [], entity.columns)
    left = [fact for fact in stream.columns or [] if fact not in kept.values()]
    pairs = ((fact["name"], name) for name in new for fact in left if took_over(source_of(fact), entity.columns[name].source(name)))
    return next((tell("redefined.renamed", column=before, now=name) for before, name in pairs), "")


def _is_other_row(stream: Stream, entity: Entity) -> bool:
    """Return whether a delivered column left the catalog, or has another type there."""
    delivered = stream.columns or []
    kept = followed(delivered, entity.columns)
    return len(kept) < len(delivered) or any(fact["type"] != entity.columns[name].type.value for name, fact in kept.items())


def announced_to(installation: Installation, tenant: str) -> list[str]:
    """Return what `announced` says of a tenant's own streams, for its plan: only the source shows whether its next delivery is a delta."""
    with installation.ledger.read() as connection:
        begun = [stream for stream in streams.active(connection, tenant) if stream.watermark is not None]
        registered = registrations.current(connection, tenant)
        keyed = keys.known(connection, [stream.id for stream in begun])
    return announced(installation.catalog, begun, {tenant: registered} if registered else {}, keyed)


def _uncompared(entity: Entity, made_of: KeySpelling | None) -> str:
    """Return why nothing can be compared with what was delivered, if the catalog asks for that. Else empty."""
    if entity.compares_keys and made_of is None:
        return tell("redefined.uncompared")
    return tell("redefined.uncompared_rows") if entity.compares_rows and "rows" not in (made_of or {}) else ""


def announced(catalog: Catalog, samples: list[Stream], registered: Mapping[str, Registered], keyed: Mapping[int, KeySpelling]) -> list[str]:
    """Return what `apply` prints: a line for each entity with new columns or another meaning, or whose keys are compared from now on.

    One stream of the entity is looked at, with the columns that its tenant chose. `keyed` has the streams whose delivered keys are known.
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
        if entity is None:
            continue
        why = _uncompared(entity, keyed.get(stream.id)) or catalog_change(stream, entity, lambda before, now: True)
        if why:
            lines.append(tell("redefined.full_load", entity=entity.id, why=why))
        elif why_unless_renamed := catalog_change(stream, entity):
            lines.append(tell("redefined.full_load_unless_renamed", entity=entity.id, why=why_unless_renamed))
        new = filling.new_columns(stream, entity)
        if new and not why:
            filled = tell("new_columns.full_load", len(new), columns=", ".join(new))
            note = filled if entity.fills_new_columns else filling.kept_empty(new)
            lines.append(f"{entity.id}: {note} ({filling.rule(entity)})")
    return lines
