"""The pages as people meet them: `waybill serve` in a real Chromium."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Route, expect

from tests.conftest import REPOSITORY
from tests.e2e.browsing import Visitor, chromium, visit, waybill_serve
from tests.exports import Office, make_office
from tests.issuer import TestIssuer, serve_issuer
from waybill.requests.fulfilment import running
from waybill.requests.lifecycle import SENTENCES

TENANTS = ["acme", "globex", "initech", "hooli", "umbrella", "newco"]
PRESETS = {"globex": "realms", "initech": "types", "umbrella": "studies"}


@dataclass
class Site:
    office: Office
    base: str
    issuer: TestIssuer
    browser: Browser
    shots: Path

    def token(self, *tenants: str, **claims: object) -> str:
        return self.issuer.token(list(tenants or TENANTS), **({"roles": ["exporter", "admin"], "name": "Ada"} | claims))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """acme has its data, initech fails, hooli is paused; globex, initech and umbrella ask for exports by another preset each."""
    root = tmp_path_factory.mktemp("pages")
    office = make_office(root)
    place = office.place
    shutil.copytree(REPOSITORY / "config/presets", root / "config/presets")
    office.policy(tenants={tenant: {"preset": preset} for tenant, preset in PRESETS.items()}, organizations={"house": ["acme", "globex"]})
    place.tenant("acme", entityList=["measurement", "site"], timezone="Europe/Berlin")
    place.tenant("initech", entityList=["measurement"], destination={"kind": "sftp", "connection": "initech_sftp"})
    place.tenant("hooli", exportOption="disable export")
    place.tenant("umbrella", entityList=["site"])
    now = datetime.now(UTC)
    for number in range(20):
        office.measure(number, now - timedelta(days=2))
    place.clock = None
    for tenant in ("acme", "globex", "initech", "umbrella"):
        place.run(now, tenant)
    with serve_issuer() as issuer, waybill_serve(place, issuer) as base, chromium() as browser:
        yield Site(office, base, issuer, browser, tmp_path_factory.mktemp("shots"))
    place.close()


@pytest.fixture
def ada(site: Site) -> Iterator[Visitor]:
    with visit(site.browser, site.base, site.token()) as visitor:
        yield visitor


def test_signing_in_with_a_token_leads_to_the_page_asked_for_and_signing_out_ends_it(site: Site) -> None:
    with visit(site.browser, site.base) as nobody:
        nobody.go("tenants/acme")
        expect(nobody.page.get_by_role("heading", name="Sign in")).to_be_visible()
        nobody.page.get_by_label("Access token").fill("not-a-token")
        nobody.page.get_by_role("button", name="Sign in").click()
        expect(nobody.page.locator(".note.bad")).to_have_text("The token is not valid.")
        nobody.page.get_by_label("Access token").fill(site.token())
        nobody.page.get_by_role("button", name="Sign in").click()
        expect(nobody.page.get_by_role("heading", name="acme")).to_be_visible()
        cookies = nobody.context.cookies()
        assert {cookie["path"] for cookie in cookies} == {"/page", "/settings/exports"}  # other applications of the host see none
        assert all(cookie["httpOnly"] and cookie["sameSite"] == "Strict" for cookie in cookies)
        nobody.page.get_by_role("button", name="Sign out").click()
        expect(nobody.page.get_by_role("heading", name="Sign in")).to_be_visible()
        assert nobody.context.cookies() == []


def test_the_overview_says_who_did_not_get_its_data_why_and_what_to_do(site: Site, ada: Visitor) -> None:
    assert ada.go("") == 200
    page = ada.page
    expect(page.locator("h1")).to_have_text("1 of 5 tenants did not get its data")
    first = page.locator("#tenants tbody tr").first
    expect(first).to_contain_text("initech")
    expect(first.locator(".state")).to_have_text("failing")
    cause = page.locator("tr.cause").first
    expect(cause).to_contain_text("The operator's log holds the cause.")
    expect(cause).to_contain_text("Create the Airflow connection the registration names")
    acme = page.get_by_role("row").filter(has_text="acme")
    expect(acme.locator(".state")).to_have_text("delivered")
    expect(acme.locator("time").nth(1)).to_contain_text("CE")  # in the tenant's zone
    assert "UTC" in (acme.locator("time").nth(1).get_attribute("title") or "")
    page.get_by_label("Search tenants").fill("hoo")
    expect(page.locator("#tenants tbody tr")).to_have_count(1)
    expect(page.locator("#tenants .state")).to_have_text("paused")
    ada.go("?state=failing")
    expect(page.locator("#tenants .state")).to_have_text("failing")
    assert ada.errors == []


def test_search_filter_and_organization_stand_in_the_address_and_back_leads_through_them(ada: Visitor) -> None:
    page = ada.page
    tenants = page.locator("#tenants tbody th")
    ada.go("")
    expect(tenants).to_have_count(5)
    page.get_by_role("navigation", name="Filter by state").get_by_role("link", name="delivered").click()
    expect(tenants).to_have_count(3)
    page.get_by_label("Search tenants").fill("glo")
    expect(tenants).to_have_count(1)
    assert page.url.endswith("state=delivered&organization=")
    page.get_by_role("link", name="globex").click()
    expect(page.get_by_role("heading", name="globex")).to_be_visible()
    page.go_back()
    expect(tenants).to_have_text(["globex\ndaily, 1 entity"], use_inner_text=True)
    expect(page.get_by_label("Search tenants")).to_have_value("glo")
    page.go_back()
    expect(tenants).to_have_count(3)
    page.go_back()
    expect(tenants).to_have_count(5)
    page.get_by_label("Organization").select_option("house")
    page.get_by_role("button", name="Open").click()
    expect(tenants).to_have_count(2)
    expect(page.locator("h1")).to_have_text("Every tenant got its data")
    page.get_by_label("Tenant", exact=True).select_option("acme")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("heading", name="acme")).to_be_visible()
    page.go_back()
    expect(tenants).to_have_count(2)


def test_a_word_that_is_typed_before_the_scripts_are_there_is_searched_for(ada: Visitor) -> None:
    page, held = ada.page, list[Route]()

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/htmx.min.js*", hold)
    with page.expect_request("**/htmx.min.js*"):
        page.goto(f"{ada.base}/page/", wait_until="commit")
    page.get_by_label("Search tenants").fill("glo")
    held[0].continue_()
    expect(page.locator("#tenants tbody th")).to_have_count(1)


def test_a_tenant_is_registered_by_form_after_its_diff_was_seen_changed_and_undone(ada: Visitor) -> None:
    page = ada.page
    ada.go("")
    page.get_by_text("Register another tenant").click()
    page.get_by_label("Tenant id").fill("newco")
    page.get_by_role("button", name="Register…").click()
    page.get_by_role("checkbox", name="site").check()
    page.get_by_label("Time zone").fill("Europe/Berln")
    page.get_by_role("button", name="Show what would change").click()
    expect(page.get_by_label("Time zone")).to_have_accessible_description(re.compile("did you mean Europe/Berlin"))
    expect(page.get_by_label("Time zone")).to_be_focused()
    page.get_by_label("Time zone").fill("Europe/Berlin")
    page.get_by_role("button", name="Show what would change").click()
    expect(page.locator("#registration-diff")).to_contain_text("Switched on, each with a full load first: site")
    expect(page.get_by_role("button", name="Register", exact=True)).to_be_in_viewport()
    expect(page.locator("#registration-form-problem")).to_be_empty()  # the mistake is mended, and so is what was said about it
    page.get_by_label("Frequency").select_option("monthly")
    expect(page.get_by_role("button", name="Register", exact=True)).to_have_count(0)  # what was shown is no longer what is asked for
    page.get_by_label("Frequency").select_option("daily")
    page.get_by_role("button", name="Show what would change").click()
    page.get_by_role("button", name="Register", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("The tenant is registered.")
    page.get_by_text("Edit the registration").click()
    page.get_by_role("checkbox", name="site").uncheck()
    page.get_by_role("checkbox", name="measurement").check()
    page.get_by_label("Frequency").select_option("weekly")
    page.get_by_role("button", name="Show what would change").click()
    expect(page.locator("#registration-diff")).to_contain_text("Switched off: no longer delivered: site")
    expect(page.locator("#registration-diff").get_by_role("row", name="Frequency daily weekly")).to_be_visible()
    page.get_by_role("button", name="Replace the registration").click()
    expect(page.locator("#now-streams")).to_contain_text("measurement")
    page.get_by_role("button", name="Go back to this…").click()
    page.get_by_role("button", name="Go back", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("The earlier version is in force again")
    expect(page.locator("#now-streams")).to_contain_text("site")
    assert [error for error in ada.errors if "422" not in error] == []


def test_repairs_ask_first_and_the_destination_is_rehearsed_in_place(ada: Visitor) -> None:
    page = ada.page
    ada.go("tenants/acme")
    page.get_by_role("button", name="Rehearse").click()
    expect(page.locator("#probe")).to_contain_text("Profile full, rehearsed")
    page.get_by_role("button", name="Redeliver…").first.click()
    page.get_by_role("button", name="Send again").click()
    expect(page.get_by_role("status")).to_contain_text("The redelivery is queued")
    page.get_by_role("button", name="Full load…").click()
    page.get_by_role("dialog").get_by_role("checkbox", name="site").check()
    page.get_by_role("button", name="Deliver full history").click()
    expect(page.locator("#now-streams")).to_contain_text("full load, asked for")
    page.get_by_role("button", name="Backfill…").click()
    page.get_by_label("First day").fill("2030-01-01")
    page.get_by_label("Last day").fill("2030-01-02")
    page.get_by_role("button", name="Queue the backfill").click()
    expect(page.get_by_label("Last day")).to_have_accessible_description(re.compile("or earlier: later days come with the next run"))
    ada.go("tenants/initech")
    page.get_by_role("button", name="Rehearse").click()
    expect(page.locator("#probe")).to_contain_text("The operator's log holds the cause.")
    page.reload()
    expect(page.locator("#probe")).to_contain_text("The rehearsal failed")


def test_an_export_is_asked_for_followed_without_reloading_and_downloaded(site: Site, ada: Visitor, tmp_path: Path) -> None:
    page = ada.page
    ada.go("tenants/acme/requests")
    expect(page.locator("#requests-list")).to_contain_text("No exports yet.")
    page.get_by_role("button", name="New export").click()
    page.get_by_role("button", name="Create export").click()
    expect(page.locator("#export-form .wrong")).to_have_text("Choose at least one")
    page.get_by_role("checkbox", name="site").check()
    expect(page.get_by_role("checkbox", name="XLSX")).to_be_disabled()  # the entity says so
    page.get_by_role("button", name="Create export").click()
    row = page.locator("#requests-list tbody tr").first
    expect(row.locator(".state")).to_have_text("Pending")
    expect(row.get_by_role("progressbar")).to_be_visible()
    running.fulfil_all(site.office.installation())
    expect(row.locator(".state")).to_have_text("Done")  # the page asks by itself
    expect(page.get_by_role("progressbar")).to_have_count(0)
    with page.expect_download() as waiting:
        row.get_by_role("link", name="Download").click()
    waiting.value.save_as(tmp_path / "archive.zip")
    with zipfile.ZipFile(tmp_path / "archive.zip") as archive:
        assert archive.read("site.csv").splitlines()[0] == b"id,name"
    row.get_by_role("button", name="Delete…").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator("#requests-list")).to_be_focused()  # not thrown back to the top of the page
    expect(page.locator("#requests-list")).to_contain_text("No exports yet.")


def test_an_active_export_can_be_cancelled_and_asked_for_again(ada: Visitor) -> None:
    page = ada.page
    ada.go("tenants/acme/requests")
    page.get_by_role("button", name="New export").click()
    page.get_by_role("checkbox", name="measurement").check()
    page.get_by_role("button", name="Create export").click()
    listed = page.locator("#requests-list")
    listed.get_by_role("button", name="Cancel").click()
    expect(page.locator("#requests-list .state").first).to_have_text("Cancelled")
    listed.get_by_role("button", name="Resubmit").click()
    expect(page.locator("#requests-list .state").first).to_have_text("Pending")
    listed.get_by_role("button", name="Cancel").click()
    expect(page.locator("#requests-list .state").first).to_have_text("Cancelled")


def test_a_form_and_a_button_that_are_pressed_before_the_scripts_are_there_are_served(ada: Visitor) -> None:
    page, held = ada.page, list[Route]()

    def hold(route: Route) -> None:
        held.append(route)

    def early(path: str) -> None:
        page.route("**/htmx.min.js*", hold)
        with page.expect_request("**/htmx.min.js*"):
            page.goto(f"{ada.base}/page/{path}", wait_until="commit")

    def go_on() -> None:
        held.pop().continue_()
        page.unroute("**/htmx.min.js*")

    early("tenants/globex/requests")
    page.get_by_label("Start Date").fill("2026-02-01")
    page.get_by_label("End Date").fill("2026-02-02")
    page.get_by_role("button", name="Submit Request").click()
    go_on()
    expect(page.locator("#requests-list .state").first).to_have_text("Submitted")
    early("tenants/globex/requests")
    page.locator("#requests-list").get_by_role("button", name="Delete…").first.click()
    go_on()
    expect(page.get_by_role("dialog", name="Delete this request?")).to_be_visible()


def test_a_button_that_is_refused_says_why_for_as_long_as_nothing_else_is_pressed(ada: Visitor) -> None:
    page, listed = ada.page, ada.page.locator("#requests-list")
    ada.go("tenants/acme/requests")
    for ended in (True, False):
        page.get_by_role("button", name="New export").click()
        page.get_by_role("checkbox", name="measurement").check()
        page.get_by_role("button", name="Create export").click()
        expect(listed.locator(".state").first).to_have_text("Pending")
        if ended:
            listed.get_by_role("button", name="Cancel").click()
            expect(listed.locator(".state").first).to_have_text("Cancelled")
    listed.get_by_role("button", name="Resubmit").first.click()
    refused = page.locator("#problem")
    expect(refused).to_contain_text("Another export is in progress")
    for _ in range(2):
        with page.expect_response(lambda answer: answer.request.method == "GET" and answer.url.endswith("/requests")):
            pass  # the list follows the active export by itself
    expect(refused).to_contain_text("Another export is in progress")
    listed.get_by_role("button", name="Cancel").click()
    expect(refused).to_be_empty()


def test_a_list_that_another_window_has_changed_comes_again_with_the_refusal(site: Site) -> None:
    """This product's page does not poll: only its buttons ask the server."""
    token = site.token("initech")
    with visit(site.browser, site.base, token) as single, visit(site.browser, site.base, token) as other:
        single.go("tenants/initech/requests?new=1")
        single.page.get_by_role("checkbox", name="measurement").check()
        single.page.locator("#export-form button:not([type])").click()
        first, second = (visitor.page.locator("#requests-list tbody tr").first for visitor in (single, other))
        expect(first.locator(".state")).to_have_text("pending")
        other.go("tenants/initech/requests")
        first.get_by_role("button", name="Cancel").click()
        expect(first.locator(".state")).to_have_text("cancelled")
        second.get_by_role("button", name="Cancel").click()
        expect(other.page.locator("#problem")).to_contain_text("The export is not active any more.")
        expect(second.locator(".state")).to_have_text("cancelled")


