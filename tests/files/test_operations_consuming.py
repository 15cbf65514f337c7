"""The examples of docs/consuming.md load what Waybill delivers, and the page leaves no field of a manifest out."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from tests.installations import DAY, NOON, Place, catalog, make_place
from tests.servers.postgres import Database
from tests.servers.process import program
from waybill.deliveries import repairs, views

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
        first = views.listed(installation, "acme")[-1]["delivery_id"]
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


def data_files(place: Place) -> list[Path]:
    found = [(json.loads(path.read_text()), path.parent) for path in place.out.rglob("*.manifest.json")]
    return [
        folder / one["files"][0]["path"]
        for one, folder in sorted(found, key=lambda pair: pair[0]["snapshot_time"])
        if "redelivers" not in one
    ]


def test_the_python_example_loads_everything_once_and_may_run_again(page: str, place: Place, tmp_path: Path) -> None:
    (tmp_path / "load.py").write_text(block(page, "python"))
    for _ in range(2):
        subprocess.run([sys.executable, tmp_path / "load.py", place.out, tmp_path / "all.db"], check=True)
    with closing(sqlite3.connect(tmp_path / "all.db")) as db:
        rows = db.execute('SELECT id, user_id FROM "acme.user_login_events" ORDER BY id').fetchall()
        loaded = db.execute("SELECT count(*) FROM loaded").fetchone()
    assert rows == [("1", "Ada"), ("2", None), ("3", None), ("4", "Eve")]
    assert loaded == (3,)


def test_the_psql_example_upserts_and_tells_null_from_empty(page: str, place: Place, postgres: Database, tmp_path: Path) -> None:
    (tmp_path / "load.sh").write_text(block(page, "sh"))
    shell = {"PATH": f"{Path(program('psql')).parent}:/usr/bin:/bin"}
    postgres.psql("CREATE TABLE user_login_events (id text PRIMARY KEY, user_id text, occurred_at timestamptz, deleted_at timestamptz)")
    for path in data_files(place):
        subprocess.run(["sh", tmp_path / "load.sh", path, postgres.dsn], check=True, env=shell)
    rows = json.loads(postgres.psql("SELECT json_agg(json_build_array(id, user_id) ORDER BY id) FROM user_login_events"))
    assert rows == [["1", "Ada"], ["2", None], ["3", ""], ["4", "Eve"]]


def test_the_duckdb_example_reads_types_and_tells_null_from_empty(page: str, place: Place) -> None:
    query = block(page, "sql").replace("user_login_events.csv", str(data_files(place)[0]))
    rows = duckdb.execute(query).fetchall()
    assert [row[:2] for row in rows] == [("1", 'Ada, the "first"\r\nof many'), ("2", None), ("3", "")]
    assert rows[0][2] == MIDNIGHT - timedelta(hours=2)


def test_every_field_of_a_manifest_is_explained(page: str, place: Place) -> None:
    fields = {name for path in place.out.rglob("*.manifest.json") for name in json.loads(path.read_text())}
    assert sorted(name for name in fields if f"`{name}" not in page) == []
