"""A materialized view shows rows when it is refreshed, long after they say that they changed: none is lost without a word."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.deliveries.test_redefined import ENTITY, ROWS, Books, over_postgres
from tests.ledger.test_ledger_states import wait_for_replay
from tests.products import pairs
from tests.servers.postgres import Cluster, Database
from tests.sources.test_source_postgres import Role

LATE = "insert into thing values ('acme', 3, 'n3', 'o3', '2026-05-30 10:00:00')"
OTHERS = "insert into thing values ('globex', 4, 'n4', 'o4', '2026-05-30 10:00:00')"
KEPT = "create materialized view kept as select tenant_id, id, spelt(name)::varchar(20) as name, other, updated_at from thing"
MADE = [
    "create function spelt(x varchar) returns varchar language sql immutable as 'select upper($1)'",
    KEPT,
    "create unique index on kept (id)",
    "create view shown as select * from kept",
    "create function rows() returns setof kept language plpgsql as 'begin return query select * from kept; end'",
    "create view called as select * from rows()",
    "create materialized view of_kept as select * from kept",
    "create unique index on of_kept (id)",
]
TYPED = {**ENTITY["columns"], "updated_at": {"type": "timestamp"}}
SHAPES: dict[str, dict[str, Any]] = {
    "itself": {"relation": "kept"},
    "behind a view": {"relation": "shown"},
    "behind a function": {"relation": "called"},
    "in a query": {"relation": "", "query": "select * from kept", "columns": TYPED},
}
REFRESHES = {"whole": ["refresh materialized view kept"], "concurrently": ["refresh materialized view concurrently kept"]}


KINDS = ["postgres", "dbapi"]


@pytest.fixture(params=KINDS)
def books(request: pytest.FixtureRequest, tmp_path: Path, postgres: Database) -> Iterator[Books]:
    place = over_postgres(tmp_path, postgres, {"kind": request.param, "connection": "pg"})
    yield place
    place.close()


@pytest.mark.parametrize(("books", "shape", "refresh"), pairs(KINDS, SHAPES, REFRESHES), indirect=["books"])
def test_a_refresh_starts_the_stream_over(books: Books, shape: str, refresh: str) -> None:
    books.begin(*MADE, **SHAPES[shape])
    books.happens(LATE)
    books.deliver(1)
    assert (books.copy(), books.kinds()) == (["N1", "N2"], ["full", "delta"])
    books.happens(*REFRESHES[refresh])
    books.deliver(2)
    assert (books.copy(), books.kinds()) == (["N1", "N2", "N3"], ["full", "delta", "full"])
    assert "the materialized view public.kept is refreshed since the last delivery" in books.reason()
    books.deliver(3)
    assert books.kinds() == ["full", "delta", "full", "delta"]


@pytest.mark.parametrize("refresh", REFRESHES)
def test_a_function_behind_a_materialized_view_counts_when_it_is_refreshed(books: Books, refresh: str) -> None:
    books.begin(*MADE, relation="shown")
    books.happens("create or replace function spelt(x varchar) returns varchar language sql immutable as 'select lower($1)'")
    books.deliver(1)
    books.happens(*REFRESHES[refresh])
    books.deliver(2)
    assert (books.copy(), books.kinds()[-1]) == (["n1", "n2"], "full")


def test_a_materialized_view_that_is_made_again_starts_the_stream_over(books: Books) -> None:
    books.begin(*MADE[:3], relation="kept")
    books.happens(LATE, "drop materialized view kept", KEPT)
    books.deliver(1)
    assert (books.copy(), books.kinds()) == (["N1", "N2", "N3"], ["full", "full"])


UNCHANGED: dict[str, list[str]] = {
    "nothing": [],
    "another tenant's rows": [OTHERS, *REFRESHES["concurrently"]],
    "the same rows": REFRESHES["concurrently"],
    "an index": ["create unique index on kept (id, name)"],
}


@pytest.mark.parametrize("what", UNCHANGED)
def test_what_changes_none_of_the_tenants_rows_starts_nothing_over(books: Books, what: str) -> None:
    books.begin(*MADE, relation="kept")
    books.happens(*UNCHANGED[what])
    books.deliver(1)
    assert books.kinds() == ["full", "delta"]


def test_frozen_rows_are_the_same_rows(books: Books, postgres: Database) -> None:
    books.begin(*MADE, relation="shown")
    postgres.psql("vacuum (freeze) kept")
    books.deliver(1)
    assert books.kinds() == ["full", "delta"]


def test_only_the_materialized_view_that_is_read_counts(books: Books) -> None:
    books.begin(*MADE, relation="of_kept")
    books.happens(LATE, *REFRESHES["whole"])
    books.deliver(1)
    assert (books.copy(), books.kinds()) == (["N1", "N2"], ["full", "delta"])
    books.happens("refresh materialized view concurrently of_kept")
    books.deliver(2)
    assert (books.copy(), books.kinds()[-1]) == (["N1", "N2", "N3"], "full")


@pytest.mark.parametrize("kind", ["postgres", "dbapi"])
def test_who_may_not_look_at_its_rows_is_told_what_may_be_missed(tmp_path: Path, postgres: Database, kind: str) -> None:
    table = "create table thing (tenant_id text, id bigint primary key, name varchar(20), other text, updated_at timestamp not null)"
    postgres.psql("; ".join([table, ROWS, *MADE]))
    with Role(postgres, "grant select on shown to {0}") as role:
        books = over_postgres(tmp_path, replace(postgres, user=role), {"kind": kind, "connection": "pg"})
        books.catalogued(relation="shown")
        books.deliver(0)
        [note] = [manifest["note"] for _, manifest in books.manifests()]
        assert "may not SELECT from public.kept" in note
        postgres.psql("; ".join([LATE, *REFRESHES["whole"]]))
        books.deliver(1)
        assert (books.copy(), books.kinds()) == (["N1", "N2", "N3"], ["full", "full"])
        books.close()


def test_a_full_entity_says_nothing_of_refreshes(books: Books) -> None:
    books.begin(*MADE, relation="kept", changes={"mode": "full"})
    books.happens(LATE, *REFRESHES["concurrently"])
    books.deliver(1)
    assert books.copy() == ["N1", "N2", "N3"]


@pytest.mark.slow
@pytest.mark.parametrize("refresh", REFRESHES)
def test_a_standby_shows_a_refresh_too(tmp_path: Path, postgres_cluster: Cluster, postgres: Database, refresh: str) -> None:
    with postgres_cluster.standby() as copy:
        books = over_postgres(tmp_path, replace(postgres, port=copy.port), {"kind": "postgres", "connection": "pg"})
        table = "create table thing (tenant_id text, id bigint primary key, name varchar(20), other text, updated_at timestamp not null)"
        postgres.psql("; ".join([table, ROWS, *MADE]))
        books.catalogued(relation="shown")
        for day, statements in enumerate([[], [LATE], REFRESHES[refresh]]):
            postgres.psql("; ".join(statements))
            wait_for_replay(postgres_cluster, copy, postgres)
            books.deliver(day)
        assert (books.copy(), books.kinds()) == (["N1", "N2", "N3"], ["full", "delta", "full"])
        books.close()
