"""`SHA256SUMS` beside a day manifest: its facts once more, in the form that `sha256sum -c` reads. Its bytes follow from the day
manifest.
"""

from __future__ import annotations

import hashlib
import json


def name(number: int) -> str:
    """Return `SHA256SUMS` beside `_MANIFEST.json`, `SHA256SUMS.2` beside `_MANIFEST.2.json`, and so on."""
    return "SHA256SUMS" if number == 1 else f"SHA256SUMS.{number}"


def sums(document: bytes, manifest: str) -> bytes:
    """Return a line for every file that the day manifest lists, for the manifests of its deliveries, and for itself, `manifest` by name."""
    found = {manifest: hashlib.sha256(document).hexdigest()}
    for delivery in json.loads(document)["deliveries"]:
        found |= {file["path"]: file["sha256"] for file in [*delivery["files"], delivery.get("deletes")] if file}
        if "manifest_sha256" in delivery:
            found[delivery["manifest"]] = delivery["manifest_sha256"]
    return "".join(f"{digest}  {path}\n" for path, digest in sorted(found.items())).encode()
