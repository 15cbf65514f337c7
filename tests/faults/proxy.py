"""A TCP proxy that cuts or stalls connections after an exact number of bytes, one way or the other."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.servers.process import free_port


@dataclass
class Proxy:
    """`limits` are bytes let through from the client ("up") and from the server ("down"), over all connections together.

    What comes after is cut off, kept for ever (`stall`), or kept until the limit is raised (`waits`). `passed` counts what went through.
    """

    target: int
    port: int = field(default_factory=free_port)
    limits: dict[str, int | None] = field(default_factory=lambda: {"up": None, "down": None})
    stall: bool = False
    waits: bool = False
    passed: dict[str, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    _open: list[socket.socket] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def _share(self, way: str, size: int) -> int:
        """How many of `size` bytes may pass."""
        with self._lock:
            limit = self.limits[way]
            allowed = size if limit is None else max(0, min(size, limit - self.passed[way]))
            self.passed[way] += allowed
            return allowed

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            self._open += [client, server]
            for way, first, other in (("up", client, server), ("down", server, client)):
                threading.Thread(target=self._pump, args=(way, first, other), daemon=True).start()

    def _pump(self, way: str, near: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(65536):
                allowed = self._share(way, len(data))
                other.sendall(data[:allowed])
                while self.waits and allowed < len(data):
                    time.sleep(0.02)
                    more = self._share(way, len(data) - allowed)
                    other.sendall(data[allowed : allowed + more])
                    allowed += more
                if allowed < len(data) and not self.stall:
                    break
        if not self.stall:
            for end in (near, other):
                _close(end)

    def close(self) -> None:
        for end in self._open:
            _close(end)


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@contextlib.contextmanager
def proxied(target: int, **limits: int | None) -> Iterator[Proxy]:
    """A proxy in front of a port of this machine, for the length of the block."""
    proxy = Proxy(target)
    proxy.limits |= limits
    with socket.create_server(("127.0.0.1", proxy.port)) as listener:
        thread = threading.Thread(target=proxy.serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            proxy.close()
