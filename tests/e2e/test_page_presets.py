"""The page of exports under each preset, on the sample of its product: what the product's document says of the page, in its words."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from sqlalchemy import update

from tests.e2e.browsing import Visitor, chromium, visit, waybill_serve
from tests.installations import Place
from tests.issuer import TestIssuer, serve_issuer
from waybill.ledger.on_demand.request_tables import export_request
from waybill.requests.fulfilment import running
from waybill.requests.lifecycle import SENTENCES
from waybill_demo.sample import Sample, prepare

pytestmark = pytest.mark.slow

REQUESTS = "tenants/acme/requests"
NOW = datetime.now(UTC)
ROW = "#requests-list tbody tr"


@dataclass
class Counter:
    """A preset's sample, served."""

    sample: Sample
    place: Place
    issuer: TestIssuer
    browser: Browser
    base: str
    shots: Path

    @contextmanager
    def visit(self, name: str, **options: Any) -> Iterator[Visitor]:
        with visit(self.browser, self.base, self.issuer.token(**self.sample.people[name]), **options) as visitor:
            yield visitor

    def fulfil(self) -> None:
        running.fulfil_all(self.place.installation())

    def all_are(self, **values: Any) -> None:
        """Bring every request into a state, as a worker or the clock would."""
        with self.place.installation().ledger.begin() as connection:
            connection.execute(update(export_request).values(**values))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@contextmanager
def counter(preset: str, root: Path, browser: Browser) -> Iterator[Counter]:
    sample = prepare(preset, root, NOW)
    place = Place(root)
    with serve_issuer() as issuer, waybill_serve(place, issuer) as base:
        yield Counter(sample, place, issuer, browser, base, root / "shots")
    place.close()


def usable(visitor: Visitor, shots: Path, name: str) -> None:
    """Write pictures of the page, wide and light, narrow and dark; nobody is kept out of either."""
    for mode, scheme, width in (("wide", "light", 1280), ("narrow", "dark", 390)):
        visitor.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        visitor.page.set_viewport_size({"width": width, "height": 850})
        visitor.page.screenshot(path=shots / f"{name}-{mode}.png", full_page=True)
        assert visitor.serious() == [], (name, mode)
        assert visitor.overflow <= 0, (name, mode, visitor.widest)
    visitor.page.emulate_media(color_scheme="light")
    visitor.page.set_viewport_size({"width": 1280, "height": 850})


def words(place: Locator) -> list[str]:
    return [text.strip() for text in place.all_inner_texts()]


def heads(page: Page) -> list[str]:
    return words(page.locator("#requests-list thead th"))


def test_studies_offer_the_whole_organization_to_whoever_may_export_more_than_one_tenant(tmp_path: Path, browser: Browser) -> None:
    with counter("studies", tmp_path, browser) as here, here.visit("olga") as olga:
        olga.go(REQUESTS)
        olga.page.get_by_role("button", name="New export").click()
        scope = olga.page.get_by_role("dialog", name="Export data").get_by_label("Scope")
        assert words(scope.locator("option")) == ["Current tenant", "A project", "An app", "Entire organization"]


