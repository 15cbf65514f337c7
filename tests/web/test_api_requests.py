"""On-demand exports over HTTP, as a stranger with a token sees them."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.exports import MINUTE, Office, make_office
from tests.issuer import Api, TestIssuer, tenant_api
from waybill.requests.fulfilment import running

BODY = {"entities": ["measurement"], "formats": ["ndjson"]}


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = make_office(tmp_path)
    yield office
    office.place.close()


@pytest.fixture
def client(office: Office, issuer: TestIssuer) -> TestClient:
    return TestClient(tenant_api(office.place, issuer), raise_server_exceptions=False)


@pytest.fixture
def api(client: TestClient, issuer: TestIssuer) -> Api:
    return Api(client, issuer.bearer())


def assert_problem(response: Any, status: int, code: str, detail: str = "") -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["code"]) == (status, code), body
    assert response.headers["content-type"] == "application/problem+json"
    assert set(body) == {"type", "title", "status", "detail", "code", "errors"}
    assert not detail or body["detail"] == detail
    return body


def fulfil(office: Office) -> None:
    running.fulfil_all(office.installation())


def ready(office: Office, api: Api, **body: Any) -> dict[str, Any]:
    made = api("POST", "/acme/exports", BODY | body)
    assert made.status_code == 202, made.json()
    fulfil(office)
    export: dict[str, Any] = api("GET", f"/acme/exports/{made.json()['id']}").json()
    assert export["status"] == "done"
    return export


def test_an_export_is_asked_for_followed_downloaded_and_deleted(office: Office, api: Api, client: TestClient) -> None:
    for number in range(3):
        office.measure(number)
    made = api("POST", "/acme/exports", BODY)
    assert made.status_code == 202
    assert made.headers["location"] == f"/api/v1/tenants/acme/exports/{made.json()['id']}"
    assert (made.json()["status"], made.json()["rows"], made.json()["progress"]) == ("pending", None, 0)
    looked = client.get(made.headers["location"], headers=api.headers)
    assert int(looked.headers["retry-after"]) > 0
    fulfil(office)
    export = client.get(made.headers["location"], headers=api.headers).json()
    assert (export["status"], export["statusLabel"], export["progress"], export["rows"]) == ("done", "Done", 100, 3)
    link = api("POST", f"/acme/exports/{export['id']}/link").json()
    answer = client.get(link["url"])
    assert answer.status_code == 200
    assert answer.headers["content-disposition"].startswith("attachment;")
    assert answer.headers["cache-control"] == "no-store, no-transform"
    assert hashlib.sha256(answer.content).hexdigest() == export["sha256"]
    assert len(zipfile.ZipFile(io.BytesIO(answer.content)).read("measurement.ndjson").splitlines()) == 3
    assert api("GET", f"/acme/exports/{export['id']}").json()["firstDownloadedAt"]
    assert api("DELETE", f"/acme/exports/{export['id']}").status_code == 204
    assert_problem(client.get(link["url"]), 404, "not_found")
    assert_problem(api("GET", f"/acme/exports/{export['id']}"), 404, "not_found")


def test_a_download_goes_on_where_it_stopped_and_ends_byte_equal(office: Office, api: Api, client: TestClient) -> None:
    office.measure(1)
    export = ready(office, api)
    url = api("POST", f"/acme/exports/{export['id']}/link").json()["url"]
    first = client.get(url, headers={"Range": "bytes=0-99"})
    assert first.status_code == 206
    rest = client.get(url, headers={"Range": "bytes=100-", "If-Range": first.headers["etag"]})
    assert rest.status_code == 206
    assert hashlib.sha256(first.content + rest.content).hexdigest() == export["sha256"]
    for nothing in (
        "bytes=99999999-",
        "bytes=0-4,99999999-",
        "bytes=x",
        "bytes=5-2",
        "bytes=-0",
        "bytes=0-0,-0",
        f"bytes={'9' * 5000}-",
        "bytes",
    ):
        refused = client.get(url, headers={"Range": nothing})
        assert_problem(refused, 416, "range_not_satisfiable")
        assert refused.headers["content-range"] == f"bytes */{export['bytes']}"
    assert client.get(url, headers={"Range": "bytes=99999999-", "If-Range": '"another"'}).status_code == 200
    whole = client.get(url, headers={"Range": "items=0-5"})
    assert (whole.status_code, whole.content) == (200, first.content + rest.content)
    assert client.get(url, headers={"Range": "bytes=-5"}).content == whole.content[-5:]
    assert client.get(url, headers={"Range": "bytes=0-1, 5-6"}).status_code == 206


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        ({}, {"entities": "no_entities", "formats": "format_required"}),
        ({"entities": [], "formats": ["csv"]}, {"entities": "no_entities"}),
        ({"entities": ["measurment"], "formats": ["pdf"]}, {"entities": "unknown_entity", "formats": "format_not_supported"}),
        ({"entities": ["site"], "formats": ["xlsx"]}, {"formats": "format_not_supported"}),
        ({**BODY, "range": {"from": "2026-02-02", "to": "2026-02-01"}}, {"range.from": "start_after_end"}),
        ({**BODY, "range": {"from": "yesterday"}}, {"range.from": "not_a_date"}),
        ({**BODY, "range": "last_7_days"}, {"range.preset": "range_not_offered"}),
        ({**BODY, "scope": {"level": "app", "project": "p"}}, {"scope.apps": "scope_incomplete"}),
        ({**BODY, "scope": {"level": "participant", "participant": "x"}}, {"scope.study": "scope_incomplete"}),
        ({"entities": ["site"], "formats": ["csv"], "scope": {"level": "project", "project": "p"}}, {"entities": "scope_not_supported"}),
        ({**BODY, "colour": "red"}, {"colour": "unknown_key"}),
        ({**BODY, "range": {"from": "", "to": None}}, {"range.from": "not_a_date"}),
        ({**BODY, "scope": {"level": "project", "project": "p1\0"}}, {"scope.project": "invalid"}),
        ({**BODY, "scope": {"level": "app", "project": "p1", "apps": ["a1", "a\t2"]}}, {"scope.apps": "invalid"}),
        ({**BODY, "scope": {"level": "study", "study": "s\n1"}}, {"scope.study": "invalid"}),
        ({**BODY, "entities": "measurement,\u009bsite"}, {"entities": "invalid"}),
        ({**BODY, "formats": ["csv\u2028"]}, {"formats": "invalid"}),
        ({**BODY, "range": {"from": "2026-01-01\n"}}, {"range.from": "invalid"}),
    ],
    ids=[
        "nothing",
        "empty list",
        "unknown names",
        "format of the entity",
        "backwards",
        "no date",
        "preset",
        "apps",
        "study",
        "scope",
        "key",
        "empty date",
        "nul",
        "tab",
        "line",
        "c1",
        "line separator",
        "line after a date",
    ],
)
def test_every_problem_of_a_body_is_told_at_once(api: Api, body: dict[str, Any], codes: dict[str, str]) -> None:
    problem = assert_problem(api("POST", "/acme/exports", body), 422, "validation")
    assert {error["field"]: error["code"] for error in problem["errors"]} == codes


def test_an_id_of_another_form_is_an_export_that_is_not_there(api: Api) -> None:
    for wrong in ("nope", "0" * 31, "0" * 31 + "G", "%00" * 32):
        for method, path in [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("POST", "/resubmit"), ("POST", "/link")]:
            assert_problem(api(method, f"/acme/exports/{wrong}{path}"), 404, "not_found", "There is no such export.")
        assert_problem(api("GET", f"/acme/export-templates/{wrong}"), 404, "not_found", "There is no such recurring export.")
    assert_problem(api("POST", "/acme/exports/bulk-delete", {"ids": ["nope"]}), 404, "not_found")
    assert_problem(api("POST", "/acme/exports/bulk-delete", {"ids": ["\0" * 32]}), 422, "validation")


def test_a_second_export_of_the_same_project_waits_in_the_documents_words(api: Api) -> None:
    api("POST", "/acme/exports", BODY)
    answer = api("POST", "/acme/exports", BODY)
    assert_problem(answer, 409, "export_in_progress", "Another export is in progress")
    assert int(answer.headers["retry-after"]) > 0


def test_an_idempotency_key_repeats_its_answer_and_refuses_another_body(api: Api) -> None:
    first = api("POST", "/acme/exports", BODY, Idempotency_Key="k")
    again = api("POST", "/acme/exports", BODY, Idempotency_Key="k")
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert_problem(api("POST", "/acme/exports", {**BODY, "formats": ["csv"]}, Idempotency_Key="k"), 422, "idempotency_key_reused")


def test_a_rate_limit_answers_429_with_the_time_left(office: Office, issuer: TestIssuer) -> None:
    office.policy(max_active_per_project="none", rate_limit={"requests": 2, "per": "1h"})
    api = Api(TestClient(tenant_api(office.place, issuer)), issuer.bearer())
    api("POST", "/acme/exports", BODY)
    office.later(20 * MINUTE)
    api("POST", "/acme/exports", BODY)
    answer = api("POST", "/acme/exports", BODY)
    assert_problem(answer, 429, "rate_limited")
    assert answer.headers["retry-after"] == str(40 * 60)
    office.later(41 * MINUTE)
    assert api("POST", "/acme/exports", BODY).status_code == 202


def test_cancel_resubmit_and_their_refusals(office: Office, api: Api) -> None:
    export = api("POST", "/acme/exports", BODY).json()
    words = "Only an export that failed, expired or was cancelled can be requested again."
    assert_problem(api("POST", f"/acme/exports/{export['id']}/resubmit"), 409, "not_resubmittable", words)
    assert_problem(api("POST", f"/acme/exports/{export['id']}/link"), 409, "not_ready")
    assert api("POST", f"/acme/exports/{export['id']}/cancel").json()["status"] == "cancelled"
    assert_problem(api("POST", f"/acme/exports/{export['id']}/cancel"), 409, "not_active")
    again = api("POST", f"/acme/exports/{export['id']}/resubmit")
    assert (again.status_code, again.json()["resubmittedFrom"]) == (202, export["id"])


def test_an_expired_export_is_gone_and_may_be_asked_for_again(office: Office, api: Api, client: TestClient) -> None:
    export = ready(office, api)
    url = api("POST", f"/acme/exports/{export['id']}/link").json()["url"]
    office.later(timedelta(hours=2))
    assert_problem(client.get(url), 410, "expired")
    fresh = api("POST", f"/acme/exports/{export['id']}/link").json()["url"]
    assert client.get(fresh).status_code == 200
    office.later(timedelta(days=7))
    assert_problem(client.get(fresh), 410, "expired")
    assert_problem(api("POST", f"/acme/exports/{export['id']}/link"), 410, "expired")
    assert api("GET", f"/acme/exports/{export['id']}").json()["status"] == "expired"
    assert api("POST", f"/acme/exports/{export['id']}/resubmit").status_code == 202


def test_another_tenants_token_finds_nothing_on_any_verb(office: Office, api: Api, client: TestClient, issuer: TestIssuer) -> None:
    export = ready(office, api)
    stranger = Api(client, issuer.bearer(tenant="globex"))
    for method, path in [
        ("GET", f"/acme/exports/{export['id']}"),
        ("GET", "/acme/exports"),
        ("GET", "/acme/exports/options"),
        ("POST", "/acme/exports"),
        ("POST", f"/acme/exports/{export['id']}/cancel"),
        ("POST", f"/acme/exports/{export['id']}/resubmit"),
        ("POST", f"/acme/exports/{export['id']}/link"),
        ("DELETE", f"/acme/exports/{export['id']}"),
        ("GET", f"/globex/exports/{export['id']}"),
        ("POST", f"/globex/exports/{export['id']}/cancel"),
        ("POST", f"/globex/exports/{export['id']}/resubmit"),
        ("POST", f"/globex/exports/{export['id']}/link"),
        ("DELETE", f"/globex/exports/{export['id']}"),
    ]:
        assert_problem(stranger(method, path, BODY if method == "POST" else None), 404, "not_found")
    assert_problem(stranger("POST", "/globex/exports/bulk-delete", {"ids": [export["id"]]}), 404, "not_found")
    assert stranger("GET", "/globex/exports").json()["items"] == []
    assert api("GET", f"/acme/exports/{export['id']}").json()["status"] == "done"


def test_a_token_that_was_touched_opens_nothing(office: Office, api: Api, client: TestClient) -> None:
    export = ready(office, api)
    url = api("POST", f"/acme/exports/{export['id']}/link").json()["url"]
    head, _, token = url.rpartition("/")
    for position in range(0, len(token), 7):
        other = "A" if token[position] != "A" else "B"
        assert_problem(client.get(f"{head}/{token[:position]}{other}{token[position + 1 :]}"), 404, "not_found")
    for wrong in (token[:-1], token + "A", token[:-1] + chr(ord(token[-1]) ^ 1), "x", token.replace(".", "")):
        assert client.get(f"{head}/{wrong}").status_code == 404


def test_pages_of_the_list_hold_every_request_once(office: Office, issuer: TestIssuer) -> None:
    office.policy(max_active_per_project="none")
    api = Api(TestClient(tenant_api(office.place, issuer)), issuer.bearer())
    made = [api("POST", "/acme/exports", BODY).json()["id"] for _ in range(5)]
    seen: list[str] = []
    cursor = ""
    while True:
        page = api("GET", f"/acme/exports?limit=2&cursor={cursor}").json()
        seen += [export["id"] for export in page["items"]]
        if page["nextCursor"] is None:
            break
        cursor = page["nextCursor"]
    assert seen == sorted(made, reverse=True)
    assert api("GET", "/acme/exports?status=done").json()["items"] == []


def test_bulk_delete_is_all_or_nothing(office: Office, api: Api) -> None:
    export = ready(office, api)
    assert_problem(api("POST", "/acme/exports/bulk-delete", {"ids": [export["id"], "0" * 32]}), 404, "not_found")
    assert api("GET", f"/acme/exports/{export['id']}").status_code == 200
    assert api("POST", "/acme/exports/bulk-delete", {"ids": [export["id"]]}).status_code == 204


def test_without_a_tenant_the_documents_words_are_said(client: TestClient, api: Api) -> None:
    words = "Select an organization and tenant to view and create exports."
    for method in ("GET", "POST"):
        assert_problem(client.request(method, "/api/v1/exports", headers=api.headers), 400, "context_required", words)


def test_policys_roles_decide_who_creates_sees_and_downloads(office: Office, issuer: TestIssuer) -> None:
    office.policy(
        plans={"acme": "scale"},
        plan_required="scale",
        cancel_by=["admin"],
        roles={
            "owner": ["exports.view", "exports.create", "exports.download"],
            "viewer": ["exports.view"],
            "operator": ["exports.view", "exports.admin"],
        },
    )
    client = TestClient(tenant_api(office.place, issuer))
    owner, viewer, operator, nobody = (
        Api(client, issuer.bearer(sub=f"the {role}", roles=[role])) for role in ("owner", "viewer", "operator", "none")
    )
    denied = "You don’t have permission to create exports. Ask an organization or tenant admin."
    assert_problem(viewer("POST", "/acme/exports", BODY), 403, "create_denied", denied)
    assert_problem(nobody("GET", "/acme/exports"), 403, "view_denied")
    export = owner("POST", "/acme/exports", BODY).json()
    assert viewer("GET", f"/acme/exports/{export['id']}").status_code == 200
    assert_problem(owner("POST", f"/acme/exports/{export['id']}/cancel"), 403, "cancel_denied")
    assert_problem(owner("DELETE", f"/acme/exports/{export['id']}"), 403, "delete_denied")
    fulfil(office)
    assert_problem(viewer("POST", f"/acme/exports/{export['id']}/link"), 403, "download_denied")
    assert owner("POST", f"/acme/exports/{export['id']}/link").status_code == 200
    second = owner("POST", "/acme/exports", BODY).json()
    assert operator("POST", f"/acme/exports/{second['id']}/cancel").status_code == 200


def test_a_plan_that_lacks_exports_is_told(office: Office, issuer: TestIssuer) -> None:
    office.policy(plan_required="scale", plans={"globex": "scale"})
    client = TestClient(tenant_api(office.place, issuer))
    assert_problem(Api(client, issuer.bearer())("POST", "/acme/exports", BODY), 403, "plan_required")
    assert Api(client, issuer.bearer(tenant="globex"))("POST", "/globex/exports", BODY).status_code == 202


def test_people_see_their_own_requests_only_where_policy_says_so(office: Office, issuer: TestIssuer) -> None:
    office.policy(visibility="own", max_active_per_project="none")
    client = TestClient(tenant_api(office.place, issuer))
    ada, bob = (Api(client, issuer.bearer(sub=name)) for name in ("ada", "bob"))
    export = ada("POST", "/acme/exports", BODY).json()
    assert_problem(bob("GET", f"/acme/exports/{export['id']}"), 404, "not_found")
    assert bob("GET", "/acme/exports").json()["items"] == []
    assert [seen["id"] for seen in ada("GET", "/acme/exports").json()["items"]] == [export["id"]]


def test_a_vanished_archive_is_unavailable_and_not_lost_words(office: Office, api: Api, client: TestClient) -> None:
    export = ready(office, api)
    url = api("POST", f"/acme/exports/{export['id']}/link").json()["url"]
    for path in (office.place.root / ".waybill/archive").rglob("*.zip"):
        path.unlink()
    assert_problem(client.get(url), 503, "storage_unavailable")


def test_the_form_is_told_what_policy_offers(api: Api) -> None:
    options = api("GET", "/acme/exports/options").json()
    assert options["canCreate"]
    assert options["labels"]["running"] == "Running"
    assert {entity["id"] for entity in options["entities"]} == {"measurement", "site"}
