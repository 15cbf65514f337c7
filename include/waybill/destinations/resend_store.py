"""Keeps delivered bytes so that they can be sent again, in the folder or bucket of WAYBILL_ARCHIVE_URL, apart from the archives.

An archive is the file of one on-demand export (`archives`). Both are in the same store, each in a folder of its own.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from waybill import private
from waybill.connection import Connections
from waybill.destinations.archives import Bucket, folder_of, unavailable
from waybill.destinations.s3_client import send

ROOM = "deliveries"
_BLOCK = 1 << 20

Blocks = Callable[[], Iterator[bytes]]
"""A function that reads a file from its beginning."""


class Kept(Protocol):
    """A store of delivered bytes, by delivery id.

    Every method raises TransientError if the store does not answer or is full, and PermanentError if it refuses this account.
    """

    def keep(self, delivery: str, folder: Path) -> None:
        """Take the files of a local folder, in the place of what is kept of that delivery. The folder may be gone afterwards."""
        ...

    def files(self, delivery: str) -> list[Blocks]:
        """Return what is kept of a delivery: the parts in the order of their numbers, and the deletes file behind them.

        The reader has to check the bytes. Some or all may be missing.
        """
        ...

    def entries(self) -> Iterator[tuple[str, datetime]]:
        """Yield every id in the store, with the time that something of it was last written."""
        ...

    def remove(self, delivery: str) -> None: ...


def open_kept(url: str, base: Path, connections: Connections) -> Kept:
    """Return the store of an archive URL (a folder, `file://` or `s3://`). Nothing is opened yet."""
    if url.startswith("s3://"):
        return KeptInBucket(url, ROOM, connections)
    return KeptInFolder(folder_of(url, base) / ROOM)


class KeptInFolder:
    """One folder for each delivery."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def keep(self, delivery: str, folder: Path) -> None:
        place = self.root / delivery
        try:
            private.make_folder(self.root)
            shutil.rmtree(place, ignore_errors=True)
            try:
                folder.rename(place)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self._copy(folder, place)
        except OSError as error:
            raise unavailable(error) from error

    def _copy(self, folder: Path, place: Path) -> None:
        """Copy from another disk under a hidden name first, so that what is there is always whole."""
        hidden = place.with_name(f".{place.name}.{os.getpid()}.part")
        try:
            private.make_folder(hidden)
            for path in folder.iterdir():  # one by one: what copies a whole folder hides why one file fails
                shutil.copy2(path, hidden / path.name)
            hidden.rename(place)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)

    def files(self, delivery: str) -> list[Blocks]:
        folder = self.root / delivery
        try:
            return [_reader(path) for path in sorted(folder.iterdir(), key=lambda path: _place_of(path.name))] if folder.is_dir() else []
        except OSError as error:
            raise unavailable(error) from error

    def entries(self) -> Iterator[tuple[str, datetime]]:
        try:
            for folder in sorted(self.root.iterdir()) if self.root.is_dir() else ():
                if folder.is_dir() and not folder.is_symlink():
                    with suppress(FileNotFoundError):  # somebody is just replacing or removing it
                        times = [path.lstat().st_mtime for path in (folder, *folder.iterdir())]
                        yield folder.name, datetime.fromtimestamp(max(times), UTC)
        except OSError as error:
            raise unavailable(error) from error

    def remove(self, delivery: str) -> None:
        shutil.rmtree(self.root / delivery, ignore_errors=True)


def _place_of(name: str) -> str:
    """Return what sorts names by the numbers in them: more than 9,999 parts have numbers of different length."""
    return re.sub(r"\d+", lambda digits: digits[0].zfill(12), name)


def _reader(path: Path) -> Blocks:
    def blocks() -> Iterator[bytes]:
        try:
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    yield block
        except OSError as error:
            raise unavailable(error) from error

    return blocks


class KeptInBucket(Bucket):
    """One object for each file, below the delivery's id. An object appears whole."""

    def keep(self, delivery: str, folder: Path) -> None:
        self.remove(delivery)
        with self.client("store", delivery) as client:
            for path in sorted(folder.iterdir()):
                send(client, self.bucket, f"{self.prefix}{delivery}/{path.name}", _reader(path)(), {})

    def files(self, delivery: str) -> list[Blocks]:
        return [self._reader(key) for key in sorted((key for key, _ in self._objects(f"{self.prefix}{delivery}/")), key=_place_of)]

    def entries(self) -> Iterator[tuple[str, datetime]]:
        newest: dict[str, datetime] = {}
        for key, written in self._objects(self.prefix):
            delivery = key.removeprefix(self.prefix).partition("/")[0]
            newest[delivery] = max(written, newest.get(delivery, written))
        yield from newest.items()

    def remove(self, delivery: str) -> None:
        keys = [key for key, _ in self._objects(f"{self.prefix}{delivery}/")]
        with self.client("remove", delivery) as client:
            for key in keys:
                client.delete_object(Bucket=self.bucket, Key=key)

    def _objects(self, prefix: str) -> list[tuple[str, datetime]]:
        with self.client("list", "kept bytes") as client:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            return sorted((item["Key"], item["LastModified"].astimezone(UTC)) for page in pages for item in page.get("Contents", []))

    def _reader(self, key: str) -> Blocks:
        def blocks() -> Iterator[bytes]:
            with self.client("read", key) as client:
                yield from client.get_object(Bucket=self.bucket, Key=key)["Body"].iter_chunks(_BLOCK)

        return blocks
