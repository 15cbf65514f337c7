"""Routes of registrations: look, rehearse, replace, full load, history, undo."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from fastapi import Path as InPath
from fastapi.responses import JSONResponse

from waybill.canonical import timestamp_text
from waybill.configuration.findings import validated
from waybill.configuration.registration import Difference, Registration
from waybill.deliveries import full_load_requests
from waybill.errors import Finding, InvalidInput
from waybill.installation import Installation
from waybill.language import tell
from waybill.ledger.streams import Stream
from waybill.registrations import replacing
from waybill.web.api import models, openapi
from waybill.web.api.openapi import problems
from waybill.web.bodies import JsonBody
from waybill.web.dependencies import RUN_STARTED, Editor, InstallationDep, Operator, SchedulerDep, TenantPath, Viewer, follow
from waybill.web.problems import Refused

router = APIRouter(prefix="/tenants/{tenant}/export", tags=["registrations"])

EXAMPLES = {
    "selected": {
        "exportOption": "export selected",
        "entityList": ["user", "content", "user logins", "interaction"],
        "frequency": "daily",
    },
    "local time": {
        "exportOption": "export selected",
        "entityList": ["user", "content"],
        "frequency": "daily",
        "timezone": "Europe/Berlin",
        "deliverAt": "02:00",
    },
    "all": {"exportOption": "export all", "frequency": "weekly"},
    "disable": {"exportOption": "disable export"},
}
REFUSALS = problems("bad_request", "denied", "not_found", "managed_as_code", "etag_mismatch", "too_large", "unsupported_media_type")
ETAG = {"headers": {"ETag": {"description": "Of the version in force.", "schema": {"type": "string"}}}}

DryRun = Annotated[bool, Query(alias="dryRun", description="Tell what would change, with an estimate, and change nothing.")]
IfMatch = Annotated[str | None, Header(description="The ETag of the version you saw; 412 when another is in force.")]
IfNoneMatch = Annotated[str | None, Header(description="`*`: only when the tenant has no registration yet.")]


def etag(version: int) -> str:
    return f'"{version}"'


def standing_body(installation: Installation, standing: replacing.Standing, *, inactive: bool = False) -> dict[str, Any]:
    """A registration as GET shows it."""
    registered = standing.registered
    shown = {
        "timezone": registered.registration.timezone,
        **registered.body,
        "tenant": registered.tenant,
        "version": registered.version,
        "entities": list(standing.active),
        "managedBy": {"kind": "file" if standing.managed_by else "api", "file": standing.managed_by},
        "updatedAt": timestamp_text(registered.created_at),
        "updatedBy": registered.actor,
    }
    if inactive:
        shown["inactive"] = [_inactive(installation, stream).as_json() for stream in standing.inactive]
    return shown


def _inactive(installation: Installation, stream: Stream) -> models.Inactive:
    entity = installation.configuration.catalog.entity(stream.entity)
    return models.Inactive(
        entity=stream.entity,
        name=entity.display_name if entity else stream.entity,
        generation=stream.generation,
        activated_at=stream.activated_at,
        deactivated_at=stream.deactivated_at,
        delivered_until=stream.watermark,
    )


@router.get(
    "", response_model=models.Standing, responses={200: ETAG, **problems("denied", "not_found")}, summary="The registration in force"
)
def get_registration(
    tenant: TenantPath,
    caller: Viewer,
    installation: InstallationDep,
    include_inactive: Annotated[bool, Query(alias="includeInactive", description="Also list entities that are switched off.")] = False,
) -> JSONResponse:
    """What the tenant receives. The answer can be sent back by PUT as it is; doing so changes nothing."""
    standing = replacing.standing(installation, tenant)
    shown = standing_body(installation, standing, inactive=include_inactive)
    return JSONResponse(shown, headers={"ETag": etag(standing.registered.version), "Cache-Control": "no-cache"})


def _expected(installation: Installation, tenant: str, if_match: str | None, if_none_match: str | None) -> int | None:
    """The version a conditional call is about: None for an unconditional one. Raises etag_mismatch when no version can fit."""
    if if_match is None:
        if if_none_match is None:
            return None
        if if_none_match.strip() != "*":
            raise Refused("bad_request", tell("call.if_none_match"))
        return 0
    current = replacing.find(installation, tenant)
    version = current.version if current else 0
    tags = {tag.strip() for tag in if_match.split(",")}
    if (current and "*" in tags) or etag(version) in tags:
        return version
    return -1


@router.put(
    "",
    response_model=models.Replaced | models.Rehearsal,
    responses={200: ETAG, 201: {"model": models.Replaced, "description": "The tenant's first registration.", **ETAG}, **REFUSALS},
    openapi_extra=openapi.body(Registration, EXAMPLES),
    summary="Replace the registration",
)
@router.post(
    "",
    response_model=models.Replaced | models.Rehearsal,
    responses={200: ETAG, 201: {"model": models.Replaced, "description": "The tenant's first registration.", **ETAG}, **REFUSALS},
    openapi_extra=openapi.body(Registration, EXAMPLES),
    summary="Replace the registration",
)
def replace_registration(
    tenant: TenantPath,
    caller: Editor,
    body: JsonBody,
    installation: InstallationDep,
    scheduler: SchedulerDep,
    dry_run: DryRun = False,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> JSONResponse:
    """The entities of the body become the active set; active ones that it does not name are switched off.

    Repeating a call changes nothing. A newly active entity is delivered in full first; kept ones go on where they were.
    PUT and POST do the same.
    """
    raw = {key: value for key, value in body.items() if key not in models.READ_ONLY}
    expected = _expected(installation, tenant, if_match, if_none_match)
    if dry_run:
        return _rehearse(installation, tenant, raw, expected, caller.is_operator)
    done = replacing.replace(installation, tenant, raw, actor=caller.actor, expected=expected, operator=caller.is_operator)
    return _replaced(installation, scheduler, caller, done)


def _rehearse(installation: Installation, tenant: str, raw: dict[str, Any], expected: int | None, operator: bool) -> JSONResponse:
    plan = replacing.rehearse(installation, tenant, raw, expected=expected, operator=operator)
    rows = [estimate.rows for estimate in plan.estimates]
    sizes = [estimate.bytes for estimate in plan.estimates]
    return JSONResponse(
        {
            "dryRun": True,
            "changed": not plan.changes_nothing,
            **_changes(plan.difference),
            "fields": _fields(plan.fields),
            "estimatedRows": _total(rows),
            "estimatedBytes": _total(sizes),
            "estimates": [
                {"entity": estimate.entity, "rows": estimate.rows, "bytes": estimate.bytes, "note": estimate.note or None}
                for estimate in plan.estimates
            ],
        }
    )


def _fields(changed: dict[str, tuple[object, object]]) -> dict[str, dict[str, object]]:
    return {key: {"from": old, "to": new} for key, (old, new) in changed.items()}


def _total(numbers: list[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


def _changes(diff: Difference) -> dict[str, list[str]]:
    return {"activated": list(diff.activated), "deactivated": list(diff.deactivated), "kept": list(diff.kept)}


def _replaced(installation: Installation, scheduler: SchedulerDep, caller: Editor, done: replacing.Replaced) -> JSONResponse:
    registered = done.standing.registered
    if done.changed:
        follow(installation, scheduler, caller, registered.tenant, created=done.created)
    return JSONResponse(
        {**standing_body(installation, done.standing), **_changes(done.difference), "changed": done.changed},
        201 if done.created else 200,
        {"ETag": etag(registered.version), "Cache-Control": "no-cache"},
    )


@router.post(
    "/full-load",
    status_code=202,
    response_model=models.FullLoadQueued,
    responses=problems("bad_request", "not_registered", "denied", "not_found", "too_large", "unsupported_media_type"),
    openapi_extra=openapi.body(models.FullLoad, {"now": {"entities": ["user"], "when": "now"}, "everything": {}}, required=False),
    summary="Deliver full history again",
)
def full_load(tenant: TenantPath, caller: Operator, body: JsonBody, installation: InstallationDep, scheduler: SchedulerDep) -> JSONResponse:
    """Queue the complete history of entities for the next run, or start that run now."""
    findings: list[Finding] = []
    wanted = validated(models.FullLoad, body, "", findings)
    if wanted is None or findings:
        raise InvalidInput(findings)
    chosen = full_load_requests.queue_full_load(installation, tenant, wanted.entities or (), actor=caller.actor, when=wanted.when)
    started = scheduler.run_now(tenant, caller) if wanted.when == "now" else ""
    when: Literal["now", "next"] = "now" if started else "next"
    detail = RUN_STARTED[started] if wanted.when == "now" else tell("call.next_run")
    answer = models.FullLoadQueued(tenant=tenant, entities=chosen, when=when, detail=detail)
    return JSONResponse(answer.as_json(), 202)


@router.get(
    "/versions", response_model=models.Versions, responses=problems("denied", "not_found"), summary="History: who changed what, when"
)
def list_versions(tenant: TenantPath, caller: Viewer, installation: InstallationDep) -> JSONResponse:
    """Every registration the tenant ever had, newest first."""
    items = [_version(version) for version in replacing.history(installation, tenant)]
    return JSONResponse(models.Versions(items=items).as_json())


def _version(made: replacing.Version) -> models.Version:
    registered, diff = made.registered, made.registered.diff
    return models.Version(
        version=registered.version,
        created_at=registered.created_at,
        actor=registered.actor,
        origin=registered.origin,
        changes=models.Recorded(
            activated=diff.get("activated", []),
            deactivated=diff.get("deactivated", []),
            kept=diff.get("kept", []),
            fields=_fields(made.fields),
            restored_from=made.restored,
        ),
        registration=registered.body,
    )


@router.post(
    "/versions/{number}/restore",
    response_model=models.Replaced | models.Rehearsal,
    responses={200: ETAG, **problems("denied", "not_found", "managed_as_code", "etag_mismatch")},
    summary="Go back to an earlier version",
)
def restore_version(
    request: Request,
    tenant: TenantPath,
    number: Annotated[int, InPath(ge=1, le=2**31 - 1, description="The version to restore.")],
    caller: Editor,
    installation: InstallationDep,
    scheduler: SchedulerDep,
    dry_run: DryRun = False,
    if_match: IfMatch = None,
) -> JSONResponse:
    """Make what an earlier version said the registration in force, as a new version. Entities that come back start with a full load."""
    expected = _expected(installation, tenant, if_match, None)
    if dry_run:
        return _rehearse(installation, tenant, replacing.version(installation, tenant, number).body, expected, caller.is_operator)
    done = replacing.restore(installation, tenant, number, actor=caller.actor, expected=expected, operator=caller.is_operator)
    return _replaced(installation, scheduler, caller, done)
