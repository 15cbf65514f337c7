"""A PostgreSQL source that twelve writers keep changing: long transactions, savepoints, roll-backs, late commits."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from tests.copies import Copy
from tests.faults.consumer import deliveries
from tests.installations import Place
from tests.servers.postgres import Database
from tests.servers.process import program

MIGRATION = Path(__file__).parents[2] / "examples/postgres_snapshot_mode.sql"
TABLE = """create table orders (id bigint primary key, tenant_id text not null, version int not null default 1,
    updated_at timestamptz not null default now())"""
COLUMNS = {"id": {"type": "integer"}, "version": {"type": "integer"}}
DAY = timedelta(days=1)


HISTORY = """
create table history (number bigint generated always as identity, id bigint, version int, updated_at timestamptz, gone boolean,
    xid xid8 not null default pg_current_xact_id());
create function remember() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        insert into history (id, version, updated_at, gone) values (old.id, old.version, old.updated_at, true);
    else
        insert into history (id, version, updated_at, gone) values (new.id, new.version, new.updated_at, false);
    end if;
    return null;
end $$;
create trigger remember after insert or update or delete on orders for each row execute function remember()
"""
"""Every version of every row of `orders`, in the order they were written, each with its transaction: what any snapshot saw."""
_SEEN = "select distinct on (id) id, version, updated_at, gone from history where {} order by id, number desc"
_CLOCKS = timedelta(milliseconds=250)
"""How far a transaction's commit time may lie from the moment when others see it."""


def catalog(deletes: str = "never", **modes: dict[str, str]) -> dict[str, object]:
    """One entity per change mode, all over the same table."""
    common = {"source": "pg", "relation": "orders", "tenant_column": "tenant_id", "key": "id", "columns": COLUMNS}
    entities = {name: {**common, "name": name, "changes": changes, "deletes": deletes} for name, changes in modes.items()}
    return {"sources": {"pg": {"kind": "postgres", "connection": "pg", "statement_timeout": "30s"}}, "entities": entities}


def environment(database: Database, port: int | None = None) -> dict[str, str]:
    fields = {
        "conn_type": "postgres",
        "host": database.host,
        "port": port or database.port,
        "login": database.user,
        "schema": database.name,
    }
    return {"AIRFLOW_CONN_PG": json.dumps(fields)}


def prepare(root: Path, database: Database, deletes: str = "never", **modes: dict[str, str]) -> Place:
    place = Place(root)
    place.write("catalog.yaml", catalog(deletes, **modes))
    place.tenant(entityList=list(modes))
    database.psql(TABLE)
    argv = [program("psql"), "-X", "-q", "-d", database.dsn, "-v", "table=orders", "-f", str(MIGRATION)]
    subprocess.run(argv, check=True, capture_output=True, timeout=120)
    return place


