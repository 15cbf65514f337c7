"""What people type is what is read: no word becomes a boolean, and no id another customer's."""

from pathlib import Path

import pytest

from waybill.configuration.loading import load
from waybill.configuration.yaml_files import parse_yaml

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
