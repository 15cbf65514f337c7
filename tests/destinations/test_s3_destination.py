"""The S3 destination against moto's server, and against servers that fail in front of it."""

from __future__ import annotations

import hashlib
import http.server
import os
import socket
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import uuid4

import pytest

from tests.servers.http import handled_by
from tests.servers.s3 import S3Server
from waybill.configuration.registration import S3Destination
from waybill.connection import Connection
from waybill.destinations.base import Profile, Session, Stored
from waybill.destinations.s3 import S3
from waybill.destinations.s3_client import client_of, part_size, parts
from waybill.errors import ConflictError, PermanentError, TransientError, WaybillError

DAY = "/exports/acme/2026/06/01/user"
PART = f"{DAY}/.user.csv.{'a' * 32}.part"
FINAL = f"{DAY}/user.csv"
BYTES = os.urandom(20_000_000)
SECRET = "planted-secret-77aa"


def connection_to(endpoint: str, **extra: Any) -> Connection:
    settings = {"endpoint_url": endpoint, "region_name": "us-east-1", "config_kwargs": {"retries": {"max_attempts": 0}, "read_timeout": 2}}
    return Connection("acme_aws", "aws", login="testing", password=SECRET, extra=settings | extra)


@pytest.fixture
def bucket(s3: S3Server) -> str:
    name = f"bucket-{uuid4().hex}"
    s3.client().create_bucket(Bucket=name)
    return name


def destination(connection: Connection, bucket: str, profile: Profile = Profile.FULL) -> S3:
    return S3(S3Destination(kind="s3", bucket=bucket, connection=connection.id, root="/tenants"), lambda _: connection, profile)


@pytest.fixture
def session(s3: S3Server, bucket: str) -> Iterator[Session]:
    with destination(connection_to(s3.endpoint), bucket).connect() as session:
        yield session


def keys(s3: S3Server, bucket: str) -> list[str]:
    return [stored["Key"] for stored in s3.client().list_objects_v2(Bucket=bucket).get("Contents", [])]


@pytest.mark.parametrize("blocks", [[BYTES[:100]], [BYTES], [BYTES[at : at + 300_000] for at in range(0, 9_000_000, 300_000)], [b""], []])
def test_what_was_sent_is_stored_with_a_checksum_s3_verified(session: Session, blocks: list[bytes]) -> None:
    whole = b"".join(blocks)
    assert session.upload(PART, blocks) == Stored(len(whole), hashlib.sha256(whole).hexdigest())
    assert session.size(PART) == len(whole)
    assert session.sha256(PART) == hashlib.sha256(whole).hexdigest()
    assert b"".join(session.blocks(PART)) == whole


@pytest.mark.parametrize("size", [0, 10, 20_000_000])
def test_publishing_never_overwrites(session: Session, s3: S3Server, bucket: str, size: int) -> None:
    session.upload(PART, [BYTES[:size]])
    assert session.publish(PART, FINAL)
    assert keys(s3, bucket) == [f"tenants{FINAL}"]
    session.upload(PART, [b"second"])
    assert not session.publish(PART, FINAL)
    assert session.size(FINAL) == size
    assert session.read(PART) == b"second"


def test_of_racing_publishers_exactly_one_wins(session: Session) -> None:
    names = [f"{DAY}/.user.csv.{attempt * 32}.part" for attempt in "01234567"]
    for name in names:
        session.upload(name, [name.encode()])
    with ThreadPoolExecutor(len(names)) as pool:
        won = list(pool.map(lambda name: session.publish(name, FINAL), names))
    assert won.count(True) == 1
    assert session.read(FINAL) == names[won.index(True)].encode()


def test_a_folder_of_parts_has_one_winner_and_its_first_file_comes_last(session: Session, s3: S3Server, bucket: str) -> None:
    folders = [f"{DAY}/.user.{attempt * 32}.part" for attempt in "ab"]
    for folder in folders:
        for number in (1, 2):
            session.upload(f"{folder}/user-000{number}.csv", [folder[-6:-5].encode()])
    assert session.publish(folders[0], f"{DAY}/user")
    assert not session.publish(folders[1], f"{DAY}/user")
    assert [session.read(f"{DAY}/user/user-000{number}.csv") for number in (1, 2)] == [b"a", b"a"]
    written = {stored["Key"][-8:]: stored["LastModified"] for stored in s3.client().list_objects_v2(Bucket=bucket)["Contents"]}
    assert written["0002.csv"] <= written["0001.csv"]
    session.remove(folders[1])
    assert not any(item.path.startswith(tuple(folders)) for item in session.walk("/"))


