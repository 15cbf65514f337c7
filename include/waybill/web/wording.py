"""Speaks to each caller in the words of their product: those of the tenant in the address, or else those of the whole policy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

from waybill.access import Caller
from waybill.installation import Installation
from waybill.language import wording
from waybill.web.dependencies import SPEAKER, Installations

_TENANT = re.compile(r"/tenants/([a-z0-9][a-z0-9_-]{0,62})(?:/|$)")


class Speaker:
    """The words of one answer. Until the caller is recognised, and if they must not know of the tenant, they are everybody's."""

    def __init__(self, installations: Installations, tenant: str) -> None:
        self.caller: Caller | None = None
        self._installations, self._tenant = installations, tenant
        self._found: tuple[Caller | None, Mapping[str, str]] | None = None

    def __call__(self) -> Mapping[str, str]:
        opened = self._installations.opened
        if opened is None:
            return {}
        if self._found is None or self._found[0] is not self.caller:
            self._found = self.caller, self._words(opened)
        return self._found[1]

    def _words(self, opened: Installation) -> Mapping[str, str]:
        everybodys, theirs = opened.own_words(""), opened.own_words(self._tenant)
        if theirs == everybodys or (self.caller and self.caller.rights.reaches(self._tenant)):
            return theirs
        return everybodys


class OwnWords:
    """ASGI middleware. It reads the policy when the answer needs a sentence. An installation that does not open has no words of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        speaker = scope[SPEAKER] = Speaker(scope["app"].state.installations, _tenant(scope))
        with wording(speaker):
            await self._app(scope, receive, send)


def _tenant(scope: Scope) -> str:
    found = _TENANT.search(scope["path"])
    return found[1] if found else parse_qs(scope["query_string"].decode("latin-1")).get("tenant", [""])[0]
