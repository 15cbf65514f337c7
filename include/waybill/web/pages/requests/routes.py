"""The page of on-demand exports: ask, follow, download, in the words and the order that the policy gives it."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import uuid4

from fastapi import APIRouter, Query, Request
from fastapi import Path as InPath
from fastapi.responses import RedirectResponse, Response

from waybill.access import Caller, Permission
from waybill.configuration.catalog import Catalog, ScopeLevel
from waybill.configuration.findings import parsed
from waybill.configuration.policy import ExportPolicy
from waybill.errors import WaybillError
from waybill.installation import Installation
from waybill.language import table
from waybill.ledger.on_demand.request_records import Status
from waybill.registrations import replacing
from waybill.requests import creating, following, links
from waybill.requests.answers import Options
from waybill.requests.creating import Origin, zone_of
from waybill.requests.following import options
from waybill.requests.lifecycle import SENTENCES, Refused
from waybill.requests.links import DOWNLOADS
from waybill.requests.scopes import scope_values
from waybill.requests.submission import Submission, entities_of
from waybill.web.dependencies import InstallationDep, TenantPath, refuse
from waybill.web.pages.context import NOBODY, Name, Wish, asking, context, frame
from waybill.web.pages.render import HEADERS, below, in_settings, moved, page
from waybill.web.pages.requests.names import joined, last_of, names_in
from waybill.web.pages.requests.recurring import EVERY, create_recurring, listed, unless_gone
from waybill.web.pages.requests.rows import RANGES, SCOPES, rows
from waybill.web.pages.sentences import say
from waybill.web.pages.signing_in.session import Form, PageCaller, SentForm, takes_tokens
from waybill.web.pages.words import export_labels

router = APIRouter()
settings = APIRouter()
"""What is below `/settings`, where one product looks for its exports."""

RequestId = Annotated[str, InPath(pattern="^[0-9a-f]{32}$")]
Cursor = Annotated[str, Query(pattern="^([0-9a-f]{32})?$")]

COLUMNS = ("scope", "entities", "created", "status", "rows", "size", "format", "download")
TITLES = table("columns")
TAKES = {"project": "project", "app": "project apps", "study": "project study", "participant": "project study participant"}
"""Fields that a scope asks for beside its level."""


@router.get("/requests")
def choose(request: Request, caller: PageCaller, installation: InstallationDep, wish: Wish, organization: Name = "") -> Response:
    """Exports belong to an organization and a tenant. Until both are chosen, the page only says so.

    If there is only one tenant to choose, it is chosen. What the address asks of the form goes on to the tenant's page.
    """
    around = frame(installation, caller, "requests", organization=organization, wish=wish)
    if only := around["context"].only:
        return RedirectResponse(f"{below(request)}tenants/{only}/requests{asking(wish)}", 303, HEADERS)
    return page(request, "exports/choose.html", caller, **around, sentence=SENTENCES["context_required"])


@settings.get("/exports")
def show_in_settings(
    request: Request,
    caller: PageCaller,
    installation: InstallationDep,
    wish: Wish,
    organization: Name = "",
    tenant: Name = "",
    cursor: Cursor = "",
) -> Response:
    """Show the exports of the chosen tenant, or of the only one. Raises view_denied if there is none to see."""
    found = context(installation, caller, "requests", organization)
    if not found.members:
        raise Refused("view_denied")
    tenant = tenant if tenant in found.members.get(found.organization, ()) else found.only
    if not tenant:
        return choose(request, caller, installation, wish, organization)
    with installation.speaking_to(tenant):  # chosen here, so that the address need not name it
        return _requests(request, caller, installation, tenant, cursor, wish)


@router.get("/tenants/{tenant}/requests")
def show_requests(
    request: Request, tenant: TenantPath, caller: PageCaller, installation: InstallationDep, wish: Wish, cursor: Cursor = ""
) -> Response:
    """Show the table and the form. `new` opens the form. A study and a participant in the address do so too, and are fixed in it."""
    return _requests(request, caller, installation, tenant, cursor, wish)


def _requests(
    request: Request, caller: Caller, installation: Installation, tenant: str, cursor: str = "", wish: dict[str, str] | None = None
) -> Response:
    offered = options(installation, caller, tenant)
    export_policy = installation.configuration.export_policy(tenant)
    listing = following.list_requests(installation, caller, tenant, limit=50, cursor=cursor)
    active = [request for request in listing.requests if request.is_active]
    looks = export_policy.page
    zone = zone_of(installation, tenant)
    chosen = {"organization": installation.configuration.policy.organization_of(tenant) or NOBODY, "tenant": tenant}
    columns = list(looks.columns or COLUMNS)
    shown: dict[str, Any] = {
        **frame(installation, caller, "requests", tenant),
        "title": looks.title or say("exports.title"),
        "here": "?" + (f"{urlencode(chosen)}&" if in_settings(request) else ""),
        "new_tab": bool(looks.path) and takes_tokens(request),
        "denied": _denied(export_policy, offered),
        "zone": zone,
        "items": rows([following.describe_to(installation, caller, request) for request in listing.requests], looks, zone.key),
        "columns": columns + ([] if "actions" in columns else ["actions"]),
        "titles": TITLES | {name: looks.fields[name] for name in ("entities",) if name in looks.fields},
        "cursor": cursor,
        "next": listing.cursor,
        "poll": looks.auto_poll and bool(active),
        "pace": 2 if any(request.status == Status.RUNNING or request.due_at <= installation.now() for request in active) else 30,
        "refresh": looks.refresh == "always" or (looks.refresh == "active" and bool(active)),
    }
    if request.headers.get("hx-target") == "requests-list":
        return page(request, "exports/list.html", caller, **shown)
    catalogue = installation.catalog.offered_to(tenant)
    shown["recurring"] = [] if cursor else listed(installation, caller, tenant)
    return page(request, "exports/page.html", caller, **shown | _form_frame(caller, catalogue, export_policy, offered, wish or {}))


def _form_frame(caller: Caller, catalogue: Catalog, export_policy: ExportPolicy, offered: Options, wish: dict[str, str]) -> dict[str, Any]:
    # If the policy words the levels, it names those that the form offers. A link that fixes them reaches the others.
    looks = export_policy.page
    worded = looks.scope_labels or export_policy.scopes
    levels = [scope for scope in offered.scopes if scope in worded]
    projects = sorted(caller.projects or ())
    level = next((level for level in ("participant", "study") if level in wish), "")
    return {
        "looks": looks,
        "range_optional": not offered.range.required and "range" not in looks.fields,
        "chooses_scope": len(levels) > 1 or (levels[:1] and levels[0] in TAKES),
        "of_types": _of_types(offered, catalogue),
        "scopes": SCOPES | dict(looks.scope_labels),
        "ranges": RANGES | dict(looks.range_labels),
        "project": projects[0] if len(projects) == 1 else "",
        "bound": bool(projects),
        "labels": export_labels(export_policy.page.fields),
        "offered": offered,
        "levels": levels,
        "takes": TAKES,
        "fixed": {"study": "", "participant": "", **wish, "new": bool(wish), "level": level},
        "formats": _formats(export_policy, offered),
        "one_format": bool(export_policy.page.formats),
        "all_by_default": export_policy.all_entities_by_default,
        "key": uuid4().hex,
        "catalogue": list(catalogue.entities.values()),
        "fulfilment": export_policy.fulfilment,
        "fulfil_at": export_policy.fulfil_at,
        "mailed": "ready" in export_policy.notify.requests and bool(caller.email),
    }


def _of_types(offered: Options, catalogue: Catalog) -> dict[str, list[str]]:
    """Return the ids of the entities of an export type, for the types that do not hold all."""
    types = {name: kind for name, kind in offered.export_types.items() if kind.entities != "all"}
    return {name: [entity.id for entity in entities_of(kind, catalogue)] for name, kind in types.items()}


def _denied(export_policy: ExportPolicy, offered: Options) -> str:
    """Return why the caller cannot create exports here, in the documents' words. It is empty if they can."""
    if offered.can_create:
        return ""
    if offered.plan_required:
        return export_policy.without_plan
    return SENTENCES["create_denied"]


