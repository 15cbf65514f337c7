"""Who looks at a page: Airflow's session, or under `waybill serve` a token in a cookie. And where forms may come from."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from waybill.access import Caller, Permission
from waybill.language import tell
from waybill.requests.links import public_url
from waybill.web.bodies import LARGEST
from waybill.web.dependencies import Access, InstallationDep, TenantPath, current_installation, recognised, refuse
from waybill.web.oauth import TokenAccess
from waybill.web.problems import Refused, unauthenticated

COOKIE = "waybill_session"
LONGEST = 3800
"""Browsers keep at most 4096 bytes of one cookie, including its name and attributes."""


def takes_tokens(request: Request) -> bool:
    """Return whether people sign in here with a token of their own. Inside Airflow they are signed in already."""
    return isinstance(request.app.state.access, TokenAccess)


async def page_caller(request: Request) -> Caller:
    """Return the caller. The same authority recognises it as in the API. The cookie counts for pages alone. Raises unauthenticated."""
    access: Access = request.app.state.access
    token = request.cookies.get(COOKIE, "")
    if takes_tokens(request) and token and "authorization" not in request.headers:
        request = with_token(request, token)
    try:
        return recognised(request, await access.caller(request))
    except HTTPException as error:
        raise unauthenticated(tell("signing_in.needed")) from error


def with_token(request: Request, token: str) -> Request:
    """Return the same request as a program would have sent it."""
    headers = [*request.scope["headers"], (b"authorization", b"Bearer " + token.encode("latin-1", "replace"))]
    return Request({**request.scope, "headers": headers}, request.receive)


def same_site(request: Request) -> None:
    """Refuse what a page of another site could have sent. Raises denied."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    foreign = site not in (None, "same-origin", "none") or origin == "null"  # a sandboxed frame, whose origin nobody knows
    if origin is not None and site is None:
        known = {request.headers.get("host", ""), urlsplit(public_url(current_installation(request))).netloc} - {""}
        foreign = urlsplit(origin).netloc not in known
    if foreign:
        raise Refused("denied", tell("failed.foreign_form"))


def same_page(request: Request) -> None:
    """Refuse changes that our own pages did not send. Another site cannot set their header without leave. Raises denied."""
    if request.method not in ("GET", "HEAD"):
        same_site(request)
        if "hx-request" not in request.headers:
            raise Refused("denied", tell("failed.without_script"))


class Form:
    """The fields of a form, in the order they were sent."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs

    def one(self, name: str, default: str = "") -> str:
        return next((value.strip() for key, value in self._pairs if key == name), default)

    def every(self, name: str) -> list[str]:
        return [value.strip() for key, value in self._pairs if key == name and value.strip()]


async def sent_form(request: Request) -> Form:
    """Raises too_large, bad_request."""
    read = bytearray()
    async for chunk in request.stream():
        read += chunk
        if len(read) > LARGEST:
            raise Refused("too_large", tell("failed.form_too_large", limit=LARGEST // 1024))
    try:
        return Form(parse_qsl(read.decode(), keep_blank_values=True, strict_parsing=False, max_num_fields=5000))
    except ValueError as error:
        raise Refused("bad_request", tell("failed.form_unreadable")) from error


PageCaller = Annotated[Caller, Depends(page_caller)]
SentForm = Annotated[Form, Depends(sent_form)]


def holding(wanted: Permission) -> Any:
    """A dependency that yields the caller if they hold the permission for the path's tenant. It is like the API's, but for pages."""

    def check(request: Request, tenant: TenantPath, caller: PageCaller, installation: InstallationDep) -> Caller:
        if not caller.allows(wanted, tenant):
            refuse(request, installation, caller, wanted, tenant)
        return caller

    return Depends(check)


Viewer = Annotated[Caller, holding(Permission.REGISTRATIONS_VIEW)]
Editor = Annotated[Caller, holding(Permission.REGISTRATIONS_MANAGE)]
Operator = Annotated[Caller, holding(Permission.DELIVERIES_RUN)]
