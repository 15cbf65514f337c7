"""`status` tells by itself, and with an exit code, when the copy is not what it should be: here, in the databases, or at the sender."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.consumer.copies import consumer, well
from tests.consumer.sender import DAY, MIDNIGHT, Sender
from tests.consumer.test_losses import feed
from tests.consumer.test_surroundings import execute


@pytest.fixture
def sender(tmp_path: Path) -> Sender:
    """A sender of today."""
    sender = Sender(tmp_path / "in", day=(datetime.now(UTC) - MIDNIGHT) // DAY)
    sender.deliver([("1", "x")], kind="full")
    return sender


def test_a_load_that_fails_at_night_is_told_until_one_succeeds(sender: Sender, tmp_path: Path, database: str) -> None:
    copy = tmp_path / "copy"
    well("pull", sender.root, copy)
    assert consumer("load", copy, "--to", "postgresql://nobody@127.0.0.1:1/none").code == 1
    said = consumer("status", copy)
    assert said.code == 1
    assert "unloaded: postgresql://nobody@127.0.0.1:1/none: the load at" in said.out
    assert well("status", copy, "--forget", "postgresql://nobody@127.0.0.1:1/none")["done"]
    well("load", copy, "--to", database)
    assert "holds all before" in consumer("status", copy).out
    (path,) = copy.rglob("user.csv")
    whole = path.read_bytes()
    sender.day += 1
    sender.deliver([("2", "y")])
    well("pull", sender.root, copy)
    path = max(copy.rglob("user.csv"))
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"y", b"z"))
    assert consumer("load", copy, "--to", database).code == 1
    assert "has SHA-256" in consumer("status", copy).out
    path.write_bytes(whole)
    well("load", copy, "--to", database)
    (told,) = well("status", copy)["databases"]
    assert told["entities"]["acme/user"]["sequence"] == 2


def test_a_database_is_asked_what_it_holds(sender: Sender, tmp_path: Path, database: str) -> None:
    copy = tmp_path / "copy"
    well("pull", sender.root, copy)
    said = consumer("status", copy, "--to", database)
    assert (said.code, "sequence 1 of acme/user generation 1 is not loaded. Run load" in said.out) == (1, True)
    well("load", copy, "--to", database)
    well("status", copy, "--to", database, "--max-age", "26h")
    sender.day += 1
    sender.deliver([("2", "y")])
    well("pull", sender.root, copy)
    well("status", copy)
    said = consumer("status", copy, "--to", database)
    assert (said.code, "sequence 2 of acme/user generation 1 is not loaded" in said.out) == (1, True)


def test_a_database_that_cannot_be_asked_is_told(sender: Sender, tmp_path: Path) -> None:
    well("pull", sender.root, tmp_path / "copy")
    said = consumer("status", tmp_path / "copy", "--to", "postgresql://u:PLANTED@127.0.0.1:1/none?password=PLANTED")
    assert (said.code, "cannot be reached" in said.out, "PLANTED" in said.out) == (1, True, False)
    assert consumer("load", tmp_path / "copy", "--to", "postgresql://u:PLANTED@127.0.0.1:1/none?password=PLANTED").code == 1
    assert "PLANTED" not in (tmp_path / "copy/.waybill-consumer-loads.json").read_text()


@pytest.mark.parametrize("hours", [25, 27])
def test_ages_count_from_the_end_of_the_window_whenever_it_was_read(tmp_path: Path, hours: int) -> None:
    days = timedelta(hours=hours) / DAY
    sender = Sender(tmp_path / "in")
    facts = {"window": {"from": None, "to": (datetime.now(UTC) - days * DAY).isoformat(), "mode": "lookback"}}
    sender.deliver([("1", "x")], kind="full", at=datetime.now(UTC) - timedelta(minutes=1), **facts)
    well("pull", sender.root, tmp_path / "copy")
    said = consumer("status", tmp_path / "copy", "--max-age", "26h")
    assert (said.code, f"({hours} hours ago)" in said.out) == (int(hours > 26), True)


@pytest.mark.parametrize("how", ["the feed names it no more", "it is forgotten"])
def test_an_entity_that_is_delivered_no_more_is_stale_until_that_is_said_and_again_once_it_comes_back(tmp_path: Path, how: str) -> None:
    """`user` is delivered today, and `old` ended forty days ago."""
    copy, sender = tmp_path / "copy", Sender(tmp_path / "in", day=(datetime.now(UTC) - MIDNIGHT) // DAY - 40)
    sender.deliver([("1", "x")], kind="full", entity="old")
    sender.day += 40
    sender.deliver([("1", "x")], kind="full")

    def pulled(*entities: str) -> list[str]:
        feed(sender, **({"entities": entities} if how.startswith("the feed") else {}))
        well("pull", sender.root, copy)
        return json.loads(consumer("status", copy, "--max-age", "49h", "--json").out)["stale"]

    (stale,) = pulled("user", "old")
    assert re.match("acme/old is 4[01] days old", stale)
    if how == "it is forgotten":
        assert "status " + str(copy) + " --forget acme/old" in stale
        assert well("status", copy, "--forget", "acme/old")["done"]
        assert consumer("status", copy, "--forget", "acme/none").code == 1
    assert pulled("user") == []
    assert "days ago, delivered no more)" in consumer("status", copy, "--max-age", "49h").out
    sender.day -= 20
    sender.deliver([("2", "y")], kind="full", entity="old")
    (stale,) = pulled("user", "old")
    assert re.match("acme/old is 2[01] days old", stale)


def test_a_load_that_never_runs_again_is_told_by_its_age(sender: Sender, tmp_path: Path) -> None:
    copy, to = tmp_path / "copy", f"sqlite:{tmp_path}/copy.db"
    sender.day -= 5
    sender.last.clear()
    sender.deliver([("1", "x")], kind="full", entity="old")
    well("pull", sender.root, copy)
    well("load", copy, "--to", to)
    sender.day += 5
    sender.deliver([("2", "x")], entity="old")
    well("pull", sender.root, copy)
    well("status", copy)
    said = consumer("status", copy, "--max-age", "26h")
    told = re.search(r"acme/old in (\S+) is [56] days old, allowed are 26 hours", said.out)  # rounded: 6 in the afternoon
    assert (said.code, told and told[1]) == (1, to)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"format": 1, "databases": {"x": 1}}', b'{"format": 1, "databases": []}'])
def test_a_damaged_record_of_loads_is_written_again(sender: Sender, tmp_path: Path, damage: bytes) -> None:
    copy, to = tmp_path / "copy", f"sqlite:{tmp_path}/copy.db"
    well("pull", sender.root, copy)
    well("load", copy, "--to", to)
    path = copy / ".waybill-consumer-loads.json"
    path.write_bytes(damage)
    for command in (["status", copy], ["pull", sender.root, copy], ["load", copy, "--to", to]):
        well(*command)
    assert json.loads(path.read_text())["databases"][to]["entities"]


def test_a_database_that_lost_its_memory_is_told(sender: Sender, tmp_path: Path) -> None:
    copy, to = tmp_path / "copy", f"sqlite:{tmp_path}/copy.db"
    well("pull", sender.root, copy)
    well("load", copy, "--to", to)
    with closing(sqlite3.connect(tmp_path / "copy.db")) as connection, connection:
        connection.execute("delete from _waybill_deliveries")
    assert consumer("status", copy, "--to", to).code == 1


def test_a_pull_that_does_not_get_through_is_told_until_one_does(sender: Sender, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    well("pull", sender.root, copy)
    sender.root.rename(tmp_path / "away")
    assert consumer("pull", sender.root, copy).code == 1
    said = consumer("status", copy)
    assert (said.code, "missing: " in said.out, "there is no" in said.out) == (1, True, True)
    (tmp_path / "away").rename(sender.root)
    well("pull", sender.root, copy)
    well("status", copy)


@pytest.mark.parametrize("statement", ['drop table "user"', 'alter table "user" drop column name'])
def test_a_table_that_somebody_took_away_is_told_though_nothing_new_came(
    sender: Sender, tmp_path: Path, database: str, statement: str
) -> None:
    copy = tmp_path / "copy"
    well("pull", sender.root, copy)
    well("load", copy, "--to", database)
    execute(database, statement)
    for command in ("status", "load"):
        said = consumer(command, copy, "--to", database)
        assert (said.code, "is no longer there" in said.out + said.err, "delete from" in said.out + said.err) == (1, True, True)


BROKEN: dict[str, Callable[[Path], object]] = {
    "gone": lambda feed: feed.unlink(),
    "half of it": lambda feed: feed.write_text(feed.read_text()[:50]),
    "a newer format": lambda feed: feed.write_text(json.dumps(json.loads(feed.read_text()) | {"format_version": 2})),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_feed_that_was_read_before_is_missed_until_it_is_back_or_given_up(sender: Sender, tmp_path: Path, how: str) -> None:
    copy, path = tmp_path / "copy", sender.root / "feed.json"
    feed(sender)
    well("pull", sender.root, copy)
    well("status", copy)
    whole = path.read_text()
    BROKEN[how](path)
    for _ in range(2):
        well("pull", sender.root, copy)
        said = consumer("status", copy, "--quiet")
        assert (said.code, "the feed feed.json is missing or cannot be read since" in said.out) == (1, True), said
    path.write_text(whole)
    well("pull", sender.root, copy)
    well("status", copy)
    BROKEN[how](path)
    well("pull", sender.root, copy)
    assert consumer("status", copy).code == 1
    well("pull", sender.root, copy, "--rescan")
    well("status", copy)


def test_a_folder_that_cannot_be_written_is_said_with_what_to_do_by_pull_and_status(sender: Sender, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    well("pull", sender.root, copy)
    sender.day += 1
    sender.deliver([("2", "y")])
    blocked = copy / f"{MIDNIGHT + sender.day * DAY:%Y/%m/%d}"
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("")
    said = consumer("pull", sender.root, copy)
    assert (said.code, "then pull again: what was fetched stays" in said.err, str(blocked) in said.err) == (1, True, True), said
    assert "then pull again: what was fetched stays" in consumer("status", copy).out
    blocked.unlink()
    well("pull", sender.root, copy)
    well("status", copy)


BEGAN = {"began_at": "2026-06-01T00:00:00.000000Z"}
FIRST = {**BEGAN, "pulled_at": "", "streams": {}, "deliveries": {}, "folders": {}}
"""What the position holds when the first pull ends before it could note a delivery: killed, or on a disk that is full."""


@pytest.mark.parametrize("change", [BEGAN, {"pulled_at": ""}, FIRST])
def test_a_pull_that_did_not_finish_is_said(sender: Sender, tmp_path: Path, change: dict[str, Any]) -> None:
    copy = tmp_path / "copy"
    well("pull", sender.root, copy)
    path = copy / ".waybill-consumer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    said = consumer("status", copy)
    assert (said.code, "Pull once more" in said.out, "finish" in said.out) == (1, True, True), said
    well("pull", sender.root, copy)
    well("status", copy)


def test_the_paths_that_status_names_exist(sender: Sender, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    well("pull", sender.root, copy)
    (path,) = copy.rglob("user.csv")
    path.unlink()
    assert f"missing: {path.parent}/user.manifest.json: its file user.csv is missing" in consumer("status", copy).out


@pytest.mark.parametrize("hours", [50, 24 * 400])
def test_a_clock_that_is_behind_is_a_problem(tmp_path: Path, hours: int) -> None:
    sender = Sender(tmp_path / "in", day=(datetime.now(UTC) - MIDNIGHT) // DAY)
    sender.deliver([("1", "x")], kind="full", at=datetime.now(UTC) + timedelta(hours=hours))
    well("pull", sender.root, tmp_path / "copy")
    said = consumer("status", tmp_path / "copy")
    assert (said.code, "Set this machine's clock" in said.out) == (1, True), said
