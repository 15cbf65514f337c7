"""Every operation of the API for every kind of caller: generated from the OpenAPI document, so that no new operation can be forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.installations import Place, vacant_place
from tests.issuer import TestIssuer, serve_issuer, tenant_api
from waybill.ledger import registrations
from waybill.web.app import create_app

ID = "0123456789abcdef0123456789abcdef"
BODY = {"exportOption": "export selected", "entityList": ["user"]}
MANAGING = {
    ("PUT", "/export"),
    ("POST", "/export"),
    ("POST", "/export/full-load"),
    ("POST", "/export/versions/{number}/restore"),
    ("POST", "/deliveries/{delivery}/redeliver"),
}
"""What decides where a whole tenant's rows go, and when."""
PAGES = {"/registration", "/registration/preview", "/restore", "/full-load", "/run", "/redeliver", "/backfill", "/probe"}
"""The same on the pages."""
ROLES = {"operator": ["registrations.manage"], "viewer": ["exports.view"], "asker": ["exports.view", "exports.create", "exports.download"]}


def operations() -> list[tuple[str, str]]:
    document = create_app(None, None, None).openapi()  # type: ignore[arg-type] # nobody is served
    return [(method.upper(), path) for path, every in document["paths"].items() for method in every]


OPERATIONS = operations()


@dataclass
class House:
    place: Place
    issuer: TestIssuer
    client: TestClient

    def call(self, method: str, path: str, who: dict[str, Any] | None, tenant: str = "acme") -> Any:
        address = path.format(tenant=tenant, delivery=ID, number=1, request_id=ID, template_id=ID, token="nonsense", action="pause")
        headers = {} if who is None else self.issuer.bearer(**who)
        return self.client.request(method, address, headers=headers, json={} if method in ("PUT", "POST") else None)

    def version(self, tenant: str = "acme") -> int:
        with self.place.installation().ledger.begin() as connection:
            found = registrations.current(connection, tenant)
        assert found is not None
        return found.version


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with vacant_place(tmp_path_factory.mktemp("house")) as place, serve_issuer() as issuer:
        place.write("policy.yaml", {"roles": ROLES})
        client = TestClient(tenant_api(place, issuer), raise_server_exceptions=False)
        for tenant in ("acme", "globex"):
            headers = issuer.bearer(tenant, roles=["admin"])
            assert client.put(f"/api/v1/tenants/{tenant}/export", json=BODY, headers=headers).status_code == 201
        yield House(place, issuer, client)


def tail(path: str) -> str:
    return path.partition("{tenant}")[2]


MANAGERS = {
    "the tenant's admin": {"roles": ["admin"]},
    "a role that may": {"roles": ["operator"]},
    "roles as one string": {"roles": "asker operator"},
}
OTHERS: dict[str, dict[str, Any]] = {
    "a role that may see requests": {"roles": ["viewer"]},
    "a role that may ask": {"roles": ["asker"]},
    "a role nobody defined": {"roles": ["owner"]},
    "no role": {"roles": []},
    "no word of roles": {},
    "an admin who may only read": {"roles": ["admin"], "scope": "read"},
    "an admin with no scope": {"roles": ["admin"], "scope": ""},
    "an admin bound to a project": {"roles": ["admin"], "projects": ["p1"]},
    "an operator bound to projects": {"roles": ["operator"], "projects": "p1 p2"},
    "an admin bound to no project at all": {"roles": ["admin"], "projects": []},
}


def test_every_operation_that_manages_is_in_the_document() -> None:
    assert {(method, tail(path)) for method, path in OPERATIONS} >= MANAGING
    changing = {(method, tail(path)) for method, path in OPERATIONS if method != "GET" and tail(path) and "/export-templates" not in path}
    assert {item for item in changing - MANAGING if not item[1].startswith("/exports")} == set()


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_nobody_and_strangers_get_nowhere(house: House, method: str, path: str) -> None:
    stranger = {"tenant": "globex", "roles": ["admin"]}
    expected = 404 if "/downloads/" in path else 401
    assert house.call(method, path, None).status_code == expected
    if "{tenant}" in path:
        there, nowhere = house.call(method, path, stranger), house.call(method, path, stranger, tenant="nowhere")
        assert there.status_code == nowhere.status_code == 404
        assert there.text.replace("acme", "nowhere") == nowhere.text  # whether a tenant exists is not told


