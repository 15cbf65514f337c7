"""Deliveries on an SFTP server. Host keys, keys, agent and ~/.ssh/config are those of the `ssh` program. Many requests travel at once."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, unquote

import asyncssh

from waybill_consumer.errors import Damaged, Refused, Unreachable, without_password
from waybill_consumer.places import LARGEST_READ, MOST_ENTRIES, Answer, Entry, Listing, Login, whole

CHUNK = 4 << 20
AT_ONCE = 32
PATIENCE = 60.0
"""Seconds without an answer after which a server counts as stuck."""
GCM_FIRST = "aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr", "aes128-ctr"
_SILENCE = 0.25
"""Seconds for which one address of a name may be silent before the next is tried beside it (RFC 8305)."""
_T = TypeVar("_T")
_MISSING = asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath


class _Loop:
    """An event loop in a thread of its own, so that the next block travels while this one is written."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        beside = partial(self._loop.create_connection, happy_eyeballs_delay=_SILENCE)
        self._loop.create_connection = beside  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._loop.run_forever, name="sftp", daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, _T]) -> Callable[[], _T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self.start(work)()

    def close(self) -> None:
        self.run(_end_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Sftp:
    def __init__(self, loop: _Loop, client: asyncssh.SFTPClient, label: str, root: str) -> None:
        self._loop = loop
        self._client = client
        self._root = root.rstrip("/")
        self.label = label

    def lists(self, folders: Sequence[str]) -> list[Listing]:
        return self._all([(folder, self._listing(folder)) for folder in folders])

    def reads(self, paths: Sequence[str]) -> list[Answer]:
        return self._all([(path, self._answer(path)) for path in paths])

    def blocks(self, path: str, start: int = 0) -> Iterator[bytes]:
        with self._translated(path), _of_one_path(f"{self.label}{path}"):
            file = self._loop.run(_patiently(self._client.open(self._at(path), "rb")))
        try:
            with self._translated(path), _of_one_path(f"{self.label}{path}"):
                coming = self._loop.start(_patiently(file.read(CHUNK, start)))
                while block := coming():
                    start += len(block)
                    coming = self._loop.start(_patiently(file.read(CHUNK, start)))
                    yield bytes(block)
        finally:
            self._loop.run(_quietly(file.close()))

    def _all(self, work: list[tuple[str, Coroutine[Any, Any, _T]]]) -> list[_T]:
        async def together() -> list[_T]:
            turn = asyncio.Semaphore(AT_ONCE)

            async def one(path: str, wanted: Coroutine[Any, Any, _T]) -> _T:
                async with turn:
                    with self._translated(path):
                        return await asyncio.wait_for(wanted, PATIENCE)

            return list(await asyncio.gather(*(one(path, wanted) for path, wanted in work)))

        return self._loop.run(together())

    async def _listing(self, folder: str) -> Listing:
        try:
            with self._translated(folder), _of_one_path(f"{self.label}{folder}"):
                return await self._list(folder)
        except Unreachable:
            raise
        except Refused as error:
            return error

    async def _list(self, folder: str) -> list[Entry] | None:
        found = []
        try:
            async for entry in self._client.scandir(self._at(folder)):
                found.append(entry)
                if len(found) > MOST_ENTRIES:
                    raise Refused(f"lists more than {MOST_ENTRIES:,} names", where=f"{self.label}{folder}", next_step="Ask the sender")
        except _MISSING:
            return None
        named = [(str(entry.filename), entry.attrs) for entry in found if entry.filename not in (".", "..")]
        kinds = [(name, await self._behind(f"{folder}/{name}") or attrs if _is_link(attrs) else attrs) for name, attrs in named]
        return sorted(Entry(name, _is_folder(attrs), attrs.mtime) for name, attrs in kinds)

    async def _behind(self, path: str) -> asyncssh.SFTPAttrs | None:
        """Return what a link leads to, or None if the server does not tell."""
        try:
            return await self._client.stat(self._at(path))
        except asyncssh.SFTPError:
            return None

    async def _answer(self, path: str) -> Answer:
        try:
            with self._translated(path), _of_one_path(f"{self.label}{path}"):
                return await self._read(path)
        except Unreachable:
            raise
        except Refused as error:
            return error

    async def _read(self, path: str) -> bytes | None:
        try:
            async with self._client.open(self._at(path), "rb") as file:
                size = (await file.stat()).size
                most = LARGEST_READ + 1 if size is None else min(size, LARGEST_READ + 1)
                return whole(bytes(await file.read(most)), f"{self.label}{path}")  # type: ignore[arg-type]  # opened for bytes
        except _MISSING:
            return None

    def _at(self, path: str) -> str:
        return f"{self._root}/{path.strip('/')}" if self._root or path.strip("/") else "/"

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        """Turn the library's errors into ours."""
        where = f"{self.label}{path}"
        try:
            yield
        except _MISSING:
            raise Damaged("is listed in its manifest and missing", where=where) from None
        except asyncssh.SFTPPermissionDenied as error:
            step = "Write your own tenant's folder as SOURCE, or ask whoever runs the server"
            raise Refused("the server does not let this login read it", where=where, next_step=step) from error
        except (asyncssh.Error, OSError, asyncio.TimeoutError) as error:
            raise Unreachable(f"the server stopped answering: {_said(error)}", where=where, next_step=_AGAIN) from error


@contextmanager
def _of_one_path(where: str) -> Iterator[None]:
    """Refuse a file or folder of which a server that goes on answering says that it fails, as OpenSSH does of a damaged disk, without a
    reason.
    """
    try:
        yield
    except (*_MISSING, asyncssh.SFTPPermissionDenied, asyncssh.SFTPNoConnection, asyncssh.SFTPConnectionLost, asyncssh.SFTPBadMessage):
        raise
    except asyncssh.SFTPError as error:
        raise Refused(f"the server cannot read it: {_said(error)}", where=where, next_step="Ask whoever runs the server") from error


def _is_link(attrs: asyncssh.SFTPAttrs) -> bool:
    return stat.S_ISLNK(attrs.permissions or 0) or attrs.type == asyncssh.FILEXFER_TYPE_SYMLINK


def _is_folder(attrs: asyncssh.SFTPAttrs) -> bool:
    return stat.S_ISDIR(attrs.permissions or 0) or attrs.type == asyncssh.FILEXFER_TYPE_DIRECTORY


_AGAIN = "Run the command again: it goes on where it stopped"


async def _end_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _patiently(work: Any) -> Any:
    return await asyncio.wait_for(work, PATIENCE)


async def _quietly(work: Any) -> None:
    try:
        await asyncio.wait_for(work, 5)
    except (asyncssh.Error, OSError, asyncio.TimeoutError):
        return  # what was to be read has been read, or its own error is on its way


@contextmanager
def sftp_place(url: SplitResult, login: Login) -> Iterator[Sftp]:
    """Open a session for the length of the block. Raises Refused for a login or host key that is not accepted, and Unreachable
    otherwise.
    """
    host = url.hostname or ""
    label = f"sftp://{host}"
    loop = _Loop()
    try:
        connection, client = _connect(loop, url, login, label)
        try:
            root = unquote(url.path)
            if root.startswith("/~"):  # below the folder a login begins in
                root = root[2:].lstrip("/") or "."
            # What follows it in a sentence can be fetched as it is written there.
            place = Sftp(loop, client, without_password(url.geturl()).rstrip("/"), root)
            _look(loop, client, root or "/", label)
            yield place
        finally:
            connection.abort()
            loop.run(_quietly(connection.wait_closed()))
    finally:
        loop.close()


def _look(loop: _Loop, client: asyncssh.SFTPClient, root: str, label: str) -> None:
    try:
        loop.run(_patiently(client.stat(root)))
    except _MISSING:
        raise Refused(f"there is no folder {root}", where=label, next_step="Look at the path behind the host") from None
    except (asyncssh.Error, OSError, asyncio.TimeoutError) as error:
        raise Refused(f"{root} cannot be looked at: {error}", where=label) from error


def _connect(loop: _Loop, url: SplitResult, login: Login, label: str) -> tuple[asyncssh.SSHClientConnection, asyncssh.SFTPClient]:
    options: dict[str, Any] = {"encryption_algs": GCM_FIRST, "connect_timeout": 30, "login_timeout": 60, "keepalive_interval": 15}
    if url.username:
        options["username"] = unquote(url.username)
    if url.port:
        options["port"] = url.port
    if password := login.password or (unquote(url.password) if url.password else ""):
        options["password"] = password
    if login.key:
        options |= _key(Path(login.key), label)
    if hosts := _known_hosts(login.known_hosts):
        options["known_hosts"] = hosts

    async def connect() -> tuple[asyncssh.SSHClientConnection, asyncssh.SFTPClient]:
        connection = await asyncssh.connect(url.hostname or "", **options)
        try:
            return connection, await asyncio.wait_for(connection.start_sftp_client(), 60)
        except BaseException:
            connection.abort()
            raise

    try:
        return loop.run(connect())
    except asyncssh.HostKeyNotVerifiable as error:
        step = "Compare its key with what its operator told you, then put that line into ~/.ssh/known_hosts or a file for --known-hosts"
        raise Refused(f"the server's host key is not trusted: {error}", where=label, next_step=step) from error
    except asyncssh.PermissionDenied as error:
        step = "Check the user in the URL, and name the key with --key or give the password in WAYBILL_CONSUMER_PASSWORD"
        raise Refused(f"the server refuses this login: {error}", where=label, next_step=step) from error
    except (ValueError, FileNotFoundError) as error:
        raise Refused(f"the key, known hosts or configuration cannot be read: {error}", where=label) from error
    except (asyncssh.Error, OSError, asyncio.TimeoutError) as error:
        raise Unreachable(f"the server cannot be reached: {_said(error)}", where=label, next_step=_AGAIN) from error


def _key(path: Path, label: str) -> dict[str, Any]:
    """Return how to log in with a key: from its file, or by the agent if the file is the public half or needs a passphrase."""
    try:
        text = path.read_bytes()
        if path.suffix != ".pub":
            asyncssh.import_private_key(text)
            return {"client_keys": [str(path)]}
    except OSError as error:
        raise Refused(f"the key cannot be read: {error.strerror}", where=str(path), next_step="Look at the path behind --key") from error
    except asyncssh.KeyImportError as error:
        if "passphrase" not in str(error).lower():
            raise Refused(f"the key cannot be read: {error}", where=str(path), next_step="Name the private key with --key") from error
    public = path if path.suffix == ".pub" else path.with_name(f"{path.name}.pub")
    if os.environ.get("SSH_AUTH_SOCK") and public.exists():
        return {"agent_identities": [str(public)]}
    what = "is a public key" if path.suffix == ".pub" else "the key needs a passphrase"
    step = "Load the private key into ssh-agent, or name a key without a passphrase"
    raise Refused(f"{what}, and no agent holds the key for {label}", where=str(path), next_step=step)


def _known_hosts(path: str) -> asyncssh.SSHKnownHosts | None:
    """Return the lines of the file that can be read, as the `ssh` program takes them, or None for a file that nobody named and that is
    right.
    """
    file = Path(path).expanduser() if path else Path.home() / ".ssh" / "known_hosts"
    try:
        text = file.read_text(errors="replace")
    except OSError as error:
        if not path:
            return None
        step = "Look at the path behind --known-hosts"
        raise Refused(f"the known hosts cannot be read: {error.strerror}", where=str(file), next_step=step) from error
    right = [line for line in text.splitlines() if _is_known_host(line)]
    return asyncssh.import_known_hosts("\n".join(right)) if path or len(right) < len(text.splitlines()) else None


def _is_known_host(line: str) -> bool:
    try:
        asyncssh.import_known_hosts(line)
    except ValueError:
        return False
    return True


def _said(error: BaseException) -> str:
    return str(error) or ("no reason is given" if isinstance(error, asyncssh.SFTPError) else "no answer in time")
