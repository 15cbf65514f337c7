"""A full load over several connections: one snapshot, parts that hold each row once, one manifest."""

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from typer.testing import CliRunner

from tests.copies import Copy
from tests.installations import DAY, NOON, Place, make_place
from tests.servers.postgres import Database
from waybill.airflow import connect_db, lookup
from waybill.cli.app import app
from waybill.configuration.selection import FileStyle
from waybill.deliveries.planning import plan
from waybill.deliveries.repairs import backfill, redeliver
from waybill.deliveries.reports import describing
from waybill.deliveries.running import run
from waybill.errors import TransientError
from waybill.files.places import verify
from waybill.formats.csv import write_side_by_side
from waybill.registrations.applying import apply

KEYS = {
    "bigint": "g",
    "text": "chr(65 + g % 57) || g",
    "varchar(20)": "'k' || g",
    "uuid": "md5(g::text)::uuid",
    "numeric(12,2)": "g + 0.25",
    "date": "date '1990-01-01' + g",
    "timestamptz": "timestamptz '2001-01-01' + g * interval '1 hour'",
    "double precision": "case g when 1 then 'NaN' when 2 then 'Infinity' when 3 then '-Infinity' else g / 7.0 end",
    "pair": "row(g % 7, array[g, 1])::pair",
    "jsonb": "jsonb_build_object('number', g)",
    "char(12)": r"(array['\"', '\', ',', '{', '}'])[1 + g % 5] || g",
}
TYPES = {
    "bigint": "integer",
    "uuid": "uuid",
    "numeric(12,2)": "decimal",
    "date": "date",
    "timestamptz": "timestamp",
    "double precision": "float",
    "pair": "json",
    "jsonb": "json",
}
ROWS = 3000


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with closing(make_place(tmp_path)) as place:
        yield place


def use(place: Place, source: dict[str, str], **fields: Any) -> None:
    entity = {
        "source": "db",
        "relation": "things",
        "tenant_column": "tenant_id",
        "key": ["id"],
        "changes": {"mode": "lookback", "column": "updated_at", "lookback": "1h"},
        "streams": 3,
        "columns": {"id": {"type": "integer"}, "name": {"type": "string"}, "updated_at": {"type": "timestamp"}},
    }
    place.write("catalog.yaml", {"sources": {"db": source}, "entities": {"user": {**entity, **fields}}})
    place.tenant(entityList=["user"], **({"csv": fields["csv"]} if "csv" in fields else {}))


def deliver(place: Place, until: datetime) -> dict[str, Any]:
    installation = replace(place.installation(), connections=lookup, connect_db=connect_db)
    apply(installation, actor="test")
    assert [str(result.error) for result in run(installation, "acme", until) if result.error] == []
    return max((value for _, value in place.manifests()), key=lambda delivery: (delivery["generation"], delivery["sequence"]))


def fill(database: psycopg.Connection, native: str = "bigint", *, analyzed: bool = True) -> None:
    database.execute("create type pair as (kind int, list int[])")
    database.execute(f"create table things (tenant_id text, id {native}, name text, updated_at timestamptz, primary key (tenant_id, id))")
    both = f"generate_series(1, {ROWS}) g, unnest(array['acme', 'zeta']) t"
    database.execute(f"insert into things select t, {KEYS[native]}, 'n' || g, '2026-01-01' from {both}")
    if analyzed:
        database.execute("analyze things")


