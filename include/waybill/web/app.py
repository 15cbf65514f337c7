"""The application: one `create_app` for both shells. The arguments carry what differs between them."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Depends, FastAPI
from starlette.routing import BaseRoute

from waybill import __version__
from waybill.installation import Installation
from waybill.web import bodies, guide, headers, problems, wording
from waybill.web.api import deliveries, downloads, openapi, recurring, reference, registrations, requests, sole_tenant
from waybill.web.dependencies import Access, Installations, Scheduler
from waybill.web.pages import app as pages

API = "/api/v1"
ROUTERS = (
    registrations.router,
    deliveries.router,
    requests.router,
    requests.without_tenant,
    recurring.router,
    sole_tenant.without_tenant(),
)
"""The routes below `/api/v1` for recognised callers. Downloads are beside them, because their links are handed on."""


def _routes() -> list[BaseRoute]:
    api = APIRouter(prefix=API)
    for router in ROUTERS:
        api.include_router(router, dependencies=[Depends(bodies.declared_only)])
    api.include_router(downloads.router)
    return api.routes


ROUTES = _routes()
"""All routes. They hold nothing of an application and take long to make, so the applications of a process share them."""

ABOUT = """
Register what a tenant receives and how often, see what was delivered, ask for full history again, or export data on demand.

Every error is `application/problem+json` (RFC 9457) with a stable `code`. Times are RFC 3339. A tenant id is 1 to 63 of `a-z 0-9 _ -`.
"""
TAGS = [
    {"name": "registrations", "description": "One call replaces a tenant's whole registration; `dryRun` shows the difference first."},
    {"name": "catalog", "description": "The entities there are."},
    {"name": "deliveries", "description": "What was planned, delivered and committed."},
    {"name": "exports", "description": "On-demand exports: ask, follow, download by a signed link that expires."},
]


def create_app(installation: Callable[[], Installation], access: Access, scheduler: Scheduler) -> FastAPI:
    """Return the API, documented at `/docs` and `/openapi.json`, with the documentation at `/guide` and the pages at `/page`.

    `installation` is called once, at the first request. `access` recognises callers, and `scheduler` starts runs.
    """
    app = FastAPI(
        title="Waybill",
        version=__version__,
        summary="A tenant's own data, on schedule, as files it can trust.",
        description=ABOUT,
        openapi_tags=TAGS,
        redirect_slashes=False,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    app.state.installations, app.state.access, app.state.scheduler = Installations(installation), access, scheduler
    app.state.downloads = downloads.Downloads()
    app.router.routes += ROUTES
    app.add_middleware(headers.DefaultHeaders)
    app.add_middleware(wording.OwnWords)
    problems.install(app)
    openapi.install(app)
    reference.install(app)
    guide.install(app)
    pages.mount(app)
    return app
