"""Backfill, redelivery and reconciling, on a real folder and a real SFTP server."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tests.destinations.sftp_places import password_connection
from tests.installations import DAY, NOON, THEME, USER, Place, catalog, make_place, read_csv
from waybill import housekeeping
from waybill.canonical import parse_timestamp
from waybill.deliveries import full_load_requests, repairs, running
from waybill.deliveries.recovery import reconciling
from waybill.deliveries.repairs import backfill_id, queue_redelivery
from waybill.deliveries.reports import describing
from waybill.deliveries.running import Result
from waybill.errors import PermanentError, WaybillError
from waybill.files import places
from waybill.installation import Installation
from waybill.ledger import deliveries, streams
from waybill.registrations import applying
from waybill_demo.sftp_server import new_accounts, serve

MIDNIGHT = NOON.replace(hour=0)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days delivered of one entity: Ada and Bob, then Eve. Made once; each test gets a copy."""
    with closing(make_place(tmp_path_factory.mktemp("delivered"))) as place:
        place.write("catalog.yaml", catalog(user=USER))
        place.tenant(entityList=["user"])
        place.user(1, "Ada", MIDNIGHT - 3 * DAY)
        place.user(2, "Bob", MIDNIGHT - DAY)
        place.run(NOON)
        place.user(3, "Eve", MIDNIGHT + HOUR)
        place.run(NOON + DAY)
        return place.root


@pytest.fixture
def place(delivered: Path, tmp_path: Path) -> Iterator[Place]:
    shutil.copytree(delivered, tmp_path / "place")
    with closing(Place(tmp_path / "place")) as place:
        yield place


def backfill(place: Place, start: Any, end: Any, **options: Any) -> Result:
    return repairs.backfill(place.installation(), "acme", "user", start, end, actor="test", **options)


def committed(place: Place, **facts: Any) -> dict[str, Any]:
    return next(item for item in describing.listed(place.installation(), "acme") if facts.items() <= item.items())


def check(place: Place) -> None:
    report = places.verify(str(place.out), {}.__getitem__)
    assert [str(problem) for problem in report.problems] == []


def marks(place: Place) -> tuple[int, Any]:
    with place.installation().ledger.begin() as connection:
        (stream,) = streams.active(connection, "acme")
    return stream.sequence, stream.watermark


def backfilled(place: Place) -> list[tuple[str | None, ...]]:
    found = []
    for path in sorted(place.out.rglob("backfill-*/*.manifest.json")):
        manifest = json.loads(path.read_text())
        for file in manifest["files"]:
            found += read_csv(path.parent / file["path"], manifest)
    return found


def test_a_backfill_delivers_the_range_as_it_is_now_beside_the_stream(place: Place) -> None:
    before = marks(place)
    place.sql("update \"user\" set name = 'Robert' where id = 2")
    result = backfill(place, MIDNIGHT - 2 * DAY, MIDNIGHT)
    assert result.outcome is not None
    assert result.outcome.status == "committed"
    assert [row[1] for row in backfilled(place)] == ["Robert"]
    manifest = json.loads(next(place.out.rglob("backfill-*/user.manifest.json")).read_text())
    assert (manifest["kind"], manifest["sequence"], manifest["previous"]) == ("backfill", 0, None)
    assert manifest["position"] == {"from": None, "to": None}
    assert re.search(r"/2026/05/31/user/backfill-[0-9a-f]{12}$", result.delivery.folder)
    assert marks(place) == before
    check(place)


def test_the_same_backfill_asked_twice_is_one_and_again_makes_another(place: Place) -> None:
    span = (MIDNIGHT - 2 * DAY, MIDNIGHT)
    first, second = backfill(place, *span), backfill(place, *span)
    assert second.outcome is not None
    assert (first.delivery.id, second.outcome.status) == (second.delivery.id, "verified")
    third = backfill(place, *span, again=True)
    assert third.delivery.folder != first.delivery.folder
    assert len(list(place.out.rglob("backfill-*"))) == 2


