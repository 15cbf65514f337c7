"""What every destination reads alike, once it can tell a file's size and yield its blocks."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator

from waybill.destinations.names import READ_LIMIT, too_large


class Reading(ABC):
    """The part of `Session` that follows from `size` and `blocks`."""

    label: str

    @abstractmethod
    def size(self, path: str) -> int | None: ...

    @abstractmethod
    def blocks(self, path: str) -> Iterator[bytes]: ...

    def sha256(self, path: str) -> str | None:
        if self.size(path) is None:
            return None
        digest = hashlib.sha256()
        for block in self.blocks(path):
            digest.update(block)
        return digest.hexdigest()

    def read(self, path: str) -> bytes | None:
        size = self.size(path)
        if size is None:
            return None
        if size > READ_LIMIT:
            raise too_large(path, self.label)
        return b"".join(self.blocks(path))
