"""Estates as they are: a tenant that only parents know, a query in place of a table, states that tell deletions, rows picked by condition.

Every kind of source is asked the same over the same tables.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from tests.servers.mariadb import MariaServer
from tests.servers.postgres import Cluster
from waybill.configuration.catalog import DbApiSource, Entity, LakeSource, PostgresSource
from waybill.configuration.selection import ChangeSpan, FileStyle, Selection
from waybill.configuration.values.conditions import Condition
from waybill.connection import Connection
from waybill.errors import PermanentError
from waybill.sources import Source
from waybill.sources.dbapi.source import DbApi
from waybill.sources.duckdb.lake import Lake
from waybill.sources.duckdb.source import DuckDB
from waybill.sources.postgres.source import Postgres
from waybill.sources.sql import integer_bounds

TABLES = {
    "customers": (
        "id bigint, owner bigint, slug varchar(40)",
        [(1, 7, "Ünï & co"), (2, 8, "other"), (3, 70, "ünï & co")],
    ),
    "orders": ("id bigint, customer_id bigint", [(10, 1), (11, 1), (20, 2), (30, 3), (40, None)]),
    "items": (
        "id bigint, order_id bigint, qty decimal(10,2), state varchar(20), gone boolean, day date, seen timestamp",
        [
            (1, 10, 1.50, "open", False, "2026-01-01", "2026-01-01 00:00:00"),
            (2, 10, 2.00, "closed", True, "2026-01-02", "2026-01-02 12:00:00"),
            (3, 11, 10.00, "Open", None, None, None),
            (4, 11, 3.00, None, False, "2026-02-01", "2026-02-01 00:00:00"),
            (5, 20, 1.50, "open", False, "2026-01-01", "2026-01-01 00:00:00"),
            (6, 30, 1.50, "open", False, "2026-01-01", "2026-01-01 00:00:00"),
            (7, 40, 1.50, "open", False, "2026-01-01", "2026-01-01 00:00:00"),
            (8, None, 1.50, "open", False, "2026-01-01", "2026-01-01 00:00:00"),
        ],
    ),
}
COLUMNS = {
    "id": {"type": "integer"},
    "qty": {"type": "decimal"},
    "state": {"type": "string"},
    "gone": {"type": "boolean"},
    "day": {"type": "date"},
    "seen": {"type": "timestamp"},
}
THROUGH = [{"table": "orders", "on": {"order_id": "id"}}, {"table": "customers", "on": "customer_id = id", "column": "owner"}]


def entity(**keys: Any) -> Entity:
    body = {"id": "lines", "source": "s", "relation": "items", "key": "id", "changes": {"mode": "full"}, "columns": COLUMNS}
    return Entity.model_validate({**body, "tenant_through": THROUGH, **keys})


@dataclass(frozen=True)
class Estate:
    source: Source
    suffix: str = ""

    def ids(self, selection: Selection) -> list[int]:
        with self.source.snapshot() as snapshot:
            snapshot.check(selection)
            data = b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle()))
            assert snapshot.count(selection) == data.count(b"\n")
            return [int(line.split(b",")[0]) for line in data.splitlines()]

    def lines(self, **keys: Any) -> Entity:
        """The entity, its tables named as this source names them."""
        steps = [{**step, "table": step["table"] + self.suffix} for step in keys.pop("tenant_through", THROUGH)]
        return entity(relation=f"items{self.suffix}", tenant_through=steps, **keys)


def _fill(execute: Any, mark: str) -> None:
    for table, (ddl, rows) in TABLES.items():
        execute(f"create table {table} ({ddl})", ())
        for row in rows:
            execute(f"insert into {table} values ({', '.join([mark] * len(row))})", row)


def _duckdb(path: Path) -> Path:
    file = path / "estate.duckdb"
    with duckdb.connect(str(file)) as connection:
        _fill(connection.execute, "?")
    return file


@pytest.fixture(scope="module", params=["duckdb", "lake", "postgres", "mariadb", "sqlite"])
def estate(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    path = tmp_path_factory.mktemp("estate")
    match request.param:
        case "duckdb":
            yield Estate(DuckDB(_duckdb(path)))
        case "lake":
            with duckdb.connect(str(_duckdb(path))) as connection:
                for table in TABLES:
                    connection.execute(f"copy {table} to '{path}/{table}.parquet'")
            yield Estate(Lake(LakeSource(kind="lake"), path, _nothing), ".parquet")
        case "postgres":
            cluster: Cluster = request.getfixturevalue("postgres_cluster")
            with cluster.database() as database:
                with psycopg.connect(database.dsn) as connection:
                    _fill(connection.execute, "%s")
                found = Connection("pg", "postgres", database.host, database.port, database.user, database.name)
                yield Estate(Postgres(PostgresSource(kind="postgres", connection="pg"), lambda _: found))
        case "mariadb":
            server: MariaServer = request.getfixturevalue("mariadb_server")
            with server.database() as maria:

                def connect(_: str) -> Any:
                    return maria.connect()

                with connect("") as opened, opened.cursor() as cursor:
                    _fill(cursor.execute, "%s")
                    opened.commit()
                yield Estate(DbApi(DbApiSource(kind="dbapi", connection="maria"), connect))
        case "sqlite":
            with sqlite3.connect(path / "estate.sqlite") as lite:
                _fill(lite.execute, "?")
            lite.close()
            yield Estate(DbApi(DbApiSource(kind="dbapi", connection="lite"), lambda _: sqlite3.connect(path / "estate.sqlite")))


def _nothing(name: str) -> Connection:
    raise PermanentError(f"there is no Airflow connection {name!r}")


def test_rows_are_found_through_the_tables_that_know_their_tenant(estate: Estate) -> None:
    lines = estate.lines()
    assert estate.ids(Selection(lines, "7", lines.columns)) == [1, 2, 3, 4]
    assert estate.ids(Selection(lines, "8", lines.columns)) == [5]


@pytest.mark.parametrize(
    "tenant", ["07", "7 ", "seven", "7 OR 1=1", "8c3f0a52-5f1d-4a55-9d37-0a4c6f5f9a01", str(2**63), str(-(2**63) - 1), "9" * 20]
)
def test_an_id_that_its_column_cannot_hold_is_refused_through_parents(estate: Estate, tenant: str) -> None:
    lines = estate.lines()
    with pytest.raises(PermanentError, match="which tells the tenant, is") as refused:
        estate.ids(Selection(lines, tenant, lines.columns))
    assert refused.value.code == "tenant_unfit"
    assert refused.value.where == "lines"


@pytest.mark.parametrize("tenant", ["", "999", str(2**63 - 1), str(-(2**63))])
def test_an_id_that_nobody_has_finds_nothing_through_parents(estate: Estate, tenant: str) -> None:
    lines = estate.lines()
    assert estate.ids(Selection(lines, tenant, lines.columns)) == []


def test_a_table_of_the_way_that_is_not_there_is_named_by_its_key(estate: Estate) -> None:
    if isinstance(estate.source, DuckDB):
        return  # DuckDB says itself which table there is
    lines = estate.lines(tenant_through=[THROUGH[0], {**THROUGH[1], "table": "ownerz"}])
    with estate.source.snapshot() as snapshot, pytest.raises(PermanentError) as refused:
        snapshot.check(Selection(lines, "", lines.columns))
    assert (refused.value.code, "Correct entities.lines.tenant_through" in str(refused.value)) == ("relation_missing", True)
    assert "of  in" not in str(refused.value)


def test_each_type_of_whole_numbers_says_which_ids_it_holds() -> None:
    bounds = {
        "smallint": (-32768, 32767),
        "INTEGER": (-(2**31), 2**31 - 1),
        "int(10) unsigned": (0, 2**32 - 1),
        "bigint": (-(2**63), 2**63 - 1),
        "UTINYINT": (0, 255),
        "mediumint(8)": (-(2**23), 2**23 - 1),
        "oid": (0, 2**32 - 1),
        "UHUGEINT": (0, 2**128 - 1),
        "BIGNUM": None,
        "point": None,
    }
    assert {native: integer_bounds(native) for native in bounds} == bounds


@pytest.mark.parametrize("tenant", ["", "1"])
@pytest.mark.parametrize("column", ["gone", "day", "seen"])
def test_a_column_of_a_type_that_holds_no_ids_tells_no_tenant(estate: Estate, column: str, tenant: str) -> None:
    if isinstance(estate.source, DbApi) and (estate.source.spec.connection == "lite" or column == "gone"):
        return  # a column of SQLite holds what it is given, and a boolean of MariaDB small numbers
    lines = entity(relation=f"items{estate.suffix}", tenant_through=[], tenant_column=column)
    with estate.source.snapshot() as snapshot, pytest.raises(PermanentError, match="which holds no ids") as refused:
        snapshot.check(Selection(lines, tenant, lines.columns))
    assert refused.value.code == "tenant_unfit"


def test_a_text_at_the_end_of_the_way_is_compared_exactly(estate: Estate) -> None:
    lines = estate.lines(tenant_through=[THROUGH[0], {**THROUGH[1], "column": "slug"}])
    assert estate.ids(Selection(lines, "Ünï & co", lines.columns)) == [1, 2, 3, 4]
    assert estate.ids(Selection(lines, "ÜNÏ & CO", lines.columns)) == []


@pytest.mark.parametrize(
    ("step", "missing"),
    [
        pytest.param(
            {"table": "orders", "on": "order_id", "column": "customer_id"}, "order_id", id="one the child has and the parent lacks"
        ),
        pytest.param(
            {"table": "orders", "on": {"order_id": "id"}, "column": "order_id"}, "order_id", id="a tenant column of the child only"
        ),
    ],
)
def test_a_column_that_only_the_table_around_has_is_refused(estate: Estate, step: dict[str, Any], missing: str) -> None:
    lines = estate.lines(tenant_through=[step])
    with pytest.raises(PermanentError, match=rf"column {missing} is missing from orders\S*, which tenant_through names"):
        estate.ids(Selection(lines, "1", lines.columns))


def test_a_query_is_read_like_a_table_with_the_tenant_asked_for_around_it(estate: Estate) -> None:
    if estate.suffix:
        return  # a lake has no tables; the catalog refuses it
    query = (
        "SELECT l.*, c.owner AS tenant FROM items l JOIN orders o ON o.id = l.order_id JOIN customers c ON c.id = o.customer_id"
        " WHERE l.state <> '?; 50% {} off' OR l.state IS NULL"
    )
    lines = entity(relation="", query=query, tenant_column="tenant", tenant_through=[])
    assert estate.ids(Selection(lines, "7", lines.columns)) == [1, 2, 3, 4]
    assert estate.ids(Selection(lines, "70", lines.columns)) == [6]
    missing = entity(relation="", query=query, tenant_column="nope", tenant_through=[])
    with pytest.raises(PermanentError, match="column nope is missing from the entity's query"):
        estate.ids(Selection(missing, "7", missing.columns))


@pytest.mark.parametrize(
    ("state", "live"),
    [
        ({"column": "gone", "value": True}, [1, 3, 4]),
        ({"column": "gone", "op": "!=", "value": False}, [1, 3, 4]),
        ({"column": "state", "value": "closed"}, [1, 3, 4]),
        ({"column": "state", "op": "in", "value": ["closed", "Open"]}, [1, 4]),
        ({"column": "seen", "op": "is not null"}, [3]),
        ({"column": "seen", "op": "<", "value": "2026-01-02T00:00:00Z"}, [2, 3, 4]),
    ],
)
def test_a_state_tells_which_rows_are_deleted(estate: Estate, state: dict[str, Any], live: list[int]) -> None:
    lines = estate.lines(deleted_when=state)
    assert estate.ids(Selection(lines, "7", lines.columns, live_only=True)) == live
    assert estate.ids(Selection(lines, "7", lines.columns)) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("condition", "ids"),
    [
        ({"column": "state", "value": "open"}, [1]),
        ({"column": "state", "op": "<>", "value": "open"}, [2, 3]),
        ({"column": "state", "op": "not in", "value": ["open", "closed"]}, [3]),
        ({"column": "state", "op": "is_null"}, [4]),
        ({"column": "state", "op": ">", "value": "a"}, [1, 2]),
        ({"column": "state", "value": "' OR 1=1 --"}, []),
        ({"column": "qty", "op": ">=", "value": 2}, [2, 3, 4]),
        ({"column": "qty", "value": 1.5}, [1]),
        ({"column": "id", "op": "in", "value": [1, 5, 3]}, [1, 3]),
        ({"column": "gone", "value": False}, [1, 4]),
        ({"column": "day", "op": "<", "value": "2026-01-15"}, [1, 2]),
        ({"column": "day", "value": "2026-02-01"}, [4]),
        ({"column": "seen", "op": ">=", "value": "2026-01-02T13:00:00+01:00"}, [2, 4]),
        ({"column": "seen", "value": "2026-01-01T00:00:00Z"}, [1]),
    ],
    ids=str,
)
def test_a_condition_picks_among_the_tenant_s_rows(estate: Estate, condition: dict[str, Any], ids: list[int]) -> None:
    lines = estate.lines()
    assert estate.ids(Selection(lines, "7", lines.columns, where=(Condition.model_validate(condition),))) == ids


OTHER_NAMES = {
    "no": {"type": "integer", "from": "id"},
    "id": {"type": "string", "from": "state"},
    "amount": {"type": "decimal", "from": "qty"},
    "seen": {"type": "timestamp"},
    "hidden": {"type": "decimal", "from": "qty", "export": "anonymize"},
}


def test_columns_under_other_names_give_the_same_bytes_and_the_same_arrow(estate: Estate) -> None:
    lines = estate.lines(columns=OTHER_NAMES, key="no", changes={"mode": "append", "column": "no"}).in_source_names()
    plain = estate.lines(columns={name: COLUMNS[name] for name in ("id", "state", "qty", "seen")})
    shown = {name: column for name, column in lines.columns.items() if name != "hidden"}
    where = (Condition.model_validate({"column": "state", "value": "open"}),)
    assert estate.ids(Selection(lines, "7", lines.columns, where=where)) == [1]
    with estate.source.snapshot([lines]) as snapshot:
        asked = (Selection(lines, "7", shown), Selection(plain, "7", plain.columns))
        said = [[bytes(block) for block, _ in snapshot.csv(item, FileStyle())] for item in asked]
        assert said[0] == said[1]
        batches = list(snapshot.batches(Selection(lines, "7", lines.columns, salt=b"s")))
        assert {tuple(batch.schema.names) for batch in batches} == {tuple(OTHER_NAMES)}
        assert [item for batch in batches for item in batch.column("id").to_pylist()] == ["open", "closed", "Open", None]
        digests = [
            sorted(digest for digests in snapshot.digests(Selection(lines, "7", lines.columns, changed=changed)) for digest in digests)
            for changed in (ChangeSpan(), ChangeSpan(known_columns=lines.columns))
        ]
        assert digests[0] == digests[1] != []
        later = Selection(lines, "7", shown, changed=ChangeSpan(start=3, end=5))
        assert snapshot.count(later) == 2
        assert snapshot.values(Selection(lines, "7", {"id": lines.columns["id"]}), 9) == ["Open", "closed", "open"]


def test_a_column_that_reads_what_is_not_there_is_refused_by_the_sources_name(estate: Estate) -> None:
    lines = estate.lines(columns={**COLUMNS, "remark": {"type": "string", "from": "note"}})
    with pytest.raises(PermanentError, match="column note is missing from items"):
        estate.ids(Selection(lines, "7", lines.columns))


def test_an_unquoted_date_of_yaml_is_kept_as_its_text() -> None:
    assert Condition.model_validate({"column": "seen", "value": datetime(2026, 1, 1, tzinfo=UTC)}).value == "2026-01-01T00:00:00+00:00"
