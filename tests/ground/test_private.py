"""What Waybill writes for itself cannot be read by another account of the machine, whatever the umask is."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installations import DAY, NOON, Place, make_place
from waybill import private
from waybill.airflow import open_installation
from waybill.configuration.loading import Settings
from waybill.deliveries.publishing.upload import SpoolFile
from waybill.errors import PermanentError, TransientError, WaybillError
from waybill.ledger import Ledger
from waybill.ledger.database.engine import new_id
from waybill.sources.duckdb.spill import spill_folder
from waybill_demo.stage import swept

NOBODY = 65534


def readable_by_another_account(folder: Path) -> set[str]:
    """The files below a folder that another account can open: tried as nobody by root, told from modes by anybody else."""
    if os.geteuid() == 0:
        look = ["find", folder, "-type", "f", "-readable", "-printf", "%P\n"]  # it asks the kernel, access(2), for this account
        looked = subprocess.run(look, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", check=False, capture_output=True, timeout=60)
        return set(looked.stdout.decode().splitlines())
    found = set()
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if Path(place, name).stat().st_mode & stat.S_IXOTH]
        found |= {str(Path(place, name).relative_to(folder)) for name in files if Path(place, name).stat().st_mode & stat.S_IROTH}
    return found


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in folder.rglob("*")}


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder every account may look into; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=["everything_allowed", "usual", "strict"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def place(open_folder: Path) -> Iterator[Place]:
    made = make_place(open_folder, clock=NOON)
    yield made
    made.close()


@pytest.mark.parametrize("mask", [0o000, 0o022], ids=["everything_allowed", "usual"])
def test_after_a_delivery_another_account_reads_what_is_delivered_and_nothing_waybill_keeps(place: Place, mask: int) -> None:
    before = os.umask(mask)
    try:
        place.user(1, "ada", NOON - DAY)
        place.run(NOON)
        ledger = place.installation().ledger
        with ledger.begin():
            kept = readable_by_another_account(place.root / ".waybill")
            found = modes(place.root / ".waybill")
    finally:
        os.umask(before)
    assert kept == set()
    assert {name for name in found if name.startswith("ledger.db")} == {"ledger.db", "ledger.db-wal", "ledger.db-shm"}
    assert any(name.startswith("archive/deliveries/") for name in found)
    assert {name: oct(mode) for name, mode in found.items() if mode not in (0o600, 0o700)} == {}
    assert {f"out/{name}" for name in place.files()} <= readable_by_another_account(place.root)  # the consumer's, by the umask


def test_files_and_folders_have_their_modes_whatever_the_umask_is(tmp_path: Path, umask: int) -> None:
    private.make_folder(tmp_path / "a/b")
    private.create(tmp_path / "a/b/c").close()
    private.write_text(tmp_path / "a/d", "text")
    with spill_folder() as spilled:
        assert stat.S_IMODE(Path(spilled).stat().st_mode) == 0o700
        assert set(modes(Path(spilled)).values()) == {0o600}
    assert modes(tmp_path) == {"a": 0o700, "a/b": 0o700, "a/b/c": 0o600, "a/d": 0o600}


def test_a_wider_mode_found_at_start_is_told_and_narrowed(open_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings.from_environment({"WAYBILL_CONFIG_DIR": str(open_folder / "config")})
    Ledger(settings.ledger_url).ready()
    (open_folder / ".waybill/archive/deliveries/one").mkdir(parents=True)
    (open_folder / ".waybill/archive/deliveries/one/user.csv").write_text("id\n1\n")
    (open_folder / ".waybill/spool").mkdir()
    for path in [*(open_folder / ".waybill").rglob("*"), open_folder / ".waybill"]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert readable_by_another_account(open_folder) >= {".waybill/ledger.db", ".waybill/archive/deliveries/one/user.csv"}

    with caplog.at_level(logging.WARNING):
        open_installation(settings).ledger.close()

    assert readable_by_another_account(open_folder) == set()
    assert {oct(mode) for mode in modes(open_folder).values()} == {"0o600", "0o700"}
    told = "\n".join(caplog.messages)
    assert f"{open_folder / '.waybill'} was open to other accounts (mode 0755) and is 0700 now" in told
    caplog.clear()
    open_installation(settings).ledger.close()
    assert caplog.messages == []


def test_a_ledger_beside_other_peoples_files_is_narrowed_and_they_are_not(open_folder: Path) -> None:
    (open_folder / "shared").mkdir(mode=0o755)
    (open_folder / "shared/theirs.txt").write_text("theirs")
    (open_folder / "shared/ledger.db").touch(mode=0o644)
    ledger = Ledger(f"sqlite:///{open_folder}/shared/ledger.db")
    ledger.ready()
    with ledger.begin():
        assert readable_by_another_account(open_folder) == {"shared/theirs.txt"}
    ledger.close()


def test_what_a_demo_keeps_is_closed_and_a_link_in_it_is_left_alone(open_folder: Path, umask: int) -> None:
    (open_folder / "theirs.txt").write_text("theirs")
    (open_folder / "theirs.txt").chmod(0o644)
    (open_folder / "demo").mkdir(mode=0o755)
    (open_folder / "demo").chmod(0o755)
    (open_folder / "demo/link").symlink_to(open_folder / "theirs.txt")
    with swept(open_folder / "demo"):
        (open_folder / "demo/airflow").mkdir()
        (open_folder / "demo/airflow/airflow.db").write_text("passwords")
        assert readable_by_another_account(open_folder) == {"theirs.txt"}
        assert {oct(mode) for name, mode in modes(open_folder).items() if name.startswith("demo/")} == {"0o600", "0o700"}


def test_what_another_account_left_in_the_temporary_folder_holds_nobody_up(open_folder: Path) -> None:
    if os.geteuid() == 0:  # nobody else can give a folder to another account
        (open_folder / "waybill-duckdb-theirs").mkdir(mode=0o755)
        os.mkfifo(open_folder / "waybill-duckdb-theirs/in-use", 0o666)
        os.chown(open_folder / "waybill-duckdb-theirs", NOBODY, NOBODY)
    (open_folder / "waybill-duckdb-killed").mkdir(mode=0o700)
    (open_folder / "waybill-duckdb-killed/in-use").touch()
    script = "from waybill.sources.duckdb.spill import spill_folder\nwith spill_folder(): pass"
    subprocess.run([sys.executable, "-c", script], env=os.environ | {"TMPDIR": str(open_folder)}, check=True, timeout=60)
    assert {path.name for path in open_folder.iterdir()} <= {"waybill-duckdb-theirs"}


@pytest.mark.parametrize(
    ("number", "kind", "step"),
    [
        (errno.ENOSPC, TransientError, "Free disk space or set WAYBILL_SPOOL_DIR to a larger disk"),
        (errno.EDQUOT, TransientError, "Free disk space or set WAYBILL_SPOOL_DIR to a larger disk"),
        (errno.EIO, TransientError, "Check WAYBILL_SPOOL_DIR and the disk behind it"),
        (errno.EMFILE, TransientError, "Check WAYBILL_SPOOL_DIR and the disk behind it"),
        (errno.EROFS, PermanentError, "Let WAYBILL_SPOOL_DIR name a folder that this account may write to"),
        (errno.EACCES, PermanentError, "Let WAYBILL_SPOOL_DIR name a folder that this account may write to"),
        (errno.ENOTDIR, PermanentError, "Let WAYBILL_SPOOL_DIR name a folder that this account may write to"),
    ],
)
def test_what_a_disk_of_this_machine_refuses_is_tried_again_only_if_that_can_help(number: int, kind: type[WaybillError], step: str) -> None:
    found = private.not_written(OSError(number, os.strerror(number)), "cannot write", "spool", "WAYBILL_SPOOL_DIR", "spool")
    assert (type(found), found.next_step) == (kind, step)
    assert found.what == f"cannot write: {os.strerror(number)}"


def test_a_spool_that_is_no_folder_needs_somebody(tmp_path: Path) -> None:
    (tmp_path / "spool").touch()
    with pytest.raises(PermanentError, match="cannot write the spool file"):
        SpoolFile(tmp_path / "spool" / new_id() / "user.csv")


def test_a_folder_that_the_ledgers_url_names_by_mistake_keeps_its_mode(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    Ledger(f"sqlite:///{folder}").close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
