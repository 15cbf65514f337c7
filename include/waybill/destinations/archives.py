"""Stores the archives of on-demand exports, in a folder or a bucket. Names consist of tenant ids, request ids and numbers only.

The kept bytes of deliveries are beside them (`resend_store`).
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
from waybill.destinations.s3_client import client_of, send, translated
from waybill.errors import PermanentError, TransientError

ROOM = "requests"
"""This folder keeps archives of requests apart from the bytes that are kept for redelivery."""


def archive_name(tenant: str, request_id: str, attempt: int) -> str:
    """Every attempt has a name of its own, so a late one cannot touch what another published."""
    return f"{tenant}/{request_id}.{attempt}.zip"


_OWN = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}/([0-9a-f]{32}\.\d+\.zip|\.[0-9a-f]{32}\.\d+\.zip\.part)")


def is_own(name: str) -> bool:
    """Return whether the name of an entry of a store belongs to one of our archives or to an unfinished one."""
    return _OWN.fullmatch(name) is not None


class Archives(Protocol):
    """A store of archives."""

    def unfinished(self, name: str, spool: Path) -> Path:
        """Return a local path to build the archive at. Nobody is served from it. `spool` is a folder of the attempt."""
        ...

    def publish(self, unfinished: Path, name: str) -> None:
        """Make an archive that is complete and durable available under its name, whole. Raises TransientError if the store fails."""
        ...

    def remove(self, name: str) -> None:
        """Remove an archive. A missing one is fine."""
        ...

    def found(self, name: str, size: int | None, sha256: str | None) -> Path | None:
        """Return the local file to serve, or None for a store that serves by itself (`presigned`).

        Raises TransientError if it is not there, or is not the bytes that were published (None: nobody knows them).
        """
        ...

    def presigned(self, name: str, filename: str, life: timedelta, *, taken: bool) -> str:
        """Return a URL of the store itself that serves the archive for `life` as an attachment of that name.

        It is signed for GET, or for HEAD unless the archive is to be `taken`: a store refuses every other method.
        """
        ...

    def entries(self) -> Iterator[tuple[str, datetime]]:
        """Yield everything in the store, including unfinished parts, with the time it was last written. A misplaced folder ends
        with `/`.
        """
        ...


def open_archives(url: str, base: Path, connections: Connections) -> Archives:
    """Return the store that an archive URL describes. A relative folder is resolved against `base`. Nothing is opened yet."""
    if url.startswith("s3://"):
        return S3Archives(url, ROOM, connections)
    return FolderArchives(folder_of(url, base) / ROOM)


def folder_of(url: str, base: Path) -> Path:
    """Return the folder that an archive URL names, as a path or as `file://`. A relative one is below `base`."""
    return base / url.removeprefix("file://")


class FolderArchives:
    """Archives in a local folder. Unfinished ones are hidden beside their final names, so one rename publishes them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def unfinished(self, name: str, spool: Path) -> Path:
        final = self.root / name
        try:
            private.make_folder(final.parent)
        except OSError as error:
            raise unavailable(error) from error
        return final.with_name(f".{final.name}.part")

    def publish(self, unfinished: Path, name: str) -> None:
        final = self.root / name
        try:
            unfinished.rename(final)
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

    def presigned(self, name: str, filename: str, life: timedelta, *, taken: bool) -> str:
        raise NotImplementedError("archives in a folder are served by Waybill")

    def entries(self) -> Iterator[tuple[str, datetime]]:
        for path in (*self.root.glob("*"), *self.root.glob("*/*")):
            in_root = path.parent == self.root
            try:
                is_folder, written = path.is_dir(), path.lstat().st_mtime
            except OSError:
                continue  # somebody else has just removed it, or we may not see it
            if not (in_root and is_folder):
                yield path.relative_to(self.root).as_posix() + "/" * is_folder, datetime.fromtimestamp(written, UTC)


