"""`landing: {status: true}`: a feed at the tenant's root that lists every delivery and tells how the sender stands."""

import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncssh
import pytest

from tests.deliveries.test_main_path import HOST_KEY
from tests.deliveries.test_main_path_sftp import WRITE_ONLY, connection_to
from tests.destinations.sftp_places import password_connection
from tests.installations import DAY, NOON, Place, make_place
from tests.servers.proftpd import serve_proftpd
from tests.servers.sshd import SftpAccess, serve_sshd
from waybill.connection import Connection
from waybill.deliveries import repairs
from waybill.deliveries.publishing import days
from waybill.deliveries.publishing.feed import refresh
from waybill.errors import ConflictError, PermanentError, TransientError
from waybill.ledger import destinations, feeds
from waybill.registrations.applying import apply
from waybill_demo.sftp_server import TenantFolder, new_accounts, serve

MIDNIGHT = NOON.replace(hour=0)


@pytest.fixture
def place(tmp_path) -> Iterator[Place]:
    with closing(make_place(tmp_path)) as place:
        place.tenant(landing={"status": True})
        place.clock = NOON
        place.user(1, "Ada", MIDNIGHT - DAY)
        yield place


def tenant(place: Place) -> Path:
    return place.out / "exports/acme"


def feed(place: Place) -> dict[str, Any]:
    return json.loads((tenant(place) / "feed.json").read_text())


def test_it_lists_every_delivery_of_every_kind_with_its_manifest(place):
    place.run(NOON)
    installation = place.installation()
    place.clock = NOON + DAY
    place.run(NOON + DAY)
    first = feed(place)["deliveries"][0]
    repairs.redeliver(installation, first["delivery_id"], actor="test")
    repairs.backfill(installation, "acme", "user", MIDNIGHT - 3 * DAY, MIDNIGHT, actor="test")
    place.run(NOON + DAY, full_load=True, entities=["user"])
    found = feed(place)
    assert [item["number"] for item in found["deliveries"]] == list(range(1, found["last_number"] + 1))
    assert found["last_delivery"] == found["deliveries"][-1]
    kinds = [(item["entity"], item["kind"], "redelivers" in item) for item in found["deliveries"]]
    assert sorted(kinds[:4]) == [("theme", "full", False)] * 2 + [("user", "delta", False), ("user", "full", False)]
    assert kinds[4:] == [(first["entity"], "full", True), ("user", "backfill", False), ("user", "full", False)]
    for delivery in found["deliveries"]:
        manifest = json.loads((tenant(place) / delivery["manifest"]).read_text())
        assert {name: manifest[name] for name in ("delivery_id", "kind", "generation", "sequence", "rows", "bytes", "window")} == {
            **{name: delivery[name] for name in ("delivery_id", "kind", "generation", "sequence", "rows", "bytes")},
            "window": manifest["window"],
        }
    assert (tenant(place) / "_README.txt").read_text().startswith("These files are written by Waybill")


class CutsAtTheReadme(TenantFolder):
    def rename(self, oldpath: bytes, newpath: bytes) -> Any:
        if newpath.endswith(b"_README.txt"):
            self.connection.abort()
            return
        super().rename(oldpath, newpath)


def test_a_connection_lost_at_the_explanation_does_not_keep_it_away_for_ever(place, tmp_path):
    place.tenant(landing={"status": True}, destination={"kind": "sftp", "connection": "acme_sftp", "root": "/"})
    accounts = new_accounts(["acme"])
    for view in (CutsAtTheReadme, TenantFolder):
        with serve(accounts, tmp_path / "tenants", tmp_path / "state", view=view) as server:
            place.connections["acme_sftp"] = password_connection(server)
            with nullcontext() if view is TenantFolder else pytest.raises(TransientError):
                place.run(NOON)
    assert (tmp_path / "tenants/acme/exports/acme/_README.txt").exists()


class RefusesTexts(TenantFolder):
    def rename(self, oldpath: bytes, newpath: bytes) -> Any:
        if newpath.endswith(b".txt"):
            raise asyncssh.SFTPPermissionDenied("only data here")
        super().rename(oldpath, newpath)


