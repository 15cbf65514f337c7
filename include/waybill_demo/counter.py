"""`waybill demo --preset`: exports of one product on this machine, served as `waybill serve` does, with an issuer and a mailbox."""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvicorn

from waybill import private
from waybill.airflow import open_installation
from waybill.errors import WaybillError
from waybill.installation import Installation
from waybill.requests import mailing, upkeep
from waybill.requests.fulfilment.running import fulfil_all
from waybill.requests.recurring import make_recurring
from waybill.web.serve import tenant_app
from waybill_demo.issuing import AUDIENCE, CLIENT, TokenIssuer, serve_issuer
from waybill_demo.mailbox import serve_mailbox
from waybill_demo.sample import TENANT, Sample, prepare
from waybill_demo.stage import checkout, free_port, interruptible, swept

PORT = 8080
STOP_SECONDS = 10.0
ROUND = 15.0
"""Seconds after which requests are fulfilled that the policy leaves to a daily schedule, because nobody waits a day for a demonstration."""


def demo(preset: str, port: int = 0, folder: Path | None = None) -> None:
    """Serve a preset's sample until Ctrl-C. `access.env` of its folder says how to reach it."""
    place = (folder or checkout() / ".waybill" / f"demo-{preset}").absolute()
    with interruptible(), swept(place), ExitStack() as running:
        sample = prepare(preset, place, datetime.now(UTC))
        issuer = running.enter_context(serve_issuer(sample.people))
        smtp = running.enter_context(serve_mailbox(place / "mail"))
        listening = running.enter_context(socket.create_server(("127.0.0.1", free_port(port or PORT))))
        port = listening.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        os.environ.update(_environment(sample, issuer, smtp, url))
        installation = open_installation()
        installation.configuration.require_catalog()
        access = place / "access.env"
        _write_access(access, sample, issuer, url)
        alive = running.enter_context(_serving(listening))
        _tell(sample, access, url)
        try:
            work(installation, alive)
        except KeyboardInterrupt:
            print("everything is stopped", flush=True)


def _environment(sample: Sample, issuer: TokenIssuer, smtp: int, url: str) -> dict[str, str]:
    mail = {"conn_type": "smtp", "host": "127.0.0.1", "port": smtp, "extra": {"disable_ssl": True, "disable_tls": True}}
    return {
        "WAYBILL_CONFIG_DIR": str(sample.config_dir),
        "WAYBILL_LEDGER_URL": "",
        "WAYBILL_ARCHIVE_URL": "",
        "WAYBILL_SPOOL_DIR": "",
        "WAYBILL_PUBLIC_URL": url,
        "WAYBILL_OAUTH_ISSUER": issuer.url,
        "WAYBILL_OAUTH_AUDIENCE": AUDIENCE,
        "WAYBILL_OAUTH_JWKS_URL": f"{issuer.url}/jwks.json",
        "WAYBILL_OAUTH_CLIENT_ID": CLIENT,
        "WAYBILL_OAUTH_TOKEN_URL": f"{issuer.url}/token",
        "AIRFLOW_CONN_SMTP_DEFAULT": json.dumps(mail),
    }


def _write_access(path: Path, sample: Sample, issuer: TokenIssuer, url: str) -> None:
    """Write what a shell needs. Only the owner may read it."""
    tokens = {name: issuer.token(claims) for name, claims in sample.people.items()}
    values = {
        "API": f"{url}/api/v1",
        "TENANT": TENANT,
        "TOKEN": next(iter(tokens.values())),
        **{f"TOKEN_{name.upper()}": token for name, token in tokens.items()},
        "WAYBILL_CONFIG_DIR": str(sample.config_dir),
    }
    private.write_text(path, "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items()))


@contextmanager
def _serving(listening: socket.socket) -> Iterator[Callable[[], bool]]:
    """Serve what `waybill serve` serves, from a thread. Yields whether it still runs."""
    server = uvicorn.Server(uvicorn.Config(tenant_app(), server_header=False, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        while thread.is_alive() and not server.started:
            time.sleep(0.05)
        yield thread.is_alive
    finally:
        server.should_exit = True
        thread.join(STOP_SECONDS)


def _tell(sample: Sample, access: Path, url: str) -> None:
    people = ", ".join(f"{name} ({', '.join(claims['roles']) or 'no role'})" for name, claims in sample.people.items())
    print(f"exports as the preset {sample.preset} has them; people: {people}")
    print(f"page:  {url}/  sign in as one of them, or with a token of {access}")
    print(f"shell: cd {shlex.quote(str(sample.folder))}; then the session with curl of docs/api.md")
    print(f"mail:  {sample.folder / 'mail'}")
    print("Ctrl-C ends everything", flush=True)


def work(installation: Installation, alive: Callable[[], bool], every: timedelta = timedelta(seconds=ROUND)) -> None:
    """Do what Airflow's DAG does, until the server ends. A failed round is reported and tried again, and ends nothing."""
    last, shown = datetime.now(UTC), ""
    while alive():
        now = datetime.now(UTC)
        everything = now - last >= every
        if everything:
            last = now
        try:
            problems = _round(installation, everything)
        except WaybillError as error:
            problems = [str(error)]
        problem = "\n".join(problems)
        if problem and problem != shown:
            print(problem, file=sys.stderr, flush=True)
        shown = problem or ("" if everything else shown)
        time.sleep(0.5)


def _round(installation: Installation, everything: bool) -> list[str]:
    """Fulfil what is pending, make recurring requests, send mail, expire. Returns what did not work."""
    problems: list[str] = []
    if everything:
        make_recurring(installation)
        problems += upkeep.keep_requests(installation).failed
    fulfil_all(installation, due_only=not everything)
    return [*problems, *map(str, mailing.send_mails(installation))]
