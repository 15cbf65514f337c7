"""What is damaged or lost at the sender is made up for by its redelivery: every command is well again, and the copy is exact."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.consumer.copies import consumer, rows, well
from tests.consumer.sender import DAY, MIDNIGHT, Sender
from tests.consumer.test_losses import feed
from tests.products import pairs

pytestmark = pytest.mark.fast
GONE = [("2", "2026-06-03T00:00:00.000000Z")]
WHOLE = [(1, "one"), (3, "three"), (4, "four"), (5, "old"), (6, "last")]
KINDS = {
    "full": ([("1", "one"), ("2", "two"), ("5", "day 1")], 0, ""),
    "delta": ([("3", "three"), ("4", "four")], 1, ""),
    "backfill": ([("5", "old"), ("1", "one")], 1, "backfill-0123456789ab"),
    "last": ([("6", "last"), ("1", "one")], 2, ""),
}
Files = list[Path]


def spoil(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])


DAMAGE: dict[str, Callable[[Files, Path], object]] = {
    "another size": lambda files, manifest: files[-1].write_bytes(files[-1].read_bytes() + b"!"),
    "another hash": lambda files, manifest: spoil(files[0]),
    "a missing file": lambda files, manifest: files[0].unlink(),
    "a missing part": lambda files, manifest: files[1].unlink(),
    "no file at all": lambda files, manifest: [file.unlink() for file in files],
    "half of the manifest": lambda files, manifest: manifest.write_text(manifest.read_text()[:100]),
    "an empty manifest": lambda files, manifest: manifest.write_bytes(b""),
    "no manifest": lambda files, manifest: manifest.unlink(),
    "nothing": lambda files, manifest: [file.unlink() for file in (*files, manifest)],
}


class Place:
    """A sender's place with a feed or without, and with the list of each date."""

    def __init__(self, root: Path, *, has_feed: bool) -> None:
        self.sender = Sender(root)
        self.has_feed = has_feed
        self.sent: dict[str, dict[str, Any]] = {}
        self.whole: dict[Path, bytes] = {}

    def deliver(self) -> None:
        for kind, (rows_, day, folder) in KINDS.items():
            self.sender.day = day
            options: dict[str, Any] = {"deletes": GONE} if kind == "delta" else {}
            options |= {"at": MIDNIGHT + 2 * DAY} if kind == "backfill" else {}
            name = "delta" if kind == "last" else kind
            self.sent[kind] = self.sender.deliver(rows_, kind=name, parts=2, folder=folder, **options)
        self.publish()
        self.whole = {path: path.read_bytes() for path in self.sender.root.rglob("*") if path.is_file()}

    def damage(self, kind: str, damage: str, number: int = 0) -> None:
        DAMAGE[damage](*self.files(kind, number))

    def redeliver(self, kind: str, number: int = 1) -> None:
        """Repeat a delivery and publish the lists of all that was sent; what is damaged stays so."""
        before = {path: path.read_bytes() if path.exists() else None for path in self.whole if "user" in path.name}
        for path in before:
            path.write_bytes(self.whole[path])
        self._repeat(kind, number)
        self.whole = {path: path.read_bytes() for path in self.sender.root.rglob("*") if path.is_file()}
        for path, data in before.items():
            if data is None:
                path.unlink()
            else:
                path.write_bytes(data)

    def _repeat(self, kind: str, number: int) -> None:
        rows_, self.sender.day, folder = KINDS[kind]
        first = self.sent[kind]
        facts = {name: first[name] for name in ("previous", "window", "snapshot_time", "generation", "sequence", "kind")}
        stem = f"user.g{first['generation']}.{first['sequence']}.r{number}"
        facts |= {"redelivers": first["delivery_id"], "possible_duplicate": True, "deletes": GONE if kind == "delta" else None}
        self.sender.deliver(rows_, parts=2, folder=folder, stem=stem, **facts)
        self.publish()

    def files(self, kind: str, number: int = 0) -> tuple[Files, Path]:
        stem = f"user.g1.{self.sent[kind]['sequence']}.r{number}" if number else "user"
        folder = self.sender.root / f"{MIDNIGHT + KINDS[kind][1] * DAY:%Y/%m/%d}" / "user" / KINDS[kind][2]
        return sorted(folder.glob(f"{stem}[-.]*csv")), folder / f"{stem}.manifest.json"

    def publish(self) -> None:
        if self.has_feed:
            feed(self.sender)
        for date in self.sender.root.glob("2026/06/*"):
            found = [(path, json.loads(path.read_text() or "{}")) for path in sorted(date.rglob("user*.manifest.json"))]
            names = ("delivery_id", "entity", "kind", "generation", "sequence", "rows", "bytes", "sha256")
            listed = [
                {
                    **{name: body[name] for name in names},
                    "files": [{**file, "path": str((path.parent / file["path"]).relative_to(date))} for file in body["files"]],
                    "manifest": str(path.relative_to(date)),
                }
                for path, body in found
            ]
            total = {name: sum(entry[name] for entry in listed) for name in ("rows", "bytes")}
            body = {"format_version": 1, "tenant": "acme", "date": date.relative_to(self.sender.root).as_posix().replace("/", "-")}
            (date / "_MANIFEST.json").write_text(json.dumps({**body, "number": 1, **total, "deliveries": listed}))


