"""The distributed topology of docker-compose.yaml, for real: two Celery workers with separate disks, PostgreSQL, Redis, an S3 archive.

A worker is killed in the middle of an upload, Redis, the scheduler and the ledger's PostgreSQL are restarted meanwhile.
No secret is left anywhere.
"""

from __future__ import annotations

import csv
import io
import json
import signal
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml

from tests.canaries import Canaries, command_lines, files, of_key, tables
from tests.e2e.topology import WORKERS, Topology, native_topology, sftp_connection, wait_for
from tests.servers.postgres import Database
from tests.servers.s3 import S3Server
from tests.servers.sshd import SftpAccess

ROWS = {"acme": 700_000, "globex": 2_000}
SOONER = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "4",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "4",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "1",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
}
"""The file's settings that a lost worker waits for, shorter, and a scheduler and a DAG processor that look less often: what happens then is
the same.
"""

STORES = ("airflow-db", "ledger-db", "redis")
LARGE = 1 << 20

ENTITY = {
    "name": "events",
    "source": "estate",
    "relation": "events",
    "tenant_column": "tenant_id",
    "key": ["id"],
    "changes": {"mode": "lookback", "column": "updated_at", "lookback": "24h"},
    "time_column": "updated_at",
    "columns": {"id": {"type": "integer"}, "text": {"type": "string"}, "updated_at": {"type": "timestamp"}},
}


@pytest.mark.slow
def test_tenants_get_everything_once_although_a_worker_redis_scheduler_and_ledger_die(
    tmp_path: Path, repository: Path, sshd: SftpAccess, s3: S3Server, postgres: Database
) -> None:
    source = json.dumps(
        {"conn_type": "postgres", "host": postgres.host, "port": postgres.port, "schema": postgres.name, "login": postgres.user}
    )
    server = sftp_connection(sshd.host, sshd.port, sshd.login, sshd.private_key.read_text(), sshd.host_key)
    _configure(tmp_path, sshd)
    _fill(postgres)
    connections = {"AIRFLOW_CONN_ESTATE_DB": source}
    with ExitStack() as stack:
        topology = stack.enter_context(native_topology(repository, tmp_path, s3, {**connections, **SOONER}))
        assert all(topology.healthy(name) for name in STORES)
        for name in ("api-server", "dag-processor"):
            topology.start(name)
        client = topology.api()
        stack.callback(client.close)
        # As by Admin > Connections: tasks have it from their supervisor, the command line from Airflow's database.
        client.post("/api/v2/connections", json={"connection_id": "shared_sftp", **server}).raise_for_status()
        for name in ("triggerer", "scheduler", *WORKERS, "serve"):
            topology.start(name)
        _trigger(client, "apply_config")
        exports = sshd.root / "exports"
        wait_for("an upload of the large entity", lambda: list((exports / "acme").rglob(".*.part")))
        seen = command_lines()
        lost = max(WORKERS, key=lambda name: sum(path.stat().st_size for path in topology.spool(name).rglob("*.csv")))
        topology.kill(lost)
        topology.redis.stop(signal.SIGKILL)
        topology.kill("scheduler")
        topology.ledger_db.stop(signal.SIGQUIT)
        assert [name for name in STORES if topology.healthy(name)] == ["airflow-db"]
        topology.ledger_db.start()
        topology.redis.start()
        topology.start("scheduler")
        _wait_for_day(exports, "globex")
        _download(topology, client)
        for name in (
            *STORES,
            "api-server",
            "dag-processor",
            "triggerer",
            "scheduler",
            "serve",
            *(name for name in WORKERS if name != lost),
        ):
            wait_for(f"{name} to be healthy", lambda name=name: topology.healthy(name))
        assert not topology.healthy(lost)
        _see_one_tenant(topology, client)
        _wait_for_day(exports, "acme")
        for tenant, rows in ROWS.items():
            assert _delivered_ids(exports / tenant) == list(range(rows))
        assert "all as delivered" in topology.run("waybill", "verify", str(sshd.root))
        _redeliver(topology, exports, next(name for name in WORKERS if name != lost))
        places = [*seen, *command_lines(), *_written(topology, exports / "globex", s3)]
        for kind in ("logs/", "airflow table", "waybill table", "command line"):
            assert any(kind in name for name, _ in places), f"nothing of {kind} was searched"
        assert _canaries(topology, sshd).found(places) == []


def _canaries(topology: Topology, sshd: SftpAccess) -> Canaries:
    """The key of the SFTP server, and every secret of `.env`."""
    known = {name: [value] for name, value in topology.values.items() if name.endswith(("_PASSWORD", "_SECRET", "_KEY"))}
    return Canaries({"private key": of_key(sshd.private_key.read_text()), **known})


