"""With `deletes: compare_rows`, a copy holds the source's rows after each comparison, also where nothing shows that a row changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.copies import Copy
from tests.deliveries.test_redefined import Books, books  # noqa: F401 (a fixture)
from tests.installations import DAY, NOON, Place, make_place
from waybill.deliveries.key_changes.changes import MOST_BACK
from waybill.deliveries.repairs import backfill
from waybill.deliveries.running import run
from waybill.installation import Installation
from waybill.registrations.applying import apply

ROWS = {"deletes": "compare_rows"}
STAMPED = {"id": {"type": "integer"}, "name": {"type": "string"}, "updated_at": {"type": "timestamp"}}
BY_TIME = {"mode": "lookback", "column": "updated_at", "lookback": "1h"}
BY_ID = {"mode": "append", "column": "id"}
LONG = "\n" * 120_000
SILENT = {
    "a value": (["update thing set name = 'other' where id = 1"], ["n2", "other"], 1),
    "a value, and a change time set back": (["update thing set name = 'back', updated_at = '2001-01-01' where id = 1"], ["back", "n2"], 1),
    "two values that swap": (["update thing set name = case id when 1 then 'n2' else 'n1' end"], ["n1", "n2"], 2),
    "a value that becomes NULL": (["update thing set name = null where id = 2"], ["", "n1"], 1),
    "a row that another one replaces": (
        ["delete from thing where id = 2", "insert into thing values ('acme', 2, 'again', 'o', '2026-05-01 10:00:00')"],
        ["again", "n1"],
        1,
    ),
}
"""What happens, which names are there then, and how many rows are others."""


def rows(books: Books) -> list[int]:  # noqa: F811
    return [manifest["rows"] for _, manifest in books.manifests()]


def many(first: int, end: int) -> str:
    return f"insert into thing select 'acme', id, 'n', 'o', timestamp '2026-05-30 10:00:00' from range({first}, {end}) numbers(id)"


@pytest.mark.parametrize("change", SILENT)
def test_a_row_that_changes_without_a_sign_comes_once(books: Books, change: str) -> None:  # noqa: F811
    statements, names, others = SILENT[change]
    books.begin(**ROWS)
    books.deliver(1)
    books.happens(*statements)
    for day in (2, 3):
        books.deliver(day)
    assert (books.copy(), rows(books), set(books.kinds()[1:])) == (names, [2, 0, others, 0], {"delta"})
    notes = [manifest.get("note") or "" for _, manifest in books.manifests()]
    assert ["a comparison found" in note for note in notes] == [False, False, True, False]
    books.close()


@pytest.mark.parametrize("changes", [BY_TIME, BY_ID], ids=["lookback", "append"])
@pytest.mark.parametrize("books", ["postgres", "sqlite"], indirect=True)
def test_a_version_that_was_delivered_before_comes_again_in_place_of_the_one_that_the_consumer_holds(
    books: Books,  # noqa: F811
    changes: dict[str, Any],
) -> None:
    books.begin(changes=changes, **ROWS)
    for day, name in enumerate(["b", "n1", "b", "b"], start=1):
        books.happens(f"update thing set name = '{name}' where id = 1")
        books.deliver(day)
        assert books.copy() == sorted([name, "n2"])
    assert rows(books) == [2, 1, 1, 1, 0]
    books.close()


@pytest.mark.parametrize("mode", ["snapshot", "horizon"])
@pytest.mark.parametrize("books", ["postgres"], indirect=True)
def test_modes_that_follow_transactions_find_what_no_transaction_tells(books: Books, mode: str) -> None:  # noqa: F811
    """A view takes its value from a table that the mode does not watch."""
    table = "create table label (id int primary key, name text); insert into label values (1, 'l1'), (2, 'l2')"
    body = "begin return (select l.name from label l where l.id = $1); end"
    view = f"create function label_of(int) returns text language plpgsql as $${body}$$"
    changes = {"mode": mode, "column": "stamp" if mode == "snapshot" else "updated_at"}
    stamp = "alter table thing add column stamp xid8 not null default pg_current_xact_id()"
    shown = "create view shown as select tenant_id, id, label_of(id::int) as name, stamp, updated_at from thing"
    books.begin(stamp, table, view, shown, relation="shown", changes=changes, **ROWS)
    books.happens("update label set name = 'other' where id = 2")
    for day in (1, 2):
        books.deliver(day)
    assert (books.copy(), rows(books)) == (["l1", "other"], [2, 1, 0])
    books.close()


@pytest.mark.parametrize("books", ["postgres", "sqlite"], indirect=True)
def test_rows_are_compared_when_the_catalog_says(books: Books) -> None:  # noqa: F811
    """Deliveries in between add to what is known: what came by its change time does not come again."""
    books.begin(deletes={"mode": "compare_rows", "every": 3})
    books.deliver(1)
    books.happens("update thing set name = 'silent' where id = 1")
    books.happens(f"update thing set name = 'told', updated_at = '{NOON + DAY:%Y-%m-%d} 01:00:00' where id = 2")
    for day in (2, 3, 4, 5):
        books.deliver(day)
    assert (books.copy(), rows(books)) == (["silent", "told"], [2, 0, 2, 0, 0, 0])
    books.close()


@pytest.mark.parametrize("books", ["postgres", "sqlite"], indirect=True)
def test_a_row_that_the_next_delivery_brings_waits_for_it(books: Books) -> None:  # noqa: F811
    """The consumer holds the version before, and nothing says otherwise."""
    books.begin(**ROWS)
    books.happens(f"update thing set name = 'later', updated_at = '{NOON + DAY:%Y-%m-%d} 08:00:00' where id = 1")
    books.deliver(1)
    assert books.copy() == ["n1", "n2"]
    for day in (2, 3):
        books.deliver(day)
    assert (books.copy(), rows(books)) == (["later", "n2"], [2, 0, 1, 0])
    books.close()


CATALOGS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "compared by keys before": ({"deletes": "compare"}, ROWS, "which values of these columns were delivered before is not known"),
    "a column joins": (ROWS, {**ROWS, "columns": {**STAMPED, "other": {"type": "string"}}}, "deletes: compare_rows asks for every row"),
    "a column leaves": (ROWS, {**ROWS, "columns": {"id": {"type": "integer"}, "name": {"type": "string"}}}, "dropped a delivered column"),
    "a column has another type": (ROWS, {**ROWS, "columns": {**STAMPED, "id": {"type": "decimal"}}}, "gave it another type"),
}


@pytest.mark.parametrize("catalog", CATALOGS)
@pytest.mark.parametrize("books", ["duckdb"], indirect=True)
def test_a_catalog_that_means_other_rows_starts_the_stream_over_and_says_so(books: Books, catalog: str) -> None:  # noqa: F811
    before, after, why = CATALOGS[catalog]
    books.begin(**{"columns": STAMPED, **before})
    books.catalogued(**{"columns": STAMPED, **after})
    said = "\n".join(apply(books.installation(), actor="test", dry_run=True).lines(dry_run=True))
    books.deliver(1)
    assert (books.kinds(), why in books.reason()) == (["full", "full"], True)
    assert "the next delivery is a full load" in said
    books.deliver(2)
    assert books.kinds() == ["full", "full", "delta"]
    books.close()


@pytest.mark.parametrize("books", ["duckdb"], indirect=True)
def test_keys_alone_are_compared_on_when_whole_rows_no_longer_are(books: Books) -> None:  # noqa: F811
    """Keys that were delivered with the versions of their rows then stand beside keys without any."""
    books.begin(many(3, 3_000), **ROWS)
    books.catalogued(deletes="compare")
    books.happens("update thing set name = 'silent' where id = 1", "delete from thing where id = 2", many(3_000, 4_000))
    for day in (1, 2, 3):
        books.deliver(day)
    deletes = [manifest["deletes"] and manifest["deletes"]["rows"] for _, manifest in books.manifests()]
    assert (books.kinds(), rows(books), deletes) == (["full", *["delta"] * 3], [2_999, 1_000, 0, 0], [None, 1, 0, 0])
    books.close()


@pytest.mark.parametrize("books", ["duckdb"], indirect=True)
def test_more_rows_that_differ_than_a_delta_picks_come_with_a_full_load(books: Books) -> None:  # noqa: F811
    books.begin(many(3, MOST_BACK + 2), **ROWS)
    books.happens("update thing set name = 'silent'")
    books.deliver(1)
    assert (books.kinds(), rows(books)) == (["full", "full"], [MOST_BACK + 1] * 2)
    assert books.reason().startswith(f"{MOST_BACK + 1} rows came back, came late, or are not as they were delivered")
    books.close()


def test_files_of_a_lake_that_are_written_again_with_old_times_are_found(tmp_path: Path) -> None:
    """The key is a text that CSV quotes, and stands behind the other columns. One text has more lines than all other files together."""
    keys = ["", 'a "quoted" one', "two\nlines", "a, b", "plain"]

    def write(values: list[str]) -> None:
        times = pa.array([NOON - 40 * DAY] * len(keys), pa.timestamp("us", tz="UTC"))
        table = pa.table({"tenant_id": ["acme"] * len(keys), "name": values, "code": keys, "updated_at": times})
        pq.write_table(table, tmp_path / "lake" / "things.parquet")

    (tmp_path / "lake").mkdir()
    with closing(make_place(tmp_path)) as place:
        deliver = catalogued_lake(place)
        write(["v1"] * 5)
        deliver(0)
        write(["v1", "v2", 'v, "3"', LONG, "v1"])
        for day in (1, 2):
            deliver(day)
        assert [manifest["rows"] for _, manifest in place.manifests()] == [5, 3, 0]
        copy = Copy().catch_up(place.out)
        assert sorted(row["name"] for row in copy.rows.values()) == sorted([LONG, 'v, "3"', "v1", "v1", "v2"])


def catalogued_lake(place: Place) -> Any:
    entity = {
        "source": "lake",
        "relation": "*.parquet",
        "tenant_column": "tenant_id",
        "key": ["code"],
        "changes": BY_TIME,
        "columns": {"name": {"type": "string"}, "code": {"type": "string"}},
        **ROWS,
    }
    place.write("catalog.yaml", {"sources": {"lake": {"kind": "lake", "path": "lake"}}, "entities": {"user": entity}})
    place.tenant(entityList=["user"])

    def deliver(day: int) -> None:
        assert [str(result.error) for result in place.run(NOON + day * DAY) if result.error] == []

    return deliver


class Killed(BaseException):
    """Ends a worker as `kill -9` does, between two steps."""


def killed_once_it_has_read(books: Books, purpose: str, work: Callable[[Installation], object]) -> None:  # noqa: F811
    installation = books.installation()
    attempts = "select count(*) from attempt join delivery on delivery.id = attempt.delivery where purpose = ?"
    attempts += " and status = 'open' and publishing_at is not null"

    def now() -> datetime:
        with closing(sqlite3.connect(books.root / ".waybill/ledger.db")) as ledger:
            if ledger.execute(attempts, [purpose]).fetchone()[0]:
                raise Killed
        return datetime.now(UTC)

    with pytest.raises(Killed):
        work(replace(installation, now=now))


def backfilled(installation: Installation) -> None:
    assert backfill(installation, "acme", "thing", NOON - 9 * DAY, NOON - DAY / 2, actor="test").error is None


@pytest.mark.parametrize("more", [0, 10_000])
@pytest.mark.parametrize("books", ["duckdb"], indirect=True)
def test_rows_come_again_where_a_backfill_and_a_delivery_were_read_in_another_order_than_they_end(books: Books, more: int) -> None:  # noqa: F811
    """By its snapshot the backfill comes before the delivery, so the consumer does not hold what the backfill brought."""
    books.begin(many(3, 3 + more), **ROWS)
    books.happens("update thing set name = 'a' where id = 1")
    killed_once_it_has_read(books, "backfill", backfilled)
    books.happens("update thing set name = 'b' where id = 1")
    books.deliver(1)
    books.happens("update thing set name = 'a' where id = 1")
    for day in (2, 3):
        books.deliver(day)
    last = {manifest["sequence"]: manifest["rows"] for _, manifest in books.manifests() if manifest["kind"] == "delta"}
    assert last == {2: 1, 3: 2 + more, 4: 0}
    books.close()


@pytest.mark.parametrize("books", ["duckdb"], indirect=True)
def test_what_a_backfill_brought_while_a_delivery_was_on_its_way_is_forgotten_with_it(books: Books) -> None:  # noqa: F811
    books.begin(**ROWS)
    books.happens("update thing set name = 'a' where id = 1")
    killed_once_it_has_read(books, "schedule", lambda installation: run(installation, "acme", NOON + DAY))
    backfilled(books.installation())
    for day, name in enumerate(["a", "b", "a"], start=1):
        books.happens(f"update thing set name = '{name}' where id = 1")
        books.deliver(day)
    deltas = [manifest["rows"] for _, manifest in books.manifests() if manifest["kind"] == "delta"]
    assert (books.copy(), deltas) == (["a", "n2"], [1, 2, 1])
    books.close()
