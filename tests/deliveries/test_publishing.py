"""A server that answers OK to a rename and loses the file: nothing is called delivered that is not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tests.destinations.sftp_places import embedded, password_connection
from tests.installations import DAY, NOON, USER, Place, catalog, make_place
from waybill.deliveries.publishing.renaming import require_published
from waybill.deliveries.repairs import queue_redelivery
from waybill.deliveries.running import deliver_batch
from waybill.destinations import Profile
from waybill.errors import PermanentError, TransientError, WaybillError
from waybill.housekeeping import housekeeping
from waybill.ledger import deliveries
from waybill.ledger.deliveries import Delivery
from waybill_demo.sftp_server import TenantFolder, new_accounts, serve

FINAL = "/exports/acme/user.csv"
PART = f"/exports/acme/.user.csv.{'0' * 32}.part"


class Loses(TenantFolder):
    """Answers OK to a rename of a name that ends so, and neither name is there any more."""

    ending = ".csv"

    def rename(self, oldpath: bytes, newpath: bytes) -> Any:
        super().rename(oldpath, newpath)
        if newpath.decode().endswith(self.ending):
            Path(os.fsdecode(self.map_path(newpath))).unlink()


class Pretends(TenantFolder):
    """Answers OK to a rename and does nothing."""

    def rename(self, oldpath: bytes, newpath: bytes) -> Any:
        pass


class LosesManifests(Loses):
    ending = ".manifest.json"


class LosesDeletes(Loses):
    ending = ".deletes.csv"


@pytest.mark.parametrize("profile", [Profile.FULL, Profile.NO_CAS, Profile.PICKUP])
def test_a_file_that_is_gone_after_its_rename_was_collected_only_where_files_vanish(tmp_path: Path, profile: Profile) -> None:
    with embedded(tmp_path, Loses, profile) as place, place.destination.connect() as session:
        session.prepare("/exports/acme")
        session.upload(PART, [b"x"])
        assert session.publish(PART, FINAL)
        if profile is Profile.PICKUP:
            require_published(session, {PART: FINAL}, {FINAL: 1})
            return
        with pytest.raises(TransientError, match="is gone, and so is the hidden file") as caught:
            require_published(session, {PART: FINAL}, {FINAL: 1})
        assert caught.value.code == "vanished"


@contextmanager
def delivering(tmp_path: Path) -> Iterator[Place]:
    user = {**USER, "deletes": "compare", "deleted_column": ""}
    with closing(make_place(tmp_path)) as place:
        place.write("catalog.yaml", catalog(user={name: value for name, value in user.items() if value}))
        place.tenant(entityList=["user"], destination={"kind": "sftp", "connection": "acme_sftp", "root": "/"})
        for number in range(3):
            place.user(number, "row", NOON - 3 * DAY)
        yield place


def run(place: Place, tmp_path: Path, view: type[TenantFolder], at: Any) -> WaybillError | None:
    with serve(new_accounts(["acme"]), tmp_path / "tenants", tmp_path / "state", view=view) as server:
        place.connections["acme_sftp"] = password_connection(server)
        [result] = place.run(at)
    return result.error


@pytest.mark.parametrize("view", [Loses, LosesManifests, LosesDeletes])
def test_a_delivery_with_a_lost_file_is_not_committed_and_comes_whole_later(tmp_path: Path, view: type[TenantFolder]) -> None:
    with delivering(tmp_path) as place:
        assert run(place, tmp_path, TenantFolder, NOON) is None
        place.sql('delete from "user" where id = 1')
        place.user(2, "changed", NOON - DAY / 4)
        error = run(place, tmp_path, view, NOON + DAY)
        assert isinstance(error, TransientError)
        assert error.code == "vanished"
        folder = tmp_path / "tenants/acme/exports/acme/2026/06/01/user"
        assert not list(folder.glob("*.manifest.json"))
        assert run(place, tmp_path, TenantFolder, NOON + DAY) is None
        assert sorted(path.name for path in folder.iterdir()) == ["user.csv", "user.deletes.csv", "user.manifest.json"]


class Forbids(TenantFolder):
    """Refuses every rename."""

    def rename(self, oldpath: bytes, newpath: bytes) -> Any:
        raise asyncssh.SFTPPermissionDenied("")


@pytest.mark.parametrize(("view", "code"), [(Pretends, "not_published"), (Forbids, "refused")])
@pytest.mark.parametrize("parts", [None, 2])
def test_a_server_that_never_renames_keeps_no_copy_of_each_try(
    tmp_path: Path, parts: int | None, view: type[TenantFolder], code: str
) -> None:
    with delivering(tmp_path) as place:
        place.tenant(
            entityList=["user"], destination={"kind": "sftp", "connection": "acme_sftp", "root": "/"}, csv={"max_rows_per_file": parts}
        )
        folder = tmp_path / "tenants/acme/exports/acme/2026/05/31/user"
        for _ in range(2):
            error = run(place, tmp_path, view, NOON)
            assert isinstance(error, PermanentError)
            assert error.code == code
            assert list(folder.rglob("*.csv*")) == []
        assert run(place, tmp_path, TenantFolder, NOON) is None


class FullAtTheEnd(TenantFolder):
    """Takes what is written and is full when the file ends."""

    def close(self, file_obj: Any) -> Any:
        super().close(file_obj)
        if "r" not in file_obj.mode:
            raise asyncssh.SFTPNoSpaceOnFilesystem("")


def again(place: Place, tmp_path: Path, view: type[TenantFolder], queued: Delivery) -> WaybillError | None:
    with serve(new_accounts(["acme"]), tmp_path / "tenants", tmp_path / "state", view=view) as server:
        place.connections["acme_sftp"] = password_connection(server)
        [result] = deliver_batch(place.installation(), [queued.id])
    return result.error


def test_tries_of_a_redelivery_in_parts_leave_nothing_on_the_disk_and_nothing_old_at_the_destination(tmp_path: Path) -> None:
    destination = {"kind": "sftp", "connection": "acme_sftp", "root": "/"}
    with delivering(tmp_path) as place:
        place.tenant(entityList=["user"], destination=destination, csv={"max_rows_per_file": 1})
        assert run(place, tmp_path, TenantFolder, NOON) is None
        with place.installation().ledger.read() as connection:
            [sent] = deliveries.committed_since(connection, "acme", "")
        queued = queue_redelivery(place.installation(), "acme", sent.id, actor="test")
        for _ in range(2):
            assert isinstance(again(place, tmp_path, FullAtTheEnd, queued), TransientError)
        spool, out = place.root / ".waybill/spool", tmp_path / "tenants/acme"
        assert list(spool.iterdir()) == []
        hidden = [path for path in out.rglob("*") if ".part" in str(path.relative_to(out))]
        assert hidden
        for path in hidden:
            os.utime(path, (0, 0))  # the server's own clock counts there
        place.clock = datetime.now(UTC) + 3 * DAY
        with serve(new_accounts(["acme"]), tmp_path / "tenants", tmp_path / "state") as server:
            place.connections["acme_sftp"] = password_connection(server)
            assert housekeeping(place.installation()).failed == {}
        assert [path for path in hidden if path.exists()] == []
        assert again(place, tmp_path, TenantFolder, queued) is None
