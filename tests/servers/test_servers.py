"""The servers the other tests rely on really work, and say so when they do not."""

import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.servers.mariadb import MariaDatabase
from tests.servers.postgres import Cluster, Database, serve_postgres
from tests.servers.process import ServerDidNotStart, end, free_port, listening, running, spawn
from tests.servers.proftpd import serve_proftpd
from tests.servers.s3 import S3Server
from tests.servers.smtp import SmtpServer
from tests.servers.sshd import SftpAccess, SftpFailed, new_key, serve_sshd


@pytest.fixture
def local_file(tmp_path: Path) -> Path:
    path = tmp_path / "local.csv"
    path.write_bytes(b"id\n1\n")
    return path


def test_the_sftp_program_puts_a_file_on_sshd(sshd: SftpAccess, local_file: Path) -> None:
    sshd.sftp(f"put {local_file} a.csv", "rename a.csv b.csv")
    assert (sshd.root / "b.csv").read_bytes() == b"id\n1\n"


def test_sshd_presents_the_host_key_it_announces(sshd: SftpAccess) -> None:
    scanned = subprocess.run(["ssh-keyscan", "-p", str(sshd.port), sshd.host], capture_output=True, text=True, check=True).stdout
    assert sshd.host_key in scanned


def test_sshd_refuses_another_key(sshd: SftpAccess, tmp_path: Path) -> None:
    new_key(tmp_path / "other")
    with pytest.raises(SftpFailed, match="Failed publickey"):
        replace(sshd, private_key=tmp_path / "other").sftp("ls")


def test_sshd_can_be_read_only(local_file: Path) -> None:
    with serve_sshd(sftp_options="-R") as server:
        with pytest.raises(SftpFailed, match="denied"):
            server.sftp(f"put {local_file} a.csv")
        assert not list(server.root.iterdir())


def test_sshd_is_gone_after_its_block() -> None:
    with serve_sshd() as server:
        assert listening(server.port)
    assert not Path(f"/proc/{server.pid}").exists()  # not the port: on a busy machine another server may have it by now
    assert not server.root.exists()


def test_the_sftp_program_puts_a_file_on_proftpd(proftpd: SftpAccess, local_file: Path) -> None:
    proftpd.sftp(f"cd {proftpd.remote_root}", f"put {local_file} a.csv", "rename a.csv b.csv")
    assert (proftpd.root / "b.csv").read_bytes() == b"id\n1\n"


def test_proftpd_can_forbid_reading(local_file: Path) -> None:
    with serve_proftpd(directory="<Limit RETR>\nDenyAll\n</Limit>") as server:
        server.sftp(f"cd {server.remote_root}", f"put {local_file} a.csv")
        with pytest.raises(SftpFailed, match="denied"):
            server.sftp(f"cd {server.remote_root}", f"get a.csv {local_file}.back")


def test_psql_reaches_a_fresh_postgres_database(postgres: Database) -> None:
    postgres.psql("create table t (id int); insert into t values (1), (2)")
    assert postgres.psql("select count(*) from t") == "2\n"
    assert postgres.psql("show max_prepared_transactions") == "10\n"


def test_each_test_gets_its_own_postgres_database(postgres: Database) -> None:
    assert postgres.psql("select count(*) from pg_tables where schemaname = 'public'") == "0\n"


@pytest.mark.parametrize(
    ("left", "again"),
    [
        ("create table t (id int); create view v as select * from t; create type e as enum ('a')", True),
        ("create function f() returns int language sql as 'select 1'; create sequence s; create domain d as int check (value > 0)", True),
        ("create temp table t (id int); comment on schema public is 'mine'; revoke all on schema public from public", True),
        ("drop schema public", True),
        ("create schema another", False),
        ("alter database {name} set search_path = another", False),
        ("revoke connect on database {name} from public", False),
        ("revoke all on pg_stat_activity from public", False),
        ("alter default privileges grant select on tables to public", False),
        ("create publication p for all tables", False),
        ("select lo_create(0)", False),
    ],
)
def test_a_database_is_used_again_if_it_is_like_new(postgres_cluster: Cluster, left: str, again: bool) -> None:
    oid = "select oid from pg_database where datname = current_database()"
    with postgres_cluster.database() as first:
        new, before = first.state(), first.psql(oid)
        first.psql(left.format(name=first.name))
    with postgres_cluster.database() as second:
        assert second.name != first.name
        assert (second.psql(oid) == before) is again
        assert second.state() == new != ""
        assert second.psql("select count(*) from pg_class where oid >= 16384 and relnamespace = 'public'::regnamespace") == "0\n"


