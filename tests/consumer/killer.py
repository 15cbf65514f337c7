"""Kills the command before its Nth changing system call, in a process of its own: `python -m tests.consumer.killer`.

Each line of the input is a JSON list of N and the command's arguments. It is answered by the calls up to there, all of them for N = 0.
`N:END` counts only the calls whose description ends like that. What the command imports is imported once: each run is a fork.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys

from tests.faults.tracer import Tracer, be_traced, end_with_parent
from waybill_consumer.cli import main


def kill(at: int, ending: str, arguments: list[str]) -> list[str]:
    pid = os.fork()
    if pid == 0:
        end_with_parent()
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        be_traced()
        try:
            main(arguments)
        except SystemExit as end:
            os._exit(end.code if isinstance(end.code, int) else 1)
        os._exit(0)

    counted = 0

    def before(_: int, call: str) -> None:
        nonlocal counted
        counted += call.endswith(ending)
        if counted == at and call.endswith(ending):
            os.kill(pid, signal.SIGKILL)

    tracer = Tracer(pid, before)
    status = tracer.run()
    if at == 0 and os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"the undisturbed run ended with {status}")
    return tracer.calls


if __name__ == "__main__":
    for name in ("duckdb", "psycopg", "zstandard"):
        importlib.import_module(name)
    for line in sys.stdin:
        at, *arguments = json.loads(line)
        number, _, end = at.partition(":")
        print(json.dumps(kill(int(number), end, arguments)), flush=True)
