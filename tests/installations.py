"""A small installation for tests: a DuckDB source, a folder or SFTP destination, a ledger, and a clock that the test moves."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import yaml
from sqlalchemy.engine import Dialect

from waybill.configuration.loading import Settings
from waybill.connection import Connection
from waybill.deliveries.running import Result, run
from waybill.errors import PermanentError
from waybill.installation import Installation
from waybill.ledger import Ledger
from waybill.registrations.applying import apply

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""libyaml, if PyYAML was built with it: it is ten times as fast."""
NOON = datetime(2026, 5, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)

USER = {
    "name": "user",
    "source": "warehouse",
    "relation": "user",
    "tenant_column": "tenant_id",
    "key": ["id"],
    "changes": {"mode": "lookback", "column": "updated_at", "lookback": "24h"},
    "deleted_column": "deleted_at",
    "columns": {
        "id": {"type": "integer", "description": "Id."},
        "name": {"type": "string", "description": "Name."},
        "updated_at": {"type": "timestamp"},
        "deleted_at": {"type": "timestamp"},
    },
}
THEME = {**USER, "name": "theme", "relation": "theme", "changes": {"mode": "full"}}


def catalog(**entities: dict[str, Any]) -> dict[str, Any]:
    return {
        "sources": {"warehouse": {"kind": "duckdb", "path": "warehouse.duckdb"}},
        "entities": entities or {"user": USER, "theme": THEME},
    }


@dataclass
class Place:
    """One installation below `root`. `installation()` makes a fresh one each time, as a new process would; only the ledger stays open.

    Every engine of SQLAlchemy's compiles each statement once, which takes a quarter of a small run.
    """

    root: Path
    connections: dict[str, Connection] = field(default_factory=dict)
    ledger_url: str = ""
    clock: datetime | None = None
    ledgers: dict[tuple[str, int], Ledger] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return self.root / "out"

    def write(self, name: str, content: Any) -> None:
        path = self.root / "config" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.dump(content, Dumper=DUMPER, sort_keys=False))

    def tenant(self, name: str = "acme", **body: Any) -> None:
        defaults = {"entityList": ["user", "theme"], "destination": {"kind": "folder", "root": "out"}}
        self.write(f"tenants/{name}.yaml", {**defaults, **body})

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with opened(self.root / "warehouse.duckdb") as connection:
            return connection.execute(statement).fetchall()

    def user(
        self, number: int, name: str, updated: datetime, *, deleted: datetime | None = None, tenant: str = "acme", table: str = "user"
    ) -> None:
        """Insert or replace one row."""
        with opened(self.root / "warehouse.duckdb") as connection:
            connection.execute(f'delete from "{table}" where id = ? and tenant_id = ?', [number, tenant])
            connection.execute(f'insert into "{table}" values (?, ?, ?, ?, ?)', [tenant, number, name, updated, deleted])

    def installation(self) -> Installation:
        environment = {"WAYBILL_CONFIG_DIR": str(self.root / "config")} | (
            {"WAYBILL_LEDGER_URL": self.ledger_url} if self.ledger_url else {}
        )
        settings = Settings.from_environment(environment)
        return Installation(settings, self._ledger(settings.ledger_url), self._connection, lambda: self.clock or datetime.now(UTC))

    def _ledger(self, url: str) -> Ledger:
        """The ledger that is there now: a file that was put in another's place is another one."""
        path = Path(url.removeprefix("sqlite:///"))
        with _one_at_a_time:
            ledger = self.ledgers.get((url, _inode(path))) or open_ledger(url)
            self.ledgers[url, _inode(path)] = ledger
        ledger.ready()
        return ledger

    def _connection(self, name: str) -> Connection:
        if name not in self.connections:
            raise PermanentError(f"there is no Airflow connection {name!r}", code="missing_connection")
        return self.connections[name]

    def run(self, until: datetime, tenant: str = "acme", **options: Any) -> list[Result]:
        installation = self.installation()
        apply(installation, actor="test")
        return run(installation, tenant, until, **options)

    def close(self) -> None:
        for ledger in self.ledgers.values():
            ledger.close()

    def manifests(self, tenant: str = "acme") -> Iterator[tuple[Path, dict[str, Any]]]:
        for path in sorted((self.out / "exports" / tenant).rglob("*.manifest.json")):
            yield path, json.loads(path.read_text())

    def files(self) -> list[str]:
        """Every path below the destination, hidden ones too."""
        return sorted(str(path.relative_to(self.out)) for path in self.out.rglob("*") if path.is_file())

    def rows(self, entity: str = "user", tenant: str = "acme") -> list[tuple[str, ...]]:
        """Every delivered record of an entity in delivery order, parsed by DuckDB."""
        found: list[tuple[str, ...]] = []
        parts = sorted(
            (delivery["generation"], delivery["sequence"], path, delivery)
            for path, delivery in self.manifests(tenant)
            if delivery["entity"] == entity
        )
        for _, _, path, value in parts:
            for file in value["files"]:
                found += read_csv(path.parent / file["path"], value)
        return found