def test_a_winner_that_died_half_way_is_finished_by_the_next(session: Session, s3: S3Server, bucket: str) -> None:
    folders = [f"{DAY}/.user.{attempt * 32}.part" for attempt in "ab"]
    for folder in folders:
        for number in (1, 2):
            session.upload(f"{folder}/user-000{number}.csv", [folder[-6:-5].encode()])
    claim = f"tenants{DAY}/user/.user.{'0' * 32}.part"
    s3.client().put_object(Bucket=bucket, Key=claim, Body=folders[0].encode())
    assert not session.publish(folders[1], f"{DAY}/user")
    assert session.read(f"{DAY}/user/user-0001.csv") == b"a"


@pytest.mark.parametrize("is_collected", [False, True])
def test_a_winner_that_finishes_meanwhile_takes_its_files_from_nobody(s3: S3Server, bucket: str, is_collected: bool) -> None:
    final, folders = f"tenants{DAY}/user/user-0001.csv", [f"{DAY}/.user.{attempt * 32}.part" for attempt in "ab"]
    theirs = {"Bucket": bucket, "Key": f"tenants{folders[0]}/user-0001.csv"}

    def finish(**_: Any) -> None:
        if not is_collected:
            s3.client().copy_object(Bucket=bucket, Key=final, CopySource=theirs)
        s3.client().delete_object(**theirs)

    def client(connection: Connection) -> Any:
        made = client_of(connection)
        made.meta.events.register("before-call.s3.UploadPartCopy", finish)
        return made

    spec = S3Destination(kind="s3", bucket=bucket, connection="acme_aws", root="/tenants")
    with S3(spec, lambda _: connection_to(s3.endpoint), client=client).connect() as session:
        for folder in folders:
            session.upload(f"{folder}/user-0001.csv", [folder[-6:-5].encode()])
        s3.client().put_object(Bucket=bucket, Key=f"tenants{DAY}/user/.user.{'0' * 32}.part", Body=folders[0].encode())
        if is_collected:
            with pytest.raises(TransientError, match="is gone"):
                session.publish(folders[1], f"{DAY}/user")
        else:
            assert not session.publish(folders[1], f"{DAY}/user")
            assert session.read(f"{DAY}/user/user-0001.csv") == b"a"


def test_a_winner_that_gave_its_files_up_is_replaced_by_one_of_those_who_come(session: Session, s3: S3Server, bucket: str) -> None:
    claim = f"tenants{DAY}/user/.user.{'0' * 32}.part"
    s3.client().put_object(Bucket=bucket, Key=claim, Body=f"{DAY}/.user.{'f' * 32}.part".encode())
    folders = [f"{DAY}/.user.{attempt * 32}.part" for attempt in "1234567"]
    for folder in folders:
        for number in (1, 2):
            session.upload(f"{folder}/user-000{number}.csv", [folder.encode()])
    with ThreadPoolExecutor(len(folders)) as pool:
        won = list(pool.map(lambda folder: session.publish(folder, f"{DAY}/user"), folders))
    assert won.count(True) == 1
    assert {session.read(f"{DAY}/user/user-000{number}.csv") for number in (1, 2)} == {folders[won.index(True)].encode()}


def test_parts_that_were_collected_are_published_again_by_the_next(session: Session) -> None:
    for attempt in "ab":
        folder = f"{DAY}/.user.{attempt * 32}.part"
        session.upload(f"{folder}/user-0001.csv", [attempt.encode()])
        assert session.publish(folder, f"{DAY}/user")
        assert session.read(f"{DAY}/user/user-0001.csv") == attempt.encode()
        session.remove(f"{DAY}/user/user-0001.csv")


@pytest.mark.parametrize(
    "claim",
    [
        b"",
        b"\xff\xfe",
        b"somebody",
        b"/exports/other/2026/06/01/user/.user." + b"b" * 32 + b".part",
        f"{DAY}/user".encode(),
        f"{DAY}/.user.{'0' * 32}.part".encode(),
        b"x" * (1 << 20),
    ],
)
def test_a_claim_that_names_no_folder_of_ours_stops_and_touches_nothing(session: Session, s3: S3Server, bucket: str, claim: bytes) -> None:
    session.upload(f"/exports/other/2026/06/01/user/.user.{'b' * 32}.part/user-0001.csv", [b"another tenant's"])
    folder = f"{DAY}/.user.{'a' * 32}.part"
    session.upload(f"{folder}/user-0001.csv", [b"ours"])
    key = f"tenants{DAY}/user/.user.{'0' * 32}.part"
    s3.client().put_object(Bucket=bucket, Key=key, Body=claim)
    before = keys(s3, bucket)
    with pytest.raises(ConflictError, match=r"\.user\.0{32}\.part .* Nothing was touched"):
        session.publish(folder, f"{DAY}/user")
    assert keys(s3, bucket) == before


