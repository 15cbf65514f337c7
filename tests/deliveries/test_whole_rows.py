"""A full load is full, and no row is lost for its position: what lies past the window's end, ahead of the clock, or out of the calendar."""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from tests.faults.consumer import Delivered, deliveries
from tests.installations import DAY, NOON, USER, Place, catalog
from waybill.connection import Connection
from waybill.errors import PermanentError
from waybill.installation import Installation

MIDNIGHT = NOON.replace(hour=0)
HOUR = timedelta(hours=1)
YEAR = timedelta(days=365)
TABLE = 'create table "user" (tenant_id text not null, id bigint, name text, updated_at timestamptz, deleted_at timestamptz)'
CHANGES = {
    "lookback": {"mode": "lookback", "column": "updated_at", "lookback": "24h"},
    "lookback of nothing": {"mode": "lookback", "column": "updated_at", "lookback": "0s"},
    "horizon": {"mode": "horizon", "column": "updated_at"},
    "append": {"mode": "append", "column": "updated_at", "lookback": "24h"},
}


@dataclass
class Shop:
    """An installation over one kind of source, and what its consumer holds."""

    place: Place
    write: Callable[[int, str, object, object], None]
    sql: Callable[[str], object]

    def deliver(self, until: datetime, **options: object) -> Delivered:
        results = self.place.run(until, **options)
        assert [str(result.error) for result in results if result.error] == []
        found, wrong = deliveries(self.place.out / "exports/acme")
        assert wrong == []
        return found[-1]


def names(delivered: Delivered) -> list[str | None]:
    return sorted((row[1] for row in delivered.rows), key=str)


def _over_postgres(place: Place, database) -> Shop:
    place.connections["pg"] = Connection("pg", "postgres", database.host, database.port, database.user, database.name)
    database.psql(TABLE)

    def write(number: int, name: str, updated: object, deleted: object = None) -> None:
        with psycopg.connect(database.dsn, autocommit=True) as connection:
            connection.execute('delete from "user" where id = %s', [number])
            connection.execute("insert into \"user\" values ('acme', %s, %s, %s, %s)", [number, name, updated, deleted])

    return Shop(place, write, database.psql)


def _over_duckdb(place: Place) -> Shop:
    place.sql(TABLE)

    def write(number: int, name: str, updated: object, deleted: object = None) -> None:
        place.sql(f'delete from "user" where id = {number}')
        values = [None if value is None else f"'{value}'" for value in (updated, deleted)]
        place.sql(f"insert into \"user\" values ('acme', {number}, '{name}', {values[0]}, {values[1] or 'NULL'})")

    return Shop(place, write, place.sql)


class LitePlace(Place):
    """An installation whose database connections are all one SQLite file."""

    def installation(self) -> Installation:
        return replace(super().installation(), connect_db=lambda name: sqlite3.connect(self.root / "app.sqlite"))


def _over_sqlite(place: Place) -> Shop:
    def sql(statement: str, values: list[object] | tuple[()] = ()) -> None:
        with closing(sqlite3.connect(place.root / "app.sqlite")) as connection:
            connection.execute(statement, values)
            connection.commit()

    sql('create table "user" (tenant_id text, id integer, name text, updated_at text, deleted_at text)')

    def write(number: int, name: str, updated: object, deleted: object = None) -> None:
        sql('delete from "user" where id = ?', [number])
        sql("insert into \"user\" values ('acme', ?, ?, ?, ?)", [number, name, str(updated), deleted and str(deleted)])

    return Shop(place, write, sql)


@pytest.fixture
def shop_of(request, tmp_path) -> Iterator[Callable[..., Shop]]:
    with closing(LitePlace(tmp_path)) as place:

        def opened(kind: str, changes: dict[str, str], **tenant: object) -> Shop:
            sources = {"postgres": {"kind": "postgres", "connection": "pg"}, "sqlite": {"kind": "dbapi", "connection": "lite"}}
            source = sources.get(kind, {"kind": "duckdb", "path": "warehouse.duckdb"})
            place.write("catalog.yaml", catalog(user={**USER, "changes": changes}) | {"sources": {"warehouse": source}})
            place.tenant(entityList=["user"], **tenant)
            if kind == "postgres":
                return _over_postgres(place, request.getfixturevalue("postgres"))
            return _over_sqlite(place) if kind == "sqlite" else _over_duckdb(place)

        yield opened


KINDS = [("duckdb", "lookback"), ("duckdb", "append"), *(("postgres", mode) for mode in CHANGES), ("sqlite", "lookback")]
ENDLESS = KINDS[:-1]


