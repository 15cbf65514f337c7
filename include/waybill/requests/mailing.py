"""The outbox: sends the mail that requests owe, once. A mail that fails is tried again and never changes a request's state."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from email.message import EmailMessage
from functools import partial
from zoneinfo import ZoneInfo

from waybill.configuration.policy import ExportPolicy
from waybill.connection import Connection
from waybill.errors import WaybillError, unexpected
from waybill.installation import Installation
from waybill.language import tell
from waybill.ledger.on_demand import requests
from waybill.ledger.on_demand.request_records import ExportRequest, Status
from waybill.messaging import mail
from waybill.requests.creating import zone_of
from waybill.requests.lifecycle import advice, label
from waybill.requests.links import DOWNLOADS, public_url, sign
from waybill.requests.ranges import spoken

WAITS = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=1))
GIVEN_UP_AFTER = timedelta(days=3)

log = logging.getLogger(__name__)


def send_mails(installation: Installation) -> list[WaybillError]:
    """Send the due mails and return the problems. A mail that failed is tried again later, unless it was refused for good."""
    now = installation.now()
    with installation.ledger.read() as connection:
        due = requests.mails_due(connection, now)
    problems = []
    for request in due:
        with installation.ledger.begin() as connection:
            if not requests.claim_mail(connection, request, now):
                continue  # another process sends it
        try:
            _send(installation, request, now)
        except Exception as found:  # noqa: BLE001 (what is wrong with one mail must not keep the others back)
            error = _problem(found, request)
            problems.append(error)
            later = None if error.code == mail.REFUSED else _next_try(request, now)
            with installation.ledger.begin() as connection:
                requests.mail_postponed(connection, request, later)
    return problems


def _problem(found: Exception, request: ExportRequest) -> WaybillError:
    if not isinstance(found, WaybillError):
        log.error("the mail about export %s could not be made", request.id, exc_info=found)
        found = unexpected(found)
    return found.located(f"mail about export {request.id}")


def _next_try(request: ExportRequest, now: datetime) -> datetime | None:
    later = now + WAITS[min(request.mail_tries, len(WAITS) - 1)]
    return later if request.finished_at is None or later < request.finished_at + GIVEN_UP_AFTER else None


def _send(installation: Installation, request: ExportRequest, now: datetime) -> None:
    if request.mail == "ready" and request.shown(now) is not Status.DONE:
        with installation.ledger.begin() as ledger:
            requests.mail_postponed(ledger, request, None)  # the archive is gone, so there is nothing to announce
        return
    connection_id = installation.configuration.policy.mail.connection
    connection = installation.connections(connection_id)
    mail.send(connection, _message(installation, connection, request))
    with installation.ledger.begin() as ledger:
        requests.mail_sent(ledger, request, installation.now())


def _message(installation: Installation, connection: Connection, request: ExportRequest) -> EmailMessage:
    export_policy = installation.configuration.export_policy(request.tenant)
    entities = installation.configuration.catalog.entities
    names = [entities[entity].display_name if entity in entities else entity for entity in request.entities]
    zone = zone_of(installation, request.tenant)
    with installation.speaking_to(request.tenant):
        if request.mail == "ready":
            page = _page(installation, request, export_policy)
            subject, text = ready(request, export_policy, names, zone, _link(installation, request), page)
        else:
            subject, text = failed(request, export_policy, names, zone)
    sender, key = installation.configuration.policy.mail.sender, f"{request.id}.{request.mail}"
    return mail.composed(connection, sender, [request.email], subject, text, key=key, at=installation.now())


def _link(installation: Installation, request: ExportRequest) -> str:
    """Return a link that works until the date in the mail. The reader's right is checked when they follow it."""
    base = public_url(installation)
    return f"{base}{DOWNLOADS}{sign(installation, request, request.requested_by, request.roles, 'archive').token}" if base else ""


def _page(installation: Installation, request: ExportRequest, export_policy: ExportPolicy) -> str:
    """Return the address of the page of the tenant's exports. Empty if no public address is configured."""
    base = public_url(installation)
    if not base:
        return ""
    path = export_policy.page.path
    return f"{base}{path}?tenant={request.tenant}" if path else f"{base}/page/tenants/{request.tenant}/requests"


def ready(
    request: ExportRequest, export_policy: ExportPolicy, names: list[str], zone: ZoneInfo, link: str, page: str = ""
) -> tuple[str, str]:
    """Return subject and text of the mail about a finished export. `link` and `page` may be empty."""
    words = partial(tell, label=label(export_policy, Status.DONE, 100), entities=", ".join(names))
    lines = [
        words("mail.ready"),
        "",
        *_about(request, words, zone),
        words("mail.records", rows=f"{request.rows:,}"),
        "",
        *([words("mail.download"), link] if link else [words("mail.no_link")]),
        "",
        *([words("mail.page", page=page), ""] if page else []),
        words("mail.expires", at=_date(request.expires_at, zone)),
    ]
    return words("mail.ready_subject"), "\n".join(lines) + "\n"


def failed(request: ExportRequest, export_policy: ExportPolicy, names: list[str], zone: ZoneInfo) -> tuple[str, str]:
    """Return subject and text of the mail about a failed export, with the reason and what to do."""
    words = partial(tell, label=label(export_policy, Status.FAILED, request.progress), entities=", ".join(names))
    reason = " ".join(part for part in (request.error_message, advice(request, export_policy)) if part)
    return words("mail.failed_subject"), "\n".join([words("mail.failed"), "", *_about(request, words, zone), "", reason]) + "\n"


def _about(request: ExportRequest, words: Callable[..., str], zone: ZoneInfo) -> list[str]:
    return [
        words("mail.data"),
        words("mail.range", range=spoken(request.range_asked, zone.key)),
        words("mail.format", formats=", ".join(name.upper() for name in request.formats)),
        words("mail.request", id=request.id),
    ]


def _date(value: datetime | None, zone: ZoneInfo) -> str:
    return f"{value.astimezone(zone):%Y-%m-%d %H:%M} ({zone.key})" if value else tell("mail.no_date")
