"""Following requests: list, read, cancel, delete; and how one looks to people and programs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from waybill.access import Caller, Permission
from waybill.canonical import optional_timestamp_text
from waybill.configuration.policy import ExportPolicy
from waybill.errors import Finding, InvalidInput
from waybill.installation import Installation
from waybill.ledger import registrations
from waybill.ledger.engine import is_id
from waybill.ledger.on_demand import requests
from waybill.ledger.on_demand.request_records import ExportFile, ExportRequest, Status
from waybill.requests.creating import zone_of
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
from waybill.requests.states import advice, label, name_of, needs_support, refused
from waybill.requests.upkeep import archives_of, fail_stalled

MOST = 200


@dataclass(frozen=True)
class Listing:
    """One page of requests, newest first; `cursor` leads to the next, None at the end."""

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
    """What the caller may see of a tenant's requests. Raises not_found, view_denied, and InvalidInput for a cursor that is none."""
    export_policy = require(installation, caller, tenant, Permission.EXPORTS_VIEW)
    if cursor and not is_id(cursor):
        raise InvalidInput([Finding("", "cursor", "not a cursor of this list", code="bad_cursor")])
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
            found += [one for one in page if may_see(caller, one, export_policy)]
            if len(page) <= limit:
                break
            cursor = page[-1].id
    return Listing(found[:limit], found[limit - 1].id if len(found) > limit else None)


def get_request(installation: Installation, caller: Caller, tenant: str, request_id: str) -> ExportRequest:
    """A request the caller may see at this tenant. Raises not_found for all others, view_denied."""
    export_policy = require(installation, caller, tenant, Permission.EXPORTS_VIEW)
    if not is_id(request_id):
        raise refused("not_found")
    with installation.ledger.begin() as connection:
        fail_stalled(connection, installation, tenant)
        one = requests.get(connection, request_id)
    if (
        one is None
        or one.tenant not in visible_tenants(installation, caller, tenant, export_policy)
        or not may_see(caller, one, export_policy)
    ):
        raise refused("not_found")
    return one


def cancel(installation: Installation, caller: Caller, tenant: str, request_id: str) -> ExportRequest:
    """Stop an active request; its slot is free at once. Raises not_found, cancel_denied, not_active."""
    while True:
        one = get_request(installation, caller, tenant, request_id)
        export_policy = installation.configuration.export_policy(one.tenant)
        if not may_cancel(caller, one, export_policy):
            note_denied(installation, caller, tenant, "cancel", request=one.id)
            raise refused("cancel_denied")
        if not one.is_active:
            raise refused("not_active")
        with installation.ledger.begin() as connection:
            if requests.cancel(connection, one, installation.now()):
                registrations.note(connection, one.tenant, caller.actor, "cancel_export", {"request": one.id}, installation.now())
                stopped = requests.get(connection, one.id)
                return stopped if stopped is not None else one


def delete(installation: Installation, caller: Caller, tenant: str, request_ids: Sequence[str]) -> None:
    """Delete requests with their archives, all or none; an active one is stopped by it. Touches nothing else.

    Raises not_found when one of them is not there for the caller, delete_denied when one may not be deleted by them.
    """
    seen = [get_request(installation, caller, tenant, one) for one in dict.fromkeys(request_ids)]
    for one in seen:
        if not may_delete(caller, one, installation.configuration.export_policy(one.tenant)):
            note_denied(installation, caller, tenant, "delete", request=one.id)
            raise refused("delete_denied")
    with installation.ledger.begin() as connection:
        gone = [_delete(connection, installation, caller, one) for one in seen]
    archives = archives_of(installation)
    for name in gone:
        if name:
            archives.remove(name)


def _delete(connection: Connection, installation: Installation, caller: Caller, seen: ExportRequest) -> str | None:
    """Remove one row whatever state it has reached meanwhile, and return the archive it leaves."""
    current: ExportRequest | None = seen
    while current is not None and not requests.remove(connection, current):
        current = requests.get(connection, seen.id)
    if current is None:
        raise refused("not_found")  # somebody else deleted it: nothing of this call is done
    registrations.note(connection, seen.tenant, caller.actor, "delete_export", {"request": seen.id}, installation.now())
    return current.archive


