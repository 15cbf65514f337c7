"""The demo's own folder and environment. Nothing of the machine's other Airflow or Waybill settings leaks in, and nothing leaks out."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import waybill
from waybill import private
from waybill.airflow.names import REQUESTS_DAG
from waybill.configuration import loading
from waybill.configuration.loading import Configuration
from waybill.errors import ConfigError, PermanentError

SELDOM_GARBAGE = """
import gc

gc.set_threshold(50_000, 10, 10)
"""
"""Airflow's local settings, which each of its processes imports early. To look for garbage while a process imports what it needs and its
API builds its routes takes a fifth of the processor's time until Airflow serves.
"""

WITHOUT_CALENDAR = f"""
from airflow.sdk.definitions.timetables.simple import NullTimetable


def dag_policy(dag):
    if dag.dag_id != "{REQUESTS_DAG}":
        dag.timetable = NullTimetable()
"""
"""More of them, for the demo. The warehouse stays at its own day, so runs of the calendar would deliver months of nothing.
Exports that people ask for start by themselves all the same.
"""


@dataclass(frozen=True)
class Stage:
    """Where everything of one demo is. `project` is the checkout with dags/, plugins/ and config/."""

    project: Path
    folder: Path

    @property
    def config_dir(self) -> Path:
        return self.folder / "config"

    @property
    def airflow_home(self) -> Path:
        return self.folder / "airflow"

    @property
    def served(self) -> Path:
        """One folder for each tenant: what the SFTP server shows them."""
        return self.folder / "sftp"

    @property
    def received(self) -> Path:
        """One folder for each tenant: what the consumer fetched."""
        return self.folder / "received"

    @property
    def access_file(self) -> Path:
        return self.folder / "access.json"

    def configuration(self) -> Configuration:
        """Raises ConfigError if the copied configuration has problems."""
        found = loading.load(self.config_dir)
        if found.findings:
            raise ConfigError(list(found.findings))
        return found


@contextmanager
def stage(folder: Path | None = None) -> Iterator[Stage]:
    """Yield a clean stage, locked until the block ends. Raises PermanentError if another demo holds it or there is no checkout."""
    project = checkout()
    place = (folder or project / ".waybill" / "demo").absolute()
    with swept(place):
        shutil.copytree(project / "config", place / "config")
        yield Stage(project, place)


@contextmanager
def swept(place: Path) -> Iterator[None]:
    """Yield a folder without what was left in it, locked until the block ends. Raises PermanentError if another demo holds it."""
    private.make_folder(place)
    private.narrow([place])
    with own_umask(), (place / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermanentError(
                f"another demo is running in {place}", next_step="End it with Ctrl-C, or give --folder", code="demo_running"
            ) from None
        for old in place.iterdir():
            if old.name != "lock":
                shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
        yield


@contextmanager
def own_umask() -> Iterator[None]:
    """Only this account may read what this process and its children write, Airflow's files included, because a demo holds passwords and
    rows.
    """
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM ends a demo in order, as Ctrl-C does. Ctrl-C also counts if a shell that started it in the background had it ignored."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def checkout() -> Path:
    """Return Waybill's own repository. Raises PermanentError if there is none."""
    for place in (Path.cwd(), Path(waybill.__file__).parents[2]):
        if (place / "dags" / "tenant_exports.py").exists() and (place / "config" / "catalog.yaml").exists():
            return place
    raise PermanentError(
        "the demo needs Waybill's checkout with dags/ and config/", next_step="Run it there: make demo", code="no_checkout"
    )


def free_port(wanted: int = 0) -> int:
    """Return `wanted` if it is free on loopback, else any free port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise PermanentError("no port is free on 127.0.0.1", code="no_port")


def environment(stage: Stage, connections: Mapping[str, str], port: int, password: str, *, calendar: bool = False) -> dict[str, str]:
    """Return the environment of Airflow's processes: a small machine's settings, fresh keys, connections by `AIRFLOW_CONN_<ID>`.

    Without `calendar`, only export requests start runs by themselves.
    """
    home = stage.airflow_home
    passwords = _furnish(home, password, calendar)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "WAYBILL_"))}
    loopback = {name: ",".join(filter(None, (os.environ.get(name), "127.0.0.1", "localhost"))) for name in ("NO_PROXY", "no_proxy")}
    airflow = {
        "CORE__DAGS_FOLDER": str(stage.project / "dags"),
        "CORE__PLUGINS_FOLDER": str(stage.project / "plugins"),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",
        "CORE__FERNET_KEY": "",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "API__HOST": "127.0.0.1",
        "API__PORT": str(port),
        "API__BASE_URL": f"http://127.0.0.1:{port}",
        "API__WORKERS": "1",
        "API__SECRET_KEY": secrets.token_hex(32),
        "API_AUTH__JWT_SECRET": secrets.token_hex(64),
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
        "LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "USAGE_DATA_COLLECTION__ENABLED": "False",
        "WORKERS__EXECUTION_API_TIMEOUT": "60",
    }
    return {
        **inherited,
        **loopback,
        **{f"AIRFLOW__{name}": value for name, value in airflow.items()},
        **{f"AIRFLOW_CONN_{name.upper()}": value for name, value in connections.items()},
        "AIRFLOW_HOME": str(home),
        "WAYBILL_CONFIG_DIR": str(stage.config_dir),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "PYTHONWARNINGS": "ignore",
    }


def _furnish(home: Path, password: str, calendar: bool) -> Path:
    """Make Airflow's own folder, with the local settings and the file of passwords, which is returned."""
    home.mkdir(mode=0o700)
    passwords = home / "passwords.json"
    private.write_text(passwords, json.dumps({"admin": password}))
    (home / "config").mkdir()
    (home / "config" / "airflow_local_settings.py").write_text(SELDOM_GARBAGE + ("" if calendar else WITHOUT_CALENDAR))
    return passwords
