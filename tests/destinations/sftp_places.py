"""Real places files go to, each as a destination and as the folder on this machine its files land in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.servers.sshd import SftpAccess
from waybill.connection import Connection
from waybill.destinations.base import Destination, Profile
from waybill.destinations.folder import Folder
from waybill.destinations.sftp.session import Sftp
from waybill_demo.sftp_server import RunningServer, TenantFolder, new_accounts, serve


@dataclass(frozen=True)
class Place:
    destination: Destination
    root: Path


def key_connection(access: SftpAccess, **extra: Any) -> Connection:
    extra = {"host_key": access.host_key, "private_key": access.private_key.read_text()} | extra
    return Connection("acme_sftp", "sftp", access.host, access.port, access.login, extra=extra)


def password_connection(server: RunningServer, login: str = "acme", **extra: Any) -> Connection:
    extra = {"host_key": server.host_key, "cmd_timeout": 10} | extra
    return Connection("acme_sftp", "sftp", server.host, server.port, login, password=server.accounts[login], extra=extra)


def local_place(folder: Path) -> Place:
    return Place(Folder(folder / "root"), folder / "root")


def key_place(access: SftpAccess, profile: Profile = Profile.FULL) -> Place:
    case = uuid4().hex
    (access.root / case).mkdir(mode=0o777)
    (access.root / case).chmod(0o777)  # ProFTPD serves as another account
    return Place(Sftp(key_connection(access), f"{access.remote_root.rstrip('/')}/{case}", profile), access.root / case)


@contextmanager
def embedded(
    folder: Path, view: Callable[..., TenantFolder] = TenantFolder, profile: Profile = Profile.FULL, **extra: Any
) -> Iterator[Place]:
    """A demo server of its own, with a view that may behave oddly."""
    with serve(new_accounts(["acme"]), folder / "tenants", folder / "state", view=view) as server:
        yield Place(Sftp(password_connection(server, **extra), "/", profile), folder / "tenants" / "acme")
