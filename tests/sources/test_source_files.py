"""The duckdb and lake sources: locks, broken files, partitions, S3."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.servers.http import handled_by
from tests.servers.s3 import S3Server, serve_s3
from waybill.configuration.catalog import Entity, LakeSource
from waybill.configuration.selection import ChangeSpan, FileStyle, Selection
from waybill.connection import Connection
from waybill.errors import PermanentError, TransientError
from waybill.files.source_types import natives_of
from waybill.sources import Source, reuse
from waybill.sources.duckdb import engine
from waybill.sources.duckdb.lake import Lake
from waybill.sources.duckdb.source import DuckDB

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def entity(mode: str = "lookback", column: str = "updated_at", **more: Any) -> Entity:
    body = {
        "id": "events",
        "source": "any",
        "relation": "events",
        "tenant_column": "tenant_id",
        "key": "id",
        "changes": {"mode": mode, "column": column},
        "columns": {"id": {"type": "integer"}, "note": {"type": "string"}},
    }
    return Entity.model_validate(body | more)


def read(source: Source, shape: Entity, tenant: str = "acme") -> str:
    selection = Selection(shape, tenant, shape.columns)
    with source.snapshot() as snapshot:
        snapshot.check(selection)
        return b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle())).decode()


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    path = tmp_path / "warehouse.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            """CREATE TABLE events AS SELECT i AS id, CASE WHEN i % 2 = 0 THEN 'acme' ELSE 'globex' END AS tenant_id,
               TIMESTAMP '2026-01-01' + to_minutes(i) AS updated_at, 'note ' || i AS note FROM range(10) r(i)"""
        )
        connection.execute(
            "CREATE VIEW recent AS SELECT * FROM events WHERE id > 5; CREATE SCHEMA other; CREATE TABLE other.t AS FROM events"
        )
    return path


def test_a_view_and_a_table_of_another_schema_are_relations_too(warehouse: Path) -> None:
    assert read(DuckDB(warehouse), entity(relation="recent")) == "6,note 6\n8,note 8\n"
    assert read(DuckDB(warehouse), entity(relation="other.t")).count("\n") == 5


def test_rows_stored_out_of_order_are_sorted_and_rows_in_order_are_not(warehouse: Path) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("CREATE TABLE mixed AS SELECT * FROM events ORDER BY id DESC")
    assert read(DuckDB(warehouse), entity(relation="mixed")) == read(DuckDB(warehouse), entity())
    for relation, in_order in (("mixed", False), ("events", True)):
        shape = entity(relation=relation)
        with DuckDB(warehouse).snapshot() as snapshot:
            assert (snapshot.parts(Selection(shape, "acme", shape.columns)) == []) is in_order


KEYS = {
    "integer": "i",
    "few different first": "i % 3",
    "one first": "7",
    "text": "chr(CAST(97 + i % 20 AS INT)) || i % 7",
    "null": "CASE WHEN i % 4 = 0 THEN NULL ELSE i END",
    "decimal": "CAST(i / 7 AS DECIMAL(18, 3))",
    "time": "TIMESTAMPTZ '1999-12-31 23:59:59.5+00' + to_minutes(CAST(i * 7919 % 1000 AS INT))",
    "date": "DATE '1969-12-01' + CAST(i % 90 AS INT)",
    "uuid": "CAST(md5(CAST(i AS VARCHAR)) AS UUID)",
    "json": "CAST('{\"a\": ' || i % 50 || '}' AS JSON)",
    "float": "CASE WHEN i % 5 = 0 THEN 'nan'::DOUBLE ELSE sqrt(i) END",
}


@pytest.mark.parametrize("expression", KEYS.values(), ids=KEYS)
def test_rows_sorted_in_parts_are_those_that_are_sorted_at_once(warehouse: Path, expression: str) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        rows = "SELECT i, 'acme' AS tenant_id, i AS id, 'n' AS note, TIMESTAMP '2026-01-01' AS updated_at FROM range(1000) r(i)"
        connection.execute(f"CREATE TABLE many AS SELECT *, {expression} AS first FROM ({rows} ORDER BY hash(i))")
    shape = entity(relation="many", key=["first", "id"])
    selection = Selection(shape, "acme", shape.columns)
    with DuckDB(warehouse).snapshot() as whole, DuckDB(warehouse).snapshot() as parted:
        parted.at_once = 150
        found = [b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle())) for snapshot in (whole, parted)]
        assert len(parted.parts(selection)) >= (1 if expression == "7" else 3)
        with pytest.raises(PermanentError, match="no value") if "NULL" in expression else nullcontext():
            parted.check(selection)
    assert found[0] == found[1]
    assert found[0].count(b"\n") == 1000


def test_a_key_that_repeats_is_found_in_parts_too(warehouse: Path) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("CREATE TABLE twice AS SELECT * FROM events, range(30) ORDER BY hash(id)")
    shape = entity(relation="twice")
    with DuckDB(warehouse).snapshot() as snapshot:
        snapshot.at_once = 30
        with pytest.raises(PermanentError, match="is not unique"):
            snapshot.check(Selection(shape, "acme", shape.columns))


def test_rows_of_megabytes_are_sorted_with_more_memory_than_others(warehouse: Path) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        wide = "'acme' AS tenant_id, now() AS updated_at, repeat(chr(97 + CAST(i % 26 AS INT)), 3_000_000) AS note"
        connection.execute(f"CREATE TABLE wide AS SELECT (i * 7) % 60 AS id, {wide} FROM range(60) r(i)")
    lines = read(DuckDB(warehouse), entity("full", relation="wide")).splitlines()
    assert [line.partition(",")[0] for line in lines] == [str(number) for number in range(60)]
    assert {len(line.partition(",")[2]) for line in lines} == {3_000_000}


def test_many_rows_of_megabytes_take_what_memory_there_is(warehouse: Path) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("CREATE TABLE huge AS FROM events LIMIT 0")
        connection.execute("INSERT INTO huge SELECT i, 'acme', now()::TIMESTAMP, repeat('x', 2500000) FROM range(120) r(i)")
    shape = entity(relation="huge")
    with DuckDB(warehouse).snapshot() as snapshot:
        blocks = snapshot.csv(Selection(shape, "acme", shape.columns), FileStyle())
        assert sum(len(block) for block, _ in blocks) > 120 * 2_500_000


def test_a_value_that_does_not_fit_is_found_while_streaming_and_not_repeated(warehouse: Path) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(
            "CREATE TABLE many AS SELECT i AS id, 'acme' AS tenant_id, now() AS updated_at, 'x' AS note FROM range(100_000) r(i)"
        )
        connection.execute(
            "ALTER TABLE many ADD code VARCHAR; UPDATE many SET code = uuid(); UPDATE many SET code = 'planted' WHERE id = 99_000"
        )
    shape = entity("full", relation="many", columns={"code": {"type": "uuid"}})
    with pytest.raises(PermanentError) as caught:
        read(DuckDB(warehouse), shape)
    assert caught.value.code == "schema_drift"
    assert "planted" not in str(caught.value)


def test_two_snapshots_of_one_file_may_be_open_in_one_process(warehouse: Path) -> None:
    with DuckDB(warehouse).snapshot() as single, DuckDB(warehouse).snapshot() as two:
        assert single.columns(entity()) == two.columns(entity())


def test_a_file_another_process_writes_to_can_be_tried_again(warehouse: Path) -> None:
    hold = f"import duckdb, sys; c = duckdb.connect({str(warehouse)!r}); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        assert writer.stdin
        writer.stdout.readline()
        with pytest.raises(TransientError, match="Another process may be writing"), DuckDB(warehouse).snapshot():
            pass
        writer.stdin.close()
    assert read(DuckDB(warehouse), entity())


def test_what_a_killed_process_spilled_is_removed_by_the_next_and_what_is_in_use_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = "import time; from waybill.sources.duckdb import engine\nwith engine.connect(): print(flush=True); time.sleep(60)"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        [spilled] = tmp_path.iterdir()
        (spilled / "rows.tmp").write_text("acme")
        with reuse.kept("no engine"), engine.connect():
            assert spilled.exists()
        process.kill()
    with reuse.kept("no engine"), engine.connect():
        assert not spilled.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_or_foreign_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="no such file"), DuckDB(tmp_path / "none.duckdb").snapshot():
        pass
    (tmp_path / "text").write_text("not a database, whatever its name")
    with pytest.raises(PermanentError, match="not a valid DuckDB"), DuckDB(tmp_path / "text").snapshot():
        pass


def test_a_python_variable_is_never_taken_for_a_table(warehouse: Path) -> None:
    local_table = duckdb.sql("SELECT 1 AS id, 'acme' AS tenant_id").arrow()
    assert local_table is not None
    with pytest.raises(PermanentError, match="local_table"):
        read(DuckDB(warehouse), entity(relation="local_table"))


def test_the_modes_of_postgres_are_refused_with_the_one_to_use(warehouse: Path) -> None:
    with DuckDB(warehouse).snapshot() as snapshot, pytest.raises(PermanentError, match=r"changes\.mode to lookback"):
        snapshot.extent(entity("horizon"), "acme", None, NOW)


def test_the_end_never_lies_past_the_source_clock_nor_before_the_start(warehouse: Path) -> None:
    with DuckDB(warehouse).snapshot() as snapshot:
        ahead = snapshot.extent(entity(), "acme", None, snapshot.taken_at + timedelta(days=1))
        assert ahead.end == snapshot.taken_at
        assert "before the planned boundary" in ahead.short
        start = snapshot.taken_at + timedelta(hours=1)
        behind = snapshot.extent(entity(), "acme", start.isoformat(), start + timedelta(hours=1))
        assert behind.end == start
        assert behind.short


def test_a_window_goes_on_from_its_position_and_full_reads_everything(warehouse: Path) -> None:
    start = NOW - timedelta(days=7)
    with DuckDB(warehouse).snapshot() as snapshot:
        extent = snapshot.extent(entity(), "acme", start.isoformat(), NOW)
        assert (extent.changed, extent.position) == (ChangeSpan(start, NOW), "2026-06-01T00:00:00.000000Z")
        assert snapshot.extent(entity("full"), "acme", start.isoformat(), NOW).changed.start is None
        by_id = snapshot.extent(entity("append", "id"), "acme", 3, NOW)
        assert (by_id.changed.start, by_id.changed.end, by_id.position) == (3, 10, 10)
        with pytest.raises(PermanentError, match="starts a new generation"):
            snapshot.extent(entity(), "acme", {"snapshot": "1:1:"}, NOW)
        with pytest.raises(PermanentError, match=r"the mode to append"):
            snapshot.extent(entity("lookback", "id"), "acme", None, NOW)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    (tmp_path / "lake").mkdir()
    _write_lake(f"{tmp_path}/lake/events")
    return tmp_path


def _write_lake(to: str) -> None:
    duckdb.sql(
        """SELECT i AS id, ['acme', 'globex', '042'][i % 3 + 1] AS tenant_id, DATE '2026-01-01' + (i % 2)::INT AS day,
           TIMESTAMP '2026-01-01' + to_minutes(i) AS updated_at, 'note ' || i AS note FROM range(12) r(i)"""
    ).write_parquet(to, partition_by=["tenant_id", "day"])


LAKE = entity(relation="events/*/*/*.parquet", columns={"id": {"type": "integer"}, "note": {"type": "string"}, "day": {"type": "date"}})


def _no_connection(name: str) -> Connection:
    raise AssertionError(name)


def local(base: Path) -> Lake:
    return Lake(LakeSource(kind="lake", path="lake"), base, _no_connection)


def test_partition_columns_are_what_the_catalog_says_and_never_guessed(lake: Path) -> None:
    assert read(local(lake), LAKE, "042").splitlines()[0] == "2,note 2,2026-01-01"
    assert read(local(lake), LAKE, "42") == ""


def test_only_the_files_of_the_tenant_are_opened(lake: Path) -> None:
    for path in lake.glob("lake/events/tenant_id=globex/*/*.parquet"):
        path.write_bytes(b"broken")
    assert read(local(lake), LAKE).count("\n") == 4
    with pytest.raises(PermanentError, match="cut short"):
        read(local(lake), LAKE, "globex")


@pytest.mark.parametrize("damage", ["broken", "another type"])
def test_the_files_of_another_tenant_say_nothing_about_this_one(lake: Path, damage: str) -> None:
    """They come first by name, so that they would describe the columns of all tenants."""

    def told() -> Any:
        with local(lake).snapshot([LAKE]) as snapshot:
            selection = Selection(LAKE, "acme", LAKE.columns, snapshot.extent(LAKE, "acme", None, NOW).changed)
            snapshot.check(selection)
            text = b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle()))
            return natives_of(snapshot, LAKE), snapshot.definition(selection), text

    before = told()
    for path in lake.glob("lake/events/tenant_id=042/*/*.parquet"):
        if damage == "broken":
            path.write_bytes(b"broken")
        else:
            duckdb.sql(f"select id::integer as id, note, updated_at from read_parquet('{path}')").write_parquet(f"{path}.new")
            Path(f"{path}.new").rename(path)
    assert told() == before


def test_row_groups_outside_of_the_window_are_not_read(tmp_path: Path) -> None:
    duckdb.sql(
        "SELECT i AS id, 'acme' AS tenant_id, TIMESTAMP '2026-01-01' + to_seconds(i) AS updated_at, 'x' AS note FROM range(100_000) r(i)"
    ).write_parquet(str(tmp_path / "events.parquet"), row_group_size=2048)
    shape = entity(relation="events.parquet")
    with Lake(LakeSource(kind="lake"), tmp_path, _no_connection).snapshot() as snapshot:
        extent = snapshot.extent(shape, "acme", (datetime(2026, 1, 2, 2, tzinfo=UTC)).isoformat(), NOW)
        selection = Selection(shape, "acme", shape.columns, extent.changed)
        text, values = engine.render(snapshot.query(selection).csv(FileStyle()))
        plan = snapshot.connection.execute(f"EXPLAIN ANALYZE {text}", values).fetchall()[0][1]
    [groups] = [line for line in plan.splitlines() if "Row Groups Scanned" in line]
    scanned, total = (int(part) for part in groups.split(":")[1].strip(" │").split("/"))
    assert scanned < total / 5


@pytest.mark.parametrize(("name", "reads"), [("a.csv", "read_csv"), ("a.csv.gz", "read_csv"), ("a.json", "read_json")])
def test_what_is_no_parquet_is_refused_in_a_lake_with_advice_that_works(tmp_path: Path, name: str, reads: str) -> None:
    (tmp_path / "lake").mkdir()
    with duckdb.connect(str(tmp_path / "over.duckdb")) as writer:
        writer.execute("CREATE TABLE kept AS SELECT 1 AS id, 'acme' AS tenant_id, TIMESTAMP '2026-01-01' AS updated_at")
        writer.execute(f"COPY kept TO '{tmp_path}/lake/{name}'")
        writer.execute(f"CREATE VIEW events AS SELECT * FROM {reads}('{tmp_path}/lake/{name}')")
    body = {"id": "events", "source": "any", "tenant_column": "tenant_id", "key": "id", "columns": {"id": {"type": "integer"}}}
    entity = Entity.model_validate({**body, "relation": name, "changes": {"mode": "lookback", "column": "updated_at"}})
    with pytest.raises(PermanentError, match=f"{reads}.* in a duckdb source") as caught:
        read(local(tmp_path), entity)
    assert caught.value.code == "source_unreadable"
    assert read(DuckDB(tmp_path / "over.duckdb"), entity.model_copy(update={"relation": "events"})) == "1\n"


@pytest.mark.parametrize("keep", [0, 3, 200], ids=["empty", "too small", "half"])
def test_a_file_cut_short_is_named(lake: Path, keep: int) -> None:
    victim = sorted(lake.glob("lake/events/tenant_id=acme/*/*.parquet"))[-1]
    victim.write_bytes(victim.read_bytes()[:keep])
    with pytest.raises(PermanentError, match=r"\.parquet.*cut short") as caught:
        read(local(lake), LAKE)
    assert caught.value.code == "source_unreadable"


def test_a_damaged_page_is_told_as_damage(lake: Path) -> None:
    path = lake / "lake/events/tenant_id=acme/day=2026-01-02/damaged.parquet"
    rows = "SELECT 1000 + i AS id, TIMESTAMP '2026-01-02' AS updated_at, 'note ' || hash(i) AS note FROM range(100000) r(i)"
    duckdb.sql(rows).write_parquet(str(path))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = b"\xff" * 200
    path.write_bytes(content)
    with pytest.raises(PermanentError, match=r"damaged\.parquet.*Write the file again") as caught:
        read(local(lake), LAKE)
    assert caught.value.code == "source_unreadable"


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ("i AS id, now()::TIMESTAMP AS updated_at, i AS note", "column note is"),
        ("i AS id, now()::TIMESTAMP AS updated_at", "column note is missing in"),
    ],
    ids=["retyped", "missing"],
)
def test_a_schema_that_differs_between_files_is_refused(lake: Path, columns: str, sentence: str) -> None:
    path = lake / "lake/events/tenant_id=acme/day=2026-01-02/other.parquet"
    duckdb.sql(f"SELECT {columns} FROM range(5) r(i)").write_parquet(str(path))
    with pytest.raises(PermanentError, match=sentence) as caught:
        read(local(lake), LAKE)
    assert caught.value.code == "schema_drift"


WRITERS: dict[str, dict[str, Any]] = {
    "Arrow": {},
    "Arrow, format 1.0": {"version": "1.0", "coerce_timestamps": "us"},
    "Arrow, short decimals": {"store_decimal_as_integer": True, "coerce_timestamps": "ms"},
    "Arrow, no groups for lists": {"use_compliant_nested_type": False},
    "Arrow, INT96": {"use_deprecated_int96_timestamps": True},
}
NOTED = {
    "small": ("integer", "-7::SMALLINT"),
    "four bytes": ("integer", "-7::INTEGER"),
    "eight bytes": ("integer", "-7::BIGINT"),
    "unsigned": ("integer", "7::UBIGINT"),
    "text": ("string", "'it''s'"),
    "enum": ("string", "'x'::ENUM('x', 'y')"),
    "decimal of 4 bytes": ("decimal", "-1.50::DECIMAL(9,2)"),
    "decimal of 8 bytes": ("decimal", "-1.50::DECIMAL(18,2)"),
    "decimal of 16 bytes": ("decimal", "-1.50::DECIMAL(38,2)"),
    "day": ("date", "DATE '1969-07-20'"),
    "time": ("timestamp", "TIMESTAMP '1969-07-20 20:17:40.5'"),
    "time of day": ("string", "TIME '20:17:40.5'"),
    "bytes": ("binary", "'\\x00\\xFF'::BLOB"),
    "list": ("json", "[1, NULL, 3]"),
    "list of lists": ("json", "[['a'], NULL]"),
    "record": ("json", "{'a': 1::SMALLINT, 'b': [{'c': -1.5::DECIMAL(9,2)}]}"),
    "map": ("json", "MAP {'k': 'v'}"),
}


@pytest.mark.parametrize("first", ["DuckDB", *WRITERS])
def test_one_type_that_writers_note_in_several_ways_is_one_type(tmp_path: Path, first: str) -> None:
    values = ", ".join(f'{value} AS "{name}"' for name, (_, value) in NOTED.items())
    row = duckdb.sql(f"SELECT 'acme' AS tenant_id, TIMESTAMP '2026-01-01' AS updated_at, {values}")
    for number, writer in enumerate([first, *({"DuckDB", *WRITERS} - {first})]):
        path = tmp_path / f"{number}.parquet"
        one = row.project(f"*, {number}::BIGINT AS id")
        if writer == "DuckDB":
            one.write_parquet(str(path))
        else:
            pq.write_table(one.to_arrow_table(), path, **WRITERS[writer])
    columns = {"id": {"type": "integer"}, **{name: {"type": kind} for name, (kind, _) in NOTED.items()}}
    lines = read(Lake(LakeSource(kind="lake"), tmp_path, _no_connection), entity(relation="*.parquet", columns=columns)).splitlines()
    assert [line.partition(",")[0] for line in lines] == [str(number) for number in range(1 + len(WRITERS))]
    [line] = {line.partition(",")[2] for line in lines}
    assert line.startswith("-7,-7,-7,7,it's,x,-1.50,-1.50,-1.50,1969-07-20,1969-07-20T20:17:40.500000Z,20:17:40.5,AP8=,")


def test_a_column_only_newer_files_have_is_no_drift(lake: Path) -> None:
    path = lake / "lake/events/tenant_id=acme/day=2026-01-02/newer.parquet"
    duckdb.sql("SELECT 99::BIGINT AS id, TIMESTAMP '2026-01-01' AS updated_at, 'n' AS note, 1 AS secret").write_parquet(str(path))
    assert read(local(lake), LAKE).endswith("99,n,2026-01-02\n")


def test_unfinished_files_are_left_alone_and_the_list_is_fixed_at_the_first_look(lake: Path) -> None:
    folder = lake / "lake/events/tenant_id=acme/day=2026-01-02"
    (folder / "_temporary.parquet").write_bytes(b"half")
    (folder / ".part.parquet").write_bytes(b"half")
    selection = Selection(LAKE, "acme", LAKE.columns)
    with local(lake).snapshot() as snapshot:
        assert snapshot.count(selection) == 4
        _write_lake(f"{lake}/lake/events/tenant_id=acme/day=2026-01-02/more")
        assert snapshot.count(selection) == 4


def test_a_pattern_that_matches_nothing_is_refused(lake: Path) -> None:
    with pytest.raises(PermanentError, match="no file matches"):
        read(local(lake), entity(relation="nowhere/*.parquet"))


def s3_lake(endpoint: str, path: str = "s3://waybill-lake/data") -> Lake:
    extra = {"endpoint_url": endpoint, "region_name": "us-east-1"}
    target = Connection("aws", "aws", login="testing", password="testing", extra=extra)
    return Lake(LakeSource(kind="lake", path=path, connection="aws"), Path("/nowhere"), lambda _: target)


def test_a_lake_on_s3_reads_like_one_on_disk(lake: Path, s3: S3Server) -> None:
    client = s3.client()
    client.create_bucket(Bucket="waybill-lake")
    for path in lake.glob("lake/events/*/*/*.parquet"):
        client.upload_file(str(path), "waybill-lake", f"data/{path.relative_to(lake / 'lake')}")
    assert read(s3_lake(s3.endpoint), LAKE) == read(local(lake), LAKE)
    with pytest.raises(PermanentError, match="there is no such bucket or folder"):
        read(s3_lake(s3.endpoint, "s3://no-such-bucket"), LAKE)


@pytest.mark.parametrize(
    ("relation", "path", "mark"),
    [
        ("lake/*/*.parquet", "{}/a.parquet", "_delta_log/0.json"),
        ("lake/**", "{}/a.parquet", ".hoodie/hoodie.properties"),
        ("lake/**/*.parquet", "{}/day=1/a.parquet", "metadata/1.metadata.json"),
        ("lake/*/*/*.parquet", "{}/day=1/a.parquet", "metadata/1.metadata.json"),
    ],
)
def test_a_table_format_in_a_bucket_is_found_in_the_last_of_many_folders(s3: S3Server, relation: str, path: str, mark: str) -> None:
    """The store is asked hardly more than for the files themselves, however many folders there are."""
    client, bucket, asked = s3.client(), f"lake-{uuid4().hex}", list[int]()
    client.create_bucket(Bucket=bucket)
    wanted = entity(relation=relation)
    for number in range(60):
        client.put_object(Bucket=bucket, Key=f"lake/{path.format(f'{number:03d}')}", Body=b"PAR1")

    def listed() -> list[str]:
        with s3_lake(s3.endpoint, f"s3://{bucket}").snapshot([wanted]) as snapshot:
            snapshot.files.connect()
            before = len(asked)
            snapshot.files.s3.meta.events.register("before-call.s3", lambda **_: asked.append(1))
            snapshot._matches(relation)
            alone = len(asked) - before
            found = snapshot._all_paths(wanted)
            assert len(asked) - before - alone <= alone + 8
        return found

    assert len(listed()) == 60
    client.put_object(Bucket=bucket, Key=f"lake/059/{mark}", Body=b"{}")
    with pytest.raises(PermanentError, match="lake/059 is a table of"):
        listed()


@contextmanager
def _answering(status: int, code: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            """Keep the test's output quiet."""

    with handled_by(Handler) as url:
        yield url


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [(403, "AccessDenied", PermanentError), (503, "SlowDown", TransientError)],
    ids=["403", "503"],
)
def test_a_bucket_that_refuses_or_is_busy_says_which(status: int, code: str, error: type[Exception]) -> None:
    with _answering(status, code) as endpoint, pytest.raises(error) as caught:
        read(s3_lake(endpoint), LAKE)
    assert "events in s3://waybill-lake/data" in str(caught.value)


