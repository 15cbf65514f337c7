"""Query parameters: those a route declares, each once, and no others. A misspelled `dryRun` must not become a real change."""

from __future__ import annotations

from typing import Any, get_args, get_origin

from fastapi import Request
from fastapi.dependencies.utils import get_flat_dependant
from fastapi.routing import APIRoute

from waybill.catalog import closest
from waybill.errors import Finding, InvalidInput
from waybill.web.calling import CallerDep


def declared_only(request: Request, _recognised_first: CallerDep) -> None:
    """A dependency of every route of the API. Raises InvalidInput naming each parameter it does not know, or knows once only."""
    route = request.scope["route"]
    assert isinstance(route, APIRoute)  # noqa: S101 (how the dependency was installed)
    fields = get_flat_dependant(route.dependant).query_params
    several = {field.alias: _takes_several(field.field_info.annotation) for field in fields}
    known, findings = sorted(several), []
    for name in dict.fromkeys(request.query_params):
        if name not in several:
            meant = closest(name, known)
            findings.append(Finding("", name, "unknown parameter", ", ".join(known) or "none here", meant, "unknown_parameter"))
        elif not several[name] and len(request.query_params.getlist(name)) > 1:
            findings.append(Finding("", name, "is given more than once", "one value", code="repeated_parameter"))
    if findings:
        raise InvalidInput(findings)


def _takes_several(annotation: Any) -> bool:
    return any(get_origin(one) is list for one in (annotation, *get_args(annotation)))
