"""A real HTTP server that keeps what it is sent, and answers as it is told."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""What `verify` gets where httpx talks plain HTTP: for each client and call, it reads all certificates of this machine."""


@dataclass(frozen=True)
class Call:
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class HttpServer:
    """`answers` are used up one by one, then it is 204. `location` is where an answer of 3xx leads."""

    received: list[Call] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    location: str = ""
    url: str = ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0


@contextlib.contextmanager
def handled_by(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve on a free port, and yield the address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def serve_http() -> Iterator[HttpServer]:
    kept = HttpServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            kept.received.append(Call(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(kept.answers.pop(0) if kept.answers else 204)
            if kept.location:
                self.send_header("location", kept.location)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *words: object) -> None:
            return None

    with handled_by(Handler) as url:
        kept.url = url
        yield kept
