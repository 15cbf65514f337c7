"""A local folder as a destination.

Every name is opened relative to its parent's descriptor, and never through a symlink. So no path can be led out of the root between a check
and its use.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from waybill import layout
from waybill.destinations.base import (
    Item,
    Probe,
    Profile,
    Reading,
    Stored,
    components,
    damaged,
    hidden_missing,
    no_such_file,
    only_own_folder,
    parent_and_name,
    rehearsal,
    root_missing,
)
from waybill.destinations.local_files import dropped_from_cache, free_bytes, rename_new, translated, write_all
from waybill.errors import ConflictError, PermanentError, TransientError, WaybillError

BLOCK = 1024 * 1024
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class Folder:
    """A destination below a local path. `connect` makes a missing root."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def connect(self) -> Iterator[FolderSession]:
        label = f"folder {self.root}"
        with translated(label, "open the root folder", ""):
            if self.root.is_symlink() and not self.root.exists():
                step = "Make the folder it leads to, or mount it"
                raise PermanentError("the root is a symlink that leads nowhere", where=label, next_step=step, code="refused")
            try:
                self.root.mkdir(parents=True, exist_ok=True)
            except (FileNotFoundError, FileExistsError, NotADirectoryError, PermissionError) as error:
                raise root_missing(f"the root cannot be made: {os.strerror(error.errno or 0)}", label) from error
            root = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield FolderSession(label, root)
        finally:
            os.close(root)


