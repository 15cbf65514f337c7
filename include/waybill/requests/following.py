"""Lists, reads, cancels and deletes requests, and describes one for people and programs."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from waybill.access import Caller, Permission
from waybill.configuration.catalog import Entity
from waybill.configuration.policy import ExportPolicy
from waybill.errors import Finding, InvalidInput, WaybillError
from waybill.installation import Installation
from waybill.language import tell
from waybill.ledger import registrations
from waybill.ledger.database.engine import is_id
from waybill.ledger.on_demand import requests
from waybill.ledger.on_demand.request_records import ExportFile, ExportRequest, Status
from waybill.requests.answers import (
    Actions,
    ArchivedFile,
    Described,
    Export,
    Failed,
    OfferedColumn,
    OfferedEntity,
    OfferedRange,
    Options,
    Person,
)
from waybill.requests.creating import zone_of
from waybill.requests.lifecycle import Refused, advice, label, name_of, needs_support
from waybill.requests.rights import (
    has_plan,
    may_cancel,
    may_delete,
    may_download,
    may_see,
    note_denied,
    require,
    sees_only_own,
    visible_tenants,
)
from waybill.requests.scopes import offered_levels
from waybill.requests.upkeep import archives_of, fail_stalled

MOST = 200

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """One page of requests, newest first. `cursor` leads to the next page, None at the end."""

    requests: list[ExportRequest]
    cursor: str | None


def list_requests(
    installation: Installation,
    caller: Caller,
    tenant: str,
    *,
    statuses: Collection[Status] = (),
    mine: bool = False,
    limit: int = 50,
    cursor: str = "",
) -> Listing:
    """Return the tenant's requests that the caller may see. Raises not_found, view_denied, and InvalidInput for a bad cursor."""
    export_policy = require(installation, caller, tenant, Permission.EXPORTS_VIEW)
    if cursor and not is_id(cursor):
        raise InvalidInput([Finding("", "cursor", tell("submission.no_cursor"), code="bad_cursor")])
    limit = max(1, min(limit, MOST))
    person = caller.actor if mine or sees_only_own(caller, tenant, export_policy) else None
    tenants = visible_tenants(installation, caller, tenant, export_policy)
    found: list[ExportRequest] = []
    with installation.ledger.begin() as connection:
        fail_stalled(connection, installation, tenant)
        while len(found) <= limit:
            page = requests.listed(
                connection, tenants, installation.now(), statuses=statuses, person=person, limit=limit + 1, before=cursor
            )
            found += [request for request in page if may_see(caller, request, export_policy)]
            if len(page) <= limit:
                break
            cursor = page[-1].id
    return Listing(found[:limit], found[limit - 1].id if len(found) > limit else None)


def get_request(installation: Installation, caller: Caller, tenant: str, request_id: str) -> ExportRequest:
    """Return a request that the caller may see at this tenant. Raises not_found for any other, and view_denied."""
    export_policy = require(installation, caller, tenant, Permission.EXPORTS_VIEW)
    if not is_id(request_id):
        raise Refused("not_found")
    with installation.ledger.begin() as connection:
        fail_stalled(connection, installation, tenant)
        request = requests.get(connection, request_id)
    if (
        request is None
        or request.tenant not in visible_tenants(installation, caller, tenant, export_policy)
        or not may_see(caller, request, export_policy)
    ):
        raise Refused("not_found")
    return request


def cancel(installation: Installation, caller: Caller, tenant: str, request_id: str) -> ExportRequest:
    """Stop an active request. Its slot is free at once. Raises not_found, cancel_denied, not_active."""
    while True:
        request = get_request(installation, caller, tenant, request_id)
        export_policy = installation.configuration.export_policy(request.tenant)
        if not may_cancel(caller, request, export_policy):
            note_denied(installation, caller, tenant, "cancel", request=request.id)
            raise Refused("cancel_denied")
        if not request.is_active:
            raise Refused("not_active")
        with installation.ledger.begin() as connection:
            if requests.cancel(connection, request, installation.now()):
                registrations.note(connection, request.tenant, caller.actor, "cancel_export", {"request": request.id}, installation.now())
                stopped = requests.get(connection, request.id)
                return stopped if stopped is not None else request


def delete(installation: Installation, caller: Caller, tenant: str, request_ids: Sequence[str]) -> None:
    """Delete requests with their archives, all or none. An active request stops. Nothing else changes.

    An archive that cannot be removed now has no request any more, so nobody reads it, and housekeeping removes it a day later.

    Raises not_found if the caller may not see one of them, and delete_denied if the caller may not delete one.
    """
    seen = [get_request(installation, caller, tenant, request_id) for request_id in dict.fromkeys(request_ids)]
    for request in seen:
        if not may_delete(caller, request, installation.configuration.export_policy(request.tenant)):
            note_denied(installation, caller, tenant, "delete", request=request.id)
            raise Refused("delete_denied")
    with installation.ledger.begin() as connection:
        gone = [_delete(connection, installation, caller, request) for request in seen]
    archives = archives_of(installation)
    for name in gone:
        try:
            if name:
                archives.remove(name)
        except WaybillError as error:
            log.warning("%s. Housekeeping removes %s a day later.", error, name)