def test_a_source_that_fails_leaves_nothing(session: Session, s3: S3Server, bucket: str) -> None:
    def rows() -> Iterator[bytes]:
        yield BYTES
        raise RuntimeError("the query was cancelled")

    with pytest.raises(RuntimeError, match="cancelled"):
        session.upload(PART, rows())
    assert keys(s3, bucket) == []
    assert "Uploads" not in s3.client().list_multipart_uploads(Bucket=bucket)


def test_a_store_that_has_forgotten_the_parts_hides_no_cause(s3: S3Server, bucket: str) -> None:
    def forgotten(request: http.server.BaseHTTPRequestHandler) -> bool:
        return "uploadId" in request.path and refuse(404, "NoSuchUpload", "DELETE")(request)

    def rows() -> Iterator[bytes]:
        yield BYTES
        raise RuntimeError("the query was cancelled")

    with behind(s3.endpoint, forgotten) as endpoint, destination(connection_to(endpoint), bucket).connect() as session:
        with pytest.raises(RuntimeError, match="cancelled"):
            session.upload(PART, rows())
        session.upload(PART, [BYTES])
        with pytest.raises(TransientError, match="exists already"):
            session.upload(PART, [BYTES])


def test_a_part_that_is_already_there_is_not_written_over(session: Session) -> None:
    session.upload(PART, [b"first"])
    with pytest.raises(TransientError, match="exists already"):
        session.upload(PART, [b"second"])
    assert session.read(PART) == b"first"


def test_what_is_not_there_is_none(session: Session) -> None:
    assert session.size(FINAL) is session.sha256(FINAL) is session.read(FINAL) is None
    assert list(session.walk("/")) == []
    session.remove(FINAL)
    with pytest.raises(PermanentError, match="no file"):
        list(session.blocks(FINAL))
    with pytest.raises(TransientError, match="is gone"):
        session.publish(PART, FINAL)


def test_walking_tells_everything_below_in_order(session: Session) -> None:
    for path in (f"{DAY}/user.csv", f"{DAY}.csv", "/exports/z"):
        session.upload(path, [b"x"])
    found = [item.path for item in session.walk("/exports/acme/2026/06") if not item.is_folder]
    assert found == [f"{DAY}/user.csv", f"{DAY}.csv"]
    assert next(item.path for item in session.walk("/exports") if item.is_folder) == "/exports/acme"


def test_a_probe_finds_the_condition_honoured_and_leaves_nothing(session: Session, s3: S3Server, bucket: str) -> None:
    assert session.probe("/exports").profile is Profile.FULL
    assert keys(s3, bucket) == []


def test_a_server_without_conditions_is_found_and_looked_at_before_each_copy(s3: S3Server, bucket: str) -> None:
    with behind(s3.endpoint, drop_header="If-None-Match") as endpoint:
        with destination(connection_to(endpoint), bucket).connect() as session:
            session.upload(FINAL, [b"first"])
            session.upload(FINAL, [b"second"])
            assert session.read(FINAL) == b"second"
        with destination(connection_to(endpoint), bucket, Profile.NO_CAS).connect() as session:
            session.upload(PART, [b"third"])
            assert not session.publish(PART, FINAL)


def without_conditions(*methods: str) -> Answer:
    """A store that answers 501 to conditional requests of these methods, as stores do that never heard of them."""

    def answer(request: http.server.BaseHTTPRequestHandler) -> bool:
        if request.command not in methods or "If-None-Match" not in request.headers:
            return False
        return refuse(501, "NotImplemented")(request)

    return answer


def deliver(session: Session) -> None:
    session.upload(PART, [b"x"])
    session.publish(PART, FINAL)


