"""Sending an object in parts, each with a checksum that S3 verifies before it takes the part."""

from __future__ import annotations

import base64
import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

PART = 8 * 1024 * 1024
AT_ONCE = 4


@dataclass(frozen=True)
class Sent:
    """What was sent, and the checksum S3 must name for it (of several parts: the hash of their hashes and their number)."""

    bytes: int
    sha256: str
    checksum: str


def part_size(number: int) -> int:
    """10,000 parts are allowed; growing ones hold over 800 GB."""
    return PART * (1 + number // 500)


def parts(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes in pieces as large as S3 wants parts to be; at least one, perhaps empty."""
    gathered = bytearray()
    number = 1
    for block in blocks:
        gathered += block
        while len(gathered) > part_size(number):
            yield bytes(gathered[: part_size(number)])
            del gathered[: part_size(number)]
            number += 1
    yield bytes(gathered)


def checksum(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def send(client: Any, bucket: str, key: str, blocks: Iterable[bytes], condition: dict[str, str]) -> Sent:
    """Create the object under `condition`. Raises botocore's errors, and what `blocks` raises; then nothing is left."""
    pieces = parts(blocks)
    first, second = next(pieces), next(pieces, None)
    if second is None:
        client.put_object(Bucket=bucket, Key=key, Body=first, ChecksumSHA256=checksum(first), **condition)
        return Sent(len(first), hashlib.sha256(first).hexdigest(), checksum(first))
    upload = client.create_multipart_upload(Bucket=bucket, Key=key, ChecksumAlgorithm="SHA256")["UploadId"]
    try:
        return _send_parts(client, {"Bucket": bucket, "Key": key, "UploadId": upload}, _after([first, second], pieces), condition)
    except BaseException:
        client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
        raise


def _after(first: list[bytes], rest: Iterator[bytes]) -> Iterator[bytes]:
    yield from first
    yield from rest


def _send_parts(client: Any, target: dict[str, str], pieces: Iterator[bytes], condition: dict[str, str]) -> Sent:
    whole, size = hashlib.sha256(), 0
    done: list[dict[str, Any]] = []
    under_way: deque[Future[dict[str, Any]]] = deque()

    def send_one(number: int, data: bytes) -> dict[str, Any]:
        named = checksum(data)
        answer = client.upload_part(**target, PartNumber=number, Body=data, ChecksumSHA256=named)
        return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": named}

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="s3-part") as pool:
        for number, data in enumerate(pieces, 1):
            whole.update(data)
            size += len(data)
            if len(under_way) == AT_ONCE:
                done.append(under_way.popleft().result())
            under_way.append(pool.submit(send_one, number, data))
        done += [future.result() for future in under_way]
    client.complete_multipart_upload(**target, MultipartUpload={"Parts": done}, **condition)
    of_all = checksum(b"".join(base64.b64decode(part["ChecksumSHA256"]) for part in done))
    return Sent(size, whole.hexdigest(), f"{of_all}-{len(done)}")
