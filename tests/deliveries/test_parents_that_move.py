"""Rows that know their tenant through a parent, when the parent goes to another tenant."""

from contextlib import closing

import pytest

from tests.copies import Copy
from tests.installations import DAY, NOON, Place
from waybill.configuration.rules.seldom_meant import warnings

pytestmark = pytest.mark.fast

LINES = {
    "source": "warehouse",
    "relation": "line",
    "key": ["id"],
    "tenant_through": [{"table": "orders", "on": "order_id = id", "column": "tenant_id"}],
    "changes": {"mode": "lookback", "column": "updated_at", "lookback": "1h"},
    "columns": {"id": {"type": "integer"}, "name": {"type": "string"}},
}
OLD = "timestamptz '2026-05-01 00:00:00Z'"


@pytest.fixture
def place(tmp_path):
    with closing(Place(tmp_path)) as place:
        for tenant in ("acme", "globex"):
            place.tenant(tenant, entityList=["user"])
        place.sql("create table orders (id int, tenant_id varchar); insert into orders values (1, 'acme'), (2, 'globex')")
        place.sql("create table line (id int, order_id int, name varchar, updated_at timestamptz)")
        place.sql(f"insert into line values (1, 1, 'a', {OLD}), (2, 1, 'b', {OLD}), (3, 2, 'c', {OLD})")
        yield place


def catalogued(place: Place, deletes: str) -> list[str]:
    """The warnings `check` gives."""
    place.write(
        "catalog.yaml",
        {"sources": {"warehouse": {"kind": "duckdb", "path": "warehouse.duckdb"}}, "entities": {"user": {**LINES, "deletes": deletes}}},
    )
    return [str(warning) for warning in warnings(place.installation().catalog, "catalog.yaml")]


def test_compared_keys_take_the_rows_from_one_tenant_to_the_other(place):
    assert catalogued(place, "compare") == []
    for until in (NOON, NOON + DAY):
        for tenant in ("acme", "globex"):
            assert [result.error for result in place.run(until, tenant)] == [None]
        place.sql("update orders set tenant_id = 'globex' where id = 1")
    keys = {tenant: Copy().catch_up(place.out / "exports" / tenant).keys() for tenant in ("acme", "globex")}
    assert keys == {"acme": [], "globex": ["1", "2", "3"]}


def test_check_warns_where_nothing_compares_keys(place):
    [warning] = catalogued(place, "never")
    assert "entities.user.tenant_through: rows whose parent goes to another tenant reach neither tenant" in warning