@pytest.mark.parametrize("native", KEYS)
def test_a_full_load_is_read_over_several_connections_by_any_key(place, postgres: Database, monkeypatch, native):
    with psycopg.connect(postgres.dsn) as database:
        fill(database, native)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", postgres.url)
    columns = {"id": {"type": TYPES.get(native, "string")}, "name": {"type": "string"}, "tenant_id": {"type": "string"}}
    use(place, {"kind": "postgres", "connection": "warehouse"}, key=["tenant_id", "id"], columns=columns)
    full = deliver(place, NOON)
    assert full["rows"] == ROWS
    assert [file["rows"] for file in full["files"]] == pytest.approx([ROWS / 3] * 3, rel=0.15)
    copy = Copy()
    copy.catch_up(place.out)
    assert len(copy.rows) == ROWS
    with psycopg.connect(postgres.dsn) as database:
        changed = "update things set name = 'new', updated_at = %s where tenant_id = 'acme' and name = 'n7'"
        database.execute(changed, [NOON + timedelta(hours=2)])
    delta = deliver(place, NOON + DAY)
    assert (delta["rows"], [file["path"] for file in delta["files"]]) == (1, ["user.csv"])
    copy.catch_up(place.out)
    assert sorted(row["name"] for row in copy.rows.values()) == sorted(["new", *(f"n{g}" for g in range(1, ROWS + 1) if g != 7)])


SHAPES = {
    "few kinds": ("kind text", "'k' || g % 3", [1000, 1000, 1000]),
    "a truth value": ("kind boolean", "g % 2 = 0", [1000, 1000, 1000]),
    "one kind of most rows": ("kind text", "case when g < 2700 then 'same' else 'x' || g end", [1000, 1000, 1000]),
    "a list": ("kind int[]", "array[g % 3]", [1000, 1000, 1000]),
}


@pytest.mark.parametrize("name", SHAPES)
def test_rows_are_parted_by_the_first_column_of_the_key_that_does_it_evenly(place, postgres: Database, monkeypatch, name):
    column, value, sizes = SHAPES[name]
    with psycopg.connect(postgres.dsn) as database:
        key = "primary key (tenant_id, kind, id)"
        database.execute(f"create table things (tenant_id text, {column}, id bigint, name text, updated_at timestamptz, {key})")
        database.execute(f"insert into things select 'acme', {value}, g, 'n' || g, '2026-01-01' from generate_series(1, {ROWS}) g")
        database.execute("analyze things")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", postgres.url)
    kind = {"type": {"a truth value": "boolean", "a list": "json"}.get(name, "string")}
    columns = {"kind": kind, "id": {"type": "integer"}, "name": {"type": "string"}}
    use(place, {"kind": "postgres", "connection": "warehouse"}, key=["kind", "id"], columns=columns)
    full = deliver(place, NOON)
    assert full["rows"] == len(Copy().catch_up(place.out).rows) == ROWS
    assert len(full["files"]) == len(sizes) or name == "a truth value"
    assert max(file["rows"] for file in full["files"]) <= ROWS / 3 * 1.5


@pytest.mark.parametrize("children", ["partition of things for values from (1) to (1500)", "inherits"])
def test_a_table_with_children_is_parted_by_the_statistics_of_all(place, postgres: Database, monkeypatch, children):
    with psycopg.connect(postgres.dsn) as database:
        columns = "tenant_id text, id bigint, name text, updated_at timestamptz"
        if children == "inherits":
            database.execute(f"create table things ({columns}, primary key (tenant_id, id))")
            database.execute("create table more (primary key (tenant_id, id)) inherits (things)")
            target = {"things": (1, 100), "more": (101, ROWS)}
        else:
            database.execute(f"create table things ({columns}, primary key (tenant_id, id)) partition by range (id)")
            database.execute(f"create table lower {children}")
            database.execute("create table rest partition of things default")
            target = {"things": (1, ROWS)}
        for table, (first, last) in target.items():
            database.execute(f"insert into {table} select 'acme', g, 'n' || g, '2026-01-01' from generate_series({first}, {last}) g")
        database.execute("analyze")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", postgres.url)
    use(place, {"kind": "postgres", "connection": "warehouse"})
    assert [file["rows"] for file in deliver(place, NOON)["files"]] == pytest.approx([ROWS / 3] * 3, rel=0.15)
    assert len(Copy().catch_up(place.out).rows) == ROWS


