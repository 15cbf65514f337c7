"""A mail server for demonstrations. It accepts everything on loopback and keeps each mail as a file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from uuid import uuid4


class _Session(StreamRequestHandler):
    folder: Path

    def handle(self) -> None:
        self._say("220 demo")
        for line in self.rfile:
            match line[:4].strip().upper():
                case b"DATA":
                    self._say("354 go on")
                    self._keep()
                    self._say("250 kept")
                case b"QUIT":
                    self._say("221 bye")
                    return
                case _:
                    self._say("250 fine")

    def _keep(self) -> None:
        lines = []
        for line in self.rfile:
            if line == b".\r\n":
                break
            lines.append(line[1:] if line.startswith(b"..") else line)
        (self.folder / f"{uuid4().hex}.eml").write_bytes(b"".join(lines))

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@contextmanager
def serve_mailbox(folder: Path) -> Iterator[int]:
    """Yield the port of a server that keeps mail in `folder`, for the length of a block."""
    folder.mkdir()
    session = type("Session", (_Session,), {"folder": folder})
    with ThreadingTCPServer(("127.0.0.1", 0), session) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
