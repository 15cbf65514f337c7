"""An office behind `waybill serve`, in a process of its own, as its clients meet it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.exports import Office, make_office
from tests.issuer import AUDIENCE, TestIssuer
from tests.servers.process import end, free_port, listening, spawn, wait_until_ready


@contextmanager
def serve_office(root: Path, issuer: TestIssuer, note: str, rows: int) -> Iterator[tuple[Office, int]]:
    """An office of a tenant that nobody registered yet, with so many rows more, and the port at which `waybill serve` serves it as a
    process of its own. `note` is an expression over `i`.
    """
    office = make_office(root)
    office.place.clock = None
    office.policy(max_active_per_project="none", destination={"kind": "folder", "root": "out"})
    (root / "config/tenants/acme.yaml").unlink()
    office.place.sql(
        f"insert into measurement select 'acme', i, 'p1', 'a1', 's1', 'x', i, {note},"
        f" '2026-05-01', '2026-05-01', null from range({rows}) as t(i)"
    )
    port = free_port()
    environment = {
        **os.environ,
        "WAYBILL_CONFIG_DIR": str(root / "config"),
        "WAYBILL_OAUTH_ISSUER": issuer.url,
        "WAYBILL_OAUTH_AUDIENCE": AUDIENCE,
        "WAYBILL_OAUTH_JWKS_URL": f"{issuer.url}/jwks.json",
    }
    with ExitStack() as stack:
        stack.callback(office.place.close)
        process = spawn([sys.executable, "-m", "waybill", "serve", "--port", str(port)], log=root / "log", env=environment)
        stack.callback(end, process)
        wait_until_ready(process, lambda: listening(port), root / "log", 180)
        yield office, port
