"""What waits to be done about requests, as a look at the ledger that changes nothing."""

from __future__ import annotations

from waybill.ledger import requests, templates
from waybill.request.model import stalled
from waybill.service.estate import Estate


def waiting(estate: Estate) -> list[str]:
    """One word per thing that waits: ids of pending requests whose time has come, mails, stalled requests and templates that are due."""
    now = estate.now()
    with estate.ledger.begin() as connection:
        pending = [one.id for one in requests.pending(connection, now)]
        mails = [f"mail:{one.id}:{one.mail_tries}" for one in requests.mails_due(connection, now)]
        running = requests.running(connection)
        due = [f"template:{one.id}:{one.next_at.isoformat()}" for one in templates.due(connection, now)]
    silent = [f"stalled:{one.id}" for one in running if stalled(one, estate.configuration.knobs(one.tenant).stall_after, now)]
    return [*pending, *mails, *silent, *due]
