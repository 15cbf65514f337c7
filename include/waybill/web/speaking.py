"""Speaks to each caller in the words of their product: those of the tenant in the address, else those of the whole policy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

from waybill.language import wording
from waybill.web.dependencies import Installations

_TENANT = re.compile(r"/tenants/([a-z0-9][a-z0-9_-]{0,62})(?:/|$)")


class OwnWords:
    """ASGI middleware. Policy is read when the answer needs a sentence, and an installation that does not open has no words of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        installations: Installations = scope["app"].state.installations

        @cache
        def own() -> Mapping[str, str]:
            opened = installations.opened
            return opened.own_words(_tenant(scope)) if opened else {}

        with wording(own):
            await self._app(scope, receive, send)


def _tenant(scope: Scope) -> str:
    found = _TENANT.search(scope["path"])
    return found[1] if found else parse_qs(scope["query_string"].decode("latin-1")).get("tenant", [""])[0]
