"""Known-bad variants of what keeps a copy true to the row, and the attacks that must catch them."""

from __future__ import annotations

import shutil
import threading
import time
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from tests.copies import Copy
from tests.exports import MINUTE, START, Office, make_office
from tests.faults import scenes
from tests.faults.live import environment, prepare, uncopied
from tests.faults.mutants import Attack, Mutant
from tests.faults.oracle import judge, visible
from tests.faults.processes import Launcher
from tests.installations import DAY, NOON, USER, Place, catalog, make_place
from tests.servers.pgbouncer import serve_pgbouncer
from tests.servers.postgres import Database, serve_postgres
from waybill.destinations.archives import archive_name

SNAPSHOT = {"mode": "snapshot", "column": "waybill_xid"}
FIRST, SECOND = "2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z"
ROWS = "insert into orders (id, tenant_id, updated_at) select i, 'acme', '2026-02-01Z' from generate_series({}, {}) i"


def vanished(launcher: Launcher, folder: Path) -> list[str]:
    """Rows are removed for good, and one of them is back as it was."""
    scene = scenes.vanished(folder / "vanished")
    done = launcher.run(scene.root, *scene.argv)
    return judge(scene.out, dict(scene.versions), held=scene.held) + ([done.said] if done.status else [])


def unlike(launcher: Launcher, folder: Path) -> list[str]:
    """A row changes, and its change time does not. Whole rows are compared."""
    place = make_place(folder)
    place.write("catalog.yaml", catalog(user={**USER, "deletes": "compare_rows"}))
    place.tenant(entityList=["user"])
    place.user(1, "Ada", NOON - 40 * DAY)
    place.run(NOON)
    place.sql("update \"user\" set name = 'Eve'")
    place.close()
    done = launcher.run(folder, "run", "acme", "--until", scenes.NEXT)
    names = [row["name"] for row in Copy().catch_up(place.out / "exports/acme").rows.values()]
    return ([] if names == ["Eve"] else [f"the copy holds {names}"]) + ([done.said] if done.status else [])


def patterns(launcher: Launcher, folder: Path) -> list[str]:
    """A lake has a file whose name another file's name matches as a pattern."""
    place = Place(folder)
    for name, number in (("a[1]", 1), ("a1", 2)):
        (folder / "lake").mkdir(parents=True, exist_ok=True)
        times = "timestamptz '2026-05-01 00:00:00Z' as updated_at, null::timestamptz as deleted_at"
        row = f"select 'acme' as tenant_id, {number} as id, '{name}' as name, {times}"
        duckdb.execute(f"copy ({row}) to '{folder}/lake/{name}.parquet' (format parquet)")
    entities = catalog(user={**USER, "source": "lake", "relation": "a[1].parquet"})["entities"]
    place.write("catalog.yaml", {"sources": {"lake": {"kind": "lake", "path": "lake"}}, "entities": entities})
    place.tenant(entityList=["user"])
    done = launcher.run(folder, "run", "acme", "--until", scenes.UNTIL)
    keys = Copy().catch_up(place.out / "exports/acme").keys()
    return ([] if keys == ["1"] else [f"the copy holds {keys}"]) + ([done.said] if done.status else [])


def untyped(launcher: Launcher, folder: Path) -> list[str]:
    """The first file of a lake has no value in a column, and no type of it."""
    place = Place(folder)
    (folder / "lake").mkdir(parents=True, exist_ok=True)
    for number, name in enumerate([pa.nulls(1), pa.array(["Ada"])], start=1):
        at = pa.array([datetime(2026, 5, 1, tzinfo=UTC)])
        columns = {"tenant_id": ["acme"], "id": [number], "name": name, "updated_at": at, "deleted_at": pa.nulls(1, at.type)}
        pq.write_table(pa.table(columns), folder / f"lake/{number}.parquet")
    entities = catalog(user={**USER, "source": "lake", "relation": "*.parquet"})["entities"]
    place.write("catalog.yaml", {"sources": {"lake": {"kind": "lake", "path": "lake"}}, "entities": entities})
    place.tenant(entityList=["user"])
    done = launcher.run(folder, "run", "acme", "--until", scenes.UNTIL)
    keys = Copy().catch_up(place.out / "exports/acme").keys() if done.status == 0 else []
    return ([] if keys == ["1", "2"] else [f"the copy holds {keys}"]) + ([done.said] if done.status else [])


