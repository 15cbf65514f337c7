"""A MariaDB server of its own, thrown away afterwards."""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.servers.process import end, free_port, ordinary_account, program, running, scratch, spawn

_serial = itertools.count(1)


@dataclass(frozen=True)
class MariaDatabase:
    """One database of the server; `user` has every right and no password."""

    host: str
    port: int
    name: str
    user: str

    @property
    def url(self) -> str:
        return f"mysql+pymysql://{self.user}@{self.host}:{self.port}/{self.name}?charset=utf8mb4"

    def connect(self, **options: Any) -> Any:
        """By PyMySQL, which would read every certificate of this machine for a connection that could be one of TLS."""
        import pymysql

        fields = {"host": self.host, "port": self.port, "user": self.user, "database": self.name, "charset": "utf8mb4"}
        return pymysql.connect(**{**fields, "ssl_disabled": True, **options})


@dataclass(frozen=True)
class MariaServer:
    host: str
    port: int
    user: str

    @contextlib.contextmanager
    def database(self) -> Iterator[MariaDatabase]:
        """A fresh, empty database for the length of the block."""
        name = f"waybill_{next(_serial)}"
        with MariaDatabase(self.host, self.port, "mysql", self.user).connect() as admin, admin.cursor() as cursor:
            cursor.execute(f"create database {name} character set utf8mb4")
            try:
                yield MariaDatabase(self.host, self.port, name, self.user)
            finally:
                cursor.execute(f"drop database {name}")


@contextlib.contextmanager
def serve_mariadb(*options: str) -> Iterator[MariaServer]:
    account = ordinary_account("mysql")
    with scratch("mariadb", account) as folder:
        data, log, own = folder / "data", folder / "mariadb.log", folder / "tmp"
        own.mkdir()  # a server that starts removes the temporary tables that it finds, also those of others
        account.own(own)
        install = [program("mariadb-install-db"), "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal"]
        install += ["--skip-test-db", "--skip-name-resolve", f"--tmpdir={own}"]
        made = spawn(install, log=log, account=account, cwd=folder)
        status = made.wait(180)
        end(made)
        if status != 0:
            raise RuntimeError(f"mariadb-install-db failed:\n{log.read_text()}")
        port = free_port()
        argv = [program("mariadbd"), "--no-defaults", f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1"]
        argv += [f"--socket={folder}/mysql.sock", f"--pid-file={folder}/mysql.pid", "--innodb-flush-log-at-trx-commit=0"]
        argv += [f"--tmpdir={own}", "--innodb-buffer-pool-size=32M", "--character-set-server=utf8mb4", "--skip-name-resolve", *options]
        with running(argv, ready=lambda: "ready for connections" in log.read_text(errors="replace"), log=log, account=account, cwd=folder):
            yield MariaServer("127.0.0.1", port, "root")
