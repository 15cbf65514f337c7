"""From a strange database to verified deliveries by the command line alone: discover, check, run."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.discovery import estates
from tests.servers.mariadb import MariaDatabase
from tests.servers.postgres import Database


@dataclass
class Project:
    """A folder, the command line in it, and what a command printed."""

    root: Path
    run: Callable[..., str]
    environment: dict[str, str] = field(default_factory=dict)

    def waybill(self, *words: str, status: int = 0) -> str:
        return self.run(*words, status=status, WAYBILL_CONFIG_DIR=str(self.root / "config"), **self.environment)

    @property
    def catalog(self) -> Path:
        return self.root / "config/catalog.yaml"

    def entities(self) -> dict[str, Any]:
        return dict(yaml.safe_load(self.catalog.read_text())["entities"])

    def deliver(self, tenant: str, **body: Any) -> dict[str, int]:
        """Register the tenant for everything, deliver and verify; the rows by entity."""
        (self.root / "config/tenants").mkdir(exist_ok=True)
        words = {"exportOption": "export all", "destination": {"kind": "folder", "root": "out"}, **body}
        (self.root / f"config/tenants/{tenant}.yaml").write_text(yaml.safe_dump(words))
        self.waybill("check")
        self.waybill("run", tenant)
        assert "all as delivered" in self.waybill("verify", str(self.root / "out/exports" / tenant))
        manifests = [json.loads(path.read_text()) for path in (self.root / "out/exports" / tenant).rglob("*.manifest.json")]
        return {manifest["entity"]: manifest["rows"] for manifest in manifests}


@pytest.fixture
def project(tmp_path: Path, run_waybill: Callable[..., str]) -> Project:
    return Project(tmp_path / "project", run_waybill)


@pytest.fixture
def shop(project: Project, postgres: Database) -> Iterator[psycopg.Connection]:
    """The database behind the connection `shop`."""
    project.environment["AIRFLOW_CONN_SHOP"] = f"postgresql://{postgres.user}@{postgres.host}:{postgres.port}/{postgres.name}"
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        yield connection


def test_pagila_is_delivered_without_a_line_of_yaml_written_by_hand(project: Project, shop: psycopg.Connection) -> None:
    shop.execute(estates.PAGILA)
    printed = project.waybill("discover", "shop", "--tenant-column", "store_id", "--write")
    found = project.entities()
    assert set(found) == {"store", "staff", "customer", "inventory", "rental", "payment"}
    assert found["store"]["tenant_column"] == "store_id"
    assert found["rental"]["tenant_through"][-1] == {"table": "customer", "on": {"customer_id": "customer_id"}, "column": "store_id"}
    assert found["payment"]["tenant_through"] == [{"table": "customer", "on": {"customer_id": "customer_id"}, "column": "store_id"}]
    assert found["payment"]["key"] == ["payment_date", "payment_id"]
    assert found["rental"]["changes"] == {"mode": "lookback", "column": "last_update", "lookback": "24h"}
    assert found["customer"]["changes"] == {"mode": "full"}
    assert found["rental"]["description"] == "One row per rental."
    assert found["rental"]["columns"]["return_date"] == {"type": "timestamp", "description": "NULL while the film is out."}
    assert "password" not in found["staff"]["columns"]
    assert found["staff"]["columns"]["picture"] == {"type": "binary"}
    text = project.catalog.read_text()
    assert '# "password" is left out: its name looks like a credential' in text
    assert "one row has no last_update" in text
    assert '#   "film": no column store_id, and no foreign key leads to a table with one' in text
    assert "payment_p2022" not in text
    assert "not exported: customer_list" in printed
    assert project.deliver("store-1", sourceTenant=1) == {
        "store": 1, "staff": 1, "customer": 5, "inventory": 10, "rental": 20, "payment": 20,
    }  # fmt: skip


def test_chinook_is_delivered_out_of_sqlite_through_three_tables(project: Project, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "chinook.sqlite") as connection:
        connection.executescript(estates.CHINOOK)
    connection.close()
    project.environment["AIRFLOW_CONN_MUSIC"] = json.dumps({"conn_type": "sqlite", "host": f"{tmp_path}/chinook.sqlite"})
    project.waybill("discover", "music", "--tenant-column", "CustomerId", "--write")
    found = project.entities()
    assert set(found) == {"customer", "invoice", "invoice_line"}
    assert found["invoice_line"]["name"] == "InvoiceLine"
    assert found["invoice_line"]["tenant_through"] == [{"table": "Invoice", "on": {"InvoiceId": "InvoiceId"}, "column": "CustomerId"}]
    assert project.deliver("luis", sourceTenant=1) == {"customer": 1, "invoice": 1, "invoice_line": 2}
    assert project.deliver("leonie", sourceTenant="2") == {"customer": 1, "invoice": 1, "invoice_line": 1}


def test_northwind_is_delivered_out_of_a_duckdb_file(project: Project) -> None:
    project.root.mkdir()
    with duckdb.connect(str(project.root / "northwind.duckdb")) as connection:
        connection.execute(estates.NORTHWIND)
    project.waybill("discover", "northwind.duckdb", "--tenant-column", "customer_id", "--write")
    found = project.entities()
    assert set(found) == {"customers", "orders", "order_details"}
    assert found["orders"]["description"] == "Sales orders."
    assert project.deliver("alfki", sourceTenant="ALFKI") == {"customers": 1, "orders": 2, "order_details": 2}


def test_a_folder_of_parquet_files_is_delivered(project: Project) -> None:
    lake = project.root / "lake"
    for tenant in ("acme", "globex"):
        folder = lake / "events" / f"tenant_id={tenant}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"id": [1, 2, 3], "name": ["a", "b", None]}), folder / "0.parquet")
    pq.write_table(pa.table({"tenant_id": ["acme", "acme", "globex"], "code": ["x", "y", "x"]}), lake / "codes.parquet")
    project.waybill("discover", "lake", "--write")
    found = project.entities()
    assert found["events"]["relation"] == "events/*/*.parquet"
    assert found["codes"]["key"] == ["tenant_id", "code"]
    assert found["events"]["changes"] == {"mode": "full"}
    assert project.deliver("acme") == {"events": 3, "codes": 2}


def test_mariadb_is_discovered_with_its_comments_and_references(project: Project, mariadb: MariaDatabase) -> None:
    with mariadb.connect() as connection:
        with connection.cursor() as cursor:
            for statement in (
                "create table orgs (id int primary key, slug varchar(20) not null unique)",
                "create table orders (id int auto_increment primary key, org_id int not null comment 'Whose',"
                " foreign key (org_id) references orgs (id)) comment 'Sales'",
                "create table items (id int primary key, order_id int not null, foreign key (order_id) references orders (id))",
                "insert into orgs values (1, 'a'), (2, 'b')",
                "insert into orders (org_id) values (1), (1), (2)",
                "insert into items values (1, 1), (2, 3)",
            ):
                cursor.execute(statement)
        connection.commit()

    from waybill.configuration.catalog import Catalog, DbApiSource
    from waybill.discovery import catalog_text, propose
    from waybill.sources.structures.dbapi import look_into_dbapi

    spec = DbApiSource(kind="dbapi", connection="crm")

    def connect(_: str) -> Any:
        return mariadb.connect()

    with look_into_dbapi(spec, connect) as structure:
        found = propose(structure, "crm", structure.tables(""), ())
    raw = yaml.safe_load(catalog_text("crm", spec, found))
    entities = {name: {"id": name, **body} for name, body in raw["entities"].items()}
    assert Catalog.model_validate({"sources": raw["sources"], "entities": entities})
    assert entities["orders"]["description"] == "Sales"
    assert entities["orders"]["columns"]["org_id"] == {"type": "integer", "description": "Whose"}
    assert entities["orgs"]["tenant_column"] == "id"
    assert entities["items"]["tenant_through"] == [{"table": "orders", "on": {"order_id": "id"}, "column": "org_id"}]


def test_changes_are_found_by_what_speaks_for_it(project: Project, shop: psycopg.Connection) -> None:
    shop.execute(
        """
        CREATE TABLE by_index (tenant_id text NOT NULL, id int PRIMARY KEY, updated_at timestamptz NOT NULL);
        CREATE INDEX ON by_index (updated_at);
        CREATE TABLE by_name (tenant_id text NOT NULL, id int PRIMARY KEY, updated_at timestamptz NOT NULL);
        CREATE TABLE by_xid (tenant_id text NOT NULL, id int PRIMARY KEY, x xid8 NOT NULL DEFAULT pg_current_xact_id());
        CREATE TABLE login_events (tenant_id text NOT NULL, id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
          created_at timestamptz NOT NULL);
        CREATE TABLE soft (tenant_id text NOT NULL, id int PRIMARY KEY, deleted_at timestamptz);
        CREATE TABLE state (tenant_id text NOT NULL, id int PRIMARY KEY, is_deleted boolean NOT NULL);
        INSERT INTO login_events (tenant_id, created_at) SELECT 'a', now() FROM generate_series(1, 10);
        CREATE TABLE audit_log (tenant_id text NOT NULL, id bigserial PRIMARY KEY);
        INSERT INTO audit_log (tenant_id) SELECT 'a' FROM generate_series(1, 10);
        """
    )
    shop.execute("SELECT pg_stat_force_next_flush()")
    shop.execute("ANALYZE")
    project.waybill("discover", "shop", "--write")
    found = project.entities()
    assert {name: value["changes"]["mode"] for name, value in found.items()} == {
        "by_index": "lookback", "by_name": "full", "by_xid": "snapshot", "login_events": "append", "audit_log": "append",
        "soft": "full", "state": "full",
    }  # fmt: skip
    assert found["audit_log"]["changes"] == {"mode": "append", "column": "id", "lag": 10_000}
    assert found["soft"]["deleted_column"] == "deleted_at"
    assert found["state"]["deleted_when"] == {"column": "is_deleted", "op": "=", "value": True}
    assert "x" not in found["by_xid"]["columns"]
    assert {name: value.get("deletes") for name, value in found.items()} == {
        "by_index": "compare", "by_name": None, "by_xid": "compare", "login_events": "never", "audit_log": "never",
        "soft": None, "state": None,
    }  # fmt: skip
    assert "warning" not in project.waybill("check")


def test_only_what_sets_a_column_speaks_for_it(project: Project, shop: psycopg.Connection) -> None:
    shop.execute(
        """
        CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW."Updated_At" = now(); RETURN NEW; END $$;
        CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.slug = lower(NEW.slug); RETURN NEW; END $$;
        CREATE TABLE stamped (tenant_id text NOT NULL, id int PRIMARY KEY, "Updated_At" timestamptz NOT NULL);
        CREATE TABLE switched_off (LIKE stamped INCLUDING ALL); CREATE TABLE sometimes (LIKE stamped INCLUDING ALL);
        CREATE TABLE lowered (LIKE stamped INCLUDING ALL, slug text); CREATE TABLE half_indexed (LIKE stamped INCLUDING ALL);
        CREATE TRIGGER t BEFORE UPDATE ON stamped FOR EACH ROW EXECUTE FUNCTION touch();
        CREATE TRIGGER t BEFORE UPDATE ON switched_off FOR EACH ROW EXECUTE FUNCTION touch();
        ALTER TABLE switched_off DISABLE TRIGGER t;
        CREATE TRIGGER t BEFORE UPDATE OF id ON sometimes FOR EACH ROW EXECUTE FUNCTION touch();
        CREATE TRIGGER t BEFORE UPDATE ON lowered FOR EACH ROW EXECUTE FUNCTION other();
        CREATE INDEX ON half_indexed ("Updated_At") WHERE tenant_id = 'a';
        """
    )
    project.waybill("discover", "shop", "--write")
    assert {name: entity["changes"]["mode"] for name, entity in project.entities().items()} == {
        "stamped": "lookback", "switched_off": "full", "sometimes": "full", "lowered": "full", "half_indexed": "full",
    }  # fmt: skip


def test_every_way_to_mark_a_deleted_row_is_found(project: Project, shop: psycopg.Connection) -> None:
    shop.execute("CREATE TYPE life AS ENUM ('live', 'Deleted')")
    marks = {
        "a": "removed_on date", "b": '"DeletedAt" timestamp', "c": "is_deleted smallint NOT NULL", "d": "deleted boolean",
        "e": "status text", "f": '"State" life', "g": "status text", "h": "archived_at timestamptz",
    }  # fmt: skip
    for name, mark in marks.items():
        shop.execute(f"CREATE TABLE {name} (tenant_id text NOT NULL, id int PRIMARY KEY, {mark})")
    shop.execute("INSERT INTO e VALUES ('a', 1, 'deleted'), ('a', 2, 'live'); INSERT INTO f VALUES ('a', 1, 'Deleted')")
    shop.execute("INSERT INTO g VALUES ('a', 1, 'live'), ('a', 2, NULL); INSERT INTO c VALUES ('a', 1, 0), ('a', 2, 1)")
    project.waybill("discover", "shop", "--write")
    assert {name: entity.get("deleted_column", entity.get("deleted_when")) for name, entity in project.entities().items()} == {
        "a": "removed_on", "b": "DeletedAt", "c": {"column": "is_deleted", "op": "=", "value": 1},
        "d": {"column": "deleted", "op": "=", "value": True}, "e": {"column": "status", "op": "=", "value": "deleted"},
        "f": {"column": "State", "op": "=", "value": "Deleted"}, "g": None, "h": None,
    }  # fmt: skip
    assert project.deliver("a") == {"a": 0, "b": 0, "c": 2, "d": 0, "e": 2, "f": 1, "g": 2, "h": 0}


def test_rows_that_nobody_would_receive_are_told(project: Project, shop: psycopg.Connection, postgres: Database) -> None:
    shop.execute(
        """
        CREATE TABLE parts (tenant_id text, id int PRIMARY KEY); INSERT INTO parts VALUES (NULL, 1), ('a', 2);
        CREATE TABLE pieces (id int PRIMARY KEY, part int REFERENCES parts); INSERT INTO pieces VALUES (1, NULL), (2, NULL), (3, 2);
        CREATE TABLE hidden (tenant_id text NOT NULL, id int PRIMARY KEY); INSERT INTO hidden VALUES ('a', 1);
        CREATE TABLE half_hidden (tenant_id text NOT NULL, id int PRIMARY KEY); INSERT INTO half_hidden VALUES ('a', 1), ('b', 2);
        ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; ALTER TABLE half_hidden ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON half_hidden USING (tenant_id = 'a');
        CREATE ROLE narrow LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO narrow;
        """
    )
    project.environment["AIRFLOW_CONN_SHOP"] = f"postgresql://narrow@{postgres.host}:{postgres.port}/{postgres.name}"
    try:
        printed = project.waybill("discover", "shop", "--write")
        assert "hidden: row-level security shows the connection's user no row" in printed
        text = project.catalog.read_text()
        assert "tenant_column: tenant_id    # 1 row of today has none, and nobody receives it" in text
        assert "tenant_through:    # 2 rows of today have none, and nobody receives them" in text
        assert "relation: half_hidden    # row-level security decides which rows the connection's user sees" in text
        assert project.deliver("a") == {"parts": 1, "pieces": 1, "half_hidden": 1}
        project.waybill("check", "--connect")
    finally:
        shop.execute("DROP OWNED BY narrow; DROP ROLE narrow")


def test_of_several_ways_to_the_tenant_one_that_loses_no_row_is_taken(project: Project, shop: psycopg.Connection) -> None:
    shop.execute(
        """
        CREATE TABLE a (tenant_id text NOT NULL, id int PRIMARY KEY, "Tenant_ID" text); INSERT INTO a VALUES ('a', 1, 'b');
        CREATE TABLE b (id int PRIMARY KEY, a int NOT NULL REFERENCES a); INSERT INTO b VALUES (1, 1);
        CREATE TABLE c (id int PRIMARY KEY, a int REFERENCES a, b int NOT NULL REFERENCES b); INSERT INTO c VALUES (1, NULL, 1), (2, 1, 1);
        CREATE TABLE d (id int PRIMARY KEY, a int REFERENCES a); INSERT INTO d VALUES (1, NULL), (2, 1);
        """
    )
    project.waybill("discover", "shop", "--write")
    found = project.entities()
    assert found["a"]["tenant_column"] == "tenant_id"
    assert [step["table"] for step in found["c"]["tenant_through"]] == ["b", "a"]
    assert project.deliver("a") == {"a": 1, "b": 1, "c": 2, "d": 1}


def test_tables_of_the_usual_schema_have_the_plain_names(project: Project, shop: psycopg.Connection) -> None:
    shop.execute('CREATE SCHEMA archive; CREATE SCHEMA "Zoo 1"')
    for name in ("archive.orders", "orders", '"Zoo 1".orders', '"Größe"', '"Łódź"'):
        shop.execute(f"CREATE TABLE {name} (tenant_id text NOT NULL, id int PRIMARY KEY)")
    project.waybill("discover", "shop", "--write")
    assert {name: entity["relation"] for name, entity in project.entities().items()} == {
        "orders": "orders", "archive_orders": "archive.orders", "zoo_1_orders": "Zoo 1.orders", "grosse": "Größe", "lodz": "Łódź",
    }  # fmt: skip


def test_a_table_that_another_one_hides_in_the_search_path_has_its_schema(project: Project, shop: psycopg.Connection) -> None:
    for schema, rows in (("public", 2), ("sales", 5)):
        shop.execute(f"create schema if not exists {schema}".encode())
        shop.execute(f"create table {schema}.orders (id int primary key, org_id text)".encode())
        shop.execute(f"insert into {schema}.orders select i, 'acme' from generate_series(1, {rows}) i".encode())
        shop.execute(f"create table {schema}.lines (id int primary key, order_id int not null references {schema}.orders)".encode())
    shop.execute(f"alter database {shop.info.dbname} set search_path = sales, public".encode())
    project.waybill("discover", "shop", "--tenant-column", "org_id", "--write")
    found = project.entities()
    assert {entity["relation"] for entity in found.values()} == {"public.orders", "sales.orders", "public.lines", "sales.lines"}
    assert project.deliver("acme") == {
        name: (5 if body["relation"] == "sales.orders" else 2) * (body["relation"].endswith("orders")) for name, body in found.items()
    }


def test_passwords_in_other_languages_stay(project: Project, shop: psycopg.Connection) -> None:
    secrets = [
        "Kennwort",
        "mot_de_passe",
        "contraseña",
        "senha_hash",
        "wachtwoord",
        "hasło",
        "şifre",
        "пароль",
        "密码",
        "パスワード",
        "비밀번호",
    ]
    plain = ["clave", "jetons_caisse", "cycle_apicole", "senhora", "паспорт", "密度"]
    columns = ", ".join(f'"{name}" text' for name in (*secrets, *plain))
    shop.execute(f"CREATE TABLE people (tenant_id text NOT NULL, id int PRIMARY KEY, {columns})")
    project.waybill("discover", "shop", "--write")
    assert list(project.entities()["people"]["columns"]) == ["tenant_id", "id", *plain]
    assert '# "Kennwort" is left out: its name looks like a credential, and credentials never leave' in project.catalog.read_text()


def test_keys_are_proven_on_the_data_where_nothing_declares_them(project: Project, shop: psycopg.Connection) -> None:
    shop.execute(
        """
        CREATE TABLE one (tenant_id text, name text, number int);
        INSERT INTO one SELECT 'a', 'same', n FROM generate_series(1, 5) n;
        CREATE TABLE two (tenant_id text, line int, document int);
        INSERT INTO two SELECT 'a', n % 3, n / 3 FROM generate_series(0, 8) n;
        CREATE TABLE nothing (tenant_id text, word text);
        INSERT INTO nothing SELECT 'a', 'b' FROM generate_series(1, 5);
        CREATE TABLE empty (tenant_id text, id int);
        CREATE TABLE half (tenant_id text, id int, UNIQUE (id));
        INSERT INTO half VALUES ('a', 1), ('a', NULL), ('a', NULL);
        """
    )
    printed = project.waybill("discover", "shop", "--write")
    found = project.entities()
    assert {name: value["key"] for name, value in found.items()} == {"one": ["number"], "two": ["line", "document"]}
    assert "unique among the 5 rows of today; no constraint says so" in project.catalog.read_text()
    assert "nothing: no key is declared, and no column or pair of columns is unique" in printed
    assert "empty: no key is declared, and there are no rows to find one by" in printed
    assert "half: no key is declared" in printed
    assert project.deliver("a") == {"one": 5, "two": 9}


def test_one_customer_with_three_ids_needs_no_view(project: Project, shop: psycopg.Connection) -> None:
    shop.execute(
        """
        CREATE TABLE orgs (org_id int PRIMARY KEY, uuid uuid NOT NULL UNIQUE, slug text NOT NULL UNIQUE);
        CREATE TABLE orders (id int PRIMARY KEY, org_id int NOT NULL REFERENCES orgs);
        CREATE TABLE devices (id int PRIMARY KEY, owner uuid NOT NULL REFERENCES orgs (uuid));
        CREATE TABLE pages (id int PRIMARY KEY, org_slug text NOT NULL REFERENCES orgs (slug));
        INSERT INTO orgs VALUES (7, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'Ünï & Co.'), (8, 'b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'x');
        INSERT INTO orders VALUES (1, 7), (2, 8);
        INSERT INTO devices SELECT n, uuid FROM orgs, generate_series(1, 3) n WHERE org_id = 7;
        INSERT INTO pages VALUES (1, 'Ünï & Co.'), (2, 'x'), (3, 'Ünï & Co.');
        """
    )
    project.waybill("discover", "shop", "--tenant-column", "org_id", "--write")
    assert project.deliver("uni", sourceTenant=7) == {"orgs": 1, "orders": 1, "devices": 3, "pages": 2}


def test_a_tenant_column_that_holds_no_id_is_told(project: Project, shop: psycopg.Connection) -> None:
    shop.execute(
        "CREATE TABLE a (id int PRIMARY KEY, tenant_id double precision); CREATE TABLE b (id int PRIMARY KEY, tenant_id jsonb);"
        "CREATE TABLE c (id int PRIMARY KEY, tenant_id timestamptz); CREATE TABLE d (id int PRIMARY KEY, tenant_id numeric(10,0))"
    )
    printed = project.waybill("discover", "shop", "--write")
    assert set(project.entities()) == {"d"}
    assert "not exported: a: its tenant column tenant_id is double precision, which holds no id" in printed
    assert "not exported: b: its tenant column tenant_id is jsonb" in printed


def test_names_in_four_scripts_become_entities_that_pass(project: Project, shop: psycopg.Connection) -> None:
    odd = ["a\nb: # c", "tab\there", "con", "Order", "order", "ORDER", "😀"]
    names = [*odd, "Ünïcode Straße", "данные", "数据", "بيانات", "select", "with.dot", "UPPER", "upper", "a, b", "x" * 63, "1st", "null"]
    for name in names:
        shop.execute(f'CREATE TABLE "{name}" (tenant_id text NOT NULL, id int PRIMARY KEY, "{name}" text, "on" text, "a: b #c" text)')
        shop.execute(f"""INSERT INTO "{name}" VALUES ('a', 1, 'ä', 'on', '#')""")
    project.waybill("discover", "shop", "--write")
    found = project.entities()
    assert len(found) == len(names)
    assert found["order"]["relation"] == "order"
    assert project.deliver("a") == dict.fromkeys(found, 1)


def test_two_thousand_tables_are_discovered_in_one_go(project: Project, shop: psycopg.Connection) -> None:
    for part in range(20):
        tables = (f"CREATE TABLE t{part:02}_{n:03} (tenant_id int NOT NULL, id int PRIMARY KEY, name text);" for n in range(100))
        shop.execute("".join(tables))
    printed = project.waybill("discover", "shop", "--write")
    assert "wrote 2,000 entities" in printed
    assert "2,000 entities" in project.waybill("check")


def test_inherited_tables_are_one_and_what_may_not_be_read_is_told(project: Project, shop: psycopg.Connection, postgres: Database) -> None:
    shop.execute(
        "CREATE TABLE parent (tenant_id text, id int PRIMARY KEY); CREATE TABLE child (extra text) INHERITS (parent);"
        "CREATE SCHEMA other; CREATE TABLE other.parent (tenant_id text, id int PRIMARY KEY);"
        "CREATE TABLE hidden (tenant_id text, id int PRIMARY KEY);"
        "DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN; GRANT SELECT ON parent TO reader; GRANT USAGE ON SCHEMA other TO reader;"
        "GRANT SELECT ON other.parent TO reader;"
        "CREATE SCHEMA closed; CREATE TABLE closed.open (tenant_id text, id int PRIMARY KEY); GRANT SELECT ON closed.open TO reader;"
        "CREATE TABLE closed.shut (tenant_id text, id int PRIMARY KEY)"
    )
    project.environment["AIRFLOW_CONN_SHOP"] = f"postgresql://reader@{postgres.host}:{postgres.port}/{postgres.name}"
    printed = project.waybill("discover", "shop", "--write")
    assert {entity["relation"] for entity in project.entities().values()} == {"parent", "other.parent"}
    assert "not exported: hidden: the connection's user may not read it" in printed
    told = project.waybill("discover", "shop", "--schema", "closed")
    assert '"closed.open": the connection\'s user may not read it; GRANT USAGE ON SCHEMA "closed" to it' in told
    assert 'GRANT USAGE ON SCHEMA "closed" and GRANT SELECT ON "closed"."shut" to it' in told
    assert "other.parent" not in project.waybill("discover", "shop", "--schema", "public")
    shop.execute("DROP OWNED BY reader; DROP ROLE reader")


def test_what_must_not_leave_or_may_not_be_read_costs_only_itself(project: Project, shop: psycopg.Connection, postgres: Database) -> None:
    shop.execute(
        "CREATE TABLE prices (tenant_id text, id int PRIMARY KEY, price money, kind regclass, secret_note text, note text);"
        "CREATE TABLE sessions (tenant_id text, token text PRIMARY KEY, note text);"
        "CREATE TABLE visitors (tenant_id text, token text PRIMARY KEY, id int NOT NULL UNIQUE);"
        'CREATE TABLE "Hidden One" (tenant_id text, id int PRIMARY KEY);'
        "INSERT INTO prices VALUES ('a', 1, 1, 'pg_class', 'x', 'y'); INSERT INTO visitors VALUES ('a', 'x', 1);"
        "DROP ROLE IF EXISTS clerk; CREATE ROLE clerk LOGIN; GRANT SELECT ON sessions, visitors TO clerk;"
        "GRANT SELECT (tenant_id, id, price, kind, note) ON prices TO clerk"
    )
    project.environment["AIRFLOW_CONN_SHOP"] = f"postgresql://clerk@{postgres.host}:{postgres.port}/{postgres.name}"
    printed = project.waybill("discover", "shop", "--write")
    found = project.entities()
    assert {name: value["key"] for name, value in found.items()} == {"prices": ["id"], "visitors": ["id"]}
    assert list(found["prices"]["columns"]) == ["tenant_id", "id", "note"]
    text = project.catalog.read_text()
    assert '"price" is left out: it is money, of which lc_monetary decides' in text
    assert '"secret_note" is left out: the connection\'s user may not read it' in text
    assert "not exported: sessions: its key (token) must not leave" in printed
    assert 'GRANT SELECT ON "Hidden One" to it' in printed
    assert project.deliver("a") == {"prices": 1, "visitors": 1}
    project.waybill("check", "--connect")
    shop.execute("DROP OWNED BY clerk; DROP ROLE clerk")


def test_written_again_only_what_is_new_is_added_and_no_line_is_lost(project: Project, shop: psycopg.Connection) -> None:
    shop.execute("CREATE TABLE a (tenant_id text NOT NULL, id int PRIMARY KEY)")
    project.waybill("discover", "shop", "--write")
    kept = "# a remark of ours\n" + project.catalog.read_text() + "    # the end\n"
    project.catalog.write_text(kept)
    shop.execute("CREATE TABLE b (id int PRIMARY KEY, a_id int NOT NULL REFERENCES a)")
    project.waybill("discover", "shop", "--write")
    after = project.catalog.read_text()
    lines = iter(after.splitlines())
    assert all(line in lines for line in kept.splitlines() if line.strip())
    assert list(project.entities()) == ["a", "b"]
    project.waybill("check")


def test_what_is_printed_passes_check_as_it_is(project: Project, shop: psycopg.Connection) -> None:
    shop.execute(estates.PAGILA)
    printed = project.waybill("discover", "shop", "--tenant-column", "store_id")
    text = printed[: printed.rindex("6 of ")]
    project.catalog.parent.mkdir(parents=True)
    project.catalog.write_text(text)
    assert "6 entities" in project.waybill("check")
    listed = json.loads(project.waybill("discover", "shop", "--tenant-column", "store_id", "--json"))
    assert {entity["id"] for entity in listed["entities"]} == set(project.entities())
    assert "film" in {table["relation"] for table in listed["skipped"]}


def test_diff_tells_what_is_new_gone_and_retyped(project: Project, shop: psycopg.Connection) -> None:
    shop.execute(
        "CREATE TABLE a (tenant_id text NOT NULL, id int PRIMARY KEY, gone text, kept text, changed int);"
        "CREATE TABLE b (tenant_id text NOT NULL, id int PRIMARY KEY)"
    )
    project.waybill("discover", "shop", "--write")
    assert project.waybill("discover", "shop", "--diff") == "the catalog says what the source holds\n"
    shop.execute("ALTER TABLE a ADD COLUMN fresh date, ADD COLUMN api_key text; CREATE TABLE c (id int)")
    printed = project.waybill("discover", "shop", "--diff")
    assert printed.splitlines() == ["+ a.fresh: date, not exported", "+ c: no entity reads it (1 column)", "2 differences"]
    shop.execute("ALTER TABLE a DROP COLUMN gone, ALTER COLUMN changed TYPE bytea USING NULL; DROP TABLE b")
    printed = project.waybill("discover", "shop", "--diff", status=1)
    assert "- a.gone: the column is gone from a" in printed
    assert "~ a.changed: the column is bytea now, the catalog says integer" in printed
    assert "- b: b is gone from the source" in printed
    assert {load["kind"] for load in json.loads(project.waybill("discover", "shop", "--diff", "--json", status=1))} == {
        "new_column", "new_table", "dropped_column", "dropped_table", "retyped_column",
    }  # fmt: skip


def test_diff_guesses_the_new_name_of_a_column(project: Project, shop: psycopg.Connection) -> None:
    shop.execute("CREATE TABLE a (tenant_id text NOT NULL, id int PRIMARY KEY, total numeric, note text, word text)")
    project.waybill("discover", "shop", "--write")
    shop.execute("ALTER TABLE a RENAME total TO amount; ALTER TABLE a RENAME note TO remark; ALTER TABLE a DROP COLUMN word")
    printed = project.waybill("discover", "shop", "--diff", status=1)
    assert "- a.total: the column is gone from a; is it amount now?" in printed
    assert "- a.note: the column is gone from a\n" in printed, "it may be remark, and so may word"
    assert "+ a.amount: numeric, not exported" in printed


def test_diff_guesses_the_new_name_of_a_column_beside_credentials(project: Project, shop: psycopg.Connection) -> None:
    shop.execute("CREATE TABLE a (tenant_id text NOT NULL, id int PRIMARY KEY, full_name text, password_hash text, api_token text)")
    project.waybill("discover", "shop", "--write")
    shop.execute("ALTER TABLE a RENAME full_name TO display_name")
    printed = project.waybill("discover", "shop", "--diff", status=1)
    assert "- a.full_name: the column is gone from a; is it display_name now?" in printed


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("nowhere", "there is no Airflow connection 'nowhere'"),
        ("missing.duckdb", "there is no file or folder missing.duckdb"),
        ("postgresql://ann:secret@db/shop", "an address with a password does not belong on a command line"),
        ("s3://bucket/x", "needs an Airflow connection"),
    ],
)
def test_a_source_that_is_none_is_refused_in_a_sentence(project: Project, word: str, said: str) -> None:
    printed = project.waybill("discover", word, "--write", status=1)
    assert said in printed
    assert "ann:" not in printed
    assert not project.root.exists()


def test_a_server_that_is_away_or_refuses_leaves_nothing_behind(project: Project) -> None:
    project.environment["AIRFLOW_CONN_AWAY"] = "postgresql://nobody@127.0.0.1:1/none"
    assert "PostgreSQL connection away" in project.waybill("discover", "away", "--write", status=1)
    assert not project.root.exists()


def test_a_tenant_column_that_no_table_has_is_a_slip(project: Project, shop: psycopg.Connection) -> None:
    shop.execute("CREATE TABLE a (org_id text, id int PRIMARY KEY)")
    printed = project.waybill("discover", "shop", "--tenant-column", "orgid", "--write", status=1)
    assert "no table of shop has a column orgid (did you mean org_id?)" in printed
    assert not project.root.exists()
    project.waybill("discover", "shop", "--tenant-column", "orgid", "--tenant-column", "ORG_ID", "--write")


def test_a_database_without_anything_to_export_ends_with_one(project: Project, shop: psycopg.Connection) -> None:
    assert "shop holds no table" in project.waybill("discover", "shop", status=1)
    shop.execute("CREATE TABLE a (id int PRIMARY KEY)")
    printed = project.waybill("discover", "shop", status=1)
    assert 'a": no tenant column, and no foreign key leads to a table with one; name the column with --tenant-column' in printed
    project.waybill("discover", "shop", "--diff", "--write", status=2)


def test_three_ids_of_one_tenant_are_led_to_the_first(project: Project, shop: psycopg.Connection) -> None:
    shop.execute(
        """
        CREATE TABLE clinics (clinic_no int PRIMARY KEY, clinic_uid uuid NOT NULL UNIQUE, handle text NOT NULL UNIQUE);
        INSERT INTO clinics VALUES (1, '8c3f0a52-5f1d-4a55-9d37-0a4c6f5f9a01', 'o''neil & Söhne'), (2, gen_random_uuid(), '1');
        CREATE TABLE owners (id int PRIMARY KEY, clinic_no int NOT NULL REFERENCES clinics); INSERT INTO owners VALUES (1, 1), (2, 2);
        CREATE TABLE invoices (id int PRIMARY KEY, clinic_uid uuid REFERENCES clinics (clinic_uid));
        INSERT INTO invoices SELECT clinic_no, clinic_uid FROM clinics;
        CREATE TABLE lines (id int PRIMARY KEY, invoice int NOT NULL REFERENCES invoices); INSERT INTO lines VALUES (1, 1), (2, 1), (3, 2);
        CREATE TABLE threads (id int PRIMARY KEY, clinic_uid uuid NOT NULL); INSERT INTO threads SELECT clinic_no, clinic_uid FROM clinics;
        CREATE TABLE page_views (id int PRIMARY KEY, "Handle" text NOT NULL); INSERT INTO page_views SELECT clinic_no, handle FROM clinics;
        CREATE VIEW looks AS SELECT id, "Handle" AS handle FROM page_views;
        CREATE TABLE elsewhere (id int PRIMARY KEY, partner_uid uuid NOT NULL); INSERT INTO elsewhere VALUES (1, gen_random_uuid());
        """
    )
    options = ["clinic_no", "clinic_uid", "handle", "partner_uid"]
    project.waybill("discover", "shop", *(word for name in options for word in ("--tenant-column", name)), "--write")
    found = project.entities()
    by_uid = {"table": "clinics", "on": {"clinic_uid": "clinic_uid"}, "column": "clinic_no"}
    assert found["clinics"]["tenant_column"] == "clinic_no"
    assert found["threads"]["tenant_through"] == found["invoices"]["tenant_through"] == [by_uid]
    assert found["lines"]["tenant_through"] == [{"table": "invoices", "on": {"invoice": "id"}}, by_uid]
    assert found["page_views"]["tenant_through"] == [{"table": "clinics", "on": {"Handle": "handle"}, "column": "clinic_no"}]
    assert "elsewhere" not in found
    assert "partner_uid is uuid, and clinic_no is integer" in project.catalog.read_text()
    rows = {"clinics": 1, "owners": 1, "invoices": 1, "lines": 2, "threads": 1, "page_views": 1, "looks": 1}
    assert project.deliver("o-neil", sourceTenant=1) == rows
    project.waybill("check", "--connect")


def test_the_table_of_tenants_has_the_id_that_the_first_tenant_column_points_to(project: Project, shop: psycopg.Connection) -> None:
    shop.execute(
        """
        CREATE TABLE clinics (id int PRIMARY KEY, uid uuid NOT NULL UNIQUE); INSERT INTO clinics VALUES (1, gen_random_uuid());
        CREATE TABLE a (id int PRIMARY KEY, clinic_uid uuid NOT NULL REFERENCES clinics (uid)); INSERT INTO a SELECT 1, uid FROM clinics;
        CREATE TABLE b (id int PRIMARY KEY, clinic_id int NOT NULL REFERENCES clinics); INSERT INTO b VALUES (1, 1);
        """
    )
    project.waybill("discover", "shop", "--tenant-column", "clinic_id", "--tenant-column", "clinic_uid", "--write")
    found = project.entities()
    assert found["clinics"]["tenant_column"] == "id"
    assert found["a"]["tenant_through"] == [{"table": "clinics", "on": {"clinic_uid": "uid"}, "column": "id"}]
    assert project.deliver("one", sourceTenant=1) == {"clinics": 1, "a": 1, "b": 1}


def test_an_id_that_its_column_cannot_hold_is_refused_and_no_empty_file_is_delivered(
    project: Project, shop: psycopg.Connection, tmp_path: Path
) -> None:
    kinds = {"a": "int", "b": "uuid", "c": "varchar"}
    tables = [f"CREATE TABLE {name} (id int PRIMARY KEY, tenant_id {kind} NOT NULL)" for name, kind in kinds.items()]
    shop.execute(";".join(tables))
    shop.execute("CREATE TABLE d (id int PRIMARY KEY, b int NOT NULL REFERENCES b)")
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
        connection.execute(";".join(tables))
    with sqlite3.connect(tmp_path / "shop.sqlite") as lite:
        lite.executescript(tables[0])
    lite.close()
    project.environment["AIRFLOW_CONN_LITE"] = json.dumps({"conn_type": "sqlite", "host": f"{tmp_path}/shop.sqlite"})
    for source in ("shop", f"{tmp_path}/shop.duckdb", "lite"):
        project.waybill("discover", source, "--tenant-column", "tenant_id", "--write")
    (project.root / "config/tenants").mkdir()
    destination = {"kind": "folder", "root": "out"}
    file = project.root / "config/tenants/acme.yaml"
    file.write_text(yaml.safe_dump({"exportOption": "export all", "destination": destination, "sourceTenant": "ORG-7"}))
    printed = project.waybill("check", "--connect", status=1)
    refused = [line for line in printed.splitlines() if "the tenant's id in the data is ORG-7" in line]
    entities = project.entities()
    assert {line.split(":")[0] for line in refused} == {name for name, entity in entities.items() if entity["relation"] != "c"}
    assert "tenant_id, which tells the tenant, is uuid" in printed
    assert "Set sourceTenant to the id that tenant_id holds" in printed
    project.waybill("run", "acme", status=1)
    delivered = {path.parent.name for path in (project.root / "out").rglob("*.manifest.json")}
    assert delivered == {name for name, entity in entities.items() if entity["relation"] == "c"}


def test_every_column_that_the_catalog_names_has_to_be_in_the_source(project: Project, shop: psycopg.Connection) -> None:
    shop.execute("CREATE TABLE a (id int PRIMARY KEY, tenant_id text NOT NULL, at timestamptz NOT NULL, gone_at timestamptz, note text)")
    project.waybill("discover", "shop", "--write")
    catalog = yaml.safe_load(project.catalog.read_text())
    wrong: list[dict[str, Any]] = [
        {"tenant_column": "nowhere"},
        {"tenant_column": None, "tenant_through": [{"table": "a", "on": {"nowhere": "id"}, "column": "tenant_id"}]},
        {"tenant_column": None, "tenant_through": [{"table": "a", "on": {"id": "id"}, "column": "nowhere"}]},
        {"changes": {"mode": "lookback", "column": "nowhere"}, "deletes": "never"}, {"deleted_column": "nowhere"},
        {"deleted_when": {"column": "nowhere", "op": "=", "value": "x"}}, {"time_column": "nowhere"}, {"scopes": {"project": "nowhere"}},
        {"columns": {"id": {"type": "integer"}, "nowhere": {"type": "string"}}},
        {"columns": {"id": {"type": "integer"}, "new": {"type": "string", "from": "nowhere"}}},
        {"key": ["n"], "columns": {"n": {"type": "integer", "from": "nowhere"}}},
    ]  # fmt: skip
    right = catalog["entities"].pop("a")
    for number, change in enumerate(wrong):
        catalog["entities"][f"a{number}"] = {name: value for name, value in {**right, **change}.items() if value is not None}
    project.catalog.write_text(yaml.safe_dump(catalog, sort_keys=False))
    project.waybill("check")
    printed = project.waybill("check", "--connect", status=1)
    for number, change in enumerate(wrong):
        assert any(line.startswith(f"a{number}: ") and "column nowhere is missing from a" in line for line in printed.splitlines()), change


def test_a_table_without_a_grant_hides_no_finding_about_the_others(project: Project, shop: psycopg.Connection, postgres: Database) -> None:
    shop.execute(
        "CREATE TABLE a (tenant_id text, id int PRIMARY KEY); CREATE TABLE b (tenant_id text, id int PRIMARY KEY);"
        "CREATE TABLE c (tenant_id text, id int PRIMARY KEY); DROP ROLE IF EXISTS teller; CREATE ROLE teller LOGIN;"
        "GRANT SELECT ON a, b, c TO teller"
    )
    project.environment["AIRFLOW_CONN_SHOP"] = f"postgresql://teller@{postgres.host}:{postgres.port}/{postgres.name}"
    project.waybill("discover", "shop", "--write")
    shop.execute("REVOKE SELECT ON a, c FROM teller")
    printed = project.waybill("check", "--connect", status=1)
    assert "permission denied for table a" in printed
    assert "permission denied for table c" in printed
    assert "2 problems found" in printed
    assert "permission denied for table c" in (doctor := project.waybill("doctor", status=1))
    assert "aborted" not in printed + doctor
    shop.execute("DROP OWNED BY teller; DROP ROLE teller")
