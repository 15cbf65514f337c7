"""Row-level security is told before anything is delivered: by check --connect, the dry run, plan and probe."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.installations import make_place
from tests.servers.postgres import Database
from tests.sources.test_source_postgres import Role
from waybill.cli import main

ORDERS = {
    "source": "pg",
    "relation": "orders",
    "tenant_column": "tenant_id",
    "key": ["id"],
    "changes": {"mode": "lookback", "column": "updated_at", "lookback": "1h"},
    "deletes": "never",
    "columns": {"id": {"type": "integer"}},
}
TELLING = (["check", "--connect"], ["apply", "--dry-run"], ["plan", "acme"], ["probe", "acme"], ["probe", "acme", "--source"])


@pytest.mark.parametrize("enabled", [True, False], ids=["security", "none"])
def test_what_may_hide_rows_is_told_before_anything_is_delivered(
    postgres: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], enabled: bool
) -> None:
    postgres.psql(
        """CREATE TABLE orders (id int PRIMARY KEY, tenant_id text, updated_at timestamptz);
           INSERT INTO orders VALUES (1, 'acme', '2026-01-01Z'); CREATE POLICY shown ON orders USING (true);"""
        + ("ALTER TABLE orders ENABLE ROW LEVEL SECURITY" if enabled else "")
    )

    def said(*argv: str) -> str:
        monkeypatch.setattr(sys, "argv", ["waybill", *argv])
        with pytest.raises(SystemExit) as caught:
            main()
        printed = capsys.readouterr()
        assert caught.value.code in (0, None), printed
        return printed.out + printed.err

    with Role(postgres, "GRANT SELECT ON orders TO {0}") as role, closing(make_place(tmp_path)) as place:
        place.write("catalog.yaml", {"sources": {"pg": {"kind": "postgres", "connection": "pg"}}, "entities": {"orders": ORDERS}})
        place.tenant(entityList=["orders"])
        monkeypatch.setenv("WAYBILL_CONFIG_DIR", str(tmp_path / "config"))
        monkeypatch.setenv("AIRFLOW_CONN_PG", f"postgres://{role}@{postgres.host}:{postgres.port}/{postgres.name}")
        told = {"apply --dry-run": said("apply", "--dry-run")}
        said("apply")
        told |= {" ".join(item): said(*item) for item in TELLING if item[0] != "apply"}
    assert {name: "row_security_active" in printed for name, printed in told.items()} == dict.fromkeys(told, enabled)
