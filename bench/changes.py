"""Versions lost and repeated per change mode, while twelve writers hold transactions open for up to two seconds.

`python -m bench.changes [--quick]` prints one line per mode: mode | versions | lost | repeated | goal | met. The naive watermark
(`updated_at` greater than the greatest seen so far), with and without a lag of one second, stands beside them as the contrast.
"""

from __future__ import annotations

import argparse
import csv
import io
import random
import subprocess
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import psycopg

from tests.servers.postgres import Database, serve_postgres
from tests.servers.process import program
from waybill.configuration.catalog import Entity, PostgresSource
from waybill.configuration.selection import ChangeSpan, FileStyle, Selection
from waybill.connection import Connection
from waybill.deliveries.extraction.columns import as_json
from waybill.deliveries.extraction.row_versions import to_remember, unrepeated
from waybill.ledger.streams import Stream
from waybill.sources.postgres.source import Postgres

MIGRATION = Path(__file__).parents[1] / "examples/postgres_snapshot_mode.sql"
WRITERS, HOLD, PAUSE = 12, 2.0, 0.5
MODES = {"snapshot": "waybill_xid", "horizon": "updated_at", "lookback": "updated_at"}
TABLE = """create table events (id bigint primary key, tenant_id text not null, version int not null,
    updated_at timestamptz not null default clock_timestamp())"""
Version = tuple[str, str]


class Reader(Protocol):
    """Reads what changed since it read last."""

    name: str
    goal: int | None
    delivered: Counter[Version]

    def read(self, database: Database) -> None: ...


@dataclass
class Mode:
    """A change mode of the product: `position` and `known` are what its ledger keeps between deliveries."""

    name: str
    goal: int | None = 0
    delivered: Counter[Version] = field(default_factory=Counter)
    position: Any = None
    known: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        columns = as_json(self.entity.columns, {}, {})
        self.stream = Stream(1, "acme", "events", 1, True, "", 0, None, None, None, 1, columns, None, False, datetime.now(UTC), None)

    @property
    def entity(self) -> Entity:
        changes = {"mode": self.name, "column": MODES[self.name], "lookback": "1h"}
        columns = {"id": {"type": "integer"}, "version": {"type": "integer"}}
        names = {"id": "events", "source": "pg", "relation": "events", "tenant_column": "tenant_id", "key": "id"}
        return Entity.model_validate({**names, "changes": changes, "columns": columns})

    def read(self, database: Database) -> None:
        target = Connection("pg", "postgres", database.host, database.port, database.user, database.name)
        entity = self.entity
        with Postgres(PostgresSource(kind="postgres", connection="pg"), lambda _: target).snapshot() as snapshot:
            extent = snapshot.extent(entity, "acme", self.position, snapshot.taken_at)
            changed = ChangeSpan() if extent.changed.start is None else extent.changed
            selection = Selection(entity, "acme", entity.columns, changed)
            selection, _ = unrepeated(self.stream, snapshot, selection, lambda: self.known)
            text = b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle())).decode()
            remembered = to_remember(self.stream, snapshot, selection, extent, lambda: self.known)
        self.known = {blob[at : at + 16] for blob in remembered.blobs for at in range(0, len(blob), 16)}
        self.stream = replace(self.stream, position=remembered.position(), digests_from=remembered.digests_from)
        self.delivered.update((row[0], row[1]) for row in csv.reader(io.StringIO(text)))
        self.position = extent.position


@dataclass
class Naive:
    """What a hand-written export does."""

    lag: float
    delivered: Counter[Version] = field(default_factory=Counter)
    seen: Any = "-infinity"
    goal: int | None = None

    @property
    def name(self) -> str:
        return f"naive watermark, {self.lag:g} s lag" if self.lag else "naive watermark"

    def read(self, database: Database) -> None:
        query = "select id, version, updated_at from events where updated_at > %s and updated_at <= clock_timestamp() - %s * interval '1 s'"
        with psycopg.connect(database.dsn) as connection:
            rows = connection.execute(query, [self.seen, self.lag]).fetchall()
        self.delivered.update((str(row[0]), str(row[1])) for row in rows)
        self.seen = max([row[2] for row in rows], default=self.seen)


def write(database: Database, number: int, until: float, committed: set[Version]) -> None:
    """Insert events in transactions held open for up to `HOLD` seconds; what was committed is added to `committed`."""
    dice = random.Random(number)
    with closing(psycopg.connect(database.dsn, autocommit=True)) as connection:
        serial = 0
        while time.monotonic() < until:
            fresh = []
            connection.execute("begin")
            for _ in range(dice.randint(1, 5)):
                serial += 1
                fresh.append((str(number * 1_000_000 + serial), "1"))
                connection.execute("insert into events (id, tenant_id, version) values (%s, 'acme', 1)", [fresh[-1][0]])
            time.sleep(dice.random() * HOLD)
            connection.execute("commit")
            committed.update(fresh)


def measure(seconds: float) -> list[tuple[Reader, int, int, int]]:
    """Per reader: versions committed, lost, repeated."""
    readers: list[Reader] = [*(Mode(name) for name in MODES), Naive(0), Naive(1)]
    committed: set[Version] = set()
    with serve_postgres() as cluster, cluster.database() as database:
        database.psql(TABLE)
        argv = [program("psql"), "-X", "-q", "-d", database.dsn, "-v", "table=events", "-f", str(MIGRATION)]
        subprocess.run(argv, check=True, capture_output=True, timeout=60)
        until = time.monotonic() + seconds
        writers = [threading.Thread(target=write, args=(database, number, until, committed)) for number in range(1, WRITERS + 1)]
        for writer in writers:
            writer.start()
        while time.monotonic() < until:
            for reader in readers:
                reader.read(database)
            time.sleep(PAUSE)
        for writer in writers:
            writer.join()
        time.sleep(HOLD)
        for reader in readers:
            reader.read(database)
    return [
        (reader, len(committed), len(committed - reader.delivered.keys()), sum(n > 1 for n in reader.delivered.values()))
        for reader in readers
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="8 seconds instead of 60")
    for reader, versions, lost, repeated in measure(8 if parser.parse_args().quick else 60):
        met = "-" if reader.goal is None else "yes" if lost == repeated == reader.goal else "NO"
        goal = "-" if reader.goal is None else "0 and 0"
        print(
            f"{reader.name} | {versions} versions | {lost} lost ({lost / versions:.0%}) | {repeated} repeated | {goal} | {met}", flush=True
        )


if __name__ == "__main__":
    main()
