"""The API's reference and the documentation under a real browser: a reader signs in, presses Try it, and sees the answer of this very
service; the documentation opens, finds and leads on, and nothing comes from elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.browsing import Visitor, chromium, visit, waybill_serve
from tests.e2e.test_page_presets import Counter, counter
from waybill_demo.issuing import AUDIENCE, SECRET, serve_issuer


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counter]:
    with chromium() as browser, counter("studies", tmp_path_factory.mktemp("reference"), browser) as counted:
        yield counted


@pytest.fixture
def reader(here: Counter) -> Iterator[Visitor]:
    with visit(here.browser, here.base) as visitor:
        visitor.page.goto(f"{here.base}/docs")
        yield visitor


def sign_in(page: Page, token: str) -> None:
    page.locator(".auth-wrapper .authorize").first.click()
    dialog = page.locator(".modal-ux")
    dialog.locator("input[type=text], input[type=password]").first.fill(token)
    dialog.get_by_role("button", name="Apply credentials").first.click()
    dialog.locator(".close-modal").click()


def press(page: Page, method: str, path: str, **fields: str) -> tuple[int, Any]:
    """Open an operation, fill in its fields, press Try it, and read status and body of the answer."""
    block = page.locator(f".opblock-{method}", has=page.locator(f'.opblock-summary-path[data-path="{path}"]'))
    block.locator(".opblock-summary-control").click()
    for name, value in fields.items():
        block.locator(f'tr[data-param-name="{name}"] input').fill(value)
    with page.expect_response(lambda call: call.request.method == method.upper() and "/api/v1/" in call.url) as got:
        block.get_by_role("button", name="Execute").click()
    status = got.value.status
    answer = block.locator(".live-responses-table tbody tr").first
    expect(answer.locator(".response-col_status")).to_contain_text(str(status))  # not the answer to the press before
    body = answer.locator("pre.microlight, pre code").first.inner_text()
    block.locator(".opblock-summary-control").click()
    return status, json.loads(body)


def test_try_it_calls_this_service_with_the_readers_token(here: Counter, reader: Visitor) -> None:
    path = "/api/v1/tenants/{tenant}/exports"
    status, body = press(reader.page, "get", path, tenant="acme")
    assert (status, body["code"]) == (401, "unauthenticated")
    sign_in(reader.page, here.issuer.token(**here.sample.people["ada"]))
    status, body = press(reader.page, "get", path, tenant="acme")
    assert (status, body["items"]) == (200, [])
    status, body = press(reader.page, "get", path, tenant="globex")
    assert (status, body["code"]) == (404, "not_found")


def test_every_operation_shows_its_call_in_three_languages(reader: Visitor) -> None:
    page = reader.page
    block = page.locator(".opblock-post", has=page.locator('.opblock-summary-path[data-path="/api/v1/tenants/{tenant}/exports"]'))
    block.locator(".opblock-summary-control").click()
    expect(block.locator(".samples summary")).to_have_text(["curl", "Python", "JavaScript"])


def test_try_it_gets_a_token_by_the_credentials_of_a_client(here: Counter) -> None:
    """The reference asks the house's issuer itself, as the page's content security policy lets it, and calls with what it got."""
    people = {"robot": {"sub": "robot", "tenant": "acme", "scope": "read write", "roles": ["exporter"]}}
    with serve_issuer(people) as issuer:
        settings = {"WAYBILL_OAUTH_AUDIENCE": AUDIENCE, "WAYBILL_OAUTH_TOKEN_URL": f"{issuer.url}/token"}
        with waybill_serve(here.place, issuer, **settings) as base, visit(here.browser, base) as visitor:
            page = visitor.page
            page.goto(f"{base}/docs")
            path = "/api/v1/tenants/{tenant}/exports"
            for secret, told in (("wrong", "invalid_client"), (SECRET, "")):
                page.locator(".auth-wrapper .authorize").first.click()
                dialog = page.locator(".modal-ux")
                flow = dialog.locator(".auth-container", has_text="clientCredentials")
                flow.get_by_label("client_id").fill("robot")
                flow.get_by_label("client_secret").fill(secret)
                flow.get_by_text("select all").click()
                with page.expect_response(f"{issuer.url}/token") as got:
                    flow.get_by_role("button", name="Apply given OAuth2 credentials").click()
                assert got.value.status == (401 if told else 200)
                if told:
                    expect(flow.locator(".errors")).to_contain_text("Unauthorized")
                else:
                    expect(flow.get_by_role("button", name="Remove authorization")).to_be_visible()
                dialog.locator(".close-modal").click()
                status, body = press(page, "get", path, tenant="acme")
                assert status == (401 if told else 200), body
            assert [error for error in visitor.errors if "401" not in error] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_reference_fits_a_phone(here: Counter, scheme: str) -> None:
    with visit(here.browser, here.base, viewport={"width": 390, "height": 850}, color_scheme=scheme) as phone:
        phone.page.goto(f"{here.base}/docs")
        expect(phone.page.locator(".opblock").first).to_be_visible()
        assert phone.overflow <= 0
        assert phone.errors == []


def test_the_documentation_is_read_and_searched_without_anything_from_elsewhere(here: Counter) -> None:
    with visit(here.browser, here.base) as visitor:
        page, asked = visitor.page, []
        page.on("request", lambda call: asked.append(call.url))
        assert page.goto(f"{here.base}/guide/").status == 200  # type: ignore[union-attr]
        page.get_by_role("link", name="Fifteen minutes with your own database").first.click()
        expect(page.locator("h1")).to_contain_text("Fifteen minutes with your own database")
        expect(page).to_have_url(f"{here.base}/guide/tutorial.html")
        page.locator("[data-md-component=search], .md-search__button, button[aria-label=Search]").first.click()
        page.keyboard.type("watermark")
        expect(page.locator("body")).to_contain_text("Glossary")
        page.goto(f"{here.base}/guide/how-to/two-places.html")
        expect(page.locator("code", has_text="copyOf").first).to_be_visible()
        assert f"{here.base}/guide/search.json" in asked
        assert {text for text in asked if not text.startswith(f"{here.base}/")} == set()
        assert visitor.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_documentation_fits_a_phone(here: Counter, scheme: str) -> None:
    with visit(here.browser, here.base, viewport={"width": 390, "height": 850}, color_scheme=scheme) as phone:
        for name in ("index", "tutorial", "reference/catalog", "operating"):
            phone.page.goto(f"{here.base}/guide/{name}.html")
            expect(phone.page.locator("h1").first).to_be_visible()
            assert phone.overflow <= 0, name
        assert phone.errors == []
