"""One suite for every kind of place: a local folder, OpenSSH, ProFTPD and the demo server keep the same promises."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.destinations.sftp_places import Place, embedded, key_place, local_place
from tests.servers.proftpd import serve_proftpd
from tests.servers.sshd import SftpAccess, serve_sshd
from waybill.destinations.base import Profile, Session, Stored
from waybill.errors import ConflictError, PermanentError, TransientError

DAY = "/exports/acme/2026/06/01/user"
PART = f"{DAY}/.user.csv.{'a' * 32}.part"
FINAL = f"{DAY}/user.csv"
BYTES = os.urandom(3_000_000)


@pytest.fixture(scope="module")
def openssh() -> Iterator[SftpAccess]:
    with serve_sshd() as server:
        yield server


@pytest.fixture(scope="module")
def proftpd_without_overwriting() -> Iterator[SftpAccess]:
    with serve_proftpd(directory="AllowOverwrite off") as server:
        yield server


@pytest.fixture(params=["folder", "openssh", "proftpd", "demo"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    match request.param:
        case "folder":
            yield local_place(tmp_path)
        case "openssh":
            yield key_place(request.getfixturevalue("openssh"))
        case "proftpd":
            yield key_place(request.getfixturevalue("proftpd_without_overwriting"))
        case _:
            with embedded(tmp_path) as demo:
                yield demo


@pytest.fixture
def session(place: Place) -> Iterator[Session]:
    with place.destination.connect() as session:
        session.prepare(DAY)
        yield session


def stored(data: bytes) -> Stored:
    return Stored(len(data), hashlib.sha256(data).hexdigest())


def visible(place: Place) -> list[str]:
    return sorted(path.name for path in place.root.rglob("*") if path.is_file() and not path.name.startswith("."))


@pytest.mark.parametrize(
    "blocks",
    [[BYTES], [BYTES[at : at + 1000] for at in range(0, 300_000, 1000)], [b""], [], [b"a", b"", b"b"], [BYTES] * 5],
    ids=["one block", "many small", "empty block", "nothing", "tiny", "15 MB"],
)
def test_what_was_sent_is_stored_and_hashed_by_the_destination(session: Session, place: Place, blocks: list[bytes]) -> None:
    whole = b"".join(blocks)
    assert session.upload(PART, blocks) == stored(whole)
    assert (place.root / PART[1:]).read_bytes() == whole
    assert session.size(PART) == len(whole)
    assert session.sha256(PART) == hashlib.sha256(whole).hexdigest()
    assert b"".join(session.blocks(PART)) == whole


def test_a_part_is_invisible_until_it_is_published(session: Session, place: Place) -> None:
    session.upload(PART, [b"id\n1\n"])
    assert visible(place) == []
    assert session.publish(PART, FINAL)
    assert visible(place) == ["user.csv"]
    assert [path.name for path in (place.root / DAY[1:]).iterdir()] == ["user.csv"]


def test_publishing_never_overwrites(session: Session, place: Place) -> None:
    session.upload(PART, [b"first"])
    assert session.publish(PART, FINAL)
    session.upload(PART, [b"second"])
    assert not session.publish(PART, FINAL)
    assert session.read(FINAL) == b"first"
    assert session.read(PART) == b"second"


def test_of_two_racing_publishers_exactly_one_wins(session: Session) -> None:
    names = [f"{DAY}/.user.csv.{attempt * 32}.part" for attempt in "0123456789abcdef"]
    for name in names:
        session.upload(name, [name.encode()])
    start = threading.Barrier(len(names))

    def publish(name: str) -> bool:
        start.wait()
        return session.publish(name, FINAL)

    with ThreadPoolExecutor(len(names)) as pool:
        won = list(pool.map(publish, names))
    assert won.count(True) == 1
    assert session.read(FINAL) == names[won.index(True)].encode()


def test_parts_in_a_hidden_folder_become_visible_together(session: Session, place: Place) -> None:
    for attempt in "ab":
        folder = f"{DAY}/.user.{attempt * 32}.part"
        session.prepare(folder)
        for number in (1, 2):
            session.upload(f"{folder}/user-000{number}.csv", [attempt.encode()])
    assert session.publish(f"{DAY}/.user.{'a' * 32}.part", f"{DAY}/user")
    assert not session.publish(f"{DAY}/.user.{'b' * 32}.part", f"{DAY}/user")
    assert session.read(f"{DAY}/user/user-0002.csv") == b"a"
    session.remove(f"{DAY}/.user.{'b' * 32}.part")
    assert [path.name for path in (place.root / DAY[1:]).iterdir()] == ["user"]


LEFT = {"nothing": "", "an unfinished file of ours": f".user.csv.{'b' * 32}.part", "a hidden file": ".x", "a file": "x.csv"}


@pytest.mark.parametrize("left", [*LEFT, "an empty folder", "our unfinished file and another"])
def test_an_empty_folder_makes_way_for_parts_and_a_folder_that_holds_anything_does_not(session: Session, place: Place, left: str) -> None:
    hidden, final = f"{DAY}/.user.{'a' * 32}.part", place.root / DAY[1:] / "user"
    session.prepare(hidden)
    session.upload(f"{hidden}/user-0001.csv", [b"1"])
    session.prepare(f"{DAY}/user")
    if left == "an empty folder":
        session.prepare(f"{DAY}/user/inner")
    names = [LEFT["an unfinished file of ours"], "x.csv"] if left.endswith("another") else filter(None, [LEFT.get(left)])
    for name in names:
        (final / name).write_bytes(b"left")
    before, makes_way = sorted(path.name for path in final.iterdir()), left in ("nothing", "an unfinished file of ours")
    assert session.publish(hidden, f"{DAY}/user") is makes_way
    assert sorted(path.name for path in final.iterdir()) == (["user-0001.csv"] if makes_way else before)
    session.remove(hidden)


def test_publishing_a_part_that_is_gone_asks_to_look_again(session: Session) -> None:
    with pytest.raises(TransientError, match="is gone") as caught:
        session.publish(PART, FINAL)
    assert caught.value.code == "part_missing"


def test_a_part_that_is_already_there_is_not_written_over(session: Session) -> None:
    session.upload(PART, [b"first"])
    with pytest.raises(TransientError, match="exists"):
        session.upload(PART, [b"second"])
    assert session.read(PART) == b"first"


def test_a_source_that_fails_leaves_no_part_and_keeps_its_own_error(session: Session, place: Place) -> None:
    def rows() -> Iterator[bytes]:
        yield BYTES
        raise RuntimeError("the query was cancelled")

    with pytest.raises(RuntimeError, match="cancelled"):
        session.upload(PART, rows())
    assert list((place.root / DAY[1:]).iterdir()) == []


def test_a_slow_source_is_followed_as_it_grows(session: Session, place: Place) -> None:
    seen = []

    def rows() -> Iterator[bytes]:
        for _ in range(4):
            yield BYTES * 3
            time.sleep(0.1)
            seen.append((place.root / PART[1:]).stat().st_size if (place.root / PART[1:]).exists() else 0)

    assert session.upload(PART, rows()).bytes == 36_000_000
    assert seen[-1] >= 9_000_000
    assert seen == sorted(seen)


def test_what_is_not_there_is_none(session: Session) -> None:
    assert session.size(FINAL) is session.sha256(FINAL) is session.read(FINAL) is None
    assert session.size("/no/such/folder/x") is None
    assert list(session.walk("/no/such/folder")) == []
    session.remove(FINAL)
    with pytest.raises(PermanentError, match="no file"):
        list(session.blocks(FINAL))


def test_preparing_twice_and_from_many_threads_is_fine(session: Session, place: Place) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(session.prepare, ["/exports/acme/2026/06/02/content/deep"] * 16))
    assert (place.root / "exports/acme/2026/06/02/content/deep").is_dir()


def test_a_symlink_or_a_file_in_the_way_is_a_conflict_and_stays_untouched(session: Session, place: Place, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (place.root / "exports" / "evil").symlink_to(elsewhere)
    (place.root / "exports" / "file").write_text("foreign")
    (place.root / DAY[1:] / "user.csv").symlink_to(elsewhere / "planted")
    with pytest.raises(ConflictError, match="/exports/evil is a symlink"):
        session.prepare("/exports/evil/2026")
    with pytest.raises(ConflictError, match="/exports/file is a file"):
        session.prepare("/exports/file/2026")
    for call in (session.size, session.sha256, session.read, session.remove):
        with pytest.raises(ConflictError, match=r"user\.csv is a symlink"):
            call(FINAL)
    session.upload(PART, [b"ours"])
    assert not session.publish(PART, FINAL)
    assert list(elsewhere.iterdir()) == []
    assert [item.path for item in session.walk("/exports") if not item.is_folder] == [PART, "/exports/file"]


def test_walking_tells_everything_below_in_order(session: Session) -> None:
    session.upload(PART, [b"12345"])
    session.prepare("/exports/acme/2026/06/01/content")
    found = [(item.path, item.is_folder, item.size) for item in session.walk("/exports/acme/2026/06")]
    day = "/exports/acme/2026/06/01"
    assert found == [(day, True, 0), (f"{day}/content", True, 0), (DAY, True, 0), (PART, False, 5)]
    assert all(item.modified and item.modified.tzinfo for item in session.walk("/exports"))


def test_fifty_threads_share_one_connection(session: Session) -> None:
    def deliver(number: int) -> bool:
        part, final = f"{DAY}/.{number}.{'c' * 32}.part", f"{DAY}/{number}.csv"
        session.upload(part, [f"{number}\n".encode() * 3000])
        return session.publish(part, final) and session.size(final) == len(f"{number}\n") * 3000

    with ThreadPoolExecutor(50) as pool:
        assert all(pool.map(deliver, range(200)))


def test_foreign_folders_are_never_removed(session: Session, place: Place) -> None:
    with pytest.raises(ConflictError):
        session.remove(DAY)
    assert (place.root / DAY[1:]).is_dir()


def test_a_probe_finds_the_full_profile_and_leaves_nothing_behind(session: Session, place: Place) -> None:
    before = sorted(place.root.rglob("*"))
    probe = session.probe("/exports/new/deep")
    assert probe.profile is Profile.FULL, probe.steps
    assert sorted(place.root.rglob("*")) == before
    assert dict(probe.steps)["remove"] == "ok"