@pytest.fixture(params=KINDS, ids=[f"{kind}, {mode}" for kind, mode in KINDS])
def shop(request, shop_of) -> Shop:
    kind, mode = request.param
    return shop_of(kind, CHANGES[mode])


@pytest.fixture(params=ENDLESS, ids=[f"{kind}, {mode}" for kind, mode in ENDLESS])
def endless_shop(request, shop_of) -> Shop:
    """Over a source that knows infinity."""
    kind, mode = request.param
    return shop_of(kind, CHANGES[mode])


def test_a_full_load_in_the_middle_of_a_month_holds_every_row_and_the_next_delta_only_what_changed_since(shop):
    shop.place.tenant(entityList=["user"], frequency="monthly")
    for number in range(30):
        shop.write(number, f"n{number}", datetime(2026, 4, 1 + number % 15, tzinfo=UTC), None)
    first = shop.deliver(datetime(2026, 5, 2, tzinfo=UTC))
    assert len(first.rows) == 30
    for number in range(15):
        shop.write(number, f"changed {number}", datetime(2026, 5, 15, tzinfo=UTC), None)
    full = shop.deliver(datetime(2026, 5, 28, tzinfo=UTC), full_load=True)
    assert (full.manifest["kind"], full.manifest["generation"], len({row[0] for row in full.rows}), len(full.rows)) == ("full", 2, 30, 30)
    assert full.manifest["window"]["to"] == "2026-05-01T00:00:00.000000Z"
    assert full.manifest["window"]["exact"] is False
    shop.write(3, "changed twice", datetime(2026, 5, 29, tzinfo=UTC), None)
    shop.write(40, "new", datetime(2026, 5, 30, tzinfo=UTC), None)
    delta = shop.deliver(datetime(2026, 6, 2, tzinfo=UTC))
    assert (delta.manifest["kind"], names(delta)) == ("delta", ["changed twice", "new"])
    assert delta.manifest["window"]["exact"] is True
    assert not delta.manifest["possible_duplicate"]
    assert shop.deliver(datetime(2026, 7, 2, tzinfo=UTC)).rows == []


def test_a_first_delivery_reaches_past_its_window(shop):
    shop.write(1, "old", MIDNIGHT - 40 * DAY, None)
    shop.write(2, "today", MIDNIGHT + HOUR, None)
    shop.write(3, "deleted today", MIDNIGHT - 40 * DAY, MIDNIGHT + HOUR)
    assert names(shop.deliver(NOON)) == ["deleted today", "old", "today"]
    shop.write(2, "today, changed", MIDNIGHT + 2 * HOUR, None)
    assert names(shop.deliver(NOON + DAY)) == ["today, changed"]
    assert shop.deliver(NOON + 2 * DAY).rows == []


def test_a_full_load_that_lags_behind_by_several_windows_repeats_nothing(shop):
    """The source holds rows of days the tenant has not reached: each is delivered once, with the full load."""
    for day in range(6):
        shop.write(day, f"day {day}", MIDNIGHT + day * DAY + HOUR, None)
    assert len(shop.deliver(NOON).rows) == 6
    shop.write(4, "day 4, changed", MIDNIGHT + 4 * DAY + 2 * HOUR, None)
    assert [names(shop.deliver(NOON + day * DAY)) for day in range(1, 7)] == [[], [], [], [], ["day 4, changed"], []]


AHEAD = {
    "next year": datetime.now(UTC).replace(microsecond=0) + YEAR,
    "infinity": "infinity",
    "-infinity": "-infinity",
}


@pytest.mark.parametrize("position", AHEAD.values(), ids=AHEAD)
def test_a_position_that_no_window_reaches_is_delivered_by_the_full_load_and_once_by_the_next_delta_after_a_change(endless_shop, position):
    shop = endless_shop
    shop.write(1, "ahead", position, None)
    shop.write(2, "as usual", MIDNIGHT - HOUR, None)
    assert names(shop.deliver(NOON)) == ["ahead", "as usual"]
    assert shop.deliver(NOON + DAY).rows == []
    shop.write(1, "ahead, changed", position, None)
    shop.write(3, "ahead, new", position, None)
    delta = shop.deliver(NOON + 2 * DAY)
    assert names(delta) == ["ahead, changed", "ahead, new"]
    assert delta.manifest["window"]["exact"] is False
    assert shop.deliver(NOON + 3 * DAY).rows == []


DELETED = {"next year": AHEAD["next year"], "infinity": "infinity"}


