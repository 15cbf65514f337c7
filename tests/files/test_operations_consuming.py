"""The examples of docs/consuming.md load what Waybill delivers, and the page leaves no field of a manifest out."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import psycopg
import pyarrow as pa
import pytest
from pyarrow import csv

from tests.consumer.copies import consumer
from tests.consumer.sender import Sender
from tests.installations import DAY, NOON, Place, catalog, make_place
from tests.servers.postgres import Database
from waybill.deliveries import repairs
from waybill.deliveries.reports import describing

MIDNIGHT = NOON.replace(hour=0)
LOGINS = {
    "source": "warehouse",
    "relation": "logins",
    "tenant_column": "tenant_id",
    "key": ["id"],
    "changes": {"mode": "lookback", "column": "changed_at", "lookback": "24h"},
    "deleted_column": "deleted_at",
    "columns": {
        "id": {"type": "string"},
        "user_id": {"type": "string"},
        "occurred_at": {"type": "timestamp"},
        "deleted_at": {"type": "timestamp"},
    },
}


@pytest.fixture(scope="module")
def page() -> str:
    return (Path(__file__).parents[2] / "docs" / "consuming.md").read_text()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Two deliveries, a redelivery and a backfill of the page's own entity."""
    with closing(make_place(tmp_path_factory.mktemp("consuming"))) as place:
        place.write("catalog.yaml", catalog(user_login_events=LOGINS))
        place.tenant(entityList=["user_login_events"])
        times = ", ".join(f"{name} timestamptz" for name in ("occurred_at", "deleted_at", "changed_at"))
        place.sql(f"create table logins (tenant_id text, id text, user_id text, {times})")
        write(place, "1", 'Ada, the "first"\r\nof many', -2)
        write(place, "2", None, -2)
        write(place, "3", "", -2)
        place.run(NOON)
        write(place, "1", "Ada", 1)
        write(place, "4", "Eve", 1)
        place.run(NOON + DAY)
        installation = place.installation()
        first = describing.listed(installation, "acme")[-1]["delivery_id"]
        repairs.redeliver(installation, first, actor="test")
        repairs.backfill(installation, "acme", "user_login_events", MIDNIGHT - DAY, MIDNIGHT + DAY, actor="test")
        yield place


def write(place: Place, number: str, user: str | None, hours: int) -> None:
    at = MIDNIGHT + timedelta(hours=hours)
    with duckdb.connect(str(place.root / "warehouse.duckdb")) as connection:
        connection.execute("delete from logins where id = ?", [number])
        connection.execute("insert into logins values ('acme', ?, ?, ?, null, ?)", [number, user, at, at])


def block(page: str, language: str) -> str:
    return re.findall(rf"```{language}\n(.*?)```", page, re.S)[0]


def test_the_commands_keep_a_copy(page: str, place: Place, postgres: Database, tmp_path: Path) -> None:
    """The page's own lines, by hand and then by cron, with this machine's places in them."""
    to = f"postgresql://{postgres.user}@{postgres.host}:{postgres.port}/{postgres.name}"
    first = page.partition("## Where things stand")[0]
    commands = re.findall(r"^(?:\d+ \* \* \* \*  )?(waybill-consumer .*)$", first, re.M)
    assert [line.split()[1] for line in commands] == ["pull", "load", "status"] * 2
    for line in commands:
        for written, here in {
            "sftp://acme@files.example.com/exports/acme": str(place.out / "exports" / "acme"),
            "/data/acme": str(tmp_path / "acme"),
            "postgresql://loader@db.example.com/copies": to,
            " --max-age 26h": "",  # the deliveries of this test are of another year
        }.items():
            line = line.replace(written, here)  # noqa: PLW2901
        assert consumer(*line.split()[1:]).code == 0, line
    rows = json.loads(postgres.psql("SELECT json_agg(json_build_array(id, user_id) ORDER BY id) FROM acme.user_login_events"))
    assert rows == [["1", "Ada"], ["2", None], ["3", ""], ["4", "Eve"]]


