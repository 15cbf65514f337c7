"""Ends the servers of a test run that could not do so itself: killed, or ended while it cleaned up.

    python -S guardian.py SESSION < PIPE

SESSION is the run's own.

The run writes a line for each process it starts and each folder it makes, and another when that is gone. When the pipe closes the run
has ended, in whatever way. What is left then is killed, with everything it started, and removed.

What was started in another way, such as by the demo that a test runs, is not told. It is known by a variable that it inherited, `MARK`.
A process that gives itself another title, as Airflow's do, writes over its variables. It is known by its session, where others are marked.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

MARK = "RUN_OF_TESTS"


@cache
def _guardian(run: int) -> subprocess.Popen[str]:
    """The guardian of process `run`: one that was forked off has its own."""
    argv = [sys.executable, "-I", "-S", __file__, str(os.getsid(run))]
    unmarked = {name: value for name, value in os.environ.items() if name != MARK}
    return subprocess.Popen(argv, stdin=subprocess.PIPE, text=True, cwd="/", env=unmarked, start_new_session=True)


def mark() -> None:
    """Let what is started from now on be known as this run's, by whatever means it is started."""
    os.environ[MARK] = secrets.token_hex(16)
    tell("marked", os.environ[MARK])


def tell(word: str, what: int | str | Path) -> None:
    """`started` or `ended` with a process id, `made` or `removed` with a folder, `marked` with what `MARK` holds."""
    pipe = _guardian(os.getpid()).stdin
    assert pipe is not None
    pipe.write(f"{word} {what}\n")
    pipe.flush()


def _facts(pid: int | str) -> list[str]:
    """What /proc says of a process from its state on; nothing when it is gone. A zombie is gone."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
    return [] if facts[0] == "Z" else facts


def _began(pid: int | str) -> str:
    return next(iter(_facts(pid)[19:20]), "")


def _marked(pid: str, marks: set[bytes]) -> bool:
    with contextlib.suppress(OSError):
        return not marks.isdisjoint(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    return False


def _family(pids: set[int], marks: set[bytes], own: int) -> set[int]:
    """The processes, those with a mark, their sessions but the run's own, and everything they started that still has its parent."""
    above: dict[int, set[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (facts := _facts(entry.name)):
            above[int(entry.name)] = {int(entry.name), int(facts[1]), int(facts[3])}
            if _marked(entry.name, marks):
                pids = pids | {int(entry.name), int(facts[3])} - {own}
    found: set[int] = set()
    while more := {pid for pid, names in above.items() if pid not in found and names & (found | pids)}:
        found |= more
    return found


def guard(own: int) -> None:
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    left: dict[str, str] = {}
    marks: set[bytes] = set()
    for line in sys.stdin:
        word, _, what = line.rstrip("\n").partition(" ")
        if word == "marked":
            marks.add(f"{MARK}={what}".encode())
        elif word in ("started", "made"):
            left[what] = _began(what) if word == "started" else ""
        else:
            left.pop(what, None)
    # The system may have given the number of a process to somebody else since.
    pids = {int(what) for what, began in left.items() if began and _began(what) in ("", began)}
    while alive := _family(pids, marks, own):
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    for what in left:
        if not what.isdigit():
            shutil.rmtree(what, ignore_errors=True)


if __name__ == "__main__":
    guard(int(sys.argv[1]))
