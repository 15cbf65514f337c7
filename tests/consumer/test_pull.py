"""`pull` fetches whole deliveries in chain order, from a folder and from a real SFTP server, and costs what is new."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.consumer.copies import Said, consumer, well
from tests.consumer.sender import DAY, MIDNIGHT, Sender
from tests.servers.s3 import S3Server
from tests.servers.sshd import SftpAccess
from waybill_consumer.folder.position import Position
from waybill_consumer.places import Answer, Listing
from waybill_consumer.places.folder import Folder
from waybill_consumer.progress import Progress
from waybill_consumer.pull.finding import Finder
from waybill_consumer.pull.pulling import pull

Pull = Callable[..., Said]


@pytest.fixture(params=["folder", "sftp"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Sender, Pull]:
    """A sender, and `pull` from where it delivers to `tmp_path/copy`."""
    if request.param == "folder":
        root, name, options = tmp_path / "exports" / "acme", str(tmp_path), []
    else:
        server: SftpAccess = request.getfixturevalue("sshd")
        root, name = server.root / "exports" / "acme", f"sftp://{server.login}@{server.host}:{server.port}{server.remote_root}"
        options = ["--key", server.private_key, "--known-hosts", server.known_hosts]
    root.mkdir(parents=True)
    return Sender(root), lambda *more: consumer("pull", name, tmp_path / "copy", *options, "--json", *more)


def tree(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def test_what_is_delivered_is_fetched_once_and_equals_it(source: tuple[Sender, Pull], tmp_path: Path) -> None:
    sender, pulled = source
    top, copy = sender.root.parents[1], tmp_path / "copy"
    for day in range(4):
        sender.day = day
        sender.deliver([(str(day), "x")], kind="delta" if day else "full", parts=2, deletes=[] if day else None)
        sender.deliver([("1", "y")], kind="full", entity="other", csv={"compression": "gzip"}, mode="full")
        said = pulled()
        assert said.code == 0, said
        assert [path["sequence"] for path in said.json["fetched"]] == [day + 1, day + 1]
        own = {name: data for name, data in tree(top).items() if not name.startswith("copy/")}
        assert tree(copy) == own
        assert pulled().json["fetched"] == []
    assert well("verify", copy)["whole"] is True
    status = well("status", copy)
    assert {entity["entity"]: entity["sequence"] for entity in status["entities"]} == {"user": 4, "other": 4}


def test_a_dates_lists_come_when_all_they_name_is_here(source: tuple[Sender, Pull], tmp_path: Path) -> None:
    sender, pulled = source
    first = sender.deliver([("1", "x")], kind="full")
    path = sender.path(first, 0)
    day = path.parents[1]
    lines = [f"{hashlib.sha256(item.read_bytes()).hexdigest()}  user/{item.name}\n" for item in sorted(path.parent.iterdir())]
    (day / "SHA256SUMS").write_text("".join(lines))
    whole = path.read_bytes()
    path.write_bytes(whole + b"!")
    assert pulled().code == 1
    assert not list((tmp_path / "copy").rglob("SHA256SUMS"))
    path.write_bytes(whole)
    assert pulled().code == 0
    assert len(list((tmp_path / "copy").rglob("SHA256SUMS"))) == 1
    assert well("verify", tmp_path / "copy")["problems"] == []


def test_a_delivery_without_its_manifest_is_not_touched(source: tuple[Sender, Pull], tmp_path: Path) -> None:
    sender, pulled = source
    first = sender.deliver([("1", "x")], kind="full")
    sender.path(first, 0, "user.manifest.json").rename(sender.root / "later")
    assert pulled().json["fetched"] == []
    assert not list((tmp_path / "copy").rglob("*.csv"))
    (sender.root / "later").rename(sender.path(first, 0, "user.manifest.json"))
    assert len(pulled().json["fetched"]) == 1


def test_it_stops_at_a_gap_naming_the_missing_number_and_goes_on_when_it_comes(source: tuple[Sender, Pull], tmp_path: Path) -> None:
    sender, pulled = source
    sender.deliver([("1", "x")], kind="full")
    for day in (1, 2, 3):
        sender.day = day
        sender.deliver([("1", str(day))])
        sender.deliver([("1", "y")], entity="other", kind="full", mode="full")
    lost = sender.root / "2026/06/02/user"
    lost.rename(tmp_path / "lost")
    said = pulled()
    assert said.code == 1
    (problem,) = said.json["problems"]
    assert problem["entity"] == "acme/user"
    assert "sequence 2 of acme/user generation 1 is missing" in problem["what"]
    assert [(path["entity"], path["sequence"]) for path in said.json["fetched"]] == [("user", 1), ("other", 1), ("other", 2), ("other", 3)]
    status = consumer("status", tmp_path / "copy", "--json")
    assert (status.code, "sequence 2" in status.out) == (1, True)
    (tmp_path / "lost").rename(lost)
    assert [path["sequence"] for path in pulled().json["fetched"]] == [2, 3, 4]
    assert consumer("status", tmp_path / "copy").code == 0


def test_a_chain_that_begins_later_waits_for_a_full_delivery(source: tuple[Sender, Pull]) -> None:
    sender, pulled = source
    sender.deliver([("1", "x")], kind="full")
    shutil.rmtree(sender.root / "2026")
    sender.day = 1
    sender.deliver([("1", "1")])
    said = pulled()
    assert (said.code, "sequence 1 of acme/user generation 1 is missing" in said.out) == (1, True)
    assert "taken away before you pulled it" in said.out
    assert "or for a full load, which starts a new generation" in said.out
    sender.day = 2
    sender.deliver([("1", "2")], kind="full")
    assert [(path["generation"], path["sequence"]) for path in pulled().json["fetched"]] == [(2, 1)]


def test_a_damaged_file_stops_its_entity_only_and_a_redelivery_takes_its_place(source: tuple[Sender, Pull], tmp_path: Path) -> None:
    sender, pulled = source
    sender.deliver([("1", "x")], kind="full")
    sender.day = 1
    bad = sender.deliver([("1", "abc")])
    sender.deliver([("1", "y")], entity="other", kind="full")
    path = sender.path(bad, 1)
    path.write_bytes(path.read_bytes().replace(b"abc", b"abd"))
    sender.day = 2
    sender.deliver([("1", "z")])
    said = pulled()
    assert said.code == 1
    (problem,) = said.json["problems"]
    assert "user.csv" in problem["what"]
    assert "SHA-256" in problem["what"]
    assert f"waybill redeliver {bad['delivery_id']}" in problem["next_step"]
    assert [(item["entity"], item["sequence"]) for item in said.json["fetched"]] == [("user", 1), ("other", 1)]
    assert not [path for path in (tmp_path / "copy").rglob("*") if "06/02/user" in str(path) and path.is_file()]
    sender.redeliver(bad, [("1", "abc")], day=1)
    said = pulled()
    assert [item["sequence"] for item in said.json["fetched"]] == [2, 3]


def test_redeliveries_and_backfills_of_past_dates_are_found(source: tuple[Sender, Pull]) -> None:
    sender, pulled = source
    first = sender.deliver([("1", "x")], kind="full")
    for day in range(1, 60):
        sender.day = day
        sender.deliver([("1", str(day))])
    assert len(pulled().json["fetched"]) == 60
    sender.redeliver(first, [("1", "x")], day=0)
    sender.day = 3
    back = sender.deliver([("1", "b")], kind="backfill", folder="backfill-0123456789ab", at=MIDNIGHT + 60 * DAY)
    assert {path["delivery_id"] for path in pulled().json["fetched"]} == {
        back["delivery_id"],
        *(delivery["delivery_id"] for delivery in [_last(sender)]),
    }
    sender.day = 3
    sender.deliver([("1", "b")], kind="backfill", folder="backfill-0123456789ab", stem="user.g1.0.r1", redelivers=back["delivery_id"])
    assert len(pulled().json["fetched"]) == 1


def _last(sender: Sender) -> dict[str, str]:
    found: dict[str, str] = json.loads((sender.root / "2026/06/01/user/user.g1.1.r1.manifest.json").read_text())
    return found


def test_what_was_moved_away_after_loading_is_not_fetched_again(source: tuple[Sender, Pull], tmp_path: Path) -> None:
    sender, pulled = source
    sender.deliver([("1", "x")], kind="full")
    pulled()
    well("load", tmp_path / "copy", "--to", f"sqlite:{tmp_path}/x")
    shutil.rmtree(tmp_path / "copy" / "exports")
    assert pulled().json["fetched"] == []
    sender.day = 1
    sender.deliver([("1", "y")])
    assert [path["sequence"] for path in pulled().json["fetched"]] == [2]


def test_a_lost_position_costs_a_look_and_no_bytes(source: tuple[Sender, Pull], tmp_path: Path) -> None:
    sender, pulled = source
    sender.deliver([("1", "x")], kind="full")
    pulled()
    (tmp_path / "copy" / ".waybill-consumer.json").unlink()
    said = pulled()
    assert (said.code, said.json["bytes"], said.json["fetched"]) == (0, 0, [])


def test_what_load_finds_damaged_here_is_fetched_once_more(source: tuple[Sender, Pull], tmp_path: Path) -> None:
    sender, pulled = source
    sender.deliver([("1", "abc")], kind="full")
    pulled()
    copy = next((tmp_path / "copy").rglob("user.csv"))
    copy.write_bytes(copy.read_bytes().replace(b"abc", b"abd"))
    said = consumer("load", tmp_path / "copy", "--to", f"sqlite:{tmp_path}/x")
    assert (said.code, "Pull once more" in said.err) == (1, True)
    assert len(pulled().json["fetched"]) == 1
    assert consumer("load", tmp_path / "copy", "--to", f"sqlite:{tmp_path}/x").code == 0


class Counting(Folder):
    """A folder that counts what it is asked for, as a server would see it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.listed = 0
        self.read_files = 0

    def lists(self, folders: Sequence[str]) -> list[Listing]:
        self.listed += len(folders)
        return super().lists(folders)

    def reads(self, paths: Sequence[str]) -> list[Answer]:
        self.read_files += len(paths)
        return super().reads(paths)