def describe_request(
    installation: Installation, one: ExportRequest, *, caller: Caller | None = None, files: Sequence[ExportFile] | None = None
) -> dict[str, Any]:
    """A request as JSON. `rows`, `bytes` and `sha256` are null until done; `files` is left out where it was not read."""
    export_policy, now = installation.configuration.export_policy(one.tenant), installation.now()
    status = one.shown(now)
    names = installation.catalog.entities
    shown: dict[str, Any] = {
        "id": one.id,
        "tenant": one.tenant,
        "tenants": one.tenants,
        "exportType": one.export_type,
        "scope": one.scope,
        "entities": one.entities,
        "entityNames": [names[entity].display_name if entity in names else entity for entity in one.entities],
        "range": one.range_asked,
        "formats": one.formats,
        "formatLabels": [export_policy.page.formats.get(name, name.upper()) for name in one.formats],
        "status": str(status),
        "statusLabel": label(export_policy, status, one.progress),
        "progress": one.progress,
        "rows": one.rows,
        "bytes": one.bytes,
        "sha256": one.sha256,
        "error": _error(one, export_policy),
        "requestedBy": {"id": one.requested_by, "name": one.requester_name},
        "createdAt": optional_timestamp_text(one.created_at),
        "dueAt": optional_timestamp_text(one.due_at),
        "startedAt": optional_timestamp_text(one.started_at),
        "finishedAt": optional_timestamp_text(one.finished_at),
        "expiresAt": optional_timestamp_text(one.expires_at),
        "heartbeatAt": optional_timestamp_text(one.heartbeat_at),
        "firstDownloadedAt": optional_timestamp_text(one.downloaded_at),
        "attempt": one.attempt,
        "resubmittedFrom": one.resubmitted_from,
        "template": one.template,
        "supportContact": export_policy.support_contact if needs_support(one, export_policy, now) else None,
    }
    if caller is not None:
        shown["actions"] = _actions(caller, one, export_policy, status)
    if files is not None:
        shown["files"] = [vars(file) for file in files]
    return shown


def _error(one: ExportRequest, export_policy: ExportPolicy) -> dict[str, str | None] | None:
    if one.error_code is None:
        return None
    return {"code": one.error_code, "message": one.error_message, "advice": advice(one, export_policy)}


def _actions(caller: Caller, one: ExportRequest, export_policy: ExportPolicy, status: str) -> dict[str, bool]:
    """What the caller may do with the request now."""
    ended = status in (Status.FAILED, Status.CANCELLED, Status.EXPIRED)
    return {
        "download": status is Status.DONE and may_download(caller, one),
        "cancel": one.is_active and may_cancel(caller, one, export_policy),
        "resubmit": ended and caller.allows(Permission.EXPORTS_CREATE, one.tenant),
        "delete": may_delete(caller, one, export_policy),
    }


def files_of(installation: Installation, one: ExportRequest) -> list[ExportFile]:
    with installation.ledger.read() as connection:
        return requests.files_of(connection, one.id)


def options(installation: Installation, caller: Caller, tenant: str) -> dict[str, Any]:
    """Everything a form needs, as JSON. Raises not_found, view_denied."""
    export_policy = require(installation, caller, tenant, Permission.EXPORTS_VIEW)
    policy = installation.configuration.policy
    planned = has_plan(installation, tenant)
    return {
        "canCreate": planned and caller.allows(Permission.EXPORTS_CREATE, tenant),
        "formats": list(export_policy.formats),
        "jsonLayout": export_policy.json_layout,
        "scopes": list(offered_levels(installation, caller, tenant)),
        "exportTypes": {name: kind.model_dump(mode="json") for name, kind in export_policy.export_types.items()},
        "entities": [
            {
                "id": one.id,
                "name": one.display_name,
                "description": one.description,
                "formats": list(one.formats),
                "scopes": list(one.scopes),
                "ranged": bool(one.time_column),
                "columns": [
                    {"name": name, "type": column.type.value, "description": column.description} for name, column in one.columns.items()
                ],
            }
            for one in installation.catalog.offered_to(tenant).entities.values()
        ],
        "range": {
            "required": export_policy.range.required,
            "maxDays": export_policy.range.max_days,
            "notInFuture": export_policy.range.not_in_future,
            "presets": list(export_policy.range.presets),
        },
        "labels": {status.value: name_of(export_policy, status) for status in Status},
        "page": export_policy.page.model_dump(mode="json"),
        "fulfilment": export_policy.fulfilment,
        "maxActivePerProject": export_policy.max_active_per_project,
        "planRequired": None if planned else export_policy.plan_required,
        "organization": policy.organization_of(tenant),
        "zone": zone_of(installation, tenant).key,
    }
