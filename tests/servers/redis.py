"""Redis as docker-compose.yaml starts it: append-only, nothing evicted, a password."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.servers.process import end, listening, program, spawn, wait_until_ready


class Redis:
    """A server that can be killed and started again on the same folder, as faults need it."""

    def __init__(self, folder: Path, port: int, options: Sequence[str]) -> None:
        self.port = port
        self.folder = folder
        self._options = list(options)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = self.folder / "redis.log"
        argv = [program("redis-server"), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder), *self._options]
        self._process = spawn(argv, log=log, cwd=self.folder)
        wait_until_ready(self._process, lambda: listening(self.port), log)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            end(self._process, how)
            self._process = None
