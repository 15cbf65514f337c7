"""Whole deliveries, from the ledger's plan to the committed manifest, by a warm worker; side by side with the shell commands for the same.

`python -m bench delivery [--quick]` prints one line per leg: leg | against | ours | theirs | ratio | goal | met.
The worker is what Airflow's LocalExecutor makes: a process that has imported the product forks another for each task. Ours plans,
extracts, hashes, uploads, verifies by reading back, publishes, writes manifests and commits; theirs copies rows to a file, and sends it.
"""

from __future__ import annotations

import gc
import logging
import os
import pickle
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.leg import Leg, Line
from tests.installations import Place
from tests.servers.postgres import Database, serve_postgres
from tests.servers.process import program
from tests.servers.sshd import SftpAccess, serve_sshd

DAY = timedelta(days=1)
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
PLACES = ("horizon", "lookback", "afar")
A_DAY = 25_000
"""Rows that change on one day."""


def legs(quick: bool) -> Iterator[Line]:
    days, rounds = (16, 3) if quick else (100, 5)
    with tempfile.TemporaryDirectory() as scratch, serve_postgres() as cluster, cluster.database() as database, serve_sshd() as server:
        folder = Path(scratch)
        _fill(database, days)
        _place(folder, database, server)
        with _worker(folder) as task:
            yield _whole(folder, task, database, server, days - rounds - 1, rounds)
            for mode in ("horizon", "lookback"):
                yield _delta(folder, task, mode, database, days - rounds - 1, rounds)


def _whole(folder: Path, task: Callable[..., None], database: Database, server: SftpAccess, day: int, rounds: int) -> Line:
    file = folder / "theirs.csv"

    def theirs() -> None:
        _copy(database, file, f"updated_at < '{FIRST + day * DAY}'")
        server.sftp(f"put {file} {server.root}/theirs.csv")

    ours, sent = [], []
    for _ in range(rounds):
        ours.append(_timed(lambda: task("afar", FIRST + day * DAY, True)))
        size = max(path.stat().st_size for path in server.root.rglob("orders*.csv"))
        sent.append(_timed(theirs))
        for path in server.root.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.rmtree(folder / "afar" / ".waybill" / "archive", ignore_errors=True)
    name = f"PostgreSQL to a verified file on the server, {size / 1e6:.0f} MB | psql \\copy, then sftp put"
    return Leg(name, statistics.median(ours), statistics.median(sent), 1.0)


def _delta(folder: Path, task: Callable[..., None], mode: str, database: Database, day: int, rounds: int) -> Line:
    task(mode, FIRST + day * DAY, True)
    ours, theirs = [], []
    for number in range(day, day + rounds):
        start, end = FIRST + number * DAY, FIRST + (number + 1) * DAY
        ours.append(_timed(lambda: task(mode, end, False)))  # noqa: B023 (called at once)
        window = f"updated_at >= '{start}' AND updated_at < '{end}'"
        theirs.append(_timed(lambda: _copy(database, folder / "theirs.csv", window)))  # noqa: B023
    name = f"one-day delta of {A_DAY:,} rows by {mode}, whole delivery to a folder | psql \\copy"
    return Leg(name, statistics.median(ours), statistics.median(theirs), 0.3, excess=True)


def _timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _copy(database: Database, file: Path, condition: str) -> None:
    copy = f"\\copy (SELECT * FROM orders WHERE tenant_id = 'acme' AND {condition}) TO '{file}' (FORMAT csv)"
    subprocess.run([program("psql"), "-X", "-q", "-d", database.dsn, "-c", "SET TimeZone = 'UTC'", "-c", copy], check=True)


def _fill(database: Database, days: int) -> None:
    from bench.extract import ROWS

    rows = ROWS.format(float="float8", range=f"generate_series(0, {days * A_DAY - 1}) i")
    rows = rows.replace("'1 second'", f"'{86_400 / A_DAY} seconds'")
    database.psql(f"SET TimeZone = 'UTC'; CREATE TABLE orders AS {rows}")
    database.psql("ALTER TABLE orders ADD PRIMARY KEY (id), ALTER created_at TYPE timestamptz")
    database.psql("CREATE INDEX ON orders (tenant_id, updated_at); VACUUM ANALYZE orders")


def _place(folder: Path, database: Database, server: SftpAccess) -> None:
    """Three installations with one entity: `horizon` and `lookback` find changes that way and deliver to a folder, `afar` to the server."""
    from bench.extract import COLUMNS
    from bench.push import _connection
    from waybill.connection import Connection

    target = Connection("pg", "postgres", database.host, database.port, database.user, database.name)
    for name in PLACES:
        entity: dict[str, Any] = {
            "source": "pg",
            "relation": "orders",
            "tenant_column": "tenant_id",
            "key": "id",
            "changes": {"mode": "horizon" if name == "horizon" else "lookback", "column": "updated_at"},
            "columns": {column: {"type": kind} for column, kind in COLUMNS.items()},
        }
        server_folder = {"kind": "sftp", "connection": "bench", "root": server.remote_root}
        place = Place(folder / name, {"pg": target, "bench": _connection(server)})
        place.write("catalog.yaml", {"sources": {"pg": {"kind": "postgres", "connection": "pg"}}, "entities": {"orders": entity}})
        place.tenant(entityList=["orders"], destination=server_folder if name == "afar" else {"kind": "folder", "root": "out"})
        (folder / name / "place").write_bytes(pickle.dumps(place))


@contextmanager
def _worker(folder: Path) -> Iterator[Callable[..., None]]:
    """A warm process; each call has it fork another that delivers what is due, and waits for that one's end."""
    argv = [sys.executable, "-m", "bench.delivery", str(folder)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def task(*given: Any) -> None:
            pickle.dump(given, process.stdin)
            process.stdin.flush()
            if process.stdout.readline() != b"0\n":
                raise RuntimeError("the delivery failed")

        yield task
        process.stdin.close()


def _work(folder: Path) -> None:
    from waybill.airflow.listener import WARM

    reply = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Airflow's logging writes to standard output
    for name in WARM:
        import_module(name)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    for name in PLACES:
        _deliver(folder, name, FIRST, False)  # nothing is due; registers the tenant
    gc.freeze()  # as LocalExecutor does
    while True:
        try:
            given = pickle.load(sys.stdin.buffer)  # noqa: S301 (our own)
        except EOFError:
            os._exit(0)  # DuckDB counts aloud what it leaves behind at an ordinary end
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = _deliver(folder, *given)
            except Exception:  # noqa: BLE001 (told, and the status says so)
                traceback.print_exc()
            finally:
                os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=reply, flush=True)


def _deliver(folder: Path, name: str, until: datetime, full_load: bool) -> int:
    """The exit status: 0 when everything due was delivered."""
    from waybill.deliveries import running
    from waybill.registrations import applying

    place: Place = pickle.loads((folder / name / "place").read_bytes())  # noqa: S301 (our own)
    if until == FIRST:
        applying.apply(place.installation(), actor="bench")
        place.close()
        return 0
    results = running.run(place.installation(), "acme", until, full_load=full_load)
    errors = [result.error for result in results if result.error]
    for error in errors:
        print(error, file=sys.stderr)
    return int(bool(errors) or not results)


if __name__ == "__main__":
    _work(Path(sys.argv[1]))
