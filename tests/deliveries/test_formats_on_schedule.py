"""Scheduled deliveries as Parquet and NDJSON: the manifest, the names, the guarantees and the repairs are those of CSV."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.consumer.test_week import EVERYTHING, ROWS, SQL_TYPES
from tests.installations import DAY, NOON, THEME, USER, Place, catalog, make_place, opened
from waybill.configuration import loading
from waybill.configuration.catalog import Entity
from waybill.configuration.selection import FileStyle, Selection
from waybill.deliveries import planning, repairs
from waybill.deliveries.extraction.other_formats import other_format
from waybill.deliveries.recovery import reconciling
from waybill.deliveries.reports import describing
from waybill.errors import PermanentError
from waybill.files.places import verify
from waybill.registrations.applying import apply

SHAPES: dict[str, dict[str, Any]] = {
    "csv": {},
    "parquet": {"files": {"format": "parquet"}},
    "ndjson": {"files": {"format": "ndjson"}},
    "ndjson in parts": {"files": {"format": "ndjson"}, "csv": {"compression": "gzip", "max_rows_per_file": 2}},
    "parquet in parts": {"files": {"format": "parquet"}, "csv": {"compression": "zstd", "max_rows_per_file": 2}},
}
SUFFIX = {"ndjson in parts": ".ndjson.gz", "parquet in parts": ".parquet"}


@pytest.fixture(scope="module", params=SHAPES)
def shape(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def delivered(shape: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight users and three rows of every type, delivered twice: changes, a tombstone, and keys that are gone."""
    with closing(make_place(tmp_path_factory.mktemp("delivered"))) as place:
        place.write("catalog.yaml", catalog(user=USER, theme=THEME, everything=EVERYTHING))
        place.tenant(entityList=["user", "theme", "everything"], **SHAPES[shape])
        place.sql(f"create table everything ({SQL_TYPES}, updated_at timestamptz)")
        for number in range(8):
            place.user(number, f"name {number}", NOON - 2 * DAY)
        for number in ROWS:
            put(place, number, -2)
        place.run(NOON)
        place.user(1, "Ada", NOON)
        place.user(2, "Bob", NOON, deleted=NOON)
        place.sql("delete from everything where born = '1969-12-31'")
        put(place, 1, 0)
        place.run(NOON + DAY)
        return place.root


@pytest.fixture
def place(delivered: Path, tmp_path: Path) -> Iterator[Place]:
    with closing(Place(shutil.copytree(delivered, tmp_path / "place"))) as place:
        yield place


def put(place: Place, number: int, days: int) -> None:
    with opened(place.root / "warehouse.duckdb") as connection:
        connection.execute("delete from everything where id = ?", [ROWS[number][0]])
        connection.execute(f"insert into everything values ('acme', {', '.join('?' * 10)}, ?)", [*ROWS[number], NOON + days * DAY])


def whole(place: Place) -> bool:
    report = verify(str(place.out), pytest.fail)
    assert report.problems == []
    return report.is_whole and report.files > 0


def test_manifest_and_names_tell_the_format_and_the_rest_stays(place: Place, shape: str) -> None:
    for path, column in place.manifests():
        suffix = SUFFIX.get(shape, f".{shape}")
        assert column["format"] == shape.partition(" ")[0]
        assert set(column["csv"]) == {"delimiter", "line_ending", "quote", "escape", "null", "header", "encoding", "bom", "compression"}
        assert all(file["path"].endswith(suffix) for file in column["files"]), column["files"]
        assert path.name == f"{column['entity']}.manifest.json"
        if column.get("deletes"):
            packing = {"ndjson in parts": ".gz", "parquet in parts": ".zst"}.get(shape, "")
            assert column["deletes"]["path"] == f"everything.deletes.csv{packing}"
    assert whole(place)


