"""A tenant's page: the form's mistakes at their fields, differences and history in words, rehearsals that are kept, repairs asked for."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from tests.exports import MEASUREMENT, SITE, START, make_office
from tests.installations import Place, catalog
from tests.issuer import RecordingScheduler
from tests.open_access import OpenDoor
from waybill.connection import Connection
from waybill.web.app import create_app
from waybill.web.pages.words import words as tenant_words

FORM = {"exportOption": "export selected", "frequency": "daily", "timezone": "Europe/Berlin", "expected": "0"}
LAST = "Last day must be 2026-05-31 or earlier: later days come with the next run"
SITES = FORM | {"entityList": "site"}


def words(page: str) -> str:
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", page)).split())


@dataclass
class Desk:
    place: Place
    client: TestClient

    def send(self, tenant: str, action: str, form: str, fields: Mapping[str, Any]) -> tuple[int, str]:
        headers = {"HX-Request": "true", "Sec-Fetch-Site": "same-origin", "HX-Trigger": form}
        answer = self.client.post(f"/page/tenants/{tenant}/{action}", headers=headers, data=dict(fields))
        return answer.status_code, answer.text or answer.headers.get("HX-Redirect", "")

    def wrong(self, tenant: str, action: str, form: str, fields: Mapping[str, Any]) -> dict[str, str]:
        """What is said of each field of a form that is refused."""
        status, said = self.send(tenant, action, form, fields)
        assert status == 422, said
        found = re.findall(r'<li data-field="(\w+)"><b>[^<]+:</b> <span>([^<]*)</span>', said)
        return {field: html.unescape(message) for field, message in found}

    def preview(self, tenant: str, fields: Mapping[str, Any]) -> str:
        status, said = self.send(tenant, "registration/preview", "registration-form", fields)
        assert status == 200, said
        return said

    def register(self, tenant: str, fields: Mapping[str, Any]) -> str:
        """Preview and confirm; where the page then leads."""
        found = re.search(r'name="body" value="([^"]*)"', self.preview(tenant, fields))
        assert found
        body = {"body": html.unescape(found[1]), "expected": fields["expected"]}
        status, place = self.send(tenant, "registration", "replace-form", body)
        assert status == 204, place
        return place

    def look(self, tenant: str, heading: str = "") -> str:
        said = self.client.get(f"/page/tenants/{tenant}").text
        return words(said.partition(f'<h2 id="{heading}">')[2].partition("<h2 id=")[0] if heading else said)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """acme has its data, in a folder."""
    office = make_office(tmp_path_factory.mktemp("desk"))
    place = office.place
    place.write("catalog.yaml", catalog(measurement=MEASUREMENT | {"name": "sensor readings"}, site=SITE))
    place.run(START, "acme")
    installation = office.installation()
    with TestClient(create_app(lambda: installation, OpenDoor(), RecordingScheduler())) as client:
        yield Desk(place, client)
    place.close()


def test_every_mistake_of_the_form_is_told_of_its_field_in_the_forms_words(desk: Desk) -> None:
    fields = FORM | {"timezone": "Europe/Berln", "kind": "sftp", "max_rows_per_file": "many"}
    assert desk.wrong("newco", "registration/preview", "registration-form", fields) == {
        "entityList": "Choose at least one, or “export all”",
        "timezone": "Unknown time zone 'Europe/Berln' (allowed: IANA names such as Europe/Berlin; did you mean Europe/Berlin?)",
        "connection": "Airflow connection id is required",
        "max_rows_per_file": "'many' does not fit (allowed: a whole number)",
    }


def test_who_was_overtaken_reads_so_without_the_words_of_the_api(desk: Desk) -> None:
    status, said = desk.send("newco", "registration/preview", "registration-form", SITES | {"expected": "7"})
    assert status == 412
    assert "Somebody else changed the registration in the meantime" in said
    assert "If-Match" not in said


def test_a_promise_is_made_in_the_form_and_shown_with_the_state(desk: Desk) -> None:
    promised = SITES | {"deliverAt": "02:00", "deliverBy": "06:00"}
    assert "Promised by (local time) 06:00" in words(desk.preview("kept", promised))
    desk.register("kept", promised)
    page = desk.client.get("/page/tenants/kept").text
    assert 'name="deliverBy" type="time" value="06:00"' in page
    assert "02:00 Europe/Berlin; promised by 06:00" in words(page)
    assert "promised by" in desk.look("kept").partition("Registration")[0]
    assert "Promised by (local time) 06:00 no promise" in words(desk.preview("kept", SITES | {"expected": "1"}))
    assert desk.register("kept", SITES | {"expected": "1"}).endswith("?said=saved")
    assert "promised by" not in desk.look("kept")


def test_what_would_change_what_did_and_going_back_are_told_in_words(desk: Desk) -> None:
    sftp = {"kind": "sftp", "connection": "nowhere", "root": "/in"}
    said = words(desk.preview("globe", SITES | sftp))
    assert "Destination SFTP server, connection nowhere, root /in" in said
    assert "there is no Airflow connection 'nowhere'. Deliveries fail until it can be used" in said
    assert desk.register("globe", SITES | sftp).endswith("?said=created")
    folder = {"entityList": ["site", "measurement"], "kind": "folder", "root": "elsewhere", "delimiter": "tab", "expected": "1"}
    said = words(desk.preview("globe", SITES | folder))
    assert "Switched on, each with a full load first: sensor readings" in said
    assert "Kept, going on where they are: site" in said
    assert "Destination SFTP server, connection nowhere, root /in folder, root elsewhere" in said
    assert "CSV dialect the default delimiter tab" in said
    assert "Not found from here" not in said
    assert desk.register("globe", SITES | folder).endswith("?said=saved")
    assert desk.send("globe", "restore", "restore-1-form", {"number": "1", "expected": "2"})[0] == 204
    history = desk.look("globe", "history")
    assert "Back to version 1. Switched off: sensor readings. Destination: folder, root elsewhere → SFTP server" in history
    assert "Switched on: sensor readings. Destination: SFTP server" in history
    assert "Registered: export selected (site), daily, Europe/Berlin, SFTP server, connection nowhere, root /in" in history


def test_what_is_said_of_single_entities_is_written_as_in_a_file_and_told_in_words(desk: Desk) -> None:
    chosen = ["where: {measurement: [{column: value, op: '>=', value: 2}]}", "rename: {measurement: {value: reading}}"]
    text = "\n".join([*chosen, "columns: {measurement: [id, value]}"])
    fields = FORM | {"exportOption": "export all", "perEntity": text}
    said = words(desk.preview("single", fields))
    assert "Rows sensor readings: value >= 2" in said
    assert "Column names sensor readings: value as reading" in said
    desk.register("single", fields)
    assert "Columns sensor readings: id, value" in desk.look("single", "registration")
    page = html.unescape(desk.client.get("/page/tenants/single").text)
    assert "rename:\n  measurement: {value: reading}" in page
    desk.register("single", FORM | {"exportOption": "export all", "expected": "1", "perEntity": ""})
    assert "Column names: sensor readings: value as reading → –" in desk.look("single", "history")
    assert "Column names" not in desk.look("single", "registration").partition("Edit the registration")[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rename: {measurement: {valu: x}}", "rename.measurement.valu: measurement has no column 'valu'"),
        ("rename: [", "line 1, column 10: not valid YAML"),
        ("frequency: daily", "holds the unknown key 'frequency' (allowed: "),
        ("- a", "Holds a list"),
        ("where: {measurement: [{column: value, value: 2026-01-01}]}", "where.measurement.0.value: '2026-01-01' does not fit the type"),
    ],
)
def test_a_mistake_in_what_is_said_of_single_entities_is_told_at_its_field(desk: Desk, text: str, said: str) -> None:
    told = desk.wrong("newco", "registration/preview", "registration-form", FORM | {"exportOption": "export all", "perEntity": text})
    assert said.casefold() in told["perEntity"].casefold()


def test_the_page_adds_up_what_each_month_brought(desk: Desk) -> None:
    said = desk.look("acme", "deliveries")
    assert "What each month brought Month (UTC) Deliveries Rows Bytes Seconds 2026-" in said


def test_a_failed_rehearsal_is_kept_with_what_to_do_until_one_succeeds(desk: Desk, tmp_path: Path) -> None:
    desk.register("trial", SITES | {"kind": "sftp", "connection": "trial_sftp"})
    assert "Never rehearsed" in desk.look("trial", "destination")
    desk.place.connections["trial_sftp"] = Connection("trial_sftp", "sftp", host="127.0.0.1", port=9, login="x", password="x")
    status, said = desk.send("trial", "probe", "probe-form", {})
    assert status == 200
    for shown in (words(said), desk.look("trial", "destination")):
        assert "The rehearsal failed 2026-06-01 14:00 CEST" in shown
        assert "the connection pins no host key." in shown
        assert "put one in extra as host_key. Then rehearse again." in shown
        assert "Never rehearsed" not in shown
    desk.register("trial", SITES | {"kind": "folder", "root": str(tmp_path), "expected": "1"})
    assert "That was another destination than the one in force: SFTP server, connection trial_sftp" in desk.look("trial", "destination")
    assert "Profile full" in words(desk.send("trial", "probe", "probe-form", {})[1])
    assert "The rehearsal failed" not in desk.look("trial", "destination")


def test_a_full_load_is_of_what_was_chosen_and_of_everything_only_when_that_was(desk: Desk) -> None:
    assert desk.wrong("acme", "full-load", "full-load-form", {"when": "now"}) == {"entities": "Choose all entities, or at least one"}
    assert "full load, asked for" not in desk.look("acme", "streams")
    assert desk.send("acme", "full-load", "full-load-form", {"when": "next", "all": "1"})[0] == 204
    assert "full load, asked for" in desk.look("acme", "streams")
    assert "With the next run, 2026-06-02 01:" in desk.look("acme")


@pytest.mark.parametrize(
    ("first", "last", "field", "message"),
    [
        ("2030-01-01", "2030-01-02", "to", LAST),
        ("2026-05-03", "2026-05-02", "to", "Last day must not lie before the first day"),
        ("1026-05-01", "2026-05-02", "from", "First day must be 1970-01-01 or later: a full load delivers whatever is older"),
        ("", "2026-05-02", "from", "First day is not a date (allowed: such as 2026-01-31)"),
        ("0001-01-01", "2026-05-02", "from", "First day is not a date (allowed: such as 2026-01-31)"),
        ("2026-05-02", "9999-12-31", "to", "Last day is not a date (allowed: such as 2026-01-31)"),
    ],
)
def test_days_that_cannot_be_delivered_again_are_told_as_days(desk: Desk, first: str, last: str, field: str, message: str) -> None:
    asked = {"entity": "measurement", "from": first, "to": last}
    assert desk.wrong("acme", "backfill", "backfill-form", asked) == {field: message}


def test_an_entity_goes_by_one_name_on_the_whole_page(desk: Desk) -> None:
    said = desk.client.get("/page/tenants/acme").text
    assert said.count("sensor readings<small>measurement</small>") == 3  # streams, deliveries, the dialog of full loads
    assert "export selected: sensor readings" in words(said)


def test_a_tenant_managed_as_code_is_read_only_and_names_its_file(desk: Desk) -> None:
    said = desk.look("acme")
    assert "Managed as code by config/tenants/acme.yaml" in said
    assert "Edit the registration" not in said


def test_a_tenant_whose_exports_are_disabled_is_registered_and_offered_no_run(desk: Desk) -> None:
    assert desk.register("quiet", FORM | {"exportOption": "disable export"}).endswith("?said=created")
    said = desk.look("quiet?said=created")
    assert "The tenant is registered." in said
    assert "Exports are disabled for this tenant" in said
    assert "Run what is due" not in said


def test_an_id_that_is_none_is_told_what_one_looks_like_and_never_cut(desk: Desk) -> None:
    for wrong in ("Bad Id!", "x" * 80):
        answer = desk.client.get("/page/open", params={"tenant": wrong})
        assert answer.status_code == 422
        assert "1 to 63 of a-z 0-9 _ -, beginning with a letter or digit" in answer.text
    assert "maxlength" not in desk.client.get("/page/").text.partition('id="new-tenant"')[2].partition(">")[0]


def test_the_feed_is_switched_on_and_off_by_the_form(desk: Desk) -> None:
    ticked = re.compile(r'<input type="checkbox" id="status"[^>]*checked')
    assert "Beside the files" not in desk.preview("fed", SITES)
    desk.register("fed", SITES | {"status": "1"})
    assert ticked.search(desk.client.get("/page/tenants/fed").text)
    assert "Beside the files" in desk.preview("fed", SITES | {"expected": "1"})
    desk.register("fed", SITES | {"expected": "1"})
    assert not ticked.search(desk.client.get("/page/tenants/fed").text)


def test_files_are_encrypted_by_the_form_and_a_key_that_is_none_is_told_at_its_field(desk: Desk) -> None:
    told = desk.wrong("closed", "registration/preview", "registration-form", SITES | {"public_key": "ssh-ed25519 AAAA"})
    assert "not an OpenPGP public key" in told["public_key"]
    armored = Path(__file__).with_name("consumer.asc").read_text()
    assert re.search(
        "Encryption OpenPGP, key with SHA-256 [0-9a-f]{12} First",
        words(desk.preview("closed", SITES | {"public_key": armored.replace("\n", "\r\n")})),
    )
    desk.register("closed", SITES | {"public_key": armored})
    assert armored.splitlines()[3] in desk.client.get("/page/tenants/closed").text
    assert re.search("Encryption OpenPGP, key with SHA-256 [0-9a-f]{12} none", words(desk.preview("closed", SITES | {"expected": "1"})))


def test_another_key_and_entities_without_a_condition_are_told_as_they_are(desk: Desk) -> None:
    told = tenant_words(desk.place.installation())
    encryption: dict[str, str] = {"kind": "pgp", "public_key": "one"}
    ((label, before, after),) = told.changes({"encryption": (encryption, encryption | {"public_key": "other"})}, moved=False)
    assert (label, before == after) == ("Encryption", False)
    assert told.value("where", {"site": []}).endswith(": –")


@pytest.mark.parametrize("body", ["", "[]", "1", "null", "{", "[" * 50_000])
def test_what_is_no_preview_is_not_put_in_force(desk: Desk, body: str) -> None:
    status, said = desk.send("initech", "registration", "replace-form", {"body": body, "expected": "0"})
    assert status == 422, said


@pytest.mark.parametrize("damage", ["'[]'", "json_set(body, '$.frequency', 'hourly')"])
def test_a_tenant_whose_registration_cannot_be_read_is_told_what_to_do(desk: Desk, damage: str) -> None:
    desk.register("unread", SITES)
    with desk.place.installation().ledger.begin() as connection:
        connection.execute(text(f"update registration set body = {damage} where tenant = 'unread'"))
    answer = desk.client.get("/page/tenants/unread")
    assert answer.status_code < 500, words(answer.text)
    assert "the registration can no longer be read" in words(answer.text)
    with desk.place.installation().ledger.begin() as connection:
        connection.execute(text("delete from registration where tenant = 'unread'"))
        connection.execute(text("update tenant set version = 0 where id = 'unread'"))
