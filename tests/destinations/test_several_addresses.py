"""A server's name that has several addresses, as most have since IPv6: the server is reached while any of them answers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.consumer.copies import consumer
from tests.consumer.sender import Sender
from tests.destinations.sftp_places import key_connection
from tests.servers.sshd import SftpAccess
from waybill.destinations.sftp.session import Sftp

NAME = "files.example.org"


@contextmanager
def silent(port: int) -> Iterator[None]:
    """An address of this machine that takes no connection and refuses none, as one behind a firewall that drops packets."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket(socket.AF_INET6))
        server.bind(("::1", port))
        server.listen(0)
        for _ in range(3):  # they fill its queue, and it answers no more
            client = stack.enter_context(socket.socket(socket.AF_INET6))
            client.setblocking(False)
            client.connect_ex(("::1", port))
        yield


@pytest.fixture
def named(sshd: SftpAccess, monkeypatch: pytest.MonkeyPatch) -> Iterator[SftpAccess]:
    """A server whose name stands for a silent address and for its own."""
    look_up = socket.getaddrinfo

    def answer(host: Any, *rest: Any, **options: Any) -> list[Any]:
        if host not in (NAME, NAME.encode()):
            return look_up(host, *rest, **options)
        return [*look_up("::1", *rest, **options), *look_up("127.0.0.1", *rest, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", answer)  # as a name server of the network would
    with silent(sshd.port):
        yield sshd


def test_a_silent_address_of_a_name_keeps_nobody_from_the_server(named: SftpAccess) -> None:
    known = replace(key_connection(named, conn_timeout=10), host=NAME)
    with Sftp(known, named.remote_root).connect() as session:
        session.prepare("/exports")
    assert (named.root / "exports").is_dir()


def test_large_files_go_to_the_machine_that_was_reached(named: SftpAccess) -> None:
    known = replace(key_connection(named, conn_timeout=10), host=NAME)
    with Sftp(known, named.remote_root).connect() as session:
        assert session._lanes.client() is not None  # OpenSSH's client asks the name server of this machine, which knows no such name


def test_a_consumer_reaches_the_server_at_its_other_address(named: SftpAccess, tmp_path: Path) -> None:
    Sender(named.root / "exports" / "acme").deliver([("1", "a")], kind="full")
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(f"[{NAME}]:{named.port} {named.host_key}\n")
    source = f"sftp://{named.login}@{NAME}:{named.port}{named.remote_root}/exports/acme"
    said = consumer("pull", source, tmp_path / "copy", "--key", named.private_key, "--known-hosts", known_hosts)
    assert said.code == 0, said.out + said.err
    assert "1 new delivery" in said.out