def _delete(connection: Connection, installation: Installation, caller: Caller, seen: ExportRequest) -> str | None:
    """Remove one row, whatever state it has reached meanwhile, and return the archive it leaves."""
    current: ExportRequest | None = seen
    while current is not None and not requests.remove(connection, current):
        current = requests.get(connection, seen.id)
    if current is None:
        raise Refused("not_found")  # somebody else deleted it, so this call does nothing
    registrations.note(connection, seen.tenant, caller.actor, "delete_export", {"request": seen.id}, installation.now())
    return current.archive


def describe_request(installation: Installation, request: ExportRequest) -> Described:
    """Return a request as it is for everybody. `rows`, `bytes` and `sha256` are None until it is done."""
    export_policy, now = installation.configuration.export_policy(request.tenant), installation.now()
    status = request.shown(now)
    names = installation.configuration.catalog.entities  # also while the catalog is broken: what was made can be told
    return Described(
        id=request.id,
        tenant=request.tenant,
        tenants=request.tenants,
        export_type=request.export_type,
        scope=request.scope,
        entities=request.entities,
        entity_names=[names[entity].display_name if entity in names else entity for entity in request.entities],
        range=request.range_asked,
        formats=request.formats,
        format_labels=[export_policy.page.formats.get(name, name.upper()) for name in request.formats],
        status=str(status),
        status_label=label(export_policy, status, request.progress),
        progress=request.progress,
        rows=request.rows,
        bytes=request.bytes,
        sha256=request.sha256,
        error=_error(request, export_policy),
        requested_by=Person(id=request.requested_by, name=request.requester_name),
        created_at=request.created_at,
        due_at=request.due_at,
        started_at=request.started_at,
        finished_at=request.finished_at,
        expires_at=request.expires_at,
        heartbeat_at=request.heartbeat_at,
        first_downloaded_at=request.downloaded_at,
        attempt=request.attempt,
        resubmitted_from=request.resubmitted_from,
        template=request.template,
        support_contact=export_policy.support_contact if needs_support(request, export_policy, now) else None,
    )


def describe_to(installation: Installation, caller: Caller, request: ExportRequest, files: Sequence[ExportFile] | None = None) -> Export:
    """Return a request with what the caller may do with it now. `files` is None if they were not read."""
    described = describe_request(installation, request)
    return Export(
        **dict(described),
        actions=_actions(caller, request, installation.configuration.export_policy(request.tenant), described.status),
        files=None if files is None else [ArchivedFile(**vars(file)) for file in files],
    )


def _error(request: ExportRequest, export_policy: ExportPolicy) -> Failed | None:
    if request.error_code is None:
        return None
    return Failed(code=request.error_code, message=request.error_message, advice=advice(request, export_policy))


def _actions(caller: Caller, request: ExportRequest, export_policy: ExportPolicy, status: str) -> Actions:
    ended = status in (Status.FAILED, Status.CANCELLED, Status.EXPIRED)
    return Actions(
        download=status == Status.DONE and may_download(caller, request),
        cancel=request.is_active and may_cancel(caller, request, export_policy),
        resubmit=ended and caller.allows(Permission.EXPORTS_CREATE, request.tenant),
        delete=may_delete(caller, request, export_policy),
    )


def files_of(installation: Installation, request: ExportRequest) -> list[ExportFile]:
    with installation.ledger.read() as connection:
        return requests.files_of(connection, request.id)


def options(installation: Installation, caller: Caller, tenant: str) -> Options:
    """Return everything that a form needs. Raises not_found, view_denied."""
    export_policy = require(installation, caller, tenant, Permission.EXPORTS_VIEW)
    planned = has_plan(installation, tenant)
    return Options(
        can_create=planned and caller.allows(Permission.EXPORTS_CREATE, tenant),
        formats=list(export_policy.formats),
        json_layout=export_policy.json_layout,
        scopes=list(offered_levels(installation, caller, tenant)),
        export_types=dict(export_policy.export_types),
        entities=[_offered(entity) for entity in installation.catalog.offered_to(tenant).entities.values()],
        range=OfferedRange(
            required=export_policy.range.required,
            max_days=export_policy.range.max_days,
            not_in_future=export_policy.range.not_in_future,
            presets=list(export_policy.range.presets),
        ),
        labels={status.value: name_of(export_policy, status) for status in Status},
        page=export_policy.page,
        fulfilment=export_policy.fulfilment,
        max_active_per_project=export_policy.max_active_per_project,
        plan_required=None if planned else export_policy.plan_required,
        organization=installation.configuration.policy.organization_of(tenant),
        zone=zone_of(installation, tenant).key,
    )


def _offered(entity: Entity) -> OfferedEntity:
    return OfferedEntity(
        id=entity.id,
        name=entity.display_name,
        description=entity.description,
        formats=list(entity.formats),
        scopes=list(entity.scopes),
        ranged=bool(entity.time_column),
        columns=[
            OfferedColumn(name=name, type=column.type.value, description=column.description) for name, column in entity.columns.items()
        ],
    )
