"""An SFTP server as a destination.

asyncio runs in a thread of its own behind each session. Several threads may call the session's methods at once, so many small files share
one connection and travel at the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import asyncssh

from waybill import layout
from waybill.connection import Connection
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
    root_missing,
)
from waybill.destinations.sftp.channels import Channels, running_loop, wait
from waybill.destinations.sftp.errors import in_the_way, lost, misstated, not_done, refused
from waybill.destinations.sftp.login import log_in, settings
from waybill.destinations.sftp.packets import Attributes, Code, Kind, Lost, Space, Status
from waybill.destinations.sftp.probe import rehearse
from waybill.destinations.sftp.read_back import ReadBack
from waybill.destinations.sftp.reading import Download
from waybill.destinations.sftp.ssh_keys import spoken
from waybill.destinations.sftp.transfer import Upload, chunks, peeked
from waybill.destinations.sftp.wire import POSIX_RENAME, Wire
from waybill.errors import PermanentError, TransientError

T = TypeVar("T")
_GOODBYE_SECONDS = 5.0


class Sftp:
    """A folder on a server behind an Airflow connection. A relative root is below the folder that the login begins in."""

    def __init__(self, connection: Connection, root: str = "/", profile: Profile = Profile.FULL) -> None:
        self._connection = connection
        self._root = root.rstrip("/")
        self._profile = profile

    @contextmanager
    def connect(self) -> Iterator[SftpSession]:
        chosen = settings(self._connection)
        with running_loop("waybill-sftp") as loop:
            found = wait(loop, log_in(chosen))
            in_use = (found.key,) if found.key else ()
            again = replace(chosen, keys=in_use, address=found.address)
            channels = Channels(loop, again, found.connection, found.wire)
            proofs = _spoken(found.key, chosen.keys, "password"), _spoken(found.host_key, chosen.pins, "")
            try:
                yield SftpSession(chosen.label, loop, channels, found.wire, self._root, self._profile, found.block, proofs)
            finally:
                wait(loop, _leave(found.connection, channels))


def _spoken(used: asyncssh.SSHKey | None, known: tuple[asyncssh.SSHKey, ...], otherwise: str) -> str:
    """Name a key, and say which of the connection's keys it is if there are several."""
    if used is None:
        return otherwise
    place = next((number for number, key in enumerate(known, 1) if key.public_data == used.public_data), 1)
    return f"{spoken(used)} ({place} of {len(known)})" if len(known) > 1 else spoken(used)


async def _leave(connection: asyncssh.SSHClientConnection, channels: Channels) -> None:
    channels.give_up("the session is closed")
    connection.close()
    try:
        async with asyncio.timeout(_GOODBYE_SECONDS):
            await connection.wait_closed()
    except TimeoutError:
        connection.abort()


