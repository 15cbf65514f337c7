"""The spool: a local file that one thread writes while another already reads it, so that sending starts before reading from the source has
ended.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from waybill.errors import TransientError

BLOCK = 1 << 20


class SpoolFile:
    """One file of one attempt. `write` and `finish` from one thread, `follow` from any other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        self._hash = hashlib.sha256()
        self._changed = threading.Condition()
        self._finished = False
        self._failed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("xb", buffering=0)
        except OSError as error:
            raise _disk_error(error, path) from error

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, block: bytes | memoryview) -> None:
        """Append a block. Raises TransientError when the disk is full or fails."""
        try:
            view = memoryview(block)
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise _disk_error(error, self.path) from error
        self._hash.update(block)
        with self._changed:
            self.bytes += len(block)
            self._changed.notify_all()

    def finish(self) -> None:
        """Make the bytes durable and tell followers that this was all. Raises TransientError when the disk fails."""
        try:
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise _disk_error(error, self.path) from error
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def abort(self) -> None:
        """Tell followers that the rest will never come."""
        with self._changed:
            self._failed = not self._finished
            self._changed.notify_all()
        self._file.close()

    def follow(self) -> Iterator[bytes]:
        """The file's blocks from the beginning, waiting for more until it is finished. Raises TransientError when it was aborted."""
        position = 0
        with self.path.open("rb", buffering=0) as reader:
            while True:
                ready, last = self._await(position + BLOCK)
                while position < ready:
                    block = reader.read(min(BLOCK, ready - position))
                    position += len(block)
                    yield block
                if last:
                    return

    def _await(self, wanted: int) -> tuple[int, bool]:
        """Wait until `wanted` bytes are there or the file is finished; returns the bytes there and whether they are all."""
        with self._changed:
            self._changed.wait_for(lambda: self._finished or self._failed or self.bytes >= wanted)
            if self._failed:
                raise TransientError("reading from the source stopped before the file was complete", code="extraction_stopped")
            return self.bytes, self._finished


def _disk_error(error: OSError, path: Path) -> TransientError:
    return TransientError(
        f"cannot write the spool file {path.name}: {error.strerror}",
        where=f"spool folder {path.parent}",
        next_step="Free disk space or set WAYBILL_SPOOL_DIR to a larger disk",
        code="spool",
    )
