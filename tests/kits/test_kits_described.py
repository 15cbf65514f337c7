"""Every kit by programs that are not ours: sqlglot parses each statement in its dialect, frictionless and csvw read the samples by the
metadata files, and what people read is there in full.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import sqlglot
import yaml
from fastapi.testclient import TestClient

from tests.installations import DAY, NOON, THEME, USER, Place, catalog, make_place
from tests.issuer import RecordingScheduler
from tests.open_access import OpenDoor
from waybill.canonical import ColumnType
from waybill.errors import PermanentError
from waybill.kits import DIALECTS, kit_of, write
from waybill.web.app import create_app

pytestmark = pytest.mark.fast

ODD = 'say "x"\'s `name`, \\ | <b>'
EVERY: dict[str, Any] = {
    **USER,
    "name": "every type",
    "description": "All | of <b>them</b>.",
    "relation": "every",
    "deletes": "compare",
    "key": ["id", "ref"],
    "columns": {
        "id": {"type": "integer", "description": "Half | the <i>key</i>."},
        "ref": {"type": "json"},
        **{f"a {kind.value}": {"type": kind.value, "description": f"A {kind.value}."} for kind in ColumnType},
        ODD: {"type": "string", "export": "anonymize", "description": "A pseudonym."},
        "updated_at": {"type": "timestamp"},
        "deleted_at": {"type": "timestamp"},
    },
}
KEYLESS = {**THEME, "name": "keyless", "columns": {"name": {"type": "string"}}}
WORDS = {"dictionary.html", "dictionary.md", "README.md", "datapackage.json", "csv-metadata.json", "sources.yml", "schema.sql", "kit.json"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A tenant that never received anything."""
    with closing(make_place(tmp_path_factory.mktemp("place"))) as place:
        place.write("catalog.yaml", catalog(user=USER, every_type=EVERY, keyless=KEYLESS))
        place.tenant(entityList=["user", "every_type", "keyless"], frequency="weekly", csv={"delimiter": ";", "line_ending": "crlf"})
        yield place


NO_KIT = {("ndjson", "bigquery"), ("ndjson", "redshift"), ("parquet", "postgres"), ("parquet", "bigquery"), ("parquet", "redshift")}


