"""The places that deliveries are fetched from: a folder, an SFTP server, a bucket. `open_place` finds the right one for a SOURCE.

In: a SOURCE as people write it, and how to log in. Out: a `Place` that lists folders and reads files. Every path begins with a slash and is
below the SOURCE. The caller never sees what is above it. `folder`, `sftp` and `s3` each hold one kind of place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from waybill_consumer.errors import Refused, without_password

__all__ = [
    "LARGEST_READ",
    "MOST_ENTRIES",
    "MOST_OBJECTS",
    "Entry",
    "Login",
    "Place",
    "entries_of",
    "open_place",
    "whole",
]

LARGEST_READ = 64 << 20
"""Manifests, lists and feeds are read whole into memory. Nothing that a sender writes of them comes near this many bytes."""
MOST_ENTRIES = 100_000
"""How much of one folder is listed. A server that never ends its list would fill the memory."""
MOST_OBJECTS = 1_000_000
"""How much of a bucket is listed: all of its years at once."""


Answer = bytes | Refused | None
"""What came of one small file: all of it, the reason why nobody can read it, or None if it is not there."""


def taken(answer: Answer) -> bytes | None:
    """Return what came of a small file. Raises Refused if nobody can read it."""
    if isinstance(answer, Refused):
        raise answer
    return answer


def whole(data: bytes, where: str) -> bytes:
    """Return what was read of a small file, up to a byte more than there may be. Raises Refused for such a byte."""
    if len(data) > LARGEST_READ:
        raise Refused(
            f"has more than {LARGEST_READ >> 20} MiB, which no manifest, list or feed has", where=where, next_step="Ask the sender"
        )
    return data


class Entry(NamedTuple):
    """What a folder holds. `stamp` changes when something is added to a folder. It is None if a place cannot tell."""

    name: str
    is_folder: bool
    stamp: float | None = None


Listing = list[Entry] | Refused | None
"""What came of one folder: its entries, sorted by name, the reason why nobody can list it, or None if it is not there."""


def entries_of(listing: Listing) -> list[Entry]:
    """Return what a folder holds. A missing one holds nothing. Raises Refused if nobody can list it."""
    if isinstance(listing, Refused):
        raise listing
    return listing or []


class Place(Protocol):
    """Reads from where deliveries are. Every method raises Unreachable if the place does not answer."""

    label: str

    def lists(self, folders: Sequence[str]) -> list[Listing]:
        """Return what each folder holds. One that nobody can list keeps nobody from the others."""
        ...

    def reads(self, paths: Sequence[str]) -> list[Answer]:
        """Return small files, each whole. One that nobody can read keeps nobody from the others."""
        ...

    def blocks(self, path: str, start: int = 0) -> Iterator[bytes]:
        """Yield a file from byte `start` on. Raises Damaged if it is not there."""
        ...


class Login(NamedTuple):
    """How to log in to a server beyond what its URL says. Empty means as the `ssh` program would."""

    key: str = ""
    known_hosts: str = ""
    password: str = ""


_SHAPES = "Write sftp://user@host/path, s3://bucket/path or a folder"
_ESCAPED = "In a user or password write / : ? # @ % as %2F %3A %3F %23 %40 %25, or give the password in WAYBILL_CONSUMER_PASSWORD"


def open_place(source: str, login: Login) -> AbstractContextManager[Place]:
    """Return the place that a SOURCE names. Raises Refused for one that nobody can read."""
    scheme, mark, _ = source.partition("://")
    if source and not mark:
        from waybill_consumer.places.folder import folder_place

        return folder_place(Path(source))
    try:
        parts = urlsplit(source)
        named = bool(parts.hostname) and (scheme != "sftp" or parts.port != 0)
    except ValueError as error:
        if "@" in source:  # neither it nor the error is repeated, because nobody knows where the password ends
            raise Refused("what was given is no SOURCE: its host or port cannot be read", next_step=_ESCAPED) from None
        raise Refused(f"{source} is no SOURCE: {error}", next_step=_SHAPES) from None
    if scheme == "file":
        from waybill_consumer.places.folder import folder_place

        return folder_place(Path(unquote(parts.path)))
    if scheme == "sftp" and named:
        from waybill_consumer.places.sftp import sftp_place

        return sftp_place(parts, login)
    if scheme == "s3" and named:
        from waybill_consumer.places.s3 import s3_place

        return s3_place(parts.netloc, unquote(parts.path).strip("/"))
    raise Refused(f"{without_password(source) or 'nothing'} is no SOURCE", next_step=_SHAPES)
