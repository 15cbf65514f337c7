"""From a pending request to an archive on disk, and what stops it on the way: real sources, files and threads."""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sqlalchemy import text

from tests.exports import MINUTE, START, Office, make_office, person
from waybill import housekeeping
from waybill.access import Caller, TokenRights
from waybill.configuration.registration import Registration
from waybill.errors import WaybillError
from waybill.installation import Installation
from waybill.ledger.on_demand import requests
from waybill.ledger.on_demand.request_records import ExportRequest, Status
from waybill.registrations import applying
from waybill.requests import following, links, upkeep
from waybill.requests.fulfilment.heartbeat import Heartbeat
from waybill.requests.fulfilment.running import fulfil
from waybill.requests.upkeep import archives_of, spool_of
from waybill.sources import Source
from waybill_demo.counter import work

DAY = timedelta(days=1)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = make_office(tmp_path)
    yield office
    office.place.close()


@dataclass(frozen=True)
class Interrupted(Installation):
    """Its request is cancelled between the claim and the publication, too late for a heartbeat to notice."""

    request: str = ""

    def source(self, name: str) -> Source:
        with self.ledger.begin() as connection:
            running = requests.get(connection, self.request)
            assert running is not None
            assert requests.cancel(connection, running, self.now())
        return super().source(name)


class Buggy(Installation):
    """Has a programming error where sources are opened."""

    def source(self, name: str) -> Source:
        raise KeyError(name)


def fulfilled(office: Office, **body: Any) -> ExportRequest:
    export = office.ask(**body)
    done = fulfil(office.installation(), export.id)
    assert done is not None
    return done


def archive(office: Office, export: ExportRequest) -> zipfile.ZipFile:
    installation = office.installation()
    link = links.mint_link(installation, person(), export.tenant, export.id)
    download = links.open_download(installation, link.token)
    assert download.path is not None
    content = download.path.read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (export.bytes, export.sha256)
    return zipfile.ZipFile(io.BytesIO(content))


def lines(office: Office, export: ExportRequest, name: str = "measurement.ndjson") -> list[dict[str, Any]]:
    return [json.loads(line) for line in archive(office, export).read(name).splitlines()]


def leftovers(office: Office) -> list[str]:
    """Every file below spool and archive."""
    below = office.place.root / ".waybill"
    return sorted(str(path.relative_to(below)) for path in below.rglob("*") if path.is_file() and "ledger" not in path.name)


def test_an_export_becomes_an_archive_whose_counts_agree_everywhere(office: Office) -> None:
    for number in range(5):
        office.measure(number)
    export = fulfilled(office, entities=["measurement", "site"], formats=["ndjson", "csv"])
    assert (export.status, export.progress, export.rows) == (Status.DONE, 100, 7)
    inside = archive(office, export)
    manifest = json.loads(inside.read("manifest.json"))
    assert {entry["path"] for entry in manifest["files"]} == {"measurement.ndjson", "measurement.csv", "site.ndjson", "site.csv"}
    for entry in manifest["files"]:
        content = inside.read(entry["path"])
        assert (entry["bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        reader = {"ndjson": "read_ndjson_auto", "csv": "read_csv"}[entry["format"]]
        local = office.place.root / entry["path"]
        local.write_bytes(content)
        assert duckdb.sql(f"select count(*) from {reader}('{local}')").fetchall() == [(entry["rows"],)]
    files = following.files_of(office.installation(), export)
    assert {(file.path, file.rows, file.sha256) for file in files} == {(e["path"], e["rows"], e["sha256"]) for e in manifest["files"]}
    assert manifest["rows"] == 7
    assert "value  decimal  What was read." in inside.read("README.txt").decode()


def test_nothing_but_the_archive_is_left_behind(office: Office) -> None:
    office.measure(1)
    export = fulfilled(office)
    assert leftovers(office) == [f"archive/requests/acme/{export.id}.1.zip"]


def test_rows_later_than_the_request_stay_out_and_are_counted(office: Office) -> None:
    office.measure(1)
    export = office.ask()
    office.measure(2, START + MINUTE)
    office.measure(3, START - DAY, updated=START + MINUTE)
    office.later(DAY)
    done = fulfil(office.installation(), export.id)
    assert done is not None
    assert [row["id"] for row in lines(office, done)] == [1]
    manifest = json.loads(archive(office, done).read("manifest.json"))
    assert manifest["entities"][0]["rows_left_out_as_later"] == 2


def test_a_row_as_old_as_the_request_stays_out_and_one_just_before_is_in(office: Office) -> None:
    office.measure(1, START)
    office.measure(2, START - timedelta(microseconds=1))
    assert [row["id"] for row in lines(office, fulfilled(office))] == [2]


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ({}, [1, 2, 3, 4]),
        ({"level": "project", "project": "p1"}, [1, 2, 4]),
        ({"level": "app", "project": "p1", "apps": ["a1", "a2"]}, [1, 2]),
        ({"level": "app", "project": "p1", "apps": "a2"}, [2]),
        ({"level": "study", "study": "s2"}, [3]),
        ({"level": "participant", "study": "s1", "participant": "person1"}, [1, 4]),
    ],
    ids=["tenant", "project", "apps", "app", "study", "participant"],
)
def test_a_scope_holds_its_rows_and_no_others(office: Office, scope: dict[str, Any], expected: list[int]) -> None:
    office.measure(1)
    office.measure(2, app_id="a2")
    office.measure(3, project_id="p2", study_id="s2")
    office.measure(4, app_id="a3")
    office.measure(5, tenant_id="globex")
    office.measure(6, deleted_at=START - DAY)
    assert [row["id"] for row in lines(office, fulfilled(office, scope=scope))] == expected


