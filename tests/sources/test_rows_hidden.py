"""Rows that row-level security hides: a full load of nothing is refused, and what is seen in part is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.servers.postgres import Database
from tests.sources.test_source_postgres import NOW, Role, entity, source
from waybill.configuration.catalog import DbApiSource
from waybill.configuration.selection import Selection
from waybill.errors import PermanentError
from waybill.sources import Source
from waybill.sources.dbapi.source import DbApi
from waybill.sources.definitions import Definition, source_change
from waybill.sources.row_security import sentence

SHAPES: dict[str, dict[str, Any]] = {
    "table": {},
    "view as its reader": {"relation": "invoker"},
    "view as its reader in other words": {"relation": "also_invoker"},
    "view as its owner": {"relation": "narrow_view"},
    "view of one who sees all over a view as its reader": {"relation": "outer_view"},
    "query": {"relation": "", "query": "SELECT * FROM orders"},
    "function": {"relation": "of_text"},
    "function in a query": {"relation": "", "query": "SELECT * FROM visible_orders()"},
    "function with a parsed body": {"relation": "of_parsed"},
    "function in another language, called by one": {"relation": "of_another"},
    "function with its owner's rights": {"relation": "of_owner"},
    "view of one who sees all that calls a function": {"relation": "of_one_who_sees_all"},
    "function with the rights of one who sees all": {"relation": "of_definer"},
}
SEES_ALL = "function with the rights of one who sees all"


@pytest.fixture
def orders(postgres: Database) -> Database:
    postgres.psql(
        """CREATE TABLE orders (id int PRIMARY KEY, tenant_id text, version int, updated_at timestamptz, hidden bool);
           INSERT INTO orders SELECT i, 'acme', 1, '2026-01-01Z', true FROM generate_series(1, 5) i;
           ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
           CREATE POLICY shown ON orders USING (NOT hidden);
           CREATE VIEW invoker WITH (security_invoker = true) AS SELECT * FROM orders;
           CREATE VIEW also_invoker WITH (security_barrier, security_invoker = Yes) AS SELECT * FROM orders;
           CREATE VIEW narrow_view AS SELECT * FROM orders;
           CREATE VIEW outer_view AS SELECT * FROM invoker;
           CREATE FUNCTION visible_orders() RETURNS SETOF orders LANGUAGE sql STABLE AS 'SELECT * FROM orders LIMIT 100';
           CREATE FUNCTION parsed() RETURNS SETOF orders LANGUAGE sql STABLE BEGIN ATOMIC SELECT * FROM orders LIMIT 100; END;
           CREATE FUNCTION another() RETURNS SETOF orders LANGUAGE plpgsql AS 'BEGIN RETURN QUERY SELECT * FROM visible_orders(); END';
           CREATE FUNCTION as_owner() RETURNS SETOF orders LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM orders';
           CREATE FUNCTION as_definer() RETURNS SETOF orders LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM visible_orders()';
           CREATE VIEW of_text AS SELECT * FROM visible_orders();
           CREATE VIEW of_parsed AS SELECT * FROM parsed();
           CREATE VIEW of_another AS SELECT * FROM another();
           CREATE VIEW of_owner AS SELECT * FROM as_owner();
           CREATE VIEW of_one_who_sees_all AS SELECT * FROM visible_orders();
           CREATE VIEW of_definer AS SELECT * FROM as_definer();"""
    )
    return postgres


@pytest.fixture(params=["postgres", "dbapi"])
def read_by(request: pytest.FixtureRequest) -> Callable[[Database, str], Source]:
    """The same database through the native source, and through a driver of Airflow's."""
    if request.param == "postgres":
        return lambda database, login: source(database, login=login)
    return lambda database, login: DbApi(
        DbApiSource(kind="dbapi", connection="pg"),
        lambda _: psycopg.connect(host=database.host, port=database.port, dbname=database.name, user=login),
    )


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != SEES_ALL])
def test_a_full_load_from_which_a_policy_hides_everything_is_refused(
    orders: Database, read_by: Callable[[Database, str], Source], shape: str
) -> None:
    wanted = entity("full" if shape == "query" else "lookback", **SHAPES[shape])  # through a driver a query's types are the catalog's
    selection = Selection(wanted, "acme", wanted.columns)
    with Role(
        orders,
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {0}; ALTER VIEW narrow_view OWNER TO {0}; ALTER FUNCTION as_owner() OWNER TO {0}",
    ) as role:
        with read_by(orders, role).snapshot([wanted]) as snapshot, pytest.raises(PermanentError, match="row-level security") as caught:
            snapshot.check(selection)
        orders.psql("UPDATE orders SET hidden = false WHERE id < 3")
        with read_by(orders, role).snapshot([wanted]) as snapshot:
            snapshot.check(selection)
            assert "row-level security of orders decides" in snapshot.narrowed(wanted)
            assert "row_security_active" in snapshot.extent(wanted, "acme", None, NOW).remarks
            assert snapshot.count(selection) == 2
    assert caught.value.code == "rows_hidden"


