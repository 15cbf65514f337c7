"""`pull` and `load` killed before any of their changing system calls: nothing half is ever seen, and the next run makes it whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.consumer.conftest import url_of
from tests.consumer.copies import rows, run, well
from tests.consumer.sender import Sender
from tests.consumer.test_pull import tree
from tests.servers.postgres import Database
from tests.servers.sshd import SftpAccess

REPOSITORY = Path(__file__).resolve().parents[2]
SOME = 10
"""Points of a run that are tried; all of them with FAULTS=full."""


Killed = Callable[..., list[str]]


@pytest.fixture(scope="module")
def killed() -> Iterator[Killed]:
    """Runs the command up to the call before which it is killed, and says which calls there were."""
    argv = [sys.executable, "-m", "tests.consumer.killer"]
    env = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'consumer' / 'src'}"}
    with subprocess.Popen(argv, cwd=REPOSITORY, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as killer:

        def kill(at: int | str, *arguments: object) -> list[str]:
            assert killer.stdin
            assert killer.stdout
            print(json.dumps([str(at), *map(str, arguments)]), file=killer.stdin, flush=True)
            calls: list[str] = json.loads(killer.stdout.readline())
            return calls

        yield kill


def points(calls: list[str]) -> list[int]:
    step = 1 if os.environ.get("FAULTS") == "full" else max(1, len(calls) // SOME)
    return list(range(1, len(calls) + 1, step))


@pytest.fixture
def sender(tmp_path: Path) -> Sender:
    sender = Sender(tmp_path / "in")
    sender.deliver([(str(number), "x" * number) for number in range(200)], kind="full", parts=2)
    sender.day = 1
    sender.deliver([("1", "one"), ("200", "new")], deletes=[("2", "2026-06-02T00:00:00.000000Z")], csv={"compression": "gzip"})
    sender.day = 2
    sender.deliver([("3", "three")])
    return sender


def seen(copy: Path, source: Path) -> list[str]:
    """What a reader of the folder may never see: a file that is not the source's, or a manifest before its files."""
    wrong = [name for name, data in tree(copy).items() if data != (source / name).read_bytes()]
    for path in copy.rglob("*.manifest.json"):
        document = json.loads(path.read_text())
        listed = [*document["files"], *([document["deletes"]] if "deletes" in document else [])]
        wrong += [f"{path}: {file['path']}" for file in listed if not (path.parent / file["path"]).exists()]
    return wrong


@pytest.mark.slow
def test_a_killed_pull_leaves_nothing_half_and_the_next_completes_it(killed: Killed, sender: Sender, tmp_path: Path) -> None:
    calls = killed(0, "pull", sender.root, tmp_path / "all")
    assert len(calls) > 30
    for at in points(calls):
        copy = tmp_path / f"copy{at}"
        killed(at, "pull", sender.root, copy)
        assert seen(copy, sender.root) == [], calls[at - 1]
        well("pull", sender.root, copy)
        assert tree(copy) == tree(sender.root), calls[at - 1]
        assert not list(copy.rglob("*.part")), calls[at - 1]
        assert well("status", copy)["well"]


@pytest.mark.slow
def test_a_killed_pull_over_sftp_goes_on_where_it_stopped(killed: Killed, tmp_path: Path, sshd: SftpAccess) -> None:
    sender = Sender(sshd.root)
    sender.deliver([(str(number), "x" * 997) for number in range(9000)], kind="full")
    login = ["--key", sshd.private_key, "--known-hosts", sshd.known_hosts]
    url = f"sftp://{sshd.login}@{sshd.host}:{sshd.port}{sshd.remote_root}"
    killed("3:.user.csv.part", "pull", url, tmp_path / "copy", *login)  # made, written to once, and no more
    (part,) = (tmp_path / "copy").rglob(".user.csv.part")
    before = part.stat().st_size
    assert before > 0
    answer = well("pull", url, tmp_path / "copy", *login)
    assert answer["bytes"] == sender.path(answer["fetched"][0], 0, "user.csv").stat().st_size - before
    assert tree(tmp_path / "copy") == tree(sender.root)


STATES = [{}, {number: "x" * number or "" for number in range(200)}]
STATES.append({**{number: value for number, value in STATES[1].items() if number != 2}, 1: "one", 200: "new"})
STATES.append({**STATES[2], 3: "three"})


def held(url: str, schema: str) -> dict[int, str]:
    """What the table holds; nothing where it is not there."""
    tables = "select table_schema || '.' || table_name from information_schema.tables"
    if url.startswith("sqlite"):
        tables = "select '.' || name from sqlite_master"
    if (f"{schema}.user",) not in run(url, tables):
        return {}
    return dict(rows(url, "user", "id, name", schema))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "duckdb", "postgresql"])
def test_a_killed_load_holds_whole_deliveries_and_the_next_loads_the_rest(
    killed: Killed, sender: Sender, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    server: Database | None = request.getfixturevalue("postgres") if kind == "postgresql" else None
    calls = killed(0, "load", sender.root, "--to", url_of(server) if server else f"{kind}:{tmp_path}/all")
    found = set()
    for at in points(calls):
        url = url_of(server) if server else f"{kind}:{tmp_path}/{at}"
        schema = "" if kind == "sqlite" else f"s{at}"
        options = ["--schema", schema] if schema else []
        killed(at, "load", sender.root, "--to", url, *options)
        state = held(url, schema)
        assert state in STATES, calls[at - 1]
        found.add(STATES.index(state))
        well("load", sender.root, "--to", url, *options)
        assert held(url, schema) == STATES[-1], calls[at - 1]
    assert len(found) > 2
