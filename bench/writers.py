"""The writers of on-demand exports, side by side with pandas' own, and the memory they need.

`python -m bench writers [--quick]` prints one line per leg: leg | ours | theirs | ratio | goal | met.
Both sides read the same Parquet file and only their writing counts; ours also takes credentials out and hashes. Every round is a process
of its own, sides take turns, and figures are medians.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from bench.leg import Leg

ROUNDS = 3
FLAT = 1.2
COLUMNS = {
    "id": "integer",
    "name": "string",
    "note": "string",
    "amount": "decimal",
    "score": "float",
    "active": "boolean",
    "day": "date",
    "at": "timestamp",
    "ref": "uuid",
    "profile": "json",
}
ROWS = """
    SELECT i AS id, 'user ' || i AS name, 'She said, "yes" to number ' || i || ' <b>&amp;</b>' AS note,
           (i * 37 % 100000)::DECIMAL(20, 4) AS amount, i / 7 AS score, i % 2 = 0 AS active, DATE '2020-01-01' + (i % 2000)::INTEGER AS day,
           TIMESTAMPTZ '2026-01-01 00:00:00.000001+00' + to_seconds(i) AS at, md5(i::VARCHAR)::UUID::VARCHAR AS ref,
           '{"plan":"pro","seats":' || i % 1000 || ',"geo":{"city":"Berlin","lat":52.5},"tags":["a","b"]}' AS profile
      FROM range({rows}) AS t(i)
"""


def legs(quick: bool) -> Iterator[Leg]:
    """For each format the time of both sides, and the peak of our memory for few rows and for many."""
    sizes = (
        {"ndjson": 200_000, "xlsx": 50_000, "parquet": 500_000} if quick else {"ndjson": 2_000_000, "xlsx": 250_000, "parquet": 4_000_000}
    )
    few, many = (100_000, 400_000) if quick else (200_000, 4_000_000)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for format, rows in sizes.items():
            taken: dict[str, list[float]] = {"ours": [], "pandas": []}
            for _ in range(ROUNDS):
                for side, seconds in taken.items():
                    seconds.append(_measure(side, format, _rows(folder, rows))[0])
            ours, theirs = (statistics.median(seconds) for seconds in taken.values())
            yield Leg(f"{format.upper()}, {rows:,} rows | pandas", ours, theirs, 1.0)
            peaks = [_measure("ours", format, _rows(folder, size))[1] for size in (many, few)]
            yield Leg(f"{format.upper()}, peak memory, {many:,} rows | {few:,} rows", *peaks, FLAT, "MB")


def _rows(folder: Path, rows: int) -> Path:
    path = folder / f"{rows}.parquet"
    if not path.exists():
        duckdb.execute(f"COPY ({ROWS.replace('{rows}', str(rows))}) TO '{path}' (FORMAT parquet)")
    return path


def _measure(side: str, format: str, rows: Path) -> tuple[float, float]:
    """Seconds and megabytes of one process."""
    argv = [sys.executable, "-m", "bench.writers", side, format, str(rows)]
    seconds, megabytes = map(float, subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split())
    return seconds, megabytes


def _ours(format: str, rows: Path, target: Path) -> float:
    import pyarrow.parquet as pq

    from waybill.canonical import ColumnType
    from waybill.configuration.values.columns import Column
    from waybill.formats import open_writer
    from waybill.formats.base import WriterOptions

    columns = {name: Column(type=ColumnType(kind)) for name, kind in COLUMNS.items()}
    writer = open_writer(format, target, "orders", columns, WriterOptions(datetime(2026, 1, 1, tzinfo=UTC)))
    taken = 0.0
    for batch in pq.ParquetFile(rows, pre_buffer=False).iter_batches(50_000):
        began = time.perf_counter()
        writer.write(batch)
        taken += time.perf_counter() - began
    began = time.perf_counter()
    writer.close()
    return taken + time.perf_counter() - began


def _pandas(format: str, rows: Path, target: Path) -> float:
    import pandas as pd

    frame = pd.read_parquet(rows)
    if format == "xlsx":
        frame["at"] = frame["at"].dt.tz_localize(None)  # to_excel refuses zones
    began = time.perf_counter()
    match format:
        case "ndjson":
            frame.to_json(target, orient="records", lines=True, date_format="iso", date_unit="us")
        case "xlsx":
            frame.to_excel(target, index=False, engine="xlsxwriter")
        case "parquet":
            frame.to_parquet(target, index=False)
    return time.perf_counter() - began


def _peak_megabytes() -> float:
    """Of this process, at its largest. Not ru_maxrss: a child begins with its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _write(side: str, format: str, rows: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch, f"out.{format}")
        seconds = {"ours": _ours, "pandas": _pandas}[side](format, rows, target)
    print(seconds, _peak_megabytes())


if __name__ == "__main__":
    _write(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
