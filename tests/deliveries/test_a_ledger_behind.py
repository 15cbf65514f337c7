"""A ledger restored from a backup, or lost: found before anything is published, whatever the date of the next run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from tests.installations import DAY, NOON, Place, make_place
from waybill.deliveries.comparison.reconciling import reconcile
from waybill.errors import ConflictError


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with closing(make_place(tmp_path)) as made:
        made.tenant(entityList=["user"])
        for number in range(3):
            made.user(number, "row", NOON - 10 * DAY)
        yield made


def ledger(place: Place) -> Path:
    return place.root / ".waybill" / "ledger.db"


def lose(place: Place) -> None:
    place.close()
    for path in ledger(place).parent.glob("ledger.db*"):
        path.unlink()


def changed(place: Place, number: int, at: int) -> None:
    place.user(number, f"changed {at}", NOON + at * DAY - timedelta(hours=18))


def stopped(place: Place, at: int) -> str:
    [result] = place.run(NOON + at * DAY)
    assert isinstance(result.error, ConflictError)
    assert result.error.code == "ledger_behind"
    return str(result.error)


@pytest.mark.parametrize("restored", [True, False], ids=["restored", "lost"])
@pytest.mark.parametrize("frequency", ["daily", "weekly", "monthly"])
def test_nothing_is_published_by_a_ledger_that_is_behind(place: Place, frequency: str, restored: bool) -> None:
    step = {"daily": 1, "weekly": 7, "monthly": 31}[frequency]
    place.tenant(entityList=["user"], frequency=frequency)
    assert [result.error for result in place.run(NOON)] == [None]
    place.close()
    shutil.copy(ledger(place), place.root / "backup.db")
    changed(place, 1, step)
    assert [result.error for result in place.run(NOON + step * DAY)] == [None]
    lose(place)
    if restored:
        shutil.copy(place.root / "backup.db", ledger(place))
    before = place.files()
    changed(place, 2, 2 * step)
    message = stopped(place, 2 * step)
    assert "the ledger is older than the destination" in message
    assert "Run: waybill reconcile acme" in message
    assert place.files() == before


def test_reconcile_brings_the_ledger_back_and_the_next_run_goes_on(place: Place) -> None:
    place.run(NOON)
    place.close()
    shutil.copy(ledger(place), place.root / "backup.db")
    changed(place, 1, 1)
    place.run(NOON + DAY)
    lose(place)
    shutil.copy(place.root / "backup.db", ledger(place))
    changed(place, 2, 2)
    stopped(place, 2)
    assert reconcile(place.installation(), "acme", actor="test").problems == []
    assert [result.error for result in place.run(NOON + 2 * DAY)] == [None]
    assert [manifest["sequence"] for _, manifest in place.manifests()] == [1, 2, 3]
    assert {row[1] for row in place.rows()} == {"row", "changed 1", "changed 2"}


def test_what_the_ledger_knows_stops_nothing(place: Place) -> None:
    place.run(NOON)
    place.run(NOON + DAY)
    changed(place, 1, 5)
    assert [result.error for result in place.run(NOON + 5 * DAY)] == [None]  # days were passed over
    assert [result.error for result in place.run(NOON + 6 * DAY, full_load=True)] == [None]
    place.tenant(entityList=["user", "theme"])
    assert [result.error for result in place.run(NOON + 7 * DAY)] == [None, None]
    place.tenant("globex", entityList=["user"])
    assert [result.error for result in place.run(NOON + 8 * DAY, tenant="globex")] == [None]