def test_the_cost_of_a_run_follows_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = Sender(tmp_path / "in")
    for day in range(120):
        sender.day = day
        for entity in ("user", "other", "third"):
            sender.deliver([("1", "x")], entity=entity, kind="delta" if day else "full")
    for _ in range(3):
        place = Counting(sender.root)
        pull(place, "x", tmp_path / "copy", Progress(shown=False))
        position = Position(tmp_path / "copy")
        position.looked_at -= 60  # a minute goes by
        position.save()
    place = Counting(sender.root)
    sender.day = 120
    sender.deliver([("1", "x")])
    report = pull(place, "x", tmp_path / "copy", Progress(shown=False))
    assert len(report.fetched) == 1
    assert place.read_files == 13  # a manifest, its file, a feed that is not there, and what the newest ten that are here are now
    assert place.listed < 140  # a date each, and none of the 360 folders of entities
    assert list(Finder(place, Position(tmp_path / "copy"), rescan=True).dates())


def test_a_password_is_never_kept_or_shown(tmp_path: Path, sshd: SftpAccess) -> None:
    Sender(sshd.root).deliver([("1", "x")], kind="full")
    url = f"sftp://{sshd.login}:PLANTED-5f0c@{sshd.host}:{sshd.port}{sshd.remote_root}"
    said = consumer("pull", url, tmp_path / "copy", "--key", sshd.private_key, "--known-hosts", sshd.known_hosts)
    assert said.code == 0
    assert "PLANTED" not in said.out + said.err + (tmp_path / "copy/.waybill-consumer.json").read_text()


