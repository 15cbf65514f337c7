"""A row whose place another one has is told by the name of the index that says so. Whatever else a database refuses is raised as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, PrimaryKeyConstraint, Table, UniqueConstraint, inspect, text
from sqlalchemy.exc import IntegrityError

from waybill.ledger import Ledger, days, destinations, feeds, registrations, signatures
from waybill.ledger.database.taken import Taken, unless_taken, violated
from waybill.ledger.days import Day
from waybill.ledger.feeds import Page
from waybill.ledger.on_demand import request_tables, requests
from waybill.ledger.on_demand.request_records import ExportRequest
from waybill.ledger.reports import notices
from waybill.ledger.tables import breaker, metadata

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Ledger]:
    url = request.getfixturevalue("postgres").url if request.param == "postgres" else f"sqlite:///{tmp_path}/ledger.db"
    ledger = Ledger(url)
    ledger.upgrade()
    yield ledger
    ledger.close()


def request(number: int, **values: Any) -> ExportRequest:
    facts: dict[str, Any] = dict.fromkeys(ExportRequest.__dataclass_fields__)
    facts |= {
        "id": f"{number:032x}", "tenant": "acme", "tenants": ["acme"], "export_type": "x", "scope": {}, "entities": ["user"],
        "range_asked": {}, "formats": ["csv"], "submission": {}, "status": "pending", "progress": 0, "requested_by": "ada",
        "requester_name": "Ada", "email": "", "roles": [], "created_at": NOW, "due_at": NOW, "attempt": 0, "worker": "",
        "body_hash": "x", "mail_tries": 0,
    }  # fmt: skip
    return ExportRequest(**(facts | values))


def unique(table: Table) -> set[str]:
    kinds = PrimaryKeyConstraint | UniqueConstraint
    named = {found.name for found in table.constraints if isinstance(found, kinds)} | {
        found.name for found in table.indexes if found.unique
    }
    return {str(name) for name in named}


def test_postgresql_calls_each_unique_index_as_the_code_does(postgres: Any) -> None:
    assert request_tables  # its tables are in the same metadata
    ledger = Ledger(postgres.url)
    ledger.upgrade()
    found = inspect(ledger.engine)
    for table in metadata.tables.values():
        indexes = {str(index["name"]) for index in found.get_indexes(table.name) if index["unique"]}
        constraints = {str(constraint["name"]) for constraint in found.get_unique_constraints(table.name)}
        assert indexes | constraints | {str(found.get_pk_constraint(table.name)["name"])} == unique(table), table.name
    ledger.close()


def test_a_place_that_is_taken_is_no_error(ledger: Ledger) -> None:
    page = Page("f" * 32, 1, 1, 1, 0, "0" * 64, b"", None)
    day = Day("acme", "2026-06-01", 1, "0" * 64, b"{}", NOW, None)
    with ledger.begin() as connection:
        registrations._ensure_tenant(connection, "acme")
        feeds.begin(connection, feeds.Feed("acme", "f" * 32, "d", 0, "", "", 1), NOW, moved=False)
        for _ in range(2):
            feeds.freeze(connection, page)
            destinations.note_failure(connection, "d", NOW)
            assert requests.keys(connection, NOW)
        assert [days.freeze(connection, day, []) for _ in range(2)] == [True, False]
        assert [signatures.record(connection, "0" * 64, text, "acme", NOW) for text in (b"a", b"b")] == [b"a", b"a"]
        assert [notices.raise_alarm(connection, "acme", "breach", {}, NOW) is None for _ in range(2)] == [False, True]


@pytest.mark.parametrize("which", ["slot", "fingerprint", "idempotency_key"])
def test_one_of_two_requests_for_one_place_is_made(ledger: Ledger, which: str) -> None:
    with ledger.begin() as connection:
        assert requests.create(connection, request(1, **{which: "x"}))
        assert not requests.create(connection, request(2, **{which: "x"}))
        assert requests.create(connection, request(3, **{which: "y"}))


@pytest.mark.parametrize("change", [{"tenant": None}, {"status": None}, {"id": f"{1:032x}"}])
def test_a_request_that_the_database_refuses_for_another_reason_is_not_taken_for_a_taken_place(ledger: Ledger, change: Any) -> None:
    with ledger.begin() as connection:
        assert requests.create(connection, request(1, slot="x"))

    def create(connection: Connection) -> bool:
        return requests.create(connection, replace(request(2, slot="y"), **change))

    with ledger.engine.connect() as connection, pytest.raises(IntegrityError):
        create(connection)


def test_what_a_trigger_or_a_check_refuses_is_no_taken_place(ledger: Ledger) -> None:
    with ledger.engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            refusal = "select raise(abort, 'UNIQUE constraint failed: no')"
            connection.execute(text(f"create trigger no before insert on breaker begin {refusal}; end"))
        else:
            connection.execute(text("alter table breaker add constraint pk_day check (failures > 1)"))
    with ledger.engine.connect() as connection, pytest.raises(IntegrityError) as caught, unless_taken(connection, breaker, "pk_breaker"):
        connection.execute(breaker.insert().values(destination="d", failures=1))
    assert not isinstance(caught.value, Taken)
    assert violated(caught.value, breaker) == ""
