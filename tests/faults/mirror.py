"""A source that changes in every way a source may, and a consumer's copy that is compared with it after each delivery.

`World` holds what the source holds, row by row, and writes it into a real one. `Mirror` runs `waybill` and `waybill-consumer` as their
users do, and tells where the copy differs from what the source held when the delivery was read. Everything follows from one seed.
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import duckdb
import psycopg

from tests.consumer.copies import well
from tests.faults.live import MIGRATION
from tests.faults.processes import Launcher
from tests.installations import Place
from tests.servers.mariadb import MariaDatabase
from tests.servers.postgres import Database
from tests.servers.sshd import SftpAccess
from waybill.deliveries import repairs
from waybill.deliveries.running import run
from waybill.errors import WaybillError
from waybill.registrations.applying import apply

DAY = timedelta(days=1)
FAR = datetime(2100, 1, 1, tzinfo=UTC)
TENANTS = ("acme", "globex", "initech")
LOOK_BACK = timedelta(days=3)
NAMES = ("", "plain", 'with "quotes"', "two\nlines", "comma, semicolon; tab\t", "\r", "Ä ß 漢 🚀", "  edges  ", "NULL", "\\N", "=1+1", None)

Values = dict[str, Any]
Statement = tuple[str, Sequence[Any]]
Texts = tuple[str | None, ...]

COLUMNS = {
    "id": "integer",
    "code": "string",
    "name": "string",
    "amount": "decimal",
    "seen": "date",
    "flag": "boolean",
    "updated_at": "timestamp",
    "deleted_at": "timestamp",
}


def code_of(number: int) -> str:
    """A text key by number: some differ in case, in accents, in blanks or in quotes only."""
    return ("a{}", "A{}", "á{}", "a{} ", 'a"{}"', "a,{}", "a\n{}", "'{}")[number % 8].format(number // 8)


class Source(Protocol):
    """A real source: what the catalog says of it, and how rows get into it."""

    spec: dict[str, Any]
    env: dict[str, str]
    modes: tuple[str, ...]

    def make(self) -> None: ...
    def write(self, statements: Sequence[Statement]) -> None: ...
    def rebuild(self, dice: random.Random) -> None:
        """Put the same rows into another table of the same name, as jobs that swap, rewrite or reload do."""


LAG = 9
"""How far below the highest id of `event` a row may still be committed."""
_TABLE = """create table {name} (tenant_id {text}, id bigint, code {text}, name {text}, amount {decimal}, seen date, flag boolean,
    updated_at {time}, deleted_at {time}, primary key (tenant_id, id))"""
TABLES = ("thing", "event")
"""Rows of `thing` change in every way. To `event` rows are added, with a higher id than before or one that was left out, and purged."""


@dataclass
class PostgresBooks:
    database: Database
    pool: Database | None = None
    """What the product connects to in its place."""
    modes: tuple[str, ...] = ("snapshot", "lookback", "full", "append")

    def __post_init__(self) -> None:
        shown = self.pool or self.database
        at = {"conn_type": "postgres", "host": shown.host, "port": shown.port, "login": shown.user}
        self.spec: dict[str, Any] = {"kind": "postgres", "connection": "books", "statement_timeout": "60s"}
        self.env = {"AIRFLOW_CONN_BOOKS": json.dumps({**at, "schema": self.database.name})}

    def make(self) -> None:
        for name in TABLES:
            self.database.psql(_TABLE.format(name=name, text="text", decimal="numeric(12,2)", time="timestamptz"))
        self._stamped()

    def _stamped(self) -> None:
        script = MIGRATION.read_text().replace(":'table'", "'thing'").replace(":table", "thing").replace(":'tenant'", "'tenant_id'")
        self.database.psql("".join(line for line in script.splitlines(True) if not line.startswith(("\\if", "\\set"))))

    def write(self, statements: Sequence[Statement]) -> None:
        with psycopg.connect(self.database.dsn) as connection:
            for text, values in statements:
                connection.execute(text.replace("?", "%s").encode(), values)

    def rebuild(self, dice: random.Random) -> None:
        how = dice.choice(
            [
                "vacuum full thing",
                "analyze thing",
                "cluster thing using thing_pkey",
                "alter table thing alter amount type numeric(14,2)",
                "alter table thing alter amount type numeric(12,2)",
                "begin; create temp table kept on commit drop as table thing; truncate thing; insert into thing table kept; commit",
                "begin; alter table thing add extra int default 7; alter table thing drop extra; commit",
            ]
        )
        self.database.psql(how)


@dataclass
class DuckDBBooks:
    path: Path
    modes: tuple[str, ...] = ("lookback", "full", "append")
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.spec: dict[str, Any] = {"kind": "duckdb", "path": str(self.path)}

    def make(self) -> None:
        with duckdb.connect(str(self.path)) as connection:
            for name in TABLES:
                columns = _TABLE.format(name=name, text="varchar", decimal="decimal(12,2)", time="timestamptz")
                connection.execute(columns.replace(", primary key (tenant_id, id)", ""))

    def write(self, statements: Sequence[Statement]) -> None:
        with duckdb.connect(str(self.path)) as connection:
            for text, values in statements:
                connection.execute(text, list(values))

    def rebuild(self, dice: random.Random) -> None:
        how = dice.choice(["order by id desc", "order by random()", ""])
        swap = "create table other as select * from thing " + how, "drop table thing", "alter table other rename to thing"
        self.write([(text, ()) for text in swap])


@dataclass
class LakeBooks(DuckDBBooks):
    """Parquet: written anew after every change, in files that are laid out otherwise each time."""

    dice: random.Random = field(default_factory=lambda: random.Random(1))

    def __post_init__(self) -> None:
        self.folder = self.path.parent / "lake"
        self.spec = {"kind": "lake", "path": str(self.folder)}

    def make(self) -> None:
        super().make()
        self._write_files()

    def write(self, statements: Sequence[Statement]) -> None:
        super().write(statements)
        self._write_files()

    def _write_files(self) -> None:
        for name in TABLES:
            self._write_files_of(name)

    def _write_files_of(self, name: str) -> None:
        new = self.folder / "_new"
        new.mkdir(parents=True, exist_ok=True)
        parts = self.dice.randrange(1, 4)
        with duckdb.connect(str(self.path)) as connection:
            for number in range(parts):
                target = new / f"{self.dice.randrange(10**9)} [{number}].parquet"
                connection.execute(f"copy (select * from {name} where hash(id) % {parts} = {number}) to '{target}' (format parquet)")
        (self.folder / name).mkdir(exist_ok=True)
        old = list((self.folder / name).iterdir())
        for path in new.iterdir():
            path.rename(self.folder / name / path.name)
        for path in old:
            path.unlink()

    def rebuild(self, dice: random.Random) -> None:
        self._write_files()


@dataclass
class SqliteBooks:
    path: Path
    modes: tuple[str, ...] = ("lookback", "full", "append")

    def __post_init__(self) -> None:
        self.spec: dict[str, Any] = {"kind": "dbapi", "connection": "books"}
        self.env = {"AIRFLOW_CONN_BOOKS": json.dumps({"conn_type": "sqlite", "host": str(self.path)})}

    def make(self) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("pragma journal_mode = wal")
            for name in TABLES:
                connection.execute(_TABLE.format(name=name, text="text", decimal="decimal(12,2)", time="timestamp"))

    def write(self, statements: Sequence[Statement]) -> None:
        def plain(value: Any) -> Any:
            if isinstance(value, datetime):
                return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ")
            return str(value) if isinstance(value, date | Decimal) else value

        with closing(sqlite3.connect(self.path)) as connection, connection:
            for text, values in statements:
                connection.execute(text, [plain(value) for value in values])

    def rebuild(self, dice: random.Random) -> None:
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("vacuum")


@dataclass
class MariaBooks:
    """Read in this process, through `connect`: Airflow's own hook for MySQL needs a provider with a library of its own."""

    database: MariaDatabase
    modes: tuple[str, ...] = ("lookback", "full", "append")

    def __post_init__(self) -> None:
        self.spec: dict[str, Any] = {"kind": "dbapi", "connection": "books"}
        self.env: dict[str, str] = {}

    def connect(self) -> Any:
        return self.database.connect()

    def make(self) -> None:
        tables = [_TABLE.format(name=name, text="varchar(40)", decimal="decimal(12,2)", time="datetime(6)") for name in TABLES]
        self.write([(f"{columns} engine = InnoDB", ()) for columns in tables])

    def write(self, statements: Sequence[Statement]) -> None:
        def plain(value: Any) -> Any:
            return value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) else value

        with closing(self.connect()) as connection, connection.cursor() as cursor:
            for text, values in statements:
                cursor.execute(text.replace("?", "%s"), [plain(value) for value in values])
            connection.commit()

    def rebuild(self, dice: random.Random) -> None:
        how = dice.choice(["alter table thing engine = InnoDB", "alter table thing order by id desc", "analyze table thing"])
        self.write([(how, ())])


