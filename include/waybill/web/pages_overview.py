"""The page to open in the morning: did every tenant get its data?"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from waybill.access import Permission
from waybill.bootstrap.names import tenant_of
from waybill.layout import tenant_id
from waybill.service.overview import Asked, State, overview
from waybill.web.calling import EstateDep
from waybill.web.pages_render import below, page
from waybill.web.pages_session import PageCaller
from waybill.web.problems import Refused

router = APIRouter()


@router.get("/")
def show_overview(
    request: Request,
    caller: PageCaller,
    estate: EstateDep,
    q: Annotated[str, Query(max_length=63)] = "",
    state: Literal["", "failing", "late", "due", "delivered", "paused"] = "",
    p: Annotated[int, Query(ge=1, le=100_000)] = 1,
) -> Response:
    """Searched, filtered and paged here, not in the browser."""
    asked = Asked(q, State(state) if state else None, p)
    found = overview(estate, lambda known: caller.rights.among(Permission.REGISTRATIONS_VIEW, known), asked)
    name = "overview_list.html" if request.headers.get("hx-target") == "tenants" else "overview.html"
    return page(request, name, caller, tab="overview", found=found, q=q, state=state, now=estate.now(), states=list(State))


@router.get("/open")
def open_tenant(request: Request, tenant: Annotated[str, Query(max_length=63)]) -> Response:
    """From the form that names a tenant to its page."""
    return RedirectResponse(f"{below(request)}tenants/{tenant_id(tenant.strip())}", 303)


@router.get("/dags/{dag}")
def show_dag(request: Request, dag: str) -> Response:
    """The tab of a DAG in Airflow."""
    tenant = tenant_of(dag)
    if tenant is None:
        raise Refused("not_found", "This DAG delivers to no tenant: those of Waybill's tenants are called export__<tenant>.")
    return RedirectResponse(f"{below(request)}tenants/{tenant_id(tenant)}", 303)
