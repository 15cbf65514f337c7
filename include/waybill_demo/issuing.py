"""An identity provider for demonstrations: OAuth2 tokens, and OpenID Connect with a page to pick a person. Its key is made at the start."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

AUDIENCE = "waybill-demo"
CLIENT = "waybill-pages"
SECRET = "demo"  # noqa: S105 (of a demonstration)
"""The secret of every client. It keeps nobody out, because everybody picks a person at this provider's page."""
LIFE = timedelta(hours=12)

_CORS = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "authorization, content-type, x-requested-with"}
_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Demo sign-in</title><link rel="icon" href="data:,"></head>
<body><h1>Who are you?</h1><p>This identity provider is a demonstration: pick anybody.</p><ul>{}</ul></body>
</html>
"""


@dataclass(frozen=True)
class TokenIssuer:
    """Signs tokens that `waybill serve` accepts if it trusts the issuer at `url`. `people` are the claims of who can sign in.

    Each of them is a client, too: programs get a token by the name of a person and `SECRET`.
    """

    url: str
    key: Ed25519PrivateKey = field(repr=False)
    people: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)

    def token(self, claims: Mapping[str, Any], audience: str = AUDIENCE) -> str:
        now = datetime.now(UTC)
        every = {"iss": self.url, "aud": audience, "iat": now, "exp": now + LIFE, **claims}
        return jwt.encode(every, self.key, "EdDSA", headers={"kid": "demo"})

    @property
    def documents(self) -> dict[str, dict[str, Any]]:
        """Return what is served as JSON, by path."""
        public = {**OKPAlgorithm.to_jwk(self.key.public_key(), as_dict=True), "kid": "demo", "alg": "EdDSA", "use": "sig"}
        names = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "jwks.json"}
        about = {"issuer": self.url, **{name: f"{self.url}/{path}" for name, path in names.items()}}
        return {"/jwks.json": {"keys": [public]}, "/.well-known/openid-configuration": about}

    def authorize(self, asked: dict[str, str]) -> tuple[str, str]:
        """Return the page to pick a person, without an address to go to. With a person, return the address that leads back."""
        person = asked.pop("person", "")
        if person not in self.people:
            rows = (f'<li><a href="?{escape(urlencode(asked | {"person": name}))}">{escape(name)}</a></li>' for name in self.people)
            return _PAGE.format("".join(rows)), ""
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked | {"person": person}
        return "", f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked.get('state', '')})}"

    def exchange(self, sent: dict[str, str]) -> dict[str, Any] | None:
        """Return tokens for a code, once, and only to whoever asked for it (PKCE)."""
        asked = self.codes.pop(sent.get("code", ""), None)
        digest = hashlib.sha256(sent.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if asked is None or challenge != asked.get("code_challenge") or sent.get("redirect_uri") != asked["redirect_uri"]:
            return None
        claims = self.people[asked["person"]]
        identity = {"sub": claims.get("sub", asked["person"]), "nonce": asked.get("nonce", "")}
        tokens = {"access_token": self.token(claims), "id_token": self.token(identity, asked["client_id"])}
        return {**tokens, "token_type": "Bearer", "expires_in": int(LIFE.total_seconds())}

    def tokens(self, login: str, sent: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Return status and answer of the token endpoint."""
        if sent.get("grant_type") == "client_credentials":
            found, refused = self.grant(login, sent), (401, {"error": "invalid_client"})
        else:
            found, refused = self.exchange(sent), (400, {"error": "invalid_grant"})
        return (200, found) if found else refused

    def grant(self, login: str, sent: dict[str, str]) -> dict[str, Any] | None:
        """Return a token for a program, with no more scopes than it asked for. `login` is its HTTP Basic authorization."""
        try:
            name, _, secret = base64.b64decode(login.removeprefix("Basic ")).decode().partition(":")
        except ValueError:
            return None
        if secret != SECRET or name not in self.people:
            return None
        claims = dict(self.people[name])
        held = str(claims.get("scope", "read write")).split()
        scope = " ".join(scope_word for scope_word in sent.get("scope", " ".join(held)).split() if scope_word in held)
        token = self.token(claims | {"scope": scope})
        return {"access_token": token, "token_type": "Bearer", "expires_in": int(LIFE.total_seconds()), "scope": scope}


@contextmanager
def serve_issuer(people: Mapping[str, Mapping[str, Any]] | None = None) -> Iterator[TokenIssuer]:
    """Run an issuer for the length of a block."""
    issuers: list[TokenIssuer] = []

    class Provider(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts, [issuer] = urlsplit(self.path), issuers
            if parts.path == "/authorize":
                text, address = issuer.authorize(dict(parse_qsl(parts.query)))
                self._answer(303 if address else 200, text.encode(), "text/html; charset=utf-8", address)
            elif parts.path in issuer.documents:
                self._answer(200, json.dumps(issuer.documents[parts.path]).encode(), "application/json")
            else:
                self._answer(404, b"", "text/plain")

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers.get("content-length", "0"))).decode()
            status, tokens = issuers[0].tokens(self.headers.get("authorization", ""), dict(parse_qsl(sent)))
            self._answer(status, json.dumps(tokens).encode(), "application/json")

        def do_OPTIONS(self) -> None:  # the reference of the API, at another address, asks whether it may ask
            self._answer(204, b"", "text/plain")

        def _answer(self, status: int, body: bytes, kind: str, address: str = "") -> None:
            self.send_response(status)
            headers = {**_CORS, "Content-Type": kind, "Content-Length": str(len(body)), **({"Location": address} if address else {})}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Provider) as server:
        issuers.append(TokenIssuer(f"http://127.0.0.1:{server.server_port}", Ed25519PrivateKey.generate(), people or {}))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield issuers[0]
        finally:
            server.shutdown()
            thread.join()
