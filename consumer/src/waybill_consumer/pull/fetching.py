"""Fetches one delivery onto this disk. Each file is checked while it is written, and visible only when it is whole; the manifest comes
last.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from waybill_consumer import signatures
from waybill_consumer.errors import Damaged
from waybill_consumer.folder.files import hashed, is_intact, write_whole
from waybill_consumer.manifest import File, Manifest
from waybill_consumer.places import taken
from waybill_consumer.pull.arrivals import Arrival

Count = Callable[[int], None]
Blocks = Callable[[str, int], Iterator[bytes]]
"""Reads a file at the source from a byte on."""


def fetch(blocks: Blocks, arrival: Arrival, manifest: Manifest, root: Path, count: Count) -> int:
    """Fetch a whole delivery. Returns the bytes that travelled. Raises Damaged if a file differs from the manifest.

    It may be stopped at any point and called again. What is here and right stays, and a file continues where it stopped.
    """
    folder, name = arrival.folder, arrival.name
    data, signature = taken(arrival.data) or b"", taken(arrival.signature)
    target = root / folder.lstrip("/")
    target.mkdir(parents=True, exist_ok=True)
    travelled = 0
    for file in manifest.all_files:
        travelled += _fetch_file(blocks, f"{folder}/{file.path}", target / file.path, file, count)
    if signature is not None:
        write_whole(target / f"{name}{signatures.SUFFIX}", signature)
    write_whole(target / name, data)
    return travelled


def discard(arrival: Arrival, manifest: Manifest, root: Path) -> None:
    """Remove the rest of an unfinished fetch of a delivery that nobody needs any more."""
    target = root / arrival.folder.lstrip("/")
    if (target / arrival.name).exists():
        return
    for file in manifest.all_files:
        for path in (target / file.path, _part(target / file.path)):
            path.unlink(missing_ok=True)


def _part(final: Path) -> Path:
    return final.with_name(f".{final.name}.part")


def _fetch_file(blocks: Blocks, source: str, final: Path, file: File, count: Count) -> int:
    if is_intact(final, file):
        return 0
    part = _part(final)
    digest, start = hashed(part) if part.exists() else (hashlib.sha256(), 0)
    travelled = 0
    if start <= file.bytes:
        travelled = _append(blocks, source, part, start, digest, file.bytes, count)
    if start and (start + travelled, digest.hexdigest()) != (file.bytes, file.sha256):
        # An earlier run may have left part of another file, so begin again.
        part.unlink()
        digest, start = hashlib.sha256(), 0
        travelled = _append(blocks, source, part, 0, digest, file.bytes, count)
    if wrong := _wrong(start + travelled, digest.hexdigest(), file):
        part.unlink()
        raise Damaged(wrong, where=source)
    part.replace(final)
    return travelled


def _append(blocks: Blocks, source: str, part: Path, start: int, digest: hashlib._Hash, most: int, count: Count) -> int:
    """Write what follows `start`. It is on disk when this returns. It stops if more comes than there may be."""
    travelled = 0
    with part.open("ab") as out:
        for block in blocks(source, start):
            digest.update(block)
            out.write(block)
            travelled += len(block)
            count(len(block))
            if start + travelled > most:
                break
        out.flush()
        os.fsync(out.fileno())
    return travelled


def _wrong(size: int, sha256: str, file: File) -> str:
    if size != file.bytes:
        return f"has {'more than ' if size > file.bytes else ''}{min(size, file.bytes)} bytes, its manifest says {file.bytes}"
    return "" if sha256 == file.sha256 else f"has SHA-256 {sha256}, its manifest says {file.sha256}"
