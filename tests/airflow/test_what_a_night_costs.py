"""What one tenant's night costs must not grow with the number of tenants or the length of history: files opened, statements, rows read."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from tests.installations import DAY, NOON, Place, make_place
from waybill.configuration import loading
from waybill.deliveries import running
from waybill.deliveries.planning import plan
from waybill.deliveries.publishing import days
from waybill.deliveries.reports import describing
from waybill.deliveries.reports.notifying import watch
from waybill.installation import Installation
from waybill.ledger import Ledger
from waybill.registrations.applying import apply
from waybill.requests.upkeep import waiting

pytestmark = pytest.mark.fast

_watching: list[list[str]] = []
sys.addaudithook(lambda name, args: [found.append(str(args[0])) for found in _watching] if name == "open" else None)


@contextmanager
def files_opened() -> Iterator[list[str]]:
    """Every file the process opens meanwhile, whoever opens it."""
    found: list[str] = []
    _watching.append(found)
    try:
        yield found
    finally:
        _watching.remove(found)


@contextmanager
def statements(ledger: Ledger) -> Iterator[list[tuple[str, Any]]]:
    """Every statement sent to the ledger meanwhile, with its parameters."""
    found: list[tuple[str, Any]] = []

    def sent(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        found.append((statement, parameters))

    event.listen(ledger.engine, "before_cursor_execute", sent)
    try:
        yield found
    finally:
        event.remove(ledger.engine, "before_cursor_execute", sent)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = make_place(tmp_path, clock=NOON)
    for number in range(30):
        made.tenant(f"tenant{number}")
    apply(made.installation(), actor="test")
    yield made
    made.close()


def deliver_a_day(installation: Installation, tenant: str, until: Any) -> None:
    planned = plan(installation, tenant, until)
    assert all(result.error is None for result in running.finish(installation, tenant, until, [delivery.id for delivery in planned]))
    if planned:
        describing.committed_since(installation, tenant, min(delivery.id for delivery in planned))
    days.publish_listings(installation, tenant)


def test_a_tenants_night_opens_no_tenants_file(place: Place) -> None:
    with files_opened() as opened:
        deliver_a_day(place.installation(), "tenant7", NOON)
    assert [path for path in opened if "/tenants/" in path] == []
    assert sum(path.endswith("catalog.yaml") for path in opened) == 1


def test_applying_one_tenants_file_opens_that_file_alone(place: Place) -> None:
    place.tenant("tenant7", frequency="weekly")
    installation = place.installation()
    with files_opened() as opened, statements(installation.ledger) as sent:
        applied = apply(installation, actor="test", only="tenant7")
    assert [change.action for change in applied.changes] == ["change"]
    assert {Path(path).name for path in opened if "/tenants/" in path} == {"tenant7.yaml"}
    assert len(sent) < 20


def test_applying_asks_the_ledger_as_often_for_thirty_tenants_as_for_one(place: Place) -> None:
    installation = place.installation()
    with statements(installation.ledger) as sent:
        apply(installation, actor="test")
    assert len([name for name, _ in sent if name.startswith("SELECT")]) == 3


def test_watching_for_late_tenants_asks_no_question_for_each(place: Place) -> None:
    place.write("policy.yaml", {"notify": {"late_after": "6h", "to": ["ops@example.com"]}})
    for number in range(30):
        deliver_a_day(place.installation(), f"tenant{number}", NOON)
    deliver_a_day(place.installation(), "acme", NOON)
    installation = place.installation()
    with statements(installation.ledger) as sent:
        assert watch(installation) == []
    assert len([name for name, _ in sent if name.startswith("SELECT")]) == 2


def test_a_name_that_leads_out_of_the_folder_is_no_tenants_file(place: Place) -> None:
    found = loading.load(place.root / "config")
    assert found.files_of("../policy").tenants == {}
    assert found.files_of("tenant7").tenants.keys() == {"tenant7"}


def test_a_second_file_of_one_tenant_is_found_when_it_is_asked_for_alone(place: Place) -> None:
    place.write("tenants/tenant7.yml", {"exportOption": "export all"})
    found = loading.load(place.root / "config")
    alone = found.files_of("tenant7")
    assert alone.broken == {"tenant7"} == found.broken
    assert alone.findings == found.tenants_findings


def test_a_delivery_costs_a_bounded_number_of_statements(place: Place) -> None:
    installation = place.installation()
    deliver_a_day(installation, "tenant7", NOON)
    place.clock = NOON + DAY
    later = place.installation()
    with statements(later.ledger) as sent:
        deliver_a_day(later, "tenant7", NOON + DAY)
    working = [name for name, _ in sent if not name.startswith(("BEGIN", "PRAGMA", "SAVEPOINT", "RELEASE"))]
    assert len(working) <= 2 * 20 + 28, "two deliveries, and what the run itself asks"
    assert sum(name.startswith("BEGIN") for name, _ in sent) <= 34, "each transaction is two more ways to a PostgreSQL ledger and back"


SCANS = re.compile(r"^SCAN (?!CONSTANT|\(subquery)")


def _plans(ledger: Ledger, sent: list[tuple[str, Any]]) -> list[str]:
    """Steps of the statements' query plans that read a whole table."""
    found = []
    with ledger.read() as connection:
        for statement, parameters in {message[0]: message[1] for message in sent}.items():
            if statement.lstrip().startswith(("SELECT", "UPDATE", "DELETE")):
                steps = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
                found += [f"{step[3]}: {statement}" for step in steps if SCANS.match(step[3])]
    return found


def test_nothing_a_run_or_the_watcher_asks_reads_a_whole_table(place: Place) -> None:
    installation = place.installation()
    deliver_a_day(installation, "tenant7", NOON)
    later = NOON + DAY
    place.clock = later
    installation = place.installation()
    with statements(installation.ledger) as sent:
        deliver_a_day(installation, "tenant7", later)
        describing.listed(installation, "tenant7", status="open")
        describing.listed(installation, "tenant7", limit=20)
        waiting(installation)
    assert _plans(installation.ledger, sent) == []


def test_a_read_waits_for_no_writer_and_keeps_none_waiting(place: Place) -> None:
    first, second = place.installation().ledger, place.installation().ledger
    with first.begin() as writer, second.read() as reader:
        writer.execute(text("UPDATE tenant SET probed_at = NULL"))
        assert reader.execute(text("SELECT count(*) FROM tenant")).scalar_one() == 31
    with first.read() as reader:
        assert reader.execute(text("SELECT count(*) FROM tenant")).scalar_one() == 31
        with second.begin() as writer:
            writer.execute(text("UPDATE tenant SET probed_at = NULL"))


def test_the_history_of_a_tenant_does_not_make_its_next_night_dearer(place: Place) -> None:
    counts = []
    for number in range(4):
        place.clock = until = NOON + number * timedelta(days=1)
        installation = place.installation()
        with statements(installation.ledger) as sent:
            deliver_a_day(installation, "tenant7", until)
        counts.append(len(sent))
    assert counts[1] == counts[2] == counts[3]
