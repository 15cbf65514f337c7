"""Several SFTP channels on one SSH connection, for many files at once.

A server answers the requests of one channel one after the other, and fsync is one of them. Further channels cost no login. Each has a
process of its own on the server, so their fsyncs reach the disk together. If a server allows only one channel, one is used. Large files go
through OpenSSH's client with a login of its own, if it is installed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import asyncssh

from waybill.destinations.sftp.login import Settings, open_channel
from waybill.destinations.sftp.openssh import open_client
from waybill.destinations.sftp.packets import Lost
from waybill.destinations.sftp.wire import Wire

MOST_CHANNELS = 4
"""The most channels of one connection. How many tasks connect to a destination at once is another number: `connections` in
`configuration/policy`.
"""

FULL_CHANNEL = 3
"""The number of files at once on each channel before another one is opened."""

_OPENING_SECONDS = 10.0
_SILENCE_SECONDS = 0.25
"""How long one address of a name may be silent before the next is tried beside it (RFC 8305)."""

_log = logging.getLogger(__name__)


class Channels:
    """The channels of one session, and the number of files on each."""

    def __init__(self, loop: asyncio.AbstractEventLoop, chosen: Settings, connection: asyncssh.SSHClientConnection, first: Wire) -> None:
        self._loop = loop
        self._chosen = chosen
        self._connection = connection
        self._busy = {first: 0}
        self._may_grow = True
        self._lock = threading.Lock()
        self._client: Wire | None = None
        self._may_log_in = True
        self._logging_in = threading.Lock()

    @contextmanager
    def lane(self) -> Iterator[Wire]:
        """Give the least busy channel to one file."""
        with self._lock:
            grow = self._may_grow and len(self._busy) < MOST_CHANNELS and min(self._busy.values()) >= FULL_CHANNEL
            if grow:
                self._may_grow = False  # one at a time; the others go on meanwhile
        if grow:
            self._grow()
        with self._lock:
            alive = {wire: count for wire, count in self._busy.items() if wire.is_open} or self._busy
            chosen = min(alive, key=alive.__getitem__)
            self._busy[chosen] += 1
        try:
            yield chosen
        finally:
            with self._lock:
                self._busy[chosen] -= 1

    def _grow(self) -> None:
        try:
            wire, _ = wait(self._loop, self._open())
        except (asyncssh.Error, Lost, OSError):
            return  # no more than there are
        with self._lock:
            self._busy[wire] = 0
            self._may_grow = True

    async def _open(self) -> tuple[Wire, int]:
        async with asyncio.timeout(_OPENING_SECONDS):
            return await open_channel(self._connection, self._chosen.stall_seconds)

    def client(self) -> Wire | None:
        """Return the channel for large files, which opens on first use, or None if there cannot be one."""
        with self._logging_in:
            if self._may_log_in and not (self._client and self._client.is_open):
                try:
                    self._client = wait(self._loop, open_client(self._chosen))
                except (Lost, OSError) as error:
                    self._may_log_in, self._client = False, None
                    _log.info("%s: large files take the slower way: %s", self._chosen.label, error)
            return self._client

    def give_up(self, reason: str) -> None:
        """This must be called in the loop's thread."""
        for wire in filter(None, (*self._busy, self._client)):
            wire.give_up(Lost(reason))


T = TypeVar("T")


@contextmanager
def running_loop(name: str) -> Iterator[asyncio.AbstractEventLoop]:
    """Yield a loop that runs in a thread for the length of the block. What still runs at the end is cancelled.

    Its connections reach a server at any of its addresses, also if another one swallows all that is sent there.
    """
    loop = asyncio.new_event_loop()
    loop.create_connection = partial(loop.create_connection, happy_eyeballs_delay=_SILENCE_SECONDS)  # type: ignore[method-assign]
    thread = threading.Thread(target=loop.run_forever, name=name, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(_cancel_the_rest())
        loop.close()


async def _cancel_the_rest() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


def wait(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`, which runs in the loop's thread. Interrupting the caller cancels it."""
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
