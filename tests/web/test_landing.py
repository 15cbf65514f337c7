"""Where people begin and what their navigation holds: customers their exports, operators every tenant; and addresses that lead nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.exports import make_office
from tests.issuer import RecordingScheduler, TestIssuer
from tests.open_access import OpenDoor
from tests.presets import Shop, opened
from waybill.ledger import registrations
from waybill.web.app import create_app

TITLES = {"studies": "Exports", "realms": "Data Export", "metrics": "Data export", "types": "Data Exports"}


@pytest.fixture(scope="module", params=TITLES)
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, issuer: TestIssuer) -> Iterator[Shop]:
    with opened(request.param, tmp_path_factory.mktemp(request.param), issuer) as shop:
        yield shop


def show(shop: Shop, path: str, accept: str = "text/html", **claims: Any) -> Any:
    person = next(iter(shop.sample.people.values())) | claims
    return shop.client.get(path, headers=shop.issuer.bearer(**person) | {"accept": accept}, follow_redirects=True)


def tabs(page: str) -> list[str]:
    nav = page.partition("<nav aria-label")[2].partition("</nav>")[0]
    return re.findall(r"<a (?!class=\"brand\")[^>]*>([^<]*)</a>", nav)


def test_a_person_with_one_tenant_lands_on_their_exports_without_anything_to_choose(shop: Shop) -> None:
    answer = show(shop, "/page/", tenant=["acme"])
    assert answer.url.path == "/page/tenants/acme/requests"
    assert '<form class="context"' not in answer.text
    assert '<select id="tenant"' not in answer.text


def test_the_tab_is_called_what_the_document_calls_the_page(shop: Shop) -> None:
    assert tabs(show(shop, "/page/", tenant=["acme"]).text) == [TITLES[shop.sample.preset], "Catalogue"]


def test_an_export_makes_nobody_a_customer_of_scheduled_deliveries(shop: Shop) -> None:
    """The ledger keeps a salt for whoever was exported once; that is no registration."""
    before = [tabs(show(shop, "/page/", tenant=tenants).text) for tenants in (["acme"], ["acme", "globex"])]
    shop.done(**shop.sample_ask() | {"range": {"from": "2026-05-01", "to": "2026-05-02"}})
    with shop.ledger.read() as connection:
        assert registrations.salt(connection, "acme")
    assert [tabs(show(shop, "/page/", tenant=tenants).text) for tenants in (["acme"], ["acme", "globex"])] == before


@pytest.mark.parametrize("path", ["/page/", "/page/catalogue", "/page/tenants/acme", "/page/tenants/acme/requests", "/page/nosuch"])
def test_a_plain_exporter_sees_nothing_of_servers_and_of_registering(shop: Shop, path: str) -> None:
    text = show(shop, path, tenant=["acme"]).text
    for word in ("SFTP", "Register…", 'name="kind"', "Airflow connection"):
        assert word not in text, (path, word)


def test_operators_begin_at_every_tenant_and_choose(tmp_path: Path) -> None:
    place = make_office(tmp_path).place
    place.tenant("acme", entityList=["site"])
    place.tenant("globex", entityList=["site"])
    with TestClient(create_app(place.installation, OpenDoor(), RecordingScheduler())) as client:
        answer = client.get("/page/")
        below = client.get("/page/tenants/acme/requests")
        (way,) = re.findall(r'<a href="([^"]*)">Documentation</a>', below.text)
        guide = client.get(str(below.url.join(way)))
        bare = client.get("/guide", follow_redirects=False)
    place.close()
    assert answer.url.path == "/page/"
    assert tabs(answer.text) == ["Overview", "Exports", "Catalogue"]
    assert tabs(below.text) == ["Overview", "acme", "Exports", "Catalogue"]
    assert '<form class="context"' in answer.text
    assert guide.status_code == 200
    assert (bare.status_code, bare.headers["location"]) == (307, "guide/")
    assert "Glossary" in guide.text
    assert "script-src 'self' 'sha256-" in guide.headers["content-security-policy"]


def test_customers_are_not_led_to_the_operators_documentation(shop: Shop) -> None:
    assert "Documentation</a>" not in show(shop, "/page/", tenant=["acme"]).text


@pytest.mark.parametrize("path", ["/nosuch", "/nosuch/deeper", "/settings/nosuch", "/page/nosuch", "/page/tenants/acme/nosuch"])
def test_an_address_that_leads_nowhere_is_a_page_for_people_that_leads_on(shop: Shop, path: str) -> None:
    answer = show(shop, path)
    assert answer.status_code == 404
    assert "<h1>Not found</h1>" in answer.text
    assert answer.headers["content-type"].startswith("text/html")
    style = re.search(r'href="([^"]*static/page.css)', answer.text)
    assert style
    assert shop.client.get(str(answer.url.join(style.group(1)))).status_code == 200
    onward = re.findall(r'<a class="button second" href="([^"]*)"', answer.text)
    assert onward
    for way in onward:
        assert shop.client.get(str(answer.url.join(way)), headers={"accept": "text/html"}, follow_redirects=True).status_code == 200


@pytest.mark.parametrize(
    "form", [{"HX-Request": "true", "HX-Trigger": "export-form", "Sec-Fetch-Site": "same-origin"}, {}], ids=["form", "page"]
)
def test_a_refusal_that_says_what_to_do_says_it_once(shop: Shop, form: dict[str, str]) -> None:
    if shop.sample.preset == "realms":  # everybody may create exports there
        return
    person = next(iter(shop.sample.people.values())) | {"roles": ["viewer"]}
    call = shop.client.post if form else shop.client.get
    answer = call("/page/tenants/acme/requests", headers=shop.issuer.bearer(**person) | {"accept": "text/html"} | form)
    assert answer.text.count("Ask an organization or tenant admin.") == 1
    assert "Ask an administrator for access." not in answer.text


def test_an_address_that_leads_nowhere_is_a_problem_for_programs(shop: Shop) -> None:
    answer = show(shop, "/nosuch", accept="application/json")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


def test_an_expired_link_leads_to_the_exports(shop: Shop) -> None:
    export = shop.done()
    link = shop.link(export)["url"]
    shop.clock += (shop.installation.configuration.export_policy("acme").archive_life) * 2
    answer = shop.client.get(link, headers={"accept": "text/html"})
    assert answer.status_code == 410
    ways = re.findall(r'<a class="button second" href="([^"]*)">([^<]*)', answer.text)
    assert ways[0][1] == "Exports"
    assert answer.url.join(ways[0][0]).path == "/page/requests"


def test_who_may_see_nothing_is_denied_with_a_lock_and_no_way_back_here(shop: Shop) -> None:
    """Nobody's product: it is refused as the exports themselves are, not called a delivery that is missing."""
    if shop.sample.preset != "types":  # the product where seeing is a right of its own
        return
    answer = show(shop, "/page/", **shop.sample.people["nora"])
    assert answer.status_code == 403
    assert '<svg class="lock"' in answer.text
    assert "You don’t have permission to view exports or deliveries." in answer.text
    assert "<h1>Access denied</h1>" in answer.text
    assert 'class="button second" href' not in answer.text
