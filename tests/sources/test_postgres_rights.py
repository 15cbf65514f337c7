"""The statements of docs/how-to/postgres-rights.md run as they stand there, and give no more than the page says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from tests.installations import DAY, NOON, make_place
from tests.servers.postgres import Database
from waybill.connection import Connection
from waybill.ledger import Ledger

ENTITY = {
    "name": "invoices",
    "source": "shop",
    "relation": "invoices",
    "tenant_column": "tenant_id",
    "key": ["id"],
    "changes": {"mode": "full"},
    "columns": {"id": {"type": "integer", "description": "Id."}, "amount": {"type": "decimal"}, "updated_at": {"type": "timestamp"}},
}


@pytest.fixture
def blocks(repository: Path) -> list[str]:
    return re.findall(r"```sql\n(.*?)```", (repository / "docs/how-to/postgres-rights.md").read_text(), re.DOTALL)


@pytest.fixture
def roles(postgres: Database) -> Iterator[list[str]]:
    """Roles belong to the whole cluster: what the page makes is dropped again."""
    made: list[str] = []
    yield made
    for role in made:
        postgres.psql(f"drop owned by {role}; drop role {role}")


def as_role(database: Database, role: str) -> str:
    return database.dsn.replace(f"user={database.user}", f"user={role}")


def test_a_reader_sees_the_tenants_under_contract_and_an_unknown_one_is_an_error_and_no_empty_file(
    tmp_path: Path, postgres: Database, blocks: list[str], roles: list[str]
) -> None:
    postgres.psql("""
        create table invoices (id int primary key, tenant_id text, amount numeric, updated_at timestamptz, iban text);
        insert into invoices values (1, 'acme', 10, '2026-05-30', 'x'), (2, 'acme', 20, '2026-05-30', 'x');
        insert into invoices values (3, 'globex', 5, '2026-05-30', 'x');
    """)
    roles.append("waybill_reader")
    postgres.psql(blocks[0])
    postgres.psql("insert into exported_tenants values ('acme')")
    with psycopg.connect(as_role(postgres, "waybill_reader"), autocommit=True) as reader:
        assert reader.execute("select id from invoices order by id").fetchall() == [(1,), (2,)]
        for statement in ("select iban from invoices", "select * from invoices"):
            with pytest.raises(errors.InsufficientPrivilege):
                reader.execute(statement)
        with pytest.raises((errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction)):
            reader.execute("delete from invoices")
    with closing(make_place(tmp_path)) as place:
        place.connections["shop"] = Connection(
            "shop", "postgres", postgres.host, postgres.port, "waybill_reader", postgres.name, password="change me"
        )
        place.write("catalog.yaml", {"sources": {"shop": {"kind": "postgres", "connection": "shop"}}, "entities": {"invoices": ENTITY}})
        for tenant in ("acme", "globex"):
            place.tenant(tenant, entityList=["invoices"])
        (seen,) = place.run(NOON)
        assert seen.error is None
        assert [row[0] for row in place.rows("invoices")] == ["1", "2"]
        assert "row-level security" in str([manifest for _, manifest in place.manifests()])
        (unseen,) = place.run(NOON, tenant="globex")
        assert "row-level security of" in str(unseen.error)
        postgres.psql("insert into exported_tenants values ('globex')")
        assert {result.error for result in place.run(NOON + DAY, tenant="globex")} == {None}


def test_people_who_read_the_ledger_see_deliveries_and_no_secret(postgres: Database, blocks: list[str], roles: list[str]) -> None:
    with closing(Ledger(postgres.url)) as ledger:
        ledger.ready()
    roles += ["support", "waybill_ledger_reader"]
    postgres.psql(blocks[1])
    with psycopg.connect(as_role(postgres, "support"), autocommit=True) as reader:
        for table in ("registration", "stream", "delivery", "attempt", "day", "audit"):
            reader.execute(f"select * from {table}").fetchall()
        reader.execute("select id, version from tenant").fetchall()
        for statement in ("select salt from tenant", "select * from link_key", "select email from export_request", "select * from notice"):
            with pytest.raises(errors.InsufficientPrivilege):
                reader.execute(statement)
        with pytest.raises((errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction)):
            reader.execute("delete from day")
