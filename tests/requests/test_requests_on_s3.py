"""Archives in a bucket: stored whole, served by a URL presigned at each click, removed when their time is over."""

from __future__ import annotations

import hashlib
import hmac
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit
from uuid import uuid4

import pytest

from tests.exports import Office, make_office, person
from tests.servers.s3 import S3Server
from waybill.connection import Connection
from waybill.errors import WaybillError
from waybill.installation import Installation
from waybill.requests import following, links, upkeep
from waybill.requests.fulfilment import running


@pytest.fixture
def bucket(s3: S3Server) -> str:
    name = f"archives-{uuid4().hex[:12]}"
    s3.client().create_bucket(Bucket=name)
    return name


@pytest.fixture
def office(tmp_path: Path, s3: S3Server) -> Iterator[Office]:
    extra = {"endpoint_url": s3.endpoint, "region_name": s3.region}
    connection = Connection("archive_store", "aws", login=s3.access_key, password=s3.secret_key, extra=extra)
    office = make_office(tmp_path, connections={"archive_store": connection})
    office.measure(1)
    yield office
    office.place.close()


def estate_on(office: Office, bucket: str) -> Installation:
    installation = office.installation()
    return replace(installation, settings=replace(installation.settings, archive_url=f"s3://archive_store@{bucket}/waybill"))


def test_an_archive_in_a_bucket_is_downloaded_by_a_url_made_for_the_click(office: Office, bucket: str, s3: S3Server) -> None:
    export = office.ask()
    installation = estate_on(office, bucket)
    done = running.fulfil(installation, export.id)
    assert done is not None
    assert done.status == "done"
    keys = [item["Key"] for item in s3.client().list_objects_v2(Bucket=bucket)["Contents"]]
    assert keys == [f"waybill/requests/acme/{export.id}.1.zip"]
    token = links.mint_link(installation, person(), "acme", export.id).token
    found = links.open_download(installation, token)
    assert found.path is None
    assert found.url is not None
    with urllib.request.urlopen(found.url) as answer:  # noqa: S310 (moto's own address)
        assert answer.headers["Content-Disposition"] == f'attachment; filename="{found.filename}"'
        assert hashlib.sha256(answer.read()).hexdigest() == done.sha256
    assert not list((office.place.root / ".waybill/spool/requests").iterdir())


def signature(url: str, method: str, s3: S3Server) -> str:
    """What a store takes for the signature of a URL by which it is asked for an object."""
    parts = urlsplit(url)
    query = dict(sorted(parse_qsl(parts.query)))
    del query["X-Amz-Signature"]
    scope = query["X-Amz-Credential"].partition("/")[2]
    sent = "&".join(f"{quote(name, safe='')}={quote(value, safe='-_.~')}" for name, value in query.items())
    asked = "\n".join([method, parts.path, sent, f"host:{parts.netloc}", "", "host", "UNSIGNED-PAYLOAD"])
    text = "\n".join(["AWS4-HMAC-SHA256", query["X-Amz-Date"], scope, hashlib.sha256(asked.encode()).hexdigest()])
    key = f"AWS4{s3.secret_key}".encode()
    for part in (*scope.split("/"), text):
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()


def test_a_url_of_a_bucket_is_signed_for_the_method_that_follows_it(office: Office, bucket: str, s3: S3Server) -> None:
    export = office.ask()
    installation = estate_on(office, bucket)
    done = running.fulfil(installation, export.id)
    token = links.mint_link(installation, person(), "acme", export.id).token
    for method in ("GET", "HEAD"):
        url = links.open_download(installation, token, taken=method == "GET").url or ""
        assert dict(parse_qsl(urlsplit(url).query))["X-Amz-Signature"] == signature(url, method, s3)
        with urllib.request.urlopen(urllib.request.Request(url, method=method)) as answer:  # noqa: S310 (moto's own address)
            assert int(answer.headers["Content-Length"]) == (done and done.bytes)


def test_expired_and_deleted_archives_leave_the_bucket(office: Office, bucket: str, s3: S3Server) -> None:
    first = office.ask()
    running.fulfil(estate_on(office, bucket), first.id)
    second = office.ask()
    running.fulfil(estate_on(office, bucket), second.id)
    following.delete(estate_on(office, bucket), person(), "acme", [first.id])
    assert s3.client().list_objects_v2(Bucket=bucket)["KeyCount"] == 1
    office.later(timedelta(days=7))
    upkeep.keep_requests(estate_on(office, bucket))
    assert s3.client().list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_bucket_that_is_not_there_fails_the_request_without_blaming_the_data(office: Office) -> None:
    export = office.ask()
    failed = running.fulfil(estate_on(office, "no-such-bucket"), export.id)
    assert failed is not None
    assert (failed.status, failed.error_code, failed.error_message) == ("failed", "internal", "The archive could not be stored.")


def test_an_archive_that_vanished_from_the_bucket_is_unavailable(office: Office, bucket: str, s3: S3Server) -> None:
    export = office.ask()
    installation = estate_on(office, bucket)
    running.fulfil(installation, export.id)
    token = links.mint_link(installation, person(), "acme", export.id).token
    s3.client().delete_object(Bucket=bucket, Key=f"waybill/requests/acme/{export.id}.1.zip")
    with pytest.raises(WaybillError) as caught:
        links.open_download(installation, token)
    assert caught.value.code == "storage_unavailable"
