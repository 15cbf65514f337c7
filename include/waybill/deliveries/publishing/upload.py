"""UPLOAD: sends the spool files of one attempt to the destination, each while it still grows."""

from __future__ import annotations

import hashlib
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from waybill import private
from waybill.deliveries import stopping
from waybill.destinations import Session, Stored
from waybill.errors import TransientError, WaybillError
from waybill.ledger.facts import FileFacts

TRIES = 3


class Uploads:
    """The uploads of one attempt. An error inside the context ends every upload and removes its hidden files.

    `spool` and `place` give the spool path and the name at the destination of a file, by its number. With `hold`, nothing is sent before
    `finish`: that is for a destination that shows bytes at once. `at_once` files are sent at the same time.
    """

    def __init__(
        self, session: Session, spool: Callable[[int], Path], place: Callable[[int], str], *, hold: bool, at_once: int = 1
    ) -> None:
        self._session = session
        self._spool = spool
        self._place = place
        self._hold = hold
        self._spools: list[Spool] = []
        self._sent: list[Future[Stored]] = []
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="upload")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            for spool in self._spools:
                spool.abort()
        self._pool.shutdown()

    def new_file(self, number: int) -> SpoolFile:
        """Begin file `number`. Numbers rise by one, from 1."""
        spool = SpoolFile(self._spool(number))
        self._spools.append(spool)
        if not self._hold:
            self._sent.append(self._pool.submit(self._send, self._place(number), spool))
        return spool

    def go_on(self, number: int, recorded: FileFacts) -> None:
        """Send file `number` as an earlier process wrote it, unless the destination has it whole: then it is only read back."""
        spool = SpooledFile(self._spool(number), recorded["bytes"], recorded["sha256"])
        self._spools.append(spool)
        self._sent.append(self._pool.submit(self._send_rest, self._place(number), spool))

    def _send_rest(self, place: str, spool: SpooledFile) -> Stored:
        if self._session.sha256(place) == spool.sha256:
            return Stored(spool.bytes, spool.sha256)
        self._session.remove(place)
        return self._send(place, spool)

    def _send(self, place: str, spool: Spool) -> Stored:
        return self._session.upload(place, spool.follow())

    def check(self) -> None:
        """Raise the error that has stopped an upload, so that reading from the source can end early."""
        for sent in self._sent:
            if sent.done():
                sent.result()

    def finish(self) -> None:
        """Wait until every file has arrived and is verified. A damaged file is sent again from the spool."""
        for number, spool in enumerate(self._spools, 1):
            first = self._sent[number - 1].result if not self._hold else None
            self._ensure(self._place(number), spool, first)

    def _ensure(self, place: str, spool: Spool, first: Callable[[], Stored] | None) -> None:
        def send() -> Stored:
            return self._send(place, spool)

        tries = [first or send, *[send] * (TRIES - 1)]
        for number, attempt in enumerate(tries, 1):
            try:
                if attempt().sha256 == spool.sha256:
                    return
            except TransientError as error:
                if error.code != "verify" or number == TRIES:
                    raise
            else:
                self._session.remove(place)
        step = "Check the server's disk and the network"
        raise TransientError("the uploaded bytes differ from the extracted ones", where=self._session.label, next_step=step, code="verify")


BLOCK = 1 << 20


class Spool(ABC):
    """One file of one attempt on this machine's disk."""

    path: Path

    @property
    @abstractmethod
    def sha256(self) -> str: ...

    @abstractmethod
    def follow(self) -> Iterator[bytes]: ...

    @abstractmethod
    def abort(self) -> None:
        """Tell followers that the rest will never come."""


class SpooledFile(Spool):
    """A file that an earlier process finished."""

    def __init__(self, path: Path, size: int, sha256: str) -> None:
        self.path = path
        self.bytes = size
        self._sha256 = sha256
        self._aborted = False

    @property
    def sha256(self) -> str:
        return self._sha256

    def follow(self) -> Iterator[bytes]:
        with self.path.open("rb", buffering=0) as reader:
            while block := reader.read(BLOCK):
                stopping.check()
                if self._aborted:
                    raise TransientError("sending another part failed", code="extraction_stopped")
                yield block

    def abort(self) -> None:
        self._aborted = True


class SpoolFile(Spool):
    """One that is written now. One thread calls `write` and `finish`, any other may call `follow`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        self._hash = hashlib.sha256()
        self._changed = threading.Condition()
        self._finished = False
        self._failed = False
        try:
            private.make_folder(path.parent)
            self._file = private.create(path, buffering=0)
        except OSError as error:
            raise _disk_error(error, path) from error

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, block: bytes | memoryview) -> None:
        """Append a block. Raises what `private.not_written` returns for the disk, and TransientError if the process must stop."""
        stopping.check()
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
        """Make the bytes durable and tell followers that the file is complete. Raises what `private.not_written` returns."""
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
        """Yield the file's blocks from the beginning, and wait for more until it is finished.

        Raises TransientError when it was aborted, or the process is to stop.
        """
        position = 0
        with self.path.open("rb", buffering=0) as reader:
            while True:
                ready, last = self._await(position + BLOCK)
                while position < ready:
                    stopping.check()
                    block = reader.read(min(BLOCK, ready - position))
                    position += len(block)
                    yield block
                if last:
                    return

    def _await(self, wanted: int) -> tuple[int, bool]:
        """Wait until `wanted` bytes are there or the file is finished. Returns the number of bytes and whether the file is finished."""
        with self._changed:
            while not self._changed.wait_for(lambda: self._finished or self._failed or self.bytes >= wanted, stopping.CHECK_SECONDS):
                stopping.check()
            if self._failed:
                raise TransientError("reading from the source stopped before the file was complete", code="extraction_stopped")
            return self.bytes, self._finished


def _disk_error(error: OSError, path: Path) -> WaybillError:
    return private.not_written(
        error, f"cannot write the spool file {path.name}", f"spool folder {path.parent}", "WAYBILL_SPOOL_DIR", "spool"
    )
