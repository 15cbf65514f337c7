"""Each kind of source, filled with its table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.native_types import duckdb, mariadb, parquet, postgres, sqlite
from tests.native_types.values import Installation
from tests.servers.mariadb import MariaServer
from tests.servers.postgres import Cluster
from waybill.configuration.catalog import DbApiSource
from waybill.sources.dbapi.source import DbApi

KINDS = ["duckdb", "parquet", "postgres", "sqlite", "mariadb"]


@contextmanager
def installed(kind: str, request: pytest.FixtureRequest, path: Path) -> Iterator[Installation]:
    match kind:
        case "duckdb":
            yield Installation(duckdb.filled(path), duckdb.DUCKDB)
        case "parquet":
            yield Installation(parquet.filled(path), parquet.PARQUET, "sample.parquet")
        case "sqlite":
            yield Installation(sqlite.filled(path), sqlite.SQLITE)
        case "mariadb":
            server: MariaServer = request.getfixturevalue("mariadb_server")
            with server.database() as found:
                yield Installation(mariadb.filled(found), mariadb.MARIADB)
        case "postgres through a driver":
            cluster: Cluster = request.getfixturevalue("postgres_cluster")
            with cluster.database() as database:
                postgres.filled(database)
                driver = DbApi(DbApiSource(kind="dbapi", connection="pg"), lambda _: psycopg.connect(database.dsn))
                yield Installation(driver, postgres.POSTGRES)
        case "postgres":
            cluster = request.getfixturevalue("postgres_cluster")
            with cluster.database() as database:
                postgres.filled(database)
                yield Installation(postgres.source_of(database), postgres.POSTGRES)
