"""A tenant that moves to another destination in the middle of its history: what docs/operating.md says a consumer needs then."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.consumer.copies import consumer, rows
from tests.copies import Copy
from tests.installations import DAY, NOON, Place, make_place
from waybill.registrations.applying import apply

THERE: dict[str, Any] = {"kind": "folder", "root": "there"}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """An installation that has delivered for two days."""
    with closing(make_place(tmp_path)) as made:
        made.tenant(entityList=["user"])
        for day in range(2):
            made.user(day, "row", NOON + (day - 0.75) * DAY)
            go(made, day)
        yield made


def go(place: Place, day: int, **options: Any) -> None:
    place.clock = NOON + day * DAY
    assert [result.error for result in place.run(place.clock, **options)] == [None]


def move(place: Place) -> None:
    place.tenant(entityList=["user"], destination=THERE)
    place.user(2, "row", NOON + 1.25 * DAY)


def at(place: Place, root: str) -> Path:
    return place.root / root / "exports" / "acme"


def pulled(place: Place, *sources: str) -> list[int]:
    """The ids in a copy that was pulled from these roots, one after the other, and loaded."""
    copy, database = place.root / "copy", f"sqlite:{place.root}/copy.db"
    for source in sources:
        said = consumer("pull", at(place, source), copy)
        assert said.code == 0, said.err
    assert consumer("load", copy, "--to", database).code == 0
    return [row[0] for row in rows(database, "user", "id")]


def test_the_chain_goes_on_at_the_new_place_for_a_consumer_of_both(place: Place) -> None:
    move(place)
    go(place, 2)
    assert pulled(place, "out", "there") == [0, 1, 2]
    assert Copy().catch_up(place.root).keys() == ["0", "1", "2"]


def test_a_consumer_of_the_new_place_alone_is_told_and_a_full_load_is_enough(place: Place) -> None:
    move(place)
    go(place, 2)
    said = consumer("pull", at(place, "there"), place.root / "copy")
    assert said.code == 1
    assert "sequence 1 to 2 of acme/user generation 1 are missing" in said.err
    assert "or for a full load" in said.err
    go(place, 2, full_load=True)
    assert pulled(place, "there") == [0, 1, 2]


def test_a_copied_folder_is_known_at_the_new_place_and_enough(place: Place) -> None:
    shutil.copytree(place.out, place.root / "there")
    move(place)
    go(place, 2)
    assert pulled(place, "there") == [0, 1, 2]
    assert consumer("verify", at(place, "there")).code == 0


def test_what_was_visible_before_the_move_and_not_committed_begins_a_new_generation(place: Place) -> None:
    place.user(9, "row", NOON + 1.25 * DAY)
    with closing(sqlite3.connect(place.root / ".waybill/ledger.db")) as ledger:
        refused = "create trigger full before update of status on delivery begin select raise(abort, 'no commit'); end"
        ledger.execute(refused)
        place.clock = NOON + 2 * DAY
        assert [result.outcome for result in place.run(place.clock)] == [None]
        copied = Copy().catch_up(at(place, "out"))
        assert copied.keys() == ["0", "1", "9"]
        ledger.execute("drop trigger full")
    move(place)
    go(place, 2)
    assert copied.catch_up(at(place, "there")).keys() == ["0", "1", "2", "9"]
    [manifest] = at(place, "there").rglob("*.manifest.json")
    assert '"kind": "full"' in manifest.read_text()


def test_apply_says_what_a_move_and_other_rows_mean(place: Place) -> None:
    """Before the change is in force, too."""
    place.tenant(entityList=["user"], destination=THERE, sourceTenant="globex")
    for dry_run in (True, False):
        notes = apply(place.installation(), actor="test", dry_run=dry_run).notes
        assert notes[0] == "acme: other rows than before: the next delivery of user is a full load"
        assert "acme: the next deliveries go on at the new destination, and nothing is moved there" in notes[1]
        assert "waybill run acme --full-load" in notes[1]
    assert apply(place.installation(), actor="test").notes == ()
    place.tenant(entityList=["user"], destination=THERE, sourceTenant="globex", frequency="weekly")
    assert apply(place.installation(), actor="test").notes == ()