def test_studies_say_what_their_document_says(tmp_path: Path, browser: Browser) -> None:
    with counter("studies", tmp_path, browser) as here:
        with here.visit("ada") as ada:
            page = ada.page
            ada.go(REQUESTS)
            page.get_by_role("button", name="New export").click()
            dialog = page.get_by_role("dialog", name="Export data")
            expect(dialog).to_contain_text(
                "Export HSI and Lab data as a downloadable archive. Large exports run in the background. "
                "Track progress and download from the Exports page."
            )
            scope = dialog.get_by_label("Scope")
            assert words(scope.locator("option")) == ["Current tenant", "A project", "An app"]  # hers is one tenant of the organization
            project, apps = dialog.get_by_label("Project"), dialog.get_by_label("Apps")
            for level, shows_project, shows_apps in (
                ("Current tenant", False, False), ("A project", True, False), ("An app", True, True)
            ):  # fmt: skip
                scope.select_option(label=level)
                assert (project.is_visible(), apps.is_visible()) == (shows_project, shows_apps), level
            scope.select_option(label="Current tenant")
            expect(dialog.get_by_label("From (optional)")).to_be_visible()
            expect(dialog.get_by_label("To (optional)")).to_be_visible()
            formats = ["NDJSON (recommended, lossless)", "CSV (flattened, analyst-friendly)", "Both"]
            assert words(dialog.locator(".choice")) == formats
            usable(ada, here.shots, "studies-dialog")
            dialog.get_by_role("button", name="Create export").click()
            row = page.locator(ROW).first
            expect(row.locator(".state")).to_have_text("Pending")
            assert heads(page)[:7] == ["Scope", "Created", "Status", "Rows", "Archive size", "Format", "Download"]
            expect(row.get_by_role("link", name="Download")).to_have_count(0)
            here.all_are(status="running", progress=42, started_at=NOW, heartbeat_at=datetime.now(UTC) + timedelta(hours=1))
            expect(row.locator(".state")).to_have_text("Running (42 %)")  # it polls by itself
            usable(ada, here.shots, "studies-running")
            here.all_are(
                status="failed", error_code="source_unavailable", error_message="The warehouse is away.", error_advice="Try later."
            )
            expect(row.locator(".state")).to_have_text("Failed")
            expect(row).to_contain_text("The warehouse is away.")
            usable(ada, here.shots, "studies-failed")
            here.all_are(status="pending", progress=0, error_code=None, error_message=None, error_advice=None, started_at=None)
            here.fulfil()
            page.get_by_role("button", name="Refresh").click()
            expect(row.locator(".state")).to_have_text("Done")
            assert int(row.locator("td").nth(3).inner_text().replace(",", "")) > 0
            with page.expect_download() as waiting:
                row.get_by_role("link", name="Download").click()
            assert zipfile.is_zipfile(waiting.value.path())
            expect(page.locator("[hx-trigger^=every]")).to_have_count(0)  # nothing is running
            here.all_are(rows=7_654_321)
            page.get_by_role("button", name="Refresh").click()
            expect(row).to_contain_text("7,654,321")
            ada.go(f"{REQUESTS}?study=s2&participant=s2-person-4")
            dialog = page.get_by_role("dialog", name="Export data")  # a cohort's Export action leads here
            expect(dialog).to_contain_text("s2 / s2-person-4")
            expect(dialog.get_by_label("Scope")).to_have_count(0)
            dialog.get_by_role("button", name="Create export").click()
            expect(page.locator(ROW).first).to_contain_text("A participant")
            expect(page.locator(ROW).first).to_contain_text("study s2")
        with here.visit("vera") as vera:
            vera.go(REQUESTS)
            expect(vera.page.get_by_role("note")).to_have_text(SENTENCES["create_denied"])
            expect(vera.page.locator(ROW)).to_have_count(2)  # existing exports can still be viewed
            expect(vera.page.get_by_role("button", name="New export")).to_have_count(0)
            usable(vera, here.shots, "studies-viewer")
        with httpx.Client(follow_redirects=True) as client:  # nothing is scheduled: who signs in begins at their exports
            arrived = client.post(f"{here.base}/page/sign-in", data={"token": here.issuer.token(**here.sample.people["ada"])})
        assert str(arrived.url) == f"{here.base}/page/{REQUESTS}"
        with here.visit("ada") as ada:
            ada.go("")
            expect(ada.page).to_have_url(f"{here.base}/page/{REQUESTS}")  # one tenant, so nothing is asked on the way
            expect(ada.page.get_by_label("Organization")).to_have_count(0)
            ada.page.get_by_role("button", name="New export").click()
            ada.page.get_by_label("Scope").select_option(label="A project")
            ada.page.get_by_role("dialog").get_by_label("Project").fill("nosuch" * 20)
            ada.page.get_by_label("From (optional)").fill("2126-01-01")
            ada.page.get_by_role("button", name="Create export").click()
            expect(ada.page.locator("#export-form .wrong")).to_contain_text("There is no project 'nosuch")
            ada.page.get_by_role("dialog").get_by_label("Project").fill("p1")
            ada.page.get_by_role("button", name="Create export").click()
            expect(ada.page.locator(ROW).first).to_contain_text("Since 2126-01-01 (UTC)")
            here.fulfil()
            expect(ada.page.locator(ROW).first).to_contain_text("No record matches")  # rather than a trusted empty archive
            usable(ada, here.shots, "studies-nothing")