def test_a_server_that_refuses_the_explanation_says_so_once_and_has_the_feed(place, tmp_path):
    place.tenant(landing={"status": True}, destination={"kind": "sftp", "connection": "acme_sftp", "root": "/"})
    with serve(new_accounts(["acme"]), tmp_path / "tenants", tmp_path / "state", view=RefusesTexts) as server:
        place.connections["acme_sftp"] = password_connection(server)
        with pytest.raises(PermanentError, match="only data here"):
            place.run(NOON)
        place.run(NOON)
    home = tmp_path / "tenants/acme/exports/acme"
    assert ((home / "feed.json").exists(), (home / "_README.txt").exists()) == (True, False)


def test_nobody_who_did_not_ask_for_it_gets_one(tmp_path):
    with closing(make_place(tmp_path)) as place:
        place.tenant()
        place.run(NOON)
        assert {path.name for path in tenant(place).iterdir()} == {"2026"}


def test_it_tells_what_is_due_and_what_is_wrong_without_a_word_of_the_house(place):
    place.run(NOON)
    found = feed(place)
    assert (found["problem"], found["frequency"], found["timezone"]) == (None, "daily", "UTC")
    assert NOON.isoformat() < found["next_due"] < found["late_after"]
    place.clock = NOON + DAY
    place.sql('alter table "user" rename to moved')
    place.run(NOON + DAY)
    found = feed(place)
    assert found["problem"].startswith("user: ")
    assert found["complete_until"] == "2026-05-31T00:00:00.000000Z"
    assert not [word for word in ("duckdb", str(place.root)) if word in json.dumps(found)]
    place.sql('alter table moved rename to "user"')
    place.run(NOON + DAY)
    assert feed(place)["problem"] is None


CHANGED = {
    "switched off": ({"exportOption": "disable export"}, {"next_due": None, "late_after": None, "entities": []}),
    "seldom": ({"frequency": "monthly"}, {"next_due": "2026-07-01T01:59:00.000000Z", "late_after": "2026-07-01T04:59:00.000000Z"}),
    "fewer": ({"entityList": ["user"]}, {"entities": ["user"]}),
    "elsewhere": ({"timezone": "Asia/Tokyo"}, {"next_due": "2026-06-01T16:59:00.000000Z", "timezone": "Asia/Tokyo"}),
}


@pytest.mark.parametrize("change", CHANGED)
def test_a_changed_registration_is_told_although_no_run_comes(place, change):
    place.run(NOON)
    assert feed(place)["entities"] == ["theme", "user"]
    body, told = CHANGED[change]
    place.clock = NOON + DAY
    place.tenant(landing={"status": True}, **body)
    installation = place.installation()
    apply(installation, actor="test", allow_mass_deactivation=True)
    assert list(refresh(installation)) == []
    found = feed(place)
    assert {name: found[name] for name in told} == told
    assert found["last_number"] == 2
    (tenant(place) / "feed.json").write_text(json.dumps(found | {"written_at": "before"}))
    assert list(refresh(installation)) == []
    assert feed(place)["written_at"] == "before"


def test_a_feed_leaves_a_dead_destination_alone_for_a_while_as_runs_do(place):
    place.run(NOON)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        extra = {"host_key": HOST_KEY}
        place.connections["nowhere"] = Connection("nowhere", "sftp", "127.0.0.1", closed.getsockname()[1], "u", password="p", extra=extra)
        place.clock = NOON + DAY
        place.tenant(landing={"status": True}, destination={"kind": "sftp", "connection": "nowhere"})
        apply(place.installation(), actor="test")
        codes = [[error.code for error in refresh(place.installation())] for _ in range(6)]
    assert codes == [["unreachable"]] * 5 + [["destination_paused"]]


