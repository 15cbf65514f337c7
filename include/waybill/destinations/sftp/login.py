"""Logging in to an SFTP server from an Airflow connection: only the pinned host, only the given credentials, always within a time limit."""

from __future__ import annotations

import asyncio
import logging
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
from asyncssh.constants import MSG_IGNORE

from waybill.connection import Connection
from waybill.destinations.sftp.packets import Lost
from waybill.destinations.sftp.wire import Wire
from waybill.errors import PermanentError, TransientError

CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
"""AES-GCM first: nearly twice as fast as OpenSSH's own first choice on processors with AES instructions."""

logging.getLogger("asyncssh").setLevel(logging.WARNING)  # it tells of every channel at INFO, a dozen lines a session

_KEY_KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512", "rsa-sha2-256")
_RECEIVE_WINDOW = 4 * 1024 * 1024


@dataclass(frozen=True)
class Settings:
    """What a connection says, checked."""

    label: str
    host: str
    port: int
    login: str
    pins: tuple[asyncssh.SSHKey, ...]
    key: asyncssh.SSHKey | None = field(repr=False)
    password: str = field(repr=False)
    ciphers: tuple[str, ...] = CIPHERS
    connect_seconds: float = 20.0
    login_seconds: float = 30.0
    stall_seconds: float = 60.0
    address: str = ""
    """Where the host was looked up and checked already; empty leaves that to the libraries."""


def settings(connection: Connection) -> Settings:
    """Reads the provider's own keys of `extra`. Raises PermanentError for a missing or unusable setting; no value of a secret is named."""
    port = connection.port or 22
    label = f"sftp {connection.id} ({connection.host}:{port})"
    extra = connection.extra
    host = connection.host.removeprefix("[").removesuffix("]")  # an IPv6 address as URLs write it
    if not host or not connection.login:
        missing = "login" if host else "host"
        raise _unusable(label, f"the connection has no {missing}", f"Set the {missing} of the Airflow connection {connection.id}")
    pins = _pins(label, host, port, extra)
    key = _private_key(label, connection)
    if key is None and not connection.password:
        raise _unusable(
            label, "the connection has neither a password nor a private key", "Set the password, or private_key or key_file in extra"
        )
    return Settings(
        label,
        host,
        port,
        connection.login,
        pins,
        key,
        connection.password,
        _ciphers(label, extra),
        _seconds(label, extra, "conn_timeout", 20.0),
        _seconds(label, extra, "banner_timeout", 30.0),
        _seconds(label, extra, "cmd_timeout", 60.0),
        connection.address,
    )


def _unusable(label: str, what: str, next_step: str) -> PermanentError:
    return PermanentError(what, where=label, next_step=next_step, code="connection")


def _seconds(label: str, extra: Mapping[str, Any], key: str, default: float) -> float:
    value = extra.get(key)
    if value in (None, "", 0, "0"):
        return default
    try:
        seconds = float(str(value))
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 86400:
        raise _unusable(label, f"{key} in extra is not a number of seconds", f"Correct {key}, or leave it out for {default:g}")
    return seconds


def _ciphers(label: str, extra: Mapping[str, Any]) -> tuple[str, ...]:
    given = extra.get("ciphers") or CIPHERS
    names = tuple(given.replace(",", " ").split() if isinstance(given, str) else map(str, given))
    unknown = sorted(set(names) - {name.decode() for name in asyncssh.encryption.get_encryption_algs()})
    if unknown:
        raise _unusable(label, f"unknown ciphers in extra: {', '.join(unknown)}", f"Leave ciphers out, or choose from {', '.join(CIPHERS)}")
    return names


