"""What can happen to the ledger: locked, gone at any step, corrupt, or older than the files."""

import contextlib
import shutil
import signal
import sqlite3
import threading

import pytest

from tests.faults import FULL, scenes
from tests.faults.oracle import PLANTED, judge, leaks, unclear, watched
from tests.faults.sweep import copied, housekept
from tests.servers.postgres import serve_postgres

STEPS = [
    r"^mkdirat user",
    r"^fsync .*spool/.*user",
    r"^linkat user\.csv",
    r"^linkat user\.manifest",
    r"^rename .*archive",
    r"^linkat _MANIFEST",
]


@pytest.fixture(scope="module")
def delta(tmp_path_factory):
    return scenes.delta(tmp_path_factory.mktemp("scene") / "delta")


@pytest.mark.parametrize("seconds", [2, 33] if FULL else [2])
def test_a_ledger_that_is_locked_is_waited_for_and_then_told(launcher, delta, tmp_path, seconds):
    scene, env = copied(delta, tmp_path / "copy")
    other = sqlite3.connect(scene.root / ".waybill/ledger.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(seconds, other.execute, ["ROLLBACK"])
    timer.start()
    done = launcher.run(scene.root, *scene.argv, env=env)
    timer.join()
    other.close()
    assert done.status == (0 if seconds < 30 else 1), done.said
    assert seconds < 30 or unclear(done.err, "ledger", "locked", "check") == []
    assert launcher.run(scene.root, *scene.argv, env=env).status == 0
    assert judge(scene.out, dict(scene.versions)) == []


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "crashed"])
def test_a_ledger_that_goes_away_at_any_step_is_told_and_made_good(launcher, tmp_path, stop):
    """PostgreSQL, stopped while a run stands before a visible step, and started again afterwards."""
    with serve_postgres() as cluster:
        for step in STEPS if FULL else STEPS[2:4]:
            with cluster.database() as database:
                url = database.url.replace(f"{database.user}@", f"{database.user}:{PLANTED}@")
                scene = scenes.first(tmp_path / f"{STEPS.index(step)}")
                env = {"WAYBILL_LEDGER_URL": url}
                assert launcher.run(scene.root, "ledger", "upgrade", env=env).status == 0
                with watched(scene.out) as seen:
                    run = launcher.start(scene.root, *scene.argv, env=env, hold=step)
                    run.held()
                    cluster.stop(stop)
                    run.go()
                    done = run.wait()
                    cluster.start()
                    again = launcher.run(scene.root, *scene.argv, env=env)
                assert done.status == 1
                assert unclear(done.err, "tenant acme", "ledger", "does not answer", "WAYBILL_LEDGER_URL") == []
                assert again.status == 0, again.said
                assert seen + judge(scene.out, dict(scene.versions)) + housekept(launcher, scene, env) == []
                assert leaks([scene.root], done.said + again.said) == []


def test_a_ledger_restored_from_an_old_backup_meets_newer_files_stops_and_is_reconciled(launcher, delta, tmp_path):
    scene, env = copied(delta, tmp_path / "copy")
    ledger, backup = scene.root / ".waybill", tmp_path / "backup"
    shutil.copytree(ledger, backup)
    assert launcher.run(scene.root, *scene.argv, env=env).status == 0
    before = {path: path.read_bytes() for path in scene.out.rglob("*") if path.is_file()}
    shutil.rmtree(ledger)
    shutil.copytree(backup, ledger)
    done = launcher.run(scene.root, *scene.argv, env=env)
    assert done.status == 1
    assert unclear(done.err, "tenant acme", "entity ", "folder", "_MANIFEST.json tells of", "waybill reconcile") == []
    assert {path: path.read_bytes() for path in scene.out.rglob("*") if path.is_file() and not path.name.startswith(".")} == before
    reconciled = launcher.run(scene.root, "reconcile", "acme", env=env)
    assert reconciled.status == 0, reconciled.said
    again = launcher.run(scene.root, *scene.argv, env=env)
    assert again.status == 0, again.said
    assert judge(scene.out, dict(scene.versions)) + housekept(launcher, scene, env) == []


def test_a_corrupt_ledger_is_told_and_nothing_is_delivered_twice(launcher, delta, tmp_path):
    scene, env = copied(delta, tmp_path / "copy")
    ledger = scene.root / ".waybill/ledger.db"
    with contextlib.closing(sqlite3.connect(ledger)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    good = ledger.read_bytes()
    ledger.write_bytes(b"not a database at all, not even nearly" * 200)
    done = launcher.run(scene.root, *scene.argv, env=env)
    assert done.status == 1
    assert unclear(done.err, "ledger") == []
    ledger.write_bytes(good)
    assert launcher.run(scene.root, *scene.argv, env=env).status == 0
    assert judge(scene.out, dict(scene.versions)) == []


def test_a_run_that_waits_for_a_dead_ledger_ends_in_bounded_time(launcher, tmp_path):
    scene = scenes.first(tmp_path / "first")
    ledger = "postgresql+psycopg://waybill@127.0.0.1:1/waybill"
    done = launcher.run(scene.root, *scene.argv, env={"WAYBILL_LEDGER_URL": ledger})  # fails when it hangs
    assert unclear(done.err, "ledger", "127.0.0.1", "WAYBILL_LEDGER_URL") == []
