"""The dbapi source: streaming, exact tenants in loose collations, drivers it refuses, and what Airflow's own hooks hand out."""

from __future__ import annotations

import json
import sqlite3
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pymysql
import pytest

from tests.servers.mariadb import MariaDatabase
from waybill.airflow import connect_db
from waybill.configuration.catalog import DbApiSource, Entity, Mode
from waybill.configuration.selection import ChangeSpan, FileStyle, Selection
from waybill.errors import PermanentError, TransientError
from waybill.sources import open_source
from waybill.sources.dbapi import source as dbapi
from waybill.sources.dbapi.source import DbApi

SPEC = DbApiSource(kind="dbapi", connection="db")
ENTITY = Entity.model_validate(
    {
        "id": "events",
        "source": "db",
        "relation": "events",
        "tenant_column": "tenant_id",
        "key": "id",
        "changes": {"mode": "lookback", "column": "updated_at"},
        "columns": {"id": {"type": "integer"}, "note": {"type": "string"}},
    }
)


def read(source: DbApi, entity: Entity = ENTITY, tenant: str = "acme") -> str:
    selection = Selection(entity, tenant, entity.columns)
    with source.snapshot() as snapshot:
        snapshot.check(selection)
        return b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle())).decode()


def _no_connection(name: str) -> Any:
    raise AssertionError(name)


@pytest.fixture
def maria(mariadb: MariaDatabase) -> DbApi:
    def connect(_: str) -> Any:
        return mariadb.connect()

    with closing(connect("")) as connection, connection.cursor() as cursor:
        cursor.execute(
            """CREATE TABLE events (id int PRIMARY KEY, tenant_id varchar(20), note text, updated_at datetime(6))
               CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"""
        )
        tenants = ["acme", "ACME", "acme ", "àcme", "acme"]
        rows = [(number, tenant, f"{number}% done", datetime(2026, 1, 1)) for number, tenant in enumerate(tenants)]  # noqa: DTZ001 (naive column)
        cursor.executemany("INSERT INTO events VALUES (%s, %s, %s, %s)", rows)
        connection.commit()
    return DbApi(SPEC, connect)


@pytest.fixture
def lite(tmp_path: Path) -> Path:
    path = tmp_path / "events.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE events (id INTEGER, tenant_id TEXT, note TEXT, updated_at TEXT)")
        rows = ((number, "acme", f"note {number}", "2026-01-01T00:00:00+00:00") for number in range(50_000))
        connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
        connection.commit()
    return path


def test_a_tenant_matches_neither_other_case_nor_accent_nor_trailing_blank(maria: DbApi) -> None:
    assert read(maria) == "0,0% done\n4,4% done\n"


def test_a_time_column_that_is_not_exported_is_read_only_where_a_range_is_asked_for(maria: DbApi) -> None:
    by_id = ENTITY.model_copy(update={"time_column": "updated_at", "changes": ENTITY.changes.model_copy(update={"column": "id"})})
    assert read(maria, by_id) == read(maria)
    selection = Selection(by_id, "acme", by_id.columns, time_from=datetime(2100, 1, 1, tzinfo=UTC))
    with maria.snapshot() as snapshot:
        assert snapshot.count(selection) == 0


def test_the_snapshot_stays_as_it_was_while_others_write(maria: DbApi) -> None:
    selection = Selection(ENTITY, "acme", ENTITY.columns)
    with maria.snapshot() as snapshot:
        assert snapshot.count(selection) == 2
        with closing(maria.connect("")) as other, other.cursor() as cursor:  # type: ignore[misc]
            cursor.execute("DELETE FROM events")
            other.commit()
        assert snapshot.count(selection) == 2
        assert abs((snapshot.taken_at - datetime.now(UTC)).total_seconds()) < 60


def test_rows_are_streamed_and_memory_stays_flat(lite: Path) -> None:
    selection = Selection(ENTITY, "acme", ENTITY.columns)
    peaks = []
    for limit in ("5000", "20000", "50000"):
        with closing(sqlite3.connect(lite)) as connection:
            connection.execute(f"CREATE VIEW some{limit} AS SELECT * FROM events WHERE id < {limit}")
        shape = ENTITY.model_copy(update={"relation": f"some{limit}"})
        with DbApi(SPEC, lambda _: sqlite3.connect(lite)).snapshot() as snapshot:
            tracemalloc.start()
            assert sum(count for _, count in snapshot.csv(Selection(shape, "acme", selection.columns), FileStyle())) == int(limit)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[2] < peaks[1] * 1.5  # the first run only warms up