def test_an_interrupted_backfill_is_finished_by_the_next_run_without_touching_the_stream(place: Place) -> None:
    installation = place.installation()
    planned = repairs.queue_backfill(installation, "acme", "user", MIDNIGHT - 2 * DAY, MIDNIGHT, actor="test")
    (place.root / "warehouse.duckdb").rename(place.root / "away")
    assert running.deliver_batch(installation, [planned.id])[0].error is not None
    (place.root / "away").rename(place.root / "warehouse.duckdb")
    before = marks(place)
    results = place.run(NOON + DAY)
    assert [(result.delivery.id, result.error) for result in results] == [(planned.id, None)]
    assert marks(place) == before
    assert len(backfilled(place)) == 1


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (MIDNIGHT, MIDNIGHT, "--from must lie before --to"),
        (MIDNIGHT, MIDNIGHT + 2 * DAY, "ends after the last delivery"),
        (MIDNIGHT.replace(year=1026), MIDNIGHT, r"begins in the year 1026 \(allowed: from 1970\)"),
    ],
)
def test_a_range_that_was_not_delivered_yet_or_never_can_have_been_is_refused(place: Place, start: Any, end: Any, message: str) -> None:
    with pytest.raises(PermanentError, match=message):
        backfill(place, start, end)
    assert describing.listed(place.installation(), "acme", status="open") == []


def test_an_entity_without_times_is_refused_with_advice_and_one_with_a_time_column_is_cut_by_it(place: Place) -> None:
    by_id = {**USER, "changes": {"mode": "append", "column": "id"}}
    del by_id["deleted_column"]
    place.write("catalog.yaml", catalog(user=by_id))
    place.run(NOON + 2 * DAY)
    with pytest.raises(PermanentError, match=r"Set entities\.user\.time_column"):
        backfill(place, MIDNIGHT - 2 * DAY, MIDNIGHT)
    place.write("catalog.yaml", catalog(user={**by_id, "time_column": "updated_at"}))
    backfill(place, MIDNIGHT - 2 * DAY, MIDNIGHT)
    assert [row[1] for row in backfilled(place)] == ["Bob"]
    assert reconcile(place).differences == []
    backfill(place, MIDNIGHT - 9 * DAY, MIDNIGHT - 8 * DAY)
    empty = [facts for facts in describing.listed(place.installation(), "acme") if facts["kind"] == "backfill" and facts["rows"] == 0]
    assert [facts["note"] for facts in empty] == [""]
    place.user(0, "Lost", MIDNIGHT)
    assert [difference.command for difference in reconcile(place).differences] == ["waybill run acme --entity user --full-load"]


def test_the_id_of_a_backfill_follows_from_stream_and_range(place: Place) -> None:
    with place.installation().ledger.begin() as connection:
        (stream,) = streams.active(connection, "acme")
    ids = {backfill_id(stream, MIDNIGHT - DAY, end, number) for end in (MIDNIGHT, MIDNIGHT + DAY) for number in (0, 1)}
    assert len(ids) == 4
    assert backfill_id(stream, MIDNIGHT - DAY, MIDNIGHT, 0) in ids


def redeliver(place: Place, delivery_id: str) -> Result:
    return repairs.redeliver(place.installation(), delivery_id, actor="test")


def test_neither_a_backfill_nor_its_redelivery_is_listed_in_a_day_manifest(place: Place) -> None:
    days = sorted(place.out.rglob("_MANIFEST*.json"))
    done = backfill(place, MIDNIGHT - 2 * DAY, MIDNIGHT)
    redeliver(place, done.delivery.id)
    place.run(NOON + DAY)
    assert sorted(place.out.rglob("_MANIFEST*.json")) == days
    check(place)


def test_a_redelivery_sends_the_archived_bytes_under_a_new_name_and_says_so(place: Place) -> None:
    original = committed(place, sequence=1)
    place.sql('delete from "user"')
    (place.out / original["path"][1:]).unlink()
    result = redeliver(place, original["delivery_id"])
    assert result.outcome is not None
    assert result.outcome.sha256 == original["sha256"]
    folder = place.out / "exports/acme/2026/05/31/user"
    manifest = json.loads((folder / "user.g1.1.r1.manifest.json").read_text())
    assert (manifest["possible_duplicate"], manifest["redelivers"]) == (True, original["delivery_id"])
    assert (manifest["sequence"], manifest["window"]["to"]) == (1, "2026-05-31T00:00:00.000000Z")
    assert [row[1] for row in read_csv(folder / "user.g1.1.r1.csv", manifest)] == ["Ada", "Bob"]
    assert (folder.parent / "_MANIFEST.2.json").exists()
    (folder / "user.manifest.json").unlink()
    (folder.parent / "_MANIFEST.json").unlink()
    (folder.parent / "_MANIFEST.2.json").unlink()
    check(place)


def test_a_redelivery_falls_back_to_the_file_at_the_destination(place: Place) -> None:
    original = committed(place, sequence=1)
    shutil.rmtree(place.root / ".waybill/archive")
    assert redeliver(place, original["delivery_id"]).error is None
    check(place)


