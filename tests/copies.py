"""A consumer's copy of one entity, kept by manifests and files alone, by readers that are not ours."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

Row = dict[str, str]


@dataclass
class Copy:
    """Rows by key. `applied` are the ids of deliveries whose files are in it; `noticed` the times of deletes files, by key."""

    rows: dict[tuple[str, ...], Row] = field(default_factory=dict)
    applied: list[str] = field(default_factory=list)
    noticed: dict[tuple[str, ...], str] = field(default_factory=dict)

    def catch_up(self, folder: Path, entity: str = "user") -> Copy:
        """Apply what is new below a folder, in the order of its chain; a tombstone deletes."""
        for _ in self.steps(folder, entity):
            pass
        return self

    def steps(self, folder: Path, entity: str = "user") -> Iterator[dict[str, Any]]:
        """The same, one delivery after the other: each one's manifest when it is applied."""
        found = [(json.loads(path.read_text()), path.parent) for path in folder.rglob("*.manifest.json")]
        new = [(item, place) for item, place in found if item["entity"] == entity and item["delivery_id"] not in self.applied]
        for manifest, place in sorted(new, key=lambda item: (item[0]["generation"], item[0]["sequence"] or 10**9)):
            self._apply(manifest, place)
            yield manifest

    def _apply(self, manifest: dict[str, Any], place: Path) -> None:
        if manifest["kind"] == "full":
            self.rows.clear()
        if gone := manifest.get("deletes"):
            for row in _read(place, gone, manifest):
                key = tuple(row[name] for name in manifest["key"])
                self.rows.pop(key, None)
                self.noticed[key] = row["deleted_noticed_at"]
        for file in manifest["files"]:
            for row in _read(place, file, manifest):
                key = tuple(row[name] for name in manifest["key"])
                if manifest["tombstone_column"] and row[manifest["tombstone_column"]]:
                    self.rows.pop(key, None)
                else:
                    self.rows[key] = row
        self.applied.append(manifest["delivery_id"])

    def keys(self) -> list[str]:
        return sorted(",".join(key) for key in self.rows)


def _read(place: Path, file: dict[str, Any], manifest: dict[str, Any]) -> Iterable[Row]:
    data = (place / file["path"]).read_bytes()
    assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])
    plain = {"none": bytes, "gzip": gzip.decompress, "zstd": lambda some: zstandard.ZstdDecompressor().decompressobj().decompress(some)}
    text = plain[manifest["csv"]["compression"]](data).decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=manifest["csv"]["delimiter"], strict=True))
    assert len(rows) == file["rows"]
    return rows
