"""A PostgreSQL cluster of its own, thrown away afterwards."""

from __future__ import annotations

import contextlib
import itertools
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg

from tests.servers.process import Account, end, free_port, ordinary_account, program, scratch, spawn, wait_until_ready

_BIN_FOLDERS = [
    str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
]
_serial = itertools.count(1)

CONFIG = """
listen_addresses = '127.0.0.1'
fsync = off
max_prepared_transactions = 10
track_commit_timestamp = off
shared_buffers = 32MB
max_connections = 60
log_line_prefix = '%m [%p] %d '
"""

EMPTIED = (
    "select pg_terminate_backend(pid, 60000) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()",
    "set lock_timeout = '10s'",
    "drop schema if exists public cascade",
    "create schema public authorization pg_database_owner",
    "grant all on schema public to pg_database_owner",
    "grant usage on schema public to public",
)
LIKE_NEW = """
select array[
  (select string_agg(format('%s %s', nspname, nspacl), ',' order by nspname) from pg_namespace where nspname !~ '^pg_(toast_)?temp_'),
  (select md5(string_agg(format('%s %s', oid, relacl), ',' order by oid)) from pg_class where oid < 16384 and relacl is not null),
  (select md5(string_agg(format('%s %s', oid, proacl), ',' order by oid)) from pg_proc where oid < 16384 and proacl is not null),
  (select string_agg(extname, ',' order by extname) from pg_extension),
  (select format('%s %s %s %s', datdba, datacl, datconnlimit, datallowconn) from pg_database where datname = current_database()),
  (select string_agg(kind || oid, ',' order by kind, oid) from (
    select 'trigger' as kind, oid from pg_event_trigger union all select 'publication', oid from pg_publication
    union all select 'wrapper', oid from pg_foreign_data_wrapper union all select 'server', oid from pg_foreign_server
    union all select 'language', oid from pg_language union all select 'cast', oid from pg_cast where oid >= 16384
    union all select 'acl', oid from pg_default_acl union all select 'large object', oid from pg_largeobject_metadata
    union all select 'setting', setrole from pg_db_role_setting join pg_database on oid = setdatabase where datname = current_database()
    union all select 'slot', 0 from pg_replication_slots where database = current_database()) as others)
]::text
"""
"""What a database holds beside the tables, functions and types of its schemas, as a text to compare."""


@dataclass(frozen=True)
class Database:
    """One database of a cluster and how to reach it. Everybody on loopback is trusted; `user` is a superuser."""

    host: str
    port: int
    name: str
    user: str

    @property
    def dsn(self) -> str:
        """For libpq and psycopg."""
        return f"host={self.host} port={self.port} dbname={self.name} user={self.user}"

    @property
    def url(self) -> str:
        """For SQLAlchemy."""
        return f"postgresql+psycopg://{self.user}@{self.host}:{self.port}/{self.name}"

    def execute(self, *statements: str) -> None:
        """Run statements in this process, each in a transaction of its own: sooner than the `psql` program starts."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def state(self, *statements: str) -> str:
        """Run statements, and say what the database is like then. Nothing if they fail."""
        try:
            with psycopg.connect(self.dsn, autocommit=True, client_encoding="utf8") as connection:
                for statement in statements:
                    connection.execute(statement.encode())
                found = connection.execute(LIKE_NEW.encode()).fetchone()
                return str(found[0]) if found else ""
        except psycopg.Error:
            return ""

    def psql(self, sql: str) -> str:
        """Run SQL through the `psql` program; unaligned tuples. Raises CalledProcessError at the first error."""
        argv = [program("psql", *_BIN_FOLDERS), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.dsn]
        return subprocess.run(argv, input=sql, capture_output=True, text=True, timeout=180, check=True).stdout


class Cluster:
    """A cluster that can be stopped and started again, as faults need it."""

    user = "postgres"

    def __init__(self, folder: Path, account: Account, extra_config: str = "", primary: Cluster | None = None) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "postgres.log"
        self.port = free_port()
        self._account = account
        self._process: subprocess.Popen[bytes] | None = None
        self._spare: list[Database] = []
        self._new = ""
        if primary is None:
            self._run("initdb", "-D", str(self.data), "-U", self.user, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        else:
            place = ["-h", "127.0.0.1", "-p", str(primary.port), "-U", self.user]
            self._run("pg_basebackup", "-D", str(self.data), *place, "-R", "-X", "stream", "--checkpoint=fast", "--no-sync")
        with (self.data / "postgresql.conf").open("a") as config:
            config.write(f"{CONFIG}port = {self.port}\nunix_socket_directories = '{folder}'\n{extra_config}\n")

    def _run(self, name: str, *arguments: str) -> None:
        done = spawn([program(name, *_BIN_FOLDERS), *arguments], log=self.log, account=self._account, cwd=self.folder)
        status = done.wait(180)
        end(done)
        if status != 0:
            raise RuntimeError(f"{name} failed:\n{self.log.read_text()}")

    @contextlib.contextmanager
    def standby(self) -> Iterator[Cluster]:
        """A running copy that follows this cluster until it is promoted."""
        with scratch("standby", self._account) as folder:
            copy = Cluster(folder, self._account, primary=self)
            try:
                copy.start()
                yield copy
            finally:
                copy.stop(signal.SIGQUIT)

    def promote(self) -> None:
        """Make a standby a primary, on a timeline of its own."""
        self._run("pg_ctl", "promote", "-w", "-D", str(self.data))

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the cluster is stopped")
        return self._process.pid

    def start(self) -> None:
        argv = [program("postgres", *_BIN_FOLDERS), "-D", str(self.data)]
        self._process = spawn(argv, log=self.log, account=self._account, cwd=self.folder)
        wait_until_ready(self._process, self._answers, self.log)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends sessions and shuts down cleanly, SIGQUIT leaves as in a crash."""
        if self._process is not None:
            end(self._process, how)
            self._process = None

    def _answers(self) -> bool:
        argv = [program("pg_isready", *_BIN_FOLDERS), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(argv, check=False).returncode == 0

    @contextlib.contextmanager
    def database(self) -> Iterator[Database]:
        """An empty database for the length of the block: one that was emptied after another block and is like new, or a new one.

        Making one and dropping it takes longer than most tests. Its name is new in any case: who knows the old one does not get in.
        """
        database = self._made()
        try:
            yield database
        finally:
            if self._process is not None:
                if database.state(*EMPTIED) == self._new:
                    self._spare.append(database)
                else:
                    self._admin.execute(f"drop database if exists {database.name} with (force)")

    @property
    def _admin(self) -> Database:
        return Database("127.0.0.1", self.port, "postgres", self.user)

    def _made(self) -> Database:
        made = replace(self._admin, name=f"waybill_{next(_serial)}")
        spare = self._spare.pop() if self._spare else None
        self._admin.execute(f"alter database {spare.name} rename to {made.name}" if spare else f"create database {made.name}")
        self._new = self._new or made.state()
        return made


@contextlib.contextmanager
def serve_postgres(*, extra_config: str = "") -> Iterator[Cluster]:
    account = ordinary_account("postgres")
    with scratch("postgres", account) as folder:
        cluster = Cluster(folder, account, extra_config)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop(signal.SIGQUIT)
