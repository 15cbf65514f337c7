"""Works through pending requests, for `waybill fulfil` and the DAG `export_requests`."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from datetime import datetime

from waybill.access import Permission
from waybill.errors import Finding, WaybillError
from waybill.installation import PRODUCED_BY, Installation
from waybill.ledger.on_demand import requests
from waybill.ledger.on_demand.request_records import ExportRequest, Failure
from waybill.requests.fulfilment import exporting
from waybill.requests.fulfilment.exporting import ExportJob, Resources
from waybill.requests.fulfilment.heartbeat import Heartbeat
from waybill.requests.lifecycle import failed_by, failure
from waybill.requests.rights import has_plan, organization_members, still_holds
from waybill.requests.scopes import unknown
from waybill.requests.submission import no_longer_offered
from waybill.requests.upkeep import archives_of, fail_stalled, mail_about, spool_of


def pending(installation: Installation, due: datetime | None = None) -> list[ExportRequest]:
    """Give up stalled requests, then return the pending ones, oldest first. With `due`, only those that may start by then."""
    with installation.ledger.begin() as connection:
        fail_stalled(connection, installation)
        return requests.pending(connection, due)


def fulfil(
    installation: Installation, request_id: str, *, worker: str = "", sleep: Callable[[float], None] = time.sleep
) -> ExportRequest | None:
    """Claim one pending request and carry it to its end. None if it is not pending, or was stopped on the way.

    A WaybillError ends in a failed request. Any other error also fails the request, and is raised again.
    """
    with installation.ledger.begin() as connection:
        request = requests.get(connection, request_id)
        claimed = request and requests.claim(connection, request, worker or f"{socket.gethostname()}:{os.getpid()}", installation.now())
    if not claimed:
        return None
    with installation.speaking_to(claimed.tenant):
        return _carry_out(installation, claimed, sleep)


def _carry_out(installation: Installation, claimed: ExportRequest, sleep: Callable[[float], None]) -> ExportRequest | None:
    try:
        job = _job_or_failure(installation, claimed)
    except BaseException:
        _refuse(installation, claimed, failure("internal"))
        raise
    if isinstance(job, Failure):
        return _refuse(installation, claimed, job)
    resources = Resources(
        installation.ledger,
        installation.source,
        archives_of(installation),
        spool_of(installation),
        installation.now,
        sleep,
        lambda kind: mail_about(claimed, kind, job.export_policy),
    )
    return exporting.fulfil(job, resources)


def _job_or_failure(installation: Installation, claimed: ExportRequest) -> ExportJob | Failure:
    """Check a request again as it starts. Return what its archive is made from, or why there will be none."""
    try:
        if not _may_start(installation, claimed):
            return failure("permission_revoked")
        if gone := _no_longer_offered(installation, claimed):
            return failed_by("no_longer_offered", gone)
        job = _job(installation, claimed)
        with Heartbeat(installation.ledger, claimed, job.export_policy.heartbeat, installation.now):  # a source may be slow to tell values
            return _unknown_scope(installation, claimed, job) or job
    except WaybillError as error:
        exporting.log.warning("tenant %s, export %s: %s", claimed.tenant, claimed.id, error)
        return exporting.failure_of(error)


def _unknown_scope(installation: Installation, request: ExportRequest, job: ExportJob) -> Failure | None:
    try:
        findings = [found for tenant in request.tenants for found in unknown(installation, tenant, job.filters)]
    except WaybillError:
        return None  # the source is read next, and its own error is reported then
    return failed_by("unknown_scope", findings) if findings else None


def _no_longer_offered(installation: Installation, request: ExportRequest) -> list[Finding]:
    """Return what catalog or policy have taken away since the request was made. Another request would be refused for it."""
    catalog = installation.catalog.offered_to(request.tenant)
    return no_longer_offered(request, catalog, installation.configuration.export_policy(request.tenant))


def _may_start(installation: Installation, request: ExportRequest) -> bool:
    """Check plan and right again at the start, and for an organization whether its tenants still belong together."""
    of_one = request.scope["level"] != "organization"
    if not of_one and not set(request.tenants) <= {*organization_members(installation, request.tenant, request.scope.get("organization"))}:
        return False
    return has_plan(installation, request.tenant) and still_holds(installation, request.roles, request.tenants, Permission.EXPORTS_CREATE)


def _job(installation: Installation, request: ExportRequest) -> ExportJob:
    entities = tuple(installation.entity(entity) for entity in request.entities)
    with installation.ledger.begin() as connection:
        salts = {tenant: requests.salt(connection, tenant) for tenant in request.tenants}
    words = {tenant: installation.words_of(tenant) for tenant in request.tenants}
    return ExportJob(request, installation.configuration.export_policy(request.tenant), entities, salts, words, PRODUCED_BY)


def _refuse(installation: Installation, request: ExportRequest, why: Failure) -> ExportRequest | None:
    with installation.ledger.begin() as connection:
        requests.fail(
            connection,
            request,
            why,
            mail_about(request, "failed", installation.configuration.export_policy(request.tenant)),
            installation.now(),
        )
        return requests.get(connection, request.id)


def fulfil_all(installation: Installation, *, due_only: bool = False) -> list[ExportRequest]:
    """Fulfil every request that is pending now, once, oldest first."""
    ended = []
    for request in pending(installation, installation.now() if due_only else None):
        if (done := fulfil(installation, request.id)) is not None:
            ended.append(done)
    return ended
