"""The audit log: every change and every denied attempt, by whom; nothing in it can be changed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete, select, update
from sqlalchemy.exc import DBAPIError

from tests.installations import NOON, Place, make_place
from tests.issuer import Api, TestIssuer, tenant_api
from waybill.ledger.tables import audit


@pytest.fixture(params=["sqlite", "postgresql"])
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    url = "" if request.param == "sqlite" else request.getfixturevalue("postgres").url.replace("postgresql://", "postgresql+psycopg://", 1)
    place = make_place(tmp_path, clock=NOON, ledger_url=url)
    (tmp_path / "config/tenants/acme.yaml").unlink()
    yield place
    place.close()


def lines(place: Place) -> list[tuple[str, str, str, dict[str, Any]]]:
    with place.installation().ledger.begin() as connection:
        return [
            tuple(row)
            for row in connection.execute(select(audit.c.tenant, audit.c.actor, audit.c.action, audit.c.detail).order_by(audit.c.id))
        ]


def test_changes_and_denied_attempts_are_written_down_with_who_did_them(place: Place, issuer: TestIssuer) -> None:
    client = TestClient(tenant_api(place, issuer))
    alice, bob = Api(client, issuer.bearer()), Api(client, issuer.bearer("globex", "read", sub="bob"))
    alice("PUT", "/acme/export", {"entityList": ["user"]})
    alice("PUT", "/acme/export", {"entityList": ["user"]})
    alice("PUT", "/acme/export?dryRun=true", {"entityList": ["theme"]})
    alice("POST", "/acme/export/full-load", {"entities": ["user"]})
    bob("GET", "/acme/export")
    bob("PUT", "/globex/export", {"entityList": ["user"]})
    assert [(tenant, actor, action) for tenant, actor, action, _ in lines(place)] == [
        ("acme", "api:alice", "register"),
        ("acme", "api:alice", "full_load"),
        ("acme", "api:bob", "denied"),
        ("globex", "api:bob", "denied"),
    ]
    assert lines(place)[3][3] == {"permission": "registrations.manage", "method": "PUT", "path": "/api/v1/tenants/globex/export"}


def test_replacing_and_upserting_change_no_line_either(place: Place, issuer: TestIssuer) -> None:
    Api(TestClient(tenant_api(place, issuer)), issuer.bearer())("PUT", "/acme/export", {"entityList": ["user"]})
    engine = place.installation().ledger.engine
    values = "INTO audit VALUES (1, '2026-01-01', 'acme', 'nobody', 'x', '{}')"
    conflicts = "ON CONFLICT (id) DO UPDATE SET actor = 'nobody'"
    ways = [f"INSERT {values} {conflicts}"] + ([f"INSERT OR REPLACE {values}"] if engine.dialect.name == "sqlite" else [])
    before = lines(place)
    for statement in ways:
        with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
            connection.exec_driver_sql(statement)
    assert lines(place) == before


@pytest.mark.parametrize("statement", [update(audit).values(actor="nobody"), delete(audit)], ids=["update", "delete"])
def test_the_database_refuses_to_change_or_remove_a_line(place: Place, issuer: TestIssuer, statement: Any) -> None:
    Api(TestClient(tenant_api(place, issuer)), issuer.bearer())("PUT", "/acme/export", {"entityList": ["user"]})
    with pytest.raises(DBAPIError, match="append-only"), place.installation().ledger.engine.begin() as connection:
        connection.execute(statement)
    assert [action for _, _, action, _ in lines(place)] == ["register"]


def denials(place: Place) -> list[tuple[str, str, dict[str, Any]]]:
    return [(tenant, actor, detail) for tenant, actor, action, detail in lines(place) if action == "denied"]


def test_a_thousand_denied_calls_leave_a_handful_of_lines_that_say_how_many(place: Place, issuer: TestIssuer) -> None:
    client = TestClient(tenant_api(place, issuer))
    bob = Api(client, issuer.bearer("globex", "read", sub="bob"))
    for _ in range(120):
        assert bob("GET", "/acme/export").status_code == 404
        assert bob("GET", "/acme/exports").status_code == 404
    found = denials(place)
    assert {(tenant, actor) for tenant, actor, _ in found} == {("acme", "api:bob")}
    assert [detail.get("attempts") for _, _, detail in found if detail["permission"] == "registrations.view"] == [None, 10, 100]
    assert len(found) == 6
    Api(client, issuer.bearer("globex", "read", sub="carol"))("GET", "/acme/export")
    assert denials(place)[-1][:2] == ("acme", "api:carol"), "another caller's attempt is a line of its own"


def test_calls_for_ever_other_tenants_share_one_count(place: Place, issuer: TestIssuer) -> None:
    bob = Api(TestClient(tenant_api(place, issuer)), issuer.bearer("globex", "read", sub="bob"))
    for number in range(250):
        bob("GET", f"/tenant{number}/export")
    found = denials(place)
    assert len(found) == 50 + 3
    assert [detail["attempts"] for _, _, detail in found if detail.get("beyond_kinds")] == [1, 10, 100]
    assert bob("GET", "/acme/export").status_code == 404
    assert len(denials(place)) == len(found)


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_an_hour_later_the_first_attempt_is_a_line_again(place: Place, issuer: TestIssuer) -> None:
    bob = Api(TestClient(tenant_api(place, issuer)), issuer.bearer("globex", "read", sub="bob"))
    for hour in range(3):
        place.clock = NOON + hour * timedelta(hours=1)
        for _ in range(5):
            bob("GET", "/acme/export")
    assert len(denials(place)) == 3
