"""The scheduled path end to end through the use-cases: full loads, deltas, repairs, and what a consumer finds."""

import hashlib
import itertools
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from tests.copies import Copy
from tests.installations import DAY, NOON, THEME, USER, Place, catalog, make_place
from waybill.airflow import connect_db
from waybill.connection import Connection
from waybill.deliveries.full_load_requests import ask_full_load
from waybill.deliveries.planning import plan, preview
from waybill.deliveries.repairs import backfill
from waybill.deliveries.reports.describing import listed
from waybill.deliveries.running import deliver_batch, run
from waybill.errors import ConfigError, ConflictError, PermanentError
from waybill.installation import Installation
from waybill.ledger import streams
from waybill.registrations.applying import apply

MIDNIGHT = NOON.replace(hour=0)
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIy3gm7mNNjVWYlO9Q2bqfm2RRBmGqDJCBdKMHQQ2aGA"


@pytest.fixture
def place(tmp_path) -> Iterator[Place]:
    with closing(make_place(tmp_path)) as place:
        yield place


@pytest.fixture(params=["sqlite", "postgres"])
def ledgered(request, tmp_path) -> Iterator[Place]:
    """The same installation on both kinds of ledger."""
    url = request.getfixturevalue("postgres").url if request.param == "postgres" else ""
    with closing(make_place(tmp_path, ledger_url=url)) as place:
        yield place


def names(place: Place) -> list[str | None]:
    return [row[1] for row in place.rows()]


def test_the_first_delivery_is_the_complete_history_and_the_next_carries_only_changes(ledgered):
    place = ledgered
    place.user(1, "Ada", MIDNIGHT - 40 * DAY)
    place.user(2, "Bob", MIDNIGHT - DAY)
    place.user(3, "Eve", MIDNIGHT + timedelta(hours=1))
    place.user(9, "Mallory", MIDNIGHT - DAY, tenant="globex")
    place.run(NOON)
    assert names(place) == ["Ada", "Bob", "Eve"]
    place.user(1, "Ada L.", MIDNIGHT + timedelta(hours=3))
    place.user(4, "Ina", MIDNIGHT + timedelta(hours=4))
    place.run(NOON + DAY)
    assert names(place) == ["Ada", "Bob", "Eve", "Ada L.", "Ina"]
    kinds = [
        (delivery["entity"], delivery["sequence"], delivery["kind"], delivery["window"]["from"], delivery["window"]["to"])
        for _, delivery in place.manifests()
    ]
    assert kinds == [
        ("theme", 1, "full", None, "2026-05-31T00:00:00.000000Z"),
        ("user", 1, "full", None, "2026-05-31T00:00:00.000000Z"),
        ("theme", 2, "full", "2026-05-31T00:00:00.000000Z", "2026-06-01T00:00:00.000000Z"),
        ("user", 2, "delta", "2026-05-31T00:00:00.000000Z", "2026-06-01T00:00:00.000000Z"),
    ]


def test_files_stand_where_the_contract_says_and_nothing_else_is_visible(place):
    place.user(1, "Ada", MIDNIGHT - DAY)
    place.run(NOON)
    assert place.files() == [
        "exports/acme/2026/05/31/_MANIFEST.json",
        "exports/acme/2026/05/31/theme/theme.csv",
        "exports/acme/2026/05/31/theme/theme.manifest.json",
        "exports/acme/2026/05/31/user/user.csv",
        "exports/acme/2026/05/31/user/user.manifest.json",
    ]