def below(launcher: Launcher, folder: Path) -> list[str]:
    """A row is committed after one with a higher id was delivered by `append`."""
    place = make_place(folder)
    user = {name: value for name, value in USER.items() if name != "deleted_column"}
    place.write("catalog.yaml", catalog(user={**user, "changes": {"mode": "append", "column": "id", "lag": 9}}))
    place.tenant(entityList=["user"])
    said = []
    for number, until in ((20, scenes.UNTIL), (15, scenes.NEXT), (21, scenes.AFTER)):
        place.user(number, "row", datetime(2026, 5, 1, tzinfo=UTC))
        done = launcher.run(folder, "run", "acme", "--until", until)
        said += [done.said] if done.status else []
    place.close()
    keys = Copy().catch_up(place.out / "exports/acme").keys()
    exact = [f"{path.name} calls its window of ids exact" for path, manifest in place.manifests() if manifest["window"]["exact"]]
    return said + exact + ([] if keys == ["15", "20", "21"] else [f"the copy holds {keys}"])


def exported(launcher: Launcher, folder: Path) -> list[str]:
    """An export without a range holds a row that lies ahead of the clock, and none that changed after it was asked for."""
    office = make_office(folder)
    office.measure(1)
    office.measure(2, datetime(2100, 1, 1, tzinfo=UTC))
    office.measure(3, updated=START + MINUTE)
    return rows_exported(launcher, office, 2)


def rows_exported(launcher: Launcher, office: Office, expected: int, **asked: Any) -> list[str]:
    """What is wrong with how many rows an export holds that is asked for now and fulfilled long after."""
    export = office.ask(**asked)
    office.place.close()
    root = office.place.root / "archive"
    done = launcher.run(office.place.root, "fulfil", env={"WAYBILL_ARCHIVE_URL": str(root)})
    if done.status:
        return [done.said]
    with zipfile.ZipFile(root / "requests" / archive_name("acme", export.id, 1)) as archive:
        rows = archive.read("measurement.ndjson").count(b"\n")
    return [] if rows == expected else [f"the export holds {rows} rows instead of {expected}"]


def restored(lost: bool = False) -> Attack:
    """The ledger comes back from a backup that is older than the last delivery, or is lost."""

    def attack(launcher: Launcher, folder: Path) -> list[str]:
        place = make_place(folder)
        place.tenant(entityList=["user"])
        story = scenes.Story(place)
        story.first_day()
        launcher.run(folder, "run", "acme", "--until", scenes.UNTIL)
        if not lost:
            shutil.copytree(folder / ".waybill", folder / "backup")
            launcher.run(folder, "run", "acme", "--until", scenes.NEXT)
        shutil.rmtree(folder / ".waybill")
        if not lost:
            shutil.copytree(folder / "backup", folder / ".waybill")
        done = launcher.run(folder, "run", "acme", "--until", scenes.AFTER)
        is_told = done.status == 1 and "waybill reconcile acme" in done.said
        return [] if is_told else ["the run went on with a ledger that is behind"]

    return attack


def on_postgres(happens: Callable[[Launcher, Place, Database], list[str]]) -> Attack:
    """Twenty rows are delivered by `snapshot`; something happens; the next delivery is compared with the source."""

    def attack(launcher: Launcher, folder: Path) -> list[str]:
        with ExitStack() as servers:
            cluster = servers.enter_context(serve_postgres())
            database = servers.enter_context(cluster.database())
            place = prepare(folder, database, orders=SNAPSHOT)
            env = environment(database)
            database.psql(ROWS.format(1, 20))
            done = launcher.run(folder, "run", "acme", "--until", FIRST, env=env)
            wrong = happens(launcher, place, database) + ([done.said] if done.status else [])
            done = launcher.run(folder, "run", "acme", "--until", SECOND, env=env)
            return wrong + uncopied(place.out, database) + ([done.said] if done.status else [])

    return attack


def joined(launcher: Launcher, place: Place, database: Database) -> list[str]:
    """A table joins by inheritance that was filled before the first delivery."""
    database.psql("create table other (like orders including all); insert into other table orders; update other set id = id + 20")
    launcher.run(place.root, "run", "acme", "--until", "2026-03-01T12:00:00Z", "--full-load", env=environment(database))
    database.psql("alter table other inherit orders")
    return []


def emptied(launcher: Launcher, place: Place, database: Database) -> list[str]:
    """A full load begins while the table is being emptied and filled again."""
    with psycopg.connect(database.dsn) as writer:
        writer.execute("truncate orders")
        writer.execute(ROWS.format(1, 20).encode())
        run = launcher.start(place.root, "run", "acme", "--until", FIRST, "--full-load", env=environment(database))
        waits = "select count(*) from pg_stat_activity where application_name = 'waybill' and wait_event_type = 'Lock'"
        deadline = time.monotonic() + 60
        pause = threading.Event()
        while database.psql(waits).strip() == "0" and time.monotonic() < deadline:
            pause.wait(0.02)
        writer.commit()
        done = run.wait()
    return uncopied(place.out, database) + ([done.said] if done.status else [])


