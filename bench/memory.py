"""The memory an extraction needs at its peak, for a tenth of the rows and for all of them.

`python -m bench memory [--quick]` prints one line per leg: leg | against | ours | theirs | ratio | goal | met.
Each extraction is a process of its own. Flat means that ten (quick) or twenty times the rows need no more than a fifth more memory, and
none of them should need more than 200 MB.
"""

from __future__ import annotations

import pickle
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench.leg import Leg
from bench.processes import measured

GOAL = 1.2
MOST = 200.0


def legs(quick: bool) -> Iterator[Leg]:
    from bench.extract import ENTITY

    few, many = (200_000, 2_000_000) if quick else (1_000_000, 20_000_000)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "entity").write_bytes(pickle.dumps(ENTITY))
        yield from _peaks("PostgreSQL", few, many, partial(_postgres, folder))
        yield from _peaks("DuckDB stored in key order", few, many, partial(_duckdb, folder, ""))
        yield from _peaks("DuckDB that must be sorted", few, many, partial(_duckdb, folder, "ORDER BY hash(id)"))


def _peaks(what: str, few: int, many: int, peak: Callable[[int], float]) -> Iterator[Leg]:
    most, least = peak(many), peak(few)
    yield Leg(f"peak memory, {many:,} rows of {what} | {few:,} rows", most, least, GOAL, "MB")
    yield Leg(f"peak memory, {many:,} rows of {what} | the most it should be", most, MOST, 1.0, "MB")


def _postgres(folder: Path, rows: int) -> float:
    from bench.extract import fill_postgres
    from tests.servers.postgres import serve_postgres

    with serve_postgres() as cluster, cluster.database() as database:
        fill_postgres(database, rows)
        return measured([sys.executable, "-m", "bench.rivals", "ours", str(folder), database.url], folder).megabytes


def _duckdb(folder: Path, order: str, rows: int) -> float:
    import duckdb

    from bench.extract import ROWS

    file = folder / f"{rows}.duckdb"
    with duckdb.connect(str(file)) as connection:
        filled = ROWS.format(float="DOUBLE", range=f"range(1, {rows + 1}) r(i)")
        connection.execute(f"CREATE TABLE orders AS SELECT * FROM ({filled}) {order}")
    megabytes = measured([sys.executable, "-m", "bench.memory", str(folder), str(file)], folder).megabytes
    file.unlink()
    return megabytes


def _read(folder: Path, file: Path) -> None:
    """All rows as a delivery reads them."""
    from waybill.configuration.selection import FileStyle, Selection
    from waybill.sources.duckdb.source import DuckDB

    entity = pickle.loads((folder / "entity").read_bytes())  # noqa: S301 (our own)
    with DuckDB(file).snapshot() as snapshot:
        selection = Selection(entity, "acme", entity.columns)
        snapshot.check(selection)
        for _ in snapshot.csv(selection, FileStyle()):
            pass


if __name__ == "__main__":
    _read(Path(sys.argv[1]), Path(sys.argv[2]))
