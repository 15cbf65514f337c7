"""Checks delivered files at a destination with the consumer's own code: every manifest, every file, every chain.

`waybill_consumer` holds the rules. This module only lets it read through a session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from waybill.destinations import Item, Session
from waybill.errors import ConflictError, PermanentError
from waybill_consumer import verification
from waybill_consumer.errors import Refused
from waybill_consumer.signatures import Key
from waybill_consumer.verification import Report


def verify(session: Session, base: str = "", progress: Callable[[str], None] = lambda path: None, signers: Sequence[Key] = ()) -> Report:
    """Check everything below the session's root, which is at `base` (a root, a tenant's folder, a day: any depth).

    Files are read once, in constant memory. With `signers`, one of them must have signed every manifest.

    Raises TransientError if the destination stops answering.
    """
    try:
        return verification.verify(_Tree(session), base, progress, signers)
    except Refused as error:
        raise PermanentError(f"the files cannot be verified: {error.what}", where=session.label, code="refused") from error


class _Tree:
    """A session as the consumer reads it. A path that can never be read is a remark, not the end."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def walk(self, folder: str) -> Iterator[Item]:
        return self._session.walk(folder)

    def read(self, path: str) -> bytes | None:
        with _remarked():
            return self._session.read(path)

    def size(self, path: str) -> int | None:
        with _remarked():
            return self._session.size(path)

    def blocks(self, path: str) -> Iterator[bytes]:
        with _remarked():
            yield from self._session.blocks(path)


@contextmanager
def _remarked() -> Iterator[None]:
    try:
        yield
    except (PermanentError, ConflictError) as error:
        raise Refused(error.what) from error
