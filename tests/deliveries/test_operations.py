"""Verify, probe and housekeeping at real destinations."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.destinations.sftp_places import key_connection, password_connection
from tests.installations import DAY, NOON, Place, make_place
from tests.servers.process import free_port
from tests.servers.sshd import SftpAccess, serve_sshd
from waybill import housekeeping
from waybill.connection import Connection
from waybill.deliveries.publishing import rehearsing
from waybill.deliveries.recovery import reconciling
from waybill.deliveries.reports import describing
from waybill.destinations import Profile
from waybill.errors import PermanentError, TransientError
from waybill.files import places
from waybill.ledger import destinations
from waybill.ledger.database.engine import new_id
from waybill.registrations import applying
from waybill.registrations.replacing import replace
from waybill_demo.sftp_server import new_accounts, serve

MIDNIGHT = NOON.replace(hour=0)
SFTP = {"kind": "sftp", "connection": "acme_sftp", "root": "/"}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with closing(make_place(tmp_path / "place")) as place:
        place.user(1, "Ada", MIDNIGHT - 2 * DAY)
        yield place


def no_connections(name: str) -> Connection:
    raise AssertionError(f"{name} was looked up")


def test_what_waybill_delivers_its_own_check_accepts(place: Place) -> None:
    place.tenant(csv={"compression": "zstd", "max_rows_per_file": 2, "line_ending": "crlf", "bom": True, "delimiter": ";"})
    for number in range(2, 7):
        place.user(number, 'a "quoted";\nname', MIDNIGHT - DAY)
    for day in range(3):
        place.run(NOON + day * DAY)
        place.user(10 + day, "late", MIDNIGHT + day * DAY + timedelta(hours=2))
    report = places.verify(str(place.out), no_connections)
    assert (report.problems, report.notes) == ([], [])
    assert (report.manifests, report.rows) == (6, 6 + 1 + 1)


def test_verify_reads_an_sftp_place_by_connection_and_by_address(place: Place, tmp_path: Path) -> None:
    with serve(new_accounts(["acme"]), tmp_path / "tenants", tmp_path / "state") as server:
        place.connections["acme_sftp"] = password_connection(server)
        place.tenant(destination=SFTP)
        place.run(NOON)
        lookup = place.connections.__getitem__
        for where in ("sftp:acme_sftp", "sftp:acme_sftp/exports/acme/2026", "sftp://acme_sftp/exports"):
            assert places.verify(where, lookup).manifests == 2
        address = f"sftp://acme@{server.host}:{server.port}/exports"
        assert places.verify(address, lookup, connection="acme_sftp").problems == []
        damaged = tmp_path / "tenants/acme/exports/acme/2026/05/31/user/user.csv"
        damaged.write_bytes(damaged.read_bytes()[:-1])
        assert not places.verify("sftp:acme_sftp", lookup).is_whole


def test_verify_reads_openssh_with_a_key_and_known_hosts(
    place: Place, sshd: SftpAccess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.connections["acme_sftp"] = key_connection(sshd)
    place.tenant(destination={**SFTP, "root": sshd.remote_root})
    place.run(NOON)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    shutil.copy(sshd.known_hosts, tmp_path / ".ssh" / "known_hosts")
    address = f"sftp://{sshd.login}@{sshd.host}:{sshd.port}{sshd.remote_root}"
    assert places.verify(address, no_connections, key=sshd.private_key).manifests == 2
    with pytest.raises(PermanentError, match=r"~/.ssh holds none of id_ed25519"):
        places.verify(address, no_connections)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("nowhere", "'nowhere' is not a folder"),
        ("sftp:", "names no connection"),
        ("sftp://a:secret@host/x", "the location holds a password"),
        ("sftp://a@host:port/x", "is not a location"),
    ],
)
def test_a_place_that_cannot_be_meant_is_refused(where: str, message: str) -> None:
    with pytest.raises(PermanentError, match=message) as caught:
        places.verify(where, no_connections)
    assert "secret@" not in str(caught.value)


def test_probe_finds_and_keeps_the_profile(place: Place, sshd: SftpAccess) -> None:
    place.connections["acme_sftp"] = key_connection(sshd)
    place.tenant(destination={**SFTP, "root": sshd.remote_root})
    installation = place.installation()
    applying.apply(installation, actor="test")
    found = rehearsing.probe(installation, "acme")
    assert found.profile == "full"
    with installation.ledger.begin() as connection:
        assert destinations.profile(connection, "acme") == "full"
        kept = destinations.last_probe(connection, "acme")
    assert kept is not None
    assert kept.found is not None
    assert kept.found["advice"].startswith("Nothing to do")
    assert not list(sshd.root.iterdir())


def test_a_destination_that_cannot_be_used_says_why_and_keeps_the_last_result(place: Place) -> None:
    with serve_sshd(sftp_options="-R") as server:
        place.connections["acme_sftp"] = key_connection(server)
        place.tenant(destination={**SFTP, "root": server.remote_root})
        installation = place.installation()
        applying.apply(installation, actor="test")
        with pytest.raises(PermanentError, match="could not"):
            rehearsing.probe(installation, "acme")
        with installation.ledger.begin() as connection:
            kept = destinations.last_probe(connection, "acme")
            assert destinations.profile(connection, "acme") is None
        assert kept is not None
        assert kept.failed is not None
        assert "could not" in kept.failed["what"]


def plant(folder: Path, name: str, age: timedelta) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(b"half a file")
    os.utime(path, ((datetime.now(UTC) - age).timestamp(),) * 2)
    return path


def test_housekeeping_removes_old_parts_of_unknown_attempts_and_nothing_else(place: Place) -> None:
    place.run(NOON)
    before = place.files()
    day = place.out / "exports/acme/2026/05/31"
    dead = [
        plant(day / "user", f".user.csv.{new_id()}.part", 2 * DAY),
        plant(day / "user" / f".parts.{new_id()}.part", "user-0001.csv", 2 * DAY),
        plant(place.out / "exports/acme" / f".waybill-probe.{new_id()}.part", "final", 3 * DAY),
    ]
    for path in dead[1:]:
        os.utime(path.parent, ((datetime.now(UTC) - 2 * DAY).timestamp(),) * 2)
    kept = [
        plant(day / "user", f".user.csv.{new_id()}.part", timedelta(hours=2)),
        plant(day / "user", ".user.csv.mine.part", 9 * DAY),
        plant(day / "user", "foreign.csv", 9 * DAY),
        plant(place.out / "exports/globex", f".x.{new_id()}.part", 9 * DAY),
    ]
    done = housekeeping.housekeeping(place.installation())
    assert (done.parts, done.failed) == (3, {})
    assert place.files() == sorted([*before, *(str(path.relative_to(place.out)) for path in kept)])
    assert not dead[1].parent.exists()


def test_housekeeping_goes_on_where_a_worker_removes_its_spool_meanwhile(place: Place) -> None:
    installation = place.installation()
    ended = threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            spool = installation.settings.spool_dir / new_id()
            spool.mkdir(parents=True)
            for number in range(50):
                (spool / str(number)).touch()
            shutil.rmtree(spool)

    with ThreadPoolExecutor() as pool:
        worker = pool.submit(come_and_go)
        try:
            for _ in range(30):
                assert housekeeping.housekeeping(installation).spools == 0
        finally:
            ended.set()
        worker.result(10)


def test_housekeeping_keeps_the_part_of_a_young_attempt_whose_delivery_is_open(place: Place) -> None:
    place.user(1, "Ada", MIDNIGHT - 2 * DAY, table="theme")
    foreign = plant(place.out / "exports/acme/2026/05/31/user", "user.csv", DAY)
    place.run(NOON)
    installation = place.installation()
    attempt = new_id()
    part = plant(foreign.parent, f".user.csv.{attempt}.part", 2 * DAY)
    with installation.ledger.begin() as connection:
        connection.exec_driver_sql(
            "insert into attempt (id, delivery, window_to, snapshot_time, schema_version, columns, facts, files, rows, bytes, sha256,"
            " possible_duplicate, recorded_at)"
            f" select '{attempt}', id, planned_to, planned_to, 1, '[]', '{{}}', '[]', 0, 0, '', false, created_at"
            " from delivery where status = 'open'"
        )
    assert housekeeping.housekeeping(installation).parts == 0
    foreign.unlink()
    place.run(NOON)
    assert housekeeping.housekeeping(place.installation()).parts == 1
    assert not part.exists()


def test_the_servers_clock_decides_what_is_old_over_sftp(place: Place, sshd: SftpAccess) -> None:
    place.connections["acme_sftp"] = key_connection(sshd)
    place.tenant(destination={**SFTP, "root": sshd.remote_root})
    place.run(NOON)
    folder = sshd.root / "exports/acme/2026/05/31/user"
    old, young = plant(folder, f".user.csv.{new_id()}.part", 2 * DAY), plant(folder, f".user.csv.{new_id()}.part", timedelta(hours=20))
    place.clock = datetime.now(UTC) + 400 * DAY  # this machine's clock runs wild, the server's does not
    done = housekeeping.housekeeping(place.installation())
    assert (done.parts, old.exists(), young.exists()) == (1, False, True)


def test_one_tenants_dead_destination_does_not_stop_the_others(place: Place) -> None:
    refused = Connection("dead_sftp", "sftp", "127.0.0.1", free_port(), "a", password="x", extra={"host_key": f"ssh-ed25519 {KEY}"})
    place.connections["dead_sftp"] = refused
    place.tenant("aaa", destination={**SFTP, "connection": "dead_sftp"})
    place.run(NOON)
    part = plant(place.out / "exports/acme", f".x.{new_id()}.part", 2 * DAY)
    done = housekeeping.housekeeping(place.installation())
    assert list(done.failed) == ["aaa"]
    assert "dead_sftp" in done.failed["aaa"]
    assert done.parts == 1
    assert not part.exists()


def test_a_tenant_uses_no_session_of_another_at_a_server_that_it_may_not_reach(place: Place, sshd: SftpAccess) -> None:
    """`globex` named the destination in a call of its own, so it reaches no inner address, whoever opened a session there before."""
    place.connections["acme_sftp"] = key_connection(sshd)
    there = {**SFTP, "root": sshd.remote_root}
    place.write("policy.yaml", {"api_destinations": "any"})
    place.tenant(destination=there)
    place.run(NOON)
    replace(place.installation(), "globex", {"entityList": ["user"], "destination": there}, actor="api:someone")
    done = housekeeping.housekeeping(place.installation())
    assert list(done.failed) == ["globex"]
    installation = place.installation()
    acme, globex = (installation.registered(tenant) for tenant in ("acme", "globex"))
    with installation.kept_open(), installation.session(acme), pytest.raises(PermanentError) as refused, installation.session(globex):
        pass
    assert refused.value.code == "private_address"


def test_each_tenant_at_one_server_works_by_its_own_rehearsal(place: Place, sshd: SftpAccess) -> None:
    place.connections["acme_sftp"] = key_connection(sshd)
    for tenant in ("acme", "globex", "initech"):
        place.tenant(tenant, destination={**SFTP, "root": sshd.remote_root})
    installation = place.installation()
    applying.apply(installation, actor="test")
    with installation.ledger.begin() as connection:
        destinations.store_probe(connection, "globex", {"profile": "pickup"}, NOON)
    with installation.kept_open(), ExitStack() as stack:
        acme, globex, initech = (
            stack.enter_context(installation.session(installation.registered(tenant))) for tenant in ("acme", "globex", "initech")
        )
        assert (acme.profile, globex.profile) == (Profile.FULL, Profile.PICKUP)
        assert initech is acme
    with installation.ledger.begin() as connection:
        destinations.store_probe(connection, "globex", {"profile": "unknown"}, NOON)
    assert list(housekeeping.housekeeping(installation).failed) == ["globex"], "what nobody can read stops no other tenant"


KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIPN+5fLzfmqnYt/JC0tRqYIIKLZ5cgZrS0WKsD+9bXXr"


def test_a_tenant_that_left_with_its_connection_is_no_failure(place: Place) -> None:
    place.tenant("aaa", exportOption="disable export", destination={**SFTP, "connection": "gone_sftp"})
    place.run(NOON)
    applying.apply(place.installation(), actor="test")
    assert housekeeping.housekeeping(place.installation()).failed == {}


def test_delivered_files_past_their_keeping_go_and_a_changed_one_stays(place: Place) -> None:
    place.write("policy.yaml", {"destination_days": 30})
    place.run(NOON)
    place.run(NOON + DAY)
    changed = place.out / "exports/acme/2026/05/31/user/user.csv"
    changed.write_bytes(b"somebody else's")
    assert housekeeping.housekeeping(place.installation()).files == 0
    place.clock = datetime.now(UTC) + 31 * DAY
    done = housekeeping.housekeeping(place.installation())
    assert done.foreign == ["/exports/acme/2026/05/31/user/user.csv"]
    assert done.files == 3 + 4 + 1
    assert place.files() == ["exports/acme/2026/05/31/user/user.csv", "exports/acme/2026/05/31/user/user.manifest.json"]


def test_deliveries_that_were_brought_back_go_too_however_their_manifests_are_spelt(place: Place) -> None:
    place.write("policy.yaml", {"destination_days": 30})
    place.run(NOON)
    for path, body in place.manifests():
        path.write_text(json.dumps(body))  # as another version may have spelt it
    place.close()
    shutil.rmtree(place.root / ".waybill")
    installation = place.installation()
    applying.apply(installation, actor="test")
    assert reconciling.reconcile(installation, "acme", actor="test").problems == []
    place.clock = datetime.now(UTC) + 31 * DAY
    assert housekeeping.housekeeping(place.installation()).foreign == []
    assert place.files() == []


def test_nothing_delivered_is_removed_unless_policy_says_so(place: Place) -> None:
    place.run(NOON)
    before = place.files()
    place.clock = datetime.now(UTC) + 4000 * DAY
    assert housekeeping.housekeeping(place.installation()).files == 0
    assert place.files() == before


def test_a_broken_policy_keeps_everything(place: Place) -> None:
    place.run(NOON)
    place.write("policy.yaml", {"archive_day": 30})
    place.clock = datetime.now(UTC) + 20 * DAY
    with pytest.raises(PermanentError, match="archive_days"):
        housekeeping.housekeeping(place.installation())
    assert len(list((place.root / ".waybill/archive/deliveries").iterdir())) == 2


def test_a_spool_that_cannot_be_read_keeps_housekeeping_from_nothing_else(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where somebody ran a command under another account."""
    spool = place.root / ".waybill/spool"
    foreign, own = sorted((new_id(), new_id()))
    for name in (foreign, own):
        plant(spool / name, "user.csv", 2 * DAY)
    listed = Path.iterdir

    def refused(folder: Path) -> Iterator[Path]:
        if folder.name == foreign:
            raise PermissionError(13, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", refused)
    place.clock = datetime.now(UTC) + 2 * DAY
    done = housekeeping.housekeeping(place.installation())
    assert done.failed == {foreign: f"spool {foreign}: cannot be read: Permission denied"}
    assert (spool / foreign).exists()
    assert not (spool / own).exists()


def test_archived_bytes_and_forgotten_spools_go_when_their_time_is_up(place: Place) -> None:
    place.run(NOON)
    spool, archive = place.root / ".waybill/spool", place.root / ".waybill/archive/deliveries"
    plant(spool / new_id(), "user.csv", 2 * DAY)
    plant(spool / "not-ours", "user.csv", 2 * DAY)
    assert len(list(archive.iterdir())) == 2
    place.clock = datetime.now(UTC) + 6 * DAY
    assert (done := housekeeping.housekeeping(place.installation())).archives == 0
    assert done.spools == 1
    assert [path.name for path in spool.iterdir()] == ["not-ours"]
    place.clock = datetime.now(UTC) + 8 * DAY
    assert housekeeping.housekeeping(place.installation()).archives == 2
    assert not list(archive.iterdir())


def test_a_spool_left_between_commit_and_archive_is_archived(place: Place) -> None:
    place.run(NOON)
    installation = place.installation()
    delivery = next(item for item in describing.listed(installation, "acme") if item["entity"] == "user")
    with installation.ledger.begin() as connection:
        adopted = connection.exec_driver_sql(f"select adopted from delivery where id = '{delivery['delivery_id']}'").scalar_one()
    archive = place.root / ".waybill/archive/deliveries" / delivery["delivery_id"]
    shutil.move(archive, place.root / ".waybill/spool" / adopted)
    place.clock = datetime.now(UTC) + 2 * DAY
    assert housekeeping.housekeeping(place.installation()).spools == 1
    assert (archive / "user.csv").is_file() or list(archive.iterdir())


def test_what_is_stuck_is_reported(place: Place) -> None:
    foreign = plant(place.out / "exports/acme/2026/05/31/user", "user.csv", DAY)
    place.run(NOON)
    place.clock = datetime.now(UTC) + 2 * DAY
    done = housekeeping.housekeeping(place.installation())
    assert [(item.tenant, item.entity) for item in done.stale] == [("acme", "user")]
    assert json.loads(json.dumps(done.as_json()))["stale"][0]["error"]
    assert foreign.exists()


def test_an_unreachable_place_to_verify_is_told_as_such(tmp_path: Path) -> None:
    gone = Connection("gone", "sftp", "127.0.0.1", free_port(), "a", password="x", extra={"host_key": f"ssh-ed25519 {KEY}"})
    with pytest.raises(TransientError, match="could not connect"):
        places.verify("sftp:gone", lambda _: gone)