def test_who_may_not_create_exports_reads_why_and_who_may_not_view_sees_a_lock(site: Site) -> None:
    with visit(site.browser, site.base, site.token("umbrella", "initech", roles=[])) as viewer:
        viewer.go("tenants/umbrella/requests")
        expect(viewer.page.get_by_role("note")).to_have_text(SENTENCES["create_denied"])
        expect(viewer.page.get_by_role("button", name="New export")).to_have_count(0)
        assert viewer.go("tenants/initech/requests") == 403
        expect(viewer.page.get_by_role("img", name="Locked")).to_be_visible()
        expect(viewer.page.get_by_role("heading")).to_have_text("Access denied")
        expect(viewer.page.get_by_role("button", name="Sign out")).to_be_visible()
        assert viewer.go("tenants/acme") == 404
        assert viewer.go("tenants/acme/requests") == 404


def test_until_organization_and_tenant_are_chosen_there_are_only_the_words(ada: Visitor) -> None:
    page = ada.page
    ada.go("requests")
    expect(page.locator("main p")).to_have_text(SENTENCES["context_required"])
    page.get_by_label("Organization").select_option("house")
    expect(page.get_by_label("Tenant", exact=True).locator("option")).to_have_text(["Tenant…", "acme", "globex"])
    expect(page.locator("main p")).to_have_text(SENTENCES["context_required"])
    page.get_by_label("Tenant", exact=True).select_option("acme")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("heading", name="Exports")).to_be_visible()


