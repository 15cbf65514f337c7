"""The consumer's commands on deliveries that are Parquet or NDJSON: the copy equals the source, and every damage is told."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import pytest
import yaml

from tests.consumer.copies import consumer, run, well
from tests.consumer.sender import Sender
from tests.consumer.test_week import EVERYTHING, ROWS, SQL_TYPES, TYPED, canonical
from tests.installations import DAY, NOON, THEME, USER, Place, catalog, make_place, opened
from tests.servers.s3 import S3Server
from tests.servers.sshd import SftpAccess
from waybill.connection import Connection
from waybill.deliveries import repairs
from waybill_consumer.errors import Damaged, Refused
from waybill_consumer.manifest import Column
from waybill_consumer.shapes import _engine, parquet_records
from waybill_consumer.targets.duckdb import DuckDB

SHAPES: dict[str, dict[str, Any]] = {
    "parquet": {"files": {"format": "parquet"}},
    "parquet in parts": {"files": {"format": "parquet"}, "csv": {"max_rows_per_file": 3, "compression": "gzip"}},
    "ndjson": {"files": {"format": "ndjson"}},
    "ndjson in parts": {"files": {"format": "ndjson"}, "csv": {"max_rows_per_file": 3, "compression": "zstd"}},
}
COLUMNS = {
    "user": {"id": "integer", "name": "string", "updated_at": "timestamp", "deleted_at": "timestamp"},
    "theme": {"id": "integer", "name": "string", "updated_at": "timestamp", "deleted_at": "timestamp"},
    "everything": TYPED,
}


@pytest.fixture(scope="module", params=SHAPES)
def delivered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with closing(make_place(tmp_path_factory.mktemp("delivered"))) as place:
        place.write("catalog.yaml", catalog(user=USER, theme=THEME, everything=EVERYTHING))
        place.tenant(entityList=list(COLUMNS), **SHAPES[request.param])
        place.sql(f"create table everything ({SQL_TYPES}, updated_at timestamptz)")
        for number in range(8):
            place.user(number, f'name "{number}",\n', NOON - 2 * DAY)
            place.user(number, f"theme {number}", NOON - 2 * DAY, table="theme")
        for number in (1, 2, 3):
            put(place, number, -2)
        place.run(NOON)
        return place.root


@pytest.fixture
def place(delivered: Path, tmp_path: Path) -> Iterator[Place]:
    with closing(Place(shutil.copytree(delivered, tmp_path / "place"))) as place:
        yield place


def put(place: Place, number: int, days: int) -> None:
    with opened(place.root / "warehouse.duckdb") as connection:
        connection.execute("delete from everything where id = ?", [ROWS[number][0]])
        connection.execute(f"insert into everything values ('acme', {', '.join('?' * 10)}, ?)", [*ROWS[number], NOON + days * DAY])


def compare(place: Place, database: str) -> None:
    for entity, columns in COLUMNS.items():
        listed = ", ".join(f'cast("{name}" as text)' if kind == "json" else f'"{name}"' for name, kind in columns.items())
        wanted = sorted(canonical(row, columns) for row in place.sql(f"set TimeZone = 'UTC'; select {listed} from \"{entity}\""))
        assert sorted(canonical(row, columns) for row in run(database, f'select {listed} from "{entity}"')) == wanted, entity


def test_the_copy_equals_the_source_on_each_day(place: Place, database: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"

    def follow() -> None:
        well("pull", place.out / "exports/acme", copy)
        assert well("verify", copy)["problems"] == []
        well("load", copy, "--to", database)
        compare(place, database)

    follow()
    place.user(1, "", NOON)
    place.user(2, "Bob", NOON, deleted=NOON)
    place.sql("delete from theme where id < 3; delete from everything where born = '1969-12-31'")
    put(place, 4, 0)
    place.run(NOON + DAY)
    follow()
    first = next(delivery for _, delivery in place.manifests() if delivery["entity"] == "user" and delivery["kind"] == "full")
    repairs.redeliver(place.installation(), first["delivery_id"], actor="test")
    place.tenant(entityList=list(COLUMNS))  # CSV from here on
    put(place, 2, 1)
    place.run(NOON + 2 * DAY)
    follow()


@pytest.mark.parametrize("delivered", ["parquet in parts", "ndjson in parts"], indirect=True)
@pytest.mark.parametrize("kind", ["sftp", "s3"])
@pytest.mark.parametrize("database", ["duckdb"], indirect=True)
def test_over_a_server_and_a_bucket_they_arrive_alike(
    place: Place, kind: str, database: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination, source, login = reached(place, kind, request, monkeypatch)
    body = yaml.safe_load((place.root / "config/tenants/acme.yaml").read_text())
    place.tenant(**body | {"destination": destination, "landing": {"status": True, "sha256sums": True}})
    place.user(1, "", NOON)
    place.sql("delete from theme where id < 3; delete from everything where born = '1969-12-31'")
    put(place, 4, 0)
    for until, full in ((NOON + DAY, True), (NOON + 2 * DAY, False)):
        assert [result.error for result in place.run(until, full_load=full) if result.error] == []
        well("pull", source, tmp_path / "copy", *login)
        assert well("verify", tmp_path / "copy")["problems"] == []
        well("load", tmp_path / "copy", "--to", database)
        compare(place, database)
        put(place, 2, 1)
        place.user(2, "Bob", NOON + DAY, deleted=NOON + DAY)
    assert consumer("status", tmp_path / "copy", "--json").json["missing"] == []


def reached(
    place: Place, kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], str, list[object]]:
    """A destination of its own on a real server: what the tenant registers, and what a consumer calls it."""
    name = f"shapes-{uuid4().hex}"
    if kind == "sftp":
        server: SftpAccess = request.getfixturevalue("sshd")
        extra = {"private_key": server.private_key.read_text(), "host_key": server.host_key}
        place.connections["far"] = Connection("far", "sftp", server.host, server.port, server.login, extra=extra)
        (server.root / name).mkdir()
        root = f"{server.remote_root}/{name}"
        login = ["--key", server.private_key, "--known-hosts", server.known_hosts]
        return {"kind": "sftp", "connection": "far", "root": root}, f"sftp://{server.login}@{server.host}:{server.port}{root}", login
    bucket: S3Server = request.getfixturevalue("s3")
    for variable, value in bucket.environment.items():
        monkeypatch.setenv(variable, value)
    bucket.client().create_bucket(Bucket=name)
    extra = {"endpoint_url": bucket.endpoint, "region_name": bucket.region}
    place.connections["far"] = Connection("far", "aws", login=bucket.access_key, password=bucket.secret_key, extra=extra)
    return {"kind": "s3", "connection": "far", "bucket": name}, f"s3://{name}", []


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_damaged_file_is_found_and_stops_its_own_entity(place: Place, database: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    well("pull", place.out / "exports/acme", copy)
    path, value = next((path, delivery) for path, delivery in place.manifests() if delivery["entity"] == "user")
    file = copy / path.parent.relative_to(place.out / "exports/acme") / value["files"][0]["path"]
    file.write_bytes(file.read_bytes()[:-7])
    assert consumer("verify", copy).code == 1
    said = consumer("load", copy, "--to", database)
    assert said.code == 1
    assert "bytes, its manifest says" in said.err
    assert [row[0] for row in run(database, "select count(*) from theme")] == [8]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_file_that_this_disk_does_not_give_back_stops_its_own_entity_until_it_is_pulled_again(
    place: Place, database: str, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    well("pull", place.out / "exports/acme", copy)
    file = next(path for path in copy.rglob("user*.*") if path.parent.name == "user" and path.suffix != ".json")
    whole = file.read_bytes()
    file.unlink()
    file.symlink_to(file.name)  # it is listed, and to open it fails
    verified = consumer("verify", copy)
    assert [line for line in verified.out.splitlines() if line.startswith("problem")] == [
        f"problem: /{file.relative_to(copy)}: cannot be read: Too many levels of symbolic links"
    ]
    said = consumer("load", copy, "--to", database)
    assert (said.code, "cannot be read: Too many levels of symbolic links; acme/user stays as it was before" in said.err) == (1, True), said
    assert [row[0] for row in run(database, "select count(*) from theme")] == [8]
    assert "cannot be read" in consumer("status", copy).out
    well("pull", place.out / "exports/acme", copy)
    assert file.read_bytes() == whole
    well("load", copy, "--to", database)
    compare(place, database)


@pytest.mark.parametrize("delivered", ["ndjson"], indirect=True)
@pytest.mark.parametrize("database", ["duckdb", "postgresql"], indirect=True)
def test_status_knows_of_a_load_that_found_no_room_for_its_temporary_files(
    place: Place, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    well("pull", place.out / "exports/acme", copy)
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
        said = consumer("load", copy, "--to", database)
    assert (said.code, "then load again: what was loaded stays" in said.err) == (1, True), said
    told = consumer("status", copy)
    assert (told.code, "then load again: what was loaded stays" in told.out) == (1, True), told
    well("load", copy, "--to", database)
    well("status", copy)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_file_that_holds_other_columns_than_its_manifest_is_refused(place: Place, database: str, tmp_path: Path) -> None:
    path, value = next((path, delivery) for path, delivery in place.manifests() if delivery["entity"] == "user")
    columns = [{**column, "name": "nom" if column["name"] == "name" else column["name"]} for column in value["columns"]]
    path.write_text(json.dumps({**value, "columns": columns}))
    copy = tmp_path / "copy"
    well("pull", place.out / "exports/acme", copy)
    verified = consumer("verify", copy)
    assert verified.code == 1
    assert "its manifest says id, nom" in verified.out
    loaded = consumer("load", copy, "--to", database)
    assert loaded.code == 1
    assert "its manifest says id, nom" in loaded.err


def test_a_format_that_came_later_than_the_program_is_named(tmp_path: Path) -> None:
    Sender(tmp_path / "in").deliver([("1", "Ada")], kind="full", format="avro")
    said = consumer("pull", tmp_path / "in", tmp_path / "copy")
    assert said.code == 1
    assert "format" in said.err


def test_a_file_that_was_put_in_place_of_another_is_read_anew_also_while_a_third_is_being_read(tmp_path: Path) -> None:
    """One engine reads all of them, and keeps nothing of any."""
    columns = [Column("n", "integer")]

    def put(name: str, number: int) -> Path:
        duckdb.execute(f"copy (select {number} as n from range(2)) to '{tmp_path}/{name}' (format parquet)")
        return tmp_path / name

    third = parquet_records(put("b.parquet", 3), columns)
    assert next(iter(third)) == ["3"]
    for number in (1, 2):
        assert list(parquet_records(put("a.parquet", number), columns)) == [[str(number)]] * 2
    assert list(third) == [["3"]]


def test_times_that_parquet_holds_and_rfc_3339_does_not_are_spelt_as_in_csv(tmp_path: Path) -> None:
    times = ["0044-03-15 (BC) 12:00:00+00", "0999-12-31 23:59:59.5+00", "12026-02-01 00:00:00+00", "infinity", "-infinity"]
    values = ", ".join(f"('{text}'::timestamptz, '{text.split(' 12')[0].split(' 23')[0].split(' 00')[0]}'::date)" for text in times)
    duckdb.execute(f"copy (select * from (values {values}) as t(moment, day)) to '{tmp_path}/a.parquet' (format parquet)")
    columns = [Column("moment", "timestamp"), Column("day", "date")]
    assert list(parquet_records(tmp_path / "a.parquet", columns)) == [
        ["0044-03-15T12:00:00.000000Z BC", "0044-03-15 BC"],
        ["0999-12-31T23:59:59.500000Z", "0999-12-31"],
        ["12026-02-01T00:00:00.000000Z", "12026-02-01"],
        ["infinity", "infinity"],
        ["-infinity", "-infinity"],
    ]


def test_decimals_with_no_digit_before_the_point_are_spelt_as_in_csv(tmp_path: Path) -> None:
    duckdb.execute(f"copy (select unnest([0.1234, -0.5, 0, null])::decimal(4,4) as v) to '{tmp_path}/a.parquet' (format parquet)")
    assert list(parquet_records(tmp_path / "a.parquet", [Column("v", "decimal")])) == [["0.1234"], ["-0.5000"], ["0.0000"], [None]]


def test_decimals_whose_scale_is_outside_of_their_precision_have_a_type() -> None:
    target = DuckDB(duckdb.connect(), "")
    assert [target.sql_type(Column("v", "decimal", precision=p, scale=s)) for p, s in ((5, -2), (3, 5), (4, 4), (37, -2))] == [
        "DECIMAL(7, 0)", "DECIMAL(5, 5)", "DECIMAL(4, 4)", "VARCHAR",
    ]  # fmt: skip


def test_parquet_whose_rows_exceed_the_memory_is_not_called_damaged(tmp_path: Path) -> None:
    """Who forgets it as damaged would fetch it again for ever."""
    path = tmp_path / "wide.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"copy (select i || repeat('x', 1000000) as x from range(200) r(i)) to '{path}' (dictionary_size_limit 1)")
    [(usual,)] = _engine().execute("select current_setting('memory_limit')").fetchall()
    try:
        _engine().execute("set memory_limit = '60MB'")
        with pytest.raises(Refused, match="more than half of this machine's memory") as refused:
            list(parquet_records(path, [Column("x", "string")]))
    finally:
        _engine().execute(f"set memory_limit = '{usual}'")
    assert not isinstance(refused.value, Damaged)
    assert sum(1 for _ in parquet_records(path, [Column("x", "string")])) == 200
