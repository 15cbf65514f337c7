"""The registration API as tenants see it: over HTTP semantics, with signed tokens, on a real ledger and source."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from tests.installations import NOON, Place, make_place, vacant_place
from tests.issuer import Api, RecordingScheduler, TestIssuer, tenant_api
from waybill.deliveries import running
from waybill.registrations import applying, replacing

USER = {"entityList": ["user"], "frequency": "daily", "destination": {"kind": "folder", "root": "out"}}
BOTH = {**USER, "entityList": ["user", "theme"]}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with vacant_place(tmp_path) as place:
        yield place


@pytest.fixture
def scheduler() -> RecordingScheduler:
    return RecordingScheduler()


@pytest.fixture
def client(place: Place, issuer: TestIssuer, scheduler: RecordingScheduler) -> TestClient:
    return TestClient(tenant_api(place, issuer, scheduler), raise_server_exceptions=False)


@pytest.fixture
def api(client: TestClient, issuer: TestIssuer) -> Api:
    return Api(client, issuer.bearer())


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory, issuer: TestIssuer) -> Iterator[TestClient]:
    """An installation without registrations, shared by tests that never get one in."""
    with vacant_place(tmp_path_factory.mktemp("refusing")) as place:
        yield TestClient(tenant_api(place, issuer), raise_server_exceptions=False)


def assert_problem(response: Any, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert set(found) == {"type", "title", "status", "detail", "code", "errors"}
    assert (found["status"], found["code"]) == (status, code)
    assert found["detail"]
    return found


def test_a_first_put_creates_the_tenant_and_get_shows_what_may_be_sent_back(api: Api, scheduler: RecordingScheduler) -> None:
    made = api("PUT", "/acme/export", {**BOTH, "timezone": "Europe/Berlin", "deliverAt": "02:00"})
    assert made.status_code == 201
    assert made.json()["activated"] == ["user", "theme"]
    shown = api("GET", "/acme/export")
    assert shown.json()["entityList"] == ["user", "theme"]
    assert shown.json()["exportOption"] == "export selected"
    assert (shown.json()["frequency"], shown.json()["timezone"], shown.json()["deliverAt"]) == ("daily", "Europe/Berlin", "02:00")
    assert (shown.json()["updatedBy"], shown.json()["managedBy"]) == ("api:alice", {"kind": "api", "file": None})
    again = api("PUT", "/acme/export", shown.json())
    assert again.status_code == 200
    assert again.json()["changed"] is False
    assert again.headers["etag"] == shown.headers["etag"] == made.headers["etag"]
    assert scheduler.changes == ["acme"]


def test_put_replaces_and_says_what_was_switched_off(api: Api) -> None:
    api("PUT", "/acme/export", BOTH)
    reply = api("POST", "/acme/export", USER)
    assert reply.status_code == 200
    assert (reply.json()["activated"], reply.json()["deactivated"], reply.json()["kept"]) == ([], ["theme"], ["user"])
    shown = api("GET", "/acme/export?includeInactive=true").json()
    assert [(delivery["entity"], delivery["generation"]) for delivery in shown["inactive"]] == [("theme", 1)]
    assert shown["inactive"][0]["deactivatedAt"].startswith("2026-05-31T12:00:00")
    assert api("PUT", "/acme/export", shown).json()["changed"] is False


@pytest.mark.parametrize(
    ("body", "entities"),
    [
        pytest.param({"entityList": "USER, theme"}, ["user", "theme"], id="a comma-separated string, any case"),
        pytest.param({"exportOption": "export all", "entityList": ["no such thing"]}, ["user", "theme"], id="all ignores the list"),
        pytest.param({"exportOption": "export all", "entityList": 3}, ["user", "theme"], id="all ignores a list that is none"),
        pytest.param({"exportOption": "disable export", "entityList": ["no such thing"]}, [], id="disable ignores the list"),
    ],
)
def test_a_body_may_be_spelled_as_the_product_documents_it(api: Api, body: dict[str, Any], entities: list[str]) -> None:
    assert api("PUT", "/acme/export", body).json()["entities"] == entities


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        pytest.param({}, [("entityList", "no_entities")], id="no entities"),
        pytest.param({"entityList": []}, [("entityList", "no_entities")], id="an empty list"),
        pytest.param({"entityList": ["usr"]}, [("entityList", "unknown_entity")], id="an unknown entity"),
        pytest.param({**USER, "frequency": "hourly"}, [("frequency", "unknown_value")], id="an unknown frequency"),
        pytest.param({**USER, "colour": "red"}, [("colour", "unknown_key")], id="an unknown key"),
        pytest.param({**USER, "timezone": "Mars/Base"}, [("timezone", "invalid")], id="an unknown zone"),
        pytest.param(
            {"entityList": ["usr", "them"], "frequency": "hourly", "deliverAt": "25:00"},
            [("deliverAt", "invalid"), ("entityList", "unknown_entity"), ("entityList", "unknown_entity"), ("frequency", "unknown_value")],
            id="everything at once",
        ),
    ],
)
def test_a_wrong_body_is_refused_with_every_problem(
    refusing: TestClient, issuer: TestIssuer, body: dict[str, Any], errors: list[tuple[str, str]]
) -> None:
    api = Api(refusing, issuer.bearer())
    found = assert_problem(api("PUT", "/acme/export", body), 422, "validation")
    assert sorted((error["field"], error["code"]) for error in found["errors"]) == errors
    assert_problem(api("PUT", "/acme/export?dryRun=true", body), 422, "validation")
    assert_problem(api("GET", "/acme/export"), 404, "not_found")


def test_a_misspelled_entity_comes_with_the_likely_one(refusing: TestClient, issuer: TestIssuer) -> None:
    found = assert_problem(Api(refusing, issuer.bearer())("PUT", "/acme/export", {"entityList": ["usr"]}), 422, "validation")
    assert "did you mean user?" in found["errors"][0]["message"]


@pytest.mark.parametrize(
    ("content", "media", "status", "code"),
    [
        pytest.param(b'{"entityList": ["user"', "application/json", 400, "bad_request", id="cut off"),
        pytest.param(b"\xff\xfe", "application/json", 400, "bad_request", id="not UTF-8"),
        pytest.param(b'{"a": NaN}', "application/json", 400, "bad_request", id="NaN"),
        pytest.param(b'{"a": 1e999}', "application/json", 400, "bad_request", id="a number past every bound"),
        pytest.param(b'{"entityList": ["\\ud800"]}', "application/json", 400, "bad_request", id="half a surrogate pair"),
        pytest.param(b'{"frequency": "daily", "frequency": "weekly"}', "application/json", 400, "bad_request", id="a key twice"),
        pytest.param(b"[" * 100_000, "application/json", 400, "bad_request", id="nested without end"),
        pytest.param(b'["user"]', "application/json", 422, "validation", id="a list"),
        pytest.param(b"{}", "text/plain", 415, "unsupported_media_type", id="not said to be JSON"),
        pytest.param(b" " * 300_000, "application/json", 413, "too_large", id="too large"),
    ],
)
def test_a_body_that_is_no_json_object_is_a_problem(
    refusing: TestClient, issuer: TestIssuer, content: bytes, media: str, status: int, code: str
) -> None:
    headers = {**issuer.bearer(), "Content-Type": media}
    assert_problem(refusing.put("/api/v1/tenants/acme/export", content=content, headers=headers), status, code)


def test_a_dry_run_tells_the_difference_with_rows_and_bytes_and_changes_nothing(place: Place, api: Api) -> None:
    for number in range(7):
        place.user(number, "x" * 20, NOON)
    place.user(99, "somebody else's", NOON, tenant="globex")
    api("PUT", "/acme/export", {**USER, "entityList": ["theme"]})
    before = api("GET", "/acme/export")
    plan = api("PUT", "/acme/export?dryRun=true", {**USER, "frequency": "weekly"}).json()
    assert (plan["activated"], plan["deactivated"], plan["kept"]) == (["user"], ["theme"], [])
    assert plan["fields"] == {
        "entityList": {"from": ["theme"], "to": ["user"]},
        "frequency": {"from": "daily", "to": "weekly"},
    }
    assert plan["estimatedRows"] == 7
    assert 7 * 20 < plan["estimatedBytes"] < 7 * 200
    assert plan["changed"] is True
    after = api("GET", "/acme/export")
    assert (after.json(), after.headers["etag"]) == (before.json(), before.headers["etag"])
    assert api("PUT", "/acme/export?dryRun=true", before.json()).json()["changed"] is False


def test_an_estimate_of_a_source_that_cannot_be_asked_is_unknown_and_says_why(place: Place, api: Api) -> None:
    (place.root / "warehouse.duckdb").unlink()
    plan = api("PUT", "/acme/export?dryRun=true", USER)
    assert plan.status_code == 200
    assert plan.json()["estimatedRows"] is None
    assert plan.json()["estimates"][0]["note"]


def test_a_stale_etag_changes_nothing(api: Api) -> None:
    first = api("PUT", "/acme/export", BOTH).headers["etag"]
    second = api("PUT", "/acme/export", USER, If_Match=first)
    assert second.status_code == 200
    assert_problem(api("PUT", "/acme/export", BOTH, If_Match=first), 412, "etag_mismatch")
    assert_problem(api("PUT", "/acme/export?dryRun=true", BOTH, If_Match=first), 412, "etag_mismatch")
    assert_problem(api("PUT", "/acme/export", BOTH, If_Match='"none of ours"'), 412, "etag_mismatch")
    assert_problem(api("PUT", "/acme/export", BOTH, If_Match=f"W/{second.headers['etag']}"), 412, "etag_mismatch")
    assert api("GET", "/acme/export").headers["etag"] == second.headers["etag"]
    assert api("PUT", "/acme/export", BOTH, If_Match=f'"77", {second.headers["etag"]}').status_code == 200
    assert api("PUT", "/acme/export", USER, If_Match="*").status_code == 200


def test_if_none_match_lets_only_the_first_registration_in(api: Api) -> None:
    assert_problem(api("PUT", "/acme/export", USER, If_Match="*"), 412, "etag_mismatch")
    assert api("PUT", "/acme/export", USER, If_None_Match="*").status_code == 201
    assert_problem(api("PUT", "/acme/export", BOTH, If_None_Match="*"), 412, "etag_mismatch")


def test_a_tenant_with_a_file_is_managed_as_code_even_when_the_file_is_broken(place: Place, api: Api) -> None:
    for content in ({"entityList": ["user"]}, {"entityList": ["no such thing"]}):
        place.write("tenants/acme.yaml", content)
        for method, path in (("PUT", ""), ("POST", ""), ("PUT", "?dryRun=true")):
            found = assert_problem(api(method, f"/acme/export{path}", USER), 409, "managed_as_code")
            assert "config/tenants/acme.yaml" in found["detail"]


def test_a_tenant_applied_from_a_file_stays_so_until_its_removal_is_applied(place: Place, api: Api) -> None:
    place.tenant()
    applying.apply(place.installation(), actor="test")
    assert api("GET", "/acme/export").json()["managedBy"] == {"kind": "file", "file": "config/tenants/acme.yaml"}
    (place.root / "config/tenants/acme.yaml").unlink()
    assert_problem(api("PUT", "/acme/export", USER), 409, "managed_as_code")
    assert_problem(api("POST", "/acme/export/versions/1/restore"), 409, "managed_as_code")
    applying.apply(place.installation(), actor="test", allow_mass_deactivation=True)
    assert api("PUT", "/acme/export", USER).status_code == 200


def test_policy_may_keep_destinations_to_the_operators_files(place: Place, api: Api) -> None:
    api("PUT", "/acme/export", USER)
    place.write("policy.yaml", {"api_destinations": "policy"})
    time.sleep(1.1)  # the configuration is looked at once a second
    assert api("PUT", "/acme/export", BOTH).status_code == 200
    for destination in ({"kind": "folder", "root": "/elsewhere"}, None):
        for query in ("", "?dryRun=true"):
            found = assert_problem(api("PUT", f"/acme/export{query}", {**USER, "destination": destination}), 422, "validation")
            assert [(error["field"], error["code"]) for error in found["errors"]] == [("destination", "not_allowed")]


def test_a_full_load_is_queued_or_started(api: Api, scheduler: RecordingScheduler, place: Place) -> None:
    assert_problem(api("POST", "/acme/export/full-load"), 404, "not_found")
    api("PUT", "/acme/export", USER)
    place.user(1, "one", NOON)
    running.run(place.installation(), "acme", NOON)
    assert_problem(api("POST", "/acme/export/full-load", {"entities": ["theme"]}), 400, "not_registered")
    assert_problem(api("POST", "/acme/export/full-load", {"entities": []}), 422, "validation")
    assert_problem(api("POST", "/acme/export/full-load", {"when": "soon"}), 422, "validation")
    queued = api("POST", "/acme/export/full-load", {"entities": "User"})
    assert (queued.status_code, queued.json()["when"], queued.json()["entities"]) == (202, "next", ["user"])
    assert scheduler.runs == []
    started = api("POST", "/acme/export/full-load", {"when": "now"})
    assert (started.json()["when"], scheduler.runs) == ("now", ["acme"])
    scheduler.starts = False
    assert api("POST", "/acme/export/full-load", {"when": "now"}).json()["when"] == "next"
    results = running.run(place.installation(), "acme", NOON)
    assert [(result.delivery.kind, result.delivery.generation) for result in results] == [("full", 2)]
    api("PUT", "/acme/export", {"exportOption": "disable export"})
    assert_problem(api("POST", "/acme/export/full-load"), 404, "not_found")


def test_history_says_who_and_when_and_any_version_can_be_restored(api: Api, place: Place) -> None:
    api("PUT", "/acme/export", BOTH)
    api("PUT", "/acme/export", {"exportOption": "disable export"})
    restored = api("POST", "/acme/export/versions/1/restore")
    assert (restored.status_code, restored.json()["version"]) == (200, 3)
    assert restored.json()["entityList"] == ["user", "theme"]
    versions = api("GET", "/acme/export/versions").json()["items"]
    assert [version["version"] for version in versions] == [3, 2, 1]
    assert {version["actor"] for version in versions} == {"api:alice"}
    assert versions[1]["changes"]["deactivated"] == ["theme", "user"]
    assert api("POST", "/acme/export/versions/1/restore").json()["changed"] is False
    assert_problem(api("POST", "/acme/export/versions/9/restore"), 404, "not_found")
    assert_problem(api("POST", "/acme/export/versions/2/restore", If_Match='"1"'), 412, "etag_mismatch")


def test_deliveries_are_paged_newest_first_in_camel_case(api: Api, place: Place) -> None:
    assert_problem(api("GET", "/acme/deliveries"), 404, "not_found")
    api("PUT", "/acme/export", BOTH)
    place.user(1, "one", NOON)
    running.run(place.installation(), "acme", NOON)
    first = api("GET", "/acme/deliveries?limit=1").json()
    second = api("GET", f"/acme/deliveries?limit=1&cursor={first['nextCursor']}").json()
    assert second["nextCursor"] is None
    found = [*first["items"], *second["items"]]
    assert sorted(delivery["entity"] for delivery in found) == ["theme", "user"]
    assert all(delivery["sha256"] and delivery["exportDate"] == "2026-05-31" and delivery["window"]["from"] is None for delivery in found)
    assert [delivery["entity"] for delivery in api("GET", "/acme/deliveries?entity=User&status=committed").json()["items"]] == ["user"]
    assert_problem(api("GET", "/acme/deliveries?limit=0"), 422, "validation")
    assert_problem(api("GET", "/acme/deliveries?cursor=x"), 422, "validation")


def test_a_redelivery_is_planned_once_and_taken_along_by_the_next_run(api: Api, place: Place, scheduler: RecordingScheduler) -> None:
    api("PUT", "/acme/export", USER)
    place.user(1, "one", NOON)
    running.run(place.installation(), "acme", NOON)
    delivery = api("GET", "/acme/deliveries").json()["items"][0]
    planned = [api("POST", f"/acme/deliveries/{delivery['deliveryId']}/redeliver") for _ in range(2)]
    assert [reply.status_code for reply in planned] == [202, 202]
    assert len({reply.json()["delivery"]["deliveryId"] for reply in planned}) == 1
    assert (planned[0].json()["when"], scheduler.runs) == ("now", ["acme", "acme"])
    running.run(place.installation(), "acme", NOON)
    again = api("GET", "/acme/deliveries").json()["items"][0]
    assert (again["purpose"], again["status"], again["sha256"]) == ("redelivery", "committed", delivery["sha256"])
    assert_problem(api("POST", f"/acme/deliveries/{'0' * 32}/redeliver"), 404, "not_found")
    assert_problem(api("POST", "/acme/deliveries/1/redeliver"), 422, "validation")


def test_the_catalogue_can_be_read_before_anything_is_registered(api: Api) -> None:
    items = api("GET", "/acme/entities").json()["items"]
    assert [(item["id"], item["active"]) for item in items] == [("user", False), ("theme", False)]
    assert {"name": "name", "type": "string", "description": "Name.", "anonymized": False} in items[0]["columns"]
    assert "relation" not in items[0]
    api("PUT", "/acme/export", USER)
    assert [item["active"] for item in api("GET", "/acme/entities").json()["items"]] == [True, False]


@pytest.mark.parametrize("ledger", ["sqlite", "postgresql"])
def test_fifty_puts_at_once_leave_one_of_the_bodies_in_force(
    tmp_path: Path, issuer: TestIssuer, ledger: str, request: pytest.FixtureRequest
) -> None:
    url = "" if ledger == "sqlite" else request.getfixturevalue("postgres").url.replace("postgresql://", "postgresql+psycopg://", 1)
    place = make_place(tmp_path, ledger_url=url, clock=NOON)
    (tmp_path / "config/tenants/acme.yaml").unlink()
    place.write("policy.yaml", {"api_destinations": "any"})
    bodies = [USER, BOTH, {**USER, "frequency": "weekly"}, {"exportOption": "disable export"}, {**BOTH, "deliverAt": "03:00"}]
    app, ready = tenant_api(place, issuer), threading.Barrier(10)

    def put(number: int) -> int:
        api = Api(TestClient(app, raise_server_exceptions=False), issuer.bearer())
        if number < 10:
            ready.wait()
        return int(api("PUT", "/acme/export", bodies[number % 5]).status_code)

    with ThreadPoolExecutor(10) as pool:
        statuses = list(pool.map(put, range(50)))
    api = Api(TestClient(app), issuer.bearer())
    assert set(statuses) == {200, 201}
    assert statuses.count(201) == 1
    versions = api("GET", "/acme/export/versions").json()["items"]
    assert [version["version"] for version in versions] == list(range(len(versions), 0, -1))
    standing = api("GET", "/acme/export").json()
    assert standing["entities"] == ([] if standing["exportOption"] == "disable export" else standing["entityList"])
    place.close()


@pytest.mark.parametrize("destinations", ["any", "allowed", "policy"])
@pytest.mark.parametrize(
    "damage",
    ["json_set(body, '$.frequency', 'hourly')", "json_set(body, '$.later', 1)", "json_set(body, '$.timezone', 'No/Where')", "'[]'"],
    ids=["another_word", "another_key", "another_zone", "no_object"],
)
def test_a_registration_that_can_no_longer_be_read_can_be_registered_again(place: Place, api: Api, damage: str, destinations: str) -> None:
    api("PUT", "/acme/export", {"entityList": ["theme"], "frequency": "weekly"})
    api("PUT", "/acme/export", {"entityList": ["user"], "frequency": "daily"})
    place.write("policy.yaml", {"api_destinations": destinations})
    with place.installation().ledger.begin() as connection:
        connection.execute(text(f"update registration set body = {damage} where version = 2"))
    words, operator = {"entityList": ["user"], "frequency": "daily"}, damage == "'[]'"
    assert replacing.rehearse(place.installation(), "acme", words, operator=operator).difference.kept == ("user",)
    again = replacing.replace(place.installation(), "acme", words, actor="test", operator=operator)
    assert (again.changed, again.difference.kept) == (True, ("user",))
    with place.installation().ledger.begin() as connection:
        connection.execute(text(f"update registration set body = {damage} where version = 3"))
    back = replacing.restore(place.installation(), "acme", 1, actor="test", operator=operator)
    assert back.standing.active == ("theme",)
    assert api("GET", "/acme/export").json()["frequency"] == "weekly"


def test_a_tenants_own_call_takes_no_id_in_the_data_away_that_nobody_can_read(place: Place, api: Api) -> None:
    api("PUT", "/acme/export", USER)
    for damage, code in (("'[]'", "not_allowed"), ("json_set(json_set(body, '$.sourceTenant', 'x'), '$.later', 1)", "not_allowed")):
        with place.installation().ledger.begin() as connection:
            connection.execute(text(f"update registration set body = {damage}"))
        answer = api("PUT", "/acme/export", USER)
        assert (answer.status_code, [error["code"] for error in answer.json()["errors"]]) == (422, [code])
        with place.installation().ledger.begin() as connection:
            connection.execute(text("update registration set body = json('{}')"))


def test_a_condition_on_a_time_beyond_the_calendar_is_a_problem_of_the_body(api: Api) -> None:
    where = {"user": [{"column": "updated_at", "op": ">=", "value": "9999-12-31T23:59:59-05:00"}]}
    found = assert_problem(api("PUT", "/acme/export", USER | {"where": where}), 422, "validation")
    assert "9999-12-31T23:59:59-05:00" in found["detail"]
