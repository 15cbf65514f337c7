"""The demo server: a stranger's `sftp` program can use it, tenants stay apart, and it keeps its host key."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import paramiko
import pytest

from tests.destinations.sftp_places import password_connection
from waybill.connection import Connection
from waybill.destinations.sftp.session import Sftp
from waybill_demo.sftp_server import new_accounts, serve


def test_each_tenant_sees_only_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "tenants" / "globex").mkdir(parents=True)
    (tmp_path / "tenants" / "globex" / "secret.csv").write_text("x")
    with serve(new_accounts(["acme", "globex"]), tmp_path / "tenants", tmp_path / "state") as server:
        with Sftp(password_connection(server, "acme")).connect() as session:
            assert list(session.walk("/")) == []
            session.prepare("/exports")
        with paramiko.Transport((server.host, server.port)) as transport:
            transport.connect(username="acme", password=server.accounts["acme"])
            client = paramiko.SFTPClient.from_transport(transport)
            assert client is not None
            assert client.listdir("/../globex/..") == ["exports"]
            with pytest.raises(OSError, match="links cannot be made"):
                client.symlink("/../globex", "/link")
            with pytest.raises(FileNotFoundError):
                client.open("/../globex/secret.csv")
            client.close()
    assert (tmp_path / "tenants" / "acme" / "exports").is_dir()


def test_the_host_key_stays_and_is_kept_private(tmp_path: Path) -> None:
    keys = []
    for _ in range(2):
        with serve(new_accounts(["acme"]), tmp_path / "tenants", tmp_path / "state") as server:
            keys.append(server.host_key)
    assert keys[0] == keys[1]
    assert keys[0].startswith("ssh-ed25519 ")
    assert stat.S_IMODE((tmp_path / "state" / "sftp_host_key").stat().st_mode) == 0o600


def test_accounts_get_fresh_passwords_that_do_not_print() -> None:
    first, second = new_accounts(["acme"]), new_accounts(["acme"])
    assert first["acme"] != second["acme"]
    assert len(first["acme"]) >= 20


def test_the_connection_it_hands_out_works(tmp_path: Path) -> None:
    with serve(new_accounts(["acme"]), tmp_path / "tenants", tmp_path / "state") as server:
        assert server.accounts["acme"] not in repr(server)
        given = json.loads(server.connection_uri("acme"))
        connection = Connection(
            "acme_sftp", given["conn_type"], given["host"], given["port"], given["login"], password=given["password"], extra=given["extra"]
        )
        with Sftp(connection).connect() as session:
            assert session.upload("/x", [os.urandom(10)]).bytes == 10
