"""Laws of registrations: whatever is called in whatever order, windows tile, repeats change nothing, stale updates are refused."""

from __future__ import annotations

import shutil
import tempfile
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from tests.installations import NOON, Place, make_place
from tests.issuer import RecordingScheduler, TestIssuer, serve_issuer, tenant_api
from waybill.deliveries import running
from waybill.ledger import deliveries, streams

FOLDER = {"destination": {"kind": "folder", "root": "out"}}
BODIES = st.fixed_dictionaries(
    {
        "exportOption": st.sampled_from(["export selected", "export selected", "export all", "disable export"]),
        "entityList": st.sampled_from([["user"], ["theme"], ["theme", "user"], "user, theme"]),
        "frequency": st.sampled_from(["daily", "weekly", "monthly"]),
        "timezone": st.sampled_from(["UTC", "Europe/Berlin", "Africa/Cairo", "Pacific/Kiritimati"]),
    }
)


class Registrations(RuleBasedStateMachine):
    """One tenant, one clock that only moves forward, and every call the API has for it."""

    issuer: ClassVar[TestIssuer]
    template: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        root = Path(self.folder.name) / "installation"
        shutil.copytree(self.template, root)
        self.place = Place(root, clock=NOON)
        self.client = TestClient(tenant_api(self.place, self.issuer, RecordingScheduler()))
        self.headers = self.issuer.bearer()
        self.stale: list[str] = []
        self.users = 0

    def call(self, method: str, path: str = "", body: Any = None, **headers: str) -> Any:
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self.client.request(method, f"/api/v1/tenants/acme/export{path}", json=body, headers=sent)

    @initialize(body=BODIES)
    def register(self, body: dict[str, Any]) -> None:
        assert self.call("PUT", body={**body, **FOLDER}).status_code == 201

    @rule(body=BODIES)
    def put_twice_is_put_once(self, body: dict[str, Any]) -> None:
        before = self.call("GET").headers["etag"]
        plan = self.call("PUT", "?dryRun=true", {**body, **FOLDER}).json()
        assert self.call("GET").headers["etag"] == before
        first = self.call("PUT", body={**body, **FOLDER})
        assert [first.json()[key] for key in ("activated", "deactivated", "kept")] == [
            plan[key] for key in ("activated", "deactivated", "kept")
        ]
        again = self.call("PUT", body={**body, **FOLDER})
        assert again.json()["changed"] is False
        assert again.headers["etag"] == first.headers["etag"]
        if first.headers["etag"] != before:
            self.stale.append(before)

    @rule(inactive=st.booleans())
    def get_then_put_changes_nothing(self, inactive: bool) -> None:
        shown = self.call("GET", "?includeInactive=true" if inactive else "")
        reply = self.call("PUT", body=shown.json(), If_Match=shown.headers["etag"])
        assert (reply.status_code, reply.json()["changed"]) == (200, False)

    @precondition(lambda self: self.stale)
    @rule(body=BODIES)
    def a_stale_etag_is_refused(self, body: dict[str, Any]) -> None:
        before = self.call("GET")
        assert self.call("PUT", body={**body, **FOLDER}, If_Match=self.stale[-1]).status_code == 412
        assert self.call("GET").json() == before.json()

    @rule(back=st.integers(0, 3))
    def restore(self, back: int) -> None:
        versions = self.call("GET", "/versions").json()["items"]
        chosen = versions[min(back, len(versions) - 1)]
        before = self.call("GET").headers["etag"]
        reply = self.call("POST", f"/versions/{chosen['version']}/restore")
        assert reply.status_code == 200
        assert {key: reply.json().get(key) for key in chosen["registration"]} == chosen["registration"]
        if reply.headers["etag"] != before:
            self.stale.append(before)

    @rule()
    def ask_for_a_full_load(self) -> None:
        nothing = not self.call("GET").json()["entities"]
        assert self.call("POST", "/full-load").status_code == (404 if nothing else 202)

    @rule(days=st.integers(0, 40), hours=st.integers(0, 23))
    def time_passes_and_a_run_delivers(self, days: int, hours: int) -> None:
        assert self.place.clock is not None
        self.place.clock += timedelta(days=days, hours=hours)
        self.users += 1
        self.place.user(self.users, f"user {self.users}", self.place.clock - timedelta(hours=30))
        for result in running.run(self.place.installation(), "acme", self.place.clock):
            assert result.error is None, result.error

    @invariant()
    def windows_tile_and_sequences_have_no_hole(self) -> None:
        for chain in self.chains().values():
            assert [link.sequence for link in chain] == list(range(1, len(chain) + 1))
            assert chain[0].window_from is None
            for earlier, later in pairwise(chain):
                assert later.window_from == earlier.window_to
                assert later.previous_sequence == earlier.sequence

    @invariant()
    def the_active_streams_are_what_the_registration_says(self) -> None:
        shown = self.call("GET")
        if shown.status_code == 200:
            with self.place.installation().ledger.begin() as connection:
                active = {stream.entity for stream in streams.active(connection, "acme")}
            wanted = {"export all": {"user", "theme"}, "disable export": set()}.get(
                shown.json()["exportOption"], set(shown.json()["entityList"])
            )
            assert active == set(shown.json()["entities"]) == wanted

    def chains(self) -> dict[int, list[Any]]:
        with self.place.installation().ledger.begin() as connection:
            found = [entry for entry in deliveries.listed(connection, "acme", status="committed") if entry.purpose == "schedule"]
        chains: dict[int, list[Any]] = {}
        for item in sorted(found, key=lambda entry: entry.sequence):
            chains.setdefault(item.stream, []).append(item)
        return chains

    def teardown(self) -> None:
        self.place.close()
        self.folder.cleanup()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = make_place(tmp_path_factory.mktemp("template") / "installation")
    (place.root / "config/tenants/acme.yaml").unlink()
    place.write("policy.yaml", {"api_destinations": "any"})
    place.installation()
    place.close()
    return place.root


def test_registrations_keep_their_laws_in_any_order_of_calls(template: Path) -> None:
    with serve_issuer() as issuer:
        Registrations.issuer, Registrations.template = issuer, template
        run_state_machine_as_test(
            Registrations,
            settings=settings(
                max_examples=10, stateful_step_count=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
            ),
        )