def test_a_corrupted_archive_is_not_sent(place: Place) -> None:
    original = committed(place, sequence=1)
    (kept,) = (place.root / ".waybill/archive/deliveries" / original["delivery_id"]).iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])
    assert redeliver(place, original["delivery_id"]).error is None
    check(place)


def without_archive(place: Place) -> Installation:
    """The installation while the connection of its archive is missing."""
    found = place.installation()
    return replace(found, settings=replace(found.settings, archive_url="s3://gone@bucket/waybill"))


def test_a_store_that_cannot_be_read_gives_no_redelivery_up_and_the_destination_is_tried(place: Place) -> None:
    first = committed(place, sequence=1)
    queued = queue_redelivery(place.installation(), "acme", first["delivery_id"], actor="test")
    sent = next(place.out.rglob("2026/05/31/user/user.csv"))
    sent.rename(place.root / "collected.csv")
    [failed] = running.deliver_batch(without_archive(place), [queued.id])
    assert failed.error is not None
    assert failed.error.code == "missing_connection"
    (place.root / "collected.csv").rename(sent)
    [done] = running.deliver_batch(without_archive(place), [queued.id])
    assert done.error is None
    check(place)


def test_a_store_that_cannot_be_read_is_told_and_not_taken_for_unknown_counts(place: Place) -> None:
    next(place.out.rglob("2026/05/31/user/user.csv")).unlink()
    with pytest.raises(PermanentError) as caught:
        reconciling.reconcile(without_archive(place), "acme", actor="test")
    assert caught.value.code == "missing_connection"


@pytest.mark.parametrize(
    ("sequence", "advice"),
    [
        (1, "waybill run acme --entity user --full-load"),
        (2, "waybill backfill acme user --from 2026-05-31T00:00:00.000000Z --to 2026-06-01T00:00:00.000000Z"),
    ],
)
@pytest.mark.parametrize("left", [7, 0, -1], ids=["less", "nothing", "as many others"])
def test_bytes_that_are_gone_are_refused_with_the_repair_that_is_left(place: Place, sequence: int, advice: str, left: int) -> None:
    original = committed(place, sequence=sequence)
    shutil.rmtree(place.root / ".waybill/archive")
    (place.out / original["path"][1:]).write_bytes(bytes(original["bytes"] if left < 0 else left))
    with pytest.raises(PermanentError, match=advice):
        redeliver(place, original["delivery_id"])
    assert describing.listed(place.installation(), "acme", status="open") == []


def test_unknown_and_open_deliveries_cannot_be_sent_again(place: Place) -> None:
    with pytest.raises(PermanentError, match="there is no delivery"):
        redeliver(place, "x")
    (place.root / "warehouse.duckdb").rename(place.root / "away")
    place.run(NOON + 2 * DAY)
    waiting = committed(place, status="open")
    with pytest.raises(PermanentError, match="is open, not committed"):
        redeliver(place, waiting["delivery_id"])


def test_an_open_redelivery_is_finished_not_doubled(place: Place) -> None:
    original = committed(place, sequence=1)
    foreign = place.out / "exports/acme/2026/05/31/user/user.g1.1.r1.csv"
    foreign.write_bytes(b"not ours")
    assert redeliver(place, original["delivery_id"]).error is not None
    foreign.unlink()
    finished = redeliver(place, original["delivery_id"])
    assert finished.error is None
    with place.installation().ledger.begin() as connection:
        assert len(deliveries.family(connection, original["delivery_id"])) == 2
    check(place)


def test_a_redelivery_that_was_asked_for_outlives_the_end_of_its_generation(place: Place) -> None:
    first = committed(place, sequence=1)["delivery_id"]
    asked = queue_redelivery(place.installation(), "acme", first, actor="test")
    full_load_requests.ask_full_load(place.installation(), "acme")
    assert [repair.id for repair in repairs.unfinished_repairs(place.installation(), "acme")] == [asked.id]
    results = place.run(NOON + 2 * DAY)
    assert [(result.delivery.kind, result.delivery.purpose, result.delivery.generation) for result in results] == [
        ("full", "schedule", 2),
        ("full", "redelivery", 1),
    ]
    assert all(result.outcome for result in results)