def test_the_manifest_holds_the_contracts_fields_and_agrees_with_its_file(place):
    place.user(1, 'Ada "the\nfirst"', MIDNIGHT - DAY)
    place.run(NOON)
    path, manifest = next((path, delivery) for path, delivery in place.manifests() if delivery["entity"] == "user")
    data = (path.parent / "user.csv").read_bytes()
    assert list(manifest) == [
        *[
            "format_version",
            "delivery_id",
            "tenant",
            "entity",
            "entity_name",
            "generation",
            "sequence",
            "previous",
            "kind",
            "window",
            "position",
        ],
        *["snapshot_time", "rows", "bytes", "sha256", "files", "columns", "key", "schema_version", "format", "csv", "possible_duplicate"],
        *["tombstone_column", "produced_by", "source_rows"],
    ]
    assert (manifest["rows"], manifest["bytes"], manifest["sha256"]) == (1, len(data), hashlib.sha256(data).hexdigest())
    assert manifest["files"] == [{"path": "user.csv", "rows": 1, "bytes": len(data), "sha256": manifest["sha256"]}]
    told = {"nullable": True, "precision": None, "scale": None, "length": None, "native_type": "BIGINT"}
    assert manifest["columns"][0] == {"name": "id", "type": "integer", "description": "Id.", **told}
    assert manifest["source_rows"] == 1
    assert manifest["tombstone_column"] == "deleted_at"
    assert manifest["previous"] is None
    assert data.decode() == 'id,name,updated_at,deleted_at\n1,"Ada ""the\nfirst""",2026-05-30T00:00:00.000000Z,\n'


def test_the_chain_names_the_file_before(place):
    for day in range(3):
        place.run(NOON + day * DAY)
    chain = [delivery for _, delivery in place.manifests() if delivery["entity"] == "user"]
    assert [link["sequence"] for link in chain] == [1, 2, 3]
    for before, after in itertools.pairwise(chain):
        assert after["window"]["from"] == before["window"]["to"]
        assert after["previous"] == {"sequence": before["sequence"], "sha256": before["sha256"]}


def test_an_empty_delta_is_a_header_and_a_manifest(place):
    place.run(NOON)
    place.run(NOON + DAY)
    _, manifest = [item for item in place.manifests() if item[1]["entity"] == "user"][-1]
    assert (manifest["rows"], manifest["kind"]) == (0, "delta")


def test_running_again_changes_nothing(place):
    place.user(1, "Ada", MIDNIGHT - DAY)
    first = place.run(NOON)
    before = {name: (place.out / name).stat().st_mtime_ns for name in place.files()}
    assert place.run(NOON) == []
    assert {name: (place.out / name).stat().st_mtime_ns for name in place.files()} == before
    again = deliver_batch(place.installation(), [result.delivery.id for result in first])
    assert [result.outcome.status for result in again if result.outcome] == ["verified", "verified"]


def test_a_committed_delivery_whose_file_was_collected_is_no_error_and_a_changed_one_is(place):
    first = place.run(NOON)
    theme, user = sorted(first, key=lambda result: result.delivery.entity)
    (place.out / "exports/acme/2026/05/31/theme/theme.csv").unlink()
    (place.out / "exports/acme/2026/05/31/user/user.csv").write_text("tampered")
    again = deliver_batch(place.installation(), [theme.delivery.id, user.delivery.id])
    assert again[0].outcome is not None
    assert again[0].outcome.status == "collected"
    assert isinstance(again[1].error, ConflictError)
    assert "is not what was delivered" in str(again[1].error)


def test_a_row_committed_late_is_delivered_once_and_what_was_delivered_is_not_repeated(place):
    place.user(1, "on time", MIDNIGHT - timedelta(hours=2))
    place.run(NOON)
    place.user(2, "late", MIDNIGHT - timedelta(hours=3))
    place.user(3, "too late", MIDNIGHT - timedelta(hours=30))
    place.run(NOON + DAY)
    assert names(place) == ["on time", "late"]
    place.run(NOON + 2 * DAY)
    assert names(place) == ["on time", "late"]


def test_a_value_that_comes_back_is_a_new_version(place):
    place.write("catalog.yaml", catalog(user={**USER, "columns": {"id": {"type": "integer"}, "name": {"type": "string"}}}, theme=THEME))
    place.user(1, "A", MIDNIGHT - timedelta(hours=5))
    place.run(NOON)
    place.user(1, "B", MIDNIGHT + timedelta(hours=1))
    place.run(NOON + DAY)
    place.user(1, "A", MIDNIGHT + timedelta(hours=30))
    place.run(NOON + 2 * DAY)
    assert names(place) == ["A", "B", "A"]


def test_a_deletion_is_delivered_once_even_when_it_forgot_the_change_column(place):
    place.user(1, "Ada", MIDNIGHT - 5 * DAY)
    place.run(NOON)
    place.user(1, "Ada", MIDNIGHT - 5 * DAY, deleted=MIDNIGHT + timedelta(hours=4))
    place.run(NOON + DAY)
    place.run(NOON + 2 * DAY)
    assert [row[3] for row in place.rows()] == [None, "2026-05-31T04:00:00.000000Z"]


