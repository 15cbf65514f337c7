"""Who gets in with which token: signatures, issuers, audiences, keys that rotate, scopes, roles, and tenants that are not the caller's."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import jwt
import pytest
from fastapi.testclient import TestClient

from tests.installations import Place, vacant_place
from tests.issuer import AUDIENCE, Api, TestIssuer, new_key, tenant_api
from waybill.access import Caller, Permission, TokenRights
from waybill.errors import PermanentError
from waybill.web.oauth import Issuer

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with vacant_place(tmp_path_factory.mktemp("installation")) as place:
        yield place


@pytest.fixture(scope="module")
def client(place: Place, issuer: TestIssuer) -> TestClient:
    client = TestClient(tenant_api(place, issuer), raise_server_exceptions=False)
    for tenant in ("acme", "globex"):
        made = Api(client, issuer.bearer(tenant, sub="setup"))("PUT", f"/{tenant}/export", {"entityList": ["user"]})
        assert made.status_code == 201
    return client


def status(client: TestClient, token: str, method: str = "GET", path: str = "/acme/export") -> int:
    return int(client.request(method, f"/api/v1/tenants{path}", headers={"Authorization": f"Bearer {token}"}).status_code)


def unsigned(issuer: TestIssuer) -> str:
    return jwt.encode(jwt.decode(issuer.token(), options={"verify_signature": False}), "", "none", headers={"kid": "first"})


def signed_with_the_public_key(issuer: TestIssuer) -> str:
    """The old trick: the public key as an HMAC secret."""
    claims = jwt.decode(issuer.token(), options={"verify_signature": False})
    secret = base64.urlsafe_b64decode(issuer.published["first"]["x"] + "==")
    return jwt.encode(claims, secret, "HS256", headers={"kid": "first"})


def signed_by_somebody_else(issuer: TestIssuer) -> str:
    claims = jwt.decode(issuer.token(), options={"verify_signature": False})
    return jwt.encode(claims, new_key("EdDSA"), "EdDSA", headers={"kid": "first"})


def with_a_changed_claim(issuer: TestIssuer) -> str:
    header, payload, signature = issuer.token("globex").split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    changed = base64.urlsafe_b64encode(json.dumps({**claims, "tenant": "acme"}).encode()).rstrip(b"=").decode()
    return f"{header}.{changed}.{signature}"


BAD = {
    "unsigned": unsigned,
    "public key as secret": signed_with_the_public_key,
    "signed by somebody else": signed_by_somebody_else,
    "a changed claim": with_a_changed_claim,
    "expired": lambda issuer: issuer.token(exp=LONG_AGO),
    "not valid yet": lambda issuer: issuer.token(nbf=datetime.now(UTC) + timedelta(hours=1)),
    "another issuer": lambda issuer: issuer.token(iss="https://elsewhere.example"),
    "another audience": lambda issuer: issuer.token(aud="https://elsewhere.example"),
    "no expiry": lambda issuer: issuer.token(exp=None),
    "no subject": lambda issuer: issuer.token(sub=None),
    "an empty subject": lambda issuer: issuer.token(sub=""),
    "a blank subject": lambda issuer: issuer.token(sub="  "),
    "a NUL in the subject": lambda issuer: issuer.token(sub="e\x00ve"),
    "a line end in the subject": lambda issuer: issuer.token(sub="eve\nINFO: forged"),
    "an escape in the subject": lambda issuer: issuer.token(sub="eve\x1b[31m"),
    "half a surrogate pair as subject": lambda issuer: issuer.token(sub="\ud800"),
    "a number as subject": lambda issuer: issuer.token(sub=7),
    "no audience": lambda issuer: issuer.token(aud=None),
    "no token at all": lambda issuer: "abc",
    "very long": lambda issuer: "a" * 20_000,
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
def test_a_token_that_proves_nothing_is_401_with_a_challenge(client: TestClient, issuer: TestIssuer, make: Any) -> None:
    reply = client.get("/api/v1/tenants/acme/export", headers={"Authorization": f"Bearer {make(issuer)}"})
    assert (reply.status_code, reply.json()["code"]) == (401, "unauthenticated")
    assert reply.headers["www-authenticate"].startswith("Bearer ")
    assert reply.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("header", [None, "", "Basic YTpi", "Bearer", "Bearer "])
def test_a_request_without_a_bearer_token_is_401(client: TestClient, header: str | None) -> None:
    reply = client.put("/api/v1/tenants/acme/export", headers={} if header is None else {"Authorization": header}, json={})
    assert (reply.status_code, reply.json()["code"]) == (401, "unauthenticated")
    assert "Bearer" in reply.headers["www-authenticate"]


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_every_public_key_algorithm_is_accepted(place: Place, client: TestClient, issuer: TestIssuer, algorithm: str) -> None:
    issuer.add_key(algorithm, algorithm)
    fresh = TestClient(tenant_api(place, issuer))
    assert status(fresh, issuer.token(kid=algorithm)) == 200


def test_a_rotated_key_is_fetched_once_and_unknown_keys_do_not_hammer_the_issuer(
    place: Place, client: TestClient, issuer: TestIssuer
) -> None:
    cooldown = 0.3
    patient = TestClient(tenant_api(place, issuer, cooldown=cooldown))
    assert status(patient, issuer.token()) == 200
    issuer.add_key("rotated")
    issuer.add_key("never published", publish=False)
    time.sleep(0.35)
    began = time.monotonic()
    assert status(patient, issuer.token(kid="rotated")) == 200
    fetched = issuer.fetched
    assert {status(patient, issuer.token(kid="never published")) for _ in range(5)} == {401}
    assert issuer.fetched - fetched <= 1 + (time.monotonic() - began) / cooldown  # once in that time, however slow the machine


@pytest.mark.parametrize("answer", [b"<html>", b'{"keys": []}', b"[]"], ids=["HTML", "no keys", "a list"])
def test_an_issuer_without_usable_keys_is_503_and_not_the_callers_fault(place: Place, issuer: TestIssuer, answer: bytes) -> None:
    issuer.answer = answer
    try:
        reply = TestClient(tenant_api(place, issuer), raise_server_exceptions=False).get(
            "/api/v1/tenants/acme/export", headers=issuer.bearer()
        )
    finally:
        issuer.answer = None
    assert (reply.status_code, reply.json()["code"]) == (503, "issuer")
    assert "retry-after" in reply.headers


ROUTES = {
    ("GET", "/export"): "read",
    ("PUT", "/export"): "write",
    ("POST", "/export"): "write",
    ("POST", "/export/full-load"): "write",
    ("GET", "/export/versions"): "read",
    ("POST", "/export/versions/1/restore"): "write",
    ("GET", "/entities"): "read",
    ("GET", "/deliveries"): "read",
    ("GET", "/kit"): "read",
    ("POST", "/deliveries/0123456789abcdef0123456789abcdef/redeliver"): "write",
}
REHEARSED = {("PUT", "/export"), ("POST", "/export"), ("POST", "/export/versions/1/restore")}
SCOPES = {
    "nothing": "",
    "read": "read",
    "write": "write",
    "both": "read write",
    "as a list": ["read", "write"],
    "other words": "readwrite admin",
}
CLAIMS = {
    "own": "acme",
    "own among others": ["initech", "acme"],
    "foreign": "globex",
    "none": None,
    "nonsense": {"acme": True},
    "a prefix": "acm",
}
MATRIX = list(product(ROUTES.items(), SCOPES.items(), CLAIMS.items(), ["acme", "globex", "nobody"]))


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=" ".join)
def test_every_route_obeys_scope_and_tenant_of_the_token(client: TestClient, issuer: TestIssuer, method: str, path: str) -> None:
    """Every scope x every tenant claim x own, foreign and missing tenants."""
    needed = ROUTES[method, path]
    for scope, claim, tenant in product(SCOPES.values(), CLAIMS.values(), ["acme", "globex", "nobody"]):
        query = "?dryRun=true" if (method, path) in REHEARSED else ""
        reply = client.request(
            method, f"/api/v1/tenants/{tenant}{path}{query}", headers=issuer.bearer(claim, scope), json={"entities": ["user"]}
        )
        own = tenant in (claim if isinstance(claim, list) else [claim])
        words = scope if isinstance(scope, list) else scope.split()
        case = (method, path, scope, claim, tenant, reply.text[:200])
        if not own:
            assert (reply.status_code, reply.json()["code"]) == (404, "not_found"), case
            assert reply.json()["detail"] == f"There is no tenant {tenant}.", case
        elif needed not in words:
            assert (reply.status_code, reply.json()["code"]) == (403, "denied"), case
        else:
            assert reply.status_code in (200, 202, 404, 422), case  # let in; what the body says is another matter


def test_the_matrix_covers_every_route_of_the_api(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    prefix = "/api/v1/tenants/{tenant}"
    documented = {
        (method.upper(), path.removeprefix(prefix).replace("{number}", "1").replace("{delivery}", "0123456789abcdef0123456789abcdef"))
        for path, operations in document["paths"].items()
        if not any(word in path for word in ("/exports", "/export-templates", "/downloads"))
        for method in operations
    }
    sole = {(method, path) for method, path in documented if path.startswith("/api/")}  # the same, of the token's only tenant
    assert {(method, path.removeprefix("/api/v1")) for method, path in sole} <= documented - sole
    assert documented - sole == set(ROUTES)


@pytest.mark.parametrize("tenant", ["%2e%2e", "ACME", "-acme", "a" * 64, "acme%0a", "acme%00", "ac me", "acme;x", "äcme"])
def test_a_tenant_that_cannot_be_one_is_a_problem(client: TestClient, issuer: TestIssuer, tenant: str) -> None:
    for method in ("GET", "PUT"):
        reply = client.request(method, f"/api/v1/tenants/{tenant}/export", headers=issuer.bearer(), json={"entityList": ["user"]})
        assert reply.status_code in (404, 422)
        assert reply.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [("GET", "/", 404), ("GET", "/api/v1/nothing", 404), ("DELETE", "/api/v1/tenants/acme/export", 405), ("PUT", "/docs", 405)],
)
def test_unknown_paths_and_methods_are_problems_too(client: TestClient, method: str, path: str, code: int) -> None:
    reply = client.request(method, path)
    assert (reply.status_code, reply.headers["content-type"]) == (code, "application/problem+json")
    assert reply.json()["status"] == code


def rights(scope: str, granted: set[str]) -> Caller:
    return Caller("alice", TokenRights(frozenset({"acme"}), frozenset(scope.split()), frozenset(), lambda _tenant, _roles: granted))


def test_permissions_on_requests_need_both_the_scope_and_the_policys_word() -> None:
    assert rights("read write", {"exports.create"}).allows(Permission.EXPORTS_CREATE, "acme")
    assert not rights("read write", set()).allows(Permission.EXPORTS_CREATE, "acme")
    assert not rights("read", {"exports.create"}).allows(Permission.EXPORTS_CREATE, "acme")
    assert not rights("read write", {"exports.create"}).allows(Permission.EXPORTS_CREATE, "globex")
    assert rights("read", {"exports.view"}).rights.among(Permission.EXPORTS_VIEW, ["globex", "acme"]) == ["acme"]


def test_serve_does_not_start_without_knowing_whose_tokens_count() -> None:
    with pytest.raises(PermanentError, match="WAYBILL_OAUTH_ISSUER, WAYBILL_OAUTH_JWKS_URL not set"):
        Issuer.from_environment({"WAYBILL_OAUTH_AUDIENCE": AUDIENCE})


@pytest.mark.parametrize("url", ["http://issuer.example/jwks", "file:///etc/passwd", "ftp://127.0.0.1/x", "jwks.json"])
def test_serve_takes_keys_only_over_tls_or_loopback(url: str) -> None:
    environment = {"WAYBILL_OAUTH_ISSUER": "x", "WAYBILL_OAUTH_AUDIENCE": AUDIENCE, "WAYBILL_OAUTH_JWKS_URL": url}
    with pytest.raises(PermanentError, match="https"):
        Issuer.from_environment(environment)


def test_the_tenant_claim_may_have_another_name(place: Place, client: TestClient, issuer: TestIssuer, tmp_path: Path) -> None:
    settings = Issuer(issuer.url, AUDIENCE, f"{issuer.url}/jwks.json", "https://waybill.example/tenants")
    renamed = TestClient(tenant_api(place, issuer, settings=settings))
    assert status(renamed, issuer.token("acme")) == 404
    assert status(renamed, issuer.token(None, **{"https://waybill.example/tenants": ["acme"]})) == 200