def test_each_product_finds_its_own_words_columns_and_form(site: Site, ada: Visitor) -> None:
    page = ada.page
    ada.go("tenants/umbrella/requests?study=S-7&participant=P-1")  # 000
    dialog = page.get_by_role("dialog", name="Export data")
    expect(dialog).to_contain_text("Export HSI and Lab data as a downloadable archive. Large exports run in the background.")
    expect(dialog).to_contain_text("S-7 / P-1")
    assert [text.strip() for text in dialog.locator(".choice").all_inner_texts()] == [
        "NDJSON (recommended, lossless)",
        "CSV (flattened, analyst-friendly)",
        "Both",
    ]
    ada.go("tenants/globex/requests")  # 001
    expect(page.get_by_role("heading", name="Create Data Export Request")).to_be_visible()
    page.get_by_label("Realm").select_option("site")
    expect(page.get_by_role("heading", name="Fields of site")).to_be_visible()
    expect(page.get_by_role("heading", name="Fields of measurement")).to_be_hidden()
    page.get_by_label("Start Date").fill("2026-01-01")
    page.get_by_label("End Date").fill("2026-01-31")
    page.get_by_role("button", name="Submit Request").click()
    expect(page.locator("#requests-list .state").first).to_have_text("Submitted")
    with visit(site.browser, site.base, site.token("initech")) as single:  # 003
        single.page.goto(f"{site.base}/settings/exports")
        expect(single.page.get_by_role("heading", name="Data Exports")).to_be_visible()
        single.page.get_by_role("button", name="New Export").click()
        single.page.get_by_label("Export type").select_option("spreadsheet")
        expect(single.page.get_by_role("radio", name="CSV")).to_be_disabled()
        single.page.get_by_role("checkbox", name="measurement").check()
        single.page.get_by_role("radio", name="XLSX").check()
        single.page.locator("#export-form button:not([type])").click()
        titles = ["Export type", "Format", "Entity types", "Status", "Requested", "Actions"]
        expect(single.page.locator("#requests-list thead th")).to_have_text(titles)
        expect(single.page.get_by_role("button", name="Refresh")).to_be_visible()
        assert single.page.locator("[hx-trigger^=every]").count() == 0


