"""Turns values into HTML: templates, how numbers and times are written, and the headers of every page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from waybill import __version__
from waybill.access import Caller
from waybill.airflow.names import dag_id
from waybill.language import LANGUAGE, tell
from waybill.web.pages.sentences import say
from waybill.web.pages.signing_in.session import takes_tokens

SETTINGS = "/settings/exports"
FROM_SETTINGS = "../page/"
"""The way from the exports at `/settings/exports`, which are beside the pages, to where the pages begin."""

_UNITS = ((86400, "days"), (3600, "hours"), (60, "minutes"))
_SIZES = ("B", "KB", "MB", "GB", "TB", "PB")
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'self'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


_HTMX = {
    "includeIndicatorStyles": False,
    "allowEval": False,
    "selfRequestsOnly": True,
    "historyCacheSize": 0,
    "refreshOnHistoryMiss": True,
    "timeout": 60000,
    "responseHandling": [
        {"code": "204", "swap": False},
        {"code": "[23]..", "swap": True},
        {"code": "[45]..", "swap": True, "error": True},
    ],
}
"""htmx within the content security policy: no styles and no code of its own, and errors where their form keeps a place."""


def route_of(request: Request) -> str:
    """Return the path below the mount point."""
    path: str = request.scope["path"]
    return path.removeprefix(request.scope.get("root_path", ""))


def number(value: int | None) -> str:
    """Return digits in groups of three, or a dash for an unknown number."""
    return "–" if value is None else f"{value:,}"


def size(value: int | None) -> str:
    """Return bytes with three significant digits, in steps of 1000."""
    if value is None:
        return "–"
    amount, unit = float(value), 0
    while amount >= 999.5 and unit < len(_SIZES) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{value} B" if unit == 0 else f"{amount:.3g} {_SIZES[unit]}"


def span(value: timedelta | None) -> str:
    """Return a length of time in its largest whole unit: `4 minutes`, `3 days`."""
    if value is None:
        return "–"
    seconds = max(0, int(value.total_seconds()))
    length, unit = next((known for known in _UNITS if seconds >= known[0]), (1, "seconds"))
    return tell(f"duration.{unit}", count=seconds // length)


def moment(value: datetime | str | None, zone: tzinfo = UTC) -> Markup:
    """Return an instant in the tenant's zone, with UTC on hover."""
    if not value:
        return Markup("–")
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    there, utc = at.astimezone(zone), at.astimezone(UTC)
    shown = f"{there:%Y-%m-%d %H:%M} {there.tzname()}"
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(utc.isoformat(), f"{utc:%Y-%m-%d %H:%M:%S}", shown)


_MARKED = re.compile(r"`([^`]+)`|(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d))")


def marked_up(words: str, zone: tzinfo = UTC) -> Markup:
    """Return a message for every reader as HTML for people: text in backticks is code, and instants are in the tenant's zone."""
    shown, end = Markup(), 0
    for found in _MARKED.finditer(words):
        code, instant = found.groups()
        shown += words[end : found.start()]
        shown += Markup("<code>{}</code>").format(code) if code else moment(instant, zone)
        end = found.end()
    return shown + words[end:]


def code(text: object) -> Markup:
    """Return what a machine reads, such as a file's name."""
    return Markup("<code>{}</code>").format(text)


_DATE = re.compile(r"(\d{4}-\d\d-\d\d)")


def unbroken(text: str) -> Markup:
    """Return a text whose dates stay on one line."""
    parts = enumerate(_DATE.split(text))
    return Markup().join(Markup('<span class="whole">{}</span>').format(part) if at % 2 else escape(part) for at, part in parts)


def day(value: datetime, zone: tzinfo) -> Markup:
    """Return a boundary: the local day it begins, on one line, with its instant on hover."""
    return Markup('<time class="whole" datetime="{}" title="{} UTC">{}</time>').format(
        value.isoformat(), f"{value.astimezone(UTC):%Y-%m-%d %H:%M}", f"{value.astimezone(zone):%Y-%m-%d}"
    )


def bars(values: list[tuple[str, int]], unit: str) -> Markup:
    """Return a small chart with one bar for each delivery day, and its numbers in words for those who do not see it. If nothing was
    delivered, there is no chart.
    """
    if not values:
        return Markup('<span class="quiet">–</span>')
    spell = size if unit == "bytes" else number
    top = max(value for _, value in values) or 1
    words = say("listing.chart", unit=unit.capitalize(), days=len(values), most=spell(top), last=spell(values[-1][1]))
    # One path replaces thirty elements, because two thousand tenants are many pages of charts. The last day is at the end of the line.
    first = 30 - len(values)
    drawn = "".join(f"M{(first + at) * 4} 24v-{max(1, round(23 * value / top))}h3V24z" for at, (_, value) in enumerate(values))
    svg = '<svg class="bars" viewBox="0 0 120 25" width="120" height="25" role="img"><title>{}</title><path d="{}M0 24h119v.6H0z"/></svg>'
    return Markup(svg).format(words, drawn)  # noqa: S704 (numbers only)


_templates = Environment(
    loader=PackageLoader("waybill.web.pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_templates.filters |= {filter_.__name__: filter_ for filter_ in (number, size, span, moment, day, marked_up, code, unbroken)}
_templates.globals |= {"bars": bars, "dag_id": dag_id, "say": say, "language": LANGUAGE, "htmx": _HTMX}


def below(request: Request) -> str:
    """Return where the pages begin, relative to the page in the browser. Such links survive any prefix that a proxy or Airflow puts in
    front.

    What htmx fetches is put into the page that asked, so its links are relative to that page.
    """
    route = route_of(request)
    if "hx-request" in request.headers:
        shown = urlsplit(request.headers.get("hx-current-url", "")).path
        if shown.endswith(SETTINGS):
            return FROM_SETTINGS
        if "/page/" in shown:
            route = "/" + shown.partition("/page/")[2]
    elif (up := request.app.extra.get("up")) != 0:  # beside the pages: one level above this application, or in it
        return "../" * (route.count("/") - 1 + (up or 0)) + "page/"
    return "../" * (route.count("/") - 1) or "./"


def in_settings(request: Request) -> bool:
    """Return whether the browser shows the exports at `/settings/exports`."""
    shown = request.headers.get("hx-current-url", "") if "hx-request" in request.headers else request.url.path
    return urlsplit(shown).path.endswith(SETTINGS)


def page(
    request: Request, name: str, caller: Caller | None = None, *, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
) -> Response:
    """Return a template as an answer. `tab` and `tenant` tell the navigation where the reader is."""
    frame: dict[str, Any] = {
        "root": below(request),
        "caller": caller,
        "signs_in": takes_tokens(request),
        "tab": "",
        "tenant": None,
        "context": None,
        "tabs": [],
        "settings": in_settings(request),
        "version": __version__,
        "guide": getattr(request.app.state, "guide", None) is not None,
    }
    content = _templates.get_template(name).render(**(frame | values))
    return HTMLResponse(content, status, {**HEADERS, **(headers or {})})


def moved(request: Request, place: str) -> Response:
    """Lead the browser to a page, given relative to where the pages begin. It also answers a form that htmx sent.

    From the exports at `/settings/exports` it leads back there.
    """
    if in_settings(request):
        shown = urlsplit(request.headers["hx-current-url"])
        kept = [(name, value) for name, value in parse_qsl(shown.query) if name in ("organization", "tenant")]
        return Response(status_code=204, headers={"HX-Redirect": "exports?" + urlencode(kept), **HEADERS})
    return Response(status_code=204, headers={"HX-Redirect": below(request) + place, **HEADERS})
