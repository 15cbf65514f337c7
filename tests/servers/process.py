"""Starting a server process, waiting until it serves, and ending it for certain."""

import contextlib
import functools
import itertools
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.servers.guardian import tell

START_SECONDS = 180.0
STOP_SECONDS = 15.0


class ServerDidNotStart(RuntimeError):
    def __init__(self, argv: Sequence[str], reason: str, log: Path) -> None:
        self.log = log
        super().__init__(f"{argv[0]} did not start: {reason}\n--- end of {log}\n{tail(log)}")


@dataclass(frozen=True)
class Account:
    """The operating system's account a server runs as."""

    name: str
    uid: int
    gid: int

    def own(self, *paths: Path) -> None:
        if os.getuid() == 0:
            for path in paths:
                os.chown(path, self.uid, self.gid)


def current_account() -> Account:
    entry = pwd.getpwuid(os.getuid())
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def ordinary_account(*preferred: str) -> Account:
    """The current account, or for root the first preferred one that exists: many servers refuse to run as root."""
    if os.getuid() != 0:
        return current_account()
    for name in (*preferred, "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise RuntimeError("root needs another account to run this server as; tried " + ", ".join((*preferred, "nobody")))


def program(name: str, *folders: str) -> str:
    """The path of an installed program; sbin and the given folders are searched although they are often not on PATH."""
    places = [*folders, *os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin", "/sbin", "/usr/local/sbin"]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        raise FileNotFoundError(f"{name} is not installed; `.ci/system-packages tests` installs what the tests need")
    return found


_PORTS = range(12_000, 32_000, 400)
"""The first ports of blocks below those that the kernel gives to clients and to servers that ask for any port."""


@functools.cache
def _ports(process: int) -> tuple[Iterator[int], socket.socket]:
    """The ports of a block that no other process of tests uses: it is held by a socket with a name, for as long as this process lives."""
    for first in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        held = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError):
            held.bind(f"\0waybill-test-ports-{first}")
            return itertools.cycle(range(first, first + _PORTS.step)), held
        held.close()
    raise RuntimeError("other runs of tests use every block of ports")


def free_port() -> int:
    """A port that stays free until it is bound, because nobody else is given it: neither a client, nor another process of tests."""
    for port in _ports(os.getpid())[0]:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # servers do so, too: closed connections keep no port
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("a cycle does not end")


def listening(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def tail(path: Path, lines: int = 40) -> str:
    if not path.exists():
        return "(no log)"
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


@contextlib.contextmanager
def scratch(name: str, account: Account | None = None) -> Iterator[Path]:
    """A folder with a short path (unix sockets allow about 100 characters), reachable and owned by `account`."""
    folder = Path(tempfile.mkdtemp(prefix=f"waybill-{name}-")).resolve()
    tell("made", folder)
    try:
        if account is not None:
            account.own(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        tell("removed", folder)


def spawn(
    argv: Sequence[str],
    *,
    log: Path,
    account: Account | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, its output appended to `log`; as root it gives up its rights for those of `account`.

    It ends with this process at the latest, however that ends.
    """
    drop = {} if account is None or os.getuid() != 0 else {"user": account.uid, "group": account.gid, "extra_groups": [account.gid]}
    with log.open("ab") as output:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=cwd, env=env, start_new_session=True, **drop
        )
    tell("started", process.pid)
    return process


def wait_until_ready(process: subprocess.Popen[bytes], ready: Callable[[], bool], log: Path, seconds: float = START_SECONDS) -> None:
    argv = [str(part) for part in process.args] if isinstance(process.args, list) else [str(process.args)]
    deadline = time.monotonic() + seconds
    while True:
        code = process.poll()
        if code is not None:
            raise ServerDidNotStart(argv, f"it ended with status {code}", log)
        if ready():
            return
        if time.monotonic() > deadline:
            raise ServerDidNotStart(argv, f"not ready after {seconds:g} s", log)
        time.sleep(0.02)


def end(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM) -> None:
    """End a process and whatever it started: asked first, killed after a few seconds."""
    if process.poll() is None:
        process.send_signal(how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(STOP_SECONDS)
    tell("ended", process.pid)


@contextlib.contextmanager
def running(
    argv: Sequence[str],
    *,
    ready: Callable[[], bool],
    log: Path,
    account: Account | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[subprocess.Popen[bytes]]:
    """A server for the length of the block, ready when the block begins."""
    process = spawn(argv, log=log, account=account, env=env, cwd=cwd)
    try:
        wait_until_ready(process, ready, log)
        yield process
    finally:
        end(process, stop)
