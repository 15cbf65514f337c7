"""Product document 001 sentence by sentence, under the preset `realms`."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.presets import DAY, NOW, PUBLIC, Shop, code, ends
from tests.servers.smtp import SmtpServer
from waybill.configuration.catalog import FORMATS

PRESET = "realms"
MARCH = {"from": "2026-03-01", "to": "2026-03-31"}
ASK: dict[str, Any] = {"entities": ["Jobs"], "range": MARCH, "formats": ["csv"]}


def test_realms_export_single_records_of_the_warehouse(shop: Shop) -> None:
    export = shop.done(**ASK)
    table = list(csv.DictReader(io.StringIO(shop.archive(export).read("jobs.csv").decode())))
    in_march = "tenant_id = 'acme' and end_time >= '2026-03-01' and end_time < '2026-04-01'"
    assert len(table) == export["rows"] == shop.count(in_march, "jobs") == 124
    assert len({row["job_id"] for row in table}) == 124


@pytest.mark.parametrize(
    ("first", "last", "problem"),
    [
        ("2025-06-02", "2026-06-01", ""),
        ("2025-06-01", "2026-06-01", ""),
        ("2025-05-31", "2026-06-01", "range_too_long"),
        ("2024-02-29", "2025-02-28", ""),
        ("2023-03-01", "2024-02-29", ""),
        ("2026-05-01", "2026-06-02", "date_in_future"),
        ("2026-06-02", "2026-06-01", "start_after_end"),
    ],
    ids=["365", "366", "367", "leap start", "leap end", "tomorrow", "backwards"],
)
def test_realms_requests_last_one_year_at_most(shop: Shop, first: str, last: str, problem: str) -> None:
    answer = shop("POST", "", ASK | {"range": {"from": first, "to": last}})
    if not problem:
        assert answer.status_code == 202
        return
    assert code(answer) == (422, "validation")
    assert problem in {error["code"] for error in answer.json()["errors"]}
    if problem == "range_too_long":
        assert answer.json()["detail"] == "Date range must not exceed one year"


def test_realms_know_no_limit_to_the_number_of_requests(shop: Shop) -> None:
    for day in range(1, 13):
        shop.ask(**ASK | {"range": {"from": f"2026-02-{day:02}", "to": "2026-03-31"}})
    shop.fulfil()
    listed = shop("GET", "?limit=100").json()["items"]
    assert [export["status"] for export in listed] == ["done"] * 12


def test_realms_formats_are_csv_and_json_as_arrays(shop: Shop) -> None:
    options = shop("GET", "/options").json()
    assert (options["formats"], options["jsonLayout"]) == (["csv", "json"], "arrays")
    export = shop.done(**ASK | {"formats": ["csv", "json"]})
    archive = shop.archive(export)
    header, *rows = json.loads(archive.read("jobs.json"))
    assert all(isinstance(row, list) for row in rows)
    assert (len(rows), header[0]) == (export["rows"], "job_id")
    assert next(csv.reader(io.StringIO(archive.read("jobs.csv").decode()))) == header
    for other in set(FORMATS) - {"csv", "json"}:
        assert code(shop("POST", "", ASK | {"formats": [other]})) == (422, "validation")


def test_realms_requests_are_fulfilled_on_a_set_schedule_within_a_day(shop: Shop) -> None:
    from waybill.requests.fulfilment import running

    export = shop.ask(**ASK)
    due = datetime.fromisoformat(export["dueAt"])
    assert NOW < due <= NOW + DAY
    assert (due.hour, due.minute) == (1, 0)
    assert running.fulfil_all(shop.installation, due_only=True) == []
    shop.clock = due
    assert len(running.fulfil_all(shop.installation, due_only=True)) == 1
    assert shop.get(export)["status"] == "done"


def test_realms_mail_says_that_data_is_ready_with_a_link_and_its_end(shop: Shop, smtp: SmtpServer) -> None:
    export = shop.done(**ASK)
    shop.mails(smtp.host, smtp.port)
    shop.mails(smtp.host, smtp.port)
    (mail,) = smtp.received
    assert mail.recipients == ("ada@example.com",)
    text = mail.message.get_content()
    assert "Your data export is ready for download" in text
    assert "The file expires on 2026-07-01 12:00 (UTC). After this date it can no longer be downloaded" in text
    assert "but you may resubmit the request." in text
    link = next(word for word in text.split() if word.startswith(PUBLIC))
    shop.clock += timedelta(days=29, hours=23)  # the link lives as long as the archive
    assert shop.download(link).content == shop.download(shop.link(export)["url"]).content != b""
    shop.clock = NOW + timedelta(days=30)
    assert code(shop.download(link)) == (410, "expired")
    assert shop.get(export)["expiresAt"] == "2026-07-01T12:00:00.000000Z"


def test_realms_mail_says_why_a_request_failed(shop: Shop, smtp: SmtpServer) -> None:
    export = shop.failed(**ASK)
    shop.mails(smtp.host, smtp.port)
    assert export["statusLabel"] == "Failed"
    assert export["error"]["message"] in smtp.received[0].message.get_content()


def test_realms_show_the_fields_that_will_be_exported(shop: Shop) -> None:
    realms = {entity["name"]: entity for entity in shop("GET", "/options").json()["entities"]}
    assert list(realms) == ["Jobs", "Cloud", "Storage"]
    for name, realm in realms.items():
        export = shop.done(**ASK | {"entities": [name]})
        header = next(csv.reader(io.StringIO(shop.archive(export).read(f"{realm['id']}.csv").decode())))
        assert header == [column["name"] for column in realm["columns"]]
        assert all(column["description"] for column in realm["columns"])


@pytest.mark.parametrize(
    ("missing", "problems"),
    [
        ({"range": {"to": "2026-03-31"}}, {("range.from", "range_required")}),
        ({"range": {"from": "2026-03-01"}}, {("range.to", "range_required")}),
        ({"formats": []}, {("formats", "format_required")}),
        ({"entities": []}, {("entities", "no_entities")}),
    ],
    ids=["start", "end", "format", "realm"],
)
def test_realms_need_start_end_format_and_realm(shop: Shop, missing: dict[str, Any], problems: set[tuple[str, str]]) -> None:
    answer = shop("POST", "", ASK | missing)
    assert code(answer) == (422, "validation")
    assert {(error["field"], error["code"]) for error in answer.json()["errors"]} == problems


def test_realms_request_is_submitted_and_may_be_deleted_before_it_is_fulfilled(shop: Shop) -> None:
    export = shop.ask(**ASK)
    assert export["statusLabel"] == "Submitted"
    assert [seen["id"] for seen in shop("GET").json()["items"]] == [export["id"]]
    assert export["actions"]["delete"]
    assert shop("DELETE", f"/{export['id']}").status_code == 204
    shop.fulfil()
    assert shop("GET").json()["items"] == []
    assert not list(shop.sample.folder.rglob("*.zip"))


def test_realms_running_request_still_reads_submitted(shop: Shop) -> None:
    export = shop.ask(**ASK)
    shop.running(export, 50)
    assert shop.get(export)["statusLabel"] == "Submitted"


def test_realms_equal_request_is_refused_while_the_first_stands(shop: Shop) -> None:
    shop.ask(**ASK)
    assert code(shop("POST", "", ASK)) == (409, "duplicate_request")
    shop.fulfil()
    assert code(shop("POST", "", ASK)) == (409, "duplicate_request")


def test_realms_file_is_there_for_thirty_days_then_the_request_may_be_resubmitted(shop: Shop) -> None:
    export = shop.done(**ASK)
    assert export["statusLabel"] == "Available"
    assert export["expiresAt"] == "2026-07-01T12:00:00.000000Z"
    link = shop.link(export)
    assert ends(link) == NOW + timedelta(days=30)
    shop.clock = NOW + timedelta(days=30) - timedelta(seconds=1)
    assert shop.download(link["url"]).status_code == 200
    shop.clock = NOW + timedelta(days=30)
    assert code(shop.download(link["url"])) == (410, "expired")
    expired = shop.get(export)
    assert (expired["statusLabel"], expired["actions"]["resubmit"]) == ("Expired", True)
    again = shop("POST", f"/{export['id']}/resubmit")
    assert again.status_code == 202
    assert again.json()["resubmittedFrom"] == export["id"]
    shop.fulfil()
    assert shop.get(again.json())["rows"] == export["rows"]


def test_realms_people_see_their_own_requests(shop: Shop) -> None:
    export = shop.done(**ASK)
    assert shop("GET", who="bob").json()["items"] == []
    assert code(shop("GET", f"/{export['id']}", who="bob")) == (404, "not_found")
    assert [seen["id"] for seen in shop("GET", who="max").json()["items"]] == [export["id"]]


def test_realms_page_has_its_form_on_the_left(shop: Shop) -> None:
    page = shop("GET", "/options").json()["page"]
    assert (page["title"], page["form"], page["dialog_title"]) == ("Data Export", "left", "Create Data Export Request")
    assert "expires" in page["columns"]


def test_mistakes_in_the_form_of_realms_are_told_by_the_names_of_its_fields(shop: Shop) -> None:
    page = {"HX-Request": "true", "HX-Trigger": "export-form", "Sec-Fetch-Site": "same-origin"}
    headers = shop.issuer.bearer(**shop.sample.people["ada"]) | page
    fields = {"entities": "jobs", "from": "2026-05-02", "to": "2026-06-02", "formats": "csv"}
    said = shop.client.post("/page/tenants/acme/requests", headers=headers, data=fields).text
    told = re.findall(r'<li data-field="([^"]*)"><b>([^<]*):</b> <span>([^<]*)</span>', said)
    assert told == [("to", "End Date", "The date lies in the future")]
