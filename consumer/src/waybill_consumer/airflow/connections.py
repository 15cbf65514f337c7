"""Turns an SFTP connection of Airflow into what the consumer logs in with. Secrets stay in the connection: triggers carry its id alone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from waybill_consumer.errors import Refused
from waybill_consumer.places import Login, Place, open_place

if TYPE_CHECKING:
    from airflow.sdk import Connection

FRESH = Login()


@contextmanager
def opened(source: str, connection: Connection | None) -> Iterator[Place]:
    """Open the place for the length of the block. With a connection, `source` is a path on its server."""
    with login_of(source, connection) as (place, login), open_place(place, login) as found:
        yield found


@contextmanager
def login_of(source: str, connection: Connection | None) -> Iterator[tuple[str, Login]]:
    """Yield the SOURCE and the login. Keys and host keys in the connection itself become files for the length of the block."""
    if connection is None:
        yield source, FRESH
        return
    if "://" in source:
        step = "Give the path on the server, or leave the connection out"
        raise Refused(f"{source.partition('://')[0]}://... is no path on a server", next_step=step)
    extra: dict[str, Any] = connection.extra_dejson
    user = f"{quote(connection.login, safe='')}@" if connection.login else ""
    port = connection.port or 22
    url = f"sftp://{user}{connection.host}:{port}/{source.lstrip('/')}"
    with tempfile.TemporaryDirectory(prefix="waybill-login-") as folder:
        key = str(extra.get("key_file") or "")
        if text := extra.get("private_key"):
            key = str(_file(Path(folder) / "key", str(text).strip() + "\n"))
        hosts = ""
        if host_key := extra.get("host_key"):
            kind = "" if " " in str(host_key).strip() else "ssh-rsa "  # as Airflow's own hook reads a bare key
            where = str(connection.host) if port == 22 else f"[{connection.host}]:{port}"
            hosts = str(_file(Path(folder) / "known_hosts", f"{where} {kind}{str(host_key).strip()}\n"))
        yield url, Login(key, hosts, connection.password or "")


def _file(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    return path
