"""The issuer's keys: one fetch for all who wait, in bounded time, and nobody else is held up meanwhile."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.installations import Place, vacant_place
from tests.issuer import AUDIENCE, TestIssuer, serve_issuer, tenant_api
from tests.servers.http import PLAIN, handled_by
from tests.web.serving import served
from waybill.web import jwks
from waybill.web.oauth import Issuer

MANY = httpx.Limits(max_connections=200)
PATH = "/api/v1/tenants/acme/export"
GIVEN_UP = 600
"""Seconds after which a test that waits fails. Far above what the product waits for, as a busy machine is slow and not broken."""


@pytest.fixture(scope="module")
def issuer() -> Iterator[TestIssuer]:
    with serve_issuer() as running:
        yield running


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with vacant_place(tmp_path) as made:
        yield made


class Held:
    """An issuer that answers nothing, or a byte now and then, until it is let go."""

    def __init__(self) -> None:
        self.fetched, self.go, self.asked, self.drips = 0, threading.Event(), threading.Event(), False


@contextmanager
def held_issuer(answer: bytes) -> Iterator[tuple[Held, str]]:
    held = Held()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            held.fetched += 1
            held.asked.set()
            try:
                self.send_response(200)
                self.end_headers()
                while held.drips and not held.go.wait(0.05):
                    self.wfile.write(b" ")
                held.go.wait(GIVEN_UP)
                self.wfile.write(answer)
            except OSError:
                return

        def log_message(self, *_: Any) -> None:
            return None

    with handled_by(Handler) as url:
        try:
            yield held, f"{url}/jwks.json"
        finally:
            held.go.set()


def key_set(issuer: TestIssuer) -> bytes:
    return httpx.get(f"{issuer.url}/jwks.json", verify=PLAIN, timeout=GIVEN_UP).content


def call(address: str, issuer: TestIssuer, timeout: float = GIVEN_UP, **claims: Any) -> httpx.Response:
    return httpx.get(address + PATH, headers=issuer.bearer(**claims), verify=PLAIN, timeout=timeout)


def test_eighty_callers_wait_for_one_fetch_and_other_pages_do_not(
    place: Place, issuer: TestIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "TIMEOUT", GIVEN_UP)  # a busy machine may take longer than an issuer may
    with held_issuer(key_set(issuer)) as (held, url):
        app = tenant_api(place, issuer, settings=Issuer(issuer.url, AUDIENCE, url))
        with served(app) as address, ThreadPoolExecutor(80) as pool, httpx.Client(timeout=GIVEN_UP, limits=MANY) as client:
            client.get(f"{address}/nothing")
            headers = issuer.bearer()
            asked = [pool.submit(client.get, address + PATH, headers=headers) for _ in range(80)]
            assert held.asked.wait(GIVEN_UP)
            assert client.get(f"{address}/nothing").status_code == 404  # while all of them wait
            held.go.set()
            assert {future.result().status_code for future in asked} == {404}
        assert held.fetched == 1


@pytest.mark.parametrize("drips", [False, True], ids=["silent", "a byte now and then"])
def test_a_slow_issuer_is_given_up_and_not_asked_again_at_once(place: Place, issuer: TestIssuer, drips: bool) -> None:
    with held_issuer(b"") as (held, url):
        held.drips = drips
        app = tenant_api(place, issuer, settings=Issuer(issuer.url, AUDIENCE, url))
        with served(app) as address:
            assert call(address, issuer, GIVEN_UP / 2).status_code == 503
            assert not held.go.is_set()  # it was given up: the issuer is still at its answer
            assert {call(address, issuer).status_code for _ in range(10)} == {503}
            assert held.fetched == 1


def test_made_up_key_ids_cost_the_issuer_nothing(place: Place, issuer: TestIssuer) -> None:
    issuer.add_key("made up", publish=False)
    app = tenant_api(place, issuer)
    with served(app) as address:
        assert call(address, issuer).status_code == 404
        before = issuer.fetched
        with ThreadPoolExecutor(20) as pool:
            found = list(pool.map(lambda _: call(address, issuer, kid="made up").status_code, range(60)))
        assert set(found) == {401}
        assert issuer.fetched == before  # the set is younger than the cooldown


@pytest.mark.parametrize(("elsewhere", "expected"), [("127.0.0.1", 404), ("127.0.0.2", 503)], ids=["safe", "over plain HTTP"])
def test_an_issuer_that_redirects_is_followed_to_safe_addresses_only(
    place: Place, issuer: TestIssuer, elsewhere: str, expected: int
) -> None:
    class Moved(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/jwks.json":
                self.send_response(302)
                self.send_header("Location", f"http://{elsewhere}:{self.server.server_address[1]}/moved")
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(key_set(issuer))

        def log_message(self, *_: Any) -> None:
            return None

    with ThreadingHTTPServer(("0.0.0.0", 0), Moved) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        settings = Issuer(issuer.url, AUDIENCE, f"http://127.0.0.1:{server.server_port}/jwks.json")
        try:
            with served(tenant_api(place, issuer, settings=settings)) as address:
                assert call(address, issuer).status_code == expected
        finally:
            server.shutdown()
            thread.join()


def test_one_odd_key_takes_nobody_elses_away(place: Place, issuer: TestIssuer) -> None:
    good = issuer.published["first"]
    odd = [{**good, "kid": ["first"]}, {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "e"}, None, 7, {"kid": "first"}]
    shared = {"kty": "oct", "k": "c2VjcmV0", "kid": "first"}
    with held_issuer(json.dumps({"keys": [*odd, good, *odd, shared]}).encode()) as (held, url):
        held.go.set()
        with served(tenant_api(place, issuer, settings=Issuer(issuer.url, AUDIENCE, url))) as address:
            assert call(address, issuer).status_code == 404


@pytest.mark.parametrize("answer", [b"x" * (jwks.LARGEST + 1), b"null", b'{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "first"}]}'])
def test_a_strange_key_set_is_nobodys_key(place: Place, issuer: TestIssuer, answer: bytes) -> None:
    with held_issuer(answer) as (held, url):
        held.go.set()
        with served(tenant_api(place, issuer, settings=Issuer(issuer.url, AUDIENCE, url))) as address:
            assert call(address, issuer).status_code in (401, 503)


@pytest.mark.parametrize("answer", [b"<html>", b'{"keys": []}'], ids=["no key set", "no key"])
def test_why_nobody_can_sign_in_stands_in_the_log(answer: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with held_issuer(answer) as (held, url):
        held.go.set()
        with pytest.raises(LookupError):
            asyncio.run(jwks.KeySet(url).key("first"))
    assert [url in record.getMessage() for record in caplog.records if record.name == jwks.__name__] == [True]
