"""What it costs to find a tenant's rows through parents, with and without indexes on the columns that lead to them.

`python -m bench parents [--quick]` prints one line per leg: leg | against | ours | theirs | ratio | goal | met.
5 million lines (quick: 500,000) of 500,000 orders (50,000) of 1,000 customers in PostgreSQL; one customer is the tenant. Each figure is the
best of three: what a full load, or a delta of one day, checks and reads, without the rest of a delivery.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

from bench.leg import Figure, Line
from tests.servers.postgres import Database, serve_postgres
from waybill.configuration.catalog import Entity, PostgresSource
from waybill.configuration.selection import ChangeSpan, FileStyle, Selection
from waybill.connection import Connection
from waybill.sources.postgres.source import Postgres

STEPS = [{"table": "orders", "on": "order_id = id"}, {"table": "customers", "on": "customer_id = id", "column": "org_id"}]
DAY = ChangeSpan(datetime(2026, 4, 2, tzinfo=UTC), datetime(2026, 4, 3, tzinfo=UTC))


def legs(quick: bool) -> Iterator[Line]:
    lines = 500_000 if quick else 5_000_000
    with serve_postgres() as cluster, cluster.database() as database:
        _fill(database, lines)
        size = f"{lines // 1000:,} of {lines:,} rows"
        yield from _figures(database, f"{size}, by an indexed column of their own", tenant_column="org_id")
        yield from _figures(database, f"{size}, through two parents, keys indexed alone", tenant_through=STEPS)
        database.psql("create index on lines (order_id); create index on orders (customer_id); analyze;")
        yield from _figures(database, f"{size}, through two parents, each step indexed", tenant_through=STEPS)


def _figures(database: Database, what: str, **owner: Any) -> Iterator[Line]:
    columns = {"id": {"type": "integer"}, "name": {"type": "string"}, "updated_at": {"type": "timestamp"}}
    changes = {"mode": "lookback", "column": "updated_at", "lookback": "1h"}
    body = {"id": "lines", "source": "pg", "relation": "lines", "key": ["id"], "changes": changes, "columns": columns, **owner}
    entity = Entity.model_validate(body)
    at = Connection("pg", "postgres", database.host, database.port, database.user, database.name)
    source = Postgres(PostgresSource(kind="postgres", connection="pg"), lambda _: at)
    for name, span in (("full load", ChangeSpan()), ("delta of a day", DAY)):
        selection = Selection(entity, "org7", columns=entity.columns, changed=span)
        yield Figure(f"{name}: {what} | ", min(_seconds(source, selection) for _ in range(3)), "s")


def _seconds(source: Postgres, selection: Selection) -> float:
    began = perf_counter()
    with source.snapshot([selection.entity]) as snapshot:
        snapshot.check(selection)
        if not sum(rows for _, rows in snapshot.csv(selection, FileStyle())):
            raise RuntimeError("the tenant has no rows")
    return perf_counter() - began


def _fill(database: Database, lines: int) -> None:
    orders = lines // 10
    database.psql(
        f"""create table customers as select i as id, 'org' || i as org_id from generate_series(1, 1000) i;
        create table orders as select i as id, i % 1000 + 1 as customer_id from generate_series(1, {orders}) i;
        create table lines as select i::bigint as id, i % {orders} + 1 as order_id, 'org' || (i % {orders} + 1) % 1000 + 1 as org_id,
            'line ' || i as name, timestamptz '2026-04-01' + i * interval '1 second' / 10 as updated_at from generate_series(1, {lines}) i;
        alter table customers add primary key (id);
        alter table orders add primary key (id);
        alter table lines add primary key (id);
        create index on lines (org_id, updated_at);
        vacuum analyze customers; vacuum analyze orders; vacuum analyze lines;"""
    )
