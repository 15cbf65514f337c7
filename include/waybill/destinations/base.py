"""What every destination can do.

Paths are absolute POSIX paths below the destination's root, such as `/exports/acme/2026/06/01/user/user.csv`.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import uuid4

from waybill import layout
from waybill.errors import ConflictError, PermanentError, TransientError


class Profile(StrEnum):
    """What a server allows. `probe` finds it out (docs/protocol.md section 4)."""

    FULL = "full"
    NO_CAS = "no_cas"
    DROPBOX = "dropbox"
    PICKUP = "pickup"


@dataclass(frozen=True)
class Stored:
    """The facts of stored bytes. They are verified at the destination unless the profile forbids reading."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Item:
    """A name that `walk` found."""

    path: str
    is_folder: bool
    size: int
    modified: datetime | None


@dataclass(frozen=True)
class Probe:
    """The outcome of a rehearsal: the profile, what the server offers, and each step with its answer."""

    profile: Profile
    steps: tuple[tuple[str, str], ...]
    extensions: tuple[str, ...] = ()
    free_bytes: int | None = None
    login_key: str = ""
    """What the server accepted as login: `ssh-ed25519 SHA256:...`, which of several, or `password`. Empty if there is no login."""

    host_key: str = ""
    """The key that the server proved itself with."""


class Session(Protocol):
    """An open destination. Several threads may use it at once. Every call is bounded in time.

    Raises TransientError for what may pass (network, connection limit, full disk), PermanentError for what will not (permission,
    read-only), and ConflictError for what a person must look at (a symlink or a file in the place of a folder). No call ever overwrites or
    removes a foreign file.
    """

    label: str
    """Kind, connection id, host and port, for messages."""

    profile: Profile

    def prepare(self, folder: str) -> None:
        """Make the folder and its parents. Every component below the root is checked: a symlink or a file there is a ConflictError."""
        ...

    def size(self, path: str) -> int | None:
        """Return the size in bytes, or None if there is no such file. A symlink or folder under that name is a ConflictError."""
        ...

    def sha256(self, path: str) -> str | None:
        """Return the hex SHA-256 of the file's bytes, computed from the destination's own copy, or None if there is no such file."""
        ...

    def read(self, path: str) -> bytes | None:
        """Return a small file's bytes, or None if there is no such file."""
        ...

    def blocks(self, path: str) -> Iterator[bytes]:
        """Yield a file's bytes in order. Raises PermanentError if there is no such file."""
        ...

    def upload(self, path: str, blocks: Iterable[bytes]) -> Stored:
        """Write `blocks` to the file `path`, which must be new. Then verify size and hash against the destination's copy.

        `blocks` may be slow, because it follows a growing spool. The status of every write, of fsync and of close is checked. After a
        failure the file is removed if that is still possible, and a TransientError or PermanentError is raised. What `blocks` raises passes
        through.
        """
        ...

    def publish(self, hidden: str, final: str) -> bool:
        """Make the hidden file or folder visible as `final` in one step that never overwrites. Returns False if `final` exists already;
        `hidden` is still there then. An empty folder makes way for a folder.

        Raises TransientError if the answer was lost. Look again before you repeat it.
        """
        ...

    @property
    def replaces(self) -> bool:
        """Return whether a file can be replaced here so that a reader sees the old one or the new one, and never none."""
        ...

    def replace(self, hidden: str, final: str) -> None:
        """Make the hidden file visible as `final` in one step, in the place of a file of our own.

        This is only for a place that `replaces`. A symlink or folder under that name is a ConflictError.
        """
        ...

    def remove(self, path: str) -> None:
        """Remove one of our own files or hidden folders. A missing one is fine."""
        ...

    def entries(self, folder: str) -> list[Item]:
        """Return what is in `folder` itself, sorted by name. A missing folder has nothing. Symlinks and special files are left out."""
        ...

    def walk(self, folder: str) -> Iterator[Item]:
        """Yield everything below `folder`, depth first, sorted by name. A missing folder has nothing. Symlinks are not followed."""
        ...

    def probe(self, folder: str) -> Probe:
        """Rehearse below `folder`: make a folder, write, rename onto nothing and onto an existing file, read back, remove.

        Nothing stays behind if the server lets us remove it.
        """
        ...


