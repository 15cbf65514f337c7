"""A ledger restored from a backup, or lost: found before anything is published, whatever the date of the next run."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.installations import DAY, NOON, USER, Place, catalog, make_place
from waybill.deliveries import running
from waybill.deliveries.recovery.reconciling import reconcile
from waybill.deliveries.repairs import redeliver
from waybill.errors import ConflictError, TransientError
from waybill.ledger import streams
from waybill.ledger.tables import audit
from waybill.states import GenerationReason


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
    assert "run: waybill reconcile acme" in message
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


@pytest.mark.parametrize("name", ["2026/06/01/user/user.g1.9.manifest.json", "2026/06/01/_MANIFEST.7.json"])
def test_a_document_that_is_too_large_hides_no_unknown_delivery(place: Place, name: str) -> None:
    place.run(NOON)
    back_up(place)
    changed(place, 1, 1)
    place.run(NOON + DAY)
    restore(place)
    with (place.out / "exports/acme" / name).open("wb") as file:
        file.truncate(65 << 20)
    assert "/2026/06/01/" in stopped(place, 2)


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


def back_up(place: Place) -> None:
    place.close()
    shutil.copy(ledger(place), place.root / "backup.db")


def restore(place: Place) -> None:
    lose(place)
    shutil.copy(place.root / "backup.db", ledger(place))


def collect(place: Place, *patterns: str) -> None:
    """The consumer takes files away and leaves the folders."""
    for pattern in patterns or ("*",):
        for path in (place.out / "exports").rglob(pattern):
            if path.is_file():
                path.unlink()


UNKNOWN: dict[str, Callable[[Place], object]] = {
    "full load on a known date": lambda place: place.run(NOON, full_load=True),
    "two full loads on a known date": lambda place: [place.run(NOON, full_load=True) for _ in range(2)],
    "delta": lambda place: place.run(NOON + DAY),
    "delta, then full load": lambda place: (place.run(NOON + DAY), place.run(NOON + DAY, full_load=True)),
    "another frequency": lambda place: (place.tenant(entityList=["user"], frequency="monthly"), place.run(NOON + DAY)),
    "another frequency, full load": lambda place: (
        place.tenant(entityList=["user"], frequency="weekly"),
        place.run(NOON, full_load=True),
    ),
    "another zone": lambda place: (place.tenant(entityList=["user"], timezone="Pacific/Kiritimati"), place.run(NOON + DAY)),
    "parts": lambda place: (place.tenant(entityList=["user"], csv={"max_rows_per_file": 1}), place.run(NOON, full_load=True)),
    "redelivery": lambda place: redeliver(place.installation(), next(iter(place.manifests()))[1]["delivery_id"], actor="test"),
}


COLLECTED = {"nothing": ["none"], "data and day manifests": ["*.csv", "_*"], "all but day manifests": ["[!_]*"]}


@pytest.mark.parametrize("collected", COLLECTED)
@pytest.mark.parametrize("unknown", UNKNOWN)
def test_a_restored_ledger_stops_for_whatever_it_does_not_know(place: Place, unknown: str, collected: str) -> None:
    if unknown == "redelivery" and collected == "all but day manifests":
        return  # a day manifest that was there before the redelivery does not list it
    place.run(NOON)
    back_up(place)
    UNKNOWN[unknown](place)
    restore(place)
    place.tenant(entityList=["user"])
    collect(place, *COLLECTED[collected])
    before = place.files()
    changed(place, 2, 1)
    stopped(place, 1)
    assert place.files() == before


@pytest.mark.parametrize("later", [0, 400])
def test_a_lost_ledger_stops_however_old_the_deliveries_are(place: Place, later: int) -> None:
    place.run(NOON)
    lose(place)
    before = place.files()
    stopped(place, later)
    assert place.files() == before


@pytest.mark.parametrize("restored", [True, False], ids=["restored", "lost"])
def test_a_ledger_that_is_behind_an_emptied_destination_begins_a_generation_nobody_has_seen(place: Place, restored: bool) -> None:
    place.run(NOON)
    back_up(place)
    changed(place, 1, 1)
    place.run(NOON + DAY)
    place.run(NOON + DAY, full_load=True)
    lose(place)
    if restored:
        restore(place)
    collect(place)
    [result] = place.run(NOON + 2 * DAY)
    assert result.error is None
    [(_, manifest)] = place.manifests()
    assert (manifest["kind"], manifest["sequence"], manifest["rows"]) == ("full", 1, 3)
    assert manifest["generation"] > 1_000_000
    changed(place, 2, 3)
    assert [result.error for result in place.run(NOON + 3 * DAY)] == [None]
    assert [(delivery["generation"], delivery["sequence"]) for _, delivery in place.manifests()] == [
        (manifest["generation"], at) for at in (1, 2)
    ]


def test_a_full_load_over_an_emptied_destination_that_fails_first_keeps_its_generation(place: Place) -> None:
    place.run(NOON)
    lose(place)
    collect(place)
    place.sql('alter table "user" rename to hidden')
    assert [result.error is None for result in place.run(NOON + DAY)] == [False]
    [begun] = running.plan(place.installation(), "acme", NOON + DAY)
    place.sql('alter table hidden rename to "user"')
    assert [result.error for result in place.run(NOON + DAY)] == [None]
    assert [delivery["generation"] for _, delivery in place.manifests()] == [begun.generation]


def test_a_first_delivery_that_failed_once_is_still_the_first_generation(place: Place) -> None:
    place.sql('alter table "user" rename to hidden')
    place.run(NOON)
    place.run(NOON + DAY)
    place.sql('alter table hidden rename to "user"')
    place.run(NOON + 2 * DAY)
    assert {(delivery["generation"]) for _, delivery in place.manifests()} == {1}


def test_a_full_load_goes_on_where_reconcile_cannot(place: Place) -> None:
    """The way out that `reconcile` names for a chain it cannot bring back."""
    place.run(NOON)
    back_up(place)
    changed(place, 1, 1)
    place.run(NOON + DAY)
    restore(place)
    changed(place, 2, 2)
    assert [result.error for result in place.run(NOON + 2 * DAY, full_load=True)] == [None]
    assert sorted((delivery["generation"], delivery["sequence"]) for _, delivery in place.manifests()) == [(1, 1), (1, 2), (2, 1)]


def test_a_list_of_a_date_that_the_ledger_did_not_write_is_told_with_the_way_out(place: Place) -> None:
    """A full load asks nobody for what was delivered before, and meets the list of its date."""
    place.run(NOON)
    back_up(place)
    changed(place, 1, 1)
    place.run(NOON + DAY)
    restore(place)
    collect(place, "[!_]*")
    with pytest.raises(ConflictError, match=r"_MANIFEST\.json exists and holds something else.*run: waybill reconcile acme"):
        place.run(NOON + DAY, full_load=True)
    reconcile(place.installation(), "acme", actor="test")
    assert [result.error for result in place.run(NOON + 2 * DAY)] == [None]


def test_what_only_a_day_manifest_still_tells_begins_a_new_generation_after_reconcile(place: Place) -> None:
    place.run(NOON)
    back_up(place)
    place.run(NOON, full_load=True)
    restore(place)
    collect(place, "[!_]*")
    stopped(place, 1)
    done = reconcile(place.installation(), "acme", actor="test")
    assert "begins a new generation" in " ".join(note.what for note in done.notes)
    assert [result.error for result in place.run(NOON + DAY)] == [None]
    [(_, manifest)] = place.manifests()
    assert (manifest["kind"], manifest["generation"] > 2) == ("full", True)
    with place.installation().ledger.read() as connection:
        reasons = [stream.reason for stream in streams.every(connection, "acme")]
        told = connection.execute(select(audit.c.detail).where(audit.c.action == "new_generation")).scalars().all()
    assert [GenerationReason(reason) for reason in reasons] == [GenerationReason.MANIFESTS_COLLECTED, GenerationReason.REGISTERED]
    assert told == [{"entity": "user", "reason": GenerationReason.MANIFESTS_COLLECTED}]


FACTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "deleted_when": ({"deleted_column": None, "deleted_when": {"column": "name", "op": "=", "value": "gone"}}, {}),
    "deleted_column": ({}, {}),
    "deletes": ({"deleted_column": None, "deletes": "compare"}, {}),
    "mode": ({"changes": {"mode": "full"}}, {}),
    "format": ({}, {"files": {"format": "parquet"}}),
    "compression": ({}, {"csv": {"compression": "gzip", "max_rows_per_file": 2}}),
    "anonymize": ({"columns": {**USER["columns"], "name": {"type": "string", "export": "anonymize"}}}, {}),
    "from": ({"columns": {**USER["columns"], "label": {"type": "string", "from": "name"}}}, {}),
    "columns": ({}, {"columns": {"user": ["id", "name"]}}),
}


@pytest.mark.parametrize("fact", FACTS)
def test_a_manifest_that_reconcile_restores_is_spelt_as_it_was(place: Place, fact: str) -> None:
    fields, tenant = FACTS[fact]
    place.write("catalog.yaml", catalog(user={name: value for name, value in {**USER, **fields}.items() if value is not None}))
    place.tenant(entityList=["user"], **tenant)
    assert [result.error for result in place.run(NOON)] == [None]
    changed(place, 1, 1)
    assert [result.error for result in place.run(NOON + DAY)] == [None]
    lose(place)
    place.run(NOON + DAY)
    done = reconcile(place.installation(), "acme", actor="test")
    assert (len(done.imported), done.problems, done.notes) == (2, [], [])


@pytest.mark.parametrize("unknown", ["parts", "delta", "delta, then full load", "another frequency", "another zone"])
@pytest.mark.parametrize("later", [1, 40])
def test_a_restored_ledger_begins_anew_where_whatever_it_does_not_know_was_taken_away(place: Place, unknown: str, later: int) -> None:
    """Also when the next run delivers the very date of what was taken. Parts of a later delivery of a date have a folder of their own."""
    place.run(NOON)
    back_up(place)
    UNKNOWN[unknown](place)
    restore(place)
    place.tenant(entityList=["user"])
    collect(place)
    assert [result.error for result in place.run(NOON + later * DAY)] == [None]
    [(_, manifest)] = place.manifests()
    assert (manifest["kind"], manifest["sequence"], manifest["generation"] > 1_000_000) == ("full", 1, True)


def test_a_full_load_on_a_known_date_is_found_by_what_a_consumer_left_of_it(place: Place) -> None:
    place.run(NOON)
    back_up(place)
    place.run(NOON, full_load=True)
    restore(place)
    collect(place, "*.manifest.json", "_*")
    assert [result.error for result in place.run(NOON + DAY)] == [None]
    [(_, manifest)] = place.manifests()
    assert (manifest["kind"], manifest["generation"] > 1_000_000) == ("full", True)


def test_data_of_a_planned_full_load_that_the_ledger_has_lost_is_in_nobodys_way(place: Place) -> None:
    place.run(NOON)
    with place.installation().ledger.begin() as connection:
        streams.ask_full_load(connection, "acme", ["user"])
    running.plan(place.installation(), "acme", NOON)
    back_up(place)
    place.run(NOON)
    restore(place)
    collect(place, "*.manifest.json", "_*")
    assert [result.error for result in place.run(NOON)] == [None]
    [(_, manifest)] = place.manifests()
    assert (manifest["kind"], manifest["sequence"], manifest["generation"] > 1_000_000) == ("full", 1, True)


def test_a_crash_in_a_first_upload_begins_nothing_anew(place: Place) -> None:
    place.run(NOON)
    changed(place, 1, 1)
    place.sql('alter table "user" rename to hidden')
    assert [result.error is None for result in place.run(NOON + DAY)] == [False]
    assert (place.out / "exports/acme/2026/06/01/user").is_dir()
    place.sql('alter table hidden rename to "user"')
    assert [result.error for result in place.run(NOON + DAY)] == [None]
    assert [(manifest["generation"], manifest["sequence"]) for _, manifest in place.manifests()] == [(1, 1), (1, 2)]


@pytest.mark.parametrize("taken", ["all", "of user"])
def test_an_entity_that_a_lost_ledger_meets_later_is_looked_for_on_every_date(place: Place, taken: str) -> None:
    """The first run is narrowed to another entity, and the last folder of this one is of an earlier month."""
    place.tenant(entityList=["theme"], frequency="monthly")
    assert [result.error for result in place.run(NOON)] == [None]
    place.tenant(entityList=["user", "theme"], frequencies={"theme": "monthly"})
    for at in range(40, 50):
        place.run(NOON + at * DAY, entities=["user"])
    lose(place)
    collect(place, *([] if taken == "all" else ["user*", "_*"]))
    assert [result.error for result in place.run(NOON + 50 * DAY, entities=["user"])] == [None]
    [result] = place.run(NOON + 50 * DAY, entities=["theme"])
    if taken == "all":
        assert result.error is None
        assert [manifest["generation"] > 1_000_000 for _, manifest in place.manifests() if manifest["entity"] == "theme"] == [True]
    else:
        assert result.error is not None
        assert result.error.code == "ledger_behind"


def test_a_row_that_was_never_delivered_is_missed_although_the_delivery_before_was_restored(place: Place) -> None:
    """Whether a restored delivery held rows past its end is no number of rows that the next one left out."""
    changed(place, 1, 1)  # past the end of the first window
    place.run(NOON)
    lose(place)
    place.run(NOON + DAY)
    assert reconcile(place.installation(), "acme", actor="test").problems == []
    assert [result.error for result in place.run(NOON + DAY)] == [None]
    assert [result.error for result in place.run(NOON + 5 * DAY)] == [None]
    collect(place, "*.csv")
    shutil.rmtree(place.root / ".waybill/archive")
    place.user(8, "later than the look back reaches", NOON + DAY - timedelta(hours=20))
    [difference] = reconcile(place.installation(), "acme", actor="test").differences
    assert difference.missing == 1


def test_a_second_installation_on_one_destination_is_told_as_that(place: Place, tmp_path: Path) -> None:
    """As a test system that was set up with the registrations of the real one: reconciling would mix the rows of both."""
    place.run(NOON)
    before = place.files()
    other = make_place(tmp_path / "other", clock=NOON)
    other.tenant(entityList=["user"], destination={"kind": "folder", "root": str(place.out)})
    message = stopped(other, 0)
    other.close()
    assert "or another installation delivers there" in message
    assert "give this one another root first" in message
    assert place.files() == before


def test_a_ledger_that_goes_back_while_a_file_is_written_is_told_as_that_and_loses_nothing(place: Place) -> None:
    """As a standby that lagged and takes over: the delivery that is under way was never planned there."""
    assert [result.error for result in place.run(NOON)] == [None]

    def copy(path: Path, to: Path) -> None:
        with closing(sqlite3.connect(path)) as one, closing(sqlite3.connect(to)) as other:
            one.backup(other)

    copy(ledger(place), place.root / "before.db")
    changed(place, 1, 1)
    installation = place.installation()
    planned = running.begin(installation, "acme", NOON + DAY)
    [result] = running.finish(
        installation, "acme", NOON + DAY, [due.id for due in planned.due], lambda *_: copy(place.root / "before.db", ledger(place))
    )
    assert isinstance(result.error, TransientError)
    assert result.error.code == "ledger_set_back"
    assert "The next run plans anew" in str(result.error)
    assert [result.error for result in place.run(NOON + DAY)] == [None]
    assert {row[1] for row in place.rows()} == {"row", "changed 1"}
