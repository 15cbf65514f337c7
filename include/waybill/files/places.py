"""Opens the place of a consumer's files: a folder, or a path on an SFTP server. It needs neither ledger nor configuration."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from waybill.configuration.registration import FolderDestination, SftpDestination
from waybill.connection import Connection, Connections
from waybill.destinations import Destination, open_destination
from waybill.errors import PermanentError
from waybill.files import verification
from waybill_consumer.errors import Refused
from waybill_consumer.signatures import read_signers
from waybill_consumer.verification import Report

_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
_FORMS = "a folder, sftp:CONNECTION_ID[/path], sftp://CONNECTION_ID/path, or sftp://user@host[:port]/path"


def verify(
    place: str,
    connections: Connections,
    *,
    connection: str = "",
    key: Path | None = None,
    signers: Sequence[str] = (),
    progress: Callable[[str], None] = lambda path: None,
) -> Report:
    """Check everything at `place`: a folder, `sftp:CONNECTION_ID[/path]`, `sftp://CONNECTION_ID/path` or `sftp://user@host[:port]/path`.

    The last form takes host key and credentials from `connection` if that is given, else the host key from ~/.ssh/known_hosts and a key
    file: `key`, or the account's own one. `signers` are public keys, or files of them. With them, what none of them signed is a problem.

    Raises PermanentError if the place is missing or not allowed, and TransientError if it is out of reach.
    """
    try:
        allowed = read_signers(signers)
    except Refused as error:
        raise PermanentError(error.what, where=error.where, next_step=error.next_step, code="bad_signer") from error
    destination, base = _place(place, connections, connection, key)
    with destination.connect() as session:
        return verification.verify(session, base, progress, allowed)


def _place(place: str, connections: Connections, connection: str, key: Path | None) -> tuple[Destination, str]:
    if not place.startswith("sftp:"):
        folder = Path(place).resolve()
        if not folder.is_dir():
            raise PermanentError(f"{place!r} is not a folder", allowed=_FORMS, code="no_such_place")
        return open_destination(FolderDestination(kind="folder", root=str(folder)), folder, connections), str(folder)
    found, path = _server(place, connections, connection, key)
    spec = SftpDestination.model_construct(kind="sftp", connection=found.id, root=path)  # there is no registration; walking checks the path
    return open_destination(spec, Path.cwd(), lambda _: found), path


def _server(place: str, connections: Connections, connection: str, key: Path | None) -> tuple[Connection, str]:
    """Return the connection to use, and the path on the server."""
    if not place.startswith("sftp://"):
        name, _, path = place.removeprefix("sftp:").partition("/")
        if not name:
            raise PermanentError(f"{place!r} names no connection", allowed=_FORMS, code="no_such_place")
        return connections(name), f"/{path}"
    try:
        url = urlsplit(place)
        port = url.port
    except ValueError as error:
        raise PermanentError(f"{place!r} is not a location: {error}", allowed=_FORMS, code="no_such_place") from error
    if url.password is not None:
        step = "Passwords do not belong into a command line: put it into an Airflow connection and name that with --connection"
        raise PermanentError("the location holds a password", next_step=step, code="secret_in_location")
    path = unquote(url.path) or "/"
    if url.username is None and port is None and not connection and key is None:
        return connections(url.netloc), path
    login = unquote(url.username or "")
    if connection:
        known = connections(connection)
        return replace(known, host=url.hostname or known.host, port=port or known.port, login=login or known.login), path
    extra = {"known_hosts": "~/.ssh/known_hosts", "key_file": str(key or _own_key())}
    return Connection(url.hostname or "", "sftp", url.hostname or "", port, login or _own_name(), extra=extra), path


def _own_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:  # a container may run under a number that has no name
        step = "Write it into the location: sftp://user@host/path"
        raise PermanentError("this account has no name to log in with", next_step=step, code="no_such_place") from error


def _own_key() -> Path:
    """Return the first of the account's usual private keys."""
    found = [path for name in _KEYS if (path := Path.home() / ".ssh" / name).exists()]
    if not found:
        step = "Name one with --key, or an Airflow connection with --connection"
        raise PermanentError(f"~/.ssh holds none of {', '.join(_KEYS)}", next_step=step, code="no_key")
    return found[0]