def test_deliveries_in_compressed_parts_are_sent_again_as_they_were_even_after_the_dialect_changed(place: Place) -> None:
    place.tenant(entityList=["user"], csv={"max_rows_per_file": 2, "compression": "gzip"})
    for number in range(10, 15):
        place.user(number, "many", MIDNIGHT + DAY + HOUR)
    place.run(NOON + 2 * DAY)
    original = committed(place, sequence=3)
    assert len(original["files"]) == 3
    place.tenant(entityList=["user"])
    place.run(NOON + 2 * DAY)
    assert redeliver(place, original["delivery_id"]).error is None
    shutil.rmtree(place.root / ".waybill/archive")
    assert redeliver(place, original["delivery_id"]).error is None
    found = sorted(path.name for path in (place.out / "exports/acme/2026/06/02/user").rglob("*.gz"))
    assert found == sorted(f"user{mark}-000{part}.csv.gz" for mark in ("", ".g1.3.r1", ".g1.3.r2") for part in (1, 2, 3))
    check(place)


def columns_but(*names: str) -> dict[str, Any]:
    return {name: column for name, column in USER["columns"].items() if name not in names}


SINCE: dict[str, dict[str, Any]] = {
    "a column is gone": {**USER, "columns": columns_but("name")},
    "a column has another name": {**USER, "columns": columns_but("name") | {"label": {"type": "string", "from": "name"}}},
    "a column took the name of another": {**USER, "columns": columns_but("name") | {"name": {"type": "timestamp", "from": "updated_at"}}},
    "a column is new": {**USER, "columns": {**USER["columns"], "born": {"type": "date"}}},
    "a column has another type": {**USER, "columns": {**USER["columns"], "id": {"type": "decimal"}}},
    "the key is another": {**USER, "key": ["name"]},
    "the mode is another": {**USER, "changes": {"mode": "full"}},
    "nothing marks deleted rows": {name: value for name, value in USER.items() if name != "deleted_column"},
    "keys are compared": {**USER, "deletes": "compare"},
}


@pytest.mark.parametrize("since", SINCE)
@pytest.mark.parametrize("is_delivered", [False, True], ids=["before the next run", "after the next run"])
def test_a_delivery_is_sent_again_as_it_was_whatever_the_catalog_became_since(place: Place, since: str, *, is_delivered: bool) -> None:
    original = committed(place, sequence=1)
    place.sql('alter table "user" add column born date')
    place.write("catalog.yaml", catalog(user=SINCE[since]))
    if is_delivered:
        assert [result.error for result in place.run(NOON + 2 * DAY) if result.error] == []
    assert redeliver(place, original["delivery_id"]).error is None
    folder = place.out / "exports/acme/2026/05/31/user"
    one, again = (json.loads((folder / f"user{mark}.manifest.json").read_text()) for mark in ("", ".g1.1.r1"))
    own = {"delivery_id", "files", "possible_duplicate", "redelivers"}
    told = [{name: value for name, value in manifest.items() if name not in own} for manifest in (one, again)]
    assert told[0] == told[1]
    assert [result.error for result in place.run(NOON + 3 * DAY) if result.error] == []
    check(place)


def test_a_delivery_of_an_entity_that_left_the_catalog_is_refused_and_leaves_nothing_open(place: Place) -> None:
    original = committed(place, sequence=1)
    place.write("catalog.yaml", catalog(theme=THEME))
    place.tenant(entityList=["theme"])
    place.run(NOON + 2 * DAY)
    with pytest.raises(PermanentError, match=r"no entity 'user' any more.*Put it back into the catalog until this one is sent"):
        redeliver(place, original["delivery_id"])
    with pytest.raises(PermanentError, match="no entity 'user' any more"):
        queue_redelivery(place.installation(), "acme", original["delivery_id"], actor="test")
    assert [result.error for result in place.run(NOON + 3 * DAY) if result.error] == []
    place.write("catalog.yaml", catalog(theme=THEME, user=USER))
    assert redeliver(place, original["delivery_id"]).error is None
    check(place)


def asked(place: Place, kind: str) -> str:
    """Ask for a repair of the first day, and return its id."""
    installation = place.installation()
    if kind == "backfill":
        return repairs.queue_backfill(installation, "acme", "user", MIDNIGHT - 2 * DAY, MIDNIGHT, actor="test").id
    return queue_redelivery(installation, "acme", committed(place, sequence=1)["delivery_id"], actor="test").id


