"""A PostgreSQL table to CSV on disk, side by side with the tools people use for it, in time and in peak memory.

`python -m bench rivals [--quick]` prints one line per leg: leg | against | ours | theirs | ratio | goal | met.
Every side is a process of its own, its start counted in, and sides take turns on the same rows. Sling is the program inside its wheel,
as newer wheels fetch theirs from elsewhere at run time. dlt is asked for its connectorx and its pyarrow backend and stands with the
faster one. pandas is Airflow's own SqlToS3Operator, with a file in place of the bucket.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.leg import Leg, Line, NotRun
from bench.processes import Cost, Failed, measured
from tests.servers.postgres import Database, serve_postgres

GOALS = {"Sling": (5.0, None), "dlt": (2.5, 10.0), "pandas": (12.0, 10.0)}
"""How many times faster, and how many times less memory."""

QUERY = "SELECT * FROM orders WHERE tenant_id = 'acme'"


def legs(quick: bool) -> Iterator[Line]:
    from bench.extract import ENTITY, fill_postgres

    rows, rounds = (300_000, 1) if quick else (2_500_000, 3)
    with tempfile.TemporaryDirectory() as scratch, serve_postgres() as cluster, cluster.database() as database:
        folder = Path(scratch)
        (folder / "entity").write_bytes(pickle.dumps(ENTITY))
        fill_postgres(database, rows)
        sides: dict[str, Callable[[], Cost]] = {
            "ours": lambda: _python("ours", database, folder),
            "Sling": lambda: _sling(database, folder),
            "dlt": lambda: min((_dlt(backend, database, folder) for backend in ("connectorx", "pyarrow")), key=lambda run: run.seconds),
            "pandas": lambda: _python("pandas", database, folder),
        }
        costs, reasons = _turns(rounds, {name: partial(_whole, run, rows, folder) for name, run in sides.items()})
        yield from _lines(rows, costs, reasons)


def _turns(rounds: int, sides: dict[str, Callable[[], Cost]]) -> tuple[dict[str, list[Cost]], dict[str, str]]:
    """The costs of each side that ran, and why the others did not. Ours has a turn before each of theirs."""
    costs: dict[str, list[Cost]] = {name: [] for name in sides}
    reasons: dict[str, str] = {}
    for _ in range(rounds):
        for name, run in sides.items():
            if name == "ours" or name in reasons:
                continue
            costs["ours"].append(sides["ours"]())
            try:
                costs[name].append(run())
            except Failed as error:
                reasons[name] = str(error)
    return costs, reasons


def _whole(run: Callable[[], Cost], rows: int, folder: Path) -> Cost:
    """Run a side, which must leave every row in a CSV file below `folder`; the file goes away. Raises Failed."""
    cost = run()
    files = list(folder.rglob("*.csv"))
    lines = max((_lines_of(file) for file in files), default=0)
    for file in files:
        file.unlink()
    if lines not in (rows, rows + 1):
        raise Failed(f"wrote {lines} of {rows} rows")
    return cost


def _lines_of(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _lines(rows: int, costs: dict[str, list[Cost]], reasons: dict[str, str]) -> Iterator[Line]:
    seconds = {name: statistics.median(run.seconds for run in each) for name, each in costs.items() if each}
    megabytes = {name: statistics.median(run.megabytes for run in each) for name, each in costs.items() if each}
    for name, (faster, smaller) in GOALS.items():
        what = f"PostgreSQL to CSV, {rows:,} rows, whole process"
        if name in reasons:
            yield NotRun(f"{what} | {name}", reasons[name])
            continue
        yield Leg(f"{what} | {name}", seconds["ours"], seconds[name], 1 / faster)
        if smaller:
            yield Leg(f"{what}, peak memory | {name}", megabytes["ours"], megabytes[name], 1 / smaller, "MB", better="less")


def _python(side: str, database: Database, folder: Path) -> Cost:
    return measured([sys.executable, "-m", "bench.rivals", side, str(folder), database.url], folder)


def _ours(folder: Path, url: str) -> None:
    """The product's own way to hashed, counted CSV on disk."""
    from bench.spooling import spool
    from waybill.configuration.catalog import PostgresSource
    from waybill.connection import Connection
    from waybill.sources.postgres.source import Postgres

    entity, at = pickle.loads((folder / "entity").read_bytes()), urlsplit(url)  # noqa: S301 (our own)
    target = Connection("pg", "postgres", at.hostname or "", at.port, at.username or "", at.path.strip("/"))
    spool(Postgres(PostgresSource(kind="postgres", connection="pg"), lambda _: target), entity, folder / "ours.csv")


