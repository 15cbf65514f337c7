"""Work that must not grow with the number of tenants or with years of history: counted in steps of the ledger and in files opened.

SQLite tells how many steps its machine takes. A statement that reads one row more for each tenant or each past day takes steps for it,
whatever the machine's speed; one that finds what it needs by an index takes as many as before.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Table, event, insert, select, update
from starlette.testclient import TestClient

from tests.installations import DAY, NOON, THEME, USER, Place, catalog, make_place
from tests.open_access import OpenDoor
from waybill.deliveries import planning, running, sizing
from waybill.deliveries.publishing import days
from waybill.deliveries.repairs import unfinished_repairs
from waybill.deliveries.reports import describing, overview, sending
from waybill.deliveries.reports.measures import measure
from waybill.deliveries.reports.notifying import watch
from waybill.installation import Installation
from waybill.ledger import upkeep
from waybill.ledger.tables import attempt, audit, day, delivery, registration, stream, tenant
from waybill.registrations.applying import apply
from waybill.requests.upkeep import waiting
from waybill.web.app import create_app
from waybill.web.dependencies import Installations
from waybill.web.serve import NoScheduler

pytestmark = pytest.mark.fast

FEW, MANY = 10, 200
SHORT, LONG = 40, 3 * 365
TENANT = "/tenants/acme"

_watching: list[list[str]] = []
sys.addaudithook(lambda name, args: [found.append(str(args[0])) for found in _watching] if name == "open" else None)


@dataclass
class Cost:
    """Steps of the ledger's machine in tens, and the tenants' files that were opened."""

    steps: int
    files: list[str]


@contextmanager
def cost_of(installation: Installation) -> Iterator[Cost]:
    engine, opened = installation.ledger.engine, list[str]()
    cost = Cost(0, [])

    def step() -> int:
        cost.steps += 1
        return 0

    def watch(connection: sqlite3.Connection, _record: Any) -> None:
        connection.set_progress_handler(step, 10)

    engine.dispose()  # those that are open are not watched
    event.listen(engine, "connect", watch)
    _watching.append(opened)
    try:
        yield cost
    finally:
        _watching.remove(opened)
        event.remove(engine, "connect", watch)
        engine.dispose()
        cost.files = [path for path in opened if "/config/tenants/" in path]


def grown(root: Path, tenants: int, days: int) -> Place:
    """An installation of so many tenants, each with a file and as many deliveries as days; acme among them.

    The files at the destination are those of acme's last day alone.
    """
    place = make_place(root, clock=NOON - DAY)
    policy = {"notify": {"late_after": "6h", "to": ["ops@example.com"]}, "api_destinations": "any"}
    place.write("policy.yaml", policy)
    place.write("catalog.yaml", catalog(user=USER, theme=THEME, colour={**THEME, "name": "colour"}))
    place.tenant(deliverAt="01:00", deliverBy="09:00", landing={"status": True})
    installation = place.installation()
    apply(installation, actor="test")
    assert all(result.error is None for result in running.run(installation, "acme", NOON - DAY))
    with installation.ledger.begin() as connection:
        _copy_days(connection, days)
        for number in range(tenants - 1):
            place.tenant(f"tenant{number}", deliverAt="01:00", deliverBy="09:00", landing={"status": True})
            _copy_tenant(connection, f"tenant{number}")
    place.clock = NOON
    return place


def _rows(connection: Connection, table: Table) -> list[dict[str, Any]]:
    column = table.c.tenant if "tenant" in table.c else table.c.id
    return [dict(row._mapping) for row in connection.execute(select(table).where(column == "acme"))]


def _copy_tenant(connection: Connection, name: str) -> None:
    """Its registration, streams, and the deliveries of one day, as acme has them."""
    for row in _rows(connection, tenant):
        connection.execute(insert(tenant).values({**row, "id": name}))
    for table in (registration, audit, day):
        rows = _rows(connection, table)[-1:]
        connection.execute(insert(table), [{**item, "tenant": name, **({"id": None} if table is audit else {})} for item in rows])
    for row in _rows(connection, stream):
        old = row.pop("id")
        new = connection.execute(insert(stream).values({**row, "tenant": name})).inserted_primary_key[0]
        last = connection.execute(select(delivery).where(delivery.c.stream == old).order_by(delivery.c.id.desc())).first()
        _copy_delivery(connection, dict(last._mapping), f"{new:08x}", stream=new, tenant=name, folder=last.folder.replace("acme", name))


def _copy_delivery(connection: Connection, item: dict[str, Any], mark: str, **changed: Any) -> None:
    """`mark` makes other ids of the same time."""
    ids = {name: item[name][:24] + mark for name in ("id", "adopted")}
    copy = {**item, **ids, **changed}
    made = dict(connection.execute(select(attempt).where(attempt.c.id == item["adopted"])).one()._mapping)
    connection.execute(insert(delivery).values(copy))
    connection.execute(insert(attempt).values({**made, "id": copy["adopted"], "delivery": copy["id"]}))


def _copy_days(connection: Connection, days: int) -> None:
    """Deliveries before the first one of acme, day by day into the past. The first one becomes the newest of their row."""
    for row in _rows(connection, stream):
        (newest,) = connection.execute(select(delivery).where(delivery.c.stream == row["id"])).all()
        newest = dict(newest._mapping)
        connection.execute(update(delivery).where(delivery.c.id == newest["id"]).values(sequence=days))
        connection.execute(update(stream).where(stream.c.id == row["id"]).values(sequence=days))
        made = dict(connection.execute(select(attempt).where(attempt.c.id == newest["adopted"])).one()._mapping)
        copies = [{**newest, **_at(newest, days - number), "sequence": number} for number in range(1, days)]
        connection.execute(insert(delivery), copies)
        connection.execute(insert(attempt), [{**made, "id": copy["adopted"], "delivery": copy["id"]} for copy in copies])
    (document,) = _rows(connection, day)
    last = datetime.fromisoformat(document["export_date"])
    dates = [f"{last - timedelta(days=number):%Y-%m-%d}" for number in range(1, days)]
    connection.execute(insert(day), [{**document, "export_date": date} for date in dates])
    (line, *_) = _rows(connection, audit)
    connection.execute(insert(audit), [{**line, "id": None} for _ in range(days)])


def _at(newest: dict[str, Any], days: int) -> dict[str, Any]:
    """What differs of a delivery so many days earlier."""
    back = timedelta(days=days)
    date = datetime.fromisoformat(newest["export_date"]) - back
    return {
        **{name: _born(newest[name], newest["created_at"] - back) for name in ("id", "adopted")},
        **{name: newest[name] - back for name in ("created_at", "committed_at", "planned_to")},
        "export_date": f"{date:%Y-%m-%d}",
        "folder": newest["folder"].replace(newest["export_date"].replace("-", "/"), f"{date:%Y/%m/%d}"),
    }


def _born(name: str, at: datetime) -> str:
    """The id (a UUIDv7) with the time that the test's clock had."""
    return f"{int(at.timestamp() * 1000):012x}{name[12:]}"


