"""Takes the bytes of one file on their way to the spool. Formats write into it, and encryption may come before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Sink(Protocol):
    """Takes a file's bytes in order. Once it is finished, `sha256` and `bytes` are those of the whole file."""

    def write(self, block: bytes | memoryview) -> None: ...
    def finish(self) -> None: ...
    @property
    def sha256(self) -> str: ...
    @property
    def bytes(self) -> int: ...


@dataclass(frozen=True)
class Plain:
    """The size and hash of a file before it was encrypted."""

    bytes: int
    sha256: str
