"""Where the archives of on-demand exports lie: a folder, or a bucket. Names are made of tenant ids, request ids and numbers only.

What is kept of deliveries lies beside them (`kept`).
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from waybill import private
from waybill.connection import Connections
from waybill.destinations.local_files import FULL, RIGHTS
from waybill.destinations.s3_client import client_of, send, translated
from waybill.errors import PermanentError, TransientError

ROOM = "requests"
"""What keeps archives of requests apart from the bytes kept for redelivery."""


def archive_name(tenant: str, request_id: str, attempt: int) -> str:
    """Every attempt has a name of its own, so a late one cannot touch what another published."""
    return f"{tenant}/{request_id}.{attempt}.zip"


_OWN = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}/([0-9a-f]{32}\.\d+\.zip|\.[0-9a-f]{32}\.\d+\.zip\.part)")


def is_own(name: str) -> bool:
    """Whether an entry of a store is an archive of ours or a part of one, by its name."""
    return _OWN.fullmatch(name) is not None


class Archives(Protocol):
    """A store of archives."""

    def part(self, name: str, spool: Path) -> Path:
        """A local path to build the archive at; nobody is served from it. `spool` is a folder of the attempt."""
        ...

    def publish(self, part: Path, name: str) -> None:
        """Make a finished, durable part available under its name, whole. Raises TransientError when the store fails."""
        ...

    def remove(self, name: str) -> None:
        """Remove an archive; one that is gone already is fine."""
        ...

    def found(self, name: str, size: int | None, sha256: str | None) -> Path | None:
        """The local file to serve, None for a store that serves by itself (`presigned`).

        Raises TransientError when it is not there, or is not the bytes that were published (None: nobody knows them).
        """
        ...

    def presigned(self, name: str, filename: str, life: timedelta) -> str:
        """A URL of the store itself that serves the archive for `life` as an attachment of that name."""
        ...

    def entries(self) -> Iterator[tuple[str, datetime]]:
        """Everything in the store, unfinished parts too, with the time it was last written; a folder where none belongs ends with `/`."""
        ...


def open_archives(url: str, base: Path, connections: Connections) -> Archives:
    """The store an archive URL describes; a relative folder is resolved against `base`. Opens nothing yet."""
    if url.startswith("s3://"):
        return S3Archives(url, ROOM, connections)
    return FolderArchives(folder_of(url, base) / ROOM)


def folder_of(url: str, base: Path) -> Path:
    """The folder an archive URL names, as a path or as `file://`; a relative one is below `base`."""
    return base / url.removeprefix("file://")


class FolderArchives:
    """Archives in a local folder. Parts stand beside their final names, hidden, so that publishing is one rename."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def part(self, name: str, spool: Path) -> Path:
        final = self.root / name
        try:
            private.make_folder(final.parent)
        except OSError as error:
            raise unavailable(error) from error
        return final.with_name(f".{final.name}.part")

    def publish(self, part: Path, name: str) -> None:
        final = self.root / name
        try:
            part.rename(final)
            _sync_folder(final.parent)
        except OSError as error:
            raise unavailable(error) from error

    def remove(self, name: str) -> None:
        try:
            (self.root / name).unlink(missing_ok=True)
        except OSError as error:
            raise unavailable(error) from error

    def found(self, name: str, size: int | None, sha256: str | None) -> Path | None:
        path = self.root / name
        try:
            if not stat.S_ISREG(path.lstat().st_mode):  # reading a pipe would wait for ever, and a link leads elsewhere
                raise _damaged(name, "it is no file")
            with path.open("rb") as file:
                facts = os.fstat(file.fileno())
                if size is not None and facts.st_size != size:
                    raise _damaged(name, f"it has {facts.st_size} of {size} bytes")
                seen = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
                if sha256 is not None and _WHOLE.get(str(path)) != (seen, sha256):
                    if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                        raise _damaged(name, "its bytes are others than those that were written")
                    _WHOLE[str(path)] = (seen, sha256)
                    while len(_WHOLE) > _REMEMBERED:
                        _WHOLE.pop(next(iter(_WHOLE)), None)
        except OSError as error:
            raise unavailable(error) from error
        return path

    def presigned(self, name: str, filename: str, life: timedelta) -> str:
        raise NotImplementedError("archives in a folder are served by Waybill")

    def entries(self) -> Iterator[tuple[str, datetime]]:
        for path in (*self.root.glob("*"), *self.root.glob("*/*")):
            in_root = path.parent == self.root
            try:
                is_folder, written = path.is_dir(), path.lstat().st_mtime
            except OSError:
                continue  # removed just now by somebody else, or not for our eyes
            if not (in_root and is_folder):
                yield path.relative_to(self.root).as_posix() + "/" * is_folder, datetime.fromtimestamp(written, UTC)


