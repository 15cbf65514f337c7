"""What a program costs: elapsed seconds, processor seconds and peak memory, its children counted in."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_LAUNCHER = """
import json, os, sys, time
began = time.perf_counter()
child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, used = os.wait4(child, 0)
cost = [time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, os.waitstatus_to_exitcode(status)]
with open(sys.argv[1], "w") as file:
    json.dump(cost, file)
"""


class Failed(RuntimeError):
    """A program that is compared with ended in an error; the message holds the last line it said, all goes to standard error."""


@dataclass(frozen=True)
class Cost:
    seconds: float
    cpu: float
    megabytes: float


def measured(argv: Sequence[str], scratch: Path, environment: Mapping[str, str] | None = None) -> Cost:
    """Run a program to its end. Raises Failed.

    The kernel counts a new program's memory from that of the process it was started from, so a bare Python starts it.
    """
    told = scratch / "cost.json"
    launched = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(told), *argv]
    done = subprocess.run(launched, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise Failed(done.stderr[-2000:])
    seconds, cpu, megabytes, status = json.loads(told.read_text())
    if status != 0:
        said = (done.stderr + done.stdout).strip()
        print(said[-4000:], file=sys.stderr)
        raise Failed(f"{Path(argv[0]).name} ended with {status}: {said.splitlines()[-1] if said else 'no word'}")
    return Cost(seconds, cpu, megabytes)
