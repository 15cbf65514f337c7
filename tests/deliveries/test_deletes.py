"""Rows that vanish from a source reach the consumer as keys, and a copy that applies every manifest holds what the source holds."""

import csv
import io
import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tests.copies import Copy
from tests.installations import DAY, NOON, USER, Place, catalog, make_place
from waybill.configuration.rules.seldom_meant import warnings
from waybill.deliveries import full_load_requests, running
from waybill.deliveries.recovery.reconciling import reconcile
from waybill.deliveries.repairs import backfill, queue_redelivery, redeliver
from waybill.destinations import open_destination
from waybill.errors import PermanentError
from waybill.files import verification
from waybill.housekeeping import housekeeping
from waybill.ledger import streams
from waybill.ledger.delivered import keys
from waybill.ledger.tables import key_change
from waybill.registrations.applying import apply

MIDNIGHT = NOON.replace(hour=0)
HOUR = timedelta(hours=1)
PLAIN = {name: value for name, value in USER.items() if name != "deleted_column"}


def entity(**fields: Any) -> dict[str, Any]:
    return {**PLAIN, "deletes": "compare", **fields}


def user_place(root: Path, url: str = "", **fields: Any) -> Place:
    place = make_place(root, ledger_url=url)
    place.write("catalog.yaml", catalog(user=entity(**fields)))
    place.tenant(entityList=["user"])
    return place


@pytest.fixture(params=["sqlite", "postgres"])
def ledgered(request, tmp_path) -> Iterator[Place]:
    """The same installation on both kinds of ledger."""
    url = request.getfixturevalue("postgres").url if request.param == "postgres" else ""
    with closing(user_place(tmp_path, url)) as place:
        yield place


@pytest.fixture
def place(tmp_path) -> Iterator[Place]:
    with closing(user_place(tmp_path)) as place:
        yield place


def gone(place: Place, *numbers: int) -> None:
    place.sql(f'delete from "user" where id in ({", ".join(map(str, numbers))})')


def delivered(place: Place, until: datetime) -> dict[str, Any]:
    """Run, and return the newest manifest."""
    results = place.run(until)
    assert [str(result.error) for result in results if result.error] == []
    return max((value for _, value in place.manifests()), key=lambda delivery: (delivery["generation"], delivery["sequence"]))


def keys_in(place: Place, manifest: dict[str, Any]) -> list[list[str]]:
    path = next(path for path, delivery in place.manifests() if delivery["delivery_id"] == manifest["delivery_id"])
    return list(csv.reader(io.StringIO((path.parent / manifest["deletes"]["path"]).read_text(), newline="")))


def source(place: Place) -> list[str]:
    return sorted(str(number) for (number,) in place.sql("select id from \"user\" where tenant_id = 'acme'"))


def verified(place: Place) -> verification.Report:
    spec = place.installation().registered("acme").registration.destination
    assert spec is not None
    with open_destination(spec, place.root, place._connection).connect() as session:
        return verification.verify(session)


def test_rows_that_vanished_come_as_keys_with_the_time_it_was_noticed(ledgered):
    place, copy = ledgered, Copy()
    for number in range(1, 30):
        place.user(number, f"Ada {number}", MIDNIGHT - 40 * DAY)
    place.user(3, "Mallory", MIDNIGHT - DAY, tenant="globex")
    first = delivered(place, NOON)
    assert first["deletes"] is None
    gone(place, 3, 20)
    place.user(30, "Eve", MIDNIGHT + HOUR)
    second = delivered(place, NOON + DAY)
    assert keys_in(place, second) == [
        ["id", "deleted_noticed_at"], ["20", second["snapshot_time"]], ["3", second["snapshot_time"]]
    ]  # fmt: skip
    assert second["deletes"]["path"] == "user.deletes.csv"
    assert (second["deletes"]["rows"], second["rows"], second["source_rows"]) == (2, 1, 28)
    assert copy.catch_up(place.out).keys() == source(place)
    third = delivered(place, NOON + 2 * DAY)
    assert (third["deletes"]["rows"], keys_in(place, third)) == (0, [["id", "deleted_noticed_at"]])
    assert verified(place).problems == []


