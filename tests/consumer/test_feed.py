"""`pull` follows the sender's feed where there is one: it finds everything without a walk, and `status` tells an outage from quiet."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.consumer.copies import consumer, well
from tests.deliveries.test_main_path_sftp import connection_to
from tests.installations import DAY, NOON, Place, make_place
from tests.servers.sshd import serve_sshd
from waybill.connection import Connection
from waybill.deliveries import repairs
from waybill.ledger import destinations
from waybill.registrations.applying import apply
from waybill_consumer.places import Entry
from waybill_consumer.places.folder import Folder
from waybill_consumer.progress import Progress
from waybill_consumer.pull.explaining import Pulled
from waybill_consumer.pull.pulling import pull
from waybill_demo.sftp_server import TenantFolder, new_accounts, serve

MIDNIGHT = NOON.replace(hour=0)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A sender whose clock is that of this machine, so that what its feed promises is in the future; 40 days are delivered."""
    with closing(make_place(tmp_path / "sender")) as place:
        place.tenant(landing={"status": True})
        place.user(1, "Ada", MIDNIGHT - DAY)
        yield place


def send(place: Place, days: int) -> datetime:
    """Deliver so many days up to today; returns the last instant."""
    now = datetime.now(UTC)
    for back in reversed(range(days)):
        place.run(now - back * DAY)
    return now


