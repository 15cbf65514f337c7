"""One pull at a time for a folder, and whether a pull keeps or fills it now."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from waybill_consumer.errors import Refused
from waybill_consumer.own_files import LOCK, POSITION

_NO_LOCKS = errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS
"""What file systems without locks answer. The cron line itself must then see to one pull at a time."""


def is_pulled(root: Path) -> bool:
    """Return whether `pull` keeps this folder."""
    return any((root / name).exists() for name in (POSITION, LOCK))


def is_at_work(root: Path) -> bool:
    """Whether a pull runs in this folder."""
    try:
        with alone(root):
            return False
    except Refused:
        return True
    except OSError:
        return False


def stamp(root: Path) -> None:
    """Give the lock the time at which a pull begins, by this machine's clock. A full disk takes a time where it takes no byte more."""
    now = time.time()
    with contextlib.suppress(OSError):
        os.utime(root / LOCK, (now, now))


def stamped(root: Path) -> datetime | None:
    """Return when the newest pull began, or None if nobody knows."""
    try:
        return datetime.fromtimestamp((root / LOCK).stat().st_mtime, timezone.utc)
    except (OSError, OverflowError, ValueError):
        return None


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
    """Allow one pull at a time for a folder. Raises Refused if another one runs."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    # This file is open for writing, because a folder cannot be locked on NFS.
    handle = os.open(root / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused("another pull into this folder is running", where=str(root), next_step="Let it end") from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        os.close(handle)
