"""Only the pinned host, only good credentials, always in time, and never a secret in an error."""

from __future__ import annotations

import base64
import socket
import subprocess
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.destinations.sftp_places import key_connection, password_connection
from tests.servers.process import free_port
from tests.servers.proftpd import serve_proftpd
from tests.servers.sshd import SftpAccess, new_key, serve_sshd
from waybill.connection import Connection
from waybill.destinations.sftp.session import Sftp
from waybill.destinations.sftp.ssh_keys import host_keys, private_keys
from waybill.errors import PermanentError, TransientError, WaybillError
from waybill_demo.sftp_server import RunningServer, new_accounts, serve


@pytest.fixture(scope="module")
def openssh() -> Iterator[SftpAccess]:
    with serve_sshd() as server:
        yield server


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("demo")
    with serve(new_accounts(["acme", "globex"]), folder / "tenants", folder / "state") as server:
        yield server


def refusal(connection: Connection) -> WaybillError:
    with pytest.raises(WaybillError) as caught, Sftp(connection).connect():
        pass
    return caught.value


def with_extra(connection: Connection, **extra: Any) -> Connection:
    return replace(connection, extra={**connection.extra, **extra})


def test_another_host_key_is_refused_naming_both_fingerprints(openssh: SftpAccess, tmp_path: Path) -> None:
    other = new_key(tmp_path / "other")
    error = refusal(key_connection(openssh, host_key=other))
    assert isinstance(error, PermanentError)
    assert error.code == "host_key"
    for key in (other, openssh.host_key):
        (tmp_path / "pub").write_text(key)
        done = subprocess.run(["ssh-keygen", "-lf", tmp_path / "pub"], capture_output=True, text=True, check=True)
        assert done.stdout.split()[1] in str(error)
    assert "Do not connect before" in str(error)


@pytest.mark.parametrize("form", ["{key}", "{key} comment", "[127.0.0.1]:{port} {key}", "{other}\n{key}\n"])
def test_the_pin_may_be_written_in_several_ways(openssh: SftpAccess, tmp_path: Path, form: str) -> None:
    pin = form.format(key=openssh.host_key, port=openssh.port, other=new_key(tmp_path / "next"))
    with Sftp(key_connection(openssh, host_key=pin)).connect() as session:
        assert session.size("/no/such/file") is None


def test_a_known_hosts_file_pins_too(openssh: SftpAccess, tmp_path: Path) -> None:
    connection = key_connection(openssh, host_key="", known_hosts=str(openssh.known_hosts))
    with Sftp(connection).connect() as session:
        assert session.size("/no/such/file") is None
    (tmp_path / "empty").write_text("")
    assert "does not name 127.0.0.1" in str(refusal(with_extra(connection, known_hosts=str(tmp_path / "empty"))))


@pytest.mark.parametrize("host", ["localhost", "LocalHost"])
@pytest.mark.parametrize(
    "form", ["[localhost]:{port} {key}", "other,[LOCALHOST]:{port} {key}", "@revoked * {other}\n[Local*]:* {key}", "hashed"]
)
def test_a_known_hosts_file_names_a_host_in_any_letters(openssh: SftpAccess, tmp_path: Path, form: str, host: str) -> None:
    file = tmp_path / "known_hosts"
    plain = "[localhost]:{port} {key}" if form == "hashed" else form
    file.write_text(plain.format(port=openssh.port, key=openssh.host_key, other=new_key(tmp_path / "other")) + "\n")
    if form == "hashed":
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
    connection = replace(key_connection(openssh, host_key=None, known_hosts=str(file)), host=host)
    with Sftp(connection).connect() as session:
        assert session.size("/no/such/file") is None


