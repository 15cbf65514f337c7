"""Files of every format from a real source, read by other programs; memory that does not grow; a disk that is full."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import openpyxl
import pyarrow.parquet as pq
import pytest

from tests.format_rows import OPTIONS, written
from waybill.configuration.catalog import FORMATS, Entity
from waybill.configuration.selection import Selection
from waybill.sources.duckdb.source import DuckDB

ROWS = 20_000
TYPES = {
    "id": "integer",
    "name": "string",
    "amount": "decimal",
    "score": "float",
    "active": "boolean",
    "day": "date",
    "at": "timestamp",
    "ref": "uuid",
    "profile": "json",
    "blob": "binary",
    "wide": "integer",
}
ENTITY = Entity.model_validate(
    {
        "id": "orders",
        "source": "warehouse",
        "relation": "orders",
        "tenant_column": "tenant",
        "key": ["id"],
        "changes": {"mode": "full"},
        "columns": {name: {"type": kind} for name, kind in TYPES.items()},
    }
)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("warehouse") / "warehouse.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"""
            CREATE TABLE orders AS
            SELECT 'acme' AS tenant, i AS id,
                   CASE i % 5 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN '=1+' || i WHEN 3 THEN 'a, "b"' || chr(13) || chr(10)
                              ELSE 'é' || i END AS name,
                   (i * 37 % 100000)::DECIMAL(20, 4) * 0.01 AS amount, CASE WHEN i % 11 = 0 THEN 'NaN'::DOUBLE ELSE i / 7 END AS score,
                   i % 2 = 0 AS active, DATE '1969-12-01' + (i % 900)::INTEGER AS day,
                   TIMESTAMPTZ '2026-03-29 00:59:59.123456+00' + to_seconds(i) AS at, md5(i::VARCHAR)::UUID AS ref,
                   {{'plan': 'p' || i % 3, 'geo': {{'lat': i / 3}}, 'tags': [i, i + 1]}} AS profile, encode('b' || i) AS blob,
                   (i::HUGEINT * 100000000000000000000) AS wide
              FROM range({ROWS}) AS t(i)
        """)
    return path


@pytest.fixture(scope="module")
def files(warehouse: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    found = {}
    for name in FORMATS:
        with DuckDB(warehouse).snapshot() as snapshot:
            found[name], result = written(folder, name, snapshot.batches(Selection(ENTITY, "acme", ENTITY.columns)), ENTITY.columns)
        assert result.rows == ROWS
    return found


def sums(columns: str, relation: str, *values: Any) -> tuple[Any, ...]:
    [row] = duckdb.execute(f"SELECT {columns} FROM {relation}", list(values)).fetchall()
    return tuple(row)


def facts(warehouse: Path) -> tuple[Any, ...]:
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        query = """SELECT count(*), sum(id), count(name), sum(length(name)), sum(amount)::VARCHAR, count(*) FILTER (isnan(score)),
                          count(*) FILTER (active), min(day)::VARCHAR, max(wide)::VARCHAR FROM orders"""
        [row] = connection.execute(query).fetchall()
    return tuple(row)


FACTS = """count(*), sum(id::BIGINT), count(name), sum(length(name)), sum(amount::DECIMAL(38, 6))::VARCHAR, count(*) FILTER (score = 'NaN'),
           count(*) FILTER (active = 'true'), min(day)::VARCHAR, max(wide::HUGEINT)::VARCHAR"""


def test_duckdb_reads_the_same_facts_from_ndjson_json_and_parquet(files: dict[str, Path], warehouse: Path) -> None:
    expected = facts(warehouse)
    text = dict.fromkeys(TYPES, "VARCHAR")
    assert sums(FACTS, "read_ndjson(?, columns = ?)", str(files["ndjson"]), text) == expected
    assert sums(FACTS.replace("score = 'NaN'", "isnan(score)"), "read_parquet(?)", str(files["parquet"])) == expected
    rows = "(SELECT unnest(data.orders, recursive := false) AS r FROM read_json(?, maximum_object_size = 100000000, columns = ?))"
    shape = {"data": "STRUCT(orders STRUCT(" + ", ".join(f'"{name}" VARCHAR' for name in TYPES) + ")[])"}
    assert sums(FACTS, f"(SELECT r.* FROM {rows})", str(files["json"]), shape) == expected


def test_duckdb_reads_the_same_facts_from_csv_once_the_guard_is_stripped(files: dict[str, Path], warehouse: Path) -> None:
    reading = "read_csv(?, all_varchar = true, header = true, quote = '\"', escape = '\"', delim = ',', strict_mode = true)"
    header = [column[0] for column in duckdb.execute(f"SELECT * FROM {reading}", [str(files["csv"])]).description or []]
    flattened = ["profile.plan", "profile.geo.lat", "profile.tags"]
    assert header == [*(name for name in TYPES if name not in ("profile", "blob", "wide")), *flattened, "blob", "wide"]
    stripped = f"(SELECT * REPLACE (regexp_replace(name, '^''(''*[=+@\\t\\r\\n\\x00-])', '\\1') AS name) FROM {reading})"
    read = sums(FACTS, stripped, str(files["csv"]))
    expected = facts(warehouse)
    assert read[:2] == expected[:2]
    assert read[4:] == expected[4:]


def test_openpyxl_reads_the_same_facts_from_xlsx(files: dict[str, Path], warehouse: Path) -> None:
    count, ids, _, _, _, nans, active, _, widest = facts(warehouse)
    with closing(openpyxl.load_workbook(files["xlsx"], read_only=True)) as workbook:
        [sheet] = workbook.worksheets
        header, *rows = sheet.iter_rows(values_only=True)
    place = {name: header.index(name) for name in TYPES}
    assert len(rows) == count
    assert sum(row[place["id"]] for row in rows) == ids
    assert sum(row[place["score"]] == "NaN" for row in rows) == nans
    assert sum(row[place["active"]] is True for row in rows) == active
    assert max(int(row[place["wide"]]) for row in rows) == int(widest)
    assert [row[place["at"]] for row in rows[:2]] == ["2026-03-29T00:59:59.123456Z", "2026-03-29T01:00:00.123456Z"]


def test_every_format_tells_the_same_first_rows(files: dict[str, Path]) -> None:
    with files["ndjson"].open(encoding="utf-8") as file:
        first = [json.loads(next(file)) for _ in range(50)]
    document = json.loads(files["json"].read_bytes())["data"]["orders"][:50]
    assert document == first
    kept = pq.read_table(files["parquet"]).slice(0, 50).to_pylist()
    for row, line in zip(kept, first, strict=True):
        assert json.loads(row["profile"]) == line["profile"]
        assert (row["id"], row["name"], str(row["amount"]), row["ref"]) == (line["id"], line["name"], line["amount"], line["ref"])


MEASURED = """
import resource, sys
from pathlib import Path
import pyarrow as pa
import pyarrow.compute as pc
from tests.format_rows import OPTIONS, written
from waybill.configuration.values.columns import Column

