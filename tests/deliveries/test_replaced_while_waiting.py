"""A table that is emptied and filled, swapped or rewritten while something waits for it: nothing that Waybill does sees it empty."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.deliveries.test_redefined import Books, over_postgres
from tests.exports import Office
from tests.installations import DAY, NOON
from tests.requests.test_requests_fulfilled import fulfilled, lines
from tests.servers.postgres import Database
from tests.sources.test_replaced_tables import REPLACEMENTS, ROWS, SHAPE, _wait_until_somebody_waits
from waybill.deliveries import planning
from waybill.deliveries.recovery import reconciling
from waybill.registrations import estimating

ORDERS = {
    "source": "books",
    "relation": "orders",
    "tenant_column": "tenant_id",
    "key": ["id"],
    "changes": {"mode": "lookback", "column": "updated_at", "lookback": "1h"},
    "deletes": "compare",
    "columns": {"id": {"type": "integer"}, "version": {"type": "integer"}},
}


def _planned(books: Books) -> list[str]:
    found = [*planning.preview(books.installation(), "acme", NOON + DAY), *planning.plan(books.installation(), "acme", NOON + DAY)]
    return [str(result.error) for result in found if result.error]


def _estimated(books: Books) -> list[tuple[int | None, str]]:
    registration = books.installation().registered("acme").registration
    found = estimating.estimate(books.installation(), "acme", registration, ["orders"], 60)
    return [(item.rows, item.note) for item in found]


def _delivered(books: Books) -> tuple[list[Any], int, Any]:
    """A column that is rewritten in between starts another generation."""
    day = len(list(books.manifests()))
    errors = [result.error for result in books.run(NOON + day * DAY, full_load=True) if result.error]
    newest = max((value for _, value in books.manifests()), key=lambda delivery: (delivery["generation"], delivery["sequence"]))
    return errors, newest["rows"], newest.get("deletes")


def _reconciled(books: Books) -> tuple[list[Any], list[Any]]:
    done = reconciling.reconcile(books.installation(), "acme", actor="test")
    return list(done.differences), list(done.problems)


def _exported(books: Books) -> int:
    office = Office(books)
    return len(lines(office, fulfilled(office, entities=["orders"]), "orders.ndjson"))


WAITING: dict[str, tuple[Callable[[Books], Any], Any]] = {
    "plan": (_planned, []),
    "estimate": (_estimated, [(20, "")]),
    "delivery": (_delivered, ([], 20, None)),
    "reconcile": (_reconciled, ([], [])),
    "export on demand": (_exported, 20),
}


@pytest.fixture(scope="module", params=["lookback", "snapshot"])
def books(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with request.getfixturevalue("postgres_cluster").database() as database:
        database.psql(f"CREATE TABLE orders {SHAPE}; INSERT INTO orders {ROWS}; GRANT pg_read_all_stats TO CURRENT_USER")
        books = over_postgres(tmp_path_factory.mktemp("books"), database, {"kind": "postgres", "connection": "pg"})
        changes = {"mode": "snapshot", "column": "waybill_xid"} if request.param == "snapshot" else ORDERS["changes"]
        books.write("catalog.yaml", {"sources": {"books": books.spec}, "entities": {"orders": {**ORDERS, "changes": changes}}})
        books.tenant(entityList=["orders"])
        books.run(NOON)
        yield books, database
        books.close()


@pytest.mark.parametrize("replacement", ["emptied and filled", "swapped", "rewritten"])
@pytest.mark.parametrize("waiting", WAITING)
def test_nothing_sees_a_replaced_table_empty(books: tuple[Books, Database], waiting: str, replacement: str) -> None:
    place, database = books
    database.psql("DROP TABLE IF EXISTS old")
    act_on, expected = WAITING[waiting]
    found: list[Any] = []

    def act() -> None:
        try:
            found.append(act_on(place))
        except BaseException as error:  # noqa: BLE001 (told to the test below)
            found.append(error)

    with psycopg.connect(database.dsn) as writer:
        for statement in REPLACEMENTS[replacement].split("; "):
            writer.execute(statement.encode())
        actor = threading.Thread(target=act)
        actor.start()
        _wait_until_somebody_waits(database, actor)
        writer.commit()
    actor.join(60)
    assert found == [expected]