def test_a_full_thousand_becomes_a_page_that_never_changes(place):
    place.run(NOON)
    installation = place.installation()
    with installation.ledger.begin() as connection:
        item = feeds.find(connection, "acme")
        made_up = [(f"{number:032x}", json.dumps({"number": number})) for number in range(item.last + 1, 2300)]
        assert feeds.give_numbers(connection, item, made_up)
    place.clock = NOON + DAY
    place.run(NOON + DAY)
    found = feed(place)
    assert [(page["first"], page["last"]) for page in found["pages"]] == [(1, 1000), (1001, 2000)]
    before = {page["path"]: (tenant(place) / page["path"]).read_bytes() for page in found["pages"]}
    assert [len(data) for data in before.values()] == [page["bytes"] for page in found["pages"]]
    numbers = [delivery["number"] for data in before.values() for delivery in json.loads(data)["deliveries"]]
    assert numbers + [delivery["number"] for delivery in found["deliveries"]] == list(range(1, found["last_number"] + 1))
    place.clock = NOON + 2 * DAY
    place.run(NOON + 2 * DAY)
    assert {path: (tenant(place) / path).read_bytes() for path in before} == before
    assert feed(place)["pages"] == found["pages"]


def test_it_starts_over_where_the_ledger_does_not_know_what_stands_there(place):
    place.run(NOON)
    older = place.root / "older"
    shutil.copytree(place.root / ".waybill", older)
    place.clock = NOON + DAY
    place.run(NOON + DAY)
    first = feed(place)
    place.close()
    shutil.rmtree(place.root / ".waybill")
    shutil.copytree(older, place.root / ".waybill")
    days.publish_listings(place.installation(), "acme")
    again = feed(place)
    assert again["feed"] != first["feed"]
    assert (first["last_number"], again["last_number"]) == (4, 2)


def test_at_another_destination_it_lists_what_stands_there(place):
    place.run(NOON)
    place.tenant(landing={"status": True}, destination={"kind": "folder", "root": "elsewhere"})
    place.clock = NOON + DAY
    place.run(NOON + DAY)
    there = place.root / "elsewhere/exports/acme"
    listed = json.loads((there / "feed.json").read_text())["deliveries"]
    assert [delivery["number"] for delivery in listed] == [1, 2]
    assert all((there / item["manifest"]).exists() for item in listed)


def test_one_that_is_wanted_no_more_is_taken_away(place):
    place.run(NOON)
    place.tenant()
    place.run(NOON)
    assert not (tenant(place) / "feed.json").exists()


def test_somebody_elses_file_is_left_alone(place):
    tenant(place).mkdir(parents=True)
    (tenant(place) / "feed.json").write_text('{"version": "https://jsonfeed.org/version/1.1"}')
    with pytest.raises(ConflictError, match=r"^tenant acme, feed: .*not a feed of this tenant"):
        place.run(NOON)
    assert "jsonfeed" in (tenant(place) / "feed.json").read_text()


@pytest.mark.parametrize("house", [True, False])
def test_policy_switches_it_on_and_a_tenant_decides_for_itself(place, house):
    place.write("policy.yaml", {"landing": {"status": house}})
    place.tenant()
    place.run(NOON)
    assert (tenant(place) / "feed.json").exists() is house
    place.tenant(landing={"status": not house})
    place.run(NOON)
    assert (tenant(place) / "feed.json").exists() is not house


def to_server(place: Place, server: SftpAccess) -> Path:
    """Deliver over SFTP; returns the tenant's folder as it is on this machine."""
    place.connections["consumer"] = connection_to(server)
    root = {"kind": "sftp", "connection": "consumer", "root": server.remote_root}
    place.tenant(destination=root, landing={"status": True})
    return server.root / "exports/acme"


def pages(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((folder / "feed").rglob("page-*.json"))]


@pytest.mark.parametrize("server", ["sshd", "proftpd"])
def test_over_sftp_it_is_replaced_by_one_rename(place, request, server):
    folder = to_server(place, request.getfixturevalue(server))
    for day in range(3):
        place.clock = NOON + day * DAY
        assert not [str(result.error) for result in place.run(place.clock) if result.error]
        found = json.loads((folder / "feed.json").read_text())
        assert [delivery["number"] for delivery in found["deliveries"]] == list(range(1, 2 * day + 3))
    assert {path.name for path in folder.iterdir()} == {"2026", "feed.json", "_README.txt"}


