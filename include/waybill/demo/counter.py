"""`waybill demo --preset`: on-demand exports of one product on this machine, with `waybill serve`, an issuer of tokens and a mailbox."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from waybill import bootstrap, service
from waybill.demo.issuing import AUDIENCE, TokenIssuer, serve_issuer
from waybill.demo.mailbox import serve_mailbox
from waybill.demo.sample import TENANT, Sample, prepare
from waybill.demo.stage import checkout, free_port, interruptible, swept
from waybill.errors import PermanentError, TransientError
from waybill.service import Estate
from waybill.service.recurring import make_recurring

PORT = 8080
START_SECONDS = 60.0
ROUND = 15.0
"""Seconds after which also those requests are fulfilled that policy leaves to a daily schedule: nobody waits a day for a demonstration."""


def demo(preset: str, port: int = 0, folder: Path | None = None) -> None:
    """Serve a preset's sample until Ctrl-C. How to reach it stands in `access.env` of its folder."""
    place = (folder or checkout() / ".waybill" / f"demo-{preset}").absolute()
    with interruptible(), swept(place), ExitStack() as running:
        sample = prepare(preset, place, datetime.now(UTC))
        issuer = running.enter_context(serve_issuer())
        smtp = running.enter_context(serve_mailbox(place / "mail"))
        port = free_port(port or PORT)
        url = f"http://127.0.0.1:{port}"
        os.environ.update(_environment(sample, issuer, smtp, url))
        estate = bootstrap.estate()
        estate.configuration.require_catalog()
        access = place / "access.env"
        _write_access(access, sample, issuer, url)
        alive = running.enter_context(_serving(port, place / "serve.log"))
        _tell(sample, access, url)
        try:
            _work(estate, alive)
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
        "AIRFLOW_CONN_SMTP_DEFAULT": json.dumps(mail),
    }


def _write_access(path: Path, sample: Sample, issuer: TokenIssuer, url: str) -> None:
    """What a shell needs, readable by the owner only."""
    tokens = {name: issuer.token(claims) for name, claims in sample.people.items()}
    values = {
        "API": f"{url}/api/v1",
        "TENANT": TENANT,
        "TOKEN": next(iter(tokens.values())),
        **{f"TOKEN_{name.upper()}": token for name, token in tokens.items()},
        "WAYBILL_CONFIG_DIR": str(sample.config_dir),
    }
    path.touch(mode=0o600)
    path.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items()))


@contextmanager
def _serving(port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`waybill serve` as a process of its own, once it answers."""
    command = [sys.executable, "-m", "waybill", "serve", "--port", str(port)]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True) as process:
        try:
            deadline = time.monotonic() + START_SECONDS
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise TransientError("`waybill serve` did not start", next_step=f"Read {log}", code="slow")
                time.sleep(0.2)
            yield process
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/openapi.json", trust_env=False, timeout=10).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _tell(sample: Sample, access: Path, url: str) -> None:
    people = ", ".join(f"{name} ({', '.join(claims['roles']) or 'no role'})" for name, claims in sample.people.items())
    print(f"exports as the preset {sample.preset} has them; people: {people}")
    print(f"page:  {url}/  sign in with a token of {access}")
    print(f"shell: source {shlex.quote(str(access))}; then the calls of docs/api.md, asking with {sample.ask}")
    print(f"mail:  {sample.folder / 'mail'}")
    print("Ctrl-C ends everything", flush=True)


def _work(estate: Estate, server: subprocess.Popen[bytes]) -> None:
    """What Airflow's DAG does: fulfil what is pending, make recurring requests, send mail, expire."""
    last = datetime.now(UTC)
    while True:
        if server.poll() is not None:
            raise PermanentError(f"`waybill serve` ended with status {server.returncode}", code="serve_ended")
        now = datetime.now(UTC)
        everything = now - last >= timedelta(seconds=ROUND)
        if everything:
            last = now
            make_recurring(estate)
            service.keep_requests(estate)
        service.fulfil_all(estate, due_only=not everything)
        for problem in service.send_mails(estate):
            print(problem, file=sys.stderr, flush=True)
        time.sleep(0.5)
