"""The kits that are run: a consumer who follows the README has the source's rows after each day, in PostgreSQL and in DuckDB."""

from __future__ import annotations

import os
import re
import subprocess
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.consumer.conftest import url_of
from tests.consumer.copies import run
from tests.consumer.test_week import EVERYTHING, ROWS, SQL_TYPES, TYPED, canonical
from tests.installations import DAY, NOON, THEME, USER, Place, catalog, make_place
from tests.servers.postgres import Database
from waybill.deliveries import repairs
from waybill.kits import kit_of, write

COLUMNS = {
    "user": {"id": "integer", "name": "string", "updated_at": "timestamp", "deleted_at": "timestamp"},
    "theme": {"id": "integer", "name": "string", "updated_at": "timestamp", "deleted_at": "timestamp"},
    "everything": TYPED,
}
DIALECTS = {
    "gzip in parts": {"compression": "gzip", "max_rows_per_file": 3},
    "zstd": {"compression": "zstd"},
    "semicolons, CR LF and a byte order mark": {"delimiter": ";", "line_ending": "crlf", "bom": True},
    "tabs": {"delimiter": "\t"},
}


FORMATS: dict[str, dict[str, Any]] = {
    "ndjson": {"files": {"format": "ndjson"}, "csv": {"bom": True, "delimiter": ";"}},
    "ndjson, gzip in parts": {"files": {"format": "ndjson"}, "csv": {"compression": "gzip", "max_rows_per_file": 3}},
    "parquet": {"files": {"format": "parquet"}, "csv": {"compression": "zstd", "max_rows_per_file": 3}},
}


RUN = [(files, kit) for files in [*DIALECTS, *FORMATS] for kit in ("postgres", "duckdb") if (files, kit) != ("parquet", "postgres")]


class Consumer:
    """Keeps a copy by the kit's statements alone."""

    dialect: str
    url: str

    def __init__(self, place: Place, folder: Path) -> None:
        self.place, self.kit, self.applied = place, folder / "kit", set[str]()
        self.columns = {entity: dict(columns) for entity, columns in COLUMNS.items()}

    def make(self) -> None:
        write(kit_of(self.place.installation(), "acme", self.dialect), self.kit)
        self.prepare()

    @abstractmethod
    def prepare(self) -> None: ...

    @abstractmethod
    def step(self, folder: Path, manifest: dict[str, Any]) -> None:
        """Apply one delivery. Raises when the database refuses it."""

    def follow(self) -> None:
        found = [(value["generation"], value["sequence"], path, value) for path, value in self.place.manifests()]
        for _, _, path, delivery in sorted(found, key=lambda each: each[:2]):
            if delivery["delivery_id"] not in self.applied and "redelivers" not in delivery:
                self.step(path.parent, delivery)
                self.applied.add(delivery["delivery_id"])
        self.compare()

    def compare(self) -> None:
        for entity, columns in self.columns.items():
            listed = ", ".join(f'cast("{name}" as text)' if kind == "json" else f'"{name}"' for name, kind in columns.items())
            wanted = sorted(canonical(row, columns) for row in self.place.sql(f"set TimeZone = 'UTC'; select {listed} from \"{entity}\""))
            assert sorted(canonical(row, columns) for row in run(self.url, f'select {listed} from "{entity}"')) == wanted, entity


class Postgres(Consumer):
    """Runs the README's own commands."""

    dialect = "postgres"

    def __init__(self, place: Place, folder: Path, database: Database) -> None:
        super().__init__(place, folder)
        self.url = url_of(database)

    def prepare(self) -> None:
        self.shell('psql "$DATABASE" -X -q -v ON_ERROR_STOP=1 -f schema.sql')

    def step(self, folder: Path, manifest: dict[str, Any]) -> None:
        block = re.search(r"```sh\n(.*?)```", (self.kit / "README.md").read_text(), re.DOTALL)
        assert block
        entity = re.search(r"-f (\w+)/begin.sql", block[1])
        assert entity
        self.shell(
            "set -e\n" + block[1].replace(f"{entity[1]}/", f"{manifest['entity']}/"),
            FOLDER=str(folder),
            FILES=" ".join(file["path"] for file in manifest["files"]),
            DELETES=(manifest.get("deletes") or {}).get("path", ""),
            STEP="full" if manifest["kind"] == "full" else "delta",
            **{name.upper(): str(manifest[name]) for name in ("delivery_id", "generation", "sequence")},
        )

    def shell(self, script: str, **variables: str) -> None:
        environment = {**os.environ, "DATABASE": self.url, **variables}
        done = subprocess.run(["sh", "-c", script], cwd=self.kit, env=environment, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)


class DuckDB(Consumer):
    dialect = "duckdb"

    def __init__(self, place: Place, folder: Path) -> None:
        super().__init__(place, folder)
        self.path = folder / "copy.duckdb"
        self.url = f"duckdb:{self.path}"

    def prepare(self) -> None:
        with duckdb.connect(str(self.path)) as connection:
            connection.execute((self.kit / "schema.sql").read_text())

    def step(self, folder: Path, manifest: dict[str, Any]) -> None:
        files = [("load", item) for item in manifest["files"]]
        files += [("load_deletes", manifest["deletes"])] if manifest.get("deletes") else []
        with duckdb.connect(str(self.path)) as connection:
            connection.execute((self.kit / manifest["entity"] / "begin.sql").read_text())
            for step, file in files:
                connection.execute(f"SET VARIABLE waybill_file = '{folder / file['path']}'")
                connection.execute((self.kit / manifest["entity"] / f"{step}.sql").read_text())
            connection.execute(f"SET VARIABLE delivery_id = '{manifest['delivery_id']}'")
            connection.execute(f"SET VARIABLE generation = {manifest['generation']}")
            connection.execute(f"SET VARIABLE sequence = {manifest['sequence']}")
            step = "full" if manifest["kind"] == "full" else "delta"
            try:
                connection.execute((self.kit / manifest["entity"] / f"{step}.sql").read_text())
            except duckdb.Error as error:
                raise RuntimeError(str(error)) from error


