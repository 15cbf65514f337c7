"""A project, app, study or participant of any name is found by the picker and exported through the form, the API and recurring exports."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from tests.exports import Office, make_office
from tests.issuer import TestIssuer, tenant_api
from waybill.ledger.on_demand import requests
from waybill.ledger.on_demand.request_records import ExportRequest
from waybill.requests.fulfilment import running
from waybill.web.pages.requests.names import joined, last_of, names_in

ODD = [
    "Walk, run & swim",
    "Walk",
    ", ,",
    'The "big" one',
    '"',
    '"quoted"',
    '"a", b',
    "O'Brien",
    "Übung ß",
    "🏃🏽‍♀️ runs",
    "a/b\\c",
    "../../etc",
    "100 %",
    "%41%2C+",
    "a&b=c;d#e?f",
    "<b>bold</b>",
    "{{ 7 * 7 }}",
    "$(id) `id`",
    "דוח, ערבית",
    "null",
    "0",
    "[1, 2]",
    "x" * 200,
]


@given(st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1).map(str.strip).filter(bool)))
def test_names_that_are_joined_are_read_as_the_same_names(names: list[str]) -> None:
    assert names_in(joined(names)) == names


@pytest.mark.parametrize(
    ("typed", "expected", "last"),
    [
        ("", [], ("", "")),
        ("a1", ["a1"], ("", "a1")),
        ("a1, a2 ,", ["a1", "a2"], ("a1, a2 , ", "")),
        (' "a, b" ,c', ["a, b", "c"], ('"a, b" , ', "c")),
        ('a1, "Walk, r', ["a1", "Walk, r"], ("a1, ", "Walk, r")),
        ('a1, "Walk,', ["a1", "Walk,"], ("a1, ", "Walk,")),
        ('5" screen, a', ['5" screen', "a"], ('5" screen, ', "a")),
        ('"a" b, c', ['"a" b', "c"], ('"a" b, ', "c")),
    ],
)
def test_what_is_typed_is_read_as_a_person_means_it(typed: str, expected: list[str], last: tuple[str, str]) -> None:
    assert (names_in(typed), (last_of(typed)[0].strip(), last_of(typed)[1])) == (expected, (last[0].strip(), last[1]))


def test_a_field_of_any_length_is_read_at_once() -> None:
    for text in (" " * 200_000, '"' * 200_001, '" ' * 100_000, ", " * 100_000, '""   ' * 50_000):
        last_of(text)
        names_in(text + '"x')


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, issuer: TestIssuer) -> Iterator[tuple[Office, TestClient]]:
    """Every name is a project with an app and a study of that name, and the project `all` has an app of every name."""
    office = make_office(tmp_path_factory.mktemp("odd"))
    office.policy(max_active_per_project="none")
    for number, name in enumerate(ODD):
        spelt = name.replace("'", "''")
        office.measure(number, project_id=spelt, app_id=spelt, study_id=spelt)
        office.measure(1000 + number, project_id="all", app_id=spelt)
    client = TestClient(tenant_api(office.place, issuer), raise_server_exceptions=False, follow_redirects=False)
    client.headers.update(issuer.bearer() | {"HX-Request": "true", "HX-Trigger": "export-form", "Sec-Fetch-Site": "same-origin"})
    yield office, client
    office.place.close()


def offered(client: TestClient, level: str, **typed: str) -> list[str]:
    answer = client.get(f"/page/tenants/acme/scope-values/{level}", params=typed)
    assert answer.status_code == 200, answer.text
    return [html.unescape(value) for value in re.findall(r'<option value="([^"]*)">', answer.text)]


def sent(place: tuple[Office, TestClient], **fields: str) -> ExportRequest:
    """The export that the form makes."""
    office, client = place
    before = {item.id for item in exports(office)}
    answer = client.post("/page/tenants/acme/requests", data={"entities": "measurement", "formats": "ndjson", **fields})
    assert answer.status_code < 400, answer.text
    (made,) = [item for item in exports(office) if item.id not in before]
    return made


def exports(office: Office) -> list[ExportRequest]:
    with office.installation().ledger.read() as connection:
        return requests.pending(connection)


def test_the_picker_offers_every_name_as_the_form_reads_it(place: tuple[Office, TestClient]) -> None:
    _, client = place
    assert sorted(offered(client, "project")) == sorted([*ODD, "all"])
    assert sorted(offered(client, "study")) == sorted([*ODD, "s1"])
    assert sorted(offered(client, "app", project="all")) == sorted(joined([name]) for name in ODD)
    assert offered(client, "app", project="all", apps='"a, b", "Walk, r') == ['"a, b", "Walk, run & swim"']


@pytest.mark.parametrize("name", ODD)
def test_what_the_picker_offers_is_exported(place: tuple[Office, TestClient], name: str) -> None:
    office, _ = place
    assert sent(place, level="project", project=name).scope["project"] == name
    assert sent(place, level="study", study=name).scope["study"] == name
    made = sent(place, level="app", project=name, apps=joined([name]))
    assert made.scope["apps"] == [name]
    done = running.fulfil(office.installation(), made.id)
    assert done is not None
    assert (done.status, done.rows) == ("done", 1)
    through_the_api = office.ask(scope={"level": "app", "project": name, "apps": [name]})
    assert through_the_api.scope == made.scope


def test_several_names_are_exported_together_and_again_and_again(place: tuple[Office, TestClient]) -> None:
    office, client = place
    made = sent(place, level="app", project="all", apps=joined(ODD))
    done = running.fulfil(office.installation(), made.id)
    assert done is not None
    assert (done.scope["apps"], done.rows) == (ODD, len(ODD))
    fields = {"level": "app", "project": "all", "apps": joined(ODD), "repeat": "weekly", "entities": "measurement", "formats": "ndjson"}
    assert client.post("/page/tenants/acme/requests", data=fields).status_code < 400
    (template,) = client.get("/api/v1/tenants/acme/export-templates").json()["items"]
    assert template["request"]["scope"]["apps"] == ODD
    page = html.unescape(client.get("/page/tenants/acme/requests").text)
    assert joined(ODD) in " ".join(page.split())