def test_realms_say_what_their_document_says(tmp_path: Path, browser: Browser) -> None:
    with counter("realms", tmp_path, browser) as here, here.visit("ada") as ada:
        page = ada.page
        ada.go(REQUESTS)
        expect(page.get_by_role("heading", level=1)).to_have_text("Data Export")
        form = page.locator("section", has=page.get_by_role("heading", name="Create Data Export Request"))
        left, right = form.bounding_box(), page.locator("#requests-list").bounding_box()
        assert left
        assert right
        assert left["x"] + left["width"] <= right["x"]
        realms = words(page.get_by_label("Realm").locator("option"))
        page.get_by_label("Realm").select_option(label=realms[-1])
        fields = page.get_by_role("heading", name=f"Fields of {realms[-1]}")
        expect(fields).to_be_visible()
        below, button = fields.bounding_box(), page.get_by_role("button", name="Submit Request").bounding_box()
        assert below
        assert button
        assert below["y"] > button["y"]
        assert words(form.locator(".choice")) == ["CSV", "JSON"]
        expect(form.get_by_role("radio", name="CSV")).to_be_checked()
        assert page.get_by_label("Realm").input_value()
        page.get_by_role("button", name="Submit Request").click()
        assert page.get_by_label("Start Date").evaluate("field => field.validity.valueMissing")  # the browser tells, nothing is sent
        page.get_by_label("Start Date").fill("2026-01-01")
        page.get_by_role("button", name="Submit Request").click()
        assert page.get_by_label("End Date").evaluate("field => field.validity.valueMissing")
        expect(page.locator(ROW)).to_have_count(0)
        page.get_by_label("End Date").fill("2026-03-31")
        page.get_by_role("button", name="Submit Request").click()
        row = page.locator(ROW).first
        expect(row.locator(".state")).to_have_text("Submitted")
        usable(ada, here.shots, "realms-submitted")
        expect(row.get_by_role("button")).to_have_text(["Delete…"])  # the document knows nothing else
        row.get_by_role("button", name="Delete…").click()  # before it is fulfilled
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(page.locator(ROW)).to_have_count(0)
        page.get_by_label("Start Date").fill("2026-01-01")
        page.get_by_label("End Date").fill("2026-03-31")
        page.get_by_role("button", name="Submit Request").click()
        expect(row.locator(".state")).to_have_text("Submitted")
        before = datetime.now(UTC)
        here.fulfil()
        after = datetime.now(UTC)
        page.get_by_role("button", name="Refresh").click()
        expect(row.locator(".state")).to_have_text("Available")
        expires = row.locator("td").nth(heads(page).index("Expires"))
        days = {f"{at + timedelta(days=30):%Y-%m-%d}" for at in (before, after)}  # two only when midnight passes in between
        expect(expires).to_contain_text(re.compile("|".join(days)))
        usable(ada, here.shots, "realms-available")
        with page.expect_download() as waiting:
            row.get_by_role("link", name="Download").click()
        assert zipfile.is_zipfile(waiting.value.path())
        here.all_are(expires_at=NOW - timedelta(days=1))
        page.get_by_role("button", name="Refresh").click()
        expect(row.locator(".state")).to_have_text("Expired")
        expect(row.get_by_role("link", name="Download")).to_have_count(0)
        row.get_by_role("button", name="Resubmit").click()
        expect(page.locator(f"{ROW} .state")).to_have_text(["Submitted", "Expired"])
        assert ada.errors == []


