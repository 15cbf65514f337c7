"""SQLite in WAL mode: rows that stand in the log only are delivered, or the connection that does not see them is refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.sources.test_source_dbapi import SPEC, read
from waybill.errors import PermanentError
from waybill.sources.dbapi.source import DbApi

pytestmark = pytest.mark.fast

TABLE = "create table events (id integer primary key, tenant_id text, note text, updated_at text)"


def fill(path: Path) -> sqlite3.Connection:
    """Write two rows: the second one stands in the log for as long as the connection is open."""
    writer = sqlite3.connect(path)
    for statement in ("pragma journal_mode = wal", TABLE, "insert into events values (1, 'acme', 'a', '2026-01-01 00:00:00')"):
        writer.execute(statement)
    writer.commit()
    writer.execute("pragma wal_checkpoint(truncate)")
    writer.execute("insert into events values (2, 'acme', 'b', '2026-01-02 00:00:00')")
    writer.commit()
    return writer


def opened(path: Path, how: str) -> DbApi:
    return DbApi(SPEC, lambda _: sqlite3.connect(f"file:{path}?{how}", uri=True))


@pytest.mark.parametrize("how", ["mode=rw", "mode=ro"])
def test_a_row_that_stands_in_the_log_is_delivered(tmp_path: Path, how: str) -> None:
    path = tmp_path / "w.sqlite"
    with closing(fill(path)):
        assert read(opened(path, how)) == "1,a\n2,b\n"


def test_an_immutable_connection_is_refused_while_the_log_holds_rows(tmp_path: Path) -> None:
    path = tmp_path / "w.sqlite"
    with closing(fill(path)), pytest.raises(PermanentError, match="-wal holds rows") as caught:
        read(opened(path, "immutable=1"))
    assert caught.value.code == "source_unreadable"
    assert read(opened(path, "immutable=1")) == "1,a\n2,b\n"


def test_the_log_of_an_attached_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "w.sqlite"

    def attached(_: str) -> sqlite3.Connection:
        connection = sqlite3.connect(":memory:", uri=True)
        connection.execute(f"attach 'file:{path}?immutable=1' as beside")
        return connection

    with closing(fill(path)), pytest.raises(PermanentError, match="-wal holds rows"):
        read(DbApi(SPEC, attached))