def night(installation: Installation) -> None:
    """What the task `plan` of an ordinary night does."""
    due = planning.plan(installation, "acme", NOON)
    assert len(due) == 2
    unfinished_repairs(installation, "acme")
    chosen = [delivery.id for delivery in sizing.small(installation, due)]
    with installation.kept_open():
        results = running.finish(installation, "acme", NOON, [delivery.id for delivery in due], rest_failing=True)
        assert all(result.error is None for result in results)
        assert chosen
        assert describing.committed(installation, "acme", [delivery.id for delivery in due])
        assert describing.listed(installation, "acme", status="open") == []
        assert days.publish_listings(installation, "acme")
    sending.send_owed(installation, "acme")


def announced(installation: Installation) -> None:
    newest = describing.listed(installation, "acme", limit=2)
    assert len(describing.committed_since(installation, "acme", newest[-1]["delivery_id"])) == 2


def kept(installation: Installation) -> None:
    """Housekeeping of the ledger; what it does at destinations goes by the files there."""
    with installation.ledger.begin() as connection:
        upkeep.drop_ended_digests(connection)
        assert upkeep.open_since(connection, NOON) == []


def asked(method: str, path: str, **options: Any) -> Callable[[Installation], None]:
    """A request to the API or the pages, of a process that has answered one before."""

    def ask(installation: Installation) -> None:
        client = TestClient(create_app(lambda: installation, OpenDoor(), NoScheduler()), raise_server_exceptions=True)
        answer = client.request(method, path, **options)
        assert answer.is_success, answer.text

    return ask