def test_what_is_only_planned_is_listed_under_the_names_that_its_files_get(place: Place, shape: str) -> None:
    place.clock = NOON + 2 * DAY
    installation = place.installation()
    [first] = [value["delivery_id"] for _, value in place.manifests() if value["entity"] == "user" and value["kind"] == "full"]
    repairs.queue_redelivery(installation, "acme", first, actor="test")
    due = planning.preview(installation, "acme", NOON + 2 * DAY)
    shown = {each["delivery_id"]: each for each in describing.describe(installation, due)}
    assert len(shown) == 3
    planning.plan(installation, "acme", NOON + 2 * DAY)
    before = {each["delivery_id"]: each for each in describing.listed(installation, "acme", status="open")}
    assert len(before) == 4
    place.tenant(entityList=["user", "theme", "everything"])  # CSV from now on, but not for what is planned
    place.run(NOON + 2 * DAY)
    for after in describing.listed(installation, "acme", status="committed"):
        if known := before.get(after["delivery_id"]):
            assert known["manifest"] == after["manifest"]
            assert after["path"] == known["path"] or after["path"].startswith(f"{known['path']}/")
            assert all(file["path"].endswith(SUFFIX.get(shape, f".{shape}")) for file in after["files"])


def test_a_redelivery_repeats_the_bytes_under_the_formats_own_name(place: Place, shape: str) -> None:
    [first] = [delivery for _, delivery in place.manifests() if delivery["entity"] == "user" and delivery["kind"] == "full"]
    place.tenant(entityList=["user", "theme", "everything"])  # CSV from now on
    repairs.redeliver(place.installation(), first["delivery_id"], actor="test")
    [again] = [value for _, value in place.manifests() if value.get("redelivers") == first["delivery_id"]]
    assert again["format"] == first["format"]
    assert [file["sha256"] for file in again["files"]] == [file["sha256"] for file in first["files"]]
    assert all(file["path"].endswith(SUFFIX.get(shape, f".{shape}")) for file in again["files"])
    assert whole(place)


def test_a_backfill_and_a_change_of_the_format_need_no_new_generation(place: Place, shape: str) -> None:
    repairs.backfill(place.installation(), "acme", "user", NOON - 3 * DAY, NOON, actor="test")
    place.tenant(entityList=["user", "theme", "everything"], files={"format": "csv" if shape != "csv" else "parquet"})
    place.user(3, "changed", NOON + DAY)
    place.run(NOON + 2 * DAY)
    of_user = sorted(
        (
            (delivery["sequence"], delivery["generation"], delivery["format"])
            for _, delivery in place.manifests()
            if delivery["entity"] == "user"
        )
    )
    before, after = shape.partition(" ")[0], "csv" if shape != "csv" else "parquet"
    assert of_user == [(0, 1, before), (1, 1, before), (2, 1, before), (3, 1, after)]
    assert whole(place)


def test_reconcile_compares_and_imports_what_was_delivered_in_every_format(place: Place) -> None:
    done = reconciling.reconcile(place.installation(), "acme", actor="test")
    assert (done.differences, done.problems) == ([], [])
    place.sql("update \"user\" set name = 'silently', updated_at = updated_at - interval 1 hour where id = 5")
    assert [difference.entity for difference in reconciling.reconcile(place.installation(), "acme", actor="test").differences] == ["user"]
    for file in (place.root / ".waybill").glob("ledger*"):
        file.unlink()
    restored = place.installation()
    apply(restored, actor="test")
    assert len(reconciling.reconcile(restored, "acme", actor="test").imported) == 6


@pytest.mark.parametrize("damage", ["cut", "changed", "longer", "gone"])
def test_verify_finds_every_damage(place: Place, damage: str) -> None:
    path, value = next(
        (path, delivery) for path, delivery in place.manifests() if delivery["entity"] == "user" and delivery["kind"] == "full"
    )
    file = path.parent / value["files"][0]["path"]
    data = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes({"cut": data[:-9], "changed": data[:20] + bytes([data[20] ^ 1]) + data[21:], "longer": data + b"x"}[damage])
    report = verify(str(place.out), pytest.fail)
    assert any(str(file).endswith(problem.path) for problem in report.problems)


