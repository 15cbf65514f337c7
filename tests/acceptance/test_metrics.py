"""Product document 002 sentence by sentence, under the preset `metrics`."""

from __future__ import annotations

import csv
import io
import json
import re
import time
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.presets import NOW, PUBLIC, Shop, code, ends
from waybill.errors import TransientError
from waybill.ledger.on_demand import requests
from waybill.ledger.on_demand.request_records import Failure
from waybill.requests import upkeep
from waybill.requests.fulfilment.exporting import failure_of
from waybill.requests.lifecycle import failure
from waybill.requests.recurring import make_recurring

PRESET = "metrics"
EVERYTHING = ["Metrics data", "Integration connections", "Dashboards and widgets"]
TABLES = ("metrics", "integration_connections", "dashboards")
ASK: dict[str, Any] = {"entities": EVERYTHING, "range": "last_30_days", "formats": ["json"]}


def rows(archive: zipfile.ZipFile, entity: str) -> list[dict[str, Any]]:
    """The records of a JSON file."""
    found: list[dict[str, Any]] = json.loads(archive.read(f"{entity}.json"))["data"][entity]
    return found


def test_metrics_take_the_scale_plan(shop: Shop) -> None:
    refused = shop("POST", "", ASK, who="gus", tenant="globex")
    assert code(refused) == (403, "plan_required")
    words = "Data export is available exclusively on the Scale tier ($299/month). Upgrade your plan, or contact support@dashtray.com."
    assert refused.json()["detail"] == words
    options = shop("GET", "/options", who="gus", tenant="globex").json()
    assert (options["canCreate"], options["planRequired"]) == (False, "scale")
    assert shop("GET", "/options").json()["canCreate"]
    export = shop.ask(**ASK)
    shop.policy(plans={"acme": "starter"})  # lost before a worker took it
    shop.fulfil()
    assert (shop.get(export)["status"], shop.get(export)["error"]["code"]) == ("failed", "permission_revoked")


def test_metrics_hold_every_field_the_document_lists(shop: Shop) -> None:
    archive = shop.archive(shop.done(**ASK))
    point = rows(archive, "metrics")[0]
    assert {"metric_id", "metric_name", "value", "unit", "measured_at", "service", "quality", "metadata"} < point.keys()
    assert {"completeness", "delayed", "estimated"} == point["quality"].keys()
    connection = rows(archive, "integration_connections")[0]
    assert {"service_name", "service_type", "status", "last_synced_at", "account", "configuration"} < connection.keys()
    assert connection["account"]["login"]
    assert connection["configuration"]["interval"] == "15m"
    dashboard = rows(archive, "dashboards")[0]
    assert {"name", "type", "widgets", "layout", "visibility", "created_at"} < dashboard.keys()
    assert {"id", "kind", "metric"} == dashboard["widgets"][0].keys()
    assert dashboard["layout"]["w1"] == {"x": 0, "y": 0, "w": 8, "h": 4}
    assert {row["service"] for row in rows(archive, "metrics")} == {"Analytics", "Billing", "Monitoring"}


@pytest.mark.parametrize("name", ["json", "csv"])
def test_metrics_project_is_exported_whole(shop: Shop, name: str) -> None:
    export = shop.done(**ASK | {"range": "all_time", "scope": {"level": "project", "project": "p2"}, "formats": [name]})
    assert {file["path"] for file in export["files"]} == {f"{entity}.{name}" for entity in TABLES}
    assert export["rows"] == shop.count("tenant_id = 'acme' and project_id = 'p2'", *TABLES)
    assert "Scope: One project (Project: p2)" in shop.archive(export).read("README.txt").decode()


@pytest.mark.parametrize(
    ("preset", "first"),
    [
        ("last_7_days", "2026-05-26"),
        ("last_30_days", "2026-05-03"),
        ("last_90_days", "2026-03-04"),
        ("last_year", "2025-06-02"),
        ("all_time", None),
    ],
)
def test_metrics_date_ranges_are_those_of_the_document(shop: Shop, preset: str, first: str | None) -> None:
    options = shop("GET", "/options").json()
    assert preset in options["range"]["presets"]
    export = shop.done(entities=["Metrics data"], range=preset, formats=["json"])
    assert export["range"] == {"preset": preset, "from": first, "to": None if first is None else "2026-06-01"}
    since = f" and measured_at >= '{first}'" if first else ""
    assert export["rows"] == shop.count(f"tenant_id = 'acme'{since}", "metrics")


