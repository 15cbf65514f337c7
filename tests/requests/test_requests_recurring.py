"""Recurring exports: one request at each boundary, over the API, with a history of their own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text, update

from tests.exports import Office, make_office, person
from tests.issuer import Api, TestIssuer, tenant_api
from waybill.errors import WaybillError
from waybill.ledger.on_demand.request_tables import export_template
from waybill.registrations import applying
from waybill.requests import recurring
from waybill.requests.fulfilment import running
from waybill.requests.ranges import previous_period
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


def ranges(api: Api, template: str) -> list[tuple[str, str]]:
    """What the requests of a template cover, oldest first."""
    return [(version["range"]["from"], version["range"]["to"]) for version in reversed(history(api, template))]


def make_all(office: Office) -> None:
    """What a worker does that was away and is back: make and fulfil until nothing is owed."""
    while make_recurring(office.installation()):
        running.fulfil_all(office.installation())


def test_an_outage_over_several_boundaries_loses_no_period(office: Office, api: Api) -> None:
    template = api("POST", "/acme/export-templates", WEEKLY).json()["id"]
    office.later(timedelta(days=22))  # no worker for three Mondays
    make_all(office)
    weeks = [("2026-06-01", "2026-06-07"), ("2026-06-08", "2026-06-14"), ("2026-06-15", "2026-06-21")]
    assert ranges(api, template) == weeks
    assert api("GET", f"/acme/export-templates/{template}").json()["nextAt"] == "2026-06-29T00:00:00.000000Z"


@pytest.mark.parametrize("body", [{"covers": "everything"}, {"request": WEEKLY["request"] | {"range": {"from": "2026-05-01"}}}])
def test_after_an_outage_the_same_range_is_asked_for_once(office: Office, api: Api, body: dict[str, Any]) -> None:
    template = api("POST", "/acme/export-templates", WEEKLY | body).json()["id"]
    office.later(timedelta(days=22))
    make_all(office)
    assert len(history(api, template)) == 1


def test_an_export_that_runs_past_the_next_boundary_loses_no_period(office: Office, api: Api) -> None:
    template = api("POST", "/acme/export-templates", WEEKLY).json()["id"]
    office.later(timedelta(days=12))
    office.ask()
    assert make_recurring(office.installation()) == []
    running.fulfil_all(office.installation())
    make_all(office)
    assert ranges(api, template) == [("2026-06-01", "2026-06-07"), ("2026-06-08", "2026-06-14")]


def test_a_configuration_with_a_mistake_at_the_boundary_loses_no_period(office: Office, api: Api) -> None:
    template = api("POST", "/acme/export-templates", WEEKLY).json()["id"]
    catalog = office.place.root / "config/catalog.yaml"
    right = catalog.read_text()
    catalog.write_text("entities: 1\n")
    office.later(timedelta(days=7))
    assert make_recurring(office.installation()) == []
    catalog.write_text(right)
    make_all(office)
    assert ranges(api, template) == [("2026-06-01", "2026-06-07")]
    assert api("GET", f"/acme/export-templates/{template}").json()["note"] is None


@pytest.mark.parametrize("frequency", ["weekly", "monthly"])
@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Asia/Tokyo", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_a_tenant_that_moves_to_another_zone_gets_every_period_once(office: Office, api: Api, frequency: str, zone: str) -> None:
    template = api("POST", "/acme/export-templates", WEEKLY | {"frequency": frequency}).json()["id"]
    office.place.tenant(entityList=["measurement"], timezone=zone, destination={"kind": "folder", "root": "out"})
    applying.apply(office.installation(), actor="test")
    for _ in range(70):
        office.later(timedelta(days=1, hours=1))
        make_all(office)
    periods = ranges(api, template)
    days = [(date.fromisoformat(first), date.fromisoformat(last)) for first, last in periods]
    assert days[0][0] == date(2026, 6, 1)
    assert all(first - last == timedelta(days=1) for (_, last), (first, _) in pairwise(days))
    assert len(days) == (10 if frequency == "weekly" else 2)


@pytest.mark.parametrize("frequency", ["weekly", "monthly"])
@pytest.mark.parametrize(
    "zone",
    ["UTC", "Europe/Berlin", "America/Santiago", "Africa/Cairo", "Asia/Beirut", "America/Havana", "Pacific/Apia", "America/St_Johns"],
)
def test_periods_follow_one_another_over_every_change_of_the_clock(zone: str, frequency: str) -> None:
    """Pacific/Apia left out 30 December 2011, St. John's changed the clock one minute after midnight until then, Cairo at midnight."""
    there, at, last = ZoneInfo(zone), datetime(2009, 12, 31, 12, tzinfo=UTC), None
    while at < datetime(2016, 1, 1, tzinfo=UTC):
        at = recurring.next_boundary(frequency, at, there)
        period = previous_period(frequency, at, there)
        first = date.fromisoformat(period["from"])
        assert last is None or first - last == timedelta(days=1)
        last = date.fromisoformat(period["to"])


