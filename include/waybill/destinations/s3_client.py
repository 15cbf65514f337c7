"""Makes a boto3 client from an Airflow aws connection, and translates its errors for the caller."""

from __future__ import annotations

import base64
import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from waybill import aws
from waybill.connection import Connection
from waybill.errors import PermanentError, TransientError

_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
_LOGIN = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthFailure", "UnrecognizedClientException"}
_PASSING = {
    "RequestTimeout",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "ConditionalRequestConflict",
    "OperationAborted",
}
_SKEWED = {"RequestTimeTooSkewed", "RequestExpired"}
_FULL = {"XMinioStorageFull", "InsufficientStorage", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded"}
_MOST_SKEW = timedelta(minutes=15)
"""S3 refuses a request whose signature is older than this, or that far in the future."""

_DAMAGED = {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}


_LIMITS: dict[str, Any] = {
    "connect_timeout": 10,
    "read_timeout": 60,
    "retries": {"max_attempts": 4, "mode": "standard"},
    "tcp_keepalive": True,
    "max_pool_connections": 50,
}
_SIGNATURE = {"signature_version": "s3v4"}
"""Without it boto3 signs URLs by a version that S3 refuses for objects under a key of KMS, and that other stores do not know."""


def client_of(connection: Connection) -> Any:
    """Return an S3 client with time limits. It understands the keys of the amazon provider's connections.

    Raises PermanentError for credentials that cannot be used, and TransientError if a role cannot be assumed just now.
    """
    from botocore.exceptions import BotoCoreError

    role = connection.extra.get("role_arn")
    with translated(f"s3 {connection.id}", f"assume the role {role}" if role else "read the credentials", "", connection):
        try:
            session = aws.session_of(connection, _LIMITS)
            return session.client("s3", **aws.client_options(connection, _LIMITS | _SIGNATURE))
        except (ValueError, TypeError) as error:  # of boto3 itself, which has no error of its own for them
            if isinstance(error, BotoCoreError):
                raise
            raise _misset(f"s3 {connection.id}", "could not make a client", aws.fault_of(error), connection) from error


@contextmanager
def translated(label: str, operation: str, path: str, connection: Connection) -> Iterator[None]:
    """Turn botocore's errors into ours. Only codes and statuses are quoted, because messages of S3 can contain the access key."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError, ProfileNotFound

    what = f"could not {operation} {path}".rstrip()
    try:
        yield
    except ClientError as error:
        raise _answered(label, what, error.response, connection) from None
    except (NoCredentialsError, PartialCredentialsError) as error:
        step = f"Set login and password of the Airflow connection {connection.id}, or role_arn in its extra"
        raise PermanentError(f"{what}: no credentials", where=label, next_step=step, code="login") from error
    except ProfileNotFound as error:
        step = f"Correct profile_name in the extra of the connection {connection.id}, or add the profile to AWS's files on this machine"
        raise PermanentError(f"{what}: there is no such profile", where=label, next_step=step, code="login") from error
    except BotoCoreError as error:
        if fault := aws.fault_of(error):
            raise _misset(label, what, fault, connection) from error
        step = "Check endpoint_url, region_name and the network"
        raise TransientError(f"{what}: {_words(type(error).__name__)}", where=label, next_step=step, code="unreachable") from None


def _misset(label: str, what: str, fault: str, connection: Connection) -> PermanentError:
    step = f"Correct endpoint_url, region_name, verify, role_arn or config_kwargs of the Airflow connection {connection.id}"
    return PermanentError(f"{what}: {fault}", where=label, next_step=step, code="connection")


def _answered(label: str, what: str, response: Mapping[str, Any], connection: Connection) -> PermanentError | TransientError:
    code = str(response.get("Error", {}).get("Code", "unknown"))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    named = HTTPStatus(status).phrase if code == str(status) and status in list(HTTPStatus) else code  # an answer to HEAD has no body
    failure = f"{what}: S3 says {named} ({status})"
    if error := _by_state(failure, label, code, status, response):
        return error
    if code in _EXPIRED:
        if connection.extra.get("aws_session_token"):
            step = f"Put a fresh aws_session_token into the connection {connection.id}, or use role_arn"
            return PermanentError(failure, where=label, next_step=step, code="login")
        return TransientError(failure, where=label, next_step="The next try asks for new credentials", code="expired")
    if code in _LOGIN:
        return PermanentError(failure, where=label, next_step=f"Correct the credentials of the connection {connection.id}", code="login")
    if code in _DAMAGED:
        return TransientError(failure, where=label, next_step="The next try sends the bytes again", code="verify")
    if status == 403:
        step = "The credentials need s3:PutObject, GetObject, DeleteObject, AbortMultipartUpload and ListBucket here"
        return PermanentError(failure, where=label, next_step=step, code="refused")
    if code in _PASSING or status >= 500 or status in (0, 408, 409, 429):
        return TransientError(failure, where=label, next_step="S3 is busy or down; the next try starts over")
    return _refused(failure, label, code)


def _refused(failure: str, label: str, code: str) -> PermanentError:
    """Return the error for what no other try can mend."""
    if code == "EntityTooLarge":
        step = "Let csv.max_rows_per_file of the registration keep files small, or ask the store's owner for a higher limit"
    elif code == "KeyTooLongError":
        step = "Shorten the root"
    elif code == "MethodNotAllowed":
        step = "The bucket takes no files; ask its owner for one that does"
    elif code.startswith("KMS."):
        step = "Ask the bucket's owner to enable the key that it encrypts with, or to let the credentials use it"
    else:
        step = "Check bucket and region_name"
    return PermanentError(failure, where=label, next_step=step, code="refused")


def _by_state(failure: str, label: str, code: str, status: int, response: Mapping[str, Any]) -> PermanentError | TransientError | None:
    """Return the error for a wrong clock, a full store, or a store that does not know the request, and None for everything else."""
    skew = _skew(response)
    if code in _SKEWED or (status == 403 and abs(skew) > _MOST_SKEW):
        by = (
            f"{round(abs(skew).total_seconds()):,} s {'ahead of' if skew > timedelta() else 'behind'} that of S3"
            if skew
            else "not that of S3"
        )
        step = "Let this machine set its clock by NTP; tries fail until then"
        return TransientError(f"{failure}: the clock of this machine is {by}", where=label, next_step=step, code="clock")
    if code in _FULL or status == HTTPStatus.INSUFFICIENT_STORAGE:
        step = "Ask the store's owner for space or a larger quota; the next try starts over"
        return TransientError(f"{failure}: the store is full", where=label, next_step=step, code="disk_full")
    if status == HTTPStatus.NOT_IMPLEMENTED:
        step = "Rehearse it (`waybill probe`): a store without conditional writes gets the profile no_cas, which does without them"
        return PermanentError(f"{failure}: the store does not offer this request", where=label, next_step=step, code="not_offered")
    return None


def _skew(response: Mapping[str, Any]) -> timedelta:
    """Return how far this machine's clock is ahead of S3's, which every answer tells."""
    date = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        return datetime.now(UTC) - parsedate_to_datetime(date)
    except (ValueError, TypeError):
        return timedelta()


def _words(name: str) -> str:
    """Spell `ReadTimeoutError` as `read timeout`."""
    if name == "SSLError":
        return "TLS could not be agreed on"
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name.removesuffix("Error")).strip()


PART = 8 * 1024 * 1024
AT_ONCE = 4


@dataclass(frozen=True)
class Sent:
    """What was sent, and the checksum that S3 must name for it (for several parts, the hash of their hashes and their number)."""

    bytes: int
    sha256: str
    checksum: str


def part_size(number: int) -> int:
    """10,000 parts are allowed, and growing parts hold over 800 GB."""
    return PART * (1 + number // 500)


def parts(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the bytes in pieces as large as S3 wants parts to be. There is at least one, which may be empty."""
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
    """Create the object under `condition`. Raises botocore's errors, and what `blocks` raises. Nothing is left behind then, as
    far as S3 still answers.
    """
    pieces = parts(blocks)
    first, second = next(pieces), next(pieces, None)
    if second is None:
        client.put_object(Bucket=bucket, Key=key, Body=first, ChecksumSHA256=checksum(first), **condition)
        return Sent(len(first), hashlib.sha256(first).hexdigest(), checksum(first))
    with in_parts(client, {"Bucket": bucket, "Key": key}) as upload:
        return _send_parts(client, upload, _after([first, second], pieces), condition)


@contextmanager
def in_parts(client: Any, to: dict[str, str]) -> Iterator[dict[str, str]]:
    """Begin an object in parts, and give it up if the block fails. What the block raises counts, whatever S3 says to that."""
    from botocore.exceptions import BotoCoreError, ClientError

    upload = {**to, "UploadId": client.create_multipart_upload(**to, ChecksumAlgorithm="SHA256")["UploadId"]}
    try:
        yield upload
    except BaseException:
        with suppress(BotoCoreError, ClientError):
            client.abort_multipart_upload(**upload)
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
