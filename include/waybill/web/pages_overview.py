"""The page to open in the morning: did every tenant get its data?"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from waybill.access import Permission
from waybill.bootstrap.names import tenant_of
from waybill.layout import tenant_id
from waybill.service.overview import Asked, State, overview
from waybill.web.calling import EstateDep, SchedulerDep
from waybill.web.pages_context import MOST, frame
from waybill.web.pages_render import below, page
from waybill.web.pages_session import PageCaller, takes_tokens
from waybill.web.problems import Refused

router = APIRouter()


@router.get("/")
def show_overview(
    request: Request,
    caller: PageCaller,
    estate: EstateDep,
    scheduler: SchedulerDep,
    organization: Annotated[str, Query(max_length=200)] = "",
    q: Annotated[str, Query(max_length=63)] = "",
    state: Literal["", "failing", "late", "due", "delivered", "paused"] = "",
    p: Annotated[int, Query(ge=1, le=100_000)] = 1,
) -> Response:
    """Searched, filtered and paged here, not in the browser."""
    around = frame(estate, caller, "overview", organization=organization)
    members = around["context"].members
    seen = members.get(organization, ()) if organization else [one for names in members.values() for one in names]
    found = overview(estate, lambda known: seen, Asked(q, State(state) if state else None, p), scheduler.doing())

    def link(**changes: object) -> str:
        """This page with other search, filter or number; what is empty stays out."""
        asked = {"organization": organization, "q": q, "state": state} | changes
        return "?" + urlencode({name: value for name, value in asked.items() if value})

    name = "overview_list.html" if request.headers.get("hx-target") == "tenants" else "overview.html"
    airflow = not takes_tokens(request)
    stuck = [row.tenant for row in found.rows if row.next_step and not row.held]
    runs = caller.rights.among(Permission.DELIVERIES_RUN, stuck) if airflow else []  # `waybill serve` starts none
    shown: dict[str, Any] = {
        "found": found,
        "exporting": [] if found.totals.tenants else caller.rights.among(Permission.EXPORTS_VIEW, sorted(seen)[:MOST]),
        "runs": runs,
        "q": q,
        "state": state,
        "organization": organization,
        "link": link,
        "airflow": airflow,
    }
    return page(request, name, caller, **around, **shown, now=estate.now(), states=list(State))


@router.get("/open")
def open_tenant(request: Request, tenant: Annotated[str, Query(max_length=1000)]) -> Response:
    """From the form that names a tenant to its page."""
    return RedirectResponse(f"{below(request)}tenants/{tenant_id(tenant.strip())}", 303)


@router.get("/dags/{dag}")
def show_dag(request: Request, dag: str) -> Response:
    """The tab of a DAG in Airflow."""
    tenant = tenant_of(dag)
    if tenant is None:
        raise Refused("not_found", "This DAG delivers to no tenant: those of Waybill's tenants are called export__<tenant>.")
    return RedirectResponse(f"{below(request)}tenants/{tenant_id(tenant)}", 303)
