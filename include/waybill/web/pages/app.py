"""The pages for people, mounted at `/page`. The server renders them, and htmx changes parts of them in place. Errors are pages too."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode, urlsplit

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute
from starlette.staticfiles import StaticFiles

from waybill.access import Caller
from waybill.errors import InvalidInput, WaybillError
from waybill.installation import Installation
from waybill.language import table, tell
from waybill.requests.lifecycle import LinkExpired
from waybill.requests.links import DOWNLOADS, public_url
from waybill.web import problems
from waybill.web.dependencies import InstallationDep, current_installation
from waybill.web.pages import context, overview, registration, tenant
from waybill.web.pages import words as pages_words
from waybill.web.pages.render import SETTINGS, below, in_settings, page, route_of
from waybill.web.pages.requests import recurring, routes
from waybill.web.pages.sentences import say
from waybill.web.pages.signing_in import identity
from waybill.web.pages.signing_in.session import COOKIE, LONGEST, SentForm, page_caller, same_page, same_site, takes_tokens, with_token

log = logging.getLogger(__name__)

MOUNTED = "/page"


def _same_page(*routers: APIRouter) -> list[BaseRoute]:
    """Return the routers' routes. A form of another site cannot reach them. They hold nothing of an application, so those of a process
    share them.
    """
    guarded = APIRouter(dependencies=[Depends(same_page)])
    for router in routers:
        guarded.include_router(router)
    return guarded.routes


PAGES = _same_page(*(module.router for module in (context, overview, tenant, registration, routes, recurring)))
IN_SETTINGS = _same_page(routes.settings)
TITLES = table("error_titles")
HELP = table("error_help")
SAYING_WHAT_TO_DO = ("create_denied", "plan_required")
"""Codes of refusals whose sentence ends with what to do."""


def mount(app: FastAPI) -> None:
    """Put the pages below `/page`, and where people look for them by habit. People see a page if a download fails."""
    pages = _application(app, PAGES, up=0)
    pages.mount("/static", _Static(directory=Path(__file__).parent / "static"), name="static")
    pages.add_api_route(SETTINGS, _settings, methods=["GET"])
    pages.add_api_route("/sign-in", sign_in, methods=["GET"])
    pages.add_api_route("/sign-in", signed_in, methods=["POST"])
    pages.add_api_route("/sign-in/start", sign_in_at_provider, methods=["GET"])
    pages.add_api_route(identity.CALLBACK, back_from_provider, methods=["GET"])
    pages.add_api_route("/sign-out", signed_out, methods=["POST"])
    app.mount(MOUNTED, pages)
    app.mount("/settings", _application(app, IN_SETTINGS, up=1))
    app.add_api_route("/", _home, include_in_schema=False)
    app.add_exception_handler(WaybillError, _failed_download)
    app.add_exception_handler(HTTPException, _missing)


class _Static(StaticFiles):
    """Scripts import one another without a version in the address, so browsers ask each time whether a file has changed."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        answer = super().file_response(*args, **kwargs)
        answer.headers["Cache-Control"] = "no-cache"
        return answer


def _application(app: FastAPI, routes: list[BaseRoute], up: int) -> FastAPI:
    """Return an application of pages. `up` is the number of levels from its address up to the folder of the pages, 0 for the pages
    themselves.
    """
    pages = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, title="Waybill", up=up)
    pages.state = app.state
    pages.router.routes += routes
    for kind in (WaybillError, HTTPException, RequestValidationError, Exception):
        pages.add_exception_handler(kind, _failed)
    pages.add_exception_handler(ClientDisconnect, problems.on_nobody_left)
    return pages


def _home(request: Request) -> Response:
    """People find the pages at the root. For programs there is nothing."""
    if "text/html" not in request.headers.get("accept", ""):
        raise HTTPException(404)
    return RedirectResponse("page/", 307)


def _settings(request: Request) -> Response:
    """Return where the exports are beside the pages, seen from below them: by habit, and by who signed in there."""
    return RedirectResponse(f"../..{SETTINGS}{_query(request)}", 303)


def _query(request: Request) -> str:
    return f"?{request.url.query}" if request.url.query else ""


async def sign_in(
    request: Request, next: Annotated[str, Query(max_length=2000)] = "", why: Annotated[str, Query(max_length=40)] = ""
) -> Response:
    """The page to sign in at. It leads on whoever is signed in, as everybody is inside Airflow: *Back* and old bookmarks come here, too."""
    if not takes_tokens(request):
        return RedirectResponse("./", 303)
    if COOKIE in request.cookies and await _whoever(request):
        return RedirectResponse(f"./{next.lstrip('/.')}", 303, {"Cache-Control": "no-store"})
    notice = say("signing_in.ended") if why == "ended" else ""
    return page(request, "frame/sign_in.html", next=next, notice=notice, provider=identity.provider(request) is not None)