def _formats(export_policy: ExportPolicy, offered: Options) -> dict[str, str]:
    """Return what can be chosen, and what it is called. A key may hold several formats, joined by commas."""
    known = set(offered.formats).union(*(kind.formats for kind in offered.export_types.values()))
    words = dict(export_policy.page.formats) or {name: name.upper() for name in offered.formats}
    return {key: words[key] for key in words if set(key.split(",")) <= known}


def submission_body(form: Form) -> dict[str, Any]:
    """Return the form as the API's body."""
    scope: dict[str, Any] = {"level": form.one("level") or "tenant"}
    for name in ("project", "study", "participant"):
        if value := form.one(name):
            scope[name] = value
    if apps := form.one("apps"):
        scope["apps"] = names_in(apps)
    body: dict[str, Any] = {"scope": scope, "formats": [name for key in form.every("formats") for name in key.split(",")]}
    if entities := form.every("entities"):
        body["entities"] = entities
    if kind := form.one("exportType"):
        body["exportType"] = kind
    if preset := form.one("preset"):
        body["range"] = preset
    elif dates := {name: form.one(name) for name in ("from", "to") if form.one(name)}:
        body["range"] = dates
    return body


@router.post("/tenants/{tenant}/requests")
def create(request: Request, tenant: TenantPath, caller: PageCaller, installation: InstallationDep, form: SentForm) -> Response:
    """Ask for an export, once or again and again. The form carries a key, so sending it twice asks once."""
    body = submission_body(form)
    if form.one("repeat") in EVERY:
        create_recurring(installation, caller, tenant, form, body)
    else:
        creating.create(installation, caller, tenant, parsed(Submission, body), Origin(key=form.one("key") or None))
    return moved(request, f"tenants/{tenant}/requests")