def require_well(place: Place, copy: Path, to: str) -> None:
    for _ in range(2):
        well("pull", place.sender.root, copy)
        well("status", copy)
    well("load", copy, "--to", to)
    assert rows(to, "user") == WHOLE
    well("status", copy, "--to", to)
    assert well("verify", copy)["problems"] == []
    assert well("pull", place.sender.root, copy)["fetched"] == []
    (copy / ".waybill-consumer.json").unlink()
    well("pull", place.sender.root, copy)
    well("status", copy, "--to", to)


SENDERS = ["folders", "feed"]


@pytest.fixture(params=SENDERS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    place = Place(tmp_path / "in", has_feed=request.param == "feed")
    place.deliver()
    return place


@pytest.mark.parametrize(("place", "kind", "damage"), pairs(SENDERS, KINDS, DAMAGE), indirect=["place"])
def test_a_redelivery_makes_up_for_what_is_damaged_at_the_sender(place: Place, tmp_path: Path, kind: str, damage: str) -> None:
    copy, to = tmp_path / "copy", f"sqlite:{tmp_path}/copy.db"
    place.damage(kind, damage)
    said = consumer("pull", place.sender.root, copy)
    assert said.code == 1 or (kind == "backfill" and "manifest" in damage) or damage == "nothing", said
    place.redeliver(kind)
    require_well(place, copy, to)


@pytest.mark.parametrize("kind", ["delta", "backfill"])
@pytest.mark.parametrize("damage", ["another hash", "no file at all", "half of the manifest"])
def test_a_redelivery_that_is_damaged_too_is_made_up_for_by_the_next(place: Place, tmp_path: Path, kind: str, damage: str) -> None:
    copy, to = tmp_path / "copy", f"sqlite:{tmp_path}/copy.db"
    place.damage(kind, damage)
    place.redeliver(kind)
    place.damage(kind, damage, number=1)
    consumer("pull", place.sender.root, copy)
    place.redeliver(kind, number=2)
    require_well(place, copy, to)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["another size", "no file at all", "an empty manifest"])
def test_what_is_lost_here_and_damaged_at_the_sender_is_made_up_for(place: Place, tmp_path: Path, kind: str, damage: str) -> None:
    copy, to = tmp_path / "copy", f"sqlite:{tmp_path}/copy.db"
    well("pull", place.sender.root, copy)
    for files, manifest in (place.files(kind),):
        for path in (*files, manifest):
            (copy / path.relative_to(place.sender.root)).write_bytes(b"")
    place.damage(kind, damage)
    assert consumer("pull", place.sender.root, copy).code == 1
    assert consumer("status", copy).code == 1
    place.redeliver(kind)
    require_well(place, copy, to)


def test_a_redelivery_of_something_else_makes_up_for_nothing(place: Place, tmp_path: Path) -> None:
    place.damage("delta", "another hash")
    place.redeliver("full")
    place.redeliver("backfill")
    for _ in range(2):
        assert consumer("pull", place.sender.root, tmp_path / "copy").code == 1
        assert consumer("status", tmp_path / "copy").code == 1
