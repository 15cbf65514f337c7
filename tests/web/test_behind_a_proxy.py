"""`waybill serve` behind nginx: cookies, redirects and links follow the public address, with and without a path in front."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.exports import Office, make_office
from tests.issuer import AUDIENCE, TestIssuer
from tests.servers.nginx import serve_nginx
from tests.servers.process import end, free_port, listening, spawn, wait_until_ready
from waybill.requests.fulfilment.running import fulfil_all


@dataclass
class Public:
    """The product at its public address."""

    url: str
    office: Office
    issuer: TestIssuer
    log: Path

    @property
    def prefix(self) -> str:
        return httpx.URL(self.url).path.rstrip("/")


CASES = {
    "at the root": ("", True, ""),
    "below a path that nginx takes away": ("/data", True, ""),
    "below a path that nginx hands on": ("/data/exports", False, "127.0.0.1"),
}


@pytest.fixture(scope="module", params=list(CASES))
def public(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, issuer: TestIssuer) -> Iterator[Public]:
    prefix, strips, trusted = CASES[request.param]
    folder = tmp_path_factory.mktemp("proxied")
    office = make_office(folder)
    office.place.clock = None
    office.measure(1)
    upstream, port = free_port(), free_port()
    environment = {
        **os.environ,
        "WAYBILL_CONFIG_DIR": str(folder / "config"),
        "WAYBILL_PUBLIC_URL": f"http://127.0.0.1:{port}{prefix}",
        "WAYBILL_TRUSTED_PROXIES": trusted,
        "WAYBILL_OAUTH_ISSUER": issuer.url,
        "WAYBILL_OAUTH_AUDIENCE": AUDIENCE,
        "WAYBILL_OAUTH_JWKS_URL": f"{issuer.url}/jwks.json",
    }
    log = folder / "serve.log"
    with ExitStack() as stack:
        process = spawn([sys.executable, "-m", "waybill", "serve", "--port", str(upstream)], log=log, env=environment)
        stack.callback(end, process)
        wait_until_ready(process, lambda: listening(upstream), log, 180)
        url = stack.enter_context(serve_nginx(port, upstream, prefix, strips=strips))
        yield Public(url, office, issuer, log)
    office.place.close()


def test_signing_in_leads_to_the_pages_and_stays(public: Public) -> None:
    token = public.issuer.bearer()["Authorization"].removeprefix("Bearer ")
    with httpx.Client(timeout=120, follow_redirects=True) as browser:
        assert "sign-in" in str(browser.get(f"{public.url}/page/tenants/acme/requests").url)
        landed = browser.post(f"{public.url}/page/sign-in", data={"token": token, "next": "tenants/acme/requests"})
        assert (landed.status_code, landed.url.path) == (200, f"{public.prefix}/page/tenants/acme/requests")
        assert {cookie.path for cookie in browser.cookies.jar} == {f"{public.prefix}/page", f"{public.prefix}/settings/exports"}
        assert browser.get(f"{public.url}/settings/exports?tenant=acme").url.path == f"{public.prefix}/settings/exports"
        assert browser.get(f"{public.url}/", headers={"Accept": "text/html"}).url.path.startswith(f"{public.prefix}/page/")
        assert browser.get(f"{public.url}/page/static/page.css").status_code == 200


def test_locations_and_links_follow_the_public_address(public: Public) -> None:
    with httpx.Client(timeout=120, headers=public.issuer.bearer(roles=["admin"])) as program:
        made = program.post(f"{public.url}/api/v1/tenants/acme/exports", json={"entities": ["site"], "formats": ["csv"]})
        assert made.status_code == 202, made.text
        assert made.headers["location"] == f"{public.prefix}/api/v1/tenants/acme/exports/{made.json()['id']}"
        single = httpx.URL(public.url).join(made.headers["location"])
        assert program.get(single).status_code == 200
        fulfil_all(public.office.installation())
        link = program.post(f"{single}/link").json()["url"]
        assert link.startswith(f"{public.url}/api/v1/downloads/")
        assert httpx.get(link, timeout=120).status_code == 200
        assert program.get(f"{single}/archive", follow_redirects=True).status_code == 200
        reference = httpx.get(f"{public.url}/docs", timeout=120)
        assert reference.status_code == 200
        assert httpx.get(f"{public.url}/openapi.json", timeout=120).status_code == 200


def test_a_download_keeps_its_size_and_can_be_resumed_although_nginx_compresses_everything(public: Public) -> None:
    with httpx.Client(timeout=120, headers={"Accept-Encoding": "gzip"}) as browser:
        page = browser.get(f"{public.url}/docs")
        assert page.headers["content-encoding"] == "gzip"
        place = f"{public.url}/api/v1/tenants/acme/exports"
        program = public.issuer.bearer(roles=["admin"])
        made = browser.post(place, json={"entities": ["measurement"], "formats": ["csv"]}, headers=program).json()
        fulfil_all(public.office.installation())
        link = browser.post(f"{place}/{made['id']}/link", headers=program).json()["url"]
        whole = browser.get(link)
        assert whole.headers["content-length"] == str(len(whole.content))
        assert whole.headers["accept-ranges"] == "bytes"
        assert whole.headers["etag"].startswith('"')
        rest = browser.get(link, headers={"Range": "bytes=100-", "If-Range": whole.headers["etag"]})
        assert (rest.status_code, rest.content) == (206, whole.content[100:])


def test_forwarded_headers_count_only_where_the_house_names_the_proxy(public: Public, request: pytest.FixtureRequest) -> None:
    httpx.get(f"{public.url}/openapi.json?from=proxy", timeout=120)
    lines = [line for line in public.log.read_text().splitlines() if "openapi.json" in line]
    trusted = CASES[request.node.callspec.params["public"]][2]
    assert lines[-1].split(" - ")[0].endswith("192.0.2.7:0") == bool(trusted), lines[-1]
