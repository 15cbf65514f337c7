"""SFTP version 3 on one channel: requests out, answers in, nothing more.

asyncssh or OpenSSH's client provides SSH. asyncssh's own SFTP client costs twice the CPU of this and hides the extensions. Here one SFTP
write fills exactly one of asyncssh's SSH packets, and an answer finds its request without a task of its own.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from contextlib import suppress
from copy import copy
from typing import Protocol

from waybill.destinations.sftp.packets import SAFE_BLOCK, Attributes, Code, Fields, Kind, Lost, Malformed, Printed, Space, Status, string

LARGEST_PACKET = 4 * 1024 * 1024
LARGE = 8 * 1024
_LARGE_BLOCK = 255 * 1024
POSIX_RENAME = "posix-rename@openssh.com"
Answer = tuple[int, bytes]


class Channel(Protocol):
    """What carries the bytes. It tells the wire when bytes arrive and when it is lost."""

    def write(self, data: bytes) -> None: ...
    def abort(self) -> None: ...


class Wire:
    """SFTP over a channel. All methods belong to the event loop in which it was opened.

    Servers answer in order or nearly so, and the request that waits longest shows how the server is. If it stays unanswered for `stall`
    seconds, everything that waits fails with Lost, and the channel is given up.

    While nothing is asked, as when a source takes long for its first row, the folder `at_rest` is listed now and then. Some servers end a
    session that neither transfers nor lists for minutes, whatever else it asks (`TimeoutNoTransfer` of ProFTPD).
    """

    def __init__(self, stall: float) -> None:
        self._loop = asyncio.get_running_loop()
        self.stall = stall
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._next = 0
        self._oldest_since = 0.0
        self._outgoing: list[bytes] = []
        self._received = bytearray()
        self._watch: asyncio.TimerHandle | None = None
        self.at_rest = ""
        self._glancing: asyncio.Task[None] | None = None
        self._lost: Lost | None = None
        """Why it was given up. Whoever waits gets an exception of its own."""
        self._channel: Channel | None = None
        self.extensions: dict[str, bytes] = {}
        self.largest_write = SAFE_BLOCK
        """The most bytes that one write request may hold, including itself."""

    @property
    def is_open(self) -> bool:
        return self._lost is None

    def connection_made(self, channel: Channel) -> None:
        self._channel = channel

    def connection_lost(self, exc: Exception | None) -> None:
        # A reason of asyncssh's can quote what the server said, never what we sent.
        self.give_up(Lost(f"the connection was lost{f': {exc}' if exc else ''}"))

    def give_up(self, lost: Lost) -> None:
        """Fail everything that waits, and everything that is asked from now on."""
        self._lost = self._lost or lost
        if self._watch is not None:
            self._watch.cancel()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(copy(self._lost))
                future.exception()  # marks it as seen, because nobody may be awaiting it
        self._waiting.clear()
        if self._channel is not None:
            self._channel.abort()

    def _look(self) -> None:
        if self._waiting and self._loop.time() - self._oldest_since > self.stall:
            self.give_up(Lost(f"the server did not answer for {self.stall:g} seconds"))
        else:
            self._watch = self._loop.call_later(self.stall / 4, self._look)
            if self.at_rest and not self._waiting:
                self._glancing = self._loop.create_task(self._glance())

    async def _glance(self) -> None:
        with suppress(Status, Lost):
            await self.list(self.at_rest)

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        at = 0
        while len(received) - at >= 9:
            size = int.from_bytes(received[at : at + 4], "big")
            if size > LARGEST_PACKET or size < 5:
                self.give_up(Malformed())
                return
            if len(received) - at - 4 < size:
                break
            key = int.from_bytes(received[at + 5 : at + 9], "big")
            with memoryview(received) as view:
                body = bytes(view[at + 9 : at + 4 + size])
            self._answered(received[at + 4], key, body)
            at += 4 + size
        if at:
            del received[:at]

    def _answered(self, kind: int, key: int, body: bytes) -> None:
        if kind == Kind.VERSION:  # it has no request number; the version is in that place
            key = 0
            try:
                self.extensions = dict(_extensions(body))
            except Lost as error:
                self.give_up(error)
                return
        if key == next(iter(self._waiting), None):
            self._oldest_since = self._loop.time()
        future = self._waiting.pop(key, None)
        if future is not None and not future.done():
            future.set_result((kind, body))

    def _send(self, kind: int, key: int, *body: bytes | memoryview) -> asyncio.Future[Answer]:
        if self._lost:
            raise copy(self._lost)
        if self._channel is None:
            raise Lost("the channel is closed")
        future: asyncio.Future[Answer] = self._loop.create_future()
        if not self._waiting:
            self._oldest_since = self._loop.time()
        self._waiting[key] = future
        size = sum(map(len, body))
        self._outgoing.append(b"".join((struct.pack(">IB", size + 1, kind), *body)))
        if size >= LARGE:
            self._flush()
        elif len(self._outgoing) == 1:
            self._loop.call_soon(self._flush)
        return future

    def _flush(self) -> None:
        """Hand over what was asked since the last time. Small requests of many files share an SSH packet, and a large one has its own."""
        outgoing, self._outgoing = self._outgoing, []
        if not outgoing or self._channel is None or self._lost:
            return
        last = [outgoing.pop()] if len(outgoing[-1]) >= LARGE else []
        try:
            for data in filter(None, (b"".join(outgoing), *last)):
                self._channel.write(data)
        except OSError:
            self.give_up(Lost("the connection was lost"))

    async def start(self) -> tuple[int, int]:
        """Agree on version 3. Return the most bytes that one read and one write may hold.

        Raises Lost, or Printed if something else than SFTP comes, or comes with it.
        """
        self._look()
        try:
            kind, _ = await self._send(Kind.INIT, 0, struct.pack(">I", 3))
            if kind != Kind.VERSION or self._received:  # nothing was asked yet that more could answer
                raise Printed("the server does not speak SFTP")
            return await self._limits()
        except Malformed:
            raise Printed("the server does not speak SFTP") from None

    def ask(self, kind: Kind, *parts: bytes | memoryview) -> asyncio.Future[Answer]:
        """Send a request. Its answer comes with the future. Requests are sent in the order of the calls."""
        self._next = self._next % 0xFFFFFFFF + 1
        return self._send(kind, self._next, struct.pack(">I", self._next), *parts)

    async def answer(self, future: asyncio.Future[Answer], wanted: Kind) -> Fields:
        """Return the fields of an answer. Raises Status if the server refused, and Lost if the answer makes no sense."""
        kind, body = await future
        fields = Fields(body)
        if kind == Kind.STATUS:
            code = fields.number()
            if code or wanted != Kind.STATUS:
                raise Status(code, fields.text() if fields else "")
        elif kind != wanted:
            raise Lost("the server sent an answer of the wrong kind")
        return fields

    async def done(self, future: asyncio.Future[Answer]) -> None:
        """Wait until the server says that a request succeeded."""
        await self.answer(future, Kind.STATUS)

    def opening(self, path: str, flags: int) -> asyncio.Future[Answer]:
        return self.ask(Kind.OPEN, string(path), struct.pack(">II", flags, 0))

    async def opened(self, asked: asyncio.Future[Answer]) -> bytes:
        """Return the handle."""
        return (await self.answer(asked, Kind.HANDLE)).string()

    async def open(self, path: str, flags: int) -> bytes:
        return await self.opened(self.opening(path, flags))

    def closing(self, handle: bytes) -> asyncio.Future[Answer]:
        return self.ask(Kind.CLOSE, string(handle))

    async def close(self, handle: bytes) -> None:
        await self.done(self.closing(handle))

    def write(self, handle: bytes, offset: int, data: bytes | memoryview) -> asyncio.Future[Answer]:
        return self.ask(Kind.WRITE, string(handle), struct.pack(">QI", offset, len(data)), data)

    def read(self, handle: bytes, offset: int, count: int) -> asyncio.Future[Answer]:
        return self.ask(Kind.READ, string(handle), struct.pack(">QI", offset, count))

    async def data(self, future: asyncio.Future[Answer]) -> memoryview:
        """Return the bytes of a read. They are empty at the end of the file."""
        try:
            return (await self.answer(future, Kind.DATA)).block()
        except Status as status:
            if status.code == Code.EOF:
                return memoryview(b"")
            raise

    async def attributes(self, kind: Kind, name: str | bytes) -> Attributes | None:
        """LSTAT of a path or FSTAT of a handle. Returns None if there is no such file."""
        return await self.looked(self.looking(kind, name))

    def looking(self, kind: Kind, name: str | bytes) -> asyncio.Future[Answer]:
        return self.ask(kind, string(name))

    async def looked(self, asked: asyncio.Future[Answer]) -> Attributes | None:
        try:
            return (await self.answer(asked, Kind.ATTRS)).attributes()
        except Status as status:
            if status.code == Code.NO_SUCH_FILE:
                return None
            raise

    async def make_folder(self, path: str) -> None:
        await self.done(self.ask(Kind.MKDIR, string(path), struct.pack(">I", 0)))

    async def remove(self, path: str) -> None:
        await self.done(self.ask(Kind.REMOVE, string(path)))

    async def remove_folder(self, path: str) -> None:
        await self.done(self.ask(Kind.RMDIR, string(path)))

    async def rename(self, old: str, new: str) -> None:
        """The plain rename of version 3. A conforming server refuses it if `new` exists."""
        await self.done(self.ask(Kind.RENAME, string(old), string(new)))

    async def rename_over(self, old: str, new: str) -> None:
        """OpenSSH's rename, which replaces `new` in one step."""
        await self.done(self.ask(Kind.EXTENDED, string(POSIX_RENAME), string(old), string(new)))

    async def list(self, folder: str) -> dict[str, Attributes]:
        """Return all names in a folder except `.` and `..`."""
        handle = (await self.answer(self.ask(Kind.OPENDIR, string(folder)), Kind.HANDLE)).string()
        found: dict[str, Attributes] = {}
        try:
            while True:
                fields = await self.answer(self.ask(Kind.READDIR, string(handle)), Kind.NAME)
                found.update(_names(fields))
        except Status as status:
            if status.code != Code.EOF:
                raise
        finally:
            if not self._lost:
                await self.close(handle)
        return {name: facts for name, facts in found.items() if name not in (".", "..")}

    def sync(self, handle: bytes) -> asyncio.Future[Answer] | None:
        """Ask the server to force a file to its disk. Returns None if the server does not offer that."""
        if "fsync@openssh.com" not in self.extensions:
            return None
        return self.ask(Kind.EXTENDED, string("fsync@openssh.com"), string(handle))

    async def synced(self, asked: asyncio.Future[Answer] | None) -> None:
        """Wait for the answer to `sync`. A file system without it counts like a server that does not offer it."""
        if asked is None:
            return
        try:
            await self.done(asked)
        except Status as status:
            if status.code not in (Code.UNSUPPORTED, Code.BAD_MESSAGE):  # OpenSSH turns ENOSYS and EINVAL into this
                raise

    async def _limits(self) -> tuple[int, int]:
        if "limits@openssh.com" not in self.extensions:
            return SAFE_BLOCK, SAFE_BLOCK
        try:
            fields = await self.answer(self.ask(Kind.EXTENDED, string("limits@openssh.com")), Kind.EXTENDED_REPLY)
        except Status:  # it lists the question, and does not answer it
            return SAFE_BLOCK, SAFE_BLOCK
        _, read, write = fields.long(), fields.long(), fields.long()
        return min(max(read, SAFE_BLOCK), _LARGE_BLOCK), min(max(write, SAFE_BLOCK), _LARGE_BLOCK)

    async def space(self, path: str) -> Space | None:
        """Return the free space, or None if the server does not tell."""
        if "statvfs@openssh.com" not in self.extensions:
            return None
        fields = await self.answer(self.ask(Kind.EXTENDED, string("statvfs@openssh.com"), string(path)), Kind.EXTENDED_REPLY)
        _, fragment, _, _, available, _, _, nodes, _, flags, _ = (fields.long() for _ in range(11))
        return Space(available * fragment, nodes, bool(flags & 0x1))


def _extensions(body: bytes) -> Iterator[tuple[str, bytes]]:
    fields = Fields(body)
    while fields:
        yield fields.text(), fields.string()


def _names(fields: Fields) -> Iterator[tuple[str, Attributes]]:
    for _ in range(fields.number()):
        name = fields.text()
        fields.string()
        yield name, fields.attributes()
