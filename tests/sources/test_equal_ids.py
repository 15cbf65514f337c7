"""No id of a tenant equals another one, whatever a kind of database takes for the same, and an id that cannot be there is refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from waybill.configuration.catalog import DbApiSource, Entity, PostgresSource
from waybill.configuration.rules.sharing import one_spelling
from waybill.configuration.selection import FileStyle, Selection
from waybill.connection import Connection
from waybill.errors import PermanentError
from waybill.sources import Source
from waybill.sources.dbapi.source import DbApi
from waybill.sources.duckdb.source import DuckDB
from waybill.sources.postgres.source import Postgres

PLACES = ["sqlite", "duckdb", "mariadb", "postgres", "psycopg"]


@dataclass(frozen=True)
class Place:
    kind: str
    source: Source
    happens: Callable[..., None]

    def ids(self, tenant: str, *through: dict[str, Any], scope: dict[str, tuple[str, ...]] | None = None, **facts: Any) -> str:
        """Return the ids of the tenant's rows, or the code of the refusal."""
        owner: dict[str, Any] = {"tenant_through": through} if through else {"tenant_column": "tenant_id"}
        body = {"id": "orders", "source": "s", "relation": "orders", "key": ["id"], "columns": {"id": {"type": "integer"}}}
        entity = Entity.model_validate({**body, **owner, "changes": {"mode": "full"}, **facts})
        selection = Selection(entity, tenant, entity.columns, scope=scope or {})
        try:
            with self.source.snapshot([entity]) as snapshot:
                snapshot.check(selection)
                return " ".join(b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle())).decode().split())
        except PermanentError as error:
            return error.code


def _runs(connect: Callable[[], Any]) -> Callable[..., None]:
    def happens(*statements: str) -> None:
        with closing(connect()) as connection, closing(connection.cursor()) as cursor:
            for statement in statements:
                cursor.execute(statement)
            connection.commit()

    return happens


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    kind, dbapi = request.param, DbApiSource(kind="dbapi", connection="db")
    match kind:
        case "sqlite":
            yield Place(kind, DbApi(dbapi, lambda _: sqlite3.connect(tmp_path / "db")), _runs(lambda: sqlite3.connect(tmp_path / "db")))
        case "duckdb":

            def happens(*statements: str) -> None:
                with duckdb.connect(tmp_path / "db") as connection:
                    for statement in statements:
                        connection.execute(statement)

            yield Place(kind, DuckDB(tmp_path / "db"), happens)
        case "mariadb":
            maria = request.getfixturevalue("mariadb")
            yield Place(kind, DbApi(dbapi, lambda _: maria.connect()), _runs(maria.connect))
        case _:
            database = request.getfixturevalue("postgres")
            found = Connection("pg", "postgres", database.host, database.port, database.user, database.name)
            native = Postgres(PostgresSource(kind="postgres", connection="pg"), lambda _: found)
            through = DbApi(dbapi, lambda _: psycopg.connect(database.dsn))
            yield Place(kind, native if kind == "postgres" else through, _runs(lambda: psycopg.connect(database.dsn)))


@pytest.mark.parametrize("native", ["decimal(10,2)", "decimal(20,0)"])
def test_a_decimal_number_tells_one_tenant_by_one_spelling(place: Place, native: str) -> None:
    place.happens(f"create table orders (tenant_id {native}, id int)", "insert into orders values (7, 1), (0, 2), (70, 3)")
    found = {tenant: place.ids(tenant) for tenant in ("7", "0", "7.00", "07", "-0", "7abc", "acme", "7e0", " 7", "NaN", "1" * 40)}
    other = "" if place.kind == "sqlite" else "tenant_unfit"  # a column of SQLite holds texts, too
    assert found == {"7": "1", "0": "2"} | dict.fromkeys([tenant for tenant in found if tenant not in ("7", "0")], other)


