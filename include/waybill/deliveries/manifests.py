"""Makes the final paths of a delivery's files, and its manifest. Every byte of the manifest follows from two records of the ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from waybill.canonical import optional_timestamp_text
from waybill.configuration.catalog import Entity, Mode
from waybill.configuration.selection import FileStyle
from waybill.deliveries.job import DeliveryJob, Extracted, is_in_parts
from waybill.files.manifest import columns_of, dialect_of, document
from waybill.layout import Target
from waybill.ledger.deliveries import Attempt, Delivery
from waybill.ledger.facts import ColumnFacts, Facts
from waybill.states import Purpose
from waybill_consumer.manifest import FORMAT_VERSION

OPTIONAL_FACTS = ("source_rows", "deletes", "range_column", "previous_schema_version", "previous_manifest_sha256", "encryption")
"""Fields that only some manifests have. The attempt's facts hold them."""


def target_of(delivery: Delivery, style: FileStyle, *, parts: bool, unique: str = "") -> Target:
    """Return the final paths. A delivery in parts has a folder of its own, so one rename makes all of it visible.

    On a drop box, where nobody can rename or list, every name contains `unique`, so that two attempts never meet.
    """
    looks = style.compression, style.format, style.encrypted, parts
    if unique:
        return Target(delivery.folder, f"{delivery.stem}.{unique}", *looks)
    nested = parts and not delivery.folder.endswith(f"/{delivery.stem}")
    return Target(f"{delivery.folder}/{delivery.stem}" if nested else delivery.folder, delivery.stem, *looks)


def target_of_attempt(delivery: Delivery, attempt: Attempt) -> Target:
    """Return the final paths of a recorded attempt."""
    facts = attempt.facts
    looks = facts["csv"]["compression"], format_of(attempt), is_encrypted(attempt), is_in_parts(attempt)
    return Target(facts["folder"], facts["stem"], *looks)


def format_of(attempt: Attempt) -> str:
    """Return the format of a recorded attempt's data files. Attempts of version 0.1.0 are CSV and do not say so."""
    return str(attempt.facts.get("format", "csv"))


def is_encrypted(attempt: Attempt) -> bool:
    """Return whether the files are encrypted, so that only the consumer can read them."""
    return attempt.facts.get("encryption") is not None


def style_of(attempt: Attempt) -> FileStyle:
    """Return how a recorded attempt's files are written. Its number of rows per file only matters in that it is in parts."""
    csv = attempt.facts["csv"]
    most = (attempt.rows or 1) if is_in_parts(attempt) else None
    return FileStyle(csv["delimiter"], csv["line_ending"], csv["bom"], csv["compression"], most, format_of(attempt), is_encrypted(attempt))


def facts_of(job: DeliveryJob, extracted: Extracted, filled_from: Mapping[str, int]) -> Facts:
    """Return what the manifest says beyond the attempt's own columns. The ledger freezes it with the attempt."""
    entity = job.entity
    facts: Facts = {
        "entity_name": entity.display_name,
        "mode": entity.changes.mode.value,
        "exact": extracted.exact,
        "key": list(entity.delivered_key),
        "tombstone_column": entity.tombstone_column,
        "tombstone_when": _deleted_state(entity),
        "columns": _columns(extracted, filled_from),
        "format": job.file_style.format,
        "csv": dialect_of(job.file_style),
        "produced_by": job.produced_by,
        "source_rows": extracted.source_rows,
    }
    if job.recipient is not None:
        facts["encryption"] = {"kind": "pgp", "fingerprint": job.recipient.fingerprint}
    if job.delivery.purpose == Purpose.BACKFILL:
        facts["range_column"] = entity.exported(extracted.range_column) or extracted.range_column
    elif job.stream.columns is not None and extracted.schema_version != job.stream.schema_version:
        facts["previous_schema_version"] = job.stream.schema_version
    return facts


def _columns(extracted: Extracted, filled_from: Mapping[str, int]) -> list[ColumnFacts]:
    columns = columns_of(extracted.columns, extracted.natives)
    for column in columns:
        if column["name"] in filled_from:
            column["filled_from_sequence"] = filled_from[column["name"]]
    return columns


def _deleted_state(entity: Entity) -> dict[str, Any] | None:
    """Return the condition that marks a deleted row, if its column is exported as it is."""
    state = entity.deleted_when
    name = entity.exported(state.column) if state else None
    is_delivered = state is not None and name is not None and entity.columns[name].export == "yes"
    return state.model_dump(mode="json") | {"column": name} if state and is_delivered else None


def manifest_bytes(delivery: Delivery, adopted: Attempt) -> bytes:
    """Return the manifest of a delivery, a pure function of the two records."""
    facts = adopted.facts
    previous = None if delivery.previous_sequence is None else {"sequence": delivery.previous_sequence, "sha256": delivery.previous_sha256}
    at = [None if position is None else position["at"] for position in (adopted.position_from, adopted.position_to)]
    body: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "delivery_id": delivery.id,
        "tenant": delivery.tenant,
        "entity": delivery.entity,
        "entity_name": facts["entity_name"],
        "generation": delivery.generation,
        "sequence": delivery.sequence,
        "previous": previous,
        "kind": delivery.kind,
        "window": {
            "from": optional_timestamp_text(delivery.window_from),
            "to": optional_timestamp_text(adopted.window_to),
            "mode": facts["mode"],
            **_recorded_of(facts, "exact"),
        },
        "position": {"from": at[0], "to": at[1]},
        "snapshot_time": adopted.snapshot_time,
        "rows": adopted.rows,
        "bytes": adopted.bytes,
        "sha256": adopted.sha256,
        "files": adopted.files,
        "columns": facts["columns"],
        "key": facts["key"],
        "schema_version": adopted.schema_version,
        **_recorded_of(facts, "format"),
        "csv": facts["csv"],
        "possible_duplicate": adopted.possible_duplicate,
        "tombstone_column": facts["tombstone_column"],
        "produced_by": facts["produced_by"],
    }
    if facts.get("tombstone_when"):
        body["tombstone_when"] = facts["tombstone_when"]
    if facts["mode"] == Mode.FULL.value:
        body["unchanged"] = adopted.sha256 == delivery.previous_sha256
    body |= _recorded_of(facts, *OPTIONAL_FACTS)
    body |= {"note": adopted.note} if adopted.note else {}
    body |= {"redelivers": delivery.redelivers} if delivery.redelivers else {}
    return document(body)


def manifest_sha256(delivery: Delivery, adopted: Attempt) -> str:
    """Return the hash of a published manifest. A manifest that `reconcile` restored may be spelt as an earlier version wrote it."""
    return str(adopted.facts.get("manifest_sha256") or hashlib.sha256(manifest_bytes(delivery, adopted)).hexdigest())


def _recorded_of(facts: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return those facts that the attempt has. Attempts of an earlier version lack some, and their manifests stay as they were."""
    return {name: facts[name] for name in names if name in facts}
