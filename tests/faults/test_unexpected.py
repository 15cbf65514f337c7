"""One exception that nobody expected, in each loop or thread that must go on: it is logged with its cause, and the next round is good."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.exports import START, Office, make_office, person
from waybill.connection import Connection
from waybill.housekeeping import housekeeping
from waybill.ledger.on_demand import requests
from waybill.requests.fulfilment import running
from waybill.requests.fulfilment.heartbeat import Heartbeat
from waybill.requests.mailing import send_mails


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = make_office(tmp_path)
    office.measure(1)
    yield office
    office.place.close()


def damage(office: Office, statement: str) -> None:
    with office.installation().ledger.engine.begin() as connection:
        connection.execute(text(statement))


def test_the_watcher_of_requests_goes_on(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    from waybill.airflow.watcher import RequestWatcher, log

    said: list[logging.LogRecord] = []
    told = logging.Handler()
    told.emit = said.append  # importing Airflow takes the handlers of the root away
    log.addHandler(told)

    export = office.ask()
    monkeypatch.setenv("WAYBILL_CONFIG_DIR", str(office.place.root / "config"))
    exhausted = ThreadPoolExecutor()
    exhausted.shutdown()  # as where the machine gives no more threads

    async def announced() -> object:
        asyncio.get_running_loop().set_default_executor(exhausted)
        waiting = asyncio.create_task(anext(RequestWatcher(every=0.01).run()))
        deadline = time.monotonic() + 60
        while not [record for record in said if record.exc_info]:
            assert not waiting.done(), waiting
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        return (await asyncio.wait_for(waiting, 60)).payload

    assert asyncio.run(announced()) == {"waiting": 1, "first": [export.id]}


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