@pytest.fixture(params=[*DIALECTS, *FORMATS])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with closing(make_place(tmp_path / "place")) as place:
        place.write("catalog.yaml", catalog(user=USER, theme=THEME, everything=EVERYTHING))
        body = FORMATS.get(request.param) or {"csv": DIALECTS[request.param]}
        place.tenant(entityList=["user", "theme", "everything"], **body)
        place.sql(f"create table everything ({SQL_TYPES}, updated_at timestamptz)")
        yield place


@pytest.fixture(params=["postgres", "duckdb"])
def consumer(request: pytest.FixtureRequest, place: Place, tmp_path: Path) -> Consumer:
    if request.param == "duckdb":
        return DuckDB(place, tmp_path)
    return Postgres(place, tmp_path, request.getfixturevalue("postgres"))


def put(place: Place, number: int, days: int, **changed: Any) -> None:
    row = list(ROWS[number])
    for name, value in changed.items():
        row[list(TYPED).index(name)] = value
    with duckdb.connect(str(place.root / "warehouse.duckdb")) as connection:
        connection.execute("delete from everything where id = ?", [row[0]])
        connection.execute(f"insert into everything values ('acme', {', '.join('?' * 10)}, ?)", [*row, NOON + days * DAY])


@pytest.mark.parametrize(("place", "consumer"), RUN, indirect=True)
def test_a_copy_kept_by_the_kit_equals_the_source_on_each_of_six_days(place: Place, consumer: Consumer) -> None:
    for number in range(8):
        place.user(number, f"name {number}", NOON - 2 * DAY)
        place.user(number, f'theme; "{number}"\n,', NOON - 2 * DAY, table="theme")
    for number in (1, 2):
        put(place, number, -2)
    place.run(NOON)
    consumer.make()
    consumer.follow()

    # Changes, a tombstone, keys that are gone, and a table that comes whole every day.
    place.user(1, "", NOON)
    place.user(2, "Bob", NOON, deleted=NOON)
    place.user(40, "new", NOON)
    place.sql("delete from theme where id < 3; delete from everything where ratio is not null")
    put(place, 3, 0)
    place.run(NOON + DAY)
    consumer.follow()

    # Nothing but a key that is gone, and one that comes back.
    place.sql("delete from everything where whole is null")
    put(place, 1, 1, active=None)
    place.run(NOON + 2 * DAY)
    consumer.follow()

    # A full load begins a new generation; deltas follow it.
    place.sql('delete from "user" where id > 5')
    place.run(NOON + 3 * DAY, full_load=True)
    consumer.follow()
    put(place, 4, 3)
    place.user(9, "after", NOON + 3 * DAY)
    place.run(NOON + 4 * DAY)
    consumer.follow()

    # A new column: the kit is made again.
    place.sql('alter table "user" add column email varchar')
    place.sql(f"update \"user\" set email = 'a@b', updated_at = '{NOON + 4 * DAY}' where id = 9")
    columns: Any = USER["columns"]
    changed = {**USER, "columns": {**columns, "email": {"type": "string"}}}
    place.write("catalog.yaml", catalog(user=changed, theme=THEME, everything=EVERYTHING))
    consumer.columns["user"]["email"] = "string"
    place.run(NOON + 5 * DAY)
    consumer.make()
    consumer.follow()


@pytest.mark.parametrize("place", ["zstd"], indirect=True)
def test_a_delivery_that_comes_twice_or_out_of_order_is_refused_and_changes_nothing(place: Place, consumer: Consumer) -> None:
    place.user(1, "Ada", NOON - 2 * DAY)
    put(place, 1, -2)
    place.run(NOON)
    consumer.make()
    consumer.follow()
    for day in (1, 2):
        place.user(1, f"Ada {day}", NOON + (day - 1) * DAY)
        place.run(NOON + day * DAY)
    repairs.redeliver(
        place.installation(),
        next(delivery["delivery_id"] for _, delivery in place.manifests() if delivery["entity"] == "user"),
        actor="test",
    )
    of_user = sorted(
        (
            (delivery["sequence"], "redelivers" in delivery, path.parent, delivery)
            for path, delivery in place.manifests()
            if delivery["entity"] == "user"
        ),
        key=lambda entry: entry[:2],
    )
    first, again, second, third = (entry[2:] for entry in of_user)
    with pytest.raises(RuntimeError, match=r"a_delivery_follows_the_one_before_it|sequence: 2\" does not exist"):
        consumer.step(*third)
    consumer.step(*second)
    for item in (first, again, second):
        with pytest.raises(RuntimeError, match=r"a_delivery|(?i:duplicate)|sequence: -1\" does not exist"):
            consumer.step(*item)
    consumer.step(*third)
    consumer.applied |= {delivery["delivery_id"] for _, delivery in place.manifests() if delivery["entity"] == "user"}
    consumer.follow()
