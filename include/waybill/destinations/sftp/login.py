"""Logs in to an SFTP server from an Airflow connection: to the pinned host only, with the given credentials only, and within a time
limit.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncssh
from asyncssh.constants import MSG_IGNORE, OPEN_REQUEST_SESSION_FAILED
from asyncssh.kex import get_kex_algs
from asyncssh.mac import get_mac_algs

from waybill.connection import Connection
from waybill.destinations.sftp.packets import Ended, Lost, Printed, said
from waybill.destinations.sftp.ssh_keys import host_keys, private_keys, spoken, unusable
from waybill.destinations.sftp.wire import Wire
from waybill.errors import PermanentError, TransientError

CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
"""AES-GCM comes first. It is nearly twice as fast as OpenSSH's own first choice on processors with AES instructions."""

KEY_EXCHANGES = (
    *("mlkem768x25519-sha256", "sntrup761x25519-sha512", "sntrup761x25519-sha512@openssh.com"),
    *("curve25519-sha256", "curve25519-sha256@libssh.org"),
    *("diffie-hellman-group16-sha512", "diffie-hellman-group18-sha512"),
    *("ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521", "diffie-hellman-group14-sha256"),
)
"""There is no SHA-1. The last row is for servers that are bound to NIST's curves, or are old."""

MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "umac-128-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")
"""Only AES-CTR needs these, because the other ciphers have their own. There is no SHA-1, and there are no short tags."""

logging.getLogger("asyncssh").setLevel(logging.WARNING)  # at INFO it logs every channel, a dozen lines a session

_KEY_KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512", "rsa-sha2-256")
_RECEIVE_WINDOW = 4 * 1024 * 1024
_ENDING_SECONDS = 5.0
"""How long a server has to say how a program of its ended."""

_LONGEST_WORDS = 200


@dataclass(frozen=True)
class Settings:
    """What a connection says, checked."""

    label: str
    host: str
    port: int
    login: str
    pins: tuple[asyncssh.SSHKey, ...]
    keys: tuple[asyncssh.SSHKey, ...] = field(repr=False)
    """The keys are tried in this order."""

    password: str = field(repr=False)
    ciphers: tuple[str, ...] = CIPHERS
    connect_seconds: float = 20.0
    login_seconds: float = 30.0
    stall_seconds: float = 60.0
    address: str = ""
    """The address, if the host was looked up and checked already. If it is empty, the libraries look it up."""


def settings(connection: Connection) -> Settings:
    """Read the provider's own keys of `extra`. Raises PermanentError for a missing or unusable setting. No secret value is named."""
    port = connection.port or 22
    label = f"sftp {connection.id} ({connection.host}:{port})"
    extra = connection.extra
    if connection.type not in ("sftp", "ssh", ""):
        step = f"Make it one of type sftp: AIRFLOW_CONN_{connection.id.upper()}=sftp://..., or name another connection"
        raise unusable(label, f"the connection is of type {connection.type}, which is no SFTP server", step)
    host = connection.host.removeprefix("[").removesuffix("]")  # an IPv6 address as URLs write it
    if not host:
        raise unusable(label, "the connection has no host", f"Set the host of the Airflow connection {connection.id}")
    if not connection.login:
        raise unusable(label, "the connection has no login", f"Set the login of the Airflow connection {connection.id}")
    pins = host_keys(label, host, port, extra)
    keys = private_keys(label, connection)
    if not keys and not connection.password:
        step = "Set the password, or private_key, private_keys or key_file in extra"
        raise unusable(label, "the connection has neither a password nor a private key", step)
    return Settings(
        label,
        host,
        port,
        connection.login,
        pins,
        keys,
        connection.password,
        _ciphers(label, extra),
        _seconds(label, extra, "conn_timeout", 20.0),
        _seconds(label, extra, "banner_timeout", 30.0),
        _seconds(label, extra, "cmd_timeout", 60.0),
        connection.address,
    )


def _seconds(label: str, extra: Mapping[str, Any], key: str, default: float) -> float:
    value = extra.get(key)
    if value in (None, "", 0, "0"):
        return default
    try:
        seconds = float(str(value))
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 86400:
        raise unusable(label, f"{key} in extra is not a number of seconds", f"Correct {key}, or leave it out for {default:g}")
    return seconds


def _ciphers(label: str, extra: Mapping[str, Any]) -> tuple[str, ...]:
    given = extra.get("ciphers") or CIPHERS
    names = tuple(given.replace(",", " ").split() if isinstance(given, str) else map(str, given))
    unknown = sorted(set(names) - {name.decode() for name in asyncssh.encryption.get_encryption_algs()})
    if unknown:
        raise unusable(label, f"unknown ciphers in extra: {', '.join(unknown)}", f"Leave ciphers out, or choose from {', '.join(CIPHERS)}")
    return names


