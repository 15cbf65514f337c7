"""As many columns as a source allows are read in every mode, and what trying again cannot mend is not called passing."""

from __future__ import annotations

import pytest

from tests.servers.postgres import Database
from tests.sources.test_source_postgres import entity, source
from waybill.configuration.selection import ChangeSpan, FileStyle, Selection
from waybill.errors import PermanentError

NAMES = [f"c{number}" for number in range(1594)]


@pytest.mark.parametrize("mode", ["snapshot", "horizon", "lookback", "append", "full"])
def test_sixteen_hundred_columns_are_read_in_every_mode(postgres: Database, mode: str) -> None:
    columns = ", ".join(f"{name} bool" for name in NAMES)
    postgres.psql(f"CREATE TABLE orders (id int PRIMARY KEY, tenant_id text, updated_at timestamptz, waybill_xid xid8, {columns})")
    postgres.psql("INSERT INTO orders SELECT i, 'acme', '2026-01-01Z', pg_current_xact_id(), true FROM generate_series(1, 3) i")
    shape = entity(
        mode, {"append": "id"}.get(mode, ""), columns={"id": {"type": "integer"}} | {name: {"type": "boolean"} for name in NAMES}
    )
    whole = Selection(shape, "acme", shape.columns)
    with source(postgres).snapshot([shape]) as snapshot:
        snapshot.check(whole)
        assert b"".join(bytes(block) for block, _ in snapshot.csv(whole, FileStyle())).count(b"\n") == 3
        digests = [digest for batch in snapshot.digests(whole) for digest in batch]
        assert len(digests) == 3
        assert sum(batch.num_rows for batch in snapshot.batches(whole)) == 3
        if mode == "lookback":
            fresh = Selection(shape, "acme", shape.columns, ChangeSpan(known=frozenset(digests[:2])))
            assert b"".join(bytes(block) for block, _ in snapshot.csv(fresh, FileStyle())).count(b"\n") == 1


REFUSED = {
    "division by zero": ("CREATE VIEW bad AS SELECT id, tenant_id, version / (id - id) AS c0 FROM orders"),
    "an error of a function": (
        "CREATE FUNCTION no() RETURNS int LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''planted''; END';"
        "CREATE VIEW bad AS SELECT id, tenant_id, no() AS c0 FROM orders"
    ),
    "a function that ends without a value": (
        "CREATE FUNCTION no(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN IF $1 < 0 THEN RETURN 1; END IF; END';"
        "CREATE VIEW bad AS SELECT id, tenant_id, no(id) AS c0 FROM orders"
    ),
    "a materialized view without rows": (
        "CREATE MATERIALIZED VIEW empty AS TABLE orders WITH NO DATA; CREATE VIEW bad AS SELECT id, tenant_id, version AS c0 FROM empty"
    ),
    "text that is no number": "CREATE VIEW bad AS SELECT id, tenant_id, ('x' || id)::int AS c0 FROM orders",
    "text that is no date": "CREATE VIEW bad AS SELECT id, tenant_id, extract(year FROM ('x' || id)::date)::int AS c0 FROM orders",
    "a month that is none": "CREATE VIEW bad AS SELECT id, tenant_id, (('2026-13-0' || id)::date - current_date) AS c0 FROM orders",
    "a number out of range": "CREATE VIEW bad AS SELECT id, tenant_id, (version * 40000)::smallint AS c0 FROM orders",
    "an interval out of range": "CREATE VIEW bad AS SELECT id, tenant_id, extract(day FROM 1e300 * interval '1 d')::int AS c0 FROM orders",
    "text that is no JSON": "CREATE VIEW bad AS SELECT id, tenant_id, (('{' || id)::json ->> 'a')::int AS c0 FROM orders",
    "text that is no uuid": "CREATE VIEW bad AS SELECT id, tenant_id, length(('x' || id)::uuid::text) AS c0 FROM orders",
    "a bad pattern": "CREATE VIEW bad AS SELECT id, tenant_id, (version::text ~ '(')::int AS c0 FROM orders",
    "a condition": "CREATE VIEW bad AS SELECT id, tenant_id, version AS c0 FROM orders WHERE NOT ('x' || id)::bool",
    "a setting nobody set": "CREATE VIEW bad AS SELECT id, tenant_id, version AS c0 FROM orders WHERE current_setting('app.tenant') = 'a'",
    "two rows from a subquery": ("CREATE VIEW bad AS SELECT id, tenant_id, (SELECT o.id FROM orders o) AS c0 FROM orders"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_view_raises_is_told_as_that(postgres: Database, name: str) -> None:
    postgres.psql(
        "CREATE TABLE orders (id int PRIMARY KEY, tenant_id text, version int); INSERT INTO orders VALUES (1, 'acme', 1), (2, 'acme', 2)"
    )
    postgres.psql(REFUSED[name])
    shape = entity("full", relation="bad", columns={"c0": {"type": "integer"}})
    with source(postgres).snapshot([shape]) as snapshot, pytest.raises(PermanentError, match="a view, a policy") as caught:
        list(snapshot.csv(Selection(shape, "acme", shape.columns), FileStyle()))
    assert "planted" not in str(caught.value)
    assert caught.value.code == "source_refused"


@pytest.mark.parametrize(("kind", "text"), [("uuid", "no-uuid"), ("json", "{no json")])
def test_text_that_is_not_of_its_catalogued_type_is_told_as_that(postgres: Database, kind: str, text: str) -> None:
    postgres.psql(f"CREATE TABLE orders (id int PRIMARY KEY, tenant_id text, c0 text); INSERT INTO orders VALUES (1, 'acme', '{text}')")
    shape = entity("full", columns={"c0": {"type": kind}})
    with source(postgres).snapshot([shape]) as snapshot, pytest.raises(PermanentError, match="does not fit its catalogued type") as caught:
        list(snapshot.csv(Selection(shape, "acme", shape.columns), FileStyle()))
    assert text not in str(caught.value)


def test_a_limit_of_the_server_is_not_tried_again(postgres: Database) -> None:
    many = ", ".join(f"{number} AS c{number}" for number in range(1663))
    postgres.psql("CREATE TABLE orders (id int PRIMARY KEY, tenant_id text); INSERT INTO orders VALUES (1, 'acme')")
    shape = entity(
        "full", relation="", query=f"SELECT id, tenant_id, {many}, 1 AS d0, 2 AS d1 FROM orders", columns={"c0": {"type": "integer"}}
    )
    with pytest.raises(PermanentError, match="server's own limit"), source(postgres).snapshot([shape]):
        pass
