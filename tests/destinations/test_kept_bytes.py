"""Delivered bytes are kept where the archive is, be it a folder, `file://` or a bucket, and sent again from any machine."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from tests.installations import DAY, NOON, Place, make_place
from tests.servers.s3 import S3Server
from waybill import housekeeping
from waybill.connection import Connection
from waybill.deliveries import repairs
from waybill.deliveries.planning import plan
from waybill.deliveries.reports import describing
from waybill.deliveries.running import deliver_batch
from waybill.destinations.resend_store import KeptInFolder
from waybill.errors import TransientError
from waybill.installation import Installation
from waybill.registrations.applying import apply


@pytest.fixture(params=["folder", "file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Place, str]]:
    """An installation, and the URL of an archive all its machines share."""
    place = make_place(tmp_path)
    url = {"folder": "shared/archive", "file": f"file://{tmp_path}/shared/archive"}.get(request.param, "")
    if request.param == "s3":
        s3: S3Server = request.getfixturevalue("s3")
        extra = {"endpoint_url": s3.endpoint, "region_name": s3.region}
        place.connections["store"] = Connection("store", "aws", login=s3.access_key, password=s3.secret_key, extra=extra)
        bucket = f"kept-{uuid4().hex[:12]}"
        s3.client().create_bucket(Bucket=bucket)
        url = f"s3://store@{bucket}/waybill"
    yield place, url
    place.close()


def machine(place: Place, url: str, name: str = "one") -> Installation:
    """One of several that share ledger and archive and have a disk of their own."""
    found = place.installation()
    return replace(found, settings=replace(found.settings, archive_url=url, spool_dir=place.root / name / "spool"))


def deliver_on(installation: Installation) -> list[str]:
    apply(installation, actor="test")
    done = deliver_batch(installation, [delivery.id for delivery in plan(installation, "acme", NOON)])
    assert all(result.error is None for result in done)
    return [result.delivery.id for result in done]


def test_a_delivery_is_sent_again_from_another_machine_after_the_consumer_took_it(store: tuple[Place, str]) -> None:
    place, url = store
    place.user(1, "Ada", NOON - DAY)
    delivered = deliver_on(machine(place, url))
    sent = {item["entity"]: item for item in describing.listed(machine(place, url), "acme")}
    shutil.rmtree(place.out)
    assert not list((place.root / "one/spool").iterdir())
    shutil.rmtree(place.root / "one")
    other = machine(place, url, "other")
    for delivery in delivered:
        assert repairs.redeliver(other, delivery, actor="test").error is None
    again = [item for item in describing.listed(other, "acme") if item["purpose"] == "redelivery"]
    assert {item["entity"]: item["sha256"] for item in again} == {name: message["sha256"] for name, message in sent.items()}


def test_kept_bytes_go_when_their_time_is_up_wherever_they_are(store: tuple[Place, str]) -> None:
    place, url = store
    delivered = deliver_on(machine(place, url))
    place.clock = datetime.now(UTC) + 6 * DAY
    early = machine(place, url, "other")
    assert housekeeping.housekeeping(early).archives == 0
    assert {name for name, _ in early.all_kept.entries()} == set(delivered)
    place.clock = datetime.now(UTC) + 8 * DAY
    late = machine(place, url, "other")
    assert housekeeping.housekeeping(late).archives == 2
    assert list(late.all_kept.entries()) == []


def test_what_the_store_does_not_take_now_stays_in_the_spool_and_is_kept_later(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    (tmp_path / "shared").write_text("a file where the folder belongs")
    delivered = deliver_on(machine(place, "shared/archive"))
    assert len(list((tmp_path / "one/spool").iterdir())) == 2
    (tmp_path / "shared").unlink()
    place.clock = datetime.now(UTC) + 2 * DAY
    later = machine(place, "shared/archive")
    assert housekeeping.housekeeping(later).spools == 2
    assert {name for name, _ in later.all_kept.entries()} == set(delivered)
    assert not list((tmp_path / "one/spool").iterdir())
    place.close()


def test_a_delivery_that_was_kept_in_part_is_kept_whole_later(store: tuple[Place, str], tmp_path: Path) -> None:
    """The store took the first of several files, and no more."""
    place, url = store
    place.tenant(entityList=["user"], csv={"max_rows_per_file": 1})
    for number in range(3):
        place.user(number, "Ada", NOON - DAY)
    nowhere = url.replace("kept-", "none-") if url.startswith("s3") else "busy/archive"
    (place.root / "busy").write_text("a file where the folder belongs")
    [delivered] = deliver_on(machine(place, nowhere))
    [spool] = (place.root / "one/spool").iterdir()
    (tmp_path / "first").mkdir()
    shutil.copy(min(spool.iterdir()), tmp_path / "first")
    kept = machine(place, url).kept
    assert kept is not None
    kept.keep(delivered, tmp_path / "first")
    place.clock = datetime.now(UTC) + 2 * DAY
    assert housekeeping.housekeeping(machine(place, url)).failed == {}
    shutil.rmtree(place.out)
    assert repairs.redeliver(machine(place, url, "other"), delivered, actor="test").error is None


def test_parts_keep_their_order_past_9999(store: tuple[Place, str], tmp_path: Path) -> None:
    place, url = store
    names = ["user-0002.parquet", "user-1001.parquet", "user-9999.parquet", "user-10000.parquet", "user.deletes.csv"]
    (tmp_path / "parts").mkdir()
    for name in names:
        (tmp_path / "parts" / name).write_text(name)
    kept = machine(place, url).kept
    assert kept is not None
    kept.keep("a" * 32, tmp_path / "parts")
    assert [b"".join(blocks()).decode() for blocks in kept.files("a" * 32)] == names


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder that is to be, on another disk than the test's own."""
    disk = next(disk for disk in map(Path, ("/dev/shm", "/var/tmp")) if disk.stat().st_dev != tmp_path.stat().st_dev)
    folder = disk / f"waybill-{uuid4().hex}"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_bytes_from_another_disk_appear_whole(tmp_path: Path, elsewhere: Path) -> None:
    elsewhere.mkdir()
    (elsewhere / "user.csv").write_text("id\n1\n")
    kept = KeptInFolder(tmp_path / "deliveries")
    kept.keep("a" * 32, elsewhere)
    (blocks,) = kept.files("a" * 32)
    assert b"".join(blocks()) == b"id\n1\n"
    assert [path.name for path in kept.root.iterdir()] == ["a" * 32]


def test_an_archive_on_another_disk_that_fills_up_is_told_as_full_and_keeps_no_half(tmp_path: Path, elsewhere: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool/user-0001.csv").write_bytes(bytes(9_000))
    kept = KeptInFolder(elsewhere)
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, allowed[1]))
    try:
        with pytest.raises(TransientError, match="the archive is full") as caught:
            kept.keep("a" * 32, tmp_path / "spool")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)
    assert (caught.value.code, list(elsewhere.iterdir())) == ("storage_full", [])
