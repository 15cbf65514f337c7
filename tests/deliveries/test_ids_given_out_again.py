"""`append` by id over a table that counts from 1 again: no row is left out because an earlier one had its id."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deliveries.test_redefined import Books, books  # noqa: F401 (a fixture)

BY_ID = {"mode": "append", "column": "id"}
CLEARED = "delete from thing"
RESTARTED = {"postgres": "truncate thing restart identity", "dbapi over postgres": "truncate thing restart identity"}


def rows(first: int, last: int, word: str, tenants: tuple[str, ...] = ("acme",)) -> str:
    """Return the statement that inserts rows whose ids go round among the tenants."""
    values = [f"('{tenants[n % len(tenants)]}', {n}, '{word}{n}', 'o', '2026-05-30 10:00:00')" for n in range(first, last + 1)]
    return f"insert into thing values {', '.join(values)}"


def begin(books: Books, first: str, **more: Any) -> None:  # noqa: F811
    books.begin(CLEARED, first, *more.pop("made", ()), changes=more.pop("changes", BY_ID), **more)


@pytest.mark.parametrize("lag", [0, 3])
def test_a_table_that_counts_from_1_again_and_passes_the_last_id_starts_over(
    books: Books,  # noqa: F811
    lag: int,
    request: pytest.FixtureRequest,
) -> None:
    begin(books, rows(1, 9, "a"), changes=BY_ID | {"lag": lag})
    books.happens(rows(10, 12, "a"))
    books.deliver(1)
    books.happens(RESTARTED.get(request.node.callspec.params["books"], CLEARED), rows(1, 20, "b"))
    books.deliver(2)
    assert (books.kinds(), books.copy()) == (["full", "delta", "full"], sorted(f"b{n}" for n in range(1, 21)))
    assert "id gives ids out again" in books.reason()
    books.happens(rows(21, 22, "b"))
    books.deliver(3)
    assert (books.kinds()[3], len(books.copy())) == ("delta", 22)
    books.close()


def test_ids_that_belong_to_another_tenant_now_are_given_out_again(books: Books) -> None:  # noqa: F811
    begin(books, rows(1, 9, "a", ("acme", "globex")))
    books.happens(CLEARED, rows(1, 20, "b", ("globex", "acme")))
    books.deliver(1)
    assert (books.kinds(), books.copy()) == (["full", "full"], sorted(f"b{n}" for n in range(1, 21, 2)))
    books.close()


def test_rows_that_are_cleared_away_while_ids_go_on_stay_with_the_consumer(books: Books) -> None:  # noqa: F811
    begin(books, rows(1, 9, "a"))
    for day, kept in enumerate([5, 12, 12, 18], 1):
        books.happens(f"delete from thing where id < {kept}", rows(7 + 3 * day, 9 + 3 * day, "a"))
        books.deliver(day)
    assert (set(books.kinds()[1:]), len(books.copy())) == ({"delta"}, 21)
    books.happens(CLEARED, rows(30, 31, "a"))
    books.deliver(5)
    assert (books.kinds()[5], len(books.copy())) == ("delta", 23)
    books.deliver(6)
    books.happens(CLEARED, rows(1, 40, "c"))
    books.deliver(7)
    assert (books.kinds()[7], len(books.copy())) == ("full", 40)
    books.close()


def test_rows_that_are_worked_on_after_their_delivery_are_no_sign(books: Books) -> None:  # noqa: F811
    begin(books, rows(1, 9, "a"))
    for day in range(1, 4):
        books.happens("update thing set name = 'done' where id > 1", rows(7 + 3 * day, 9 + 3 * day, "a"))
        books.deliver(day)
    assert books.kinds() == ["full", "delta", "delta", "delta"]
    books.close()


def test_landmarks_outlive_a_change_of_columns(books: Books) -> None:  # noqa: F811
    begin(books, rows(1, 9, "a"))
    books.catalogued(
        changes=BY_ID, columns={"id": {"type": "integer"}, "name": {"type": "string"}, "more": {"type": "string", "from": "other"}}
    )
    books.deliver(1)
    books.catalogued(changes=BY_ID)
    books.deliver(2)
    assert books.kinds() == ["full", "delta", "delta"]
    books.happens(CLEARED, rows(1, 20, "b"))
    books.deliver(3)
    assert (books.kinds()[3], len(books.copy())) == ("full", 20)
    books.close()


def test_ids_that_each_tenant_counts_for_itself_are_no_sign_when_a_tenant_clears_its_rows(books: Books) -> None:  # noqa: F811
    counted = "create table counted (tenant_id varchar(20), id bigint, name varchar(20), primary key (tenant_id, id))"
    mine, others = ([f"insert into counted values ('{tenant}', {n}, 'a{n}')" for n in range(1, 10)] for tenant in ("acme", "globex"))
    columns = {"tenant_id": {"type": "string"}, "id": {"type": "integer"}, "name": {"type": "string"}}
    begin(books, CLEARED, relation="counted", key=["tenant_id", "id"], columns=columns, made=[counted, *mine, *others])
    books.happens("delete from counted where tenant_id = 'acme'", "insert into counted values ('acme', 10, 'a10')")
    books.deliver(1)
    books.deliver(2)
    assert (books.kinds(), len(books.copy())) == (["full", "delta", "delta"], 10)
    books.happens("delete from counted", *(f"insert into counted values ('acme', {n}, 'b{n}')" for n in range(1, 20)))
    books.deliver(3)
    assert (books.kinds()[3], len(books.copy())) == ("full", 19)
    books.close()


def test_rows_of_a_tenant_that_counts_for_itself_come_however_far_others_have_counted(books: Books) -> None:  # noqa: F811
    counted = "create table counted (tenant_id varchar(20), id bigint, name varchar(20), primary key (tenant_id, id))"
    mine = [f"insert into counted values ('acme', {n}, 'a{n}')" for n in range(1, 10)]
    others = [f"insert into counted values ('globex', {n}, 'a{n}')" for n in range(1, 50)]
    columns = {"tenant_id": {"type": "string"}, "id": {"type": "integer"}, "name": {"type": "string"}}
    begin(books, CLEARED, relation="counted", key=["tenant_id", "id"], columns=columns, made=[counted, *mine, *others])
    books.happens("insert into counted values ('acme', 10, 'a10')")
    books.deliver(1)
    assert (books.kinds(), len(books.copy())) == (["full", "delta"], 10)
    books.happens("delete from counted where tenant_id = 'acme' and id > 5")
    books.deliver(2)
    books.happens("insert into counted values ('acme', 6, 'b6'), ('acme', 11, 'b11')")
    books.deliver(3)
    assert set(books.kinds()[1:]) == {"delta"}
    assert [name for name in books.copy() if name.startswith("b")] == ["b11", "b6"]
    books.close()
