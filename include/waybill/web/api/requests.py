"""Routes of export requests: ask, follow, cancel, ask again, link, delete."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import BeforeValidator, Field

from waybill.access import Caller
from waybill.configuration.findings import parsed
from waybill.configuration.registration import entity_words
from waybill.installation import Installation
from waybill.ledger.on_demand.request_records import ACTIVE, ExportRequest, Status
from waybill.requests import creating, following, links
from waybill.requests.answers import Export, Exports, Options, SignedLink
from waybill.requests.creating import Origin
from waybill.requests.following import options
from waybill.requests.lifecycle import Refused
from waybill.requests.links import DOWNLOADS, public_url
from waybill.requests.submission import RequestBody, Submission
from waybill.web.api import openapi
from waybill.web.api.openapi import problems
from waybill.web.bodies import JsonBody
from waybill.web.dependencies import Asker, CallerDep, InstallationDep, Onlooker, TenantPath

router = APIRouter(prefix="/tenants/{tenant}/exports", tags=["exports"])
without_tenant = APIRouter(prefix="/exports", tags=["exports"])

RequestId = Annotated[str, InPath(description="Request id.")]
IdempotencyKey = Annotated[
    str | None, Header(min_length=1, max_length=255, description="The same key and body give the same request; another body is refused.")
]
EXAMPLES = {
    "tenant": {"entities": ["user", "content"], "formats": ["ndjson"]},
    "range": {"entities": ["user logins"], "formats": ["csv"], "range": {"from": "2026-01-01", "to": "2026-01-31"}},
    "project": {
        "scope": {"level": "project", "project": "p1"},
        "entities": ["content"],
        "formats": ["csv", "json"],
        "range": "last_30_days",
    },
}
POLL_SECONDS = 2
_READING = ("view_denied", "not_found")
_BODY = ("bad_request", "too_large", "unsupported_media_type")


class BulkDelete(RequestBody):
    """All of them, or none."""

    ids: Annotated[tuple[str, ...], BeforeValidator(entity_words), Field(min_length=1, max_length=200)]


openapi.REQUEST_MODELS += [Submission, BulkDelete]


def shown(installation: Installation, caller: Caller, request: ExportRequest, status: int = 200, *, base: str = "") -> JSONResponse:
    """A request as an answer: while it is active with the time after which looking again is worth it."""
    files = following.files_of(installation, request) if request.status in (Status.DONE, Status.EXPIRED) else []
    headers = {"Cache-Control": "no-store"}
    if request.status in ACTIVE:
        wait = (request.due_at - installation.now()).total_seconds() if request.status == Status.PENDING else 0
        headers["Retry-After"] = str(max(POLL_SECONDS, int(wait)))
    if base:
        headers["Location"] = f"{base}/{request.id}"
    return JSONResponse(following.describe_to(installation, caller, request, files).as_json(), status, headers)


def _collection(request: Request, tenant: str) -> str:
    return request.url_for("list_exports", tenant=tenant).path


@router.post(
    "",
    status_code=202,
    response_model=Export,
    responses=problems(
        *_BODY,
        "create_denied",
        "plan_required",
        "not_found",
        "export_in_progress",
        "duplicate_request",
        "rate_limited",
        "idempotency_key_reused",
    ),
    openapi_extra=openapi.body(Submission, EXAMPLES),
    summary="Ask for an export",
)
def create_export(
    request: Request,
    tenant: TenantPath,
    caller: Asker,
    body: JsonBody,
    installation: InstallationDep,
    idempotency_key: IdempotencyKey = None,
) -> JSONResponse:
    """The export runs in the background. Follow it at `Location`; when it is done, ask for a link."""
    export = creating.create(installation, caller, tenant, parsed(Submission, body), Origin(key=idempotency_key))
    return shown(installation, caller, export, 202, base=_collection(request, tenant))


@router.get("", response_model=Exports, responses=problems(*_READING), summary="Exports, newest first")
def list_exports(
    tenant: TenantPath,
    caller: CallerDep,
    installation: InstallationDep,
    status: Annotated[list[Status] | None, Query(description="Only requests in these states; may be repeated.")] = None,
    mine: Annotated[bool, Query(description="Only the caller's own.")] = False,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str, Query(pattern="^([0-9a-f]{32})?$", description="`nextCursor` of the page before.")] = "",
) -> JSONResponse:
    """The requests the caller may see."""
    page = following.list_requests(installation, caller, tenant, statuses=status or (), mine=mine, limit=limit, cursor=cursor)
    items = [following.describe_to(installation, caller, request) for request in page.requests]
    return JSONResponse(Exports(items=items, next_cursor=page.cursor).as_json(), headers={"Cache-Control": "no-store"})


@router.get("/options", response_model=Options, responses=problems(*_READING), summary="What can be asked for")
def export_options(tenant: TenantPath, caller: CallerDep, installation: InstallationDep) -> JSONResponse:
    """Formats, scopes, types, entities, ranges and words, as policy sets them for this tenant."""
    return JSONResponse(options(installation, caller, tenant).as_json(), headers={"Cache-Control": "no-store"})


@router.post(
    "/bulk-delete",
    status_code=204,
    responses=problems(*_BODY, "delete_denied", *_READING),
    openapi_extra=openapi.body(BulkDelete, {"two": {"ids": ["0" * 31 + "1", "0" * 31 + "2"]}}),
    summary="Delete several, all or none",
)
def bulk_delete(tenant: TenantPath, caller: Onlooker, body: JsonBody, installation: InstallationDep) -> Response:
    """Nothing is deleted when one of them is unknown or may not be deleted."""
    following.delete(installation, caller, tenant, parsed(BulkDelete, body).ids)
    return Response(status_code=204)


@router.get("/{request_id}", response_model=Export, responses=problems(*_READING), summary="One export")
def get_export(tenant: TenantPath, request_id: RequestId, caller: CallerDep, installation: InstallationDep) -> JSONResponse:
    """Its state and progress; while it is active `Retry-After` tells when to look again."""
    return shown(installation, caller, following.get_request(installation, caller, tenant, request_id))


@router.delete(
    "/{request_id}", status_code=204, responses=problems("delete_denied", *_READING), summary="Delete an export with its archive"
)
def delete_export(tenant: TenantPath, request_id: RequestId, caller: CallerDep, installation: InstallationDep) -> Response:
    """Removes the request and its archive and nothing else; an active one is stopped."""
    following.delete(installation, caller, tenant, [request_id])
    return Response(status_code=204)


@router.post(
    "/{request_id}/cancel",
    response_model=Export,
    responses=problems("cancel_denied", "not_active", *_READING),
    summary="Stop an export",
)
def cancel_export(tenant: TenantPath, request_id: RequestId, caller: CallerDep, installation: InstallationDep) -> JSONResponse:
    """Only while it is pending or running; another export may start at once."""
    return shown(installation, caller, following.cancel(installation, caller, tenant, request_id))


@router.post(
    "/{request_id}/resubmit",
    status_code=202,
    response_model=Export,
    responses=problems(
        "create_denied", "plan_required", "not_resubmittable", "export_in_progress", "duplicate_request", "rate_limited", *_READING
    ),
    summary="Ask again for what ended",
)
def resubmit_export(
    request: Request,
    tenant: TenantPath,
    request_id: RequestId,
    caller: CallerDep,
    installation: InstallationDep,
    idempotency_key: IdempotencyKey = None,
) -> JSONResponse:
    """A new request like one that failed, expired or was cancelled; a named range means today's dates, a recurring one keeps its period."""
    before = following.get_request(installation, caller, tenant, request_id)
    export = creating.resubmit(installation, caller, before, idempotency_key)
    return shown(installation, caller, export, 202, base=_collection(request, tenant))