@pytest.mark.parametrize("deleted", DELETED.values(), ids=DELETED)
def test_a_deletion_time_that_lies_ahead_keeps_no_row_back(endless_shop, deleted):
    shop = endless_shop
    shop.write(1, "closes later", MIDNIGHT - HOUR, deleted)
    assert names(shop.deliver(NOON)) == ["closes later"]
    shop.write(2, "closes later, too", MIDNIGHT + HOUR, deleted)
    assert names(shop.deliver(NOON + DAY)) == ["closes later, too"]
    shop.write(1, "closed", MIDNIGHT - HOUR, MIDNIGHT + DAY + HOUR)
    assert names(shop.deliver(NOON + 2 * DAY)) == ["closed"]
    assert shop.deliver(NOON + 3 * DAY).rows == []


def test_text_that_is_no_time_stops_the_stream_by_name(shop_of):
    shop = shop_of("sqlite", CHANGES["lookback"])
    shop.write(1, "ahead", "infinity", None)
    [result] = shop.place.run(NOON)
    assert isinstance(result.error, PermanentError)
    assert result.error.code == "change_column_unreadable"


def test_together_all_deliveries_are_every_version_once(shop):
    versions: Counter[str] = Counter()

    def write(number: int, name: str, updated: object, deleted: object = None) -> None:
        shop.write(number, name, updated, deleted)
        versions[name] += 1

    for number in range(20):
        write(number, f"v1 of {number}", MIDNIGHT - HOUR * number)
    seen = Counter(names(shop.deliver(NOON)))
    for day in range(1, 4):
        end = MIDNIGHT + day * DAY
        write(day, f"day {day}, changed", end - HOUR)
        write(100 + day, f"day {day}, past the end", end + HOUR)
        write(200 + day, f"day {day}, next year", AHEAD["next year"])
        write(300 + day, f"day {day}, closes", end - 2 * HOUR, AHEAD["next year"])
        if day == 2:
            full = shop.deliver(NOON + day * DAY, full_load=True)
            assert len(full.rows) == 20 + 6
            seen = Counter(names(full))
            present = seen.copy()
            versions = Counter(present)
        else:
            seen += Counter(names(shop.deliver(NOON + day * DAY)))
    seen += Counter(names(shop.deliver(NOON + 4 * DAY)))
    assert seen == versions


def test_a_position_of_another_cluster_stops_a_snapshot_stream_by_name(shop_of, postgres):
    shop = shop_of("postgres", {"mode": "snapshot", "column": "waybill_xid"})
    shop.sql('alter table "user" add column waybill_xid xid8 not null default pg_current_xact_id()')
    shop.sql("insert into \"user\" (tenant_id, id, name, updated_at) values ('acme', 1, 'as usual', now())")
    shop.sql("insert into \"user\" (tenant_id, id, name, updated_at, waybill_xid) values ('acme', 2, 'restored', now(), '9000000000')")
    [result] = shop.place.run(NOON)
    assert isinstance(result.error, PermanentError)
    assert result.error.code == "change_column_ahead"
    for part in ("1 row", "waybill_xid", "9000000000"):
        assert part in str(result.error)


def test_a_full_load_of_mode_snapshot_ends_at_the_snapshot(shop_of, postgres):
    shop = shop_of("postgres", {"mode": "snapshot", "column": "waybill_xid"})
    shop.sql('alter table "user" add column waybill_xid xid8 not null default pg_current_xact_id()')
    insert = "insert into \"user\" (tenant_id, id, name, updated_at) values ('acme', {0}, 'n{0}', '{1}')"
    for number, at in enumerate(["infinity", "2027-01-01", "-infinity", "2020-01-01"]):
        shop.sql(insert.format(number, at))
    full = shop.deliver(NOON)
    assert (len(full.rows), full.manifest["window"]["exact"]) == (4, False)
    assert shop.deliver(NOON + DAY).rows == []
    shop.sql(insert.format(9, "infinity"))
    assert names(shop.deliver(NOON + 2 * DAY)) == ["n9"]


def test_ids_of_append_are_all_delivered_at_once_and_those_committed_late_with_the_next(shop_of, postgres):
    shop = shop_of("postgres", {"mode": "append", "column": "id", "lag": 50})
    for number in (1, 2, 5):
        shop.write(number, f"n{number}", MIDNIGHT, None)
    assert len(shop.deliver(NOON).rows) == 3
    shop.write(9, "n9", MIDNIGHT, None)
    assert names(shop.deliver(NOON + DAY)) == ["n9"]
    shop.write(7, "late", MIDNIGHT, None)
    late = shop.deliver(NOON + 2 * DAY)
    assert (names(late), late.manifest["window"]["exact"]) == (["late"], False)
    assert shop.deliver(NOON + 3 * DAY).rows == []
    manifest = json.loads(late.path.read_text())
    assert manifest["position"] == {"from": 10, "to": 10}
