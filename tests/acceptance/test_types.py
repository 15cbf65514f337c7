"""Product document 003 sentence by sentence, under the preset `types`."""

from __future__ import annotations

import csv
import io
from datetime import timedelta

import openpyxl
import pytest

from tests.presets import NOW, Shop, code, ends
from waybill.configuration.policy import ALIASES

PRESET = "types"
RECORDS = {"exportType": "records", "entities": ["Employees"], "formats": ["csv"]}


def test_types_page_is_gated_behind_the_permission_to_view(shop: Shop) -> None:
    shop.done()
    assert ALIASES["pf.export_requests.view"] == "exports.view"
    refused = shop("GET", who="nora")
    assert code(refused) == (403, "view_denied")
    assert code(shop("GET", "/options", who="nora")) == (403, "view_denied")
    assert code(shop("POST", "", RECORDS, who="nora"))[0] == 403
    assert len(shop("GET", who="vera").json()["items"]) == 1


def test_types_creating_takes_a_permission_of_its_own(shop: Shop) -> None:
    assert ALIASES["pf.export_requests.create"] == "exports.create"
    assert code(shop("POST", "", RECORDS, who="vera")) == (403, "create_denied")
    assert not shop("GET", "/options", who="vera").json()["canCreate"]
    assert shop("GET", "/options").json()["canCreate"]
    assert shop.ask(**RECORDS)["status"] == "pending"


def test_types_table_tells_type_format_entity_types_status_and_time(shop: Shop) -> None:
    shop.ask(exportType="full", entities=["Audit log", "Employees"], formats=["csv", "xlsx"])
    (export,) = shop("GET").json()["items"]
    assert export["exportType"] == "full"
    assert export["formatLabels"] == ["CSV", "XLSX"]
    assert export["entityNames"] == ["Employees", "Audit log"]
    assert (export["statusLabel"], export["createdAt"]) == ("pending", "2026-06-01T12:00:00.000000Z")
    page = shop("GET", "/options").json()["page"]
    assert page["columns"] == ["type", "format", "entities", "status", "requested", "actions"]
    assert (page["path"], page["title"], page["new"]) == ("/settings/exports", "Data Exports", "New Export")


def test_types_table_lists_the_requests_of_the_whole_organisation(shop: Shop) -> None:
    here, there = shop.done(**RECORDS), shop("POST", "", RECORDS, who="gus", tenant="globex").json()
    shop.sample.people["ada"]["tenant"] = ["acme", "globex"]
    assert {export["id"] for export in shop("GET").json()["items"]} == {here["id"], there["id"]}
    assert [export["id"] for export in shop("GET", who="vera").json()["items"]] == [here["id"]]  # may not view the other tenant


def test_types_status_goes_from_pending_over_processing_to_completed_or_failed(shop: Shop) -> None:
    export = shop.ask(**RECORDS)
    assert shop.get(export)["statusLabel"] == "pending"
    shop.running(export, 10)
    assert shop.get(export)["statusLabel"] == "processing"
    assert shop.done(**RECORDS)["statusLabel"] == "completed"
    assert shop.failed(**RECORDS)["statusLabel"] == "failed"


def test_types_page_does_not_poll_and_refresh_is_there_while_something_is_active(shop: Shop) -> None:
    page = shop("GET", "/options").json()["page"]
    assert (page["auto_poll"], page["refresh"]) == (False, "active")


def test_types_processing_is_asynchronous(shop: Shop) -> None:
    made = shop("POST", "", RECORDS)
    assert (made.status_code, made.json()["status"]) == (202, "pending")


def test_types_export_type_decides_about_entities_and_formats(shop: Shop) -> None:
    kinds = shop("GET", "/options").json()["exportTypes"]
    assert {name: kind["formats"] for name, kind in kinds.items()} == {
        "records": ["csv", "xlsx"],
        "audit": ["csv", "json"],
        "full": ["csv", "json", "xlsx"],
    }
    for body, field in [
        ({"entities": ["Employees"], "formats": ["csv"]}, "exportType"),
        (RECORDS | {"exportType": "everything"}, "exportType"),
        (RECORDS | {"formats": ["json"]}, "formats"),
        (RECORDS | {"entities": ["Audit log"]}, "entities"),
        (RECORDS | {"formats": []}, "formats"),
        (RECORDS | {"entities": []}, "entities"),
    ]:
        refused = shop("POST", "", body)
        assert code(refused) == (422, "validation")
        assert {error["field"] for error in refused.json()["errors"]} == {field}


def test_types_hold_their_entity_types_in_every_format(shop: Shop) -> None:
    export = shop.done(exportType="full", entities=["Employees", "Appointments", "Audit log"], formats=["csv", "json", "xlsx"])
    archive = shop.archive(export)
    for entity in ("employees", "appointments", "audit_log"):
        rows = list(csv.reader(io.StringIO(archive.read(f"{entity}.csv").decode())))
        book = openpyxl.load_workbook(io.BytesIO(archive.read(f"{entity}.xlsx")), read_only=True)
        sheet = [row for page in book.worksheets for row in page.iter_rows(values_only=True)]
        book.close()
        assert len(rows) == len(sheet) == shop.count("tenant_id = 'acme'", entity) + 1


def test_types_download_signs_a_url_for_an_hour_and_a_fresh_one_any_time(shop: Shop) -> None:
    export = shop.done(**RECORDS)
    assert shop.get(export)["actions"]["download"]
    link = shop.link(export)
    assert ends(link) == NOW + timedelta(seconds=3600)
    shop.clock = NOW + timedelta(seconds=3599)
    assert shop.download(link["url"]).status_code == 200
    shop.clock = NOW + timedelta(seconds=3600)
    late = shop.download(link["url"])
    assert code(late) == (410, "expired")
    assert late.json()["detail"] == "The link has expired. Ask for a new one."
    fresh = shop.link(export)
    assert fresh["url"] != link["url"]
    assert shop.download(fresh["url"]).status_code == 200
    assert shop.download(fresh["url"][:-3] + "abc").status_code == 404


def test_types_deleting_a_row_touches_no_record(shop: Shop) -> None:
    before = shop.count("true", "employees", "appointments", "audit_log")
    first, other = shop.done(**RECORDS), shop.done(**RECORDS)
    assert shop("DELETE", f"/{first['id']}").status_code == 204
    assert [seen["id"] for seen in shop("GET").json()["items"]] == [other["id"]]
    assert shop.count("true", "employees", "appointments", "audit_log") == before
    assert len(list((shop.sample.folder / ".waybill/archive").rglob("*.zip"))) == 1


@pytest.mark.parametrize("who", ["gus", "nora"])
def test_types_exports_stay_with_those_whom_access_controls_let_in(shop: Shop, who: str) -> None:
    export = shop.done(**RECORDS)
    for method, path in [("GET", ""), ("POST", "/link"), ("DELETE", ""), ("POST", "/cancel"), ("POST", "/resubmit")]:
        assert code(shop(method, f"/{export['id']}{path}", who=who))[0] in (403, 404)
    assert b"Person 1" not in shop("GET", f"/{export['id']}", who=who).content


def test_types_who_signs_in_for_the_page_comes_back_to_it_with_what_was_asked(shop: Shop) -> None:
    asked = "/settings/exports?new=1&tenant=acme"
    sign_in = shop.client.get(asked)
    assert sign_in.url.path == "/page/sign-in"
    answer = shop.client.post("/page/sign-in", data={"token": shop.issuer.token(**shop.sample.people["ada"]), **dict(sign_in.url.params)})
    assert (answer.status_code, answer.url.raw_path.decode()) == (200, asked)
    assert "data-now" in answer.text
