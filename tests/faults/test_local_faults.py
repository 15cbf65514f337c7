"""What this machine can do to a run: full and failing disks, limits, damaged files. Nothing is lost, and the message says what to do."""

import signal
from pathlib import Path

import pytest

from tests.faults import FULL, scenes
from tests.faults.oracle import judge, unclear, visible, watched
from tests.faults.sweep import copied, housekept


@pytest.fixture(scope="module")
def delta(tmp_path_factory):
    return scenes.delta(tmp_path_factory.mktemp("scene") / "delta")


def recovers(launcher, scene, env, *, status=0):
    """The next run makes it good; the oracle finds nothing."""
    done = launcher.run(scene.root, *scene.argv, env=env)
    assert done.status == status, done.said
    assert judge(scene.out, dict(scene.versions)) + housekept(launcher, scene, env) == []


@pytest.mark.parametrize(
    ("error", "number"), [(error, number) for number in range(1, 7) for error in ("EIO", "ENOSPC")] if FULL else [("ENOSPC", 2), ("EIO", 3)]
)
def test_a_disk_that_cannot_keep_what_was_written_delays_a_delivery_and_damages_none(launcher, delta, tmp_path, error, number):
    scene, env = copied(delta, tmp_path / "copy")
    with watched(scene.out) as seen:
        done = launcher.start(scene.root, *scene.argv, env=env, inject=f"fsync:error={error}:when={number}").wait()
    if done.status:
        assert unclear(done.err, "tenant acme", "entity", "folder") == []
    recovers(launcher, scene, env)
    assert seen == []


def test_a_spool_that_outgrows_its_disk_is_told_and_delivered_when_there_is_room(launcher, tmp_path):
    scene, env = copied(scenes.large(tmp_path / "large"), tmp_path / "copy")
    with watched(scene.out) as seen:
        done = launcher.run(scene.root, *scene.argv, env=env, limits={"RLIMIT_FSIZE": 600_000})
    assert done.status == 1
    assert unclear(done.err, "tenant acme", "entity user", "folder", "cannot write the spool file", "WAYBILL_SPOOL_DIR") == []
    recovers(launcher, scene, env)
    assert seen == []


@pytest.mark.parametrize(
    ("error", "says", "step"),
    [
        ("ENOSPC", "the archive is full", "Free space"),
        ("EDQUOT", "the archive is full", "Free space"),
        ("EROFS", "the archive refuses this account: Read-only file system", "mount that disk writable"),
        ("EACCES", "the archive refuses this account: Permission denied", "the right to write below WAYBILL_ARCHIVE_URL"),
        ("EIO", "the archive cannot be reached: Input/output error", "Check WAYBILL_ARCHIVE_URL"),
    ],
)
def test_an_archive_that_takes_nothing_is_told_as_what_it_is_and_holds_no_delivery_up(launcher, delta, tmp_path, error, says, step):
    scene, env = copied(delta, tmp_path / "copy")
    archive = tmp_path / "archive"
    env = {**env, "WAYBILL_ARCHIVE_URL": str(archive)}
    done = launcher.start(scene.root, *scene.argv, env=env, inject=f"mkdir:error={error}", only=str(archive / "deliveries")).wait()
    assert done.status == 0, done.said
    assert [part for part in ("are not kept yet", says, step) if part not in done.said] == []
    assert judge(scene.out, dict(scene.versions)) == []


@pytest.mark.parametrize("kind", ["a file", "missing rights"])
def test_a_spool_folder_that_cannot_be_used_is_named(launcher, delta, tmp_path, kind):
    scene, env = copied(delta, tmp_path / "copy")
    spool = tmp_path / "spool"
    spool.touch() if kind == "a file" else spool.symlink_to("/proc/1/spool")
    done = launcher.run(scene.root, *scene.argv, env={**env, "WAYBILL_SPOOL_DIR": str(spool)})
    assert done.status == 1
    assert unclear(done.err, "tenant acme", "entity user", "spool", "WAYBILL_SPOOL_DIR") == []
    recovers(launcher, scene, env)


@pytest.mark.parametrize("files", range(7, 40) if FULL else [8, 13, 20])
def test_too_few_file_descriptors_delay_a_delivery_and_damage_none(launcher, delta, tmp_path, files):
    scene, env = copied(delta, tmp_path / "copy")
    with watched(scene.out) as seen:
        done = launcher.run(scene.root, *scene.argv, env=env, limits={"RLIMIT_NOFILE": files})
    assert done.status in (0, 1, -signal.SIGABRT), done.said  # DuckDB's own library aborts when it cannot open what it must
    assert done.status != 1 or unclear(done.err) == []
    recovers(launcher, scene, env)
    assert seen == []


@pytest.mark.parametrize("megabytes", range(10, 600, 30) if FULL else [100])
def test_too_little_memory_delays_a_delivery_and_damages_none(launcher, tmp_path, megabytes):
    scene, env = copied(scenes.large(tmp_path / "large"), tmp_path / "copy")
    with watched(scene.out) as seen:
        done = launcher.run(scene.root, *scene.argv, env=env, limits={"RLIMIT_AS": launcher.memory() + megabytes * 1_000_000})
    assert done.status != 0 or judge(scene.out, dict(scene.versions)) == []
    recovers(launcher, scene, env)
    assert seen == []


