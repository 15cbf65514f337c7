"""What it costs that no key of a lake's delta is another row's, beside reading the delta.

`python -m bench lakes [--quick]` prints one line per leg: leg | against | ours | theirs | ratio | goal | met.
20 million rows (quick: 2 million) of 400 tenants in 60 files, one for each day; the delta is the last day of one tenant. A leg compares
checking and reading it with reading it, best of three, without the rest of a delivery.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter

import duckdb

from bench.leg import Leg, Line
from waybill.configuration.catalog import Entity, LakeSource
from waybill.configuration.selection import ChangeSpan, FileStyle, Selection
from waybill.sources.duckdb.lake import Lake

DAYS, TENANTS = 60, 400
FIRST = datetime(2026, 4, 1, tzinfo=UTC)
KEYS = {"number": "integer", "code": "string", "hash": "string"}
"""A number and a text that rise with time, and a text that does not."""
GOALS = {("by day", "hash"): 40.0}
"""Random texts have to be looked for in every file."""
GOAL = 6.0


def legs(quick: bool) -> Iterator[Line]:
    rows = 2_000_000 if quick else 20_000_000
    with tempfile.TemporaryDirectory(prefix="waybill-bench-") as folder:
        root = Path(folder)
        _fill(root, rows)
        for layout, relation in (("by day", "days/*.parquet"), ("by tenant", "tenants/*/*.parquet")):
            for key in KEYS:
                whole, read = (min(_seconds(root, relation, key, checked) for _ in range(3)) for checked in (True, False))
                name = f"delta of a lake {layout}: 1 of {DAYS} days, {rows:,} rows, key {key} | reading it unchecked"
                yield Leg(name, whole, read, GOALS.get((layout, key), GOAL))


def _seconds(root: Path, relation: str, key: str, checked: bool) -> float:
    columns = {key: {"type": KEYS[key]}, "note": {"type": "string"}, "updated_at": {"type": "timestamp"}}
    plain = {"id": "events", "source": "lake", "tenant_column": "tenant_id", "changes": {"mode": "lookback", "column": "updated_at"}}
    entity = Entity.model_validate({**plain, "relation": relation, "key": [key], "columns": columns})
    last = FIRST + timedelta(days=DAYS - 1)
    selection = Selection(entity, "org2", entity.columns, ChangeSpan(last, last + timedelta(days=1)))
    began = perf_counter()
    with Lake(LakeSource(kind="lake", path="."), root, {}.__getitem__).snapshot([entity]) as snapshot:
        if checked:
            snapshot.check(selection)
        if not sum(rows for _, rows in snapshot.csv(selection, FileStyle())):
            raise RuntimeError("the tenant has no rows")
    return perf_counter() - began


def _fill(root: Path, rows: int) -> None:
    a_day = rows // DAYS
    (root / "days").mkdir()
    for day in range(DAYS):
        when = f"timestamptz '{FIRST.isoformat()}' + to_days({day}) + (i - {day * a_day}) * interval '1 day' / {a_day}"
        owner = f"'org' || hash(i) % {TENANTS}"
        keys = "i as number, printf('ORD-%012d', i) as code, md5(i::varchar) as hash"
        made = f"select {keys}, {owner} as tenant_id, 'note ' || i as note, {when} as updated_at"
        target = f"'{root}/days/{day:02}.parquet' (format parquet)"
        duckdb.execute(f"copy ({made} from range({day * a_day}, {(day + 1) * a_day}) r(i)) to {target}")
    some = f"select * from '{root}/days/*.parquet' where tenant_id in ('org1', 'org2', 'org3')"
    duckdb.execute(f"copy ({some}) to '{root}/tenants' (format parquet, partition_by (tenant_id))")