class _Pinned(asyncssh.SSHClient):
    """Accepts the pinned keys, offers the login's keys one by one, and remembers what the server showed and which key it took."""

    def __init__(self, chosen: Settings) -> None:
        self._pins = {pin.public_data for pin in chosen.pins}
        self._keys = iter(chosen.keys)
        self.shown: asyncssh.SSHKey | None = None
        self.offered: asyncssh.SSHKey | None = None
        """The key that was offered last. It is the one in use after a login by key, and None after a login by password."""
        self.accepted = False
        """Whether the server took the login."""
        self.words = ""
        """What the server said last while it looked at the login, as that a password has expired."""

    def auth_banner_received(self, msg: str, lang: str) -> None:
        self.words = said(msg)[:_LONGEST_WORDS].rstrip(".")

    def auth_completed(self) -> None:
        self.accepted = True

    def public_key_auth_requested(self) -> asyncssh.SSHKey | None:
        self.offered = next(self._keys, None)
        return self.offered

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.shown = key
        return key.public_data in self._pins


@dataclass(frozen=True)
class LoggedIn:
    """A connection, its SFTP channel, and the keys that both sides proved themselves with."""

    connection: asyncssh.SSHClientConnection
    wire: Wire
    block: int
    """The most bytes that one read may hold."""

    key: asyncssh.SSHKey | None
    """None if the server took the password."""

    host_key: asyncssh.SSHKey | None
    address: str
    """Where the server was reached. A further login goes to the same machine, also if the name has several."""


async def log_in(chosen: Settings) -> LoggedIn:
    """Open an SSH connection and its SFTP channel.

    Raises TransientError if the server cannot be reached, is too slow or has no room, and PermanentError if it is another host or refuses
    the login.
    """
    client = _Pinned(chosen)
    connection: asyncssh.SSHClientConnection | None = None
    with _translated(chosen, client):
        try:
            async with asyncio.timeout(chosen.connect_seconds + chosen.login_seconds):
                connection = await _connect(chosen, client)
                _without_fillers(connection)
                wire, block = await _begin(connection, chosen.stall_seconds)
        except BaseException:
            if connection is not None:
                connection.abort()
            raise
        address, _ = socket.getnameinfo(connection.get_extra_info("peername"), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
        return LoggedIn(connection, wire, block, client.offered, client.shown, address)


async def _begin(connection: asyncssh.SSHClientConnection, stall: float) -> tuple[Wire, int]:
    """Open the first channel. Raises Ended if what serves SFTP ended twice on the same connection, because no later try can pass then.

    A server that goes down in this moment ends the connection as well, or ends its processes by a signal.
    """
    try:
        return await open_channel(connection, stall)
    except Ended:
        return await open_channel(connection, stall)


async def open_channel(connection: asyncssh.SSHClientConnection, stall: float) -> tuple[Wire, int]:
    """Open an SFTP channel on a connection. Return it with the most bytes that one read may hold. Raises asyncssh's errors and Lost."""
    wire = Wire(stall)
    session = _Session(wire)
    try:
        await connection.create_session(lambda: session, subsystem="sftp", encoding=None, window=_RECEIVE_WINDOW)
        return wire, (await wire.start())[0]
    except asyncssh.ChannelOpenError as error:
        if error.code == OPEN_REQUEST_SESSION_FAILED:
            raise Ended("the server starts no SFTP for it") from error
        raise
    except Printed:
        raise
    except Lost as error:
        if how := await session.ending():
            raise Ended(how) from error
        raise


class _Session(asyncssh.SSHClientSession[bytes]):
    """One of asyncssh's channels in the form that a wire needs."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._status: int | None = None
        self._closed_by_server = False
        self._gone = asyncio.Event()

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._wire.connection_made(chan)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed_by_server = self._closed_by_server and exc is None
        self._gone.set()
        self._wire.connection_lost(exc)

    def eof_received(self) -> bool:
        self._closed_by_server = True
        self._wire.give_up(Lost("the server closed the channel"))
        return False

    def exit_status_received(self, status: int) -> None:
        self._status, self._closed_by_server = status, True

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        self._closed_by_server = False
        self._gone.set()

    async def ending(self) -> str:
        """Return how the server's program ended by itself, or nothing if a signal or a lost connection ended it."""
        try:
            async with asyncio.timeout(_ENDING_SECONDS):
                await self._gone.wait()
        except TimeoutError:
            return ""
        if not self._closed_by_server:
            return ""
        return "it ended at once" if self._status is None else f"it ended at once with status {self._status}"

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if datatype is None:  # other data is what the server prints to its error output
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
        known_hosts=([], [], []),  # the client checks the pins, and can tell what it saw
        server_host_key_algs=sorted(_KEY_KINDS, key=lambda kind: kind not in kinds),
        username=chosen.login,
        password=chosen.password or None,
        client_keys=None,  # the client offers the keys, to know which one was taken
        agent_path=None,
        config=None,
        encryption_algs=list(chosen.ciphers),
        kex_algs=_known(KEY_EXCHANGES, get_kex_algs()),
        mac_algs=_known(MACS, get_mac_algs()),
        compression_algs=["none"],
        connect_timeout=chosen.connect_seconds,
        login_timeout=chosen.login_seconds,
        keepalive_interval=30,
    )


