"""Mail to operators about scheduled deliveries (policy `notify`): what failed, and what is late."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from email.message import EmailMessage
from typing import Any

from sqlalchemy import Connection

from waybill import mail
from waybill.canonical import timestamp_text
from waybill.installation import Installation
from waybill.ledger import registrations, streams
from waybill.ledger.registrations import Registered
from waybill.ledger.streams import Reached

LATE = "told_late"


def notify_failed(installation: Installation, tenant: str, waiting: Sequence[dict[str, Any]]) -> bool:
    """Mail the deliveries of a run that stayed open, with cause and next step. False when policy asks for none.

    Raises TransientError when the mail server does not take it, PermanentError when the connection is missing.
    """
    if not (installation.configuration.policy.notify.failed and waiting):
        return False
    lines = [f"{one['entity']} #{one['sequence']}: {one['error'] or 'not delivered yet'}" for one in waiting]
    text = "\n".join(lines) + "\n\nThe next run finishes them. To do it at once clear the failed task, or: waybill run " + tenant
    _send(installation, f"Waybill: {len(waiting)} deliveries of {tenant} failed", text)
    return True


def notify_late(installation: Installation) -> list[str]:
    """Mail once for each tenant and boundary that is not delivered `late_after` its run was due; returns those tenants.

    Raises as `notify_failed`; a tenant whose mail was not taken is told about the next time.
    """
    after = installation.configuration.policy.notify.late_after
    if after is None:
        return []
    now = installation.now()
    with installation.ledger.read() as connection:
        reached = streams.reached_by_all(connection)
        every = registrations.readable(registrations.all_current(connection))
        late = [(one, due) for one in every if (due := _late(connection, one, reached.get(one.tenant, ()), now, after))]
    for registered, (boundary, missing) in late:
        text = (
            f"Due up to {timestamp_text(boundary)}, not delivered yet: {', '.join(missing)}.\n\nSee: waybill deliveries {registered.tenant}"
        )
        _send(installation, f"Waybill: {registered.tenant} is late", text)
        with installation.ledger.begin() as connection:
            registrations.note(connection, registered.tenant, "waybill", LATE, {"boundary": timestamp_text(boundary)}, installation.now())
    return [registered.tenant for registered, _ in late]


def _late(
    connection: Connection, one: Registered, active: Sequence[Reached], now: datetime, after: timedelta
) -> tuple[datetime, list[str]] | None:
    """The boundary that is overdue and the entities that lack it; None when nothing is, or when it was told already."""
    if one.registration.is_disabled:
        return None
    boundary, started = one.registration.due(one.tenant, now)
    # What was registered after that run started is not late yet: its first run is the next one.
    missing = [each.entity for each in active if (each.watermark is None or each.watermark < boundary) and each.activated_at <= started]
    if not missing or now < started + after or registrations.noted(connection, one.tenant, LATE, {"boundary": timestamp_text(boundary)}):
        return None
    return boundary, missing


def _send(installation: Installation, subject: str, text: str) -> None:
    policy = installation.configuration.policy
    connection = installation.connections(policy.mail.connection)
    message = EmailMessage()
    message["Subject"], message["From"] = subject, mail.sender_of(connection, policy.mail.sender)
    message["To"] = ", ".join(policy.notify.to)
    message["Date"] = installation.now()
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    mail.send(connection, message)
