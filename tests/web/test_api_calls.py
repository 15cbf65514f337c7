"""What a call may hold beside its body, and the words in which a wrong one is refused."""

from __future__ import annotations

import gzip
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.installations import Place, vacant_place
from tests.issuer import Api, TestIssuer, tenant_api
from tests.web.test_api_registrations import BOTH, USER, assert_problem

ID = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with vacant_place(tmp_path) as place:
        yield place


@pytest.fixture
def client(place: Place, issuer: TestIssuer) -> TestClient:
    return TestClient(tenant_api(place, issuer), raise_server_exceptions=False)


@pytest.fixture
def api(client: TestClient, issuer: TestIssuer) -> Api:
    return Api(client, issuer.bearer())


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, issuer: TestIssuer) -> Iterator[Api]:
    """An installation without registrations, for calls that change nothing."""
    with vacant_place(tmp_path_factory.mktemp("shared")) as place:
        yield Api(TestClient(tenant_api(place, issuer), raise_server_exceptions=False), issuer.bearer())


def calls(client: TestClient) -> list[tuple[str, str]]:
    """Every operation of the API that needs a token, with something in its path's places."""
    fill = {"{tenant}": "acme", "{number}": "1", "{action}": "pause", "{delivery}": ID, "{request_id}": ID, "{template_id}": ID}
    found = []
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        filled = re.sub(r"\{\w+\}", lambda place: fill[place[0]], path) if "/downloads/" not in path else ""
        found += [(method.upper(), filled) for method in operations if filled]
    return [*found, ("GET", "/api/v1/exports"), ("POST", "/api/v1/exports")]


def test_no_call_takes_a_parameter_it_does_not_know(client: TestClient, issuer: TestIssuer) -> None:
    for method, path in calls(client):
        reply = client.request(method, f"{path}?nonsense=1", headers=issuer.bearer())
        found = assert_problem(reply, 422, "validation")
        assert [(error["field"], error["code"]) for error in found["errors"]] == [("nonsense", "unknown_parameter")], (method, path)
        assert client.request(method, f"{path}?nonsense=1").status_code == 401


@pytest.mark.parametrize(
    "query", ["dryrun=true", "dry_run=true", "dryRun=true&DryRun=true", "dryRun=true&dryRun=false", "dryRun=perhaps", "dryRun"]
)
@pytest.mark.parametrize("path", ["/acme/export", "/acme/export/versions/1/restore"])
def test_a_misspelled_rehearsal_never_becomes_a_change(api: Api, path: str, query: str) -> None:
    api("PUT", "/acme/export", BOTH)
    api("PUT", "/acme/export", USER)
    before = api("GET", "/acme/export")
    body = {**USER, "frequency": "weekly"} if path == "/acme/export" else None
    found = assert_problem(api("POST", f"{path}?{query}", body), 422, "validation")
    assert "dryRun" in found["detail"]
    assert api("GET", "/acme/export").headers["etag"] == before.headers["etag"]


def test_a_filter_that_takes_several_values_may_be_repeated(shared: Api) -> None:
    assert shared("GET", "/acme/exports?status=done&status=failed").status_code != 422


def test_an_unknown_parameter_comes_with_the_likely_one(api: Api) -> None:
    found = assert_problem(api("PUT", "/acme/export?dryrun=true", USER), 422, "validation")
    assert found["detail"] == "dryrun: unknown parameter (allowed: dryRun; did you mean dryRun?)"


def test_going_back_can_be_rehearsed(api: Api) -> None:
    api("PUT", "/acme/export", BOTH)
    api("PUT", "/acme/export", {**USER, "frequency": "weekly"})
    before = api("GET", "/acme/export")
    plan = api("POST", "/acme/export/versions/1/restore?dryRun=true").json()
    assert (plan["dryRun"], plan["activated"], plan["kept"]) == (True, ["theme"], ["user"])
    assert plan["fields"]["frequency"] == {"from": "weekly", "to": "daily"}
    assert api("GET", "/acme/export").json() == before.json()
    assert_problem(api("POST", "/acme/export/versions/9/restore?dryRun=true"), 404, "not_found")


