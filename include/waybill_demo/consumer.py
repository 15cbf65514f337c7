"""What a tenant does at the other end: log in over SFTP, look around, fetch everything, check it. It shares nothing with the sender: it
uses paramiko, the sender asyncssh.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR

import paramiko

from waybill_consumer.places.folder import Folder
from waybill_consumer.verification import Report, verify


@dataclass(frozen=True)
class Account:
    """How a tenant reaches its files. `host_key` is spelt as in known_hosts: `ssh-ed25519 AAAA...`."""

    host: str
    port: int
    host_key: str
    login: str
    password: str


@contextmanager
def _session(account: Account) -> Iterator[paramiko.SFTPClient]:
    kind, key = account.host_key.split()[:2]
    transport = paramiko.Transport((account.host, account.port))
    try:
        transport.connect(paramiko.PKey.from_type_string(kind, base64.b64decode(key)), account.login, account.password)
        client = paramiko.SFTPClient.from_transport(transport)
        if client is None:
            raise paramiko.SSHException("the server opens no SFTP session")
        yield client
    finally:
        transport.close()


def fetch(account: Account, target: Path) -> list[str]:
    """Copy all that the account can see into `target`. Returns the files' paths as the server names them."""
    with _session(account) as client:
        paths = list(_walk(client, "/"))
        for path in paths:
            place = target / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            client.get(path, str(place))
    return paths


def _walk(client: paramiko.SFTPClient, folder: str) -> Iterator[str]:
    for entry in sorted(client.listdir_attr(folder), key=lambda item: item.filename):
        path = f"{folder.rstrip('/')}/{entry.filename}"
        if S_ISDIR(entry.st_mode or 0):
            yield from _walk(client, path)
        else:
            yield path


def check(fetched: Path) -> Report:
    """Verify every manifest, file and chain below a fetched folder."""
    return verify(Folder(fetched))


def tree(fetched: Path, paths: list[str]) -> Iterator[str]:
    """Yield what the consumer sees, with a line for each folder that holds files."""
    folders: dict[str, list[str]] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        folders.setdefault(folder, []).append(name)
    day = ""
    for folder, names in sorted(folders.items()):
        above, _, last = folder.rpartition("/")
        if "_MANIFEST.json" in names:
            above, last = folder, "."
        if above != day:
            day = above
            yield f"  {day}/"
        yield f"    {last + '/':34} {'  '.join(sorted(names))}{_facts(fetched / folder.lstrip('/'), names)}"


def _facts(folder: Path, names: list[str]) -> str:
    found = [json.loads((folder / name).read_text("utf-8")) for name in names if name.endswith(".manifest.json")]
    return "".join(f"   ({manifest['kind']}, {manifest['rows']:,} row{'' if manifest['rows'] == 1 else 's'})" for manifest in found)