def _written(topology: Topology, exports: Path, s3: S3Server) -> Iterator[tuple[str, bytes]]:
    """Logs of all services and tasks, disks of the workers, both databases and Redis's file, the archive, and the consumer's files."""
    yield from files(topology.root / "logs", topology.root / "disks", exports, topology.redis.folder)
    for path in topology.root.glob("*.log"):
        yield str(path), path.read_bytes()
    for cluster, name in ((topology.airflow_db, "airflow"), (topology.ledger_db, "waybill")):
        yield from tables(Database("127.0.0.1", cluster.port, name, cluster.user).dsn, name)
    client = s3.client()
    for item in client.list_objects_v2(Bucket="waybill-archive").get("Contents", []):
        if item["Size"] > LARGE:
            continue  # the rows of acme, as everybody has them
        yield item["Key"], client.get_object(Bucket="waybill-archive", Key=item["Key"])["Body"].read()


def _wait_for_day(exports: Path, tenant: str) -> None:
    wait_for(f"the day manifest of {tenant}", lambda: list((exports / tenant).rglob("_MANIFEST.json")))


def _configure(root: Path, sshd: SftpAccess) -> None:
    catalog = {"sources": {"estate": {"kind": "postgres", "connection": "estate_db"}}, "entities": {"events": ENTITY}}
    tenant = {"entityList": ["events"], "destination": {"kind": "sftp", "connection": "shared_sftp", "root": sshd.remote_root}}
    files: dict[str, Any] = {"catalog.yaml": catalog, "policy.yaml": {}, **{f"tenants/{name}.yaml": tenant for name in ROWS}}
    for name, content in files.items():
        path = root / "config" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))


def _fill(postgres: Database) -> None:
    with psycopg.connect(postgres.dsn) as connection:
        connection.execute("create table events (tenant_id text, id int, text text, updated_at timestamptz, primary key (tenant_id, id))")
        for tenant, rows in ROWS.items():
            connection.execute(
                "insert into events select %s, i, repeat(md5(i::text), 4), '2026-01-01Z' from generate_series(0, %s) i", (tenant, rows - 1)
            )


def _trigger(client: httpx.Client, dag: str) -> None:
    wait_for(f"the DAG {dag}", lambda: client.get(f"/api/v2/dags/{dag}").is_success)
    client.post(f"/api/v2/dags/{dag}/dagRuns", json={"logical_date": None, "conf": {}}).raise_for_status()


def _delivered_ids(folder: Path) -> list[int]:
    ids: list[int] = []
    for manifest in folder.rglob("*.manifest.json"):
        facts = json.loads(manifest.read_text())
        assert facts["possible_duplicate"] is False
        for file in facts["files"]:
            with (manifest.parent / file["path"]).open(newline="") as text:
                ids += [int(row["id"]) for row in csv.DictReader(text)]
    return sorted(ids)


def _download(topology: Topology, client: httpx.Client) -> None:
    """An export on demand that a worker makes is downloaded from the API server, which shares nothing with it but the archive."""
    base = "/waybill/api/v1/tenants/globex/exports"
    asked = client.post(base, json={"entities": ["events"], "formats": ["csv"]})
    assert asked.status_code == httpx.codes.ACCEPTED, asked.text
    path = f"{base}/{asked.json()['id']}"
    done = wait_for("the export", lambda: (export := client.get(path).json())["status"] in ("done", "failed") and export)
    assert (done["status"], done["rows"]) == ("done", ROWS["globex"])
    link = client.post(f"{path}/link").json()["url"]
    archive = httpx.get(link, follow_redirects=True, timeout=120, trust_env=False)
    with zipfile.ZipFile(io.BytesIO(archive.raise_for_status().content)) as held:
        assert held.testzip() is None


def _see_one_tenant(topology: Topology, client: httpx.Client) -> None:
    """`init` made a role for each tenant: who has that of one reaches no other."""
    gina = {"username": "gina", "password": "not-a-secret", "first_name": "Gina", "last_name": "G", "email": "gina@example.com"}
    client.post("/auth/fab/v1/users", json={**gina, "roles": [{"name": "globex"}]}).raise_for_status()
    with closing(topology.api(gina["username"], gina["password"])) as her:
        base = "/waybill/api/v1/tenants"
        assert [her.get(f"{base}/{tenant}/deliveries").status_code for tenant in ("globex", "acme")] == [200, 404]


def _redeliver(topology: Topology, exports: Path, machine: str) -> None:
    """From a machine that did not deliver it."""
    (manifest,) = (exports / "globex").rglob("events.manifest.json")
    facts = json.loads(manifest.read_text())
    topology.run("waybill", "redeliver", facts["delivery_id"], machine=machine)
    (again,) = [path for path in (exports / "globex").rglob("*.csv") if path.name != "events.csv"]
    assert again.read_bytes() == (manifest.parent / "events.csv").read_bytes()
