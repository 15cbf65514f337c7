"""What was fetched and is no longer whole on this disk, though nobody is known to have loaded it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from waybill_consumer import signatures
from waybill_consumer.errors import Refused
from waybill_consumer.folder.files import is_intact
from waybill_consumer.folder.last_loads import Loads
from waybill_consumer.folder.position import RECENT_DATES, Kept, Position, date_of
from waybill_consumer.manifest import DAY_MANIFEST, SUFFIX, SUMS, Manifest, parse


def find(root: Path, position: Position) -> Iterator[str]:
    """The manifests of deliveries that have to be fetched once more.

    What a database holds may be moved away, a manifest and its files together. A manifest that stays promises its files: those of the
    newest dates are looked at, and those that no database holds yet. With `once` nothing that is gone is missed.
    """
    loads = Loads(root)
    newest = set(sorted({date_of(path) for path in position.kept})[-RECENT_DATES:])
    for path, kept in position.kept.items():
        if position.is_superseded(kept):
            continue
        is_needed = not (position.once or loads.has(kept))
        document = root / path.lstrip("/")
        if not document.exists():
            if is_needed or _files_beside(document):
                yield path
        elif (date_of(path) in newest or (is_needed and loads.databases)) and not is_whole(root, path):
            yield path


def _files_beside(document: Path) -> list[Path]:
    """The files that a manifest names, by their names. Where they stand and it is gone, nobody moved that delivery away."""
    stem = re.escape(document.name.removesuffix(SUFFIX))
    files = re.compile(rf"{stem}(-\d{{4,}})?(\.deletes)?\.(csv|ndjson|parquet)(\.gz|\.zst)?(\.pgp)?\Z")
    try:
        return [path for path in document.parent.iterdir() if files.match(path.name)]
    except OSError:
        return []


def remove(root: Path, position: Position, path: str) -> None:
    """Remove what is left here of a delivery that cannot be fetched once more, and that another one makes up for."""
    position.lost.pop(path, None)
    if is_whole(root, path):
        return
    document = root / path.lstrip("/")
    for left in (document, document.with_name(f"{document.name}{signatures.SUFFIX}"), *_files_beside(document)):
        left.unlink(missing_ok=True)


def lists_gone(root: Path, position: Position) -> list[str]:
    """The folders of dates that are here without one of the lists that were fetched for them."""
    return [
        path
        for path, known in position.folders.items()
        if any(
            not (root / path.lstrip("/") / name).exists() and (root / path.lstrip("/")).is_dir() for name in known.held if is_a_list(name)
        )
    ]


def is_a_list(name: str) -> bool:
    return bool(DAY_MANIFEST.match(name) or SUMS.match(name))


def put_back(root: Path, path: str) -> Manifest | None:
    """The manifest of a lost delivery that somebody put back whole, by what its files hold."""
    document = root / path.lstrip("/")
    try:
        manifest = parse(document.read_bytes())
    except (Refused, OSError):
        return None
    return manifest if all(is_intact(document.parent / file.path, file) for file in manifest.all_files) else None


def still_lost(root: Path, position: Position) -> Iterator[tuple[str, Kept]]:
    """What could not be fetched once more, and is needed."""
    loads = Loads(root)
    for path, kept in position.lost.items():
        if not (loads.has(kept) or position.is_superseded(kept) or position.repeats(path, kept)):
            yield path, kept


def is_whole(root: Path, path: str) -> bool:
    """Whether a manifest can be read and its files have their sizes. What they hold `load` and `verify` check."""
    document = root / path.lstrip("/")
    try:
        return not incomplete(document.parent, parse(document.read_bytes()))
    except (Refused, OSError):
        return False


def incomplete(folder: Path, manifest: Manifest) -> list[str]:
    """What is wrong with the files of a manifest, as far as their sizes tell."""
    wrong = []
    for file in manifest.all_files:
        try:
            size = (folder / file.path).stat().st_size
        except OSError:
            wrong.append(f"its file {file.path} is missing")
            continue
        if size != file.bytes:
            wrong.append(f"its file {file.path} has {size} bytes, its manifest says {file.bytes}")
    return wrong