class World:
    """The rows, by tenant and id, and everything they ever were. `now` is the story's time."""

    def __init__(self, source: Source, dice: random.Random, now: datetime, *, late: bool, silent: bool) -> None:
        self.source, self.dice, self.now = source, dice, now
        self.late, self.silent, self.marks_alone = late, silent, False
        self.rows: dict[tuple[str, int], Values] = {}
        self.was: dict[tuple[str, int], list[Values]] = {}
        self.events: dict[tuple[str, int], Values] = {}
        self.next_event = 1
        self.left_out: list[int] = []
        self.next_id = 1
        self.since = now - DAY
        """No stamp lies before it, but for what is committed late."""
        self._pending: list[Statement] = []

    def some(self, count: int) -> None:
        """So many changes, in one transaction."""
        kinds = [self.insert] * 5 + [self.update] * 6 + [self.delete] * 3 + [self.mark, self.move, self.renumber, self.swap_names]
        kinds += [self.come_back, self.ahead] + ([self.move_silently, self.restore] if self.silent else [])
        kinds += [self.happen] * 4 + [self.purge]
        for _ in range(count):
            self.dice.choice(kinds)()
        self.flush()
        if self.dice.random() < 0.3:
            self.source.rebuild(self.dice)

    def flush(self) -> None:
        self.source.write(self._pending)
        self._pending = []

    def stamp(self) -> datetime:
        span = (self.now - self.since).total_seconds()
        at = self.since + timedelta(seconds=self.dice.random() * span)
        if self.late and self.dice.random() < 0.3:
            at -= self.dice.random() * (LOOK_BACK - DAY / 2)
        return at.replace(microsecond=self.dice.choice([0, 1, 999_999]))

    def some_row(self) -> tuple[str, int] | None:
        return self.dice.choice(sorted(self.rows)) if self.rows else None

    def _values(self, number: int) -> Values:
        dice = self.dice
        return {
            "id": number,
            "code": code_of(number),
            "name": dice.choice(NAMES),
            "amount": dice.choice([None, Decimal(dice.randrange(-(10**6), 10**6)) / 100]),
            "seen": dice.choice([None, date(1, 1, 1), date(2024, 2, 29), date(9999, 12, 31)]),
            "flag": dice.choice([None, True, False]),
            "updated_at": self.stamp(),
            "deleted_at": None,
        }

    def _put(self, at: tuple[str, int], values: Values) -> None:
        new = at not in self.rows
        self.rows[at] = values
        self.was.setdefault(at, []).append(values)
        names = list(values)
        if new:
            text = f"insert into thing (tenant_id, {', '.join(names)}) values (?, {', '.join('?' * len(names))})"
            self._pending.append((text, [at[0], *values.values()]))
        else:
            text = f"update thing set {', '.join(f'{name} = ?' for name in names)} where tenant_id = ? and id = ?"
            self._pending.append((text, [*values.values(), *at]))

    def _drop(self, at: tuple[str, int]) -> Values:
        self._pending.append(("delete from thing where tenant_id = ? and id = ?", at))
        return self.rows.pop(at)

    def happen(self) -> None:
        """An event is added: with the next id, or late, with one that was left out."""
        late = [number for number in self.left_out if number > self.next_event - LAG]
        if late and self.dice.random() < 0.3:
            number = self.dice.choice(late)
            self.left_out.remove(number)
        else:
            if self.dice.random() < 0.3:
                self.left_out.append(self.next_event)
                self.next_event += 1
            number, self.next_event = self.next_event, self.next_event + 1
        at, values = (self.dice.choice(TENANTS), number), self._values(number)
        self.events[at] = values
        text = f"insert into event (tenant_id, {', '.join(values)}) values (?, {', '.join('?' * len(values))})"
        self._pending.append((text, [at[0], *values.values()]))

    def purge(self) -> None:
        """An event is removed for good."""
        if self.events:
            at = self.dice.choice(sorted(self.events))
            del self.events[at]
            self._pending.append(("delete from event where tenant_id = ? and id = ?", at))

    def insert(self) -> None:
        number = self.next_id if self.dice.random() < 0.8 else self.dice.randrange(1, self.next_id + 1)
        at = (self.dice.choice(TENANTS), number)
        self.next_id = max(self.next_id, number) + 1
        if at not in self.rows:
            self._put(at, self._values(number))

    def update(self) -> None:
        if at := self.some_row():
            self._put(at, self._values(at[1]))

    def delete(self) -> None:
        if at := self.some_row():
            self._drop(at)

    def mark(self) -> None:
        """Deleted by its column; where every entity looks at that, without a touch of the change column."""
        if (at := self.some_row()) and self.rows[at]["deleted_at"] is None:
            touched = {} if self.marks_alone else {"updated_at": self.stamp()}
            self._put(at, {**self.rows[at], **touched, "deleted_at": self.stamp()})

    def move(self) -> None:
        """To another tenant, with all it is."""
        if (at := self.some_row()) and (to := (self.dice.choice(TENANTS), at[1])) not in self.rows:
            self._put(to, {**self._drop(at), "updated_at": self.stamp()})

    def move_silently(self) -> None:
        if (at := self.some_row()) and (to := (self.dice.choice(TENANTS), at[1])) not in self.rows:
            self._put(to, self._drop(at))

    def renumber(self) -> None:
        """A key is changed; the row stays."""
        if at := self.some_row():
            values = self._drop(at)
            self._put((at[0], self.next_id), {**values, "id": self.next_id, "code": code_of(self.next_id), "updated_at": self.stamp()})
            self.next_id += 1

    def swap_names(self) -> None:
        """Two rows exchange what they hold."""
        if (single := self.some_row()) and (two := self.some_row()) and single != two:
            a, b = self.rows[single]["name"], self.rows[two]["name"]
            self._put(single, {**self.rows[single], "name": b, "updated_at": self.stamp()})
            self._put(two, {**self.rows[two], "name": a, "updated_at": self.stamp()})

    def come_back(self) -> None:
        """A key that was there once, with other values."""
        gone = sorted(self.was.keys() - self.rows.keys())
        if gone:
            at = self.dice.choice(gone)
            self._put(at, self._values(at[1]))

    def restore(self) -> None:
        """A row as it was, its old change time included."""
        gone = sorted(self.was.keys() - self.rows.keys())
        if gone:
            at = self.dice.choice(gone)
            self._put(at, self.was[at][-1])

    def ahead(self) -> None:
        """A change time that no window reaches, or a deletion that is yet to come."""
        if at := self.some_row():
            name = self.dice.choice(["updated_at", "deleted_at"])
            values = {**self._values(at[1]), name: FAR + timedelta(seconds=self.dice.randrange(10**6))}
            self._put(at, values)