@router.post(
    "/{request_id}/link",
    response_model=SignedLink,
    responses=problems("download_denied", "not_ready", "expired", *_READING),
    summary="A link to the archive",
)
def link_export(
    request: Request, tenant: TenantPath, request_id: RequestId, caller: CallerDep, installation: InstallationDep
) -> JSONResponse:
    """Signed for this caller, good for a limited time and never longer than the archive; made anew at every call."""
    url, ends = _minted(request, installation, caller, tenant, request_id)
    return JSONResponse(SignedLink(url=url, expires_at=ends).as_json(), headers={"Cache-Control": "no-store"})


@router.get(
    "/{request_id}/archive",
    status_code=303,
    response_class=RedirectResponse,
    responses=problems("download_denied", "not_ready", "expired", *_READING),
    summary="The archive, by way of a link",
)
def export_archive(
    request: Request, tenant: TenantPath, request_id: RequestId, caller: CallerDep, installation: InstallationDep
) -> RedirectResponse:
    """Leads to a link made for this call: `curl --location` downloads the archive in one go."""
    url, _ = _minted(request, installation, caller, tenant, request_id)
    return RedirectResponse(url, 303, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})


def _minted(request: Request, installation: Installation, caller: Caller, tenant: str, request_id: str) -> tuple[str, datetime]:
    """The address of a new link, and when it ends."""
    base = public_url(installation)
    link = links.mint_link(installation, caller, tenant, request_id)
    return f"{base}{DOWNLOADS}{link.token}" if base else str(request.url_for("download", token=link.token)), link.expires_at


@without_tenant.get("", responses=problems("context_required"), include_in_schema=False)
@without_tenant.post("", responses=problems("context_required"), include_in_schema=False)
def tenant_missing(caller: CallerDep) -> Response:
    """Exports belong to a tenant."""
    raise Refused("context_required")
