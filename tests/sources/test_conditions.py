"""A condition picks the rows whose delivered value meets it, however a kind of database stores that value."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sources.test_equal_ids import Place, place
from waybill.configuration.catalog import Entity
from waybill.configuration.selection import FileStyle, Selection
from waybill.configuration.values.conditions import Condition

__all__ = ["place"]

ID = "0190f6b2-7c3e-7d11-8f00-3c5c6a1e9b42"


def orders(kind: str) -> Entity:
    columns = {"id": {"type": "integer"}, "x": {"type": kind}}
    body = {"id": "orders", "source": "s", "relation": "orders", "tenant_column": "tenant_id", "key": ["id"], "columns": columns}
    return Entity.model_validate({**body, "scopes": {"project": "x"}, "changes": {"mode": "full"}})


def ids(place: Place, kind: str, op: str, value: Any) -> str:
    entity, condition = orders(kind), Condition(column="x", op=op, value=value)
    assert condition.problem(entity.columns["x"].type) is None
    return found(place, Selection(entity, "acme", {"id": entity.columns["id"]}, where=(condition,)))


def found(place: Place, selection: Selection) -> str:
    with place.source.snapshot([selection.entity]) as snapshot:
        snapshot.check(selection)
        counted = snapshot.count(selection)
        records = b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle())).decode().split()
    assert counted == len(records)
    return " ".join(records)


def holds(place: Place, native: str, *values: str) -> None:
    rows = ", ".join(f"('acme', {number}, {value})" for number, value in enumerate(values, 1))
    place.happens(f"create table orders (tenant_id varchar(20), id int, x {native})", f"insert into orders values {rows}")


@pytest.mark.parametrize("value", [ID, ID.upper(), ID.replace("-", ""), f"{{{ID}}}", f"urn:uuid:{ID}"])
def test_a_uuid_is_one_value_in_every_spelling(place: Place, value: str) -> None:
    native = "uuid" if place.kind in ("duckdb", "postgres", "psycopg") else "char(36)"
    holds(place, native, f"'{ID}'", f"'{ID[:-1]}3'", "null")
    assert (ids(place, "uuid", "=", value), ids(place, "uuid", "!=", value), ids(place, "uuid", "in", [value])) == ("1", "2", "1")


def test_a_uuid_that_is_stored_as_text_is_compared_as_it_is_delivered(place: Place) -> None:
    holds(place, "varchar(50)", f"'{ID.upper()}'", f"'{ID[:-1]}3'", "null")
    assert (ids(place, "uuid", "=", ID), ids(place, "uuid", "!=", ID), ids(place, "uuid", "not in", [ID])) == ("1", "2", "2")


SPELT = {"upper case": ID.upper(), "no hyphens": ID.replace("-", ""), "braces": f"{{{ID}}}"}


@pytest.mark.parametrize(
    ("native", "spelt"), [*(("varchar(50)", spelt) for spelt in SPELT), ("char(36)", "upper case"), ("uuid", "upper case")]
)
def test_a_scope_finds_uuids_as_it_offers_them(place: Place, native: str, spelt: str) -> None:
    holds(place, native, f"'{SPELT[spelt]}'", f"'{ID[:-1]}3'")
    entity = orders("uuid")
    with place.source.snapshot([entity]) as snapshot:
        [offered, _] = snapshot.values(Selection(entity, "acme", {"x": entity.columns["x"]}), 9)
    assert found(place, Selection(entity, "acme", {"id": entity.columns["id"]}, scope={"project": (offered,)})) == "1"


NESTED = {
    "sqlite": [("json", "'null'", "'{\"a\":null}'")],
    "mariadb": [("json", "'null'", "'{\"a\":null}'")],
    "duckdb": [("json", "'null'", "'{\"a\":null}'"), ("struct(a int, b text)", "{'a': null, 'b': null}", "{'a': 1, 'b': null}")],
    "postgres": [("jsonb", "'null'", "'{}'"), ("pair", "(null, null)", "(1, null)"), ("pairs", "(null, null)", "(1, null)")],
}


@pytest.mark.parametrize("kind", ["json", "string"])
def test_a_nested_value_is_null_where_the_file_has_none(place: Place, kind: str) -> None:
    """A composite of PostgreSQL with some fields that are NULL is neither NULL nor not NULL to IS NULL."""
    if place.kind in ("postgres", "psycopg"):
        place.happens("create type pair as (a int, b text)", "create domain pairs as pair")
    for native, *values in NESTED["postgres" if place.kind == "psycopg" else place.kind]:
        holds(place, native, *values, "null")
        assert (ids(place, kind, "is null", None), ids(place, kind, "is not null", None)) == ("3", "1 2"), native
        if kind == "string":
            assert ids(place, kind, "!=", "x") == "1 2", native
        place.happens("drop table orders")


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
@pytest.mark.parametrize("native", ["date", "text", ""])
def test_a_date_of_sqlite_is_compared_as_it_is_delivered(place: Place, native: str) -> None:
    holds(place, native, "'2026-01-31'", "'2026-01-31 00:00:00'", "'2026-01-31T00:00:00'", "'2026-02-01'", "null")
    assert ids(place, "date", "=", "2026-01-31") == "1 2 3"
    assert ids(place, "date", "<=", "2026-01-31") == "1 2 3"
    assert ids(place, "date", "!=", "2026-01-31") == "4"
    assert ids(place, "date", ">", "2026-01-31") == "4"


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
@pytest.mark.parametrize("native", ["boolean", "text", ""])
def test_a_boolean_of_sqlite_is_compared_as_it_is_delivered(place: Place, native: str) -> None:
    holds(place, native, "1", "'true'", "'t'", "0", "'false'", "null")
    assert ids(place, "boolean", "=", True) == "1 2 3"
    assert ids(place, "boolean", "!=", True) == "4 5"


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("native", "kind"), [("", "integer"), ("text", "integer"), ("", "decimal"), ("text", "decimal"), ("", "float")])
def test_a_number_of_sqlite_is_compared_as_it_is_delivered(place: Place, native: str, kind: str) -> None:
    holds(place, native, "7", "'7'", "9", "'10'", "null")
    assert ids(place, kind, "=", 7) == "1 2"
    assert ids(place, kind, ">", 8) == "3 4"
    assert ids(place, kind, "in", [7, 10]) == "1 2 4"
    assert ids(place, kind, "!=", 7) == "3 4"


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("native", "picks"), [("int", True), ("bigint", True), ("", False), ("text", False), ("boolean", False)])
def test_sqlite_picks_whole_numbers_itself_where_the_column_is_declared_so(place: Place, native: str, picks: bool) -> None:
    """Otherwise all rows of the tenant travel, to be looked at where they are numbers."""
    holds(place, native, "7", "'7'", "9", "null")
    assert ids(place, "integer", "in", [7, 8]) == "1 2"
    entity = orders("integer")
    with place.source.snapshot([entity]) as snapshot:
        statements: list[str] = []
        snapshot.connection.set_trace_callback(statements.append)
        wanted = Condition(column="x", op="in", value=[7, 8])
        assert snapshot.count(Selection(entity, "acme", {"id": entity.columns["id"]}, where=(wanted,))) == 2
        snapshot.connection.set_trace_callback(None)
    assert any('"x" = 7' in statement for statement in statements) is picks


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_a_condition_may_name_more_than_a_thousand_values(place: Place) -> None:
    """SQLite refuses an expression that is a thousand levels deep."""
    holds(place, "int", "8", "7", "40000", "null")
    values = list(range(0, 2100, 2))
    assert (ids(place, "integer", "in", values), ids(place, "integer", "not in", values)) == ("1", "2 3")
