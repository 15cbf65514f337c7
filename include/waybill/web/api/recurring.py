"""Routes of recurring requests."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Response
from fastapi import Path as InPath
from fastapi.responses import JSONResponse

from waybill.configuration.findings import parsed
from waybill.requests import following, recurring
from waybill.requests.answers import Exports, RecurringExport, RecurringExports
from waybill.requests.recurring import TemplateBody
from waybill.web.api import openapi
from waybill.web.api.openapi import problems
from waybill.web.bodies import JsonBody
from waybill.web.dependencies import Asker, CallerDep, InstallationDep, TenantPath

router = APIRouter(prefix="/tenants/{tenant}/export-templates", tags=["exports"])

TemplateId = Annotated[str, InPath(description="Template id.")]
EXAMPLE = {"name": "Weekly backup", "frequency": "weekly", "request": {"entities": ["content"], "formats": ["csv"]}}
_READING = ("view_denied", "not_found")
openapi.REQUEST_MODELS.append(TemplateBody)


@router.post(
    "",
    status_code=201,
    response_model=RecurringExport,
    responses=problems("bad_request", "too_large", "unsupported_media_type", "create_denied", "plan_required", "not_found"),
    openapi_extra=openapi.body(TemplateBody, {"weekly": EXAMPLE}),
    summary="Ask for an export every week or month",
)
def create_template(tenant: TenantPath, caller: Asker, body: JsonBody, installation: InstallationDep) -> JSONResponse:
    """The first request is made at the next Monday or 1st; without a range it covers the week or month that ended."""
    template = recurring.create_template(installation, caller, tenant, parsed(TemplateBody, body))
    return JSONResponse(recurring.describe_template(template).as_json(), 201)


@router.get("", response_model=RecurringExports, responses=problems(*_READING), summary="Recurring exports")
def list_templates(tenant: TenantPath, caller: CallerDep, installation: InstallationDep) -> JSONResponse:
    found = recurring.list_templates(installation, caller, tenant)
    return JSONResponse(RecurringExports(items=[recurring.describe_template(template) for template in found]).as_json())


@router.get("/{template_id}", response_model=RecurringExport, responses=problems(*_READING), summary="One recurring export")
def get_template(tenant: TenantPath, template_id: TemplateId, caller: CallerDep, installation: InstallationDep) -> JSONResponse:
    return JSONResponse(recurring.describe_template(recurring.get_template(installation, caller, tenant, template_id)).as_json())


@router.get("/{template_id}/exports", response_model=Exports, responses=problems(*_READING), summary="What it made")
def template_history(tenant: TenantPath, template_id: TemplateId, caller: CallerDep, installation: InstallationDep) -> JSONResponse:
    """The requests it made, newest first, fifty at most."""
    made = recurring.history(installation, caller, tenant, template_id)
    items = [following.describe_to(installation, caller, request) for request in made]
    return JSONResponse(Exports(items=items, next_cursor=None).as_json())


@router.post(
    "/{template_id}/{action}", response_model=RecurringExport, responses=problems("delete_denied", *_READING), summary="Pause, or go on"
)
def pause_template(
    tenant: TenantPath, template_id: TemplateId, action: Literal["pause", "resume"], caller: CallerDep, installation: InstallationDep
) -> JSONResponse:
    """What was missed while paused is not made up for."""
    template = recurring.pause_template(installation, caller, tenant, template_id, paused=action == "pause")
    return JSONResponse(recurring.describe_template(template).as_json())


@router.delete("/{template_id}", status_code=204, responses=problems("delete_denied", *_READING), summary="End a recurring export")
def delete_template(tenant: TenantPath, template_id: TemplateId, caller: CallerDep, installation: InstallationDep) -> Response:
    """The requests it made stay."""
    recurring.delete_template(installation, caller, tenant, template_id)
    return Response(status_code=204)