@pytest.mark.parametrize(("limit", "parts"), [(1, 1), (2, 2), (3, 3), (4, 3)])
def test_a_limit_of_connections_makes_fewer_parts(place, postgres: Database, monkeypatch, limit, parts):
    with psycopg.connect(postgres.dsn) as database:
        fill(database)
        role = f"narrow_{postgres.name}_{limit}"
        database.execute(f"create role {role} login connection limit {limit}")
        database.execute(f"grant select on things to {role}")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", postgres.url.replace(f"{postgres.user}@", f"{role}@"))
    use(place, {"kind": "postgres", "connection": "warehouse"})
    full = deliver(place, NOON)
    assert (len(full["files"]), full["rows"]) == (parts, ROWS)
    assert len(Copy().catch_up(place.out).rows) == ROWS


@pytest.mark.parametrize("kept", ["a table never analysed", "a view", "a query"])
def test_what_the_planner_knows_nothing_of_is_one_part(place, postgres: Database, monkeypatch, kept):
    with psycopg.connect(postgres.dsn) as database:
        fill(database, analyzed=kept != "a table never analysed")
        database.execute("create view seen as select * from things")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", postgres.url)
    read = {"a view": {"relation": "seen"}, "a query": {"relation": "", "query": "select * from things"}}.get(kept, {})
    use(place, {"kind": "postgres", "connection": "warehouse"}, **read)
    full = deliver(place, NOON)
    assert [(file["path"], file["rows"]) for file in full["files"]] == [("user-0001.csv", ROWS)]


@pytest.mark.parametrize("rows", [1, 250, 1000, 10**6])
def test_parts_keep_to_the_most_rows_of_a_file(place, postgres: Database, monkeypatch, rows):
    with psycopg.connect(postgres.dsn) as database:
        fill(database)
        database.execute("delete from things where id > 300" if rows == 1 else "select 1")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", postgres.url)
    use(place, {"kind": "postgres", "connection": "warehouse"})
    place.tenant(entityList=["user"], csv={"max_rows_per_file": rows})
    full = deliver(place, NOON)
    assert max(file["rows"] for file in full["files"]) <= rows
    assert sum(file["rows"] for file in full["files"]) == full["rows"] == (300 if rows == 1 else ROWS)
    assert len(Copy().catch_up(place.out).rows) == full["rows"]


def test_all_parts_show_one_snapshot_however_the_source_changes(place, postgres: Database, monkeypatch):
    with psycopg.connect(postgres.dsn) as database:
        fill(database)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", postgres.url)
    use(place, {"kind": "postgres", "connection": "warehouse"})
    ended = threading.Event()

    def churn() -> None:
        """Every transaction writes one name into all rows: a mixture was never there."""
        number = 0
        with psycopg.connect(postgres.dsn, autocommit=True) as database:
            while not ended.is_set():
                number += 1
                database.execute("update things set name = %s", [f"turn {number}"])

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        deliver(place, NOON)
    finally:
        ended.set()
        thread.join()
    assert len({row["name"].partition(" ")[2] if row["name"][0] == "t" else "n" for row in Copy().catch_up(place.out).rows.values()}) == 1


def test_a_backfill_and_a_redelivery_have_parts_too(place, postgres: Database, monkeypatch):
    with psycopg.connect(postgres.dsn) as database:
        fill(database)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", postgres.url)
    use(place, {"kind": "postgres", "connection": "warehouse"})
    full = deliver(place, NOON)
    installation = replace(place.installation(), connections=lookup, connect_db=connect_db)
    redeliver(installation, full["delivery_id"], actor="test")
    backfill(installation, "acme", "user", NOON - 400 * DAY, NOON - DAY, actor="test")
    [first, second] = [delivery for _, delivery in place.manifests() if delivery["delivery_id"] != full["delivery_id"]]
    assert {len(first["files"]), len(second["files"])} == {3}


