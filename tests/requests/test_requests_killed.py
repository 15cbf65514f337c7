"""A worker that is killed for real: nothing half done is seen, its place is free after the stall time, and its files are swept."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.exports import Office, make_office, person
from waybill.errors import WaybillError
from waybill.ledger.on_demand.request_records import Status
from waybill.requests import creating, following, upkeep


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = make_office(tmp_path)
    office.place.clock = None
    office.policy(heartbeat="1s", stall_after="2s")
    office.place.sql(
        "insert into measurement select 'acme', i, 'p1', 'a1', 's1', 'x', i, repeat('y', 300), TIMESTAMPTZ '2026-05-01 00:00:00+00',"
        " TIMESTAMPTZ '2026-05-01 00:00:00+00', null from range(300000) t(i)"
    )
    yield office
    office.place.close()


def worker(office: Office) -> subprocess.Popen[bytes]:
    env = {**os.environ, "WAYBILL_CONFIG_DIR": str(office.place.root / "config")}
    return subprocess.Popen([sys.executable, "-m", "waybill", "fulfil"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def files(office: Office) -> list[Path]:
    return [path for folder in ("archive", "spool") for path in (office.place.root / ".waybill" / folder).rglob("*") if path.is_file()]


def test_a_killed_workers_place_is_free_after_the_stall_time_and_the_next_export_is_whole(office: Office) -> None:
    export = office.ask(formats=["ndjson", "csv"])
    process = worker(office)
    installation = office.installation()
    while following.get_request(installation, person(), "acme", export.id).status == Status.PENDING or not files(office):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    with pytest.raises(WaybillError, match="Another export is in progress"):
        office.ask()
    deadline = time.monotonic() + 120
    while following.get_request(installation, person(), "acme", export.id).status == Status.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    seen = following.get_request(installation, person(), "acme", export.id)
    assert (seen.status, seen.error_code, seen.archive) == (Status.FAILED, "stalled", None)
    again = creating.resubmit(installation, person(), seen)
    assert worker(office).wait() == 0
    done = following.get_request(installation, person(), "acme", again.id)
    assert (done.status, done.rows) == (Status.DONE, 300_000)
    long_ago = 0
    for path in [*files(office), *(path.parent for path in files(office))]:
        if done.archive is None or not path.as_posix().endswith(done.archive):
            os.utime(path, (long_ago, long_ago))
    upkeep.keep_requests(installation)
    assert [path.name for path in files(office)] == [f"{again.id}.1.zip"]


def stop_between_transactions(process: subprocess.Popen[bytes], office: Office) -> None:
    """A worker stopped inside of a write transaction holds a SQLite ledger for as long as it is stopped: then it goes on for a moment."""
    ledger = office.place.root / ".waybill" / "ledger.db"
    while True:
        process.send_signal(signal.SIGSTOP)
        with closing(sqlite3.connect(ledger, timeout=1, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError:
                process.send_signal(signal.SIGCONT)
                time.sleep(0.05)


def test_a_worker_that_was_stopped_for_too_long_publishes_nothing_when_it_goes_on(office: Office) -> None:
    export = office.ask(formats=["ndjson", "csv"])
    process = worker(office)
    installation = office.installation()
    while following.get_request(installation, person(), "acme", export.id).status == Status.PENDING or not files(office):
        assert process.poll() is None
        time.sleep(0.02)
    stop_between_transactions(process, office)
    deadline = time.monotonic() + 60
    while following.get_request(installation, person(), "acme", export.id).error_code != "stalled":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGCONT)
    process.wait(180)
    assert following.get_request(installation, person(), "acme", export.id).status == Status.FAILED
    assert files(office) == []
