"""Connections as people write them into the environment: understood, or refused with the line to write."""

from __future__ import annotations

import json
import traceback

import pytest

from waybill.airflow import lookup
from waybill.errors import PermanentError

pytestmark = pytest.mark.fast

FACTS = {"host": "db.example", "port": 5433, "login": "ann", "password": "p@ss:w/rd", "schema": "shop"}


@pytest.mark.parametrize(
    "written",
    [
        *(f"{scheme}://ann:p%40ss%3Aw%2Frd@db.example:5433/shop" for scheme in (
            "postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2", "postgresql+asyncpg", "pgsql", "psql", "Postgres",
            "POSTGRESQL+PSYCOPG",
        )),
        " postgres://ann:p%40ss%3Aw%2Frd@db.example:5433/shop\n",
        "postgres://ann:p@ss:w%2Frd@db.example:5433/shop",
        *(json.dumps({"conn_type": kind, **FACTS}) for kind in ("postgres", "postgresql", "Postgres", "postgresql+psycopg")),
        json.dumps({"conn_type": "postgres", **FACTS, "port": "5433"}),
    ],
)  # fmt: skip
def test_every_spelling_of_a_postgresql_connection_is_understood(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", written)
    found = lookup("shop")
    assert {name: getattr(found, name) for name in FACTS} == FACTS
    assert found.type == "postgres"


@pytest.mark.parametrize(
    ("written", "kind", "host"),
    [
        ("mysql+pymysql://ann:secret@db.example/shop", "mysql", "db.example"),
        ("mariadb://ann:secret@db.example/shop", "mysql", "db.example"),
        ("sqlite://%2Fdata%2Fshop.db", "sqlite", "/data/shop.db"),
        ('{"conn_type": "sqlite", "host": "/data/shop.db"}', "sqlite", "/data/shop.db"),
        ("sftp://ann@files.example:2222/?key_file=%2Fk&host_key=ssh-ed25519%20AAAA", "sftp", "files.example"),
        ("google-cloud-platform://", "google_cloud_platform", ""),
    ],
)
def test_other_connections_keep_their_meaning(monkeypatch: pytest.MonkeyPatch, written: str, kind: str, host: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", written)
    assert (lookup("shop").type, lookup("shop").host) == (kind, host)


URI = "Write AIRFLOW_CONN_SHOP='postgres://USER:PASSWORD@HOST:5432/DATABASE', with @ : / ? # % in it as %40 %3A %2F %3F %23 %25"
JSON = """Write AIRFLOW_CONN_SHOP='{"conn_type": "postgres", "host": "HOST","""


@pytest.mark.parametrize(
    ("written", "said", "line"),
    [
        ("", "is empty", URI),
        ("  ", "is empty", URI),
        ("ann:s3cret@db.example/shop", "is neither a URI nor JSON", URI),
        ("'postgres://ann:s3cret@db.example/shop'", "holds its quotes", "Write the same without quotes"),
        ('"postgres://ann:s3cret@db.example/shop"', "holds its quotes", "Write the same without quotes"),
        ("jdbc:postgresql://db.example/shop?user=ann&password=s3cret", "is a JDBC address", URI),
        ("host=db.example dbname=shop user=ann password=s3cret", "is a list of settings", URI),
        ("postgres://ann:s3cret/x@db.example/shop", "characters that end it", URI),
        ("postgres://ann:s3cret#x@db.example/shop", "characters that end it", URI),
        ("postgres://ann:s3cret?x@db.example/shop", "characters that end it", URI),
        ("postgres://ann:x@db.example:s3cret/shop", "is not a connection", URI),
        ("postgres://x://ann:s3cret://db.example/shop", "is not a connection", URI),
        ("sqlite:////data/shop.db", "as SQLAlchemy does", """Write AIRFLOW_CONN_SHOP='{"conn_type": "sqlite", "host": "/data/shop.db"}'"""),
        ("{'conn_type': 's3cret'}", "begins as JSON and is none", JSON),
        ('{"host": "s3cret"}', "does not say its conn_type", JSON),
        ('{"type": "postgres", "password": "s3cret"}', "'type' (did you mean conn_type?)", JSON),
        ('{"conn_type": "postgres", "username": "s3cret", "database": "x"}', "'database' (did you mean schema?), 'username' (did", JSON),
        ('{"conn_type": "postgres", "sslmode": "s3cret"}', "'sslmode' (put it into extra)", JSON),
        ('{"conn_type": "postgres", "port": "s3cret"}', "is not a connection", URI),
    ],
)
def test_anything_else_is_refused_with_the_line_to_write(monkeypatch: pytest.MonkeyPatch, written: str, said: str, line: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", written)
    with pytest.raises(PermanentError, match=r"^AIRFLOW_CONN_SHOP ") as refused:
        lookup("shop")
    assert said in str(refused.value)
    assert line in str(refused.value)
    assert "s3cret" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    ("wanted", "there", "said"),
    [
        ("shop", "AIRFLOW_CONN_shop", "AIRFLOW_CONN_shop is set, but Airflow reads AIRFLOW_CONN_SHOP: write it in capitals"),
        ("shopdb", "AIRFLOW_CONN_SHOP_DB", "Did you mean shop_db?"),
        ("shop-db", "AIRFLOW_CONN_X", "No shell can set AIRFLOW_CONN_SHOP-DB"),
        ("shop", "AIRFLOW_CONN_X", "in the secrets backend, or as AIRFLOW_CONN_SHOP"),
    ],
)
def test_a_missing_connection_is_told_with_what_is_there(monkeypatch: pytest.MonkeyPatch, wanted: str, there: str, said: str) -> None:
    monkeypatch.setenv(there, "postgres://ann:s3cret@db.example/shop")
    with pytest.raises(PermanentError) as refused:
        lookup(wanted)
    assert said in str(refused.value)
    assert refused.value.code == "missing_connection"
