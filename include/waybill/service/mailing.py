"""The outbox: mail that requests owe, sent once. A mail that cannot be sent is tried again and never changes a request's state."""

from __future__ import annotations

from datetime import datetime, timedelta
from email.message import EmailMessage

from waybill import mail
from waybill.connection import Connection
from waybill.errors import WaybillError
from waybill.ledger import requests
from waybill.request import ExportRequest, Status
from waybill.request.letters import failed, ready
from waybill.service.estate import Estate
from waybill.service.linking import DOWNLOADS, public_url, sign
from waybill.service.requesting import zone_of

WAITS = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=1))
GIVEN_UP_AFTER = timedelta(days=3)


def send_mails(estate: Estate) -> list[WaybillError]:
    """Send what is due. Returns the problems; what could not be sent is tried again later."""
    now = estate.now()
    with estate.ledger.begin() as connection:
        due = requests.mails_due(connection, now)
    problems = []
    for one in due:
        with estate.ledger.begin() as connection:
            if not requests.claim_mail(connection, one, now):
                continue  # another process sends it
        try:
            _send(estate, one, now)
        except WaybillError as error:
            problems.append(error.located(f"mail about export {one.id}"))
            with estate.ledger.begin() as connection:
                requests.mail_postponed(connection, one, _next_try(one, now))
    return problems


def _next_try(one: ExportRequest, now: datetime) -> datetime | None:
    later = now + WAITS[min(one.mail_tries, len(WAITS) - 1)]
    return later if one.finished_at is None or later < one.finished_at + GIVEN_UP_AFTER else None


def _send(estate: Estate, one: ExportRequest, now: datetime) -> None:
    if one.mail == "ready" and one.shown(now) is not Status.DONE:
        with estate.ledger.begin() as ledger:
            requests.mail_postponed(ledger, one, None)  # there is nothing to download any more
        return
    connection_id = estate.configuration.policy.mail.connection
    connection = estate.connections(connection_id)
    mail.send(connection, _message(estate, connection, one))
    with estate.ledger.begin() as ledger:
        requests.mail_sent(ledger, one, estate.now())


def _message(estate: Estate, connection: Connection, one: ExportRequest) -> EmailMessage:
    knobs = estate.configuration.knobs(one.tenant)
    entities = estate.catalog.entities
    names = [entities[entity].display_name if entity in entities else entity for entity in one.entities]
    if one.mail == "ready":
        subject, text = ready(one, knobs, names, zone_of(estate, one.tenant), _link(estate, one))
    else:
        subject, text = failed(one, knobs, names)
    message = EmailMessage()
    sender = mail.sender_of(connection, estate.configuration.policy.mail.sender)
    message["Subject"], message["From"], message["To"] = " ".join(subject.split()), sender, one.email
    # The same mail has the same id however often it is tried, so that a reader can tell a repetition.
    message["Message-ID"] = f"<{one.id}.{one.mail}@{sender.rpartition('@')[2].strip('>')}>"
    message["Date"] = estate.now()
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    return message


def _link(estate: Estate, one: ExportRequest) -> str:
    base = public_url(estate)
    return f"{base}{DOWNLOADS}{sign(estate, one, one.requested_by, one.roles).token}" if base else ""
