"""Sends bytes to an SFTP server and reads them back, with many requests at a time. Every status is checked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain

from waybill.destinations.sftp.packets import CREATE, EXCLUSIVE, READ, WRITE, Attributes, Code, Kind, Lost, Status
from waybill.destinations.sftp.reading import ReadAhead
from waybill.destinations.sftp.wire import Answer, Wire

UNDER_WAY = 4 * 1024 * 1024
"""Bytes that are sent and not acknowledged. This is enough for 100 MB/s at 40 ms."""

LAG = 8 * 1024 * 1024
"""How far reading back may fall behind. It is more than UNDER_WAY and REOPEN together, or both would wait for each other."""

REOPEN = 2 * 1024 * 1024
"""Acknowledged bytes that make it worth opening the file for reading again."""

SYNC_EVERY = 256 * 1024 * 1024
"""Bytes after which the server is asked to write to its disk, so that the last such request answers soon also on a slow disk."""

FLUSH_EVERY = 64 * 1024 * 1024
"""The same if another channel asks. This one need not wait until SYNC_EVERY, which is more than this and UNDER_WAY together."""

CHUNK = 512 * 1024
SMALL = 2 * CHUNK
"""Bytes that are sent and read back without a wait in between."""

LARGE = 8 * 1024 * 1024
"""A file of this size is worth a login of its own."""

_WRITE_HEADER = 25


def chunks(blocks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield the bytes in pieces of at least CHUNK, except the last, each with whether it is the last. There is at least one, which may be
    empty.
    """
    gathered: list[bytes] = []
    size = 0
    for block in blocks:
        if size >= CHUNK:
            yield b"".join(gathered), False
            gathered, size = [], 0
        gathered.append(block)
        size += len(block)
    yield b"".join(gathered), True


def peeked(pieces: Iterator[tuple[bytes, bool]]) -> tuple[Iterator[tuple[bytes, bool]], bool]:
    """Return the same pieces, and whether there are LARGE bytes or more. It waits for that many."""
    first: list[tuple[bytes, bool]] = []
    size = 0
    for piece in pieces:
        first.append(piece)
        size += len(piece[0])
        if size >= LARGE:
            break
    return chain(first, pieces), size >= LARGE


