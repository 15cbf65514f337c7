"""Reading rows into hashed, counted CSV on disk, side by side with each engine's own tool, on this machine.

`python -m bench extract [--quick]` prints one line per leg: leg | against | ours | theirs | ratio | goal | met.
Every figure is a median of rounds that take turns, on the same rows.
"""

from __future__ import annotations

import csv
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb

from bench.leg import Leg
from bench.spooling import spool
from tests.servers.postgres import Database, serve_postgres
from waybill.configuration.catalog import DbApiSource, Entity, LakeSource, PostgresSource
from waybill.connection import Connection
from waybill.sources import Source
from waybill.sources.dbapi.source import DbApi
from waybill.sources.duckdb.lake import Lake
from waybill.sources.duckdb.source import DuckDB
from waybill.sources.postgres.source import Postgres

COLUMNS = {
    "id": "integer",
    "tenant_id": "string",
    "user_name": "string",
    "note": "string",
    "city": "string",
    "amount": "decimal",
    "score": "float",
    "active": "boolean",
    "day": "date",
    "created_at": "timestamp",
    "updated_at": "timestamp",
}
ENTITY = Entity.model_validate(
    {
        "id": "orders",
        "source": "bench",
        "relation": "orders",
        "tenant_column": "tenant_id",
        "key": "id",
        "changes": {"mode": "lookback", "column": "updated_at"},
        "columns": {name: {"type": kind} for name, kind in COLUMNS.items()},
    }
)
ROWS = """SELECT i AS id, 'acme' AS tenant_id, 'user ' || (i % 1000) AS user_name,
    'a note of some length, with a comma, with a second half that makes a row as long as two hundred and forty bytes in all, numbered '
    || i AS note,
    CASE WHEN i % 10 = 0 THEN NULL ELSE 'city ' || (i % 77) END AS city, CAST(i * 0.01 AS DECIMAL(18, 2)) AS amount,
    (i % 1000) / CAST(7.0 AS {float}) AS score, i % 2 = 0 AS active, DATE '2024-01-01' + CAST(i % 300 AS INT) AS day,
    TIMESTAMP '2024-01-01' + i * INTERVAL '1 second' AS created_at, TIMESTAMP '2024-01-01' + i * INTERVAL '1 second' AS updated_at
    FROM {range}"""


def legs(quick: bool) -> Iterator[Leg]:
    rounds = 3 if quick else 5
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with serve_postgres() as cluster, cluster.database() as database:
            fill_postgres(database, 300_000 if quick else 2_500_000)
            ours, ordered, plain = turns(
                rounds,
                lambda: spool(postgres_of(database), ENTITY, folder / "ours.csv"),
                lambda: _psql(database, folder, "ORDER BY id"),
                lambda: _psql(database, folder),
            )
            yield Leg("PostgreSQL to CSV | psql \\copy in key order", ours, ordered, 1.05)
            yield Leg("PostgreSQL to CSV | psql \\copy in any order", ours, plain, 1.05)
        warehouse = folder / "warehouse.duckdb"
        with duckdb.connect(str(warehouse)) as connection:
            rows = 1_000_000 if quick else 10_000_000
            connection.execute("CREATE TABLE orders AS " + ROWS.format(float="DOUBLE", range=f"range(1, {rows + 1}) r(i)"))
            connection.execute(f"COPY orders TO '{folder}/orders.parquet'")
        tables = DuckDB(warehouse)
        yield Leg("DuckDB to CSV | DuckDB's COPY", *_beside_copy(rounds, tables, "orders", warehouse, "warehouse.orders", folder), 1.1)
        files = Lake(LakeSource(kind="lake", path=str(folder)), folder, lambda _: Connection("none", "none"))
        yield Leg(
            "lake to CSV | DuckDB's COPY",
            *_beside_copy(rounds, files, "orders.parquet", warehouse, f"'{folder}/orders.parquet'", folder),
            1.1,
        )
        file = folder / "orders.sqlite"
        _fill_sqlite(file, warehouse, 100_000 if quick else 1_000_000)
        source = DbApi(DbApiSource(kind="dbapi", connection="lite"), lambda _: sqlite3.connect(file))
        yield Leg(
            "SQLite to CSV through dbapi | fetch loop into csv.writer",
            *turns(rounds, lambda: spool(source, ENTITY, folder / "ours.csv"), lambda: _fetch_loop(file, folder)),
            1.0,
        )


def turns(rounds: int, *jobs: Callable[[], None]) -> list[float]:
    """The median seconds of each job."""
    times: list[list[float]] = [[] for _ in jobs]
    for _ in range(rounds):
        for taken, job in zip(times, jobs, strict=True):
            began = time.perf_counter()
            job()
            taken.append(time.perf_counter() - began)
    return [statistics.median(taken) for taken in times]


def postgres_of(database: Database) -> Postgres:
    target = Connection("pg", "postgres", database.host, database.port, database.user, database.name)
    return Postgres(PostgresSource(kind="postgres", connection="pg"), lambda _: target)


def fill_postgres(database: Database, rows: int) -> None:
    database.psql("SET TimeZone = 'UTC'; CREATE TABLE orders AS " + ROWS.format(float="float8", range=f"generate_series(1, {rows}) i"))
    database.psql("ALTER TABLE orders ADD PRIMARY KEY (id), ALTER created_at TYPE timestamptz")
    database.psql("VACUUM ANALYZE orders")


def _psql(database: Database, folder: Path, order: str = "") -> None:
    copy = f"\\copy (SELECT * FROM orders WHERE tenant_id = 'acme' {order}) TO '{folder}/theirs.csv' (FORMAT csv)"
    subprocess.run(["psql", "-X", "-q", "-d", database.dsn, "-c", copy], check=True)


def _beside_copy(rounds: int, source: Source, relation: str, warehouse: Path, theirs: str, folder: Path) -> list[float]:
    shape = ENTITY.model_copy(update={"relation": relation})

    def copy() -> None:
        with duckdb.connect() as connection:
            connection.execute(f"ATTACH '{warehouse}' AS warehouse (READ_ONLY)")
            connection.execute(f"COPY (SELECT * FROM {theirs} WHERE tenant_id = 'acme') TO '{folder}/theirs.csv' (HEADER false)")

    return turns(rounds, lambda: spool(source, shape, folder / "ours.csv"), copy)


def _fill_sqlite(file: Path, warehouse: Path, rows: int) -> None:
    shown = ", ".join(f"CAST({name} AS VARCHAR)" if kind in ("decimal", "timestamp", "date") else name for name, kind in COLUMNS.items())
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        values = connection.execute(f"SELECT {shown} FROM orders LIMIT {rows}").fetchall()
    text = "TEXT"
    declared = {"integer": "INTEGER PRIMARY KEY", "float": "REAL", "boolean": "BOOLEAN"}
    with sqlite3.connect(file) as lite:
        lite.execute(f"CREATE TABLE orders ({', '.join(f'{name} {declared.get(kind, text)}' for name, kind in COLUMNS.items())})")
        lite.executemany(f"INSERT INTO orders VALUES ({', '.join('?' * len(COLUMNS))})", values)
    lite.close()


def _fetch_loop(file: Path, folder: Path) -> None:
    connection = sqlite3.connect(file)
    with (folder / "theirs.csv").open("w", newline="") as out:
        writer = csv.writer(out)
        for row in connection.execute("SELECT * FROM orders WHERE tenant_id = ? ORDER BY id", ["acme"]):
            writer.writerow(row)
    connection.close()
