"""What every test shares: an environment nobody's own settings leak into, and real servers."""

import atexit
import gc
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from tests.servers.guardian import mark, tell

if TYPE_CHECKING:
    from tests.airflows import AirflowApi
    from tests.issuer import TestIssuer

REPOSITORY = Path(__file__).resolve().parent.parent


MEMORY = Path("/dev/shm")
ROOM = 4 << 30


def _keep_files_in_memory() -> None:
    """Most tests wait for the disk more than for anything else: databases and published files are written through to it.

    What a test kills is a process, never the machine, so a file system in memory keeps the same promises. TMPDIR, where it is set, decides.
    """
    if "TMPDIR" in os.environ or not MEMORY.is_dir():
        return
    state = os.statvfs(MEMORY)
    if state.f_bavail * state.f_frsize >= ROOM and not state.f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


def _isolate_environment() -> None:
    """Airflow reads its settings once, at import: they must be in place before any test module is imported."""
    for name in [name for name in os.environ if name.startswith(("WAYBILL_", "AIRFLOW_", "AWS_"))]:
        if name != "AWS_CA_BUNDLE":
            del os.environ[name]
    home = tempfile.mkdtemp(prefix="waybill-airflow-")
    tell("made", Path(home))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ |= {
        "AIRFLOW_HOME": home,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
        "AIRFLOW__CORE__FERNET_KEY": "",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(64),
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AWS_EC2_METADATA_DISABLED": "true",
        "TZ": "UTC",
    }


_keep_files_in_memory()
_isolate_environment()

import pytest  # noqa: E402 (after the environment is in place)
from hypothesis import HealthCheck, settings  # noqa: E402
from xdist.remote import Producer  # noqa: E402
from xdist.scheduler import LoadFileScheduling  # noqa: E402

from tests.faults.tracer import end_with_parent  # noqa: E402
from tests.servers.http import HttpServer, serve_http  # noqa: E402
from tests.servers.mariadb import MariaDatabase, MariaServer, serve_mariadb  # noqa: E402
from tests.servers.postgres import Cluster, Database, serve_postgres  # noqa: E402
from tests.servers.proftpd import serve_proftpd  # noqa: E402
from tests.servers.s3 import S3Server, serve_s3  # noqa: E402
from tests.servers.smtp import SmtpServer, serve_smtp  # noqa: E402
from tests.servers.sshd import SftpAccess, serve_sshd  # noqa: E402

TOGETHER = {
    **dict.fromkeys(("test_pages_in_airflow", "test_registering_in_airflow", "test_requests_in_airflow"), "house"),
    **dict.fromkeys(("test_api_airflow", "test_api_airflow_fab", "test_page_airflow", "test_requests_for_airflow_users"), "airflow_api"),
}
"""Modules by a dear fixture of the whole session they share: of several workers, one runs all of them."""


class Modules(LoadFileScheduling):
    """A module stays on one worker, for the sake of its fixtures."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return TOGETHER.get(Path(module).stem, module)


def pytest_configure(config: pytest.Config) -> None:
    """SIGTERM ends a run as Ctrl-C does: fixtures end their servers. What is killed leaves that to `tests.servers.guardian`."""
    run = os.getpid()
    if hasattr(config, "workerinput"):
        end_with_parent()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() == run:
            pytest.exit("SIGTERM", returncode=128 + number)
        signal.signal(number, signal.SIG_DFL)  # a process that was forked off ends as it would without us
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, stop)


# The same examples in every run, and no limit in seconds: whether a change passes depends on the change, not on chance or on the machine.
# `make test-faults` looks for new examples; one that fails belongs into the test as an `@example`.
settings.register_profile(
    "same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
settings.register_profile("full", settings.get_profile("same"), derandomize=False, print_blob=True)
settings.load_profile("full" if os.environ.get("FAULTS") == "full" else "same")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Several workers take modules in this order. Those with a slow test wait for processes more than others: spread, they do so while the
    others compute, never all at once, and none is begun last.
    """
    if not hasattr(config, "workerinput"):
        return
    modules: dict[str, list[pytest.Item]] = {}
    for item in items:
        modules.setdefault(item.nodeid.partition("::")[0], []).append(item)
    slow = [name for name, tests in modules.items() if any(test.get_closest_marker("slow") for test in tests)]
    order = [name for name in modules if name not in slow]
    every = max(1, len(order) * 2 // 3 // max(1, len(slow)))
    for number, name in enumerate(slow):
        order.insert(number * (every + 1), name)
    items[:] = [item for name in order for item in modules[name]]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What importing all tests has made stays to the end. Nothing looks through it for garbage, neither while it is made, which took a
    quarter of the collection, nor later, which took an eighth of the tests.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()
        atexit.register(gc.unfreeze)  # not earlier: at the end of a run pytest looks for garbage five times


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Modules:
    return Modules(config, log)


@pytest.fixture(scope="session", autouse=True)
def _marked() -> None:
    """Here and not earlier, because the workers of a run are its processes, too, and end in order."""
    mark()


@pytest.fixture(scope="session", autouse=True)
def _engines() -> Iterator[None]:
    """The tests of one process share an engine, as the deliveries of a task do: opening one takes longer than reading a few rows.

    A test that opens `reuse.kept` itself has engines of its own.
    """
    from waybill.sources import reuse
    from waybill.sources.duckdb.engine import BESIDE, SOURCES

    with reuse.kept(SOURCES, BESIDE):
        yield


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture
def sshd() -> Iterator[SftpAccess]:
    with serve_sshd() as server:
        yield server


@pytest.fixture
def proftpd() -> Iterator[SftpAccess]:
    with serve_proftpd() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[Cluster]:
    """Shared by the whole run: do not stop it. A test that restarts its server uses `serve_postgres` itself."""
    with serve_postgres() as cluster:
        yield cluster


@pytest.fixture
def postgres(postgres_cluster: Cluster) -> Iterator[Database]:
    with postgres_cluster.database() as database:
        yield database


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaServer]:
    with serve_mariadb() as server:
        yield server


@pytest.fixture
def mariadb(mariadb_server: MariaServer) -> Iterator[MariaDatabase]:
    with mariadb_server.database() as database:
        yield database


@pytest.fixture
def smtp() -> Iterator[SmtpServer]:
    with serve_smtp() as server:
        yield server


@pytest.fixture
def http() -> Iterator[HttpServer]:
    with serve_http() as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    with serve_s3() as server:
        yield server


@pytest.fixture(scope="module")
def issuer() -> Iterator["TestIssuer"]:
    """An OAuth2 issuer for `waybill serve`; for one module, because tests add keys to it."""
    from tests.issuer import serve_issuer

    with serve_issuer() as issuer:
        yield issuer


@pytest.fixture(scope="session")
def airflow_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator["AirflowApi"]:
    """Airflow's API server with our plugin, under the simple auth manager; shared, because it takes long to come up."""
    from tests.airflows import serve_airflow_api

    with serve_airflow_api(tmp_path_factory.mktemp("airflow")) as api:
        yield api


@pytest.fixture
def run_waybill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs `waybill` in this process; gives what it prints, errors behind the rest. Fails unless it ends with `status`.

    Keywords are variables of the environment.
    """
    from waybill.cli.app import main

    def run(*words: str, status: int = 0, **environment: str) -> str:
        for name, value in {"COLUMNS": "200", **environment}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["waybill", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = "".join(capsys.readouterr())
        assert ended.value.code == status, printed
        return printed

    return run
