"""A deletion that is taken back reaches the consumer where keys are compared, also if nothing else of the row changes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deliveries.test_redefined import Books, books  # noqa: F401 (a fixture)
from tests.installations import DAY, NOON

MARKS = {
    "a time": ({"deleted_column": "deleted_at"}, "deleted_at = '{}'", "deleted_at = null"),
    "a state": ({"deleted_when": {"column": "other", "op": "=", "value": "gone"}}, "other = 'gone'", "other = 'here'"),
}


def begin(books: Books, **more: Any) -> None:  # noqa: F811
    time = "text" if books.spec.get("connection") == "lite" else "timestamp null"
    gone = "update thing set deleted_at = '2026-05-30 11:00:00', other = 'gone' where id = 2"
    columns = {name: {"type": "string"} for name in ("name", "other")} | {"id": {"type": "integer"}, "deleted_at": {"type": "timestamp"}}
    books.begin(f"alter table thing add column deleted_at {time}", gone, columns=columns, **more)


def rows(books: Books) -> list[int]:  # noqa: F811
    return [manifest["rows"] for _, manifest in books.manifests()]


@pytest.mark.parametrize("mark", MARKS)
def test_a_deletion_that_is_taken_back_alone_is_found_by_comparing_keys(books: Books, mark: str) -> None:  # noqa: F811
    """One row was deleted in a delta, and one before the full load. Both come back once."""
    words, deleted, back = MARKS[mark]
    begin(books, deletes="compare", **words)
    touched = f"updated_at = '{NOON:%Y-%m-%d} 01:00:00'"
    books.happens(f"update thing set {deleted.format(f'{NOON:%Y-%m-%d} 01:00:00')}, {touched} where id = 1")
    books.deliver(1)
    books.deliver(2)
    books.happens(f"update thing set {back}")
    books.deliver(3)
    books.deliver(4)
    assert (rows(books), set(books.kinds()[1:])) == ([2, 1, 0, 2, 0], {"delta"})
    assert books.copy() == ["n1", "n2"]
    books.close()


def test_a_deletion_that_a_delivery_without_a_comparison_brought_is_found_later(books: Books) -> None:  # noqa: F811
    """And what came back by its change time meanwhile comes once."""
    begin(books, deletes={"mode": "compare", "every": 3}, deleted_column="deleted_at")
    at = [f"{NOON + day * DAY:%Y-%m-%d} 01:00:00" for day in range(9)]
    books.happens(f"update thing set deleted_at = '{at[0]}' where id = 1")
    books.deliver(1)
    books.happens(f"update thing set deleted_at = null, updated_at = '{at[1]}' where id = 2")
    books.deliver(2)
    books.happens("update thing set deleted_at = null where id = 1")
    for day in range(3, 7):
        books.deliver(day)
    assert sum(rows(books)) == 2 + 1 + 1 + 1
    assert books.copy() == ["n1", "n2"]
    books.close()


def test_a_deleted_row_that_is_purged_comes_once_more_as_a_key(books: Books) -> None:  # noqa: F811
    begin(books, deletes="compare", deleted_column="deleted_at")
    books.happens(f"update thing set deleted_at = '{NOON:%Y-%m-%d} 01:00:00' where id = 1")
    books.deliver(1)
    books.happens("delete from thing where id = 1")
    for day in (2, 3):
        books.deliver(day)
    assert [manifest["deletes"] and manifest["deletes"]["rows"] for _, manifest in books.manifests()] == [None, 0, 1, 0]
    books.close()


@pytest.mark.parametrize("mode", ["lookback", "full"])
def test_marks_of_deleted_rows_are_no_keys_when_consumers_no_longer_see_deletions(books: Books, mode: str) -> None:  # noqa: F811
    """The column that tells deletions leaves the catalog's columns, and comes back."""
    columns = {"id": {"type": "integer"}, "name": {"type": "string"}}
    told = columns | {"deleted_at": {"type": "timestamp"}}
    changes = {"mode": "full"} if mode == "full" else {"mode": "lookback", "column": "updated_at", "lookback": "1h"}
    words = {"deletes": "compare", "deleted_column": "deleted_at", "changes": changes}
    begin(books, **words)
    books.catalogued(columns=columns, **words)
    books.deliver(1)
    books.deliver(2)
    books.happens("delete from thing where id = 2")
    books.deliver(3)
    books.catalogued(columns=told, **words)
    books.deliver(4)
    assert [manifest["deletes"] and manifest["deletes"]["rows"] for _, manifest in books.manifests()] == [None, 0, 0, 1, 0]
    assert set(books.copy()) == {"n1"}
    books.close()
