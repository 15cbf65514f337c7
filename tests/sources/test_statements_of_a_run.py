"""How often a run asks PostgreSQL: each question waits for an answer from another machine, for every entity of every tenant."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.deliveries.test_redefined import ENTITY, over_postgres
from tests.servers.postgres import Cluster, Database

FUNCTION = "create function f(x varchar) returns varchar language sql as 'select upper($1)'"
CALLS = "create view shown as select tenant_id, id, f(name)::varchar(20) as name, other, updated_at from thing"
QUERY = {"relation": "", "query": "select * from shown", "columns": {**ENTITY["columns"], "updated_at": {"type": "timestamp"}}}
SHAPES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "table": ([], {}),
    "view": (["create view shown as select * from thing"], {"relation": "shown"}),
    "function": ([FUNCTION, CALLS], {"relation": "shown"}),
    "query": ([FUNCTION, CALLS], QUERY),
}
MOST = {
    ("table", "postgres"): 25,
    ("view", "postgres"): 26,
    ("function", "postgres"): 28,
    ("query", "postgres"): 30,
    ("table", "dbapi"): 37,
    ("view", "dbapi"): 37,
    ("function", "dbapi"): 38,
    ("query", "dbapi"): 40,
}


@pytest.mark.parametrize(("shape", "kind"), MOST)
def test_a_run_asks_postgresql_no_more_than_it_must_and_nothing_where_nothing_is_due(
    tmp_path: Path, postgres_cluster: Cluster, postgres: Database, shape: str, kind: str
) -> None:
    def asked() -> list[str]:
        said = [line for line in postgres_cluster.log.read_text(errors="replace").splitlines() if f" {postgres.name} LOG:  " in line]
        return [line for line in said if "LOG:  statement: " in line or "LOG:  execute " in line]

    made, more = SHAPES[shape]
    with closing(over_postgres(tmp_path, postgres, {"kind": kind, "connection": "pg"})) as books:
        books.begin(*made, **more)
        postgres.psql(f"alter database {postgres.name} set log_statement = 'all'")
        books.deliver(1)
        once = asked()
        assert 0 < len(once) <= MOST[shape, kind], "\n".join(once)
        books.deliver(1)
        assert asked() == once
