"""Reads bytes from an SFTP server, several requests ahead of their use."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

from waybill.destinations.sftp.packets import READ, Kind, Lost, Status
from waybill.destinations.sftp.wire import Answer, Wire

READS = 8


class ReadAhead:
    """Reads of one open file. They are requested in order and ahead of their use."""

    def __init__(self, wire: Wire, handle: bytes, block: int, start: int = 0) -> None:
        self._wire = wire
        self._handle = handle
        self._block = block
        self._pending: deque[tuple[int, int, asyncio.Future[Answer]]] = deque()
        self.asked = start

    def __bool__(self) -> bool:
        return bool(self._pending)

    def ask(self, end: int, *, whole: bool) -> None:
        """Ask for the bytes before `end`. With `whole`, only full blocks are asked for."""
        while self.asked < end and len(self._pending) < READS:
            count = min(self._block, end - self.asked)
            if whole and count < self._block:
                return
            self._pending.append((self.asked, count, self._wire.read(self._handle, self.asked, count)))
            self.asked += count

    async def take(self) -> tuple[memoryview, bool]:
        """Return the next bytes, and whether all that was asked for came (False: the file ends here)."""
        offset, count, future = self._pending.popleft()
        data = await self._wire.data(future)
        while len(data) < count:
            more = await self._wire.data(self._wire.read(self._handle, offset + len(data), count - len(data)))
            if not more:
                return data, False
            data = memoryview(b"".join((data, more)))
        return data, True


class Download:
    """An open file. It is read from its beginning to the size that it had when it was opened."""

    def __init__(self, wire: Wire, handle: bytes, size: int, block: int) -> None:
        self._wire = wire
        self._handle = handle
        self._size = size
        self._ahead = ReadAhead(wire, handle, block)

    @classmethod
    async def start(cls, wire: Wire, path: str, block: int) -> Download:
        handle = await wire.open(path, READ)
        try:
            facts = await wire.attributes(Kind.FSTAT, handle)
        except Status:  # some servers forbid the question about an open file, and answer the one about its name
            facts = await wire.attributes(Kind.LSTAT, path)
        return cls(wire, handle, (facts.size if facts else None) or 0, block)

    async def more(self) -> bytes:
        """Return the next few blocks. They are empty at the end."""
        taken: list[memoryview] = []
        self._ahead.ask(self._size, whole=False)
        while self._ahead and len(taken) < READS:
            data, complete = await self._ahead.take()
            taken.append(data)
            if not complete:
                self._size = self._ahead.asked
            self._ahead.ask(self._size, whole=False)
        return b"".join(taken)

    async def close(self) -> None:
        with suppress(Status, Lost):
            await self._wire.close(self._handle)
