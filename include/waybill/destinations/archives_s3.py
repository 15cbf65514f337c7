"""Archives in a bucket: `s3://[connection@]bucket/prefix`, with the Airflow connection `aws_default` where none is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from waybill.connection import Connections
from waybill.destinations.archives import ROOM
from waybill.destinations.s3_client import client_of, translated
from waybill.destinations.s3_upload import send
from waybill.errors import PermanentError, TransientError

LONGEST = timedelta(hours=1)
"""How long a presigned URL may start a download; each click makes a new one."""

_BLOCK = 1 << 20


class S3Archives:
    """See `archives.Archives`. An object appears whole, so an archive is built in the spool and published by its upload."""

    def __init__(self, url: str, connections: Connections) -> None:
        parts = urlsplit(url)
        self._bucket = parts.hostname or ""
        self._connection_id = parts.username or "aws_default"
        self._prefix = "/".join(part for part in (parts.path.strip("/"), ROOM) if part) + "/"
        self._connections = connections
        self._label = f"s3 {self._connection_id} (bucket {self._bucket})"

    def part(self, name: str, spool: Path) -> Path:
        return spool.with_name(f"{spool.name}.zip.part")

    def publish(self, part: Path, name: str) -> None:
        with self._client("store", name) as client, part.open("rb") as file:
            blocks = iter(lambda: file.read(_BLOCK), b"")
            send(client, self._bucket, self._prefix + name, blocks, {})

    def remove(self, name: str) -> None:
        with self._client("remove", name) as client:
            client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    def path(self, name: str) -> Path | None:
        with self._client("look at", name) as client:
            client.head_object(Bucket=self._bucket, Key=self._prefix + name)
        return None

    def presigned(self, name: str, filename: str, life: timedelta) -> str:
        wanted = {
            "Bucket": self._bucket,
            "Key": self._prefix + name,
            "ResponseContentDisposition": f'attachment; filename="{filename}"',
            "ResponseContentType": "application/zip",
            "ResponseCacheControl": "no-store",
        }
        with self._client("sign", name) as client:
            seconds = max(1, int(min(life, LONGEST).total_seconds()))
            return str(client.generate_presigned_url("get_object", Params=wanted, ExpiresIn=seconds))

    def entries(self) -> Iterator[tuple[str, datetime]]:
        with self._client("list", "archives") as client:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix):
                for item in page.get("Contents", []):
                    yield item["Key"].removeprefix(self._prefix), item["LastModified"].astimezone(UTC)

    @contextmanager
    def _client(self, doing: str, name: str) -> Iterator[Any]:
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
