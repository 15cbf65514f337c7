"""A range of days means the same rows from every source, on the days when clocks change, by dates and by times without a zone."""

from __future__ import annotations

import json
import sqlite3
import zipfile
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest

from tests.deliveries.test_dates import ZONES
from tests.deliveries.test_redefined import Books, over_postgres
from tests.exports import Office, person
from tests.installations import DAY
from tests.servers.mariadb import MariaDatabase
from tests.sources.test_mysql_sessions import connect
from waybill.registrations.applying import apply
from waybill.requests import links
from waybill.requests.fulfilment.running import fulfil

SOURCES = ["postgres", "dbapi over postgres", "duckdb", "sqlite", "mariadb", "lake"]
TENANTS = {f"z{number}": zone for number, zone in enumerate(ZONES) if zone not in ("UTC", "Pacific/Pago_Pago", "Pacific/Kiritimati")}
"""Those where something happens to the clocks."""

HALF_HOUR = timedelta(minutes=30)
ENTITY = {
    "source": "books",
    "tenant_column": "tenant_id",
    "key": ["id"],
    "changes": {"mode": "full"},
    "time_column": "seen",
}


def stored() -> Iterator[tuple[str, int, str, str]]:
    """For each tenant every half hour of the days around: its number, the time in UTC without a zone, and the date where the tenant is."""
    for tenant, zone in TENANTS.items():
        first = datetime.combine(ZONES[zone] - DAY, datetime.min.time(), UTC)
        for number in range(5 * 48):
            at = first + number * HALF_HOUR
            yield tenant, number, f"{at:%Y-%m-%d %H:%M:%S}", f"{at.astimezone(ZoneInfo(zone)):%Y-%m-%d}"


@pytest.fixture(params=SOURCES)
def books(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Books]:
    match request.param:
        case "postgres" | "dbapi over postgres":
            kind = "postgres" if request.param == "postgres" else "dbapi"
            place = over_postgres(tmp_path, request.getfixturevalue("postgres"), {"kind": kind, "connection": "pg"})
        case "duckdb" | "lake":
            spec = {"kind": "duckdb", "path": "w.duckdb"} if request.param == "duckdb" else {"kind": "lake", "path": "lake"}
            place = Books(tmp_path, spec=spec, open=lambda: duckdb.connect(str(tmp_path / "w.duckdb")))
        case "sqlite":
            place = Books(tmp_path, spec={"kind": "dbapi", "connection": "lite"}, open=lambda: sqlite3.connect(tmp_path / "w.sqlite"))
        case _:
            database: MariaDatabase = request.getfixturevalue("mariadb")
            place = Books(tmp_path, spec={"kind": "dbapi", "connection": "maria"}, open=lambda: connect(database))
    time = "datetime" if request.param == "mariadb" else "timestamp"
    rows = list(stored())
    for name, kind, column in (("timed", time, 2), ("dated", "date", 3)):
        values = ", ".join(f"('{row[0]}', {row[1]}, '{row[column]}')" for row in rows)
        place.happens(f"create table {name} (tenant_id varchar(20), id bigint, seen {kind})", f"insert into {name} values {values}")
        if request.param == "lake":
            (tmp_path / "lake").mkdir(exist_ok=True)
            place.happens(f"copy {name} to '{tmp_path}/lake/{name}.parquet'")
    place.clock = datetime(2026, 12, 1, tzinfo=UTC)
    yield place
    place.close()


def test_a_range_of_days_holds_the_rows_of_those_days_in_the_tenants_zone(books: Books) -> None:
    suffix = ".parquet" if books.spec["kind"] == "lake" else ""
    kinds = {"timed": "timestamp", "dated": "date"}
    entities: dict[str, Any] = {
        name: {**ENTITY, "relation": f"{name}{suffix}", "columns": {"id": {"type": "integer"}, "seen": {"type": kind}}}
        for name, kind in kinds.items()
    }
    books.write("catalog.yaml", {"sources": {"books": books.spec}, "entities": entities})
    for tenant, zone in TENANTS.items():
        books.tenant(tenant, entityList=list(kinds), timezone=zone)
    apply(books.installation(), actor="test")
    office, caller = Office(books), person("ada", *TENANTS)
    for tenant, zone in TENANTS.items():
        first, last = (ZONES[zone] + number * DAY for number in (0, 1))
        asked = {"from": first.isoformat(), "to": last.isoformat()}
        export = office.ask(who=caller, tenant=tenant, entities=list(kinds), range=asked)
        done = fulfil(books.installation(), export.id)
        assert done is not None
        link = links.mint_link(books.installation(), caller, tenant, done.id)
        download = links.open_download(books.installation(), link.token)
        assert download.path is not None
        found = zipfile.ZipFile(download.path)
        for name in kinds:
            held = sorted(json.loads(line)["id"] for line in found.read(f"{name}.ndjson").splitlines())
            wanted = [row[1] for row in stored() if row[0] == tenant and first <= date.fromisoformat(row[3]) <= last]
            assert held == wanted, (zone, name)
