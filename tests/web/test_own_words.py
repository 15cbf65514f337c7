"""A product replaces every sentence that its people read: here each one bears a mark, and none may be seen without it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.issuer import TestIssuer
from tests.presets import DAY, Shop, opened
from tests.servers.smtp import SmtpServer
from waybill.language import replaceable

MARK = "§ "
SILENT = ("script", "style")


class Texts(HTMLParser):
    """The texts of a page, and the attributes that people read."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._within: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._within = [tag] if tag in SILENT else []
        self.found += [value.strip() for name, value in attrs if value and name in ("title", "aria-label", "placeholder")]

    def handle_data(self, data: str) -> None:
        if not self._within:
            self.found.append(" ".join(data.split()))


@pytest.fixture
def shop(tmp_path: Path, issuer: TestIssuer) -> Iterator[Shop]:
    with marked(tmp_path, issuer) as shop:
        yield shop


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory, issuer: TestIssuer) -> Iterator[Shop]:
    """The same for tests that change nothing."""
    with marked(tmp_path_factory.mktemp("words"), issuer) as shop:
        yield shop


@contextmanager
def marked(folder: Path, issuer: TestIssuer) -> Iterator[Shop]:
    with opened("studies", folder, issuer) as shop:
        preset = shop.sample.config_dir / "presets/studies.yaml"  # its own words for fields and states could hide a sentence
        preset.write_text(yaml.safe_dump(yaml.safe_load(preset.read_text()) | {"page": {}, "labels": {}}))
        shop.policy(words={key: f"{MARK}{text}" for key, text in replaceable().items()})
        yield shop


def unmarked(page: str) -> list[str]:
    """What of a page is a sentence of the language file as it stands there."""
    texts = Texts()
    texts.feed(page)
    sentences = {text for text in replaceable().values() if "{" not in text and not text.isupper()} - {""}  # CSV is nobody's word
    return [found for found in texts.found if found in sentences]


def show(shop: Shop, path: str, who: str = "", **headers: str) -> Any:
    claims = shop.sample.people[who or next(iter(shop.sample.people))]
    sent = {"Accept": "text/html", **shop.issuer.bearer(**claims), **headers}
    return shop.client.get(f"/{path}", headers=sent)


@pytest.mark.parametrize(
    "path",
    [
        "page/tenants/acme/requests",
        "page/tenants/acme/requests?new=1",
        "page/requests",
        "page/catalogue",
        "page/sign-in",
        "page/nothing/here",
        "page/tenants/nobody/requests",
    ],
)
def test_a_page_is_in_the_products_words(shop: Shop, path: str) -> None:
    shop.done()
    shop.ask()
    page = show(shop, path)
    assert MARK in page.text
    assert unmarked(page.text) == []


def test_nobody_reads_the_words_of_a_tenant_they_must_not_know_of(shop: Shop) -> None:
    shop.policy(words={}, tenants={"acme": {"words": {key: f"{MARK}{text}" for key, text in replaceable().items()}}, "globex": {}})
    assert MARK in show(shop, "page/tenants/acme/requests").text
    assert MARK in shop("POST", "", {"formats": ["avro"]}).text
    assert MARK not in shop("POST", "", {"formats": ["avro"]}, "gus", "globex").text
    for path in ("page/tenants/{}/requests", "page/requests?tenant={}", "api/v1/tenants/{}/exports", "api/v1/tenants/{}/export"):
        for headers in ({}, shop.issuer.bearer(**shop.sample.people["gus"]), {"Authorization": "Bearer nobody"}):
            known, unknown = (shop.client.get(f"/{path.format(tenant)}", headers=headers) for tenant in ("acme", "nosuch"))
            assert MARK not in known.text
            assert (known.status_code, _without("acme", known.text)) == (unknown.status_code, _without("nosuch", unknown.text))


def _without(tenant: str, page: str) -> str:
    """The page without what differs between two answers anyway: the tenant's id and the key of a form."""
    return re.sub(r"[0-9a-f]{32}", "", page.replace(tenant, ""))


