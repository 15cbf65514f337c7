"""How long `waybill serve` waits for a client that is slow or never finishes what it began. docs/security.md names the limits."""

from __future__ import annotations

import asyncio
from typing import Any

HEADERS_SECONDS = 10.0
"""Seconds from the beginning of a connection, or the first byte of a further request, to the end of its headers."""

BODY_SECONDS = 30.0
"""Seconds from the end of the headers to the end of a body, which has 256 KiB at most."""

STALL_SECONDS = 30.0
"""Seconds without room for the next 64 KiB of an answer: the client reads next to nothing."""

LARGEST_HEADERS = 64 * 1024
"""Bytes of a request besides its body: its first line, its headers, the sizes of chunks and what follows the last chunk. A read or two may
come on top."""

CONNECTIONS = 1000
DOWNLOADS = 20
"""Downloads at once of one tenant."""

_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class _Patience(asyncio.Protocol):
    """A base to mix in before one of uvicorn's HTTP protocols. It uses their `cycle` (the current request) and `transport`."""

    cycle: Any
    transport: Any

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._stalled: asyncio.TimerHandle | None = None
        self._awaited, self._late = "", None
        self._beside_the_body = 0
        self._expect()

    def data_received(self, data: bytes) -> None:
        self._beside_the_body += len(data)
        super().data_received(data)
        if self._beside_the_body > LARGEST_HEADERS and not self.transport.is_closing():
            self._give_up(_TOO_LARGE)
        self._expect()

    def on_body(self, body: bytes) -> None:
        self._beside_the_body -= len(body)
        super().on_body(body)  # type: ignore[misc]

    def on_message_complete(self) -> None:
        self._beside_the_body = 0
        super().on_message_complete()  # type: ignore[misc]

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stalled is None:
            self._stalled = asyncio.get_running_loop().call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stalled = _cancelled(self._stalled)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stalled, self._late = _cancelled(self._stalled), _cancelled(self._late)
        super().connection_lost(exc)

    _late: asyncio.TimerHandle | None

    def _expect(self) -> None:
        """Give the next thing that is awaited its time. What is awaited already keeps the time it has."""
        if self.cycle is None or self.cycle.response_complete:
            awaited, seconds = "headers", HEADERS_SECONDS
        else:
            awaited, seconds = ("body", BODY_SECONDS) if self.cycle.more_body else ("", 0.0)
        if awaited != self._awaited:
            self._awaited, self._late = awaited, _cancelled(self._late)
            if awaited and not self.transport.is_closing():
                self._late = asyncio.get_running_loop().call_later(seconds, self._give_up)

    def _give_up(self, answer: bytes = _TOO_SLOW) -> None:
        if self.cycle is None or not getattr(self.cycle, "response_started", False) or self.cycle.response_complete:
            self.transport.write(answer)
        self.transport.close()


def _cancelled(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Stop the timer."""
    if timer is not None:
        timer.cancel()
    return None


def protocol() -> type[asyncio.Protocol]:
    """Return uvicorn's own choice of HTTP protocol, with these limits."""
    from uvicorn.protocols.http import auto

    return type("PatientProtocol", (_Patience, auto.AutoHTTPProtocol), {})
