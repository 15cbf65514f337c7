"""A worker that another one overtakes while it opens the source: the delivery is there once, and nothing starts over."""

import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from tests.installations import DAY, NOON, USER, Place, make_place
from waybill.deliveries.running import run
from waybill.registrations.applying import apply

pytestmark = pytest.mark.fast


@pytest.fixture
def place(tmp_path):
    with closing(make_place(tmp_path)) as place:
        place.write(
            "catalog.yaml",
            {
                "sources": {"db": {"kind": "dbapi", "connection": "db"}},
                "entities": {"user": {**USER, "source": "db", "deletes": "compare"}},
            },
        )
        place.tenant(entityList=["user"])
        with closing(sqlite3.connect(tmp_path / "app.db")) as database, database:
            database.execute("create table user (tenant_id text, id bigint, name text, updated_at timestamp, deleted_at timestamp)")
            database.execute("insert into user values ('acme', 1, 'Ada', '2026-05-30 10:00:00', null)")
        yield place


def deliver(place: Place, until, before_reading=lambda: None):
    def connect(name):
        before_reading()
        return sqlite3.connect(place.root / "app.db")

    installation = replace(place.installation(), connect_db=connect)
    apply(installation, actor="test")
    return [result.error for result in run(installation, "acme", until)]


@pytest.mark.parametrize("number", [1, 2])
def test_a_worker_that_was_overtaken_starts_no_generation(place, number):
    """Another worker does it all while this one opens the source for the first time (to plan) or the second (to read)."""
    assert deliver(place, NOON) == [None]
    opened, others = [], []

    def overtake():
        opened.append("once more")
        if len(opened) == number:
            others.extend(deliver(place, NOON + DAY))

    assert deliver(place, NOON + DAY, overtake) == [None] * (number - 1)
    assert others == [None]
    assert [(delivery["generation"], delivery["sequence"], delivery["kind"]) for _, delivery in place.manifests()] == [
        (1, 1, "full"),
        (1, 2, "delta"),
    ]
