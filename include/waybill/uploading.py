"""UPLOAD: the spool files of one attempt on their way to the destination, each sent while it still grows."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from waybill.destinations import Session, Stored
from waybill.errors import TransientError
from waybill.spool import SpoolFile

TRIES = 3


class Uploads:
    """As a context manager: an error inside ends every upload, whose hidden parts are then removed.

    `spool` and `place` give a file's spool path and its name at the destination by number. With `hold` nothing is sent before `finish`: for
    a
    destination that shows bytes at once.
    """

    def __init__(self, session: Session, spool: Callable[[int], Path], place: Callable[[int], str], *, hold: bool) -> None:
        self._session = session
        self._spool = spool
        self._place = place
        self._hold = hold
        self._spools: list[SpoolFile] = []
        self._sent: list[Future[Stored]] = []
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="upload")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            for spool in self._spools:
                spool.abort()
        self._pool.shutdown()

    def new_file(self, number: int) -> SpoolFile:
        """Begin file `number`; numbers rise by one from 1."""
        spool = SpoolFile(self._spool(number))
        self._spools.append(spool)
        if not self._hold:
            self._sent.append(self._pool.submit(self._session.upload, self._place(number), spool.follow()))
        return spool

    def check(self) -> None:
        """Raise what stopped an upload so far, so that reading from the source can end early."""
        for sent in self._sent:
            if sent.done():
                sent.result()

    def finish(self) -> None:
        """Wait until every file is there and verified; what arrived damaged is sent again from the spool."""
        for number, spool in enumerate(self._spools, 1):
            first = self._sent[number - 1].result if not self._hold else None
            self._ensure(self._place(number), spool, first)

    def _ensure(self, place: str, spool: SpoolFile, first: Callable[[], Stored] | None) -> None:
        def send() -> Stored:
            return self._session.upload(place, spool.follow())

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