def test_a_key_that_comes_back_is_a_normal_row_also_with_an_old_change_time(place):
    copy = Copy()
    for number in (1, 2, 3):
        place.user(number, f"Ada {number}", MIDNIGHT - 40 * DAY)
    delivered(place, NOON)
    gone(place, 2, 3)
    assert delivered(place, NOON + DAY)["deletes"]["rows"] == 2
    place.user(2, "Ada 2", MIDNIGHT - 40 * DAY)  # restored from a backup, as it was
    place.user(3, "Eve", MIDNIGHT + DAY + HOUR)
    back = delivered(place, NOON + 2 * DAY)
    assert (back["rows"], back["deletes"]["rows"]) == (2, 0)
    assert copy.catch_up(place.out).keys() == ["1", "2", "3"]
    gone(place, 2)
    again = delivered(place, NOON + 3 * DAY)
    assert [row[0] for row in keys_in(place, again)[1:]] == ["2"]
    assert copy.catch_up(place.out).keys() == source(place)


@pytest.mark.parametrize(
    "changed", [MIDNIGHT - HOUR, MIDNIGHT + 90_000 * DAY, MIDNIGHT + 2 * HOUR], ids=["look back", "ahead", "past the end"]
)
def test_a_row_comes_back_whose_very_version_was_delivered_before(place, changed):
    copy = Copy()
    place.user(1, "Ada", MIDNIGHT - 40 * DAY)
    place.user(2, "Eve", changed)
    place.user(3, "ahead", MIDNIGHT + 90_000 * DAY)
    delivered(place, NOON)
    assert copy.catch_up(place.out).keys() == ["1", "2", "3"]
    gone(place, 2)
    assert delivered(place, NOON + DAY)["deletes"]["rows"] == 1
    place.user(2, "Eve", changed)
    assert delivered(place, NOON + 2 * DAY)["rows"] == 1
    assert copy.catch_up(place.out).keys() == ["1", "2", "3"]
    assert delivered(place, NOON + 3 * DAY)["rows"] == 0


def test_what_was_committed_later_than_the_look_back_reaches_is_delivered_by_the_comparison(place):
    place.user(1, "Ada", MIDNIGHT - 40 * DAY)
    delivered(place, NOON)
    place.user(2, "late", MIDNIGHT - 9 * DAY)
    assert delivered(place, NOON + DAY)["rows"] == 1
    assert delivered(place, NOON + 2 * DAY)["rows"] == 0


def test_a_row_that_was_never_due_is_not_told_to_be_gone(place):
    place.user(1, "Ada", MIDNIGHT - 40 * DAY)
    delivered(place, NOON)
    place.user(2, "tomorrow's", MIDNIGHT + DAY + HOUR)
    second = delivered(place, NOON + DAY)
    assert (second["rows"], second["deletes"]["rows"]) == (0, 0)
    gone(place, 2)
    assert delivered(place, NOON + 2 * DAY)["deletes"]["rows"] == 0


def test_a_full_load_resets_the_keys(place):
    copy = Copy()
    for number in (1, 2, 3):
        place.user(number, "Ada", MIDNIGHT - 40 * DAY)
    delivered(place, NOON)
    gone(place, 1)
    full_load_requests.ask_full_load(place.installation(), "acme")
    full = delivered(place, NOON + DAY)
    assert (full["kind"], full["generation"], full["deletes"]) == ("full", 2, None)
    gone(place, 2)
    assert delivered(place, NOON + 2 * DAY)["deletes"]["rows"] == 1
    assert copy.catch_up(place.out).keys() == ["3"]


def test_switching_the_comparison_on_starts_with_a_full_load_since_nobody_knows_what_was_delivered(tmp_path):
    with closing(user_place(tmp_path)) as place:
        place.write("catalog.yaml", catalog(user=PLAIN))
        for number in (1, 2):
            place.user(number, "Ada", MIDNIGHT - 40 * DAY)
        delivered(place, NOON)
        gone(place, 1)
        place.write("catalog.yaml", catalog(user=entity()))
        full = delivered(place, NOON + DAY)
        assert (full["kind"], full["generation"]) == ("full", 2)
        assert Copy().catch_up(place.out).keys() == ["2"]
        place.write("catalog.yaml", catalog(user=PLAIN))
        delivered(place, NOON + 2 * DAY)
        place.write("catalog.yaml", catalog(user=entity()))
        assert delivered(place, NOON + 3 * DAY)["generation"] == 3
        with place.installation().ledger.begin() as connection:
            reasons = [stream.reason for stream in streams.every(connection, "acme")]
        assert "which keys were delivered before is not known" in reasons[0]


