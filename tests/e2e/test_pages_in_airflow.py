"""The pages inside a real Airflow, in a real Chromium: its login, its navigation, its sandboxed frame, its theme."""

from __future__ import annotations

import json
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, FrameLocator, Page, expect

from tests.e2e.browsing import chromium, visit
from tests.e2e.conftest import House

pytestmark = pytest.mark.slow

SOON = 120_000
"""Milliseconds for what Airflow does behind the page; a busy machine is slow, not broken."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


def log_in(page: Page, house: House, user: str, place: str) -> FrameLocator:
    """From a deep link over Airflow's own login to the frame with our page."""
    page.set_default_timeout(SOON)
    page.goto(f"{house.url}/{place}")
    page.locator("input[name=username]").fill(user)
    page.locator("input[name=password]").fill(house.passwords[user])
    page.locator("button[type=submit]").click()
    return page.frame_locator("iframe[title=Waybill]")


def test_the_tab_of_a_tenants_dag_shows_the_tenant_and_a_dag_paused_in_airflow_is_not_late(house: House, browser: Browser) -> None:
    with visit(browser, house.url) as ada:
        frame = log_in(ada.page, house, "admin", "dags/export__globex")
        ada.page.get_by_role("link", name="Waybill", exact=True).last.click()
        expect(frame.get_by_role("heading", level=1)).to_contain_text("globex")
        pause(house, "export__globex", True)
        look_until(frame, lambda heading: "paused" in heading)
        expect(frame.locator(".note.warn")).to_contain_text("Its DAG is paused in Airflow. Switch it on there")
        pause(house, "export__globex", False)
        look_until(frame, lambda heading: "paused" not in heading)


def pause(house: House, dag: str, paused: bool) -> None:
    """Airflow on SQLite answers 500 while another of its processes writes for long."""
    deadline = time.monotonic() + SOON / 1000
    answer = house.airflow.client.patch(f"/api/v2/dags/{dag}", json={"is_paused": paused})
    while answer.status_code == 500 and time.monotonic() < deadline:
        answer = house.airflow.client.patch(f"/api/v2/dags/{dag}", json={"is_paused": paused})
    assert answer.is_success, answer.text
    assert answer.json()["is_paused"] is paused


def look_until(frame: FrameLocator, told: Callable[[str], bool]) -> None:
    """Follow the tenant's link until its page says so: a page that was on its way before may still come after."""
    deadline = time.monotonic() + SOON / 1000
    while True:
        frame.get_by_role("link", name="globex").click()
        if told(frame.get_by_role("heading", level=1).inner_text()):
            return
        assert time.monotonic() < deadline, frame.locator("main").inner_text()
        time.sleep(0.5)


def test_an_export_is_asked_for_in_the_frame_followed_and_downloaded(house: House, browser: Browser, tmp_path: Path) -> None:
    with visit(browser, house.url) as ada:
        frame = log_in(ada.page, house, "admin", "plugin/waybill")
        frame.get_by_label("Tenant", exact=True).select_option("acme")
        frame.get_by_role("button", name="Open").click()
        expect(frame.get_by_role("heading", name="acme")).to_be_visible()
        frame.get_by_role("link", name="Exports", exact=True).click()
        frame.get_by_role("button", name="New export").click()
        frame.get_by_role("checkbox", name="measurement").check()
        frame.get_by_role("button", name="Create export").click()
        row = frame.locator("#requests-list tbody tr").first
        expect(row.locator(".state")).to_have_text("Done", timeout=3 * SOON)  # by itself: Airflow fulfils it, the page asks
        with ada.page.expect_download() as waiting:
            row.get_by_role("link", name="Download").click()
        waiting.value.save_as(tmp_path / "archive.zip")
        with zipfile.ZipFile(tmp_path / "archive.zip") as archive:
            manifest = json.loads(archive.read("manifest.json"))
        assert [(file["path"], file["rows"]) for file in manifest["files"]] == [("measurement.csv", 3)]
        row.get_by_role("button", name="Delete…").click()  # the frame is where it was
        frame.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(frame.locator("#requests-list")).to_contain_text("No exports yet.")


