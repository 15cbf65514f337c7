"""Files of a folder on this disk: written whole, hashed, and compared with what their manifest says."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from pathlib import Path

from waybill_consumer.errors import Refused
from waybill_consumer.manifest import File
from waybill_consumer.records import BLOCK


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file: complete under its name, or not there."""
    part = path.with_name(f".{path.name.lstrip('.')}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def unwritable(error: OSError, root: Path) -> Refused:
    """What to do where a folder cannot be written."""
    first = "Set the rights of the folder so that this account may write it"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        first = "Free space or raise the limit"
    elif error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
        first = "Let the folder be writable again"
    where = str(error.filename or root)
    return Refused(error.strerror or str(error), where=where, next_step=f"{first}, then pull again: what was fetched stays")


def is_intact(path: Path, file: File) -> bool:
    """Return whether a file on this disk is what its manifest says. One that the disk does not give back is not."""
    with contextlib.suppress(OSError):
        return path.stat().st_size == file.bytes and hashed(path)[0].hexdigest() == file.sha256
    return False


def hashed(path: Path) -> tuple[hashlib._Hash, int]:
    """Return the SHA-256 of a file that is open for more bytes, and its size."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            size += len(block)
    return digest, size