def test_the_fields_of_a_form_and_what_is_wrong_with_them_are_in_the_products_words(shop: Shop) -> None:
    htmx = {"HX-Request": "true", "HX-Trigger": "export-form", "Sec-Fetch-Site": "same-origin"}
    headers = shop.issuer.bearer(**shop.sample.people[next(iter(shop.sample.people))]) | htmx
    fields = {"level": "project", "from": "2026-05-02", "to": "2026-04-02"}
    said = shop.client.post("/page/tenants/acme/requests", headers=headers, data=fields)
    assert said.text.count(MARK) >= 4
    assert unmarked(said.text) == []


def test_refusals_and_findings_of_the_api_are_in_the_products_words(shop: Shop) -> None:
    wrong = shop("POST", "", {"scope": {"level": "project"}, "entities": ["nothing"], "formats": ["avro"]}).json()["errors"]
    assert len(wrong) == 3
    assert all(each["message"].startswith(MARK) for each in wrong)
    assert f"({MARK}allowed: " in wrong[2]["message"]
    assert shop("GET", f"/{'0' * 32}").json()["detail"].startswith(MARK)
    for contact in ({}, {"support_contact": "help@example.com"}):
        shop.policy(plan_required="scale", **contact)
        refused = shop("POST", "", shop.sample_ask()).json()
        assert (refused["code"], refused["detail"][: len(MARK)]) == ("plan_required", MARK)
        assert f"{MARK}Data export is available" in show(shop, "page/tenants/acme/requests").text