def test_a_viewer_of_airflow_reads_why_there_is_nothing_to_press(house: House, browser: Browser) -> None:
    with visit(browser, house.url) as vic:
        frame = log_in(vic.page, house, "vic", "plugin/waybill")
        expect(frame.locator("h1")).to_be_visible()
        frame.get_by_label("Tenant", exact=True).select_option("acme")
        frame.get_by_role("button", name="Open").click()
        expect(frame.get_by_role("heading", name="acme")).to_be_visible()
        expect(frame.get_by_role("button", name="Run what is due")).to_have_count(0)
        frame.get_by_role("link", name="Exports", exact=True).click()
        expect(frame.get_by_role("note")).to_contain_text("You don’t have permission to create exports.")
        expect(frame.get_by_role("button", name="New export")).to_have_count(0)
        vic.page.reload()
        expect(frame.get_by_role("note")).to_be_visible()
        vic.page.go_back()  # page by page, also after a reload
        expect(frame.get_by_role("heading", name="acme")).to_be_visible()
        vic.page.go_back()
        expect(frame.locator("#tenants")).to_be_visible()
        vic.page.go_forward()
        expect(frame.get_by_role("heading", name="acme")).to_be_visible()


def test_back_leads_also_to_a_page_that_was_left_before_all_of_it_was_loaded(house: House, browser: Browser) -> None:
    with visit(browser, house.url) as vic:
        vic.page.route("**/waybill/page/static/page.js*", lambda _: None, times=1)  # no answer: the first page is seen and never loaded
        frame = log_in(vic.page, house, "vic", "plugin/waybill")
        tenants, acme, exports = frame.locator("#tenants"), frame.get_by_role("heading", name="acme"), frame.get_by_role("note")
        frame.get_by_label("Tenant", exact=True).select_option("acme")
        frame.get_by_role("button", name="Open").click()
        expect(acme).to_be_visible()
        frame.get_by_role("link", name="Exports", exact=True).click()
        expect(exports).to_be_visible()
        vic.page.reload()
        expect(exports).to_be_visible()
        for page in (acme, tenants):
            vic.page.go_back()
            expect(page).to_be_visible()
        for page in (acme, exports):
            vic.page.go_forward()
            expect(page).to_be_visible()


def test_airflows_theme_is_ours(house: House, browser: Browser, tmp_path: Path) -> None:
    with visit(browser, house.url, color_scheme="light") as ada:
        frame = log_in(ada.page, house, "admin", "dags/export__acme/plugin/waybill_tenant")
        expect(frame.locator("html")).to_have_attribute("data-theme", "light")
        ada.page.evaluate("localStorage.setItem('theme', 'dark')")
        ada.page.reload()
        expect(frame.locator("html")).to_have_attribute("data-theme", "dark")
        expect(frame.locator("body")).to_have_css("background-color", "rgb(17, 20, 24)")
        assert ada.serious_in(frame) == []


def test_the_navigation_leads_to_the_overview_that_names_who_got_nothing_and_why(house: House, browser: Browser) -> None:
    with visit(browser, house.url) as ada:
        frame = log_in(ada.page, house, "admin", "")
        ada.page.get_by_role("link", name="Waybill", exact=True).click()
        failing = frame.locator("tr.row-failing").first
        deadline = time.monotonic() + 5 * SOON / 1000
        while not failing.is_visible():  # its run has not failed yet
            assert time.monotonic() < deadline, frame.locator("main").inner_text()
            ada.page.wait_for_timeout(1000)
            frame.get_by_role("link", name="Overview").click()
            expect(frame.locator("#tenants")).to_be_visible()
        expect(frame.locator("h1")).to_contain_text("did not get")
        expect(failing).to_contain_text("initech")
        cause = frame.locator("tr.cause").first
        expect(cause).to_contain_text("Cause: site")
        expect(cause).to_contain_text(re.compile("Next step: Check (that )?the server"))  # after five failures it is left alone for a while
        expect(cause).to_contain_text(re.compile("Airflow tries again by itself at|A run is under way"))
        assert ada.serious_in(frame) == []
        cause.get_by_role("link", name="Task log").click()
        ada.page.wait_for_url("**/dags/export__initech/runs/**/tasks/deliver/mapped/0?try_number=*", timeout=SOON)
        expect(ada.page.locator("body")).to_contain_text("tenant initech, destination: sftp initech_sftp")  # the log of that very try
        ada.page.go_back()
        cause.get_by_role("button", name="Run what is due").click()
        expect(frame.get_by_role("heading", level=1)).to_contain_text("initech")
        expect(frame.locator("#said")).to_contain_text(re.compile("is tried again now|A run was asked for"))
        expect(frame.locator("#standing")).to_contain_text("This page updates while a run is under way")