@router.get("/tenants/{tenant}/scope-values/{level}")
def show_scope_values(
    request: Request, tenant: TenantPath, level: ScopeLevel, caller: PageCaller, installation: InstallationDep
) -> Response:
    """Return what exists of a level, as the choices below its field. Apps are searched by the last one that is typed."""
    project, apps, study, participant = (request.query_params.get(name, "") for name in ("project", "apps", "study", "participant"))
    before, begun = last_of(apps)
    words = {"project": project, "app": begun, "study": study, "participant": participant}
    within = {"project": project} if level in ("app", "study") else {"project": project, "study": study} if level == "participant" else {}
    try:
        found = scope_values(installation, caller, tenant, level, within, words[level])
    except WaybillError:
        return page(request, "exports/values.html", caller, values=[])  # the field takes what is typed
    values = [f"{before}{joined([value])}" for value in found.values] if level == "app" else found.values
    return page(request, "exports/values.html", caller, values=values)


@router.post("/tenants/{tenant}/requests/{request_id}/cancel")
def cancel(request: Request, tenant: TenantPath, request_id: RequestId, caller: PageCaller, installation: InstallationDep) -> Response:
    following.cancel(installation, caller, tenant, request_id)
    return _requests(request, caller, installation, tenant)


@router.post("/tenants/{tenant}/requests/{request_id}/resubmit")
def resubmit(request: Request, tenant: TenantPath, request_id: RequestId, caller: PageCaller, installation: InstallationDep) -> Response:
    creating.resubmit(installation, caller, following.get_request(installation, caller, tenant, request_id))
    return _requests(request, caller, installation, tenant)


@router.post("/tenants/{tenant}/delete-request")
def delete(request: Request, tenant: TenantPath, caller: PageCaller, installation: InstallationDep, form: SentForm) -> Response:
    with unless_gone():
        following.delete(installation, caller, tenant, [form.one("request")])
    return _requests(request, caller, installation, tenant)


@router.get("/tenants/{tenant}/requests/{request_id}/download")
def download(request: Request, tenant: TenantPath, request_id: RequestId, caller: PageCaller, installation: InstallationDep) -> Response:
    """Make a link for this click and follow it at once. It is in no page and no history."""
    link = links.mint_link(installation, caller, tenant, request_id)
    return RedirectResponse(f"{below(request)}..{DOWNLOADS}{link.token}", 303, HEADERS)


@router.get("/catalogue")
def show_house_catalogue(
    request: Request,
    caller: PageCaller,
    installation: InstallationDep,
    q: Annotated[str, Query(max_length=100)] = "",
    organization: Name = "",
) -> Response:
    """Show the data dictionary: every entity that can be exported."""
    return _catalogue(request, caller, installation, q, frame(installation, caller, "catalogue", organization=organization), frozenset())


@router.get("/tenants/{tenant}/catalogue")
def show_catalogue(
    request: Request, tenant: TenantPath, caller: PageCaller, installation: InstallationDep, q: Annotated[str, Query(max_length=100)] = ""
) -> Response:
    """Show the data dictionary, with what this tenant receives."""
    if not caller.allows(Permission.REGISTRATIONS_VIEW, tenant):
        refuse(request, installation, caller, Permission.REGISTRATIONS_VIEW, tenant)
    active = replacing.standing(installation, tenant).active if replacing.find(installation, tenant) else ()
    return _catalogue(request, caller, installation, q, frame(installation, caller, "catalogue", tenant), frozenset(active))


def _catalogue(
    request: Request, caller: Caller, installation: Installation, q: str, around: dict[str, Any], active: frozenset[str]
) -> Response:
    word = q.strip().casefold()
    every = list(installation.catalog.entities.values())
    found = [
        entity
        for entity in every
        if word in f"{entity.id} {entity.display_name} {entity.description} {' '.join(entity.columns)}".casefold()
    ]
    return page(request, "catalogue/page.html", caller, **around, entities=found, q=q, active=active, known=bool(every))
