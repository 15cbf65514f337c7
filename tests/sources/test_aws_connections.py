"""An Airflow `aws` connection means the same to a lake and to an S3 destination, however it gives its credentials and endpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.servers.s3 import S3Server
from tests.sources.test_source_postgres import entity
from waybill.configuration.catalog import LakeSource
from waybill.configuration.selection import Dialect, Selection
from waybill.connection import Connection
from waybill.destinations.s3_client import client_of
from waybill.errors import PermanentError
from waybill.sources.duckdb import lake
from waybill.sources.duckdb.lake import Lake

ROLE = "arn:aws:iam::123456789012:role/reader"
NOWHERE = "http://127.0.0.1:1"


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
        found = b"".join(bytes(block) for block, _ in snapshot.csv(Selection(wanted, "acme", wanted.columns), Dialect()))
    assert found == b"1,2\n"
    key = lake._s3_settings(connection)["key"]
    assert key == {"a profile": "OFPROFILE"}.get(name, "testing") or ("role" in name and key.startswith("ASIA"))


@pytest.mark.parametrize("verify", [False, "/etc/ssl/other.pem"])
def test_a_lake_verifies_as_its_connection_says(verify: object) -> None:
    connection = Connection("lake", "aws", login="a", password="b", extra={"verify": verify, "region_name": "eu-west-1"})
    assert lake._s3_settings(connection)["client_kwargs"] == {"region_name": "eu-west-1", "verify": verify}


@pytest.mark.usefixtures("profiles")
def test_a_profile_that_is_not_there_is_told_by_both(tmp_path: Path) -> None:
    connection = Connection("lake", "aws", extra={"profile_name": "writer"})
    origin = Lake(LakeSource(kind="lake", path="s3://bucket", connection="lake"), tmp_path, lambda _: connection)
    with pytest.raises(PermanentError, match="no such profile"), origin.snapshot():
        pass
    with pytest.raises(PermanentError, match="no such profile"):
        client_of(connection)
