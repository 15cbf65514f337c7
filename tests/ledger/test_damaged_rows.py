"""A row that a hand, a disk or another version damaged hurts its own tenant. Every kind of damage at once, and one tenant is whole."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from tests.installations import DAY, NOON, THEME, Place, catalog, make_place
from tests.issuer import TestIssuer, serve_issuer, tenant_api
from tests.servers.postgres import Database
from waybill.airflow.schedule import schedules
from waybill.deliveries.running import run
from waybill.housekeeping import housekeeping
from waybill.ledger.tables import Instant, metadata
from waybill.registrations.applying import apply
from waybill.requests.fulfilment.running import fulfil_all
from waybill.requests.upkeep import waiting

WHOLE = "whole"
SHAPES: list[Any] = ["null", "5", '"x"', "[7]", "{broken"]
DEEP = "[" * 2000 + "]" * 2000
"""JSON that PostgreSQL and SQLite keep, and that is nested deeper than Python reads."""
DAMAGE: list[tuple[str, str, Any]] = [
    *(("registration", "body", shape) for shape in SHAPES),
    *(("registration", "diff", shape) for shape in SHAPES),
    *(("tenant", "probe", shape) for shape in SHAPES),
    *((table, column, DEEP) for table, column in [("registration", "body"), ("registration", "diff"), ("tenant", "probe")]),
    *(("export_request", column, shape) for column in ("tenants", "scope", "entities", "formats", "range_asked") for shape in SHAPES[::4]),
    *(("export_request", "roles", shape) for shape in SHAPES[1::3]),
    ("export_request", "progress", "many"),
    ("export_request", "created_at", "yesterday"),
    ("export_template", "next_at", "soon"),
    ("export_template", "submission", "5"),
    ("registration", "created_at", "yesterday"),
    ("registration", "version", "second"),
    ("tenant", "version", "second"),
    ("stream", "watermark", "yesterday"),
    ("delivery", "created_at", "yesterday"),
    ("delivery", "committed_at", "yesterday"),
    ("attempt", "facts", "5"),
    ("attempt", "files", "{broken"),
    ("day", "created_at", "yesterday"),
]
OF_TENANT = {"tenant": "id = ?", "attempt": "delivery in (select id from delivery where tenant = ?)"}
INSTANTS = ["infinity", "-infinity", "20000-01-01", "0044-03-15 BC"]
"""PostgreSQL keeps them in a column of instants. Python has none of them."""


@pytest.fixture(scope="module")
def issuer() -> Iterator[TestIssuer]:
    with serve_issuer() as running:
        yield running


def fill(place: Place, issuer: TestIssuer, tenants: list[str]) -> None:
    """Give each tenant a registration, a delivery, a pending export and a recurring one."""
    for tenant in tenants:
        place.tenant(tenant, entityList=["theme"])
        place.user(1, "Ada", NOON - DAY, tenant=tenant, table="theme")
    apply(place.installation(), actor="test")
    client = TestClient(tenant_api(place, issuer))
    for tenant in tenants:
        run(place.installation(), tenant, NOON)
        headers = issuer.bearer(tenant, roles=["admin"])
        body = {"entities": ["theme"], "formats": ["csv"]}
        assert client.post(f"/api/v1/tenants/{tenant}/exports", json=body, headers=headers).status_code == 202
        template = {"name": "weekly", "frequency": "weekly", "request": body}
        assert client.post(f"/api/v1/tenants/{tenant}/export-templates", json=template, headers=headers).status_code == 201


@pytest.fixture
def place(tmp_path: Path, issuer: TestIssuer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A tenant for every kind of damage, each with a registration, a delivery and a pending export, damaged after all of that."""
    monkeypatch.setenv("WAYBILL_CONFIG_DIR", str(tmp_path / "config"))
    with closing(make_place(tmp_path, clock=NOON)) as place:
        place.write("catalog.yaml", catalog(theme=THEME))
        place.write("policy.yaml", {"destination_days": 400})
        tenants = {f"t{number:02d}": damage for number, damage in enumerate(DAMAGE)}
        fill(place, issuer, [*tenants, WHOLE])
        with closing(sqlite3.connect(tmp_path / ".waybill/ledger.db")) as ledger, ledger:
            for tenant, (table, column, value) in tenants.items():
                done = ledger.execute(f"update {table} set {column} = ? where {OF_TENANT.get(table, 'tenant = ?')}", (value, tenant))
                assert done.rowcount >= 1, (table, column)
        yield place


