"""What the tasks of the DAG `export_requests` do. Heavy imports wait until a task runs."""

from __future__ import annotations

import logging

from waybill import bootstrap
from waybill.errors import PermanentError

log = logging.getLogger(__name__)

Named = dict[str, str]
"""A request by tenant and id: what tasks hand each other through XCom, and nothing else."""


def find() -> list[Named]:
    """Give up stalled requests, make those that templates owe, and name what is pending and due."""
    from waybill.service.fulfilling import pending
    from waybill.service.recurring import make_recurring

    estate = bootstrap.estate()
    for one in make_recurring(estate):
        log.info("made export %s of %s from its template", one.id, one.tenant)
    return [{"tenant": one.tenant, "request": one.id} for one in pending(estate, estate.now())]


def fulfil(named: Named, worker: str) -> None:
    """Carry one request to its end. A request that somebody else has is left to them. Raises PermanentError when it failed."""
    from waybill import service
    from waybill.request import Status

    done = service.fulfil(bootstrap.estate(), named["request"], worker=worker)
    if done is None:
        log.info("export %s is not pending any more, or was stopped on the way", named["request"])
    elif done.status == Status.FAILED:
        raise PermanentError(
            done.error_message or "",
            where=f"tenant {done.tenant}, export {done.id}",
            next_step=done.error_advice or "",
            code="export_failed",
        )
    else:
        log.info("export %s: %s, %s rows, %s bytes, archive %s", done.id, done.status, done.rows, done.bytes, done.archive)


def tell() -> None:
    """Send the mail that is owed. What cannot be sent now is tried again later, so nothing here fails a run."""
    from waybill import service

    for problem in service.send_mails(bootstrap.estate()):
        log.warning("%s", problem)
