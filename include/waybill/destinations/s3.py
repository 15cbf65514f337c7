"""An S3 bucket as a destination.

S3 has no rename. A hidden file is an object whose key contains the attempt. Publishing copies it inside S3 to the final key, under the
condition that the final key is free. S3 decides that when the copy is completed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any
from uuid import uuid4

from waybill import layout
from waybill.configuration.registration import S3Destination
from waybill.connection import Connection, Connections
from waybill.destinations.base import (
    Item,
    Probe,
    Profile,
    Reading,
    Stored,
    components,
    damaged,
    hidden_missing,
    no_such_file,
    only_own_folder,
    rehearsal,
)
from waybill.destinations.s3_client import client_of, in_parts, send, translated
from waybill.errors import ConflictError, PermanentError, TransientError

_BLOCK = 1024 * 1024
_COPY_PART = 1024 * 1024 * 1024
_CLAIM = "0" * 32


class S3:
    """A bucket, or a prefix of it, behind an Airflow aws connection."""

    def __init__(
        self,
        spec: S3Destination,
        connections: Connections,
        profile: Profile = Profile.FULL,
        client: Callable[[Connection], Any] = client_of,
    ) -> None:
        self._spec = spec
        self._connections = connections
        self._profile = profile
        self._client = client

    @contextmanager
    def connect(self) -> Iterator[S3Session]:
        connection = self._connections(self._spec.connection)
        label = f"s3 {connection.id} (bucket {self._spec.bucket})"
        with translated(label, "open the bucket", "", connection):
            client = self._client(connection)
            client.head_bucket(Bucket=self._spec.bucket)
        try:
            yield S3Session(label, client, self._spec.bucket, self._spec.root.strip("/"), self._profile, connection)
        finally:
            client.close()


class S3Session(Reading):
    """See `base.Session`. There are no folders and no links that could be in the way."""

    def __init__(self, label: str, client: Any, bucket: str, root: str, profile: Profile, connection: Connection) -> None:
        self.label = label
        self.profile = profile
        self._client = client
        self._bucket = bucket
        self._root = f"{root}/" if root else ""
        self._connection = connection

    def _key(self, path: str) -> str:
        return self._root + "/".join(components(path))

    def _translated(self, operation: str, path: str) -> AbstractContextManager[None]:
        return translated(self.label, operation, path, self._connection)

    @property
    def _if_new(self) -> dict[str, str]:
        return {} if self.profile is Profile.NO_CAS else {"IfNoneMatch": "*"}

    def prepare(self, folder: str) -> None:
        components(folder)

    def _head(self, path: str) -> dict[str, Any] | None:
        from botocore.exceptions import ClientError

        with self._translated("look at", path):
            try:
                found: dict[str, Any] = self._client.head_object(Bucket=self._bucket, Key=self._key(path), ChecksumMode="ENABLED")
            except ClientError as error:
                if _status(error) == 404:
                    return None
                raise
            return found

    def size(self, path: str) -> int | None:
        found = self._head(path)
        return None if found is None else int(found["ContentLength"])

    def blocks(self, path: str) -> Iterator[bytes]:
        from botocore.exceptions import ClientError

        with self._translated("read", path):
            try:
                body = self._client.get_object(Bucket=self._bucket, Key=self._key(path))["Body"]
            except ClientError as error:
                if _status(error) == 404:
                    raise no_such_file(path, self.label) from None
                raise
        try:
            while True:
                with self._translated("read", path):
                    block = body.read(_BLOCK)
                if not block:
                    return
                yield block
        finally:
            body.close()

    def upload(self, path: str, blocks: Iterable[bytes]) -> Stored:
        from botocore.exceptions import ClientError

        with self._translated("write", path):
            try:
                sent = send(self._client, self._bucket, self._key(path), blocks, self._if_new)
            except ClientError as error:
                if _status(error) != 412:
                    raise
                step = "Remove it first: it is left over from an earlier try"
                raise TransientError(f"{path} exists already", where=self.label, next_step=step, code="exists") from None
        expected = Stored(sent.bytes, sent.sha256)
        try:
            self._compare(path, expected, sent.checksum)
        except BaseException:
            with suppress(TransientError):
                self.remove(path)
            raise
        return expected

    def _compare(self, path: str, sent: Stored, checksum: str) -> None:
        """S3 keeps the checksum that it verified. A server that keeps none is asked for the bytes."""
        found = self._head(path)
        if found is None:
            raise hidden_missing(path, self.label)
        if found["ContentLength"] == sent.bytes and found.get("ChecksumSHA256") == checksum:
            return
        stored = Stored(found["ContentLength"], self.sha256(path) or "")
        if stored != sent:
            raise damaged(path, sent, stored, self.label)

    def publish(self, hidden: str, final: str) -> bool:
        found = self._head(hidden)
        if found is not None:
            published = self._copy(hidden, final, int(found["ContentLength"]))
            if published:
                with suppress(TransientError):
                    self.remove(hidden)
            return published
        if not any(self.walk(hidden)):
            raise hidden_missing(hidden, self.label)
        return self._publish_folder(hidden, final)

    @property
    def replaces(self) -> bool:
        return True

    def replace(self, hidden: str, final: str) -> None:
        size = self.size(hidden)
        if size is None:
            raise hidden_missing(hidden, self.label)
        to = {"Bucket": self._bucket, "Key": self._key(final)}
        with self._translated("replace", final):
            self._copy_parts({"Bucket": self._bucket, "Key": self._key(hidden)}, to, size, {})
        with suppress(TransientError):
            self.remove(hidden)

    def _copy(self, source: str, target: str, size: int) -> bool:
        """Copy inside S3 unless `target` exists. Returns False if it does, even if the source is another worker's and has gone since."""
        from botocore.exceptions import ClientError

        if self._head(target) is not None:
            return False  # this only spares the copy; the condition below decides
        with self._translated("publish", target):
            try:
                return self._copy_if_new(source, target, size)
            except ClientError as error:
                if _status(error) != 404 or self._head(source) is not None:
                    raise
        if self._head(target) is None:
            raise hidden_missing(source, self.label)
        return False

    def _copy_if_new(self, source: str, target: str, size: int) -> bool:
        """Copy without a look before. Raises botocore's errors."""
        from botocore.exceptions import ClientError

        to = {"Bucket": self._bucket, "Key": self._key(target)}
        try:
            if size == 0:
                self._client.put_object(**to, Body=b"", **self._if_new)
            else:
                self._copy_parts({"Bucket": self._bucket, "Key": self._key(source)}, to, size, self._if_new)
        except ClientError as error:
            if _status(error) != 412:
                raise
            return False
        return True

    def _copy_parts(self, source: dict[str, str], to: dict[str, str], size: int, condition: dict[str, str]) -> None:
        """Copy any size in parts. Servers have long known a condition on completing parts, unlike one on CopyObject."""
        with in_parts(self._client, to) as upload:
            done = []
            for number, start in enumerate(range(0, size, _COPY_PART), 1):
                copied = f"bytes={start}-{min(start + _COPY_PART, size) - 1}"
                answer = self._client.upload_part_copy(**upload, PartNumber=number, CopySource=source, CopySourceRange=copied)
                result = answer["CopyPartResult"]
                done.append({"PartNumber": number, **{key: result[key] for key in ("ETag", "ChecksumSHA256") if key in result}})
            self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": done}, **condition)

    def _publish_folder(self, hidden: str, final: str) -> bool:
        """Publish several files at once. Whoever puts the claim first wins, and everybody copies the winner's files to the end.

        The first file comes last, so whoever looks for it finds the others, too. If the winner gave its files up, or somebody has collected
        them, a claim on its place is put.
        """
        claimed, passed = _CLAIM, set[str]()
        while True:
            passed.add(claimed)
            winner = self._winner(final, claimed, hidden)
            files = [item for item in self.walk(winner) if not item.is_folder]
            if files or self._shows(final):
                break
            claimed = layout.attempt_of(winner.rpartition("/")[2])
            if claimed in passed:
                raise self._foreign_claim(final, claimed, "leads back to itself")
        for item in reversed(files):
            self._copy(item.path, final + item.path.removeprefix(winner), item.size)
        if winner == hidden:
            self._remove_below(hidden)
        return winner == hidden

    def _winner(self, final: str, claimed: str, hidden: str) -> str:
        """Put the claim on behalf of `hidden` if it is free, and return the hidden folder that it names."""
        from botocore.exceptions import ClientError

        claim = _claim(final, claimed)
        with self._translated("publish", final):
            try:
                self._client.put_object(Bucket=self._bucket, Key=self._key(claim), Body=hidden.encode(), **self._if_new)
            except ClientError as error:
                if _status(error) != 412:
                    raise
        found = self.read(claim)
        if found is None:
            raise TransientError(f"{claim} was removed meanwhile", where=self.label, next_step="Run again", code="vanished")
        winner = found.decode(errors="replace")
        name = winner.rpartition("/")[2]
        if not layout.is_hidden(name) or winner != layout.hidden(final, layout.attempt_of(name)):
            raise self._foreign_claim(final, claimed, f"names no unfinished folder of {final}")
        return winner

    def _foreign_claim(self, final: str, claimed: str, what: str) -> ConflictError:
        step = "Nothing was touched. Ask who wrote it, remove that object and run again"
        return ConflictError(f"{_claim(final, claimed)} {what}", where=self.label, next_step=step, code="foreign_file")

    def _shows(self, folder: str) -> bool:
        """Return whether somebody's finished files are in a folder."""
        return any(not item.is_folder and not layout.is_hidden(item.path.rpartition("/")[2]) for item in self.walk(folder))

    def remove(self, path: str) -> None:
        if self._head(path) is None:
            if any(self.walk(path)):
                only_own_folder(path, self.label)
                self._remove_below(path)
            return
        with self._translated("remove", path):
            self._client.delete_object(Bucket=self._bucket, Key=self._key(path))

    def _remove_below(self, path: str) -> None:
        for item in list(self.walk(path)):
            if not item.is_folder:
                with self._translated("remove", item.path):
                    self._client.delete_object(Bucket=self._bucket, Key=self._key(item.path))

    def entries(self, folder: str) -> list[Item]:
        prefix = self._key(folder)
        prefix = f"{prefix}/" if prefix and not prefix.endswith("/") else prefix
        found: dict[str, Item | None] = {}
        with self._translated("list", folder):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix, Delimiter="/"):
                found |= {inner["Prefix"].removeprefix(prefix).rstrip("/"): None for inner in page.get("CommonPrefixes", [])}
                for stored in page.get("Contents", []):
                    name = stored["Key"].removeprefix(prefix)
                    found[name] = Item(f"{folder.rstrip('/')}/{name}", False, stored["Size"], stored["LastModified"])
        return [item or Item(f"{folder.rstrip('/')}/{name}", True, 0, None) for name, item in sorted(found.items()) if name]

    def probe(self, folder: str) -> Probe:
        own = rehearsal(folder)
        steps: list[tuple[str, str]] = []
        chosen = self.profile
        try:
            self.profile = Profile.FULL
            try:
                kept = self._keeps_what_is_there(own, steps)
            except PermanentError as error:
                if error.code != "not_offered":
                    raise
                kept = False
                steps.append(("write on a condition", "not offered"))
            if not kept:  # what the next deliveries do has to work here
                self.profile = Profile.NO_CAS
                self._keeps_what_is_there(f"{own}/without", steps)
        finally:
            self.profile = chosen
            self._remove_below(own)
        steps.append(("remove", "ok"))
        return Probe(Profile.FULL if kept else Profile.NO_CAS, tuple(steps))

    def _keeps_what_is_there(self, own: str, steps: list[tuple[str, str]]) -> bool:
        """Return whether neither a write nor a copy overwrites an existing object.

        Raises PermanentError `not_offered` if the store does not know such conditions.
        """
        first, second, final = (f"{own}/.{name}.{uuid4().hex}.part" for name in ("first", "second", "final"))
        for name in (first, second):
            self.upload(name, [name.encode()])
        steps.append(("write", "ok"))
        try:
            self.upload(second, [second.encode()])
            wrote = True
        except TransientError as error:
            if error.code != "exists":
                raise
            wrote = False
        steps.append(("write onto an existing key", "ok" if wrote else "refused"))
        self.publish(first, final)
        steps.append(("copy onto nothing", "ok"))
        with self._translated("publish", final):
            copied = self._copy_if_new(second, final, len(second.encode()))
        steps.append(("copy onto an existing key", "ok" if copied else "refused"))
        intact = self.read(final) == first.encode()
        steps.append(("read back", "ok"))
        return not wrote and not copied and intact


def _claim(final: str, claimed: str) -> str:
    """Return the object that says whose files become visible in `final` if the attempt `claimed` has none."""
    return f"{final}/{layout.hidden(final, claimed).rpartition('/')[2]}"


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
