"""Where a tenant may send its files: only where the operator lets it, and nothing it reads names the operator's hosts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.installations import NOON, Place, vacant_place
from tests.issuer import Api, TestIssuer, serve_issuer, tenant_api
from tests.open_access import OpenDoor
from waybill.connection import Connection
from waybill.deliveries.running import run
from waybill.web.app import create_app
from waybill.web.serve import NoScheduler

BODY = {"entityList": ["user"]}
SECRET_HOST = "vault.internal.example"


def sftp(connection: str, **more: str) -> dict[str, Any]:
    return {**BODY, "destination": {"kind": "sftp", "connection": connection, **more}}


FOLDER = {**BODY, "destination": {"kind": "folder", "root": "out"}}
BUCKET = {**BODY, "destination": {"kind": "s3", "connection": "acme_s3", "bucket": "acme-bucket"}}


@pytest.fixture(scope="module")
def issuer() -> Iterator[TestIssuer]:
    with serve_issuer() as running:
        yield running


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with vacant_place(tmp_path) as made:
        made.write("policy.yaml", {})
        yield made


@pytest.fixture
def api(place: Place, issuer: TestIssuer) -> Api:
    return Api(TestClient(tenant_api(place, issuer), raise_server_exceptions=False), issuer.bearer(["acme", "a", "acme-corp", "globex"]))


RULES = {"tenant_connections": "{tenant}_*"}
CASES = [
    ("nothing is allowed by default", {}, "acme", sftp("acme_sftp"), False),
    ("a folder never", {}, "acme", FOLDER, False),
    ("a folder never, whatever the rules", {"tenant_connections": "*"}, "acme", FOLDER, False),
    ("a named one", {"tenant_connections": {"acme": ["acme_sftp"]}}, "acme", sftp("acme_sftp"), True),
    ("a named bucket", {"tenant_connections": {"acme": ["acme_s3"]}}, "acme", BUCKET, True),
    ("one named for another", {"tenant_connections": {"acme": ["acme_sftp"]}}, "globex", sftp("acme_sftp"), False),
    ("another one than the named", {"tenant_connections": {"acme": ["acme_sftp"]}}, "acme", sftp("globex_sftp"), False),
    ("a longer name than the named", {"tenant_connections": {"acme": ["acme_sftp"]}}, "acme", sftp("acme_sftp2"), False),
    ("by the rule", RULES, "acme", sftp("acme_sftp"), True),
    ("by a rule in a list", {"tenant_connections": ["shared_drop", "{tenant}_*"]}, "acme", sftp("acme_sftp"), True),
    ("another tenant's by the rule", RULES, "acme", sftp("globex_sftp"), False),
    ("a longer tenant's by the rule", RULES, "a", sftp("a_b_sftp"), True),
    ("a longer tenant's by a rule with a dot", {"tenant_connections": "{tenant}.*"}, "a", sftp("a_b.sftp"), False),
    ("one's own by a rule with a dot", {"tenant_connections": "{tenant}.*"}, "a", sftp("a.sftp"), True),
    ("a longer known tenant's by the rule", {**RULES, "plans": {"a_b": "scale"}}, "a", sftp("a_b_sftp"), False),
    ("a longer known tenant's, in other letters", {**RULES, "plans": {"a_b": "scale"}}, "a", sftp("a_B_sftp"), False),
    ("a longer tenant's, at its end", {"tenant_connections": "SFTP_{tenant}", "plans": {"b_a": "x"}}, "a", sftp("SFTP_b_A"), False),
    ("by a rule with a path", {"tenant_connections": "tenants/{tenant}/*"}, "acme", sftp("tenants/acme/sftp"), True),
    ("across a slash", RULES, "acme", sftp("acme_/globex/sftp"), False),
    ("up a path", RULES, "acme", sftp("acme_/../globex_sftp"), False),
    ("up a path, within the rule", {"tenant_connections": "tenants/{tenant}/*/*"}, "acme", sftp("tenants/acme/../sftp"), False),
    ("any", {"api_destinations": "any"}, "acme", sftp("globex_sftp"), True),
    ("none at all", {"api_destinations": "policy", **RULES}, "acme", sftp("acme_sftp"), False),
    ("the operator's own", {}, "acme", BODY, True),
]  # fmt: skip


@pytest.mark.parametrize(("policy", "tenant", "body", "allowed"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_tenant_names_only_what_the_operator_allows(place: Place, api: Api, policy: Any, tenant: str, body: Any, allowed: bool) -> None:
    place.write("policy.yaml", policy)
    for query in ("?dryRun=true", ""):
        found = api("PUT", f"/{tenant}/export{query}", body)
        if allowed:
            assert found.status_code in (200, 201), found.text
        else:
            assert found.status_code == 422
            assert [(error["field"], error["code"]) for error in found.json()["errors"]] == [("destination", "not_allowed")]
            assert "sftp" not in found.text  # neither its own word back nor anybody's connection
    assert api("GET", f"/{tenant}/export").status_code == (200 if allowed else 404)


def test_what_is_in_force_may_be_sent_again_and_nothing_near_it(place: Place, api: Api, issuer: TestIssuer) -> None:
    place.write("policy.yaml", {"api_destinations": "any"})
    assert api("PUT", "/acme/export", sftp("house_sftp", root="/acme")).status_code == 201
    place.write("policy.yaml", {})
    api = Api(TestClient(tenant_api(place, issuer)), api.headers)
    assert api("PUT", "/acme/export", {**sftp("house_sftp", root="/acme"), "frequency": "weekly"}).status_code == 200
    assert api("PUT", "/acme/export", sftp("house_sftp", root="/globex")).status_code == 422
    assert api("PUT", "/acme/export", BODY).status_code == 200
    assert api("POST", "/acme/export/versions/1/restore").status_code == 422  # it is in force no more


def test_an_operator_names_every_destination(place: Place) -> None:
    installation = place.installation()
    client = TestClient(create_app(lambda: installation, OpenDoor(), NoScheduler()))
    assert client.put("/api/v1/tenants/acme/export", json=FOLDER).status_code == 201


@pytest.mark.parametrize("root", ["/in\nset-cookie: x", "/in\x00", "/in\r", "\t", "/in\x1b[2J", "/\u2028"])
@pytest.mark.parametrize("kind", ["sftp", "folder", "s3"])
def test_a_root_holds_no_control_characters(place: Place, api: Api, kind: str, root: str) -> None:
    place.write("policy.yaml", {"api_destinations": "any"})
    more = {} if kind == "folder" else {"connection": "acme_x"} | ({"bucket": "acme-bucket"} if kind == "s3" else {})
    found = api("PUT", "/acme/export", {**BODY, "destination": {"kind": kind, "root": root, **more}})
    assert found.status_code == 422
    assert "control character" in found.json()["detail"]


@pytest.mark.parametrize(
    "bucket", ["buck\0et", "buck\net", "buck/../et", "buck\u202eet", "-bucket", "https://evil.example", "bucket.evil/x"]
)
def test_a_bucket_has_a_buckets_name(place: Place, api: Api, bucket: str) -> None:
    place.write("policy.yaml", {"api_destinations": "any"})
    found = api("PUT", "/acme/export", {**BODY, "destination": {"kind": "s3", "connection": "acme_x", "bucket": bucket}})
    assert (found.status_code, found.json()["errors"][0]["field"]) == (422, "destination.bucket")


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        ({"tenant_connections": "{tenant}_*"}, "private_address"),
        ({"tenant_connections": "{tenant}_*", "private_networks": ["127.0.0.0/8", "::1/128"]}, "unreachable"),
        ({"tenant_connections": {"acme": ["acme_sftp"]}}, "unreachable"),
    ],
)
def test_a_destination_a_tenant_named_is_public_unless_the_operator_says_otherwise(
    place: Place, api: Api, policy: dict[str, Any], code: str
) -> None:
    place.connections["acme_sftp"] = Connection(
        "acme_sftp", "sftp", "localhost", 1, "acme", password="x", extra={"host_key": _pin(), "conn_timeout": 5}
    )
    place.write("policy.yaml", policy)
    assert api("PUT", "/acme/export", sftp("acme_sftp")).status_code == 201
    run(place.installation(), "acme", NOON)
    found = api("GET", "/acme/deliveries").json()["items"]
    assert {delivery["errorCode"] for delivery in found} == {code}


def _pin() -> str:
    import asyncssh

    return asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()


def test_what_tenants_read_of_a_failure_names_no_host_login_or_connection(place: Place, api: Api) -> None:
    place.connections["house_sftp"] = Connection(
        "house_sftp", "sftp", SECRET_HOST, 2222, "housekeeper", password="x", extra={"host_key": _pin(), "conn_timeout": 5}
    )
    place.write("policy.yaml", {"destination": {"kind": "sftp", "connection": "house_sftp"}})
    assert api("PUT", "/acme/export", BODY).status_code == 201
    run(place.installation(), "acme", NOON)
    headers = {**api.headers, "HX-Request": "true"}
    answers = [
        api("GET", "/acme/deliveries").text,
        api.client.get("/page/tenants/acme", headers=api.headers).text,
        api.client.get("/page/", headers=api.headers).text,
        api.client.post("/page/tenants/acme/probe", headers=headers).text,
        api.client.get("/page/tenants/acme", headers=api.headers).text,
    ]
    for answer in answers:
        assert "The server did not answer" in answer
        assert SECRET_HOST not in answer
        assert "2222" not in answer
        assert "housekeeper" not in answer
    assert SECRET_HOST in str(run(place.installation(), "acme", NOON))  # the operator reads all of it