def renamed(launcher: Launcher, place: Place, database: Database) -> list[str]:
    """Two columns swap their names: every row has other values, and none has changed."""
    swap = ["version to kept", "spare to version", "kept to spare"]
    database.psql("alter table orders add spare int default 7; " + "; ".join(f"alter table orders rename {names}" for names in swap))
    return []


def hidden(launcher: Launcher, folder: Path) -> list[str]:
    """A policy hides every row from the connection, behind a view that reads with its own reader's rights."""
    with ExitStack() as servers:
        cluster = servers.enter_context(serve_postgres())
        database = servers.enter_context(cluster.database())
        prepare(folder, database, orders=SNAPSHOT)
        database.psql(ROWS.format(1, 20) + "; alter table orders enable row level security; create role reader login")
        views = "create view inner_view with (security_invoker) as table orders; create view shown as table inner_view"
        database.psql(views + "; grant select on all tables in schema public to reader")
        catalogued = (folder / "config/catalog.yaml").read_text().replace("relation: orders", "relation: shown")
        (folder / "config/catalog.yaml").write_text(catalogued)
        found = environment(database)
        env = {name: text.replace('"login": "postgres"', '"login": "reader"') for name, text in found.items()}
        done = launcher.run(folder, "run", "acme", "--until", FIRST, env=env)
        return [] if done.status == 1 and "row-level security" in done.said else [f"nobody is told of hidden rows: {done.said}"]


def called(launcher: Launcher, place: Place, database: Database) -> list[str]:
    """A function is redefined: what it gives back for every row is other than before, and no row has changed."""
    shown = "create view shown as select id, tenant_id, grown(version) as version, updated_at, waybill_xid from orders"
    grown = "create or replace function grown(x int) returns int language sql as 'select x + {}'"
    database.psql(f"{grown.format(1)}; {shown}")
    path = place.root / "config/catalog.yaml"
    path.write_text(path.read_text().replace("relation: orders", "relation: shown"))
    done = launcher.run(place.root, "run", "acme", "--until", "2026-03-01T12:00:00Z", "--full-load", env=environment(database))
    database.psql(grown.format(0))
    return [done.said] if done.status else []


def refreshed(launcher: Launcher, place: Place, database: Database) -> list[str]:
    """A materialized view shows rows that are long past when it is refreshed, and only writes what differs."""
    database.psql("create materialized view kept as table orders; create unique index on kept (id)")
    path = place.root / "config/catalog.yaml"
    found = path.read_text().replace("relation: orders", "relation: kept").replace("column: waybill_xid", "column: updated_at")
    path.write_text(found.replace("mode: snapshot", "mode: lookback"))
    done = launcher.run(place.root, "run", "acme", "--until", "2026-03-01T12:00:00Z", "--full-load", env=environment(database))
    database.psql(f"{ROWS.format(21, 25)}; refresh materialized view concurrently kept")
    return [done.said] if done.status else []


def behind_the_primary(launcher: Launcher, folder: Path) -> list[str]:
    """A standby has received what it has not replayed: its snapshot is older than its clock."""
    with ExitStack() as servers:
        cluster = servers.enter_context(serve_postgres())
        database = servers.enter_context(cluster.database())
        place = prepare(folder, database, orders={"mode": "lookback", "column": "updated_at", "lookback": "1h"})
        database.psql(ROWS.format(1, 20))
        standby = replace(database, port=servers.enter_context(cluster.standby()).port)
        standby.psql("select pg_wal_replay_pause()")
        paused = datetime.now(UTC)
        database.psql(ROWS.format(21, 21))
        receives = "select pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn() and pg_get_wal_replay_pause_state() = 'paused'"
        deadline, pause = time.monotonic() + 60, threading.Event()
        while standby.psql(receives).strip() != "t" and time.monotonic() < deadline:
            pause.wait(0.02)
        done = launcher.run(folder, "run", "acme", "--until", FIRST, env=environment(standby))
        said = [manifest["snapshot_time"] for _, manifest in place.manifests()]
        late = [f"a snapshot of {time} has not what was committed at {paused}" for time in said if datetime.fromisoformat(time) > paused]
        return late + ([done.said] if done.status else [])


def collected(launcher: Launcher, folder: Path) -> list[str]:
    """A worker loses its lease while it reads: another one delivers, and the consumer takes the files away."""
    scene = scenes.first(folder / "first")
    sleeper = launcher.start(scene.root, *scene.argv, hold=r"^fsync .*\.user\.csv")
    sleeper.held()
    other = launcher.run(scene.root, *scene.argv)
    taken = visible(scene.out)
    for path in taken:
        path.unlink()
    sleeper.go()
    woken = sleeper.wait()
    back = [f"{path.name} is there again" for path in visible(scene.out) if path in taken]
    return back + [done.said for done in (other, woken) if done.status]