@dataclass
class Writers:
    """`day` is the story's today: rows are stamped with times of that day or up to 20 hours before it, whenever they are committed."""

    database: Database
    day: date
    seed: int
    hold: float = 0.4
    """The longest a transaction stays open, in seconds."""
    deletes: float = 0.0
    """How often a transaction deletes one of its writer's rows for good."""
    _stop: threading.Event = field(default_factory=threading.Event)

    def _stamp(self, dice: random.Random) -> datetime:
        noon = datetime(self.day.year, self.day.month, self.day.day, 12, tzinfo=UTC)
        return noon - timedelta(hours=dice.random() * 20)

    def _write(self, number: int) -> None:
        dice = random.Random(self.seed * 1000 + number)
        own: list[int] = []
        with contextlib.closing(psycopg.connect(self.database.dsn, autocommit=True)) as connection:
            while not self._stop.is_set():
                connection.execute("begin")
                fresh = number * 1_000_000 + len(own)
                insert = "insert into orders (id, tenant_id, updated_at) values (%s, 'acme', %s) on conflict do nothing"
                connection.execute(insert, [fresh, self._stamp(dice)])
                connection.execute("savepoint inner_one")
                if own:
                    update = "update orders set version = version + 1, updated_at = %s where id = %s"
                    connection.execute(update, [self._stamp(dice), dice.choice(own)])
                gone = dice.choice(own) if own and dice.random() < self.deletes else None
                if gone is not None:
                    connection.execute("delete from orders where id = %s", [gone])
                if dice.random() < 0.2:
                    connection.execute("rollback to savepoint inner_one")
                self._stop.wait(dice.random() * self.hold)
                if dice.random() < 0.1:
                    connection.execute("rollback")
                else:
                    connection.execute("commit")
                    own.append(fresh)

    @contextlib.contextmanager
    def writing(self, count: int = 12) -> Iterator[None]:
        threads = [threading.Thread(target=self._write, args=(number,)) for number in range(1, count + 1)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()


def final_versions(database: Database) -> set[tuple[str, str]]:
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        found = connection.execute("select id, version from orders where tenant_id = 'acme'").fetchall()
    return {(str(name), str(version)) for name, version in found}


def uncopied(out: Path, database: Database) -> list[str]:
    """What a copy kept by manifests and files alone holds otherwise than the source: rows lost, stale, or deleted and still there."""
    found, wrong = deliveries(out / "exports/acme")
    final = final_versions(database)
    for entity in sorted({delivery.manifest["entity"] for delivery in found}):
        copy = {(row["id"], row["version"]) for row in Copy().catch_up(out / "exports/acme", entity).rows.values()}
        missing, ghosts = final - copy, copy - final
        wrong += [f"{entity}: {len(missing)} rows are missing in a copy, as {min(missing)}"] if missing else []
        wrong += [f"{entity}: {len(ghosts)} rows are in a copy and not in the source, as {min(ghosts)}"] if ghosts else []
    return wrong


def unlike(out: Path, database: Database) -> list[str]:
    """What a copy held otherwise than the source after each single delivery, by the history of `HISTORY`; needs `track_commit_timestamp`.

    A delivery by `snapshot` names the snapshot it read. Others tell the time: what was committed around it, and what is not due yet, is
    left out.
    """
    folder, wrong, compared = out / "exports/acme", [], 0
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        for entity in sorted({delivery.manifest["entity"] for delivery in deliveries(folder)[0]}):
            copy = Copy()
            for manifest in copy.steps(folder, entity):
                wanted, unsure = _seen(connection, manifest)
                held = {int(row["id"]): int(row["version"]) for row in copy.rows.values()}
                differing = {key for key in wanted.keys() | held.keys() if wanted.get(key) != held.get(key)} - unsure
                compared += 1
                if differing:
                    key, name = min(differing), f"{entity} {manifest['generation']}.{manifest['sequence']}"
                    wrong.append(
                        f"{name}: {len(differing)} rows differ, as {key}: {held.get(key)} in the copy, {wanted.get(key)} at the source"
                    )
    print(f"chaos: {compared} deliveries compared")
    return wrong


def _seen(connection: psycopg.Connection, manifest: dict[str, Any]) -> tuple[dict[int, int], set[int]]:
    """The source's rows in a delivery's snapshot, version by id, and the ids that this cannot be told of."""
    if manifest["window"]["mode"] == "snapshot":
        rows = connection.execute(_SEEN.format("pg_visible_in_snapshot(xid, %s)"), [manifest["position"]["to"]["snapshot"]]).fetchall()
        return {key: version for key, version, _, gone in rows if not gone}, set()
    at, end = (datetime.fromisoformat(text) for text in (manifest["snapshot_time"], manifest["window"]["to"]))
    early, late = (
        {row[0]: row[1:] for row in connection.execute(_SEEN.format("pg_xact_commit_timestamp(xid::text::xid) < %s"), [moment])}
        for moment in (at - _CLOCKS, at + _CLOCKS)
    )
    unsure = {key for key, found in late.items() if early.get(key) != found or (found[1] >= end and manifest["kind"] != "full")}
    return {key: version for key, (version, _, gone) in late.items() if not gone}, unsure


def miscounted(out: Path, database: Database) -> list[str]:
    """(c) for a source that changed all the time: the last version of every row came once, and no version came twice."""
    found, wrong = deliveries(out / "exports/acme")
    final = final_versions(database)
    for entity in sorted({delivery.manifest["entity"] for delivery in found}):
        got = Counter((row[0], row[1]) for delivery in found if delivery.manifest["entity"] == entity for row in delivery.rows)
        lost, repeated = final - got.keys(), [version for version, times in got.items() if times > 1]
        wrong += [f"{entity}: {len(lost)} of {len(final)} rows lost, as {min(lost)}"] if lost else []
        wrong += [f"{entity}: {len(repeated)} versions repeated, as {repeated[0]}"] if repeated else []
    return wrong
