"""The OpenAPI document: complete, unchanged unless meant, true to what the server answers; and the schemas for editors."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from fastapi.testclient import TestClient

from tests.installations import Place, vacant_place
from tests.issuer import Api, TestIssuer, tenant_api
from tests.schemathesis_sweep import sweep
from waybill.configuration.schemas import KINDS, json_schema
from waybill.web.app import create_app
from waybill.web.oauth import TokenAccess
from waybill.web.serve import NoScheduler

OPERATIONS = ("get", "put", "post", "delete", "patch")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with vacant_place(tmp_path_factory.mktemp("installation")) as place:
        yield place


def document() -> dict[str, Any]:
    """The document needs neither ledger nor issuer."""
    app = create_app(lambda: pytest.fail("the document asked for the installation"), None, NoScheduler())  # type: ignore[arg-type]
    return dict(TestClient(app).get("/openapi.json").json())


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document()["paths"].items():
        for method in OPERATIONS:
            if method in item:
                yield f"{method.upper()} {path}", item[method]


def test_the_document_is_the_one_in_docs(repository: Path) -> None:
    """Regenerate with SNAPSHOT=write when a change of the API is meant, and read the difference."""
    compare(repository / "docs/openapi.json", document())


@pytest.mark.parametrize("kind", KINDS)
def test_the_schemas_for_editors_are_those_in_docs(repository: Path, kind: str) -> None:
    compare(repository / f"docs/schemas/{kind}.schema.json", json_schema(kind))


def compare(path: Path, found: dict[str, Any]) -> None:
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    if os.environ.get("SNAPSHOT") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_every_operation_is_described_asks_for_a_token_and_names_its_errors() -> None:
    shared = document()["components"]["examples"]
    for name, operation in operations():
        assert operation["summary"], name
        by_link = "/downloads/" in name  # the link is the credential
        assert by_link or operation["security"], name
        assert {"422", "500", "503"} | ({"401"} if not by_link else set()) <= set(operation["responses"]), name
        for status, response in operation["responses"].items():
            for code in response.get("content", {}).get("application/problem+json", {}).get("examples", {}) if status >= "400" else ():
                assert shared[code]["value"]["status"] == int(status), (name, code)
        for media in operation.get("requestBody", {}).get("content", {}).values():
            assert media["examples"], name


def test_every_reference_in_the_document_leads_somewhere() -> None:
    schemas = document()["components"]["schemas"]
    text = json.dumps(document())
    named = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert named <= set(schemas)


def test_the_examples_of_bodies_are_accepted(place: Place, issuer: TestIssuer) -> None:
    (place.root / "warehouse.duckdb").touch()
    api = Api(TestClient(tenant_api(place, issuer)), issuer.bearer("examples"))
    content = document()["paths"]["/api/v1/tenants/{tenant}/export"]["put"]["requestBody"]["content"]["application/json"]
    for name, example in content["examples"].items():
        body = {**example["value"], "entityList": ["user"]} if "entityList" in example["value"] else example["value"]
        assert api("PUT", "/examples/export?dryRun=true", body).status_code == 200, name


def test_the_reference_is_served_from_here_alone_and_brings_its_licence(place: Place, issuer: TestIssuer) -> None:
    client = TestClient(tenant_api(place, issuer))
    page = client.get("/docs")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "http" not in policy
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert all("://" not in item for item in named)
    for text in [*named, "docs/static/swagger-ui.LICENSE", "docs/static/swagger-ui-bundle.js.LICENSE.txt"]:
        assert text.startswith("data:") or client.get(f"/{text}").status_code == 200, text


def test_every_operation_brings_calls_in_three_languages_and_an_answer() -> None:
    for name, operation in operations():
        path = name.partition(" ")[2].partition("{")[0]
        assert [sample["label"] for sample in operation["x-codeSamples"]] == ["curl", "Python", "JavaScript"], name
        assert all(path in sample["source"] for sample in operation["x-codeSamples"]), name
        for status, response in operation["responses"].items():
            content = response.get("content", {}).get("application/json", {})
            assert status >= "300" or not content or content["example"], (name, status)


def test_the_document_names_the_entities_and_where_tokens_come_from(place: Place, issuer: TestIssuer) -> None:
    settings = replace(issuer.settings, token_url="https://login.example.com/token")
    app = create_app(place.installation, TokenAccess(settings), NoScheduler())
    found = TestClient(app).get("/openapi.json").json()
    flow = found["components"]["securitySchemes"]["OAuth2"]["flows"]["clientCredentials"]
    assert flow["tokenUrl"] == "https://login.example.com/token"
    assert set(flow["scopes"]) == {"read", "write"}
    assert found["components"]["schemas"]["EntityName"]["enum"] == [
        entity.display_name for entity in place.installation().catalog.entities.values()
    ]
    named = json.dumps(found["components"]["schemas"]["Registration"]["properties"]["entityList"])
    assert "#/components/schemas/EntityName" in named
    assert {"OAuth2": ["read", "write"]} in found["paths"]["/api/v1/tenants/{tenant}/export"]["put"]["security"]
    assert "https://login.example.com" in TestClient(app).get("/docs").headers["content-security-policy"]


@pytest.mark.parametrize("tenants", ["solo", ["solo"], ["solo", "duo"], []])
def test_a_token_of_one_tenant_needs_no_tenant_in_the_path(place: Place, issuer: TestIssuer, tenants: Any) -> None:
    client = TestClient(tenant_api(place, issuer))
    headers = issuer.bearer(tenant=tenants)
    body = {"entityList": ["user"], "frequency": "weekly", "destination": {"kind": "folder", "root": "out"}}
    put = client.put("/api/v1/export", json=body, headers=headers)
    if len([tenants] if isinstance(tenants, str) else tenants) != 1:
        for answer in (
            put,
            client.get("/api/v1/export", headers=headers),
            client.post("/api/v1/export/full-load", json={}, headers=headers),
        ):
            assert (answer.status_code, answer.json()["code"]) == (400, "context_required")
        return
    assert put.status_code in (200, 201)
    got = client.get("/api/v1/export?includeInactive=true", headers=headers)
    assert (got.status_code, got.json()["tenant"], got.json()["frequency"]) == (200, "solo", "weekly")
    assert client.get("/api/v1/tenants/solo/export", headers=headers).headers["etag"] == got.headers["etag"]
    assert client.put("/api/v1/export", json=body, headers=headers | {"If-Match": '"999"'}).status_code == 412
    assert client.post("/api/v1/export", json=body | {"frequency": "monthly"}, headers=headers).status_code == 200
    assert client.post("/api/v1/export/full-load", json={"entities": ["user"]}, headers=headers).status_code == 202
    assert client.get("/api/v1/export").status_code == 401
    assert client.get("/api/v1/export?x=1", headers=headers).status_code == 422


CONFIGURATIONS = {"catalog": "catalog.yaml", "tenant": "tenants/*.yaml", "policy": "policy.yaml", "preset": "presets/*.yaml"}


@pytest.mark.parametrize(("kind", "pattern"), CONFIGURATIONS.items())
def test_the_sample_configuration_satisfies_the_schemas(repository: Path, kind: str, pattern: str) -> None:
    files = list((repository / "config").glob(pattern))
    assert files
    judge = jsonschema.Draft202012Validator(json_schema(kind))
    for file in files:
        judge.validate(yaml.safe_load(file.read_text(encoding="utf-8")) or {})


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("tenant", {"frequency": "hourly"}),
        ("tenant", {"colour": "red"}),
        ("tenant", {"destination": {"kind": "sftp"}}),
        ("tenant", {"deliverAt": 120}),
        ("tenant", {"deliverAt": "none"}),
        ("catalog", {"entities": {"user": {"source": "x"}}}),
        ("policy", {"archive_days": -1}),
    ],
)
def test_the_schemas_see_what_check_would_see(kind: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, json_schema(kind))


def test_whatever_is_sent_is_answered_as_documented(place: Place, issuer: TestIssuer) -> None:
    app, headers = tenant_api(place, issuer), issuer.bearer("acme")
    Api(TestClient(app), headers)("PUT", "/acme/export", {"entityList": ["user"], "destination": {"kind": "folder", "root": "out"}})
    assert len(sweep(app, "/openapi.json", headers, "acme")) > 8
