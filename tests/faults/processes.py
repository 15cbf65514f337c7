"""The tests' side of `launcher`: start `waybill` processes, hold, kill, limit and await them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers.process import end, program, scratch, spawn, tail

REPOSITORY = Path(__file__).resolve().parents[2]
RUN_SECONDS = 600.0


@dataclass(frozen=True)
class Finished:
    """`status` is the exit code, negative for the signal that ended it. `calls` are the changing system calls, when it was traced."""

    status: int
    out: str
    err: str
    calls: list[str]

    @property
    def said(self) -> str:
        return self.out + self.err


@dataclass
class Running:
    """One started process."""

    pid: int
    _socket: socket.socket
    _stream: Any
    _out: Path
    _err: Path
    _facts: dict[str, Any] = field(default_factory=dict)

    def _next(self, name: str, seconds: float) -> Any:
        self._socket.settimeout(seconds)
        while name not in self._facts:
            line = self._stream.readline()
            if not line:
                raise RuntimeError(f"the launcher went away while {name} was awaited\n{self._err.read_text()}")
            self._facts |= json.loads(line)
            if "status" in self._facts and name not in self._facts:
                raise RuntimeError(f"the run ended before it was {name}: {self._out.read_text()}{self._err.read_text()}")
        return self._facts[name]

    def held(self, seconds: float = RUN_SECONDS) -> str:
        """Wait until the run stands before the call it was to be held at."""
        return str(self._next("held", seconds))

    def go(self) -> None:
        """Let a held run go on."""
        self._stream.write("\n")
        self._stream.flush()

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, seconds: float = RUN_SECONDS) -> Finished:
        try:
            status = self._next("status", seconds)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            raise
        finally:
            self._stream.close()
            self._socket.close()
        return Finished(status, _text(self._out), _text(self._err), self._facts.get("calls", []))


def _await_status(pid: int, words: str) -> None:
    deadline = time.monotonic() + 180
    while words not in Path(f"/proc/{pid}/status").read_text():
        if time.monotonic() > deadline:
            raise RuntimeError(f"process {pid} does not come to {words!r}")
        time.sleep(0.005)


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


class Launcher:
    """See `launcher`. Safe to use from several threads."""

    def __init__(self, address: Path, folder: Path, pid: int) -> None:
        self._address = address
        self._pid = pid
        self._folder = folder
        self._tracers: list[subprocess.Popen[bytes]] = []

    @contextlib.contextmanager
    def of(self, product: Path) -> Iterator[Launcher]:
        """A launcher for another source tree of the product, for the length of the block. It imports that once for all its runs."""
        address = self._folder.parent / f"{time.monotonic_ns():x}"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(RUN_SECONDS)
            connection.connect(str(self._address))
            connection.sendall(json.dumps({"product": str(product), "address": str(address)}).encode() + b"\n")
            if not connection.recv(1):
                raise RuntimeError(f"{product} cannot be imported: the launcher's log says why")
            yield Launcher(address, self._folder, self._pid)

    def close(self) -> None:
        for tracer in self._tracers:
            tracer.wait(120)

    def start(
        self,
        root: Path,
        *argv: str,
        env: Mapping[str, str] = {},
        kill_at: int | None = None,
        hold: str = "",
        trace: bool = False,
        inject: str = "",
        only: str = "",
        limits: Mapping[str, int] = {},
    ) -> Running:
        """Start `waybill ARGV` on the installation below `root`.

        `kill_at` kills it before its nth changing system call; `hold` stops its thread before the first call whose description matches;
        `inject` has strace tamper with calls, as in `fsync:error=EIO:when=2`, with `only` those that name that path;
        `limits` are resource limits by name (`RLIMIT_NOFILE`).
        """
        serial = f"{time.monotonic_ns():x}"
        out, err = self._folder / f"{serial}.out", self._folder / f"{serial}.err"
        wanted = {
            "cwd": str(root),
            "argv": argv,
            "env": {"PATH": os.environ["PATH"], "HOME": str(root), "TZ": "UTC", "WAYBILL_CONFIG_DIR": str(root / "config"), **env},
            "out": str(out),
            "err": str(err),
            "trace": trace or bool(kill_at or hold),
            "kill_at": kill_at,
            "hold": hold,
            "stopped": bool(inject),
            "limits": dict(limits),
        }
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self._address))
        stream = connection.makefile("rw", encoding="utf-8")
        stream.write(json.dumps(wanted) + "\n")
        stream.flush()
        running = Running(0, connection, stream, out, err)
        running.pid = running._next("pid", RUN_SECONDS)
        if inject:
            self._attach(running.pid, inject, only)
        return running

    def _attach(self, pid: int, inject: str, only: str) -> None:
        """strace on a process that waits for it; strace ends with the process."""
        _await_status(pid, "State:\tT")
        log = self._folder.parent / f"strace.{pid}"
        argv = [program("strace"), "-f", "-q", "-p", str(pid), "-e", f"trace={inject.partition(':')[0]}", "-e", f"inject={inject}"]
        argv += ["-P", only] if only else []
        with log.open("wb") as output:
            strace = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self._tracers.append(strace)
        _await_status(pid, f"TracerPid:\t{strace.pid}\n")
        os.kill(pid, signal.SIGCONT)

    def run(self, root: Path, *argv: str, **options: Any) -> Finished:
        return self.start(root, *argv, **options).wait()

    def memory(self) -> int:
        """Bytes of address space a run begins with."""
        return int(Path(f"/proc/{self._pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def launching() -> Iterator[Launcher]:
    """A launcher for the length of the block."""
    with scratch("launcher") as folder:
        outputs, address, log = folder / "runs", folder / "socket", folder / "log"
        outputs.mkdir()
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": f"{REPOSITORY / 'include'}{os.pathsep}{REPOSITORY}"}
        process = spawn([sys.executable, "-m", "tests.faults.launcher", str(address)], log=log, env=env, cwd=folder)
        try:
            _await(process, address, log)
            launcher = Launcher(address, outputs, process.pid)
            yield launcher
            launcher.close()
        finally:
            end(process)


def _await(process: subprocess.Popen[bytes], address: Path, log: Path) -> None:
    deadline = time.monotonic() + 180
    while True:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(address))
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the launcher did not start\n{tail(log)}")
        time.sleep(0.02)
