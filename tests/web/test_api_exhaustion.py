"""What one caller sends costs little, and nothing before it is known who calls and what they may do."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.exports import Office, make_office
from tests.issuer import TestIssuer, serve_issuer, tenant_api

MANY = 20_000
CHEAP = 10.0
"""Seconds of processor time for one call: it took minutes when each name was compared with all that are allowed."""

TENANTS = ["acme", "initech"]
REGISTRATION = "/api/v1/tenants/initech/export"
ASKING = "/api/v1/tenants/acme/exports"
WORDS = [f"usr{number}" for number in range(MANY)]
HUGE = {
    "unknown keys": (REGISTRATION, dict.fromkeys(WORDS, 1)),
    "unknown keys of csv": (REGISTRATION, {"entityList": ["measurement"], "csv": dict.fromkeys(WORDS, 1)}),
    "unknown keys of a destination": (REGISTRATION, {"destination": {"kind": "sftp", **dict.fromkeys(WORDS, 1)}}),
    "unknown entities": (REGISTRATION, {"entityList": WORDS}),
    "unknown entities in one text": (REGISTRATION, {"entityList": ",".join(WORDS)}),
    "one endless word": (REGISTRATION, {"entityList": ["measurement" * MANY]}),
    "conditions on unknown entities": (REGISTRATION, {"entityList": ["measurement"], "where": {word: [] for word in WORDS}}),
    "full load of unknown entities": (f"{REGISTRATION}/full-load", {"entities": WORDS}),
    "unknown keys of a request": (ASKING, dict.fromkeys(WORDS, 1)),
    "unknown entities of a request": (ASKING, {"entities": WORDS, "formats": ["csv"]}),
    "unknown formats": (ASKING, {"entities": ["measurement"], "formats": WORDS}),
    "ids": (f"{ASKING}/bulk-delete", {"ids": WORDS}),
}  # fmt: skip


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    made = make_office(tmp_path_factory.mktemp("office"))
    yield made
    made.place.close()


@pytest.fixture(scope="module")
def issuer() -> Iterator[TestIssuer]:
    with serve_issuer() as running:
        yield running


@pytest.fixture(scope="module")
def client(office: Office, issuer: TestIssuer) -> TestClient:
    made = TestClient(tenant_api(office.place, issuer), raise_server_exceptions=False)
    made.post(REGISTRATION, json={"entityList": ["measurement"]}, headers=issuer.bearer(TENANTS))
    return made


@pytest.mark.parametrize(("path", "body"), HUGE.values(), ids=HUGE)
def test_twenty_thousand_mistakes_cost_little_and_the_answer_stays_small(
    client: TestClient, issuer: TestIssuer, path: str, body: dict[str, Any]
) -> None:
    text, headers = json.dumps(body, separators=(",", ":")), {**issuer.bearer(TENANTS), "Content-Type": "application/json"}
    began = time.process_time()
    found = client.post(path, content=text, headers=headers)
    spent = time.process_time() - began
    assert found.status_code in (400, 404, 413, 422)
    assert spent < CHEAP
    assert len(found.content) < 2 * len(text) + 100_000
    assert len(found.json()["errors"]) <= 100


def test_the_first_mistakes_still_get_a_suggestion(client: TestClient, issuer: TestIssuer) -> None:
    found = client.put(REGISTRATION, json={"entityList": [f"measuremen{n}" for n in range(50)]}, headers=issuer.bearer(TENANTS)).json()
    assert ["did you mean" in error["message"] for error in found["errors"]] == [True] * 10 + [False] * 40
    assert found["detail"].startswith("50 problems")


@pytest.mark.parametrize(("path", "body"), HUGE.values(), ids=HUGE)
def test_a_body_is_not_looked_at_before_the_right_to_send_it(client: TestClient, issuer: TestIssuer, path: str, body: Any) -> None:
    for headers, status in [({}, 401), (issuer.bearer("globex"), 404), (issuer.bearer(TENANTS, scope=""), 403)]:
        found = client.post(path, content=b"\xff" * 1_000_000, headers={**headers, "Content-Type": "application/json"})
        assert found.status_code == status


@pytest.mark.parametrize("levels", [20, 21, 500, 50_000])
@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_deep_nesting_is_refused(client: TestClient, issuer: TestIssuer, levels: int, pair: str) -> None:
    opening, closing = ("[", "]") if pair == "[]" else ('{"a":', "}")
    text = opening * levels + ("1" if pair == "{}" else "") + closing * levels
    headers = {**issuer.bearer(TENANTS), "Content-Type": "application/json"}
    found = client.put(REGISTRATION, content=f'{{"csv":{text}}}'[:250_000], headers=headers)
    assert found.status_code in (400, 422)
    if levels > 20 and len(text) < 200_000:
        assert "levels deep" in found.json()["detail"] or "nested too deeply" in found.json()["detail"]


def test_unknown_parameters_without_end_are_cheap(client: TestClient, issuer: TestIssuer) -> None:
    query = "&".join(f"dryRum{number}=1" for number in range(4000))
    began = time.process_time()
    found = client.get(f"{REGISTRATION}?{query}", headers=issuer.bearer(TENANTS))
    assert found.status_code == 422
    assert time.process_time() - began < CHEAP
    assert client.get(f"{REGISTRATION}?{query}").status_code == 401