def test_decimal_numbers_that_differ_beyond_what_a_float_holds_are_different_tenants(place: Place) -> None:
    place.happens("create table orders (tenant_id decimal(20,0), id int)")
    place.happens("insert into orders values (9007199254740992, 1), (9007199254740993, 2)")
    assert [place.ids(tenant) for tenant in ("9007199254740992", "9007199254740993", "9007199254740994")] == ["1", "2", ""]


@pytest.mark.parametrize("place", ["mariadb"], indirect=True)
@pytest.mark.parametrize("native", ["tinyint(1)", "int(9) zerofill"])
def test_a_text_is_no_whole_number_of_mysql_because_it_begins_with_one(place: Place, native: str) -> None:
    place.happens(f"create table orders (tenant_id {native}, id int)", "insert into orders values (7, 1), (0, 2)")
    assert [place.ids(tenant) for tenant in ("7", "0")] == ["1", "2"]
    assert {place.ids(tenant) for tenant in ("acme", "7abc", "07", "true", "9" * 12)} == {"tenant_unfit"}


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
@pytest.mark.parametrize("native", ["", "numeric", "real", "blob", "date", "boolean", "json", "text collate nocase"])
def test_a_column_of_sqlite_tells_texts_and_numbers_whatever_it_is_declared_as(place: Place, native: str) -> None:
    place.happens(f"create table orders (tenant_id {native}, id int)")
    place.happens("insert into orders values (7, 1), ('acme', 2), ('ACME', 3), ('acme ', 4)")
    found = {tenant: place.ids(tenant) for tenant in ("7", "acme", "ACME", "acme ", "07", "7.00", "Acme", "7abc")}
    assert found == {"7": "1", "acme": "2", "ACME": "3", "acme ": "4", "07": "", "7.00": "", "Acme": "", "7abc": ""}


@pytest.mark.parametrize("place", ["postgres", "psycopg"], indirect=True)
def test_blanks_at_the_end_of_an_id_tell_tenants_apart_in_a_char_of_postgres(place: Place) -> None:
    place.happens("create table orders (tenant_id char(9), id int)", "insert into orders values ('acme', 1)")
    assert [place.ids(tenant) for tenant in ("acme", "acme ")] == ["1", ""]


@pytest.mark.parametrize("place", ["duckdb", "mariadb", "postgres", "psycopg"], indirect=True)
@pytest.mark.parametrize("native", ["uuid", "varchar(40)"])
def test_a_uuid_tells_one_tenant_in_letters_of_either_case_and_in_no_other_spelling(place: Place, native: str) -> None:
    """Sharing rules count on it: `one_spelling` takes a UUID in other letters for the same tenant, and every other text for another one."""
    one = "0190f6b2-7c3e-7d11-8f00-3c5c6a1e9b42"
    spellings = [one, one.upper(), one.replace("-", ""), f"{{{one}}}", f"urn:uuid:{one}", f" {one}", f"{one} "]
    place.happens(f"create table orders (tenant_id {native}, id int)", f"insert into orders values ('{one}', 1)")
    found = [spelling for spelling in spellings if place.ids(spelling) == "1"]
    assert found == ([one, one.upper()] if native == "uuid" else [one])
    assert len({one_spelling(spelling) for spelling in found}) == 1


@pytest.mark.parametrize("place", ["postgres", "psycopg"], indirect=True)
@pytest.mark.parametrize(("native", "host"), [("inet", "10.0.0.1/32"), ("inet", "::1/128"), ("cidr", "10.0.0.0/8")])
def test_an_address_tells_a_tenant_as_postgres_writes_it(place: Place, native: str, host: str) -> None:
    place.happens(f"create table orders (tenant_id {native}, id int)", f"insert into orders values ('{host}', 1)")
    found = [place.ids(tenant) for tenant in (host, host.partition("/")[0], "acme", "10.0.0.2/32")]
    assert found == ["1", "tenant_unfit", "tenant_unfit", ""]


