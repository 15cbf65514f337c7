"""The operations on the command line: what they print, and 0 done, 1 refused with a message, 2 usage."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.faults.scenes import delta
from tests.installations import DAY, NOON, USER, Place, catalog, make_place
from waybill import layout
from waybill.cli.options import actor
from waybill.errors import PermanentError
from waybill.files.places import verify

MIDNIGHT = NOON.replace(hour=0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with closing(make_place(tmp_path_factory.mktemp("cli"))) as place:
        place.write("catalog.yaml", catalog(user=USER))
        place.tenant(entityList=["user"])
        place.user(1, "Ada", MIDNIGHT - 2 * DAY)
        place.run(NOON)
        place.run(NOON + DAY)
        yield place


@pytest.fixture
def waybill(place: Place, run_waybill: Callable[..., str]) -> Callable[..., str]:
    def run(*words: str, status: int = 0, **environment: str) -> str:
        return run_waybill(*words, status=status, **{"WAYBILL_CONFIG_DIR": str(place.root / "config"), **environment})

    return run


def test_verify_needs_no_ledger_and_tells_each_problem_on_a_line(waybill: Callable[..., str], place: Place, tmp_path: Path) -> None:
    nothing = {"WAYBILL_CONFIG_DIR": str(tmp_path / "none"), "WAYBILL_LEDGER_URL": "postgresql+psycopg://nobody@127.0.0.1:1/none"}
    assert waybill("verify", str(place.out), **nothing).endswith("in 1 stream: all as delivered\n")
    stray = place.out / "exports/acme/2026/05/31/user/user.g1.9.csv"
    stray.write_text("id\n")
    printed = waybill("verify", str(place.out), status=1)
    assert printed.splitlines()[0] == "/exports/acme/2026/05/31/user/user.g1.9.csv: no manifest lists it: not delivered (or not yet)"
    assert json.loads(waybill("verify", str(place.out), "--json", status=1))["whole"] is False
    stray.unlink()
    assert "is not a folder" in waybill("verify", str(tmp_path / "none"), status=1)
    waybill("verify", status=2)


def test_a_run_tells_what_it_delivered_also_if_the_day_cannot_be_closed(run_waybill: Callable[..., str], tmp_path: Path) -> None:
    with closing(make_place(tmp_path)) as place:
        place.write("catalog.yaml", catalog(user=USER))
        place.tenant(entityList=["user"])
        place.user(1, "Ada", MIDNIGHT - 2 * DAY)
        foreign = place.out / "exports/acme/2026/05/31" / layout.day_manifest_name(1)
        foreign.parent.mkdir(parents=True)
        foreign.write_text("{}")
        words = ["run", "acme", "--until", NOON.isoformat()]
        printed = run_waybill(*words, status=1, WAYBILL_CONFIG_DIR=str(tmp_path / "config"))
        assert printed.startswith("committed  user")
        assert str(foreign.name) in printed


def test_backfill_and_redeliver_print_where_the_file_is_and_refuse_with_a_message(waybill: Callable[..., str]) -> None:
    span = ["--from", "2026-05-29T00:00:00Z", "--to", "2026-05-30T00:00:00Z"]
    first = waybill("backfill", "acme", "user", *span)
    assert "/2026/05/30/user/backfill-" in first
    assert waybill("backfill", "acme", "user", *span).split()[0] == "verified"
    assert "not an RFC 3339 time with an" in waybill("backfill", "acme", "user", "--from", "2026-05-29T00:00", *span[2:], status=2)
    assert "is no date" in waybill("backfill", "acme", "user", "--from", "2026-05-39", *span[2:], status=2)
    assert "is no date" in waybill("backfill", "acme", "user", "--from", "0001-01-01", *span[2:], status=2)
    assert "is no date" in waybill("backfill", "acme", "user", *span[:2], "--to", "9999-12-31", status=2)
    assert "--from" in waybill("backfill", "acme", "user", *span[2:], status=2)
    assert "does not receive site" in waybill("backfill", "acme", "site", *span, status=1)
    assert "does not receive usr (allowed: user; did you mean user?)" in waybill("backfill", "acme", "usr", *span, status=1)
    refused = waybill("run", "acme", "--entity", "usr", status=1)
    assert refused.strip() == "the tenant acme does not receive usr (allowed: user; did you mean user?)"
    assert waybill("run", "nobody", status=1).startswith("the tenant 'nobody' is not registered")
    delivery = json.loads(waybill("deliveries", "acme", "--json"))[-1]["delivery_id"]
    assert "/user.g1.1.r1.csv" in waybill("redeliver", delivery)
    assert "there is no delivery" in waybill("redeliver", "0" * 32, status=1)


def test_probe_reconcile_and_housekeeping_tell_what_they_found(waybill: Callable[..., str]) -> None:
    assert "rename onto an existing file     refused" in waybill("probe", "acme")
    assert json.loads(waybill("probe", "acme", "--json"))["profile"] == "full"
    assert "is not registered" in waybill("probe", "nobody", status=1)
    assert waybill("reconcile", "acme") == "acme: 0 imported, 0 differences, 0 problems\n"
    removed, exports = waybill("housekeeping").splitlines()
    assert removed.startswith("removed 0 unfinished parts")
    assert exports == "exports: 0 expired, 0 given up as stalled, 0 left the history, 0 files of theirs removed"
    assert json.loads(waybill("housekeeping", "--json"))["failed"] == {}


@pytest.mark.parametrize("command", ["run", "reconcile"])
def test_a_tenants_bad_file_leaves_the_last_good_version_loudly(waybill: Callable[..., str], place: Place, command: str) -> None:
    place.tenant(entityList=["user"], frequency="now and then")
    assert "config/tenants/acme.yaml: frequency" in waybill(command, "acme")
    place.tenant(entityList=["user"])


def test_a_rehearsed_mass_deactivation_shows_the_plan_and_then_the_refusal(waybill: Callable[..., str], place: Place) -> None:
    (place.root / "config/tenants/acme.yaml").unlink()
    plan, _, refusal = waybill("apply", "--dry-run", status=1).partition("0 unchanged\n")
    assert plan.startswith("- acme  (config/tenants/acme.yaml)\n")
    assert refusal.startswith(
        "this would deactivate 1 of 1 active tenants: acme (allowed: at most a quarter at once). Nothing was applied."
    )
    assert "would deactivate" not in waybill("apply", "--dry-run", "--allow-mass-deactivation")
    assert not place.installation().registered("acme").registration.is_disabled


COMMANDS = [
    "check",
    "apply",
    "plan",
    "run",
    "deliveries",
    "status",
    "doctor",
    "init",
    "discover",
    "redeliver",
    "backfill",
    "probe",
    "verify",
    "reconcile",
    "fulfil",
    "housekeeping",
]


@pytest.mark.parametrize("command", [*COMMANDS, "ledger", "demo", "serve", "schema"])
def test_every_command_explains_itself(waybill: Callable[..., str], command: str) -> None:
    assert f"waybill {command}" in waybill(command, "--help")


@pytest.mark.parametrize(
    "csv", [{}, {"compression": "gzip"}, {"max_rows_per_file": 1, "compression": "zstd"}], ids=["plain", "gzip", "parts"]
)
@pytest.mark.parametrize("root", ["out", "/"], ids=["relative", "absolute"])
def test_the_paths_that_commands_print_exist(run_waybill: Callable[..., str], tmp_path: Path, csv: dict[str, Any], root: str) -> None:
    with closing(make_place(tmp_path)) as place:
        place.write("catalog.yaml", catalog(user=USER))
        out = str(tmp_path / "elsewhere") if root == "/" else root
        place.tenant(entityList=["user"], csv=csv, destination={"kind": "folder", "root": out})
        for number in (1, 2):
            place.user(number, "Ada", MIDNIGHT - 2 * DAY)
        environment = {"WAYBILL_CONFIG_DIR": str(tmp_path / "config")}
        planned = run_waybill("plan", "acme", "--until", "2026-05-31T12:00:00Z", **environment).split()[-1]
        said = [run_waybill("run", "acme", "--until", "2026-05-31T12:00:00Z", *more, **environment) for more in ((), ("--full-load",))]
        assert [line.split()[-1].endswith(planned) for line in said] == [True, False]
        said.append(run_waybill("backfill", "acme", "user", "--from", "2026-05-29", "--to", "2026-05-30", **environment))
        delivery = json.loads(run_waybill("deliveries", "acme", "--json", **environment))[-1]["delivery_id"]
        said.append(run_waybill("redeliver", delivery, **environment))
        for line in said:
            path = Path(re.findall(r" (/\S+)", line)[-1])
            assert path.is_dir() if "max_rows_per_file" in csv else path.is_file(), line


def test_a_run_that_tells_known_rows_from_new_ones_does_not_pay_for_importing_pandas(tmp_path: Path) -> None:
    """It takes a third of a second in each process, and `pyarrow.array` imports it on its first call."""
    scene = delta(tmp_path / "scene")
    code = "import atexit, sys; from waybill.cli.app import main; atexit.register(lambda: print('pandas' in sys.modules)); main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *scene.argv],
        env={**os.environ, "WAYBILL_CONFIG_DIR": str(scene.root / "config"), "PYTHONPATH": "include:consumer/src"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert "4 rows" in done.stdout
    assert done.stdout.endswith("\nFalse\n")


@pytest.mark.parametrize("until", ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+05:00"])
def test_a_time_beyond_the_calendar_is_a_mistake_of_whoever_wrote_it(waybill: Callable[..., str], until: str) -> None:
    assert "is not an RFC 3339 time" in waybill("plan", "acme", "--until", until, status=2)


def test_an_account_without_a_name_is_known_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """As containers run under OpenShift."""

    def nobody(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert actor() == f"cli:{os.getuid()}"
    with pytest.raises(PermanentError, match="no name to log in with"):
        verify("sftp://files.example.com/exports", {}.__getitem__, key=Path("key"))