class Counting(Folder):
    """A folder that counts what it is asked for."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.listed: list[str] = []

    def lists(self, folders: Sequence[str]) -> list[list[Entry]]:
        self.listed += folders
        return super().lists(folders)


def fetch(place: Place, copy: Path) -> tuple[Pulled, list[str]]:
    source = Counting(place.out / "exports/acme")
    report = pull(source, "x", copy, Progress(shown=False))
    return report, source.listed


def manifests(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*MANIFEST*.json")} | {
        str(path.relative_to(root)) for path in root.rglob("*.manifest.json")
    }


def test_everything_is_found_by_the_feed_also_what_was_added_to_past_dates(place: Place, tmp_path: Path) -> None:
    send(place, 4)
    copy, folder = tmp_path / "copy", place.out / "exports/acme"
    assert len(fetch(place, copy)[0].fetched) == 8
    assert manifests(copy) == manifests(folder)
    report, listed = fetch(place, copy)
    assert (report.fetched, listed) == ([], ["/"])
    first = json.loads((folder / "feed.json").read_text())["deliveries"][0]
    installation = place.installation()
    repairs.redeliver(installation, first["delivery_id"], actor="test")
    until = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - 3 * DAY
    repairs.backfill(installation, "acme", "user", until - DAY, until, actor="test")
    report, listed = fetch(place, copy)
    assert sorted(path["kind"] for path in report.fetched) == ["backfill", "full"]
    assert len(listed) == 2  # the root, and the date both were added to
    assert manifests(copy) == manifests(folder)
    assert fetch(place, copy)[0].fetched == []
    assert well("verify", copy)["whole"] is True


def test_what_could_not_be_fetched_is_tried_again(place: Place, tmp_path: Path) -> None:
    send(place, 3)
    copy, folder = tmp_path / "copy", place.out / "exports/acme"
    second = next(delivery for delivery in json.loads((folder / "feed.json").read_text())["deliveries"] if delivery["sequence"] == 2)
    path = folder / second["manifest"].replace(".manifest.json", ".csv")
    whole = path.read_bytes()
    path.write_bytes(whole + b"!")
    report, _ = fetch(place, copy)
    assert len(report.fetched) == 4
    assert report.problems
    path.write_bytes(whole)
    report, _ = fetch(place, copy)
    assert ([item["sequence"] for item in report.fetched], report.problems) == ([2, 3], [])
    assert manifests(copy) == manifests(folder)
    assert fetch(place, copy)[0].fetched == []


def test_a_number_that_was_taken_away_is_a_gap_and_said_so(place: Place, tmp_path: Path) -> None:
    send(place, 3)
    folder = place.out / "exports/acme"
    second = next(delivery for delivery in json.loads((folder / "feed.json").read_text())["deliveries"] if delivery["sequence"] == 2)
    gone = (folder / second["manifest"]).parent
    gone.rename(tmp_path / "kept")
    report, _ = fetch(place, tmp_path / "copy")
    assert "sequence 2 of" in report.problems[0]["what"]
    (tmp_path / "kept").rename(gone)
    report, _ = fetch(place, tmp_path / "copy")
    assert ([path["sequence"] for path in report.fetched], report.problems) == ([2, 3], [])


@pytest.mark.parametrize("damage", ["gone", "no JSON", "late", "hole"])
def test_a_feed_that_cannot_be_relied_upon_is_no_reason_to_miss_anything(place: Place, tmp_path: Path, damage: str) -> None:
    send(place, 2)
    path = place.out / "exports/acme/feed.json"
    feed: dict[str, Any] = json.loads(path.read_text())
    fetch(place, tmp_path / "copy")
    send(place, 1)
    place.tenant(landing={"status": True}, frequency="daily", timezone="Asia/Tokyo")
    place.run(datetime.now(UTC) + DAY, full_load=True)
    newest = json.loads(path.read_text())
    assert newest["last_number"] > feed["last_number"]
    if damage == "gone":
        path.unlink()
    elif damage == "no JSON":
        path.write_text("{")
    elif damage == "late":
        path.write_text(json.dumps(feed | {"late_after": "2026-01-01T00:00:00.000000Z"}))
    else:
        del newest["deliveries"][-1]
        path.write_text(json.dumps(newest))
    report, _ = fetch(place, tmp_path / "copy")
    assert len(report.fetched) == newest["last_number"] - feed["last_number"]


def test_pages_are_read_where_the_server_replaces_nothing(place: Place, tmp_path: Path) -> None:
    with serve_sshd(sftp_options="-P posix-rename") as server:
        place.connections["consumer"] = connection_to(server)
        root = {"kind": "sftp", "connection": "consumer", "root": server.remote_root}
        place.tenant(destination=root, landing={"status": True})
        source = f"sftp://{server.login}@{server.host}:{server.port}{server.remote_root}"
        options = ["--key", server.private_key, "--known-hosts", server.known_hosts, "--json"]
        for day in range(3):
            place.run(datetime.now(UTC) - (2 - day) * DAY)
            said = consumer("pull", source, tmp_path / "copy", *options)
            assert (said.code, len(said.json["fetched"])) == (0, 2)
        assert consumer("pull", source, tmp_path / "copy", *options).json["fetched"] == []
        feeds = json.loads((tmp_path / "copy/.waybill-consumer.json").read_text())["feeds"]
        assert [(feed["number"], feed["page"]) for feed in feeds.values()] == [(6, 3)]
        assert manifests(tmp_path / "copy") == manifests(server.root)


def as_a_page(feed: Path) -> None:
    """Put what a feed says into a page, as a sender writes it where it can replace nothing."""
    body = json.loads(feed.read_text())
    page = feed.parent / "feed" / body["feed"] / "page-000001.json"
    page.parent.mkdir(parents=True)
    page.write_text(json.dumps({**body, "page": 1, "first": 1, "last": body["last_number"]}))
    feed.unlink()


@pytest.mark.parametrize("source", ["exports", "exports/acme"])
@pytest.mark.parametrize("form", ["index", "pages"])
def test_a_feed_that_is_all_that_is_left_tells_what_was_taken_away(place: Place, tmp_path: Path, form: str, source: str) -> None:
    send(place, 2)
    folder = place.out / "exports/acme"
    if form == "pages":
        as_a_page(folder / "feed.json")
    well("pull", place.out / source, tmp_path / "held")
    for year in folder.glob("2*"):
        shutil.rmtree(year)
    said = consumer("pull", place.out / source, tmp_path / "late", "--json")
    assert (said.code, len(said.json["problems"])) == (1, 2)
    assert "no longer holds sequence 1 to 2 of acme/theme generation 1, which the feed lists" in said.json["problems"][0]["what"]
    assert consumer("status", tmp_path / "late", "--json").json["next_due"]
    assert well("pull", place.out / source, tmp_path / "held")["fetched"] == []


def test_a_tenant_called_feed_is_a_tenant(place: Place, tmp_path: Path) -> None:
    place.tenant("feed")
    place.run(datetime.now(UTC), tenant="feed")
    assert len(well("pull", place.out / "exports", tmp_path / "copy")["fetched"]) == 2


class Collects(TenantFolder):
    """Files are taken away when they land under a visible name, into a folder of the consumer's."""

    def rename(self, oldpath: bytes, newpath: bytes) -> Any:
        super().rename(oldpath, newpath)
        path = Path(os.fsdecode(self.map_path(newpath)))
        at = path.parts.index("exports")
        taken = Path(*path.parts[: at - 1]) / "taken" / Path(*path.parts[at:])
        taken.parent.mkdir(parents=True, exist_ok=True)
        path.rename(taken)