def _known(wanted: tuple[str, ...], available: list[bytes]) -> list[str]:
    """Return those of the wanted algorithms that this machine's libraries have."""
    return [name for name in wanted if name.encode() in available]


def _without_fillers(connection: asyncssh.SSHClientConnection) -> None:
    """asyncssh sends an empty packet before each packet, against a weakness of CBC ciphers alone. With other ciphers that is half of all
    packets.
    """
    if str(connection.get_extra_info("send_cipher")).endswith("-cbc"):
        return
    send = connection.send_packet

    def send_packet(kind: int, *args: bytes, **options: Any) -> None:
        if kind != MSG_IGNORE:
            send(kind, *args, **options)

    connection.send_packet = send_packet  # type: ignore[assignment, method-assign]


@contextmanager
def _translated(chosen: Settings, client: _Pinned) -> Iterator[None]:
    """Turn a failed login into an error that says who has to do what."""
    label = chosen.label
    try:
        yield
    except TimeoutError as error:
        what, step = "the server did not answer in time", "Check host, port and firewalls"
        if client.accepted:
            what, step = "the server took the login, and SFTP did not begin in time", f"Look at what it starts for the login {chosen.login}"
        raise TransientError(what, where=label, next_step=step, code="unreachable") from error
    except asyncssh.HostKeyNotVerifiable as error:
        raise _wrong_host(chosen, client) from error
    except asyncssh.PermissionDenied as error:
        raise _refused_login(chosen) from error
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
    except (Printed, Ended) as error:
        raise _without_sftp(chosen, error, client.words) from error
    except (asyncssh.Error, Lost) as error:
        if "authentication failures" in str(error):  # sshd says this when its MaxAuthTries is used up
            raise _refused_login(chosen) from error
        raise TransientError(
            f"the server ended the connection: {error}",
            where=label,
            next_step="It may allow too few connections, or start no SFTP for this login",
            code="busy",
        ) from error
    except OSError as error:
        reason = error.strerror or "host name not found or no route"
        raise TransientError(
            f"could not connect: {reason}", where=label, next_step="Check host and port of the connection", code="unreachable"
        ) from error


def _without_sftp(chosen: Settings, error: Lost, words: str) -> PermanentError:
    if isinstance(error, Ended):
        at_login = f"; at login it said: {words}" if words else ""
        what = f"the server took the login {chosen.login} and gives it no SFTP: {error}{at_login}"
        step = (
            "Ask its owner whether the login's password has expired, and else for `Subsystem sftp` and a login shell or ForceCommand that "
        )
        step += "starts it (internal-sftp needs none)"
    else:
        what = f"the login {chosen.login} prints text where SFTP should begin"
        step = "Let its start-up files (.bashrc, .profile) print for terminals only, or set ForceCommand internal-sftp for it"
    return PermanentError(what, where=chosen.label, next_step=step, code="not_sftp")


def _refused_login(chosen: Settings) -> PermanentError:
    keys = f"key ({', '.join(map(spoken, chosen.keys))})" if chosen.keys else ""
    by = " or ".join(filter(None, (keys, "password" if chosen.password else "")))
    return PermanentError(
        f"the server refused the login {chosen.login} by {by}",
        where=chosen.label,
        next_step="Correct the credentials, or ask the server's owner whether the login or its password has expired; `waybill keys` prints "
        "the public keys to hand over",
        code="login",
    )


def _wrong_host(chosen: Settings, client: _Pinned) -> PermanentError:
    expected = ", ".join(map(spoken, chosen.pins))
    seen = spoken(client.shown) if client.shown else "none it could prove"
    return PermanentError(
        f"this is not the pinned host: expected {expected}, seen {seen}",
        where=chosen.label,
        next_step="Do not connect before the server's owner confirms the new key; then put it in extra as host_key",
        code="host_key",
    )
