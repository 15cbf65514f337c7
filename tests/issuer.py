"""A small OAuth2 issuer: real keys, real signatures, its key set served over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from fastapi import FastAPI
from fastapi.testclient import TestClient
from jwt.algorithms import get_default_algorithms

from tests.installations import Place
from tests.servers.http import handled_by
from waybill.access import Caller
from waybill.deliveries.reports.overview import SchedulerState
from waybill.registrations.applying import Failed
from waybill.web.app import create_app
from waybill.web.oauth import Issuer, TokenAccess

AUDIENCE = "https://waybill.example"


def new_key(algorithm: str) -> Any:
    match algorithm:
        case "RS256":
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


def public_jwk(key: Any, algorithm: str, kid: str) -> dict[str, Any]:
    jwk = get_default_algorithms()[algorithm].to_jwk(key.public_key(), as_dict=True)
    return {**jwk, "kid": kid, "alg": algorithm, "use": "sig"}


@dataclass
class TestIssuer:
    """Signs tokens with any of its keys. `fetched` counts requests for the key set; `answer` replaces it when set."""

    __test__ = False
    url: str = ""
    keys: dict[str, tuple[str, Any]] = field(default_factory=dict)
    published: dict[str, dict[str, Any]] = field(default_factory=dict)
    fetched: int = 0
    answer: bytes | None = None

    def add_key(self, kid: str, algorithm: str = "EdDSA", *, publish: bool = True) -> None:
        self.keys[kid] = (algorithm, new_key(algorithm))
        if publish:
            self.publish(kid)

    def publish(self, kid: str) -> None:
        algorithm, key = self.keys[kid]
        self.published[kid] = public_jwk(key, algorithm, kid)

    @property
    def settings(self) -> Issuer:
        return Issuer(self.url, AUDIENCE, f"{self.url}/jwks.json")

    def token(self, tenant: Any = "acme", scope: Any = "read write", *, kid: str = "first", **claims: Any) -> str:
        """A signed token. A claim given as None is left out."""
        algorithm, key = self.keys[kid]
        now = datetime.now(UTC)
        every = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "alice",
            "iat": now,
            "exp": now + timedelta(minutes=5),
            "tenant": tenant,
            "scope": scope,
            **claims,
        }
        return jwt.encode({name: value for name, value in every.items() if value is not None}, key, algorithm, headers={"kid": kid})

    def bearer(self, *args: Any, **claims: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(*args, **claims)}"}


@contextmanager
def serve_issuer() -> Iterator[TestIssuer]:
    issuer = TestIssuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.fetched += 1
            body = issuer.answer if issuer.answer is not None else json.dumps({"keys": list(issuer.published.values())}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return None

    with handled_by(Handler) as issuer.url:
        issuer.add_key("first")
        yield issuer


@dataclass
class RecordingScheduler:
    """A shell that can start runs, and remembers what it was told."""

    changes: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    starts: bool = True
    scheduler_states: dict[str, SchedulerState] | None = None
    failed: Failed | None = None

    def changed(self, tenant: str) -> None:
        self.changes.append(tenant)

    def run_now(self, tenant: str, caller: Caller) -> str:
        self.runs.append(tenant)
        return "now" if self.starts else ""

    def scheduler_state(self, tenant: str | None = None) -> dict[str, SchedulerState] | None:
        return self.scheduler_states

    def applying_failed(self) -> Failed | None:
        return self.failed

    def log_of(self, tenant: str, delivery: str) -> str | None:
        return None


def tenant_api(
    place: Place, issuer: TestIssuer, scheduler: RecordingScheduler | None = None, settings: Issuer | None = None, **options: Any
) -> FastAPI:
    """The application as `waybill serve` makes it, on a test's installation."""
    installation = place.installation()
    return create_app(lambda: installation, TokenAccess(settings or issuer.settings, **options), scheduler or RecordingScheduler())


@dataclass
class Api:
    """One caller's view of the API; paths are below `/api/v1/tenants`."""

    client: TestClient
    headers: dict[str, str]

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.request(method, f"/api/v1/tenants{path}", json=body, headers={**self.headers, **sent})