def test_another_key_starts_a_new_generation(place):
    place.user(1, "Ada", MIDNIGHT - 40 * DAY)
    delivered(place, NOON)
    place.write("catalog.yaml", catalog(user=entity(key=["id", "name"])))
    assert delivered(place, NOON + DAY)["generation"] == 2


@pytest.mark.parametrize(
    ("fields", "compared"),
    [
        ({"deletes": {"mode": "compare", "every": 2}}, [None, 1, None, 1]),
        ({"deletes": {"mode": "compare"}}, [None, 1, 1, 1]),
        ({"deletes_at": "02:00"}, [None, 0, 0, 0]),
    ],
    ids=["every second", "every", "once a day"],
)
def test_how_often_keys_are_compared_is_the_catalogs(tmp_path, fields, compared):
    """The clock of an embedded source is the machine's own, so all four snapshots fall on one day, after 02:00 or before."""
    with closing(user_place(tmp_path, **fields)) as place:
        copy = Copy()
        for number in range(1, 9):
            place.user(number, "Ada", MIDNIGHT - 40 * DAY)
        seen = []
        for day in range(4):
            manifest = delivered(place, NOON + day * DAY)
            seen.append(manifest["deletes"] and manifest["deletes"]["rows"])
            gone(place, day + 1)
        if "deletes_at" in fields:
            assert seen[0] is None
            assert sum(1 for item in seen if item is not None) <= 1
        else:
            assert [None if item is None else 1 for item in seen] == compared
            assert sum(item or 0 for item in seen) == 3
            assert copy.catch_up(place.out).keys() == ["4", "5", "6", "7", "8"]


@pytest.mark.parametrize(
    "fields",
    [
        {"compression": "gzip"}, {"compression": "zstd", "bom": True}, {"delimiter": ";", "line_ending": "crlf"}, {"max_rows_per_file": 2},
    ],
    ids=["gzip", "zstd", "semicolon", "parts"],
)  # fmt: skip
def test_the_deletes_file_is_written_like_the_data(tmp_path, fields):
    with closing(user_place(tmp_path, key=["name", "id"])) as place:
        place.tenant(entityList=["user"], csv=fields)
        copy = Copy()
        for number, name in enumerate(['A;d"a', "two\nlines", "", "plain", "x,y"]):
            place.user(number, name, MIDNIGHT - 40 * DAY)
        delivered(place, NOON)
        gone(place, 0, 1, 2)
        second = delivered(place, NOON + DAY)
        assert second["deletes"]["path"] == "user.deletes.csv" + {"gzip": ".gz", "zstd": ".zst"}.get(fields.get("compression"), "")
        assert copy.catch_up(place.out).keys() == ["plain,3", "x,y,4"]
        assert verified(place).problems == []


@pytest.mark.parametrize("mode", ["lookback", "append", "append by id", "full"])
@pytest.mark.parametrize("hidden", [False, True], ids=["plain key", "anonymized key"])
def test_every_mode_compares(tmp_path, mode, hidden):
    changes = {
        "lookback": {"mode": "lookback", "column": "updated_at", "lookback": "24h"},
        "append": {"mode": "append", "column": "updated_at"},
        "append by id": {"mode": "append", "column": "id"},
        "full": {"mode": "full"},
    }[mode]
    columns = {**USER["columns"], "id": {"type": "integer", "export": "anonymize" if hidden else "yes"}}
    with closing(user_place(tmp_path, changes=changes, columns=columns)) as place:
        copy = Copy()
        for number in range(1, 40):
            place.user(number, "Ada", MIDNIGHT - 40 * DAY)
        delivered(place, NOON)
        gone(place, 1, 39)
        place.user(40, "Eve", MIDNIGHT + HOUR)
        second = delivered(place, NOON + DAY)
        assert (second["deletes"]["rows"], len(copy.catch_up(place.out).rows)) == (2, 38)
        place.user(1, "Ada", MIDNIGHT - 40 * DAY)
        delivered(place, NOON + 2 * DAY)
        assert len(copy.catch_up(place.out).rows) == 39


