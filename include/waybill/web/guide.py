"""Serves the documentation at `/guide`: the static site that `make docs` builds, from our own files. If it was not built, there is
nothing.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles

MOUNTED = "/guide"
_POLICY = (
    "default-src 'none'; script-src 'self'{scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; worker-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
)
"""The site has a few scripts of its own within its pages, which their digests name. Nothing is loaded from elsewhere."""
_INLINE = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def folder() -> Path | None:
    """Return where the site is: beside the package in a wheel, at the top of a checkout. It is None if the site was not built."""
    package = Path(__file__).resolve().parents[1]
    places = (package / "shipped/site", package.parents[1] / "site")
    return next((path for path in places if (path / "index.html").is_file()), None)


def install(app: FastAPI) -> None:
    app.state.guide = folder()
    if app.state.guide:
        app.add_api_route(MOUNTED, lambda: RedirectResponse(f"{MOUNTED[1:]}/"), include_in_schema=False)
        app.mount(MOUNTED, _Site(directory=app.state.guide, html=True), name="guide")


class _Site(StaticFiles):
    def file_response(self, full_path: Any, *args: Any, **kwargs: Any) -> Response:
        answer = super().file_response(full_path, *args, **kwargs)
        path = Path(full_path)
        digests = _digests(path, path.stat().st_mtime_ns) if path.suffix == ".html" else ()
        answer.headers["Content-Security-Policy"] = _POLICY.format(scripts="".join(f" 'sha256-{digest}'" for digest in digests))
        answer.headers["Cache-Control"] = "no-cache"
        return answer


@lru_cache(maxsize=256)
def _digests(path: Path, _changed: int) -> tuple[str, ...]:
    """Return the digests of the scripts in a page."""
    found = _INLINE.findall(path.read_bytes())
    return tuple(base64.b64encode(hashlib.sha256(script).digest()).decode() for script in dict.fromkeys(found))
