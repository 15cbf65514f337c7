"""Reads rows from DuckDB files, Parquet lakes, PostgreSQL, and any database that Airflow has a connection type for.

In: a source of the catalog, its connection, and a selection of a tenant's rows. Out: canonical CSV, digests or Arrow batches of one
consistent snapshot. The same rows give the same bytes from every kind. `base` states what a source promises, `query` builds every statement
and puts the tenant's predicate into it, `equality` compares exactly, `parents` leads to the tables that know the tenant, `duckdb/` reads
files and lakes, `postgres/` reads through COPY, and `dbapi/` through any driver.

`drift` checks whether a relation is still what the catalog says, `definitions` whether its views still are, and `extents` decides how far a
delivery reads. `structures/` reads the source's own catalogue for `discovery`. They share `sql` (text with bind parameters), `arrow`
(canonical CSV as batches), `row_security` (what policies of PostgreSQL hide) and `reuse` (what stays open for a task).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from waybill.configuration.catalog import DbApiSource, DuckDBSource, LakeSource, PostgresSource, SourceSpec
from waybill.connection import Connections
from waybill.sources.base import Snapshot, Source

__all__ = ["Snapshot", "Source", "open_source"]


def open_source(spec: SourceSpec, base: Path, connections: Connections, connect: Callable[[str], Any] | None = None) -> Source:
    """Return the source that a spec describes, and open nothing yet. Relative paths are resolved against `base`.

    `connect` opens a DB-API connection by Airflow connection id (`DbApiHook.get_conn`). Only `dbapi` sources need it.
    """
    match spec:
        case DuckDBSource():
            from waybill.sources.duckdb.source import DuckDB

            return DuckDB(base / spec.path)
        case LakeSource():
            from waybill.sources.duckdb.lake import Lake

            return Lake(spec, base, connections)
        case PostgresSource():
            from waybill.sources.postgres.source import Postgres

            return Postgres(spec, connections)
        case DbApiSource():
            from waybill.sources.dbapi.source import DbApi

            return DbApi(spec, connect)