def sign_in_at_provider(request: Request, installation: InstallationDep, next: Annotated[str, Query(max_length=2000)] = "") -> Response:
    """Lead to the house's identity provider. The browser comes back from there with a code."""
    issuer = identity.provider(request)
    if issuer is None:
        return RedirectResponse("../sign-in", 303)
    begun = identity.begin(request, installation, issuer, next.lstrip("/."))
    answer = RedirectResponse(begun.url, 303, {"Cache-Control": "no-store"})
    path = f"{_cookie_paths(request)[0]}{identity.CALLBACK}"  # Lax: the browser comes from the provider's site
    secure = _is_secure(request, installation)
    answer.set_cookie(begun.name, begun.cookie, identity.LIFE_SECONDS, path=path, secure=secure, httponly=True, samesite="lax")
    return answer


async def back_from_provider(request: Request, installation: InstallationDep) -> Response:
    """Make a session of the provider's answer. A page of ours leads on, because browsers hold back strict cookies after another site's
    page.
    """
    access = request.app.state.access
    if identity.provider(request) is None:
        return RedirectResponse("../sign-in", 303)
    try:
        token, place = await run_in_threadpool(identity.finish, request, installation, access)
        await access.caller(with_token(request, token))
        if len(token) > LONGEST:
            raise problems.unauthenticated(tell("signing_in.token_too_long"))
    except WaybillError as error:
        return page(request, "frame/sign_in.html", status=problems.status_of(error), next="", notice=str(error), provider=True)
    answer = page(request, "frame/signed_in.html", place=f"{below(request)}{place}")
    _keep_session(request, installation, answer, token)
    done = identity.cookie_of(request.query_params.get("state", ""))
    answer.delete_cookie(done, path=f"{_cookie_paths(request)[0]}{identity.CALLBACK}", httponly=True, samesite="lax")
    return answer


def _is_secure(request: Request, installation: Installation) -> bool:
    return request.url.scheme == "https" or public_url(installation).startswith("https:")


def _keep_session(request: Request, installation: Installation, answer: Response, token: str) -> None:
    for path in _cookie_paths(request):
        secure = _is_secure(request, installation)
        answer.set_cookie(COOKIE, token, path=path, secure=secure, httponly=True, samesite="strict")


async def signed_in(request: Request, form: SentForm, installation: InstallationDep) -> Response:
    """Keep a good token in a cookie. Every page checks it again."""
    same_site(request)
    token = form.one("token").removeprefix("Bearer ").strip()
    place = form.one("next").lstrip("/.")
    if not takes_tokens(request):
        return RedirectResponse("./", 303)
    try:
        if len(token) > LONGEST:
            raise problems.unauthenticated(tell("signing_in.token_too_long"))
        await request.app.state.access.caller(with_token(request, token))
    except WaybillError as error:
        offered = identity.provider(request) is not None
        return page(request, "frame/sign_in.html", status=problems.status_of(error), next=place, notice=str(error), provider=offered)
    answer = RedirectResponse(f"./{place}", 303, {"Cache-Control": "no-store"})
    _keep_session(request, installation, answer, token)
    return answer


async def signed_out(request: Request) -> Response:
    same_site(request)
    answer = RedirectResponse("sign-in", 303)
    for path in _cookie_paths(request):
        answer.delete_cookie(COOKIE, path=path, httponly=True, samesite="strict")
    return answer


def _cookie_paths(request: Request) -> list[str]:
    """Return the path of the pages alone, because other applications of this host must not see the token."""
    mounted = str(request.scope.get("root_path", "")) or "/"
    return [mounted, mounted.removesuffix(MOUNTED) + SETTINGS]


async def _failed_download(request: Request, error: Exception) -> Response:
    """A browser that follows a link gets a page, and a program gets the problem."""
    reads = route_of(request).startswith(DOWNLOADS) and "text/html" in request.headers.get("accept", "")
    return await _failed(request, error) if reads else problems.on_waybill_error(request, error)


async def _missing(request: Request, error: Exception) -> Response:
    """For an address that leads nowhere, a browser gets a page, and a program gets the problem."""
    reads = isinstance(error, HTTPException) and error.status_code == 404 and "text/html" in request.headers.get("accept", "")
    return await _failed(request, error) if reads else problems.on_http_exception(request, error)