def test_a_paused_week_is_one_longer_window(place):
    place.run(NOON)
    place.user(1, "Ada", MIDNIGHT + 2 * DAY)
    place.run(NOON + 7 * DAY)
    last = [delivery for _, delivery in place.manifests() if delivery["entity"] == "user"][-1]
    assert (last["window"]["from"][:10], last["window"]["to"][:10], last["sequence"], last["rows"]) == ("2026-05-31", "2026-06-07", 2, 1)


def test_a_frequency_change_moves_no_watermark(place):
    place.run(NOON)
    place.tenant(frequency="weekly")
    assert place.run(NOON) == []
    place.run(NOON + 2 * DAY)
    last = [delivery for _, delivery in place.manifests() if delivery["entity"] == "user"][-1]
    assert (last["window"]["from"][:10], last["window"]["to"][:10]) == ("2026-05-31", "2026-06-01")


def test_an_entity_registered_again_starts_a_new_generation_and_the_kept_one_keeps_its_stream(place):
    place.user(1, "Ada", MIDNIGHT - DAY)
    place.run(NOON)
    place.tenant(entityList=["theme"])
    place.run(NOON + DAY)
    place.tenant(entityList=["theme", "user"])
    place.run(NOON + 2 * DAY)
    chain = [(delivery["entity"], delivery["generation"], delivery["sequence"], delivery["kind"]) for _, delivery in place.manifests()]
    assert [link for link in chain if link[0] == "user"] == [("user", 1, 1, "full"), ("user", 2, 1, "full")]
    assert [link[2] for link in chain if link[0] == "theme"] == [1, 2, 3]


def test_a_full_load_asked_for_stands_beside_the_first_file_of_the_date(place):
    place.user(1, "Ada", MIDNIGHT - DAY)
    place.run(NOON)
    place.run(NOON, full_load=True, entities=["user"])
    folder = "exports/acme/2026/05/31/user/"
    assert [name.removeprefix(folder) for name in place.files() if name.startswith(folder)] == [
        "user.csv",
        "user.g2.1.csv",
        "user.g2.1.manifest.json",
        "user.manifest.json",
    ]
    manifest = json.loads((place.out / folder / "user.g2.1.manifest.json").read_text())
    assert (manifest["generation"], manifest["sequence"], manifest["previous"], manifest["kind"]) == (2, 1, None, "full")
    second_day = json.loads((place.out / "exports/acme/2026/05/31/_MANIFEST.2.json").read_text())
    assert [delivery["manifest"] for delivery in second_day["deliveries"] if delivery["entity"] == "user"] == [
        "user/user.manifest.json",
        "user/user.g2.1.manifest.json",
    ]


def test_the_day_manifest_waits_for_every_entity(place):
    place.run(NOON, entities=["user"])
    assert "exports/acme/2026/05/31/_MANIFEST.json" not in place.files()
    place.run(NOON)
    day = json.loads((place.out / "exports/acme/2026/05/31/_MANIFEST.json").read_text())
    assert day["entities"] == ["theme", "user"]


def test_one_failing_entity_does_not_stop_the_others_and_the_next_run_repairs_it(place):
    place.user(1, "Ada", MIDNIGHT - DAY)
    place.sql('alter table "user" rename column name to nome')
    results = place.run(NOON)
    failed = [result for result in results if result.error]
    assert [result.delivery.entity for result in failed] == ["user"]
    assert isinstance(failed[0].error, PermanentError)
    for part in ("acme", "user", "name", "nome"):
        assert part in str(failed[0].error)
    assert listed(place.installation(), "acme", entity="user")[0]["error_code"] == "schema_drift"
    place.sql('alter table "user" rename column nome to name')
    place.run(NOON + DAY)
    assert [
        (delivery["sequence"], delivery["kind"], delivery["window"]["to"][:10])
        for _, delivery in place.manifests()
        if delivery["entity"] == "user"
    ] == [
        (1, "full", "2026-05-31"),
        (2, "delta", "2026-06-01"),
    ]
    assert "exports/acme/2026/05/31/_MANIFEST.json" in place.files()