def test_a_date_range_means_whole_days_of_the_tenants_zone(office: Office) -> None:
    office.place.tenant(entityList=["measurement"], timezone="Europe/Berlin")
    applying.apply(office.installation(), actor="test")
    for number, hour in enumerate(("2026-05-09 21:59", "2026-05-09 22:00", "2026-05-10 21:59:59.999999", "2026-05-10 22:00")):
        office.measure(number, hour + "+00")  # type: ignore[arg-type]
    export = fulfilled(office, range={"from": "2026-05-10", "to": "2026-05-10"})
    assert [row["id"] for row in lines(office, export)] == [1, 2]


def test_anonymized_values_never_leave_and_agree_between_exports(office: Office) -> None:
    office.measure(1)
    first, second = (lines(office, fulfilled(office)) for _ in range(2))
    assert first == second
    assert "person1" not in json.dumps(first)


def test_an_organization_export_keeps_tenants_apart_and_takes_those_the_requester_may_export(office: Office) -> None:
    office.policy(organizations={"group": ["acme", "globex", "initech"]})
    office.measure(1)
    office.measure(2, tenant_id="globex")
    office.measure(3, tenant_id="initech")
    both = person("ada", "acme", "globex")
    export = office.ask(who=both, scope={"level": "organization"})
    done = fulfil(office.installation(), export.id)
    assert done is not None
    assert done.rows == 2
    installation = office.installation()
    download = links.open_download(installation, links.mint_link(installation, both, "acme", export.id).token)
    assert download.path is not None
    names = set(zipfile.ZipFile(download.path).namelist())
    assert names == {"manifest.json", "README.txt", "SHA256SUMS", "acme/measurement.ndjson", "globex/measurement.ndjson"}


@pytest.mark.parametrize("visibility", ["scope", "tenant", "project", "organization"])
def test_an_organization_export_is_not_there_for_people_of_one_of_its_tenants(office: Office, visibility: str) -> None:
    office.policy(organizations={"group": ["acme", "globex"]}, visibility=visibility, cancel_by=["admin"])
    export = office.ask(who=person("ada", "acme", "globex"), scope={"level": "organization"})
    installation, admin = office.installation(), person("bob", "acme", roles=("admin",))
    for call in (
        lambda: following.get_request(installation, admin, "acme", export.id),
        lambda: following.cancel(installation, admin, "acme", export.id),
        lambda: following.delete(installation, admin, "acme", [export.id]),
        lambda: links.mint_link(installation, admin, "acme", export.id),
    ):
        with pytest.raises(WaybillError) as caught:
            call()
        assert caught.value.code == "not_found"
    assert following.list_requests(installation, admin, "acme").requests == []
    whole = person("eve", "acme", "globex", roles=("admin",))
    assert following.cancel(installation, whole, "acme", export.id).status == "cancelled"
    following.delete(installation, whole, "acme", [export.id])


def test_an_organization_export_is_deleted_by_who_administers_every_tenant_in_it(office: Office) -> None:
    office.policy(organizations={"group": ["acme", "globex"]})
    export = office.ask(who=person("ada", "acme", "globex"), scope={"level": "organization"})
    installation = office.installation()

    def granted(tenant: str, roles: frozenset[str]) -> frozenset[str]:
        return frozenset({"exports.view", "exports.create"} | ({"exports.admin"} if tenant == "acme" else set()))

    half = Caller("tom", TokenRights(frozenset({"acme", "globex"}), frozenset({"read", "write"}), frozenset(), granted))
    with pytest.raises(WaybillError) as caught:
        following.delete(installation, half, "acme", [export.id])
    assert caught.value.code == "delete_denied"