def test_metrics_range_may_be_configured_by_dates(shop: Shop) -> None:
    export = shop.done(entities=["Metrics data"], range={"from": "2026-05-01", "to": "2026-05-02"}, formats=["csv"])
    assert export["rows"] == shop.count("tenant_id = 'acme' and measured_at >= '2026-05-01' and measured_at < '2026-05-03'", "metrics")


def test_metrics_data_types_are_selected_one_by_one(shop: Shop) -> None:
    assert [item["name"] for item in shop("GET", "/options").json()["entities"]] == EVERYTHING
    for name, entity in zip(EVERYTHING, TABLES, strict=True):
        export = shop.done(**ASK | {"entities": [name]})
        assert set(shop.archive(export).namelist()) == {f"{entity}.json", "manifest.json", "README.txt", "SHA256SUMS"}
    assert code(shop("POST", "", ASK | {"entities": []})) == (422, "validation")


def test_metrics_form_says_what_the_document_says(shop: Shop) -> None:
    page = shop("GET", "/options").json()["page"]
    assert (page["dialog_title"], page["submit"]) == ("Configure export", "Create Export")
    assert page["scope_labels"] == {"tenant": "All projects", "project": "One project"}
    assert page["formats"] == {"json": "JSON - Structured data with full metadata", "csv": "CSV - Spreadsheet-compatible format"}
    assert list(page["range_labels"].values()) == ["Last 7 days", "Last 30 days", "Last 90 days", "Last year", "All time"]


def test_metrics_export_is_queued_collected_packed_and_linked(shop: Shop) -> None:
    export = shop.ask(**ASK)
    assert export["statusLabel"] == "queued"
    shop.fulfil()
    export = shop.get(export)
    assert (export["statusLabel"], export["progress"]) == ("completed", 100)
    assert {file["entity"] for file in export["files"]} == {"metrics", "integration_connections", "dashboards"}
    assert shop.download(shop.link(export)["url"]).headers["content-disposition"].startswith("attachment")


def test_metrics_progress_is_tracked(shop: Shop) -> None:
    export = shop.ask(**ASK)
    shop.running(export, 37)
    seen = shop.get(export)
    assert (seen["statusLabel"], seen["progress"], seen["rows"]) == ("processing", 37, None)


def test_metrics_json_is_structured_with_full_metadata(shop: Shop) -> None:
    document = json.loads(shop.archive(shop.done(**ASK)).read("metrics.json"))
    assert document["exportedAt"] == "2026-06-01T12:00:00.000000Z"
    assert document["dateRange"] == {"from": "2026-05-03T00:00:00.000000Z", "to": "2026-06-02T00:00:00.000000Z"}
    assert document["scope"] == {"level": "tenant"}
    assert document["data"]["metrics"][0]["metadata"]["source"]["region"].startswith("eu-")


def test_metrics_csv_is_flattened_for_spreadsheets(shop: Shop) -> None:
    archive = shop.archive(shop.done(**ASK | {"formats": ["csv"]}))
    table = list(csv.DictReader(io.StringIO(archive.read("metrics.csv").decode())))
    assert table[0]["metadata.source.region"].startswith("eu-")
    assert table[0]["quality.completeness"]
    connections = list(csv.DictReader(io.StringIO(archive.read("integration_connections.csv").decode())))
    assert connections[0]["account.login"].endswith("@example.com")


def test_metrics_allow_one_export_at_a_time_in_a_project(shop: Shop) -> None:
    scope = {"level": "project", "project": "p1"}
    export = shop.ask(**ASK | {"scope": scope})
    second = shop("POST", "", ASK | {"scope": scope}, who="ed")
    assert code(second) == (409, "export_in_progress")
    assert second.json()["detail"] == "Another export is in progress"
    assert second.headers["retry-after"]
    assert shop("POST", "", ASK | {"scope": {"level": "project", "project": "p2"}}).status_code == 202
    shop.fulfil()
    assert shop.get(export)["status"] == "done"
    for _ in range(5):  # no limit on their number
        shop.done("ed", **ASK | {"scope": scope})


def test_metrics_sizes_are_not_limited_and_ten_and_a_hundred_thousand_records_are_in_time(shop: Shop) -> None:
    for records, seconds in ((10_000, 60), (100_000, 300), (150_000, 900)):
        with shop.warehouse() as connection:
            connection.execute("delete from metrics where tenant_id = 'acme' and id >= 900000")
            connection.execute(
                "insert into metrics select metrics.* replace (900000 + n as id) from metrics, range(?) as numbers(n) where id = 100001",
                [records],
            )
        began = time.monotonic()
        export = shop.done(entities=["Metrics data"], range="all_time", formats=["json"])
        assert time.monotonic() - began < seconds
        assert export["rows"] >= records