_REMEMBERED = 1000
_WHOLE: dict[str, tuple[tuple[int, ...], str]] = {}
"""Files that this process has read and found whole, by path, with their facts at that time. A file that was touched since is read again."""


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
    """Return why an archive folder does not do what it is asked, as the error that says what recovers from it."""
    if error.errno in private.FULL:
        step = "Free space on the disk of WAYBILL_ARCHIVE_URL, or keep less (archive_days, archive_life in policy.yaml)"
        return TransientError("the archive is full", next_step=step, code="storage_full")
    if error.errno in private.RIGHTS:
        step = "Give this account the right to write below WAYBILL_ARCHIVE_URL, or mount that disk writable"
        what = f"the archive refuses this account: {error.strerror}"
        return PermanentError(what, next_step=step, code="storage_unavailable")
    return TransientError(
        f"the archive cannot be reached: {error.strerror}",
        next_step="Check WAYBILL_ARCHIVE_URL and the disk behind it",
        code="storage_unavailable",
    )


LONGEST = timedelta(hours=1)
"""How long a presigned URL may start a download. Each click makes a new one."""

_BLOCK = 1 << 20


class Bucket:
    """One folder of an archive in a bucket, `s3://CONNECTION@BUCKET/PREFIX`."""

    def __init__(self, url: str, room: str, connections: Connections) -> None:
        parts = urlsplit(url)
        self.bucket = parts.hostname or ""
        self.prefix = "/".join(part for part in (parts.path.strip("/"), room) if part) + "/"
        self._connection_id = parts.username or "aws_default"
        self._connections = connections
        self._label = f"s3 {self._connection_id} (bucket {self.bucket})"

    @contextmanager
    def client(self, operation: str, name: str) -> Iterator[Any]:
        """Raises TransientError for every failure: a person looks at an archive that does not answer, and nothing is given up."""
        connection = self._connections(self._connection_id)
        try:
            with translated(self._label, operation, name, connection):
                client = client_of(connection)
                try:
                    yield client
                finally:
                    client.close()
        except (PermanentError, TransientError) as error:
            raise TransientError(error.what, where=error.where, next_step=error.next_step, code="storage_unavailable") from error


class S3Archives(Bucket):
    """See `archives.Archives`. An object appears whole, so an archive is built in the spool, and its upload publishes it."""

    def unfinished(self, name: str, spool: Path) -> Path:
        return spool.with_name(f"{spool.name}.zip.part")

    def publish(self, unfinished: Path, name: str) -> None:
        with self.client("store", name) as client, unfinished.open("rb") as file:
            blocks = iter(lambda: file.read(_BLOCK), b"")
            send(client, self.bucket, self.prefix + name, blocks, {})

    def remove(self, name: str) -> None:
        with self.client("remove", name) as client:
            client.delete_object(Bucket=self.bucket, Key=self.prefix + name)

    def found(self, name: str, size: int | None, sha256: str | None) -> Path | None:
        """The store keeps a checksum of its own for every object, so only the size is left to compare."""
        with self.client("look at", name) as client:
            there = client.head_object(Bucket=self.bucket, Key=self.prefix + name)["ContentLength"]
        if size is not None and there != size:
            raise _damaged(name, f"it has {there} of {size} bytes")
        return None

    def presigned(self, name: str, filename: str, life: timedelta, *, taken: bool) -> str:
        wanted = {
            "Bucket": self.bucket,
            "Key": self.prefix + name,
            "ResponseContentDisposition": f'attachment; filename="{filename}"',
            "ResponseContentType": "application/zip",
            "ResponseCacheControl": "no-store",
        }
        with self.client("sign", name) as client:
            seconds = max(1, int(min(life, LONGEST).total_seconds()))
            return str(client.generate_presigned_url("get_object" if taken else "head_object", Params=wanted, ExpiresIn=seconds))

    def entries(self) -> Iterator[tuple[str, datetime]]:
        with self.client("list", "archives") as client:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix):
                for item in page.get("Contents", []):
                    yield item["Key"].removeprefix(self.prefix), item["LastModified"].astimezone(UTC)