WRONG: dict[str, Any] = {
    "option": {"exportOption": "export some"},
    "no entities": {"entityList": []},
    "unknown entity": {"entityList": ["nobody"]},
    "no list": {"entityList": 5},
    "frequency": {"frequency": "hourly"},
    "unknown key": {"entitys": ["hsi"]},
    "zone": {"timezone": "Berlin"},
    "zone meant": {"timezone": "Europe/Berln"},
    "time": {"deliverAt": "noon"},
    "promise": {"deliverBy": "25:00"},
    "delimiter": {"csv": {"delimiter": "x"}},
    "line end": {"csv": {"line_ending": "cr"}},
    "type": {"csv": {"bom": "yes"}},
    "too small": {"csv": {"max_rows_per_file": 0}},
    "bucket": {"destination": {"kind": "s3", "bucket": "a b", "connection": "x"}},
    "missing": {"destination": {"kind": "sftp"}},
    "kind": {"destination": {"kind": "ftp", "connection": "x"}},
    "no kind": {"destination": {"connection": "x"}},
    "path": {"destination": {"kind": "sftp", "connection": "x", "root": "/../x"}},
    "home": {"destination": {"kind": "sftp", "connection": "x", "root": "~/x"}},
    "line in a path": {"destination": {"kind": "sftp", "connection": "x", "root": "/a\nb"}},
    "connection": {"destination": {"kind": "sftp", "connection": "a b", "root": "/"}},
    "key": {"encryption": {"kind": "pgp", "public_key": "x"}},
    "private key": {"encryption": {"kind": "pgp", "public_key": "-----BEGIN PGP PRIVATE KEY BLOCK-----"}},
    "mail": {"notify": [{"kind": "mail", "to": ["nobody"]}]},
    "no mail": {"notify": [{"kind": "mail", "to": []}]},
    "webhook": {"notify": [{"kind": "webhook", "connection": "x", "url": "ftp://x", "secret": 1}]},
    "where": {"where": {"hsi": [{"column": "nothing", "value": 1}]}},
    "where nobody": {"where": {"nobody": [{"column": "id", "value": 1}]}},
    "value": {"where": {"hsi": [{"column": "id", "value": {"a": 1}}]}},
    "operator": {"where": {"hsi": [{"column": "id", "op": "in", "value": 1}]}},
    "no value": {"where": {"hsi": [{"column": "id", "op": "is null", "value": 1}]}},
    "columns": {"columns": {"hsi": ["nothing"]}},
    "rename": {"rename": {"hsi": {"id": " x "}}},
    "same name": {"rename": {"hsi": {"axis": "id"}}},
    "id": {"sourceTenant": True},
    "copy": {"copyOf": "nobody"},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_registration_is_in_the_products_words(shop: Shop, wrong: dict[str, Any]) -> None:
    body = {"exportOption": "export selected", "entityList": ["HSI data"], "frequency": "daily"} | wrong
    claims = shop.sample.people["tom"] | {"roles": ["admin", "tenant_admin"]}
    refused = shop.client.put("/api/v1/tenants/acme/export", json=body, headers=shop.issuer.bearer(**claims))
    assert refused.status_code == 422, refused.text
    found = refused.json()["errors"]
    assert found
    plain = [each["message"] for each in found if MARK not in each["message"]]
    assert plain == []
    allowed = replaceable()["refusal.allowed"].partition(":")[0]
    assert all(MARK in each["message"].partition(allowed)[0] for each in found)


@pytest.mark.parametrize("single", ["where: {hsi: [{column: nothing, value: 1}]}", "columns: {nobody: [id]}", "rename: {hsi: {id: ' x '}}"])
def test_what_is_wrong_with_single_entities_is_in_the_products_words_at_the_form(shop: Shop, single: str) -> None:
    htmx = {"HX-Request": "true", "HX-Trigger": "registration-form", "Sec-Fetch-Site": "same-origin"}
    headers = shop.issuer.bearer(**shop.sample.people["tom"] | {"roles": ["admin", "tenant_admin"]}) | htmx
    fields = {"exportOption": "export all", "frequency": "daily", "timezone": "UTC", "expected": "0", "perEntity": single}
    said = shop.client.post("/page/tenants/acme/registration/preview", headers=headers, data=fields)
    assert said.status_code == 422
    (told,) = re.findall(r'data-field="perEntity">.*?<span>(.*?)</span>', said.text, re.DOTALL)
    assert told.count(MARK) >= 1
    assert not re.search(r"(?<!§ )(allowed: |did you mean )", told)
    assert unmarked(said.text) == []


JSON = {"Content-Type": "application/json"}
CALLS: dict[str, dict[str, Any]] = {
    "another kind of body": {"content": b"a: b", "headers": {"Content-Type": "application/yaml"}},
    "another charset": {"content": b"{}", "headers": {"Content-Type": "application/json; charset=latin-1"}},
    "a compressed body": {"content": b"{}", "headers": JSON | {"Content-Encoding": "gzip"}},
    "a large body": {"content": b" " * 300_000, "headers": JSON},
    "no JSON": {"content": b'{"a": }', "headers": JSON},
    "no UTF-8": {"content": b'{"a": "\xff"}', "headers": JSON},
    "a key twice": {"content": b'{"a": 1, "a": 2}', "headers": JSON},
    "no number of JSON": {"content": b'{"a": NaN}', "headers": JSON},
    "many digits": {"content": b'{"a": ' + b"1" * 2000 + b"}", "headers": JSON},
    "a deep body": {"content": b'{"a":' * 40 + b"1" + b"}" * 40, "headers": JSON},
    "a very deep body": {"content": b"[" * 100_000, "headers": JSON},
    "a list": {"json": []},
    "an unknown parameter": {"json": {}, "params": {"nothing": "1"}},
    "another method": {"method": "PATCH"},
    "nothing there": {"path": "/nothing"},
    "a parameter twice": {"method": "GET", "params": [("limit", "1"), ("limit", "2")]},
    "a parameter that does not fit": {"method": "GET", "params": {"limit": "many"}},
    "no token": {"method": "GET", "headers": {"Authorization": ""}},
    "another kind of login": {"method": "GET", "headers": {"Authorization": "Basic YTpi"}},
    "no real token": {"method": "GET", "headers": {"Authorization": "Bearer nobody"}},
    "another tenant": {"method": "GET", "path": "/../../nosuch/exports"},
    "no export": {"method": "GET", "path": f"/{'0' * 32}"},
    "a tag that is none": {"method": "PUT", "path": "/../export", "json": {}, "headers": {"If-None-Match": "1"}},
    "a right that is missing": {"method": "POST", "path": "/../export/full-load", "json": {}},
    "an unknown entity": {"method": "GET", "path": "/../deliveries", "params": {"entity": "nothing"}},
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_that_is_refused_before_anybody_looks_at_it_is_answered_in_the_products_words(words: Shop, call: dict[str, Any]) -> None:
    bearer = words.issuer.bearer(**words.sample.people["tom"] | {"roles": ["admin", "tenant_admin"] if "tag" in str(call) else ["admin"]})
    asked = {"method": "POST", "path": ""} | call
    path = posixpath.normpath(f"/api/v1/tenants/acme/exports{asked.pop('path')}")
    answer = words.client.request(url=path, **asked | {"headers": bearer | call.get("headers", {})})
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    said = answer.json()
    assert 400 <= answer.status_code < 500
    assert said["detail"].partition(": ")[2 if said["errors"] and not said["detail"].startswith(MARK) else 0].startswith(MARK), said
    assert all(each["message"].startswith(MARK) for each in said["errors"]), said


def test_what_cannot_be_done_with_a_registration_is_said_in_the_products_words(shop: Shop) -> None:
    bearer = shop.issuer.bearer(**shop.sample.people["tom"] | {"roles": ["admin", "tenant_admin"]})

    def call(method: str, path: str, body: Any = None) -> Any:
        return shop.client.request(method, f"/api/v1/tenants/acme/{path}", json=body, headers=bearer).json()

    body = {"exportOption": "export selected", "entityList": ["HSI data"], "frequency": "daily"}
    said = [call("GET", "kit")["detail"], call("PUT", "export", body | {"frequency": "hourly", "timezone": "Berlin"})["detail"]]
    with shop.warehouse() as connection:
        for (table,) in connection.execute("select table_name from information_schema.tables").fetchall():
            connection.execute(f'drop table "{table}"')
    said += [estimate["note"] for estimate in call("PUT", "export?dryRun=true", body)["estimates"]]
    disabled = call("PUT", "export", {"exportOption": "disable export", "frequency": "daily"})
    assert disabled.get("exportOption") == "disable export", disabled
    said += [call("GET", "kit")["detail"], call("POST", "export/versions/9/restore")["detail"]]
    assert len(said) == 5
    assert all(each.startswith(MARK) for each in said), said


def test_mistakes_in_files_are_kept_for_everybody_and_stay_plain(shop: Shop) -> None:
    """They are read once, for whoever asks first; a policy that cannot be read still says why."""
    (shop.sample.config_dir / "tenants").mkdir(exist_ok=True)
    (shop.sample.config_dir / "tenants/acme.yaml").write_text("exportOption: export some\n")
    with shop.installation.speaking_to("acme"):
        found = shop.installation.configuration.files.findings
    assert [str(item) for item in found]
    assert not any(MARK in str(item) for item in found)
    policy = shop.sample.config_dir / "policy.yaml"
    policy.write_text(policy.read_text() + "nothing: 1\n")
    answer = shop("GET")
    assert answer.status_code == 503


def test_form_and_api_say_the_same_of_a_scope_that_lacks_something(shop: Shop) -> None:
    shop.policy(words={})
    (wrong,) = shop("POST", "", shop.sample_ask() | {"scope": {"level": "project"}}).json()["errors"]
    assert wrong["message"] == "choose a project"


def test_the_rows_of_the_list_are_in_the_products_words(shop: Shop) -> None:
    shop.done(**shop.sample_ask() | {"scope": {"level": "project", "project": "p1"}})
    assert f"{MARK}project p1" in show(shop, "page/tenants/acme/requests").text


def test_an_archive_its_mail_and_its_link_speak_in_the_products_words(shop: Shop, smtp: SmtpServer) -> None:
    shop.policy(notify={"requests": ["ready", "failed"]})
    export = shop.done()
    readme = shop.archive(export).read("README.txt").decode()
    said = [line for line in readme.splitlines() if line and not line.startswith((" ", "-"))]
    assert said
    assert all(line.startswith(MARK) for line in said), readme
    shop.mails(smtp.host, smtp.port)
    mail = smtp.received[0].message
    assert mail["Subject"].startswith(MARK)
    assert all(line.startswith((MARK, "https://")) for line in mail.get_content().splitlines() if line)
    link = shop.link(export)
    shop.clock += DAY * 400
    assert shop.download(link["url"]).json()["detail"].startswith(MARK)


def test_a_failure_is_kept_and_mailed_in_the_products_words(shop: Shop, smtp: SmtpServer) -> None:
    shop.policy(notify={"requests": ["ready", "failed"]})
    lost = shop.ask()
    shop.running(lost)
    shop.clock += timedelta(hours=3)
    shop.fulfil()
    failed = shop.failed()
    for export in (shop.get(lost), failed):
        assert export["status"] == "failed"
        assert export["error"]["message"].startswith(MARK)
        assert export["error"]["advice"].startswith(MARK)
    shop.mails(smtp.host, smtp.port)
    assert len(smtp.received) == 2
    for received in smtp.received:
        assert all(line.startswith(MARK) for line in received.message.get_content().splitlines() if line)
