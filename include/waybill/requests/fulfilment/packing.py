"""PACK: writes the archive of an export, a zip64 with its files, a manifest for programs and a README for people."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from waybill import private
from waybill.canonical import optional_timestamp_text
from waybill.configuration.catalog import Entity
from waybill.configuration.selection import Selection
from waybill.configuration.values.columns import Column
from waybill.files.manifest import columns_of, document
from waybill.formats.base import Written, disk_errors
from waybill.language import table, tell
from waybill.ledger.on_demand.request_records import ExportRequest
from waybill.requests.fulfilment.heartbeat import Heartbeat
from waybill.requests.lifecycle import packed_progress
from waybill.requests.ranges import spoken

FORMAT_VERSION = 1
BLOCK = 1 << 20
_PLACES = "WAYBILL_ARCHIVE_URL or WAYBILL_SPOOL_DIR"
"""An archive is built where its folder is, and one for a bucket in the spool."""
_PACKED_ALREADY = frozenset({"xlsx", "parquet"})


@dataclass(frozen=True)
class Part:
    """One file of the archive: one entity of one tenant in one format. `path` is inside the archive, `local` on this machine."""

    tenant: str
    entity: Entity
    format: str
    path: str
    local: Path
    written: Written
    changed_since: int
    selection: Selection


def total_rows(parts: Sequence[Part]) -> int:
    """Return the number of records, each counted once, whatever the number of formats."""
    return sum({(part.tenant, part.entity.id): part.written.rows for part in parts}.values())


def pack(
    request: ExportRequest,
    entities: Sequence[Entity],
    parts: Sequence[Part],
    target: Path,
    pulse: Heartbeat,
    produced_by: str,
    zone: str = "UTC",
    scope_labels: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Write the archive, make it durable, and return its size and SHA-256. `scope_labels` words the levels of a scope.

    Raises AttemptLost, and what `disk_errors` raises.
    """
    scope_words = table("scopes") | dict(scope_labels or {})
    size, packed = sum(part.written.bytes for part in parts), 0
    moment = request.created_at.timetuple()[:6]
    with disk_errors(target, _PLACES):
        private.make_folder(target.parent)
        with private.create(target) as file, zipfile.ZipFile(file, "w", allowZip64=True) as archive:
            for name, text in (
                ("manifest.json", _manifest(request, entities, parts, produced_by)),
                ("README.txt", _readme(request, entities, parts, zone, scope_words)),
                ("SHA256SUMS", "".join(f"{part.written.sha256}  {part.path}\n" for part in parts)),
            ):
                archive.writestr(_entry(name, moment), text)
            for part in parts:
                entry = _entry(part.path, moment)
                if part.format in _PACKED_ALREADY:
                    entry.compress_type = zipfile.ZIP_STORED
                with part.local.open("rb") as source, archive.open(entry, "w", force_zip64=True) as inside:
                    while block := source.read(BLOCK):
                        inside.write(block)
                        packed += len(block)
                        pulse.tell(packed_progress(packed, size))
                part.local.unlink()
        return _seal(target)


def _entry(name: str, moment: Any) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, max(moment, (1980, 1, 1, 0, 0, 0)))
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


def _seal(target: Path) -> tuple[int, str]:
    digest = hashlib.sha256()
    with target.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
        os.fsync(file.fileno())
        return file.tell(), digest.hexdigest()


def _manifest(request: ExportRequest, entities: Sequence[Entity], parts: Sequence[Part], produced_by: str) -> bytes:
    return document(
        {
            "format_version": FORMAT_VERSION,
            "request_id": request.id,
            "attempt": request.attempt,
            "tenant": request.tenant,
            "tenants": request.tenants,
            "export_type": request.export_type,
            "scope": request.scope,
            "range": {
                **request.range_asked,
                "from_instant": optional_timestamp_text(request.range_from),
                "to_instant": optional_timestamp_text(request.range_to),
            },
            "snapshot_time": request.created_at,
            "formats": request.formats,
            "rows": total_rows(parts),
            "files": [
                {
                    "path": part.path,
                    "tenant": part.tenant,
                    "entity": part.entity.id,
                    "format": part.format,
                    "rows": part.written.rows,
                    "bytes": part.written.bytes,
                    "sha256": part.written.sha256,
                    "columns": list(part.written.columns),
                    "values_withheld": dict(part.written.withheld),
                }
                for part in parts
            ],
            "entities": [_about(entity, parts) for entity in entities],
            "produced_by": produced_by,
        }
    )


def _about(entity: Entity, parts: Sequence[Part]) -> dict[str, Any]:
    mine = {part.tenant: part for part in parts if part.entity.id == entity.id}
    first = next(iter(mine.values()))
    range_column = _exported_name(first.entity, entity.time_column)
    return {
        "entity": entity.id,
        "name": entity.display_name,
        "description": entity.description,
        "rows": sum(part.written.rows for part in mine.values()),
        "rows_left_out_as_later": sum(part.changed_since for part in mine.values()),
        "range_column": range_column,
        "cut_at_the_request_by": _exported_name(first.entity, entity.changes.column) if first.selection.changed.end else range_column,
        "columns": columns_of(first.entity.columns),
    }


def _exported_name(entity: Entity, source: str) -> str | None:
    """Return the exported name of a source column, its own name if it is not exported, or None if there is no column."""
    return entity.exported(source) or source or None


def _readme(request: ExportRequest, entities: Sequence[Entity], parts: Sequence[Part], zone: str, scope_words: Mapping[str, str]) -> str:
    lines = [
        tell("readme.title", id=request.id, tenants=", ".join(request.tenants)),
        "",
        tell("readme.requested", at=f"{request.created_at.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S}", zone=zone),
        tell("readme.scope", scope=_scope(request, scope_words)),
        tell("readme.range", range=spoken(request.range_asked, zone)),
        tell("readme.records", rows=f"{total_rows(parts):,}"),
        "",
        tell("readme.check"),
        "",
    ]
    for entity in entities:
        about = _about(entity, parts)
        lines += [tell("readme.entity", count=about["rows"], name=entity.display_name, id=entity.id), f"  {entity.description}".rstrip()]
        if about["rows_left_out_as_later"]:
            lines.append("  " + tell("readme.left_out", count=about["rows_left_out_as_later"]))
        lines += [
            f"  {name}  {_kind(column)}  {column.description}".rstrip()
            for name, column in next(part.entity for part in parts if part.entity.id == entity.id).columns.items()
        ]
        lines.append("")
    return "\n".join(lines)


def _kind(column: Column) -> str:
    return tell("readme.pseudonym", type=column.leaves_as) if column.export == "anonymize" else str(column.leaves_as)


def _scope(request: ExportRequest, scope_words: Mapping[str, str]) -> str:
    """Return the level of the scope in the form's words, then what the scope names."""
    level, fields = scope_words.get(request.scope["level"], request.scope["level"]), table("export_fields")
    named = [(key, value) for key, value in request.scope.items() if key != "level"]
    words = [f"{fields.get(key, key)}: {', '.join(value) if isinstance(value, list) else value}" for key, value in named]
    return f"{level} ({'; '.join(words)})" if words else level
