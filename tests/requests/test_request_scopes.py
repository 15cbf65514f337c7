"""What a scope may name: unknown names are refused, pickers list what is there, nobody is offered what they cannot use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.exports import MEASUREMENT, SITE, Office, make_office, person
from tests.installations import catalog
from waybill.access import Caller
from waybill.configuration.catalog import ScopeLevel
from waybill.errors import InvalidInput
from waybill.ledger.on_demand import requests
from waybill.requests import scopes
from waybill.requests.following import options
from waybill.requests.fulfilment.running import fulfil_all
from waybill.requests.recurring import TemplateBody, create_template


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = make_office(tmp_path)
    office.policy(max_active_per_project="none", organizations={"group": ["acme", "globex"]})
    office.measure(1)
    office.measure(2, project_id="p2", app_id="a2", study_id="s2")
    office.measure(3, project_id="p3", tenant_id="globex")
    yield office
    office.place.close()


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "project": ({"level": "project", "project": "p9"}, "scope.project", "there is no project 'p9'"),
    "another tenant's project": ({"level": "project", "project": "p3"}, "scope.project", "there is no project 'p3'"),
    "app": ({"level": "app", "project": "p1", "apps": ["a1", "a9"]}, "scope.apps", "there is no app 'a9' in the project 'p1'"),
    "another project's app": ({"level": "app", "project": "p1", "apps": ["a2"]}, "scope.apps", "there is no app 'a2' in the project 'p1'"),
    "study": ({"level": "study", "study": "s9"}, "scope.study", "there is no study 's9'"),
    "another project's study": ({"level": "study", "study": "s2", "project": "p1"}, "scope.study", "there is no study 's2' in the project"),
    "participant": (
        {"level": "participant", "study": "s1", "participant": "person9"},
        "scope.participant",
        "there is no participant 'person9' in the study 's1'",
    ),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_no_row_names_is_refused_by_its_name(office: Office, case: str) -> None:
    scope, field, words = REFUSED[case]
    with pytest.raises(InvalidInput) as caught:
        office.ask(scope=scope)
    [finding] = caught.value.findings
    assert (finding.path, finding.code) == (field, f"unknown_{scope['level']}")
    assert words in finding.reason
    request = {"entities": ["measurement"], "formats": ["csv"], "scope": scope}
    template = TemplateBody.model_validate({"name": "n", "frequency": "weekly", "request": request})
    with pytest.raises(InvalidInput, match="there is no"):
        create_template(office.installation(), person(), "acme", template)


def test_what_is_gone_when_the_worker_looks_fails_by_its_name(office: Office) -> None:
    export = office.ask(scope={"level": "project", "project": "p2"})
    office.place.sql("delete from measurement where project_id = 'p2'")
    [ended] = fulfil_all(office.installation())
    assert (ended.id, ended.status, ended.error_code) == (export.id, "failed", "unknown_scope")
    assert ended.error_message == "There is no project 'p2'."


TAKEN_AWAY: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "the entity": ({"measurement": None}, {}, "Unknown entity 'measurement'."),
    "the entity, from this tenant": ({"only": ["globex"]}, {}, "Unknown entity 'measurement'."),
    "the level": ({"scopes": {"study": "study_id"}}, {}, "Measurement cannot be narrowed to one project."),
    "the level, by policy": ({}, {"scopes": ["tenant"]}, "Exports of one project are not offered."),
    "the format": ({"formats": ["csv"]}, {}, "Measurement cannot be exported as ndjson."),
    "the format, by policy": ({}, {"formats": ["csv"]}, "The format 'ndjson' is not offered."),
}
"""What becomes of the catalog's entity and of the policy between request and start, and the words of the failure."""


@pytest.mark.parametrize("what", TAKEN_AWAY)
def test_a_request_for_what_is_no_longer_offered_fails_and_says_what_that_is(office: Office, what: str) -> None:
    of_entity, of_policy, words = TAKEN_AWAY[what]
    export = office.ask(scope={"level": "project", "project": "p1"})
    offered = {} if "measurement" in of_entity else {"measurement": {**MEASUREMENT, **of_entity}}
    office.place.write("catalog.yaml", catalog(**offered, site=SITE))
    office.policy(**of_policy)
    for tenant in ("acme", "globex"):
        office.place.tenant(tenant, entityList=["site"])
    [ended] = fulfil_all(office.installation())
    assert (ended.id, ended.status, ended.error_code) == (export.id, "failed", "no_longer_offered")
    assert (ended.error_message or "").casefold() == words.casefold()
    assert "offered now" in (ended.error_advice or "")