def test_a_revoked_key_pins_nothing(openssh: SftpAccess, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(openssh.known_hosts.read_text() + f"@revoked * {openssh.host_key}\n")
    assert "has revoked every key" in str(refusal(key_connection(openssh, host_key=None, known_hosts=str(file))))


def test_a_connection_of_another_type_is_told_apart(openssh: SftpAccess) -> None:
    said = str(refusal(replace(key_connection(openssh), type="postgres")))
    assert "the connection is of type postgres, which is no SFTP server" in said
    assert "AIRFLOW_CONN_" in said


@pytest.mark.parametrize(
    "extra",
    [
        {"host_key": ""},
        {"host_key": " "},
        {"host_key": [" ", ""]},
        {"no_host_key_check": "true"},
        {"host_key": "", "known_hosts": "none"},
    ],
)
def test_an_unpinned_host_is_never_talked_to(openssh: SftpAccess, extra: dict[str, Any]) -> None:
    error = refusal(key_connection(openssh, **extra))
    assert isinstance(error, PermanentError)
    assert f"ssh-keyscan -p {openssh.port} 127.0.0.1" in str(error)


def test_a_wrong_key_and_a_wrong_password_are_bad_logins(openssh: SftpAccess, demo: RunningServer, tmp_path: Path) -> None:
    new_key(tmp_path / "stranger")
    for connection in (
        key_connection(openssh, private_key=(tmp_path / "stranger").read_text()),
        replace(password_connection(demo), password="wrong"),
        replace(password_connection(demo), login="nobody"),
    ):
        error = refusal(connection)
        assert isinstance(error, PermanentError)
        assert error.code == "login"
        assert connection.login in str(error)


def test_a_key_file_and_an_encrypted_key_work(openssh: SftpAccess, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(openssh.private_key.read_bytes())
    key.chmod(0o600)
    with Sftp(key_connection(openssh, private_key=None, key_file=str(key))).connect():
        pass
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "correct horse", "-f", key], check=True, stdout=subprocess.DEVNULL)
    for name in ("private_key_passphrase", "passphrase"):
        with Sftp(key_connection(openssh, private_key=key.read_text(), **{name: "correct horse"})).connect():
            pass
    for given, says in (({"passphrase": "no"}, "the passphrase does not open the private key"), ({}, "has no passphrase for it")):
        assert says in str(refusal(key_connection(openssh, private_key=key.read_text(), **given)))
    for missing in (str(tmp_path / "missing"), "~nobody-of-this-name/key"):
        assert "cannot be read" in str(refusal(key_connection(openssh, private_key=None, key_file=missing)))
        assert "cannot be read" in str(refusal(key_connection(openssh, host_key=None, known_hosts=missing)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"host": ""}, "has no host"),
        ({"login": ""}, "has no login"),
        ({"password": ""}, "neither a password nor a private key"),
        ({"extra": {"host_key": "ssh-ed25519 nonsense"}}, "not a public key"),
        (
            {"extra": {"host_key": "@cert-authority *.example.com ssh-ed25519 AAAA"}},
            "a certificate authority, and certificates of hosts are not",
        ),
        ({"extra": {"host_key": "@revoked * ssh-ed25519 AAAA"}}, "host_key in extra names a revoked key"),
        (
            {"extra": {"private_key": "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none"}},
            "is in PuTTY's format. Convert it with `puttygen",
        ),
        ({"extra": {"private_key": "\ufeffPuTTY-User-Key-File-2: ssh-rsa\r\n"}}, "is in PuTTY's format. Convert it with `puttygen"),
        ({"extra": {"private_key": "ssh-ed25519 AAAA me@example.com"}}, "what stands in private_key is a public key"),
        ({"extra": {"private_key": "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nAAAA"}}, "is in the format of SSH Tectia"),
        ({"extra": {"private_key": "-----BEGIN CERTIFICATE-----\nAAAA"}}, "what stands in private_key is a certificate"),
        ({"extra": {"private_key": "~/.ssh/id_ed25519"}}, "what stands in private_key is the name of a file. Put it into key_file"),
        ({"extra": {"host_key": "# files.example.com:22 SSH-2.0-OpenSSH_9.2"}}, "pins no host key"),
        ({"extra": {"conn_timeout": "soon"}}, "conn_timeout in extra is not a number"),
        ({"extra": {"ciphers": ["rot13"]}}, "unknown ciphers in extra: rot13"),
    ],
)
def test_missing_settings_are_told_before_anything_is_opened(demo: RunningServer, change: dict[str, Any], says: str) -> None:
    connection = password_connection(demo)
    if "extra" in change:
        connection, change = with_extra(connection, **change["extra"]), {}
    error = refusal(replace(connection, **change))
    assert isinstance(error, PermanentError)
    assert says in str(error)


