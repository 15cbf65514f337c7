"""What finding vanished rows costs: a delivery that compares all keys, or whole rows, beside the same delivery without a comparison.

`python -m bench deletes [--quick]` prints one line per leg: leg | against | ours | theirs | ratio | goal | met.
10 million keys (quick: 1 million) of one tenant in PostgreSQL, 1 % of them gone. The deliveries are processes of their own, from planning
to the committed manifest; the file of the gone keys is read back and counted. Where rows are compared, some also changed without a sign.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.leg import Figure, Line
from bench.processes import Cost, measured
from tests.installations import Place
from tests.servers.postgres import Database, serve_postgres

UNTIL = ("2026-05-31T12:00:00Z", "2026-06-01T12:00:00Z")


def legs(quick: bool) -> Iterator[Line]:
    rows = 1_000_000 if quick else 10_000_000
    with tempfile.TemporaryDirectory() as scratch, serve_postgres() as cluster, cluster.database() as database:
        costs, ledger = {}, {}
        for deletes in ("compare", "compare_rows", "never"):
            folder = Path(scratch) / deletes
            folder.mkdir()
            _fill(database, rows)
            with closing(_place(folder, deletes)) as place:
                environment = _environment(place, database)
                _run(place, environment, UNTIL[0])
                database.psql("delete from orders where id % 100 = 7; update orders set name = 'other' where id <= 1000")
                costs[deletes] = _run(place, environment, UNTIL[1])
                if deletes != "never":
                    _check(place, rows // 100, 1000 - 10 if deletes == "compare_rows" else 0)
                    ledger[deletes] = sum(path.stat().st_size for path in (folder / ".waybill").glob("ledger.db*")) / 1e6
        yield Figure(f"a delivery that compares {rows:,} keys, 1 % gone | ", costs["compare"].seconds, "s")
        yield Figure("a delivery that compares as many rows | ", costs["compare_rows"].seconds, "s")
        yield Figure("the same delivery without a comparison | ", costs["never"].seconds, "s")
        yield Figure("peak memory of the one that compares keys | ", costs["compare"].megabytes, "MB")
        yield Figure("peak memory of the one that compares rows | ", costs["compare_rows"].megabytes, "MB")
        yield Figure("peak memory of the one that does not | ", costs["never"].megabytes, "MB")
        yield Figure("ledger with keys, SQLite | ", ledger["compare"], "MB")
        yield Figure("ledger with versions of rows, SQLite | ", ledger["compare_rows"], "MB")


def _fill(database: Database, rows: int) -> None:
    database.psql(
        f"""drop table if exists orders;
        create table orders as select i::bigint as id, 'acme'::text as tenant_id, 'order ' || i as name,
            timestamptz '2026-04-01' + i * interval '1 second' / 10 as updated_at from generate_series(1, {rows}) i;
        alter table orders add primary key (id), alter tenant_id set not null;
        create index on orders (tenant_id, updated_at); analyze orders;"""
    )


def _place(folder: Path, deletes: str) -> Place:
    place = Place(folder)
    entity = {
        "source": "pg",
        "relation": "orders",
        "tenant_column": "tenant_id",
        "key": ["id"],
        "changes": {"mode": "lookback", "column": "updated_at", "lookback": "1h"},
        "deletes": deletes,
        "columns": {"id": {"type": "integer"}, "name": {"type": "string"}, "updated_at": {"type": "timestamp"}},
    }
    place.write("catalog.yaml", {"sources": {"pg": {"kind": "postgres", "connection": "bench_pg"}}, "entities": {"orders": entity}})
    place.tenant(entityList=["orders"])
    return place


def _environment(place: Place, database: Database) -> dict[str, str]:
    url = f"postgres://{database.user}@{database.host}:{database.port}/{database.name}"
    return {**os.environ, "WAYBILL_CONFIG_DIR": str(place.root / "config"), "AIRFLOW_CONN_BENCH_PG": url}


def _run(place: Place, environment: dict[str, str], until: str) -> Cost:
    return measured([sys.executable, "-m", "waybill", "run", "acme", "--until", until], place.root, environment)


def _check(place: Place, gone: int, changed: int) -> None:
    manifest = next(manifest for manifest in map(_read, place.out.rglob("*.manifest.json")) if manifest["sequence"] == 2)
    if manifest["deletes"]["rows"] != gone:
        raise RuntimeError(f"{manifest['deletes']['rows']} keys were told to be gone, not {gone}")
    if manifest["rows"] != changed:
        raise RuntimeError(f"{manifest['rows']} rows were told to be others, not {changed}")


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))