def test_an_organization_export_holds_of_each_tenant_what_that_tenant_is_offered(office: Office) -> None:
    office.policy(organizations={"group": ["acme", "globex"]})
    office.place.write("catalog.yaml", catalog(measurement={**MEASUREMENT, "only": ["acme"]}, site=SITE))
    office.place.tenant("globex", entityList=["site"])
    both = person("ada", "acme", "globex")
    export = office.ask(who=both, entities=["measurement", "site"], scope={"level": "organization"})
    [done] = fulfil_all(office.installation())
    with office.installation().ledger.read() as connection:
        paths = {file.path for file in requests.files_of(connection, export.id)}
    assert (done.status, paths) == ("done", {"acme/measurement.ndjson", "acme/site.ndjson", "globex/site.ndjson"})


def test_a_tenant_without_any_row_refuses_no_name(office: Office) -> None:
    office.place.sql("delete from measurement")
    office.ask(scope={"level": "project", "project": "p1"})
    assert [export.status for export in fulfil_all(office.installation())] == ["done"]


def test_pickers_list_what_the_tenant_has_and_a_search_narrows_it(office: Office) -> None:
    installation = office.installation()
    every = scopes.scope_values(installation, person(), "acme", "project", {})
    assert (every.values, every.more) == (["p1", "p2"], False)
    assert scopes.scope_values(installation, person(), "acme", "project", {}, "2").values == ["p2"]
    assert scopes.scope_values(installation, person(), "acme", "app", {"project": "p2"}).values == ["a2"]
    assert scopes.scope_values(installation, person(), "acme", "project", {}, most=1) == scopes.Found(["p1"], True)
    assert scopes.scope_values(installation, limited("p2"), "acme", "project", {}).values == ["p2"]
    assert scopes.scope_values(installation, person(), "acme", "participant", {}).values == []  # leaves as a pseudonym only


def limited(*projects: str) -> Caller:
    return replace(person(), projects=frozenset(projects))


@pytest.mark.parametrize("level", ["app", "study"])
def test_pickers_show_nobody_what_other_projects_hold(office: Office, level: ScopeLevel) -> None:
    installation = office.installation()
    everything = scopes.scope_values(installation, person(), "acme", level, {}).values
    theirs = scopes.scope_values(installation, person(), "acme", level, {"project": "p1"}).values
    assert set(theirs) < set(everything)
    assert scopes.scope_values(installation, limited("p1"), "acme", level, {}).values == theirs
    assert scopes.scope_values(installation, limited("p1"), "acme", level, {"project": "p1"}).values == theirs
    assert scopes.scope_values(installation, limited("p1"), "acme", level, {"project": "p2"}).values == []
    assert scopes.scope_values(installation, limited(), "acme", level, {}).values == []


def test_the_last_of_fifty_thousand_projects_is_found(office: Office) -> None:
    office.place.sql("""insert into measurement select * exclude (n) replace ('project-' || n as project_id, 1000000 + n as id)
        from (select * from measurement where tenant_id = 'acme' limit 1), range(50000) numbers(n)""")
    found = scopes.scope_values(office.installation(), person(), "acme", "project", {}, "project-49999")
    assert (found.values, found.more) == (["project-49999"], False)


@pytest.mark.parametrize(
    ("who", "first", "organization"),
    [(person(), "tenant", False), (person("eve", "acme", "globex"), "tenant", True), (limited("p1"), "project", False)],
    ids=["of one tenant", "of two", "of one project"],
)
def test_a_person_is_offered_the_scopes_they_can_use(office: Office, who: Caller, first: str, organization: bool) -> None:
    offered = options(office.installation(), who, "acme").scopes
    assert offered[0] == first
    assert ("organization" in offered) == organization
    assert ("tenant" in offered) == (who.projects is None)


def test_an_organization_that_holds_one_tenant_is_not_offered(office: Office) -> None:
    office.policy(organizations={"group": ["acme"]})
    assert "organization" not in options(office.installation(), person("eve", "acme", "globex"), "acme").scopes


def test_a_tenant_that_its_organization_names_twice_is_exported_once(office: Office) -> None:
    office.policy(organizations={"group": ["acme", "globex", "acme"]})
    export = office.ask(who=person("ada", "acme", "globex"), scope={"level": "organization"})
    assert export.tenants == ["acme", "globex"]
    assert [(done.status, done.rows) for done in fulfil_all(office.installation())] == [("done", 3)]
