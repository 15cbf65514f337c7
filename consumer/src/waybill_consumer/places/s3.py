"""Deliveries in a bucket. Credentials and endpoint are those of the AWS tools. One listing at the start answers every later question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from waybill_consumer.errors import Damaged, Refused, Unreachable
from waybill_consumer.places import MOST_ENTRIES, MOST_OBJECTS, Answer, Entry, Listing, whole
from waybill_consumer.records import BLOCK


class S3:
    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self.label = f"s3://{bucket}/{prefix}".rstrip("/")
        self._tree: dict[str, dict[str, bool]] = {}
        listed = 0
        with _translated(self.label):
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=self._prefix):
                for item in page.get("Contents", ()):
                    listed += 1
                    self._add(item["Key"][len(self._prefix) :])
                if listed > MOST_OBJECTS:
                    raise self._endless(f"{MOST_OBJECTS:,} objects")

    def _add(self, key: str) -> None:
        folder, parts = "", [part for part in key.split("/") if part]
        for number, part in enumerate(parts, 1):
            names = self._tree.setdefault(folder, {})
            names[part] = number < len(parts)
            if len(names) > MOST_ENTRIES:
                raise self._endless(f"{MOST_ENTRIES:,} names", folder)
            folder += f"/{part}"

    def _endless(self, count: str, folder: str = "") -> Refused:
        step = "Name a prefix that holds fewer, such as a tenant's folder, or ask the sender"
        return Refused(f"lists more than {count}", where=f"{self.label}{folder}", next_step=step)

    def lists(self, folders: Sequence[str]) -> list[Listing]:
        found = [self._tree.get(folder.rstrip("/")) for folder in folders]
        return [None if names is None else [Entry(name, kind) for name, kind in sorted(names.items())] for names in found]

    def reads(self, paths: Sequence[str]) -> list[Answer]:
        return [self._answer(path) for path in paths]

    def _answer(self, path: str) -> Answer:
        data = b""
        try:
            for block in self.blocks(path):
                data = whole(data + block, f"{self.label}{path}")
        except Unreachable:
            raise
        except Damaged:
            return None
        except Refused as error:
            return error
        return data

    def blocks(self, path: str, start: int = 0) -> Iterator[bytes]:
        key, where = f"{self._prefix}{path.lstrip('/')}", f"{self.label}{path}"
        with _translated(where):
            body = self._client.get_object(Bucket=self._bucket, Key=key, **({"Range": f"bytes={start}-"} if start else {}))["Body"]
            while block := body.read(BLOCK * 4):
                yield block


@contextmanager
def _translated(where: str) -> Iterator[None]:
    """Turn the library's errors into ours."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code"))
        if code in ("AccessDenied", "403") and error.operation_name.startswith("ListObjects"):
            step = "Have s3:ListBucket of the bucket granted to these credentials for the prefix, beside s3:GetObject"
            raise Refused("these credentials may not list what is there", where=where, next_step=step) from error
        if code in ("NoSuchKey", "404", "InvalidRange"):
            raise Damaged("is listed in its manifest and missing", where=where) from error
        if code in ("NoSuchBucket", "AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch"):
            raise Refused(
                f"the bucket cannot be read: {code}", where=where, next_step="Check the bucket's name and the credentials"
            ) from error
        raise Unreachable(f"the bucket answers {code}", where=where, next_step="Run the command again") from error
    except (NoCredentialsError, ParamValidationError) as error:
        message = str(error).splitlines()[-1][:200]
        raise Refused(
            f"the bucket cannot be read: {message}", where=where, next_step="Check the bucket's name and the credentials"
        ) from error
    except (BotoCoreError, HTTPError) as error:
        raise Unreachable(f"the bucket cannot be reached: {error}", where=where, next_step="Run the command again") from error


@contextmanager
def s3_place(bucket: str, prefix: str) -> Iterator[S3]:
    try:
        import boto3
    except ImportError:
        raise Refused("s3:// needs boto3", next_step='Install it: pip install "waybill-consumer[s3]"') from None
    from botocore.config import Config

    config = Config(connect_timeout=15, read_timeout=60, retries={"max_attempts": 5, "mode": "standard"})
    with closing(boto3.client("s3", config=config)) as client:
        yield S3(client, bucket, prefix)