BODY = {"entityList": ["user", "theme"], "frequency": "daily", "destination": {"kind": "folder", "root": "out"}}
OF_ONE_TENANT: dict[str, Callable[[Installation], Any]] = {
    "a night": night,
    "announce": announced,
    "plan of the command line": lambda item: planning.preview(item, "acme", NOON),
    "apply of one tenant": lambda item: apply(item, actor="test", only="acme"),
    "poll of the watcher": waiting,
    "status of one tenant": lambda item: overview.of_tenant(item, "acme"),
    "words of a request": lambda item: item.words_of("acme"),
    "GET of the registration": asked("GET", f"/api/v1{TENANT}/export"),
    "GET of deliveries": asked("GET", f"/api/v1{TENANT}/deliveries?limit=20"),
    "GET of deliveries of an entity it never had": asked("GET", f"/api/v1{TENANT}/deliveries?entity=colour"),
    "GET of abandoned deliveries": asked("GET", f"/api/v1{TENANT}/deliveries?status=abandoned"),
    "PUT of the registration": asked("PUT", "/api/v1/tenants/api-made/export?dryRun=true", json=BODY),
    "page of exports": asked("GET", "/page/tenants/acme/requests"),
    "page of one tenant": asked("GET", "/page/tenants/acme"),
    "GET of exports": asked("GET", f"/api/v1{TENANT}/exports"),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Place]]:
    made = {
        "small": grown(tmp_path_factory.mktemp("small"), FEW, SHORT),
        "many tenants": grown(tmp_path_factory.mktemp("many"), MANY, SHORT),
        "years": grown(tmp_path_factory.mktemp("years"), FEW, LONG),
    }
    yield made
    for place in made.values():
        place.close()


def costs(places: dict[str, Place], work: Callable[[Installation], Any]) -> dict[str, Cost]:
    found = {}
    for name, place in places.items():
        installation = place.installation()
        with cost_of(installation) as cost:
            work(installation)
        found[name] = cost
    return found


OF_ALL_TENANTS: dict[str, Callable[[Installation], Any]] = {
    "overview": lambda item: overview.overview(item, set),
    "watch for what is late": watch,
    "measures": measure,
    "housekeeping": kept,
    "page of the overview": asked("GET", "/page/"),
}


LOOKS_AT_EACH = {"page of exports": 1, "page of one tenant": 1}
"""One statement of every page reads a few bytes a tenant: which tenants there are to choose from."""

ADDS_UP_A_YEAR = {"page of one tenant": 4 * 2 * (366 + 92)}
"""The months of a tenant: of the deliveries of a year, and of a quarter before it, and of none that is older."""


@pytest.mark.parametrize("name", OF_ONE_TENANT)
def test_what_is_done_for_one_tenant_grows_neither_with_the_others_nor_with_its_history(places: dict[str, Place], name: str) -> None:
    found = costs(places, OF_ONE_TENANT[name])
    room = {"many tenants": MANY * LOOKS_AT_EACH.get(name, 0), "years": ADDS_UP_A_YEAR.get(name, 0)}
    for place, cost in found.items():
        assert cost.steps <= 1.1 * found["small"].steps + 10 + room.get(place, 0), place
        assert cost.files == [] or {Path(file).name for file in cost.files} == {"acme.yaml"}


@pytest.mark.parametrize("name", OF_ALL_TENANTS)
def test_what_is_done_for_all_tenants_does_not_grow_with_history(places: dict[str, Place], name: str) -> None:
    found = costs(places, OF_ALL_TENANTS[name])
    assert found["years"].steps <= 1.1 * found["small"].steps + 10


def test_a_long_lived_process_opens_of_all_tenants_files_only_those_written_since(places: dict[str, Place]) -> None:
    place = places["many tenants"]
    held = Installations(place.installation, every=0)
    assert held.current().configuration.findings == ()
    with cost_of(held.current()) as cost:
        assert held.current().configuration.findings == ()
    assert cost.files == []
    place.tenant("tenant7", frequency="hourly")
    with cost_of(held.current()) as cost:
        assert held.current().configuration.broken == {"tenant7"}
    assert [Path(file).name for file in cost.files] == ["tenant7.yaml"]
    place.tenant("tenant7")
    assert held.current().configuration.findings == ()
