"""`columns: all except [..]`: frozen by the first apply, so that what the source gets later stays where it is until somebody lets it go."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.deliveries.test_redefined import over_postgres
from tests.installations import DAY, NOON, Place, make_place
from tests.servers.postgres import Database
from waybill.registrations import applying

ORDERS = {"source": "warehouse", "relation": "orders", "tenant_column": "tenant_id", "key": ["id"], "changes": {"mode": "full"}}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with closing(make_place(tmp_path / "place", clock=NOON)) as place:
        place.sql(
            "CREATE TABLE orders (tenant_id VARCHAR, id INTEGER, total DECIMAL(9, 2), inner_note VARCHAR, api_key VARCHAR, span INTERVAL)"
        )
        place.sql("INSERT INTO orders VALUES ('acme', 1, 9.99, 'x', 'k', INTERVAL 1 DAY)")
        place.tenant(entityList=["orders"])
        place.write("catalog.yaml", catalog("all except [inner_note]"))
        yield place


def catalog(columns: Any, **entity: Any) -> dict[str, Any]:
    return {
        "sources": {"warehouse": {"kind": "duckdb", "path": "warehouse.duckdb"}},
        "entities": {"orders": {**ORDERS, **entity, "columns": columns}},
    }


def lock(place: Place) -> Path:
    return place.root / "config/columns.lock.yaml"


def header(place: Place) -> list[str]:
    newest = max(place.manifests(), key=lambda item: (item[1]["generation"], item[1]["sequence"]))
    return [column["name"] for column in newest[1]["columns"]]


def test_columns_are_frozen_at_apply_and_new_ones_stay_until_they_are_let_go(place: Place, run_waybill: Callable[..., str]) -> None:
    home = {"WAYBILL_CONFIG_DIR": str(place.root / "config")}
    assert "the columns of orders are not frozen yet" in run_waybill("check", **home)
    assert not lock(place).exists()
    rehearsed = applying.apply(place.installation(), actor="test", dry_run=True)
    said = "columns of orders would be frozen: tenant_id, id, total, span; api_key is left out: its name looks like a credential"
    assert (rehearsed.notes, rehearsed.first_loads()) == ((said,), {"acme": ("orders",)})
    assert not lock(place).exists()
    place.run(NOON)
    assert header(place) == ["tenant_id", "id", "total", "span"]
    assert list(yaml.safe_load(lock(place).read_text())["orders"]) == ["tenant_id", "id", "total", "span"]
    assert "not frozen" not in run_waybill("check", **home)
    place.sql("ALTER TABLE orders ADD COLUMN margin INTEGER")
    place.clock = NOON + DAY
    place.run(NOON + DAY)
    assert header(place) == ["tenant_id", "id", "total", "span"]
    found = json.loads(run_waybill("discover", "warehouse", "--diff", "--json", **home))
    assert {"kind": "new_column", "place": "orders.margin", "what": "INTEGER, not exported", "breaks": False} in found
    words = yaml.safe_load(lock(place).read_text())
    words["orders"]["margin"] = {"type": "integer"}
    lock(place).write_text(yaml.safe_dump(words, sort_keys=False))
    place.clock = NOON + 2 * DAY
    place.run(NOON + 2 * DAY)
    assert header(place)[-1] == "margin"


def test_a_driver_of_postgresql_freezes_the_columns_that_the_native_source_freezes(tmp_path: Path, postgres: Database) -> None:
    postgres.psql(
        """CREATE TYPE size AS ENUM ('s', 'm'); CREATE TYPE pair AS (a int, b text); CREATE DOMAIN amount AS numeric(9, 2);
           CREATE TABLE orders (tenant_id text, id bigint, a amount, b size, c pair, d int[], e jsonb, f interval, g tstzrange, h bit(3),
                                i "char", j bpchar, k timestamptz, l timetz, m oid, n uuid, o inet, p bytea, q money, r xid8, s real,
                                t boolean, u date, v point, w pair[], x name)"""
    )
    found = {}
    for kind in ("postgres", "dbapi"):
        place = over_postgres(tmp_path / kind, postgres, {"kind": kind, "connection": "pg"})
        place.write("catalog.yaml", {"sources": {"warehouse": place.spec}, "entities": catalog("all except []")["entities"]})
        place.tenant(entityList=["orders"])
        said = applying.apply(place.installation(), actor="test").notes
        found[kind] = said, yaml.safe_load(lock(place).read_text())["orders"]
        place.close()
    assert found["dbapi"] == found["postgres"]
    assert {name: found["dbapi"][1][name]["type"] for name in "abcdw"} == {
        "a": "decimal",
        "b": "string",
        "c": "json",
        "d": "json",
        "w": "json",
    }


def test_a_column_left_out_later_stays_at_once(place: Place) -> None:
    place.run(NOON)
    place.write("catalog.yaml", catalog("all except [inner_note, total]"))
    place.clock = NOON + DAY
    place.run(NOON + DAY)
    assert header(place) == ["tenant_id", "id", "span"]


def test_a_column_whose_name_yaml_reads_as_something_else_is_left_out_by_its_name(place: Place) -> None:
    names = ("off", "no", "0123", "1_000", "2026-01-31")
    for name in names:
        place.sql(f'ALTER TABLE orders ADD COLUMN "{name}" VARCHAR')
    place.run(NOON)
    assert header(place) == ["tenant_id", "id", "total", "span", *names]
    place.write("catalog.yaml", catalog(f"all except [inner_note, {', '.join(names)}]"))
    place.clock = NOON + DAY
    place.run(NOON + DAY)
    assert header(place) == ["tenant_id", "id", "total", "span"]


def test_a_rehearsal_of_freezing_anew_keeps_what_is_delivered(place: Place) -> None:
    place.run(NOON)
    lock(place).unlink()
    rehearsed = applying.apply(place.installation(), actor="test", dry_run=True)
    assert (rehearsed.changed, [note.partition(":")[0] for note in rehearsed.notes]) == ([], ["columns of orders would be frozen"])
    assert applying.apply(place.installation(), actor="test").changed == []


@pytest.mark.parametrize("columns", ["all", "all except []", " all  except [inner_note ] ", 'all except ["inner_note", api_key]'])
def test_every_spelling_of_an_open_list_is_understood(place: Place, columns: str) -> None:
    place.write("catalog.yaml", catalog(columns))
    place.run(NOON)
    assert ("inner_note" in header(place)) is ("inner_note" not in columns)
    assert "api_key" not in header(place)


@pytest.mark.parametrize("columns", ["everything", "all but [x]", "all except x", "all except [x", "all except [{a: 1}]", 7])
def test_anything_else_is_a_finding(place: Place, columns: Any) -> None:
    place.write("catalog.yaml", catalog(columns))
    [found] = place.installation().configuration.shared_findings
    assert found.path == "entities.orders.columns"


def test_a_name_that_is_not_there_is_told_before_anything_leaves(place: Place) -> None:
    place.write("catalog.yaml", catalog("all except [inner_notes]"))
    [found] = applying.apply(place.installation(), actor="test").findings
    assert "did you mean inner_note" in str(found)
    place.run(NOON)
    assert not lock(place).exists()
    assert not list(place.manifests())


def test_a_configuration_that_cannot_be_written_says_where_to_freeze(place: Place) -> None:
    lock(place).with_name(".columns.lock.yaml.part").mkdir()
    [found] = applying.apply(place.installation(), actor="test").findings
    assert "Run `waybill apply` where the configuration is kept" in str(found)
    place.run(NOON)
    assert not list(place.manifests())


def test_queries_and_parquet_files_are_frozen_too(place: Place) -> None:
    (place.root / "lake").mkdir()
    pq.write_table(pa.table({"tenant_id": ["acme"], "id": [1], "note": ["a"], "more": [1.5]}), place.root / "lake/events.parquet")
    words = catalog("all except [span]", relation="", query="SELECT tenant_id, id, total, span FROM orders")
    words["sources"]["lake"] = {"kind": "lake", "path": "lake"}
    words["entities"]["events"] = {**ORDERS, "source": "lake", "relation": "*.parquet", "columns": "all except [more]"}
    place.write("catalog.yaml", {**words, "entities": {**words["entities"]}})
    place.tenant(entityList=["orders", "events"])
    place.run(NOON)
    by_entity = {delivery["entity"]: [column["name"] for column in delivery["columns"]] for _, delivery in place.manifests()}
    assert by_entity == {"orders": ["tenant_id", "id", "total"], "events": ["tenant_id", "id", "note"]}


def test_a_source_that_is_away_holds_up_its_own_entities_and_no_others(place: Place) -> None:
    words = catalog("all except [inner_note]")
    words["sources"]["away"] = {"kind": "duckdb", "path": "not_there_yet.duckdb"}
    words["entities"] |= {name: {**ORDERS, "source": "away", "columns": "all"} for name in ("visits", "clicks")}
    place.write("catalog.yaml", words)
    place.tenant(entityList=["orders", "visits"])
    place.tenant("globex", entityList=["orders"])
    applied = applying.apply(place.installation(), actor="test")
    assert [(change.tenant, change.difference.activated) for change in applied.changed] == [("acme", ("orders",)), ("globex", ("orders",))]
    assert [finding.path for finding in applied.findings] == ["entities.visits.columns", "entities.clicks.columns"]
    assert "not frozen yet, so nobody receives the entity" in str(applied.findings[0])
    place.run(NOON)
    assert {delivery["entity"] for _, delivery in place.manifests()} == {"orders"}
    with duckdb.connect(str(place.root / "not_there_yet.duckdb")) as connection:
        connection.execute("CREATE TABLE orders AS SELECT 'acme' AS tenant_id, 1 AS id")
    applied = applying.apply(place.installation(), actor="test")
    assert not applied.findings
    assert [(change.tenant, change.difference.activated, change.difference.kept) for change in applied.changed] == [
        ("acme", ("visits",), ("orders",))
    ]


def test_an_entity_that_is_frozen_anew_while_its_source_is_away_keeps_its_stream(place: Place) -> None:
    place.run(NOON)
    lock(place).unlink()
    hidden = place.root / "hidden.duckdb"
    (place.root / "warehouse.duckdb").rename(hidden)
    applied = applying.apply(place.installation(), actor="test")
    assert not applied.changed
    assert [finding.path for finding in applied.findings] == ["entities.orders.columns"]
    hidden.rename(place.root / "warehouse.duckdb")
    applied = applying.apply(place.installation(), actor="test")
    assert not applied.findings
    place.clock = NOON + DAY
    place.run(NOON + DAY)
    assert [delivery["sequence"] for _, delivery in place.manifests()] == [1, 2]


def test_one_wrong_name_costs_the_other_entities_of_its_source_nothing(place: Place) -> None:
    words = catalog("all except [inner_note]")
    words["entities"]["visits"] = {**ORDERS, "relation": "not_there", "columns": "all"}
    words["entities"]["carts"] = {**ORDERS, "columns": "all except [totla]"}
    place.write("catalog.yaml", words)
    applied = applying.apply(place.installation(), actor="test")
    assert [(change.tenant, change.difference.activated) for change in applied.changed] == [("acme", ("orders",))]
    assert [finding.path for finding in applied.findings] == ["entities.visits.columns", "entities.carts.columns"]
    assert "did you mean total" in str(applied.findings[1])