def asked_in_all(pool: Database, size: int, query: str) -> set[tuple]:
    """What all connections of a pool answer: each is held until all are asked."""
    with ExitStack() as held:
        clients = [held.enter_context(psycopg.connect(pool.dsn, prepare_threshold=None)) for _ in range(size)]
        return {row for client in clients for row in client.execute(query)}


def pooled(launcher: Launcher, folder: Path) -> list[str]:
    """The source lies behind a pool, and somebody else uses its connections afterwards."""
    with ExitStack() as servers:
        database = servers.enter_context(servers.enter_context(serve_postgres()).database())
        prepare(folder, database, orders=SNAPSHOT)
        database.psql(ROWS.format(1, 20))
        size = 8  # the pool closes what a run left within a transaction: there must be connections that it left otherwise
        pool = servers.enter_context(serve_pgbouncer(database, size))
        asked_in_all(pool, size, "select 1")
        done = launcher.run(folder, "run", "acme", "--until", FIRST, env=environment(pool))
        found = asked_in_all(pool, size, "select current_setting('lock_timeout')")
        left = [f"somebody else finds {found}"] if found != {("0",)} else []
        return left + ([done.said] if done.status else [])


ROW_MUTANTS = [
    Mutant(
        "rows ahead of the clock were added after the request",
        "requests/fulfilment/exporting.py",
        "ahead=max(now, request.created_at)",
        "ahead=None",
        exported,
    ),
    Mutant(
        "ids below the highest are taken for delivered",
        "deliveries/extraction/row_versions.py",
        "return entity.changes.lag",
        "return 0",
        below,
    ),
    Mutant(
        "settings outlive their transaction",
        "sources/postgres/settings.py",
        'f"SET LOCAL {name} = {value}"',
        'f"SET {name} = {value}; COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"',  # a rollback would take it back
        pooled,
    ),
    Mutant(
        "files of which the first has no type are read as it says",
        "sources/duckdb/lake.py",
        'files = self._files(paths, f"{how}, union_by_name = true")',
        "files = self._files(paths, how)",
        untyped,
    ),
    Mutant(
        "columns that swapped their names are taken for the same",
        "sources/definitions.py",
        "if moved := _moved(was, table, common):",
        "if moved := []:",
        on_postgres(renamed),
    ),
    Mutant(
        "a view with its invoker's rights reads as the view's around it",
        "sources/postgres/relations/behind.py",
        "return reading.account if by.turns else by.owner",
        "return reading.reader if by.turns else by.owner",
        hidden,
    ),
    Mutant(
        "nobody looks into functions",
        "sources/postgres/relations/definition.py",
        "behind.functions()",
        "{}",
        on_postgres(called),
    ),
    Mutant(
        "a refresh of a materialized view is taken for nothing",
        "sources/definitions.py",
        "for name in was_filled.keys() & is_filled.keys()",
        "for name in ()",
        on_postgres(refreshed),
    ),
    Mutant(
        "a standby's clock is that of its host",
        "sources/postgres/settings.py",
        "ELSE coalesce(pg_last_xact_replay_timestamp(), pg_postmaster_start_time()) END",
        "ELSE clock_timestamp() END",
        behind_the_primary,
    ),
    Mutant(
        "an overtaken worker goes on",
        "deliveries/protocol.py",
        """            if current is None or current.status != DeliveryStatus.OPEN:
                raise _Overtaken
            if publishing""",
        """            if publishing""",
        collected,
    ),
    Mutant(
        "keys that are gone are not told",
        "deliveries/key_changes/keysets.py",
        "gone = held.rows.keys() - there.keys()",
        "gone = set()",
        vanished,
    ),
    Mutant(
        "a key that came back waits for a change",
        "deliveries/key_changes/keysets.py",
        "missing = (_unlike(there, held.rows) | ((was_dead & there.keys()) - dead)) - delivered.keys()",
        "missing = set()",
        vanished,
    ),
    Mutant(
        "a row that is not as it was delivered waits for a change",
        "deliveries/key_changes/keysets.py",
        "version and held != version",
        "version and held is None",
        unlike,
    ),
    Mutant(
        "a path is a pattern",
        "sources/duckdb/partitions.py",
        'return PATTERN_MARKS.sub(r"[\\1]", path)',
        "return path",
        patterns,
    ),
    Mutant(
        "a ledger that is behind goes on",
        "deliveries/recovery/stale_ledger.py",
        "if not is_known and",
        "if False and",
        restored(),
    ),
    Mutant(
        "rows of a table that joins another are taken for delivered",
        "deliveries/extraction/extracting.py",
        "if lost := snapshot.passed_over(selection, start, before):",
        'if lost := "":',
        on_postgres(joined),
    ),
    Mutant(
        "the snapshot is older than the table",
        "sources/postgres/session.py",
        "LOCK TABLE {name} IN ACCESS SHARE MODE; ",
        "",
        on_postgres(emptied),
    ),
]