@pytest.mark.parametrize("methods", [("PUT", "POST"), ("PUT",), ("POST",)], ids=["neither", "only copies", "only writes"])
def test_a_store_that_answers_501_to_conditions_gets_the_profile_that_works_there(
    s3: S3Server, bucket: str, methods: tuple[str, ...]
) -> None:
    with behind(s3.endpoint, without_conditions(*methods)) as endpoint:
        with destination(connection_to(endpoint), bucket).connect() as session:
            with pytest.raises(PermanentError, match="does not offer this request") as caught:
                deliver(session)
            assert caught.value.code == "not_offered"
            assert "waybill probe" in str(caught.value)
            found = session.probe("/exports")
            assert found.profile is Profile.NO_CAS
            assert ("write on a condition", "not offered") in found.steps
            assert session.profile is Profile.FULL
            with suppress(WaybillError):
                session.remove(PART)
        assert keys(s3, bucket) == []
        with destination(connection_to(endpoint), bucket, found.profile).connect() as session:
            session.upload(PART, [b"first"])
            assert session.publish(PART, FINAL)
            session.upload(PART, [b"second"])
            assert not session.publish(PART, FINAL)
            assert session.read(FINAL) == b"first"


def test_a_store_that_overlooks_conditions_is_found_by_the_rehearsal(s3: S3Server, bucket: str) -> None:
    with (
        behind(s3.endpoint, drop_header="If-None-Match") as endpoint,
        destination(connection_to(endpoint), bucket).connect() as session,
    ):
        found = session.probe("/exports")
    assert found.profile is Profile.NO_CAS
    assert ("write onto an existing key", "ok") in found.steps
    assert keys(s3, bucket) == []


def test_a_store_that_offers_no_copies_at_all_is_refused_by_the_rehearsal(s3: S3Server, bucket: str) -> None:
    def answer(request: http.server.BaseHTTPRequestHandler) -> bool:
        return "x-amz-copy-source" in request.headers and refuse(501, "NotImplemented")(request)

    with (
        behind(s3.endpoint, answer) as endpoint,
        destination(connection_to(endpoint), bucket).connect() as session,
        pytest.raises(PermanentError, match="does not offer this request"),
    ):
        session.probe("/exports")


@pytest.mark.parametrize("hours", [-2, 3])
def test_a_clock_that_is_wrong_is_told_also_where_the_answer_has_no_body(s3: S3Server, bucket: str, hours: int) -> None:
    """An answer to HEAD says 403 alone: the time it names is what gives the clock away."""
    told = format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)

    def answer(request: http.server.BaseHTTPRequestHandler) -> bool:
        request.send_response_only(403)
        request.send_header("Date", told)
        request.send_header("Content-Length", "0")
        request.end_headers()
        return True

    with (
        behind(s3.endpoint, answer) as endpoint,
        pytest.raises(TransientError, match="the clock of this machine is") as caught,
        destination(connection_to(endpoint), bucket).connect(),
    ):
        pass
    assert caught.value.code == "clock"
    assert ("behind" if hours > 0 else "ahead of") in str(caught.value)
    assert "NTP" in str(caught.value)


def test_parts_grow_so_that_ten_thousand_hold_any_export() -> None:
    assert sum(map(part_size, range(1, 10_001))) > 800 * 10**9
    assert [len(part) for part in parts([BYTES])] == [8388608, 8388608, 20_000_000 - 2 * 8388608]


Answer = Callable[[http.server.BaseHTTPRequestHandler], bool]


@contextmanager
def behind(endpoint: str, answer: Answer = lambda _: False, drop_header: str = "") -> Iterator[str]:
    """A proxy in front of `endpoint` that answers by itself when `answer` says so."""
    import urllib.request
    from urllib.error import HTTPError

    class Proxy(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if answer(self):
                return
            # Without a type urllib would say it is a form, and moto would read it as one.
            headers = {"Content-Type": "binary/octet-stream"}
            headers |= {key: value for key, value in self.headers.items() if key.lower() not in ("host", "expect", drop_header.lower())}
            request = urllib.request.Request(endpoint + self.path, body or None, headers, method=self.command)  # noqa: S310 our own server
            try:
                got = urllib.request.urlopen(request)  # noqa: S310
            except HTTPError as error:
                got = error
            with got:
                data = got.read()
                self.send_response(got.status)
                for key, value in got.headers.items():
                    if key.lower() not in ("connection", "transfer-encoding", "date", "server"):
                        self.send_header(key, value)
                self.end_headers()
                self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

        def log_message(self, *_: Any) -> None:
            pass

    with handled_by(Proxy) as url:
        yield url


def refuse(status: int, code: str, *methods: str, what: str = "", message: str = f"{SECRET} of testing") -> Answer:
    """Refuses requests by these methods, or those that change something, if their path holds `what`."""

    def answer(request: http.server.BaseHTTPRequestHandler) -> bool:
        if request.command not in (methods or ("PUT", "POST")) or what not in request.path:
            return False
        body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)
        return True

    return answer


