"""What Airflow itself tells of whether Waybill can run in it: version, plugin, DAG files, executor, time-outs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from waybill.airflow.names import DAG_FILES, exports_file
from waybill.doctor import Check

SUPPORTED = ((3, 3), (4, 0))
_DAG_FILES = (*map(exports_file, range(1, DAG_FILES + 1)), "apply_config.py", "export_requests.py", "housekeeping.py")
_LEAST_TIMEOUT = 60.0


def airflow_checks() -> list[Check]:
    """The checks of this machine's Airflow; one line where there is none."""
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
    else:
        yield Check("dag files", "failed", f"none in {dags}", "Copy them there from the folder that `waybill init` makes")
    if any("WaybillPlugin" in path.read_text(encoding="utf-8", errors="replace") for path in plugins.rglob("*.py")):
        yield Check("plugin", "ok", f"in {plugins}")
    else:
        step = "Copy waybill_plugin.py there for the page, the API and the start of a new tenant's first run"
        yield Check("plugin", "warning", f"not in {plugins}", step)
    yield Check("executor", "ok", f"{conf.get('core', 'executor')}, parallelism {conf.getint('core', 'parallelism')}")
    timeout = conf.getfloat("core", "dagbag_import_timeout")
    step = "" if timeout >= _LEAST_TIMEOUT else "Set [core] dagbag_import_timeout to 60 or more if you have many hundreds of tenants"
    yield Check("time-outs", "ok", f"a DAG file may parse for {timeout:.0f} s", step if timeout < 30 else "")