def test_a_backfill_counts_as_delivered(place):
    place.user(1, "Ada", MIDNIGHT - 2 * DAY)
    place.write("catalog.yaml", catalog(user=entity(deletes={"mode": "compare", "every": 3})))
    delivered(place, NOON)
    place.user(2, "late", MIDNIGHT - 9 * DAY)
    result = backfill(place.installation(), "acme", "user", MIDNIGHT - 10 * DAY, MIDNIGHT - 8 * DAY, actor="test")
    assert result.error is None
    gone(place, 2)
    delivered(place, NOON + DAY)
    third = delivered(place, NOON + 2 * DAY)
    assert [row[0] for row in keys_in(place, third)[1:]] == ["2"]


def test_a_redelivery_repeats_the_deletes_file_under_its_own_name(place):
    for number in (1, 2):
        place.user(number, "Ada", MIDNIGHT - 40 * DAY)
    delivered(place, NOON)
    gone(place, 1)
    second = delivered(place, NOON + DAY)
    for archived in (True, False):
        if not archived:
            shutil.rmtree(place.root / ".waybill" / "archive" / "deliveries", ignore_errors=True)
        result = redeliver(place.installation(), second["delivery_id"], actor="test")
        assert result.error is None
    repeats = [value for _, value in place.manifests() if value.get("redelivers")]
    assert sorted(repeat["deletes"]["path"] for repeat in repeats) == ["user.g1.2.r1.deletes.csv", "user.g1.2.r2.deletes.csv"]
    assert {repeat["deletes"]["sha256"] for repeat in repeats} == {second["deletes"]["sha256"]}
    assert verified(place).problems == []
    assert delivered(place, NOON + 2 * DAY)["deletes"]["rows"] == 0


@pytest.mark.parametrize("lost", [False, True], ids=["kept", "removed by an earlier version"])
def test_an_open_redelivery_of_an_ended_stream_finishes_after_housekeeping(ledgered, lost):
    """A foreign file stops the redelivery between its data and its deletes file."""
    for number in (1, 2):
        ledgered.user(number, "Ada", MIDNIGHT - 40 * DAY)
    delivered(ledgered, NOON)
    gone(ledgered, 1)
    sent = delivered(ledgered, NOON + DAY)
    full_load_requests.ask_full_load(ledgered.installation(), "acme")
    delivered(ledgered, NOON + 2 * DAY)
    redelivery = queue_redelivery(ledgered.installation(), "acme", sent["delivery_id"], actor="test")
    foreign = ledgered.out / redelivery.folder.lstrip("/") / f"{redelivery.stem}.deletes.csv"
    foreign.write_text("not ours")
    [stopped] = running.deliver_batch(ledgered.installation(), [redelivery.id])
    assert stopped.error is not None
    assert stopped.error.code == "foreign_file"
    housekeeping(ledgered.installation())
    if lost:
        with ledgered.installation().ledger.begin() as connection:
            keys.forget(connection, key_change.c.stream == redelivery.stream)
    foreign.unlink()
    [finished] = running.deliver_batch(ledgered.installation(), [redelivery.id])
    assert finished.error is None
    assert verified(ledgered).problems == []


def test_a_changed_or_missing_deletes_file_is_found(place):
    for number in (1, 2):
        place.user(number, "Ada", MIDNIGHT - 40 * DAY)
    delivered(place, NOON)
    gone(place, 1)
    second = delivered(place, NOON + DAY)
    path = (
        next(path for path, delivery in place.manifests() if delivery["delivery_id"] == second["delivery_id"]).parent / "user.deletes.csv"
    )
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert any("user.deletes.csv" in problem.path for problem in verified(place).problems)
    path.unlink()
    assert [problem.what for problem in verified(place).problems] == ["is listed in its manifest and missing"]


def test_old_deletes_files_are_removed_with_their_delivery(tmp_path):
    with closing(user_place(tmp_path)) as place:
        place.user(1, "Ada", MIDNIGHT - 40 * DAY)
        place.user(2, "Ada", MIDNIGHT - 40 * DAY)
        delivered(place, NOON)
        gone(place, 1)
        delivered(place, NOON + DAY)
        place.write("policy.yaml", {"destination_days": 1})
        place.clock = datetime.now(NOON.tzinfo) + 3 * DAY
        done = housekeeping(place.installation())
        assert (done.foreign, place.files()) == ([], [])


