"""The memory an extraction needs at its peak, for a tenth of the rows and for all of them.

`python -m bench memory [--quick]` prints one line per leg: leg | against | ours | theirs | ratio | goal | met.
Each extraction runs in a process of its own. Flat means that ten (quick) or twenty times the rows need no more than a fifth more memory.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import duckdb

from bench.extract import ENTITY, ROWS
from bench.leg import Leg
from waybill.selection import Dialect, Selection
from waybill.sources.duckdb import DuckDB

GOAL = 1.2


def legs(quick: bool) -> Iterator[Leg]:
    few, many = (200_000, 2_000_000) if quick else (1_000_000, 20_000_000)
    with tempfile.TemporaryDirectory() as scratch:
        for name, order in (("stored in key order", ""), ("that must be sorted", "ORDER BY hash(id)")):
            peaks = []
            for rows in (few, many):
                file = Path(scratch, f"{rows}.duckdb")
                with duckdb.connect(str(file)) as connection:
                    filled = ROWS.format(float="DOUBLE", range=f"range(1, {rows + 1}) r(i)")
                    connection.execute(f"CREATE TABLE orders AS SELECT * FROM ({filled}) {order}")
                argv = [sys.executable, "-m", "bench.memory", str(file)]
                peaks.append(float(subprocess.run(argv, capture_output=True, text=True, check=True).stdout))
                file.unlink()
            yield Leg(f"peak memory, {many:,} rows of DuckDB {name} | {few:,} rows", peaks[1], peaks[0], GOAL, "MB")


def peak_megabytes() -> float:
    """Of this process, at its largest. Not ru_maxrss: a child begins with its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _read(file: Path) -> None:
    with DuckDB(file).snapshot() as snapshot:
        selection = Selection(ENTITY, "acme", ENTITY.columns)
        snapshot.check(selection)
        for _ in snapshot.csv(selection, Dialect()):
            pass


if __name__ == "__main__":
    _read(Path(sys.argv[1]))
    print(peak_megabytes())