_REMEMBERED = 1000
_WHOLE: dict[str, tuple[tuple[int, ...], str]] = {}
"""What this process has read through and found whole, by path: the file's facts then. One that was touched since is read again."""


def _damaged(name: str, why: str) -> TransientError:
    return TransientError(
        f"the archive is damaged: {why}",
        where=name,
        next_step="Request the export again; the operator finds the archive below WAYBILL_ARCHIVE_URL",
        code="storage_unavailable",
    )


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unavailable(error: OSError) -> PermanentError | TransientError:
    """Why an archive in a folder does not do what it is asked, by what recovers from it."""
    if error.errno in FULL:
        step = "Free space on the disk of WAYBILL_ARCHIVE_URL, or keep less (archive_days, archive_life in policy.yaml)"
        return TransientError("the archive is full", next_step=step, code="storage_full")
    if error.errno in RIGHTS:
        step = "Give this account the right to write below WAYBILL_ARCHIVE_URL, or mount that disk writable"
        what = f"the archive refuses this account: {error.strerror}"
        return PermanentError(what, next_step=step, code="storage_unavailable")
    return TransientError(
        f"the archive cannot be reached: {error.strerror}",
        next_step="Check WAYBILL_ARCHIVE_URL and the disk behind it",
        code="storage_unavailable",
    )


LONGEST = timedelta(hours=1)
"""How long a presigned URL may start a download; each click makes a new one."""

_BLOCK = 1 << 20


class Bucket:
    """One room of an archive in a bucket, `s3://CONNECTION@BUCKET/PREFIX`."""

    def __init__(self, url: str, room: str, connections: Connections) -> None:
        parts = urlsplit(url)
        self.bucket = parts.hostname or ""
        self.prefix = "/".join(part for part in (parts.path.strip("/"), room) if part) + "/"
        self._connection_id = parts.username or "aws_default"
        self._connections = connections
        self._label = f"s3 {self._connection_id} (bucket {self.bucket})"

    @contextmanager
    def client(self, doing: str, name: str) -> Iterator[Any]:
        """Raises TransientError for whatever fails: an archive that does not answer is looked at by people, not given up."""
        connection = self._connections(self._connection_id)
        try:
            with translated(self._label, doing, name, connection):
                client = client_of(connection)
                try:
                    yield client
                finally:
                    client.close()
        except (PermanentError, TransientError) as error:
            raise TransientError(error.what, where=error.where, next_step=error.next_step, code="storage_unavailable") from error


class S3Archives(Bucket):
    """See `archives.Archives`. An object appears whole, so an archive is built in the spool and published by its upload."""

    def part(self, name: str, spool: Path) -> Path:
        return spool.with_name(f"{spool.name}.zip.part")

    def publish(self, part: Path, name: str) -> None:
        with self.client("store", name) as client, part.open("rb") as file:
            blocks = iter(lambda: file.read(_BLOCK), b"")
            send(client, self.bucket, self.prefix + name, blocks, {})

    def remove(self, name: str) -> None:
        with self.client("remove", name) as client:
            client.delete_object(Bucket=self.bucket, Key=self.prefix + name)

    def found(self, name: str, size: int | None, sha256: str | None) -> Path | None:
        """The store keeps a checksum of its own over every object, so the size is what is left to be compared."""
        with self.client("look at", name) as client:
            there = client.head_object(Bucket=self.bucket, Key=self.prefix + name)["ContentLength"]
        if size is not None and there != size:
            raise _damaged(name, f"it has {there} of {size} bytes")
        return None

    def presigned(self, name: str, filename: str, life: timedelta) -> str:
        wanted = {
            "Bucket": self.bucket,
            "Key": self.prefix + name,
            "ResponseContentDisposition": f'attachment; filename="{filename}"',
            "ResponseContentType": "application/zip",
            "ResponseCacheControl": "no-store",
        }
        with self.client("sign", name) as client:
            seconds = max(1, int(min(life, LONGEST).total_seconds()))
            return str(client.generate_presigned_url("get_object", Params=wanted, ExpiresIn=seconds))

    def entries(self) -> Iterator[tuple[str, datetime]]:
        with self.client("list", "archives") as client:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix):
                for item in page.get("Contents", []):
                    yield item["Key"].removeprefix(self.prefix), item["LastModified"].astimezone(UTC)
