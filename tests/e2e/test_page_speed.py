"""The pages of two thousand tenants: how much the ledger is asked for them. Seconds belong to the benchmarks."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from fastapi.testclient import TestClient
from sqlalchemy import event, insert

from tests.installations import DAY, NOON, make_place
from tests.issuer import RecordingScheduler
from tests.open_access import OpenDoor
from waybill.deliveries.reports.overview import SchedulerState
from waybill.ledger import Ledger, tables
from waybill.web.app import create_app

TENANTS, DAYS = 2000, 10


def fill(ledger: Ledger) -> None:
    names = [f"tenant-{number:04d}" for number in range(TENANTS)]
    midnight = NOON.replace(hour=0)
    body = {"exportOption": "export selected", "entityList": ["user"], "frequency": "daily", "timezone": "Europe/Berlin"}
    diff = {"activated": ["user"], "deactivated": []}
    deliveries, attempts = [], []
    for number, name in enumerate(names):
        for back in range(DAYS):
            day = midnight - back * DAY
            failing = number % 100 == 7 and back == 0
            key = f"{int((day + timedelta(hours=1)).timestamp() * 1000):012x}{number:010x}{back:010x}"
            deliveries.append({
                "id": key, "stream": number + 1, "tenant": name, "entity": "user", "generation": 1, "sequence": DAYS - back,
                "purpose": "schedule", "kind": "delta", "planned_to": day, "export_date": f"{day:%Y-%m-%d}", "folder": f"{name}/{back}",
                "stem": "user", "registration_version": 1, "status": "open" if failing else "committed",
                "adopted": None if failing else key, "error": "the server did not answer" if failing else "",
                "error_code": "unreachable" if failing else "", "failures": int(failing), "created_at": day,
                "committed_at": None if failing else day + timedelta(hours=1),
            })  # fmt: skip
            attempts.append({
                "id": key, "delivery": key, "window_to": day, "snapshot_time": day, "schema_version": 1, "columns": [],
                "facts": {"folder": f"{name}/{back}", "stem": "user", "csv": {"compression": "none"}},
                "files": [{"path": "user.csv", "rows": 100 + back, "bytes": 1000, "sha256": "0" * 64}],
                "rows": 100 + back, "bytes": 1000, "sha256": "0" * 64, "possible_duplicate": False, "recorded_at": day,
            })  # fmt: skip
    watermarks = [midnight - DAY if number % 100 == 7 else midnight for number in range(TENANTS)]
    with ledger.begin() as connection:
        connection.execute(insert(tables.tenant), [{"id": name, "version": 1, "salt": b"x"} for name in names])
        registrations = [
            {"tenant": name, "version": 1, "body": body, "origin": "api", "actor": "test", "diff": diff, "created_at": NOON - 30 * DAY}
            for name in names
        ]
        connection.execute(insert(tables.registration), registrations)
        streams = [
            {"id": at + 1, "tenant": name, "entity": "user", "generation": 1, "active": True, "watermark": mark, "activated_at": NOON}
            for at, (name, mark) in enumerate(zip(names, watermarks, strict=True))
        ]
        connection.execute(insert(tables.stream), streams)
        connection.execute(insert(tables.delivery), deliveries)
        connection.execute(insert(tables.attempt), attempts)


PAGES = ("", "?p=40", "?state=failing", "?q=tenant-19", "tenants/tenant-0007", "tenants/tenant-0007/requests")
QUERIES = 30
"""Statements that one page may need, however many tenants there are."""
STEPS = 800
"""Thousands of steps of SQLite's machine for one page: what its statements read and sort."""


@dataclass
class Work:
    """What the ledger did since `start`."""

    queries: int = 0
    steps: int = 0

    def start(self) -> None:
        self.queries = self.steps = 0

    def query(self, *_: object) -> None:
        self.queries += 1

    def step(self) -> int:
        self.steps += 1
        return 0

    def watch(self, connection: sqlite3.Connection, _record: object) -> None:
        connection.set_progress_handler(self.step, 1000)


def test_two_thousand_tenants_cost_the_ledger_little(tmp_path: Path) -> None:
    place = make_place(tmp_path, clock=NOON)
    installation = place.installation()
    fill(installation.ledger)
    work = Work()
    installation.ledger.engine.dispose()
    event.listen(installation.ledger.engine, "connect", work.watch)
    event.listen(installation.ledger.engine, "before_cursor_execute", work.query)
    scheduler_states = {
        f"tenant-{number:04d}": SchedulerState(paused=number == 0, run="running" if number == 7 else "") for number in range(TENANTS)
    }
    with TestClient(create_app(lambda: installation, OpenDoor(), RecordingScheduler(scheduler_states=scheduler_states))) as client:
        first = client.get("/page/").text
        assert "20 of 2,000 tenants did not get their data" in first
        assert first.count('<span class="state state-failing">') == 20
        assert "Causes: 20 unreachable." in first
        assert "Page 1 of 40" in first
        assert "DAG paused" in client.get("/page/?state=paused").text
        cost = {}
        for path in PAGES:
            work.start()
            assert client.get(f"/page/{path}").status_code == 200
            cost[path] = (work.queries, work.steps)
            print(f"/page/{path}: {work.queries} statements, {work.steps} thousand steps")
    assert {path: spent for path, spent in cost.items() if spent[0] > QUERIES or spent[1] > STEPS} == {}
    place.close()