def test_a_foreign_deletes_file_is_never_touched(place):
    place.user(1, "Ada", MIDNIGHT - 40 * DAY)
    delivered(place, NOON)
    place.sql('alter table "user" rename to hidden')
    assert [result.error is None for result in place.run(NOON + DAY)] == [False]  # it has made its folder
    place.sql('alter table hidden rename to "user"')
    foreign = place.out / "exports/acme/2026/06/01/user/user.deletes.csv"
    foreign.write_text("mine")
    results = place.run(NOON + DAY)
    assert [result.error.code for result in results if result.error] == ["foreign_file"]
    assert foreign.read_text() == "mine"
    foreign.unlink()
    assert delivered(place, NOON + DAY)["deletes"]["rows"] == 0


def test_the_ledger_keeps_no_more_than_the_stream_needs(place):
    for number in range(1, 5):
        place.user(number, "Ada", MIDNIGHT - 40 * DAY)
    for day in range(4):
        delivered(place, NOON + day * DAY)
        gone(place, day + 1)
    with place.installation().ledger.begin() as connection:
        kinds = connection.execute(text("SELECT kind, count(*) FROM key_blob GROUP BY kind")).all()
        assert [tuple(row) for row in kinds] == [("added", 1)]
        assert connection.execute(text("SELECT count(*) FROM key_change")).scalar_one() == 1


def test_a_reconciled_ledger_starts_over_since_manifests_hold_no_keys(place):
    copy = Copy()
    for number in (1, 2, 3):
        place.user(number, "Ada", MIDNIGHT - 40 * DAY)
    delivered(place, NOON)
    place.close()
    backup = {path: path.read_bytes() for path in (place.root / ".waybill").glob("*.db*")}
    gone(place, 1)
    delivered(place, NOON + DAY)
    place.close()
    for path in (place.root / ".waybill").glob("*.db*"):
        path.unlink()
    for path, data in backup.items():
        path.write_bytes(data)
    done = reconcile(place.installation(), "acme", actor="test")
    assert (len(done.imported), done.problems) == (1, [])
    gone(place, 2)
    assert delivered(place, NOON + 2 * DAY)["kind"] == "full"
    assert copy.catch_up(place.out).keys() == source(place)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"columns": {"name": {"type": "string"}, "updated_at": {"type": "timestamp"}}}, "entities.user.deletes"),
        ({"deletes": "no"}, "entities.user.deletes"),
        ({"deletes": {"mode": "compare", "every": 0}}, "entities.user.deletes"),
        ({"deletes": "never", "deletes_at": "02:00"}, "entities.user.deletes_at"),
        ({"deletes_at": "someday"}, "entities.user.deletes_at"),
        ({"deletes_at": "sunday", "deletes": {"mode": "compare", "every": 7}}, "entities.user.deletes_at"),
    ],
    ids=["key not exported", "unknown", "every 0", "at without compare", "no time", "both"],
)
def test_what_makes_no_sense_is_refused_by_name(place, fields, path):
    place.write("catalog.yaml", catalog(user=entity(**fields)))
    found = place.installation().configuration.findings
    assert [item.path[: len(path)] for item in found] == [path]
    with pytest.raises(PermanentError, match=path):
        apply(place.installation(), actor="test")


def test_the_check_warns_of_an_entity_that_can_lose_deletes(place):
    def warned(**fields: Any) -> bool:
        place.write("catalog.yaml", catalog(user={**PLAIN, **fields}))
        return any("stay in consumers' copies" in str(warning) for warning in warnings(place.installation().catalog, "catalog.yaml"))

    assert warned()
    assert not warned(deletes="compare")
    assert not warned(deletes="never")
    assert not warned(deleted_column="deleted_at")
    assert not warned(changes={"mode": "full"})


def test_json_of_a_manifest_lists_the_deletes_file_as_the_contract_says(place):
    place.user(1, "Ada", MIDNIGHT - 40 * DAY)
    delivered(place, NOON)
    second = delivered(place, NOON + DAY)
    assert list(second["deletes"]) == ["path", "rows", "bytes", "sha256"]
    assert json.loads(json.dumps(second))["deletes"]["rows"] == 0


