"""Where the bytes of one file go on their way to the spool: formats write into it, and encryption stands before it."""

from __future__ import annotations

from typing import Protocol


class Sink(Protocol):
    """Takes a file's bytes in order. `sha256` and `bytes` are those of the whole file once it is finished."""

    def write(self, block: bytes | memoryview) -> None: ...
    def finish(self) -> None: ...
    @property
    def sha256(self) -> str: ...
    @property
    def bytes(self) -> int: ...
