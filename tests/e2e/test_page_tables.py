"""Tables under a real browser: they sort and filter, keep both through a refresh, break no word, and come before the form on a phone."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.browsing import Visitor, chromium
from tests.e2e.test_page_presets import REQUESTS, ROW, Counter, counter, heads, usable, words

RANGES = [("2026-03-01", "2026-03-31"), ("2026-01-01", "2026-01-31"), ("2026-02-01", "2026-02-28")]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counter]:
    """Ada's three exports of January, February and March, asked for in another order."""
    with chromium() as browser, counter("realms", tmp_path_factory.mktemp("tables"), browser) as counted:
        headers = counted.issuer.bearer(**counted.sample.people["ada"])
        for start, end in RANGES:
            body = {"entities": ["jobs"], "formats": ["csv"], "range": {"from": start, "to": end}}
            asked = httpx.post(f"{counted.base}/api/v1/tenants/acme/exports", json=body, headers=headers)
            assert asked.status_code == 202, asked.text
        yield counted


@pytest.fixture
def ada(here: Counter) -> Iterator[Visitor]:
    with here.visit("ada") as visitor:
        visitor.go(REQUESTS)
        yield visitor


def months(page: Page) -> list[str]:
    at = heads(page).index("Date range") + 1
    return [word[:7] for word in words(page.locator(f"{ROW}:not([hidden]) td:nth-child({at})"))]


def test_a_heading_sorts_its_column_up_and_down_and_a_refresh_keeps_it(ada: Visitor) -> None:
    page = ada.page
    heading = page.get_by_role("columnheader", name="Date range")
    heading.get_by_role("button").click()
    expect(heading).to_have_attribute("aria-sort", "ascending")
    assert months(page) == ["2026-01", "2026-02", "2026-03"]
    heading.get_by_role("button").press("Enter")
    expect(heading).to_have_attribute("aria-sort", "descending")
    assert months(page) == ["2026-03", "2026-02", "2026-01"]
    with page.expect_response(lambda answer: answer.url.endswith("/requests")):
        page.get_by_role("button", name="Refresh").click()
    expect(page.get_by_role("columnheader", name="Date range")).to_have_attribute("aria-sort", "descending")
    assert months(page) == ["2026-03", "2026-02", "2026-01"]
    assert ada.serious() == []
    assert ada.errors == []


def test_a_word_filters_the_rows_and_a_refresh_keeps_it(ada: Visitor) -> None:
    page = ada.page
    field = page.get_by_label("Filter this list")
    field.fill("2026-02")
    assert months(page) == ["2026-02"]
    with page.expect_response(lambda answer: answer.url.endswith("/requests")):
        page.get_by_role("button", name="Refresh").click()
    expect(page.locator(f"{ROW}:not([hidden])")).to_have_count(1)
    field.fill("no such word")
    expect(page.get_by_text("No row on this page matches.")).to_be_visible()
    assert ada.serious() == []
    field.fill("")
    expect(page.locator(f"{ROW}:not([hidden])")).to_have_count(3)


def test_a_column_of_buttons_is_not_sorted(ada: Visitor) -> None:
    expect(ada.page.get_by_role("columnheader", name="Download").get_by_role("button")).to_have_count(0)


def test_no_word_of_a_table_breaks_at_1280_pixels(here: Counter, ada: Visitor) -> None:
    """A word that stands on two lines has two boxes."""
    script = """() => [...document.querySelectorAll("table th, table td")].flatMap((cell) => {
        const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), broken = [];
        for (let node = walker.nextNode(); node; node = walker.nextNode())
            for (const found of node.data.matchAll(/[^\\s]+/g)) {
                const range = document.createRange();
                range.setStart(node, found.index); range.setEnd(node, found.index + found[0].length);
                const lines = new Set([...range.getClientRects()].filter((box) => box.width > 0).map((box) => Math.round(box.top)));
                if (lines.size > 1) broken.push(found[0]);
            }
        return broken; })"""
    assert ada.page.evaluate(script) == []
    usable(ada, here.shots, "tables")


def test_on_a_phone_the_list_comes_before_the_form(ada: Visitor) -> None:
    ada.page.set_viewport_size({"width": 390, "height": 850})
    listed, form = ada.page.locator("#requests-list").bounding_box(), ada.page.locator("#export-form").bounding_box()
    assert listed
    assert form
    assert listed["y"] + listed["height"] <= form["y"]