def spooled(root: Path) -> list[Path]:
    """The files on their way; the folder of an attempt may vanish while it is looked into."""
    try:
        return list(root.glob(".waybill/spool/*/user*"))
    except FileNotFoundError:
        return []


def test_a_spool_file_that_changes_under_the_upload_is_not_delivered(launcher, delta, tmp_path):
    scene, env = copied(delta, tmp_path / "copy")
    run = launcher.start(scene.root, *scene.argv, env=env, hold=r"^openat \.user\.csv")
    run.held()
    while not (spool := spooled(scene.root)) or spool[0].stat().st_size < 100:
        pass
    with spool[0].open("r+b") as file:
        file.seek(60)
        file.write(b"X")
    run.go()
    done = run.wait()
    assert done.status == 1
    assert unclear(done.err, "tenant acme", "entity user", "folder", "differ from the extracted", "check") == []
    recovers(launcher, scene, env)


def test_a_broken_tenant_file_keeps_the_last_good_version_and_is_told(launcher, delta, tmp_path):
    scene, env = copied(delta, tmp_path / "copy")
    file = scene.root / "config/tenants/acme.yaml"
    file.write_text(file.read_text() + "\nfrequency: [daily\n")
    done = launcher.run(scene.root, *scene.argv, env=env)
    assert unclear(done.err, "tenants/acme.yaml", "line") == []
    assert judge(scene.out, dict(scene.versions)) == []


def test_a_broken_catalog_stops_everything_before_anything_happens(launcher, delta, tmp_path):
    scene, env = copied(delta, tmp_path / "copy")
    before = visible(scene.out)
    file = scene.root / "config/catalog.yaml"
    good = file.read_text()
    file.write_text(good.replace("tenant_column: tenant_id", "tenant_colum: tenant_id"))
    done = launcher.run(scene.root, *scene.argv, env=env)
    assert done.status == 1
    assert unclear(done.err, "catalog.yaml", "tenant_colum", "did you mean tenant_column") == []
    assert visible(scene.out) == before
    file.write_text(good)
    recovers(launcher, scene, env)


@pytest.mark.parametrize("place", ["exports/acme/2026/06", "exports/acme/2026/06/01/user"], ids=["month", "entity"])
def test_a_symlink_planted_in_the_root_leads_nowhere(launcher, delta, tmp_path, place):
    scene, env = copied(delta, tmp_path / "copy")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = scene.out / place
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(elsewhere)
    done = launcher.run(scene.root, *scene.argv, env=env)
    assert done.status == 1
    assert unclear(done.err, "tenant acme", "entity user", "folder", "symlink", "move it away") == []
    assert list(elsewhere.iterdir()) == []
    link.unlink()
    recovers(launcher, scene, env)


@pytest.mark.parametrize("name", ["user.csv", "user.manifest.json"])
def test_a_foreign_file_under_a_final_name_is_left_as_it_is(launcher, delta, tmp_path, name):
    scene, env = copied(delta, tmp_path / "copy")
    foreign = scene.out / "exports/acme/2026/06/01/user" / name
    foreign.parent.mkdir(parents=True)
    foreign.write_text("theirs\n")
    done = launcher.run(scene.root, *scene.argv, env=env)
    assert done.status == 1
    assert unclear(done.err, "tenant acme", "entity user", "folder", name, "move") == []
    assert foreign.read_text() == "theirs\n"
    assert Path(scene.out, "exports/acme/2026/06/01/theme/theme.manifest.json").exists()
    foreign.unlink()
    if not any(foreign.parent.iterdir()):
        foreign.parent.rmdir()  # as if a delivery had made it that the ledger has lost
    recovers(launcher, scene, env)


def test_a_manifest_edited_by_the_consumer_harms_no_later_delivery(launcher, delta, tmp_path):
    scene, env = copied(delta, tmp_path / "copy")
    manifest = scene.out / "exports/acme/2026/05/31/user/user.manifest.json"
    good = manifest.read_text()
    manifest.write_text(good.replace('"rows": 7', '"rows": 6'))
    done = launcher.run(scene.root, *scene.argv, env=env)
    assert done.status == 0, done.said
    manifest.write_text(good)
    assert judge(scene.out, dict(scene.versions)) == []


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ('insert into "user" select * from "user" where id = 8', "not unique"),
        ('update "user" set updated_at = null where id = 8', "no updated_at"),
        ('alter table "user" rename column name to full_name', "full_name"),
        ('alter table "user" alter column id type varchar', "column id"),
    ],
    ids=["key not unique", "change column with NULLs", "renamed column", "retyped column"],
)
def test_a_source_that_would_lose_or_repeat_rows_stops_its_own_stream_only(launcher, delta, tmp_path, statement, says):
    scene, env = copied(delta, tmp_path / "copy")
    warehouse = scene.root / "warehouse.duckdb"
    good = warehouse.read_bytes()
    scenes.Place(scene.root).sql(statement)
    done = launcher.run(scene.root, *scene.argv, env=env)
    assert done.status == 1
    assert unclear(done.err, "tenant acme", "entity user", "folder", says) == []
    assert Path(scene.out, "exports/acme/2026/06/01/theme/theme.manifest.json").exists()
    warehouse.write_bytes(good)
    recovers(launcher, scene, env)