ROWS: list[tuple[str | None, ...]] = [
    ("1", "", "-12.3400", "1e+300", "true", "2026-06-01T00:00:00.123456Z", "AP8="),
    ("2", None, None, None, None, None, None),
    ("3", 'say "hi",\r\nEve', "0.0001", "0.1", "false", "1969-12-31T23:59:59.999999Z", ""),
]
COLUMNS = {"id": "integer", "s": "string", "d": "decimal", "f": "float", "b": "boolean", "t": "timestamp", "raw": "binary"}
VALUES = [
    (1, "", Decimal("-12.3400"), 1e300, True, datetime(2026, 6, 1, 0, 0, 0, 123456, UTC), b"\0\xff"),
    (2, None, None, None, None, None, None),
    (3, 'say "hi",\r\nEve', Decimal("0.0001"), 0.1, False, datetime(1969, 12, 31, 23, 59, 59, 999999, UTC), b""),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A delivered file with what readers get wrong."""
    Sender(tmp_path / "in").deliver(ROWS, kind="full", columns=COLUMNS)
    return next((tmp_path / "in").rglob("user.csv"))


def options(page: str, program: str) -> str:
    """What the page's table says of a program."""
    (row,) = re.findall(rf"^\| {program} \|(.*)\|$", page, re.M)
    return str(row)


def decoded(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [(*row[:-1], None if row[-1] is None else base64.b64decode(row[-1])) for row in rows]


def test_duckdb_reads_what_the_table_says(page: str, file: Path) -> None:
    said = re.findall(r"`(read_csv.*?columns = )", options(page, "DuckDB"))[0]
    types = "{'id': 'BIGINT', 's': 'VARCHAR', 'd': 'DECIMAL(18, 4)', 'f': 'DOUBLE', 'b': 'BOOLEAN', 't': 'TIMESTAMPTZ', 'raw': 'VARCHAR'}"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        query = f"SELECT * REPLACE (from_base64(raw) AS raw) FROM {said.replace('(f,', f'({str(file)!r},')}{types}) ORDER BY id"
        assert connection.execute(query).fetchall() == VALUES


def test_postgresql_reads_what_the_table_says(page: str, file: Path, postgres: Database) -> None:
    said = re.findall(r"FROM \.\.\. (\(.*?\))`", options(page, "PostgreSQL 15"))[0]
    with psycopg.connect(postgres.dsn) as connection:
        connection.execute("CREATE TABLE t (id bigint, s text, d numeric, f double precision, b boolean, t timestamptz, raw text)")
        with connection.cursor().copy(f"COPY t FROM STDIN {said}") as copy:
            copy.write(file.read_bytes())
        query = "SELECT id, s, d, f, b, t, decode(raw, 'base64') FROM t ORDER BY id"
        assert connection.execute(query).fetchall() == VALUES


def test_pyarrow_reads_what_the_table_says(page: str, file: Path) -> None:
    parse = re.findall(r"ParseOptions\((.*?)\)`", options(page, "PyArrow"))[0]
    convert = re.findall(r"ConvertOptions\((.*?), column_types=\{...\}\)`", options(page, "PyArrow"))[0]
    types = [pa.int64(), pa.string(), pa.decimal128(18, 4), pa.float64(), pa.bool_(), pa.timestamp("us", "UTC"), pa.string()]
    given = eval(f"dict({convert})")  # noqa: S307 (the page's own words)
    found = csv.read_csv(
        file,
        parse_options=csv.ParseOptions(**eval(f"dict({parse})")),  # noqa: S307
        convert_options=csv.ConvertOptions(**given, column_types=dict(zip(COLUMNS, types, strict=True))),
    )
    assert decoded([tuple(row.values()) for row in found.to_pylist()]) == VALUES


def test_pandas_reads_what_the_table_says_and_loses_the_empty_string(page: str, file: Path) -> None:
    said = re.findall(r"read_csv\(f, (.*?), dtype=\{...\}, (.*?)\)`", options(page, "pandas"))[0]
    given = eval(f"dict({', '.join(said)})")  # noqa: S307 (the page's own words)
    found = pd.read_csv(file, dtype=dict.fromkeys(COLUMNS, "str"), **given)
    rows = [tuple(None if pd.isna(value) else value for value in row) for row in found.itertuples(index=False)]
    assert rows == [tuple(value or None for value in row) for row in ROWS]


def test_polars_reads_what_the_table_says(page: str, file: Path) -> None:
    assert re.findall(r"`read_csv\(f, schema=\{...\}\)`", options(page, "Polars 2"))
    types = [pl.Int64(), pl.String(), pl.Decimal(18, 4), pl.Float64(), pl.Boolean(), pl.Datetime("us", "UTC"), pl.String()]
    found = pl.read_csv(file, schema=dict(zip(COLUMNS, types, strict=True)))
    assert found.with_columns(pl.col("raw").str.decode("base64")).rows() == VALUES


@pytest.mark.parametrize(("program", "nothing"), [("Miller 6", ""), ("csvkit", None)])
def test_tools_of_a_shell_read_what_the_table_says_and_keep_no_null_apart(page: str, file: Path, program: str, nothing: str | None) -> None:
    command = re.findall(r"`((?:mlr|csvjson) .*?) f`", options(page, program))[0].split()
    command[0] = str(shutil.which(command[0], path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"))
    done = subprocess.run([*command, str(file)], check=True, capture_output=True, text=True)
    rows = [[str(value).replace("\r\n", "\n") if value else nothing for value in row] for row in ROWS]
    assert [list(row.values()) for row in json.loads(done.stdout)] == rows


def test_the_python_lines_tell_null_from_empty(page: str, file: Path) -> None:
    here: dict[str, Any] = {}
    exec(block(page, "python").replace("user_login_events.csv", str(file)), here)  # noqa: S102 (the page's own words)
    assert here["header"] == list(COLUMNS)
    assert [tuple(row) for row in here["rows"]] == ROWS


def test_every_field_of_a_manifest_is_explained(page: str, place: Place) -> None:
    fields = {name for path in place.out.rglob("*.manifest.json") for name in json.loads(path.read_text())}
    assert sorted(name for name in fields if f"`{name}" not in page) == []