@pytest.mark.parametrize("kind", ["backfill", "redelivery"])
def test_a_repair_whose_entity_leaves_the_catalog_ends_with_a_sentence_and_fails_no_later_run(place: Place, kind: str) -> None:
    repair = asked(place, kind)
    place.write("catalog.yaml", catalog(theme=THEME))
    place.tenant(entityList=["theme"])
    errors = [str(result.error) for result in place.run(NOON + 2 * DAY) if result.error]
    assert len(errors) == 1
    assert f"the catalog has no entity 'user' any more, so this {kind} is abandoned" in errors[0]
    assert committed(place, delivery_id=repair)["status"] == "abandoned"
    assert [result.error for result in place.run(NOON + 3 * DAY) if result.error] == []
    (cleared,) = running.deliver_batch(place.installation(), [repair])
    assert f"this {kind} was abandoned: the catalog has no entity 'user' any more. Ask for it again" in str(cleared.error)
    place.write("catalog.yaml", catalog(theme=THEME, user=USER))
    place.tenant(entityList=["theme", "user"])
    place.run(NOON + 4 * DAY)
    assert redeliver(place, committed(place, entity="user", sequence=1, generation=1)["delivery_id"]).error is None
    check(place)


@pytest.mark.parametrize("kind", ["backfill", "redelivery"])
def test_a_repair_that_may_be_visible_waits_for_its_entity_and_is_finished_then(place: Place, kind: str) -> None:
    repair = asked(place, kind)
    with place.installation().ledger.read() as connection:
        planned = deliveries.get(connection, repair)
    assert planned is not None
    folder = place.out / planned.folder.lstrip("/")
    folder.mkdir(parents=True, exist_ok=True)
    foreign = folder / f"{planned.stem}.manifest.json"
    foreign.write_text("not ours")
    place.run(NOON + 2 * DAY)
    assert (folder / f"{planned.stem}.csv").is_file(), "the file is visible and has no manifest yet"
    foreign.unlink()
    place.write("catalog.yaml", catalog(theme=THEME))
    place.tenant(entityList=["theme"])
    (waiting,) = [str(result.error) for result in place.run(NOON + 3 * DAY) if result.error]
    assert "the catalog has no entity 'user' (allowed: theme). Put it back" in waiting
    place.write("catalog.yaml", catalog(theme=THEME, user=USER))
    assert [result.error for result in place.run(NOON + 4 * DAY) if result.error] == []
    assert committed(place, delivery_id=repair)["status"] == "committed"
    check(place)


def backup(place: Place) -> Path:
    kept = place.root / "backup"
    shutil.copytree(place.root / ".waybill", kept)
    return kept


def restore(place: Place, kept: Path) -> None:
    shutil.rmtree(place.root / ".waybill")
    shutil.copytree(kept, place.root / ".waybill")


def reconcile(place: Place) -> reconciling.Reconciled:
    installation = place.installation()
    applying.apply(installation, actor="test")
    return reconciling.reconcile(installation, "acme", actor="test")


def names(place: Place) -> list[str | None]:
    return [row[1] for row in place.rows()]


