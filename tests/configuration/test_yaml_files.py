"""What people type is what is read: no word becomes a boolean, and no id another customer's."""

from pathlib import Path

import pytest

from waybill.configuration.loading import load
from waybill.configuration.yaml_files import parse_yaml, read_mapping
from waybill.errors import Finding

pytestmark = pytest.mark.fast

# `?` makes the slow parser read it, whose rules must be the same
BOTH = pytest.mark.parametrize("parser", ["", "# ?\n"], ids=["libyaml", "pyyaml"])


@BOTH
@pytest.mark.parametrize("key", ["on", "off", "yes", "No", "TRUE", "y", "null", "~", "2024", "1.5", "0x1F", "2026-01-01", "12:30", "="])
def test_a_key_is_its_text(parser: str, key: str) -> None:
    assert parse_yaml(f"{parser}{key}: 1") == {key: 1}


@BOTH
@pytest.mark.parametrize("text", ["0123", "007", "0x1F", "0b101", "1_000", "12:30", "190:20:30", "00", "0o17"])
def test_only_a_whole_number_as_people_write_it_is_one(parser: str, text: str) -> None:
    assert parse_yaml(f"{parser}id: {text}") == {"id": text}


@BOTH
@pytest.mark.parametrize(("text", "number"), [("0", 0), ("7", 7), ("-12", -12), ("+5", 5), ("900719925474099312", 900719925474099312)])
def test_a_whole_number_stays_one(parser: str, text: str, number: int) -> None:
    assert parse_yaml(f"{parser}id: {text}") == {"id": number}


def test_a_chain_of_joins_and_an_id_with_zeros_need_no_quotes(tmp_path: Path) -> None:
    (tmp_path / "config/tenants").mkdir(parents=True)
    (tmp_path / "config/catalog.yaml").write_text("""
sources: {shop: {kind: duckdb, path: shop.duckdb}}
entities:
  lines:
    source: shop
    relation: lines
    tenant_through:
      - {table: orders, on: order_id = id}
      - {table: customers, on: {customer_id: id, no: "no"}, column: org_id}
    key: [id]
    changes: {mode: full}
    columns:
      id: {type: integer}
      no: {type: integer}
      2024: {type: integer}
""")
    (tmp_path / "config/tenants/acme.yaml").write_text("exportOption: export all\nsourceTenant: 0123\ndeliverAt: 12:30\n")
    found = load(tmp_path / "config")
    assert [str(finding) for finding in found.findings] == []
    assert list(found.catalog.entities["lines"].columns) == ["id", "no", "2024"]
    assert found.tenants["acme"].registration.source_tenant == "0123"
    assert found.tenants["acme"].registration.deliver_at == "12:30"


def bomb(level: str, times: int) -> str:
    """A few lines of aliases of aliases. `level` holds `{}` where one level is repeated in the next."""
    text = "{a: 1}"
    for depth in range(times):
        text = level.format(f"&a{depth} {text}, " + ", ".join([f"*a{depth}"] * 8), f"&a{depth} {text}", f"*a{depth}")
    return text


@BOTH
@pytest.mark.parametrize("level", ["[{0}]", "{{k: {1}, l: {2}, m: {2}, n: {2}}}", "{{<<: [{0}]}}"], ids=["lists", "mappings", "merges"])
@pytest.mark.parametrize("key", ["exportOption", "entityList", "unknown"])
def test_a_few_aliases_of_aliases_fill_no_memory_and_take_no_time(parser: str, level: str, key: str) -> None:
    findings: list[Finding] = []
    assert read_mapping(f"{parser}{key}: {bomb(level, 40)}\n", "acme.yaml", findings) is None
    assert "repeat more than 100,000 values" in findings[0].reason


@BOTH
@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}", "a: &a {<<: *a}"])
def test_an_alias_that_stands_for_what_it_is_in_is_told(parser: str, text: str) -> None:
    findings: list[Finding] = []
    assert read_mapping(f"{parser}{text}\n", "acme.yaml", findings) is None
    assert "an alias (*) stands for what it is in" in findings[0].reason


@BOTH
def test_aliases_and_merges_that_people_write_are_read(parser: str) -> None:
    assert parse_yaml(f"{parser}a: &a {{x: 1}}\nb: *a\nc: {{<<: *a, y: 2}}\n") == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}


def test_a_date_that_no_calendar_has_is_told_with_its_line() -> None:
    found: list[Finding] = []
    assert read_mapping("a: 2026-01-31\nb: 2020-13-40\n", "policy.yaml", found) is None
    assert [str(finding) for finding in found] == [
        "policy.yaml: line 2, column 4: not valid YAML: 2020-13-40 is no date (month must be in 1..12); quote it if it is a text"
    ]