def test_trouble_with_a_server_is_one_sentence(tmp_path: Path, sshd: SftpAccess) -> None:
    (tmp_path / "empty").touch()
    url = f"sftp://{sshd.login}@{sshd.host}:{sshd.port}{sshd.remote_root}"
    key, hosts = ["--key", sshd.private_key], ["--known-hosts", sshd.known_hosts]
    cases: list[tuple[list[object], str]] = [
        ([url, tmp_path / "d", *key, "--known-hosts", tmp_path / "empty"], "host key is not trusted"),
        ([url.replace(sshd.login, "stranger"), tmp_path / "d", *key, *hosts], "refuses this login"),
        ([f"{url}/nowhere", tmp_path / "d", *key, *hosts], "there is no folder"),
        ([f"sftp://{sshd.login}@127.0.0.1:1/", tmp_path / "d", *key, *hosts], "cannot be reached"),
        ([url, tmp_path / "d", "--key", tmp_path / "no-key", *hosts], "cannot be read"),
    ]
    for arguments, words in cases:
        said = consumer("pull", *arguments)
        assert (said.code, words in said.err, "Traceback" in said.err) == (1, True, False), said


def test_a_bucket_is_a_source_too(tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    sender = Sender(tmp_path / "in")
    client = s3.client()
    client.create_bucket(Bucket="deliveries")
    for day in range(2):
        sender.day = day
        sender.deliver([("1", str(day))], kind="delta" if day else "full", parts=2)
        for name, data in tree(sender.root).items():
            client.put_object(Bucket="deliveries", Key=f"exports/acme/{name}", Body=data)
        assert len(well("pull", "s3://deliveries/exports", tmp_path / "copy")["fetched"]) == 1
    assert tree(tmp_path / "copy" / "acme") == tree(sender.root)