class Upload:
    """A new file that is written and, over a second handle, read back at the same time.

    Reading follows what the server has acknowledged, so a file takes little longer than the slower direction. If there is `another`
    channel, the server writes to its disk at that channel's request meanwhile.
    """

    def __init__(self, wire: Wire, path: str, *, verify: bool, block: int, another: Wire | None = None) -> None:
        self._wire = wire
        self._path = path
        self._verify = verify
        self._block = block
        self._handle: bytes | None = None
        self.created = False
        self._writes: deque[tuple[int, asyncio.Future[Answer]]] = deque()
        self._sent = self._acknowledged = self._checked = self._synced = 0
        self._complete = self._closed = self._abandoned = self._late = False
        self._more, self._moved, self._taken = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._ended = False
        self._reader: asyncio.Task[None] | None = None
        self._another = another
        self._flusher: asyncio.Task[None] | None = None
        self._reopening: asyncio.Future[Answer] | None = None
        self._back: list[memoryview] = []
        self._held = 0
        """The bytes of those."""
        self.vanished = False
        """The file was gone when it was to be read back."""

        self.size: int | None = None
        """The size that the server tells after closing. It is None if the file is gone or nobody may look at it."""

    async def step(self, data: bytes, *, last: bool) -> list[memoryview]:
        """Send `data`. After the last piece, wait for the server's disk and close the file. Returns what was read back meanwhile, in order;
        `rest` has what follows.

        Raises Status or Lost. The caller then abandons it.
        """
        if self._handle is None and last and len(data) <= SMALL:
            return await self._whole(data)
        if self._handle is None:
            self._handle = await self._wire.open(self._path, WRITE | CREATE | EXCLUSIVE)
            self.created = True
            if self._verify:
                self._reader = asyncio.create_task(self._read_back())
            if self._another is not None:
                self._flusher = asyncio.create_task(self._flush(self._another))
        await self._write(self._handle, data)
        if last:
            await self._finish(self._handle)
        return self._take()

    async def rest(self) -> list[memoryview]:
        """After the last piece: what else was read back, a little at a time; at the end nothing, and `size` is known."""
        while self._reader is not None and not self._back:
            if self._ended:
                await self._reader
                self._reader = None
                self._see(await self._wire.attributes(Kind.LSTAT, self._path))
                break
            self._moved.clear()
            await self._moved.wait()
        return self._take()

    def _take(self) -> list[memoryview]:
        back, self._back = self._back, []
        self._held = 0
        self._taken.set()
        return back

    async def _write(self, handle: bytes, data: bytes) -> None:
        view = memoryview(data)
        piece = self._piece(handle)
        for start in range(0, len(view), piece):
            while self._sent - self._acknowledged >= UNDER_WAY:
                await self._settle()
            block = view[start : start + piece]
            future = self._wire.write(handle, self._sent, block)
            self._sent += len(block)
            self._writes.append((self._sent, future))
        while self._writes and self._writes[0][1].done():
            await self._settle()
        while self._is_ahead():
            self._moved.clear()
            await self._moved.wait()
        if self._sent - self._synced > SYNC_EVERY:
            self._synced = self._sent
            await self._wire.synced(self._wire.sync(handle))

    def _is_ahead(self) -> bool:
        """Return whether the reader, or the other channel's writing to disk, has to catch up first."""
        reading = self._verify and not self._late
        flushing = self._flusher is not None and not self._flusher.done()
        return (reading and self._sent - self._checked > LAG) or (flushing and self._sent - self._synced > SYNC_EVERY)

    async def _flush(self, another: Wire) -> None:
        """Have the server write to its disk what it has acknowledged. If it refuses that, the writing channel asks, and waits."""
        try:
            handle = await another.open(self._path, READ)  # if it is open for writing twice, some servers keep what closes last
            try:
                while not (self._complete or self._abandoned):
                    if self._acknowledged - self._synced >= FLUSH_EVERY:
                        end = self._acknowledged
                        await another.synced(another.sync(handle))
                        self._synced = end
                        self._moved.set()
                    else:
                        self._more.clear()
                        await self._more.wait()
            finally:
                await another.close(handle)
        except (Status, Lost):
            return
        finally:
            self._moved.set()

    def _piece(self, handle: bytes) -> int:
        """Return the size of one write. Through asyncssh it fills exactly one SSH packet."""
        return self._wire.largest_write - _WRITE_HEADER - len(handle)

    async def _settle(self) -> None:
        end, future = self._writes.popleft()
        await self._wire.done(future)
        self._acknowledged = end
        self._more.set()

    async def _finish(self, handle: bytes) -> None:
        while self._writes:
            await self._settle()
        self._complete = True
        self._more.set()
        await self._wire.synced(self._wire.sync(handle))
        self._handle = None
        await self._end(self._wire.closing(handle))
        self._more.set()
        if self._flusher is not None:
            await self._flusher

    async def _end(self, closing: asyncio.Future[Answer]) -> None:
        await self._wire.done(closing)
        self._closed = True

    def _see(self, facts: Attributes | None) -> None:
        self.size = None if facts is None else facts.size or 0

    async def _whole(self, data: bytes) -> list[memoryview]:
        """Write a small file. Everything after the first answer is asked at once, and every status is checked."""
        wire = self._wire
        handle = await wire.open(self._path, WRITE | CREATE | EXCLUSIVE)
        self.created = True
        view, piece = memoryview(data), self._piece(handle)
        writes = [wire.write(handle, start, view[start : start + piece]) for start in range(0, len(view), piece)]
        syncing, closing = wire.sync(handle), wire.closing(handle)
        self._reopening = wire.opening(self._path, READ) if self._verify else None
        for write in writes:
            await wire.done(write)
        await wire.synced(syncing)
        await self._end(closing)
        return [] if self._reopening is None else await self._read_whole(self._reopening, len(data))

    async def _read_whole(self, reopening: asyncio.Future[Answer], size: int) -> list[memoryview]:
        try:
            handle = await self._wire.opened(reopening)
        except Status as status:
            if status.code != Code.NO_SUCH_FILE:
                raise
            self.vanished = True
            return []
        back: list[memoryview] = []
        complete = True
        ahead = ReadAhead(self._wire, handle, self._block)
        ahead.ask(size, whole=False)
        looking = self._wire.looking(Kind.LSTAT, self._path)
        while ahead and complete:
            data, complete = await ahead.take()
            back.append(data)
            ahead.ask(size, whole=False)
        self._see(await self._wire.looked(looking))
        await self._let_go()
        return back

    async def _read_back(self) -> None:
        """Read until everything is checked, or the file turns out to be shorter than acknowledged.

        Some servers (AWS Transfer Family) show a file only when it is closed. Reading waits for that.
        """
        before = -1
        try:
            while before < self._checked and await self._enough():
                started_late = self._closed
                try:
                    before = await self._read_once()
                except Status:
                    if started_late:
                        raise
                    self._late = True
                    self._moved.set()
                    before = -1
        except Status as status:
            if status.code != Code.NO_SUCH_FILE:
                raise
            self.vanished = True
        finally:
            self._late = self._ended = True
            self._moved.set()

    async def _read_once(self) -> int:
        """Read through a handle of its own as far as that sees. Returns where it began."""
        start = self._checked
        handle = await self._wire.open(self._path, READ)
        try:
            await self._read_through(ReadAhead(self._wire, handle, self._block, start=start))
        finally:
            with suppress(Status, Lost):
                await self._wire.close(handle)
        return start

    async def _enough(self) -> bool:
        """Wait until reading is worth a request. Returns False if nothing is left to read."""
        while not (self._closed or self._abandoned or self._is_worth_it()):
            self._more.clear()
            await self._more.wait()
        return self._checked < self._acknowledged and not self._abandoned

    def _is_worth_it(self) -> bool:
        return not self._late and (self._complete or self._acknowledged - self._checked >= REOPEN)

    async def _read_through(self, ahead: ReadAhead) -> None:
        """Read as far as this handle sees. ProFTPD's sees the file as long as it was when it was opened."""
        complete = True
        while complete and not self._abandoned:
            ahead.ask(self._acknowledged, whole=not self._complete)
            if ahead:
                data, complete = await ahead.take()
                self._back.append(data)
                self._held += len(data)
                self._checked += len(data)
                self._moved.set()
                while self._closed and self._held > LAG and not self._abandoned:  # before that, `_is_ahead` keeps it low
                    self._taken.clear()
                    await self._taken.wait()
            elif self._complete:
                return
            else:
                self._more.clear()
                await self._more.wait()

    async def abandon(self) -> None:
        """Close and remove what was created, as far as the server still answers. Never raises Status or Lost."""
        self._abandoned = True
        self._more.set()
        self._taken.set()
        if self._reader is not None:
            # This is not cancelled, because the server keeps the bytes of a removed file while its handle is open.
            await asyncio.wait([self._reader])
            self._reader.exception()
        if self._flusher is not None:
            await self._flusher
        await self._let_go()
        with suppress(Status, Lost):
            if self._handle is not None:
                handle, self._handle = self._handle, None
                await self._wire.close(handle)
        with suppress(Status, Lost):
            if self.created:
                await self._wire.remove(self._path)

    async def _let_go(self) -> None:
        """Close the handle that `_whole` reads through."""
        if self._reopening is not None:
            reopening, self._reopening = self._reopening, None
            with suppress(Status, Lost):
                await self._wire.close(await self._wire.opened(reopening))
