"""Puts a kit into a folder, or into one archive."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

from waybill.errors import PermanentError
from waybill.kits.making import FACTS

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The oldest time that a ZIP can hold, so that the same kit gives the same bytes."""


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Return the kit as a ZIP."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for path, data in files.items():
            packed.writestr(zipfile.ZipInfo(path, _EPOCH), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def write(files: Mapping[str, bytes], folder: Path) -> None:
    """Write a kit, in the place of an older one. Raises PermanentError for a folder that holds something else."""
    try:
        for path in _older(folder) - set(files):
            (folder / path).unlink(missing_ok=True)
        for path, data in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    except OSError as error:
        raise PermanentError(f"the kit cannot be written: {error.strerror}", where=str(folder), code="unwritable") from error


def _older(folder: Path) -> set[str]:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return set()
    try:
        known = json.loads((folder / FACTS).read_text())["files"]
        return {path for path in known if ".." not in Path(path).parts and not Path(path).is_absolute()}
    except (OSError, ValueError, KeyError, TypeError):
        raise PermanentError(
            "holds something that is no kit", where=str(folder), next_step="Name a new folder with --out", code="not_empty"
        ) from None