class Destination(Protocol):
    """A place that files go to."""

    def connect(self) -> AbstractContextManager[Session]:
        """Log in.

        Raises TransientError (unreachable, timeout, too many connections) or PermanentError (wrong host key, login refused, bad setting).
        """
        ...


READ_LIMIT = 64 * 1024 * 1024
"""The most bytes that `read` returns. Manifests are far smaller."""


def components(path: str) -> tuple[str, ...]:
    """Return the names in an absolute POSIX path. Raises PermanentError for anything that could lead elsewhere (`..`, empty names, NUL)."""
    names = tuple(path[1:].split("/")) if path != "/" else ()
    if not path.startswith("/") or any(name in ("", ".", "..") or "\0" in name for name in names):
        raise PermanentError(f"{path!r} is not a path below the root", allowed="/name/name without '..' or empty names", code="path")
    return names


def parent_and_name(path: str) -> tuple[str, str]:
    """Split `/a/b/c` into `/a/b` and `c`, checked like `components`. Raises PermanentError for the root itself."""
    names = components(path)
    if not names:
        raise PermanentError("the root itself is no file", code="path")
    return "/" + "/".join(names[:-1]), names[-1]


def rehearsal(folder: str) -> str:
    """Return a fresh hidden folder for `probe`. It is named like one of our own, so housekeeping finds a forgotten one."""
    return layout.hidden(f"{folder.rstrip('/')}/waybill-probe", uuid4().hex)


def only_own_folder(path: str, label: str) -> None:
    """Raises ConflictError unless the folder `path` is a hidden folder of Waybill's. No other folder is ever removed."""
    if not layout.is_hidden(parent_and_name(path)[1]):
        what = f"{path} is a folder where a file of ours was expected"
        raise ConflictError(what, where=label, next_step="Waybill removes no folders but its own: move it away")


def no_such_file(path: str, label: str) -> PermanentError:
    return PermanentError(f"there is no file {path}", where=label, code="not_found")


def root_missing(what: str, label: str) -> PermanentError:
    """The root folder is missing, and Waybill cannot or does not make it."""
    step = "Make it there, or correct the root in the registration (in policy.yaml, where the destination is the house's own)"
    return PermanentError(what, where=label, next_step=step, code="root_missing")


def too_large(path: str, label: str) -> PermanentError:
    what, step = f"{path} is too large to be a manifest", "Ask who put it there, move it away and run again"
    return PermanentError(what, where=label, allowed=f"{READ_LIMIT} bytes", next_step=step, code="too_large")


def hidden_missing(path: str, label: str) -> TransientError:
    return TransientError(f"{path} is gone", where=label, next_step="Look at the final name before repeating", code="part_missing")


def damaged(path: str, sent: Stored, found: Stored, label: str) -> TransientError:
    """The destination's copy differs from what was sent."""
    difference = f"sent {sent.bytes} bytes sha256 {sent.sha256}, found {found.bytes} bytes sha256 {found.sha256}"
    return TransientError(
        f"{path} was damaged on the way: {difference}",
        where=label,
        next_step="The part was removed; the next try writes it again",
        code="verify",
    )


class Reading(ABC):
    """The part of `Session` that follows from `size`, `blocks` and `entries`."""

    label: str

    @abstractmethod
    def size(self, path: str) -> int | None: ...

    @abstractmethod
    def blocks(self, path: str) -> Iterator[bytes]: ...

    @abstractmethod
    def entries(self, folder: str) -> list[Item]: ...

    def walk(self, folder: str) -> Iterator[Item]:
        for item in self.entries(folder):
            yield item
            if item.is_folder:
                yield from self.walk(item.path)

    def sha256(self, path: str) -> str | None:
        digest = hashlib.sha256()
        return digest.hexdigest() if self.size(path) is not None and self._hand_over(path, digest.update) else None

    def read(self, path: str) -> bytes | None:
        size, found = self.size(path), list[bytes]()
        if size is not None and size > READ_LIMIT:
            raise too_large(path, self.label)
        return b"".join(found) if size is not None and self._hand_over(path, found.append) else None

    def _hand_over(self, path: str, take: Callable[[bytes], object]) -> bool:
        """Hand on the bytes of a file that was there a moment ago. Returns False if somebody has collected it since."""
        try:
            for block in self.blocks(path):
                take(block)
        except (PermanentError, TransientError) as error:
            if error.code != "not_found":
                raise
            return False
        return True
