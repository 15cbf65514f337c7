"""Looking from the terminal: status, doctor, deliveries, plan; tables for people, JSON for programs."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from tests.installations import DAY, NOON, USER, Place, catalog, make_place
from waybill import __version__

MIDNIGHT = NOON.replace(hour=0)
Waybill = Callable[..., str]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with closing(make_place(tmp_path)) as place:
        place.write("catalog.yaml", catalog(user=USER))
        place.tenant(entityList=["user"], timezone="Europe/Berlin")
        place.user(1, "Ada", MIDNIGHT - 2 * DAY)
        yield place


@pytest.fixture
def waybill(place: Place, run_waybill: Waybill) -> Waybill:
    return partial(run_waybill, WAYBILL_CONFIG_DIR=str(place.root / "config"))


def test_the_version_and_completion_are_there(waybill: Waybill) -> None:
    assert waybill("--version") == f"waybill {__version__}\n"
    assert "--show-completion" in waybill("--help")


def test_status_tells_who_got_their_data_and_why_somebody_did_not(waybill: Waybill, place: Place) -> None:
    assert "no tenant is registered" in waybill("status")
    waybill("run", "acme")
    header, row, *rest = waybill("status").splitlines()
    assert header.split()[:4] == ["TENANT", "STATE", "FREQUENCY", "ENTITIES"]
    assert row.split()[0] == "acme"
    assert rest[-1].startswith("1 tenant: ")
    place.tenant("globex", entityList=["user"], destination={"kind": "folder", "root": "nowhere/to/be/found"})
    (place.root / "nowhere").write_text("")
    waybill("run", "globex", status=1)
    printed = waybill("status")
    assert printed.index("globex") < printed.index("acme")
    assert "globex" in waybill("status", "globex")
    assert "acme" not in waybill("status", "globex")
    place.tenant("initech", entityList=["user"])
    assert "1 tenant file not applied yet: initech. Run `waybill apply`" in waybill("status")
    assert "not applied" not in waybill("status", "acme")
    [facts] = json.loads(waybill("status", "globex", "--json"))
    assert (facts["tenant"], facts["state"]) == ("globex", "failing")
    assert facts["causes"][0]["error"]
    assert facts["next_step"]
    assert "is not registered" in waybill("status", "nobody", status=1)


def test_commands_that_list_print_json_and_exit_as_without(waybill: Waybill, place: Place) -> None:
    place.tenant("globex", entityList=["usr"])
    said = json.loads(waybill("check", "--json", status=1))
    assert (said["entities"], said["tenant_files"]) == (1, 1)
    assert [(finding["path"], finding["meant"], finding["code"]) for finding in said["findings"]] == [
        ("entityList", "user", "unknown_entity")
    ]
    applied = json.loads(waybill("apply", "--dry-run", "--json", status=1))
    [change] = applied["changes"]
    assert (change["tenant"], change["action"], change["activated"]) == ("acme", "create", ["user"])
    assert applied["full_loads"]
    assert json.loads(waybill("apply", "--json", status=1))["findings"][0]["code"] == "unknown_entity"
    (place.root / "config/tenants/globex.yaml").unlink()
    said = json.loads(waybill("check", "--connect", "--json"))
    assert (said["findings"], said["sources"]) == ([], [])
    [done] = json.loads(waybill("run", "acme", "--json"))
    assert (done["entity"], done["kind"], done["status"], done["rows"], done["error"]) == ("user", "full", "committed", 1, None)
    assert json.loads(waybill("run", "acme", "--json")) == []
    place.sql('ALTER TABLE "user" RENAME TO users')
    said = json.loads(waybill("check", "--connect", "--json", status=1))
    assert said["sources"][0]["status"] == "failed"


def test_status_adds_up_what_each_month_brought(waybill: Waybill, place: Place) -> None:
    assert "months" not in json.loads(waybill("status", "--json") or "[{}]")
    waybill("run", "acme")
    assert "MONTH (UTC)" not in waybill("status")
    assert "MONTH (UTC)" in waybill("status", "--months")
    assert "MONTH (UTC)" in waybill("status", "acme")
    [facts] = json.loads(waybill("status", "acme", "--json"))
    [month] = facts["months"]
    delivered = json.loads(waybill("deliveries", "acme", "--json"))
    assert (month["deliveries"], month["rows"]) == (len(delivered), sum(item["rows"] for item in delivered))
    assert month["bytes"] == sum(item["bytes"] for item in delivered)
    assert month["month"] == delivered[0]["committed_at"][:7]
    assert 0 <= month["seconds"] < 3600


def test_status_tells_until_when_data_is_promised(waybill: Waybill, place: Place) -> None:
    waybill("run", "acme")
    assert json.loads(waybill("status", "--json"))[0]["promise"] is None
    place.tenant(entityList=["user"], deliverAt="02:00", deliverBy="06:00")
    waybill("apply")
    assert "PROMISED BY" in waybill("status").splitlines()[0]
    [facts] = json.loads(waybill("status", "--json"))
    assert facts["promise"]["state"] == "kept"
    assert facts["promise"]["deliver_by"].endswith("T06:00:00.000000Z")
    assert facts["promise"]["data_until"].endswith("T00:00:00.000000Z")


def test_deliveries_are_a_table_that_can_be_narrowed(waybill: Waybill) -> None:
    assert waybill("deliveries") == "no delivery\n"
    waybill("run", "acme")
    header, *rows = waybill("deliveries", "acme").splitlines()
    assert header.split() == ["DELIVERY", "TENANT", "ENTITY", "KIND", "SEQUENCE", "STATUS", "ROWS", "BYTES", "DATE", "COMMITTED", "(UTC)"]
    assert len(rows) == 1
    assert waybill("deliveries", "--status", "open") == "no delivery\n"
    assert len(json.loads(waybill("deliveries", "--entity", "user", "--limit", "1", "--json"))) == 1
    assert waybill("deliveries", "--entity", "theme") == "no delivery\n"
    assert "'done' is none of open, committed, abandoned" in waybill("deliveries", "--status", "done", status=2)


def test_a_rehearsed_apply_tells_the_size_of_the_full_loads(waybill: Waybill, place: Place) -> None:
    printed = waybill("apply", "--dry-run")
    assert "full loads: about 1 row, " in printed
    (place.root / "warehouse.duckdb").rename(place.root / "away")
    assert (
        "full loads: about 0 rows, 0 bytes uncompressed; 1 entity not counted: the source cannot be counted now (source_missing)"
        in waybill("apply", "--dry-run")
    )
    (place.root / "away").rename(place.root / "warehouse.duckdb")
    waybill("apply")
    assert "full loads" not in waybill("apply", "--dry-run")


def test_plan_shows_what_the_file_asks_for_and_writes_nothing(waybill: Waybill, place: Place) -> None:
    first = waybill("plan", "acme")
    assert first.splitlines()[0].split() == ["KIND", "ENTITY", "SEQUENCE", "FROM", "TO", "PATH"]
    assert "is not registered" in waybill("status", "acme", status=1)
    assert waybill("deliveries") == "no delivery\n"
    waybill("run", "acme")
    assert waybill("plan", "acme") == "acme: nothing is due\n"
    place.tenant(exportOption="disable export")
    assert waybill("plan", "acme") == "acme: exports are disabled\n"
    place.tenant()
    place.write("catalog.yaml", catalog(user={**USER, "deletes": "compare"}))
    assert "note: user: the catalog asks for deletes: compare, and which keys" in waybill("plan", "acme")
    place.write("catalog.yaml", catalog(user=USER))
    place.tenant(entityList=["user"], sourceTenant="other")
    planned = json.loads(waybill("plan", "acme", "--json"))
    assert [(delivery["generation"], delivery["kind"]) for delivery in planned] == [(2, "full")]
    assert "0 to create, 1 to change" in waybill("apply", "--dry-run")
    assert "is not registered" in waybill("plan", "nobody", status=1)


def test_until_ahead_of_now_says_that_it_is_now(waybill: Waybill) -> None:
    assert "--until 2999-01-01T00:00:00+00:00 lies ahead: delivering up to now" in waybill("run", "acme", "--until", "2999-01-01T00:00:00Z")


def test_a_backfill_takes_dates_in_the_tenant_s_zone(waybill: Waybill) -> None:
    waybill("run", "acme")
    assert "delivery" in waybill("backfill", "acme", "user", "--from", "2026-05-28", "--to", "2026-05-30")
    [delivery] = [load for load in json.loads(waybill("deliveries", "--json")) if load["purpose"] == "backfill"]
    assert delivery["window"] == {"from": "2026-05-27T22:00:00.000000Z", "to": "2026-05-29T22:00:00.000000Z"}


def test_repairs_are_told_to_programs_too(waybill: Waybill) -> None:
    waybill("run", "acme")
    done = json.loads(waybill("backfill", "acme", "user", "--from", "2026-05-28", "--to", "2026-05-30", "--json"))
    assert {key: done[key] for key in ("entity", "kind", "status", "error")} == {
        "entity": "user", "kind": "backfill", "status": "committed", "error": None,
    }  # fmt: skip
    again = json.loads(waybill("redeliver", done["delivery_id"], "--json"))
    assert (again["status"], again["rows"]) == ("committed", done["rows"])
    assert again["place"] != done["place"]


def test_a_healthy_installation_passes_the_doctor(waybill: Waybill) -> None:
    waybill("run", "acme")
    found = json.loads(waybill("doctor", "--json"))
    assert [item for item in found if item["status"] != "ok"] == []
    assert {"python", "versions", "configuration", "ledger", "disk", "archive", "source warehouse", "destination folder", "airflow"} <= {
        check["check"] for check in found
    }


def test_before_the_first_apply_the_doctor_looks_at_all_that_needs_no_ledger(waybill: Waybill, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
        monkeypatch.delenv(name)
    found = {load["check"]: load for load in json.loads(waybill("doctor", "--json"))}
    assert {name: value["status"] for name, value in found.items() if value["status"] != "ok"} == {
        "ledger": "warning",
        "destinations": "warning",
    }
    assert found["source warehouse"]["status"] == "ok"
    assert found["ledger"]["next_step"] == "The next `waybill apply` or run brings it there"
    monkeypatch.setenv("WAYBILL_LEDGER_URL", "postgresql+psycopg://nobody@127.0.0.1:1/none")
    found = {load["check"]: load["status"] for load in json.loads(waybill("doctor", "--json", status=1))}
    assert (found["ledger"], found["source warehouse"]) == ("failed", "ok")


def test_the_doctor_tells_what_would_stop_the_run_and_the_way_out(waybill: Waybill, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
        monkeypatch.delenv(name)  # parsing DAG files takes seconds each time, and is the subject of tests/airflow/test_doctor.py
    waybill("run", "acme")
    place.sql('alter table "user" drop column name')
    printed = waybill("doctor", status=1)
    assert "column name is missing from user" in printed
    (place.root / "warehouse.duckdb").unlink()
    assert "there is no such file" in waybill("doctor", status=1)
    place.write("catalog.yaml", {"entities": {}})
    assert "`waybill check` lists every mistake" in waybill("doctor", status=1)


def test_check_connect_tells_all_that_keeps_the_sources_from_being_read(waybill: Waybill, place: Place) -> None:
    entity = {key: value for key, value in USER.items() if key != "deleted_column"}
    place.write("catalog.yaml", catalog(user=USER, theme={**entity, "name": "theme", "relation": "theme", "key": ["id"]}))
    place.tenant(entityList=["user", "theme"])
    assert "valid" in waybill("check", "--connect")
    place.sql("insert into theme values ('acme', 1, 'a', now(), null), ('acme', 1, 'b', now(), null), ('globex', 2, 'a', null, null)")
    place.sql('alter table "user" drop column name')
    place.sql('alter table "user" drop column updated_at')
    printed = waybill("check", "--connect", status=1)
    assert "user: column name is missing from user" in printed
    assert "user: column updated_at is missing from user" in printed
    assert "the key (id) is not unique among the tenant's rows in theme" in printed
    assert "3 problems found" in printed
    waybill("check")
    waybill("apply")
    assert "the key (id) is not unique" in waybill("probe", "acme", "--source", status=1)
    place.tenant(entityList=["theme"], sourceTenant="globex")
    waybill("apply")
    assert "1 row of the tenant has no updated_at" in waybill("check", "--connect", status=1)


def test_a_terminal_gets_colours_and_a_pipe_gets_none(waybill: Waybill, place: Place) -> None:
    waybill("run", "acme")
    argv = [sys.executable, "-m", "waybill", "deliveries"]
    environment = {
        **os.environ,
        "WAYBILL_CONFIG_DIR": str(place.root / "config"),
        "PYTHONPATH": "include",
        "TERM": "xterm",
        "COLUMNS": "200",
    }
    piped = subprocess.run(argv, env=environment, capture_output=True, check=True, timeout=120).stdout
    assert b"\x1b[" not in piped
    ours, theirs = pty.openpty()
    with subprocess.Popen(argv, env=environment, stdout=theirs, stderr=theirs) as process:
        assert process.wait(120) == 0
    os.close(theirs)
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        assert b"\x1b[" in terminal.read(65536)
