"""Change columns and time columns that hold dates: nothing is lost whatever the zone, and a range means the days it names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.copies import Copy
from tests.deliveries.test_redefined import Books, books  # noqa: F401 (a fixture)
from tests.installations import DAY, NOON, read_csv
from waybill.configuration.selection import Selection
from waybill.deliveries import repairs
from waybill.deliveries.recovery.reconciling import reconcile
from waybill.doctor import source_findings
from waybill.errors import PermanentError

ZONES = {
    "UTC": date(2026, 5, 10),
    "America/New_York": date(2026, 3, 7),  # a day of 23 hours follows
    "Europe/Berlin": date(2026, 10, 24),  # a day of 25 hours follows
    "Africa/Cairo": date(2026, 4, 23),  # the midnight that follows does not exist
    "Australia/Lord_Howe": date(2026, 4, 4),  # a day of 24.5 hours follows
    "Pacific/Pago_Pago": date(2026, 5, 10),
    "Pacific/Kiritimati": date(2026, 5, 10),
    "Pacific/Apia": date(2011, 12, 29),  # the day that follows does not exist
}
ENTITY = {
    "source": "books",
    "relation": "dated",
    "tenant_column": "tenant_id",
    "key": ["id"],
    "deletes": "never",
    "columns": {"id": {"type": "integer"}, "day": {"type": "date"}},
}


def stamps(at: datetime) -> tuple[date, date]:
    """The day in UTC, as most databases tell it, and the day where the tenant is."""
    return at.astimezone(UTC).date(), at.date()


@pytest.fixture
def dated(books: Books) -> Iterator[Books]:  # noqa: F811
    books.happens("create table dated (tenant_id varchar(20), id bigint primary key, day date not null)")
    yield books
    books.close()


def catalogued(books: Books, zone: str, **entity: Any) -> None:  # noqa: F811
    books.write("catalog.yaml", {"sources": {"books": books.spec}, "entities": {"dated": {**ENTITY, **entity}}})
    books.tenant(entityList=["dated"], timezone=zone)


def held(books: Books) -> list[int]:  # noqa: F811
    return sorted(int(row["id"]) for row in Copy().catch_up(books.out / "exports/acme", "dated").rows.values())


@pytest.mark.parametrize("books", ["duckdb"], indirect=True)
@pytest.mark.parametrize("zone", ZONES)
def test_rows_stamped_with_dates_come_with_the_delivery_after_they_were_written(dated: Books, zone: str) -> None:
    catalogued(dated, zone, changes={"mode": "lookback", "column": "day", "lookback": "0s"})
    written = 0
    days = (datetime.combine(ZONES[zone] + number * DAY, datetime.min.time(), ZoneInfo(zone)).astimezone(UTC) for number in range(4))
    for begins in dict.fromkeys(days):
        assert [str(result.error) for result in dated.run(begins + timedelta(minutes=5)) if result.error] == []
        assert held(dated) == list(range(1, written + 1))
        for hours in (1, 9, 19, 22):
            at = (begins + timedelta(hours=hours)).astimezone(ZoneInfo(zone))
            dated.happens(*(f"insert into dated values ('acme', {written + n}, '{d}')" for n, d in enumerate(stamps(at), 1)))
            written += 2


VAGUE: dict[str, tuple[str, str, str, str]] = {
    "a date": ("moved", "closed", "date", "date"),
    "a date that SQLite keeps in a column without a type": ("moved", "closed", "", "date"),
    "a date that SQLite keeps as text": ("moved", "closed", "text", "date"),
    "a date as text that the catalog calls a time": ("moved", "closed", "text", "timestamp"),
    "a date as text that changes": ("closed", "", "text", "timestamp"),
}
"""Columns that tell how rows changed and when they were deleted, the type of what holds dates, and what the catalog calls it."""


@pytest.mark.parametrize(
    ("books", "how", "mode"),
    [
        *((kind, "a date", "lookback") for kind in ("postgres", "duckdb", "sqlite", "mariadb")),
        ("postgres", "a date", "horizon"),
        *(("sqlite", how, "lookback") for how in VAGUE if "text" in how or "SQLite" in how),
    ],
    indirect=["books"],
)
def test_a_deletion_of_today_comes_though_a_date_says_nothing_about_the_hour(books: Books, how: str, mode: str) -> None:  # noqa: F811
    changed, deleted, native, kind = VAGUE[how]
    time = {"postgres": "timestamptz", "lite": "text"}.get(books.spec.get("connection", "").replace("pg", "postgres"), "timestamp")
    books.happens(
        f"create table dated (tenant_id varchar(20), id bigint primary key, moved {time}, closed {native})",
        *(f"insert into dated values ('acme', {hour}, '2026-05-01 00:00:00', '2026-05-01')" for hour in range(48)),
        *(["update dated set closed = null"] if deleted else []),
    )
    look_back = {"lookback": "0s"} if mode == "lookback" else {}
    columns = {"id": {"type": "integer"}, "closed": {"type": kind}}
    changes = {"mode": mode, "column": changed, **look_back}
    catalogued(books, "America/Los_Angeles", changes=changes, columns=columns, **({"deleted_column": deleted} if deleted else {}))
    begin = datetime(2026, 5, 20, tzinfo=UTC)
    for hour in range(48):
        now = begin + timedelta(hours=hour)
        if hour % 24 == 8:
            assert [str(result.error) for result in books.run(now) if result.error] == []
        books.happens(f"update dated set closed = '{now:%Y-%m-%d}' where id = {hour}")
    assert [str(result.error) for result in books.run(begin + 4 * DAY) if result.error] == []
    rows = [row for path, item in books.manifests() for row in read_csv(path.parent / item["files"][0]["path"], item)]
    assert {int(row[0]) for row in rows if row[1] and row[1] > "2026-05-02"} == set(range(48))
    books.close()


@pytest.mark.parametrize(
    ("books", "mode"),
    [*((kind, "lookback") for kind in ("postgres", "duckdb", "sqlite", "mariadb")), ("postgres", "horizon")],
    indirect=["books"],
)
def test_reconciling_misses_no_row_of_today_that_the_next_delivery_brings(dated: Books, mode: str) -> None:
    look_back = {"lookback": "0s"} if mode == "lookback" else {}
    catalogued(dated, "America/Los_Angeles", changes={"mode": mode, "column": "day", **look_back})
    now = datetime(2026, 5, 20, 8, tzinfo=UTC)
    dated.happens("insert into dated values ('acme', 1, '2026-05-01')")
    assert [str(result.error) for result in dated.run(now) if result.error] == []
    dated.happens("insert into dated values ('acme', 2, '2026-05-20')")
    assert list(map(str, reconcile(dated.installation(), "acme", actor="test").differences)) == []
    dated.happens("insert into dated values ('acme', 3, '2026-05-02')")
    assert [found.missing for found in reconcile(dated.installation(), "acme", actor="test").differences] == [1]
    assert [str(result.error) for result in dated.run(now + DAY) if result.error] == []
    assert held(dated) == [1, 2]


HOW: dict[str, dict[str, Any]] = {
    "a time column": {"changes": {"mode": "append", "column": "id"}, "time_column": "day"},
    "a change column": {"changes": {"mode": "lookback", "column": "day"}},
}


@pytest.mark.parametrize("how", HOW)
def test_a_backfill_of_dates_holds_the_days_it_names(dated: Books, how: str) -> None:
    zone = "America/New_York"
    catalogued(dated, zone, **HOW[how])
    rows = ", ".join(f"('acme', {number}, '2026-05-{number:02}')" for number in range(1, 9))
    dated.happens(f"insert into dated values {rows}")
    assert [str(result.error) for result in dated.run(datetime(2026, 5, 20, 12, tzinfo=UTC)) if result.error] == []
    start, end = (datetime(2026, 5, day, tzinfo=ZoneInfo(zone)).astimezone(UTC) for day in (3, 6))
    installation = dated.installation()
    done = repairs.backfill(installation, "acme", "dated", start, end, actor="test")
    assert done.error is None
    [(path, manifest)] = [item for item in dated.manifests() if item[1]["kind"] == "backfill"]
    assert [row[0] for row in read_csv(path.parent / manifest["files"][0]["path"], manifest)] == ["3", "4", "5"]


@pytest.mark.parametrize("books", ["sqlite"], indirect=True)
@pytest.mark.parametrize("native", ["text", "date"])
@pytest.mark.parametrize("how", HOW)
def test_dates_that_sqlite_keeps_as_text_are_dates(books: Books, how: str, native: str) -> None:  # noqa: F811
    books.happens(
        f"create table dated (tenant_id text, id integer primary key, day {native})",
        *(f"insert into dated values ('acme', {number}, '2026-05-{number:02}')" for number in range(1, 9)),
    )
    catalogued(books, "America/New_York", **HOW[how])
    assert [str(result.error) for result in books.run(datetime(2026, 5, 20, 12, tzinfo=UTC)) if result.error] == []
    start, end = (datetime(2026, 5, day, tzinfo=ZoneInfo("America/New_York")).astimezone(UTC) for day in (3, 6))
    assert repairs.backfill(books.installation(), "acme", "dated", start, end, actor="test").error is None
    [(path, manifest)] = [item for item in books.manifests() if item[1]["kind"] == "backfill"]
    assert [row[0] for row in read_csv(path.parent / manifest["files"][0]["path"], manifest)] == ["3", "4", "5"]
    books.happens("insert into dated values ('acme', 9, 'soon')")
    [result] = books.run(datetime(2026, 5, 21, 12, tzinfo=UTC))
    assert ("a value is not date" if how == "a time column" else "something in day that is not a time") in str(result.error)
    books.close()


ZEROS: dict[str, dict[str, Any]] = {
    "a change column": {"changes": {"mode": "lookback", "column": "at"}},
    "an append column": {"changes": {"mode": "append", "column": "at"}},
    "a deletion column": {"changes": {"mode": "full"}, "deleted_column": "at", "deletes": ""},
}


@pytest.mark.parametrize("books", ["mariadb"], indirect=True)
@pytest.mark.parametrize("native", ["datetime", "date", "timestamp null"])
@pytest.mark.parametrize("how", ZEROS)
def test_a_date_of_zeros_is_no_time_whatever_the_catalog_calls_the_column(books: Books, how: str, native: str) -> None:  # noqa: F811
    rows = "insert into thing values ('acme', 1, '2026-05-30'), ('acme', 2, '0000-00-00')"
    books.happens(f"create table thing (tenant_id varchar(20), id bigint primary key, at {native})", "set sql_mode = ''", rows)
    for columns in ({"id": {"type": "integer"}}, {"id": {"type": "integer"}, "at": {"type": "string"}}):
        books.catalogued(columns=columns, **ZEROS[how])
        [result] = books.run(datetime(2026, 6, 1, 12, tzinfo=UTC))
        assert "column at is" in str(result.error)
        assert "Let the column hold times and NULL only" in str(result.error)
    books.happens("delete from thing where id = 2", "insert into thing values ('acme', 3, '2026-05-30')")
    books.catalogued(columns={"id": {"type": "integer"}, "at": {"type": "string"}}, **ZEROS[how])
    [result] = books.run(datetime(2026, 6, 1, 12, tzinfo=UTC))
    assert result.error is None
    assert len(list(books.manifests())) == 1
    books.close()


NO_TIMES = {"id": "bigint", "clock": "time", "is_new": "boolean", "amount": "decimal(12, 2)", "word": "varchar(40)"}


def test_a_range_by_a_column_that_tells_no_time_is_refused_by_every_source(dated: Books) -> None:
    """MariaDB compares numbers and texts with a time as well as it can, and finds no row. SQLite keeps times as texts."""
    columns = ", ".join(f"{name} {native}" for name, native in NO_TIMES.items())
    dated.happens(f"create table other (tenant_id varchar(20), {columns}, day date)")
    catalogued(dated, "UTC", relation="other", changes={"mode": "full"}, time_column="day")
    installation = dated.installation()
    entity = installation.entity("dated")
    ranged = Selection(entity, "acme", entity.columns, time_from=NOON)
    with installation.source("books").snapshot([entity]) as snapshot:
        snapshot.check(ranged)
    texts = {"clock", "word"} if dated.spec.get("connection") == "lite" else set()
    for name in NO_TIMES.keys() - texts:
        other = entity.model_copy(update={"time_column": name})
        with installation.source("books").snapshot([other]) as snapshot, pytest.raises(PermanentError) as refused:
            snapshot.check(replace(ranged, entity=other))
        assert (refused.value.code, f"the time column {name} is" in str(refused.value)) == ("schema_drift", True)
    for name in ("day", "amount"):
        catalogued(dated, "UTC", relation="other", changes={"mode": "full"}, time_column=name)
        told = [check.found for check in source_findings(dated.installation(), {})]
        assert told == [] if name == "day" else "the time column amount is" in told[0]