async def _failed(request: Request, error: Exception) -> Response:
    """Show every error as a page that helps. An answer to htmx goes into the place that the form keeps for it."""
    status, facts = _facts(error)
    by_htmx = "hx-request" in request.headers
    if status == 401 and takes_tokens(request):
        return _to_sign_in(request, by_htmx)
    findings = problems.field_errors(error) if isinstance(error, InvalidInput) else []
    if by_htmx:
        form = request.headers.get("hx-trigger", "")
        headers = {"HX-Retarget": f"#{form}-problem" if form.endswith("-form") else "#problem", "HX-Reswap": "innerHTML"}
        refusal = pages_words.refusal(error, form, _called(request, form)) if isinstance(error, WaybillError) else None
        words: dict[str, Any] = {"sentence": facts, "fields": [], "findings": findings}
        if refusal:
            words = {"sentence": refusal.sentence, "fields": refusal.findings, "findings": []}
        return page(request, "frame/problem.html", status=status, headers=headers, **words, help=_help(error, status))
    shown: dict[str, Any] = {
        "sentence": facts,
        "title": TITLES.get(_kind(error, status)) or tell("failed.title"),
        "help": _help(error, status),
        "lock": status in (401, 403),
        "log_in": _log_in(request) if status == 401 else "",
    }
    caller = await _whoever(request)
    around = await run_in_threadpool(_around, request, caller)
    ways = _ways(request, caller, status, around.get("tabs", []))
    return page(request, "frame/error.html", caller, status=status, **around, **shown, ways=ways)


def _help(error: Exception, status: int) -> str:
    """Return what to do about an error, unless its own words say it."""
    return "" if isinstance(error, WaybillError) and error.code in SAYING_WHAT_TO_DO else HELP.get(_kind(error, status), "")


def _kind(error: Exception, status: int) -> str:
    """Return what titles and advice go by: the status, except if one status means two things that a person can tell apart."""
    return "link_expired" if isinstance(error, LinkExpired) else str(status)


def _around(request: Request, caller: Caller | None) -> dict[str, Any]:
    """Return the navigation of an error page, as far as anything answers."""
    if caller is None:
        return {}
    try:
        return {"tabs": context.frame(current_installation(request), caller, "overview")["tabs"]}
    except WaybillError:
        return {}


def _ways(request: Request, caller: Caller | None, status: int, tabs: list[context.Link]) -> list[tuple[str, str]]:
    """Return where a reader of an error can go on, as title and address: the same page if that may help, and pages that open for them."""
    ways = [(tell("failed.again"), "")] if request.method == "GET" and (status >= 500 or status == 412) else []
    if caller is None:  # both go over signing in
        return [*ways, (tell("nav.exports"), f"{below(request)}requests") if status == 410 else (tell("failed.start"), below(request))]
    here = route_of(request).strip("/")
    leads = [(link.title, below(request) + link.address) for link in tabs if link.tab in ("overview", "requests") and link.address != here]
    return [*ways, *sorted(leads, key=lambda way: way[1].endswith("requests"), reverse=status == 410)]


async def _whoever(request: Request) -> Caller | None:
    """Return who is signed in, so that they can sign out again, if that is known."""
    try:
        return await page_caller(request)
    except WaybillError:
        return None


def _called(request: Request, form: str) -> Mapping[str, str]:
    """Return what the policy calls the fields of an export's form, for the tenant of the form."""
    if form != "export-form":
        return {}
    try:
        return current_installation(request).configuration.export_policy(request.path_params.get("tenant", "")).page.fields
    except WaybillError:
        return {}


def _log_in(request: Request) -> str:
    """Lead to Airflow's own login, which comes back to this page in Airflow's frame."""
    mounted = str(request.scope.get("root_path", ""))
    shown = f"{mounted.removesuffix('/waybill' + MOUNTED)}/plugin/waybill{mounted}{route_of(request)}"
    return f"{below(request)}../../api/v2/auth/login?{urlencode({'next': shown})}"


def _facts(error: Exception) -> tuple[int, str]:
    """Return the status, and the sentence that a person may see."""
    if isinstance(error, WaybillError):
        status = problems.status_of(error)
        if status >= 500:
            log.error("%s: %s", error.code, error)
        if isinstance(error, InvalidInput):
            return status, problems.counted(error)
        if status >= 500:  # what it says of hosts and databases is for the operator
            return status, problems.said_when_down(error)
        return status, str(error)
    if isinstance(error, HTTPException):
        return error.status_code, tell("failed.nothing_here") if error.status_code == 404 else str(error.detail)
    if isinstance(error, RequestValidationError):
        return 404, tell("failed.nothing_here")
    log.error("a page failed", exc_info=error)
    return 500, tell("failed.inside")


def _read_page(request: Request) -> str:
    """Return the page from which htmx asked, below where the pages begin. It is empty for one that is none of ours."""
    shown = urlsplit(request.headers.get("hx-current-url", ""))
    place = SETTINGS.lstrip("/") if in_settings(request) else shown.path.partition(f"{MOUNTED}/")[2]
    return place + (f"?{shown.query}" if place and shown.query else "")


def _to_sign_in(request: Request, by_htmx: bool) -> Response:
    here = (SETTINGS if in_settings(request) else route_of(request)).lstrip("/") + _query(request)
    ended = "&why=ended" if COOKIE in request.cookies else ""
    if by_htmx:
        return Response(status_code=401, headers={"HX-Redirect": f"{below(request)}sign-in?next={quote(_read_page(request))}&why=ended"})
    return RedirectResponse(f"{below(request)}sign-in?next={quote(here)}{ended}", 303)