@pytest.mark.parametrize("collected", [False, True], ids=["delivered", "archived"])
@pytest.mark.parametrize(
    "fields",
    [{}, {"changes": {"mode": "append", "column": "id"}}, {"deletes": "compare"}, {"key": ["name"]}],
    ids=["plain", "id", "compared", "text"],
)
def test_reconcile_counts_the_rows_that_copies_hold_and_the_source_does_not(tmp_path, fields, collected):
    with closing(make_place(tmp_path)) as place:
        place.write("catalog.yaml", catalog(user={**PLAIN, **fields}))
        place.tenant(entityList=["user"])
        for number in range(1, 41):
            place.user(number, f'Ada "{number}"', MIDNIGHT - 40 * DAY)
        place.user(41, "", MIDNIGHT - 40 * DAY)
        delivered(place, NOON)
        delivered(place, NOON + DAY)
        if collected:
            for path in place.out.rglob("user*.csv"):
                path.unlink()
        assert reconcile(place.installation(), "acme", actor="test").differences == []
        gone(place, *range(1, 19))
        (difference,) = reconcile(place.installation(), "acme", actor="test").differences
        assert (difference.gone, difference.missing, difference.source_rows, difference.delivered_rows) == (18, 0, 23, 41)
        assert str(difference).startswith("user: 18 delivered rows are gone from the source. Repair: waybill run acme --entity user")
        running.run(place.installation(), "acme", NOON + 2 * DAY, full_load="deletes" not in fields)
        assert reconcile(place.installation(), "acme", actor="test").differences == []


@pytest.mark.parametrize(
    ("condition", "known"),
    [
        ({"op": "=", "value": "gone"}, True),
        ({"op": "in", "value": ["gone", "lost"]}, True),
        ({"op": "!=", "value": "Ada"}, True),
        ({"op": "not in", "value": ["Ada", "Bob"]}, True),
        ({"op": ">", "value": "b"}, False),
        ({"column": "cents", "op": "=", "value": 5}, True),
        ({"column": "cents", "op": "!=", "value": 0}, True),
    ],
    ids=lambda value: " ".join(str(each) for each in value.values()) if isinstance(value, dict) else "",
)
def test_reconcile_knows_a_tombstone_by_every_condition_that_its_text_shows(tmp_path, condition, known):
    """An order of texts is the database's own: what no file shows is not guessed, and nothing is reported."""
    fields = {name: value for name, value in USER.items() if name != "deleted_column"}
    with closing(make_place(tmp_path)) as place:
        place.sql('alter table "user" add column cents decimal(9, 2) default 0')
        columns = {**USER["columns"], "cents": {"type": "decimal"}}
        place.write("catalog.yaml", catalog(user={**fields, "columns": columns, "deleted_when": {"column": "name", **condition}}))
        place.tenant(entityList=["user"])
        for number in (1, 2):
            place.sql(f"insert into user values ('acme', {number}, 'Ada', timestamp '{MIDNIGHT - 40 * DAY:%Y-%m-%d}', NULL, 0)")
        delivered(place, NOON)
        place.sql(f"update user set name = 'gone', cents = 5, updated_at = timestamp '{MIDNIGHT + HOUR:%Y-%m-%d %H:%M:%S}' where id = 1")
        delivered(place, NOON + DAY)
        gone(place, 1)
        assert reconcile(place.installation(), "acme", actor="test").differences == []
        gone(place, 2)
        found = reconcile(place.installation(), "acme", actor="test").differences
        assert [difference.gone for difference in found] == ([1] if known else [])


def test_reconcile_takes_a_row_that_was_delivered_as_deleted_for_removed(tmp_path):
    with closing(make_place(tmp_path)) as place:
        place.write("catalog.yaml", catalog(user=USER))
        place.tenant(entityList=["user"])
        for number in (1, 2):
            place.user(number, "Ada", MIDNIGHT - 40 * DAY)
        delivered(place, NOON)
        place.user(1, "Ada", MIDNIGHT - 40 * DAY, deleted=MIDNIGHT + HOUR)
        delivered(place, NOON + DAY)
        gone(place, 1)
        assert reconcile(place.installation(), "acme", actor="test").differences == []
        gone(place, 2)
        assert [difference.gone for difference in reconcile(place.installation(), "acme", actor="test").differences] == [1]
