"""What every destination can do.

Paths are absolute POSIX paths below the destination's root, as in `/exports/acme/2026/06/01/user/user.csv`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class Profile(StrEnum):
    """What a server allows, found by `probe` (PROTOCOL.md section 4)."""

    FULL = "full"
    NO_CAS = "no_cas"
    DROPBOX = "dropbox"
    PICKUP = "pickup"


@dataclass(frozen=True)
class Stored:
    """Facts of stored bytes, verified at the destination unless the profile forbids reading."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Item:
    """One name found by `walk`."""

    path: str
    is_folder: bool
    size: int
    modified: datetime | None


@dataclass(frozen=True)
class Probe:
    """The outcome of a rehearsal: the profile, what the server offers, and each step tried with its answer."""

    profile: Profile
    steps: tuple[tuple[str, str], ...]
    extensions: tuple[str, ...] = ()
    free_bytes: int | None = None


class Session(Protocol):
    """An open destination. Safe to use from several threads at once. Every call is bounded in time.

    Raises TransientError for anything that may pass (network, connection limit, full disk), PermanentError for what will not (permission,
    read-only), ConflictError for what a person must look at (a symlink or a file in the place of a folder). No call ever overwrites or
    removes a foreign file.
    """

    label: str
    """For messages: kind, connection id, host and port."""

    profile: Profile

    def prepare(self, folder: str) -> None:
        """Make the folder and its parents. Every component below the root is checked: a symlink or a file there is a ConflictError."""
        ...

    def size(self, path: str) -> int | None:
        """Size in bytes, or None when there is no such file. A symlink or folder under that name is a ConflictError."""
        ...

    def sha256(self, path: str) -> str | None:
        """Hex SHA-256 of the file's bytes, computed from the destination's own copy; None when there is no such file."""
        ...

    def read(self, path: str) -> bytes | None:
        """A small file's bytes, or None when there is no such file."""
        ...

    def blocks(self, path: str) -> Iterator[bytes]:
        """A file's bytes in order. Raises PermanentError when there is no such file."""
        ...

    def upload(self, part: str, blocks: Iterable[bytes]) -> Stored:
        """Write `blocks` under the hidden name `part`, created exclusively, then verify size and hash against the destination's copy.

        `blocks` may be slow (it follows a growing spool). Statuses of every write, of fsync and of close are checked. On any failure the
        part is removed if that is still possible, and a TransientError or PermanentError is raised; what `blocks` raises passes through.
        """
        ...

    def publish(self, part: str, final: str) -> bool:
        """Make `part` visible as `final` in one step that never overwrites. False when `final` already exists (the part is still there).

        Raises TransientError when the answer was lost: look again before repeating.
        """
        ...

    def remove(self, path: str) -> None:
        """Remove one of our own files or hidden part folders; a missing one is fine."""
        ...

    def walk(self, folder: str) -> Iterator[Item]:
        """Everything below `folder`, depth first, sorted by name; nothing when the folder is missing. Symlinks are not followed."""
        ...

    def probe(self, folder: str) -> Probe:
        """Rehearse below `folder`: make a folder, write, rename onto nothing and onto an existing file, read back, remove.

        Leaves nothing behind where the server lets us remove.
        """
        ...


class Destination(Protocol):
    """A place files go to."""

    def connect(self) -> AbstractContextManager[Session]:
        """Log in.

        Raises TransientError (unreachable, timeout, too many connections) or PermanentError (wrong host key, login refused, bad setting).
        """
        ...
