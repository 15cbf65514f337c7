"""Product document 004 sentence by sentence: one API call, then recurring exports. Tokens name their tenant, so paths do not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.installations import DAY, NOON, USER, Place, catalog, make_place
from tests.issuer import TestIssuer, tenant_api
from waybill.deliveries.running import run
from waybill.window import Frequency

NAMES = {
    "user": "user",
    "content": "content",
    "user_login_events": "user logins",
    "interaction": "interaction",
    "content_must_read_marked": "must reads",
}
EXAMPLE = {"exportOption": "export selected", "entityList": ["user", "content", "user logins", "interaction"], "frequency": "daily"}
"""The document's quick example, as it stands there."""
CHOSEN = ["user", "content", "user_login_events", "interaction"]


class Portal:
    """The organization's developer: calls as the document has them, and the runs that follow."""

    def __init__(self, place: Place, issuer: TestIssuer) -> None:
        self.place = place
        settings = replace(issuer.settings, token_url=f"{issuer.url}/token")
        self.client = TestClient(tenant_api(place, issuer, settings=settings), raise_server_exceptions=False)
        self.headers = issuer.bearer(tenant="acme")

    def __call__(self, method: str, path: str = "/export", body: Any = None) -> Any:
        return self.client.request(method, f"/api/v1{path}", json=body, headers=self.headers)

    def register(self, **body: Any) -> dict[str, Any]:
        answer = self("POST", "/export", body)
        assert answer.status_code in (200, 201), answer.json()
        return dict(answer.json())

    def active(self) -> list[str]:
        return list(self("GET").json()["entities"])

    def night(self, until: datetime) -> list[str]:
        """The scheduled run of a day; which entities it delivered, as `entity kind rows`."""
        done = {result.delivery.id for result in run(self.place.installation(), "acme", until)}
        listed = self("GET", "/tenants/acme/deliveries?limit=100").json()["items"]
        return sorted(
            f"{delivery['entity']} {delivery['kind']} {delivery['rows']}" for delivery in listed if delivery["deliveryId"] in done
        )


@pytest.fixture
def portal(tmp_path: Path, issuer: TestIssuer) -> Iterator[Portal]:
    place = make_place(tmp_path, clock=NOON)
    (tmp_path / "config/tenants/acme.yaml").unlink()
    place.write("policy.yaml", {"destination": {"kind": "folder", "root": "out"}})
    place.write("catalog.yaml", catalog(**{item: {**USER, "name": name, "relation": item} for item, name in NAMES.items()}))
    for table in NAMES:
        if table != "user":
            place.sql(f'create table "{table}" as from "user"')
        place.user(1, "one", NOON - 30 * DAY, table=table)
        place.user(2, "two", NOON - 2 * DAY, table=table)
    yield Portal(place, issuer)
    place.close()


def test_registering_once_exports_on_schedule_without_further_action(portal: Portal) -> None:
    answer = portal("POST", "/export", EXAMPLE)
    assert (answer.status_code, answer.json()["activated"]) == (201, CHOSEN)
    midnight = datetime(2026, 5, 31, tzinfo=UTC)
    assert portal.night(midnight) == sorted(f"{entity} full 2" for entity in CHOSEN)
    portal.place.user(3, "three", midnight + timedelta(hours=3))
    assert portal.night(midnight + DAY) == sorted(f"{entity} delta {int(entity == 'user')}" for entity in CHOSEN)
    assert portal.night(midnight + 2 * DAY) == sorted(f"{entity} delta 0" for entity in CHOSEN)


def test_registering_delivers_the_history_first_then_records_of_the_previous_period_by_date(portal: Portal) -> None:
    portal.register(**EXAMPLE)
    portal.night(datetime(2026, 5, 31, tzinfo=UTC))
    full = (portal.place.out / "exports/acme/2026/05/31/user_login_events/user_login_events.csv").read_text()
    assert [line.split(",")[1] for line in full.splitlines()[1:]] == ["one", "two"]
    portal.place.user(3, "three", datetime(2026, 5, 31, 3, tzinfo=UTC), table="user_login_events")
    portal.night(datetime(2026, 6, 1, tzinfo=UTC))
    delta = (portal.place.out / "exports/acme/2026/06/01/user_login_events/user_login_events.csv").read_text()
    assert [line.split(",")[1] for line in delta.splitlines()[1:]] == ["three"]


def test_registering_replaces_the_entire_configuration(portal: Portal) -> None:
    portal.register(**EXAMPLE)
    made = portal.register(entityList=["user", "must reads"], frequency="weekly")
    assert made["deactivated"] == ["content", "interaction", "user_login_events"]
    assert (made["activated"], made["kept"]) == (["content_must_read_marked"], ["user"])
    assert portal.active() == ["user", "content_must_read_marked"]
    assert portal("GET").json()["frequency"] == "weekly"
    portal.register(entityList=["user"])
    assert portal("GET").json()["frequency"] == "daily"  # the former value does not linger