@pytest.mark.parametrize(
    ("status", "code", "error", "ours"),
    [
        (503, "SlowDown", TransientError, "transient"),
        (500, "InternalError", TransientError, "transient"),
        (400, "RequestTimeout", TransientError, "transient"),
        (400, "BadDigest", TransientError, "verify"),
        (400, "ExpiredToken", TransientError, "expired"),
        (403, "AccessDenied", PermanentError, "refused"),
        (403, "SignatureDoesNotMatch", PermanentError, "login"),
        (403, "InvalidAccessKeyId", PermanentError, "login"),
        (403, "RequestTimeTooSkewed", TransientError, "clock"),
        (403, "RequestExpired", TransientError, "clock"),
        (501, "NotImplemented", PermanentError, "not_offered"),
        (507, "XMinioStorageFull", TransientError, "disk_full"),
        (403, "QuotaExceeded", TransientError, "disk_full"),
    ],
)
def test_each_refusal_says_whether_trying_again_helps(
    s3: S3Server, bucket: str, status: int, code: str, error: type[WaybillError], ours: str
) -> None:
    with (
        behind(s3.endpoint, refuse(status, code)) as endpoint,
        destination(connection_to(endpoint), bucket).connect() as session,
        pytest.raises(error, match=f"S3 says {code}") as caught,
    ):
        session.upload(PART, [b"x"])
    assert caught.value.code == ours
    assert "acme_aws" in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("status", "code", "step"),
    [
        (400, "EntityTooLarge", "csv.max_rows_per_file"),
        (400, "KeyTooLongError", "Shorten the root"),
        (405, "MethodNotAllowed", "takes no files"),
        (400, "KMS.DisabledException", "enable the key"),
        (301, "PermanentRedirect", "Check bucket and region_name"),
    ],
)
def test_the_next_step_is_one_that_helps(s3: S3Server, bucket: str, status: int, code: str, step: str) -> None:
    with behind(s3.endpoint, refuse(status, code)) as url, destination(connection_to(url), bucket).connect() as session:
        with pytest.raises(PermanentError, match=step) as caught:
            session.upload("/out/user.csv", [b"1\n"])
        assert (caught.value.code, SECRET in str(caught.value)) == ("refused", False)


def test_an_expired_session_token_needs_somebody(s3: S3Server, bucket: str) -> None:
    with (
        behind(s3.endpoint, refuse(400, "ExpiredToken")) as endpoint,
        destination(connection_to(endpoint, aws_session_token=SECRET), bucket).connect() as session,
        pytest.raises(PermanentError, match="fresh aws_session_token"),
    ):
        session.upload(PART, [b"x"])


def test_a_body_cut_short_may_pass(s3: S3Server, bucket: str) -> None:
    with destination(connection_to(s3.endpoint), bucket).connect() as session:
        session.upload(FINAL, [BYTES[:100_000]])

    def cut(request: http.server.BaseHTTPRequestHandler) -> bool:
        if request.command == "GET":
            request.send_response(200)
            request.send_header("Content-Length", "100000")
            request.end_headers()
            request.wfile.write(BYTES[:500])
            request.close_connection = True
        return request.command == "GET"

    with (
        behind(s3.endpoint, cut) as endpoint,
        destination(connection_to(endpoint), bucket).connect() as session,
        pytest.raises(TransientError, match="could not read"),
    ):
        session.sha256(FINAL)


def test_a_server_that_stalls_ends_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hole:
        connection = connection_to(f"http://127.0.0.1:{hole.getsockname()[1]}")
        connection = replace(connection, extra={**connection.extra, "config_kwargs": {"read_timeout": 0.5, "retries": {"max_attempts": 0}}})
        with pytest.raises(TransientError, match="read timeout"), destination(connection, "bucket").connect():
            pass


def test_a_missing_bucket_and_a_closed_port_are_told(s3: S3Server) -> None:
    with pytest.raises(PermanentError, match="404"), destination(connection_to(s3.endpoint), "no-such-bucket").connect():
        pass
    with pytest.raises(TransientError, match="endpoint connection"), destination(connection_to("http://127.0.0.1:9"), "bucket").connect():
        pass
