"""What stands around the commands at a stranger's: damaged files, odd addresses, logins with few rights, tables of others, full disks."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.consumer.conftest import url_of
from tests.consumer.copies import SOURCE, consumer, rows, run, well
from tests.consumer.sender import Sender
from tests.consumer.test_pull import tree
from tests.servers.http import handled_by
from tests.servers.postgres import Database
from tests.servers.process import program
from tests.servers.sshd import SftpAccess, serve_sshd
from waybill_consumer.errors import without_password

POSITION = ".waybill-consumer.json"


@pytest.fixture
def sender(tmp_path: Path) -> Sender:
    """Two days of `user`, and another entity."""
    sender = Sender(tmp_path / "in")
    sender.deliver([("1", "Ada"), ("2", "Eve")], kind="full")
    sender.deliver([("1", "x")], entity="other", kind="full")
    sender.day = 1
    sender.deliver([("3", "Bob")])
    return sender


def refused(*arguments: object) -> str:
    """What a command says that ends with exit code 1, on stderr and for programs."""
    said = consumer(*arguments)
    assert said.code == 1, said
    assert "Traceback" not in said.err
    told = consumer(*arguments, "--json")
    assert told.code == 1
    return said.err + json.dumps(told.json, ensure_ascii=False)


DAMAGED = {
    "empty": b"",
    "half": b'{"format": 1, "sour',
    "no object": b"[]",
    "no text": b"\xff\xfe",
    "too deep": b"[" * 100_000,
    "folders": b'{"format": 1, "folders": 3}',
    "a folder": b'{"format": 1, "folders": {"/2026": 1}}',
    "streams": b'{"format": 1, "streams": {"acme/user": {"generation": "x", "sequence": 1}}}',
    "a time": b'{"format": 1, "looked_at": "x"}',
    "feeds": b'{"format": 1, "feeds": {"": 1}}',
    "problems": b'{"format": 1, "problems": [1]}',
}


@pytest.mark.fast
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_position_is_told_and_the_next_pull_makes_it_again(sender: Sender, tmp_path: Path, damage: str) -> None:
    copy = tmp_path / "copy"
    well("pull", sender.root, copy)
    (copy / POSITION).write_bytes(DAMAGED[damage])
    for command in (["status", copy], ["load", copy, "--to", f"sqlite:{tmp_path}/copy.db"]):
        assert "Pull once more: it looks at everything, and fetches what is not here" in refused(*command)
    assert rows(f"sqlite:{tmp_path}/copy.db", "user") == [(1, "Ada"), (2, "Eve"), (3, "Bob")]
    assert well("verify", copy)["whole"]
    said = well("pull", sender.root, copy)
    assert (said["bytes"], len(said["notes"])) == (0, 1)
    well("load", copy, "--to", f"sqlite:{tmp_path}/copy.db")
    assert well("status", copy)["missing"] == []


@pytest.mark.fast
def test_a_position_of_a_newer_version_is_left_alone(sender: Sender, tmp_path: Path) -> None:
    well("pull", sender.root, tmp_path / "copy")
    (tmp_path / "copy" / POSITION).write_text('{"format": 2}')
    assert "newer version" in refused("pull", sender.root, tmp_path / "copy")
    assert (tmp_path / "copy" / POSITION).read_text() == '{"format": 2}'


MANIFESTS: dict[str, dict[str, Any] | str] = {
    "no JSON": "{",
    "too deep": "[" * 100_000,
    "a newer format": {"format_version": 2},
    "a path no system has": {"files": [{"path": "a\0b", "rows": 1, "bytes": 1, "sha256": "0" * 64}]},
    "a tenant that climbs": {"tenant": "../x"},
    "a time outside all years": {"snapshot_time": "0001-01-01T00:00:00+14:00"},
    "a window outside all years": {"window": {"from": None, "to": "9999-12-31T23:59:59-14:00", "mode": "lookback"}},
}


@pytest.mark.fast
@pytest.mark.parametrize("damage", MANIFESTS)
def test_a_manifest_nobody_can_read_stops_its_own_entity_in_every_command(sender: Sender, tmp_path: Path, damage: str) -> None:
    path = sender.root / "2026/06/02/user/user.manifest.json"
    change = MANIFESTS[damage]
    path.write_text(change if isinstance(change, str) else json.dumps(json.loads(path.read_text()) | change))
    assert "user.manifest.json" in refused("pull", sender.root, tmp_path / "copy")
    for command in (["load", sender.root, "--to", f"sqlite:{tmp_path}/copy.db"], ["status", sender.root]):
        assert "user.manifest.json" in refused(*command)
    assert consumer("verify", sender.root).code == 1
    assert rows(f"sqlite:{tmp_path}/copy.db", "other") == [(1, "x")]
    assert rows(f"sqlite:{tmp_path}/copy.db", "user") == [(1, "Ada"), (2, "Eve")]


@pytest.mark.fast
@pytest.mark.parametrize("finder", ["load", "verify"])
def test_a_manifest_that_was_damaged_here_is_fetched_once_more(sender: Sender, tmp_path: Path, finder: str) -> None:
    copy = tmp_path / "copy"
    well("pull", sender.root, copy)
    (copy / "2026/06/02/user/user.manifest.json").write_text("{")
    options = ["--to", f"sqlite:{tmp_path}/copy.db"] if finder == "load" else []
    assert consumer(finder, copy, *options).code == 1
    well("pull", sender.root, copy)
    assert tree(copy) == tree(sender.root)


@pytest.mark.fast
def test_what_load_finds_while_a_pull_runs_takes_nothing_from_its_position(sender: Sender, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    well("pull", sender.root, copy)
    (copy / "2026/06/02/user/user.csv").write_bytes(b"damaged")
    before = (copy / POSITION).read_bytes()
    with (copy / ".waybill-consumer.lock").open("r+") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert "another pull into this folder is running" in refused("pull", sender.root, copy)
        assert consumer("load", copy, "--to", f"sqlite:{tmp_path}/copy.db").code == 1
        assert (copy / POSITION).read_bytes() == before
    assert consumer("load", copy, "--to", f"sqlite:{tmp_path}/copy.db").code == 1
    well("pull", sender.root, copy)
    assert well("load", copy, "--to", f"sqlite:{tmp_path}/copy.db")["deliveries"] == 1
    assert well("verify", copy)["notes"] == []


OPEN = ("sftp://u:PLANTED/1@h/x", "sftp://u:PLANTED#1@h/x", "sftp://u:PLANTED?1@h/x")
"""Passwords that hold what ends a login in a URL."""


@pytest.mark.fast
def test_addresses_that_are_none_are_refused_in_a_sentence(sender: Sender, tmp_path: Path) -> None:
    for source in ("", "sftp://", "sftp://h:abc/x", "sftp://[::1/x", "sftp://h:99999/x", "s3://", "ftp://u:PLANTED@h/x", *OPEN):
        said = refused("pull", source, tmp_path / "copy")
        assert "is no SOURCE" in said, source
        assert "PLANTED" not in said
    (tmp_path / "text").write_text("text " * 1000)
    for target in ("sqlite:", f"sqlite:{tmp_path}", f"sqlite:{tmp_path}/text", f"duckdb:{tmp_path}/text", f"duckdb:{tmp_path}/no/x"):
        refused("load", sender.root, "--to", target)
    assert str(tmp_path / "text") in refused("pull", sender.root, tmp_path / "text")


@pytest.mark.fast
def test_links_to_folders_count_as_folders_at_the_source_and_here(sender: Sender, tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/exports").mkdir()
    (tmp_path / "linked/exports/acme").symlink_to(sender.root)
    (tmp_path / "linked/exports/gone").symlink_to(tmp_path / "nowhere")
    copy = tmp_path / "copy"
    well("pull", tmp_path / "linked", copy)
    assert tree(copy / "exports/acme") == tree(sender.root)
    (copy / "exports/acme/2026").rename(tmp_path / "large disk")
    (copy / "exports/acme/2026").symlink_to(tmp_path / "large disk")
    (copy / "exports/acme/2026/loop").symlink_to(copy)
    assert well("verify", copy)["manifests"] == 3
    assert well("load", copy, "--to", f"sqlite:{tmp_path}/copy.db")["deliveries"] == 3
    assert well("pull", tmp_path / "linked", copy)["fetched"] == []


def test_links_keys_agents_and_known_hosts_work_as_with_ssh(
    sender: Sender, tmp_path: Path, sshd: SftpAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(sender.root, sshd.root / "real/acme")
    (sshd.root / "linked").mkdir()
    (sshd.root / "linked/exports").symlink_to(sshd.root / "real")
    url = f"sftp://{sshd.login}@{sshd.host}:{sshd.port}{sshd.remote_root}/linked"
    hosts = tmp_path / "hosts"
    hosts.write_text(f"no line of known hosts\n@strange x y\n{sshd.known_hosts.read_text()}")

    def pulled(*options: object) -> int:
        return len(well("pull", url, tmp_path / f"copy {len(list(tmp_path.iterdir()))}", *options)["fetched"])

    assert pulled("--key", sshd.private_key, "--known-hosts", hosts) == 3
    locked = tmp_path / "locked"
    shutil.copy(sshd.private_key, locked)
    shutil.copy(f"{sshd.private_key}.pub", f"{locked}.pub")
    subprocess.run([program("ssh-keygen"), "-q", "-p", "-P", "", "-N", "secret", "-f", str(locked)], check=True, capture_output=True)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    for key in (locked, f"{locked}.pub"):
        said = refused("pull", url, tmp_path / "none", "--key", key, "--known-hosts", hosts)
        assert "Load the private key into ssh-agent" in said
    for key in (tmp_path, tmp_path / "hosts", tmp_path / "nowhere"):
        assert "the key cannot be read" in refused("pull", url, tmp_path / "none", "--key", key, "--known-hosts", hosts)
    assert "known hosts cannot be read" in refused("pull", url, tmp_path / "none", "--known-hosts", tmp_path / "nowhere")
    with agent(sshd.private_key, monkeypatch):
        for options in (["--key", locked], ["--key", f"{locked}.pub"], []):
            assert pulled(*options, "--known-hosts", hosts) == 3


@contextlib.contextmanager
def agent(key: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An ssh-agent that holds a key."""
    with tempfile.TemporaryDirectory(prefix="wb") as folder:  # a path short enough for a socket
        socket = f"{folder}/agent"
        process = subprocess.Popen([program("ssh-agent"), "-D", "-a", socket], stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            process.stdout.readline()  # it listens
            monkeypatch.setenv("SSH_AUTH_SOCK", socket)
            subprocess.run([program("ssh-add"), "-q", str(key)], check=True, capture_output=True)
            yield
        finally:
            process.terminate()
            process.wait(120)
            if process.stdout is not None:
                process.stdout.close()


def test_a_folder_that_a_login_may_not_read_is_named(sender: Sender, tmp_path: Path) -> None:
    with serve_sshd(sftp_options="-P opendir") as server:
        url = f"sftp://{server.login}@{server.host}:{server.port}{server.remote_root}"
        said = refused("pull", url, tmp_path / "copy", "--key", server.private_key, "--known-hosts", server.known_hosts)
        assert "the server does not let this login read it" in said
        assert "Write your own tenant's folder as SOURCE" in said


ENTITIES = ["order", "main", "temp", "pg_class", "sqlite_master", "information_schema", "e" * 63, "e" * 58]


def test_any_entity_may_be_a_table(tmp_path: Path, database: str) -> None:
    sender = Sender(tmp_path / "in")
    names = [item for item in ENTITIES if not (item.startswith("sqlite_") and database.startswith("sqlite"))]
    for day in range(2):
        sender.day = day
        for entity in names:
            gone = [("2", "2026-06-02T00:00:00.000000Z")] if day else None
            sender.deliver([("1", str(day)), (str(day + 2), "x")], entity=entity, kind="delta" if day else "full", deletes=gone)
        well("load", sender.root, "--to", database)
    for entity in names:
        schema = "public" if database.startswith("postgresql") else ""
        assert rows(database, entity, "id, name", schema) == [(1, "1"), (3, "x")], entity


@pytest.mark.parametrize("kind", ["table", "view"])
def test_a_table_of_somebody_else_is_not_touched(sender: Sender, database: str, kind: str) -> None:
    statement = 'create table "user" (a int)' if kind == "table" else 'create view "user" as select 7 as a'
    execute(database, statement)
    assert "user is there that load did not make" in refused("load", sender.root, "--to", database)
    assert rows(database, "user") == ([] if kind == "table" else [(7,)])
    assert rows(database, "other") == [(1, "x")]


def test_a_table_or_column_that_somebody_dropped_is_told_with_what_to_do(sender: Sender, database: str) -> None:
    well("load", sender.root, "--to", database)
    for statement in ('alter table "user" drop column name', 'drop table "user"'):
        execute(database, statement)
        sender.day += 1
        sender.deliver([("4", "new")])
        assert "is no longer there" in refused("load", sender.root, "--to", database)
    said = consumer("load", sender.root, "--to", database, "--json").json["problems"][0]["next_step"]
    for statement in said.split("`")[1].split("; "):
        execute(database, statement)
    well("load", sender.root, "--to", database)
    assert rows(database, "user", "id, name") == [(1, "Ada"), (2, "Eve"), (3, "Bob"), (4, "new")]


CHANGES: dict[str, Callable[[Sender], None]] = {
    "a delta": lambda sender: deliver(sender, ("3", "5")),
    "another type": lambda sender: deliver(sender, ("3", "5"), columns={"id": "string", "name": "string"}),
    "another name": lambda sender: deliver(
        sender, ("3", "5"), columns={"id": {"type": "integer"}, "who": {"type": "string", "source_name": "name"}}
    ),
    "a new column": lambda sender: deliver(sender, ("3", "5", "z"), columns={"id": "integer", "name": "string", "more": "string"}),
}


def deliver(sender: Sender, row: tuple[str, ...], **options: Any) -> None:
    sender.day += 1
    sender.deliver([row], **options)


@pytest.mark.parametrize("change", CHANGES)
def test_a_column_and_a_view_made_by_hand_stay(sender: Sender, database: str, change: str) -> None:
    well("load", sender.root, "--to", database)
    execute(database, 'alter table "user" add column mine text')
    execute(database, "update \"user\" set mine = 'kept'")
    if change not in ("another type", "another name") or not database.startswith("postgresql"):
        execute(database, 'create view seen as select id from "user"')
    CHANGES[change](sender)
    well("load", sender.root, "--to", database)
    assert rows(database, "user", "cast(id as integer), mine") == [(1, "kept"), (2, "kept"), (3, "kept")]
    deliver(sender, ("9", "n", "m"), columns={"id": "integer", "name": "string", "mine": "string"})
    assert "somebody added one of that name" in refused("load", sender.root, "--to", database)


def execute(database: str, statement: str) -> None:
    if database.startswith("sqlite"):
        with closing(sqlite3.connect(database.partition(":")[2])) as connection, connection:
            connection.execute(statement)
    elif database.startswith("duckdb"):
        run(database, statement)
    else:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(statement)


def test_postgresql_logins_with_few_rights_load_what_they_may(sender: Sender, postgres: Database) -> None:
    admin = url_of(postgres)
    for role in ("reader", "loader"):
        execute(admin, f"drop role if exists wb_{role}")
        execute(admin, f"create role wb_{role} login")
    try:
        execute(admin, "create schema ours; grant usage, create on schema ours to wb_loader; grant usage on schema ours to wb_reader")
        execute(admin, "revoke create on schema public from public")
        loader = admin.replace(f"{postgres.user}@", "wb_loader@")
        reader = admin.replace(f"{postgres.user}@", "wb_reader@")
        # A schema that is there needs no right to create schemas; tables that are there none to create tables.
        well("load", sender.root, "--to", loader, "--schema", "ours")
        execute(admin, "revoke create on schema ours from wb_loader")
        deliver(sender, ("4", "new"))
        assert well("load", sender.root, "--to", loader, "--schema", "ours")["rows"] == 1
        deliver(sender, ("5", "new"))
        assert "permission denied" in refused("load", sender.root, "--to", reader, "--schema", "ours")
        assert "permission denied" in refused("load", sender.root, "--to", loader, "--schema", "theirs")
        assert "longer name" in refused("load", sender.root, "--to", loader, "--schema", "s" * 64)
        execute(admin, f"alter role wb_loader in database {postgres.name} set search_path = ''")
        assert "Name one with --schema" in refused("load", sender.root, "--to", loader)
    finally:
        for role in ("reader", "loader"):
            execute(admin, f"drop owned by wb_{role} cascade")
            execute(admin, f"drop role wb_{role}")


def full_disk(kib: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """How a command ends where no file takes more than so many bytes."""
    limited = ["bash", "-c", f'ulimit -f {kib}; exec "$@"', "bash", sys.executable, "-m", "waybill_consumer", *map(str, arguments)]
    return subprocess.run(limited, capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "PYTHONPATH": str(SOURCE)})


def test_status_knows_of_a_pull_that_found_the_disk_full_before_its_first_byte(tmp_path: Path) -> None:
    sender, copy = Sender(tmp_path / "in"), tmp_path / "copy"
    sender.deliver([("1", "Ada")], kind="full")
    well("pull", sender.root, copy)
    well("status", copy)
    position = copy / ".waybill-consumer.json"
    body = json.loads(position.read_text())
    position.write_text(json.dumps(body | {"pulled_at": "2026-06-01T00:00:00.000000Z"}))  # the last pull is a while ago
    before = position.read_bytes()
    assert full_disk(0, "pull", sender.root, copy).returncode == 1
    assert position.read_bytes() == before
    said = consumer("status", copy)
    assert (said.code, "did not finish. Pull once more, and read what it says" in said.out) == (1, True), said
    well("pull", sender.root, copy)
    well("status", copy)


def test_a_disk_that_takes_no_more_is_named_and_the_next_run_goes_on(tmp_path: Path) -> None:
    sender = Sender(tmp_path / "in")
    sender.deliver([(str(number), "x" * 900) for number in range(400)], kind="full")
    done = full_disk(100, "pull", sender.root, tmp_path / "copy")
    assert done.returncode == 1
    step = "Free space or raise the limit, then pull again: what was fetched stays"
    assert done.stderr == f"waybill-consumer: {tmp_path}/copy: File too large. {step}.\n"
    answer = well("pull", sender.root, tmp_path / "copy")
    assert 0 < answer["bytes"] < sender.path({"entity": "user"}, 0, "user.csv").stat().st_size
    assert tree(tmp_path / "copy") == tree(sender.root)


def test_lines_of_cron_that_overlap_do_everything_once(tmp_path: Path, database: str) -> None:
    sender = Sender(tmp_path / "in")
    for day in range(6):
        sender.day = day
        for entity in ("user", "other"):
            sender.deliver([(str(number), str(day)) for number in range(50)], entity=entity, kind="delta" if day else "full")
    done = at_once(3, "pull", sender.root, tmp_path / "copy")
    assert sum(result["deliveries"] for result in done if "deliveries" in result) == 12
    assert tree(tmp_path / "copy") == tree(sender.root)
    done = at_once(3, "load", tmp_path / "copy", "--to", database)
    assert sum(result["deliveries"] for result in done if "deliveries" in result) == 12
    for entity in ("user", "other"):
        assert {row[1] for row in rows(database, entity, schema="public" if database.startswith("postgresql") else "")} == {"5"}
    assert [path.name for path in tmp_path.glob(".*part")] == []


def at_once(count: int, *arguments: object) -> list[dict[str, Any]]:
    """What so many processes answer that are started together: done, or that another one is at work."""
    argv = [sys.executable, "-m", "waybill_consumer", *map(str, arguments), "--json"]
    running = [
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(SOURCE)})
        for _ in range(count)
    ]
    said = [process.communicate(timeout=600) for process in running]
    answers: list[dict[str, Any]] = [json.loads(out) for out, _ in said]
    for answer in answers:
        assert answer["done"] or "another pull" in str(answer) or "in use" in str(answer), answer
    return answers


