"""Recognises callers by OAuth2 bearer token, for `waybill serve`: JWTs of one issuer, checked against its published keys."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import jwt
from fastapi import Request
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from waybill.access import Caller, Granted, TokenRights
from waybill.errors import PermanentError, TransientError
from waybill.language import tell
from waybill.web.dependencies import current_installation
from waybill.web.jwks import ALGORITHMS, KeySet, is_safe
from waybill.web.problems import unauthenticated

LEEWAY = 30
"""Seconds by which the issuer's clock and this one may differ."""
LONGEST = 16 * 1024


@dataclass(frozen=True)
class Issuer:
    """Whose tokens count. `tenant_claim` names the claim that binds a token to one tenant or a list of them.

    `token_url` is where programs get their tokens by the client-credentials flow. The reference of the API shows it, and it may be empty.
    With a `client_id`, people sign in to the pages at the issuer. A public client has no secret.
    """

    issuer: str
    audience: str
    jwks_url: str
    tenant_claim: str = "tenant"
    token_url: str = ""
    client_id: str = ""
    client_secret: str = field(default="", repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Issuer:
        """Raises PermanentError that names every missing variable, or an address that anybody on the way could change."""
        environment = {name: value.strip() for name, value in environment.items()}  # files of variables may end lines with CR
        names = ("WAYBILL_OAUTH_ISSUER", "WAYBILL_OAUTH_AUDIENCE", "WAYBILL_OAUTH_JWKS_URL")
        missing = [name for name in names if not environment.get(name)]
        if missing:
            raise PermanentError(
                f"waybill serve does not know whose tokens to accept: {', '.join(missing)} not set",
                next_step="Set them to your OAuth2 issuer, the audience of its tokens for Waybill, and the address of its JSON Web Key Set",
                code="usage",
            )
        issuer, audience, url = (environment[name] for name in names)
        tokens = environment.get("WAYBILL_OAUTH_TOKEN_URL") or ""
        _require_safe("WAYBILL_OAUTH_JWKS_URL", url)
        if tokens:
            _require_safe("WAYBILL_OAUTH_TOKEN_URL", tokens)
        claim = environment.get("WAYBILL_OAUTH_TENANT_CLAIM") or "tenant"
        client = environment.get("WAYBILL_OAUTH_CLIENT_ID") or "", environment.get("WAYBILL_OAUTH_CLIENT_SECRET") or ""
        return cls(issuer, audience, url, claim, tokens, *client)


def _require_safe(name: str, url: str) -> None:
    if not is_safe(url):
        raise PermanentError(f"{name} is {url!r}", allowed="https, or http on the loopback address", code="usage")


class TokenAccess:
    """Recognises callers by their bearer token."""

    def __init__(self, issuer: Issuer, cooldown: float = 30) -> None:
        self.issuer = issuer
        # One set stays in memory for five minutes. An unknown kid fetches it again, at most once in `cooldown` seconds.
        self._keys = KeySet(issuer.jwks_url, cooldown)

    async def caller(self, request: Request) -> Caller:
        """Return the token's caller. Raises unauthenticated, or TransientError if the issuer's keys are out of reach."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if not scheme:
            raise unauthenticated(tell("call.no_token"))
        if scheme.lower() != "bearer" or not token.strip() or len(token) > LONGEST:
            raise unauthenticated(tell("call.no_bearer"), "invalid_token")
        return self._recognised(await self._claims(token.strip()), granted_by_policy(request))

    def identity(self, token: str) -> Mapping[str, Any]:
        """Return the claims of an id token for our client. It is called in a thread that runs no event loop. Raises unauthenticated."""
        return asyncio.run(self._claims(token, self.issuer.client_id))

    async def _claims(self, token: str, audience: str = "") -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in ALGORITHMS or not isinstance(header.get("kid"), str):
                raise unauthenticated(tell("call.token_algorithm", algorithms=", ".join(ALGORITHMS)), "invalid_token")
            key = await self._key(header["kid"])
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=audience or self.issuer.audience,
                issuer=self.issuer.issuer,
                leeway=LEEWAY,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except PyJWTError as error:
            raise unauthenticated(_why(error), "invalid_token") from error
        if not _printable(claims["sub"]):
            raise unauthenticated(tell("call.token_subject"), "invalid_token")
        return claims

    async def _key(self, kid: str) -> PyJWK:
        """Return the issuer's key of that id. Raises unauthenticated if it has none, and TransientError if nobody can find out."""
        try:
            key = await self._keys.key(kid)
        except LookupError as error:
            raise _keys_unknown() from error
        if key is None:
            raise unauthenticated(_why(PyJWTError()), "invalid_token")
        return key

    def _recognised(self, claims: Mapping[str, Any], granted: Granted) -> Caller:
        rights = TokenRights(
            tenants=_words(claims.get(self.issuer.tenant_claim), split=False),
            scopes=_words(claims.get("scope")),
            roles=_words(claims["roles"]) if "roles" in claims else None,
            granted=granted,
            bound_to_projects="projects" in claims,
        )
        projects = _words(claims["projects"]) if "projects" in claims else None
        return Caller(str(claims["sub"]), rights, name=_text(claims, "name"), email=_text(claims, "email"), projects=projects)


def _keys_unknown() -> TransientError:
    return TransientError("the keys of the token issuer cannot be had", next_step="Check WAYBILL_OAUTH_JWKS_URL", code="issuer")


def granted_by_policy(request: Request) -> Granted:
    """Return what the policy in force at this request lets roles do."""

    def granted(tenant: str, roles: frozenset[str] | None) -> frozenset[str]:
        return current_installation(request).configuration.export_policy(tenant).permissions_of(roles)

    return granted


def _words(value: Any, *, split: bool = True) -> frozenset[str]:
    """Return a claim that is a string of words or a list of them."""
    if isinstance(value, str):
        return frozenset(value.split() if split else [value])
    return frozenset(word for word in value if isinstance(word, str)) if isinstance(value, list) else frozenset()


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    return value if _printable(value) else ""


def _printable(value: Any) -> TypeGuard[str]:
    """Return whether a claim is text that histories and logs may show: it has something to see, and no control characters."""
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _why(error: Exception) -> str:
    """Return one sentence that helps the owner of a token and tells an attacker nothing new."""
    reasons: list[tuple[type[Exception], str]] = [
        (jwt.ExpiredSignatureError, "expired"),
        (jwt.ImmatureSignatureError, "early"),
        (jwt.InvalidAudienceError, "audience"),
        (jwt.InvalidIssuerError, "issuer"),
        (jwt.MissingRequiredClaimError, "claims"),
    ]
    return tell(f"call.token_{next((name for kind, name in reasons if isinstance(error, kind)), 'invalid')}")
