"""A consumer's copy: `waybill-consumer load` into PostgreSQL beside psql's \\copy and the statement by hand.

`python -m bench loading [--quick]` prints one line per leg: leg | against | ours | theirs | ratio | goal | met.
A full delivery of 500,000 rows (quick: 100,000), then a delta of a tenth. By hand means a staging table filled by \\copy and one statement,
in one transaction. Both copies are compared at the end. Small data measure the start of Python, which psql has not.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.leg import Leg, Line
from bench.processes import Cost, measured
from tests.consumer.sender import Sender
from tests.servers.postgres import Database, serve_postgres
from tests.servers.process import program

COLUMNS = {"id": "integer", "name": "string", "seen": "timestamp", "note": "string"}
TABLE = "(id bigint primary key, name text, seen timestamptz, note text)"
BY_HAND = {
    "full": "truncate by_hand; insert into by_hand select * from stage",
    "delta": "insert into by_hand select * from stage "
    "on conflict (id) do update set (name, seen, note) = (excluded.name, excluded.seen, excluded.note)",
}


def legs(quick: bool) -> Iterator[Line]:
    rows = 100_000 if quick else 500_000
    with tempfile.TemporaryDirectory() as scratch, serve_postgres() as cluster, cluster.database() as database:
        root = Path(scratch)
        sender = Sender(root / "in")
        database.psql(f"create table by_hand {TABLE}")
        for kind, first, count in (("full", 0, rows), ("delta", rows // 2, rows // 10)):
            file = _deliver(sender, kind, first, count)
            ours = _load(root / "in", f"postgresql://{database.user}@{database.host}:{database.port}/{database.name}")
            theirs = _by_hand(database, file, BY_HAND[kind])
            sender.day += 1
            name = f"load a {kind} delivery of {count:,} rows into PostgreSQL | psql \\copy and the statement by hand"
            yield Leg(name, ours.seconds, theirs.seconds, 1.3)
        if database.psql('select count(*) from (select * from "user" except select * from by_hand) t').strip() != "0":
            raise RuntimeError("the two copies differ")


def _deliver(sender: Sender, kind: str, first: int, count: int) -> Path:
    rows = [
        (
            str(number),
            f"{kind} {number}",
            f"2026-06-01T00:{number // 60 % 60:02d}:{number % 60:02d}.000000Z",
            f"words that fill {number:032x}",
        )
        for number in range(first, first + count)
    ]
    manifest = sender.deliver(rows, kind=kind, columns=COLUMNS)
    return sender.path(manifest, sender.day, manifest["files"][0]["path"])


def _load(folder: Path, to: str) -> Cost:
    with tempfile.TemporaryDirectory() as scratch:
        return measured([sys.executable, "-m", "waybill_consumer", "load", str(folder), "--to", to], Path(scratch))


def _by_hand(database: Database, file: Path, statement: str) -> Cost:
    copy = f"\\copy stage from '{file}' (format csv, header)"
    steps = ["begin", "create temp table stage (like by_hand) on commit drop", copy, statement, "commit"]
    argv = [program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database.dsn]
    with tempfile.TemporaryDirectory() as scratch:
        return measured([*argv, *(part for step in steps for part in ("-c", step))], Path(scratch))