def _sling(database: Database, folder: Path) -> Cost:
    if importlib.util.find_spec("sling_linux_amd64") is None:
        raise Failed("sling-linux-amd64 is not installed (it is made for Linux on x86-64 only)")
    from sling_linux_amd64 import SLING_BIN

    url = f"postgresql://{database.user}@{database.host}:{database.port}/{database.name}?sslmode=disable"
    settings = {**os.environ, "BENCH": url, "SLING_HOME_DIR": str(folder / "sling"), "SLING_DISABLE_TELEMETRY": "true"}
    target = f"file://{folder}/sling.csv"
    return measured([SLING_BIN, "run", "--src-conn", "BENCH", "--src-stream", QUERY, "--tgt-object", target], folder, settings)


def _dlt(backend: str, database: Database, folder: Path) -> Cost:
    missing = [name for name in ("dlt", "connectorx") if importlib.util.find_spec(name) is None]
    if missing:
        raise Failed(f"{' and '.join(missing)} not installed")
    shutil.rmtree(folder / "dlt", ignore_errors=True)
    return _python(backend, database, folder)


def _run_dlt(backend: str, folder: Path, url: str) -> None:
    os.environ |= {
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "NORMALIZE__DATA_WRITER__DISABLE_COMPRESSION": "true",
        "DATA_WRITER__DISABLE_COMPRESSION": "true",
    }
    import dlt
    from dlt.sources.sql_database import sql_table

    plain = url.replace("+psycopg", "")
    options: dict[str, Any] = {"backend_kwargs": {"conn": plain, "return_type": "arrow_stream"}} if backend == "connectorx" else {}
    table = sql_table(credentials=url, table="orders", backend=backend, chunk_size=100_000, **options)  # type: ignore[arg-type]
    target = dlt.destinations.filesystem(bucket_url=(folder / "dlt" / "out").as_uri())
    pipeline = dlt.pipeline("bench", destination=target, dataset_name="bench", pipelines_dir=str(folder / "dlt" / "state"))
    pipeline.run(table, loader_file_format="csv").raise_on_failed_jobs()


def _pandas(folder: Path, url: str) -> None:
    """Airflow's operator as it is: only the connection comes from here and the object goes to a file."""
    import psycopg
    from airflow.providers.amazon.aws.transfers import sql_to_s3
    from airflow.providers.common.sql.hooks.sql import DbApiHook

    class Hook(DbApiHook):
        conn_name_attr = "bench"
        bench = "bench"

        def get_conn(self) -> Any:
            return psycopg.connect(url.replace("+psycopg", ""))

    class Folder:
        def __init__(self, **_: Any) -> None: ...

        def load_file_obj(self, file_obj: Any, **_: Any) -> None:
            with (folder / "pandas.csv").open("wb") as file:
                shutil.copyfileobj(file_obj, file)

    class Operator(sql_to_s3.SqlToS3Operator):
        def _get_hook(self) -> DbApiHook:
            return Hook()

    sql_to_s3.S3Hook = Folder  # type: ignore[misc]
    operator = Operator(
        task_id="bench",
        query=QUERY,
        s3_bucket="bench",
        s3_key="pandas.csv",
        sql_conn_id="bench",
        file_format="csv",
        df_kwargs={"index": False},
    )
    operator.execute({})


def _run(side: str, folder: Path, url: str) -> None:
    runs = {"ours": _ours, "pandas": _pandas}
    runs.get(side, partial(_run_dlt, side))(folder, url)


if __name__ == "__main__":
    _run(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
