"""What only the folder destination does; what all destinations share is in tests/destinations/test_sftp_destinations_agree.py."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from waybill.destinations.base import Profile
from waybill.destinations.folder import Folder, FolderSession
from waybill.destinations.local_files import rename_new, translated
from waybill.errors import ConflictError, PermanentError, TransientError

pytestmark = pytest.mark.fast

ATTEMPT = "0" * 32


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "made" / "on demand"


@pytest.fixture
def session(root: Path) -> Iterator[FolderSession]:
    with Folder(root).connect() as session:
        yield session


def test_a_missing_root_is_made(session: FolderSession, root: Path) -> None:
    session.prepare("/exports/acme")
    assert (root / "exports" / "acme").is_dir()


@pytest.mark.parametrize("below", ["file", "file/deeper"])
def test_a_root_that_cannot_be_made_is_named_with_what_to_do(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PermanentError, match="Make it there, or correct the root") as caught, Folder(tmp_path / below).connect():
        pass
    assert caught.value.code == "root_missing"
    assert str(tmp_path / below) in str(caught.value)


@pytest.mark.parametrize("name", ["d" * 300, "/".join(["d" * 200] * 30)], ids=["name", "path"])
def test_a_root_of_a_name_that_no_system_takes_is_refused_for_good(tmp_path: Path, name: str) -> None:
    with pytest.raises(PermanentError, match="could not open the root folder: File name too long"), Folder(tmp_path / name).connect():
        pass


def test_a_published_file_keeps_one_name_only(session: FolderSession, root: Path) -> None:
    session.prepare("/a")
    session.upload("/a/.user.csv.part", [b"id\n", b"1\n"])
    assert session.publish("/a/.user.csv.part", "/a/user.csv")
    assert list((root / "a").iterdir()) == [root / "a" / "user.csv"]
    assert (root / "a" / "user.csv").stat().st_nlink == 1


def test_a_hidden_folder_becomes_visible_in_one_step_and_never_over_another(session: FolderSession, root: Path) -> None:
    for attempt in ("1", "2"):
        session.prepare(f"/a/.user.{attempt}.part")
        session.upload(f"/a/.user.{attempt}.part/user-0001.csv", [attempt.encode()])
    assert session.publish("/a/.user.1.part", "/a/user")
    assert not session.publish("/a/.user.2.part", "/a/user")
    assert (root / "a" / "user" / "user-0001.csv").read_bytes() == b"1"


def test_an_empty_folder_is_not_taken_over_by_a_rename(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "final").mkdir()
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(FileExistsError):
            rename_new("part", "final", folder, folder)
    finally:
        os.close(folder)


@pytest.mark.parametrize("path", ["exports/a", "/exports/../etc", "//etc", "/exports/", "/a\0b", "/./a", ""])
def test_paths_that_could_lead_elsewhere_are_refused(session: FolderSession, path: str) -> None:
    with pytest.raises(PermanentError, match="not a path below the root"):
        session.size(path)


def test_a_symlinked_folder_is_never_followed(session: FolderSession, root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "user.csv").write_text("foreign")
    (root / "exports").symlink_to(elsewhere)
    for call in (session.prepare, session.size, session.sha256, session.read, session.remove):
        with pytest.raises(ConflictError, match="/exports is a symlink"):
            call("/exports/user.csv")
    with pytest.raises(ConflictError):
        session.upload("/exports/.x.part", [b"x"])
    assert list(elsewhere.iterdir()) == [elsewhere / "user.csv"]


def test_a_source_that_fails_leaves_no_part_and_keeps_its_own_error(session: FolderSession, root: Path) -> None:
    def rows() -> Iterator[bytes]:
        yield b"id\n"
        raise RuntimeError("the query was cancelled")

    session.prepare("/a")
    with pytest.raises(RuntimeError, match="cancelled"):
        session.upload("/a/.user.part", rows())
    assert list((root / "a").iterdir()) == []


def test_a_part_that_is_already_there_is_left_alone(session: FolderSession, root: Path) -> None:
    session.upload("/.user.part", [b"first"])
    with pytest.raises(TransientError, match=r"\.user\.part: File exists"):
        session.upload("/.user.part", [b"second"])
    assert (root / ".user.part").read_bytes() == b"first"


def test_a_full_disk_is_told_as_such() -> None:
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(TransientError, match="No space left on device") as caught,
        translated("folder /x", "write", "/a"),
    ):
        full.write(b"x")
    assert caught.value.code == "disk_full"


def test_only_own_hidden_folders_are_removed(session: FolderSession, root: Path) -> None:
    session.prepare("/a/user")
    with pytest.raises(ConflictError, match="move it away"):
        session.remove("/a/user")
    session.prepare(f"/a/.user.{ATTEMPT}.part/inner")
    session.upload(f"/a/.user.{ATTEMPT}.part/inner/x", [b"x"])
    session.remove(f"/a/.user.{ATTEMPT}.part")
    assert list((root / "a").iterdir()) == [root / "a" / "user"]


def test_a_probe_leaves_nothing_behind(session: FolderSession, root: Path) -> None:
    probe = session.probe("/exports/acme")
    assert probe.profile is Profile.FULL
    assert probe.free_bytes
    assert ("rename onto an existing file", "refused") in probe.steps
    assert list(root.iterdir()) == []


def test_a_listing_holds_what_stays_while_somebody_collects_the_rest(session: FolderSession, root: Path) -> None:
    session.prepare("/a")
    session.upload("/a/stays", [b"1"])
    ended = threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            names = [root / "a" / f"user-{number:04d}.csv" for number in range(300)]
            for path in names:
                path.touch()
            for path in names:
                path.unlink()

    with ThreadPoolExecutor(1) as consumer:
        running = consumer.submit(come_and_go)
        found = ["/a/stays" in [item.path for item in session.entries("/a")] for _ in range(500)]
        ended.set()
        running.result()
    assert all(found)


class TakenAtOnce(FolderSession):
    """A folder whose consumer collects each file in the moment after somebody looked at it."""

    def size(self, path: str) -> int | None:
        found = super().size(path)
        self.remove(path)
        return found


def test_a_file_that_is_collected_between_a_look_and_reading_is_gone(session: FolderSession) -> None:
    session.prepare("/a")
    taken = TakenAtOnce(session.label, session._root)
    for read in (taken.read, taken.sha256):
        session.upload("/a/user.csv", [b"1"])
        assert read("/a/user.csv") is None
