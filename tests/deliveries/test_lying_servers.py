"""Servers that tell another size, cut what is read back, or hold one name for two that differ by case: nothing is called delivered that is
not there, byte for byte.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tests.deliveries.test_publishing import Pretends, delivering, run
from tests.destinations.sftp_places import embedded, password_connection
from tests.installations import DAY, NOON
from waybill.errors import PermanentError, TransientError
from waybill.housekeeping import housekeeping
from waybill_demo.sftp_server import TenantFolder, new_accounts, serve

DATE = "exports/acme/2026/05/31"


class _Sizes(TenantFolder):
    """Tells another size of every file than it has."""

    def told(self, size: int) -> int:
        return size

    def _lie(self, attrs: Any) -> Any:
        if attrs.size and attrs.permissions is not None and (attrs.permissions & 0o170000) == 0o100000:
            attrs.size = self.told(attrs.size)
        return attrs

    def stat(self, path: bytes) -> Any:
        return self._lie(_attrs(super().stat(path)))

    def lstat(self, path: bytes) -> Any:
        return self._lie(_attrs(super().lstat(path)))

    def fstat(self, file_obj: Any) -> Any:
        return self._lie(_attrs(super().fstat(file_obj)))


def _attrs(found: Any) -> Any:
    return found if isinstance(found, asyncssh.SFTPAttrs) else asyncssh.SFTPAttrs.from_local(found)


class Short(_Sizes):
    def told(self, size: int) -> int:
        return size - 1


class Long(_Sizes):
    def told(self, size: int) -> int:
        return size + 4096


class Empty(_Sizes):
    def told(self, size: int) -> int:
        return 0


class ShowsNoHiddenNames(_Sizes):
    """Opens a hidden file and shows none."""

    def lstat(self, path: bytes) -> Any:
        if path.rpartition(b"/")[2].startswith(b"."):
            raise asyncssh.SFTPNoSuchFile("")
        return super().lstat(path)


class CutsTheReadBack(TenantFolder):
    """Gives all but the last bytes of a file back."""

    def read(self, file_obj: Any, offset: int, size: int) -> Any:
        end = os.fstat(file_obj.fileno()).st_size - 3
        return super().read(file_obj, offset, max(0, min(size, end - offset))) if offset < end else b""


class GivesZeros(TenantFolder):
    """Gives zeros back, as a file system with a hole."""

    def read(self, file_obj: Any, offset: int, size: int) -> Any:
        return bytes(len(super().read(file_obj, offset, size)))


class KeepsCapitals(TenantFolder):
    """Holds every name in capitals and shows it so, as old mainframes and some gateways do."""

    def map_path(self, path: bytes) -> bytes:
        return super().map_path(path.upper())


class FoldsCase(TenantFolder):
    """Finds a name whatever its case, as Windows servers do."""

    def map_path(self, path: bytes) -> bytes:
        return super().map_path(path.lower())


@pytest.mark.parametrize("view", [Short, Long, Empty, ShowsNoHiddenNames, CutsTheReadBack, GivesZeros])
def test_a_server_that_lies_about_bytes_gets_no_delivery_until_it_is_honest(tmp_path: Path, view: type[TenantFolder]) -> None:
    with delivering(tmp_path) as place:
        error = run(place, tmp_path, view, NOON)
        assert isinstance(error, TransientError)
        said = f"gives all 135 bytes of /{DATE}/user/.user.csv" if issubclass(view, _Sizes) else "was damaged on the way"
        assert said in error.what
        assert _files(tmp_path) == []
        assert run(place, tmp_path, TenantFolder, NOON) is None
        assert _files(tmp_path) == [f"acme/{DATE}/_MANIFEST.json", f"acme/{DATE}/user/user.csv", f"acme/{DATE}/user/user.manifest.json"]


@pytest.mark.parametrize("view", [KeepsCapitals, FoldsCase])
def test_a_server_without_upper_and_lower_case_loses_nothing(tmp_path: Path, view: type[TenantFolder]) -> None:
    """No two names that Waybill gives differ by case alone: ids of tenants and entities have small letters."""
    with delivering(tmp_path) as place:
        assert run(place, tmp_path, view, NOON) is None
        before = {path: (tmp_path / "tenants" / path).read_bytes() for path in _files(tmp_path)}
        place.sql('delete from "user" where id = 1')
        assert run(place, tmp_path, view, NOON + DAY) is None
        assert {path: (tmp_path / "tenants" / path).read_bytes() for path in before} == before
        names = {path.casefold().rpartition("/")[2] for path in _files(tmp_path) if "06/01" in path}
        assert names == {"_manifest.json", "user.csv", "user.deletes.csv", "user.manifest.json"}


class PretendsToWrite(TenantFolder):
    def write(self, file_obj: Any, offset: int, data: bytes) -> Any:
        return len(data)


class LosesWhatItClosed(TenantFolder):
    def close(self, file_obj: Any) -> Any:
        super().close(file_obj)
        if "r" not in file_obj.mode:
            os.truncate(file_obj.name, 0)


class PretendsToMakeFolders(TenantFolder):
    def mkdir(self, path: bytes, attrs: Any) -> Any:
        pass


class PretendsToRemove(TenantFolder):
    def remove(self, path: bytes) -> Any:
        pass


class PretendsToRemoveFolders(TenantFolder):
    def rmdir(self, path: bytes) -> Any:
        pass


@pytest.mark.parametrize(
    ("view", "asked", "seen"),
    [
        (PretendsToWrite, "the writes to", "it gives other bytes back"),
        (LosesWhatItClosed, "the writes to", "it gives other bytes back"),
        (GivesZeros, "the writes to", "it gives other bytes back"),
        (PretendsToMakeFolders, "the making of the folder", "it is not there"),
        (Pretends, "the rename onto", "the hidden file is still there"),
    ],
)
def test_a_rehearsal_gives_no_profile_to_a_server_that_says_ok_and_does_nothing(
    tmp_path: Path, view: type[TenantFolder], asked: str, seen: str
) -> None:
    with embedded(tmp_path, view) as place, place.destination.connect() as session, pytest.raises(PermanentError) as caught:
        session.probe("/exports/acme")
    assert f"the server answered OK to {asked} /exports/acme/.waybill-probe." in caught.value.what
    assert caught.value.what.endswith(f", and {seen}")


@pytest.mark.parametrize("view", [PretendsToRemove, PretendsToRemoveFolders])
def test_a_rehearsal_names_what_it_could_not_remove(tmp_path: Path, view: type[TenantFolder]) -> None:
    with embedded(tmp_path, view) as place, place.destination.connect() as session:
        [removed] = [answer for step, answer in session.probe("/exports/acme").steps if step == "remove"]
        [left] = (place.root / "exports/acme").iterdir()
        assert removed == f"left behind: /exports/acme/{left.name}"
        with pytest.raises(PermanentError, match=r"answered OK to the removal of .*, and it is still there"):
            session.remove(f"/exports/acme/{left.name}")


def test_housekeeping_counts_no_file_as_removed_that_is_still_there(tmp_path: Path) -> None:
    def keep_house(view: type[TenantFolder]) -> tuple[int, dict[str, str]]:
        with serve(new_accounts(["acme"]), tmp_path / "tenants", tmp_path / "state", view=view) as server:
            place.connections["acme_sftp"] = password_connection(server)
            done = housekeeping(place.installation())
            return done.files, done.failed

    with delivering(tmp_path) as place:
        place.write("policy.yaml", {"destination_days": 10})
        assert run(place, tmp_path, TenantFolder, NOON) is None
        place.clock = datetime.now(UTC) + 11 * DAY
        files, failed = keep_house(PretendsToRemove)
        assert (files, len(_files(tmp_path))) == (0, 3)
        assert f"the server answered OK to the removal of /{DATE}/_MANIFEST.json, and it is still there" in failed["acme"]
        assert keep_house(TenantFolder) == (3, {})
        assert _files(tmp_path) == []


def _files(tmp_path: Path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path / "tenants")) for path in (tmp_path / "tenants").rglob("*") if path.is_file())