def test_storage_that_goes_away_between_two_requests_is_told_by_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    rows = "SELECT i AS id, 'acme' AS tenant_id, 'note ' || hash(i) AS note, now()::TIMESTAMP AS updated_at FROM range(200000) r(i)"
    duckdb.sql(rows).write_parquet(str(path))
    shape = entity(relation="events.parquet")
    selection = Selection(shape, "acme", shape.columns)
    with ExitStack() as while_it_answers:
        server = while_it_answers.enter_context(serve_s3())
        client = server.client()
        client.create_bucket(Bucket="waybill-lake")
        client.upload_file(str(path), "waybill-lake", "data/events.parquet")
        with s3_lake(server.endpoint).snapshot() as snapshot:
            snapshot.check(selection)
            while_it_answers.close()
            with pytest.raises(TransientError, match=r"the storage stopped answering \(EndpointConnectionError\)") as caught:
                list(snapshot.csv(selection, FileStyle()))
    assert "Traceback" not in str(caught.value)
    with pytest.raises(TransientError, match="the storage does not answer"):
        read(s3_lake(server.endpoint), shape)


def test_a_lake_on_s3_without_a_connection_is_refused() -> None:
    with (
        pytest.raises(PermanentError, match="needs an Airflow connection"),
        Lake(LakeSource(kind="lake", path="s3://bucket"), Path("/nowhere"), _no_connection).snapshot(),
    ):
        pass


