"""A statement that takes for ever is ended from another thread, so that nobody has to wait for it who has stopped waiting."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.installations import NOON, USER, catalog, make_place
from tests.sources.test_equal_ids import Place, place
from waybill.configuration.catalog import Entity
from waybill.configuration.registration import Registration
from waybill.configuration.selection import Selection
from waybill.errors import WaybillError
from waybill.registrations import estimating

__all__ = ["place"]

ENDLESS = {
    "sqlite": "with recursive t(i) as (select 1 union all select i + 1 from t) select 'acme' as tenant_id, i as id from t where i % 9 = 0",
    "duckdb": "select 'acme' as tenant_id, i as id from range(1000000000000) as t(i) where hash(i) % 7777777 = 3",
    "postgres": "select 'acme' as tenant_id, i as id from generate_series(1, 1000000000000) as t(i) where i % 7777777 = 0",
}
ENDLESS["psycopg"] = ENDLESS["postgres"]


@pytest.mark.parametrize("place", list(ENDLESS), indirect=True)
def test_a_count_that_takes_for_ever_is_ended_from_another_thread(place: Place) -> None:
    place.happens("create table something (id int)")
    body = {"id": "orders", "source": "s", "query": ENDLESS[place.kind], "tenant_column": "tenant_id", "key": ["id"]}
    entity = Entity.model_validate({**body, "columns": {"id": {"type": "integer"}}, "changes": {"mode": "full"}})
    deadline = time.monotonic() + 60
    with ThreadPoolExecutor(1) as another, place.source.snapshot([entity]) as snapshot:
        counting = another.submit(snapshot.count, Selection(entity, "acme", entity.columns))
        while not counting.done():
            assert time.monotonic() < deadline
            snapshot.interrupt()
        assert isinstance(counting.exception(), WaybillError)


def test_counts_that_nobody_waits_for_keep_no_later_one_from_beginning(tmp_path: Path) -> None:
    with closing(make_place(tmp_path, clock=NOON)) as place:
        place.sql("CREATE TABLE quick AS SELECT 'acme' AS tenant_id, 1 AS id")
        entity = {name: value for name, value in USER.items() if name not in ("name", "deleted_column")}
        entity |= {"columns": {"id": {"type": "integer"}}, "changes": {"mode": "full"}, "relation": ""}
        slow = {**entity, "query": ENDLESS["duckdb"]}
        place.write("catalog.yaml", catalog(slow=slow, slower=slow, quick={**entity, "relation": "quick"}))
        installation = place.installation()
        for name in ("slow", "slower"):
            [estimated] = estimating.estimate(installation, "acme", Registration(), [name], 0.2)
            assert (estimated.rows, estimated.note) == (None, "counting takes too long")
        [estimated] = estimating.estimate(installation, "acme", Registration(), ["quick"], 60)
        assert (estimated.rows, estimated.note) == (1, "")
