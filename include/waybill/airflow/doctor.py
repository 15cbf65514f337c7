"""Checks whether Waybill can run in this Airflow: version, plugin, DAG files, executor and time-outs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from waybill.airflow.names import DAG_FILES, POOL_PREFIX, exports_file
from waybill.doctor import Check

SUPPORTED = ((3, 3), (4, 0))
_DAG_FILES = (*map(exports_file, range(1, DAG_FILES + 1)), "apply_config.py", "export_requests.py", "housekeeping.py")


def airflow_checks() -> list[Check]:
    """Return the checks of this machine's Airflow. Without Airflow there is one line."""
    try:
        version = metadata.version("apache-airflow")
    except metadata.PackageNotFoundError:
        return [Check("airflow", "ok", "not installed: runs come from the command line only")]
    numbers = tuple(int(part) for part in version.split(".")[:2])
    if not SUPPORTED[0] <= numbers < SUPPORTED[1]:
        return [Check("airflow", "failed", version, "Install Airflow 3.3 or newer, below 4")]
    if not any(name == "AIRFLOW_HOME" or name.startswith("AIRFLOW__") for name in os.environ):  # its cfg file appears by an import alone
        return [Check("airflow", "ok", f"{version}, not set up here (no AIRFLOW_HOME): runs come from the command line only")]
    return [Check("airflow", "ok", version), *_set_up()]


def _set_up() -> Iterator[Check]:
    from airflow.configuration import conf

    dags, plugins = Path(conf.get("core", "dags_folder")), Path(conf.get("core", "plugins_folder"))
    texts = {path.name: path.read_text(encoding="utf-8", errors="replace") for path in dags.rglob("*.py")} if dags.is_dir() else {}
    ours = [name for name, text in texts.items() if "waybill.airflow" in text]
    if ours:
        missing = [name for name in _DAG_FILES if name not in ours]
        yield Check("dag files", "ok", f"{len(ours)} in {dags}" + (f"; not there: {', '.join(missing)}" if missing else ""))
        paths = sorted(path for path in dags.rglob("*.py") if path.name in ours)
        timeouts = conf.getfloat("core", "dagbag_import_timeout"), conf.getfloat("dag_processor", "dag_file_processor_timeout")
        yield from _parsed(paths, min(timeouts))
    else:
        yield Check("dag files", "failed", f"none in {dags}", "Copy them there from the folder that `waybill init` makes")
    if any("WaybillPlugin" in path.read_text(encoding="utf-8", errors="replace") for path in plugins.rglob("*.py")):
        yield Check("plugin", "ok", f"in {plugins}")
    else:
        step = "Copy waybill_plugin.py there for the page, the API and the start of a new tenant's first run"
        yield Check("plugin", "warning", f"not in {plugins}", step)
    yield _pools()
    yield Check("executor", "ok", f"{conf.get('core', 'executor')}, parallelism {conf.getint('core', 'parallelism')}")


_PARSE = """
import json, runpy, sys, time
import airflow.sdk, waybill.airflow.tasks, waybill.airflow.schedule
for path in sys.argv[1:]:
    print(json.dumps([path, "begun", 0]), flush=True)
    began = time.process_time()
    try:
        runpy.run_path(path)
        print(json.dumps([path, "parsed", time.process_time() - began]), flush=True)
    except BaseException as error:
        print(json.dumps([path, f"{type(error).__name__}: {error}", 0]), flush=True)
"""
_BUSY = 10
"""A machine may be this many times as busy and must still parse in time. After a time-out, all tenants of a file are gone until its next
parse.
"""
_SHARE = "Share the tenants out to more files (WAYBILL_DAG_FILES)"
_RAISE = "raise [core] dagbag_import_timeout and [dag_processor] dag_file_processor_timeout"


def _parsed(paths: list[Path], timeout: float) -> Iterator[Check]:
    """Return what Airflow's DAG processor would say of the files. They run in one separate process, which imports Airflow once."""
    argv = [sys.executable, "-c", _PARSE, *map(str, paths)]
    try:
        output = subprocess.run(argv, capture_output=True, text=True, timeout=timeout * len(paths), check=False).stdout
    except subprocess.TimeoutExpired as slow:
        output = bytes(slow.stdout or b"").decode()  # bytes, although text was asked for
        reached = [path for path, what, _ in _reported_lines(output) if what == "begun"][-1:]
        for path in reached:
            yield Check(Path(path).name, "failed", f"parsing takes longer than {timeout:.0f} s", f"{_SHARE}, or {_RAISE}")
    slowest = 0.0
    for path, what, seconds in _reported_lines(output):
        slowest = max(slowest, seconds)
        if seconds * _BUSY > timeout:
            found = f"parsing takes {seconds:.1f} s of the processor, and {timeout:.0f} s end it on a busy machine"
            yield Check(Path(path).name, "warning", found, f"{_SHARE}, or {_RAISE} to {seconds * _BUSY:.0f} or more")
        elif what not in ("begun", "parsed"):
            yield Check(Path(path).name, "failed", f"cannot be parsed: {what[:300]}", f"Correct it; `python {path}` shows all of it")
    yield Check("time-outs", "ok", f"a DAG file may parse for {timeout:.0f} s, the slowest takes {slowest:.1f} s of the processor")


def _reported_lines(output: str) -> list[tuple[str, str, float]]:
    """Return what the process printed, without the lines that a DAG file itself prints."""
    found: list[tuple[str, str, float]] = []
    for line in output.splitlines():
        if line.startswith("["):
            with suppress(ValueError):
                path, what, seconds = json.loads(line)
                found.append((path, what, seconds))
    return found


def _pools() -> Check:
    """Tasks in a pool without slots never start. A pool is made with the first run of a destination, so a missing pool is no mistake."""
    from airflow.models.pool import Pool
    from airflow.utils.session import create_session
    from sqlalchemy import select
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with create_session() as session:
            ours = select(Pool.pool, Pool.slots).where(Pool.pool.startswith(POOL_PREFIX, autoescape=True))
            slots = {str(name): int(size) for name, size in session.execute(ours)}
    except SQLAlchemyError:  # a worker has no way to it, and needs none
        return Check("pools", "ok", "not looked at: Airflow's metadata database is not there, or not reached from here")
    if closed := sorted(name for name, size in slots.items() if size == 0):
        return Check("pools", "failed", f"no slots in {', '.join(closed)}", "Give them slots in Airflow under Admin > Pools")
    sizes = ", ".join(f"{name} {size}" for name, size in sorted(slots.items()))
    return Check("pools", "ok", sizes or "none yet: they are made with the first run")