def test_metrics_say_what_their_document_says(tmp_path: Path, browser: Browser) -> None:
    with counter("metrics", tmp_path, browser) as here:
        with here.visit("ada") as ada:
            page = ada.page
            ada.go(REQUESTS)
            page.get_by_role("button", name="New export").click()
            dialog = page.get_by_role("dialog", name="Configure export")
            formats = ["JSON - Structured data with full metadata", "CSV - Spreadsheet-compatible format"]
            assert words(dialog.locator(".choice")) == formats
            ranges = words(dialog.get_by_label("Range", exact=True).locator("option"))
            assert ranges[:5] == ["Last 7 days", "Last 30 days", "Last 90 days", "Last year", "All time"]
            for name in ("Metrics data", "Integration connections", "Dashboards and widgets"):
                expect(dialog.get_by_role("checkbox", name=name)).to_be_checked()  # as the document shows them
            usable(ada, here.shots, "metrics-dialog")
            dialog.get_by_role("button", name="Create Export").click()
            row = page.locator(ROW).first
            expect(row.locator(".state")).to_have_text("queued")
            page.get_by_role("button", name="New export").click()
            dialog.get_by_role("checkbox", name="Metrics data").check()
            dialog.get_by_role("button", name="Create Export").click()
            expect(page.locator("#export-form-problem")).to_contain_text("Another export is in progress")
            usable(ada, here.shots, "metrics-refused")
            dialog.get_by_role("button", name="Cancel").click()
            later = datetime.now(UTC) + timedelta(hours=1)
            here.all_are(status="running", progress=60, started_at=NOW - timedelta(minutes=31), heartbeat_at=later)
            expect(row.locator(".state")).to_have_text("processing")
            expect(row.get_by_role("progressbar")).to_have_attribute("value", "60")
            expect(row).to_contain_text("Contact support@dashtray.com")
            expect(row.get_by_role("button", name="Cancel")).to_have_count(0)  # stuck exports are cancelled by support
            here.all_are(
                status="failed", error_code="source_unavailable", error_message="The warehouse is away.", error_advice="Try later."
            )
            expect(row.locator(".state")).to_have_text("failed")
            expect(row).to_contain_text("The warehouse is away. Try later.")
            usable(ada, here.shots, "metrics-failed")
            row.get_by_role("button", name="Resubmit").click()
            expect(row.locator(".state")).to_have_text("queued")
            here.fulfil()
            expect(row.locator(".state")).to_have_text("completed")
            recurs(ada, here)
        with here.visit("vera") as vera:
            vera.go(REQUESTS)
            expect(vera.page.get_by_role("button", name="New export")).to_have_count(0)
            expect(vera.page.get_by_role("link", name="Download")).to_have_count(0)
        with here.visit("gus") as gus:
            gus.go("tenants/globex/requests")
            expect(gus.page.get_by_role("note")).to_contain_text("Data export is available exclusively on the Scale tier ($299/month).")


def recurs(ada: Visitor, here: Counter) -> None:
    """Automated weekly and monthly exports: asked for, paused, resumed, with what they made, ended."""
    page = ada.page
    page.get_by_role("button", name="New export").click()
    dialog = page.get_by_role("dialog", name="Configure export")
    dialog.get_by_role("checkbox", name="Metrics data").check()
    dialog.get_by_text("Repeat every week or month").click()
    dialog.get_by_label("Repeat", exact=True).select_option(label="Every week, on Monday")
    expect(dialog.get_by_label("Range", exact=True)).to_be_hidden()
    dialog.get_by_label("Name").fill("Weekly backup")
    usable(ada, here.shots, "metrics-repeat")
    dialog.get_by_role("button", name="Create Export").click()
    row = page.locator("#recurring tbody tr")
    expect(row).to_contain_text("Weekly backup")
    expect(row).to_contain_text("the week before")
    expect(row.locator(".state")).to_have_text("weekly")
    row.get_by_role("button", name="Pause").click()
    expect(row.locator(".state")).to_have_text("paused")
    row.get_by_role("button", name="Resume").click()
    expect(row.locator(".state")).to_have_text("weekly")
    row.get_by_text("History").click()
    expect(row.locator(".made")).to_have_text("No exports yet.")
    usable(ada, here.shots, "metrics-recurring")
    row.get_by_role("button", name="End…").click()
    page.get_by_role("dialog", name="End this recurring export?").get_by_role("button", name="End").click()
    expect(page.get_by_role("main")).to_be_focused()
    expect(page.locator("#recurring")).to_be_hidden()