class Denying(BaseHTTPRequestHandler):
    """A bucket that may not be listed."""

    def do_GET(self) -> None:
        body = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@pytest.mark.fast
def test_a_bucket_that_may_not_be_listed_is_told_with_the_right_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with handled_by(Denying) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "reader")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "PLANTED-5f0c")
        said = refused("pull", "s3://deliveries/exports", tmp_path / "copy")
    assert "may not list what is there. Have s3:ListBucket" in said
    assert "PLANTED" not in said


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("sftp://acme:pa/ss@host/out", "sftp://acme@host/out"),
        ("sftp://acme:p@ss/w@rd@host/out", "sftp://acme@host/out"),
        ("sftp://acme:p#s?s:1@host:22/out", "sftp://acme@host:22/out"),
        ("sftp://:pass@host/out", "sftp://@host/out"),
        ("sftp://acme:22@host/out", "sftp://acme@host/out"),
        ("sftp://acme@host:22/a@b:c", "sftp://acme@host:22/a@b:c"),
        ("sftp://host:22/a@b", "sftp://host:22/a@b"),
        ("sftp://[::1]:22/a@b", "sftp://[::1]:22/a@b"),
        ("s3://bucket/a:b@c", "s3://bucket/a:b@c"),
        ("/data/a:b@c", "/data/a:b@c"),
    ],
)
def test_a_password_in_a_source_is_never_shown_whatever_it_holds(source: str, shown: str) -> None:
    assert without_password(source) == shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:s3cret%zz@db.example/shop",
        "postgresql://ann@db.example/shop?password=s3cret%zz",
        "postgresql://ann:s3cret@[::1/shop",
    ],
)
def test_a_database_url_that_cannot_be_read_is_refused_without_its_password(sender: Sender, tmp_path: Path, url: str) -> None:
    copy = tmp_path / "copy"
    well("pull", sender.root, copy)
    refused = consumer("load", copy, "--to", url)
    assert refused.code == 1
    assert "not one PostgreSQL understands" in refused.err
    assert "s3cret" not in refused.err
    assert "s3cret" not in "".join(path.read_text() for path in copy.glob(".waybill-consumer*.json"))


def test_a_database_url_without_a_password_is_refused_with_what_is_wrong_with_it(sender: Sender, tmp_path: Path) -> None:
    well("pull", sender.root, tmp_path / "copy")
    refused = consumer("load", tmp_path / "copy", "--to", "postgresql://ann@db.example/shop?tempo=1")
    assert 'invalid URI query parameter: "tempo"' in refused.err
