"""Whatever is lost in DIR is noticed by the next command, whichever it is, and one more `pull` brings it back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.consumer.copies import consumer, rows, well
from tests.consumer.sender import DAY, MIDNIGHT, Sender
from tests.consumer.test_gaps import write_feed
from tests.consumer.test_pull import tree
from tests.installations import NOON, make_place
from tests.products import pairs
from waybill.files import places

pytestmark = pytest.mark.fast
POSITION = ".waybill-consumer.json"
GONE = [("2", "2026-06-03T00:00:00.000000Z")]
WHOLE = {"user": [(1, "day 3"), (3, "day 2"), (4, "day 2"), (5, "old")], "other": [(1, "x"), (2, "x")]}


SENDERS = ["folders", "feed"]


@pytest.fixture(params=SENDERS)
def sender(request: pytest.FixtureRequest, tmp_path: Path) -> Sender:
    """Three days of `user` in parts and with deletes and a backfill, two of `other`; with a feed or without."""
    sender = Sender(tmp_path / "in")
    sent = [(sender.deliver([("1", "day 1"), ("2", "day 1"), ("5", "day 1")], kind="full", parts=2), 0)]
    sender.deliver([("1", "x")], entity="other", kind="full")
    sender.day = 1
    sent.append((sender.deliver([("3", "day 2"), ("4", "day 2")], parts=2, deletes=GONE), 1))
    sender.deliver([("2", "x")], entity="other")
    sender.deliver([("5", "old")], kind="backfill", folder="backfill-1")
    sender.day = 2
    sent.append((sender.deliver([("1", "day 3")]), 2))
    if request.param == "feed":
        feed(sender)
    return sender


def feed(sender: Sender, **facts: Any) -> None:
    """A feed of everything that was sent."""
    write_feed(sender, [], **facts)
    found = [(path, json.loads(path.read_text())) for path in sorted(sender.root.rglob("*.manifest.json"))]
    listed = [
        {
            "number": number,
            **{name: manifest[name] for name in ("delivery_id", "entity", "kind", "generation", "sequence")},
            "manifest": str(path.relative_to(sender.root)),
        }
        for number, (path, manifest) in enumerate(found, 1)
    ]
    body = json.loads((sender.root / "feed.json").read_text())
    (sender.root / "feed.json").write_text(json.dumps(body | {"deliveries": listed, "last_number": len(listed)}))


def entity_gone(copy: Path) -> None:
    for folder in copy.glob("2026/06/*/user"):
        shutil.rmtree(folder)


LOSSES: dict[str, Callable[[Path], object]] = {
    "the first manifest": lambda copy: (copy / "2026/06/01/user/user.manifest.json").unlink(),
    "a manifest in the middle": lambda copy: (copy / "2026/06/02/user/user.manifest.json").unlink(),
    "the last manifest": lambda copy: (copy / "2026/06/03/user/user.manifest.json").unlink(),
    "half of a manifest": lambda copy: (copy / "2026/06/03/user/user.manifest.json").write_text('{"format_version": 1, "del'),
    "an empty manifest": lambda copy: (copy / "2026/06/02/user/user.manifest.json").write_bytes(b""),
    "a data file": lambda copy: (copy / "2026/06/03/user/user.csv").unlink(),
    "a part": lambda copy: (copy / "2026/06/02/user/user-0002.csv").unlink(),
    "the deletes": lambda copy: (copy / "2026/06/02/user/user.deletes.csv").unlink(),
    "half of a file": lambda copy: (copy / "2026/06/03/user/user.csv").write_bytes(b"id,na"),
    "a file, empty": lambda copy: (copy / "2026/06/01/user/user-0001.csv").write_bytes(b""),
    "a backfill's manifest": lambda copy: (copy / "2026/06/02/user/backfill-1/user.manifest.json").unlink(),
    "a backfill": lambda copy: shutil.rmtree(copy / "2026/06/02/user/backfill-1"),
    "an entity's folder of a day": lambda copy: shutil.rmtree(copy / "2026/06/02/user"),
    "the last folder of another entity": lambda copy: shutil.rmtree(copy / "2026/06/02/other"),
    "a day": lambda copy: shutil.rmtree(copy / "2026/06/02"),
    "the last day": lambda copy: shutil.rmtree(copy / "2026/06/03"),
    "an entity": entity_gone,
    "all days": lambda copy: shutil.rmtree(copy / "2026"),
    "the position": lambda copy: (copy / POSITION).unlink(),
    "half of the position": lambda copy: (copy / POSITION).write_text('{"format": 1, "sour'),
    "the position and a manifest": lambda copy: [(copy / POSITION).unlink(), (copy / "2026/06/02/user/user.manifest.json").unlink()],
    "the position and all days": lambda copy: [(copy / POSITION).unlink(), shutil.rmtree(copy / "2026")],
}


@pytest.mark.parametrize(("sender", "first", "loss"), pairs(SENDERS, ["load", "status", "pull"], LOSSES), indirect=["sender"])
def test_what_is_lost_before_it_was_loaded_is_noticed_at_once_and_comes_back(sender: Sender, tmp_path: Path, loss: str, first: str) -> None:
    copy, to = tmp_path / "copy", f"sqlite:{tmp_path}/copy.db"
    well("pull", sender.root, copy)
    LOSSES[loss](copy)
    if first != "pull":
        said = consumer(first, copy, *(["--to", to] if first == "load" else []))
        assert said.code == 1, said
        assert "Pull once more" in said.err + said.out
    well("pull", sender.root, copy)
    assert tree(copy) == {path: data for path, data in tree(sender.root).items() if path != "feed.json"}
    well("load", copy, "--to", to)
    assert {entity: rows(to, entity) for entity in WHOLE} == WHOLE
    well("status", copy, "--to", to)
    assert well("verify", copy)["problems"] == []


@pytest.mark.parametrize("loss", LOSSES)
def test_what_is_lost_between_a_load_and_the_next_pull_costs_the_copy_nothing(sender: Sender, tmp_path: Path, loss: str) -> None:
    copy, to = tmp_path / "copy", f"sqlite:{tmp_path}/copy.db"
    well("pull", sender.root, copy)
    well("load", copy, "--to", to)
    LOSSES[loss](copy)
    sender.day = 3
    sender.deliver([("6", "day 4")])
    if (sender.root / "feed.json").exists():
        feed(sender)
    well("pull", sender.root, copy)
    well("load", copy, "--to", to)
    assert rows(to, "user") == [*WHOLE["user"], (6, "day 4")]
    assert consumer("status", copy, "--to", to).code == 0


@pytest.mark.parametrize("loss", ["a manifest in the middle", "a day", "an entity", "half of a file"])
def test_what_is_lost_here_and_taken_away_at_the_sender_is_told_until_a_full_load_comes(sender: Sender, tmp_path: Path, loss: str) -> None:
    copy, to = tmp_path / "copy", f"sqlite:{tmp_path}/copy.db"
    well("pull", sender.root, copy)
    LOSSES[loss](copy)
    shutil.rmtree(sender.root / "2026")
    for _ in range(2):
        said = consumer("pull", sender.root, copy)
        assert said.code == 1
        assert "of acme/user generation 1 was fetched, is no longer here, and is no longer at" in said.err
        assert "ask the sender to redeliver it, or for a full load" in said.err
        for command in (["status", copy], ["load", copy, "--to", to]):
            assert consumer(*command).code == 1
    sender.day = 4
    sender.deliver([("7", "full")], kind="full")
    sender.deliver([("8", "full")], kind="full", entity="other")
    if (sender.root / "feed.json").exists():
        feed(sender)
    well("pull", sender.root, copy)
    well("load", copy, "--to", to)
    assert (rows(to, "user"), rows(to, "other")) == ([(7, "full")], [(8, "full")])
    well("status", copy)


def test_what_was_lost_here_may_be_put_back(sender: Sender, tmp_path: Path) -> None:
    copy, to = tmp_path / "copy", f"sqlite:{tmp_path}/copy.db"
    well("pull", sender.root, copy)
    (copy / "2026/06/02").rename(tmp_path / "kept")
    shutil.rmtree(sender.root / "2026/06/02")
    assert consumer("pull", sender.root, copy).code == 1
    (tmp_path / "kept").rename(copy / "2026/06/02")
    well("pull", sender.root, copy)
    well("load", copy, "--to", to)
    assert rows(to, "user") == WHOLE["user"]


def test_what_is_loaded_may_be_moved_away_whole(sender: Sender, tmp_path: Path) -> None:
    copy, to = tmp_path / "copy", f"sqlite:{tmp_path}/copy.db"
    well("pull", sender.root, copy)
    well("load", copy, "--to", to)
    for moved in ("2026/06/02", "2026/06/01", "2026"):
        (copy / moved).rename(tmp_path / moved.replace("/", "-"))
        assert well("pull", sender.root, copy)["fetched"] == []
        assert well("load", copy, "--to", to)["deliveries"] == 0
        well("status", copy, "--to", to)
    assert [entity["sequence"] for entity in well("status", copy)["entities"]] == [2, 3]
    sender.day = 3
    sender.deliver([("6", "day 4")])
    if (sender.root / "feed.json").exists():
        feed(sender)
    assert well("pull", sender.root, copy)["deliveries"] == 1
    well("load", copy, "--to", to)
    assert rows(to, "user") == [*WHOLE["user"], (6, "day 4")]
    said = consumer("load", copy, "--to", f"sqlite:{tmp_path}/second.db")
    assert (said.code, "sequence 1 of acme/user generation 1 and 3 more were fetched" in said.err) == (1, True)
    assert well("pull", sender.root, copy)["deliveries"] == 6
    well("load", copy, "--to", f"sqlite:{tmp_path}/second.db")
    assert rows(f"sqlite:{tmp_path}/second.db", "user") == [*WHOLE["user"], (6, "day 4")]


def test_verify_takes_what_a_database_holds_for_moved_away_and_nothing_else(tmp_path: Path) -> None:
    copy, to = tmp_path / "copy", f"sqlite:{tmp_path}/copy.db"
    with closing(make_place(tmp_path / "place")) as place:
        place.user(1, "Ada", NOON - 2 * DAY)
        for day in range(2):
            place.run(NOON + day * DAY)
        place.out.rename(tmp_path / "out")
    well("pull", tmp_path / "out/exports/acme", copy)
    shutil.rmtree(copy / "2026/06/01/theme")
    said = consumer("verify", copy)
    assert (said.code, "lists theme/theme.manifest.json, which is missing" in said.out) == (1, True), said
    well("load", copy, "--to", to, "--only", "user")
    for moved in ("2026/05/31/user", "2026/06/01/user"):
        shutil.rmtree(copy / moved)
        assert [problem["path"] for problem in consumer("verify", copy, "--json").json["problems"]] == ["/2026/06/01/_MANIFEST.json"]
    well("pull", tmp_path / "out/exports/acme", copy)
    well("load", copy, "--to", to)
    for moved in ("2026/05/31/theme", "2026/06/01/theme", "2026"):
        shutil.rmtree(copy / moved)
        assert well("verify", copy)["problems"] == []


def test_a_copy_may_stand_in_a_folder_that_is_called_exports(sender: Sender, tmp_path: Path) -> None:
    """`waybill init exports` makes one, and the tutorial pulls into a folder in it."""
    copy = tmp_path / "exports/inbox"
    copy.parent.mkdir()
    well("pull", sender.root, copy)
    assert well("verify", copy)["problems"] == []
    assert [str(problem) for problem in places.verify(str(copy), {}.__getitem__).problems] == []
    assert well("pull", sender.root, copy)["deliveries"] == 0


def test_who_loads_by_other_means_moves_files_away_with_once(sender: Sender, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    well("pull", sender.root, copy, "--once")
    shutil.rmtree(copy / "2026/06/02")
    assert well("pull", sender.root, copy, "--once")["fetched"] == []
    well("status", copy)
    assert well("pull", sender.root, copy)["deliveries"] == 3


def test_a_database_that_was_put_back_gets_what_it_lacks(sender: Sender, tmp_path: Path) -> None:
    copy, to = tmp_path / "copy", f"sqlite:{tmp_path}/copy.db"
    well("pull", sender.root, copy)
    well("load", copy, "--to", to, "--only", "user")
    shutil.copy(tmp_path / "copy.db", tmp_path / "backup")
    well("load", copy, "--to", to)
    shutil.rmtree(copy / "2026")
    shutil.copy(tmp_path / "backup", tmp_path / "copy.db")
    assert "were fetched, are no longer here, and not in the database" in consumer("load", copy, "--to", to).err
    assert well("pull", sender.root, copy)["deliveries"] == 2
    well("load", copy, "--to", to)
    assert {entity: rows(to, entity) for entity in WHOLE} == WHOLE


def test_a_backfill_asks_for_the_newer_deliveries_that_were_moved_away(sender: Sender, tmp_path: Path) -> None:
    copy, to = tmp_path / "copy", f"sqlite:{tmp_path}/copy.db"
    well("pull", sender.root, copy)
    well("load", copy, "--to", to)
    shutil.rmtree(copy / "2026/06/03")
    sender.day = 0
    sender.deliver([("1", "backfilled"), ("5", "backfilled")], kind="backfill", folder="backfill-2", at=MIDNIGHT + 1.5 * DAY)
    if (sender.root / "feed.json").exists():
        feed(sender)
    well("pull", sender.root, copy, "--rescan")
    said = consumer("load", copy, "--to", to)
    assert (said.code, "Pull once more, which fetches those that the sender still has" in said.err) == (1, True)
    assert well("pull", sender.root, copy)["deliveries"] == 1
    well("load", copy, "--to", to)
    assert rows(to, "user") == [(1, "day 3"), (3, "day 2"), (4, "day 2"), (5, "backfilled")]


def test_a_list_of_a_date_that_is_lost_comes_back(sender: Sender, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    body = {"tenant": "acme", "date": "2026-06-02", "number": 1, "rows": 0, "bytes": 0, "deliveries": []}
    (sender.root / "2026/06/02/_MANIFEST.json").write_text(json.dumps(body))
    well("pull", sender.root, copy)
    for _ in range(2):
        (copy / "2026/06/02/_MANIFEST.json").unlink()
        assert well("pull", sender.root, copy)["fetched"] == []
        assert (copy / "2026/06/02/_MANIFEST.json").exists()


def test_a_manifest_that_is_gone_while_its_files_are_here_was_not_moved_away(sender: Sender, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    well("pull", sender.root, copy)
    well("load", copy, "--to", f"sqlite:{tmp_path}/copy.db")
    for path in ("2026/06/02/user/user.manifest.json", "2026/06/03/user/user.manifest.json"):
        (copy / path).unlink()
        assert consumer("status", copy).code == 1
        assert well("pull", sender.root, copy)["deliveries"] == 1
        well("status", copy)
