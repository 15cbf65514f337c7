"""An Airflow `aws` connection means the same to a lake and to an S3 destination, however it gives its credentials and endpoints."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.destinations.test_s3_destination import behind, refuse
from tests.servers.s3 import S3Server
from tests.sources.test_source_postgres import entity
from waybill import aws
from waybill.configuration.catalog import LakeSource
from waybill.configuration.registration import S3Destination
from waybill.configuration.selection import FileStyle, Selection
from waybill.connection import Connection
from waybill.destinations.s3 import S3
from waybill.destinations.s3_client import client_of
from waybill.errors import PermanentError, TransientError, WaybillError
from waybill.sources.duckdb import lake
from waybill.sources.duckdb.lake import Lake

ROLE = "arn:aws:iam::123456789012:role/reader"
NOWHERE = "http://127.0.0.1:1"
SPEC = S3Destination(kind="s3", bucket="bucket", connection="lake")


def spellings(s3: S3Server) -> dict[str, Connection]:
    """Each gives the same bucket; where an endpoint or a key is wrong on purpose, another setting goes before it."""
    keys = {"login": s3.access_key, "password": s3.secret_key}
    at: dict[str, Any] = {"endpoint_url": s3.endpoint, "region_name": s3.region}
    own = {"endpoint_url": NOWHERE, "region_name": s3.region, "service_config": {"s3": {"endpoint_url": s3.endpoint}}}
    sts = {**own, "service_config": {"s3": {"endpoint_url": s3.endpoint}, "sts": {"endpoint_url": s3.endpoint}}}
    return {
        "login and password": Connection("lake", "aws", **keys, extra=at),
        "keys in extra": Connection("lake", "aws", extra={**at, "aws_access_key_id": "testing", "aws_secret_access_key": "testing"}),
        "an endpoint of its own": Connection("lake", "aws", **keys, extra=own),
        "a role": Connection("lake", "aws", **keys, extra={**at, "role_arn": ROLE, "external_id": "waybill"}),
        "a role by an endpoint of its own": Connection("lake", "aws", **keys, extra={**sts, "role_arn": ROLE}),
        "a profile": Connection("lake", "aws", extra={**at, "profile_name": "reader"}),
        "further settings": Connection("lake", "aws", **keys, extra={**at, "config_kwargs": {"s3": {"addressing_style": "path"}}}),
    }


NAMES = list(spellings(S3Server("")))


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "credentials"
    path.write_text("[reader]\naws_access_key_id = OFPROFILE\naws_secret_access_key = testing\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))


@pytest.mark.usefixtures("profiles")
@pytest.mark.parametrize("name", NAMES)
def test_a_lake_and_a_destination_read_a_connection_alike(tmp_path: Path, s3: S3Server, name: str) -> None:
    connection = spellings(s3)[name]
    duckdb.execute(f"copy (select 1 as id, 2 as version, 'acme' as tenant_id) to '{tmp_path}/a.parquet' (format parquet)")
    bucket = f"lake-{NAMES.index(name)}"
    s3.client().create_bucket(Bucket=bucket)
    client_of(connection).upload_file(f"{tmp_path}/a.parquet", bucket, "orders/a.parquet")
    wanted = entity("full", relation="orders/*.parquet")
    origin = Lake(LakeSource(kind="lake", path=f"s3://{bucket}", connection="lake"), tmp_path, lambda _: connection)
    with origin.snapshot([wanted]) as snapshot:
        found = b"".join(bytes(block) for block, _ in snapshot.csv(Selection(wanted, "acme", wanted.columns), FileStyle()))
    assert found == b"1,2\n"
    key = lake.s3_settings(connection)["key"]
    assert key == {"a profile": "OFPROFILE"}.get(name, "testing") or ("role" in name and key.startswith("ASIA"))


def test_what_aws_says_of_its_services_is_read_once_for_all_connections_and_anew_where_it_lies_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = [Connection("lake", "aws", login=login, password="b", extra={"region_name": "eu-west-1"}) for login in "ab"]

    def loaders() -> list[Any]:
        return [aws.session_of(connection, {})._session.get_component("data_loader") for connection in connections]

    first, second = loaders()
    assert first is second
    searched = list(first.search_paths)
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    third, fourth = loaders()
    assert third is fourth is not first
    assert str(tmp_path) in third.search_paths
    assert first.search_paths == searched


@pytest.mark.parametrize("what", ["list-type", "a.parquet"], ids=["list", "read"])
@pytest.mark.parametrize(
    ("status", "code", "message", "kind"),
    [
        (400, "ExpiredToken", "The provided token has expired.", TransientError),
        (403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.", TransientError),
        (403, "AccessDenied", "Access Denied", PermanentError),
    ],
    ids=["expired", "clock", "denied"],
)
def test_a_refusal_says_whether_trying_again_helps(
    tmp_path: Path, s3: S3Server, what: str, status: int, code: str, message: str, kind: type[WaybillError]
) -> None:
    duckdb.execute(f"copy (select 1 as id, 2 as version, 'acme' as tenant_id) to '{tmp_path}/a.parquet' (format parquet)")
    bucket = f"lake-{uuid4().hex}"
    s3.client().create_bucket(Bucket=bucket)
    s3.client().upload_file(f"{tmp_path}/a.parquet", bucket, "a.parquet")
    with behind(s3.endpoint, refuse(status, code, "GET", what=what, message=message)) as endpoint:
        connection = Connection("lake", "aws", login="x", password="y", extra={"endpoint_url": endpoint, "region_name": s3.region})
        origin = Lake(LakeSource(kind="lake", path=f"s3://{bucket}", connection="lake"), tmp_path, lambda _: connection)
        with origin.snapshot() as snapshot, pytest.raises(kind) as caught:
            snapshot.columns(entity("full", relation="*.parquet"))
    assert "^" not in str(caught.value)


@pytest.mark.parametrize("verify", [False, "/etc/ssl/other.pem"])
def test_a_lake_verifies_as_its_connection_says(verify: object) -> None:
    connection = Connection("lake", "aws", login="a", password="b", extra={"verify": verify, "region_name": "eu-west-1"})
    assert lake.s3_settings(connection)["client_kwargs"] == {"region_name": "eu-west-1", "verify": verify}


@pytest.mark.usefixtures("profiles")
def test_a_profile_that_is_not_there_is_told_by_both(tmp_path: Path) -> None:
    connection = Connection("lake", "aws", extra={"profile_name": "writer"})
    origin = Lake(LakeSource(kind="lake", path="s3://bucket", connection="lake"), tmp_path, lambda _: connection)
    with pytest.raises(PermanentError, match="no such profile"), origin.snapshot():
        pass
    with pytest.raises(PermanentError, match="no such profile"):
        client_of(connection)


MISSET: dict[str, dict[str, Any]] = {
    "an endpoint without a scheme": {"endpoint_url": "127.0.0.1:9000"},
    "an endpoint whose port is no number": {"endpoint_url": "http://127.0.0.1:abc"},
    "a region that is none": {"region_name": "mars 1"},
    "a setting that nobody knows": {"config_kwargs": {"nosuch": 1}},
    "a way to retry that nobody knows": {"config_kwargs": {"retries": {"mode": "often"}}},
}


def errors_of(extra: dict[str, Any], tmp_path: Path) -> list[tuple[type, str]]:
    """What a destination and a lake say of a connection with these settings."""
    keys = {"login": "testing", "password": "testing"}
    connection = Connection("lake", "aws", **keys, extra={"region_name": "us-east-1", **extra})
    found = []
    with pytest.raises(WaybillError) as caught, S3(SPEC, lambda _: connection).connect():
        pass
    found.append((type(caught.value), str(caught.value)))
    wanted = entity("full", relation="orders/*.parquet")
    origin = Lake(LakeSource(kind="lake", path="s3://bucket", connection="lake"), tmp_path, lambda _: connection)
    with pytest.raises(WaybillError) as caught, origin.snapshot() as snapshot:
        snapshot.columns(wanted)
    return [*found, (type(caught.value), str(caught.value))]


@pytest.mark.parametrize("name", MISSET)
def test_a_setting_that_is_not_valid_is_refused_for_good_by_both(tmp_path: Path, name: str) -> None:
    for kind, said in errors_of(MISSET[name], tmp_path):
        assert (kind, "a setting is not valid" in said, "config_kwargs" in said) == (PermanentError, True, True)


def test_a_certificate_that_is_not_trusted_is_refused_for_good_by_both_and_a_server_that_is_away_is_not(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    with tls_server(certificate, key) as port:
        for verify in (None, str(tmp_path / "nowhere.pem")):
            for kind, said in errors_of({"endpoint_url": f"https://127.0.0.1:{port}", "verify": verify}, tmp_path):
                assert (kind, "certificate is not trusted" in said) == (PermanentError, True)
    assert [kind for kind, _ in errors_of({"endpoint_url": NOWHERE}, tmp_path)] == [TransientError] * 2


def self_signed(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    begin, end = datetime(2020, 1, 1, tzinfo=UTC), datetime(2120, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1).not_valid_before(begin).not_valid_after(end)
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "certificate.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    return folder / "certificate.pem", folder / "key.pem"


@contextmanager
def tls_server(certificate: Path, key: Path) -> Iterator[int]:
    """A server that nobody gets further with than the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()
