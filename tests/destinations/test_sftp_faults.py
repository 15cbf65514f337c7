"""Servers that fail, lie, stall or allow little: every call ends in time, says what to do, and leaves nothing half written."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tests.destinations.sftp_places import embedded, key_place
from tests.servers.sshd import serve_sshd
from waybill.destinations.base import Profile
from waybill.errors import PermanentError, TransientError, WaybillError
from waybill_demo.sftp_server import TenantFolder

PART, FINAL = "/.user.csv.part", "/user.csv"
BLOCKS = [os.urandom(1_000_000) for _ in range(6)]


class FlipsAByte(TenantFolder):
    def write(self, file_obj: Any, offset: int, data: bytes) -> Any:
        if offset > 3_000_000:
            data = bytes([data[0] ^ 1]) + data[1:]
        return super().write(file_obj, offset, data)


class LosesTheTail(TenantFolder):
    def write(self, file_obj: Any, offset: int, data: bytes) -> Any:
        return len(data) if offset > 5_500_000 else super().write(file_obj, offset, data)


class FailsToWrite(TenantFolder):
    def write(self, file_obj: Any, offset: int, data: bytes) -> Any:
        if 3_000_000 < offset < 3_100_000:  # and takes everything after it: only the status tells
            raise asyncssh.SFTPFailure("")
        return super().write(file_obj, offset, data)


class FailsToClose(TenantFolder):
    def close(self, file_obj: Any) -> Any:
        super().close(file_obj)
        if "r" not in file_obj.mode:
            raise asyncssh.SFTPFailure("")


class FailsToSync(TenantFolder):
    def fsync(self, file_obj: Any) -> Any:
        raise asyncssh.SFTPFailure("")


class FullDisk(FailsToWrite):
    def statvfs(self, path: bytes) -> Any:
        return asyncssh.SFTPVFSAttrs(bsize=4096, frsize=4096, blocks=1000, bfree=10, bavail=0, files=10, ffree=10, favail=10)


class ReadOnlyDisk(TenantFolder):
    def open(self, path: bytes, pflags: int, attrs: Any) -> Any:
        raise asyncssh.SFTPFailure("")

    def statvfs(self, path: bytes) -> Any:
        return asyncssh.SFTPVFSAttrs(bsize=4096, frsize=4096, bavail=100_000, favail=10_000, flags=1)


class NeverWrites(TenantFolder):
    async def write(self, file_obj: Any, offset: int, data: bytes) -> int:
        await self.connection.wait_closed()
        raise asyncssh.SFTPConnectionLost("")


class CutsTheConnection(TenantFolder):
    def write(self, file_obj: Any, offset: int, data: bytes) -> Any:
        if offset > 3_000_000:
            self.connection.abort()
        return super().write(file_obj, offset, data)


class RenamesWithoutAnswering(TenantFolder):
    async def rename(self, oldpath: bytes, newpath: bytes) -> None:
        super().rename(oldpath, newpath)
        await self.connection.wait_closed()


class CutsAfterRename(TenantFolder):
    def rename(self, oldpath: bytes, newpath: bytes) -> Any:
        super().rename(oldpath, newpath)
        self.connection.abort()


class Overwrites(TenantFolder):
    def rename(self, oldpath: bytes, newpath: bytes) -> Any:
        Path(os.fsdecode(self.map_path(oldpath))).replace(os.fsdecode(self.map_path(newpath)))


class ShowsWhenClosed(TenantFolder):
    """As AWS Transfer Family in front of S3: an object is there once it is complete."""

    def open(self, path: bytes, pflags: int, attrs: Any) -> Any:
        if pflags & asyncssh.FXF_WRITE:
            return super().open(path + b".hidden", pflags, attrs)
        return super().open(path, pflags, attrs)

    def close(self, file_obj: Any) -> Any:
        super().close(file_obj)
        if "r" not in file_obj.mode:
            hidden = Path(os.fsdecode(file_obj.name))
            hidden.rename(hidden.with_suffix(""))


class DropBox(TenantFolder):
    """Takes files and shows nothing."""

    def lstat(self, path: bytes) -> Any:
        raise asyncssh.SFTPPermissionDenied("")

    stat = lstat

    def open(self, path: bytes, pflags: int, attrs: Any) -> Any:
        if not pflags & asyncssh.FXF_WRITE:
            raise asyncssh.SFTPPermissionDenied("")
        return super().open(path, pflags, attrs)

    def rename(self, oldpath: bytes, newpath: bytes) -> Any:
        raise asyncssh.SFTPPermissionDenied("")


class NoRename(TenantFolder):
    def rename(self, oldpath: bytes, newpath: bytes) -> Any:
        raise asyncssh.SFTPOpUnsupported("")


class PicksUp(TenantFolder):
    """Files vanish when they land."""

    def close(self, file_obj: Any) -> Any:
        super().close(file_obj)
        Path(os.fsdecode(file_obj.name)).unlink(missing_ok=True)


class PicksUpFinals(TenantFolder):
    def rename(self, oldpath: bytes, newpath: bytes) -> Any:
        super().rename(oldpath, newpath)
        Path(os.fsdecode(self.map_path(newpath))).unlink()


@pytest.mark.parametrize(
    ("view", "code", "says"),
    [
        (FlipsAByte, "verify", "damaged on the way"),
        (LosesTheTail, "verify", "damaged on the way"),
        (FailsToWrite, "transient", "could not write"),
        (FailsToClose, "transient", "could not write"),
        (FailsToSync, "transient", "could not write"),
        (FullDisk, "disk_full", "disk full on the server: 0 bytes"),
        (CutsTheConnection, "lost", "connection was lost"),
        (NeverWrites, "lost", "did not answer for 1 seconds"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_failed_upload_is_an_error_that_may_be_tried_again(tmp_path: Path, view: type[TenantFolder], code: str, says: str) -> None:
    with (
        embedded(tmp_path, view, cmd_timeout=1) as place,
        place.destination.connect() as session,
        pytest.raises(TransientError, match=says) as caught,
    ):
        session.upload(PART, BLOCKS)
    assert caught.value.code == code
    assert "sftp acme_sftp (127.0.0.1:" in str(caught.value)
    if code != "lost":
        assert list(place.root.iterdir()) == []


def _saying(words: str) -> type[TenantFolder]:
    class Says(FailsToWrite):
        def write(self, file_obj: Any, offset: int, data: bytes) -> Any:
            raise asyncssh.SFTPFailure(words)

        def statvfs(self, path: bytes) -> Any:
            return asyncssh.SFTPVFSAttrs(bsize=4096, frsize=4096, blocks=10**6, bfree=10**6, bavail=10**6, files=10**6, favail=10**6)

    return Says


@pytest.mark.parametrize(
    ("words", "kind", "code", "says"),
    [
        ("Disk quota exceeded", TransientError, "disk_full", "Ask the server's owner for room"),
        ("No space left on device", TransientError, "disk_full", "Ask the server's owner for room"),
        ("File too large", PermanentError, "refused", "max_rows_per_file"),
        ("File name too long", PermanentError, "refused", "Shorten the root"),
        ("Read-only file system", PermanentError, "refused", "writable folder"),
        ("something else", TransientError, "transient", "look at the server's log"),
    ],
)
def test_what_a_server_says_in_words_decides(tmp_path: Path, words: str, kind: type[WaybillError], code: str, says: str) -> None:
    """Version 3 of SFTP knows one code for all of them."""
    with embedded(tmp_path, _saying(words)) as place, place.destination.connect() as session, pytest.raises(kind, match=says) as caught:
        session.upload(PART, BLOCKS)
    assert (caught.value.code, f"{10**6} bytes" in str(caught.value)) == (code, False)


def test_a_read_only_disk_is_told_as_such(tmp_path: Path) -> None:
    with embedded(tmp_path, ReadOnlyDisk) as place, place.destination.connect() as session:
        with pytest.raises(PermanentError, match="read-only file system") as caught:
            session.upload(PART, BLOCKS)
        assert caught.value.code == "refused"


@pytest.mark.parametrize("view", [RenamesWithoutAnswering, CutsAfterRename])
def test_a_lost_answer_to_a_rename_asks_to_look_again(tmp_path: Path, view: type[TenantFolder]) -> None:
    with embedded(tmp_path, view, cmd_timeout=1) as place:
        with place.destination.connect() as session:
            session.upload(PART, [b"x"])
            with pytest.raises(TransientError, match="Look again") as caught:
                session.publish(PART, FINAL)
            assert caught.value.code == "lost"
        with place.destination.connect() as session:
            assert session.read(FINAL) == b"x"
            assert session.size(PART) is None


def test_after_the_connection_is_lost_every_call_fails_at_once(tmp_path: Path) -> None:
    with embedded(tmp_path, CutsTheConnection) as place, place.destination.connect() as session:
        with pytest.raises(TransientError):
            session.upload(PART, BLOCKS)
        for call in (session.size, session.prepare, session.remove):
            with pytest.raises(TransientError, match="connection was lost"):
                call("/x")


def test_a_rename_that_overwrites_makes_the_profile_no_cas(tmp_path: Path) -> None:
    with embedded(tmp_path, Overwrites) as place, place.destination.connect() as session:
        assert session.probe("/exports").profile is Profile.NO_CAS
        assert list(place.root.iterdir()) == []


def test_without_compare_and_set_the_name_is_looked_at_just_before(tmp_path: Path) -> None:
    with embedded(tmp_path, Overwrites, Profile.NO_CAS) as place, place.destination.connect() as session:
        for data, published in ((b"first", True), (b"second", False)):
            session.upload(PART, [data])
            assert session.publish(PART, FINAL) is published
        assert session.read(FINAL) == b"first"


@pytest.mark.parametrize("view", [DropBox, NoRename])
def test_a_server_that_shows_or_renames_nothing_is_a_drop_box(tmp_path: Path, view: type[TenantFolder]) -> None:
    with embedded(tmp_path, view) as place, place.destination.connect() as session:
        probe = session.probe("/exports/deep")
        assert probe.profile is Profile.DROPBOX
        assert any("permission denied" in answer or "unsupported" in answer for _, answer in probe.steps)
        assert list(place.root.iterdir()) == []


def test_a_drop_box_takes_a_file_under_its_final_name_once(tmp_path: Path) -> None:
    with embedded(tmp_path, DropBox, Profile.DROPBOX) as place, place.destination.connect() as session:
        session.prepare("/exports/acme/user")
        session.prepare("/exports/acme/user")
        final = "/exports/acme/user/user.csv"
        assert session.size(final) is session.read(final) is None
        assert session.upload(final, BLOCKS).bytes == 6_000_000
        assert (place.root / final[1:]).read_bytes() == b"".join(BLOCKS)
        with pytest.raises(TransientError, match="could not write"):
            session.upload(final, [b"second"])
        with pytest.raises(PermanentError, match="cannot rename"):
            session.publish(PART, FINAL)
        assert (place.root / final[1:]).stat().st_size == 6_000_000


def test_a_folder_that_cannot_be_looked_at_is_refused_and_not_recursed_into(tmp_path: Path) -> None:
    with (
        embedded(tmp_path, DropBox) as place,
        place.destination.connect() as session,
        pytest.raises(PermanentError, match=r"could not look at /exports: .*waybill probe"),
    ):
        session.prepare("/exports/acme/user")


@pytest.mark.parametrize("blocks", [[b"small"], BLOCKS * 3], ids=["small", "large"])
def test_a_file_that_shows_only_when_closed_is_read_back_then(tmp_path: Path, blocks: list[bytes]) -> None:
    with embedded(tmp_path, ShowsWhenClosed) as place, place.destination.connect() as session:
        assert session.upload(PART, blocks).bytes == sum(map(len, blocks))
        assert session.publish(PART, FINAL)
        assert session.size(FINAL) == sum(map(len, blocks))
        assert session.probe("/exports").profile is Profile.FULL


def test_a_large_file_that_shows_only_when_closed_is_read_back_without_being_held_in_memory(tmp_path: Path) -> None:
    with embedded(tmp_path, ShowsWhenClosed) as place, place.destination.connect() as session:
        session.upload("/.first.part", BLOCKS * 4)  # what both sides need once
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        size = 150 * len(BLOCKS[0])
        assert session.upload(PART, (BLOCKS[0] for _ in range(150))).bytes == size
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < size / 2


@pytest.mark.parametrize("view", [PicksUp, PicksUpFinals])
def test_a_server_whose_files_vanish_is_a_pick_up(tmp_path: Path, view: type[TenantFolder]) -> None:
    with embedded(tmp_path, view) as place, place.destination.connect() as session:
        assert session.probe("/exports").profile is Profile.PICKUP


@pytest.mark.parametrize("blocks", [[b"small"], BLOCKS], ids=["small", "large"])
def test_a_file_picked_up_after_a_good_close_counts_as_collected(tmp_path: Path, blocks: list[bytes]) -> None:
    with embedded(tmp_path, PicksUp, Profile.PICKUP) as place, place.destination.connect() as session:
        assert session.upload(PART, blocks).bytes == sum(map(len, blocks))
        assert session.publish(PART, FINAL)


def test_a_server_that_forbids_writing_is_told_as_such() -> None:
    with serve_sshd(sftp_options="-R") as server, key_place(server).destination.connect() as session:
        for call in (lambda: session.prepare("/exports"), lambda: session.upload(PART, [b"x"]), lambda: session.probe("/exports")):
            with pytest.raises(PermanentError, match=r"permission denied.*waybill probe"):
                call()


def test_a_session_at_rest_lists_the_tenants_folder_so_that_no_server_ends_it(tmp_path: Path) -> None:
    """ProFTPD does after `TimeoutNoTransfer`, and counts neither keepalives nor looks at files."""
    listed = threading.Event()

    class Listed(TenantFolder):
        def scandir(self, path: bytes) -> Any:
            if path == b"/exports/acme":
                listed.set()
            return super().scandir(path)

    def slow() -> Iterator[bytes]:
        yield b"first"
        assert listed.wait(60)
        yield b"last"

    with embedded(tmp_path, Listed, cmd_timeout=2) as place, place.destination.connect() as session:
        session.prepare("/exports/acme/2026/05/31/user")
        assert session.upload("/exports/acme/2026/05/31/user/.user.csv.part", slow()).bytes == len("firstlast")


def test_a_failed_upload_leaves_no_open_file_that_keeps_its_space(tmp_path: Path) -> None:
    opened: list[Any] = []

    class Watched(FailsToWrite):
        def open(self, path: bytes, pflags: int, attrs: Any) -> Any:
            opened.append(super().open(path, pflags, attrs))
            return opened[-1]

    with embedded(tmp_path, Watched) as place, place.destination.connect() as session:
        with pytest.raises(TransientError):
            session.upload(PART, BLOCKS)
        assert len(opened) == 2
        assert all(file.closed for file in opened)


def test_a_server_that_allows_one_channel_is_used_with_one() -> None:
    with serve_sshd(extra_config="MaxSessions 1") as server, key_place(server).destination.connect() as session:

        def deliver(number: int) -> bool:
            session.upload(f"/.{number}.part", [b"x"])
            return session.publish(f"/.{number}.part", f"/{number}")

        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(deliver, range(60)))


def test_an_interrupted_upload_leaves_no_part(tmp_path: Path) -> None:
    def interrupted() -> Iterator[bytes]:
        yield from BLOCKS
        raise KeyboardInterrupt

    with embedded(tmp_path) as place, place.destination.connect() as session:
        with pytest.raises(KeyboardInterrupt):
            session.upload(PART, interrupted())
        assert list(place.root.iterdir()) == []
