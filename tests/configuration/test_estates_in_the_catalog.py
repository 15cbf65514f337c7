"""What the catalog and a tenant file say about estates as they are, and how wrong words are told."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.installations import USER, catalog
from waybill.configuration.catalog import Catalog, problems
from waybill.configuration.loading import Configuration, load
from waybill.configuration.values.conditions import query_problem

pytestmark = pytest.mark.fast


def loaded(folder: Path, entity: dict[str, Any] | None = None, /, **tenants: dict[str, Any]) -> Configuration:
    (folder / "config/tenants").mkdir(parents=True)
    written = catalog(user=USER, theme={**USER, "name": "theme", "relation": "theme", **(entity or {})})
    written["entities"]["theme"] = {key: value for key, value in written["entities"]["theme"].items() if value is not None}
    (folder / "config/catalog.yaml").write_text(yaml.safe_dump(written, sort_keys=False))
    for tenant, body in tenants.items():
        (folder / f"config/tenants/{tenant}.yaml").write_text(yaml.safe_dump({"entityList": ["user"], **body}))
    return load(folder / "config")


THROUGH = {"tenant_column": None, "tenant_through": [{"table": "a", "on": "a_id", "column": "t"}]}
STATE = {"deleted_column": None, "deleted_when": {"column": "name", "op": "=", "value": "gone"}}


@pytest.mark.parametrize(
    "entity",
    [
        THROUGH,
        {"tenant_column": None, "tenant_through": [{"table": "a", "on": {"x": "y"}}, {"table": "b", "on": "p = q", "column": "t"}]},
        {"relation": None, "query": "SELECT * FROM theme"},
        STATE,
        {"only": ["acme"], "optional": True},
        {"key": ["no"], "columns": {"no": {"type": "integer", "from": "id"}, "again": {"type": "integer", "from": "id"}}},
    ],
    ids=str,
)
def test_estates_as_they_are_can_be_said(tmp_path: Path, entity: dict[str, Any]) -> None:
    assert [str(finding) for finding in loaded(tmp_path, entity).findings] == []


@pytest.mark.parametrize(
    ("entity", "finding"),
    [
        ({"relation": None}, "entities.theme.relation: is required"),
        ({"key": ["id", "id"]}, "entities.theme.key: names a column twice (allowed: each column once)"),
        ({"query": "SELECT 1"}, "entities.theme.relation: relation and query exclude each other"),
        ({"relation": None, "query": "DELETE FROM theme"}, "entities.theme.query: holds the word DELETE"),
        ({"tenant_column": None}, "entities.theme.tenant_column: is required"),
        ({**THROUGH, "tenant_column": "t"}, "entities.theme.tenant_column: tenant_column and tenant_through exclude each other"),
        (
            {"tenant_column": None, "tenant_through": [{"table": "a", "on": "a_id"}]},
            "entities.theme.tenant_through.0.column: the last step names the column that tells the tenant",
        ),
        ({**STATE, "deleted_column": "deleted_at"}, "entities.theme.deleted_when: deleted_column and deleted_when exclude each other"),
        (
            {"deleted_column": None, "deleted_when": {"column": "name", "value": 1}},
            "entities.theme.deleted_when.value: 1 does not fit the type string",
        ),
        ({"deleted_column": None, "deleted_when": {"column": "name", "op": "like", "value": "x"}}, "unknown value 'like'"),
        ({"columns": {"note": {"type": "string", "from": "password_hash"}}}, "columns.note: looks like a credential"),
        ({"only": ["No Tenant"]}, "entities.theme.only.0: 'No Tenant' does not fit"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_a_finding(tmp_path: Path, entity: dict[str, Any], finding: str) -> None:
    found = [str(item) for item in loaded(tmp_path, entity).findings]
    assert any(finding in item for item in found), found


@pytest.mark.parametrize(
    ("body", "finding"),
    [
        ({"where": {"usr": []}}, "where.usr: unknown entity 'usr'"),
        ({"where": {"user": [{"column": "nam", "value": "x"}]}}, "where.user.0.column: user exports no column 'nam' as it is"),
        ({"where": {"user": [{"column": "nam", "value": "x"}]}}, "did you mean name?"),
        ({"where": {"user": [{"column": "tenant_id", "value": "x"}]}}, "user exports no column 'tenant_id' as it is"),
        ({"where": {"user": [{"column": "id", "op": ">", "value": "x"}]}}, "where.user.0.value: 'x' does not fit the type integer"),
        ({"where": {"user": [{"column": "updated_at", "value": "2026-01-01"}]}}, "RFC 3339"),
        ({"where": {"user": [{"column": "id", "op": "in", "value": 1}]}}, "in needs a list of values"),
        ({"where": {"user": [{"column": "id", "op": "is null", "value": 1}]}}, "is null takes no value"),
        ({"columns": {"usr": ["id"]}}, "columns.usr: unknown entity 'usr'"),
        ({"columns": {"user": ["id", "nam"]}}, "columns.user.1: user has no column 'nam'"),
        ({"columns": {"user": ["name"]}}, "columns.user: leaves out id, which identifies a row"),
        ({"columns": {"user": []}}, "columns.user: is too short"),
        ({"frequencies": {"usr": "daily"}}, "frequencies.usr: unknown entity 'usr' (allowed: user, theme; did you mean user?)"),
        ({"frequencies": {"user": "daily", "User": "weekly"}}, "frequencies.user: user is named twice"),
        ({"columns": {"user": ["id"], "USER": ["id", "name"]}}, "columns.user: user is named twice"),
        ({"frequencies": {"user": "dayly"}}, "frequencies.user: unknown value 'dayly' (allowed: daily, weekly, monthly"),
        ({"rename": {"usr": {"id": "no"}}}, "rename.usr: unknown entity 'usr'"),
        ({"rename": {"user": {"nam": "who"}}}, "rename.user.nam: user has no column 'nam'"),
        ({"rename": {"user": {"nam": "who"}}}, "did you mean name?"),
        ({"rename": {"user": {"name": "ID"}}}, "rename.user.name: another column of user is delivered as 'ID', too"),
        ({"rename": {"user": {"name": "x", "id": "X"}}}, "rename.user.id: another column of user is delivered as 'X', too"),
        ({"columns": {"user": ["id"]}, "rename": {"user": {"name": "who"}}}, "rename.user.name: is not among the columns chosen"),
        ({"rename": {"user": {"name": ""}}}, "not a name for a column"),
        ({"rename": {"user": {"name": " who"}}}, "not a name for a column"),
        ({"rename": {"user": {"name": "a\nb"}}}, "not a name for a column"),
        ({"rename": {"user": {"name": "é" * 32}}}, "1 to 63 bytes"),
        ({"rename": {"user": {}}}, "rename.user: is too short"),
        ({"sourceTenant": True}, "sourceTenant: true: not an id"),
        ({"sourceTenant": ""}, "not an id"),
        ({"sourceTenant": ["a"]}, "not an id"),
    ],
    ids=str,
)
def test_a_tenant_file_is_held_to_the_catalog(tmp_path: Path, body: dict[str, Any], finding: str) -> None:
    found = [str(item) for item in loaded(tmp_path, acme=body).findings]
    assert any(finding in item for item in found), found


@pytest.mark.parametrize(
    ("word", "meant"),
    [("bigint", "integer"), ("text", "string"), ("numeric", "decimal"), ("numeric(10,2)", "decimal"), ("timestamptz", "timestamp"),
     ("jsonb", "json"), ("bytea", "binary"), ("double precision", "float"), ("VARCHAR(20)", "string"), ("bool", "boolean"),
     ("strng", "string"), ("time", "string"), ("interval", "string")],
)  # fmt: skip
def test_the_names_databases_have_for_types_are_understood(tmp_path: Path, word: str, meant: str) -> None:
    [finding] = loaded(tmp_path, {"columns": {"id": {"type": word}}}).findings
    assert finding.meant == meant


def test_two_tenants_that_would_receive_the_same_rows_are_both_told_and_neither_names_the_other(tmp_path: Path) -> None:
    found = loaded(tmp_path, acme={"sourceTenant": 7}, globex={"sourceTenant": "7"}, initech={"sourceTenant": 8})
    assert [(finding.file, finding.path) for finding in found.findings] == [
        ("config/tenants/acme.yaml", "sourceTenant"),
        ("config/tenants/globex.yaml", "sourceTenant"),
    ]
    assert set(found.tenants) == {"initech"}
    assert not any("globex" in finding.reason or "acme" in finding.reason for finding in found.findings)


def test_a_tenant_s_own_id_counts_as_its_id_in_the_data(tmp_path: Path) -> None:
    assert len(loaded(tmp_path, acme={}, globex={"sourceTenant": "acme"}).findings) == 2


def test_tenants_with_one_id_may_receive_different_entities(tmp_path: Path) -> None:
    found = loaded(tmp_path, acme={"sourceTenant": 7}, globex={"sourceTenant": 7, "entityList": ["theme"]})
    assert found.findings == ()


def test_an_entity_for_some_tenants_is_unknown_to_the_others(tmp_path: Path) -> None:
    everything = {"exportOption": "export all"}
    found = loaded(tmp_path, {"only": ["acme"]}, acme=everything, globex=everything, initech={"entityList": ["theme"]})
    assert found.tenants["acme"].entities == ("user", "theme")
    assert found.tenants["globex"].entities == ("user",)
    assert [str(finding) for finding in found.findings] == [
        "config/tenants/initech.yaml: entityList: unknown entity 'theme' (allowed: user)"
    ]


def test_an_optional_entity_comes_only_to_those_who_name_it(tmp_path: Path) -> None:
    found = loaded(tmp_path, {"optional": True}, acme={"exportOption": "export all"}, globex={"entityList": ["theme"]})
    assert found.tenants["acme"].entities == ("user",)
    assert found.tenants["globex"].entities == ("theme",)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1",
        "  select a, (select max(b) from t) from x where c = ';' -- '"[:-5],
        "WITH a AS (SELECT 1) SELECT * FROM a",
        'SELECT "update" FROM "drop"',
        "SELECT 'it''s -- no comment (' AS x",
        "SELECT t.*, (SELECT max(b) FROM u WHERE u.t = t.id LIMIT 1) AS b FROM t",
        "SELECT t.* FROM t JOIN LATERAL (SELECT * FROM u ORDER BY at FETCH FIRST 1 ROW ONLY) AS l ON true",
        "SELECT id, limit, offset, k.offset, top, 'limit 5' AS sample FROM k WHERE offset > 5 AND k.limit < 3",
    ],
)
def test_one_select_may_be_wrapped(query: str) -> None:
    assert query_problem(query) is None


@pytest.mark.parametrize(
    "query",
    [
        "",
        "UPDATE t SET a = 1",
        "SELECT 1; DROP TABLE t",
        "SELECT 1) AS q; --",
        "SELECT 1) AS q UNION (SELECT 2",
        "SELECT 1 -- the rest",
        "SELECT /* x */ 1",
        "SELECT ?",
        "SELECT $1",
        "SELECT $$x$$",
        "SELECT 'open",
        "SELECT (1",
        "WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x",
        "SELECT * INTO t FROM u",
        "TABLE t",
    ],
)
def test_what_is_not_one_select_is_refused(query: str) -> None:
    assert query_problem(query) is not None


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM t LIMIT 100",
        "select * from t where a in (select 1) order by b\nlimit\t100 offset 10",
        "SELECT * FROM t LIMIT (SELECT 5)",
        "SELECT * FROM t OFFSET 10 ROWS FETCH NEXT 10 ROWS ONLY",
        "SELECT * FROM t FETCH FIRST ROW ONLY",
        "SELECT * FROM t TABLESAMPLE SYSTEM (10)",
        "SELECT * FROM t USING SAMPLE 10%",
        "SELECT TOP 10 * FROM t",
        "WITH x AS (SELECT 1) SELECT * FROM x LIMIT 5",
    ],
)
def test_a_query_that_keeps_some_rows_of_all_tenants_is_refused(query: str) -> None:
    """The tenant's condition stands around it: a tenant would lose the rows that others' rows leave no place for."""
    problem = query_problem(query)
    assert problem is not None
    assert problem[0].startswith("keeps only some rows")


@pytest.mark.parametrize("path", ["", "  "])
def test_a_duckdb_source_names_its_file(path: str) -> None:
    catalog = Catalog.model_validate({"sources": {"shop": {"kind": "duckdb", "path": path}}})
    assert [(problem.path, problem.reason) for problem in problems(catalog, "catalog.yaml")] == [("sources.shop.path", "is empty")]
