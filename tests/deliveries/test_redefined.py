"""What gives rows their values changes, and no row does: the stream starts over, so that no copy keeps what was."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from tests.copies import Copy
from tests.installations import DAY, NOON, Place
from tests.products import pairs
from tests.servers.mariadb import MariaDatabase
from tests.servers.postgres import Database
from tests.sources.test_mysql_sessions import connect
from waybill.connection import Connection
from waybill.installation import Installation
from waybill.ledger import streams
from waybill.registrations.applying import apply

ROWS = "insert into thing values ('acme', 1, 'n1', 'o1', '2026-05-30 10:00:00'), ('acme', 2, 'n2', 'o2', '2026-05-30 10:00:00')"
ENTITY = {
    "source": "books",
    "relation": "thing",
    "tenant_column": "tenant_id",
    "key": ["id"],
    "changes": {"mode": "lookback", "column": "updated_at", "lookback": "1h"},
    "deletes": "never",
    "columns": {"id": {"type": "integer"}, "name": {"type": "string"}},
}
TYPED = {"id": {"type": "integer"}, "name": {"type": "string"}, "updated_at": {"type": "timestamp"}}
OTHER = {"id": {"type": "integer"}, "name": {"type": "string", "from": "other"}}
MORE = {"id": {"type": "integer"}, "name": {"type": "string"}, "more": {"type": "string", "from": "other"}}


@dataclass
class Books(Place):
    """An installation over one database: `open` connects to it by PEP 249."""

    spec: dict[str, str] = field(default_factory=dict)
    open: Callable[[], Any] = lambda: None

    def installation(self) -> Installation:
        return replace(super().installation(), connect_db=lambda name: self.open())

    def happens(self, *statements: str) -> None:
        with closing(self.open()) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            connection.commit()

    def catalogued(self, **more: Any) -> None:
        entity = {name: value for name, value in {**ENTITY, **more}.items() if value != ""}
        self.write("catalog.yaml", {"sources": {"books": self.spec}, "entities": {"thing": entity}})
        self.tenant(entityList=["thing"])

    def begin(self, *statements: str, **more: Any) -> None:
        time = "text" if self.spec.get("connection") == "lite" else "timestamp"
        kind = "varchar(20)"
        table = f"create table thing (tenant_id {kind}, id bigint primary key, name {kind}, other {kind}, updated_at {time} not null)"
        self.happens(table, ROWS, *statements)
        self.catalogued(**more)
        self.deliver(0)

    def deliver(self, day: int) -> None:
        assert [str(result.error) for result in self.run(NOON + day * DAY) if result.error] == []

    def copy(self) -> list[str]:
        return sorted(row["name"] for row in Copy().catch_up(self.out / "exports/acme", "thing").rows.values())

    def kinds(self) -> list[str]:
        return [manifest["kind"] for _, manifest in self.manifests()]

    def reason(self) -> str:
        with self.installation().ledger.read() as connection:
            return streams.active(connection, "acme")[0].reason


def over_postgres(root: Path, database: Database, spec: dict[str, str]) -> Books:
    at = Connection("pg", "postgres", database.host, database.port, database.user, database.name)
    return Books(root, connections={"pg": at}, spec=spec, open=lambda: psycopg.connect(database.dsn))


@pytest.fixture(params=["postgres", "dbapi over postgres", "duckdb", "sqlite", "mariadb"])
def books(request: pytest.FixtureRequest, tmp_path: Path) -> Books:
    match request.param:
        case "postgres":
            return over_postgres(tmp_path, request.getfixturevalue("postgres"), {"kind": "postgres", "connection": "pg"})
        case "dbapi over postgres":
            return over_postgres(tmp_path, request.getfixturevalue("postgres"), {"kind": "dbapi", "connection": "pg"})
        case "duckdb":
            place = Books(tmp_path, spec={"kind": "duckdb", "path": "w.duckdb"}, open=lambda: duckdb.connect(str(tmp_path / "w.duckdb")))
        case "sqlite":
            place = Books(tmp_path, spec={"kind": "dbapi", "connection": "lite"}, open=lambda: sqlite3.connect(tmp_path / "w.sqlite"))
        case _:
            database: MariaDatabase = request.getfixturevalue("mariadb")
            place = Books(tmp_path, spec={"kind": "dbapi", "connection": "maria"}, open=lambda: connect(database))
    return place


SWAP = [
    "alter table thing rename column name to kept",
    "alter table thing rename column other to name",
    "alter table thing rename column kept to other",
]


def test_two_columns_that_swap_their_names_start_the_stream_over(books: Books) -> None:
    books.begin()
    books.happens(*SWAP)
    books.deliver(1)
    assert (books.copy(), books.kinds()) == (["o1", "o2"], ["full", "full"])
    assert "another one than at the last delivery" in books.reason()
    books.deliver(2)
    assert books.kinds() == ["full", "full", "delta"]
    books.close()


READERS: dict[str, dict[str, Any]] = {
    "view": {"relation": "shown"},
    "view of a view": {"relation": "outermost"},
    "query": {"relation": "", "query": "select tenant_id, id, name, updated_at from thing"},
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("books", ["duckdb", "sqlite", "mariadb"], indirect=True)
def test_a_table_behind_views_that_find_columns_by_name_starts_the_stream_over(books: Books, reader: str) -> None:
    """SQLite writes a view again when a column is renamed, but not when the table is made again."""
    made = ["create view shown as select tenant_id, id, name, updated_at from thing", "create view outermost as select * from shown"]
    books.begin(*made, **{"columns": {**ENTITY["columns"], "updated_at": {"type": "timestamp"}}, **READERS[reader]})
    again = "create table thing as select tenant_id, id, other as name, updated_at, name as other from kept"
    books.happens("create table kept as select * from thing", "drop table thing", again)
    books.deliver(1)
    assert (books.copy(), books.kinds()) == (["o1", "o2"], ["full", "full"])
    books.close()


def test_a_view_that_is_defined_otherwise_starts_the_stream_over(books: Books) -> None:
    books.begin("create view inner_view as select * from thing", "create view shown as select * from inner_view", relation="shown")
    columns = "tenant_id, id, upper(name) as name, other, updated_at"
    if books.spec.get("connection") == "pg":
        columns = columns.replace("upper(name)", "upper(name)::varchar(20)")
    books.happens("drop view shown", "drop view inner_view", f"create view inner_view as select {columns} from thing")
    books.happens("create view shown as select * from inner_view")
    books.deliver(1)
    assert (books.copy(), books.kinds()) == (["N1", "N2"], ["full", "full"])
    assert "defined otherwise than at the last delivery" in books.reason()
    books.close()


@dataclass(frozen=True)
class Function:
    """`called` stands in a view in place of `name`; `{}` takes the expression that the function gives back."""

    made: str
    again: str
    called: str = "f(name)"


def plain(made: str, called: str = "f(name)") -> Function:
    return Function(made.format("upper"), made.format("lower"), called)


_OF_POSTGRES = {
    "of SQL": plain("create or replace function f(x varchar) returns varchar language sql as 'select {}($1)'"),
    "of parsed SQL": plain("create or replace function f(x varchar) returns varchar language sql return {}($1)"),
    "of another language": plain(
        "create or replace function f(x varchar) returns varchar language plpgsql as 'declare y varchar; begin y := {}(x); return y; end'"
    ),
    "called by another": plain(
        "create or replace function g(x varchar) returns varchar language sql as 'select {}($1)'\n"
        "create or replace function f(x varchar) returns varchar language sql as 'select g($1)'"
    ),
    "called by a parsed one": plain(
        "create or replace function g(x varchar) returns varchar language sql as 'select {}($1)'\n"
        "create or replace function f(x varchar) returns varchar language sql return g($1)"
    ),
    "of another schema": plain(
        "create schema if not exists other; create or replace function other.g(x varchar) returns varchar language sql as 'select {}($1)'\n"
        "create or replace function f(x varchar) returns varchar language sql as 'select other.g($1)'"
    ),
    "of a search path of its own": plain(
        "create schema if not exists other; create or replace function other.g(x varchar) returns varchar language sql as 'select {}($1)'\n"
        "create or replace function f(x varchar) returns varchar language plpgsql set search_path = other as 'begin return g(x); end'"
    ),
    "of an operator": Function(
        "create function g(x varchar) returns varchar language sql as 'select upper($1)'\n"
        "create operator !~! (function = g, rightarg = varchar)",
        "create or replace function g(x varchar) returns varchar language sql as 'select lower($1)'",
        "(!~! name)::varchar(20)",
    ),
    "of an aggregate": Function(
        "create function g(x varchar, y varchar) returns varchar language sql as 'select upper($2)'\n"
        "create aggregate f(varchar) (sfunc = g, stype = varchar)",
        "create or replace function g(x varchar, y varchar) returns varchar language sql as 'select lower($2)'",
        "(select f(t.name) from thing t where t.id = thing.id)",
    ),
    "that reads a view": Function(
        "create view v as select id, upper(name)::varchar as name from thing\n"
        "create function f(x varchar) returns varchar language plpgsql as"
        " 'begin return (select v.name from v where lower(v.name) = x); end'",
        "create or replace view v as select id, lower(name)::varchar as name from thing",
    ),
}
_OF_DUCKDB = {
    "macro": plain("create or replace macro f(x) as {}(x)"),
    "macro of a macro": plain("create or replace macro g(x) as {}(x)\ncreate or replace macro f(x) as g(x)"),
    "table macro": plain(
        "create or replace macro g() as table select id, {}(name) as name from thing\n"
        "create or replace macro f(x) as (select name from g() where lower(name) = x)"
    ),
}
_OF_MARIADB = {"function": plain("create or replace function f(x varchar(20)) returns varchar(20) return {}(x)")}
CALLERS = ["view", "query"]
FUNCTIONS = [
    *pairs(["postgres", "dbapi over postgres"], _OF_POSTGRES, CALLERS),
    *pairs(["duckdb"], _OF_DUCKDB, CALLERS),
    *pairs(["mariadb"], _OF_MARIADB, CALLERS),
]


@pytest.mark.parametrize(("books", "what", "relation"), FUNCTIONS, indirect=["books"])
def test_a_function_that_is_defined_otherwise_starts_the_stream_over(books: Books, what: str, relation: str) -> None:
    function = {**_OF_POSTGRES, **_OF_DUCKDB, **_OF_MARIADB}[what]
    query = f"select tenant_id, id, {function.called} as name, other, updated_at from thing"
    more = (
        {"relation": "shown"}
        if relation == "view"
        else {"relation": "", "query": query, "columns": {**ENTITY["columns"], "updated_at": {"type": "timestamp"}}}
    )
    books.begin(*function.made.splitlines(), f"create view shown as {query}", **more)
    books.deliver(1)
    assert (books.copy(), books.kinds()) == (["N1", "N2"], ["full", "delta"])
    books.happens(*function.again.splitlines())
    books.deliver(2)
    assert (books.copy(), books.kinds()) == (["n1", "n2"], ["full", "delta", "full"])
    assert "defined otherwise than at the last delivery" in books.reason()
    books.close()


SEEN = "create or replace view far.seen as select tenant_id, id, {} as name, updated_at from far.things"
FAR = {
    "table": ("things", [statement.replace("thing", "far.things") for statement in SWAP], ["o1", "o2"]),
    "view": (
        "seen",
        ["create or replace view far.seen as select tenant_id, id, upper(name) as name, updated_at from far.things"],
        ["N1", "N2"],
    ),
}


@pytest.mark.parametrize("what", FAR)
@pytest.mark.parametrize("books", ["postgres", "dbapi over postgres"], indirect=True)
def test_a_query_knows_what_it_reads_outside_of_the_search_path(books: Books, what: str) -> None:
    name, changes, held = FAR[what]
    made = [
        "create schema far",
        "create table far.things as select tenant_id, id, name::text, other::text, updated_at from thing",
        SEEN.format("name"),
    ]
    query = f"select tenant_id, id, name, updated_at from far.{name}"
    books.begin(*made, relation="", query=query, columns={**ENTITY["columns"], "updated_at": {"type": "timestamp"}})
    books.happens(*changes)
    books.deliver(1)
    assert (books.copy(), books.kinds()) == (held, ["full", "full"])
    books.close()


@pytest.mark.parametrize("shape", ["table", "query"])
@pytest.mark.parametrize("how", ["path changed", "table made ahead"])
@pytest.mark.parametrize("books", ["postgres", "dbapi over postgres"], indirect=True)
def test_a_name_that_means_the_table_of_another_schema_starts_the_stream_over(books: Books, how: str, shape: str) -> None:
    """Its rows have the keys and the times of those that were delivered."""
    query = {"relation": "", "query": "select * from thing", "columns": {**ENTITY["columns"], "updated_at": {"type": "timestamp"}}}
    path = "do $$ begin execute format('alter database %I set search_path = ahead, public', current_database()); end $$"
    made = "create table ahead.thing as select tenant_id, id, 'p' || id as name, other, updated_at from thing"
    before, after = (made, path) if how == "path changed" else (path, made)
    books.begin("create schema ahead", before, **(query if shape == "query" else {}))
    books.happens(after)
    books.deliver(1)
    assert (books.copy(), books.kinds()) == (["p1", "p2"], ["full", "full"])
    assert "ahead.thing is read in place of public.thing" in books.reason()
    books.deliver(2)
    assert books.kinds() == ["full", "full", "delta"]
    books.close()


def test_a_table_that_moves_to_another_schema_goes_on(tmp_path: Path, postgres: Database) -> None:
    books = over_postgres(tmp_path, postgres, {"kind": "postgres", "connection": "pg"})
    books.begin("create schema ahead", f"alter database {postgres.name} set search_path = ahead, public")
    books.happens("alter table thing set schema ahead")
    books.deliver(1)
    assert books.kinds() == ["full", "delta"]
    books.close()


AWAY = {
    "the view itself": {"relation": "away.seen"},
    "a view over it": {"relation": "shown"},
    "a query": {"query": "select tenant_id, id, name, updated_at from away.seen", "relation": ""},
}


@pytest.mark.parametrize(
    ("books", "reader", "changed"),
    [
        *(("mariadb", reader, changed) for reader in AWAY for changed in ("view", "table")),
        ("sqlite", "the view itself", "view"),
        ("sqlite", "a query", "view"),
    ],
    indirect=["books"],
)
def test_a_view_in_another_database_is_looked_into(books: Books, reader: str, changed: str, tmp_path: Path) -> None:
    """In SQLite that is a database which the connection attaches. Its views follow columns that are renamed, and read no other one."""
    if is_lite := books.spec["connection"] == "lite":
        plain = books.open
        books.open = lambda: attached(plain(), tmp_path / "away.sqlite")
    kind, time, things = ("text", "text", "things") if is_lite else ("varchar(20)", "datetime", "away.things")
    seen = f"create view away.seen as select tenant_id, id, {{}} as name, updated_at from {things}"
    made = f"create table away.things (tenant_id {kind}, id bigint, name {kind}, other {kind}, updated_at {time})"
    rows = "insert into away.things select tenant_id, id, name, other, updated_at from thing"
    shown = "create view shown as select * from away.seen"
    more = {**AWAY[reader], "columns": {**ENTITY["columns"], "updated_at": {"type": "timestamp"}}}
    begun = ["drop database if exists away", "create database away"] * (not is_lite)
    books.begin(*begun, made, rows, seen.format("name"), *[shown] * (reader == "a view over it"), **more)
    again = ["drop view away.seen", seen.format("upper(name)")]
    books.happens(*(again if changed == "view" else [statement.replace("thing", "away.things") for statement in SWAP]))
    books.deliver(1)
    assert (books.copy(), books.kinds()) == (["N1", "N2"] if changed == "view" else ["o1", "o2"], ["full", "full"])
    books.close()


def attached(connection: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    connection.execute("attach ? as away", (str(path),))
    return connection


@pytest.mark.parametrize("books", ["postgres", "dbapi over postgres"], indirect=True)
def test_a_function_that_puts_statements_together_is_told(books: Books) -> None:
    function = """create function f(x varchar) returns varchar language plpgsql as
        'declare y varchar; begin execute format(''select lower($1) from %I limit 1'', ''th'' || ''ing'') into y using x; return y; end'"""
    books.begin(function, "create view shown as select tenant_id, id, f(name) as name, updated_at from thing", relation="shown")
    [note] = [manifest["note"] for _, manifest in books.manifests()]
    assert note.startswith("f(character varying) put statements together when they run (EXECUTE)")
    books.close()


SHOWN = "create view shown as select tenant_id, id, name, updated_at from thing where {}"
VARYING = {
    "view": (SHOWN.format("updated_at <= now()"), {"relation": "shown"}, "shown"),
    "today": (SHOWN.format("updated_at < current_date"), {"relation": "shown"}, "shown"),
    "age": (SHOWN.format("age(updated_at) > interval '1 day'"), {"relation": "shown"}, "shown"),
    "view behind a view": (f"{SHOWN.format('random() < 2')}; create view seen as select * from shown", {"relation": "seen"}, "shown"),
    "setting": (SHOWN.format("current_setting('app.tenant', true) is null"), {"relation": "shown"}, "shown"),
    "sample": (SHOWN.replace("thing", "thing tablesample bernoulli (100)").format("true"), {"relation": "shown"}, "shown"),
    "function": (
        "create function f() returns timestamptz language plpgsql as 'begin return clock_timestamp();end'; "
        + SHOWN.format("f() > updated_at"),
        {"relation": "shown"},
        "f()",
    ),
    "query": (
        "select 1",
        {
            "relation": "",
            "query": "select tenant_id, id, name, updated_at from thing where updated_at < CURRENT_TIMESTAMP",
            "columns": TYPED,
        },
        "the query",
    ),
}
STEADY = {
    "age of two": (SHOWN.format("age(updated_at, updated_at) < interval '1 day'"), {"relation": "shown"}),
    "nothing": (SHOWN.format("updated_at > '2000-01-01'"), {"relation": "shown"}),
    "mode full": (SHOWN.format("updated_at <= now()"), {"relation": "shown", "changes": {"mode": "full"}}),
    "materialized": (SHOWN.format("updated_at <= now()") + "; create materialized view kept as select * from shown", {"relation": "kept"}),
}


@pytest.mark.parametrize("what", [*VARYING, *STEADY])
@pytest.mark.parametrize("books", ["postgres"], indirect=True)
def test_what_shows_other_rows_as_time_passes_is_told(books: Books, what: str) -> None:
    """No row is written, so that no delta finds what appears."""
    statements, more, *named = VARYING.get(what) or STEADY[what]
    books.begin(*statements.split("; "), **more)
    [note] = [manifest.get("note", "") for _, manifest in books.manifests()]
    said = "take the time, chance or a setting into account"
    assert note.startswith(f"{named[0]} {said}") if named else said not in note
    books.close()


def generated(books: Books, expression: str) -> list[str]:
    time = "text" if books.spec.get("connection") == "lite" else "timestamp"
    name = f"name varchar(20) generated always as ({expression}) virtual"
    return [
        "drop table thing",
        f"create table thing (tenant_id varchar(20), id bigint primary key, other varchar(20), {name}, updated_at {time} not null)",
        "insert into thing (tenant_id, id, other, updated_at) values ('acme', 1, 'o1', '2026-05-30 10:00:00')",
    ]


@pytest.mark.parametrize("reader", [{"relation": "thing"}, READERS["view"], READERS["query"]], ids=["table", "view", "query"])
@pytest.mark.parametrize("books", ["duckdb", "sqlite", "mariadb"], indirect=True)
def test_a_column_that_is_generated_otherwise_starts_the_stream_over(books: Books, reader: dict[str, Any]) -> None:
    view = "create view shown as select tenant_id, id, name, updated_at from thing"
    books.begin(*generated(books, "replace(other, 'o', 'a')"), view, columns=TYPED, **reader)
    books.deliver(1)
    books.happens(*generated(books, "replace(other, 'o', 'b')"))
    books.deliver(2)
    assert (books.copy(), books.kinds()) == (["b1"], ["full", "delta", "full"])
    assert "the column name is of thing altered" in books.reason()
    books.close()


def test_what_changes_no_value_starts_nothing_over(books: Books) -> None:
    books.begin("create view unread as select id from thing")
    if books.spec.get("connection") == "pg":
        books.happens("create function unread() returns int language sql as 'select 1'")
    books.happens("alter table thing add column more varchar(20) default 'x'", "drop view unread")
    if books.spec["kind"] != "duckdb":
        books.happens("alter table thing rename column other to another")
    books.deliver(1)
    assert books.kinds() == ["full", "delta"]
    books.close()


ALTERATIONS = {
    "made again": ["alter table thing drop name", "alter table thing add name varchar(20) default 'x'"],
    "rewritten": ["alter table thing alter name type varchar(20) using name || '!'"],
    "of another type": ["alter table thing alter name type text using upper(name)"],
}


@pytest.mark.parametrize("change", ALTERATIONS)
def test_a_column_of_postgresql_with_other_values_starts_the_stream_over(tmp_path: Path, postgres: Database, change: str) -> None:
    books = over_postgres(tmp_path, postgres, {"kind": "postgres", "connection": "pg"})
    books.begin()
    books.happens(*ALTERATIONS[change])
    books.deliver(1)
    held = [name for (name,) in postgres_names(postgres)]
    assert (books.copy(), books.kinds()) == (held, ["full", "full"])
    books.close()


def postgres_names(database: Database) -> list[tuple[str]]:
    with psycopg.connect(database.dsn) as connection:
        return connection.execute("select name from thing order by id").fetchall()


TYPES = {
    "label": ("alter type mood rename value 'n1' to 'm1'", ["m1", "n2"]),
    "label within a domain": ("alter type mood rename value 'n2' to 'm2'", ["m2", "n1"]),
    "one more label": ("alter type mood add value 'n3'", ["n1", "n2"]),
    "label of another column": ("alter type other_mood rename value 'o1' to 'o9'", ["n1", "n2"]),
}


@pytest.mark.parametrize("kind", ["postgres", "dbapi"])
@pytest.mark.parametrize("change", TYPES)
def test_a_label_that_is_renamed_starts_the_stream_over(tmp_path: Path, postgres: Database, change: str, kind: str) -> None:
    books = over_postgres(tmp_path, postgres, {"kind": kind, "connection": "pg"})
    inner = "domain_mood" if "domain" in change else "mood"
    books.happens(
        "create type mood as enum ('n1', 'n2')", "create domain domain_mood as mood", "create type other_mood as enum ('o1', 'o2')"
    )
    altered = f"alter name type {inner} using name::mood, alter other type other_mood using other::other_mood"
    books.begin(f"alter table thing {altered}")
    statement, names = TYPES[change]
    books.happens(statement)
    books.deliver(1)
    assert books.copy() == names
    assert books.kinds() == ["full", "full" if "rename" in statement and "another" not in change else "delta"]
    books.close()


def test_names_within_a_composite_are_part_of_every_row(tmp_path: Path, postgres: Database) -> None:
    books = over_postgres(tmp_path, postgres, {"kind": "postgres", "connection": "pg"})
    books.happens("create type pair as (a text, b int)")
    pairs = "alter table thing alter name type pair[] using array[row(name, 1)::pair]"
    books.begin(pairs, columns={"id": {"type": "integer"}, "name": {"type": "json"}})
    books.happens("alter type pair rename attribute a to first")
    books.deliver(1)
    assert (books.copy()[0], books.kinds()) == ('[{"first":"n1","b":1}]', ["full", "full"])
    books.close()


def test_a_column_that_postgresql_renames_goes_on_where_the_catalog_follows(tmp_path: Path, postgres: Database) -> None:
    books = over_postgres(tmp_path, postgres, {"kind": "postgres", "connection": "pg"})
    books.begin()
    books.happens("alter table thing rename name to label", "alter table thing alter id type bigint", "analyze thing")
    books.catalogued(columns={"id": {"type": "integer"}, "name": {"type": "string", "from": "label"}})
    assert [note.endswith(", unless PostgreSQL renamed that column") for note in apply(books.installation(), actor="test").notes] == [True]
    books.deliver(1)
    assert (books.copy(), books.kinds()) == (["n1", "n2"], ["full", "delta"])
    assert not any("note" in manifest for _, manifest in books.manifests())
    books.close()


def test_a_column_that_the_catalog_renames_with_the_source_keeps_its_values_at_consumers(books: Books) -> None:
    books.begin()
    books.happens("alter table thing rename column name to label")
    books.catalogued(columns={"id": {"type": "integer"}, "label": {"type": "string"}})
    books.deliver(1)
    copy = Copy().catch_up(books.out / "exports/acme", "thing")
    assert ([row["label"] for row in copy.rows.values()], books.kinds()) == (["n1", "n2"], ["full", "full"])
    assert "the column name was renamed to label" in books.reason()
    books.close()


CATALOG = {
    "relation": ({"relation": "thing2"}, ["n12", "n22"]),
    "query": ({"relation": "", "query": "select tenant_id, id, upper(name) as name, updated_at from thing"}, ["N1", "N2"]),
    "another column": ({"columns": OTHER}, ["o1", "o2"]),
    "another tenant column": ({"tenant_column": "other"}, []),
    "another key": ({"key": ["id", "name"]}, ["n1", "n2"]),
    "another key that is new": ({"key": ["id", "more"], "columns": MORE}, ["n1", "n2"]),
    "keys are compared": ({"deletes": "compare"}, ["n1", "n2"]),
    "rows are compared": ({"deletes": "compare_rows"}, ["n1", "n2"]),
    "what is deleted": ({"deleted_when": {"column": "name", "op": "=", "value": "n2"}}, ["n1", "n2"]),
}


@pytest.mark.parametrize("change", CATALOG)
def test_a_catalog_that_means_other_rows_or_values_starts_the_stream_over(tmp_path: Path, change: str) -> None:
    spec = {"kind": "duckdb", "path": "w.duckdb"}
    books = Books(tmp_path, spec=spec, open=lambda: duckdb.connect(str(tmp_path / "w.duckdb")))
    books.begin("create table thing2 as select * replace (name || '2' as name) from thing")
    more, held = CATALOG[change]
    books.catalogued(**more)
    notes = apply(books.installation(), actor="test").notes
    assert ["the next delivery is a full load" in note for note in notes] == [True]
    books.deliver(1)
    assert (books.copy(), books.kinds()) == (held, ["full", "full"])
    assert apply(books.installation(), actor="test").notes == ()
    books.close()


def test_a_column_that_is_anonymized_from_now_on_leaves_no_plain_value_in_a_copy(tmp_path: Path) -> None:
    spec = {"kind": "duckdb", "path": "w.duckdb"}
    books = Books(tmp_path, spec=spec, open=lambda: duckdb.connect(str(tmp_path / "w.duckdb")))
    books.begin()
    books.catalogued(columns={"id": {"type": "integer"}, "name": {"type": "string", "export": "anonymize"}})
    books.deliver(1)
    assert {len(name) for name in books.copy()} == {64}
    books.close()


ALTERED = {
    "postgres": {
        "a longer text": "alter table thing alter column name type varchar(40)",
        "NULL allowed": "alter table thing alter column name drop not null",
        "another type": "alter table thing alter column name type text",
    },
    "mariadb": {
        "a longer text": "alter table thing modify name varchar(40) not null",
        "NULL allowed": "alter table thing modify name varchar(20)",
        "another type": "alter table thing modify name tinytext not null",
    },
    "duckdb": {"NULL allowed": "alter table thing alter column name drop not null"},
}


@pytest.mark.parametrize(
    ("books", "what"),
    [(kind, what) for kind, like in [*((kind, kind) for kind in ALTERED), ("dbapi over postgres", "postgres")] for what in ALTERED[like]],
    indirect=["books"],
)
def test_a_column_that_the_source_alters_raises_the_schema_version(books: Books, what: str, request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.params["books"]
    books.begin(
        f"alter table thing {'modify name varchar(20)' if kind == 'mariadb' else 'alter column name set'} not null", deletes="never"
    )
    books.deliver(1)
    books.happens(ALTERED["postgres" if "postgres" in kind else kind][what])
    books.deliver(2)
    books.deliver(3)
    told = [manifest for _, manifest in books.manifests()]
    assert [manifest["schema_version"] for manifest in told] == [1, 1, 2, 2]
    assert [manifest.get("previous_schema_version") for manifest in told] == [None, None, 1, None]
    facts = [[(column["native_type"], column["nullable"]) for column in manifest["columns"]] for manifest in told]
    assert facts[0] == facts[1] != facts[2] == facts[3]
    books.close()
