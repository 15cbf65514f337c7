"""Keys of both sides change while deliveries go on, against OpenSSH's own server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.destinations.sftp_places import key_connection
from tests.installations import DAY, NOON, USER, Place, catalog, make_place
from tests.servers.process import free_port
from tests.servers.sshd import SftpAccess, new_key, serve_sshd
from waybill.connection import Connection
from waybill.deliveries.publishing import rehearsing
from waybill.destinations.sftp.session import Sftp
from waybill.errors import PermanentError
from waybill.files import verification

MIDNIGHT = NOON.replace(hour=0)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with closing(make_place(tmp_path)) as place:
        place.write("catalog.yaml", catalog(user=USER))
        yield place


def fingerprint(path: Path) -> str:
    return subprocess.run(["ssh-keygen", "-lf", path], capture_output=True, text=True, check=True).stdout.split()[1]


def authorised(server: SftpAccess) -> Path:
    return server.private_key.parent / "authorized_keys"


def key_line(path: Path) -> str:
    return path.with_name(f"{path.name}.pub").read_text()


def as_airflow_has_it(connection: Connection) -> dict[str, Any]:
    return {
        "conn_type": "sftp",
        "host": connection.host,
        "port": connection.port,
        "login": connection.login,
        "password": connection.password,
        "extra": connection.extra,
    }


@pytest.fixture
def waybill(place: Place, run_waybill: Callable[..., str]) -> Callable[..., str]:
    def run(*words: str, status: int = 0) -> str:
        connection = json.dumps(as_airflow_has_it(place.connections["consumer"]))
        return run_waybill(*words, status=status, WAYBILL_CONFIG_DIR=str(place.root / "config"), AIRFLOW_CONN_CONSUMER=connection)

    return run


def test_both_sides_change_their_keys_and_no_delivery_is_missed(place: Place, tmp_path: Path) -> None:
    new_host, new_login = tmp_path / "host_key", tmp_path / "login_key"
    new_host_line = new_key(new_host)
    new_key(new_login)
    port = free_port()
    day = 0

    def deliver(server: SftpAccess, **extra: Any) -> tuple[str, str]:
        """One more day, committed. Which keys are in use, as a rehearsal says."""
        nonlocal day
        place.connections["consumer"] = key_connection(server, **extra)
        place.tenant(entityList=["user"], destination={"kind": "sftp", "connection": "consumer", "root": server.remote_root})
        place.user(day, f"row {day}", MIDNIGHT + day * DAY - timedelta(hours=1))
        results = place.run(NOON + day * DAY)
        assert [result.outcome.status for result in results if result.outcome] == ["committed"], results
        day += 1
        found = rehearsing.probe(place.installation(), "acme")
        return found.login_key, found.host_key

    with serve_sshd(port=port) as server:
        old, old_host = server.private_key.read_text(), server.host_key
        both = [new_login.read_text(), old]
        old_print, new_print = fingerprint(server.private_key), fingerprint(new_login)
        assert deliver(server) == (f"ssh-ed25519 {old_print}", f"ssh-ed25519 {fingerprint(server.private_key.parent / 'host_key')}")

        # The new key is in the connection, and the server does not know it yet.
        assert deliver(server, private_key=None, private_keys=both)[0] == f"ssh-ed25519 {old_print} (2 of 2)"
        authorised(server).write_text(authorised(server).read_text() + key_line(new_login))
        assert deliver(server, private_key=None, private_keys=both)[0] == f"ssh-ed25519 {new_print} (1 of 2)"
        authorised(server).write_text(key_line(new_login))
        assert deliver(server, private_key=None, private_keys=both)[0] == f"ssh-ed25519 {new_print} (1 of 2)"
        only_new = {"private_key": None, "private_keys": both[:1]}
        assert deliver(server, **only_new)[0] == f"ssh-ed25519 {new_print}"

        # The server's owner announces a new host key: both are pinned before it changes.
        pins = {"host_key": [new_host_line, old_host]}
        assert deliver(server, **only_new, **pins)[1].endswith("(2 of 2)")
        delivered = server.root / "exports"
        kept = tmp_path / "kept"
        delivered.rename(kept)
    with serve_sshd(port=port, host_key=new_host) as server:
        kept.rename(server.root / "exports")
        authorised(server).write_text(key_line(new_login))
        place.tenant(entityList=["user"], destination={"kind": "sftp", "connection": "consumer", "root": server.remote_root})
        assert deliver(server, **only_new, **pins)[1] == f"ssh-ed25519 {fingerprint(new_host)} (1 of 2)"
        assert deliver(server, **only_new, host_key=new_host_line)[1] == f"ssh-ed25519 {fingerprint(new_host)}"
        with Sftp(place.connections["consumer"], server.remote_root).connect() as session:
            report = verification.verify(session, "/exports", lambda path: None)
        assert (report.problems, report.files) == ([], day)


@pytest.mark.parametrize("form", ["list", "text", "objects", "beside"])
def test_several_keys_may_be_written_in_several_ways(sshd: SftpAccess, tmp_path: Path, form: str) -> None:
    other = tmp_path / "other"
    new_key(other)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "its own", "-f", other], check=True, stdout=subprocess.DEVNULL)
    first, second = other.read_text(), sshd.private_key.read_text()
    plain = tmp_path / "plain"
    new_key(plain)
    extra: dict[str, dict[str, Any]] = {
        "list": {"private_keys": [plain.read_text(), second]},
        "text": {"private_keys": plain.read_text() + second},
        "objects": {
            "private_keys": [{"private_key": first, "private_key_passphrase": "its own"}, {"key_file": str(sshd.private_key)}],
        },
        "beside": {"private_keys": [plain.read_text()], "private_key": second},
    }
    with Sftp(key_connection(sshd, **{"private_key": None, **extra[form]}), sshd.remote_root).connect() as session:
        assert session.probe("/exports").login_key == f"ssh-ed25519 {fingerprint(sshd.private_key)} (2 of 2)"


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"private_keys": {"new": "x"}}, "private_keys in extra is not a list"),
        ({"private_keys": [7]}, "number 1 of private_keys in extra is no key"),
        ({"private_keys": ["no key"]}, "the private key in number 1 of private_keys cannot be used"),
        ({"private_keys": "planted-secret"}, "the private key in number 1 of private_keys cannot be used"),
        ({"private_keys": [{"key_file": "/no/such/file"}]}, "the key file /no/such/file cannot be read"),
        ({"host_key": ["planted-secret"]}, "host_key in extra is not a public key"),
    ],
)
def test_keys_that_cannot_be_used_are_named_before_anything_is_opened(sshd: SftpAccess, extra: dict[str, Any], says: str) -> None:
    with pytest.raises(PermanentError) as caught, Sftp(key_connection(sshd, **extra)).connect():
        pass
    assert says in str(caught.value)
    assert "planted-secret" not in repr(caught.value)


def test_more_keys_than_a_server_takes_are_refused_with_the_reason(tmp_path: Path) -> None:
    keys = [tmp_path / f"key{number}" for number in range(5)]
    for key in keys:
        new_key(key)
    texts = [key.read_text() for key in keys]
    with serve_sshd(extra_config="MaxAuthTries 2") as server:
        for some, says in ((texts, "Keep 4 at most"), (texts[:4], "the server refused the login")):
            with pytest.raises(PermanentError) as caught, Sftp(key_connection(server, private_key=None, private_keys=some)).connect():
                pass
            assert says in str(caught.value)


def test_keys_prints_lines_for_authorized_keys_and_nothing_private(
    waybill: Callable[..., str], place: Place, sshd: SftpAccess, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    new_key(new)
    old = sshd.private_key.read_text()
    place.connections["consumer"] = key_connection(sshd, private_key=None, private_keys=[new.read_text(), old], host_key=None)
    place.tenant(entityList=["user"], destination={"kind": "sftp", "connection": "consumer", "root": sshd.remote_root})
    printed = waybill("keys", "acme")  # before the tenant is in force, and before a host key is pinned
    assert printed.splitlines() == [
        f"# consumer, key 1 of 2: {fingerprint(new)}",
        key_line(new).strip(),
        f"# consumer, key 2 of 2: {fingerprint(sshd.private_key)}",
        key_line(sshd.private_key).strip(),
    ]
    place.connections["consumer"] = key_connection(sshd, private_key=None, private_keys=[new.read_text(), old])
    waybill("apply")
    assert f"login key                        ssh-ed25519 {fingerprint(sshd.private_key)} (2 of 2)" in waybill("probe", "acme")
    assert [key["in_use"] for key in json.loads(waybill("keys", "acme", "--json"))] == [False, True]
    everything = waybill("keys", "acme") + waybill("keys", "acme", "--json") + waybill("probe", "acme", "--json")
    assert "PRIVATE" not in everything
    assert not {line for line in (new.read_text() + old).splitlines()[1:] if len(line) > 40 and line in everything}


def test_keys_says_why_there_is_none(waybill: Callable[..., str], place: Place, sshd: SftpAccess) -> None:
    place.connections["consumer"] = Connection("consumer", "sftp", sshd.host, sshd.port, sshd.login, password="planted-secret")
    place.tenant(entityList=["user"], destination={"kind": "sftp", "connection": "consumer"})
    place.tenant("globex", entityList=["user"])
    printed = waybill("keys", "acme", status=1)
    assert "logs in with a password" in printed
    assert "planted-secret" not in printed
    assert "only sftp logs in with a key" in waybill("keys", "globex", status=1)
    assert "is not registered" in waybill("keys", "nobody", status=1)
