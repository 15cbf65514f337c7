"""The services of docker-compose.yaml as processes of this machine, with the file's own commands and environment.

Only what names a container is replaced: host names by ports on loopback, `/opt/airflow` by a folder. Each worker has its own spool.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from tests.servers.postgres import Cluster
from tests.servers.process import end, free_port, ordinary_account, scratch, spawn
from tests.servers.redis import Redis
from tests.servers.s3 import S3Server
from waybill_demo.stage import SELDOM_GARBAGE

WORKERS = ("worker1", "worker2")
SECONDS = 900.0
"""A bound, not an expectation: a busy machine is slow, not broken."""

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Z_]+)(?::[-?](?P<rest>[^}]*))?\}")


def wait_for(what: str, done: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """The first truthy answer of `done`. Fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (answer := done()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.2)
    return answer


@dataclass
class Topology:
    """Everything the compose file starts, running. `spools` are the workers' own disks."""

    root: Path
    compose: dict[str, Any]
    values: Mapping[str, str]
    hosts: Mapping[str, str]
    airflow_db: Cluster
    ledger_db: Cluster
    redis: Redis
    api_port: int
    extra: Mapping[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def environment(self, service: str, spool: str = "") -> dict[str, str]:
        """What the file gives the service, on top of what the image gives all of them."""
        given = {name: self._native(str(value)) for name, value in self.compose["services"][service]["environment"].items()}
        image = {
            "AIRFLOW_HOME": str(self.root),
            "WAYBILL_CONFIG_DIR": str(self.root / "config"),
            "WAYBILL_SPOOL_DIR": str(self.spool(spool or service)),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        }
        here = {
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.root / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(self.root / "plugins"),
            "AIRFLOW__API__PORT": str(self.api_port),
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            "AIRFLOW__TRIGGERER__TRIGGERER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        }
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR", "USER") if name in os.environ}
        return {**kept, **image, **self._env_file(service), **given, **here, **self.extra}

    def _env_file(self, service: str) -> dict[str, str]:
        """Compose hands the lines of .env to a service that names the file."""
        return dict(self.values) if self.compose["services"][service].get("env_file") == [".env"] else {}

    def spool(self, name: str) -> Path:
        return self.root / "disks" / name / "spool"

    def _native(self, text: str) -> str:
        text = interpolated(text, self.values).replace("$$", "$")
        for host, here in self.hosts.items():
            text = text.replace(host, here)
        return text

    def log(self, name: str) -> Path:
        return self.root / f"{name}.log"

    def start(self, name: str) -> None:
        """A service, or one of the workers, by its command in the file."""
        service = self.compose["services"]["worker" if name in WORKERS else name]
        if "entrypoint" in service:
            argv = [*service["entrypoint"], *(self._native(word) for word in service["command"])]
        else:  # the image's own is `airflow`
            own = ["--celery-hostname", f"celery@{name}"] if name in WORKERS else []
            argv = [sys.executable, "-m", "airflow", *shlex.split(service["command"]), *own]
        environment = self.environment("worker" if name in WORKERS else name, name)
        self.processes[name] = spawn(argv, log=self.log(name), env=environment, cwd=self.root)

    def kill(self, name: str) -> None:
        """SIGKILL to the service and everything it started, as when a machine is lost."""
        process = self.processes.pop(name)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for item in family:
            try:
                item.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        end(process, signal.SIGKILL)

    def healthy(self, name: str) -> bool:
        """What the file's own health check says of a service, or of one of the workers."""
        service = "worker" if name in WORKERS else name
        kind, *words = self.compose["services"][service]["healthcheck"]["test"]
        argv = ["/bin/sh", "-c", *words] if kind == "CMD-SHELL" else words
        argv = [self._native(word) for word in argv]
        clusters = {"airflow-db": self.airflow_db, "ledger-db": self.ledger_db}
        here = {"PGHOST": "127.0.0.1", "PGPORT": str(clusters[name].port)} if name in clusters else {}
        environment = {**self.environment(service), **here, "HOSTNAME": name}
        return subprocess.run(argv, env=environment, capture_output=True, timeout=SECONDS, check=False).returncode == 0

    def run(self, *argv: str, machine: str = "worker2") -> str:
        """A command of the image on one of the machines; its output."""
        environment = self.environment("worker", machine)
        done = subprocess.run(argv, env=environment, cwd=self.root, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def initialise(self) -> None:
        """What the service `init` does."""
        service = self.compose["services"]["init"]
        (script,) = service["command"]
        environment = self.environment("init")
        argv = [*service["entrypoint"], interpolated(script, self.values).replace("$$", "$")]
        done = subprocess.run(argv, env=environment, cwd=self.root, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 0, f"init: {done.stdout}{done.stderr}"

    def api(self, user: str = "admin", password: str = "") -> httpx.Client:
        """A client of the API server, logged in: as the administrator that `init` made, unless as somebody else."""
        client = httpx.Client(base_url=f"http://127.0.0.1:{self.api_port}", timeout=120, trust_env=False)

        def token() -> str | None:
            try:
                body = {"username": user, "password": password or self.values["AIRFLOW_ADMIN_PASSWORD"]}
                answer = client.post("/auth/token", json=body)
                return str(answer.json()["access_token"]) if answer.is_success and client.get("/execution/health").is_success else None
            except httpx.HTTPError:
                return None

        client.headers["Authorization"] = f"Bearer {wait_for('a login', token)}"
        return client


def interpolated(text: str, values: Mapping[str, str]) -> str:
    """Compose's `${NAME:-default}` and `${NAME:?message}`."""

    def value(found: re.Match[str]) -> str:
        name, rest = found["name"], found["rest"] or ""
        if values.get(name):
            return values[name]
        assert ":?" not in found[0], f"{name} is missing: {rest}"
        return rest

    return _VARIABLE.sub(value, text)


@contextmanager
def native_topology(repository: Path, root: Path, s3: S3Server, extra: Mapping[str, str]) -> Iterator[Topology]:
    """Databases, Redis and archive are up and initialised; the Airflow services are not started yet. Ends all of them."""
    compose = yaml.safe_load((repository / "docker-compose.yaml").read_text())
    values = dict(re.findall(r"^([A-Z_]+)=(.*)$", (repository / ".env.example").read_text(), flags=re.MULTILINE))
    values |= {name: secrets.token_hex(24) for name, value in values.items() if name.endswith(("_PASSWORD", "_SECRET", "_SECRET_KEY"))}
    values |= {"AIRFLOW_FERNET_KEY": "", "AIRFLOW_SECRET_KEY": secrets.token_hex(32), "AIRFLOW_JWT_SECRET": secrets.token_hex(64)}
    from cryptography.fernet import Fernet

    values |= {"AIRFLOW_FERNET_KEY": Fernet.generate_key().decode(), "AIRFLOW_WORKER_CONCURRENCY": "2", "AIRFLOW_PARALLELISM": "4"}
    values |= {"WAYBILL_OAUTH_ISSUER": "https://issuer.example", "WAYBILL_OAUTH_AUDIENCE": "waybill"}
    values |= {"WAYBILL_OAUTH_JWKS_URL": "https://issuer.example/jwks"}
    for name in ("dags", "plugins"):
        (root / name).symlink_to(repository / name)
    (root / "config/airflow_local_settings.py").write_text(SELDOM_GARBAGE)
    account = ordinary_account("postgres")
    with ExitStack() as stack:
        clusters = {}
        for name in ("airflow", "waybill"):
            folder = stack.enter_context(scratch(name, account))
            cluster = Cluster(folder, account)
            cluster.start()
            stack.callback(lambda cluster=cluster: cluster.stop(signal.SIGQUIT))
            password = values["AIRFLOW_DB_PASSWORD" if name == "airflow" else "WAYBILL_DB_PASSWORD"]
            _database(cluster, name, password)
            clusters[name] = cluster
        redis_folder = stack.enter_context(scratch("redis"))
        redis_options = shlex.split(compose["services"]["redis"]["command"][-1].replace("exec redis-server ", "").replace("$$", "$"))
        redis = Redis(
            redis_folder, free_port(), [values["REDIS_PASSWORD"] if option == "$REDIS_PASSWORD" else option for option in redis_options]
        )
        redis.start()
        stack.callback(redis.stop)
        s3.client().create_bucket(Bucket="waybill-archive")
        api_port, serve_port = free_port(), free_port()
        hosts = {
            "@airflow-db/": f"@127.0.0.1:{clusters['airflow'].port}/",
            "@ledger-db/": f"@127.0.0.1:{clusters['waybill'].port}/",
            "redis-cli ping": f"redis-cli -p {redis.port} ping",
            "@redis:6379/": f"@127.0.0.1:{redis.port}/",
            "http://archive:9000": s3.endpoint,
            "http://api-server:8080": f"http://127.0.0.1:{api_port}",
            "http://localhost:8080": f"http://127.0.0.1:{api_port}",
            "http://localhost:8081": f"http://127.0.0.1:{serve_port}",
            "--host 0.0.0.0 --port 8081": f"--host 127.0.0.1 --port {serve_port}",
        }
        topology = Topology(root, compose, values, hosts, clusters["airflow"], clusters["waybill"], redis, api_port, extra)
        topology.initialise()
        try:
            yield topology
        finally:
            for name in list(topology.processes):
                topology.kill(name)  # nothing is asked of them any more, and an orderly end of a worker takes long


def _database(cluster: Cluster, name: str, password: str) -> None:
    import psycopg

    with psycopg.connect(f"host=127.0.0.1 port={cluster.port} user={cluster.user} dbname=postgres", autocommit=True) as connection:
        connection.execute(f"create role {name} login password '{password}'")
        connection.execute(f"create database {name} owner {name}")


def sftp_connection(host: str, port: int, login: str, key: str, host_key: str) -> dict[str, Any]:
    extra = json.dumps({"private_key": key, "host_key": host_key})
    return {"conn_type": "sftp", "host": host, "port": port, "login": login, "extra": extra}