def test_history_tells_what_each_version_changed_and_which_one_it_took_up_again(api: Api) -> None:
    api("PUT", "/acme/export", BOTH)
    api("PUT", "/acme/export", {**BOTH, "frequency": "weekly", "timezone": "Europe/Berlin", "deliverAt": "02:00", "csv": {"bom": True}})
    api("POST", "/acme/export/versions/1/restore")
    third, second, first = api("GET", "/acme/export/versions").json()["items"]
    assert second["changes"]["fields"] == {
        "frequency": {"from": "daily", "to": "weekly"},
        "timezone": {"from": None, "to": "Europe/Berlin"},
        "deliverAt": {"from": None, "to": "02:00"},
        "csv": {"from": None, "to": {"bom": True}},
    }
    assert [item["changes"]["restoredFrom"] for item in (third, second, first)] == [1, None, None]
    assert set(third["changes"]["fields"]) == set(second["changes"]["fields"])
    assert first["createdAt"] == api("GET", "/acme/export").json()["updatedAt"] == "2026-05-31T12:00:00.000000Z"


def test_an_entity_that_was_never_delivered_nor_catalogued_is_no_filter(api: Api) -> None:
    api("PUT", "/acme/export", USER)
    assert api("GET", "/acme/deliveries?entity=user").json()["items"] == []
    found = assert_problem(api("GET", "/acme/deliveries?entity=usr"), 422, "validation")
    assert found["errors"][0]["code"] == "unknown_entity"
    assert "did you mean user?" in found["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/acme/export", "GET, POST, PUT"),
        ("PUT", "/acme/deliveries", "GET"),
        ("PUT", f"/acme/exports/{ID}", "DELETE, GET"),
    ],
)
def test_a_method_that_is_not_there_is_told_which_are(shared: Api, method: str, path: str, allowed: str) -> None:
    reply = shared(method, path)
    found = assert_problem(reply, 405, "method_not_allowed")
    assert reply.headers["allow"] == allowed
    assert f"(allowed: {allowed})" in found["detail"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"Content-Type": "application/json; charset=utf-8"}, 200, id="UTF-8"),
        pytest.param({"Content-Type": 'application/merge-patch+json; charset="UTF-8"'}, 200, id="UTF-8, quoted"),
        pytest.param({"Content-Type": "application/json", "Content-Encoding": "identity"}, 200, id="identity"),
        pytest.param({"Content-Type": "application/json; charset=utf-16"}, 415, id="UTF-16"),
        pytest.param({"Content-Type": "application/json; charset=latin-1"}, 415, id="Latin-1"),
        pytest.param({"Content-Type": "application/json", "Content-Encoding": "gzip"}, 415, id="said to be gzip"),
        pytest.param({"Content-Type": "json"}, 415, id="no media type"),
        pytest.param({}, 415, id="nothing said"),
    ],
)
def test_a_body_is_plain_utf_8_json(shared: Api, headers: dict[str, str], status: int) -> None:
    path = "/api/v1/tenants/acme/export?dryRun=true"
    reply = shared.client.put(path, content=json.dumps(USER).encode(), headers={**shared.headers, **headers})
    assert reply.status_code == status, reply.text
    if status == 415:
        assert_problem(reply, 415, "unsupported_media_type")


def test_a_compressed_body_is_told_to_come_as_it_is(client: TestClient, issuer: TestIssuer) -> None:
    headers = {**issuer.bearer(), "Content-Type": "application/json", "Content-Encoding": "gzip"}
    reply = client.put("/api/v1/tenants/acme/export", content=gzip.compress(json.dumps(USER).encode()), headers=headers)
    assert_problem(reply, 415, "unsupported_media_type")
    assert reply.headers["accept-encoding"] == "identity"


TENANT = "1 to 63 of a-z 0-9 _ -, beginning with a letter or digit"
STATES = "pending, running, done, failed, cancelled, expired"
KEYS = (
    "exportOption, entityList, frequency, timezone, deliverAt, deliverBy, destination, csv, files, "
    "encryption, landing, notify, sourceTenant, copyOf, where, columns, rename, frequencies"
)
ZONES = "IANA names such as Europe/Berlin; did you mean Europe/Berlin?"
EMPTY_ROOT = {"kind": "folder", "root": ""}