@pytest.mark.parametrize("who", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize(("method", "path"), sorted((method, path) for method, path in OPERATIONS if (method, tail(path)) in MANAGING))
def test_nobody_manages_registrations_without_that_permission(house: House, method: str, path: str, who: dict[str, Any]) -> None:
    before = house.version()
    found = house.call(method, path, who)
    assert (found.status_code, found.json()["code"]) == (403, "denied")
    assert "registrations.manage" in found.json()["detail"]
    assert house.version() == before


@pytest.mark.parametrize("who", MANAGERS.values(), ids=MANAGERS)
@pytest.mark.parametrize(("method", "path"), sorted((method, path) for method, path in OPERATIONS if (method, tail(path)) in MANAGING))
def test_those_who_hold_the_permission_are_let_in(house: House, method: str, path: str, who: dict[str, Any]) -> None:
    assert house.call(method, path, who).status_code in (200, 202, 404, 422)
    assert house.call(method, path, who, tenant="globex").status_code == 404


@pytest.mark.parametrize("who", [*OTHERS.values(), {"tenant": "globex", "roles": ["admin"]}], ids=[*OTHERS, "a stranger"])
@pytest.mark.parametrize("path", sorted(PAGES))
def test_the_pages_ask_for_the_same_permission(house: House, path: str, who: dict[str, Any]) -> None:
    headers = {**house.issuer.bearer(**who), "HX-Request": "true"}
    found = house.client.post(f"/page/tenants/acme{path}", headers=headers)
    assert found.status_code == (404 if "tenant" in who else 403)


@pytest.mark.parametrize(
    ("policy", "claims", "expected"),
    [
        ({}, {}, 200),
        ({}, {"roles": []}, 403),
        ({}, {"roles": ["viewer"]}, 403),
        ({}, {"roles": ["admin"]}, 200),
        ({}, {"projects": ["p1"]}, 403),
        ({"roles": {"keeper": ["data.registrations.manage"]}}, {"roles": ["keeper"]}, 200),
        ({"roles": {"keeper": ["pf.export_registrations.manage"]}}, {"roles": ["keeper"]}, 200),
        ({"roles": {"lead": ["exports.admin"]}}, {"roles": ["lead"]}, 200),
        ({"roles": {"admin": ["exports.view"]}}, {"roles": ["admin"]}, 403),
        ({"roles": {"everyone": ["exports.view"]}}, {}, 403),
        ({"preset": "metrics"}, {"roles": ["owner"]}, 403),
        ({"preset": "studies"}, {"roles": ["tenant_admin"]}, 200),
        ({"tenants": {"acme": {"roles": {"keeper": ["registrations.manage"]}}}}, {"roles": ["keeper"]}, 200),
    ],
)  # fmt: skip
def test_who_manages_follows_the_policy(tmp_path: Path, policy: dict[str, Any], claims: dict[str, Any], expected: int) -> None:
    with vacant_place(tmp_path) as place, serve_issuer() as issuer:
        for name in ("metrics", "studies"):
            place.write(f"presets/{name}.yaml", {})
            source = Path(__file__).parents[2] / f"config/presets/{name}.yaml"
            (tmp_path / f"config/presets/{name}.yaml").write_text(source.read_text())
        place.write("policy.yaml", policy)
        client = TestClient(tenant_api(place, issuer))
        found = client.put("/api/v1/tenants/acme/export", json=BODY, headers=issuer.bearer(**claims))
        assert found.status_code in ((200, 201) if expected == 200 else (403,))
