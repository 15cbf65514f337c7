"""SFTP through a pipe to OpenSSH's own client, for large files.

Its cryptography costs a third of asyncssh's, and it has a process, so a core, of its own. It logs in with what the connection says and with
nothing else of this machine: no configuration, no agent, no other key. Secrets reach it through files that exist in memory alone.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import ceil
from typing import IO, cast

import asyncssh

from waybill.destinations.sftp.login import Settings
from waybill.destinations.sftp.packets import Lost, Status
from waybill.destinations.sftp.wire import Wire

_PIPE = 1 << 20
"""The capacity of the pipes. It is the most that Linux grants an account that is not root."""

_ALIAS = "pinned"
_OPTIONS = {
    "AddKeysToAgent": "no",
    "CheckHostIP": "no",
    "ClearAllForwardings": "yes",
    "ConnectionAttempts": "1",
    "ControlPath": "none",
    "EscapeChar": "none",
    "GlobalKnownHostsFile": "/dev/null",
    "HostKeyAlias": _ALIAS,
    "IdentitiesOnly": "yes",
    "IdentityAgent": "none",
    "KexAlgorithms": "-*-sha1",
    "LogLevel": "ERROR",
    "MACs": "-*sha1*,umac-64*",
    "NumberOfPasswordPrompts": "1",
    "ServerAliveInterval": "30",
    "StrictHostKeyChecking": "yes",
    "UpdateHostKeys": "no",
}


async def open_client(chosen: Settings) -> Wire:
    """Open a channel with a login of its own. Raises Lost or OSError if there cannot be one."""
    program = shutil.which("ssh")
    if program is None or sys.platform != "linux":
        raise Lost("no OpenSSH client is installed" if program is None else "only Linux has files in memory")
    if not _is_taken_whole(chosen.password):
        raise Lost("it would take only a part of the password")  # and a wrong login may lock the account
    with in_memory() as memory:
        output = memory.file(b"")
        argv, environment = command_of(program, chosen, memory)
        pipe = subprocess.PIPE
        process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=output, env=environment, bufsize=0, start_new_session=True)
        wire = Wire(chosen.stall_seconds)
        client = _Client(process, wire)
        try:
            async with asyncio.timeout(chosen.connect_seconds + chosen.login_seconds):
                await client.start()
                wire.largest_write = (await wire.start())[1]
        except BaseException as error:
            client.abort()
            if isinstance(error, Lost | Status | TimeoutError):
                reason = os.pread(output, 1000, 0).decode(errors="replace").strip()
                raise Lost(f"OpenSSH's client did not log in: {reason or str(error) or 'no answer in time'}") from error
            raise
    return wire


def _is_taken_whole(password: str) -> bool:
    """Return whether the client reads all of it: one line of at most 1023 bytes."""
    return len(password.encode()) < 1024 and not {"\n", "\r"} & set(password)


class _Memory:
    """Files in memory, and the names under which another process of this account can open them."""

    def __init__(self) -> None:
        self.open: list[int] = []

    def file(self, content: bytes, mode: int = 0o600) -> int:
        number = os.memfd_create("waybill")
        self.open.append(number)
        os.fchmod(number, mode)
        os.write(number, content)
        return number

    def path(self, content: bytes) -> str:
        return _path(self.file(content))

    def program(self, content: bytes) -> str:
        """A script. It is open for reading alone, because Linux does not run a file that can still be written."""
        writing = self.file(content, 0o700)
        self.open.append(os.open(f"/proc/self/fd/{writing}", os.O_RDONLY))
        self.open.remove(writing)
        os.close(writing)
        return _path(self.open[-1])


def _path(number: int) -> str:
    return f"/proc/{os.getpid()}/fd/{number}"


@contextmanager
def in_memory() -> Iterator[_Memory]:
    memory = _Memory()
    try:
        yield memory
    finally:
        for number in memory.open:
            os.close(number)


def command_of(program: str, chosen: Settings, memory: _Memory) -> tuple[list[str], dict[str, str]]:
    pins = b"".join(b"%s %s" % (_ALIAS.encode(), pin.export_public_key("openssh")) for pin in chosen.pins)
    options = _OPTIONS | {
        "BatchMode": "no" if chosen.password else "yes",
        "Ciphers": ",".join(chosen.ciphers),
        "ConnectTimeout": str(ceil(chosen.connect_seconds)),
        "UserKnownHostsFile": memory.path(pins),
    }
    ways, environment = [], {"PATH": os.defpath}
    if chosen.keys:
        ways.append("publickey")
        options["IdentityFile"] = memory.path(_exported(chosen.keys[0]))  # the one the server took
    if chosen.password:
        ways += ["password", "keyboard-interactive"]
        asked = memory.program(f"#!/bin/sh\nexec cat {memory.path(chosen.password.encode())}\n".encode())
        environment |= {"SSH_ASKPASS": asked, "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":0"}
    options["PreferredAuthentications"] = ",".join(ways)
    argv = [program, "-F", "none", "-a", "-x", "-T", "-l", chosen.login, "-p", str(chosen.port)]
    argv += [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    return [*argv, "-s", "--", chosen.address or chosen.host, "sftp"], environment


def _exported(key: asyncssh.SSHKey) -> bytes:
    try:
        return key.export_private_key("openssh")
    except asyncssh.KeyExportError:
        # The cause is not chained, because what a library says of a key may quote the key.
        raise Lost("the private key cannot be handed to OpenSSH's client") from None


class _Client(asyncio.Protocol):
    """The process in the form of a wire's channel. What the wire writes goes into one pipe, and what comes out of the other goes to the
    wire.
    """

    def __init__(self, process: subprocess.Popen[bytes], wire: Wire) -> None:
        self._process, self._wire = process, wire
        self._into, self._from = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
        self._loop = asyncio.get_running_loop()
        self._outgoing: deque[memoryview] = deque()
        self._reading: asyncio.ReadTransport | None = None
        for pipe in (self._into, self._from):
            with suppress(OSError):  # an account may hold only so much in pipes
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)
        os.set_blocking(self._into.fileno(), False)

    async def start(self) -> None:
        self._reading, _ = await self._loop.connect_read_pipe(lambda: self, self._from)
        self._wire.connection_made(self)

    def write(self, data: bytes) -> None:
        if not self._outgoing:
            self._loop.add_writer(self._into, self._drain)
        self._outgoing.append(memoryview(data))

    def _drain(self) -> None:
        try:
            while self._outgoing:
                block = self._outgoing[0]
                sent = os.write(self._into.fileno(), block)
                if sent < len(block):
                    self._outgoing[0] = block[sent:]
                    return
                self._outgoing.popleft()
        except BlockingIOError:
            return
        except OSError:
            self._wire.give_up(Lost("the connection was lost"))
            return
        self._loop.remove_writer(self._into)

    def data_received(self, data: bytes) -> None:
        self._wire.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wire.connection_lost(exc)

    def abort(self) -> None:
        """End the process and wait for it, so that it leaves nothing behind."""
        if self._into.closed:
            return
        self._loop.remove_writer(self._into)
        self._into.close()
        (self._reading or self._from).close()
        self._process.kill()
        self._process.wait()