def test_postgres_comes_back_after_a_crash() -> None:
    with serve_postgres() as cluster, cluster.database() as database:
        database.psql("create table t as select 1 as id")
        cluster.stop(signal.SIGQUIT)
        assert not listening(cluster.port)
        cluster.start()
        assert database.psql("select id from t") == "1\n"


def test_pymysql_reaches_a_fresh_mariadb_database(mariadb: MariaDatabase) -> None:
    with mariadb.connect() as connection, connection.cursor() as cursor:
        cursor.execute("create table t (name varchar(20))")
        cursor.execute("insert into t values (%s)", ("Žofie 🐘",))
        cursor.execute("select name from t")
        assert cursor.fetchone() == ("Žofie 🐘",)


def test_boto3_puts_and_gets_an_object(s3: S3Server) -> None:
    client = s3.client()
    client.create_bucket(Bucket="test-servers")
    client.put_object(Bucket="test-servers", Key="a", Body=b"x", IfNoneMatch="*")
    with pytest.raises(client.exceptions.ClientError, match="PreconditionFailed"):
        client.put_object(Bucket="test-servers", Key="a", Body=b"y", IfNoneMatch="*")
    assert client.get_object(Bucket="test-servers", Key="a")["Body"].read() == b"x"
    client.close()


def test_smtplib_delivers_a_message(smtp: SmtpServer) -> None:
    with smtplib.SMTP(smtp.host, smtp.port) as client:
        client.sendmail("from@example.com", ["to@example.com"], "Subject: Done\r\n\r\nBody\r\n")
    (received,) = smtp.received
    assert (received.recipients, received.message["Subject"]) == (("to@example.com",), "Done")


def test_a_server_that_fails_shows_its_log(tmp_path: Path) -> None:
    argv = ["sh", "-c", "echo the disk is on fire; exit 3"]
    with (
        pytest.raises(ServerDidNotStart, match=r"status 3(.|\n)*the disk is on fire"),
        running(argv, ready=lambda: False, log=tmp_path / "log"),
    ):
        pass


def test_ending_a_server_ends_its_children_too(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    process = spawn(["sh", "-c", f"sleep 60 & echo $! > {marker}; wait"], log=tmp_path / "log")
    while not marker.exists() or not marker.read_text().strip():
        time.sleep(0.01)
    end(process)
    child = int(marker.read_text())
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, f"process {child} outlived its server"
        time.sleep(0.01)


def test_nothing_of_the_callers_settings_reaches_the_tests(repository: Path) -> None:
    script = "import os, tests.conftest; print([n for n in os.environ if n.startswith('WAYBILL_')], os.environ['AIRFLOW_HOME'])"
    theirs = {"WAYBILL_CONFIG_DIR": "theirs", "WAYBILL_LEDGER_URL": "theirs", "AIRFLOW_HOME": "theirs"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=repository, env={**os.environ, **theirs}, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("[] ")
    assert "waybill-airflow-" in done.stdout


def test_a_free_port_is_given_to_nobody_else() -> None:
    """Otherwise a server that starts a moment later finds it taken. Clients get theirs from the kernel, from the range it names."""
    first, _ = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    mine = [free_port() for _ in range(20)]
    ask = "from tests.servers.process import free_port; print([free_port() for _ in range(20)])"
    theirs = json.loads(subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout)
    assert len({*mine, *theirs}) == 40
    assert max(*mine, *theirs) < first
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", mine[-1] + 1))
        taken.listen()
        assert free_port() not in [*mine, mine[-1] + 1]
        assert not listening(free_port())
