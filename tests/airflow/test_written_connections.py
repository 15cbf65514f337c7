"""Connections as people write them into the environment: understood, or refused with the line to write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from airflow.sdk.exceptions import AirflowException
from hypothesis import example, given
from hypothesis import strategies as st

from waybill.airflow import lookup
from waybill.airflow.connections import written
from waybill.connection import Connection
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


TEXT = st.text(alphabet="aB0é @:/?#%&=+-_.[]{}\"'\\\t", max_size=6)
TYPES = st.sampled_from(["postgres", "sftp", "aws", "google-cloud-platform", "my_type", "MySQL", "x+y", "http"])
EXTRAS = st.dictionaries(TEXT, TEXT, max_size=2)
JSON_VALUES = TEXT | st.none() | st.integers(-1, 70_000) | st.booleans()


@st.composite
def uris(draw: st.DrawFn) -> str:
    """URIs with all, some or none of their parts escaped."""

    def spelt(text: str) -> str:
        return quote(text, safe="") if draw(st.booleans()) else text

    login, password, host, schema = (spelt(draw(TEXT)) for _ in range(4))
    port = draw(st.sampled_from(["", ":", ":22", ":0", ":70000", ":x"]))
    extra = draw(EXTRAS)
    query = draw(st.sampled_from(["", urlencode(extra), urlencode({"__extra__": json.dumps(extra)}), "__extra__=7", "__extra__=x"]))
    before = draw(st.sampled_from(["", login, f"{login}:{password}"]))
    return f"{draw(TYPES)}://{before}{'@' if before else ''}{host}{port}/{schema}{'?' if query else ''}{query}"


@st.composite
def documents(draw: st.DrawFn) -> str:
    names = ("host", "login", "password", "schema", "port", "description", "team_name")
    facts = draw(st.dictionaries(st.sampled_from(names), JSON_VALUES, max_size=4)) | {"conn_type": draw(TYPES)}
    extra = draw(st.none() | EXTRAS | EXTRAS.map(json.dumps) | JSON_VALUES | st.lists(TEXT, max_size=1))
    return json.dumps(facts | ({"extra": extra} if draw(st.booleans()) else {}))


def read_by_airflow(monkeypatch: pytest.MonkeyPatch, value: str) -> Connection | str:
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", value)
    try:
        return lookup("shop")
    except PermanentError as error:
        return str(error)


@given(value=uris() | documents())
@example(value="http://https://ann:x@db.example:1/shop")
@example(value="postgres://%2Fvar%2Frun/shop?a=1&a=2&b")
@example(value="postgres://DB.Example:5432/")
@example(value='{"conn_type": "postgres", "extra": "{\\"sslmode\\": \\"require\\"}", "port": "5432"}')
def test_what_is_read_without_airflow_is_what_airflow_reads(value: str) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        try:
            alone: Any = written.read_alone("shop", value)
        except PermanentError as error:
            alone = str(error)
        if alone is not None:
            try:
                assert alone == read_by_airflow(monkeypatch, value)
            except (AirflowException, UnicodeError) as error:
                pytest.fail(f"Airflow refuses it: {error}")


def test_a_command_reads_a_connection_of_its_environment_without_importing_airflow() -> None:
    """An import of Airflow takes longer than most commands."""
    look = "import sys; from waybill.airflow import lookup; print(lookup('shop').host, 'airflow' in sys.modules)"
    values = (f"postgres://ann:p%40ss@db.example:5433/shop?{urlencode({'__extra__': '{}'})}", json.dumps({"conn_type": "sftp", **FACTS}))
    for value in values:
        environment = os.environ | {"AIRFLOW_CONN_SHOP": value}
        done = subprocess.run([sys.executable, "-c", look], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["db.example", "False"]
