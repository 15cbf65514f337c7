"""Signs people in at the house's identity provider: OpenID Connect, code flow with PKCE. The result is the token that a session is
made of.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import threading
import time
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import httpx
from fastapi import Request
from itsdangerous import BadData, URLSafeTimedSerializer

from waybill.errors import TransientError
from waybill.installation import Installation
from waybill.language import tell
from waybill.requests.links import keys, public_url
from waybill.web.jwks import is_safe
from waybill.web.oauth import Issuer, TokenAccess
from waybill.web.problems import unauthenticated

if TYPE_CHECKING:
    from authlib.integrations.httpx_client import OAuth2Client

log = logging.getLogger(__name__)

COOKIE = "waybill_sign_in"
"""The cookie with what the answer to a sign-in must match. It is for this browser alone, and for ten minutes.

Each tab's cookie has a name of its own.
"""
LIFE_SECONDS = 600
CALLBACK = "/sign-in/callback"
_SCOPE = "openid profile email"
_KEPT_SECONDS = 300.0
_FAILED_SECONDS = 5.0
"""Seconds for which a provider that did not answer is not asked again."""
_PATIENCE_SECONDS = 1.0


@dataclass(frozen=True)
class PendingSignIn:
    """A sign-in that was begun: where the browser goes, and what its cookie keeps."""

    url: str
    name: str
    cookie: str


def provider(request: Request) -> Issuer | None:
    """The issuer that people sign in at. It is None if they paste a token, or if Airflow signs them in."""
    access = request.app.state.access
    return access.issuer if isinstance(access, TokenAccess) and access.issuer.client_id else None


def begin(request: Request, installation: Installation, issuer: Issuer, place: str) -> PendingSignIn:
    """Lead the browser to the provider. `place` is where it goes afterwards, relative to where the pages begin."""
    kept = {"verifier": secrets.token_urlsafe(48), "nonce": secrets.token_urlsafe(24), "place": place}
    with _client(issuer, _callback(request, installation)) as client:
        url, state = client.create_authorization_url(
            _endpoints(issuer)["authorization_endpoint"],
            state=_free_state(request),
            code_verifier=kept["verifier"],
            nonce=kept["nonce"],
            audience=issuer.audience,
        )
    return PendingSignIn(str(url), cookie_of(state), _sealed(installation).dumps(kept | {"state": state}))


def _free_state(request: Request) -> str:
    """Return a state whose cookie no other tab of this browser uses just now, if one is left."""
    tried = [secrets.token_urlsafe(24) for _ in range(64)]
    return next((state for state in tried if cookie_of(state) not in request.cookies), tried[0])


def cookie_of(state: str) -> str:
    """Return the name of the cookie of a sign-in. There are sixteen names, which limits what a browser that begins again and again has to
    send.
    """
    return f"{COOKIE}_{hashlib.sha256(state.encode()).hexdigest()[0]}"


def _is_same(given: str, kept: str) -> bool:
    return hmac.compare_digest(given.encode(), kept.encode())


def finish(request: Request, installation: Installation, access: TokenAccess) -> tuple[str, str]:
    """Return the access token, and the place to go. Raises unauthenticated for an answer that does not fit what this browser began."""
    from authlib.common.errors import AuthlibBaseError  # Airflow, whose users are signed in, does without the library

    sent = request.query_params
    cookie = request.cookies.get(cookie_of(sent.get("state", "")), "")
    try:
        kept: dict[str, str] = _sealed(installation).loads(cookie, max_age=LIFE_SECONDS)
    except BadData as error:
        raise unauthenticated(tell("signing_in.took_too_long")) from error
    if not _is_same(sent.get("state", ""), kept["state"]):
        raise unauthenticated(tell("signing_in.another"))
    if "code" not in sent:
        raise unauthenticated(tell("signing_in.refused"))
    endpoint = _endpoints(access.issuer)["token_endpoint"]
    with _client(access.issuer, _callback(request, installation)) as client:
        try:
            token: dict[str, Any] = client.fetch_token(endpoint, code=sent["code"], code_verifier=kept["verifier"])
        except AuthlibBaseError as error:
            raise unauthenticated(tell("signing_in.not_accepted")) from error
        except _failures(client) as error:
            raise _away() from error
    claims = access.identity(str(token.get("id_token", "")))
    if not _is_same(str(claims.get("nonce", "")), kept["nonce"]):
        raise unauthenticated(tell("signing_in.another"))
    return str(token.get("access_token", "")), kept["place"]


def _failures(client: OAuth2Client) -> tuple[type[Exception], ...]:
    """Return what the client raises if there is no answer, or one that is no JSON. Authlib uses httpx2 if it can, else httpx."""
    used = next(base for base in type(client).__mro__ if base.__name__ == "Client").__module__.partition(".")[0]
    return (httpx.HTTPError, import_module(used).HTTPError, ValueError)


def _client(issuer: Issuer, callback: str) -> OAuth2Client:
    from authlib.integrations.httpx_client import OAuth2Client

    method = "client_secret_basic" if issuer.client_secret else "none"
    return OAuth2Client(
        issuer.client_id,
        issuer.client_secret or None,
        token_endpoint_auth_method=method,
        scope=_SCOPE,
        redirect_uri=callback,
        code_challenge_method="S256",
        timeout=10,
    )


def _callback(request: Request, installation: Installation) -> str:
    base = public_url(installation)
    mounted = str(request.scope.get("root_path", ""))
    return f"{base}/page{CALLBACK}" if base else f"{request.url.scheme}://{request.url.netloc}{mounted}{CALLBACK}"


def _sealed(installation: Installation) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(list(reversed(keys(installation))), salt="waybill.sign-in")


_found: dict[str, tuple[float, dict[str, str]]] = {}
"""Keeps what providers say of themselves, by issuer, for a few minutes. If one did not answer, it keeps nothing for a moment."""

_asking = threading.Lock()


def _endpoints(issuer: Issuer) -> dict[str, str]:
    """Ask once for all who sign in now. Nobody waits long for another's question, because they hold the threads that other pages need.

    Raises TransientError.
    """
    if not _asking.acquire(timeout=_PATIENCE_SECONDS):
        raise _away()
    try:
        at, found = _found.get(issuer.issuer, (-_KEPT_SECONDS, {}))
        if time.monotonic() - at > (_KEPT_SECONDS if found else _FAILED_SECONDS):
            found = _asked(issuer)
            _found[issuer.issuer] = (time.monotonic(), found)
    finally:
        _asking.release()
    if not found:
        raise _away()
    return found


def _asked(issuer: Issuer) -> dict[str, str]:
    """Return what a provider says of itself, or nothing if it does not answer as it should."""
    try:
        answer = httpx.get(f"{issuer.issuer.rstrip('/')}/.well-known/openid-configuration", timeout=10)
        answer.raise_for_status()
        configuration = answer.json()
        found = {name: str(configuration[name]) for name in ("issuer", "authorization_endpoint", "token_endpoint")}
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        log.warning("the identity provider %s did not answer as it should: %s", issuer.issuer, type(error).__name__)
        return {}
    is_usable = found["issuer"] == issuer.issuer and all(is_safe(found[name]) for name in ("authorization_endpoint", "token_endpoint"))
    return found if is_usable else {}


def _away() -> TransientError:
    return TransientError(
        "the identity provider does not answer as it should",
        next_step="Check WAYBILL_OAUTH_ISSUER and its /.well-known/openid-configuration",
        code="issuer",
    )