def test_metrics_links_last_a_day_and_history_a_month(shop: Shop) -> None:
    export = shop.done(**ASK)
    link = shop.link(export)
    assert link["url"].startswith(PUBLIC)
    assert ends(link) == NOW + timedelta(hours=24)
    shop.clock = NOW + timedelta(hours=24) - timedelta(seconds=1)
    assert shop.download(link["url"]).status_code == 200
    shop.clock = NOW + timedelta(hours=24)
    assert code(shop.download(link["url"])) == (410, "expired")
    shop.clock = NOW + timedelta(days=31) - timedelta(seconds=1)
    upkeep.keep_requests(shop.installation)
    assert [(seen["id"], seen["statusLabel"]) for seen in shop("GET").json()["items"]] == [(export["id"], "expired")]
    again = shop("POST", f"/{export['id']}/resubmit")
    assert again.status_code == 202
    shop.clock = NOW + timedelta(days=31)
    upkeep.keep_requests(shop.installation)
    assert code(shop("GET", f"/{export['id']}")) == (404, "not_found")


def test_metrics_links_are_signed(shop: Shop) -> None:
    url = shop.link(shop.done(**ASK))["url"]
    for position in range(url.rindex("/") + 1, len(url)):
        letter = "A" if url[position] != "A" else "B"
        assert shop.download(url[:position] + letter + url[position + 1 :]).status_code == 404, position


@pytest.mark.parametrize(
    ("frequency", "end"), [("weekly", datetime(2026, 6, 8, tzinfo=UTC)), ("monthly", datetime(2026, 7, 1, tzinfo=UTC))]
)
def test_metrics_exports_are_automated_weekly_and_monthly(shop: Shop, frequency: str, end: datetime) -> None:
    asked = {"entities": EVERYTHING, "formats": ["json"]}
    template = {"name": "Backup", "frequency": frequency, "covers": "everything", "request": asked}
    made = shop("POST", "../tenants/acme/export-templates", template)
    assert made.status_code == 201, made.json()
    shop.clock = end - timedelta(seconds=1)
    assert make_recurring(shop.installation) == []
    shop.clock = end
    (export,) = make_recurring(shop.installation)
    assert make_recurring(shop.installation) == []
    shop.fulfil()
    history = shop("GET", f"../tenants/acme/export-templates/{made.json()['id']}/exports").json()["items"]
    assert [(seen["id"], seen["status"]) for seen in history] == [(export.id, "done")]
    assert history[0]["rows"] == shop.count("tenant_id = 'acme'", *TABLES)


def test_metrics_only_members_of_a_project_create_its_exports(shop: Shop) -> None:
    own, other = {"level": "project", "project": "p1"}, {"level": "project", "project": "p2"}
    export = shop.done(**ASK | {"scope": other})
    assert code(shop("POST", "", ASK | {"scope": other}, who="ed")) == (404, "not_found")
    assert code(shop("POST", "", ASK, who="ed")) == (403, "create_denied")  # reaches beyond their projects
    mine = shop.done("ed", **ASK | {"scope": own})
    assert [seen["id"] for seen in shop("GET", who="ed").json()["items"]] == [mine["id"]]
    assert code(shop("POST", f"/{export['id']}/link", who="ed")) == (404, "not_found")
    template = {"name": "Backup", "frequency": "weekly", "request": ASK | {"scope": other}}
    assert code(shop("POST", "../tenants/acme/export-templates", template, who="ed")) == (404, "not_found")
    assert shop("POST", "../tenants/acme/export-templates", template).status_code == 201
    assert shop("GET", "../tenants/acme/export-templates", who="ed").json()["items"] == []
    assert code(shop("POST", "", ASK, who="gus")) == (404, "not_found")


def test_metrics_owners_and_editors_create_and_viewers_do_not_export(shop: Shop) -> None:
    export = shop.done(**ASK)
    assert shop("POST", "", ASK | {"scope": {"level": "project", "project": "p1"}}, who="ed").status_code == 202
    assert code(shop("POST", "", ASK, who="vera")) == (403, "create_denied")
    assert code(shop("POST", f"/{export['id']}/link", who="vera")) == (403, "download_denied")
    shop.policy(roles={"editor": ["exports.view"]})  # who can export is managed by the table of roles
    assert code(shop("POST", "", ASK | {"scope": {"level": "project", "project": "p1"}}, who="ed")) == (403, "create_denied")