def test_registering_a_single_entity_more_takes_get_and_the_updated_list(portal: Portal) -> None:
    portal.register(**EXAMPLE)
    current = portal("GET").json()
    assert {name: current[name] for name in EXAMPLE} == EXAMPLE
    current["entityList"].append("must reads")
    made = portal("POST", "/export", current).json()
    assert (made["activated"], made["deactivated"], made["kept"]) == (["content_must_read_marked"], [], CHOSEN)


def test_registering_all_takes_every_supported_entity_whatever_the_list_says(portal: Portal) -> None:
    assert portal.register(exportOption="export all", entityList=["nonsense"])["entities"] == list(NAMES)
    assert portal("GET").json()["exportOption"] == "export all"


def test_registering_selected_is_the_default_and_takes_the_list_alone(portal: Portal) -> None:
    made = portal.register(entityList=["content"])
    assert (made["exportOption"], made["entities"]) == ("export selected", ["content"])


def test_registering_none_deactivates_every_export_and_delivers_no_more(portal: Portal) -> None:
    portal.register(**EXAMPLE)
    made = portal.register(exportOption="disable export")
    assert (made["deactivated"], made["entities"]) == (sorted(CHOSEN), [])
    assert portal.night(datetime(2026, 5, 31, tzinfo=UTC)) == []
    inactive = portal("GET", "/export?includeInactive=true").json()["inactive"]
    assert sorted(delivery["entity"] for delivery in inactive) == sorted(CHOSEN)


@pytest.mark.parametrize(
    "given",
    [["user logins", "must reads"], "user logins, must reads", "user logins,must reads", ["user_login_events", "Must Reads"]],
    ids=["array", "string", "string without spaces", "ids and capitals"],
)
def test_registering_takes_names_as_an_array_or_a_string(portal: Portal, given: Any) -> None:
    assert portal.register(entityList=given)["entities"] == ["user_login_events", "content_must_read_marked"]


@pytest.mark.parametrize("body", [{}, {"entityList": []}, {"entityList": ""}, {"entityList": None}, {"entityList": ["user", "nonsense"]}])
def test_registering_selected_needs_entities_that_exist(portal: Portal, body: dict[str, Any]) -> None:
    answer = portal("POST", "/export", body)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation")
    (error,) = answer.json()["errors"]
    assert error["field"] == "entityList"
    assert portal("GET").status_code == 404


@pytest.mark.parametrize(
    ("frequency", "days"),
    [("daily", [1, 2, 3, 4, 5, 6, 7, 8, 9]), ("weekly", [1, 8]), ("monthly", [1])],
)
def test_registering_daily_weekly_or_monthly_says_on_which_days_files_come(portal: Portal, frequency: str, days: list[int]) -> None:
    """June 2026 begins on a Monday."""
    portal.register(entityList=["user"], frequency=frequency)
    for day in range(1, 10):
        portal.night(datetime(2026, 6, day, tzinfo=UTC))
    folders = portal.place.out.glob("exports/acme/2026/06/*/user/user.csv")
    assert sorted(int(path.parts[-3]) for path in folders) == days
    assert {member.value for member in Frequency} == {"daily", "weekly", "monthly"}


def test_registering_is_described_by_the_schema_with_its_defaults_and_all_entity_names(portal: Portal) -> None:
    document = portal.client.get("/openapi.json").json()
    fields = document["components"]["schemas"]["Registration"]["properties"]
    text = {name: json.dumps(field) for name, field in fields.items()}
    assert fields["exportOption"]["default"] == "export selected"
    assert fields["frequency"]["default"] == "daily"
    for values, reference in (
        (("export all", "export selected", "disable export"), "exportOption"),
        (("daily", "weekly", "monthly"), "frequency"),
    ):
        listed = json.dumps(document["components"]["schemas"]) if "$ref" in text[reference] else text[reference]
        assert all(f'"{value}"' in listed for value in values)
    assert document["components"]["schemas"]["EntityName"]["enum"] == list(NAMES.values())
    assert "#/components/schemas/EntityName" in text["entityList"]
    operation = document["paths"]["/api/v1/export"]["post"]
    examples = operation["requestBody"]["content"]["application/json"]["examples"]
    assert next(iter(examples.values()))["value"] == EXAMPLE
    assert operation["responses"]["201"]["content"]["application/json"]["example"]
    assert {sample["lang"] for sample in operation["x-codeSamples"]} >= {"shell", "python", "javascript"}
    assert document["components"]["securitySchemes"]["OAuth2"]["flows"]["clientCredentials"]
