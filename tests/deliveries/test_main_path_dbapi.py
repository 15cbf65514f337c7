"""The scheduled path from databases behind Airflow connections: SQLite and MariaDB through Airflow's own hooks, PostgreSQL by COPY."""

import csv
import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from tests.installations import DAY, NOON, THEME, USER, Place, make_place
from waybill.airflow import connect_db, lookup
from waybill.configuration.selection import Selection
from waybill.deliveries.repairs import backfill
from waybill.deliveries.running import run
from waybill.ledger.deliveries import Delivery
from waybill.registrations.applying import apply

TABLE = """create table "{name}" (
    tenant_id varchar(20), id bigint, name varchar(200), updated_at {time}, deleted_at {time}, primary key (tenant_id, id))"""
ROWS = [
    ("acme", 1, 'Ada "L"', "2026-05-29 10:00:00", None),
    ("acme", 2, "", "2026-05-30 10:00:00", None),
    ("globex", 1, "other", "2026-05-30 10:00:00", None),
]
LATER = ("acme", 3, None, "2026-05-31 10:00:00", None)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with closing(make_place(tmp_path)) as place:
        yield place


def use(place: Place, source: dict[str, str], mode: str = "lookback") -> None:
    changes = {"mode": mode, "column": "updated_at"}
    entities = {"user": {**USER, "source": "db", "changes": changes}, "theme": {**THEME, "source": "db", "relation": "user"}}
    place.write("catalog.yaml", {"sources": {"db": source}, "entities": entities})


def deliver_both_days(place: Place, add_later) -> list[str | None]:
    for until in (NOON, NOON + DAY):
        installation = replace(place.installation(), connections=lookup, connect_db=connect_db)
        apply(installation, actor="test")
        assert [str(result.error) for result in run(installation, "acme", until) if result.error] == []
        add_later()
        add_later = list
    return [row[1] for row in place.rows()]


def test_sqlite_through_its_airflow_hook(place, tmp_path, monkeypatch):
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(TABLE.format(name="user", time="timestamp"))
        database.executemany('insert into "user" values (?, ?, ?, ?, ?)', ROWS)

    def later() -> None:
        with closing(sqlite3.connect(path)) as database, database:
            database.execute('insert into "user" values (?, ?, ?, ?, ?)', LATER)

    monkeypatch.setenv("AIRFLOW_CONN_APP_DB", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    use(place, {"kind": "dbapi", "connection": "app_db"})
    assert deliver_both_days(place, later) == ['Ada "L"', "", None]


@pytest.mark.parametrize("catalogued", [True, False])
def test_a_backfill_and_an_export_both_go_by_times_that_sqlite_keeps_as_text(place, tmp_path, monkeypatch, catalogued):
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(TABLE.format(name="user", time="text"))
        database.executemany('insert into "user" values (?, ?, ?, ?, ?)', ROWS)
    monkeypatch.setenv("AIRFLOW_CONN_APP_DB", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    columns = {name: column for name, column in USER["columns"].items() if catalogued or name != "updated_at"}
    entity = {**USER, "source": "db", "columns": columns, "deleted_column": "", "time_column": "deleted_at"}
    entity["changes"] = {"mode": "append", "column": "updated_at"}
    place.write("catalog.yaml", {"sources": {"db": {"kind": "dbapi", "connection": "app_db"}}, "entities": {"user": entity}})
    place.tenant(entityList=["user"])
    installation = replace(place.installation(), connections=lookup, connect_db=connect_db)
    apply(installation, actor="test")
    assert [result.error for result in run(installation, "acme", NOON)] == [None]
    result = backfill(installation, "acme", "user", datetime(2026, 5, 30, tzinfo=UTC), datetime(2026, 5, 31, tzinfo=UTC), actor="test")
    assert result.error is None
    folder = next(place.out.rglob("backfill-*"))
    assert [row["id"] for row in csv.DictReader(io.StringIO((folder / "user.csv").read_text()))] == ["2"]
    assert json.loads((folder / "user.manifest.json").read_text())["range_column"] == "updated_at"
    with installation.source("db").snapshot() as snapshot:
        registered = installation.catalog.entity("user")
        assert snapshot.changes_by_time(Selection(registered, "acme", registered.columns))


@pytest.mark.parametrize("mode", ["lookback", "horizon"])
def test_postgres_by_copy(place, postgres, monkeypatch, mode):
    with psycopg.connect(postgres.dsn) as database:
        database.execute(TABLE.format(name="user", time="timestamptz"))
        database.cursor().executemany(
            'insert into "user" values (%s, %s, %s, %s, %s)', [(*row[:3], f"{row[3]}+00", row[4]) for row in ROWS]
        )

    def later() -> None:
        with psycopg.connect(postgres.dsn) as database:
            database.execute('insert into "user" values (%s, %s, %s, %s, %s)', (*LATER[:3], f"{LATER[3]}+00", None))

    monkeypatch.setenv("AIRFLOW_CONN_APP_DB", f"postgres://{postgres.user}@{postgres.host}:{postgres.port}/{postgres.name}")
    use(place, {"kind": "postgres", "connection": "app_db"}, mode)
    assert deliver_both_days(place, later) == ['Ada "L"', "", None]


def test_a_database_that_does_not_answer_is_one_clear_message(place, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_APP_DB", "postgres://someone:hunter2@127.0.0.1:1/none")
    use(place, {"kind": "postgres", "connection": "app_db"})
    installation = replace(place.installation(), connections=lookup, connect_db=connect_db)
    apply(installation, actor="test")
    messages = {str(result.error) for result in run(installation, "acme", NOON) if result.error}
    assert messages
    for message in messages:
        assert "acme" in message
        assert "app_db" in message
        assert "hunter2" not in message


def test_a_surprise_in_one_entity_is_told_and_keeps_no_other_back(place, caplog):
    sources = {"db": {"kind": "dbapi", "connection": "odd"}, "warehouse": {"kind": "duckdb", "path": "warehouse.duckdb"}}
    surprising = {f"user{number}": {**USER, "name": f"user {number}", "source": "db", "relation": "user"} for number in range(6)}
    place.write("catalog.yaml", {"sources": sources, "entities": {**surprising, "user": USER, "theme": THEME}})
    place.tenant(entityList=[*surprising, "user", "theme"])
    place.user(1, "Ada", NOON - DAY)

    def connect(_: str) -> None:
        raise ZeroDivisionError("hunter2")

    def progress(delivery: Delivery, rows: int) -> None:
        if delivery.entity == "user":
            raise KeyError("hunter2")

    installation = replace(place.installation(), connect_db=connect)
    apply(installation, actor="test")
    results = {result.delivery.entity: result for result in run(installation, "acme", NOON, progress=progress)}
    assert [name for name, result in results.items() if not result.error] == ["theme"]
    for entity, says in (("user3", "cannot do what it is asked for, and raised ZeroDivisionError"), ("user", "an unexpected KeyError")):
        said = str(results[entity].error)
        assert says in said
        assert "hunter2" not in said
    assert "of user ended unexpectedly" in caplog.text
