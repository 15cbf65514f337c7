"""The archive behind a signed link."""

from __future__ import annotations

import re
import threading
from collections import Counter
from pathlib import Path
from typing import Annotated, Protocol, runtime_checkable

from fastapi import APIRouter, Request
from fastapi import Path as InPath
from fastapi.responses import FileResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from waybill.language import tell
from waybill.requests import links
from waybill.web import server_limits
from waybill.web.api.openapi import problems
from waybill.web.dependencies import InstallationDep
from waybill.web.problems import Refused

router = APIRouter(prefix="/downloads", tags=["exports"])

_REFUSED = ("not_found", "expired", "range_not_satisfiable", "rate_limited", "storage_unavailable")
_PART = re.compile(r"(\d{1,18})-(\d{1,18})?|-(\d{1,18})")
_ZIP = {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}


@runtime_checkable
class Rechecks(Protocol):
    """A shell that can tell, without a login, whether a person may still download exports of a tenant."""

    def still_may(self, person: str, tenant: str) -> bool: ...


@router.head("/{token}", include_in_schema=False)
@router.get(
    "/{token}",
    response_class=FileResponse,
    responses={
        200: {"description": "The archive.", **_ZIP},
        206: {"description": "The part asked for with `Range`.", **_ZIP},
        307: {"description": "The store serves it, at an address made for this click."},
        **{status: entry for status, entry in problems(*_REFUSED).items() if status != 401},
    },
    summary="Download an archive",
)
def download(request: Request, token: Annotated[str, InPath(max_length=2000)], installation: InstallationDep) -> Response:
    """Needs no login: the link itself is signed for a person, whose right to download is checked again."""
    access, taken = request.app.state.access, request.method == "GET"
    found = (
        links.open_download(installation, token, access.still_may, taken=taken)
        if isinstance(access, Rechecks)
        else links.open_download(installation, token, taken=taken)
    )
    headers = {"Cache-Control": "no-store, no-transform", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}
    if found.path is None:
        return RedirectResponse(found.url or "", 307, headers)
    headers["Content-Encoding"] = "identity"  # what nginx heeds: it compresses a zip for `gzip_types *`, whatever Cache-Control says
    if found.request.sha256:
        headers["ETag"] = f'"{found.request.sha256}"'
    _check_range(request, found.request.bytes or 0, headers.get("ETag", ""))
    if not taken:
        return FileResponse(found.path, media_type="application/zip", filename=found.filename, headers=headers)
    return _Counted(request.app.state.downloads, found.request.tenant, found.path, found.filename, headers)


class Downloads:
    """The number of archives of each tenant that are on their way now."""

    def __init__(self) -> None:
        self._now: Counter[str] = Counter()
        self._lock = threading.Lock()

    def begin(self, tenant: str) -> None:
        """Raises rate_limited if the tenant has as many as it may, because the connections are there for others, too."""
        with self._lock:
            if self._now[tenant] >= server_limits.DOWNLOADS:
                raise Refused("rate_limited", tell("call.downloads", most=server_limits.DOWNLOADS))
            self._now[tenant] += 1

    def end(self, tenant: str) -> None:
        with self._lock:
            self._now[tenant] -= 1
            if not self._now[tenant]:
                del self._now[tenant]


class _Counted(FileResponse):
    """A download that counts until it is sent or given up."""

    def __init__(self, downloads: Downloads, tenant: str, path: Path, filename: str, headers: dict[str, str]) -> None:
        super().__init__(path, media_type="application/zip", filename=filename, headers=headers)
        self._downloads, self._tenant = downloads, tenant
        downloads.begin(tenant)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._downloads.end(self._tenant)


def _check_range(request: Request, size: int, etag: str) -> None:
    """Raises range_not_satisfiable for bytes that are not there, unless If-Range makes the range void.

    A Range of another unit is removed from the request, because RFC 9110 wants it ignored.
    """
    wanted, unless = request.headers.get("range"), request.headers.get("if-range")
    if wanted is None or (unless is not None and unless != etag):
        return
    unit, given, parts = wanted.partition("=")
    if given and unit.strip().lower() != "bytes":
        request.scope["headers"] = [(name, value) for name, value in request.scope["headers"] if name != b"range"]
    elif not all(_is_there(part.strip(), size) for part in parts.split(",")):
        what = tell("call.no_range", size=size)
        raise Refused("range_not_satisfiable", what, {"Content-Range": f"bytes */{size}"})


def _is_there(part: str, size: int) -> bool:
    """Return whether a part of a Range is well formed and begins inside the archive."""
    found = _PART.fullmatch(part)
    if found is None:
        return False
    first, last, suffix = found.groups()
    return int(suffix) > 0 if suffix else int(first) < size and (not last or int(first) <= int(last))
