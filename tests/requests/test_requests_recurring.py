"""Recurring exports: one request at each boundary, over the API, with a history of their own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.exports import Office, make_office, person
from tests.issuer import Api, TestIssuer, tenant_api
from waybill.errors import WaybillError
from waybill.requests import recurring
from waybill.requests.fulfilment import running
from waybill.requests.recurring import TemplateBody, create_template, delete_template, make_recurring

WEEKLY: dict[str, Any] = {"name": "backup", "frequency": "weekly", "request": {"entities": ["measurement"], "formats": ["ndjson"]}}


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = make_office(tmp_path)
    office.place.clock = datetime(2026, 6, 3, 12, tzinfo=UTC)  # a Wednesday
    yield office
    office.place.close()


@pytest.fixture
def api(office: Office, issuer: TestIssuer) -> Api:
    return Api(TestClient(tenant_api(office.place, issuer), raise_server_exceptions=False), issuer.bearer())


def history(api: Api, template: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = api("GET", f"/acme/export-templates/{template}/exports").json()["items"]
    return items


def test_a_weekly_template_asks_for_the_week_that_ended_each_monday_once(office: Office, api: Api) -> None:
    made = api("POST", "/acme/export-templates", WEEKLY)
    assert (made.status_code, made.json()["nextAt"]) == (201, "2026-06-08T00:00:00.000000Z")
    template = made.json()["id"]
    assert make_recurring(office.installation()) == []
    for expected in ({"from": "2026-06-01", "to": "2026-06-07"}, {"from": "2026-06-08", "to": "2026-06-14"}):
        office.later(timedelta(days=7))
        make_recurring(office.installation())
        make_recurring(office.installation())
        running.fulfil_all(office.installation())
        newest = history(api, template)[0]
        assert {key: newest["range"][key] for key in ("from", "to")} == expected
    assert len(history(api, template)) == 2


def test_a_slot_that_is_taken_delays_the_request_and_loses_none(office: Office, api: Api) -> None:
    template = api("POST", "/acme/export-templates", WEEKLY).json()["id"]
    office.later(timedelta(days=7))
    office.ask()
    assert make_recurring(office.installation()) == []
    running.fulfil_all(office.installation())
    assert len(make_recurring(office.installation())) == 1
    assert len(history(api, template)) == 1


def test_a_paused_template_asks_for_nothing_and_goes_on_with_the_next_boundary(office: Office, api: Api) -> None:
    template = api("POST", "/acme/export-templates", {**WEEKLY, "frequency": "monthly", "covers": "everything"}).json()["id"]
    assert api("POST", f"/acme/export-templates/{template}/pause").json()["paused"]
    office.later(timedelta(days=40))
    assert make_recurring(office.installation()) == []
    assert api("POST", f"/acme/export-templates/{template}/resume").json()["nextAt"] == "2026-08-01T00:00:00.000000Z"
    office.later(timedelta(days=20))
    (one,) = make_recurring(office.installation())
    assert (one.range_from, one.range_to) == (None, None)


def test_a_template_that_could_not_be_carried_out_is_refused_at_once(api: Api) -> None:
    bad = {**WEEKLY, "request": {"entities": ["nothing"], "formats": ["ndjson"]}}
    answer = api("POST", "/acme/export-templates", bad)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "unknown_entity")
    for text in ("W\0", "two\nlines", "\u202egnp.exe", "a\u2066b"):
        answer = api("POST", "/acme/export-templates", WEEKLY | {"name": text})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "name")
        assert "control character" in answer.json()["detail"]


def test_deleting_a_template_leaves_its_requests(office: Office, api: Api) -> None:
    template = api("POST", "/acme/export-templates", WEEKLY).json()["id"]
    office.later(timedelta(days=7))
    (one,) = make_recurring(office.installation())
    assert api("DELETE", f"/acme/export-templates/{template}").status_code == 204
    assert api("GET", f"/acme/export-templates/{template}").status_code == 404
    assert api("GET", f"/acme/exports/{one.id}").status_code == 200


def test_another_tenants_templates_are_not_there(office: Office, api: Api, issuer: TestIssuer) -> None:
    template = api("POST", "/acme/export-templates", WEEKLY).json()["id"]
    stranger = Api(api.client, issuer.bearer(tenant="globex"))
    for method, path in [("GET", ""), ("DELETE", ""), ("POST", "/pause"), ("GET", "/exports")]:
        for tenant in ("acme", "globex"):
            assert stranger(method, f"/{tenant}/export-templates/{template}{path}").status_code == 404


def test_what_is_refused_about_a_template_speaks_of_a_recurring_export(api: Api, issuer: TestIssuer) -> None:
    template = api("POST", "/acme/export-templates", WEEKLY).json()["id"]
    colleague = Api(api.client, issuer.bearer(sub="bob"))
    for method, path in [("POST", "/pause"), ("POST", "/resume"), ("DELETE", "")]:
        answer = colleague(method, f"/acme/export-templates/{template}{path}")
        words = "You don’t have permission to change this recurring export."
        assert (answer.status_code, answer.json()["code"], answer.json()["detail"]) == (403, "delete_denied", words)


def test_an_organizations_template_is_ended_by_who_administers_every_tenant_in_it(office: Office) -> None:
    office.policy(organizations={"group": ["acme", "globex"]}, visibility="tenant")
    body = TemplateBody.model_validate(WEEKLY | {"request": WEEKLY["request"] | {"scope": {"level": "organization"}}})
    one = create_template(office.installation(), person("ada", "acme", "globex"), "acme", body)
    office.later(timedelta(days=7))
    assert len(make_recurring(office.installation())) == 1
    installation, half = office.installation(), person("bob", "acme", roles=("admin",))
    assert recurring.history(installation, half, "acme", one.id) == []
    with pytest.raises(WaybillError) as caught:
        delete_template(installation, half, "acme", one.id)
    assert caught.value.code == "delete_denied"
    whole = person("eve", "acme", "globex", roles=("admin",))
    assert len(recurring.history(installation, whole, "acme", one.id)) == 1
    delete_template(installation, whole, "acme", one.id)


@pytest.mark.parametrize("asked", [{}, {"range": "last_7_days"}])
def test_asking_again_for_what_a_template_made_keeps_its_dates(office: Office, api: Api, asked: dict[str, Any]) -> None:
    office.policy(range={"presets": ["last_7_days"]})
    template = api("POST", "/acme/export-templates", WEEKLY | {"request": WEEKLY["request"] | asked}).json()["id"]
    office.later(timedelta(days=7))
    make_recurring(office.installation())
    first = history(api, template)[0]
    assert first["range"]["from"]
    assert api("POST", f"/acme/exports/{first['id']}/cancel").status_code == 200
    office.later(timedelta(days=3))
    again = api("POST", f"/acme/exports/{first['id']}/resubmit")
    assert (again.status_code, again.json()["range"]) == (202, first["range"])
    if not asked:
        api("POST", f"/acme/exports/{again.json()['id']}/cancel")
        third = api("POST", f"/acme/exports/{again.json()['id']}/resubmit")
        assert (third.status_code, third.json()["range"]) == (202, first["range"])