def test_a_source_that_is_away_fails_the_request_with_words_and_no_archive(office: Office) -> None:
    export = office.ask()
    office.place.sql("drop table measurement")
    failed = fulfil(office.installation(), export.id, sleep=lambda seconds: None)
    assert failed is not None
    assert (failed.status, failed.error_code) == (Status.FAILED, "source_unavailable")
    assert failed.error_message
    assert failed.error_advice
    assert leftovers(office) == []
    assert office.ask().status == Status.PENDING


def test_a_busy_source_is_tried_again(office: Office) -> None:
    office.measure(1)
    export = office.ask()
    writer = duckdb.connect(str(office.place.root / "warehouse.duckdb"))
    waits: list[float] = []

    def patience(seconds: float) -> None:
        waits.append(seconds)
        writer.close()

    done = fulfil(office.installation(), export.id, sleep=patience)
    # Within one process DuckDB refuses a second way of opening a file; other processes see a lock.
    assert done is not None
    assert (done.status, len(waits)) == (Status.DONE, 1)


def test_a_request_whose_person_lost_the_right_is_not_started(office: Office) -> None:
    office.policy(roles={"exporter": ["exports.view", "exports.create"]})
    export = office.ask(who=person(roles=("exporter",), installation=office.installation()))
    office.policy(roles={"exporter": ["exports.view"]})
    failed = fulfil(office.installation(), export.id)
    assert failed is not None
    assert (failed.status, failed.error_code) == (Status.FAILED, "permission_revoked")


def test_a_request_cancelled_while_it_runs_leaves_nothing(office: Office) -> None:
    office.policy(heartbeat="1s", stall_after="10s")
    office.place.sql(
        "insert into measurement select 'acme', i, 'p1', 'a1', 's1', 'x', i, repeat('y', 300), TIMESTAMPTZ '2026-05-01 00:00:00+00',"
        " TIMESTAMPTZ '2026-05-01 00:00:00+00', null from range(200000) t(i)"
    )
    export = office.ask()
    installation, got = office.installation(), []
    worker = threading.Thread(target=lambda: got.append(fulfil(installation, export.id)))
    worker.start()
    other = office.installation()
    while following.get_request(other, person(), "acme", export.id).status == Status.PENDING:
        pass
    following.cancel(other, person(), "acme", export.id)
    worker.join(600)
    assert got == [None]
    assert following.get_request(other, person(), "acme", export.id).status == Status.CANCELLED
    assert leftovers(office) == []


def given(installation: Installation) -> dict[str, Any]:
    """What an installation is made of, to make one of another class."""
    return {field.name: getattr(installation, field.name) for field in fields(installation) if field.init}


def test_a_zombie_that_published_its_file_takes_it_away_again(office: Office) -> None:
    office.measure(1)
    export = office.ask()
    installation = Interrupted(**given(office.installation()), request=export.id)
    assert fulfil(installation, export.id) is None
    assert leftovers(office) == []
    assert following.get_request(office.installation(), person(), "acme", export.id).status == Status.CANCELLED


def test_a_bug_fails_the_request_and_is_raised(office: Office) -> None:
    office.measure(1)
    export = office.ask()
    installation = Buggy(**given(office.installation()))
    with pytest.raises(KeyError):
        fulfil(installation, export.id)
    seen = following.get_request(office.installation(), person(), "acme", export.id)
    assert (seen.status, seen.error_code) == (Status.FAILED, "internal")
    assert leftovers(office) == []


class BuggyWords(Installation):
    """Has a programming error where the words of a registration are read, before any source is opened."""

    def words_of(self, tenant: str) -> Registration:
        raise KeyError(tenant)


def test_a_bug_before_the_data_is_read_fails_the_request_at_once(office: Office) -> None:
    export = office.ask()
    with pytest.raises(KeyError):
        fulfil(BuggyWords(**given(office.installation())), export.id)
    seen = following.get_request(office.installation(), person(), "acme", export.id)
    assert (seen.status, seen.error_code) == (Status.FAILED, "internal")


@dataclass(frozen=True)
class SlowToAnswer(Installation):
    """A source that a worker asks about a scope, and that answers after longer than the stall time."""

    office: Office | None = None
    request: str = ""

    def source(self, name: str) -> Source:
        assert self.office is not None
        for _ in range(3):
            now = self.office.later(MINUTE)
            deadline = time.monotonic() + 60
            while (running := self._running()).heartbeat_at != now:
                assert time.monotonic() < deadline, running
                time.sleep(0.02)
        return super().source(name)

    def _running(self) -> ExportRequest:
        with self.ledger.read() as connection:
            running = requests.get(connection, self.request)
        assert running is not None
        return running