def read_csv(path: Path, manifest: dict[str, Any]) -> list[tuple[str, ...]]:
    """A file's records as text, NULL as None, by a reader that is not ours."""
    names = {column["name"]: "VARCHAR" for column in manifest["columns"]}
    delimiter = manifest["csv"]["delimiter"]
    options = "header=true, quote='\"', escape='\"', auto_detect=false, strict_mode=true, allow_quoted_nulls=false"
    query = f"select * from read_csv(?, delim=?, columns=?, {options})"
    return duckdb.execute(query, [str(path), delimiter, names]).fetchall()


@contextmanager
def opened(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB file for the length of the block. One engine of the process serves every file: starting one takes longer than a few rows."""
    with _one_at_a_time, _engine().cursor() as connection:
        connection.execute(f"attach '{path}' as warehouse")
        try:
            connection.execute("use warehouse")
            yield connection
        finally:
            connection.execute("use memory")
            connection.execute("detach warehouse")


_one_at_a_time = threading.Lock()


@cache
def _engine() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


class _Compiled(Ledger):
    """A ledger in SQLite. All of them share what SQLAlchemy compiles of statements, which it keeps for each dialect it has made."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        for engine in (self.engine, self._reading):
            engine.dialect = _migrated()[1]
            engine.update_execution_options(compiled_cache=_COMPILED)


_COMPILED: dict[Any, Any] = {}


def open_ledger(url: str) -> Ledger:
    """An empty SQLite ledger begins as a copy of one that was migrated before, which is what takes the time."""
    ledger = _Compiled(url) if url.startswith("sqlite") else Ledger(url)
    if ledger.engine.dialect.name == "sqlite":
        path = Path(str(ledger.url.database))
        if path.stat().st_size == 0:
            path.write_bytes(_migrated()[0])
    return ledger


def _inode(path: Path) -> int:
    return path.stat().st_ino if path.exists() else 0


@cache
def _migrated() -> tuple[bytes, Dialect]:
    """The file of an empty ledger that has every migration, and the dialect that has talked to it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        ledger = Ledger(f"sqlite:///{path}")
        ledger.ready()
        ledger.close()
        return path.read_bytes(), ledger.engine.dialect


@contextmanager
def vacant_place(root: Path) -> Iterator[Place]:
    """An installation at noon that nobody is registered in. Calls may name any destination, as a folder is a handy one in a test."""
    place = make_place(root, clock=NOON)
    place.write("policy.yaml", {"api_destinations": "any"})
    (root / "config/tenants/acme.yaml").unlink()
    yield place
    place.close()


def make_place(root: Path, **fields: Any) -> Place:
    place = replace(Place(root), **fields)
    place.write("catalog.yaml", catalog())
    place.tenant()
    (root / "warehouse.duckdb").write_bytes(_warehouse())
    return place


@cache
def _warehouse() -> bytes:
    """A DuckDB file with both tables, empty."""
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        columns = "tenant_id varchar, id bigint, name varchar, updated_at timestamptz, deleted_at timestamptz"
        for table in ("user", "theme"):
            place.sql(f'create table "{table}" ({columns})')
        return (place.root / "warehouse.duckdb").read_bytes()
