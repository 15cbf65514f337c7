"""Deliveries in a folder of this machine, including the tree that a consumer keeps itself."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from waybill_consumer.errors import Damaged, Refused
from waybill_consumer.places import LARGEST_READ, Answer, Entry, Listing, whole
from waybill_consumer.records import BLOCK


class Found(NamedTuple):
    """A file or folder below the root, as `verification` wants it."""

    path: str
    is_folder: bool


class Folder:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.label = str(root)

    def lists(self, folders: Sequence[str]) -> list[Listing]:
        return [self._listing(self._at(folder)) for folder in folders]

    def _listing(self, folder: Path) -> Listing:
        try:
            return self._list(folder)
        except Refused as error:
            return error

    def reads(self, paths: Sequence[str]) -> list[Answer]:
        return [self._answer(path) for path in paths]

    def _answer(self, path: str) -> Answer:
        try:
            return self.read(path)
        except Refused as error:
            return error

    def blocks(self, path: str, start: int = 0) -> Iterator[bytes]:
        try:
            with self._at(path).open("rb") as file:
                file.seek(start)
                while block := file.read(BLOCK):
                    yield block
        except FileNotFoundError:
            raise Damaged("is listed in its manifest and missing", where=f"{self.label}{path}") from None
        except OSError as error:
            raise Refused(f"cannot be read: {error.strerror}", where=f"{self.label}{path}") from error

    def read(self, path: str) -> bytes | None:
        try:
            with self._at(path).open("rb") as file:
                return whole(file.read(LARGEST_READ + 1), f"{self.label}{path}")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Refused(f"cannot be read: {error.strerror}", where=f"{self.label}{path}") from error

    def size(self, path: str) -> int | None:
        try:
            return self._at(path).stat().st_size
        except OSError:
            return None

    def walk(self, folder: str) -> Iterator[Found]:
        """Yield everything below, depth first. A link to a folder counts as one, except a link to a folder that it is in."""
        yield from self._walk(folder, ())

    def _walk(self, folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[Found]:
        at = self._at(folder)
        here = at.stat() if at.exists() else None
        if here is None or (here.st_dev, here.st_ino) in above:
            return
        for entry in self._list(at) or ():
            path = f"{folder.rstrip('/')}/{entry.name}"
            yield Found(path, entry.is_folder)
            if entry.is_folder:
                yield from self._walk(path, (*above, (here.st_dev, here.st_ino)))

    def _at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def _list(self, folder: Path) -> list[Entry] | None:
        try:
            with os.scandir(folder) as found:
                entries = [_entry(entry) for entry in found]
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise Refused(f"cannot be listed: {error.strerror}", where=str(folder)) from error
        return sorted(entries)


def _entry(found: os.DirEntry[str]) -> Entry:
    """Return what a link leads to. A link that leads nowhere, or to itself, is no folder."""
    try:
        return Entry(found.name, found.is_dir(), found.stat().st_mtime)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP):
            raise
        return Entry(found.name, False, found.stat(follow_symlinks=False).st_mtime)


@contextmanager
def folder_place(root: Path) -> Iterator[Folder]:
    if not root.is_dir():
        raise Refused("there is no such folder", where=str(root), next_step="Look at the spelling of the path")
    yield Folder(root)