def text(kind: str, value: Any) -> str | None:
    """A value as its file spells it, from whatever a database gave."""
    if value is None:
        return None
    match kind:
        case "timestamp":
            at = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
            at = at if at.tzinfo else at.replace(tzinfo=UTC)
            return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
        case "boolean":
            return str(bool(value)).lower()
        case "decimal":
            return f"{Decimal(value):.2f}"
    return str(value)


@dataclass
class Mirror:
    """An installation over a world: three tenants, one entity for each way to find changes, and a copy for each tenant."""

    root: Path
    launcher: Launcher
    source: Source
    seed: int
    server: SftpAccess | None = None
    """Where deliveries go; a folder otherwise."""
    trouble: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    compared: int = 0

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.place = Place(self.root)
        self.env = dict(self.source.env)
        self.to: dict[str, str] = {"kind": "folder", "root": "out"}
        if self.server:
            extra = {"key_file": str(self.server.private_key), "host_key": self.server.host_key}
            at = {"conn_type": "sftp", "host": self.server.host, "port": self.server.port, "login": self.server.login, "extra": extra}
            self.env["AIRFLOW_CONN_TENANTS_SFTP"] = json.dumps(at)
            self.to = {"kind": "sftp", "connection": "tenants_sftp", "root": self.server.remote_root}
            self.place.out.symlink_to(self.server.root)
        late, silent = self.dice.random() < 0.6, self.dice.random() < 0.5
        begin = datetime(2026, self.dice.choice([2, 3, 10]), 24, 12, tzinfo=UTC)
        self.world = World(self.source, self.dice, begin, late=late, silent=silent)
        self.entities = self._entities(late, silent)
        by_time = [item for item in self.entities.values() if item["changes"]["mode"] in ("lookback", "horizon")]
        self.world.marks_alone = all("deleted_column" in item for item in by_time)
        self.tenants = {name: self._tenant() for name in TENANTS}
        self.seen: set[str] = set()
        self.fresh: dict[str, set[str]] = {}
        self.source.make()
        self.world.some(30)
        self._configure()

    def _entities(self, late: bool, silent: bool) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        marks = self.dice.random() < 0.7
        modes = [*self.source.modes, *(["horizon"] if "snapshot" in self.source.modes and not late and not silent else [])]
        for mode in modes:
            changes = {
                "snapshot": {"mode": "snapshot", "column": "waybill_xid"},
                "lookback": {"mode": "lookback", "column": "updated_at", "lookback": "3d" if late else "0s"},
                "horizon": {"mode": "horizon", "column": "updated_at"},
                "append": {"mode": "append", "column": "id", "lag": LAG},
                "full": {"mode": "full"},
            }[mode]
            for compares in (True, False):
                if (mode == "full" and compares) or (silent and not compares and mode not in ("full", "append")):
                    continue
                table = "event" if mode == "append" else "thing"
                found[f"{mode}_{'compared' if compares else 'plain'}"] = {
                    "source": "books",
                    "relation": f"{table}/*.parquet" if self.source.spec["kind"] == "lake" else table,
                    "tenant_column": "tenant_id",
                    "key": self.dice.choice([["id"], ["code"], ["code", "id"]]),
                    "changes": changes,
                    "deletes": "compare" if compares else "never",
                    **({"deleted_column": "deleted_at"} if marks and table == "thing" and mode != "full" else {}),
                    **({"time_column": "updated_at"} if table == "event" else {}),
                    **({"streams": 3} if self.source.spec["kind"] in ("postgres", "lake") and self.dice.random() < 0.3 else {}),
                    **({"source_rows": True} if self.dice.random() < 0.5 else {}),
                    "columns": {name: {"type": kind} for name, kind in COLUMNS.items()},
                }
        return found

    def _tenant(self) -> dict[str, Any]:
        dice = self.dice
        form = dice.choice(["csv", "csv", "csv", "ndjson", "parquet"])
        csv: dict[str, Any] = {"compression": dice.choice(["none", "gzip", "zstd"]), "delimiter": dice.choice([",", ";", "tab"])}
        if dice.random() < 0.5:
            csv["max_rows_per_file"] = dice.randrange(1, 9)
        body: dict[str, Any] = {
            "entityList": list(self.entities),
            "frequency": dice.choice(["daily", "daily", "weekly", "monthly"]),
            "timezone": dice.choice(["UTC", "Europe/Berlin", "America/New_York", "Pacific/Kiritimati"]),
            "destination": self.to,
            "csv": csv,
            "files": {"format": form},
            "where": {},
            "rename": {},
            "columns": {},
        }
        for entity, spec in self.entities.items():
            if dice.random() < 0.3:
                # a row that no longer meets a condition is told where keys are compared only
                body["where"][entity] = [{"column": "flag", "op": "is not null"}] if spec["deletes"] == "compare" else []
            if dice.random() < 0.3:
                body["rename"][entity] = {"name": "label", "id": "number"}
            if dice.random() < 0.3:
                body["columns"][entity] = [*spec["key"], *(name for name in ("amount", "name", "deleted_at") if dice.random() < 0.8)]
                body["rename"].pop(entity, None)
        return body

    def _configure(self) -> None:
        self.place.write("catalog.yaml", {"sources": {"books": self.source.spec}, "entities": self.entities})
        for name, body in self.tenants.items():
            self.place.write(f"tenants/{name}.yaml", body)

    def waybill(self, *argv: str) -> str:
        if isinstance(self.source, MariaBooks):
            self.trouble += in_process(self.place, self.source, *argv)
            return ""
        done = self.launcher.run(self.root, *argv, env=self.env)
        if done.status:
            self.trouble.append(f"waybill {' '.join(argv)} ended with {done.status}: {done.said.strip()[-600:]}")
        return done.out

    def steps(self, count: int) -> Iterator[int]:
        """Live through so many days, each compared; yields the number of comparisons so far."""
        for number in range(count):
            days = self.dice.choice([1, 1, 1, 1, 2, 3, 8]) if number else 0
            self.world.since, self.world.now = self.world.now, self.world.now + days * DAY
            if days:
                self.world.some(self.dice.randrange(0, 25))
            if number:
                self._change_mind()
            for tenant in TENANTS:
                self.deliver(tenant, *(["--full-load"] if number and self.dice.random() < 0.08 else []))
                self.compare(tenant)
                self._repair(tenant)
            yield self.compared
            if self.trouble:
                return

    def _change_mind(self) -> None:
        """Sometimes the operator changes what a tenant gets."""
        tenant, dice = self.dice.choice(TENANTS), self.dice
        body = self.tenants[tenant]
        entity = dice.choice(list(self.entities))
        match dice.randrange(14):
            case 0:
                body["frequency"] = dice.choice(["daily", "weekly", "monthly"])
            case 1:
                body["csv"] = {**body["csv"], "compression": dice.choice(["none", "gzip", "zstd"])}
                body["csv"].pop("max_rows_per_file", None)
            case 2:
                body["files"] = {"format": dice.choice(["csv", "ndjson", "parquet"])}
            case 3 if entity not in body["columns"]:
                body["rename"][entity] = {"name": dice.choice(["label", "title"])}
            case 4:
                body["timezone"] = dice.choice(["UTC", "Europe/Berlin", "America/New_York", "Pacific/Kiritimati"])
            case 5 if self.entities[entity]["deletes"] == "compare":
                body["where"][entity] = dice.choice([[], [{"column": "flag", "op": "is not null"}]])
            case _:
                return
        self.done.append(f"{self.world.now:%m-%d}: {tenant} is registered otherwise")
        self._configure()

    def deliver(self, tenant: str, *options: str) -> None:
        argv = ["run", tenant, "--until", f"{self.world.now:%Y-%m-%dT%H:%M:%S}Z", *options]
        self.done.append(f"{self.world.now:%m-%d}: waybill {' '.join(argv)}")
        self.waybill(*argv)

    def _repair(self, tenant: str) -> None:
        """Sometimes something is delivered again, which changes nothing for a copy that is up to date."""
        found = [manifest for manifest in self.manifests(tenant) if manifest["kind"] != "backfill" and "redelivers" not in manifest]
        if not found or self.dice.random() > 0.25:
            return
        chosen = self.dice.choice(found)
        before = self._held(tenant, chosen["entity"])
        if self.dice.random() < 0.5:
            self.done.append(f"{self.world.now:%m-%d}: redeliver {chosen['entity']} {chosen['generation']}.{chosen['sequence']}")
            self.waybill("redeliver", chosen["delivery_id"])
        elif chosen["window"]["mode"] in ("lookback", "horizon", "append"):
            newest = max((o for o in found if o["entity"] == chosen["entity"]), key=lambda o: (o["generation"], o["sequence"]))
            end = datetime.fromisoformat(newest["window"]["to"])
            start = end - self.dice.choice([1, 3, 9]) * DAY
            self.done.append(f"{self.world.now:%m-%d}: backfill {chosen['entity']} from {start}")
            self.waybill("backfill", tenant, chosen["entity"], "--from", start.isoformat(), "--to", end.isoformat())
        else:
            return
        self.compare(tenant, repaired=chosen["entity"])
        if "redeliver" in self.done[-1] and self._held(tenant, chosen["entity"]) != before:
            self.trouble.append(
                f"a redelivery of {chosen['entity']} {chosen['generation']}.{chosen['sequence']} changed the copy of {tenant}"
            )

    def _held(self, tenant: str, entity: str) -> list[Any]:
        with closing(sqlite3.connect(self.root / f"{tenant}.sqlite")) as connection:
            return sorted(connection.execute(f'select * from "{entity}"').fetchall(), key=repr)

    def manifests(self, tenant: str) -> list[dict[str, Any]]:
        folder = self.place.out / "exports" / tenant
        return [json.loads(path.read_text()) for path in sorted(folder.rglob("*.manifest.json"))]

    def compare(self, tenant: str, *, repaired: str = "") -> None:
        """Load what came, and compare every entity that came with the source; a repaired one if its own delivery came with the last run."""
        folder, held = self.place.out / "exports" / tenant, self.root / "held" / tenant
        if not folder.exists():
            return
        well("pull", folder, held)
        url = f"sqlite:{self.root}/{tenant}.sqlite"
        well("load", held, "--to", url)
        new = [manifest for manifest in self.manifests(tenant) if manifest["delivery_id"] not in self.seen]
        self.seen |= {delivery["delivery_id"] for delivery in new}
        came = {delivery["entity"] for delivery in new}
        if not repaired:
            self.fresh[tenant] = came
        for entity in sorted(came & self.fresh[tenant]):
            of_it = [manifest for manifest in self.manifests(tenant) if manifest["entity"] == entity]
            chain = [item for item in of_it if item["kind"] != "backfill" and "redelivers" not in item]
            newest = max(chain, key=lambda delivery: (delivery["generation"], delivery["sequence"]))
            found = self._differences(tenant, entity, newest, Path(f"{self.root}/{tenant}.sqlite"))
            self.trouble += [f"{self.world.now:%m-%d} {tenant} {entity} ({newest['kind']} {newest['sequence']}): {what}" for what in found]
            self.compared += 1

    def _differences(self, tenant: str, entity: str, newest: Mapping[str, Any], path: Path) -> Iterator[str]:
        kinds = {column.get("source_name", column["name"]): column["type"] for column in newest["columns"]}
        delivered = [column["name"] for column in newest["columns"]]
        with closing(sqlite3.connect(path)) as connection:
            listed = ", ".join(f'"{name}"' for name in delivered)
            records = connection.execute(f'select {listed} from "{entity}"').fetchall()
        at = [list(kinds).index(name) for name in self.entities[entity]["key"]]
        copy = {}
        for record in records:
            texts = tuple(text(kind, value) for kind, value in zip(kinds.values(), record, strict=True))
            key = tuple(texts[item] for item in at)
            if key in copy:
                yield f"the copy holds {key} twice"
            copy[key] = texts
        wanted = {name: self._of(values, kinds, entity) for name, values in self._source(tenant, entity)}
        boundary = datetime.fromisoformat(newest["window"]["to"])
        everything = newest["kind"] == "full" or newest["window"]["mode"] in ("snapshot", "full", "append")
        for values, (key, texts) in wanted.values():
            position = max(values["updated_at"], values["deleted_at"] or values["updated_at"]) if values["deleted_at"] != FAR else FAR
            if self.entities[entity].get("deleted_column") is None or (values["deleted_at"] and values["deleted_at"] >= FAR):
                position = values["updated_at"]
            if everything or position < boundary or position >= FAR:
                if key not in copy:
                    yield f"{key} is missing: {texts}, position {position}, boundary {boundary}"
                elif copy[key] != texts:
                    yield f"{key} is {copy[key]} in the copy, {texts} in the source, position {position}, boundary {boundary}"
        compares = self.entities[entity]["deletes"] == "compare"
        ghosts = copy.keys() - {key for _, (key, _) in wanted.values()}
        if ghosts and (compares or newest["kind"] == "full"):
            yield f"{len(ghosts)} rows are in the copy and not in the source, as {min(ghosts)}"
        if newest.get("source_rows") not in (None, len(wanted)):
            yield f"source_rows is {newest['source_rows']}, the source holds {len(wanted)}"

    def _source(self, tenant: str, entity: str) -> Iterable[tuple[tuple[str, int], Values]]:
        conditions = self.tenants[tenant]["where"].get(entity)
        is_of_events = self.entities[entity]["relation"].startswith("event")
        for at, values in (self.world.events if is_of_events else self.world.rows).items():
            if at[0] == tenant and (not conditions or values["flag"] is not None):
                yield at, values

    def _of(self, values: Values, kinds: Mapping[str, str], entity: str) -> tuple[Values, tuple[Texts, Texts]]:
        texts = {name: text(COLUMNS[name], value) for name, value in values.items()}
        return values, (tuple(texts[name] for name in self.entities[entity]["key"]), tuple(texts[name] for name in kinds))


