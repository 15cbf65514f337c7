"""The vocabulary of SFTP version 3 (draft-ietf-secsh-filexfer-02 and OpenSSH's PROTOCOL file): numbers, answers, attributes."""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass
from enum import IntEnum

SAFE_BLOCK = 32 * 1024
"""Bytes that every server must accept in one request."""

READ, WRITE, CREATE, EXCLUSIVE = 0x01, 0x02, 0x08, 0x20


class Kind(IntEnum):
    INIT = 1
    VERSION = 2
    OPEN = 3
    CLOSE = 4
    READ = 5
    WRITE = 6
    LSTAT = 7
    FSTAT = 8
    OPENDIR = 11
    READDIR = 12
    REMOVE = 13
    MKDIR = 14
    RMDIR = 15
    RENAME = 18
    STATUS = 101
    HANDLE = 102
    DATA = 103
    NAME = 104
    ATTRS = 105
    EXTENDED = 200
    EXTENDED_REPLY = 201


class Code(IntEnum):
    """Status codes of version 3, and those of later versions that servers send nevertheless."""

    OK = 0
    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4
    BAD_MESSAGE = 5
    UNSUPPORTED = 8
    EXISTS = 11
    WRITE_PROTECTED = 12
    NO_SPACE = 14
    QUOTA = 15


class Status(Exception):
    """The server says that it did not do what was asked."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        name = Code(code).name.lower().replace("_", " ") if code in list(Code) else f"status {code}"
        message = said(text)[:100].strip()
        super().__init__(name if message.casefold() in ("", name) else f"{name} ({message})")


def said(text: str) -> str:
    """Return a server's words on one line, without anything that a terminal would obey."""
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())


class Lost(Exception):
    """The connection is gone, or the server stopped answering. What was asked may or may not have been done."""


@dataclass(frozen=True)
class Attributes:
    """What a server says of a file. Anything may be missing. Without a mode the type is unknown, and it counts as a file."""

    size: int | None = None
    mode: int | None = None
    modified: int | None = None

    @property
    def is_folder(self) -> bool:
        return self.mode is not None and stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        return self.mode is not None and stat.S_ISLNK(self.mode)

    @property
    def is_file(self) -> bool:
        return self.mode is None or stat.S_ISREG(self.mode) or stat.S_IFMT(self.mode) == 0


def string(text: str | bytes) -> bytes:
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return struct.pack(">I", len(data)) + data


class Malformed(Lost):
    """The server sent an answer that is no SFTP."""

    def __init__(self, reason: str = "the server sent a malformed answer") -> None:
        super().__init__(reason)


class Printed(Lost):
    """The server's first words are no answer: something prints where SFTP should begin."""


class Ended(Lost):
    """The server took the login, and what it started for SFTP ended before its first word."""


class Fields:
    """Reads the fields of one answer in order. Raises Malformed if the answer is too short."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._body)

    def _take(self, count: int) -> bytes:
        taken = self._body[self._at : self._at + count]
        if len(taken) != count:
            raise Malformed
        self._at += count
        return taken

    def number(self) -> int:
        return int.from_bytes(self._take(4), "big")

    def long(self) -> int:
        return int.from_bytes(self._take(8), "big")

    def string(self) -> bytes:
        return self._take(self.number())

    def block(self) -> memoryview:
        """Return a string that may be large. Nothing is copied."""
        size = self.number()
        taken = memoryview(self._body)[self._at : self._at + size]
        if len(taken) != size:
            raise Malformed
        self._at += size
        return taken

    def text(self) -> str:
        return self.string().decode("utf-8", "surrogateescape")

    def attributes(self) -> Attributes:
        flags = self.number()
        size = self.long() if flags & 0x01 else None
        if flags & 0x02:
            self._take(8)
        mode = self.number() if flags & 0x04 else None
        modified = None
        if flags & 0x08:
            self.number()
            modified = self.number()
        if flags & 0x80000000:
            for _ in range(2 * self.number()):
                self.string()
        return Attributes(size, mode, modified)


@dataclass(frozen=True)
class Space:
    """The free space on the server's file system for us, not for root."""

    free_bytes: int
    free_files: int
    read_only: bool
