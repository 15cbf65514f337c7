"""Each kind of source, filled with its table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.native_types import duckdb, mariadb, postgres, sqlite
from tests.native_types.values import Installation
from tests.servers.mariadb import MariaServer
from tests.servers.postgres import Cluster

KINDS = ["duckdb", "postgres", "sqlite", "mariadb"]


@contextmanager
def installed(kind: str, request: pytest.FixtureRequest, path: Path) -> Iterator[Installation]:
    match kind:
        case "duckdb":
            yield Installation(duckdb.filled(path), duckdb.DUCKDB)
        case "sqlite":
            yield Installation(sqlite.filled(path), sqlite.SQLITE)
        case "mariadb":
            server: MariaServer = request.getfixturevalue("mariadb_server")
            with server.database() as found:
                yield Installation(mariadb.filled(found), mariadb.MARIADB)
        case "postgres":
            cluster: Cluster = request.getfixturevalue("postgres_cluster")
            with cluster.database() as database:
                postgres.filled(database)
                yield Installation(postgres.source_of(database), postgres.POSTGRES)
