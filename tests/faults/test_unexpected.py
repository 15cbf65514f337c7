"""One exception that nobody expected, in each loop or thread that must go on: it is logged with its cause, and the next round is good."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from sqlalchemy import text

from tests.exports import START, Office, make_office, person
from waybill.connection import Connection
from waybill.housekeeping import housekeeping
from waybill.language import tell
from waybill.ledger.on_demand import requests
from waybill.registrations.applying import apply
from waybill.registrations.estimating import estimate
from waybill.requests.fulfilment import running
from waybill.requests.fulfilment.heartbeat import Heartbeat
from waybill.requests.mailing import send_mails
from waybill.requests.upkeep import keep_requests


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = make_office(tmp_path)
    office.measure(1)
    yield office
    office.place.close()


def damage(office: Office, statement: str) -> None:
    with office.installation().ledger.engine.begin() as connection:
        connection.execute(text(statement))


@contextmanager
def heard(log: logging.Logger) -> Iterator[list[logging.LogRecord]]:
    """What is logged with an exception. Importing Airflow takes the handlers of the root away."""
    said: list[logging.LogRecord] = []
    told = logging.Handler()
    told.emit = lambda record: said.append(record) if record.exc_info else None
    log.addHandler(told)
    yield said
    log.removeHandler(told)


async def after_an_exception(events: AsyncIterator[Any], said: list[logging.LogRecord]) -> Any:
    """Return the first event of a trigger that began where the machine gives no more threads, and was logged."""
    exhausted = ThreadPoolExecutor()
    exhausted.shutdown()
    asyncio.get_running_loop().set_default_executor(exhausted)
    waiting = asyncio.create_task(anext(events))
    deadline = time.monotonic() + 60
    while not said:
        assert not waiting.done(), waiting
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    return (await asyncio.wait_for(waiting, 60)).payload


def test_the_watcher_of_requests_goes_on(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    from waybill.airflow.watcher import RequestWatcher, log

    export = office.ask()
    monkeypatch.setenv("WAYBILL_CONFIG_DIR", str(office.place.root / "config"))
    with heard(log) as said:
        assert asyncio.run(after_an_exception(RequestWatcher(every=0.01).run(), said)) == {"waiting": 1, "first": [export.id]}


def test_the_watcher_of_days_goes_on(office: Office) -> None:
    from waybill_consumer.airflow.triggers import DayWatcher, log

    office.place.run(START)
    with heard(log) as said:
        told = asyncio.run(after_an_exception(DayWatcher(str(office.place.out), every=0.01).run(), said))
    assert (told["tenant"], told["date"]) == ("acme", "2026-06-01")


def test_whoever_asks_for_dag_files_to_be_parsed_goes_on(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    from waybill.airflow.scheduler import reparsing

    office.ask()  # which makes the ledger
    monkeypatch.setenv("WAYBILL_CONFIG_DIR", str(office.place.root / "config"))
    follower = reparsing.Reparser(every=0.05, give_up=0.5)
    with heard(reparsing.log) as said:
        follower.follow(["\ud800"])  # a name that no database takes
        assert follower.wait(60)
    assert len(said) > 1
    assert {record.exc_info[0] for record in said if record.exc_info} == {UnicodeEncodeError}


def test_the_sign_of_life_goes_on(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    installation = office.installation()
    export = office.ask()
    with installation.ledger.begin() as connection:
        claimed = requests.claim(connection, export, "w", installation.now())
    assert claimed is not None
    asked, beaten = [], threading.Event()

    def now():
        asked.append(1)
        if len(asked) == 1:
            raise LookupError("no clock")
        beaten.set()
        return installation.now()

    with Heartbeat(installation.ledger, claimed, timedelta(milliseconds=10), now):
        assert beaten.wait(60)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [LookupError]


def test_a_sign_of_life_that_cannot_be_given_is_not_tried_at_every_step(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    export, asked = office.ask(), []

    def now():
        asked.append(time.monotonic())
        raise LookupError("no clock")

    with Heartbeat(office.installation().ledger, export, timedelta(hours=1), now) as pulse:
        deadline = time.monotonic() + 60
        while not asked and time.monotonic() < deadline:
            pulse.tell(1)
        while time.monotonic() < asked[0] + 0.5:
            pulse.tell(2)
    assert len(asked) <= 2


def test_one_mail_that_cannot_be_made_keeps_no_other_back(office: Office, smtp, caplog: pytest.LogCaptureFixture) -> None:
    office.policy(notify=["ready"])
    first = office.ask(who=person("ada", email="ada@example.com"))
    running.fulfil_all(office.installation())
    office.ask(who=person("bob", email="bob@example.com"))
    running.fulfil_all(office.installation())
    damage(office, f"update export_request set formats = '[1]' where id = '{first.id}'")
    office.place.connections["smtp_default"] = Connection(
        "smtp_default", "smtp", "127.0.0.1", smtp.port, extra={"disable_ssl": True, "disable_tls": True, "from_email": "e@example.com"}
    )
    (problem,) = send_mails(office.installation())
    assert (problem.code, first.id in str(problem)) == ("unexpected", True)
    assert [received.recipients for received in smtp.received] == [("bob@example.com",)]
    assert send_mails(office.installation()) == []  # the first waits for its next try
    assert [record.exc_info is not None for record in caplog.records if first.id in record.getMessage()] == [True]


def test_one_step_of_housekeeping_that_cannot_be_made_keeps_no_other_back(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    export = office.ask()
    with office.installation().ledger.begin() as connection:
        assert requests.claim(connection, export, "w", START)
    office.later(timedelta(days=2))
    installation = office.installation()
    unusable = replace(installation, settings=replace(installation.settings, spool_dir=Path("/" + "x" * 300)))
    done = housekeeping(unusable)
    assert done.failed.pop("spools") == "spools: an unexpected OSError. The log shows where it came from"
    assert done.requests["stalled"] == 1
    assert [record.exc_info[0] for record in caplog.records if record.message.startswith("housekeeping of spools")] == [OSError]


def test_one_destination_that_cannot_be_opened_keeps_no_other_unswept(office: Office) -> None:
    office.place.tenant("globex", entityList=["measurement"], destination={"kind": "sftp", "connection": "odd", "root": "/"})
    extra = {"host_key": asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()}
    office.place.connections["odd"] = Connection("odd", "sftp", "\ud800", 22, "odd", password="x", extra=extra)
    office.place.run(START)
    part = office.place.out / f"exports/acme/2026/06/01/measurement/.measurement.csv.{'0' * 12}7{'0' * 19}.part"
    part.touch()
    os.utime(part, (0, 0))
    installation = office.installation()
    apply(installation, actor="test")
    done = housekeeping(installation)
    assert (done.failed, done.parts) == ({"globex": "tenant globex: an unexpected UnicodeEncodeError. The log shows where it came from"}, 1)


def test_one_archive_that_cannot_be_removed_keeps_no_other_in_the_store(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    export = office.ask()
    damage(office, f"update export_request set status = 'expired', archive = 'acme/' || char(0) where id = '{export.id}'")
    installation = office.installation()
    orphan = Path(installation.settings.archive_url.removeprefix("file://")) / f"requests/acme/{'a' * 32}.1.zip"
    orphan = installation.settings.base / orphan
    orphan.parent.mkdir(parents=True)
    orphan.touch()
    os.utime(orphan, (0, 0))
    kept = keep_requests(installation)
    assert (kept.failed, kept.files, orphan.exists()) == (["an unexpected ValueError. The log shows where it came from"], 1, False)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ValueError]


def test_a_preview_says_of_what_it_could_not_count_that_it_did_not(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    office.place.run(START)
    damage(office, "update attempt set facts = '{}'")
    installation = office.installation()
    [found] = estimate(installation, "acme", installation.registered("acme").registration, ["measurement"], 60)
    assert (found.rows, found.note) == (None, tell("call.no_count", code="unexpected"))
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [KeyError]
