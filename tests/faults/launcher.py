"""`waybill` processes that start in a few milliseconds: a server that has imported everything once and forks for each run.

    python -m tests.faults.launcher SOCKET

Each connection is one run: a JSON line with what to run, answered by `{"pid": ...}`, lines about traced calls, and `{"status": ...}`.
Or it is a server like this one over another source tree of the product, which ends with the connection.
What runs is the whole command line, `waybill.cli.app.main`, in a process of its own that signals and limits act on.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import re
import resource
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from tests.faults.tracer import Released, Tracer, be_traced, end_with_parent, wait_for_debugger


def serve(path: Path) -> None:
    gc.disable()
    _import([*DEPENDENCIES, *PRODUCT])
    # Airflow brings in the rest of what a connection needs when the first one is made.
    importlib.import_module("airflow.sdk").Connection.from_json('{"conn_type": "sftp", "extra": {}}', conn_id="warm")
    _listen(path)


def _listen(path: Path, owner: socket.socket | None = None) -> None:
    """Fork for each connection, for as long as the owner keeps its own open. Never returns."""
    gc.enable()
    gc.freeze()  # to look through what all runs share would copy it into each of them
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(64)
        if owner:
            owner.sendall(b"\n")
        while True:
            if owner and owner in select.select([server, owner], [], [])[0]:
                os._exit(0)
            connection, _ = server.accept()
            if os.fork() == 0:
                server.close()
                _supervise(connection)
            connection.close()


DEPENDENCIES = [
    "airflow.providers.sqlite.hooks.sqlite",
    "airflow.sdk",
    "alembic.command",
    "asyncssh",
    "duckdb",
    "numpy",
    "psycopg",
    "pyarrow.parquet",
    "pytz",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.pysqlite",
    "typer",
]
PRODUCT = [
    "waybill.airflow",
    "waybill.cli.app",
    "waybill.deliveries.repairs",
    "waybill.deliveries.running",
    "waybill.deliveries.sweeping",
    "waybill.deliveries.reports.describing",
    "waybill.deliveries.reports.sending",
    "waybill.destinations.folder",
    "waybill.destinations.sftp.session",
    "waybill.formats.lines",
    "waybill.housekeeping",
    "waybill.requests.upkeep",
    "waybill.sources.dbapi.source",
    "waybill.sources.duckdb.lake",
    "waybill.sources.duckdb.source",
    "waybill.registrations.applying",
    "waybill.sources.postgres.source",
]


def _serve_another(tree: str, path: Path, owner: socket.socket) -> None:
    """Take the product from another source tree, although it has been imported already, and listen. Never returns."""
    end_with_parent()
    gc.disable()
    for name in [name for name in sys.modules if name.partition(".")[0] == "waybill"]:
        del sys.modules[name]
    sys.path.insert(0, tree)
    _import(PRODUCT)
    _listen(path, owner)


def _import(names: list[str]) -> None:
    for name in names:
        importlib.import_module(name)


def _supervise(connection: socket.socket) -> None:
    """One run, from the fork to its end. Never returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    stream = connection.makefile("rw", encoding="utf-8")
    wanted: dict[str, Any] = json.loads(stream.readline())
    if tree := wanted.get("product"):
        _serve_another(tree, Path(wanted["address"]), connection)
    worker = os.fork()
    if worker == 0:
        _work(wanted)

    def tell(**facts: Any) -> None:
        with contextlib.suppress(OSError):
            stream.write(json.dumps(facts) + "\n")
            stream.flush()

    tell(pid=worker)
    hold = re.compile(wanted["hold"]) if wanted.get("hold") else None
    held = False

    def released() -> bool:
        return bool(select.select([connection], [], [], 0)[0])

    def before(number: int, call: str) -> Released | None:
        nonlocal held
        if number == wanted.get("kill_at"):
            os.kill(worker, signal.SIGKILL)
        elif hold and not held and hold.search(call):
            held = True
            tell(held=call)
            return released
        return None

    if wanted.get("trace"):
        tracer = Tracer(worker, before)
        status = tracer.run()
        tell(calls=tracer.calls)
    else:
        _, status = os.waitpid(worker, 0)
    tell(status=os.waitstatus_to_exitcode(status))
    os._exit(0)


def _work(wanted: dict[str, Any]) -> None:
    """Become the run. Never returns."""
    code = 70
    try:
        os.setsid()
        end_with_parent()
        os.chdir(wanted["cwd"])
        os.environ.clear()
        os.environ.update(wanted["env"])
        for number, name in ((1, "out"), (2, "err")):
            descriptor = os.open(wanted[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(descriptor, number)
            os.close(descriptor)
        for name, limit in wanted.get("limits", {}).items():
            resource.setrlimit(getattr(resource, name), (limit, limit))
        sys.argv = ["waybill", *wanted["argv"]]
        if wanted.get("trace"):
            be_traced()
        elif wanted.get("stopped"):
            wait_for_debugger()
        code = _main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _main() -> int:
    """What the interpreter does around a console script: exit codes, a traceback for an unexpected error, joining of threads."""
    from waybill.cli.app import main

    try:
        main()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException as error:  # noqa: BLE001 (here ends the process)
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    return 0


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