def test_a_function_with_the_rights_of_one_who_sees_all_hides_nothing(orders: Database, read_by: Callable[[Database, str], Source]) -> None:
    wanted = entity("lookback", **SHAPES[SEES_ALL])
    with Role(orders, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {0}") as role, read_by(orders, role).snapshot([wanted]) as snapshot:
        assert snapshot.narrowed(wanted) == ""
        assert snapshot.count(Selection(wanted, "acme", wanted.columns)) == 5


@pytest.mark.parametrize("shape", ["table", "function", "view as its owner"])
def test_other_policies_are_another_definition(orders: Database, read_by: Callable[[Database, str], Source], shape: str) -> None:
    """They show rows that no delta has: those were not written since."""
    wanted = entity("lookback", **SHAPES[shape])

    def defined() -> Definition:
        with read_by(orders, role).snapshot([wanted]) as snapshot:
            return snapshot.definition(Selection(wanted, "acme", wanted.columns))

    with Role(orders, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {0}; ALTER VIEW narrow_view OWNER TO {0}") as role:
        before = defined()
        for change in ("ALTER POLICY shown ON orders USING (true)", f"ALTER ROLE {role} BYPASSRLS"):
            assert source_change(before, before) == ""
            orders.psql(change)
            before, now = defined(), before
            assert source_change(now, before) == "the row-level security of the table orders is defined otherwise than at the last delivery"


def test_who_sees_every_row_is_told_nothing(orders: Database) -> None:
    wanted = entity("lookback", relation="narrow_view")
    with Role(orders, "GRANT SELECT ON narrow_view TO {0}") as role, source(orders, login=role).snapshot([wanted]) as snapshot:
        snapshot.check(Selection(wanted, "acme", wanted.columns))
        assert snapshot.extent(wanted, "acme", None, NOW).remarks == snapshot.narrowed(wanted) == ""
        assert snapshot.count(Selection(wanted, "acme", wanted.columns)) == 5


def test_no_setting_makes_an_index_leave_out_rows(orders: Database, read_by: Callable[[Database, str], Source]) -> None:
    wanted = entity("lookback", relation="tagged")
    orders.psql(
        """CREATE TABLE tags AS SELECT i AS id, 'acme' AS tenant_id, 1 AS version, now() AS updated_at, ARRAY[1] AS held
             FROM generate_series(1, 9000) i;
           CREATE INDEX ON tags USING gin (held); ANALYZE tags;
           CREATE VIEW tagged AS SELECT * FROM tags WHERE held @> ARRAY[1]"""
    )
    limits = "ALTER ROLE {0} SET gin_fuzzy_search_limit = 10; ALTER ROLE {0} SET enable_seqscan = off"
    with Role(orders, f"GRANT SELECT ON tagged TO {{0}}; {limits}") as role, read_by(orders, role).snapshot([wanted]) as snapshot:
        assert snapshot.count(Selection(wanted, "acme", wanted.columns)) == 9000


ORDERS = "(id int, tenant_id text, version int, updated_at timestamptz, hidden bool)"
INVOKER = "CREATE VIEW shown WITH (security_invoker) AS SELECT * FROM orders"
PARTED = f"CREATE TABLE shown {ORDERS} PARTITION BY RANGE (id); CREATE TABLE part PARTITION OF shown FOR VALUES FROM (0) TO (9)"
OTHER = f"CREATE TABLE other {ORDERS}; ALTER TABLE other ENABLE ROW LEVEL SECURITY; CREATE POLICY shown ON other USING (NOT hidden)"
READS_OTHER = f"{OTHER}; CREATE FUNCTION f(int, int) RETURNS bool LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM other WHERE id = $1)'"
INSERTS = "CREATE RULE inserts AS ON INSERT TO shown DO INSTEAD TABLE other"
RULES: dict[str, tuple[str, str]] = {
    "of the parent of partitions": (f"{PARTED}; ALTER TABLE shown ENABLE ROW LEVEL SECURITY", "shown"),
    "of a partition, which is read through its parent": (f"{PARTED}; ALTER TABLE part ENABLE ROW LEVEL SECURITY", ""),
    "of the parent of a partition, which is read itself": (
        f"{PARTED}; ALTER TABLE shown ENABLE ROW LEVEL SECURITY; ALTER TABLE shown RENAME TO parent; ALTER TABLE part RENAME TO shown",
        "",
    ),
    "behind a materialized view": ("CREATE MATERIALIZED VIEW shown AS SELECT * FROM orders", ""),
    "of a table that only an inserting rule names": (
        f"{INVOKER}; {OTHER}; CREATE RULE r AS ON INSERT TO shown DO INSTEAD TABLE other",
        "orders",
    ),
    "that applies to the owner": (f"{INVOKER}; ALTER TABLE orders OWNER TO {{0}}; ALTER TABLE orders FORCE ROW LEVEL SECURITY", "orders"),
    "that does not apply to the owner": (f"{INVOKER}; ALTER TABLE orders OWNER TO {{0}}", ""),
    "of what a policy's function reads": (f"{READS_OTHER}; {INVOKER}; CREATE POLICY more ON orders USING (f(id, id))", "orders, other"),
    "of what an operator's function reads": (
        f"{READS_OTHER}; CREATE OPERATOR ### (FUNCTION = f, LEFTARG = int, RIGHTARG = int);"
        f" CREATE VIEW shown AS SELECT * FROM orders WHERE id ### 1",
        "other",
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_the_rules_that_decide_are_told_and_no_others(orders: Database, read_by: Callable[[Database, str], Source], rule: str) -> None:
    made, tables = RULES[rule]
    wanted = entity("lookback", relation="shown")
    grants = f"{made}; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {{0}}"
    with Role(orders, grants) as role, read_by(orders, role).snapshot([wanted]) as snapshot:
        assert snapshot.narrowed(wanted) == sentence(tables.split(", ") if tables else [])