def test_a_paused_template_asks_for_nothing_and_goes_on_with_the_next_boundary(office: Office, api: Api) -> None:
    template = api("POST", "/acme/export-templates", {**WEEKLY, "frequency": "monthly", "covers": "everything"}).json()["id"]
    assert api("POST", f"/acme/export-templates/{template}/pause").json()["paused"]
    office.later(timedelta(days=40))
    assert make_recurring(office.installation()) == []
    assert api("POST", f"/acme/export-templates/{template}/resume").json()["nextAt"] == "2026-08-01T00:00:00.000000Z"
    office.later(timedelta(days=20))
    (export,) = make_recurring(office.installation())
    assert (export.range_from, export.range_to) == (None, None)


def test_a_template_that_could_not_be_carried_out_is_refused_at_once(api: Api) -> None:
    bad = {**WEEKLY, "request": {"entities": ["nothing"], "formats": ["ndjson"]}}
    answer = api("POST", "/acme/export-templates", bad)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "unknown_entity")
    for name in ("W\0", "two\nlines", "\u202egnp.exe", "a\u2066b"):
        answer = api("POST", "/acme/export-templates", WEEKLY | {"name": name})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "name")
        assert "control character" in answer.json()["detail"]


def test_deleting_a_template_leaves_its_requests(office: Office, api: Api) -> None:
    template = api("POST", "/acme/export-templates", WEEKLY).json()["id"]
    office.later(timedelta(days=7))
    (export,) = make_recurring(office.installation())
    assert api("DELETE", f"/acme/export-templates/{template}").status_code == 204
    assert api("GET", f"/acme/export-templates/{template}").status_code == 404
    assert api("GET", f"/acme/exports/{export.id}").status_code == 200


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
    template = create_template(office.installation(), person("ada", "acme", "globex"), "acme", body)
    office.later(timedelta(days=7))
    assert len(make_recurring(office.installation())) == 1
    installation, half = office.installation(), person("bob", "acme", roles=("admin",))
    assert recurring.history(installation, half, "acme", template.id) == []
    with pytest.raises(WaybillError) as caught:
        delete_template(installation, half, "acme", template.id)
    assert caught.value.code == "delete_denied"
    whole = person("eve", "acme", "globex", roles=("admin",))
    assert len(recurring.history(installation, whole, "acme", template.id)) == 1
    delete_template(installation, whole, "acme", template.id)


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


@pytest.mark.parametrize(
    "organizations", [{}, {"group": ["globex", "initech"]}, {"other": ["globex", "initech"]}], ids=["none", "left", "another"]
)
@pytest.mark.parametrize("named", [{}, {"organization": "group"}], ids=["its_own", "named"])
def test_a_tenant_that_left_its_organization_keeps_nobody_else_waiting(
    office: Office, organizations: dict[str, list[str]], named: dict[str, str]
) -> None:
    office.policy(organizations={"group": ["acme", "globex"]}, visibility="tenant")
    body = TemplateBody.model_validate(WEEKLY | {"request": WEEKLY["request"] | {"scope": {"level": "organization"} | named}})
    left = create_template(office.installation(), person("ada", "acme", "globex"), "acme", body)
    other = create_template(office.installation(), person("eve", "globex"), "globex", TemplateBody.model_validate(WEEKLY))
    office.policy(organizations=organizations, visibility="tenant")
    office.later(timedelta(days=7))
    assert [request.template for request in make_recurring(office.installation())] == [other.id]
    assert [request.status for request in running.fulfil_all(office.installation())] == ["done"]
    note = recurring.get_template(office.installation(), person(), "acme", left.id).note
    assert note == "scope.organization: the tenant belongs to no such organization"