@pytest.mark.parametrize("place", ["mariadb"], indirect=True)
@pytest.mark.parametrize(
    ("native", "value", "tenant", "found"),
    [
        ("bit(8)", "b'101'", "101", "tenant_unfit"),
        ("bit(1)", "b'1'", "1", "tenant_unfit"),
        ("year", "2026", "2026", "1"),
        ("year", "2026", "26", ""),
        ("inet6", "'::1'", "::1", "1"),
        ("set('a', 'b')", "'a,b'", "a,b", "1"),
    ],
)
def test_odd_types_of_mysql_tell_a_tenant_or_are_refused(place: Place, native: str, value: str, tenant: str, found: str) -> None:
    place.happens(f"create table orders (tenant_id {native}, id int)", f"insert into orders values ({value}, 1)")
    assert place.ids(tenant) == found


@pytest.mark.parametrize("place", ["duckdb"], indirect=True)
def test_a_tenant_that_an_enum_does_not_list_has_no_rows(place: Place) -> None:
    place.happens("create table orders (tenant_id enum('acme', 'ACME'), id int)", "insert into orders values ('acme', 1), ('ACME', 2)")
    assert [place.ids(tenant) for tenant in ("acme", "ACME", "globex")] == ["1", "2", ""]


@pytest.mark.parametrize("place", ["postgres", "psycopg"], indirect=True)
def test_a_loose_collation_of_a_table_on_the_way_gives_nobody_the_rows_of_another_tenant(place: Place) -> None:
    place.happens("create collation loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
    place.happens("create table countries (code text, owner text collate loose)")
    place.happens("create table customers (id int, country text collate loose)")
    place.happens("create table orders (id int, customer int)", "insert into orders values (1, 1), (2, 2)")
    place.happens("insert into customers values (1, 'de'), (2, 'fr')", "insert into countries values ('de', 'acme'), ('fr', 'ACME')")
    through = ({"table": "customers", "on": "customer = id"}, {"table": "countries", "on": "country = code", "column": "owner"})
    assert [place.ids(tenant, *through) for tenant in ("acme", "ACME", "Acme")] == ["1", "2", ""]


def test_a_scope_of_decimal_numbers_is_written_as_they_are_delivered(place: Place) -> None:
    place.happens("create table orders (tenant_id varchar(9), site decimal(10,2), id int)")
    place.happens("insert into orders values ('acme', 7, 1), ('acme', 8, 2)")
    body = {"id": "orders", "source": "s", "relation": "orders", "key": ["id"], "columns": {"id": {"type": "integer"}}}
    entity = Entity.model_validate({**body, "tenant_column": "tenant_id", "scopes": {"project": "site"}, "changes": {"mode": "full"}})
    for value in ("7", "7.00") if place.kind != "sqlite" else ("7",):
        with place.source.snapshot([entity]) as snapshot:
            assert snapshot.count(Selection(entity, "acme", entity.columns, scope={"project": (value,)})) == 1


CUSTOMERS = ({"table": "customers", "on": "customer = id", "column": "tenant_id"},)
LOOSE = {
    "sqlite": ("text collate nocase", "text collate rtrim"),
    "duckdb": ("varchar collate nocase",),
    "mariadb": ("varchar(9)", "varchar(9) collate utf8mb4_unicode_520_ci", "text"),
    "postgres": ("text collate loose", "citext"),
    "psycopg": ("text collate loose", "citext"),
}
STRICT = {"mariadb": "varchar(9) collate utf8mb4_bin", "duckdb": "varchar"}


def _loose(place: Place) -> tuple[str, ...]:
    if place.kind in ("postgres", "psycopg"):
        place.happens("create extension citext")
        place.happens("create collation loose (provider = icu, locale = 'und-u-ka-shifted-ks-level1', deterministic = false)")
    return LOOSE[place.kind]


def test_a_row_leads_to_its_own_parent_whatever_equals_it(place: Place) -> None:
    strict = STRICT.get(place.kind, "text")
    loose = _loose(place)
    for ours, theirs in [(one, other) for one in loose for other in (one, strict)]:
        place.happens("drop table if exists orders", "drop table if exists customers")
        place.happens(f"create table customers (id {theirs}, tenant_id varchar(9))", f"create table orders (customer {ours}, id int)")
        place.happens("insert into customers values ('c1', 'acme'), ('C1', 'globex'), ('c1 ', 'initech')")
        place.happens("insert into orders values ('c1', 1), ('C1', 2), ('c1 ', 3), (null, 4)")
        found = {tenant: place.ids(tenant, *CUSTOMERS) for tenant in ("acme", "globex", "initech", "ACME")}
        assert found == {"acme": "1", "globex": "2", "initech": "3", "ACME": ""}, (ours, theirs)


@pytest.mark.parametrize("place", ["sqlite", "mariadb", "postgres", "psycopg"], indirect=True)
def test_a_row_leads_to_the_parent_that_its_foreign_key_means(place: Place) -> None:
    for loose in _loose(place):
        if loose == "text collate rtrim":
            continue
        key = loose if loose != "text" else "varchar(9)"  # a TEXT is no key of MariaDB
        ours = key if place.kind != "sqlite" else "text"
        place.happens("drop table if exists orders", "drop table if exists customers")
        place.happens(f"create table customers (id {key} primary key, tenant_id varchar(9))")
        place.happens(f"create table orders (customer {ours}, id int, foreign key (customer) references customers (id))")
        place.happens(
            "insert into customers values ('C1', 'acme'), ('c2', 'globex')", "insert into orders values ('c1', 1), ('C2', 2), (null, 3)"
        )
        assert [place.ids(tenant, *CUSTOMERS) for tenant in ("acme", "globex")] == ["1", "2"], loose


def test_each_step_leads_to_its_own_parent(place: Place) -> None:
    loose = _loose(place)[0]
    place.happens(f"create table countries (code {loose}, owner varchar(9))", f"create table customers (id {loose}, country {loose})")
    place.happens(f"create table orders (customer {loose}, id int)", "insert into countries values ('a', 'acme'), ('A', 'globex')")
    place.happens("insert into customers values ('b', 'a'), ('B', 'A')", "insert into orders values ('b', 1), ('B', 2), ('b ', 3)")
    through = ({"table": "customers", "on": "customer = id"}, {"table": "countries", "on": "country = code", "column": "owner"})
    found = [place.ids(tenant, *through) for tenant in ("acme", "globex")]
    assert found == ["1", "2"]


@pytest.mark.parametrize("place", ["sqlite", "duckdb", "mariadb"], indirect=True)
def test_a_number_leads_to_no_text_that_only_begins_with_it(place: Place) -> None:
    place.happens("create table customers (id varchar(9), tenant_id varchar(9))", "create table orders (customer int, id int)")
    texts = [("7", "acme"), ("07", "globex")] + [("7abc", "initech")] * (place.kind != "duckdb")
    place.happens(*(f"insert into customers values ('{text}', '{tenant}')" for text, tenant in texts), "insert into orders values (7, 1)")
    assert [place.ids(tenant, *CUSTOMERS) for tenant in ("acme", "globex", "initech")] == ["1", "", ""]


def test_a_parent_of_two_tenants_gives_its_rows_to_both(place: Place) -> None:
    loose = _loose(place)[0]
    place.happens(f"create table customers (id {loose}, tenant_id varchar(9))", f"create table orders (customer {loose}, id int)")
    place.happens("insert into customers values ('c1', 'acme'), ('c1', 'globex')", "insert into orders values ('c1', 1)")
    assert [place.ids(tenant, *CUSTOMERS) for tenant in ("acme", "globex", "initech")] == ["1", "1", ""]
