"""The query builder: the tenant is always in it, values never are, names always are quoted."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from waybill.canonical import hmac_pads
from waybill.configuration.catalog import Entity
from waybill.configuration.selection import ChangeSpan, FileStyle, Selection
from waybill.errors import PermanentError
from waybill.sources.duckdb.engine import DuckDBFlavour, arrow, render
from waybill.sources.query import Query
from waybill.sources.sql import Bind, Sql, either, every, quote, split_name, sql

pytestmark = pytest.mark.fast

ENTITY = Entity.model_validate(
    {
        "id": "orders",
        "source": "warehouse",
        "relation": "order",
        "tenant_column": "group",
        "key": ["select", "id"],
        "changes": {"mode": "lookback", "column": "from"},
        "deleted_column": "to",
        "time_column": "at",
        "scopes": {"project": "project_id"},
        "columns": {"id": {"type": "integer"}, "select": {"type": "string", "export": "anonymize"}, 'odd"name': {"type": "string"}},
    }
)
NATIVES = {
    "id": "BIGINT",
    "select": "VARCHAR",
    'odd"name': "VARCHAR",
    "group": "VARCHAR",
    "from": "TIMESTAMP",
    "to": "TIMESTAMP WITH TIME ZONE",
    "at": "TIMESTAMP",
    "project_id": "INTEGER",
}
START, END, CLOCK = (datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 3))
SELECTION = Selection(
    ENTITY,
    "acme'; DROP TABLE x --",
    ENTITY.columns,
    ChangeSpan(START, END, ahead=END, known={b"\1" * 16}),
    salt=b"planted-salt",
    scope={"project": ("7", "seven")},
    time_from=START,
    time_to=END,
    live_only=True,
)


def query(selection: Selection = SELECTION, natives: dict[str, str] | None = None) -> Query:
    return Query(DuckDBFlavour(), sql('"order"'), natives or NATIVES, selection, clock=CLOCK)


STATEMENTS = {
    "csv": lambda q: q.csv(FileStyle()),
    "digests": lambda q: q.digests(),
    "count": lambda q: q.count(),
    "arrow": arrow,
    "repeated_key": lambda q: q.repeated_key(),
    "disorder": lambda q: q.disorder(),
    "without": lambda q: q.without([q.entity.changes.column], q.tenant()),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_the_tenant_is_a_bind_parameter_of_every_statement(name: str) -> None:
    text, values = render(STATEMENTS[name](query()))
    assert '("group" COLLATE "C") = CAST(? AS VARCHAR)' in text
    assert SELECTION.tenant in values
    assert "DROP" not in text


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_value_becomes_part_of_a_statement(name: str) -> None:
    text, values = render(STATEMENTS[name](query()))
    assert text.count("?") == len(values)
    for value in ("acme", "2026", "planted"):
        assert value not in text


def test_binds_do_not_show_their_values() -> None:
    assert "secret" not in repr(Bind("secret"))
    assert "planted" not in repr(SELECTION)


def test_a_quote_in_a_name_stays_inside_the_name() -> None:
    assert quote('odd"name') == '"odd""name"'
    assert '"odd""name"' in render(query().csv(FileStyle()))[0]


@pytest.mark.parametrize(
    ("relation", "parts"),
    [("t", ["t"]), ("s.t", ["s", "t"]), ('"a.b".t', ["a.b", "t"]), ("select", ["select"])],
    ids=["plain", "schema", "dotted", "reserved"],
)
def test_a_relation_is_split_at_dots_outside_quotes(relation: str, parts: list[str]) -> None:
    assert split_name(relation) == parts


def test_the_change_position_is_the_later_of_change_and_deletion_and_stays_servable_by_indexes() -> None:
    text, _ = render(query().span(START, END))
    assert text == (
        '(("from" >= CAST(? AS TIMESTAMP))'
        ' OR (("to" >= CAST(? AS TIMESTAMP WITH TIME ZONE)) AND ("to" < CAST(? AS TIMESTAMP WITH TIME ZONE))))'
        ' AND (("from" < CAST(? AS TIMESTAMP))'
        ' AND ((("to" IS NULL) OR ("to" >= CAST(? AS TIMESTAMP WITH TIME ZONE))) OR ("to" < CAST(? AS TIMESTAMP WITH TIME ZONE))))'
    )


def test_a_time_without_zone_is_compared_in_utc() -> None:
    _, values = render(query().at_or_after(datetime.fromisoformat("2026-01-01T01:00:00+01:00")))
    assert values[0] == datetime(2026, 1, 1)  # noqa: DTZ001 (the column has no zone)
    assert values[1] == START


def test_digests_are_computed_only_where_known_versions_are_left_out() -> None:
    nothing_known = replace(SELECTION, changed=replace(SELECTION.changed, known=None))
    assert "sha256(concat" not in render(query(nothing_known).csv(FileStyle()))[0]
    assert "sha256(concat" in render(query().csv(FileStyle()))[0]


def test_an_integer_tenant_matches_only_its_own_spelling() -> None:
    natives = NATIVES | {"group": "BIGINT"}
    for tenant in ("042", "4_2", "+42", "acme", "٤٢"):
        text, values = render(query(replace(SELECTION, tenant=tenant), natives).tenant())
        assert (text, values) == ("1 = 0", [])
    assert render(query(replace(SELECTION, tenant="42"), natives).tenant())[1] == ["42"]


def test_an_unknown_scope_level_and_an_empty_scope_hold_no_rows() -> None:
    for scope in ({"study": ("1",)}, {"project": ()}):
        assert "1 = 0" in render(query(replace(SELECTION, scope=scope)).where())[0]


def test_an_id_column_cannot_be_asked_for_a_time() -> None:
    with pytest.raises(PermanentError, match="cannot be cut by a time"):
        render(query(natives=NATIVES | {"from": "BIGINT"}).span(START, END))


@pytest.mark.parametrize(("native", "step"), [("BIGINT", "Ask for a full load"), ("VARCHAR", "Name a column"), ("oid", "Name a column")])
def test_the_next_step_is_one_that_helps(native: str, step: str) -> None:
    """A full load asks a column that is neither a time nor a number to count by for its place in time, too."""
    with pytest.raises(PermanentError, match=step):
        render(query(natives=NATIVES | {"from": native}).span(START, END))


def test_an_entity_without_change_column_refuses_a_window() -> None:
    entity = ENTITY.model_copy(update={"changes": ENTITY.changes.model_copy(update={"column": ""})})
    with pytest.raises(PermanentError, match="declares no change column"):
        query(replace(SELECTION, entity=entity)).count()


def test_conditions_compose_with_their_neutral_elements() -> None:
    assert render(every([]))[0] == "1 = 1"
    assert render(either([]))[0] == "1 = 0"
    assert render(every([Sql(), sql("a = {}", Bind(1))])) == ("(a = ?)", [1])


def test_a_template_with_too_few_values_is_refused() -> None:
    with pytest.raises(ValueError, match="2 places for 1"):
        sql("{} {}", "a")


def test_a_long_salt_is_hashed_as_rfc_2104_says() -> None:
    inner, outer = hmac_pads(b"x" * 65)
    assert len(inner) == len(outer) == 64
    assert bytes(a ^ 0x36 ^ 0x5C for a in inner) == outer