@pytest.mark.parametrize(
    ("call", "detail"),
    [
        ("GET /ACME/export", f"tenant: 'ACME' does not fit (allowed: {TENANT})"),
        ("PUT /acme/export?dryRun=maybe", "dryRun: 'maybe' does not fit (allowed: true or false)"),
        ("GET /acme/deliveries?limit=0", "limit: '0' is too small (allowed: at least 1)"),
        ("GET /acme/deliveries?limit=501", "limit: '501' is too large (allowed: at most 500)"),
        ("GET /acme/deliveries?limit=x", "limit: 'x' does not fit (allowed: a whole number)"),
        ("GET /acme/deliveries?cursor=x", "cursor: 'x' does not fit (allowed: 32 of 0-9 a-f, as an earlier answer gave it)"),
        ("GET /acme/deliveries?status=ready", "status: unknown value 'ready' (allowed: open, committed, abandoned)"),
        ("GET /acme/exports?status=runing", f"status: unknown value 'runing' (allowed: {STATES}; did you mean running?)"),
        ("POST /acme/export/versions/x/restore", "number: 'x' does not fit (allowed: a whole number)"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_is_allowed(shared: Api, call: str, detail: str) -> None:
    found = assert_problem(shared(*call.split()), 422, "validation")
    assert found["detail"] == detail
    assert len(found["errors"]) == 1


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({**USER, "colour": 1}, f"colour: unknown key (allowed: {KEYS}; did you mean columns?)"),
        ({**USER, "frequency": None}, "frequency: unknown value null (allowed: daily, weekly, monthly)"),
        ({**USER, "destination": "sftp"}, "destination: 'sftp' does not fit (allowed: a mapping of keys to values)"),
        ({**USER, "destination": EMPTY_ROOT}, "destination.root: is too short (allowed: at least 1 character)"),
        ({**USER, "csv": {"bom": "perhaps"}}, "csv.bom: 'perhaps' does not fit (allowed: true or false)"),
        ({**USER, "csv": {"max_rows_per_file": 0}}, "csv.max_rows_per_file: 0 is too small (allowed: at least 1)"),
        ({**USER, "landing": [1]}, "landing: a list does not fit (allowed: a mapping of these keys: status, sha256sums)"),
        ({**USER, "timezone": 5}, "timezone: 5 does not fit (allowed: text)"),
        (
            {**USER, "timezone": "Europe/Berln"},
            f"timezone: unknown time zone 'Europe/Berln' (allowed: {ZONES})",
        ),
        ([1], "the body is a list (allowed: a JSON object)"),
        ("user", "the body is text (allowed: a JSON object)"),
    ],
)
def test_a_wrong_body_is_told_its_field_and_what_is_allowed(shared: Api, body: Any, detail: str) -> None:
    found = assert_problem(shared("PUT", "/acme/export", body), 422, "validation")
    assert found["detail"] == detail
    assert len(found["errors"]) == 1


def test_a_null_body_is_told_so_and_endless_numbers_are_refused(client: TestClient, issuer: TestIssuer) -> None:
    headers = {**issuer.bearer(), "Content-Type": "application/json"}
    null = client.put("/api/v1/tenants/acme/export", content=b"null", headers=headers)
    assert assert_problem(null, 422, "validation")["detail"] == "the body is null (allowed: a JSON object)"
    long = client.put("/api/v1/tenants/acme/export", content=b'{"a": ' + b"9" * 5000 + b"}", headers=headers)
    assert assert_problem(long, 400, "bad_request")["detail"] == "The body is not valid JSON: a number has more than 1000 digits."


def test_every_problem_of_a_list_is_told_at_once(api: Api) -> None:
    found = assert_problem(api("PUT", "/acme/export", {"entityList": ["usr", "them", 5, "user"]}), 422, "validation")
    messages = " ".join(error["message"] for error in found["errors"])
    assert all(word in messages for word in ("'usr'", "'them'", "a list of names"))
    assert "at least one entity" not in messages


def test_a_first_registration_that_came_second_is_told_so(api: Api) -> None:
    api("PUT", "/acme/export", USER)
    found = assert_problem(api("PUT", "/acme/export", BOTH, If_None_Match="*"), 412, "etag_mismatch")
    assert found["detail"] == "the tenant acme has a registration already. GET it, and send its ETag as If-Match to replace it"


def test_a_denied_caller_learns_which_scope_they_lack(client: TestClient, issuer: TestIssuer) -> None:
    Api(client, issuer.bearer())("PUT", "/acme/export", USER)
    for scope, method, needed in [("read", "PUT", "write"), ("write", "GET", "read")]:
        found = assert_problem(Api(client, issuer.bearer("acme", scope))(method, "/acme/export", USER), 403, "denied")
        assert found["detail"].startswith(f"You may not do this for the tenant acme. It needs a token with the scope {needed}")


def test_a_registration_can_be_read_while_the_catalogue_is_broken(api: Api, place: Place) -> None:
    api("PUT", "/acme/export", USER)
    before = api("GET", "/acme/export?includeInactive=true").json()
    (place.root / "config/catalog.yaml").write_text("entities: [")
    time.sleep(1.1)  # the configuration is looked at once a second
    assert api("GET", "/acme/export?includeInactive=true").json() == before
    found = assert_problem(api("PUT", "/acme/export", BOTH), 503, "config")
    assert "Try again" not in found["detail"]
    assert "mended" in found["detail"]
