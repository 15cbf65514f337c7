"""A pool with a single server connection is enough: nobody waits for a second one while holding the first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.copies import Copy
from tests.deliveries.test_redefined import Books
from tests.installations import DAY, NOON
from tests.servers.pgbouncer import serve_pgbouncer
from tests.servers.postgres import Database
from waybill import doctor
from waybill.connection import Connection
from waybill.deliveries.recovery.reconciling import reconcile
from waybill.deliveries.repairs import backfill, redeliver

PATIENCE = 30
"""How many seconds the pool lets a session wait for its server connection: longer than whoever holds one without waiting."""
ROWS = 600
ENTITY = {
    "source": "pool",
    "relation": "thing",
    "tenant_column": "tenant_id",
    "key": ["id"],
    "changes": {"mode": "lookback", "column": "updated_at", "lookback": "24h"},
    "columns": {"id": {"type": "integer"}, "name": {"type": "string"}},
}
ENTITIES: dict[str, dict[str, Any]] = {
    "compared": {"deletes": "compare", "source_rows": True},
    "whole": {"changes": {"mode": "full"}, "deletes": "compare"},
    "by_id": {"changes": {"mode": "append", "column": "id", "lag": 5}},
    "queried": {"relation": "", "query": "SELECT * FROM seen"},
    "viewed": {"relation": "seen", "deletes": "compare"},
}
NATIVE: dict[str, dict[str, Any]] = {
    "parted": {"streams": 3},
    "horizon": {"changes": {"mode": "horizon", "column": "updated_at"}},
    "snapshot": {"changes": {"mode": "snapshot", "column": "waybill_xid"}, "deletes": "compare"},
}


@pytest.fixture
def filled(postgres: Database) -> Database:
    postgres.psql(
        f"""CREATE TABLE thing (tenant_id text, id bigint PRIMARY KEY, name text, updated_at timestamptz, waybill_xid xid8);
            INSERT INTO thing SELECT 'acme', i, 'n' || i, '2026-05-30Z', pg_current_xact_id() FROM generate_series(1, {ROWS}) i;
            CREATE FUNCTION spelt(text) RETURNS text LANGUAGE sql AS $$ SELECT upper($1) $$;
            CREATE VIEW seen AS SELECT tenant_id, id, spelt(name) AS name, updated_at FROM thing;
            ANALYZE thing"""
    )
    return postgres


@pytest.fixture(params=["postgres", "dbapi"])
def place(request: pytest.FixtureRequest, tmp_path: Path, filled: Database) -> Iterator[Books]:
    with serve_pgbouncer(filled, 1, patience=PATIENCE) as pool, serve_pgbouncer(filled, 1, patience=PATIENCE) as beside:
        at = Connection("pg", "postgres", pool.host, pool.port, pool.user, pool.name)
        books = Books(tmp_path, connections={"pg": at}, ledger_url=beside.url, spec={}, open=lambda: psycopg.connect(pool.dsn))
        with closing(books) as place:
            entities = {name: ENTITY | more for name, more in (ENTITIES | (NATIVE if request.param == "postgres" else {})).items()}
            place.write("catalog.yaml", {"sources": {"pool": {"kind": request.param, "connection": "pg"}}, "entities": entities})
            place.tenant(entityList=list(entities))
            yield place


def errors(results: list[Any]) -> list[str]:
    return [str(result.error) for result in results if result.error]


def test_everything_that_reads_a_source_is_content_with_one_server_connection(place: Books, filled: Database) -> None:
    assert errors(place.run(NOON)) == []
    with psycopg.connect(filled.dsn) as application:
        application.execute("DELETE FROM thing WHERE id = 7")
        application.execute("UPDATE thing SET name = 'new', updated_at = '2026-05-31 18:00Z' WHERE id = 8")
    installation = place.installation()
    assert {difference.gone for difference in reconcile(installation, "acme", actor="test").differences} == {1}
    assert errors(place.run(NOON + DAY)) == []
    assert len(Copy().catch_up(place.out / "exports/acme", "compared").rows) == ROWS - 1
    delivered = next(value["delivery_id"] for _, value in place.manifests() if value["entity"] == "compared" and value["kind"] == "full")
    assert errors([redeliver(installation, delivered, actor="test")]) == []
    assert errors([backfill(installation, "acme", "compared", NOON - 9 * DAY, NOON - DAY, actor="test")]) == []
    checks = doctor.examine(installation.settings, installation.connections, installation.now, installation.connect_db)
    assert [check for check in checks if check.status == "failed"] == []


def test_doctor_warns_of_a_source_in_the_pool_of_the_ledger(tmp_path: Path, filled: Database) -> None:
    with serve_pgbouncer(filled, 1, patience=2) as pool:
        at = {"pg": Connection("pg", "postgres", pool.host, pool.port, pool.user, pool.name)}
        for ledger, warned in ((pool, ["source pool"]), (filled, [])):
            with closing(over_a_pool(tmp_path / str(ledger.port), ledger, at)) as place:
                installation = place.installation()
                installation.ledger.upgrade()
                checks = doctor.examine(installation.settings, installation.connections, installation.now, installation.connect_db)
                assert [check.name for check in checks if "pool of the ledger" in check.found] == warned
                found = [*errors(place.run(NOON)), *errors(place.run(NOON + DAY))]
                assert bool(found) == bool(warned), "the warning is right"


def over_a_pool(root: Path, ledger: Database, connections: dict[str, Connection]) -> Books:
    root.mkdir()
    place = Books(root, connections=connections, ledger_url=ledger.url)
    place.write(
        "catalog.yaml",
        {
            "sources": {"pool": {"kind": "postgres", "connection": "pg"}},
            "entities": {name: ENTITY | more for name, more in ENTITIES.items()},
        },
    )
    place.tenant(entityList=list(ENTITIES))
    return place