@pytest.mark.parametrize("tenant", ["acme", "globex"])
@pytest.mark.parametrize("column", ["note", "tenant_id"])
def test_text_of_a_parquet_file_that_is_not_utf8_is_told_without_it(tmp_path: Path, column: str, tenant: str) -> None:
    """The value may be another tenant's."""
    given = pa.array([b"planted\xe9", b"acme"], pa.binary())
    texts = pa.Array.from_buffers(pa.string(), 2, given.buffers())
    columns = {"id": [1, 2], "tenant_id": ["globex", "acme"], "note": ["x", "y"], "updated_at": [NOW, NOW]}
    pq.write_table(pa.table({**columns, column: texts}), tmp_path / "0.parquet")
    with pytest.raises(
        PermanentError, match=r'0.parquet" holds text that is not UTF-8\. Write the file again with text in UTF-8'
    ) as caught:
        read(Lake(LakeSource(kind="lake", path=""), tmp_path, _no_connection), entity(relation="0.parquet"), tenant)
    assert (caught.value.code, "planted" in str(caught.value)) == ("source_unreadable", False)


def test_a_value_that_names_the_format_of_files_is_repeated_no_more_than_others(warehouse: Path) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("CREATE VIEW numbers AS SELECT * REPLACE (CAST('planted Parquet ' || note AS INTEGER) AS note) FROM events")
    shape = entity(relation="numbers", columns={"id": {"type": "integer"}, "note": {"type": "integer"}})
    with pytest.raises(PermanentError) as caught:
        read(DuckDB(warehouse), shape)
    assert (caught.value.code, "planted" in str(caught.value)) == ("schema_drift", False)
