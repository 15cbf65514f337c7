"""The objects of a bucket as they are listed. Only lakes on S3 import this module, because s3fs is slow to import."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from s3fs import S3FileSystem

from waybill.sources.duckdb.storage import raise_unless_removed


class BucketFiles(S3FileSystem):  # type: ignore[misc]
    """A listing that the store refuses below one folder, or is too busy for, fails. s3fs would leave the folder out."""

    async def _walk(
        self, path: str, maxdepth: int | None = None, on_error: Any = raise_unless_removed, **options: Any
    ) -> AsyncIterator[Any]:
        async for step in super()._walk(path, maxdepth, on_error=on_error, **options):
            yield step