def test_where_files_are_taken_away_as_they_land_pages_tell_of_them(place: Place, tmp_path: Path) -> None:
    with serve(new_accounts(["acme"]), tmp_path / "tenants", tmp_path / "state", view=Collects) as server:
        said = {"host_key": server.host_key}
        place.connections["far"] = Connection("far", "sftp", server.host, server.port, "acme", password=server.accounts["acme"], extra=said)
        place.tenant(destination={"kind": "sftp", "connection": "far", "root": "/"}, landing={"status": True, "sha256sums": True})
        installation = place.installation()
        apply(installation, actor="test")
        with installation.ledger.begin() as connection:
            destinations.store_probe(connection, "acme", {"profile": "pickup"}, NOON)
        for day in range(3):
            place.user(day, "x", NOON + (day - 1) * DAY)
            assert [result.error for result in place.run(NOON + day * DAY) if result.error] == []
        [taken] = tmp_path.rglob("taken")
        assert len(list(taken.rglob("feed/*/page-*.json"))) >= 3
        assert not list(taken.rglob("feed.json"))
        answer = well("pull", taken, tmp_path / "copy")
        assert sorted({path["sequence"] for path in answer["fetched"]}) == [1, 2, 3]
        position = json.loads((tmp_path / "copy/.waybill-consumer.json").read_text())
        [feed] = position["feeds"].values()
        assert feed["number"] == len(answer["fetched"])
        assert well("verify", tmp_path / "copy")["problems"] == []


def test_status_tells_when_more_is_due_and_an_outage_from_a_quiet_day(place: Place, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    place.run(datetime.now(UTC) - DAY)
    place.sql('alter table "user" rename to moved')
    place.run(datetime.now(UTC))
    fetch(place, copy)
    outage = consumer("status", copy, "--json")
    assert outage.code == 1
    assert outage.json["outage"][0].startswith("acme: the sender said at ")
    assert "user: " in outage.json["outage"][0]
    place.sql('alter table moved rename to "user"')
    place.run(datetime.now(UTC))
    fetch(place, copy)
    said = well("status", copy)
    assert (said["outage"], said["next_due"] > datetime.now(UTC).isoformat()) == ([], True)


def test_status_notices_a_sender_that_fell_silent_and_a_pull_that_does_not_run(place: Place, tmp_path: Path) -> None:
    place.clock = datetime.now(UTC) - 3 * DAY
    place.run(place.clock)
    copy = tmp_path / "copy"
    fetch(place, copy)
    silent = consumer("status", copy, "--json")
    assert (silent.code, len(silent.json["outage"])) == (1, 1)
    assert "nothing was written since" in silent.json["outage"][0]
    path = copy / ".waybill-consumer.json"
    position = json.loads(path.read_text())
    early = (place.clock + timedelta(hours=1)).replace(tzinfo=None).isoformat(timespec="microseconds")
    path.write_text(json.dumps(position | {"pulled_at": f"{early}Z"}))
    assert "no pull has looked since" in consumer("status", copy, "--json").json["outage"][0]
