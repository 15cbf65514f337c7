"""Query parameters: those a route declares, and no others. A misspelled `dryRun` must not become a real change."""

from __future__ import annotations

from fastapi import Request
from fastapi.dependencies.utils import get_flat_dependant
from fastapi.routing import APIRoute

from waybill.catalog import closest
from waybill.errors import Finding, InvalidInput
from waybill.web.calling import CallerDep


def declared_only(request: Request, _recognised_first: CallerDep) -> None:
    """A dependency of every route of the API. Raises InvalidInput naming each parameter the route does not know."""
    route = request.scope["route"]
    assert isinstance(route, APIRoute)  # noqa: S101 (how the dependency was installed)
    known = sorted({field.alias for field in get_flat_dependant(route.dependant).query_params})
    unknown = [name for name in dict.fromkeys(request.query_params) if name not in known]
    if unknown:
        allowed = ", ".join(known) or "none here"
        raise InvalidInput([Finding("", name, "unknown parameter", allowed, closest(name, known), "unknown_parameter") for name in unknown])