def test_the_catalogue_is_a_data_dictionary(ada: Visitor) -> None:
    ada.go("tenants/acme/catalogue?q=participant")
    expect(ada.page.locator("h2")).to_have_text("measurement received")
    expect(ada.page.get_by_role("row").filter(has_text="participant_id")).to_contain_text("anonymized")


PAGES = {
    "overview": "",
    "tenant": "tenants/acme",
    "failing": "tenants/initech",
    "register": "tenants/nobody-yet",
    "requests": "tenants/acme/requests",
    "new-export": "tenants/umbrella/requests?new=1",
    "form-left": "tenants/globex/requests",
    "types": "tenants/initech/requests",
    "choose": "requests",
    "catalogue": "tenants/acme/catalogue",
    "error": "tenants/acme/nothing",
    "sign-in": "sign-in",
}
MODES = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "narrow": {"color_scheme": "light", "viewport": {"width": 390, "height": 850}},
}


@pytest.mark.parametrize("mode", MODES)
def test_every_page_is_usable_by_everybody_in_light_dark_and_on_a_phone(site: Site, mode: str) -> None:
    token = site.token(*TENANTS, "nobody-yet")
    with visit(site.browser, site.base, token, **MODES[mode]) as visitor:
        for name, path in PAGES.items():
            if name == "sign-in":  # who is signed in is led on
                visitor.context.clear_cookies()
            visitor.go(path)
            visitor.page.screenshot(path=site.shots / f"{name}-{mode}.png", full_page=True)
            assert visitor.serious() == [], name
            assert visitor.overflow <= 0, (name, visitor.widest)
            assert [error for error in visitor.errors if not error.startswith("Failed to load resource")] == [], name
        ground = visitor.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(17, 20, 24)") == (mode == "dark")


