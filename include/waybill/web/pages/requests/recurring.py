"""Recurring exports on the page of requests: what is asked for every week or month, when it is next, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi import Path as InPath
from fastapi.responses import Response

from waybill.access import Caller
from waybill.configuration.findings import parsed
from waybill.configuration.policy import Page
from waybill.installation import Installation
from waybill.language import tell
from waybill.requests import following, recurring
from waybill.requests.answers import RecurringExport
from waybill.requests.creating import zone_of
from waybill.requests.lifecycle import Refused
from waybill.requests.recurring import TemplateBody
from waybill.web.dependencies import InstallationDep, TenantPath
from waybill.web.pages.render import page
from waybill.web.pages.requests.rows import few, range_words, scope_details, scope_label
from waybill.web.pages.sentences import say
from waybill.web.pages.signing_in.session import Form, PageCaller, SentForm

router = APIRouter(prefix="/tenants/{tenant}")

TemplateId = Annotated[str, InPath(pattern="^[0-9a-f]{32}$")]
EVERY = ("weekly", "monthly")


@contextmanager
def unless_gone() -> Iterator[None]:
    """What another tab or person has removed meanwhile needs no error: the list that follows does not have it any more."""
    try:
        yield
    except Refused as error:
        if error.code != "not_found":
            raise


def _frame(installation: Installation, tenant: str) -> dict[str, Any]:
    return {"tenant": tenant, "zone": zone_of(installation, tenant)}


def create_recurring(installation: Installation, caller: Caller, tenant: str, form: Form, request: dict[str, Any]) -> None:
    """Store what the form asks for again and again. `request` is a single request. The name may be left out."""
    frequency = form.one("repeat")
    body = {
        "name": form.one("name") or tell(f"listing.recurring_{frequency}"),
        "frequency": frequency,
        "request": request,
    }
    recurring.create_template(installation, caller, tenant, parsed(TemplateBody, body | {"covers": form.one("covers") or "period"}))


@dataclass(frozen=True)
class TemplateRow:
    """One recurring export. `export` is what the API answers, the texts say what it asks for. `mine` may be paused and deleted."""

    export: RecurringExport
    mine: bool
    what: str
    scope: str
    formats: str
    covers: str


def listed(installation: Installation, caller: Caller, tenant: str) -> list[TemplateRow]:
    """Return the recurring exports that the caller may see, with the names of their entities."""
    names, zone = installation.catalog.entities, zone_of(installation, tenant).key
    looks = installation.configuration.export_policy(tenant).page
    found = []
    for template in recurring.list_templates(installation, caller, tenant):
        described = recurring.describe_template(template)
        called = [names[each].display_name if each in names else each for each in described.request.get("entities") or []]
        found.append(
            TemplateRow(
                described,
                mine=recurring.may_change(caller, template),
                what=few(called) or say("recurring.everything"),
                scope=_scope(described, looks),
                formats=", ".join(str(each).upper() for each in described.request.get("formats") or []),
                covers=_covers(described, looks, zone),
            )
        )
    return found


def _scope(template: RecurringExport, looks: Page) -> str:
    """Return what a template is limited to. Nothing is said of the whole tenant."""
    scope = template.request.get("scope") or {}
    return "" if scope.get("level", "tenant") == "tenant" else ", ".join([scope_label(scope, looks), *scope_details(scope)])


def _covers(template: RecurringExport, looks: Page, zone: str) -> str:
    asked = template.request.get("range")
    if asked:
        return range_words(asked, looks, zone)
    return tell("recurring.of_everything" if template.covers == "everything" else f"recurring.of_{template.frequency}")


def _list(request: Request, caller: Caller, installation: Installation, tenant: str) -> Response:
    found = listed(installation, caller, tenant)
    return page(
        request,
        "exports/recurring.html",
        caller,
        **_frame(installation, tenant),
        recurring=found,
    )


@router.post("/recurring/{template_id}/pause")
def pause(request: Request, tenant: TenantPath, template_id: TemplateId, caller: PageCaller, installation: InstallationDep) -> Response:
    with unless_gone():
        recurring.pause_template(installation, caller, tenant, template_id, paused=True)
    return _list(request, caller, installation, tenant)


@router.post("/recurring/{template_id}/resume")
def resume(request: Request, tenant: TenantPath, template_id: TemplateId, caller: PageCaller, installation: InstallationDep) -> Response:
    with unless_gone():
        recurring.pause_template(installation, caller, tenant, template_id, paused=False)
    return _list(request, caller, installation, tenant)


@router.post("/delete-recurring")
def delete(request: Request, tenant: TenantPath, caller: PageCaller, installation: InstallationDep, form: SentForm) -> Response:
    """The requests it made stay."""
    with unless_gone():
        recurring.delete_template(installation, caller, tenant, form.one("request"))
    return _list(request, caller, installation, tenant)


@router.get("/recurring/{template_id}/made")
def made(request: Request, tenant: TenantPath, template_id: TemplateId, caller: PageCaller, installation: InstallationDep) -> Response:
    """Show what it asked for so far, newest first."""
    found = recurring.history(installation, caller, tenant, template_id)
    items = [following.describe_to(installation, caller, request) for request in found]
    return page(
        request,
        "exports/made.html",
        caller,
        **_frame(installation, tenant),
        items=items,
    )
