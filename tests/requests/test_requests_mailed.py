"""Mail about exports, through a real SMTP server: once, whatever was down in between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.exports import MINUTE, Office, make_office, person
from tests.servers.process import free_port
from tests.servers.smtp import SmtpServer, serve_smtp
from waybill.connection import Connection
from waybill.errors import PermanentError
from waybill.installation import Installation
from waybill.requests import following, links
from waybill.requests.fulfilment import running
from waybill.requests.lifecycle import Refused
from waybill.requests.links import DOWNLOADS
from waybill.requests.mailing import send_mails

ADA = person(email="ada@example.com")


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = make_office(tmp_path)
    office.policy(notify=["ready", "failed"], archive_life="30d", link_life="archive", labels={"done": "Available"})
    office.measure(1)
    yield office
    office.place.close()


def mailing(office: Office, port: int) -> Installation:
    extra = {"disable_ssl": True, "disable_tls": True, "from_email": "exports@example.com"}
    office.place.connections["smtp_default"] = Connection("smtp_default", "smtp", "127.0.0.1", port, extra=extra)
    installation = office.installation()
    return replace(installation, settings=replace(installation.settings, public_url="https://exports.example.com/waybill"))


def test_a_finished_export_is_mailed_once_with_a_link_that_works_and_its_end(office: Office, smtp: SmtpServer) -> None:
    export = office.ask(who=ADA)
    running.fulfil_all(office.installation())
    installation = mailing(office, smtp.port)
    assert send_mails(installation) == []
    assert send_mails(installation) == []
    (received,) = smtp.received
    assert received.recipients == ("ada@example.com",)
    assert received.sender == "exports@example.com"
    text = received.message.get_content()
    assert "Available" in text
    assert "It expires on 2026-07-01 12:00 (UTC)" in text
    link = next(word for word in text.split() if word.startswith("https://"))
    assert link.startswith(f"https://exports.example.com/waybill{DOWNLOADS}")
    assert links.open_download(installation, link.rpartition("/")[2]).request.id == export.id
    office.later(timedelta(days=30))
    with pytest.raises(Refused, match="expired"):
        links.open_download(office.installation(), link.rpartition("/")[2])


def test_a_mail_server_that_is_down_means_later_and_once_and_changes_no_state(office: Office) -> None:
    export = office.ask(who=ADA)
    running.fulfil_all(office.installation())
    port = free_port()
    assert len(send_mails(mailing(office, port))) == 1
    assert send_mails(mailing(office, port)) == []
    assert following.get_request(office.installation(), ADA, "acme", export.id).status == "done"
    office.later(MINUTE)
    with serve_smtp() as smtp:
        assert send_mails(mailing(office, smtp.port)) == []
        office.later(timedelta(days=1))
        assert send_mails(mailing(office, smtp.port)) == []
        assert len(smtp.received) == 1


@pytest.mark.parametrize("place", ["ada@example.com", "DATA"], ids=["the recipient", "the message"])
@pytest.mark.parametrize(("answer", "again"), [("550 no such user", False), ("554 not wanted", False), ("451 greylisted", True)])
def test_a_mail_refused_for_good_is_not_sent_again(office: Office, smtp: SmtpServer, place: str, answer: str, again: bool) -> None:
    export = office.ask(who=ADA)
    running.fulfil_all(office.installation())
    smtp.answers[place] = answer
    (problem,) = send_mails(mailing(office, smtp.port))
    assert answer[:3] in str(problem)
    assert "ada@example.com" not in str(problem)
    assert ("not sent again" in str(problem)) != again
    office.later(timedelta(hours=2))
    send_mails(mailing(office, smtp.port))
    assert len(smtp.refused) == 1 + again
    assert following.get_request(office.installation(), ADA, "acme", export.id).status == "done"
    smtp.answers.clear()
    office.later(timedelta(hours=2))
    assert send_mails(mailing(office, smtp.port)) == []
    assert len(smtp.received) == again


def test_a_failed_export_is_mailed_with_reason_and_advice(office: Office, smtp: SmtpServer) -> None:
    export = office.ask(who=ADA)
    office.place.sql("drop table measurement")
    running.fulfil(office.installation(), export.id, sleep=lambda seconds: None)
    send_mails(mailing(office, smtp.port))
    text = smtp.received[0].message.get_content()
    assert "Your data export failed (Failed)" in text
    assert "The data could not be read" in text


def test_nobody_is_mailed_without_an_address_or_a_policy_that_says_so(office: Office, smtp: SmtpServer) -> None:
    office.ask()
    running.fulfil_all(office.installation())
    office.policy()
    office.ask(who=ADA)
    running.fulfil_all(office.installation())
    send_mails(mailing(office, smtp.port))
    assert smtp.received == []


def test_an_archive_that_expired_before_its_mail_could_go_is_not_offered(office: Office, smtp: SmtpServer) -> None:
    office.ask(who=ADA)
    running.fulfil_all(office.installation())
    office.later(timedelta(days=30))
    assert send_mails(mailing(office, smtp.port)) == []
    assert smtp.received == []


SENDER = {"from_email": "exports@example.com"}
WRONG_CONNECTIONS: dict[str, dict[str, Any]] = {
    "a timeout that is no number": {"extra": {"disable_ssl": True, "disable_tls": True, "timeout": "soon", **SENDER}},
    "a host that is no name": {"host": "mail..example"},
    "a server without the encryption": {"extra": {"disable_ssl": True, **SENDER}},
    "a server without logins": {"login": "ada@example.com", "password": "secret"},
}


@pytest.mark.parametrize("wrong", WRONG_CONNECTIONS.values(), ids=WRONG_CONNECTIONS)
def test_a_wrong_mail_connection_is_told_and_its_mails_go_out_once_it_is_mended(
    office: Office, smtp: SmtpServer, wrong: dict[str, Any]
) -> None:
    office.ask(who=ADA)
    running.fulfil_all(office.installation())
    installation = mailing(office, smtp.port)
    right = office.place.connections["smtp_default"]
    office.place.connections["smtp_default"] = replace(right, **wrong)
    (problem,) = send_mails(installation)
    assert (type(problem), problem.code) == (PermanentError, "mail_connection")
    assert "secret" not in str(problem)
    office.later(timedelta(hours=1))
    assert send_mails(mailing(office, smtp.port)) == []
    assert len(smtp.received) == 1


def test_a_public_address_without_encryption_is_refused(office: Office, smtp: SmtpServer) -> None:
    office.ask(who=ADA)
    running.fulfil_all(office.installation())
    installation = mailing(office, smtp.port)
    plain = replace(installation, settings=replace(installation.settings, public_url="http://exports.example.com"))
    (problem,) = send_mails(plain)
    assert problem.code == "public_url"


@pytest.mark.parametrize("email", ["ada@", "(", "ada@example.com\n"])
def test_an_address_that_is_none_keeps_no_other_mail_waiting(office: Office, smtp: SmtpServer, email: str) -> None:
    office.policy(notify=["ready"], max_active_per_project=None)
    office.ask(who=person("bob", email=email))
    office.ask(who=ADA)
    running.fulfil_all(office.installation())
    problems = send_mails(mailing(office, smtp.port))
    assert [problem.code for problem in problems] == ([] if "\n" in email else ["mail_refused"])
    assert [received.recipients for received in smtp.received][-1] == ("ada@example.com",)
    office.later(timedelta(days=1))
    assert send_mails(mailing(office, smtp.port)) == []


@pytest.mark.parametrize("sender", ["exports@example.com\n", "exports@"])
def test_a_sender_is_an_address_and_what_is_around_it_does_not_count(office: Office, smtp: SmtpServer, sender: str) -> None:
    office.ask(who=ADA)
    running.fulfil_all(office.installation())
    installation = mailing(office, smtp.port)
    office.place.connections["smtp_default"].extra["from_email"] = sender
    problems = send_mails(installation)
    assert [problem.code for problem in problems] == ([] if "\n" in sender else ["mail_sender"])
    assert [received.sender for received in smtp.received] == (["exports@example.com"] if "\n" in sender else [])


def test_while_the_catalog_is_broken_what_was_made_is_listed_and_mailed(office: Office, smtp: SmtpServer) -> None:
    export = office.ask(who=ADA)
    running.fulfil_all(office.installation())
    (office.place.root / "config/catalog.yaml").write_text("entities: 1\n")
    installation = mailing(office, smtp.port)
    listing = following.list_requests(installation, ADA, "acme")
    assert [following.describe_to(installation, ADA, request).status for request in listing.requests] == ["done"]
    assert links.mint_link(installation, ADA, "acme", export.id)
    assert send_mails(installation) == []
    assert len(smtp.received) == 1