@pytest.mark.parametrize(("mark", "end"), [("", "\\n"), ("", "\\r\\n"), ("\ufeff", "\n"), ("\ufeff", "\r\n")])
def test_line_breaks_as_a_file_of_the_environment_spells_them_and_comments_of_ssh_keyscan_do_no_harm(
    openssh: SftpAccess, tmp_path: Path, mark: str, end: str
) -> None:
    spelt = mark + openssh.private_key.read_text().replace("\n", end)
    (tmp_path / "key").write_text(spelt.replace("\\r\\n", "\r\n").replace("\\n", "\n"), newline="")
    with Sftp(key_connection(openssh, private_key=None, key_file=str(tmp_path / "key"))).connect():
        pass
    with Sftp(key_connection(openssh, private_key=spelt, host_key=f"# {openssh.host}:22 SSH-2.0\n{openssh.host_key}\n")).connect():
        pass


@pytest.mark.parametrize("before", ["\ufeff", "# caf\xe9\n", "other.example.com ssh-dss AAAAB3NzaC1kc3M= caf\xe9\n"])
def test_a_known_hosts_file_in_whatever_encoding_is_read(openssh: SftpAccess, tmp_path: Path, before: str) -> None:
    file = tmp_path / "known_hosts"
    encoding = "utf-8" if before == "\ufeff" else "latin-1"
    file.write_bytes(f"{before}[127.0.0.1]:{openssh.port} {openssh.host_key}\r\n".encode(encoding))
    with Sftp(key_connection(openssh, host_key=None, known_hosts=str(file))).connect() as session:
        assert session.size("/no/such/file") is None


