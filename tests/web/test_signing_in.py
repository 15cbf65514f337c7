"""Signing in at the house's identity provider: code flow with PKCE, one browser, one answer; a pasted token stays possible."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi.testclient import TestClient

from tests.exports import Office, make_office
from waybill.web.app import create_app
from waybill.web.oauth import Issuer, TokenAccess
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
        picked = httpx.get(f"{begun.headers['location']}&person=ada")
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
    assert sum("waybill_session=" in one and "HttpOnly" in one and "SameSite=strict" in one for one in cookies) == 2
    shown = browser.get("/page/tenants/acme/requests")
    assert shown.status_code == 200
    assert "Ada" in shown.text


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