def _pins(label: str, host: str, port: int, extra: Mapping[str, Any]) -> tuple[asyncssh.SSHKey, ...]:
    """The host keys to accept: `host_key` (one or more lines), else what `known_hosts` (a file) says of this host."""
    scan = f"ssh-keyscan -p {port} {shlex.quote(host)}"
    how = f"Run `{scan}`, compare the keys with what the server's owner says, and put one in extra as host_key"
    if str(extra.get("no_host_key_check", "")).lower() == "true":
        raise _unusable(label, "no_host_key_check is set, but Waybill talks only to a pinned host", f"Take it out. {how}")
    given, file = extra.get("host_key"), extra.get("known_hosts")
    if given:
        return tuple(_host_key(label, line, how) for line in str(given).splitlines() if line.strip())
    if file and str(file).lower() != "none":
        try:
            known, _, revoked, *_ = asyncssh.match_known_hosts(str(Path(str(file)).expanduser()), host, "", port)
        except (OSError, ValueError) as error:
            raise _unusable(label, f"the known_hosts file {file} cannot be read", how) from error
        if found := tuple(key for key in known if key not in revoked):
            return found
        what = f"has revoked every key it names of {host}" if known else f"does not name {host}"
        raise _unusable(label, f"the known_hosts file {file} {what}", how)
    raise _unusable(label, "the connection pins no host key", how)


def _host_key(label: str, line: str, how: str) -> asyncssh.SSHKey:
    """`ssh-ed25519 AAAA...`, with or without a host in front, or the bare base64 of an RSA key as the provider takes it."""
    words = line.split()
    start = next((number for number, word in enumerate(words) if word.startswith(("ssh-", "ecdsa-"))), None)
    text = f"ssh-rsa {words[0]}" if start is None else " ".join(words[start : start + 2])
    try:
        return asyncssh.import_public_key(text)
    except (asyncssh.KeyImportError, ValueError) as error:
        raise _unusable(label, "host_key in extra is not a public key such as `ssh-ed25519 AAAA...`", how) from error


def _private_key(label: str, connection: Connection) -> asyncssh.SSHKey | None:
    text, file = connection.extra.get("private_key"), connection.extra.get("key_file")
    extra = connection.extra
    passphrase = extra.get("private_key_passphrase") or extra.get("passphrase") or connection.password or None
    try:
        if text:
            return asyncssh.import_private_key(str(text).strip() + "\n", passphrase)
        if file:
            return asyncssh.read_private_key(str(Path(str(file)).expanduser()), passphrase)
    except OSError as error:
        raise _unusable(label, f"the key file {file} cannot be read: {error.strerror}", "Correct key_file in extra") from error
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError):
        # Not chained: what a parser says of a key may quote the key.
        raise _unusable(
            label,
            f"the private key in {'private_key' if text else f'the file {file}'} cannot be used",
            "It must be a whole PEM or OpenSSH key; set private_key_passphrase when it is encrypted",
        ) from None
    return None


class _Pinned(asyncssh.SSHClient):
    """Accepts the pinned keys and remembers what the server showed."""

    def __init__(self, pins: tuple[asyncssh.SSHKey, ...]) -> None:
        self._pins = {pin.public_data for pin in pins}
        self.shown: asyncssh.SSHKey | None = None

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.shown = key
        return key.public_data in self._pins


async def log_in(chosen: Settings) -> tuple[asyncssh.SSHClientConnection, Wire]:
    """An SSH connection and its SFTP channel, both ready.

    Raises TransientError when the server cannot be reached, is too slow or has no room, PermanentError when it is another host or
    refuses the login.
    """
    client = _Pinned(chosen.pins)
    connection: asyncssh.SSHClientConnection | None = None
    with _told(chosen, client):
        try:
            async with asyncio.timeout(chosen.connect_seconds + chosen.login_seconds):
                connection = await _connect(chosen, client)
                _without_fillers(connection)
                wire = await open_channel(connection, chosen.stall_seconds)
        except BaseException:
            if connection is not None:
                connection.abort()
            raise
        return connection, wire


async def open_channel(connection: asyncssh.SSHClientConnection, stall: float) -> Wire:
    """An SFTP channel on a connection. Raises asyncssh's errors and Lost."""
    wire = Wire(stall)
    await connection.create_session(lambda: _Session(wire), subsystem="sftp", encoding=None, window=_RECEIVE_WINDOW)
    await wire.start()
    return wire