@pytest.mark.parametrize(("before", "after"), [(3, 1), (1, 3), (3, 2)])
def test_a_delivery_keeps_its_layout_although_streams_change_before_it_is_committed(place, postgres: Database, monkeypatch, before, after):
    with psycopg.connect(postgres.dsn) as database:
        fill(database)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", postgres.url)
    use(place, {"kind": "postgres", "connection": "warehouse"}, streams=before)
    installation = replace(place.installation(), connections=lookup, connect_db=connect_db)
    apply(installation, actor="test")
    [planned] = plan(installation, "acme", NOON)
    folder = place.out / planned.folder.lstrip("/")
    in_the_way = folder if before > 1 else folder / f"{planned.stem}.manifest.json"
    in_the_way.mkdir(parents=True)
    theirs = in_the_way / f"{planned.stem}.manifest.json"
    theirs.touch()  # an empty folder makes way
    assert run(installation, "acme", NOON)[0].error
    theirs.unlink()
    in_the_way.rmdir()
    use(place, {"kind": "postgres", "connection": "warehouse"}, streams=after)
    full = deliver(place, NOON)
    assert full["rows"] == len(Copy().catch_up(place.out).rows) == ROWS
    names = [file["path"] for file in full["files"]]
    assert names == (["user.csv"] if before == 1 else [f"user-{number:04d}.csv" for number in range(1, max(after, 2) + 1)])


def test_a_lake_shares_its_files_out(place, tmp_path):
    lake = tmp_path / "lake"
    lake.mkdir()
    for number in range(5):
        columns = f"'acme' tenant_id, (i * 5 + {number})::bigint id, 'n' || i \"name\", timestamp '2026-01-01' updated_at"
        duckdb.execute(f"copy (select {columns} from range(200) t(i)) to '{lake}/part-{number}.parquet' (format parquet)")
    use(place, {"kind": "lake", "path": str(lake)}, relation="*.parquet")
    full = deliver(place, NOON)
    assert (full["rows"], sorted(file["rows"] for file in full["files"])) == (1000, [200, 400, 400])
    assert len(Copy().catch_up(place.out).rows) == 1000


SIZES = {
    "one file": ([6000], [2048, 2048, 1904]),
    "one file of one group": ([1000], [1000]),
    "a large one and a small one": ([4000, 100], [2048, 2052]),
    "a small one and a large one": ([10, 5000], [2058, 2048, 904]),
    "more files than streams": ([1500, 10, 10, 10], [1500, 30]),
}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("hive", [False, True], ids=["plain", "partitioned"])
def test_a_lake_cuts_large_files_between_their_groups_of_rows(place, tmp_path, name, hive):
    sizes, parts = SIZES[name]
    first = 0
    for number, rows in enumerate(sizes):
        lake = tmp_path / "lake" / ("tenant_id=acme" if hive else "")
        lake.mkdir(parents=True, exist_ok=True)
        own = "" if hive else "'acme' tenant_id, "
        columns = f"{own}(i + {first})::bigint id, 'n' || i \"name\", timestamp '2026-01-01' updated_at"
        target = f"'{lake}/part-{number}.parquet' (format parquet, row_group_size 2048)"
        duckdb.execute(f"copy (select {columns} from range({rows}) t(i)) to {target}")
        first += rows
    use(place, {"kind": "lake", "path": str(tmp_path / "lake")}, relation="**/*.parquet")
    full = deliver(place, NOON)
    assert (full["rows"], [file["rows"] for file in full["files"]]) == (first, parts)
    assert sorted(int(row["id"]) for row in Copy().catch_up(place.out).rows.values()) == list(range(first))


def test_a_file_with_a_column_of_the_engines_name_is_not_cut(place, tmp_path):
    (tmp_path / "lake").mkdir()
    columns = "'acme' tenant_id, i::bigint id, 'n' || i \"name\", timestamp '2026-01-01' updated_at, 1 as file_row_number"
    target = f"'{tmp_path}/lake/a.parquet' (format parquet, row_group_size 2048)"
    duckdb.execute(f"copy (select {columns} from range(3000) t(i)) to {target}")
    use(place, {"kind": "lake", "path": str(tmp_path / "lake")}, relation="*.parquet")
    assert [file["rows"] for file in deliver(place, NOON)["files"]] == [3000]


