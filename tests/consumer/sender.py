"""A sender for tests: writes deliveries as the file contract says, without the product's code, and whatever a test wants broken."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import zstandard

MIDNIGHT = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
Row = Sequence[str | None]
SUFFIX = {"none": "", "gzip": ".gz", "zstd": ".zst"}
COLUMNS = {"id": "integer", "name": "string"}


def text(at: datetime) -> str:
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def cell(value: str | None, delimiter: str) -> str:
    if value is None:
        return ""
    if value == "" or any(mark in value for mark in (delimiter, '"', "\r", "\n")):
        return '"' + value.replace('"', '""') + '"'
    return value


@dataclass
class Sender:
    """Delivers into `root` (what a SOURCE names) one day after the other; `day` is the date of the next delivery."""

    root: Path
    tenant: str = "acme"
    day: int = 0
    last: dict[str, tuple[int, int, str, datetime]] = field(default_factory=dict)

    def deliver(
        self,
        rows: Sequence[Row],
        *,
        entity: str = "user",
        kind: str = "delta",
        columns: dict[str, Any] | None = None,
        key: Sequence[str] = ("id",),
        parts: int = 1,
        deletes: Sequence[Row] | None = None,
        generation: int | None = None,
        sequence: int | None = None,
        csv: dict[str, Any] | None = None,
        at: datetime | None = None,
        folder: str = "",
        stem: str = "",
        **facts: Any,
    ) -> dict[str, Any]:
        """Write files and manifest of the next delivery of an entity (or of the place that is named); returns the manifest."""
        columns = columns or COLUMNS
        old = self.last.get(entity)
        if generation is None:
            generation = (old[0] if old else 0) + (kind == "full" and facts.get("mode") != "full") or 1
        is_next = old is not None and old[0] == generation
        sequence = sequence if sequence is not None else old[1] + 1 if is_next else 1
        end = MIDNIGHT + self.day * DAY
        dialect = {"delimiter": ",", "line_ending": "\n", "bom": False, "compression": "none", **(csv or {})}
        place = self.root / f"{end:%Y/%m/%d}" / entity / folder
        place.mkdir(parents=True, exist_ok=True)
        first = stem or entity
        if not stem and (place / f"{entity}.manifest.json").exists():
            first = f"{entity}.g{generation}.{sequence}"
        files = []
        for number in range(parts):
            name = f"{first}-{number + 1:04d}" if parts > 1 else first
            files.append(self._file(place, f"{name}.csv", list(columns), rows[number::parts], dialect))
        hashes = [file["sha256"] for file in files]
        sha256 = hashes[0] if parts == 1 else hashlib.sha256("".join(f"{digest}\n" for digest in hashes).encode()).hexdigest()
        chained = kind != "backfill"
        manifest = {
            "format_version": 1,
            "delivery_id": hashlib.sha256(
                f"{self.tenant}/{entity}/{generation}/{sequence}/{kind}/{first}/{folder}/{self.day}".encode()
            ).hexdigest()[:32],
            "tenant": self.tenant,
            "entity": entity,
            "entity_name": entity,
            "generation": generation,
            "sequence": sequence if chained else 0,
            "previous": {"sequence": old[1], "sha256": old[2]} if is_next and old and chained else None,
            "kind": kind,
            "window": {"from": text(old[3]) if is_next and old else None, "to": text(end), "mode": facts.pop("mode", "lookback")},
            "position": {"from": None, "to": None},
            "snapshot_time": text(at or end + timedelta(hours=1)),
            "rows": len(rows),
            "bytes": sum(file["bytes"] for file in files),
            "sha256": sha256,
            "files": files,
            "columns": [{"name": name, **({"type": kind} if isinstance(kind, str) else kind)} for name, kind in columns.items()],
            "key": list(key),
            "schema_version": 1,
            "csv": {**dialect, "quote": '"', "escape": '"', "null": "", "header": True, "encoding": "utf-8"},
            "possible_duplicate": False,
            "tombstone_column": None,
            "produced_by": "tests",
            **facts,
        }
        if deletes is not None:
            manifest["deletes"] = self._file(place, f"{first}.deletes.csv", [*key, "deleted_noticed_at"], deletes, dialect)
        (place / f"{first}.manifest.json").write_text(json.dumps(manifest))
        if chained and "redelivers" not in facts:
            self.last[entity] = (generation, sequence, sha256, end)
        return manifest

    def redeliver(self, manifest: dict[str, Any], rows: Sequence[Row], *, day: int, **options: Any) -> dict[str, Any]:
        """The same rows again under a name of their own, in the folder of the first."""
        today, self.day = self.day, day
        stem = f"{manifest['entity']}.g{manifest['generation']}.{manifest['sequence']}.r1"
        place = {"generation": manifest["generation"], "sequence": manifest["sequence"], "kind": manifest["kind"]}
        facts = {name: manifest[name] for name in ("previous", "window", "snapshot_time")}
        facts |= {"redelivers": manifest["delivery_id"], "possible_duplicate": True}
        again = self.deliver(rows, entity=manifest["entity"], stem=stem, **place, **options, **facts)
        self.day = today
        return again

    def path(self, manifest: dict[str, Any], day: int, name: str = "") -> Path:
        """Where a file of a delivery stands; the manifest without `name`."""
        entity = manifest["entity"]
        return self.root / f"{MIDNIGHT + day * DAY:%Y/%m/%d}" / entity / (name or manifest["files"][0]["path"])

    def _file(self, place: Path, name: str, header: Sequence[str], rows: Sequence[Row], dialect: dict[str, Any]) -> dict[str, Any]:
        name += SUFFIX[dialect["compression"]]
        delimiter, end = dialect["delimiter"], dialect["line_ending"]
        lines = [delimiter.join(cell(value, delimiter) for value in row) + end for row in [header, *rows]]
        data = ("\ufeff" if dialect["bom"] else "").encode() + "".join(lines).encode()
        data = {"none": bytes, "gzip": gzip.compress, "zstd": zstandard.compress}[dialect["compression"]](data)
        (place / name).write_bytes(data)
        return {"path": name, "rows": len(rows), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
