"""The page to open in the morning: did every tenant get its data?"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response
from markupsafe import Markup

from waybill.access import Caller, Permission, tenant_id
from waybill.airflow.names import APPLY_DAG, DAG_PREFIX, HOUSEKEEPING_DAG, REQUESTS_DAG, tenant_of
from waybill.deliveries.reports.overview import OverviewQuery, State, overview
from waybill.installation import Installation
from waybill.language import tell
from waybill.registrations.applying import pending_changes
from waybill.web.dependencies import InstallationDep, SchedulerDep
from waybill.web.pages import redaction
from waybill.web.pages.context import MOST, context, frame, is_customer, known_tenants
from waybill.web.pages.render import HEADERS, below, page
from waybill.web.pages.sentences import say
from waybill.web.pages.signing_in.session import PageCaller, takes_tokens
from waybill.web.pages.verdicts import verdict
from waybill.web.problems import Refused

router = APIRouter()

DAGS = {APPLY_DAG: "apply", REQUESTS_DAG: "requests", HOUSEKEEPING_DAG: "housekeeping"}
"""What our DAGs are for that belong to no tenant."""


@router.get("/")
def show_overview(
    request: Request,
    caller: PageCaller,
    installation: InstallationDep,
    scheduler: SchedulerDep,
    organization: Annotated[str, Query(max_length=200)] = "",
    q: Annotated[str, Query(max_length=63)] = "",
    state: Annotated[str, Query(max_length=63)] = "",
    p: Annotated[int, Query(ge=1, le=100_000)] = 1,
) -> Response:
    """The server searches, filters and pages, not the browser. Customers begin at their exports. An unknown state shows all tenants."""
    if not request.url.query and _begins_at_exports(installation, caller):
        return RedirectResponse(f"{below(request)}requests", 303, HEADERS)
    known, wrong = (state, "") if state in list(State) else ("", state)
    members = (around := frame(installation, caller, "overview", organization=organization))["context"].members
    seen = members.get(organization, ()) if organization else [name for names in members.values() for name in names]
    found = overview(installation, lambda _: seen, OverviewQuery(q, State(known) if known else None, p), scheduler.scheduler_state())

    name = "overview/list.html" if request.headers.get("hx-target") == "tenants" else "overview/page.html"
    airflow = not takes_tokens(request)
    stuck = [row.tenant for row in found.rows if row.wanting and not row.dag_paused]
    runs = caller.rights.among(Permission.DELIVERIES_RUN, stuck) if airflow else []  # `waybill serve` starts none
    shown: dict[str, Any] = {
        "found": found if caller.is_insider else redaction.overview(found),
        "exporting": [] if found.totals.tenants else caller.rights.among(Permission.EXPORTS_VIEW, sorted(seen)[:MOST]),
        "runs": runs,
        "q": q,
        "state": known,
        "wrong": wrong,
        "registers": caller.is_operator or bool(caller.rights.among(Permission.REGISTRATIONS_MANAGE, sorted(seen)[:MOST])),
        "organization": organization,
        "link": partial(_link, organization=organization, q=q, state=known),
        "airflow": airflow,
        "no_match": _no_match(q, known),
    }
    if not (found.totals.tenants or shown["exporting"] or shown["registers"]):
        raise Refused("denied", tell("overview.nothing_to_see"))
    if name == "overview/page.html":  # what is above the list does not change with a search
        visible = partial(caller.rights.among, Permission.REGISTRATIONS_VIEW)
        shown["unapplied"] = pending_changes(installation, visible, scheduler.applying_failed())
        shown["verdict"] = verdict(found.totals, unapplied=bool(shown["unapplied"]))
    return page(request, name, caller, **around, **shown, now=installation.now(), states=list(State))


def _link(**asked: object) -> str:
    """Return the page with this search, filter or number. What is empty is left out."""
    return "?" + urlencode({name: value for name, value in asked.items() if value})


def _begins_at_exports(installation: Installation, caller: Caller) -> bool:
    return is_customer(caller, known_tenants(installation)) and bool(context(installation, caller, "requests").members)


def _no_match(q: str, state: str) -> Markup:
    if q:
        return say("overview.none_of_both", q=q, state=state) if state else say("overview.none_of_q", q=q)
    return say("overview.none_of_state", state=state) if state else say("overview.none")


@router.get("/open")
def open_tenant(request: Request, tenant: Annotated[str, Query(max_length=1000)]) -> Response:
    """Lead from the form that names a tenant to its page."""
    return RedirectResponse(f"{below(request)}tenants/{tenant_id(tenant.strip())}", 303)


@router.get("/dags/{dag}")
def show_dag(request: Request, dag: str, caller: PageCaller, installation: InstallationDep) -> Response:
    """Return the tab of a DAG in Airflow: the tenant's page, or what a DAG without a tenant is for."""
    if tenant := tenant_of(dag):
        return RedirectResponse(f"{below(request)}tenants/{tenant_id(tenant)}", 303)
    around = frame(installation, caller, "overview")
    about = say(f"dags.{DAGS[dag]}") if dag in DAGS else say("dags.foreign", prefix=DAG_PREFIX)
    return page(request, "frame/dag.html", caller, **around, dag=dag, about=about, requests=dag == REQUESTS_DAG)