@pytest.fixture(scope="module")
def forgetful(delivered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sequences 3 and 4 stand at the destination, and the ledger is the one from before them. Made once; each test gets a copy."""
    root = tmp_path_factory.mktemp("forgetful") / "place"
    shutil.copytree(delivered, root)
    with closing(Place(root)) as place:
        kept = backup(place)
        place.user(4, "Tim", MIDNIGHT + DAY + HOUR)
        place.run(NOON + 2 * DAY)
        place.user(5, "Una", MIDNIGHT + 2 * DAY + HOUR)
        place.run(NOON + 3 * DAY)
    restore(place, kept)
    return root


@pytest.fixture
def restored(forgetful: Path, tmp_path: Path) -> Iterator[Place]:
    shutil.copytree(forgetful, tmp_path / "restored")
    with closing(Place(tmp_path / "restored")) as place:
        yield place


def test_a_restored_ledger_meets_a_conflict_and_reconciling_goes_on_from_the_destination(restored: Place) -> None:
    (failed,) = restored.run(NOON + 2 * DAY)
    assert failed.error is not None
    assert failed.error.code == "ledger_behind"
    done = reconcile(restored)
    assert [path.rpartition("2026/")[2] for path in done.imported] == ["06/02/user/user.manifest.json", "06/03/user/user.manifest.json"]
    assert (done.problems, done.differences) == ([], [])
    assert marks(restored) == (4, MIDNIGHT + 3 * DAY)
    restored.user(6, "Vic", MIDNIGHT + 3 * DAY + HOUR)
    restored.run(NOON + 4 * DAY)
    _, manifest = list(restored.manifests())[-1]
    assert (manifest["sequence"], manifest["previous"]["sequence"], manifest["possible_duplicate"]) == (5, 4, True)
    assert "restored" in manifest["note"]
    assert set(names(restored)) == {"Ada", "Bob", "Eve", "Tim", "Una", "Vic"}
    restored.user(7, "Wes", MIDNIGHT + 4 * DAY + HOUR)
    restored.run(NOON + 5 * DAY)
    _, manifest = list(restored.manifests())[-1]
    assert (manifest["sequence"], manifest["possible_duplicate"], manifest["rows"]) == (6, False, 1)
    check(restored)


def test_what_was_committed_late_around_the_restore_is_still_delivered(restored: Place) -> None:
    restored.user(6, "Late", MIDNIGHT + 3 * DAY - HOUR)
    done = reconcile(restored)
    assert done.differences == []
    restored.run(NOON + 4 * DAY)
    assert "Late" in names(restored)


def test_reconciling_twice_changes_nothing_and_imported_deliveries_verify_and_redeliver(restored: Place) -> None:
    assert len(reconcile(restored).imported) == 2
    again = reconcile(restored)
    assert (again.imported, again.problems, again.notes) == ([], [], [])
    delivery = committed(restored, sequence=4)
    assert running.deliver_batch(restored.installation(), [delivery["delivery_id"]])[0].outcome.status == "verified"  # type: ignore[union-attr]
    assert redeliver(restored, delivery["delivery_id"]).error is None
    check(restored)


def test_day_manifests_come_back_so_that_later_ones_get_the_next_number(restored: Place) -> None:
    reconcile(restored)
    delivery = committed(restored, sequence=4)
    redeliver(restored, delivery["delivery_id"])
    day = restored.out / "exports/acme/2026/06/03"
    assert sorted(path.name for path in day.glob("_*")) == ["_MANIFEST.2.json", "_MANIFEST.json"]
    check(restored)


def test_a_collected_delivery_is_taken_as_delivered(restored: Place) -> None:
    shutil.rmtree(restored.out / "exports/acme/2026/06/02")
    (restored.out / "exports/acme/2026/06/03/user/user.csv").unlink()
    done = reconcile(restored)
    assert done.problems == []
    assert ["was collected" in note.what for note in done.notes] == [True, True]
    assert marks(restored) == (4, MIDNIGHT + 3 * DAY)


def test_a_changed_file_stops_its_chain_with_a_message(restored: Place) -> None:
    path = restored.out / "exports/acme/2026/06/02/user/user.csv"
    path.write_bytes(path.read_bytes().replace(b"Tim", b"Tom"))
    done = reconcile(restored)
    assert done.imported == []
    assert ["is not what its manifest says" in problem.what for problem in done.problems] == [True]
    assert marks(restored)[0] == 2
    path.unlink()
    assert len(reconcile(restored).imported) == 2


def test_a_window_delivered_anew_after_the_restore_is_a_conflict_for_a_person(restored: Place) -> None:
    folder = restored.out / "exports/acme/2026/06/02/user"
    first = (folder / "user.manifest.json").read_text()
    for day in ("02", "03"):
        shutil.rmtree(restored.out / "exports/acme/2026/06" / day)
    restored.run(NOON + 2 * DAY)
    (folder / "user.first.manifest.json").write_text(first)
    done = reconcile(restored)
    assert any("the ledger holds another delivery in its place" in problem.what for problem in done.problems)
    assert any("--full-load" in problem.what for problem in done.problems)


def test_a_generation_the_ledger_forgot_becomes_the_active_one(place: Place) -> None:
    kept = backup(place)
    place.run(NOON + 2 * DAY, full_load=True)
    restore(place, kept)
    done = reconcile(place)
    assert (len(done.imported), done.problems) == (1, [])
    with place.installation().ledger.begin() as connection:
        (stream,) = streams.active(connection, "acme")
    assert (stream.generation, stream.sequence, stream.watermark) == (2, 1, MIDNIGHT + 2 * DAY)
    place.user(9, "Zoe", MIDNIGHT + 2 * DAY + HOUR)
    place.run(NOON + 3 * DAY)
    assert list(place.manifests())[-1][1]["sequence"] == 2
    check(place)


def test_a_lost_ledger_is_rebuilt_from_the_destination(place: Place) -> None:
    backfill(place, MIDNIGHT - 2 * DAY, MIDNIGHT)
    redeliver(place, committed(place, sequence=2)["delivery_id"])
    shutil.rmtree(place.root / ".waybill")
    done = reconcile(place)
    assert (len(done.imported), done.problems, done.differences) == (4, [], [])
    assert marks(place) == (2, MIDNIGHT + DAY)
    purposes = {delivery["purpose"] for delivery in describing.listed(place.installation(), "acme")}
    assert purposes == {"schedule", "backfill", "redelivery"}


def test_rows_that_were_never_delivered_are_found_by_key_and_the_repair_is_named_and_works(place: Place) -> None:
    for number in range(3):
        place.run(NOON + (2 + number) * DAY)
    place.user(8, "Lost", MIDNIGHT + 2 * HOUR)  # committed days late: past every look back
    place.user(1, "Ada L.", MIDNIGHT + 4 * DAY + HOUR)  # a row that moved on hides nothing
    done = reconcile(place)
    (difference,) = done.differences
    assert (difference.source_rows, difference.delivered_rows, difference.missing) == (2, 1, 1)
    assert difference.command == ("waybill backfill acme user --from 2026-05-31T02:00:00.000000Z --to 2026-05-31T02:00:00.000001Z")
    backfill(place, MIDNIGHT + 2 * HOUR, MIDNIGHT + 2 * HOUR + timedelta(microseconds=1))
    assert [row[1] for row in backfilled(place)] == ["Lost"]
    assert reconcile(place).differences == []


@pytest.mark.parametrize("restored", [("Ada", MIDNIGHT - 3 * DAY), ("Adam", MIDNIGHT - 5 * DAY)], ids=["delivered before", "never"])
def test_a_row_whose_change_time_was_set_back_is_found_and_the_named_repair_brings_it(place: Place, restored: tuple[str, Any]) -> None:
    place.user(1, "Ada L.", MIDNIGHT + DAY + HOUR)
    for number in range(4):
        place.run(NOON + (2 + number) * DAY)
    assert reconcile(place).differences == []
    place.user(1, *restored)  # from a backup, or by an import that keeps old times
    place.run(NOON + 6 * DAY)
    (difference,) = reconcile(place).differences
    assert (difference.missing, "consumers lack 1, or hold another version" in str(difference)) == (1, True)
    backfill(place, *map(parse_timestamp, re.split(" --from | --to ", difference.command)[1:]))
    assert [row[1] for row in backfilled(place)] == [restored[0]]
    assert reconcile(place).differences == []


def test_a_row_that_was_reported_as_gone_and_came_back_is_found(place: Place) -> None:
    compared = {key: value for key, value in USER.items() if key != "deleted_column"} | {"deletes": {"mode": "compare", "every": 2}}
    place.write("catalog.yaml", catalog(user=compared))
    place.run(NOON + 2 * DAY)
    place.sql('delete from "user" where id = 2')
    for number in range(3):
        place.run(NOON + (3 + number) * DAY)
    assert reconcile(place).differences == []
    place.user(2, "Bob", MIDNIGHT - DAY)
    (difference,) = reconcile(place).differences
    assert difference.missing == 1


def test_counts_are_compared_where_files_are_gone(place: Place) -> None:
    for number in range(3):
        place.run(NOON + (2 + number) * DAY)
    shutil.rmtree(place.root / ".waybill/archive")
    (place.out / committed(place, sequence=1)["path"][1:]).unlink()
    assert reconcile(place).differences == []
    place.user(8, "Lost", MIDNIGHT + 2 * HOUR)
    (difference,) = reconcile(place).differences
    assert (difference.missing, "--from 2026-05-31T00:00:00.000000Z" in difference.command) == (1, True)


@pytest.mark.parametrize(
    ("exported", "files", "deletes"),
    [("updated_at", "gone", "never"), ("", "kept", "never"), ("", "kept", "compare"), ("", "gone", "compare")],
    ids=["files gone", "no change column", "compared without change column", "compared, files gone"],
)
def test_a_row_that_a_later_delivery_brought_is_not_missed(place: Place, exported: str, files: str, deletes: str) -> None:
    place.write("catalog.yaml", catalog(user={**USER, "deletes": deletes}))
    place.tenant(entityList=["user"], columns={"user": ["id", "name", *([exported] if exported else [])]})
    place.run(NOON + 2 * DAY)
    place.user(5, "Late", MIDNIGHT + 2 * DAY - HOUR)
    if deletes == "compare":
        place.user(6, "Restored", MIDNIGHT - 10 * DAY)
    for number in range(3):
        place.run(NOON + (3 + number) * DAY)
    if files == "gone":
        shutil.rmtree(place.root / ".waybill/archive")
        (place.out / committed(place, sequence=1)["path"][1:]).unlink()
    assert reconcile(place).differences == []
    if deletes == "compare":  # counts cannot tell a row that is lost from one that a comparison brings: the next one brings both
        return
    place.user(8, "Lost", MIDNIGHT + DAY + 2 * HOUR)
    place.user(9, "Lost", MIDNIGHT + DAY + 3 * HOUR)
    (difference,) = reconcile(place).differences
    assert difference.missing == 2
    backfill(place, *map(parse_timestamp, re.split(" --from | --to ", difference.command)[1:]))
    assert {row[1] for row in backfilled(place)} >= {"Lost"}
    assert reconcile(place).differences == []


def test_all_of_it_works_over_sftp(place: Place, tmp_path: Path) -> None:
    with serve(new_accounts(["acme"]), tmp_path / "tenants", tmp_path / "state") as server:
        place.connections["acme_sftp"] = password_connection(server)
        place.tenant(entityList=["user"], destination={"kind": "sftp", "connection": "acme_sftp", "root": "/"})
        place.run(NOON + 2 * DAY, full_load=True)
        kept = backup(place)
        place.user(4, "Tim", MIDNIGHT + 2 * DAY + HOUR)
        place.run(NOON + 3 * DAY)
        restore(place, kept)
        done = reconcile(place)
        assert (len(done.imported), done.problems, done.differences) == (1, [], [])
        redeliver(place, committed(place, sequence=2, generation=2)["delivery_id"])
        backfill(place, MIDNIGHT - 2 * DAY, MIDNIGHT)
        assert housekeeping.housekeeping(place.installation()).failed == {}
        report = places.verify("sftp:acme_sftp", place.connections.__getitem__)
        assert ([str(problem) for problem in report.problems], report.manifests) == ([], 4)


def test_data_whose_manifest_was_never_written_is_pointed_out(restored: Place) -> None:
    for name in ("user/user.manifest.json", "_MANIFEST.json"):
        (restored.out / "exports/acme/2026/06/03" / name).unlink()
    done = reconcile(restored)
    assert len(done.imported) == 1
    assert [problem.what for problem in done.problems] == [
        "no manifest lists it, and the ledger does not know it. Move it away and run again"
    ]
    (failed,) = restored.run(NOON + 3 * DAY)
    assert failed.error is not None
    assert failed.error.code == "foreign_file"
    (restored.out / "exports/acme/2026/06/03/user/user.csv").unlink()
    # Nobody can tell whether a consumer has taken the manifest.
    assert [result.error for result in restored.run(NOON + 3 * DAY)] == [None]
    _, manifest = list(restored.manifests())[-1]
    assert (manifest["kind"], manifest["sequence"], manifest["generation"] > 1_000_000) == ("full", 1, True)
    check(restored)


def test_a_source_out_of_reach_ends_reconciling_with_a_message_after_the_import(restored: Place) -> None:
    (restored.root / "warehouse.duckdb").unlink()
    with pytest.raises(WaybillError, match="there is no such file"):
        reconcile(restored)
    assert marks(restored)[0] == 4


def test_redeliveries_count_from_one_and_on_from_those_of_earlier_versions(place: Place) -> None:
    original = committed(place, sequence=1)["delivery_id"]
    assert redeliver(place, original).delivery.stem == "user.g1.1.r1"
    with place.installation().ledger.begin() as connection:
        connection.execute(text("update delivery set stem = replace(stem, '.r1', '.r2') where redelivers is not null"))
    assert redeliver(place, original).delivery.stem == "user.g1.1.r3"


def test_a_backfill_names_the_column_of_its_range_and_its_generation(place: Place) -> None:
    place.user(4, "deleted in the range", MIDNIGHT - 9 * DAY, deleted=MIDNIGHT - HOUR)
    place.user(5, "deleted before", MIDNIGHT - 9 * DAY, deleted=MIDNIGHT - 8 * DAY)
    place.run(NOON + DAY, full_load=True, entities=["user"])
    backfill(place, MIDNIGHT - DAY, MIDNIGHT)
    (path,) = place.out.rglob("backfill-*/user.manifest.json")
    manifest = json.loads(path.read_text())
    assert (manifest["range_column"], manifest["generation"], manifest["sequence"]) == ("updated_at", 2, 0)
    assert [row[1] for row in backfilled(place)] == ["Bob", "deleted in the range"]


def test_data_whose_manifest_somebody_took_alone_is_told_with_its_delivery_and_never_as_unknown(place: Place) -> None:
    committed_id = committed(place, sequence=1)["delivery_id"]
    data = "/exports/acme/2026/05/31/user/user.csv"
    (place.out / data[1:]).with_suffix(".manifest.json").unlink()
    done = reconcile(place)
    assert done.problems == []
    told = f"its manifest is gone. If the consumer has not loaded it, run: waybill redeliver {committed_id}"
    assert [(note.path, note.what) for note in done.notes] == [(data, told)]
    assert redeliver(place, committed_id).error is None
    assert reconcile(place).problems == []
