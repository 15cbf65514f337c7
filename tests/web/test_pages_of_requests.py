"""The page of exports as HTML, under every preset: what the ledger can hold renders, and each person finds what they can use."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults import FULL
from tests.issuer import TestIssuer
from tests.presets import DAY, NOW, Shop, opened
from waybill.configuration.catalog import FORMATS
from waybill.configuration.policy import LEVELS
from waybill.ledger.database.engine import new_id
from waybill.ledger.on_demand import requests
from waybill.ledger.on_demand.request_records import ExportRequest, Status
from waybill.requests.lifecycle import FAILURES
from waybill.requests.ranges import PRESET_DAYS, previous_period
from waybill.requests.recurring import make_recurring

PRESETS = ("studies", "realms", "metrics", "types")


@pytest.fixture(scope="module", params=PRESETS)
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, issuer: TestIssuer) -> Iterator[Shop]:
    with opened(request.param, tmp_path_factory.mktemp(request.param), issuer) as shop:
        yield shop


def show(shop: Shop, path: str = "tenants/acme/requests", **claims: Any) -> Any:
    person = shop.sample.people[next(iter(shop.sample.people))] | claims
    return shop.client.get(f"/page/{path}", headers=shop.issuer.bearer(**person))


def text(page: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page)))


word = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12)
days = st.dates().map(str)
moments = st.none() | st.integers(-400, 400).map(lambda hours: NOW + timedelta(hours=hours))
named = st.sampled_from([*PRESET_DAYS, "last_year", "all_time", "previous_period", "a_newer_one"])
ranges = st.fixed_dictionaries({}, optional={"preset": named, "from": st.none() | days, "to": st.none() | days})
scopes = st.fixed_dictionaries(
    {"level": st.sampled_from([*LEVELS, "planet"])},
    optional={"project": word, "apps": st.lists(word, max_size=2), "study": word, "participant": word, "organization": word},
)
failures = st.none() | st.sampled_from([*FAILURES, "a_newer_one"])
kept = st.builds(
    dict,
    status=st.sampled_from([*(member.value for member in Status), "archived"]),
    range_asked=ranges,
    scope=scopes,
    entities=st.lists(word | st.sampled_from(["metrics", "dashboards"]), max_size=6),
    formats=st.lists(st.sampled_from([*FORMATS, "avro"]), max_size=3),
    export_type=st.none() | word,
    rows=st.none() | st.integers(0, 10**12),
    bytes=st.none() | st.integers(0, 10**15),
    progress=st.integers(0, 100),
    error_code=failures,
    error_message=st.none() | word,
    error_advice=st.none() | word,
    requester_name=word | st.just(""),
    started_at=moments,
    finished_at=moments,
    expires_at=moments,
    template=st.none() | st.just("0" * 32),
    due_at=moments.map(lambda at: at or NOW),
)


@given(st.lists(kept, min_size=1, max_size=10))
@settings(max_examples=12 if FULL else 5)
def test_every_value_the_ledger_can_hold_is_shown(shop: Shop, rows: list[dict[str, Any]]) -> None:
    with shop.ledger.begin() as connection:
        for row in rows:
            assert requests.create(connection, keep(**row))
    try:
        for who in shop.sample.people.values():
            answer = shop.client.get("/page/tenants/acme/requests", headers=shop.issuer.bearer(**who))
            assert answer.status_code in (200, 403, 404), text(answer.text)[:400]
        answer = shop.client.get("/page/tenants/acme/requests", headers=shop.issuer.bearer(**admin(shop)))
        assert answer.status_code == 200
        assert answer.text.count("<tr>") == len(rows) + 1
    finally:
        with shop.ledger.begin() as connection:
            for item in requests.listed(connection, ["acme"], NOW, limit=1000):
                requests.remove(connection, item)


def admin(shop: Shop) -> dict[str, Any]:
    first = shop.sample.people[next(iter(shop.sample.people))]
    every = {role for roles in (item["roles"] for item in shop.sample.people.values()) for role in roles}
    return first | {"roles": sorted({"admin", "operator", *every})}


def keep(**values: Any) -> ExportRequest:
    """A row as some version of Waybill left it."""
    empty = ExportRequest(
        id=new_id(), tenant="acme", tenants=["acme"], export_type=None, scope={"level": "tenant"}, project=None, entities=[],
        range_from=None, range_to=None, range_asked={}, formats=[], submission={}, status="done", progress=0, requested_by="house:ada",
        requester_name="Ada", email="", roles=None, created_at=NOW, due_at=NOW, attempt=1, worker="", resubmitted_from=None,
        template=None, idempotency_key=None, body_hash="0" * 64, mail_tries=0,
    )  # fmt: skip
    return replace(empty, **values)


def test_a_recurring_export_that_has_run_is_on_the_page(shop: Shop) -> None:
    """The page answered 500 to everybody from then on."""
    asked = {key: value for key, value in shop.sample_ask().items() if key != "range"}
    body = {"name": "Monthly", "frequency": "monthly", "request": asked}
    made = shop("POST", "../tenants/acme/export-templates", body)
    assert made.status_code == 201, made.json()
    before = shop.clock
    shop.clock = NOW + 31 * DAY
    try:
        assert len(make_recurring(shop.installation)) == 1
        shop.fulfil()
        period = previous_period("monthly", shop.clock.replace(day=1, hour=0), shop.zone)
        answer = show(shop)
        assert answer.status_code == 200
        assert period["from"] in answer.text or "range" not in shop.installation.configuration.export_policy("acme").page.columns
        assert shop.get(shop("GET").json()["items"][0])["status"] == "done"
    finally:
        shop.clock = before
        assert shop("DELETE", f"../tenants/acme/export-templates/{made.json()['id']}").status_code == 204


def test_cancel_stands_beside_delete_where_the_product_knows_it(shop: Shop) -> None:
    export = shop.ask()
    page = show(shop).text
    try:
        assert (f'id="cancel-{export["id"]}"' in page) == (shop.sample.preset in ("studies", "types"))  # metrics: by support
        assert (f'id="delete-{export["id"]}"' in page) == (shop.sample.preset != "metrics")
    finally:
        shop.fulfil()


def test_dates_name_their_zone_in_the_form(shop: Shop) -> None:
    assert f"Days begin at midnight in {shop.zone.key}." in text(show(shop).text)


def press(shop: Shop, path: str, **fields: str) -> Any:
    """A button of the page, as htmx sends it."""
    person = shop.sample.people[next(iter(shop.sample.people))]
    htmx = {"HX-Request": "true", "Sec-Fetch-Site": "same-origin"}
    return shop.client.post(f"/page/tenants/acme/{path}", headers=shop.issuer.bearer(**person) | htmx, data=fields)


def test_what_another_tab_has_removed_is_gone_from_the_list_without_an_error(shop: Shop) -> None:
    export = shop.done(**shop.sample_ask() | {"range": {"from": "2026-03-01", "to": "2026-03-02"}})
    assert shop("DELETE", f"/{export['id']}").status_code == 204
    answer = press(shop, "delete-request", request=export["id"])
    assert (answer.status_code, 'id="requests-list"' in answer.text, export["id"] in answer.text) == (200, True, False)
    body = {"name": "backup", "frequency": "weekly", "request": shop.sample_ask() | {"range": {}}}
    template = shop("POST", "../tenants/acme/export-templates", body).json()["id"]
    assert shop("DELETE", f"../tenants/acme/export-templates/{template}").status_code == 204
    for path in (f"recurring/{template}/pause", f"recurring/{template}/resume", "delete-recurring"):
        answer = press(shop, path, request=template)
        assert (answer.status_code, 'id="recurring"' in answer.text, template in answer.text) == (200, True, False), path


def test_a_button_that_came_too_late_says_so(shop: Shop) -> None:
    export = shop.done(**shop.sample_ask() | {"range": {"from": "2026-03-01", "to": "2026-03-03"}})
    answer = press(shop, f"requests/{export['id']}/cancel")
    assert answer.status_code in (403, 409)
    assert answer.headers["HX-Retarget"] == "#problem"


def test_a_page_says_what_it_needs_scripts_for(shop: Shop) -> None:
    shown = show(shop).text
    assert "Enable JavaScript and reload the page. Downloads work without it." in text(
        shown.partition("<noscript>")[2].partition("</noscript>")[0]
    )


def test_a_recurring_export_covers_everything_only_where_an_export_may(shop: Shop) -> None:
    required = shop.installation.configuration.export_policy("acme").range.required
    assert ('<option value="everything"' in show(shop).text) is not required
    body = {"name": "all", "frequency": "weekly", "covers": "everything", "request": shop.sample_ask() | {"range": {}}}
    answer = shop("POST", "../tenants/acme/export-templates", body)
    assert answer.status_code == (422 if required else 201)


def test_a_mail_is_promised_only_to_whom_one_is_sent(shop: Shop) -> None:
    told = "We send you an email when"
    mails = "ready" in shop.installation.configuration.export_policy("acme").notify.requests
    assert (told in show(shop).text) is mails
    assert told not in show(shop, email="").text


def test_a_recurring_export_says_what_it_is_limited_to_and_which_range_it_has(shop: Shop) -> None:
    options = shop("GET", "/options").json()
    scope = (
        {"level": "project", "project": "p1"} if "project" in options["scopes"] and shop.sample.preset == "metrics" else {"level": "tenant"}
    )
    presets = options["range"]["presets"]
    asked: dict[str, Any] = {"preset": "last_30_days"} if presets else {"from": "2026-02-01", "to": "2026-02-02"}
    body = {"name": "limited", "frequency": "monthly", "request": shop.sample_ask() | {"range": asked, "scope": scope}}
    assert shop("POST", "../tenants/acme/export-templates", body).status_code == 201
    row = text(show(shop).text.partition(">limited<")[2].partition("</tr>")[0])
    assert ("Last 30 days" if presets else "2026-02-01 to 2026-02-02 (UTC)") in row
    assert ("One project, project p1" in row) is (scope["level"] == "project")


def test_the_form_offers_the_entities_of_a_type_that_the_api_takes(tmp_path: Path, issuer: TestIssuer) -> None:
    with opened("types", tmp_path, issuer) as shop:
        names = [entity.display_name for entity in shop.installation.catalog.offered_to("acme").entities.values()][:2]
        shop.policy(export_types={"loud": {"entities": [name.upper() for name in names], "formats": ["csv"]}})
        found = re.findall(r'data-entities="([^"]*)"', show(shop, "tenants/acme/requests?new=1").text)
        assert [len(entities.split()) for entities in found] == [2]
