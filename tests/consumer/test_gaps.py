"""What is missing at the sender is told with what to do, and nothing else is lost for it: gaps, retention, untrue feeds."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.consumer.copies import consumer, rows, well
from tests.consumer.sender import Sender, text
from tests.servers.sshd import SftpAccess

pytestmark = pytest.mark.fast
GONE = [("9", "2026-06-02T00:00:00.000000Z")]
Deliveries = list[tuple[dict[str, Any], int]]


def send(sender: Sender, days: int, **options: Any) -> Deliveries:
    """A full load and deltas of so many further days."""
    made = []
    for _ in range(days):
        is_first = not sender.last
        options["deletes"] = None if is_first else GONE
        made.append((sender.deliver([(str(sender.day), "x"), ("50", "y")], kind="full" if is_first else "delta", **options), sender.day))
        sender.day += 1
    return made


def write_feed(sender: Sender, deliveries: Deliveries, **facts: Any) -> dict[str, Any]:
    """The feed of a sender that is on time."""
    now = datetime.now(UTC)
    listed = []
    for number, (manifest, day) in enumerate(deliveries, 1):
        path = sender.path(manifest, day, "user.manifest.json").relative_to(sender.root)
        place = {name: manifest[name] for name in ("delivery_id", "entity", "kind", "generation", "sequence")}
        listed.append({"number": number, **place, "manifest": str(path)})
    feed = {
        "format_version": 1,
        "tenant": "acme",
        "feed": "a" * 32,
        "written_at": text(now),
        "last_number": len(listed),
        "next_due": text(now + timedelta(hours=1)),
        "late_after": text(now + timedelta(hours=2)),
        "problem": None,
        "pages": [],
        "deliveries": listed,
    }
    sender.root.mkdir(exist_ok=True)
    (sender.root / "feed.json").write_text(json.dumps(feed | facts))
    return feed | facts


def day(sender: Sender, number: int) -> Path:
    return sender.root / f"2026/06/0{number}/user"


MISSING = {
    "the first": lambda sender: shutil.rmtree(day(sender, 1)),
    "one in the middle": lambda sender: shutil.rmtree(day(sender, 2)),
    "a manifest": lambda sender: (day(sender, 2) / "user.manifest.json").unlink(),
    "a part": lambda sender: (day(sender, 2) / "user-0002.csv").unlink(),
    "the deletes": lambda sender: (day(sender, 2) / "user.deletes.csv").unlink(),
    "a file of the last": lambda sender: (day(sender, 4) / "user-0001.csv").unlink(),
    "the meaning of one": lambda sender: (day(sender, 2) / "user.manifest.json").write_text('{"format_version": 1, "kind": "patch"}'),
}


@pytest.mark.parametrize("what", MISSING)
def test_a_full_load_makes_up_for_whatever_is_missing(sender: Sender, tmp_path: Path, what: str) -> None:
    copy = tmp_path / "copy"
    send(sender, 4, parts=2)
    sender.deliver([("1", "z")], entity="other", kind="full")
    MISSING[what](sender)
    for command in (["pull", sender.root, copy], ["status", copy]):
        assert consumer(*command).code == 1
    well("load", copy, "--to", f"sqlite:{tmp_path}/other.db")
    assert rows(f"sqlite:{tmp_path}/other.db", "other") == [(1, "z")]
    sender.deliver([("7", "all")], kind="full")
    sender.day += 1
    sender.deliver([("8", "more")])
    fetched = well("pull", sender.root, copy)["fetched"]
    assert [(path["generation"], path["sequence"]) for path in fetched] == [(2, 1), (2, 2)]
    assert well("status", copy)["missing"] == []
    assert well("verify", copy)["problems"] == []
    well("load", copy, "--to", f"sqlite:{tmp_path}/copy.db")
    assert rows(f"sqlite:{tmp_path}/copy.db", "user") == [(7, "all"), (8, "more")]


def test_what_was_taken_away_before_it_was_pulled_asks_for_a_full_load(sender: Sender, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    made = send(sender, 2)
    write_feed(sender, made)
    well("pull", sender.root, copy)
    made += send(sender, 2)
    write_feed(sender, made)
    shutil.rmtree(sender.root / "2026")
    (sender.root / "2026").mkdir()
    for _ in range(2):
        said = consumer("pull", sender.root, copy)
        assert (said.code, "no longer holds sequence 3 to 4 of acme/user generation 1" in said.err) == (1, True), said
        assert "Ask the sender for a full load" in said.err
    assert "sequence 3 to 4" in consumer("status", copy).out
    made.append((sender.deliver([("7", "all")], kind="full"), sender.day))
    write_feed(sender, made)
    well("pull", sender.root, copy)
    assert well("status", copy)["missing"] == []


def test_what_the_list_of_a_date_names_and_is_gone_is_told(sender: Sender, tmp_path: Path) -> None:
    made = [sender.deliver([("1", "x")], entity=entity, kind="full") for entity in ("user", "zoo")]
    listed = []
    for delivery in made:
        facts = {name: delivery[name] for name in ("delivery_id", "entity", "kind", "generation", "sequence", "rows", "bytes", "sha256")}
        files = [{**file, "path": f"{delivery['entity']}/{file['path']}"} for file in delivery["files"]]
        listed.append({**facts, "files": files, "manifest": f"{delivery['entity']}/{delivery['entity']}.manifest.json"})
    total = {name: sum(item[name] for item in made) for name in ("rows", "bytes")}
    day_manifest = {"format_version": 1, "tenant": "acme", "date": "2026-06-01", "number": 1, **total, "deliveries": listed}
    (sender.root / "2026/06/01/_MANIFEST.json").write_text(json.dumps(day_manifest))
    shutil.move(sender.root / "2026/06/01/zoo", tmp_path / "zoo")
    for _ in range(2):
        said = consumer("pull", sender.root, tmp_path / "copy")
        assert (said.code, "sequence 1 of acme/zoo generation 1. Ask the sender" in said.err) == (1, True), said
    assert "acme/zoo" in consumer("status", tmp_path / "copy").out
    shutil.move(tmp_path / "zoo", sender.root / "2026/06/01/zoo")
    assert len(well("pull", sender.root, tmp_path / "copy")["fetched"]) == 1
    assert well("verify", tmp_path / "copy")["problems"] == []
    assert (tmp_path / "copy/2026/06/01/_MANIFEST.json").exists()


def test_a_backfill_that_was_taken_away_is_told_once(sender: Sender, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    made = send(sender, 2)
    write_feed(sender, made)
    well("pull", sender.root, copy)
    write_feed(sender, [*made, (sender.deliver([("1", "b")], kind="backfill", folder="backfill-1"), 2)])
    said = consumer("pull", sender.root, copy)
    assert (said.code, "a backfill of acme/user" in said.err, "or for that backfill again" in said.err) == (1, True, True), said
    well("pull", sender.root, copy)


UNREADABLE = {
    "a folder": lambda feed: (feed.unlink(), feed.mkdir()),
    "a link to itself": lambda feed: (feed.unlink(), feed.symlink_to("feed.json")),
    "another format": lambda feed: feed.write_text(json.dumps(json.loads(feed.read_text()) | {"format_version": 2})),
    "paths that climb": lambda feed: feed.write_text(feed.read_text().replace("2026/", "../../")),
    "numbers without end": lambda feed: feed.write_text(json.dumps(json.loads(feed.read_text()) | {"last_number": 10**15})),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_feed_that_cannot_be_read_is_told_and_the_folders_are_walked(sender: Sender, tmp_path: Path, what: str) -> None:
    write_feed(sender, send(sender, 3))
    UNREADABLE[what](sender.root / "feed.json")
    said = well("pull", sender.root, tmp_path / "copy")
    assert len(said["fetched"]) == 3
    assert any("feed.json" in note and "the folders were looked through instead" in note for note in said["notes"]), said


def test_a_feed_that_a_server_forbids_does_not_stop_the_pull(sender: Sender, tmp_path: Path, sshd: SftpAccess) -> None:
    write_feed(sender, send(sender, 2))
    shutil.copytree(sender.root, sshd.root / "acme")
    feed = sshd.root / "acme/feed.json"
    feed.unlink()
    feed.mkdir()  # no login may read it as a file, not even root
    url = f"sftp://{sshd.login}@{sshd.host}:{sshd.port}{sshd.remote_root}/acme"
    said = well("pull", url, tmp_path / "copy", "--key", sshd.private_key, "--known-hosts", sshd.known_hosts)
    assert (len(said["fetched"]), "the folders were looked through instead" in said["notes"][0]) == (2, True), said


def test_a_feed_that_leaves_out_what_is_there_hides_nothing_for_long(sender: Sender, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    made = send(sender, 4)
    write_feed(sender, [made[0], made[1], made[3]])
    assert len(well("pull", sender.root, copy)["fetched"]) == 4  # the gap made it look
    made += send(sender, 1)
    write_feed(sender, made[:4])
    assert well("pull", sender.root, copy)["fetched"] == []
    path = copy / ".waybill-consumer.json"
    position = json.loads(path.read_text())
    position["feeds"][""]["walked"] = text(datetime.now(UTC) - timedelta(days=2))
    path.write_text(json.dumps(position))
    assert len(well("pull", sender.root, copy)["fetched"]) == 1
    assert well("pull", sender.root, copy)["fetched"] == []


def test_a_feed_that_was_put_back_gives_numbers_out_again(sender: Sender, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    made = send(sender, 4)
    write_feed(sender, made)
    well("pull", sender.root, copy)
    write_feed(sender, made[:2])
    assert well("pull", sender.root, copy)["fetched"] == []
    new = send(sender, 2)
    write_feed(sender, [*made[:3], new[0], new[1]])  # number 4 is another delivery now
    assert [path["sequence"] for path in well("pull", sender.root, copy)["fetched"]] == [5, 6]


def test_a_date_that_the_server_renamed_brings_its_deliveries_once_more(sender: Sender, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    send(sender, 2)
    well("pull", sender.root, copy)
    (sender.root / "2026/06/01").rename(sender.root / "2026/06/09")
    well("pull", sender.root, copy)
    assert "once more" in well("verify", copy)["notes"][0]["what"]
    assert well("load", copy, "--to", f"sqlite:{tmp_path}/copy.db")["deliveries"] == 2


def test_a_clock_that_is_wrong_is_told(sender: Sender, tmp_path: Path) -> None:
    send(sender, 1, at=datetime.now(UTC) + timedelta(days=9, hours=1))
    well("pull", sender.root, tmp_path / "copy")
    assert "9 days ahead of this machine's clock: one of the clocks is wrong" in consumer("status", tmp_path / "copy").out


def test_only_what_was_asked_for_is_pulled_and_loaded(sender: Sender, tmp_path: Path) -> None:
    copy, database = tmp_path / "copy", f"sqlite:{tmp_path}/copy.db"
    for number in range(2):
        for entity in ("user", "other", "third"):
            sender.deliver([("1", str(number))], entity=entity, kind="delta" if number else "full")
        path = sender.root / f"2026/06/0{number + 1}/_MANIFEST.json"
        listed = [{"manifest": f"{entity}/{entity}.manifest.json"} for entity in ("user", "other", "third")]
        path.write_text(json.dumps({"format_version": 1, "tenant": "acme", "deliveries": listed}))
        said = well("pull", sender.root, copy, "--only", "user", "--only", "other")
        assert sorted(item["entity"] for item in said["fetched"]) == ["other", "user"]
        sender.day += 1
    assert not list(copy.rglob("_MANIFEST.json"))
    assert well("verify", copy)["problems"] == []
    assert well("load", copy, "--to", database, "--only", "user")["deliveries"] == 2
    assert well("load", copy, "--to", database)["deliveries"] == 2
    assert len(well("pull", sender.root, copy)["fetched"]) == 2  # all of it, from now on
    for command in (["pull", sender.root, copy], ["load", copy, "--to", database]):
        said_ = consumer(*command, "--only", "usr")
        assert (said_.code, "usr" in said_.err, "other, third, user" in said_.err) == (1, True, True), said_
    assert "holds nothing of a tenant globex" in consumer("load", copy, "--to", database, "--tenant", "globex").err
