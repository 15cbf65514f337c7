"""A real headless Chromium on a real `waybill serve`, for the tests of the pages."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, BrowserContext, Frame, FrameLocator, Page, expect, sync_playwright

from tests.installations import Place
from tests.issuer import AUDIENCE, TestIssuer
from tests.servers.http import PLAIN
from tests.servers.process import end, spawn
from waybill_demo.issuing import TokenIssuer

expect.set_options(timeout=60_000)

AXE = (Path(__file__).parent / "axe.min.js").read_text()
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium") or "/usr/bin/chromium", args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def waybill_serve(place: Place, issuer: TestIssuer | TokenIssuer, **settings: str) -> Iterator[str]:
    """The command itself, as a process. Yields the address of its pages."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")},
        "AIRFLOW_HOME": str(place.root / "no-airflow"),
        "WAYBILL_CONFIG_DIR": str(place.root / "config"),
        "WAYBILL_OAUTH_ISSUER": issuer.url,
        "WAYBILL_OAUTH_AUDIENCE": AUDIENCE,
        "WAYBILL_OAUTH_JWKS_URL": f"{issuer.url}/jwks.json",
        **settings,
    }
    command = [sys.executable, "-m", "waybill", "serve", "--port", str(port)]
    server = spawn(command, log=place.root / "serve.log", env=environment)
    try:
        base = f"http://127.0.0.1:{port}"
        _wait(f"{base}/page/sign-in", server)
        yield base
    finally:
        server.terminate()
        server.wait(300)
        end(server)


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(url, verify=PLAIN, timeout=60).status_code == 200:
                return
        except httpx.ConnectError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"waybill serve did not come up at {url}")


@dataclass
class Visitor:
    """Somebody with a browser window. `errors` collects what the console complains about."""

    base: str
    context: BrowserContext
    page: Page
    errors: list[str]

    def go(self, path: str) -> int:
        answer = self.page.goto(f"{self.base}/page/{path}")
        assert answer is not None
        return answer.status

    def serious(self) -> list[str]:
        """What axe finds that keeps people out."""
        return _serious(self.page)

    def serious_in(self, frame: FrameLocator) -> list[str]:
        """The same inside a frame."""
        inner = frame.owner.element_handle().content_frame()
        assert inner is not None
        return _serious(inner)

    @property
    def overflow(self) -> int:
        """Pixels by which the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))

    @property
    def widest(self) -> list[str]:
        """The elements that stick out of the window, for the message of a failed check."""
        script = """() => [...document.querySelectorAll("main *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1)
            .map(e => `${e.tagName}.${e.className} ${Math.round(e.getBoundingClientRect().right)}`).slice(0, 12)"""
        found: list[str] = self.page.evaluate(script)
        return found


def _serious(place: Page | Frame) -> list[str]:
    place.evaluate(AXE)
    found: dict[str, Any] = place.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{violation['id']}: {violation['nodes'][0]['html'][:200]} {violation['nodes'][0]['failureSummary'][:300]}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
    ]


@contextmanager
def visit(browser: Browser, base: str, token: str = "", **options: Any) -> Iterator[Visitor]:
    """A window of its own, signed in when a token is given."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 850}, **options})
    context.set_default_timeout(60_000)
    if token:
        for path in ("/page", "/settings/exports"):
            context.add_cookies([{"name": "waybill_session", "value": token, "domain": "127.0.0.1", "path": path}])
    page = context.new_page()
    errors: list[str] = []
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    try:
        yield Visitor(base, context, page, errors)
    finally:
        context.close()