@pytest.mark.parametrize("format", ["parquet", "ndjson"])
def test_in_a_task_another_kept_engine_writes_what_the_first_one_reads(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting for the first one, the writer would wait for itself: the rows are read to their end only if they are written."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with closing(make_place(tmp_path / "place")) as place:
        place.tenant(entityList=["user"], files={"format": format})
        place.user(1, "Ada", NOON - DAY)
        installation = place.installation()
        with installation.kept_open():
            place.run(NOON)
            place.user(2, "Bob", NOON)
            place.run(NOON + DAY)
            assert len(list(tmp_path.glob("waybill-duckdb-*"))) == 2, "each engine has a folder that it may spill to"
        assert list(tmp_path.glob("waybill-duckdb-*")) == []
        assert whole(place)


def test_rows_that_a_hand_took_out_are_counted_not_believed(tmp_path: Path) -> None:
    """A manifest made to fit in hash and size still tells another number of records than there are."""
    for shape in ("ndjson", "parquet"):
        with closing(make_place(tmp_path / shape)) as place:
            place.tenant(entityList=["user"], **SHAPES[shape])
            for number in range(4):
                place.user(number, "x", NOON - 2 * DAY)
            place.run(NOON)
            [(path, value)] = list(place.manifests())
            file = path.parent / value["files"][0]["path"]
            if shape == "ndjson":
                file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[1:]))
            else:
                duckdb.sql(f"copy (select * from read_parquet('{file}') limit 3) to '{file}.new' (format parquet)")
                shutil.move(f"{file}.new", file)
            data = file.read_bytes()
            facts = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            path.write_text(json.dumps({**value, **facts, "files": [{**value["files"][0], **facts}]}))
            report = verify(str(place.out), pytest.fail)
            assert any("has 3 records, its manifest says 4" in problem.what for problem in report.problems), report.problems


class Nothing:
    """A sink that keeps nothing."""

    bytes, sha256 = 0, ""

    def write(self, block: bytes | memoryview) -> None: ...
    def finish(self) -> None: ...


@pytest.mark.parametrize("at", [3, 4_000])
def test_a_value_that_does_not_fit_is_told_wherever_it_comes(at: int) -> None:
    """The engine answers in batches. What the first one holds is refused by another kind of error than what later ones hold."""
    entity = Entity.model_validate({**USER, "id": "user", "columns": {"id": {"type": "integer"}, "name": {"type": "string"}}})
    selection = Selection(entity, "acme", entity.columns)
    file = other_format(FileStyle(format="parquet"), selection, {"id": "bigint", "name": "text"})(Nothing())
    lines = [f"{number},x\n" for number in range(6_000)]
    lines[at] = f"{10**30},x\n"
    with pytest.raises(PermanentError, match="does not fit into the type that Parquet") as refused:
        file.write("".join(lines).encode())
    file.discard()
    assert str(10**30) not in str(refused.value)


WIDE = """
import resource, sys
from tests.deliveries.test_formats_on_schedule import USER, Entity, FileStyle, Nothing, Selection, other_format

entity = Entity.model_validate({**USER, "id": "user", "columns": {"id": {"type": "integer"}, "name": {"type": "string"}}})
new_file = other_format(FileStyle(format=sys.argv[1]), Selection(entity, "acme", entity.columns), {"id": "bigint", "name": "text"})
for rows in map(int, sys.argv[2:]):
    file = new_file(Nothing())
    for number in range(rows):
        file.write(b"%d,%s\\n" % (number, b"x" * 1_000_000))
    file.finish()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
"""


@pytest.mark.parametrize("format", ["parquet", "ndjson"])
def test_rows_of_megabytes_wait_for_no_more_than_fit_into_memory(format: str) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", WIDE, format, "100", "700"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, env={"PYTHONPATH": f"{root / 'include'}:{root}"})
    few, many = map(int, done.stdout.split())
    assert many - few < 300, (few, many)


@pytest.mark.fast
def test_an_unknown_format_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with closing(make_place(tmp_path)) as place:
        place.tenant(files={"format": "xlsx"})
        [finding] = loading.load(place.root / "config").findings
        assert "files.format" in str(finding)
        assert "parquet" in str(finding)