class _Session(asyncssh.SSHClientSession[bytes]):
    """A channel of asyncssh's as a wire takes it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._wire.connection_made(chan)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wire.connection_lost(exc)

    def eof_received(self) -> bool:
        self._wire.give_up("the server closed the channel")
        return False

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if datatype is None:  # else it is what the server prints to its error output
            self._wire.data_received(data)


async def _connect(chosen: Settings, client: _Pinned) -> asyncssh.SSHClientConnection:
    kinds = {
        kind
        for pin in chosen.pins
        for kind in (("rsa-sha2-512", "rsa-sha2-256") if pin.get_algorithm() == "ssh-rsa" else (pin.get_algorithm(),))
    }
    return await asyncssh.connect(
        chosen.address or chosen.host,
        chosen.port,
        client_factory=lambda: client,
        known_hosts=([], [], []),  # the pins are checked by the client, which can tell what it saw
        server_host_key_algs=sorted(_KEY_KINDS, key=lambda kind: kind not in kinds),
        username=chosen.login,
        password=chosen.password or None,
        client_keys=[chosen.key] if chosen.key else None,
        agent_path=None,
        config=None,
        encryption_algs=list(chosen.ciphers),
        compression_algs=["none"],
        connect_timeout=chosen.connect_seconds,
        login_timeout=chosen.login_seconds,
        keepalive_interval=30,
    )


def _without_fillers(connection: asyncssh.SSHClientConnection) -> None:
    """asyncssh puts an empty packet before each, against a weakness of CBC ciphers alone; with the others that is half of all packets."""
    if str(connection.get_extra_info("send_cipher")).endswith("-cbc"):
        return
    send = connection.send_packet

    def send_packet(kind: int, *args: bytes, **options: Any) -> None:
        if kind != MSG_IGNORE:
            send(kind, *args, **options)

    connection.send_packet = send_packet  # type: ignore[assignment, method-assign]


@contextmanager
def _told(chosen: Settings, client: _Pinned) -> Iterator[None]:
    """Turns what goes wrong while logging in into an error that says who has to do what."""
    label = chosen.label
    try:
        yield
    except TimeoutError as error:
        raise TransientError(
            "the server did not answer in time", where=label, next_step="Check host, port and firewalls", code="unreachable"
        ) from error
    except asyncssh.HostKeyNotVerifiable as error:
        raise _wrong_host(chosen, client) from error
    except asyncssh.PermissionDenied as error:
        by = " or ".join(name for name, given in (("key", chosen.key), ("password", chosen.password)) if given)
        raise PermanentError(
            f"the server refused the login {chosen.login} by {by}",
            where=label,
            next_step="Correct the credentials or ask the server's owner",
            code="login",
        ) from error
    except asyncssh.KeyExchangeFailed as error:
        raise PermanentError(
            f"no common algorithms: {error.reason}", where=label, next_step="Ask the server's owner to update it", code="algorithms"
        ) from error
    except asyncssh.ChannelOpenError as error:
        raise TransientError(
            f"logged in, but the server opened no SFTP channel: {error.reason}",
            where=label,
            next_step="It may allow too few connections",
            code="busy",
        ) from error
    except (asyncssh.Error, Lost) as error:
        raise TransientError(
            f"the server ended the connection: {error}", where=label, next_step="It may allow too few connections", code="busy"
        ) from error
    except OSError as error:
        reason = error.strerror or "host name not found or no route"
        raise TransientError(
            f"could not connect: {reason}", where=label, next_step="Check host and port of the connection", code="unreachable"
        ) from error


def _wrong_host(chosen: Settings, client: _Pinned) -> PermanentError:
    expected = ", ".join(f"{pin.get_algorithm()} {pin.get_fingerprint()}" for pin in chosen.pins)
    seen = f"{client.shown.get_algorithm()} {client.shown.get_fingerprint()}" if client.shown else "none it could prove"
    return PermanentError(
        f"this is not the pinned host: expected {expected}, seen {seen}",
        where=chosen.label,
        next_step="Do not connect before the server's owner confirms the new key; then put it in extra as host_key",
        code="host_key",
    )