def test_a_new_source_column_stays_inside_and_a_catalogued_one_is_appended(place):
    place.user(1, "Ada", MIDNIGHT - timedelta(hours=1))
    place.run(NOON)
    place.sql("""alter table "user" add column mood varchar default 'merry'""")
    place.sql("""alter table "user" add column secret varchar default 'hunter2'""")
    columns = {"mood": {"type": "string"}, **USER["columns"]}
    place.write("catalog.yaml", catalog(user={**USER, "columns": columns}, theme=THEME))
    place.sql("""insert into "user" values ('acme', 2, 'Bob', '2026-05-31 05:00:00+00', NULL, 'sad', 'x')""")
    place.run(NOON + DAY)
    last = [delivery for _, delivery in place.manifests() if delivery["entity"] == "user"][-1]
    assert [column["name"] for column in last["columns"]] == ["id", "name", "updated_at", "deleted_at", "mood"]
    assert (last["schema_version"], last["rows"]) == (2, 1)
    assert not any("hunter2" in (place.out / name).read_text() for name in place.files())


def test_a_foreign_file_is_never_overwritten(place):
    target = place.out / "exports/acme/2026/05/31/user/user.csv"
    target.parent.mkdir(parents=True)
    target.write_text("mine")
    results = place.run(NOON)
    errors = [result.error for result in results if result.error]
    assert len(errors) == 1
    assert isinstance(errors[0], ConflictError)
    assert target.read_text() == "mine"


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_dialects_and_parts(place, compression):
    for number in range(5):
        place.user(number, f"n;{number}", MIDNIGHT - DAY)
    place.tenant(csv={"delimiter": ";", "line_ending": "crlf", "compression": compression, "max_rows_per_file": 2})
    place.run(NOON)
    path, manifest = next((path, delivery) for path, delivery in place.manifests() if delivery["entity"] == "user")
    suffix = {"none": "", "gzip": ".gz", "zstd": ".zst"}[compression]
    assert [file["path"] for file in manifest["files"]] == [f"user-000{number}.csv{suffix}" for number in (1, 2, 3)]
    assert [file["rows"] for file in manifest["files"]] == [2, 2, 1]
    for file in manifest["files"]:
        assert hashlib.sha256((path.parent / file["path"]).read_bytes()).hexdigest() == file["sha256"]
    assert names(place) == [f"n;{number}" for number in range(5)]
    place.run(NOON, full_load=True, entities=["user"])
    assert len(names(place)) == 10


def test_a_delivery_keeps_the_dialect_it_was_planned_with(place):
    plan_estate = place.installation()
    apply(plan_estate, actor="test")
    plan(plan_estate, "acme", NOON)
    place.tenant(csv={"compression": "gzip"})
    place.run(NOON)
    assert "exports/acme/2026/05/31/user/user.csv" in place.files()
    place.run(NOON + DAY)
    assert "exports/acme/2026/06/01/user/user.csv.gz" in place.files()