class SftpSession(Reading):
    """See `base.Session`. Publishing is the plain rename of SFTP version 3, which does not overwrite."""

    def __init__(
        self,
        label: str,
        loop: asyncio.AbstractEventLoop,
        channels: Channels,
        wire: Wire,
        root: str,
        profile: Profile,
        block: int,
        proofs: tuple[str, str],
    ) -> None:
        self.label = label
        self.profile = profile
        self._loop = loop
        self._lanes = channels
        self._wire = wire
        self._root = root
        self._block = block
        self._proofs = proofs
        self._sees = profile is not Profile.DROPBOX

    def _at(self, path: str) -> str:
        """Return where `path` is on the server."""
        return f"{self._root}/{'/'.join(components(path))}" if path != "/" else self._root or "/"

    def _run(self, operation: str, path: str, work: Coroutine[Any, Any, T]) -> T:
        with self._translated(operation, path):
            return wait(self._loop, work)

    @contextmanager
    def _translated(self, operation: str, path: str) -> Iterator[None]:
        try:
            yield
        except Status as status:
            if status.code == Code.NO_SUCH_FILE and self._lacks_root():
                raise root_missing(f"there is no folder {self._root} on the server, which is the root", self.label) from status
            raise refused(self.label, operation, path, status, self._space() if status.code == Code.FAILURE else None) from status
        except Lost as error:
            raise lost(self.label, operation, path, error) from error

    def _lacks_root(self) -> bool:
        """Return whether the root is missing, or is no folder. A drop box shows nothing."""
        if self._root and self._sees:
            with suppress(Status, Lost):
                facts = wait(self._loop, self._wire.attributes(Kind.LSTAT, self._root))
                return facts is None or facts.is_file
        return False

    def _space(self) -> Space | None:
        with suppress(Status, Lost):
            return wait(self._loop, self._wire.space(self._root or "/"))
        return None

    def _look(self, path: str) -> Attributes | None:
        """Return the facts of `path`. A symlink there is not followed. A drop box shows nothing."""
        return self._run("look at", path, self._wire.attributes(Kind.LSTAT, self._at(path))) if self._sees else None

    def prepare(self, folder: str) -> None:
        names = components(folder)
        prefixes = ["/" + "/".join(names[: depth + 1]) for depth in range(len(names))]
        found = self._run("look at", folder, self._look_at_all(prefixes)) if self._sees else [None] * len(prefixes)
        for prefix, facts in zip(prefixes, found, strict=True):
            with self._translated("look at", prefix):
                if isinstance(facts, BaseException):
                    raise facts
            if facts is None:
                self._make_one(prefix)
            elif not facts.is_folder:
                raise in_the_way(self.label, prefix, facts)
        if self._sees:
            self._wire.at_rest = self._at(prefixes[:2][-1])  # the tenant's folder: it holds little, and stays

    async def _look_at_all(self, paths: list[str]) -> list[Attributes | BaseException | None]:
        """Check all of it in one round trip. What a server says of a path only matters if all before it are folders."""
        asked = (self._wire.attributes(Kind.LSTAT, self._at(path)) for path in paths)
        return await asyncio.gather(*asked, return_exceptions=True)

    def _make_one(self, path: str) -> None:
        """Somebody else may make it meanwhile. A drop box does not tell, but the upload will."""
        with self._translated("make the folder", path):
            try:
                wait(self._loop, self._wire.make_folder(self._at(path)))
            except Status as status:
                facts = self._look(path)
                if facts is not None and not facts.is_folder:
                    raise in_the_way(self.label, path, facts) from status
                if facts is None and self._sees:
                    raise

    def _file(self, path: str) -> Attributes | None:
        facts = self._look(path)
        if facts is not None and not facts.is_file:
            raise in_the_way(self.label, path, facts)
        return facts

    def size(self, path: str) -> int | None:
        facts = self._file(path)
        return None if facts is None else facts.size or 0

    def blocks(self, path: str) -> Iterator[bytes]:
        if self._sees and self._file(path) is None:
            raise no_such_file(path, self.label)
        download = self._run("read", path, Download.start(self._wire, self._at(path), self._block))
        try:
            while block := self._run("read", path, download.more()):
                yield block
        finally:
            wait(self._loop, download.close())

    def upload(self, path: str, blocks: Iterable[bytes]) -> Stored:
        pieces, large = peeked(chunks(blocks))
        client = self._lanes.client() if large else None
        with self._lanes.lane() as lane:
            wire, another = (client, lane) if client else (lane, None)
            upload = Upload(wire, self._at(path), verify=self._sees, block=self._block, another=another)
            try:
                sent, back = self._send(path, upload, pieces)
                if self._sees:
                    self._compare(path, sent, back, upload)
            except BaseException:
                wait(self._loop, upload.abandon())
                raise
        return sent

    def _send(self, path: str, upload: Upload, pieces: Iterable[tuple[bytes, bool]]) -> tuple[Stored, Stored]:
        """Return what was sent, and what came back of it."""
        both = ReadBack(expected=self._sees)
        for chunk, last in pieces:
            both.send(chunk)
            for data in self._step(path, upload, chunk, last):
                both.take(data)
        while back := self._run("write", path, upload.rest()):
            for data in back:
                both.take(data)
        return both.sent, both.found

    def _step(self, path: str, upload: Upload, chunk: bytes, last: bool) -> list[memoryview]:
        with self._translated("write", path):
            try:
                return wait(self._loop, upload.step(chunk, last=last))
            except Status as status:
                if upload.created or self._look(path) is None:
                    raise
                step = "Remove it first: it is left over from an earlier try"
                raise TransientError(f"{path} exists already", where=self.label, next_step=step, code="exists") from status

    def _compare(self, path: str, sent: Stored, found: Stored, upload: Upload) -> None:
        """Return hash and size as read back, and check the size that the server tells. A collected file is fine if files are picked up
        there.
        """
        if upload.size is None and self.profile is Profile.PICKUP and (upload.vanished or found == sent):
            return
        if found != sent:
            raise damaged(path, sent, found, self.label)
        if upload.size != sent.bytes:
            raise misstated(self.label, path, sent.bytes, upload.size)

    def publish(self, hidden: str, final: str) -> bool:
        if not self._sees:
            raise PermanentError("a drop box cannot rename", where=self.label, next_step="Upload under the final name", code="dropbox")
        return self._renamed(hidden, final) or (self._made_way(hidden, final) and self._renamed(hidden, final))

    def _made_way(self, hidden: str, final: str) -> bool:
        """Return whether a folder was removed from where a folder of parts is to appear.

        It was empty, because a consumer took the files and left it, or held only what dead attempts left.
        """
        ours, there = self._look(hidden), self._look(final)
        if ours is None or there is None or not (ours.is_folder and there.is_folder):
            return False
        found = self.entries(final)
        if any(item.is_folder or not layout.is_hidden(item.path.rpartition("/")[2]) for item in found):
            return False
        for item in found:
            self.remove(item.path)
        with self._translated("publish", final):
            try:
                wait(self._loop, self._wire.remove_folder(self._at(final)))
            except Status:  # something came into it meanwhile
                return False
        return True

    def _renamed(self, hidden: str, final: str) -> bool:
        if self.profile is Profile.NO_CAS and self._look(final) is not None:
            return False
        with self._translated("publish", final), self._lanes.lane() as wire:
            try:
                wait(self._loop, wire.rename(self._at(hidden), self._at(final)))
            except Status as status:
                # Servers name many reasons for a taken name, so a look at the name decides.
                if self._look(hidden) is None:
                    if self.profile is Profile.PICKUP:
                        return True
                    raise hidden_missing(hidden, self.label) from status
                if self._look(final) is None:
                    raise
                return False
        return True

    @property
    def replaces(self) -> bool:
        """Rename with OpenSSH's extension, or with the plain rename if that overwrites."""
        return self.profile is Profile.NO_CAS or (self.profile is Profile.FULL and POSIX_RENAME in self._wire.extensions)

    def replace(self, hidden: str, final: str) -> None:
        self._file(final)
        with self._translated("replace", final), self._lanes.lane() as wire:
            move = wire.rename if self.profile is Profile.NO_CAS else wire.rename_over
            wait(self._loop, move(self._at(hidden), self._at(final)))
        if self._look(hidden) is not None:
            raise not_done(self.label, f"the rename onto {final}", "the hidden file is still there")

    def remove(self, path: str) -> None:
        facts = self._look(path)
        if facts is None and self._sees:
            return
        if facts is not None and facts.is_folder:
            only_own_folder(path, self.label)
            self._remove_folder(path)
        elif facts is not None and not facts.is_file:
            raise in_the_way(self.label, path, facts)
        else:
            self._unless_missing(path, self._wire.remove)

    def _remove_folder(self, path: str) -> None:
        for item in reversed(list(self.walk(path))):
            self._unless_missing(item.path, self._wire.remove_folder if item.is_folder else self._wire.remove)
        self._unless_missing(path, self._wire.remove_folder)

    def _unless_missing(self, path: str, remove: Callable[[str], Coroutine[Any, Any, None]]) -> None:
        with self._translated("remove", path):
            try:
                wait(self._loop, remove(self._at(path)))
            except Status as status:
                if status.code != Code.NO_SUCH_FILE:
                    raise
                return
        if self._look(path) is not None:
            raise not_done(self.label, f"the removal of {path}", "it is still there")

    def entries(self, folder: str) -> list[Item]:
        """See `base.Session`. A drop box shows nothing."""
        facts = self._look(folder)
        if facts is None or not facts.is_folder:
            return []
        found = self._run("list", folder, self._wire.list(self._at(folder)))
        items = []
        for name, inner in sorted(found.items()):
            path = f"{folder.rstrip('/')}/{name}"
            modified = None if inner.modified is None else datetime.fromtimestamp(inner.modified, UTC)
            if inner.is_folder:
                items.append(Item(path, True, 0, modified))
            elif inner.is_file:
                items.append(Item(path, False, inner.size or 0, modified))
        return items

    def probe(self, folder: str) -> Probe:
        with self._translated("rehearse below", folder):
            found = wait(self._loop, rehearse(self._wire, self._at, folder, self.label))
        login_key, host_key = self._proofs
        return replace(found, login_key=login_key, host_key=host_key)