def test_a_worker_that_waits_to_hear_of_a_scope_is_not_given_up(office: Office) -> None:
    office.policy(heartbeat="1s", stall_after="2m")
    office.measure(1)
    export = office.ask(scope={"level": "project", "project": "p1"})
    done = fulfil(SlowToAnswer(**given(office.installation()), office=office, request=export.id), export.id)
    assert done is not None
    assert (done.status, done.rows) == (Status.DONE, 1)


def test_an_archive_is_served_until_the_second_it_expires_with_no_sweeper(office: Office) -> None:
    office.policy(link_life="archive")
    office.measure(1)
    export = fulfilled(office)
    installation = office.installation()
    token = links.mint_link(installation, person(), "acme", export.id).token
    office.later(timedelta(days=7, seconds=-1))
    assert links.open_download(office.installation(), token).path
    office.later(timedelta(seconds=2))
    with pytest.raises(WaybillError) as caught:
        links.open_download(office.installation(), token)
    assert caught.value.code == "expired"
    listed = following.list_requests(office.installation(), person(), "acme", statuses=[Status.EXPIRED]).requests
    assert [item.id for item in listed] == [export.id]
    assert following.list_requests(office.installation(), person(), "acme", statuses=[Status.DONE]).requests == []


def test_the_sweeper_removes_expired_archives_then_history_and_leaves_scheduled_deliveries_alone(office: Office) -> None:
    office.policy(history_ttl="30d", archive_life="1d")
    office.measure(1)
    office.place.tenant(entityList=["measurement"])
    office.place.run(START)
    before = office.place.files()
    export = fulfilled(office)
    office.later(DAY)
    assert upkeep.keep_requests(office.installation()).expired == 1
    assert not (office.place.root / ".waybill/archive/requests/acme" / f"{export.id}.1.zip").exists()
    office.later(30 * DAY)
    assert upkeep.keep_requests(office.installation()).history == 1
    assert following.list_requests(office.installation(), person(), "acme").requests == []
    assert office.place.files() == before


def test_the_sweeper_removes_what_nobody_knows_after_a_day(office: Office) -> None:
    office.measure(1)
    kept = fulfilled(office)
    store = archives_of(office.installation())
    for name in (f"acme/{'0' * 32}.1.zip", f"acme/.{'0' * 32}.2.zip.part"):
        path = office.place.root / ".waybill/archive/requests" / name
        path.write_bytes(b"x")
        os.utime(path, (0, 0))
    assert upkeep.keep_requests(office.installation()).files == 2
    assert [name for name, _ in store.entries()] == [kept.archive]


def test_the_sweeper_leaves_foreign_entries_alone_names_them_and_goes_on(office: Office) -> None:
    office.policy(archive_life="1d")
    office.measure(1)
    gone = fulfilled(office)
    archive, spool = office.place.root / ".waybill/archive/requests", spool_of(office.installation())
    hidden = "0" * 32
    folders = [archive / "acme/x", archive / f"acme/{hidden}.1.zip", spool / "lost+found"]
    files = [archive / "note.txt", archive / "acme/copy.zip", spool / "note.1", spool / f"{hidden}.7"]
    dead = [spool / f"{hidden}.1" / "rows", spool / f"{hidden}.2.zip.part"]
    for path in (*folders, dead[0].parent):
        path.mkdir(parents=True)
    (folders[0] / "inside").write_bytes(b"x")
    for path in (*files, *dead):
        path.write_bytes(b"x")
    (archive / "acme/away").symlink_to("nowhere")
    for path in (*folders, *files, *dead, dead[0].parent):
        os.utime(path, (0, 0))
    office.later(DAY)
    done = housekeeping.housekeeping(office.installation())
    assert done.failed == {}
    assert (done.requests["expired"], done.requests["files"]) == (1, 3)
    assert not (archive / (gone.archive or "")).exists()
    assert [path.exists() for path in dead] == [False, False]
    assert all(path.exists() for path in (*folders, *files))
    left = [name.replace(" in the archive", "").rstrip("/") for name in done.foreign]
    assert sorted(left) == sorted(
        [*(f"requests/{path.relative_to(archive)}" for path in (*folders[:2], *files[:2])), *map(str, (folders[2], *files[2:]))]
    )


