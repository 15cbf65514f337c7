"""Stops an export at each of its steps: its worker is killed, or its person cancels or deletes it. Nothing half made is ever served."""

from __future__ import annotations

import os
import signal
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.exports import Office, make_office, person
from tests.faults.processes import Finished, Launcher
from waybill.errors import WaybillError
from waybill.ledger.on_demand import requests
from waybill.ledger.on_demand.request_records import ExportRequest, Status
from waybill.requests import creating, following, links, upkeep

STEPS = {
    "claimed": r"mkdir .*/archive$",
    "spool made": r"mkdir .*/spool/requests/[0-9a-f]+\.1$",
    "source opened": r"mkdir .*waybill-duckdb",
    "rows written": r"write .*/measurement\.ndjson$",
    "archive begun": r"openat .*\.zip\.part$",
    "archive written": r"write .*\.zip\.part$",
    "archive whole": r"fsync .*\.zip\.part$",
    "about to rename": r"rename .*\.zip$",
    "renamed": r"fsync .*/requests/acme$",
}
"""The first system call after each step. The ledger says `running` at all of them."""
AFTER = r"rmdir .*/spool/requests/[0-9a-f]+\.1$"
"""The last call of an attempt that has published its archive."""


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = make_office(tmp_path / "office")
    office.place.clock = None
    office.policy(heartbeat="1s", max_active_per_project=1)
    office.measure(1)
    yield office
    office.place.close()


def files(office: Office) -> list[Path]:
    return [path for folder in ("archive", "spool") for path in (office.place.root / ".waybill" / folder).rglob("*") if path.is_file()]


def fulfil(office: Office, launcher: Launcher) -> Finished:
    done = launcher.run(office.place.root, "fulfil")
    assert done.status == 0, done.said
    return done


def seen(office: Office, export: ExportRequest) -> ExportRequest:
    return following.get_request(office.installation(), person(), "acme", export.id)


def why_not(office: Office, export: ExportRequest) -> str:
    with pytest.raises(WaybillError) as caught:
        links.mint_link(office.installation(), person(), "acme", export.id)
    return caught.value.code


def served(office: Office, export: ExportRequest) -> Path:
    installation = office.installation()
    path = links.open_download(installation, links.mint_link(installation, person(), "acme", export.id).token).path
    assert path is not None
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert len(archive.read("measurement.ndjson").splitlines()) == 1
    return path


@pytest.mark.parametrize("step", STEPS)
def test_a_worker_killed_at_a_step_leaves_nothing_to_serve_and_the_next_attempt_is_whole(
    launcher: Launcher, office: Office, step: str
) -> None:
    export = office.ask()
    worker = launcher.start(office.place.root, "fulfil", hold=STEPS[step])
    worker.held()
    worker.signal(signal.SIGKILL)
    assert worker.wait().status == -signal.SIGKILL
    left = seen(office, export)
    assert (left.status, left.archive) == (Status.RUNNING, None)
    assert why_not(office, export) == "not_ready"
    fulfil(office, launcher)
    assert seen(office, export).attempt == 1, "another worker leaves a running request alone"
    for path in office.place.root.rglob("[!.]*.zip"):
        with zipfile.ZipFile(path) as whole:
            assert whole.testzip() is None

    office.place.clock = datetime.now(UTC) + timedelta(minutes=3)
    given_up = seen(office, export)
    assert (given_up.status, given_up.error_code) == (Status.FAILED, "stalled")
    assert why_not(office, export) == "not_ready"
    again = creating.resubmit(office.installation(), person(), given_up)
    fulfil(office, launcher)
    archive = served(office, seen(office, again))

    for path in (office.place.root / ".waybill").rglob("*"):
        if path != archive and "ledger" not in path.name:
            os.utime(path, (0, 0))
    assert upkeep.keep_requests(office.installation()).failed == []
    assert files(office) == [archive]


ENDED = [*(("cancelled", step) for step in STEPS), *(("deleted", step) for step in ("claimed", "archive written", "renamed"))]


@pytest.mark.parametrize(("end", "step"), ENDED)
def test_an_export_ended_at_a_step_frees_its_place_at_once_and_its_worker_leaves_nothing(
    launcher: Launcher, office: Office, end: str, step: str
) -> None:
    export = office.ask()
    worker = launcher.start(office.place.root, "fulfil", hold=STEPS[step])
    worker.held()
    if end == "cancelled":
        assert following.cancel(office.installation(), person(), "acme", export.id).status == Status.CANCELLED
    else:
        following.delete(office.installation(), person(), "acme", [export.id])
    other = office.ask(who=person("eve"))
    assert why_not(office, export) == ("not_ready" if end == "cancelled" else "not_found")
    worker.go()
    done = worker.wait()
    assert (done.status, "Traceback" in done.said) == (0, False), done.said
    assert files(office) == []
    with office.installation().ledger.read() as connection:
        left = requests.get(connection, export.id)
    assert (left.status if left else "deleted") == end
    fulfil(office, launcher)
    assert files(office) == [served(office, following.get_request(office.installation(), person("eve"), "acme", other.id))]


def test_an_export_that_is_published_cannot_be_cancelled_while_its_worker_tidies_up(launcher: Launcher, office: Office) -> None:
    export = office.ask()
    worker = launcher.start(office.place.root, "fulfil", hold=AFTER)
    worker.held()
    with pytest.raises(WaybillError) as caught:
        following.cancel(office.installation(), person(), "acme", export.id)
    assert caught.value.code == "not_active"
    archive = served(office, export)
    worker.signal(signal.SIGKILL)
    worker.wait()
    assert files(office) == [archive]


def test_two_workers_that_come_for_one_request_make_one_archive(launcher: Launcher, office: Office) -> None:
    export = office.ask()
    workers = [launcher.start(office.place.root, "fulfil") for _ in range(2)]
    assert [worker.wait().status for worker in workers] == [0, 0]
    assert seen(office, export).attempt == 1
    assert files(office) == [served(office, export)]