def test_many_runs_at_once_give_one_delivery_each(ledgered):
    place = ledgered
    place.user(1, "Ada", MIDNIGHT - DAY)
    apply(place.installation(), actor="test")
    problems = []

    def work():
        results = run(place.installation(), "acme", NOON)
        problems.extend(result.error for result in results if result.error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert [(delivery["entity"], delivery["sequence"]) for _, delivery in place.manifests()] == [("theme", 1), ("user", 1)]
    assert names(place) == ["Ada"]
    assert not any(name.endswith(".part") for name in place.files())


def test_a_preview_writes_nothing(place):
    apply(place.installation(), actor="test")
    first = preview(place.installation(), "acme", NOON)
    assert [item.entity for item in first] == ["theme", "user"]
    assert listed(place.installation(), "acme") == []


def test_until_is_bounded_by_the_sources_clock(place):
    apply(place.installation(), actor="test")
    due = preview(place.installation(), "acme", datetime.fromisoformat("2999-01-01T00:00:00+00:00"))
    assert due
    assert due[0].planned_to.year < 2999


def test_planning_asks_the_sources_of_what_it_looks_at_and_a_preview_those_of_what_joins(place):
    """A run waits for no source that has nothing to do with it, and a preview shows what the next apply adds from another source."""
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as far:

        def hang_up():
            with suppress(OSError):
                while True:
                    far.accept()[0].close()
                    asked.append("far")

        threading.Thread(target=hang_up, daemon=True).start()
        place.connections["pg"] = Connection("pg", "postgres", "127.0.0.1", far.getsockname()[1], "u", password="p", schema="db")
        catalogued = catalog(user=USER, theme={**THEME, "source": "far"})
        catalogued["sources"]["far"] = {"kind": "postgres", "connection": "pg"}
        place.write("catalog.yaml", catalogued)
        place.tenant(entityList=["user"])
        installation = replace(place.installation(), connect_db=connect_db)
        apply(installation, actor="test")
        plan(installation, "acme", NOON)
        assert asked == []
        place.tenant(exportOption="export all", entityList=[])
        installation = replace(place.installation(), connect_db=connect_db)
        assert [delivery.entity for delivery in preview(installation, "acme", NOON)] == ["theme", "user"]
        assert asked
        apply(installation, actor="test")
        asked.clear()
        plan(installation, "acme", NOON, entities=["user"])
        assert asked == []


def test_a_delivery_that_begins_anew_while_its_tenant_is_disabled_says_so(place):
    place.run(NOON)
    [delivery] = [delivery for delivery in plan(place.installation(), "acme", NOON + DAY) if delivery.entity == "user"]
    place.write("catalog.yaml", catalog(user={**USER, "changes": {"mode": "lookback", "column": "deleted_at", "lookback": "24h"}}))
    place.tenant(exportOption="disable export", entityList=[])

    looks = []

    def disabling():
        looks.append("at the clock")
        if len(looks) == 2:  # the first is for the ledger to know that the delivery begins, the second for its next generation
            apply(place.installation(), actor="test", allow_mass_deactivation=True)
        return NOON + DAY

    [result] = deliver_batch(replace(place.installation(), now=disabling), [delivery.id])
    assert result.error is not None
    assert (result.error.code, type(result.error)) == ("abandoned", PermanentError)


def test_a_removed_file_deactivates_the_tenant_and_mass_deactivation_is_refused(place):
    for number in range(8):
        place.tenant(f"t{number}")
    apply(place.installation(), actor="test")
    (place.root / "config/tenants/t0.yaml").unlink()
    assert [change.tenant for change in apply(place.installation(), actor="test").changes if change.action == "deactivate"] == ["t0"]
    for number in range(1, 5):
        (place.root / f"config/tenants/t{number}.yaml").unlink()
    rehearsed = apply(place.installation(), actor="test", dry_run=True)
    assert [line for line in rehearsed.lines(dry_run=True) if line.startswith("- ")] == [
        f"- t{number}  (config/tenants/t{number}.yaml)" for number in range(1, 5)
    ]
    assert "would deactivate 4 of 8" in str(rehearsed.refusal)
    with pytest.raises(PermanentError, match="would deactivate 4 of 8"):
        apply(place.installation(), actor="test")
    applied = apply(place.installation(), actor="test", allow_mass_deactivation=True)
    assert sum(change.action == "deactivate" for change in applied.changes) == 4
    assert run(place.installation(), "t1", NOON) == []


@pytest.mark.parametrize("how", ["not mounted", "emptied", "a link that leads nowhere"])
def test_a_run_of_one_tenant_deactivates_it_neither_with_its_folder_nor_for_a_dangling_link(place, how):
    for number in range(8):
        place.tenant(f"t{number}")
    apply(place.installation(), actor="test")
    folder = place.root / "config/tenants"
    if how == "not mounted":
        folder.rename(place.root / "elsewhere")
    elif how == "emptied":
        for path in folder.iterdir():
            path.unlink()
    if how == "a link that leads nowhere":
        (folder / "t0.yaml").unlink()
        (folder / "t0.yaml").symlink_to(place.root / "nowhere.yaml")
        assert "cannot be read" in str(apply(place.installation(), actor="test", only="t0").findings[0])
    else:
        with pytest.raises(PermanentError, match="would deactivate 9 of 9 active tenants"):
            apply(place.installation(), actor="test", only="t0")
    assert not place.installation().registered("t0").registration.is_disabled
    assert len(run(place.installation(), "t0", NOON)) == 2


def test_a_run_of_a_tenant_whose_file_was_removed_alone_deactivates_it(place):
    for number in range(8):
        place.tenant(f"t{number}")
    apply(place.installation(), actor="test")
    (place.root / "config/tenants/t0.yaml").unlink()
    assert [change.action for change in apply(place.installation(), actor="test", only="t0").changes] == ["deactivate"]


def test_a_policy_that_is_a_link_that_leads_nowhere_allows_nothing(place):
    (place.root / "config/policy.yaml").unlink(missing_ok=True)
    (place.root / "config/policy.yaml").symlink_to(place.root / "nowhere.yaml")
    assert "config/policy.yaml: cannot be read" in str(place.installation().configuration.findings[0])
    with pytest.raises(ConfigError):
        _ = place.installation().configuration.policy


def test_export_all_also_means_entities_catalogued_later(place):
    place.tenant(exportOption="export all", entityList=[])
    place.run(NOON)
    place.write("catalog.yaml", catalog(user=USER, theme=THEME, motif={**THEME, "name": "motif", "relation": "theme"}))
    place.run(NOON + DAY)
    assert [(delivery["generation"], delivery["sequence"]) for _, delivery in place.manifests() if delivery["entity"] == "motif"] == [
        (1, 1)
    ]


def test_a_full_load_request_marks_the_stream_until_the_next_run(place):
    place.run(NOON)
    assert ask_full_load(place.installation(), "acme", ["user"]) == ["user"]
    installation = place.installation()
    with installation.ledger.begin() as connection:
        assert [stream.full_load for stream in streams.active(connection, "acme")] == [False, True]
    place.run(NOON + DAY)
    assert [delivery["generation"] for _, delivery in place.manifests() if delivery["entity"] == "user"] == [1, 2]


def test_a_full_load_that_failed_and_is_asked_for_again_is_one(place):
    place.run(NOON)
    place.sql('alter table "user" rename column name to nome')
    assert [bool(result.error) for result in place.run(NOON, full_load=True, entities=["user"])] == [True]
    place.sql('alter table "user" rename column nome to name')
    assert [bool(result.error) for result in place.run(NOON, full_load=True, entities=["user"])] == [False]
    assert sorted(delivery["generation"] for _, delivery in place.manifests() if delivery["entity"] == "user") == [1, 2]


def test_a_full_load_after_a_change_of_the_frequency_does_not_go_back_in_time(place):
    place.user(1, "Ada", NOON - DAY)
    place.run(NOON + 2 * DAY)
    place.tenant(frequency="monthly")
    place.run(NOON + 2 * DAY, full_load=True)
    ends = [(delivery["generation"], delivery["window"]["to"]) for _, delivery in place.manifests() if delivery["entity"] == "user"]
    assert sorted(ends) == [(1, "2026-06-02T00:00:00.000000Z"), (2, "2026-06-02T00:00:00.000000Z")]
    place.run(NOON + 31 * DAY)
    last = max(
        (delivery for _, delivery in place.manifests() if delivery["entity"] == "user"),
        key=lambda delivery: (delivery["generation"], delivery["sequence"]),
    )
    assert (last["window"]["from"], last["window"]["to"]) == ("2026-06-02T00:00:00.000000Z", "2026-07-01T00:00:00.000000Z")


@contextmanager
def no_commit(installation: Installation) -> Iterator[None]:
    """The ledger refuses the last step of every delivery."""
    with installation.ledger.begin() as connection:
        refuse = "create trigger stop before update on delivery when new.status = 'committed' begin select raise(abort, 'stop'); end"
        connection.exec_driver_sql(refuse)
    yield
    with installation.ledger.begin() as connection:
        connection.exec_driver_sql("drop trigger stop")


def stop_before_commit(place: Place) -> None:
    """Deliver `user` up to COMMIT, which the ledger itself refuses once."""
    place.user(1, "Ada", MIDNIGHT - DAY)
    installation = place.installation()
    apply(installation, actor="test")
    planned = [delivery for delivery in plan(installation, "acme", NOON) if delivery.entity == "user"]
    with no_commit(installation):
        [stopped] = deliver_batch(place.installation(), [planned[0].id])
    assert stopped.error is not None
    assert "unexpected IntegrityError" in str(stopped.error)


def test_a_file_collected_between_manifest_and_commit_is_not_sent_again(place):
    stop_before_commit(place)
    assert listed(place.installation(), "acme", entity="user")[0]["status"] == "open"
    (place.out / "exports/acme/2026/05/31/user/user.csv").unlink()
    place.run(NOON)
    assert listed(place.installation(), "acme", entity="user")[0]["status"] == "committed"
    assert not (place.out / "exports/acme/2026/05/31/user/user.csv").exists()


@pytest.mark.parametrize("csv", [{}, {"max_rows_per_file": 1}], ids=["one file", "parts, whose empty folder is left"])
def test_a_delivery_that_was_loaded_before_commit_is_followed_by_all_rows_under_a_number_of_their_own(place, tmp_path, csv):
    """A consumer that knows its id skips it the second time, and would miss the change that the second reading saw."""
    place.tenant(csv=csv)
    place.user(2, "Eve", MIDNIGHT - DAY)
    stop_before_commit(place)
    copy = Copy().catch_up(shutil.copytree(place.out, tmp_path / "first"))
    for path in (place.out / "exports/acme/2026/05/31/user").iterdir():
        path.unlink()
    place.user(1, "Ada Lovelace", MIDNIGHT + timedelta(hours=1))
    place.run(NOON)
    [again] = [delivery for _, delivery in place.manifests() if delivery["entity"] == "user"]
    assert (again["kind"], again["sequence"], again["generation"] > 2, again["possible_duplicate"]) == ("full", 1, True, False)
    copy.catch_up(shutil.copytree(place.out, tmp_path / "second"))
    place.run(NOON + DAY)
    copy.catch_up(shutil.copytree(place.out, tmp_path / "third"))
    assert sorted(row["name"] for row in copy.rows.values()) == ["Ada Lovelace", "Eve"]


def test_a_backfill_redone_because_its_file_vanished_says_that_it_may_repeat(place):
    place.user(1, "Ada", MIDNIGHT - DAY)
    place.run(NOON)
    installation = place.installation()
    with no_commit(installation):
        assert backfill(installation, "acme", "user", MIDNIGHT - 2 * DAY, MIDNIGHT, actor="test").error is not None
    [folder] = place.out.rglob("backfill-*")
    for path in folder.iterdir():
        path.unlink()
    place.run(NOON)
    assert [delivery["possible_duplicate"] for _, delivery in place.manifests() if delivery["kind"] == "backfill"] == [True]


def test_a_dead_destination_is_left_alone_for_a_while_by_schedulers_and_caught_up_in_order_afterwards(place):
    place.clock = NOON + 3 * DAY
    place.user(1, "Ada", MIDNIGHT - DAY)
    place.tenant(destination={"kind": "sftp", "connection": "nowhere"})
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    place.connections["nowhere"] = Connection("nowhere", "sftp", "127.0.0.1", port, "u", password="p", extra={"host_key": HOST_KEY})
    apply(place.installation(), actor="test")
    planned = [delivery.id for delivery in plan(place.installation(), "acme", NOON)]
    codes = []
    for _ in range(6):
        codes.append({result.error.code for result in deliver_batch(place.installation(), planned, rest_failing=True) if result.error})
    assert codes[5] == {"destination_paused"}
    assert "destination_paused" not in codes[4]
    place.clock += timedelta(minutes=2)
    assert {result.error.code for result in deliver_batch(place.installation(), planned, rest_failing=True) if result.error} == codes[0]
    place.tenant()
    place.run(NOON + 2 * DAY)
    assert [delivery["sequence"] for _, delivery in place.manifests() if delivery["entity"] == "user"] == [1, 2]


def test_the_schema_version_and_the_order_of_columns_go_on_in_a_new_generation(place):
    place.run(NOON)
    place.sql("""alter table "user" add column mood varchar""")
    columns = {"mood": {"type": "string"}, **USER["columns"]}
    place.write("catalog.yaml", catalog(user={**USER, "columns": columns}, theme=THEME))
    place.run(NOON, full_load=True, entities=["user"])
    (last,) = [delivery for _, delivery in place.manifests() if delivery["generation"] == 2]
    names = [column["name"] for column in last["columns"]]
    assert (last["generation"], last["schema_version"], names) == (2, 2, ["id", "name", "updated_at", "deleted_at", "mood"])