@pytest.mark.parametrize("format", ["ndjson", "parquet"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_other_formats_have_statements_of_the_dialect_or_are_refused(format: str, dialect: str, tmp_path: Path) -> None:
    with closing(make_place(tmp_path)) as place:
        place.write("catalog.yaml", catalog(user=USER, every_type=EVERY, keyless=KEYLESS))
        place.tenant(entityList=["user", "every_type", "keyless"], files={"format": format}, csv={"bom": True, "compression": "gzip"})
        if (format, dialect) in NO_KIT:
            with pytest.raises(PermanentError, match=f"and acme receives {format}"):
                kit_of(place.installation(), "acme", dialect)
            return
        files = kit_of(place.installation(), "acme", dialect)
    for path, data in files.items():
        if path.endswith(".sql"):
            assert [item for item in sqlglot.parse(data.decode(), dialect=dialect) if item is not None], path
    assert "tail -c +4" not in files["user/load.sql"].decode()
    readme = files["README.md"].decode()
    assert f"to look at: you receive {format}" in readme
    assert dialect != "duckdb" or f".{format}" in readme


@pytest.fixture(scope="module", params=DIALECTS)
def kit(request: pytest.FixtureRequest, place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / request.param
    write(kit_of(place.installation(), "acme", request.param), folder)
    return folder


def test_every_statement_is_one_of_its_dialect(kit: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "sqlglot")
    files = sorted(kit.rglob("*.sql"))
    assert len(files) == 1 + 4 + 5 + 4
    for file in files:
        parsed = [item for item in sqlglot.parse(file.read_text(), dialect=kit.name) if item is not None]
        assert parsed, file
        kinds = {type(item).__name__ for item in parsed}
        assert ("Merge" in kinds) == (file.name == "delta.sql" and file.parent.name != "keyless"), (file, kinds)
        if file.name not in ("load.sql", "load_deletes.sql", "begin.sql") and kit.name != "databricks":
            assert "Command" not in kinds, file
    if kit.name in ("postgres", "duckdb", "snowflake", "redshift"):
        assert not [record.getMessage() for record in caplog.records]


def test_what_was_not_run_says_so_in_every_file_and_on_the_first_page(kit: Path) -> None:
    was_run = kit.name in ("postgres", "duckdb")
    assert json.loads((kit / "kit.json").read_text())["was_run"] == was_run
    for file in kit.rglob("*.sql"):
        assert ("NOT RUN" in file.read_text().partition("\n\n")[0]) == (not was_run), file
    assert ("were not run" in (kit / "README.md").read_text()) == (not was_run)


def test_a_kit_holds_what_it_names(kit: Path) -> None:
    files = {str(path.relative_to(kit)) for path in kit.rglob("*") if path.is_file()}
    assert files - {"kit.json"} == set(json.loads((kit / "kit.json").read_text())["files"])
    assert files >= WORDS


def test_samples_have_the_header_and_the_dialect_of_the_tenant(kit: Path) -> None:
    for name, columns in (("user", USER["columns"]), ("every_type", EVERY["columns"]), ("keyless", KEYLESS["columns"])):
        data = (kit / f"samples/{name}.csv").read_bytes()
        header, *rows = list(csv.reader(io.StringIO(data.decode(), newline=""), delimiter=";"))
        assert header == list(columns)
        assert len(rows) == 3
        assert data.endswith(b"\r\n")
        assert {len(row) for row in rows} == {len(columns)}
    assert (kit / "samples/every_type.deletes.csv").read_text().splitlines()[0] == "id;ref;deleted_noticed_at"


def test_frictionless_finds_the_package_and_its_samples_valid(kit: Path) -> None:
    script = """
import json, sys
from frictionless import Package, system
with system.use_context(trusted=True):
    report = Package("datapackage.json").validate()
print(json.dumps([report.flatten(["title", "message"]), [task.stats["rows"] for task in report.tasks]]))
"""
    assert json.loads(outside(script, kit)) == [[], [3, 3, 3]]


def test_csvw_reads_the_samples_with_their_types(kit: Path) -> None:
    script = """
import json
from csvw import TableGroup
group = TableGroup.from_file("csv-metadata.json")
rows = {table.local_name: [{name: type(value).__name__ for name, value in row.items()} for row in table] for table in group.tables}
print(json.dumps(rows))
"""
    rows = json.loads(outside(script, kit))
    assert {name: len(found) for name, found in rows.items()} == {f"samples/{name}.csv": 3 for name in ("user", "every_type", "keyless")}
    [table] = [item for item in json.loads((kit / "csv-metadata.json").read_text())["tables"] if item["url"] == "samples/every_type.csv"]
    named = {column["titles"]: column["name"] for column in table["tableSchema"]["columns"]}
    first = {title: rows["samples/every_type.csv"][0][name] for title, name in named.items()}
    kinds = {"integer": "int", "decimal": "Decimal", "float": "float", "boolean": "bool", "date": "datetime", "timestamp": "datetime"}
    kinds |= {"json": "OrderedDict", "binary": "bytes", "string": "str", "uuid": "str"}
    assert {kind: first[f"a {kind}"] for kind in kinds} == kinds


def outside(script: str, folder: Path) -> str:
    """What another program prints, in a process of its own: its libraries warn of things that are not ours."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_dbt_sources_describe_every_column_and_ask_for_freshness_by_the_frequency(kit: Path) -> None:
    said = yaml.safe_load((kit / "sources.yml").read_text())
    [source] = said["sources"]
    assert said["version"] == 2
    assert source["name"] == "waybill_acme"
    tables = {table["name"]: table for table in source["tables"]}
    assert set(tables) == {"user", "every_type", "keyless"}
    for table in tables.values():
        assert table["config"]["freshness"] == {
            "warn_after": {"count": 192, "period": "hour"},
            "error_after": {"count": 384, "period": "hour"},
        }
        assert sqlglot.parse_one(table["config"]["loaded_at_query"], dialect=kit.name)
    assert [column["name"] for column in tables["every_type"]["columns"]] == list(EVERY["columns"])
    assert tables["user"]["columns"][0]["data_tests"] == ["not_null", "unique"]


class _Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


def test_the_dictionary_tells_every_column_and_takes_no_description_for_markup(kit: Path) -> None:
    parser = _Cells()
    parser.feed((kit / "dictionary.html").read_text())
    for name, column in EVERY["columns"].items():
        assert name in [cell.strip() for cell in parser.cells], name
        assert column.get("description", "") in [cell.strip() for cell in parser.cells]
    assert not parser.tags & {"b", "i"}
    lines = (kit / "dictionary.md").read_text().splitlines()
    assert r"| id | integer | " in "\n".join(lines)
    assert any(r"Half \| the \<i\>key\</i\>." in line for line in lines)


def test_a_kit_knows_what_the_last_manifest_tells_of_numbers(tmp_path: Path) -> None:
    with closing(make_place(tmp_path)) as place:
        place.write(
            "catalog.yaml", catalog(user={**USER, "columns": {**USER["columns"], "price": {"type": "decimal"}, "big": {"type": "integer"}}})
        )
        place.tenant(entityList=["user"])
        place.sql('alter table "user" add column price decimal(12, 3); alter table "user" add column big hugeint')
        before = kit_of(place.installation(), "acme", "duckdb")["schema.sql"].decode()
        place.run(NOON + DAY)
        after = kit_of(place.installation(), "acme", "duckdb")["schema.sql"].decode()
    assert '"price" VARCHAR' in before
    assert '"price" DECIMAL(12, 3)' in after
    assert ('"big" BIGINT' in before, '"big" HUGEINT' in after) == (True, True)


def test_a_kit_has_the_columns_under_the_names_that_the_tenant_receives(tmp_path: Path) -> None:
    with closing(make_place(tmp_path)) as place:
        place.write("catalog.yaml", catalog(user={**USER, "deletes": "compare"}))
        place.tenant(entityList=["user"], rename={"user": {"id": "user_no"}})
        place.run(NOON + DAY)
        made = kit_of(place.installation(), "acme", "duckdb")
    assert '"user_no" BIGINT NOT NULL' in made["schema.sql"].decode()
    assert made["samples/user.deletes.csv"].splitlines()[0] == b"user_no,deleted_noticed_at"


@pytest.fixture(scope="module")
def client(place: Place) -> Iterator[TestClient]:
    place.run(NOON - DAY, entities=["user"])
    installation = place.installation()
    with TestClient(create_app(lambda: installation, OpenDoor(), RecordingScheduler())) as client:
        yield client


@pytest.mark.parametrize("address", ["/api/v1/tenants/acme/kit?dialect=snowflake", "/page/tenants/acme/kit?dialect=snowflake"])
def test_api_and_page_give_the_same_files_as_the_command(client: TestClient, place: Place, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"] == 'attachment; filename="waybill-kit-acme-snowflake.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as packed:
        found = {name: packed.read(name) for name in packed.namelist()}
    assert found == kit_of(place.installation(), "acme", "snowflake")


def test_the_page_of_a_tenant_leads_to_every_kit(client: TestClient) -> None:
    page = client.get("/page/tenants/acme").text
    for dialect in DIALECTS:
        assert f'tenants/acme/kit?dialect={dialect}"' in page


@pytest.mark.parametrize(
    ("address", "status", "code"),
    [("/tenants/acme/kit?dialect=oracle", 422, "validation"), ("/tenants/acm/kit", 404, "not_found")],
)
def test_the_api_refuses_what_there_is_no_kit_for(client: TestClient, address: str, status: int, code: str) -> None:
    answer = client.get(f"/api/v1{address}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "acme" not in answer.json()["detail"], "nobody learns here which tenants there are"


def test_a_newer_kit_takes_the_place_of_an_older_one_and_of_nothing_else(place: Place, tmp_path: Path) -> None:
    files = kit_of(place.installation(), "acme", "duckdb")
    folder = tmp_path / "kit"
    write(files, folder)
    (folder / "notes.txt").write_text("mine")
    write({path: data for path, data in files.items() if not path.startswith("keyless/")} | {"kit.json": files["kit.json"]}, folder)
    assert not (folder / "keyless/full.sql").exists()
    assert (folder / "notes.txt").read_text() == "mine"
    other = tmp_path / "other"
    other.mkdir()
    (other / "README.md").write_text("mine")
    with pytest.raises(PermanentError, match="no kit"):
        write(files, other)
    assert (other / "README.md").read_text() == "mine"
