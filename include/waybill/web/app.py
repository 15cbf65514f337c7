"""The application: one `create_app` for both shells. What differs between them comes in as arguments."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI

from waybill import __version__
from waybill.service import Estate
from waybill.web import problems
from waybill.web.calling import Access, Estates, Scheduler

API = "/api/v1"


def create_app(estate: Callable[[], Estate], access: Access, scheduler: Scheduler) -> FastAPI:
    """The API, documented at `/docs` and `/openapi.json`.

    `estate` is called once, at the first request; `access` recognises callers; `scheduler` starts runs.
    """
    app = FastAPI(
        title="Waybill",
        version=__version__,
        summary="Register what a tenant receives, and see what was delivered.",
        redirect_slashes=False,
        redoc_url=None,
    )
    app.state.estates, app.state.access, app.state.scheduler = Estates(estate), access, scheduler
    problems.install(app)
    return app
