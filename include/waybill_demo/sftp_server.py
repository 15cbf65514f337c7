"""An SFTP server for demonstrations and tests, on this machine only. Each tenant has one account that is locked into its own folder."""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
from asyncssh.kex import get_kex_algs

from waybill.destinations.local_files import rename_new
from waybill.destinations.sftp.channels import running_loop, wait
from waybill.destinations.sftp.login import CIPHERS, KEY_EXCHANGES, MACS

_KEY_EXCHANGES = [name for name in KEY_EXCHANGES if "nistp" not in name and "group14" not in name and name.encode() in get_kex_algs()]
_CIPHERS = [name for name in CIPHERS if name.startswith("aes")]
_MACS = [name for name in MACS if "etm" in name]
_HERE = -100  # AT_FDCWD: paths are absolute or relative to the working directory


@dataclass(frozen=True)
class RunningServer:
    """Where the server listens, and what a client needs to pin it."""

    host: str
    port: int
    host_key: str
    """The host key as in the connection's extra: `ssh-ed25519 AAAA...`."""

    accounts: Mapping[str, str] = field(repr=False)
    """Passwords by login."""

    def connection_uri(self, login: str) -> str:
        """Return an Airflow connection as the JSON of `AIRFLOW_CONN_<ID>`. It holds the password."""
        import json

        extra = {"host_key": self.host_key}
        return json.dumps(
            {"conn_type": "sftp", "host": self.host, "port": self.port, "login": login, "password": self.accounts[login], "extra": extra}
        )


class TenantFolder(asyncssh.SFTPServer):
    """One tenant's view: its own folder is `/`. Renaming never overwrites, as version 3 of the protocol wants, and nobody can make
    links.
    """

    def rename(self, oldpath: bytes, newpath: bytes) -> Any:
        old, new = (Path(os.fsdecode(self.map_path(path))) for path in (oldpath, newpath))
        if old.is_dir():
            rename_new(str(old), str(new), _HERE, _HERE)
        else:
            os.link(old, new, follow_symlinks=False)
            old.unlink()

    def symlink(self, oldpath: bytes, newpath: bytes) -> Any:
        raise asyncssh.SFTPOpUnsupported("links cannot be made here")

    def link(self, oldpath: bytes, newpath: bytes) -> Any:
        raise asyncssh.SFTPOpUnsupported("links cannot be made here")


class _Logins(asyncssh.SSHServer):
    def __init__(self, accounts: Mapping[str, str], connections: set[asyncssh.SSHServerConnection]) -> None:
        self._accounts = accounts
        self._connections = connections
        self._own: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._own = conn
        self._connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._own is not None:
            self._connections.discard(self._own)

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        known = self._accounts.get(username)
        return known is not None and hmac.compare_digest(known.encode(), password.encode())


def new_accounts(logins: Iterable[str]) -> dict[str, str]:
    """Return a fresh password for each login."""
    return {login: secrets.token_urlsafe(18) for login in logins}


@contextmanager
def serve(
    accounts: Mapping[str, str],
    root: Path,
    state_folder: Path,
    port: int = 0,
    view: Callable[..., asyncssh.SFTPServer] = TenantFolder,
) -> Iterator[RunningServer]:
    """Serve `root/<login>` to each of `accounts` (passwords by login) on 127.0.0.1 for the length of the block, in a thread.

    `state_folder` keeps the host key, so clients may pin it for good. Port 0 takes a free one.
    """
    host_key = _host_key(state_folder)
    for login in accounts:
        (root / login).mkdir(parents=True, exist_ok=True)

    def folder_of(channel: asyncssh.SSHServerChannel[Any]) -> asyncssh.SFTPServer:
        login = channel.get_extra_info("username")
        return view(channel, chroot=os.fsencode(root / login))

    connections: set[asyncssh.SSHServerConnection] = set()

    async def start() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1",
            port,
            server_factory=lambda: _Logins(accounts, connections),
            server_host_keys=[host_key],
            sftp_factory=folder_of,
            config=None,
            allow_scp=False,
            compression_algs=["none"],
            kex_algs=_KEY_EXCHANGES,
            encryption_algs=_CIPHERS,
            mac_algs=_MACS,
        )

    with running_loop("waybill-demo-sftp") as loop:
        acceptor = wait(loop, start())
        try:
            yield RunningServer("127.0.0.1", acceptor.get_port(), host_key.export_public_key().decode().strip(), dict(accounts))
        finally:
            wait(loop, _stop(acceptor, connections))


async def _stop(acceptor: asyncssh.SSHAcceptor, connections: Iterable[asyncssh.SSHServerConnection]) -> None:
    acceptor.close()
    left = list(connections)
    for connection in left:
        connection.abort()
    await asyncio.gather(acceptor.wait_closed(), *(connection.wait_closed() for connection in left))


def _host_key(state_folder: Path) -> asyncssh.SSHKey:
    """Return the key that the folder keeps. It is made on first use."""
    path = state_folder / "sftp_host_key"
    if not path.exists():
        state_folder.mkdir(parents=True, exist_ok=True)
        made = asyncssh.generate_private_key("ssh-ed25519")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(made.export_private_key())
    return asyncssh.read_private_key(str(path))