def _text(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def _on_a_security_key() -> str:
    """A key as `ssh-keygen -t ed25519-sk` writes it: a handle of what the device keeps."""
    kind, none = b"sk-ssh-ed25519@openssh.com", _text(b"none")
    public = _text(kind) + _text(bytes(range(32))) + _text(b"ssh:")
    private = bytes(8) + public + b"\1" + _text(b"handle") + _text(b"") + _text(b"")
    private += bytes(range(1, 1 + -len(private) % 8))
    whole = b"openssh-key-v1\0" + none + none + _text(b"") + (1).to_bytes(4, "big") + _text(public) + _text(private)
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{base64.b64encode(whole).decode()}\n-----END OPENSSH PRIVATE KEY-----\n"


def test_a_key_on_a_security_key_is_told_before_anybody_waits_for_a_touch(openssh: SftpAccess) -> None:
    error = refusal(key_connection(openssh, private_key=_on_a_security_key()))
    assert "the private key in private_key is on a security key (FIDO)" in str(error)


def test_a_line_of_known_hosts_that_names_nothing_is_told(openssh: SftpAccess, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"garbage\n{openssh.host} {openssh.host_key}\n")
    error = refusal(key_connection(openssh, host_key=None, known_hosts=str(file)))
    assert "has a line that does not name a host and its key" in str(error)


def test_a_known_hosts_file_that_names_only_an_authority_is_told(openssh: SftpAccess, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"@cert-authority * {openssh.host_key}\n")
    error = refusal(key_connection(openssh, host_key=None, known_hosts=str(file)))
    assert isinstance(error, PermanentError)
    assert "names only a certificate authority for 127.0.0.1 (@cert-authority)" in str(error)


@pytest.mark.parametrize("words", ["Welcome to the machine", "hi", "a line that is longer than the first answer of any server is"])
def test_a_login_shell_that_prints_is_told(words: str) -> None:
    command = f"/bin/sh -c 'echo {words}; exec /usr/lib/openssh/sftp-server'"
    with serve_sshd(extra_config=f"ForceCommand {command}") as server:
        error = refusal(key_connection(server))
    assert isinstance(error, PermanentError)
    assert error.code == "not_sftp"
    assert f"the login {server.login} prints text where SFTP should begin" in str(error)


@pytest.mark.parametrize(
    ("command", "how"),
    [
        ("ForceCommand /bin/false", "it ended at once with status 1"),
        ("ForceCommand /bin/sh -c 'echo no access for you >&2; exit 1'", "it ended at once with status 1"),
        ("ForceCommand /bin/sh -c 'printf no; exit 0'", "it ended at once with status 0"),
        ("Subsystem sftp /nowhere/sftp-server\nForceCommand none", "it ended at once with status 127"),
        ("Subsystem other internal-sftp\nForceCommand none", "the server starts no SFTP for it"),
    ],
)
def test_a_login_that_is_given_no_sftp_is_told_and_not_tried_again(command: str, how: str) -> None:
    with serve_sshd(extra_config=command) as server:
        error = refusal(key_connection(server))
    assert isinstance(error, PermanentError)
    assert error.code == "not_sftp"
    assert f"the server took the login {server.login} and gives it no SFTP: {how}" in str(error)


def test_what_a_server_says_at_login_is_quoted_where_no_sftp_follows(tmp_path: Path) -> None:
    """As PAM tells that a password has expired: sshd takes the key, and starts nothing."""
    (tmp_path / "banner").write_text("You are required to change\nyour password\x1b[2J immediately.\n")
    with serve_sshd(extra_config=f"Banner {tmp_path}/banner\nForceCommand /bin/false") as server:
        error = refusal(key_connection(server))
    said = "it ended at once with status 1; at login it said: You are required to change your password[2J immediately. Ask its owner"
    assert f"{said} whether the login's password has expired" in str(error)


@pytest.mark.parametrize("size", ["005", "011"], ids=["behind it", "within it"])
def test_text_with_the_first_answer_is_told_as_such(size: str, tmp_path: Path) -> None:
    script = tmp_path / "shell"
    script.write_text(
        f"""#!/bin/sh\nprintf '\\000\\000\\000\\{size}\\002\\000\\000\\000\\003rubbish'; exec /usr/lib/openssh/sftp-server\n"""
    )
    script.chmod(0o755)
    with serve_sshd(extra_config=f"ForceCommand {script}") as server:
        error = refusal(key_connection(server))
    assert isinstance(error, PermanentError)
    assert error.code == "not_sftp"


@pytest.mark.parametrize("ending", ["kill -TERM $$", "kill -KILL $PPID; sleep 9"], ids=["its program", "the connection"])
def test_a_server_that_goes_down_before_its_first_word_may_come_back(ending: str, tmp_path: Path) -> None:
    script = tmp_path / "shell"
    script.write_text(f"#!/bin/sh\n{ending}\n")
    script.chmod(0o755)
    with serve_sshd(extra_config=f"ForceCommand {script}") as server:
        error = refusal(key_connection(server))
    assert isinstance(error, TransientError)
    assert error.code == "busy"


def test_a_closed_port_and_an_unknown_name_may_pass(demo: RunningServer) -> None:
    for change in ({"port": free_port()}, {"host": "no-such-host.invalid"}):
        error = refusal(replace(password_connection(demo), **change))
        assert isinstance(error, TransientError)
        assert error.code == "unreachable"


def test_a_black_hole_ends_in_time(demo: RunningServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hole:
        connection = with_extra(password_connection(demo), conn_timeout=0.5, banner_timeout=0.5)
        error = refusal(replace(connection, port=hole.getsockname()[1]))  # the hole never answers: that this ends is the point
    assert isinstance(error, TransientError)
    assert "did not answer in time" in str(error)


def test_something_that_is_no_ssh_server_is_told_as_such(demo: RunningServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        import threading

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100)

        thread = threading.Thread(target=answer)
        thread.start()
        error = refusal(replace(with_extra(password_connection(demo), banner_timeout=2), port=server.getsockname()[1]))
        thread.join()
    assert isinstance(error, TransientError)


def test_a_connection_limit_may_pass() -> None:
    with serve_sshd(extra_config="MaxSessions 0") as server:
        error = refusal(key_connection(server))
        assert isinstance(error, TransientError)
        assert error.code == "busy"
    with serve_proftpd(snippet="MaxClients 1") as server, Sftp(key_connection(server)).connect():
        assert isinstance(refusal(key_connection(server)), TransientError)


def test_no_error_tells_a_secret(demo: RunningServer, openssh: SftpAccess, tmp_path: Path) -> None:
    secret = "planted-secret-5f1c"
    good = password_connection(demo)
    broken_key = openssh.private_key.read_text().replace("\n", f"\n{secret}", 2)
    new_key(tmp_path / "other")
    connections = [
        replace(good, password=secret),
        replace(good, password=secret, port=free_port()),
        with_extra(replace(good, password=secret), host_key=new_key(tmp_path / "third")),
        with_extra(good, private_key=broken_key),
        with_extra(good, private_key=secret, passphrase=secret),
        with_extra(key_connection(openssh), private_key=(tmp_path / "other").read_text(), passphrase=secret),
        with_extra(replace(good, password=secret), host_key=""),
    ]
    for connection in connections:
        error = refusal(connection)
        told = "".join(traceback.format_exception(error)) + repr(error) + repr(connection)
        assert secret not in told
        assert "PRIVATE KEY" not in told


@pytest.mark.parametrize("root", ["../there-is-no-such-folder", "{x}", "/in/deep"])
@pytest.mark.parametrize("step", ["prepare", "probe"])
def test_a_root_that_is_not_there_is_named_with_what_to_do(openssh: SftpAccess, root: str, step: str) -> None:
    with Sftp(key_connection(openssh), root).connect() as session, pytest.raises(PermanentError) as caught:
        getattr(session, step)("/exports/acme")
    assert caught.value.code == "root_missing"
    assert f"there is no folder {root} on the server" in str(caught.value)
    assert "Make it there, or correct the root in the registration" in str(caught.value)


@pytest.mark.parametrize(("kind", "size", "says"), [("rsa", 1024, "RSA of 1024 bits"), ("dsa", 1024, "a DSA key"), ("rsa", 2048, "")])
def test_a_weak_key_is_neither_offered_nor_pinned(kind: str, size: int, says: str, tmp_path: Path) -> None:
    made = dsa.generate_private_key(size) if kind == "dsa" else rsa.generate_private_key(65537, size)
    pem = made.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    (tmp_path / "key").write_text(pem)
    key = asyncssh.import_private_key(pem)
    line = key.export_public_key("openssh").decode().strip()
    (tmp_path / "known_hosts").write_text(f"sftp.example.org {line}\n")
    for extra in ({"private_key": pem}, {"private_keys": [pem]}, {"key_file": str(tmp_path / "key")}):
        found = refused_or(partial(private_keys, "sftp acme", Connection("acme", "sftp", extra=extra)))
        assert (says in found, bool(found)) == (True, bool(says)), extra
    for extra in ({"host_key": line}, {"host_key": [line]}, {"known_hosts": str(tmp_path / "known_hosts")}):
        found = refused_or(partial(host_keys, "sftp acme", "sftp.example.org", 22, extra))
        assert (says in found, bool(found)) == (True, bool(says)), extra


def refused_or(call: Callable[[], object]) -> str:
    """What a call was refused with; nothing when it was not."""
    try:
        call()
    except PermanentError as error:
        return str(error)
    return ""
