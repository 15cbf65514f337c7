"""Whatever a MariaDB server, an account or a connection sets: the bytes are what the table holds, and no row is lost between statements."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pymysql.cursors
import pytest

from tests.native_types.mariadb import OF_OTHER_DRIVERS
from tests.servers.mariadb import MariaDatabase
from tests.sources.test_source_postgres import entity
from waybill.configuration.catalog import DbApiSource, Entity
from waybill.configuration.selection import FileStyle, Selection
from waybill.errors import PermanentError
from waybill.sources.dbapi.source import DbApi

TABLE = """create table orders (id int primary key, tenant_id varchar(20) not null, name char(10) character set utf8mb4,
    updated_at datetime(6) not null) engine = {}"""
ROWS = "insert into orders values (1, 'acme', 'ab', '2026-01-01'), (2, 'acme', '漢é🚀', '2026-01-01')"
BYTES = "1,ab\n2,漢é🚀\n".encode()


def execute(database: MariaDatabase, *statements: str) -> None:
    with closing(connect(database, autocommit=True)) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def connect(database: MariaDatabase, **options: Any) -> Any:
    return database.connect(**options)


def read(database: MariaDatabase, mode: str = "lookback", between: Callable[[], object] = lambda: None, **options: Any) -> bytes:
    """What an extraction reads; something happens between its statements."""
    return read_of(database, entity(mode, columns={"id": {"type": "integer"}, "name": {"type": "string"}}), between, **options)


def read_of(database: MariaDatabase, wanted: Entity, between: Callable[[], object] = lambda: None, **options: Any) -> bytes:
    selection = Selection(wanted, "acme", wanted.columns)
    with DbApi(DbApiSource(kind="dbapi", connection="db"), lambda _: connect(database, **options)).snapshot([wanted]) as snapshot:
        snapshot.check(selection)
        between()
        lines = b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle()))
        between()
        assert sum(map(len, snapshot.digests(selection))) == lines.count(b"\n")
    return lines


@pytest.mark.parametrize("charset", ["utf8mb4", "latin1", "ascii", "gbk"])
def test_the_character_set_of_a_connection_changes_no_byte(mariadb, charset):
    execute(mariadb, TABLE.format("InnoDB"), ROWS)
    assert read(mariadb, charset=charset) == BYTES


UNCONVERTIBLE = {"cp1251": "98", "gbk": "FEFE", "ascii": "C3", "greek": "D2", "ujis": "A9A1", "tis620": "DB", "ucs2": "D83D"}


@pytest.mark.parametrize("charset", UNCONVERTIBLE)
def test_a_text_that_the_server_cannot_convert_is_refused_by_its_column(mariadb, charset):
    """MariaDB gives a question mark in its place, and says nothing."""
    table = TABLE.format("InnoDB").replace("utf8mb4", charset)
    execute(
        mariadb, table, "set sql_mode = ''", f"insert into orders values (1, 'acme', _{charset} x'{UNCONVERTIBLE[charset]}', '2026-01-01')"
    )
    with pytest.raises(PermanentError) as told:
        read(mariadb)
    assert told.value.code == "source_unreadable"
    assert charset == "ucs2" or f"column name holds 1 texts with characters that the server cannot convert from {charset}" in str(
        told.value
    )


@pytest.mark.parametrize("charset", ["cp1251", "gbk", "ascii", "latin1", "ucs2", "greek"])
def test_question_marks_and_what_others_hold_are_no_such_texts(mariadb, charset):
    lost = f"(2, 'globex', _{charset} x'{UNCONVERTIBLE.get(charset, '81')}', '2026-01-01')"
    odd = "" if charset == "ucs2" else f", {lost}"
    execute(mariadb, TABLE.format("InnoDB").replace("utf8mb4", charset), "set sql_mode = ''")
    execute(mariadb, "set sql_mode = ''", f"insert into orders values (1, 'acme', 'a? ??', '2026-01-01'){odd}")
    assert read(mariadb) == b"1,a? ??\n"


MODES = ["PAD_CHAR_TO_FULL_LENGTH", "ANSI,PAD_CHAR_TO_FULL_LENGTH", "ORACLE", "NO_BACKSLASH_ESCAPES", "TRADITIONAL,ONLY_FULL_GROUP_BY"]


@pytest.mark.parametrize("mode", MODES)
def test_the_mode_of_a_session_changes_no_byte(mariadb, mode):
    execute(mariadb, TABLE.format("InnoDB"), ROWS)
    assert read(mariadb, sql_mode=mode) == BYTES


@pytest.mark.parametrize(
    "setting",
    [
        *("sql_select_limit = 1", "sql_select_limit = 0", "max_join_size = 1", "sql_safe_updates = 1, max_join_size = 1"),
        *("max_statement_time = 0.000001", "system_versioning_asof = '2016-01-01'"),
    ],
)
def test_no_limit_of_a_session_hides_a_row(mariadb, setting):
    execute(mariadb, f"{TABLE.format('InnoDB')} with system versioning", ROWS)
    assert read(mariadb, init_command=f"set session {setting}") == BYTES


def test_no_limit_of_a_session_cuts_what_a_view_gathers(mariadb):
    execute(mariadb, TABLE.format("InnoDB"), ROWS)
    gathered = "select 1 as id, 'acme' as tenant_id, group_concat(name order by id) as name, max(updated_at) as updated_at from orders"
    wanted = entity("lookback", relation="", query=gathered, columns={"id": {"type": "integer"}, "name": {"type": "string"}})
    assert read_of(mariadb, wanted, init_command="set session group_concat_max_len = 4") == '1,"ab,漢é🚀"\n'.encode()


def test_the_isolation_level_of_a_server_changes_no_row(mariadb):
    execute(mariadb, TABLE.format("InnoDB"), ROWS)
    numbers = iter(range(3, 9))
    late = "insert into orders values ({}, 'acme', 'late', '2026-01-01')"
    init = "set session transaction isolation level read uncommitted"
    assert read(mariadb, between=lambda: execute(mariadb, late.format(next(numbers))), init_command=init) == BYTES


@pytest.mark.parametrize("engine", ["MyISAM", "Aria", "MEMORY"])
def test_a_table_without_transactions_is_refused_where_two_statements_must_agree(mariadb, engine):
    execute(mariadb, TABLE.format(engine), ROWS)
    with pytest.raises(PermanentError, match=f"engine {engine}") as refused:
        read(mariadb)
    assert refused.value.code == "no_snapshot"
    assert read(mariadb, "full") == BYTES


BEHIND = {
    "a view": {"relation": "shown"},
    "a view of a view": {"relation": "outer_view"},
    "a query": {"relation": "", "query": "select o.* from orders o"},
    "a query over a view": {"relation": "", "query": "select * from shown join (select 1 as one) as x on one = 1"},
    "a comma": {"relation": "", "query": "select o.* from (select 1 as one) as x, orders o"},
    "brackets": {"relation": "", "query": "select o.* from (select 1 as one) as x join ((select 2 as two) as y cross join orders o)"},
    "a subquery": {"relation": "", "query": "select x.* from (select o.* from (select 1 as one) as x, orders o) as x"},
    "a CTE": {"relation": "", "query": "with x as (select o.* from (select 1 as one) as y, orders o) select * from x"},
    "a UNION": {"relation": "", "query": "select 3 id, 'acme' tenant_id, 'x' name, now(6) updated_at union all select * from `orders`"},
    "a function": {"relation": "", "query": "select 1 as id, 'acme' as tenant_id, first_name() as name, now(6) as updated_at"},
}


@pytest.mark.parametrize("what", BEHIND)
def test_a_table_without_transactions_is_refused_behind_views_and_queries_too(mariadb, what):
    """A table of that kind that is not read, and has the name of a column, does no harm."""
    views = ["create or replace view shown as select o.* from orders as o", "create or replace view outer_view as select * from shown"]
    views.append("create or replace function first_name() returns varchar(20) reads sql data return (select max(o.name) from orders o)")
    execute(mariadb, TABLE.format("MyISAM"), ROWS, *views)
    wanted = entity("lookback", columns={"id": {"type": "integer"}, "name": {"type": "string"}, "updated_at": {"type": "timestamp"}})
    wanted = wanted.model_copy(update={"tenant_column": "tenant_id", **BEHIND[what]})
    source = DbApi(DbApiSource(kind="dbapi", connection="db"), lambda _: connect(mariadb))
    with source.snapshot([wanted]) as snapshot, pytest.raises(PermanentError, match="orders has the engine MyISAM") as refused:
        snapshot.check(Selection(wanted, "acme", wanted.columns))
    assert refused.value.code == "no_snapshot"
    execute(mariadb, "alter table orders engine = InnoDB", "create table name (id int) engine = MyISAM")
    with source.snapshot([wanted]) as snapshot:
        snapshot.check(Selection(wanted, "acme", wanted.columns))


def test_a_driver_that_makes_none_of_a_zero_date_does_so_in_no_query_either(mariadb):
    execute(mariadb, "set sql_mode = ''", "create table days (id int, tenant_id varchar(9), day date, at datetime(3), name varchar(10))")
    execute(mariadb, "set sql_mode = ''", "insert into days values (1, 'acme', '0000-00-00', '2026-02-01 01:02:03.5', '2026-02-01')")
    source = DbApi(DbApiSource(kind="dbapi", connection="db"), lambda _: connect(mariadb, conv=OF_OTHER_DRIVERS))
    texts = {name: {"type": "string"} for name in ("day", "at", "name")}
    wanted = entity("full", key=["id"], columns={"id": {"type": "integer"}, **texts}).model_copy(
        update={"tenant_column": "tenant_id", "relation": "", "query": "select * from days"}
    )
    selection = Selection(wanted, "acme", wanted.columns)
    with source.snapshot([wanted]) as snapshot:
        lines = b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle()))
    assert lines == b"1,0000-00-00,2026-02-01T01:02:03.500000Z,2026-02-01\n"


def test_views_and_functions_are_asked_for_once_in_a_snapshot(mariadb):
    asked: list[str] = []

    class Recording(pymysql.cursors.Cursor):
        def execute(self, query, args=None):
            asked.append(query)
            return super().execute(query, args)

    def recorded(_: str) -> pymysql.Connection:
        connection = connect(mariadb)
        connection.cursorclass = Recording
        return connection

    execute(mariadb, TABLE.format("InnoDB"), ROWS)
    wanted = entity("lookback", columns={"id": {"type": "integer"}})
    selection = Selection(wanted, "acme", wanted.columns)
    with DbApi(DbApiSource(kind="dbapi", connection="db"), recorded).snapshot([wanted]) as snapshot:
        snapshot.check(selection)
        snapshot.definition(selection)
        snapshot.definition(selection)
    assert [sum(f"information_schema.{name}" in query for query in asked) for name in ("views", "routines")] == [1, 1]


SWAP = "rename table {0} to old, z_new to {0}"
REPLACED: dict[str, tuple[dict[str, Any], str, str]] = {
    "a table": ({}, "", SWAP.format("orders")),
    "a table in mode full": ({"changes": {"mode": "full"}}, "", SWAP.format("orders")),
    "behind a view": ({"relation": "shown"}, "", SWAP.format("orders")),
    "behind a view with a temporary table": ({"relation": "gathered"}, "", SWAP.format("orders")),
    "behind a query": ({"relation": "", "query": "select * from shown"}, "", SWAP.format("orders")),
    "the view": ({"relation": "shown"}, "", "create or replace view shown as select * from z_new"),
    "a parent": (
        {"relation": "children", "tenant_column": "", "tenant_through": [{"table": "orders", "on": "id", "column": "tenant_id"}]},
        "create table children as select id, name, updated_at from orders",
        SWAP.format("orders"),
    ),
}


@pytest.mark.parametrize("what", REPLACED)
def test_a_table_that_is_swapped_while_an_extraction_waits_for_it_is_delivered_whole(mariadb, what):
    """What is swapped in was made before and is filled meanwhile, as tools that change a schema do."""
    shape, made, replacement = REPLACED[what]
    views = ["create view shown as select * from orders", "create view gathered as select distinct * from orders"]
    execute(mariadb, TABLE.format("InnoDB"), ROWS, "create table z_new like orders", *views, *filter(None, [made]))
    wanted = entity("lookback", columns={"id": {"type": "integer"}, "name": {"type": "string"}}, **shape)
    with ThreadPoolExecutor(2) as threads, closing(connect(mariadb)) as reader, reader.cursor() as cursor:
        cursor.execute("select * from shown limit 1")
        replacing = threads.submit(execute, mariadb, replacement)
        wait_for_waiting(mariadb, 1)
        reading = threads.submit(read_of, mariadb, wanted)
        wait_for_waiting(mariadb, 2)
        execute(mariadb, "set lock_wait_timeout = 60", ROWS.replace("orders", "z_new"))
        reader.rollback()
        replacing.result(120)
        assert reading.result(120) == BYTES


def wait_for_waiting(database: MariaDatabase, count: int) -> None:
    """Return when so many sessions wait for somebody who uses a table."""
    waiting = "select count(*) from information_schema.processlist where db = database() and state = 'Waiting for table metadata lock'"
    deadline = time.monotonic() + 60
    with closing(connect(database)) as connection, connection.cursor() as cursor:
        while cursor.execute(waiting) and cursor.fetchone()[0] < count:
            assert time.monotonic() < deadline, f"nobody waits but {count - 1}"
            time.sleep(0.02)


def test_what_is_wrong_with_one_relation_is_told_when_it_is_read(mariadb):
    execute(mariadb, TABLE.format("InnoDB"), ROWS)
    missing = entity("lookback", relation="nowhere", columns={"id": {"type": "integer"}})
    with DbApi(DbApiSource(kind="dbapi", connection="db"), lambda _: connect(mariadb)).snapshot([missing, entity("lookback")]) as snapshot:
        assert "name" in snapshot.columns(entity("lookback"))
        with pytest.raises(PermanentError, match="no relation nowhere"):
            snapshot.columns(missing)


@pytest.mark.parametrize(
    ("grants", "hidden"),
    [(["select on shown"], "shown"), (["select, show view on shown"], "orders"), (["select, show view on shown", "select on orders"], "")],
)
def test_a_view_that_a_login_may_not_look_into_is_told(mariadb, grants, hidden):
    """MariaDB shows such a view without its text, and lists no table that the login may not read."""
    user = f"reader_of_{mariadb.name}"
    execute(mariadb, TABLE.format("InnoDB"), ROWS, "create view shown as select * from orders", f"create user {user}")
    try:
        execute(mariadb, *(f"grant {grant} to {user}" for grant in grants))
        wanted = entity("lookback", relation="shown", columns={"id": {"type": "integer"}})
        with DbApi(DbApiSource(kind="dbapi", connection="db"), lambda _: connect(mariadb, user=user)).snapshot([wanted]) as snapshot:
            remarks = snapshot.extent(wanted, "acme", None, snapshot.taken_at).remarks
    finally:
        execute(mariadb, f"drop user {user}")
    assert (f"{hidden} is made, so that nobody notices" in remarks) if hidden else not remarks


@pytest.mark.parametrize(
    ("zone", "look_back", "told"), [("-05:00", "1h", True), ("-05:00", "24h", False), ("+09:00", "1h", False), ("+00:00", "1h", False)]
)
def test_a_server_west_of_utc_is_told_where_the_look_back_is_too_short(mariadb, zone, look_back, told):
    execute(mariadb, TABLE.format("InnoDB"), f"set global time_zone = '{zone}'")
    wanted = entity("lookback", changes={"mode": "lookback", "column": "updated_at", "lookback": look_back})
    try:
        with DbApi(DbApiSource(kind="dbapi", connection="db"), lambda _: connect(mariadb)).snapshot([wanted]) as snapshot:
            remarks = snapshot.extent(wanted, "acme", None, snapshot.taken_at).remarks
    finally:
        execute(mariadb, "set global time_zone = default")
    assert ("the database's clock is 5 hours behind UTC" in remarks) is told