def test_an_archive_that_cannot_be_removed_stops_no_other_cleaning(office: Office) -> None:
    office.policy(archive_life="1d")
    office.measure(1)
    export = fulfilled(office)
    path = office.place.root / ".waybill/archive/requests" / (export.archive or "")
    path.unlink()
    path.mkdir()
    left = spool_of(office.installation()) / f"{'0' * 32}.1"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    office.later(DAY)
    done = housekeeping.housekeeping(office.installation())
    assert "the archive cannot be reached: Is a directory" in done.failed["exports"]
    assert (done.requests["expired"], left.exists()) == (1, False)


def test_deleting_removes_the_archive_and_ends_its_links(office: Office) -> None:
    office.measure(1)
    export = fulfilled(office)
    installation = office.installation()
    token = links.mint_link(installation, person(), "acme", export.id).token
    following.delete(installation, person(), "acme", [export.id])
    assert leftovers(office) == []
    with pytest.raises(WaybillError) as caught:
        links.open_download(installation, token)
    assert caught.value.code == "not_found"


def test_a_bulk_delete_with_one_wrong_id_deletes_nothing(office: Office) -> None:
    office.policy(max_active_per_project="none")
    office.measure(1)
    mine = [fulfilled(office).id for _ in range(2)]
    with pytest.raises(WaybillError) as caught:
        following.delete(office.installation(), person(), "acme", [*mine, "0" * 32])
    assert caught.value.code == "not_found"
    assert {item.id for item in following.list_requests(office.installation(), person(), "acme").requests} == set(mine)


def test_a_revoked_person_finds_nothing_behind_an_old_link(office: Office) -> None:
    office.policy(roles={"reader": ["exports.view", "exports.create", "exports.download"]})
    office.measure(1)
    who = person(roles=("reader",), installation=office.installation())
    export = office.ask(who=who)
    fulfil(office.installation(), export.id)
    token = links.mint_link(office.installation(), who, "acme", export.id).token
    office.policy(roles={"reader": ["exports.view"]})
    with pytest.raises(WaybillError) as caught:
        links.open_download(office.installation(), token)
    assert caught.value.code == "not_found"


def test_progress_is_seen_to_rise_while_an_export_runs(office: Office) -> None:
    first, installation, other = office.ask(), office.installation(), office.installation()
    with installation.ledger.begin() as connection:
        claimed = requests.claim(connection, first, "w", installation.now())
    assert claimed is not None

    def progress() -> int:
        return following.get_request(other, person(), "acme", first.id).progress

    with Heartbeat(installation.ledger, claimed, timedelta(milliseconds=10), installation.now) as pulse:
        for told, shown in ((1, 1), (40, 40), (30, 40), (90, 90), (100, 99)):
            pulse.tell(told)
            deadline = time.monotonic() + 60
            while (seen := progress()) != shown:
                assert seen < shown
                assert time.monotonic() < deadline
                time.sleep(0.01)


def test_the_demos_loop_tells_of_a_failing_ledger_once_and_goes_on(office: Office, capsys: pytest.CaptureFixture[str]) -> None:
    office.measure(1)
    export, installation = office.ask(), office.installation()
    turns = iter(range(4))

    def rename(old: str, new: str) -> None:
        with installation.ledger.engine.begin() as connection:
            connection.execute(text(f"alter table {old} rename to {new}"))

    def alive() -> bool:
        turn = next(turns, None)
        if turn == 2:
            rename("away", "export_request")
        return turn is not None

    rename("export_request", "away")
    work(installation, alive, every=timedelta(0))
    assert capsys.readouterr().err.count("the ledger has no tables yet") == 1
    assert following.get_request(installation, person(), "acme", export.id).status == "done"


@pytest.mark.parametrize("asked", [{"from": "9999-12-31"}, {"to": "0001-01-01"}, {"from": "9999-12-30T00:00:00Z"}])
def test_a_range_beyond_every_row_holds_none(office: Office, asked: dict[str, str]) -> None:
    office.measure(1)
    assert fulfilled(office, range=asked).rows == 0


def test_a_deletion_is_told_as_done_where_the_archive_cannot_be_removed_yet(office: Office) -> None:
    office.measure(1)
    stuck, whole = fulfilled(office), fulfilled(office)
    installation = office.installation()
    store = archives_of(installation).root
    (store / str(stuck.archive)).unlink()
    (store / str(stuck.archive)).mkdir()  # what is no file is not removed
    following.delete(installation, person(), "acme", [stuck.id, whole.id])
    assert following.list_requests(installation, person(), "acme").requests == []
    assert not (store / str(whole.archive)).exists()
