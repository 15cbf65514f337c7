"""What was sent and what came back of it, with one hash for both as long as they are equal."""

from __future__ import annotations

import hashlib
from collections import deque

from waybill.destinations.base import Stored

KEEP = 16 * 1024 * 1024
"""Bytes that are kept until they come back: more than an `Upload` lets reading fall behind."""


class ReadBack:
    """Compares what comes back with what was sent, which costs a tenth of a second hash.

    Where more comes back late than is kept, or something else comes back, the rest is hashed. That takes up the hash of what was sent, as
    it was at that place.
    """

    def __init__(self, *, expected: bool, keep: int = KEEP) -> None:
        self._expected = expected
        self._keep = keep
        self._sent = hashlib.sha256()
        self._sent_bytes = self._back_bytes = 0
        self._waiting: deque[tuple[hashlib._Hash, bytes]] = deque()
        """Chunks that have not come back whole, each with the hash of everything before it."""
        self._at = 0
        """Where in the first of them the next byte belongs."""
        self._back: hashlib._Hash | None = None

    @property
    def sent(self) -> Stored:
        return Stored(self._sent_bytes, self._sent.hexdigest())

    @property
    def found(self) -> Stored:
        """Return what came back until now."""
        if self._back is None and self._back_bytes < self._sent_bytes:
            self._take_up()
        return Stored(self._back_bytes, (self._back or self._sent).hexdigest())

    def send(self, chunk: bytes) -> None:
        if self._expected and self._back is None:
            self._waiting.append((self._sent.copy(), chunk))
        self._sent.update(chunk)
        self._sent_bytes += len(chunk)
        if self._back is None and self._sent_bytes - self._back_bytes > self._keep:
            self._take_up()

    def take(self, data: memoryview) -> None:
        self._back_bytes += len(data)
        while data and self._back is None:
            if not self._waiting:  # more comes back than was sent
                self._back = self._sent.copy()
                break
            chunk = self._waiting[0][1]
            same = data[: len(chunk) - self._at]
            if not chunk.startswith(same, self._at):
                self._take_up()
                break
            data = data[len(same) :]
            self._at += len(same)
            if self._at == len(chunk):
                self._waiting.popleft()
                self._at = 0
        if self._back is not None:
            self._back.update(data)

    def _take_up(self) -> None:
        if self._waiting:
            before, chunk = self._waiting[0]
            self._back = before
            self._back.update(chunk[: self._at])
            self._waiting.clear()
        else:
            self._back = hashlib.sha256()
