"""Where deliveries are fetched from: a folder, an SFTP server, a bucket. `open_place` finds the right one for a SOURCE.

Every path begins with a slash and is below the SOURCE; whoever asks never sees what stands above it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from waybill_consumer.errors import Refused


class Entry(NamedTuple):
    """What a folder holds. `stamp` changes when something is added to a folder; None where a place cannot tell."""

    name: str
    is_folder: bool
    stamp: float | None = None


class Place(Protocol):
    """Reading from where deliveries are. Every method raises Unreachable when the place does not answer."""

    label: str

    def lists(self, folders: Sequence[str]) -> list[list[Entry]]:
        """What each folder holds, sorted by name; nothing for a folder that is not there."""
        ...

    def reads(self, paths: Sequence[str]) -> list[bytes | None]:
        """Small files, each whole; None for one that is not there."""
        ...

    def blocks(self, path: str, start: int = 0) -> Iterator[bytes]:
        """A file from byte `start` on. Raises Damaged when it is not there."""
        ...


class Login(NamedTuple):
    """How to log in to a server beyond what its URL says; empty means as the `ssh` program would."""

    key: str = ""
    known_hosts: str = ""
    password: str = ""


def open_place(source: str, login: Login) -> AbstractContextManager[Place]:
    """The place a SOURCE names. Raises Refused for one nobody can read."""
    scheme, _, rest = source.partition("://")
    if not rest:
        from waybill_consumer.places.folder import folder_place

        return folder_place(Path(source))
    parts = urlsplit(source)
    if scheme == "file":
        from waybill_consumer.places.folder import folder_place

        return folder_place(Path(unquote(parts.path)))
    if scheme == "sftp" and parts.hostname:
        from waybill_consumer.places.sftp import sftp_place

        return sftp_place(parts, login)
    if scheme == "s3" and parts.hostname:
        from waybill_consumer.places.s3 import s3_place

        return s3_place(parts.netloc, unquote(parts.path).strip("/"))
    raise Refused(f"{without_password(source)} is no SOURCE", next_step="Write sftp://user@host/path, s3://bucket/path or a folder")


def without_password(source: str) -> str:
    """A SOURCE as it may be shown and kept."""
    if "://" not in source:
        return source
    parts = urlsplit(source)
    login, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{login.partition(':')[0]}{at}{host}").geturl()