@pytest.mark.parametrize(("format", "reader"), [("parquet", "read_parquet"), ("ndjson", "read_json")])
@pytest.mark.parametrize("most", [None, 70])
def test_parts_of_other_formats_are_written_side_by_side_too(place, tmp_path, format, reader, most):
    lake = tmp_path / "lake"
    lake.mkdir()
    for number in range(5):
        columns = f"'acme' tenant_id, (i * 5 + {number})::bigint id, 'n' || i \"name\", timestamp '2026-01-01' updated_at"
        duckdb.execute(f"copy (select {columns} from range(200) t(i)) to '{lake}/part-{number}.parquet' (format parquet)")
    use(place, {"kind": "lake", "path": str(lake)}, relation="*.parquet")
    place.tenant(entityList=["user"], files={"format": format}, csv={"max_rows_per_file": most} if most else {})
    full = deliver(place, NOON)
    assert (full["rows"], full["format"]) == (1000, format)
    assert len(full["files"]) == (3 if most is None else 3 + 6 + 6)
    [folder] = {path.parent for path, _ in place.manifests()}
    found = duckdb.execute(f"select count(distinct id), count(*), min(id), max(id) from {reader}('{folder}/*.{format}')").fetchone()
    assert found == (1000, 1000, 0, 999)
    assert verify(str(place.out), pytest.fail).problems == []


class Nowhere:
    sha256, bytes = "", 0

    def write(self, block: memoryview) -> None: ...
    def finish(self) -> None: ...


def test_an_interruption_stops_the_streams():
    stopped = threading.Event()

    def waits() -> Iterator[tuple[bytes, int]]:
        yield b"1\n", 1
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        assert stopped.wait(60)
        raise TransientError("cancelled", code="cancelled")

    stop: Callable[[], None] = stopped.set
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            write_side_by_side([(waits(), stop)], ["id"], FileStyle(), lambda number: Nowhere())
    finally:
        signal.signal(signal.SIGINT, before)
    assert stopped.is_set()


def test_the_first_error_stops_the_other_streams():
    stopped = threading.Event()

    def waits() -> Iterator[tuple[bytes, int]]:
        yield b"1\n", 1
        assert stopped.wait(60)
        raise TransientError("cancelled", code="cancelled")

    def fails() -> Iterator[tuple[bytes, int]]:
        yield b"2\n", 1
        raise TransientError("the server went away", code="lost")

    stop: Callable[[], None] = stopped.set
    with pytest.raises(TransientError, match="went away"):
        write_side_by_side([(waits(), stop), (fails(), stop)], ["id"], FileStyle(), lambda number: Nowhere())


def test_a_plan_tells_the_folder_that_the_parts_will_stand_in(place, tmp_path, monkeypatch):
    (tmp_path / "lake").mkdir()
    columns = "'acme' tenant_id, i::bigint id, 'n' || i \"name\", timestamp '2026-01-01' updated_at"
    duckdb.execute(f"copy (select {columns} from range(9) t(i)) to '{tmp_path}/lake/a.parquet' (format parquet)")
    use(place, {"kind": "lake", "path": str(tmp_path / "lake")}, relation="*.parquet")
    monkeypatch.setenv("WAYBILL_CONFIG_DIR", str(place.root / "config"))
    told = CliRunner().invoke(app, ["plan", "acme", "--until", NOON.isoformat(), "--json"])
    assert told.exit_code == 0, told.output
    deliver(place, NOON)
    [delivered] = describing.listed(place.installation(), "acme")
    assert json.loads(told.stdout)[0]["path"] == delivered["path"].rpartition("/")[0]