def in_process(place: Place, source: MariaBooks, command: str, *argv: str) -> Iterator[str]:
    """Do what a command does; yields what goes wrong."""
    installation = replace(place.installation(), connect_db=lambda name: source.connect())
    apply(installation, actor="test")
    try:
        match command, argv:
            case "run", (tenant, "--until", until, *more):
                done = run(installation, tenant, datetime.fromisoformat(until), full_load=bool(more))
                yield from [str(result.error) for result in done if result.error]
            case "redeliver", (delivery_id,):
                repairs.redeliver(installation, delivery_id, actor="test")
            case "backfill", (tenant, entity, "--from", start, "--to", end):
                repairs.backfill(installation, tenant, entity, *map(datetime.fromisoformat, (start, end)), actor="test")
            case _:
                raise ValueError(command, argv)
    except WaybillError as error:
        yield f"{command} {argv}: {error}"


def books(kind: str, folder: Path, server: Callable[[str], Any]) -> Source:
    """A source of a kind. `server` returns what is named: a database of PostgreSQL or MariaDB."""
    match kind:
        case "postgres":
            return PostgresBooks(server("postgres"))
        case "pgbouncer":
            return PostgresBooks(server("postgres"), server("pooled"))
        case "mariadb":
            return MariaBooks(server("mariadb"))
        case "duckdb":
            return DuckDBBooks(folder / "books.duckdb")
        case "lake":
            return LakeBooks(folder / "books.duckdb")
    return SqliteBooks(folder / "books.sqlite")
