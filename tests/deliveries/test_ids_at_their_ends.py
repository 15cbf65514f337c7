"""`append` by ids of 64 bits, up to the greatest: none is lost, none is sent twice."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.copies import Copy
from tests.installations import DAY, NOON, Place, make_place
from waybill.airflow import connect_db, lookup
from waybill.deliveries.running import run
from waybill.registrations.applying import apply

GREATEST = 2**63 - 1
TABLE = "create table things (tenant_id varchar(20) not null, id bigint, name varchar(20))"


@pytest.fixture(params=["duckdb", "sqlite", "postgres"])
def shop(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Place, Callable[[str], object]]]:
    with closing(make_place(tmp_path)) as place:
        source, sql = _source(request, place, monkeypatch)
        entity = {
            "source": "db",
            "relation": "things",
            "tenant_column": "tenant_id",
            "key": ["id"],
            "changes": {"mode": "append", "column": "id", "lag": 100},
            "deletes": "compare",
            "columns": {"id": {"type": "integer"}, "name": {"type": "string"}},
        }
        place.write("catalog.yaml", {"sources": {"db": source}, "entities": {"user": entity}})
        place.tenant(entityList=["user"])
        sql(TABLE)
        yield place, sql


def _source(request: Any, place: Place, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, str], Callable[[str], object]]:
    if request.param == "duckdb":
        return {"kind": "duckdb", "path": "warehouse.duckdb"}, place.sql
    if request.param == "sqlite":

        def sql(statement: str) -> None:
            with closing(sqlite3.connect(place.root / "app.sqlite")) as connection, connection:
                connection.execute(statement)

        monkeypatch.setenv("AIRFLOW_CONN_APP_DB", f'{{"conn_type": "sqlite", "host": "{place.root}/app.sqlite"}}')
        return {"kind": "dbapi", "connection": "app_db"}, sql
    database = request.getfixturevalue("postgres")
    monkeypatch.setenv("AIRFLOW_CONN_APP_DB", f"postgres://{database.user}@{database.host}:{database.port}/{database.name}")
    return {"kind": "postgres", "connection": "app_db"}, database.psql


def test_rows_with_the_greatest_ids_arrive_once(shop: tuple[Place, Callable[[str], object]]) -> None:
    place, sql = shop
    copy = Copy()

    def deliver(number: int) -> int:
        installation = replace(place.installation(), connections=lookup, connect_db=connect_db)
        apply(installation, actor="test")
        assert [str(result.error) for result in run(installation, "acme", NOON + number * DAY) if result.error] == []
        [manifest] = copy.steps(place.out)
        return manifest["rows"]

    def insert(*ids: int) -> None:
        for number in ids:
            sql(f"insert into things values ('acme', {number}, 'x')")

    insert(1, 2, GREATEST - 50, GREATEST - 2)
    assert deliver(0) == 4
    sql("delete from things where id = 1")
    insert(GREATEST - 1)
    assert deliver(1) == 1
    insert(1, GREATEST - 40, GREATEST)  # one that came back, one that was committed late, and the last there can be
    assert deliver(2) == 3
    assert deliver(3) == 0
    assert copy.keys() == sorted(map(str, (1, 2, GREATEST - 50, GREATEST - 40, GREATEST - 2, GREATEST - 1, GREATEST)))


@pytest.mark.parametrize("shop", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("native", "says"), [("text", "is TEXT, which tells"), ("", "is a column without a type, which tells")])
def test_ids_in_a_column_that_is_not_declared_as_whole_numbers_are_refused_as_that(
    shop: tuple[Place, Callable[[str], object]], native: str, says: str
) -> None:
    place, sql = shop
    sql("drop table things")
    sql(f"create table things (tenant_id text not null, id {native}, name text)")
    sql("insert into things values ('acme', 1, 'x')")
    installation = replace(place.installation(), connections=lookup, connect_db=connect_db)
    apply(installation, actor="test")
    [result] = run(installation, "acme", NOON)
    assert f"the change column id {says} neither a time nor a rising number" in str(result.error)