def test_types_say_what_their_document_says(tmp_path: Path, browser: Browser) -> None:
    with counter("types", tmp_path, browser) as here:
        with here.visit("nora") as nora:
            answer = nora.page.goto(f"{here.base}/settings/exports")
            assert answer is not None
            assert answer.status == 403
            expect(nora.page.get_by_role("img", name="Locked")).to_be_visible()
            expect(nora.page.get_by_role("heading")).to_have_text("Access denied")
        with here.visit("ada") as ada:
            page = ada.page
            page.goto(f"{here.base}/settings/exports")
            expect(page.get_by_role("heading", level=1)).to_have_text("Data Exports")
            expect(page.get_by_role("button", name="Refresh")).to_have_count(0)  # nothing is active
            page.get_by_role("button", name="New Export").click()
            dialog = page.get_by_role("dialog", name="New Export")
            expect(dialog.get_by_label("Scope")).to_have_count(0)  # no entity knows a project or a study, and she exports one tenant
            dialog.get_by_label("Export type").select_option("audit")
            expect(dialog.get_by_role("radio", name="XLSX")).to_be_disabled()
            expect(dialog.get_by_role("checkbox", name="Employees")).to_be_hidden()
            dialog.get_by_label("Export type").select_option("records")
            dialog.get_by_role("checkbox", name="Employees").check()
            dialog.get_by_role("radio", name="XLSX").check()
            usable(ada, here.shots, "types-dialog")
            dialog.locator("button:not([type])").click()
            row = page.locator(ROW).first
            expect(row.locator(".state")).to_have_text("pending")
            assert page.url.partition("?")[0] == f"{here.base}/settings/exports"  # the page stays where it is
            assert heads(page) == ["Export type", "Format", "Entity types", "Status", "Requested", "Actions"]
            assert words(row.locator("td"))[:4] == ["records", "XLSX", "Employees", "pending"]
            expect(row.locator("td").nth(4)).to_contain_text(f"{datetime.now(UTC):%Y-%m-%d}")
            assert page.locator("[hx-trigger^=every]").count() == 0
            for state, shown in (("pending", "pending"), ("running", "processing")):
                here.all_are(status=state, started_at=NOW, heartbeat_at=datetime.now(UTC) + timedelta(hours=1))
                page.get_by_role("button", name="Refresh").click()
                expect(row.locator(".state")).to_have_text(shown)
                page.wait_for_function(f"getComputedStyle(document.querySelector('{ROW} .state'), '::before').animationName === 'beat'")
            usable(ada, here.shots, "types-processing")
            here.all_are(status="pending", started_at=None, heartbeat_at=None)
            here.fulfil()
            page.get_by_role("button", name="Refresh").click()
            expect(row.locator(".state")).to_have_text("completed")
            expect(page.get_by_role("button", name="Refresh")).to_have_count(0)
            link = row.locator("td").last.get_by_role("link", name="Download")
            expect(link.locator("svg")).to_be_visible()
            expect(link).to_have_attribute("target", "_blank")
            usable(ada, here.shots, "types-completed")
            href = link.evaluate("link => link.href")
            urls = {ada.context.request.get(href, max_redirects=0).headers["location"] for _ in range(2)}
            assert ada.context.request.get(href).body()[:2] == b"PK"
            assert all("/api/v1/downloads/" in url for url in urls)
            with here.visit("vera") as vera:
                vera.page.goto(f"{here.base}/settings/exports")
                expect(vera.page.locator(ROW)).to_have_count(1)
                expect(vera.page.get_by_role("button", name="New Export")).to_have_count(0)
            row.get_by_role("button", name="Delete…").click()
            page.get_by_role("dialog").get_by_role("button", name="Delete").click()
            expect(page.locator("#requests-list")).to_contain_text("No export requests yet.")
            assert page.url.partition("?")[0] == f"{here.base}/settings/exports"
