"""The folders that the engine spills to. Each connection has one. It is removed with the connection, or by the next one."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from waybill import private
from waybill.errors import TransientError

_PREFIX = "waybill-duckdb-"
_HELD = "in-use"
"""The file that a process keeps locked in its folder. The kernel releases it however the process ends."""


@contextmanager
def spill_folder() -> Iterator[str]:
    """Yield a folder for one connection. What killed processes left is removed first: it holds rows of tenants.

    Raises TransientError when there is no room for one.
    """
    place = Path(tempfile.gettempdir())
    _remove_left_behind(place)
    with ExitStack() as made:
        try:
            making = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=place))
            folder = making.with_name(making.name[1:])
            for path in (making, folder):
                made.callback(shutil.rmtree, path, ignore_errors=True)
            held = made.enter_context(private.create(making / _HELD))
            fcntl.flock(held, fcntl.LOCK_EX)
            making.rename(folder)  # only now others may look at it
        except OSError as error:
            step = "Free disk space or file descriptors; TMPDIR names another temporary folder"
            raise TransientError(f"cannot make a folder to spill to: {error.strerror}", code="spill", next_step=step) from error
        yield str(folder)


def _remove_left_behind(place: Path) -> None:
    for folder in place.glob(f"{_PREFIX}*"):
        try:
            if folder.lstat().st_uid != os.geteuid():  # opening what another account put there, such as a pipe, might never end
                continue
            with (folder / _HELD).open() as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # in use, somebody else's, or gone meanwhile
            continue
