"""Product document 000 sentence by sentence, under the preset `studies`."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.presets import NOW, PUBLIC, Shop, code, lines

PRESET = "studies"
BOTH = ["ndjson", "csv"]
CREATE_DENIED = "You don’t have permission to create exports. Ask an organization or tenant admin."


def test_studies_need_an_organization_and_a_tenant(shop: Shop) -> None:
    for method in ("GET", "POST"):
        answer = shop(method, "../exports")
        assert code(answer) == (400, "context_required")
        assert answer.json()["detail"] == "Select an organization and tenant to view and create exports."


def test_studies_creating_takes_its_permission_and_viewing_does_not(shop: Shop) -> None:
    export = shop.done()
    refused = shop("POST", "", {"formats": ["csv"]}, "vera")
    assert code(refused) == (403, "create_denied")
    assert refused.json()["detail"] == CREATE_DENIED
    assert not shop("GET", "/options", who="vera").json()["canCreate"]
    assert [seen["id"] for seen in shop("GET", who="vera").json()["items"]] == [export["id"]]
    shop.policy(roles={"exporter": ["data.exports.create"]})  # the document's name of the permission
    assert shop.installation.configuration.export_policy("acme").permissions_of(["exporter"]) == {"exports.create"}


def test_studies_form_says_what_the_document_says(shop: Shop) -> None:
    options = shop("GET", "/options").json()
    page = options["page"]
    assert (page["new"], page["dialog_title"]) == ("New export", "Export data")
    assert page["dialog_description"] == (
        "Export HSI and Lab data as a downloadable archive. Large exports run in the background. "
        "Track progress and download from the Exports page."
    )
    words = [page["scope_labels"][level] for level in ("tenant", "project", "app", "organization")]
    assert words == ["Current tenant", "A project", "An app", "Entire organization"]
    names = [page["fields"][name] for name in ("scope", "project", "apps", "from", "to", "format")]
    assert names == ["Scope", "Project", "Apps", "From (optional)", "To (optional)", "Format"]
    assert list(page["formats"].values()) == ["NDJSON (recommended, lossless)", "CSV (flattened, analyst-friendly)", "Both"]
    assert {entity["name"] for entity in options["entities"]} == {"HSI data", "Lab data"}


@pytest.mark.parametrize(
    ("scope", "condition"),
    [
        ({"level": "tenant"}, "tenant_id = 'acme'"),
        ({"level": "project", "project": "p1"}, "tenant_id = 'acme' and project_id = 'p1'"),
        ({"level": "app", "project": "p1", "apps": ["a1"]}, "tenant_id = 'acme' and project_id = 'p1' and app_id = 'a1'"),
        ({"level": "app", "project": "p1", "apps": ["a1", "a3"]}, "tenant_id = 'acme' and project_id = 'p1' and app_id in ('a1', 'a3')"),
        ({"level": "study", "study": "s2"}, "tenant_id = 'acme' and study_id = 's2'"),
        (
            {"level": "participant", "study": "s2", "participant": "s2-person-4"},
            "tenant_id = 'acme' and study_id = 's2' and participant_id = 's2-person-4'",
        ),
    ],
    ids=["Current tenant", "A project", "An app", "Apps", "study", "participant"],
)
def test_studies_scope_holds_hsi_and_lab_data_and_rows_is_their_total(shop: Shop, scope: dict[str, Any], condition: str) -> None:
    export = shop.done(scope=scope, formats=["ndjson"])
    hsi, lab = shop.count(condition, "hsi"), shop.count(condition, "lab")
    assert hsi
    assert lab
    assert export["rows"] == hsi + lab
    archive = shop.archive(export)
    assert (len(lines(archive, "hsi.ndjson")), len(lines(archive, "lab.ndjson"))) == (hsi, lab)


def test_studies_organization_is_exported_as_far_as_its_requester_may(shop: Shop) -> None:
    both = shop.done("olga", scope={"level": "organization"}, formats=["ndjson"])
    assert both["rows"] == shop.count("true", "hsi", "lab")
    assert {"acme/hsi.ndjson", "globex/lab.ndjson"} <= set(shop.archive(both, "olga").namelist())
    own = shop.done("ada", scope={"level": "organization"}, formats=["ndjson"])
    assert own["rows"] == shop.count("tenant_id = 'acme'", "hsi", "lab")


@pytest.mark.parametrize(
    ("scope", "field"),
    [({"level": "project"}, "scope.project"), ({"level": "app", "project": "p1"}, "scope.apps"), ({"level": "app"}, "scope.project")],
)
def test_studies_project_and_apps_are_asked_for_by_their_scopes(shop: Shop, scope: dict[str, Any], field: str) -> None:
    refused = shop("POST", "", {"scope": scope, "formats": ["csv"]})
    assert code(refused) == (422, "validation")
    assert field in {error["field"] for error in refused.json()["errors"]}


@pytest.mark.parametrize(
    ("span", "condition"),
    [
        ({}, "true"),
        ({"from": "2026-05-20"}, "recorded_at >= '2026-05-20'"),
        ({"to": "2026-05-20"}, "recorded_at < '2026-05-21'"),
        ({"from": "2026-05-10", "to": "2026-05-20"}, "recorded_at >= '2026-05-10' and recorded_at < '2026-05-21'"),
    ],
    ids=["neither", "from", "to", "both"],
)
def test_studies_from_and_to_are_optional(shop: Shop, span: dict[str, str], condition: str) -> None:
    export = shop.done(range=span, formats=["ndjson"])
    assert export["rows"] == shop.count(f"tenant_id = 'acme' and {condition} and updated_at < '{NOW}'", "hsi", "lab")


def test_studies_formats_are_lossless_ndjson_flattened_csv_or_both(shop: Shop) -> None:
    assert shop("GET", "/options").json()["formats"] == BOTH
    export = shop.done(formats=BOTH)
    archive = shop.archive(export)
    assert {"hsi.ndjson", "hsi.csv", "lab.ndjson", "lab.csv", "manifest.json", "README.txt", "SHA256SUMS"} == set(archive.namelist())
    first = lines(archive, "hsi.ndjson")[0]
    assert first["context"]["device"]["model"]
    table = list(csv.DictReader(io.StringIO(archive.read("hsi.csv").decode())))
    assert table[0]["context.device.model"] == first["context"]["device"]["model"]
    assert len(table) == len(lines(archive, "hsi.ndjson"))
    assert code(shop("POST", "", {"formats": ["xlsx"]})) == (422, "validation")


def test_studies_large_exports_run_in_the_background(shop: Shop) -> None:
    made = shop("POST", "", {"formats": ["csv"]})
    assert (made.status_code, made.json()["status"]) == (202, "pending")
    assert made.headers["location"] == f"/api/v1/tenants/acme/exports/{made.json()['id']}"
    assert made.headers["retry-after"] == "2"
    assert made.json()["dueAt"] == made.json()["createdAt"]


def test_studies_table_lists_every_export_with_what_the_document_names(shop: Shop) -> None:
    first, second = shop.done(scope={"level": "project", "project": "p2"}, formats=["csv"]), shop.ask(formats=BOTH)
    listed = shop("GET", who="vera").json()["items"]
    assert [export["id"] for export in listed] == [second["id"], first["id"]]
    older = listed[1]
    assert older["scope"] == {"level": "project", "project": "p2"}
    assert older["createdAt"] == "2026-06-01T12:00:00.000000Z"
    assert (older["statusLabel"], older["formats"]) == ("Done", ["csv"])
    assert older["rows"] == first["rows"] > 0
    assert older["bytes"] == len(shop.download(shop.link(first)["url"]).content)
    assert listed[0]["rows"] is listed[0]["bytes"] is None
    assert (older["actions"]["download"], listed[0]["actions"]["download"]) == (True, False)
    columns = shop("GET", "/options").json()["page"]["columns"]
    assert columns == ["scope", "created", "status", "rows", "size", "format", "download"]


def test_studies_status_moves_through_its_four_stages(shop: Shop) -> None:
    export = shop.ask()
    assert shop.get(export)["statusLabel"] == "Pending"
    shop.running(export, 42)
    assert (shop.get(export)["statusLabel"], shop.get(export)["progress"]) == ("Running (42 %)", 42)
    assert shop.done()["statusLabel"] == "Done"
    failed = shop.failed()
    assert (failed["statusLabel"], failed["error"]["code"]) == ("Failed", "source_unavailable")
    assert "could not be read" in failed["error"]["message"]


def test_studies_link_is_active_when_done_until_the_archive_expires(shop: Shop) -> None:
    export = shop.ask()
    assert code(shop("POST", f"/{export['id']}/link")) == (409, "not_ready")
    shop.fulfil()
    link = shop.link(export)
    assert link["url"].startswith(f"{PUBLIC}/api/v1/downloads/")
    assert shop.download(link["url"]).status_code == 200
    shop.clock += timedelta(hours=1)
    assert code(shop.download(link["url"])) == (410, "expired")
    assert shop.download(shop.link(export)["url"]).status_code == 200
    shop.clock = NOW + timedelta(days=7)
    assert code(shop("POST", f"/{export['id']}/link")) == (410, "expired")
    assert (shop.get(export)["statusLabel"], shop.get(export)["actions"]["download"]) == ("Expired", False)


def test_studies_page_polls_by_itself_and_has_refresh(shop: Shop) -> None:
    page = shop("GET", "/options").json()["page"]
    assert (page["auto_poll"], page["refresh"]) == (True, "always")
    export = shop.ask()
    assert shop("GET", f"/{export['id']}").headers["retry-after"] == "2"
    shop.fulfil()
    assert "retry-after" not in shop("GET", f"/{export['id']}").headers


def test_studies_of_another_tenant_are_not_there(shop: Shop) -> None:
    export = shop.done()
    assert code(shop("GET", f"/{export['id']}", who="gus")) == (404, "not_found")
    assert code(shop("GET", f"/{export['id']}", who="gus", tenant="globex")) == (404, "not_found")


@pytest.mark.parametrize("address", ["page/requests", "settings/exports"])
def test_studies_a_cohorts_link_keeps_its_study_wherever_it_leads(shop: Shop, address: str) -> None:
    def seen(who: str, address: str) -> str:
        return str(shop.client.get(f"/{address}", headers=shop.issuer.bearer(**shop.sample.people[who])).text)

    for new in ("", "&new=1"):
        said = seen("ada", f"{address}?study=s1&participant=p1{new}")
        assert "<strong>s1 / p1</strong>" in said
        assert "data-now" in said
        assert '<input type="hidden" name="level" value="participant">' in said
    assert "<strong>s1</strong>" in seen("ada", f"{address}?study=s1")
    undecided = seen("olga", f"{address}?study=s1")  # two tenants: the study outlives the choice
    assert '<input type="hidden" name="study" value="s1">' in undecided
    assert "export-form" not in undecided
    assert '<input type="hidden" name="study" value="s1">' in seen("olga", "page/context?tab=requests&organization=north&study=s1")
    chosen = {"tab": "requests", "organization": "north", "tenant": "globex", "study": "s1"}
    place = "settings/exports" if address.startswith("settings") else "page/choose"
    assert "<strong>s1</strong>" in seen("olga", f"{place}?{urlencode(chosen)}")
