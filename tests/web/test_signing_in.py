"""Signing in at the house's identity provider: code flow with PKCE, one browser, one answer; a pasted token stays possible."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest
from fastapi.testclient import TestClient

from tests.exports import Office, make_office
from tests.servers.http import PLAIN
from tests.web.serving import served
from tests.web.test_jwks import GIVEN_UP, MANY
from waybill.web.app import create_app
from waybill.web.oauth import Issuer, TokenAccess
from waybill.web.pages.signing_in import identity
from waybill.web.serve import NoScheduler
from waybill_demo.issuing import AUDIENCE, CLIENT, TokenIssuer, serve_issuer

PEOPLE = {"ada": {"sub": "ada", "name": "Ada", "tenant": "acme", "scope": "read write", "roles": []}}


@dataclass
class Door:
    office: Office
    issuer: TokenIssuer

    def browser(self) -> TestClient:
        keys = f"{self.issuer.url}/jwks.json"
        access = TokenAccess(Issuer(self.issuer.url, AUDIENCE, keys, client_id=CLIENT))
        return TestClient(
            create_app(self.office.installation, access, NoScheduler()), base_url="http://127.0.0.1:8080", follow_redirects=False
        )

    def begin(self, browser: TestClient, place: str = "tenants/acme/requests") -> str:
        """Where the provider leads back to, after ada was picked."""
        begun = browser.get("/page/sign-in/start", params={"next": place})
        assert begun.status_code == 303
        picked = httpx.get(f"{begun.headers['location']}&person=ada", verify=PLAIN, timeout=GIVEN_UP)
        return str(picked.headers["location"])


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    office = make_office(tmp_path)
    office.place.clock = None
    with serve_issuer(PEOPLE) as issuer:
        yield Door(office, issuer)
    office.place.close()


def test_who_signs_in_at_the_provider_comes_to_the_page_they_wanted(door: Door) -> None:
    browser = door.browser()
    wanted = browser.get("/page/tenants/acme/requests")
    offered = browser.get(str(wanted.url.join(wanted.headers["location"])))
    assert 'href="./sign-in/start?next=tenants%2Facme%2Frequests"' in offered.text
    assert "Use an access token instead" in offered.text
    back = browser.get(door.begin(browser))
    assert back.status_code == 200
    assert 'content="0; url=../tenants/acme/requests"' in back.text
    cookies = back.headers.get_list("set-cookie")
    assert sum("waybill_session=" in cookie and "HttpOnly" in cookie and "SameSite=strict" in cookie for cookie in cookies) == 2
    shown = browser.get("/page/tenants/acme/requests")
    assert shown.status_code == 200
    assert "Ada" in shown.text


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("http://127.0.0.1:8080/page/tenants/acme/requests?new=1", "tenants/acme/requests?new=1"),
        ("http://127.0.0.1:8080/settings/exports?tenant=acme", "settings/exports?tenant=acme"),
        ("http://elsewhere.example/docs", ""),
        ("", ""),
    ],
)
def test_a_session_that_ends_under_a_form_leads_back_to_its_page(door: Door, address: str, place: str) -> None:
    browser = door.browser()
    ended = browser.post(
        "/page/tenants/acme/requests", headers={"HX-Request": "true", "HX-Current-URL": address, "Sec-Fetch-Site": "same-origin"}
    )
    assert ended.status_code == 401
    asked = parse_qs(urlsplit(ended.headers["HX-Redirect"]).query, keep_blank_values=True)
    assert asked == {"next": [place], "why": ["ended"]}
    if not place:
        return
    offered = browser.get(str(httpx.URL(address).join(ended.headers["HX-Redirect"]).path), params=asked)
    assert "Your session has ended" in offered.text


def test_the_provider_is_asked_with_a_challenge_a_state_and_a_nonce(door: Door) -> None:
    begun = door.browser().get("/page/sign-in/start")
    asked = {name: value for name, [value] in parse_qs(urlsplit(begun.headers["location"]).query).items()}
    assert (asked["response_type"], asked["client_id"], asked["code_challenge_method"]) == ("code", CLIENT, "S256")
    assert asked["redirect_uri"] == "http://127.0.0.1:8080/page/sign-in/callback"
    assert all(len(asked[name]) >= 20 for name in ("state", "nonce", "code_challenge"))
    assert "SameSite=lax" in begun.headers["set-cookie"]


def test_an_answer_counts_once_and_in_the_browser_that_began_alone(door: Door) -> None:
    browser, stranger = door.browser(), door.browser()
    address = door.begin(browser)
    assert stranger.get(address).status_code == 401
    door.begin(stranger)
    assert stranger.get(address).status_code == 401  # the state of another sign-in
    assert browser.get(address).status_code == 200
    again = browser.get(address)
    assert again.status_code == 401
    assert "Sign in" in again.text


@pytest.mark.parametrize("tampered", ["state", "code", "verifier", "nonce", "refused"])
def test_an_answer_that_does_not_fit_makes_no_session(door: Door, tampered: str) -> None:
    browser = door.browser()
    address = httpx.URL(door.begin(browser))
    match tampered:
        case "state":
            address = address.copy_set_param("state", "x" * 30)
        case "code":
            address = address.copy_set_param("code", "x" * 30)
        case "verifier":
            door.issuer.codes[address.params["code"]]["code_challenge"] = "x"
        case "nonce":
            door.issuer.codes[address.params["code"]]["nonce"] = "x"
        case _:
            address = address.copy_remove_param("code").copy_set_param("error", "access_denied")
    answer = browser.get(str(address))
    assert answer.status_code == 401
    assert "waybill_session" not in answer.headers.get("set-cookie", "")
    assert "Sign in" in answer.text


def test_a_provider_that_is_away_is_told_as_such(door: Door) -> None:
    browser = door.browser()
    access = TokenAccess(Issuer("http://127.0.0.1:9", AUDIENCE, "http://127.0.0.1:9/jwks.json", client_id=CLIENT))
    away = TestClient(create_app(door.office.installation, access, NoScheduler()), follow_redirects=False)
    assert away.get("/page/sign-in/start").status_code == 503
    assert browser.get("/page/sign-in").status_code == 200


def test_a_provider_that_hangs_is_asked_once_and_holds_up_no_other_page(door: Door) -> None:
    asked, go = threading.Semaphore(0), threading.Event()

    class Hanging(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.release()
            go.wait(GIVEN_UP)

        def log_message(self, *_: Any) -> None:
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Hanging) as server, ThreadPoolExecutor(60) as pool:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        access = TokenAccess(Issuer(url, AUDIENCE, f"{url}/jwks.json", client_id=CLIENT))
        try:
            with (
                served(create_app(door.office.installation, access, NoScheduler())) as address,
                httpx.Client(timeout=GIVEN_UP, limits=MANY) as client,
            ):
                assert client.get(f"{address}/page/sign-in").status_code == 200
                begun = [pool.submit(client.get, f"{address}/page/sign-in/start") for _ in range(50)]
                assert asked.acquire(timeout=GIVEN_UP)
                assert client.get(f"{address}/page/sign-in").status_code == 200
                assert sum(future.done() for future in begun) < 50, "the page waited for the provider"
                go.set()
                assert {future.result().status_code for future in begun} == {503}
            assert not asked.acquire(blocking=False), "the provider was asked again at once"
        finally:
            go.set()
            server.shutdown()
            thread.join()


def test_two_tabs_sign_in_beside_one_another_and_each_comes_to_its_page(door: Door) -> None:
    browser = door.browser()
    first, second = door.begin(browser, "catalogue"), door.begin(browser, "tenants/acme/requests")
    while identity.cookie_of(httpx.URL(first).params["state"]) == identity.cookie_of(httpx.URL(second).params["state"]):
        first, second = door.begin(browser, "catalogue"), door.begin(browser, "tenants/acme/requests")  # the second took the first's cookie
    assert 'content="0; url=../catalogue"' in browser.get(first).text
    assert 'content="0; url=../tenants/acme/requests"' in browser.get(second).text


def test_a_browser_that_begins_again_and_again_keeps_a_bounded_number_of_cookies(door: Door) -> None:
    browser = door.browser()
    for _ in range(60):
        browser.get("/page/sign-in/start")
    assert len([cookie for cookie in browser.cookies.jar if cookie.name.startswith(identity.COOKIE)]) <= 16


@pytest.mark.parametrize("state", ["", "é", "\x00", "x" * 5000], ids=["none", "not ASCII", "NUL", "long"])
def test_a_hostile_state_is_refused_like_any_other(door: Door, state: str) -> None:
    browser = door.browser()
    answer = browser.get(str(httpx.URL(door.begin(browser)).copy_set_param("state", state)))
    assert answer.status_code == 401
    assert "waybill_session" not in answer.headers.get("set-cookie", "")


def test_a_code_whose_time_is_over_and_a_provider_that_went_away_make_no_session(door: Door) -> None:
    browser = door.browser()
    address = door.begin(browser)
    door.issuer.codes.clear()
    assert browser.get(address).status_code == 401
    with serve_issuer(PEOPLE) as issuer:
        other = Door(door.office, issuer)
        leaving = other.browser()
        address = other.begin(leaving)
    answer = leaving.get(address)
    assert answer.status_code == 503
    assert "127.0.0.1" not in answer.text
    assert "waybill_session" not in answer.headers.get("set-cookie", "")


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"tenant": None}, 200),
        ({"tenant": "nosuch"}, 200),
        ({"exp": timedelta(hours=-1)}, 401),
        ({"exp": timedelta(seconds=-5)}, 200),
        ({"nbf": timedelta(hours=1)}, 401),
        ({"iat": timedelta(seconds=5)}, 200),
        ({"aud": "another-service"}, 401),
    ],
    ids=["no tenant", "unknown tenant", "expired", "expired by a little", "not yet", "a clock ahead by a little", "another audience"],
)
def test_people_whom_the_provider_knows_and_the_house_does_not_are_told_so(door: Door, claims: dict[str, Any], status: int) -> None:
    """Clocks may differ by a little. Who is known but belongs nowhere is signed in, and sees nobody's data."""
    given = {key: datetime.now(UTC) + value if isinstance(value, timedelta) else value for key, value in (PEOPLE["ada"] | claims).items()}
    people = {"ada": {key: value for key, value in given.items() if value is not None}}
    with serve_issuer(people) as issuer:
        other = Door(door.office, issuer)
        browser = other.browser()
        answer = browser.get(other.begin(browser))
        assert answer.status_code == status, answer.text
        if status != 200:
            assert "waybill_session" not in answer.headers.get("set-cookie", "")
            return
        seen = browser.get("/page/tenants/acme/requests")
        assert seen.status_code == (404 if "tenant" in claims else 200)


def test_who_signs_out_is_out_in_every_tab(door: Door) -> None:
    browser = door.browser()
    browser.get(door.begin(browser))
    assert browser.get("/page/tenants/acme/requests").status_code == 200
    browser.post("/page/sign-out", headers={"Sec-Fetch-Site": "same-origin"})
    again = browser.get("/page/tenants/acme/requests")
    assert (again.status_code, "sign-in" in again.headers["location"]) == (303, True)


@pytest.mark.parametrize("place", ["", "tenants/acme/requests", "//elsewhere.example", "../../elsewhere"])
def test_who_is_signed_in_already_goes_on_from_the_sign_in(door: Door, place: str) -> None:
    """*Back* leads to the sign-in after a first export, and bookmarks are made there."""
    browser = door.browser()
    browser.get(door.begin(browser))
    answer = browser.get("/page/sign-in", params={"next": place})
    assert answer.status_code == 303
    assert urljoin("http://127.0.0.1:8080/page/sign-in", answer.headers["location"]).startswith("http://127.0.0.1:8080/page/")
    browser.post("/page/sign-out", headers={"Sec-Fetch-Site": "same-origin"})
    assert browser.get("/page/sign-in", params={"next": place}).status_code == 200