columns = {"id": Column(type="integer"), "name": Column(type="string"), "score": Column(type="float"), "profile": Column(type="json")}

def batches(rows):
    for start in range(0, rows, 50_000):
        ids = pa.array(range(start, min(start + 50_000, rows)))
        text = ids.cast(pa.string())
        profile = pc.binary_join_element_wise('{"plan":"p', text, '","geo":{"city":"Berlin","zip":', text, "}}", "")
        name = pc.binary_join_element_wise("name ", text, "")
        yield pa.RecordBatch.from_arrays([ids, name, ids.cast(pa.float64()), profile], names=list(columns))

for rows in map(int, sys.argv[3:]):
    path, result = written(Path(sys.argv[2]), sys.argv[1], batches(rows), columns)
    assert result.rows == rows
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peaks(folder: Path, format: str, *rows: int) -> list[int]:
    """The most megabytes a process had held by the time that it had written so many rows, and so many more."""
    command = [sys.executable, "-c", MEASURED, format, str(folder), *map(str, rows)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, env={"PYTHONPATH": f"{root / 'include'}:{root}"})
    return [int(megabytes) for megabytes in done.stdout.split()]


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, format: str) -> None:
    few, many = peaks(tmp_path, format, 100_000, 2_000_000 if format == "ndjson" else 400_000)
    assert many <= few + 40


# Run with -B: a module imported under the limit would leave half a bytecode file behind.
FULL_DISK = """
import resource, sys
from pathlib import Path
from tests.format_rows import SAMPLE, batch, written
from waybill.errors import TransientError

room, times = int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
for format in sys.argv[4:]:
    try:
        written(Path(sys.argv[1]), format, [batch(SAMPLE * times)] * 3)
    except TransientError as error:
        print(format, error.code, error, sep="|")
"""


@pytest.mark.parametrize(("room", "times"), [(3_000, 20_000), (300, 1)], ids=["while rows are written", "when the file is closed"])
def test_a_full_disk_is_told_and_leaves_no_file_of_any_format(tmp_path: Path, room: int, times: int) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-B", "-W", "error", "-c", FULL_DISK, str(tmp_path), str(room), str(times), *FORMATS],
        capture_output=True, text=True, check=True, cwd=root, env={"PYTHONPATH": f"{root / 'include'}:{root}"},
    )  # fmt: skip
    told = [line.split("|") for line in done.stdout.splitlines()]
    assert [(format, code) for format, code, _ in told] == [(format, "storage_full") for format in FORMATS]
    assert all("cannot write" in message for _, _, message in told)
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_a_workbook_is_a_sound_package(files: dict[str, Path]) -> None:
    with zipfile.ZipFile(files["xlsx"]) as package:
        assert package.testzip() is None
        assert package.comment == b""
        assert OPTIONS.exported_at.strftime("%Y-%m-%dT%H:%M:%SZ").encode() in package.read("docProps/core.xml")
