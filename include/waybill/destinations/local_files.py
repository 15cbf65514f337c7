"""What the os module does not offer: renames that never overwrite, and errors by what recovers from them."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from waybill.errors import PermanentError, TransientError
from waybill.private import FULL, RIGHTS

_RENAME_NOREPLACE = 1
_REFUSED = RIGHTS | {errno.ENAMETOOLONG, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTDIR, errno.ELOOP}


@contextmanager
def translated(label: str, operation: str, path: str, *passed: type[OSError]) -> Iterator[None]:
    """Turn an OSError (except `passed` ones) into a PermanentError or TransientError that says where it happened and during what."""
    try:
        yield
    except passed:
        raise
    except OSError as error:
        what = f"could not {operation} {path}".rstrip() + f": {os.strerror(error.errno) if error.errno else 'input/output error'}"
        if error.errno in FULL:
            raise TransientError(what, where=label, next_step="Free some space; the next try starts over", code="disk_full") from error
        if error.errno in _REFUSED:
            raise PermanentError(what, where=label, next_step="Check the folder's owner, rights and mount", code="refused") from error
        raise TransientError(what, where=label) from error


def write_all(descriptor: int, block: bytes) -> None:
    """Write the whole block, however the kernel cuts it."""
    view = memoryview(block)
    while view:
        view = view[os.write(descriptor, view) :]


def dropped_from_cache(descriptor: int) -> None:
    """Ask the kernel to forget the file's clean pages, so that reading back sees the disk and not the memory that was just written."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def free_bytes(descriptor: int) -> int:
    facts = os.statvfs(descriptor)
    return facts.f_bavail * facts.f_frsize


def rename_new(source: str, target: str, source_folder: int, target_folder: int) -> None:
    """Rename without ever overwriting (Linux `renameat2`).

    Raises FileExistsError if `target` exists, and OSError with ENOSYS or EINVAL if the system cannot do it.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if rename(source_folder, os.fsencode(source), target_folder, os.fsencode(target), _RENAME_NOREPLACE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
