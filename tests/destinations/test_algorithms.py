"""Modern algorithms only, as ssh-audit sees our clients and the demo server."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.servers.process import free_port
from tests.servers.sshd import new_key
from waybill.connection import Connection
from waybill.destinations.sftp.login import settings
from waybill.destinations.sftp.openssh import open_client
from waybill.destinations.sftp.packets import Lost
from waybill.destinations.sftp.session import Sftp
from waybill.errors import WaybillError
from waybill_demo.sftp_server import new_accounts, serve

AUDIT = str(Path(sys.executable).with_name("ssh-audit"))
LATER = "does not provide protection against post-quantum attacks"
"""Of the exchanges that stand behind those which do."""

FOR_OTHERS = {"using encrypt-and-MAC mode", "2048-bit modulus only provides 112-bits of symmetric strength"}
"""What a client offers last, for servers that have nothing else; a server of ours does not."""


def remarks(audit: dict[str, Any], level: str) -> dict[str, set[str]]:
    """What ssh-audit says of each algorithm, but for NIST's curves, which some servers are bound to."""
    found = {}
    for kind in ("kex", "key", "enc", "mac"):
        for item in audit[kind]:
            said = set(item["notes"].get(level, [])) - {LATER}
            if said and "nistp" not in item["algorithm"]:
                found[f"{kind} {item['algorithm']}"] = said
    return found


def names(audit: dict[str, Any], kind: str) -> list[str]:
    return [item["algorithm"] for item in audit[kind]]


def test_the_demo_server_offers_nothing_that_ssh_audit_objects_to(tmp_path: Path) -> None:
    with serve(new_accounts(["acme"]), tmp_path / "tenants", tmp_path / "state") as server:
        argv = [AUDIT, "-j", "--skip-rate-test", "-p", str(server.port), server.host]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    audit = json.loads(done.stdout)
    assert {kind: bool(names(audit, kind)) for kind in ("kex", "key", "enc", "mac")} == dict.fromkeys(("kex", "key", "enc", "mac"), True)
    assert (remarks(audit, "fail"), remarks(audit, "warn")) == ({}, {})


def log_in(connection: Connection) -> None:
    with suppress(WaybillError), Sftp(connection).connect():
        pass


def large_files(connection: Connection) -> None:
    with suppress(Lost, OSError):
        asyncio.run(open_client(settings(connection)))


@pytest.mark.parametrize("client", [log_in, large_files])
def test_neither_client_offers_sha1_short_tags_or_cbc(client: Callable[[Connection], None], tmp_path: Path) -> None:
    port, pin = free_port(), new_key(tmp_path / "other")
    extra = {"host_key": pin, "conn_timeout": 20, "banner_timeout": 20}
    process = subprocess.Popen([AUDIT, "-c", "-j", "-p", str(port), "-t", "120"], stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 100
        while not _bound(port) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        client(Connection("acme_sftp", "sftp", "127.0.0.1", port, "acme", password="x", extra=extra))
        said, _ = process.communicate(timeout=200)
    finally:
        process.kill()
        process.wait()
    audit = json.loads(said)
    assert remarks(audit, "fail") == {}
    assert {text for found in remarks(audit, "warn").values() for text in found} <= FOR_OTHERS
    assert not [
        name for kind in ("kex", "key", "enc", "mac") for name in names(audit, kind) if "sha1" in name or "cbc" in name or "umac-64" in name
    ]


def _bound(port: int) -> bool:
    """Whether somebody listens, told without connecting: the audit takes the first connection for the client."""
    wanted = f":{port:04X}"
    tables = [Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6")]
    return any(line.split()[1].endswith(wanted) and line.split()[3] == "0A" for table in tables for line in table.splitlines()[1:])