def test_what_goes_through_all_tenants_passes_over_a_damaged_row(place: Place, issuer: TestIssuer) -> None:
    all_others_go_on(place, issuer, len(DAMAGE))


def test_what_postgresql_keeps_and_python_cannot_read_hurts_its_own_tenant(
    tmp_path: Path, issuer: TestIssuer, postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAYBILL_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WAYBILL_LEDGER_URL", postgres.url)
    tables = {
        table.name: instants
        for table in metadata.sorted_tables
        if ("tenant" in table.columns or table.name in OF_TENANT)
        and table.name != "audit"  # PostgreSQL lets nobody change its lines
        and (instants := [column.name for column in table.columns if isinstance(column.type, Instant)])
    }
    with closing(make_place(tmp_path, clock=NOON)) as place:
        place.ledger_url = postgres.url
        place.write("catalog.yaml", catalog(theme=THEME))
        place.write("policy.yaml", {"destination_days": 400})
        tenants = [f"t{number:02d}" for number in range(len(tables))]
        fill(place, issuer, [*tenants, "deep00", "deep01", WHOLE])
        damaged = set()
        with place.installation().ledger.begin() as connection:
            for tenant, (table, instants) in zip(tenants, tables.items(), strict=True):
                values = ", ".join(f"{instant} = '{value}'" for instant, value in zip(instants, cycle(INSTANTS), strict=False))
                where = OF_TENANT.get(table, "tenant = ?").replace("?", ":tenant")
                if connection.execute(text(f"update {table} set {values} where {where}"), {"tenant": tenant}).rowcount:
                    damaged.add(table)
            for column, tenant in [("body", "deep00"), ("diff", "deep01")]:
                connection.execute(text(f"update registration set {column} = '{DEEP}' where tenant = :tenant"), {"tenant": tenant})
        assert damaged >= {"attempt", "day", "delivery", "export_request", "export_template", "registration", "stream"}
        all_others_go_on(place, issuer, len(tenants))


def all_others_go_on(place: Place, issuer: TestIssuer, tenants: int) -> None:
    assert [schedule.tenant for schedule in schedules() if schedule.tenant == WHOLE and schedule.cron]
    client = TestClient(tenant_api(place, issuer), raise_server_exceptions=False)
    every = [*(f"t{number:02d}" for number in range(tenants)), WHOLE]
    page = client.get("/page/", headers=issuer.bearer(every, roles=["admin"]))
    assert (page.status_code, WHOLE in page.text) == (200, True)
    mine = issuer.bearer(WHOLE, roles=["admin"])
    for path in ("export", "export/versions", "deliveries", "exports", "export-templates"):
        assert client.get(f"/api/v1/tenants/{WHOLE}/{path}", headers=mine).status_code == 200, path
    place.clock = NOON + DAY
    place.tenant(WHOLE, entityList=["theme"], frequency="weekly")
    applied = apply(place.installation(), actor="test")
    assert [change.tenant for change in applied.changed if change.tenant == WHOLE] == [WHOLE]
    assert waiting(place.installation())
    assert WHOLE in [request.tenant for request in fulfil_all(place.installation()) if request.status == "done"]
    done = housekeeping(place.installation())
    assert not [told for told in done.failed if WHOLE in told]
    assert not [result.error for result in run(place.installation(), WHOLE, NOON + 8 * DAY) if result.error]