class Cursor:
    """A cursor of a driver nobody knows, over SQLite's."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._cursor = connection.cursor()

    def execute(self, statement: str, parameters: Any = ()) -> None:
        if "information_schema" in statement:
            statement, parameters = "SELECT name, type FROM pragma_table_info(?)", parameters[:1]
        self._cursor.execute(statement.replace("CURRENT_SCHEMA", "'main'"), list(parameters))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


class Unknown:
    """A connection of that driver."""

    paramstyle = "qmark"

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path)

    def cursor(self) -> Cursor:
        return Cursor(self._connection)

    def close(self) -> None:
        self._connection.close()


TIMELESS = ENTITY.model_copy(update={"changes": ENTITY.changes.model_copy(update={"mode": Mode.FULL})})


def test_a_huge_table_on_a_driver_that_cannot_stream_is_refused_with_advice(lite: Path) -> None:
    source = DbApi(SPEC, lambda _: Unknown(lite))
    assert read(source, TIMELESS).count("\n") == 50_000
    with closing(sqlite3.connect(lite)) as connection:
        more = ((number, "acme", "more", "2026-01-01") for number in range(50_000, dbapi.UNSTREAMED_ROWS + 1))
        connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", more)
        connection.commit()
    with pytest.raises(PermanentError, match="server-side cursors"):
        read(source, TIMELESS)


class Fetched(sqlite3.Cursor):
    """Keeps how much text each fetch brought."""

    most = 0

    def fetchmany(self, size: int = 1) -> list[Any]:
        rows = super().fetchmany(size)
        Fetched.most = max(Fetched.most, sum(len(value) for row in rows for value in row if isinstance(value, str)))
        return rows


class Watched(sqlite3.Connection):
    def cursor(self, factory: type[sqlite3.Cursor] = Fetched) -> sqlite3.Cursor:
        return super().cursor(factory)


Watched.__module__ = "sqlite3"


def test_rows_of_megabytes_are_fetched_few_at_a_time(lite: Path) -> None:
    with closing(sqlite3.connect(lite)) as connection:
        connection.execute("DELETE FROM events WHERE id >= 60")
        connection.execute("UPDATE events SET note = printf('%.*c', 1000000, 'x')")
        connection.commit()
    rows = read(DbApi(SPEC, lambda _: sqlite3.connect(lite, factory=Watched)), TIMELESS)
    assert len(rows) > 60 * 1_000_000
    assert 1_000_000 < Fetched.most < 10_000_000


def test_late_rows_stand_in_key_order_among_the_others(tmp_path: Path) -> None:
    path = tmp_path / "late.sqlite"
    first = datetime(2026, 1, 1, tzinfo=UTC)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE events (id INTEGER, tenant_id TEXT, note TEXT, updated_at TEXT)")
        rows = ((number, "acme", "n", str(first + timedelta(minutes=number * 7919 % 20_000))[:19]) for number in range(20_000))
        connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
        connection.commit()
    overlap, start, end = (first + timedelta(minutes=minutes) for minutes in (5_000, 10_000, 15_000))
    selection = Selection(ENTITY, "acme", ENTITY.columns, ChangeSpan(overlap, start))
    with DbApi(SPEC, lambda _: sqlite3.connect(path)).snapshot() as snapshot:
        late = [digest for batch in snapshot.digests(selection) for digest in batch]
        selection = replace(selection, changed=ChangeSpan(overlap, end, known=set(late) - set(late[::3])))
        lines = b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle())).splitlines()
    keys = [int(line.partition(b",")[0]) for line in lines]
    assert len(keys) == 5_000 + len(late[::3])
    assert keys == sorted(keys)


class Frames:
    """A hook that has nothing but pandas frames."""

    placeholder = "?"

    def __init__(self, path: Path) -> None:
        self._path = path

    def get_df_by_chunks(self, statement: str, parameters: Any = None, *, chunksize: int) -> Iterator[pd.DataFrame]:
        if "information_schema" in statement:
            statement, parameters = "SELECT name, type FROM pragma_table_info(?)", parameters[:1]
        with closing(sqlite3.connect(self._path)) as connection:
            yield from pd.read_sql(statement, connection, params=parameters, chunksize=chunksize)


def test_a_hook_that_yields_pandas_frames_gives_the_same_bytes(lite: Path) -> None:
    with closing(sqlite3.connect(lite)) as connection:
        connection.execute("DELETE FROM events WHERE id > 5")
        connection.execute("UPDATE events SET note = NULL WHERE id = 1")
        connection.execute("UPDATE events SET note = '' WHERE id = 2")
        connection.commit()
    assert read(DbApi(SPEC, lambda _: Frames(lite)), TIMELESS) == read(DbApi(SPEC, lambda _: sqlite3.connect(lite)), TIMELESS)


@pytest.mark.slow
def test_airflows_own_hook_opens_the_connection(lite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DB", json.dumps({"conn_type": "sqlite", "host": str(lite)}))
    source = open_source(SPEC, lite.parent, _no_connection, connect_db)
    selection = Selection(ENTITY, "acme", ENTITY.columns)
    with source.snapshot() as snapshot:
        assert snapshot.count(selection) == 50_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("mysql", r"type 'mysql', which no installed provider knows.*apache-airflow-providers-mysql"),
        ("generic", "type 'generic', which no installed provider knows"),
        ("ssh", "type 'ssh', which is no database"),
    ],
)
def test_a_connection_that_is_no_database_is_refused_by_its_type(monkeypatch: pytest.MonkeyPatch, kind: str, says: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DB", json.dumps({"conn_type": kind, "host": "nowhere.invalid"}))
    with pytest.raises(PermanentError, match=says), DbApi(SPEC, connect_db).snapshot():
        pass


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "says"), [("redshift", "cluster_identifier"), ("athena", "region_name")])
def test_a_connection_its_provider_cannot_use_is_refused_with_what_that_says(monkeypatch: pytest.MonkeyPatch, kind: str, says: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DB", json.dumps({"conn_type": kind, "extra": {"iam": True}}))
    with pytest.raises(PermanentError, match=f"{kind}.*{says}"), DbApi(SPEC, connect_db).snapshot():
        pass


def test_without_airflow_the_source_says_what_it_misses(tmp_path: Path) -> None:
    source = open_source(SPEC, tmp_path, _no_connection)
    with pytest.raises(PermanentError, match="providers"), source.snapshot():
        pass


def test_a_value_of_another_type_is_refused_and_not_repeated(lite: Path) -> None:
    with closing(sqlite3.connect(lite)) as connection:
        connection.execute("UPDATE events SET id = 'planted' WHERE id = 7")
        connection.commit()
    with pytest.raises(PermanentError, match="a value is not integer") as caught:
        read(DbApi(SPEC, lambda _: sqlite3.connect(lite)))
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["garbage", "Tue, 2 Jan 2026", "2026-1-2 5:00", "20260102", "2461041.5", "2026-01-02 25:00", "2026-01-02 05:00:00 PM", "", 1767225600],
    ids=repr,
)
@pytest.mark.parametrize("column", ["updated_at", "deleted_at"])
def test_a_time_as_text_that_cannot_be_read_stops_the_stream_instead_of_losing_its_row(lite: Path, column: str, text: object) -> None:
    deleting = Entity.model_validate(ENTITY.model_dump(by_alias=True) | {"deleted_column": "deleted_at"})
    with closing(sqlite3.connect(lite)) as connection:
        connection.execute("ALTER TABLE events ADD COLUMN deleted_at TEXT")
        connection.execute(f"UPDATE events SET {column} = ? WHERE id = 7", [text])
        connection.commit()
    with pytest.raises(PermanentError, match=f"1 row of the tenant holds something in {column} that is not a time"):
        read(DbApi(SPEC, lambda _: sqlite3.connect(lite)), deleting)


@pytest.mark.parametrize("odd", ["seven", b"\0", 2.5, 1e300], ids=repr)
def test_what_is_no_whole_number_among_ids_stops_its_tenant_and_moves_nobody_elses_position(tmp_path: Path, odd: object) -> None:
    path = tmp_path / "ids.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE events (id INTEGER, tenant_id TEXT, note TEXT, updated_at TEXT)")
        connection.executemany("INSERT INTO events VALUES (?, ?, 'x', '2026-01-01')", [(1, "acme"), (7, "acme"), (odd, "globex")])
        connection.commit()
    counting = Entity.model_validate(ENTITY.model_dump(by_alias=True) | {"changes": {"mode": "append", "column": "id"}})
    source = DbApi(SPEC, lambda _: sqlite3.connect(path))
    with source.snapshot([counting]) as snapshot:
        assert snapshot.extent(counting, "acme", None, snapshot.taken_at).position == 8
    assert read(source, counting) == "1,x\n7,x\n"
    with pytest.raises(PermanentError, match="1 row of the tenant holds something in id that is not a whole number"):
        read(source, counting, "globex")


def test_times_as_text_are_read_in_every_usual_spelling(tmp_path: Path) -> None:
    path = tmp_path / "spelled.sqlite"
    spelled = ["", " 05:00", " 05:00:00", "T05:00:00Z", " 05:00:00.123456", "T05:00:00+02:00", " 05:00:00-05:00", " 05:00:00+00"]
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE events (id INTEGER, tenant_id TEXT, note TEXT, updated_at TEXT)")
        connection.executemany(
            "INSERT INTO events VALUES (?, 'acme', 'x', ?)", [(at, f"2026-01-02{item}") for at, item in enumerate(spelled)]
        )
        connection.commit()
    assert len(read(DbApi(SPEC, lambda _: sqlite3.connect(path))).splitlines()) == len(spelled)


def test_drift_and_unknown_relations_are_refused(maria: DbApi) -> None:
    with pytest.raises(PermanentError, match="there is no relation"):
        read(maria, ENTITY.model_copy(update={"relation": "nowhere"}))
    retyped = Entity.model_validate(ENTITY.model_dump() | {"columns": {"id": {"type": "boolean"}}})
    with pytest.raises(PermanentError, match=r"id of events is int"):
        read(maria, retyped)


def test_a_refused_login_is_permanent_and_a_dead_server_is_not(mariadb: MariaDatabase) -> None:
    wrong = DbApi(SPEC, lambda _: pymysql.connect(host=mariadb.host, port=mariadb.port, user="nobody", password="fake"))
    with pytest.raises(PermanentError), wrong.snapshot():
        pass
    dead = DbApi(SPEC, lambda _: pymysql.connect(host=mariadb.host, port=1, user="nobody"))
    with pytest.raises(TransientError), dead.snapshot():
        pass
