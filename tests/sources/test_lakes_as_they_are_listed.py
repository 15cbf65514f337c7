"""Folders and buckets of a lake that cannot be listed whole, and links in the place of folders: no file is passed over in silence."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import duckdb
import pytest

from tests.servers.http import handled_by
from tests.servers.s3 import S3Server
from tests.sources.test_lakes_that_change import orders, read_while, write
from tests.sources.test_source_files import read, s3_lake
from waybill.errors import PermanentError, TransientError

RELATIONS = ["orders/*/*.parquet", "orders/**/*.parquet", "orders/*", "orders", "orders/d=*/a.parquet"]


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_link_to_a_folder_is_that_folder(tmp_path: Path, relation: str) -> None:
    write(tmp_path / "lake/orders/d=1/a.parquet", 1, rows=3)
    write(tmp_path / "another disk/_begun.parquet", 7)
    there = tmp_path / "another disk/a.parquet"
    write(tmp_path / "elsewhere.parquet", 2, rows=3)
    renumbered(tmp_path / "elsewhere.parquet", there)
    (tmp_path / "lake/orders/d=2").symlink_to(tmp_path / "another disk")
    assert read_while(tmp_path, lambda: None, orders(relation)).count(b"\n") == 6


def renumbered(rows: Path, target: Path) -> None:
    """The same rows under other ids."""
    duckdb.execute(f"copy (select * replace (id + 100 as id) from '{rows}') to '{target}' (format parquet)")


def test_a_file_behind_a_link_that_is_written_again_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    """The link's own time and size stay what they were."""
    write(tmp_path / "elsewhere.parquet", 1)
    (tmp_path / "lake/orders").mkdir(parents=True)
    (tmp_path / "lake/orders/a.parquet").symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(TransientError):
        read_while(tmp_path, lambda: write(tmp_path / "elsewhere.parquet", 2), orders())


@pytest.mark.parametrize("target", ["..", ".", "../../.."])
def test_a_link_that_leads_in_circles_is_named(tmp_path: Path, target: str) -> None:
    write(tmp_path / "lake/orders/d=1/a.parquet", 1)
    (tmp_path / "lake/orders/d=1/again").symlink_to(target)
    with pytest.raises(PermanentError, match="leads to a folder that it lies in"):
        read_while(tmp_path, lambda: None, orders("orders/**/*.parquet"))


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_folder_that_may_not_be_listed_hides_no_rows(tmp_path: Path, relation: str) -> None:
    write(tmp_path / "lake/orders/d=1/a.parquet", 1)
    write(tmp_path / "lake/orders/d=2/a.parquet", 2)
    (tmp_path / "lake/orders/d=2").chmod(0)
    with unprivileged(tmp_path), pytest.raises(PermanentError):
        read_while(tmp_path, lambda: None, orders(relation))


@contextmanager
def unprivileged(folder: Path) -> Iterator[None]:
    """The block runs as an account that only owns `folder` where it would be root, whom no right stops."""
    if os.geteuid():
        yield
        return
    above = [place for place in folder.parents if place.stat().st_uid == 0 and not place.stat().st_mode & 0o001]
    modes = {place: place.stat().st_mode for place in above}
    for place in [*above, folder]:
        place.chmod(0o755)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        for place, mode in modes.items():
            place.chmod(mode)


def forwarded(url: str, method: str, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
    try:
        request = urllib.request.Request(url, headers=headers, method=method)  # noqa: S310 (our own server)
        found = urllib.request.urlopen(request)  # noqa: S310
    except urllib.error.HTTPError as error:
        found = error
    with found:
        return found.status, found.read(), dict(found.headers)


@contextmanager
def refusing_below(s3: S3Server, folder: str, status: int, code: str) -> Iterator[str]:
    """The address of a store in front of `s3` that does not list one folder."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            refused = f"prefix={folder}" in urllib.request.unquote(self.path)
            body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            answer, headers = (status, {}) if refused else (200, {})
            if not refused:
                headers = {name: self.headers[name] for name in ("Range", "Authorization", "x-amz-date") if self.headers[name]}
                answer, body, headers = forwarded(s3.endpoint + self.path, self.command, headers)
            self.send_response(answer)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", headers.get("Content-Length", str(len(body))))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            """Keep the test's output quiet."""

    with handled_by(Handler) as url:
        yield url


@pytest.mark.parametrize(("status", "code", "error"), [(403, "AccessDenied", PermanentError), (503, "SlowDown", TransientError)])
def test_a_folder_of_a_bucket_that_is_not_listed_hides_no_rows(
    tmp_path: Path, s3: S3Server, status: int, code: str, error: type[Exception]
) -> None:
    client, bucket = s3.client(), f"listed-{status}"
    client.create_bucket(Bucket=bucket)
    for number in (1, 2):
        write(tmp_path / f"{number}.parquet", number)
        client.upload_file(str(tmp_path / f"{number}.parquet"), bucket, f"lake/orders/d={number}/a.parquet")
    with refusing_below(s3, "lake/orders/d=2/", status, code) as endpoint, pytest.raises(error):
        read(s3_lake(endpoint, f"s3://{bucket}/lake"), orders("orders/*/*.parquet"))
