"""Every state that a ledger was in during a run, restored after a consumer has taken some of what was delivered since.

Whatever is restored, and whenever the next run follows: no number is used twice in silence, no row is lost, and a run that stops names
`waybill reconcile`, which is enough to go on.
"""

from __future__ import annotations

import copy
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.copies import Copy
from tests.installations import DAY, NOON, USER, Place, catalog, make_place
from tests.products import pairs
from waybill.deliveries.recovery.reconciling import reconcile
from waybill.deliveries.repairs import backfill
from waybill.installation import Installation

MONDAY = NOON + DAY
HOUR = timedelta(hours=1)
PERIODS: dict[str, Callable[[float], datetime]] = {
    "daily": lambda number: MONDAY + int(number) * DAY + number % 1 * 6 * HOUR,
    "weekly": lambda number: MONDAY + 7 * number * DAY,
    "monthly": lambda number: MONDAY.replace(month=MONDAY.month + int(number)) + number % 1 * 30 * DAY,
}
"""The noon of the day on which a period begins, or a time within one."""
STYLES: dict[str, dict[str, Any]] = {"one file": {}, "parts": {"csv": {"max_rows_per_file": 2}}}


class Recorded(Place):
    """Keeps the ledger as it is whenever an engine asks for the time, which it does before each step that it records."""

    kept: list[Path] | None = None
    _state: list[Any] | None = None

    def installation(self) -> Installation:
        def now() -> datetime:
            self.keep()
            return self.clock or datetime.now(UTC)

        return replace(super().installation(), now=now)

    @property
    def ledger(self) -> Path:
        return self.root / ".waybill/ledger.db"

    def keep(self) -> None:
        if self.kept is None:
            return
        path = self.root / f"kept-{len(self.kept)}.db"
        with closing(sqlite3.connect(self.ledger)) as now, closing(sqlite3.connect(path)) as then:
            now.backup(then)
            state = then.execute("select id, status, begun_at is null, adopted from delivery order by id").fetchall()
            state += then.execute("select id, publishing_at is null from attempt order by id").fetchall()
        if state != self._state:
            self.kept.append(path)
            self._state = state

    def go(self, until: datetime, **options: Any) -> list[str]:
        """Run, and return what stopped it."""
        self.clock = until
        return [str(result.error) for result in self.run(until, **options) if result.error]


@dataclass
class Reader:
    """A consumer who copies what is visible, takes some of it away, and applies each delivery once, by its number."""

    root: Path
    takes: Callable[[Path], bool]
    copied: Copy = field(default_factory=Copy)
    last: tuple[int, int] = (0, 0)
    visits: int = 0

    def visit(self, out: Path) -> None:
        self.visits += 1
        inbox = self.root / f"inbox-{self.visits}"
        shutil.copytree(out, inbox, ignore=shutil.ignore_patterns(".*"))
        for manifest in self.copied.steps(inbox):
            number = manifest["generation"], manifest["sequence"]
            assert number > self.last, "a number is used twice"
            assert number[1] == (self.last[1] + 1 if number[0] == self.last[0] else 1)
            self.last = number
        for path in sorted(out.rglob("*")):
            if path.is_file() and not path.name.startswith(".") and self.takes(path):
                path.unlink()

    def rows(self) -> list[tuple[str, str]]:
        return sorted((row["id"], row["name"]) for row in self.copied.rows.values())


TAKES: dict[str, Callable[[Path], bool]] = {
    "nothing": lambda path: False,
    "data": lambda path: path.suffix == ".csv",
    "data and day manifests": lambda path: path.suffix == ".csv" or path.name.startswith("_"),
    "all but day manifests": lambda path: not path.name.startswith("_"),
    "all": lambda path: True,
}


def story(root: Path, frequency: str, style: str, takes: str) -> tuple[Recorded, Reader, Callable[[float], datetime]]:
    """A full load, and then a delta with changes and a deletion, each visited by the reader. Returns the noon of each period, too."""
    make_place(root).close()
    place = Recorded(root)
    place.write("catalog.yaml", catalog(user={**USER, "deletes": "compare"}))
    place.tenant(entityList=["user"], frequency=frequency, **STYLES[style])
    noon = PERIODS[frequency]
    reader = Reader(root, TAKES[takes])
    for number in range(1, 6):
        place.user(number, "first", MONDAY - 5 * DAY)
    assert place.go(noon(0)) == []
    reader.visit(place.out)
    place.user(1, "changed", noon(1) - 20 * HOUR)
    place.user(6, "new", noon(1) - 18 * HOUR)
    place.sql('delete from "user" where id = 2')
    place.kept = []
    assert place.go(noon(1)) == []
    place.keep()
    reader.visit(place.out)
    return place, reader, noon


