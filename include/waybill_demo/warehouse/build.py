"""The demo warehouse: a DuckDB file with a plausible company life for a few tenants, the same for the same arguments.

`build` tells the story from `days` before `until`, and `advance` continues it in place. No clock is read: the file knows its own day.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from waybill_demo.warehouse import content, people, surveys
from waybill_demo.warehouse.life import Company, Row, Table, tell

TABLES: tuple[Table, ...] = (*people.TABLES, *content.TABLES, *surveys.TABLES)

TENANTS = ("acme", "globex", "initech")
HISTORY_UNTIL = date(2026, 5, 31)
"""A day before a Monday that is the first of a month, so that one more day makes a delta due for every frequency."""
DAYS = 90

_ARROW = {
    "VARCHAR": pa.string(),
    "UUID": pa.string(),
    "JSON": pa.string(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "TIMESTAMPTZ": pa.timestamp("us", tz="UTC"),
    "DECIMAL(18,4)": pa.decimal128(18, 4),
    "BLOB": pa.binary(),
}


def build(
    path: Path,
    tenants: Sequence[str] = TENANTS,
    until: date = HISTORY_UNTIL,
    days: int = DAYS,
    scale: float = 1.0,
) -> None:
    """Write the whole story of the `days` before `until` (midnight UTC, exclusive). An existing file is replaced whole.

    Scale 1 is about a hundred people and 15,000 rows per tenant in 90 days. Rows grow with `scale` and `days`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    start = until - timedelta(days=days)
    with duckdb.connect(str(part)) as connection:
        for table in TABLES:
            columns = ", ".join(f'"{name}" {kind}' for name, kind in table.types.items())
            connection.execute(f'CREATE TABLE "{table.name}" ({columns})')
        connection.execute("CREATE TABLE demo_story (tenants VARCHAR[], start DATE, until DATE, scale DOUBLE)")
        connection.execute("INSERT INTO demo_story VALUES (?, ?, ?, ?)", [list(tenants), start, until, scale])
        for table, rows in _story(tenants, start, until, scale):
            _insert(connection, table, rows)
    path.with_name(f"{path.name}.wal").unlink(missing_ok=True)
    part.replace(path)


def advance(path: Path, days: int = 1) -> None:
    """Move the warehouse on: rows are born, edited or deleted in the days after `today`, and all have their `updated_at` in them.

    This is one transaction. Rows that the story does not touch in these days stay as they are, whoever wrote them.
    """
    with duckdb.connect(str(path)) as connection:
        tenants, start, today, scale = connection.execute("SELECT tenants, start, until, scale FROM demo_story").fetchall()[0]
        until = today + timedelta(days=days)
        since = _midnight(today)
        connection.begin()
        for table, rows in _story(tenants, start, until, scale):
            _replace(connection, table, [row for row in rows if row["updated_at"] >= since])
        connection.execute("UPDATE demo_story SET until = ?", [until])
        connection.commit()


def today(path: Path) -> date:
    """Return the day that the warehouse has reached. Everything before its midnight UTC has happened, and nothing after it."""
    with duckdb.connect(str(path), read_only=True) as connection:
        found: date = connection.execute("SELECT until FROM demo_story").fetchall()[0][0]
    return found


def _story(tenants: Sequence[str], start: date, until: date, scale: float) -> Iterator[tuple[Table, list[Row]]]:
    for tenant in tenants:
        company = Company(tenant, _midnight(start), _midnight(until), scale)
        tell(TABLES, company)
        for table in TABLES:
            yield table, [life.row for life in company.lives[table.name]]


def _insert(connection: duckdb.DuckDBPyConnection, table: Table, rows: list[Row]) -> None:
    arrays = {name: pa.array([row[name] for row in rows], _ARROW[kind]) for name, kind in table.types.items()}
    connection.register("batch", pa.table(arrays))
    connection.execute(f'INSERT INTO "{table.name}" BY NAME SELECT * FROM batch')  # noqa: S608 names from TABLES
    connection.unregister("batch")


def _replace(connection: duckdb.DuckDBPyConnection, table: Table, rows: list[Row]) -> None:
    if not rows:
        return
    keys = pa.table({name: pa.array([row[name] for row in rows], _ARROW[table.types[name]]) for name in ("tenant_id", "id")})
    connection.register("keys", keys)
    connection.execute(
        f'DELETE FROM "{table.name}" USING keys WHERE "{table.name}".tenant_id = keys.tenant_id'  # noqa: S608 names from TABLES
        f' AND "{table.name}".id = CAST(keys.id AS {table.types["id"]})'
    )
    connection.unregister("keys")
    _insert(connection, table, rows)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
