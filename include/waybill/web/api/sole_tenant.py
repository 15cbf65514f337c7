"""The calls of a registration without a tenant in the path, for tokens that are bound to one tenant."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from waybill.access import Caller, TokenRights
from waybill.requests.lifecycle import Refused
from waybill.web.api import registrations
from waybill.web.api.openapi import problems
from waybill.web.dependencies import current_caller
from waybill.web.problems import MEDIA_TYPE

_PREFIX = "/tenants/{tenant}"
_PATHS = ("/export", "/export/full-load")


class SoleTenantRoute(APIRoute):
    """A route whose tenant is the caller's only one."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_for_sole_tenant(request: Request) -> Response:
            tenant = sole_tenant(await current_caller(request, None))
            request.scope["path_params"] = {**request.path_params, "tenant": tenant}
            return await handle(request)

        return handle_for_sole_tenant


def sole_tenant(caller: Caller) -> str:
    """Return the one tenant that the caller's token is bound to. Raises context_required for any other caller."""
    if not isinstance(caller.rights, TokenRights) or len(caller.rights.tenants) != 1:
        raise Refused("context_required")
    [tenant] = caller.rights.tenants
    return tenant


def without_tenant() -> APIRouter:
    """Return the routes of a registration, each below its path without the tenant."""
    router = APIRouter(route_class=SoleTenantRoute, tags=["registrations"])
    for route in registrations.router.routes:
        path = route.path.removeprefix(_PREFIX) if isinstance(route, APIRoute) else ""
        if isinstance(route, APIRoute) and path in _PATHS:
            router.add_api_route(
                path,
                route.endpoint,
                methods=sorted(route.methods),
                response_model=route.response_model,
                status_code=route.status_code,
                responses=_with_context_required(route.responses),
                openapi_extra=route.openapi_extra,
                name=f"{route.name}_of_sole_tenant",
                summary=f"{route.summary}, of the token's tenant",
                description=route.description,
            )
    return router


def _with_context_required(answers: Mapping[int | str, dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """Return a route's answers, and the one to a caller that is bound to no tenant or to several."""
    [(status, refusal)] = [(status, answer) for status, answer in problems("context_required").items() if status == 400]
    if status not in answers:
        return {**answers, status: refusal}
    examples = {**answers[status]["content"][MEDIA_TYPE]["examples"], **refusal["content"][MEDIA_TYPE]["examples"]}
    return {**answers, status: {**refusal, "content": {MEDIA_TYPE: {**refusal["content"][MEDIA_TYPE], "examples": examples}}}}
