"""People who ask for exports, and an installation whose catalogue has projects, apps, studies and participants."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.installations import Place, catalog, make_place
from waybill.access import Caller, TokenRights
from waybill.installation import Installation
from waybill.ledger.on_demand.request_records import ExportRequest
from waybill.requests.creating import Origin, create
from waybill.requests.submission import Submission

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

MEASUREMENT = {
    "name": "measurement",
    "description": "One row per reading of a sensor.",
    "source": "warehouse",
    "relation": "measurement",
    "tenant_column": "tenant_id",
    "key": ["id"],
    "changes": {"mode": "lookback", "column": "updated_at", "lookback": "24h"},
    "deleted_column": "deleted_at",
    "time_column": "taken_at",
    "scopes": {"project": "project_id", "app": "app_id", "study": "study_id", "participant": "participant_id"},
    "columns": {
        "id": {"type": "integer", "description": "Id."},
        "project_id": {"type": "string"},
        "app_id": {"type": "string"},
        "study_id": {"type": "string"},
        "participant_id": {"type": "string", "export": "anonymize"},
        "value": {"type": "decimal", "description": "What was read."},
        "note": {"type": "string"},
        "taken_at": {"type": "timestamp", "description": "When it was read."},
        "updated_at": {"type": "timestamp"},
        "deleted_at": {"type": "timestamp"},
    },
}
SITE = {
    "name": "site",
    "source": "warehouse",
    "relation": "site",
    "tenant_column": "tenant_id",
    "key": ["id"],
    "changes": {"mode": "full"},
    "formats": ["csv", "ndjson"],
    "columns": {"id": {"type": "integer"}, "name": {"type": "string", "description": "Its name."}},
}


@dataclass
class Office:
    """A `Place` for on-demand exports, with a clock the test moves."""

    place: Place

    def installation(self) -> Installation:
        return self.place.installation()

    def policy(self, **export_policy: Any) -> None:
        self.place.write("policy.yaml", export_policy)

    def later(self, delay: timedelta) -> datetime:
        assert self.place.clock is not None
        self.place.clock += delay
        return self.place.clock

    def measure(self, number: int, taken: datetime = START - timedelta(days=1), *, updated: datetime | None = None, **more: Any) -> None:
        row = {
            "tenant_id": "acme", "id": number, "project_id": "p1", "app_id": "a1", "study_id": "s1",
            "participant_id": f"person{number % 3}",
            "value": number, "note": f"reading {number}", "taken_at": taken, "updated_at": updated or taken, "deleted_at": None,
        } | more  # fmt: skip
        values = ", ".join("null" if value is None else f"'{value}'" for value in row.values())
        self.place.sql(f"insert into measurement values ({values})")

    def ask(
        self, installation: Installation | None = None, who: Caller | None = None, tenant: str = "acme", key: str | None = None, **body: Any
    ) -> ExportRequest:
        asked = {"entities": ["measurement"], "formats": ["ndjson"]} | body
        return create(installation or self.installation(), who or person(), tenant, Submission.model_validate(asked), Origin(key=key))


def make_office(root: Path, **fields: Any) -> Office:
    place = make_place(root, clock=START, **fields)
    place.write("catalog.yaml", catalog(measurement=MEASUREMENT, site=SITE))
    place.tenant(entityList=["measurement"])
    place.tenant("globex", entityList=["measurement"])
    place.sql(
        "create table measurement (tenant_id varchar, id bigint, project_id varchar, app_id varchar, study_id varchar,"
        " participant_id varchar, value decimal(18,4), note varchar, taken_at timestamptz, updated_at timestamptz, deleted_at timestamptz)"
    )
    place.sql("create table site (tenant_id varchar, id bigint, name varchar)")
    place.sql("insert into site values ('acme', 1, 'Berlin'), ('acme', 2, 'Oslo'), ('globex', 3, 'Rome')")
    return Office(place)


def person(
    name: str = "ada",
    *tenants: str,
    roles: tuple[str, ...] = (),
    email: str = "",
    installation: Installation | None = None,
    scopes: tuple[str, ...] = ("read", "write"),
) -> Caller:
    """Somebody with a bearer token for these tenants (default: acme). With an installation, its policy's role table decides."""
    granted = (lambda tenant, held: installation.configuration.export_policy(tenant).permissions_of(held)) if installation else _everything
    rights = TokenRights(frozenset(tenants or ("acme",)), frozenset(scopes), frozenset(roles), granted)
    return Caller(name, rights, name=name.title(), email=email)


def _everything(tenant: str, roles: frozenset[str]) -> frozenset[str]:
    return frozenset({"exports.view", "exports.create", "exports.download"} | ({"exports.admin"} if "admin" in roles else set()))
