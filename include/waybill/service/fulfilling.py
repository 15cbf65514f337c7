"""Working through pending requests: what `waybill fulfil` and the DAG `export_requests` do."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from datetime import datetime

from waybill import fulfilment
from waybill.access import Permission
from waybill.errors import WaybillError
from waybill.fulfilment import Means, Task
from waybill.ledger import requests
from waybill.request import ExportRequest, Failure
from waybill.request.model import FAILURES
from waybill.service.estate import PRODUCED_BY, Estate
from waybill.service.permitting import has_plan, still_holds
from waybill.service.requests_upkeep import archives_of, fail_stalled, mail_about, spool_of

Progress = Callable[[ExportRequest], None]


def pending(estate: Estate, due: datetime | None = None) -> list[ExportRequest]:
    """Pending requests in the order they were made; with `due` only those whose time has come by then. Gives stalled ones up first."""
    with estate.ledger.begin() as connection:
        fail_stalled(connection, estate)
        return requests.pending(connection, due)


def fulfil(estate: Estate, request_id: str, *, worker: str = "", sleep: Callable[[float], None] = time.sleep) -> ExportRequest | None:
    """Claim one pending request and carry it to its end. None when it is not pending (any more), or was stopped on the way.

    Errors on purpose end in a failed request; a bug fails it too and is raised on.
    """
    with estate.ledger.begin() as connection:
        one = requests.get(connection, request_id)
        claimed = one and requests.claim(connection, one, worker or f"{socket.gethostname()}:{os.getpid()}", estate.now())
    if not claimed:
        return None
    knobs = estate.configuration.knobs(claimed.tenant)
    try:
        refusal = None if _may_start(estate, claimed) else FAILURES["permission_revoked"]
        task = None if refusal else _task(estate, claimed)
    except WaybillError as error:
        fulfilment.log.warning("tenant %s, export %s: %s", claimed.tenant, claimed.id, error)
        refusal, task = fulfilment.failure_of(error), None
    if task is None:
        return _refuse(estate, claimed, refusal or FAILURES["internal"])
    means = Means(
        estate.ledger,
        estate.source,
        archives_of(estate),
        spool_of(estate),
        estate.now,
        sleep,
        lambda kind: mail_about(claimed, kind, knobs),
    )
    return fulfilment.fulfil(task, means)


def _may_start(estate: Estate, one: ExportRequest) -> bool:
    """Plan and right to create are asked for again at the start; for an organization also whether its tenants still belong together."""
    if one.scope["level"] == "organization":
        members = estate.configuration.policy.organizations.get(
            one.scope.get("organization") or estate.configuration.policy.organization_of(one.tenant) or "", ()
        )
        if not set(one.tenants) <= set(members):
            return False
    return has_plan(estate, one.tenant) and still_holds(estate, one.roles, one.tenants, Permission.EXPORTS_CREATE)


def _task(estate: Estate, one: ExportRequest) -> Task:
    entities = tuple(estate.entity(entity) for entity in one.entities)
    with estate.ledger.begin() as connection:
        salts = {tenant: requests.salt(connection, tenant) for tenant in one.tenants}
    return Task(one, estate.configuration.knobs(one.tenant), entities, salts, PRODUCED_BY)


def _refuse(estate: Estate, one: ExportRequest, why: Failure) -> ExportRequest | None:
    with estate.ledger.begin() as connection:
        requests.fail(connection, one, why, mail_about(one, "failed", estate.configuration.knobs(one.tenant)), estate.now())
        return requests.get(connection, one.id)


def fulfil_all(estate: Estate, *, due_only: bool = False, progress: Progress = lambda one: None) -> list[ExportRequest]:
    """Work through what is pending now, once, oldest first."""
    ended = []
    for one in pending(estate, estate.now() if due_only else None):
        progress(one)
        if (done := fulfil(estate, one.id)) is not None:
            ended.append(done)
    return ended