def restored(place: Recorded, reader: Reader, ledger: Path | None, root: Path) -> tuple[Recorded, Reader]:
    """The installation with an older ledger, or with none, in a place of its own."""
    place.close()
    shutil.copytree(place.root, root)
    found = Recorded(root)
    for path in found.ledger.parent.glob("ledger.db*"):
        path.unlink()
    if ledger is not None:
        shutil.copy(ledger, found.ledger)
    mine = copy.deepcopy(reader)
    mine.root = root
    return found, mine


def goes_on(place: Recorded, reader: Reader, runs: datetime, later: datetime) -> None:
    place.user(3, "changed after", runs - 9 * HOUR)
    place.sql('delete from "user" where id = 4')
    if stopped := place.go(runs):
        assert "reconcile" in stopped[0]
        assert reconcile(place.installation(), "acme", actor="test").problems == []
        assert place.go(runs) == []
    reader.visit(place.out)
    place.user(5, "changed at last", later - 20 * HOUR)
    assert place.go(later) == []
    reader.visit(place.out)
    assert reader.rows() == sorted((str(number), name) for number, name in place.sql('select id, name from "user"'))


FAMILY = [
    *(("weekly", "one file", takes) for takes in TAKES),
    ("daily", "one file", "all"),
    ("weekly", "parts", "data and day manifests"),
    ("monthly", "parts", "all"),
]


LATER = (1, 1.5, 2, 4)
"""Periods after which the next run follows: at the same date, within the period, and later."""
TRIED = pairs(FAMILY, ["planned", "lost"], LATER)


@pytest.mark.parametrize("member", FAMILY, ids="-".join)
def test_a_ledger_from_before_a_delivery_began_or_none_repeats_no_number_and_loses_no_row(
    tmp_path: Path, member: tuple[str, str, str]
) -> None:
    place, reader, noon = story(tmp_path / "place", *member)
    assert place.kept is not None
    ledgers = {"planned": place.kept[0], "lost": None}
    for name, runs in [(name, runs) for tried, name, runs in TRIED if tried == member]:
        root = tmp_path / f"{name}-{runs}"
        goes_on(*restored(place, reader, ledgers[name], root), noon(runs), noon(5))
        shutil.rmtree(root)


@pytest.mark.parametrize("takes", TAKES)
def test_a_ledger_from_within_a_delivery_goes_on_with_what_is_left_of_it(tmp_path: Path, takes: str) -> None:
    place, reader, noon = story(tmp_path / "place", "weekly", "one file", takes)
    assert place.kept is not None
    assert len(place.kept) >= 5  # planned, begun, recorded, about to be visible, adopted
    for at, ledger in enumerate(place.kept):
        root = tmp_path / f"restored-{at}"
        goes_on(*restored(place, reader, ledger, root), noon(1), noon(5))
        shutil.rmtree(root)


def test_a_key_that_only_a_lost_backfill_brought_is_not_kept_for_good(tmp_path: Path) -> None:
    """`reconcile` brings the backfill back, and no manifest tells its keys."""
    with closing(make_place(tmp_path)) as place:
        place.write("catalog.yaml", catalog(user={**USER, "deletes": "compare"}))
        place.tenant(entityList=["user"])
        place.run(NOON)
        kept = tmp_path / "kept.db"
        with closing(sqlite3.connect(tmp_path / ".waybill/ledger.db")) as now, closing(sqlite3.connect(kept)) as then:
            now.backup(then)
        place.user(7, "restored", NOON - 9 * DAY)
        backfill(place.installation(), "acme", "user", NOON - 19 * DAY, NOON - DAY, actor="test")
        place.sql("delete from user where id = 7")
        place.close()
        shutil.copy(kept, tmp_path / ".waybill/ledger.db")
        reconcile(place.installation(), "acme", actor="test")
        place.run(NOON + DAY)
        assert [manifest["kind"] for _, manifest in place.manifests()] == ["backfill", "full", "full"]
