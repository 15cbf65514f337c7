"""Stops a process before each system call that changes something, counted over all its threads.

strace can kill at the Nth call too, but counts per thread and per call: what a worker thread does after the main thread has done more of
the same is out of its reach. A seccomp filter sends exactly the changing calls here, and one counter covers them all, so every point of a
run can be tried. Runs in the parent of the traced process, whose only children are the traced process and what that starts.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

O_CREAT = os.O_CREAT

# Number on x86-64, number on the generic table (arm64, riscv64), index of the argument that names a path or -1 - index of a descriptor.
_CALLS: dict[str, tuple[int | None, int | None, int]] = {
    "open": (2, None, 0),
    "openat": (257, 56, 1),
    "creat": (85, None, 0),
    "write": (1, 64, -1),
    "writev": (20, 66, -1),
    "pwrite64": (18, 68, -1),
    "pwritev": (296, 70, -1),
    "sendto": (44, 206, -1),
    "sendmsg": (46, 211, -1),
    "fsync": (74, 82, -1),
    "fdatasync": (75, 83, -1),
    "ftruncate": (77, 46, -1),
    "truncate": (76, 45, 0),
    "fallocate": (285, 47, -1),
    "rename": (82, None, 1),
    "renameat": (264, 38, 3),
    "renameat2": (316, 276, 3),
    "link": (86, None, 1),
    "linkat": (265, 37, 3),
    "symlink": (88, None, 1),
    "symlinkat": (266, 36, 2),
    "unlink": (87, None, 0),
    "unlinkat": (263, 35, 1),
    "mkdir": (83, None, 0),
    "mkdirat": (258, 34, 1),
    "rmdir": (84, None, 0),
    "chmod": (90, None, 0),
    "fchmod": (91, 52, -1),
    "utimensat": (280, 88, 1),
}
_COLUMN = 0 if platform.machine() == "x86_64" else 1
CALLS = {entry[_COLUMN]: (name, entry[2]) for name, entry in _CALLS.items() if entry[_COLUMN] is not None}
_FLAGS_OF_OPEN = {"open": 1, "openat": 2}

_TRACEME, _CONT, _SETOPTIONS, _SYSCALL_INFO = 0, 7, 0x4200, 0x420E
_OPTIONS = 0x02 | 0x04 | 0x08 | 0x10 | 0x80 | 0x100000  # fork, vfork, clone, exec, seccomp, kill when the tracer ends
_EVENT_SECCOMP = 7
_WALL = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, tid: int, address: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, tid, address, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def _filter() -> bytes:
    """A BPF program: trace the calls above (opening only where it may create), allow the rest."""
    allow, trace = 0x7FFF0000, 0x7FF00000
    steps: list[tuple[int, int, int, int]] = [(0x20, 0, 0, 0)]  # load the call's number
    for number, (name, _) in CALLS.items():
        flags = _FLAGS_OF_OPEN.get(name)
        if flags is None:
            steps += [(0x15, 0, 1, number), (0x06, 0, 0, trace)]
        else:
            steps += [(0x15, 0, 4, number), (0x20, 0, 0, 16 + 8 * flags), (0x45, 0, 1, O_CREAT), (0x06, 0, 0, trace), (0x06, 0, 0, allow)]
    steps.append((0x06, 0, 0, allow))
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def be_traced() -> None:
    """In the child: stop until the parent is ready, then have every changing call announced from here on."""
    _ptrace(_TRACEME, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
    code = _filter()
    buffer = ctypes.create_string_buffer(code)
    program = _Program(len(code) // 8, ctypes.addressof(buffer))
    if _libc.prctl(38, 1, 0, 0, 0) or _libc.prctl(22, 2, ctypes.byref(program), 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")


Released = Callable[[], bool]


def end_with_parent() -> None:
    """In a child: be killed when the parent ends, so that a failing test leaves nothing behind, not even a stopped process."""
    _libc.prctl(1, signal.SIGKILL, 0, 0, 0)


def wait_for_debugger() -> None:
    """In a child: let any process of this account attach (Yama allows only ancestors otherwise), and stop until it has."""
    _libc.prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)
    os.kill(os.getpid(), signal.SIGSTOP)


@dataclass
class Tracer:
    """`before` is called with (number of the call from 1, its description). It may kill the process, or return what tells when the thread
    that wants to make the call may go on; the other threads are not held up.
    """

    pid: int
    before: Callable[[int, str], Released | None]
    calls: list[str] = field(default_factory=list)
    _held: dict[int, Released] = field(default_factory=dict)

    def run(self) -> int:
        """Trace until the process has ended; its wait status."""
        os.waitpid(self.pid, _WALL)
        _ptrace(_SETOPTIONS, self.pid, 0, _OPTIONS)
        _ptrace(_CONT, self.pid)
        known = {self.pid}
        while True:
            tid, status = self._wait()
            if not os.WIFSTOPPED(status):
                if tid == self.pid:
                    return status
                continue
            if status >> 16 == _EVENT_SECCOMP and self._hold(tid):
                continue
            new = tid not in known
            known.add(tid)
            signalled = os.WSTOPSIG(status)
            _go_on(tid, 0 if status >> 16 or (new and signalled == signal.SIGSTOP) else signalled)

    def _wait(self) -> tuple[int, int]:
        while self._held:
            found = os.waitpid(-1, _WALL | os.WNOHANG)
            if found[0]:
                return found
            for tid in [tid for tid, released in self._held.items() if released()]:
                del self._held[tid]
                _go_on(tid, 0)
            time.sleep(0.001)
        return os.waitpid(-1, _WALL)

    def _hold(self, tid: int) -> bool:
        self.calls.append(_describe(tid))
        released = self.before(len(self.calls), self.calls[-1])
        if released is not None:
            self._held[tid] = released
        return released is not None


def _go_on(tid: int, signalled: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it was killed meanwhile
        _ptrace(_CONT, tid, 0, signalled)


def _describe(tid: int) -> str:
    """The call and what it is about, as in `linkat user.csv` or `pwrite64 ledger.db-wal`."""
    info = ctypes.create_string_buffer(128)
    if _libc.ptrace(_SYSCALL_INFO, tid, 128, ctypes.addressof(info)) < 0:
        return "?"
    number, *arguments = struct.unpack_from("=Q6Q", info.raw, 24)
    name, about = CALLS.get(number, (str(number), -1))
    return f"{name} {_text(tid, arguments[about]) if about >= 0 else _descriptor(tid, arguments[-1 - about])}"


def _text(tid: int, address: int) -> str:
    with contextlib.suppress(OSError), Path(f"/proc/{tid}/mem").open("rb", buffering=0) as memory:
        memory.seek(address)
        return memory.read(4096).split(b"\0")[0].decode(errors="replace")
    return "?"


def _descriptor(tid: int, number: int) -> str:
    with contextlib.suppress(OSError):
        return str(Path(f"/proc/{tid}/fd/{number & 0xFFFFFFFF}").readlink())
    return "?"