def test_inside_a_frame_theme_and_direction_are_those_of_the_page_around_it(site: Site, ada: Visitor) -> None:
    sandbox = "allow-scripts allow-same-origin allow-forms allow-downloads"
    frame = f'<iframe id="framed" sandbox="{sandbox}" src="page/tenants/acme"></iframe>'
    outer = f'<!doctype html><html class="dark" lang="ar" dir="rtl"><body>{frame}'
    ada.page.route("**/outer", lambda route: route.fulfill(body=outer, content_type="text/html"))
    ada.page.goto(f"{site.base}/outer")
    inner = ada.page.frame_locator("#framed")
    expect(inner.locator("html")).to_have_attribute("data-theme", "dark")
    expect(inner.locator("html")).to_have_attribute("dir", "rtl")
    ada.page.evaluate("document.documentElement.className = 'light'")
    expect(inner.locator("html")).to_have_attribute("data-theme", "light")


def test_a_link_that_leads_nowhere_is_a_page_for_people_and_a_problem_for_programs(site: Site, ada: Visitor) -> None:
    url = f"{site.base}/api/v1/downloads/no-such-token"
    assert httpx.get(url).headers["content-type"] == "application/problem+json"
    ada.go("tenants/acme")
    answer = ada.page.goto(url)
    assert answer is not None
    assert answer.status == 404
    expect(ada.page.get_by_role("heading")).to_have_text("Not found")
    assert ada.serious() == []
    ada.page.get_by_role("button", name="Back").click()
    expect(ada.page.get_by_role("heading", name="acme")).to_be_visible()
    ada.page.goto(url)
    ada.page.get_by_role("main").get_by_role("link", name="Start page").click()
    expect(ada.page.locator("#tenants")).to_be_visible()


def test_forms_of_other_sites_and_of_no_page_change_nothing(site: Site) -> None:
    cookies = {"waybill_session": site.token()}
    url = f"{site.base}/page/tenants/acme/full-load"
    for headers in ({}, {"HX-Request": "true", "Sec-Fetch-Site": "cross-site"}, {"HX-Request": "true", "Origin": "https://evil.example"}):
        answer = httpx.post(url, cookies=cookies, headers=headers)
        assert answer.status_code == 403, headers
    api = httpx.get(f"{site.base}/api/v1/tenants/acme/export", cookies=cookies)
    assert api.status_code == 401  # the cookie is for pages alone
    assert api.headers["content-type"] == "application/problem+json"