def test_a_server_that_forbids_to_ask_an_open_file_for_its_size_is_read_all_the_same(place):
    with serve_sshd(sftp_options="-P fstat") as server:
        folder = to_server(place, server)
        for day in range(2):
            place.clock = NOON + day * DAY
            assert [result.error for result in place.run(place.clock)] == [None, None]
        assert json.loads((folder / "feed.json").read_text())["last_number"] == 4


def test_where_nothing_can_be_replaced_there_are_numbered_pages_only(place):
    with serve_sshd(sftp_options="-P posix-rename") as server:
        folder = to_server(place, server)
        place.run(NOON)
        place.run(NOON)  # nothing is new, so nothing is written
        place.clock = NOON + DAY
        place.sql('alter table "user" rename to moved')
        place.run(NOON + DAY)
        place.sql('alter table moved rename to "user"')
        place.run(NOON + DAY)
        assert {path.name for path in folder.iterdir()} == {"2026", "feed", "_README.txt"}
        place.write("tenants/acme.yaml", place.installation().registered("acme").body | {"exportOption": "disable export"})
        apply(place.installation(), actor="test", allow_mass_deactivation=True)
        assert list(refresh(place.installation())) == []
        found = pages(folder)
    assert [(page["page"], page["first"], page["last"]) for page in found] == [(1, 1, 2), (2, 3, 3), (3, 4, 4), (4, 5, 4)]
    assert [bool(page["problem"]) for page in found] == [False, True, False, False]
    assert [page["next_due"] is None for page in found] == [False, False, False, True]
    assert [delivery["number"] for page in found for delivery in page["deliveries"]] == [1, 2, 3, 4]


def test_a_drop_box_gets_pages_under_names_of_their_own(place):
    with serve_proftpd(directory=WRITE_ONLY) as server:
        folder = to_server(place, server)
        for inner in ("feed", "2026/05/31/user", "2026/05/31/theme"):
            (folder / inner).mkdir(parents=True)
        for path in [server.root / "exports", *(server.root / "exports").rglob("*")]:
            path.chmod(0o777)
        installation = place.installation()
        apply(installation, actor="test")
        with installation.ledger.begin() as connection:
            destinations.store_probe(connection, "acme", {"profile": "dropbox"}, NOON)
        assert not [str(result.error) for result in place.run(NOON) if result.error]
        assert [(page["first"], page["last"]) for page in pages(folder)] == [(1, 2)]
        assert (folder / "_README.txt").exists()


def test_in_a_bucket_it_is_replaced_in_one_step(place, s3):
    bucket = f"bucket-{uuid4().hex}"
    s3.client().create_bucket(Bucket=bucket)
    extra = {"endpoint_url": s3.endpoint, "region_name": s3.region}
    place.connections["lake"] = Connection("lake", "aws", login=s3.access_key, password=s3.secret_key, extra=extra)
    place.tenant(destination={"kind": "s3", "bucket": bucket, "connection": "lake"}, landing={"status": True})
    for day in range(2):
        place.clock = NOON + day * DAY
        assert not [str(result.error) for result in place.run(place.clock) if result.error]
        found = json.loads(s3.client().get_object(Bucket=bucket, Key="exports/acme/feed.json")["Body"].read())
        assert [delivery["number"] for delivery in found["deliveries"]] == list(range(1, 2 * day + 3))
    keys = [stored["Key"] for stored in s3.client().list_objects_v2(Bucket=bucket)["Contents"]]
    assert not [key for key in keys if key.endswith(".part")]


def test_a_server_that_is_down_is_told_with_its_deliveries_and_the_next_run_writes_the_feed(place, sshd):
    folder = to_server(place, sshd)
    good = place.connections["consumer"]
    place.connections["consumer"] = Connection("consumer", "sftp", good.host, 1, good.login, extra=good.extra)
    assert {result.error.code for result in place.run(NOON) if result.error} == {"unreachable"}
    place.connections["consumer"] = good
    place.run(NOON)
    assert json.loads((folder / "feed.json").read_text())["last_number"] == 2