class FolderSession(Reading):
    """See `base.Session`. Publishing links the hidden file to its final name. The link fails if that name exists."""

    profile = Profile.FULL

    def __init__(self, label: str, root: int) -> None:
        self.label = label
        self._root = root

    def prepare(self, folder: str) -> None:
        self._make(components(folder))

    def _make(self, names: tuple[str, ...]) -> list[tuple[str, ...]]:
        """Make what is missing. Returns the folders that were made, outermost first."""
        made = []
        for depth, name in enumerate(names, 1):
            path = "/" + "/".join(names[:depth])
            with translated(self.label, "make the folder", path), self._opened(names[: depth - 1]) as parent:
                try:
                    os.mkdir(name, dir_fd=parent)
                except FileExistsError:
                    continue
                os.fsync(parent)
                made.append(names[:depth])
        with self._opened(names):
            return made

    @contextmanager
    def _opened(self, names: tuple[str, ...]) -> Iterator[int]:
        """Return a descriptor of the folder. Raises FileNotFoundError, or ConflictError if a component is a symlink or a file."""
        current = os.dup(self._root)
        try:
            for depth, name in enumerate(names, 1):
                path = "/" + "/".join(names[:depth])
                try:
                    below = os.open(name, _FOLDER, dir_fd=current)
                except OSError as error:
                    if error.errno in (errno.ENOTDIR, errno.ELOOP):
                        raise self._in_the_way(path, os.lstat(name, dir_fd=current)) from error
                    if error.errno == errno.ENOENT:
                        raise
                    with translated(self.label, "open the folder", path):
                        raise
                os.close(current)
                current = below
            yield current
        finally:
            os.close(current)

    def _in_the_way(self, path: str, found: os.stat_result) -> ConflictError:
        kind = "symlink" if stat.S_ISLNK(found.st_mode) else "folder" if stat.S_ISDIR(found.st_mode) else "file"
        return ConflictError(f"{path} is a {kind}", where=self.label, next_step="Move it away; nothing was touched")

    def _look(self, path: str) -> os.stat_result | None:
        """Return the facts of `path`. A symlink there is not followed."""
        parent, name = parent_and_name(path)
        try:
            with translated(self.label, "look at", path, FileNotFoundError), self._opened(components(parent)) as folder:
                return os.lstat(name, dir_fd=folder)
        except FileNotFoundError:
            return None

    def _file(self, path: str) -> os.stat_result | None:
        found = self._look(path)
        if found is not None and not stat.S_ISREG(found.st_mode):
            raise self._in_the_way(path, found)
        return found

    def size(self, path: str) -> int | None:
        found = self._file(path)
        return None if found is None else found.st_size

    def blocks(self, path: str) -> Iterator[bytes]:
        if self._file(path) is None:
            raise no_such_file(path, self.label)
        parent, name = parent_and_name(path)
        try:
            with translated(self.label, "read", path, FileNotFoundError), self._opened(components(parent)) as folder:
                descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        except FileNotFoundError as error:
            raise no_such_file(path, self.label) from error
        try:
            dropped_from_cache(descriptor)
            while True:
                with translated(self.label, "read", path):
                    block = os.read(descriptor, BLOCK)
                if not block:
                    return
                yield block
        finally:
            os.close(descriptor)

    def upload(self, path: str, blocks: Iterable[bytes]) -> Stored:
        parent, name = parent_and_name(path)
        with translated(self.label, "create", path), self._opened(components(parent)) as folder:
            descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666, dir_fd=folder)
        try:
            try:
                sent = self._write(path, descriptor, blocks)
            finally:
                os.close(descriptor)
            stored = Stored(self.size(path) or 0, self.sha256(path) or "")
            if stored != sent:
                raise damaged(path, sent, stored, self.label)
        except BaseException:
            with suppress(WaybillError):
                self.remove(path)
            raise
        return stored

    def _write(self, path: str, descriptor: int, blocks: Iterable[bytes]) -> Stored:
        digest, size = hashlib.sha256(), 0
        for block in blocks:
            digest.update(block)
            size += len(block)
            with translated(self.label, "write", path):
                write_all(descriptor, block)
        with translated(self.label, "write", path):
            os.fsync(descriptor)
        return Stored(size, digest.hexdigest())

    def publish(self, hidden: str, final: str) -> bool:
        found = self._look(hidden)
        if found is None:
            raise hidden_missing(hidden, self.label)
        (source_folder, source), (target_folder, target) = parent_and_name(hidden), parent_and_name(final)
        with (
            translated(self.label, "publish", final),
            self._opened(components(source_folder)) as source_fd,
            self._opened(components(target_folder)) as target_fd,
        ):
            try:
                if stat.S_ISDIR(found.st_mode):
                    self._publish_folder(source, target, source_fd, target_fd)
                else:
                    self._publish_file(source, target, source_fd, target_fd)
            except FileExistsError:
                return False
            os.fsync(target_fd)
            return True

    def _publish_folder(self, source: str, target: str, source_fd: int, target_fd: int) -> None:
        """Rename a folder of parts.

        A folder of the name makes way if it is empty, because a consumer took the files, or holds only what dead attempts left.
        """
        try:
            rename_new(source, target, source_fd, target_fd)
        except FileExistsError:
            with suppress(OSError):  # it holds something else, or is no folder
                _remove_leftovers(target, target_fd)
                os.rmdir(target, dir_fd=target_fd)
            rename_new(source, target, source_fd, target_fd)

    def _publish_file(self, source: str, target: str, source_fd: int, target_fd: int) -> None:
        try:
            os.link(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            rename_new(source, target, source_fd, target_fd)
        else:
            os.unlink(source, dir_fd=source_fd)

    @property
    def replaces(self) -> bool:
        return True

    def replace(self, hidden: str, final: str) -> None:
        self._file(final)
        (source_folder, source), (target_folder, target) = parent_and_name(hidden), parent_and_name(final)
        with (
            translated(self.label, "replace", final),
            self._opened(components(source_folder)) as source_fd,
            self._opened(components(target_folder)) as target_fd,
        ):
            os.rename(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd)
            os.fsync(target_fd)

    def remove(self, path: str) -> None:
        found = self._look(path)
        if found is None:
            return
        if stat.S_ISDIR(found.st_mode):
            only_own_folder(path, self.label)
            self._remove_folder(path)
            return
        if not stat.S_ISREG(found.st_mode):
            raise self._in_the_way(path, found)
        parent, name = parent_and_name(path)
        with translated(self.label, "remove", path), self._opened(components(parent)) as folder, suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)

    def _remove_folder(self, path: str) -> None:
        for item in reversed(list(self.walk(path))):
            if item.is_folder:
                self._remove_empty(item.path)
            else:
                self.remove(item.path)
        self._remove_empty(path)

    def _remove_empty(self, path: str) -> None:
        parent, name = parent_and_name(path)
        with translated(self.label, "remove", path), self._opened(components(parent)) as folder, suppress(FileNotFoundError):
            os.rmdir(name, dir_fd=folder)

    def entries(self, folder: str) -> list[Item]:
        prefix = folder.rstrip("/")
        try:
            with (
                translated(self.label, "list", folder, FileNotFoundError),
                self._opened(components(folder)) as opened,
                os.scandir(opened) as entries,
            ):
                found = sorted(_still_there(entries))
        except FileNotFoundError:
            return []
        items = []
        for name, facts in found:
            path, modified = f"{prefix}/{name}", datetime.fromtimestamp(facts.st_mtime, UTC)
            if stat.S_ISDIR(facts.st_mode):
                items.append(Item(path, True, 0, modified))
            elif stat.S_ISREG(facts.st_mode):
                items.append(Item(path, False, facts.st_size, modified))
        return items

    def probe(self, folder: str) -> Probe:
        own = rehearsal(folder)
        made = self._make(components(own))
        try:
            steps = self._rehearse(own)
        finally:
            self.remove(own)
            for names in reversed(made[:-1]):
                with suppress(PermanentError, TransientError):
                    self._remove_empty("/" + "/".join(names))
        steps = (("make a folder", "ok"), *steps, ("remove", "ok"))
        return Probe(Profile.FULL, steps, (), free_bytes(self._root))

    def _rehearse(self, own: str) -> tuple[tuple[str, str], ...]:
        for name in ("first", "second"):
            self.upload(f"{own}/.{name}.part", [name.encode()])
        onto_nothing = self.publish(f"{own}/.first.part", f"{own}/final")
        onto_existing = self.publish(f"{own}/.second.part", f"{own}/final")
        kept = self.read(f"{own}/final") == b"first"
        if not onto_nothing or onto_existing or not kept:
            raise PermanentError("this file system cannot publish without overwriting", where=self.label, code="no_cas")
        return (("write", "ok"), ("rename onto nothing", "ok"), ("rename onto an existing file", "refused"), ("read back", "ok"))


def _still_there(entries: Iterable[os.DirEntry[str]]) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the facts of each name. Somebody may take files away meanwhile: only a folder that is gone itself has nothing."""
    for entry in entries:
        with suppress(FileNotFoundError):
            yield entry.name, entry.stat(follow_symlinks=False)


def _remove_leftovers(name: str, parent: int) -> None:
    """Remove unfinished files of ours from a folder that holds nothing else. Raises OSError for what is no such folder."""
    folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        with os.scandir(folder) as listed:
            found = [entry.name for entry in listed]
        for left in found if all(map(layout.is_hidden, found)) else ():
            os.unlink(left, dir_fd=folder)
    finally:
        os.close(folder)
