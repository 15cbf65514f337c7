"""Kills the command before its Nth changing system call: `python -m tests.consumer.killer N ARGUMENT...`, in a process of its own.

Prints the calls up to there as JSON, all of them for N = 0. `N:END` counts only the calls whose description ends like that.
"""

from __future__ import annotations

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
    number, _, end = sys.argv[1].partition(":")
    print(json.dumps(kill(int(number), end, sys.argv[2:])))
