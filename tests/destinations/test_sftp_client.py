"""Large files go through OpenSSH's own client, with the connection's own credentials, wherever that is to be had."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.destinations.sftp_places import embedded, key_connection, key_place, password_connection
from tests.servers.proftpd import serve_proftpd
from tests.servers.sshd import SftpAccess, serve_sshd
from waybill.destinations.base import Profile, Session, Stored
from waybill.destinations.sftp.session import Sftp
from waybill.errors import TransientError
from waybill_demo.sftp_server import new_accounts, serve

MB = 1024 * 1024
LARGE = os.urandom(20 * MB)
PART, FINAL = "/.orders.csv.part", "/orders.csv"


@pytest.fixture(scope="module")
def openssh() -> Iterator[SftpAccess]:
    with serve_sshd() as server:
        yield server


def blocks(data: bytes = LARGE) -> Iterator[bytes]:
    return (data[at : at + MB] for at in range(0, len(data), MB))


def stored(data: bytes = LARGE) -> Stored:
    return Stored(len(data), hashlib.sha256(data).hexdigest())


def clients() -> list[int]:
    """The `ssh` processes this process has started and that still run."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, rest = status.read_text().split(" (", 1)
        except OSError:
            continue
        name, facts = rest.rsplit(") ", 1)
        if name == "ssh" and facts.split()[1] == str(os.getpid()):
            found.append(int(number))
    return found


def test_a_large_file_has_a_client_that_ends_with_the_session(openssh: SftpAccess) -> None:
    place = key_place(openssh)
    with place.destination.connect() as session:
        assert session.upload("/.small.part", blocks(LARGE[:MB])) == stored(LARGE[:MB])
        assert clients() == []
        assert session.upload(PART, blocks()) == stored()
        [first] = clients()
        assert session.upload("/.again.part", blocks()) == stored()
        assert clients() == [first]
        assert session.publish(PART, FINAL)
    assert clients() == []
    assert (place.root / FINAL[1:]).read_bytes() == LARGE


@pytest.mark.parametrize("profile", [Profile.FULL, Profile.DROPBOX])
def test_a_file_is_written_to_the_servers_disk_while_it_is_sent(openssh: SftpAccess, profile: Profile) -> None:
    place = key_place(openssh, profile)
    with place.destination.connect() as session:
        assert session.upload(PART, (block for _ in range(15) for block in blocks())) == stored(LARGE * 15)
    assert (place.root / PART[1:]).read_bytes() == LARGE * 15


def test_several_large_files_at_once_share_the_client(openssh: SftpAccess) -> None:
    with key_place(openssh).destination.connect() as session, ThreadPoolExecutor(4) as pool:
        names = [f"/.{number}.part" for number in range(4)]
        assert list(pool.map(lambda name: session.upload(name, blocks()), names)) == [stored()] * 4
        assert len(clients()) == 1


def test_it_logs_in_by_password_too(tmp_path: Path) -> None:
    with embedded(tmp_path) as place, place.destination.connect() as session:
        assert session.upload(PART, blocks()) == stored()
        assert len(clients()) == 1


def test_it_logs_in_with_an_encrypted_key(openssh: SftpAccess, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(openssh.private_key.read_bytes())
    key.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "correct horse", "-f", key], check=True, stdout=subprocess.DEVNULL)
    connection = key_connection(openssh, private_key=None, key_file=str(key), passphrase="correct horse")
    with Sftp(connection, openssh.remote_root).connect() as session:
        assert session.upload("/.encrypted.part", blocks()) == stored()
        assert len(clients()) == 1


def test_no_secret_is_on_its_command_line_or_in_its_environment(openssh: SftpAccess, tmp_path: Path) -> None:
    key = "".join(openssh.private_key.read_text().splitlines()[1:3])
    with key_place(openssh).destination.connect() as session:
        session.upload(PART, blocks())
        assert not shows(clients()[0], key)
    accounts = new_accounts(["acme"])
    with serve(accounts, tmp_path / "tenants", tmp_path / "state") as server, Sftp(password_connection(server)).connect() as session:
        session.upload(PART, blocks())
        assert not shows(clients()[0], accounts["acme"])
        assert shows(clients()[0], "askpass".upper())


def shows(process: int, words: str) -> bool:
    """Whether others of this machine could read the words off a process."""
    return any(words.encode() in Path(f"/proc/{process}/{name}").read_bytes() for name in ("cmdline", "environ"))


def fallback(session: Session, caplog: pytest.LogCaptureFixture) -> str:
    """Uploads a large file, which must arrive without a client; what the log says of that."""
    with caplog.at_level(logging.INFO, "waybill"):
        assert session.upload(PART, blocks()) == stored()
        assert session.upload("/.again.part", blocks()) == stored()
    assert clients() == []
    [said] = [record.getMessage() for record in caplog.records if "large files" in record.getMessage()]
    return said


def test_without_openssh_everything_goes_the_usual_way(
    openssh: SftpAccess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with key_place(openssh).destination.connect() as session:
        assert "no OpenSSH client is installed" in fallback(session, caplog)


@pytest.mark.parametrize("password", ["two\nlines", "é" * 512], ids=["lines", "long"])
def test_half_a_password_is_never_tried(tmp_path: Path, password: str, caplog: pytest.LogCaptureFixture) -> None:
    with (
        serve({"acme": password}, tmp_path / "tenants", tmp_path / "state") as server,
        Sftp(password_connection(server)).connect() as session,
    ):
        assert "a part of the password" in fallback(session, caplog)


def test_a_server_that_allows_one_login_is_used_with_one(caplog: pytest.LogCaptureFixture) -> None:
    with serve_proftpd(snippet="MaxClientsPerUser 1") as server, key_place(server).destination.connect() as session:
        assert "did not log in" in fallback(session, caplog)


def test_another_host_behind_the_same_name_is_not_talked_to(caplog: pytest.LogCaptureFixture) -> None:
    with serve_sshd() as server, key_place(server).destination.connect() as session:
        (server.log.parent / "host_key").unlink()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", server.log.parent / "host_key"], check=True)
        started = server.log.read_text().count("Server listening")
        os.kill(server.pid, signal.SIGHUP)  # sshd starts over and reads its keys
        deadline = time.monotonic() + 120
        while server.log.read_text().count("Server listening") == started:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert "Host key verification failed" in fallback(session, caplog)


def test_a_client_that_dies_is_a_lost_connection_and_the_next_file_has_another(openssh: SftpAccess) -> None:
    def killing() -> Iterator[bytes]:
        yield from blocks()
        os.kill(clients()[0], 9)
        yield from blocks()

    with key_place(openssh).destination.connect() as session:
        with pytest.raises(TransientError, match="connection was lost"):
            session.upload(PART, killing())
        assert clients() == []
        assert session.upload("/.next.part", blocks()) == stored()
        assert len(clients()) == 1