@pytest.mark.parametrize("formats", [["json"], ["csv"], ["json", "csv"]], ids="+".join)
def test_metrics_credentials_are_never_exported(shop: Shop, formats: list[str]) -> None:
    export = shop.done(**ASK | {"formats": formats})
    archive = shop.archive(export)
    for name in archive.namelist():
        content = archive.read(name)
        assert b"planted-" not in content, name
        if name != "manifest.json":
            for word in (b"access_token", b"refresh_token", b"api_key", b"webhook_secret"):
                assert word not in content, name
    withheld = json.loads(archive.read("manifest.json"))
    assert "planted-" not in json.dumps([withheld, export, shop("GET").json()])


def test_metrics_failed_export_says_why_and_what_to_do_and_may_be_tried_again(shop: Shop) -> None:
    export = shop.failed(**ASK)
    assert export["statusLabel"] == "failed"
    assert export["error"]["message"] == "The data could not be read."
    assert export["error"]["advice"] == "Try again later. If it fails again, contact support@dashtray.com."
    assert shop("POST", f"/{export['id']}/resubmit").status_code == 202


@pytest.mark.parametrize(
    "why",
    [failure("stalled"), failure("storage_full"), failure_of(TransientError("the warehouse is busy", code="source"))],
    ids=lambda why: why.code,
)
def test_metrics_a_large_export_that_failed_is_told_to_reduce_its_date_range(shop: Shop, why: Failure) -> None:
    export = shop.ask(**ASK)
    with shop.ledger.begin() as connection:
        claimed = requests.claim(connection, requests.get(connection, export["id"]), "worker", NOW)
        requests.fail(connection, claimed, why, None, NOW)
    error = shop.get(export)["error"]
    assert (error["code"], error["message"]) == (why.code, why.message)
    assert "a shorter date range" in error["advice"]
    assert error["advice"].endswith("If it fails again, contact support@dashtray.com.")


def test_metrics_export_that_takes_long_names_whom_to_ask(shop: Shop) -> None:
    shop.policy(stall_after="2h")
    export = shop.ask(**ASK)
    shop.running(export, 5)
    shop.clock = NOW + timedelta(minutes=29, seconds=59)
    assert shop.get(export)["supportContact"] is None
    shop.clock = NOW + timedelta(minutes=30)
    assert shop.get(export)["supportContact"] == "support@dashtray.com"


def test_metrics_stuck_export_is_cancelled_by_support(shop: Shop) -> None:
    export = shop.ask(**ASK)
    shop.running(export, progress=40)
    assert code(shop("POST", "", ASK)) == (409, "export_in_progress")
    assert code(shop("POST", f"/{export['id']}/cancel")) == (403, "cancel_denied")
    assert code(shop("DELETE", f"/{export['id']}")) == (403, "delete_denied")
    assert shop("POST", f"/{export['id']}/cancel", who="max").json()["status"] == "cancelled"
    assert shop("POST", "", ASK).status_code == 202


def test_metrics_old_exports_can_be_deleted(shop: Shop) -> None:
    export = shop.done(**ASK)
    assert shop("DELETE", f"/{export['id']}").status_code == 204
    assert shop("GET").json()["items"] == []
    assert not list((shop.sample.folder / ".waybill/archive").rglob("*.zip"))


def test_metrics_export_can_be_verified(shop: Shop) -> None:
    import hashlib

    archive = shop.archive(shop.done(**ASK))
    manifest = json.loads(archive.read("manifest.json"))
    for file in manifest["files"]:
        content = archive.read(file["path"])
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (file["sha256"], file["bytes"])
        assert len(rows(archive, file["entity"])) == file["rows"]
    assert "Metrics data (metrics)" in archive.read("README.txt").decode()


def test_mistakes_in_the_form_of_metrics_are_told_by_the_names_of_its_fields(shop: Shop) -> None:
    page = {"HX-Request": "true", "HX-Trigger": "export-form", "Sec-Fetch-Site": "same-origin"}
    headers = shop.issuer.bearer(**shop.sample.people["ada"]) | page
    fields = {"entities": "", "formats": ""}
    said = shop.client.post("/page/tenants/acme/requests", headers=headers, data=fields).text
    told = re.findall(r'<li data-field="([^"]*)"><b>([^<]*):</b> <span>([^<]*)</span>', said)
    assert told == [("entities", "Data types", "Choose at least one"), ("formats", "Format", "Choose at least one")]