@pytest.mark.parametrize("asked", [{"covers": "everything"}, {"request": WEEKLY["request"] | {"range": {"from": "2026-05-01"}}}])
def test_each_boundary_gives_an_export_where_equal_requests_are_refused(office: Office, asked: dict[str, Any]) -> None:
    office.policy(refuse_duplicates=True, archive_life="30d")
    create_template(office.installation(), person(), "acme", TemplateBody.model_validate(WEEKLY | asked))
    for _ in range(3):
        office.later(timedelta(days=7))
        assert len(make_recurring(office.installation())) == 1
        assert make_recurring(office.installation()) == []
        assert [request.status for request in running.fulfil_all(office.installation())] == ["done"]


def _stored(office: Office, template: str, request: Any) -> None:
    """Write what a template asks for as an older version of Waybill, or a hand, may have left it."""
    with office.installation().ledger.begin() as connection:
        same = export_template.c.id == template
        asked = connection.execute(select(export_template.c.submission).where(same)).scalar_one() | {"request": request}
        connection.execute(update(export_template).where(same).values(submission=asked))


def test_a_template_with_words_that_are_no_longer_accepted_says_so_and_keeps_nobody_waiting(office: Office, api: Api) -> None:
    old = api("POST", "/acme/export-templates", WEEKLY).json()["id"]
    _stored(office, old, WEEKLY["request"] | {"scope": {"level": "project", "project": "a\u202eb"}})
    other = create_template(office.installation(), person("eve", "globex"), "globex", TemplateBody.model_validate(WEEKLY))
    office.later(timedelta(days=7))
    assert [request.template for request in make_recurring(office.installation())] == [other.id]
    shown = api("GET", f"/acme/export-templates/{old}")
    assert (shown.status_code, shown.json()["nextAt"]) == (200, "2026-06-15T00:00:00.000000Z")
    assert "scope.project" in shown.json()["note"]
    assert "control character" in shown.json()["note"]


@pytest.mark.parametrize("damaged", [None, "nothing", []])
def test_a_damaged_template_hides_no_other(office: Office, api: Api, damaged: Any) -> None:
    _stored(office, api("POST", "/acme/export-templates", WEEKLY).json()["id"], damaged)
    whole = api("POST", "/acme/export-templates", WEEKLY).json()["id"]
    assert [template["id"] for template in api("GET", "/acme/export-templates").json()["items"]] == [whole]
    office.later(timedelta(days=7))
    assert [request.template for request in make_recurring(office.installation())] == [whole]


def test_a_tenant_whose_registration_cannot_be_read_keeps_nobody_waiting_and_loses_no_period(office: Office, api: Api) -> None:
    applying.apply(office.installation(), actor="test")
    mine = api("POST", "/acme/export-templates", WEEKLY).json()["id"]
    other = create_template(office.installation(), person("eve", "globex"), "globex", TemplateBody.model_validate(WEEKLY))
    with office.installation().ledger.begin() as connection:
        connection.execute(text("update registration set body = json_set(body, '$.frequency', 'hourly') where tenant = 'acme'"))
    office.later(timedelta(days=7))
    assert [request.template for request in make_recurring(office.installation())] == [other.id]
    office.place.tenant(entityList=["measurement"], deliverAt="03:00")
    applying.apply(office.installation(), actor="test")
    make_all(office)
    assert ranges(api, mine) == [("2026-06-01", "2026-06-07")]
