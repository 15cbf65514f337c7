"""PostgreSQL's own ways to stop a load: lost connections, time limits, views, rights, names in the search path."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.consumer.conftest import url_of
from tests.consumer.copies import consumer, rows, run, well
from tests.consumer.sender import Sender
from tests.servers.postgres import Database


@pytest.fixture
def loaded(sender: Sender, postgres: Database) -> str:
    """The URL of a database that holds two rows of `user`."""
    sender.deliver([("1", "Ada"), ("2", "Eve")], kind="full")
    well("load", sender.root, "--to", url_of(postgres))
    sender.day = 1
    return url_of(postgres)


def refused(sender: Sender, database: str) -> str:
    said = consumer("load", sender.root, "--to", database)
    assert said.code == 1
    assert "Traceback" not in said.err
    return said.err


def execute(database: str, *statements: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


@contextmanager
def setting(database: str, name: str, value: str) -> Iterator[None]:
    """A setting of every new session."""
    where = f"alter database {database.rpartition('/')[2]}"
    execute(database, f"{where} set {name} = '{value}'")
    try:
        yield
    finally:
        execute(database, "set default_transaction_read_only = off", f"{where} reset {name}")


def test_a_table_of_somebody_else_in_the_search_path_is_not_the_stage(sender: Sender, loaded: str) -> None:
    execute(loaded, "create schema mine", "create table mine._waybill_stage (id bigint, name text)")
    sender.deliver([("3", "Bob")], deletes=[("1", "2026-06-02T00:00:00.000000Z")])
    with setting(loaded, "search_path", "mine, public, pg_temp"):
        well("load", sender.root, "--to", loaded, "--schema", "public")
    assert run(loaded, "select * from mine._waybill_stage") == []
    assert rows(loaded, "user") == [(2, "Eve"), (3, "Bob")]


def test_time_limits_are_told_as_what_they_are_and_the_next_load_goes_on(sender: Sender, loaded: str) -> None:
    sender.deliver([("3", "Bob")])
    with setting(loaded, "lock_timeout", "50ms"), psycopg.connect(loaded) as other:
        other.execute('lock table "user" in access exclusive mode')
        said = refused(sender, loaded)
    assert "the database gave up: canceling statement due to lock timeout. Load again" in said
    with setting(loaded, "default_transaction_read_only", "on"):
        assert "read-only transaction" in refused(sender, loaded)
    well("load", sender.root, "--to", loaded)
    assert len(rows(loaded, "user")) == 3


def test_a_session_that_is_ended_in_the_middle_is_one_sentence(sender: Sender, loaded: str) -> None:
    sender.deliver([("3", "Bob")])
    sender.deliver([("1", "x")], entity="zoo", kind="full")
    execute(
        loaded,
        "create function ends() returns trigger language plpgsql as "
        "'begin perform pg_terminate_backend(pg_backend_pid()); perform pg_sleep(5); return new; end'",
        'create trigger ends before insert on "user" for each row execute function ends()',
    )
    said = refused(sender, loaded)
    assert said.startswith("waybill-consumer: the database stopped answering: ")
    assert said.endswith("Load again.\n")
    execute(loaded, 'drop trigger ends on "user"')
    assert well("load", sender.root, "--to", loaded)["deliveries"] == 2
    assert len(rows(loaded, "user")) == 3


def test_a_view_that_stands_in_the_way_is_named(sender: Sender, loaded: str) -> None:
    execute(loaded, 'create view seen as select name from "user"')
    sender.deliver([("3", "7")], columns={"id": "integer", "name": "json"})
    assert "on view seen" in (said := refused(sender, loaded))
    assert "Drop the view that reads it, load, and make the view again" in said


def test_a_key_of_bytes_deletes_and_replaces_its_rows(sender: Sender, postgres: Database) -> None:
    columns, database = {"id": "binary", "name": "string"}, url_of(postgres)
    sender.deliver([("AA==", "Ada"), ("AQ==", "Eve"), ("Ag==", "Bob")], kind="full", columns=columns)
    sender.deliver([("AQ==", "new")], columns=columns, deletes=[("AA==", "2026-06-01T00:00:00.000000Z")])
    well("load", sender.root, "--to", database)
    assert rows(database, "user") == [(b"\1", "new"), (b"\2", "Bob")]
    sender.deliver([("Ag==", "last")], kind="full", columns=columns)
    well("load", sender.root, "--to", database)
    assert rows(database, "user") == [(b"\2", "last")]


def test_a_key_of_json_is_kept_as_text(sender: Sender, database: str) -> None:
    columns = {"id": {"type": "json", "native_type": "jsonb"}, "body": {"type": "json", "native_type": "jsonb"}}
    sender.deliver([('{"a": 1}', "[1]"), ("2", None)], kind="full", columns=columns)
    sender.deliver([("2", '{"b": 2}')], columns=columns, deletes=[('{"a": 1}', "2026-06-01T00:00:00.000000Z")])
    well("load", sender.root, "--to", database)
    assert run(database, 'select cast(id as text), cast(body as text) from "user"') == [("2", '{"b": 2}')]
    sender.deliver([("3", None), ("2", "[2]")], kind="full", columns=columns)
    well("load", sender.root, "--to", database)
    assert rows(database, "user", "cast(id as text), cast(body as text)") == [("2", "[2]"), ("3", None)]


def test_a_character_that_postgresql_cannot_keep_is_named(sender: Sender, loaded: str) -> None:
    sender.deliver([("3", "a\0b")])
    assert "holds the character NUL, which PostgreSQL cannot keep" in refused(sender, loaded)


@pytest.mark.parametrize("text", [b'id,name\n1,"SECRET\n', b"id,name\n1,SECRET,x\n", b"id,name\nSECRET\n"])
def test_bytes_that_are_those_of_the_manifest_and_no_csv_are_the_senders_to_mend(sender: Sender, database: str, text: bytes) -> None:
    manifest = sender.deliver([("1", "Ada")], kind="full", csv={"compression": "gzip"})
    path = sender.path(manifest, 0)
    path.write_bytes(gzip.compress(text))
    facts = {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    manifest |= {**facts, "files": [manifest["files"][0] | facts]}
    path.with_name("user.manifest.json").write_text(json.dumps(manifest))
    said = consumer("load", sender.root, "--to", database)
    assert (said.code, "ask the sender to run `waybill redeliver" in said.err, "SECRET" in said.err) == (1, True, False), said
