"""A real StatsD listener: it keeps every packet that arrives."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Metric:
    """`kind`: c, g or ms. `tags` as InfluxDB's StatsD writes them, behind the name."""

    name: str
    value: float
    kind: str
    tags: dict[str, str]


@dataclass
class StatsdListener:
    port: int
    received: list[Metric] = field(default_factory=list)

    def wait(self, name: str, seconds: float = 30.0) -> list[Metric]:
        """Everything that came, once a metric of this name is among it."""
        until = time.monotonic() + seconds
        while not any(message.name == name for message in self.received):
            if time.monotonic() > until:
                raise TimeoutError(f"no {name} among {sorted({message.name for message in self.received})}")
            threading.Event().wait(0.02)
        return list(self.received)


def _parsed(line: str) -> Metric:
    found = re.fullmatch(r"([^,:]+)((?:,[^=,]+=[^,:]*)*):([-+0-9.e]+)\|(c|g|ms)(?:\|@[0-9.]+)?", line)
    if found is None:
        raise ValueError(f"not a StatsD line: {line!r}")
    tags = dict(part.split("=", 1) for part in found[2].split(",") if part)
    return Metric(found[1], float(found[3]), found[4], tags)


@contextlib.contextmanager
def serve_statsd() -> Iterator[StatsdListener]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        kept = StatsdListener(listener.getsockname()[1])

        def listen() -> None:
            while packet := listener.recv(65_536):
                kept.received.extend(_parsed(line) for line in packet.decode().splitlines())

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield kept
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", ("127.0.0.1", kept.port))  # an empty packet ends the listener
            thread.join()
