"""The samples beside every operation of the reference, run as they stand: by a shell, by Python and in a browser, against a real server."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page

from tests.e2e.browsing import chromium, waybill_serve
from tests.installations import DAY, NOON, USER, Place, catalog, make_place
from tests.issuer import TestIssuer
from waybill.deliveries.running import run
from waybill.requests.fulfilment.running import fulfil_all

NAMES = {"user": "user", "content": "content", "user_login_events": "user logins", "interaction": "interaction"}
"""What the examples of the document ask for."""
DOCUMENT: dict[str, Any] = json.loads((Path(__file__).parents[2] / "docs/openapi.json").read_text())
OPERATIONS = [(path, method) for path, item in DOCUMENT["paths"].items() for method in item]


@dataclass
class Service:
    """`waybill serve` with a registered tenant, and what a developer holds who calls it."""

    place: Place
    url: str
    token: str

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = httpx.request(method, f"{self.url}/api/v1/tenants/acme{path}", json=body, headers=headers, timeout=120)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def export(self) -> str:
        return str(self("POST", "/exports", {"entities": ["content"], "formats": ["csv"]})["id"])

    def variables(self, path: str) -> dict[str, str]:
        """A value for each part of the path, of something in the state that the operation needs."""
        found = {"number": "1", "action": "pause"}
        if "{request_id}" in path or "{token}" in path:
            found["request_id"] = self.export()
            if path.endswith("/resubmit"):
                self("POST", f"/exports/{found['request_id']}/cancel")
            if path.endswith(("/archive", "/link", "{token}")):
                fulfil_all(self.place.installation())
                found["download"] = self("POST", f"/exports/{found['request_id']}/link")["url"].rpartition("/")[2]
        if "{template_id}" in path:
            asked = {"name": "Backup", "frequency": "weekly", "request": {"entities": ["content"], "formats": ["csv"]}}
            found["template_id"] = self("POST", "/export-templates", asked)["id"]
        if "{delivery}" in path:
            found["delivery"] = self("GET", "/deliveries?status=committed&limit=1")["items"][0]["deliveryId"]
        return found


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, issuer: TestIssuer) -> Iterator[Service]:
    place = make_place(tmp_path_factory.mktemp("samples"))
    place.clock = None
    (place.root / "config/tenants/acme.yaml").unlink()
    place.write("policy.yaml", {"destination": {"kind": "folder", "root": "out"}, "max_active_per_project": "none"})
    place.write("catalog.yaml", catalog(**{item: {**USER, "name": name, "relation": item} for item, name in NAMES.items()}))
    for table in NAMES:
        if table != "user":
            place.sql(f'create table "{table}" as from "user"')
        place.user(1, "one", NOON - 30 * DAY, table=table)
    token = issuer.bearer(tenant="acme")["Authorization"].removeprefix("Bearer ")
    with waybill_serve(place, issuer) as url:
        made = Service(place, url, token)
        made("PUT", "/export", {"entityList": list(NAMES)})
        installation = place.installation()
        run(installation, "acme", installation.now() - timedelta(hours=1))
        yield made
    place.close()


def by_curl(source: str, known: dict[str, str], folder: Path) -> None:
    values = {name.upper(): value for name, value in known.items()}
    subprocess.run(["bash", "-ec", source], env=os.environ | values, cwd=folder, check=True, capture_output=True)


def by_python(source: str, known: dict[str, str], folder: Path) -> None:
    before = Path.cwd()
    os.chdir(folder)
    try:
        exec(compile(source, "sample", "exec"), dict(known))  # noqa: S102 (what the reference shows is what is run)
    finally:
        os.chdir(before)


def by_browser(page: Page, source: str, known: dict[str, str]) -> None:
    def spelt(name: str) -> str:
        first, *rest = name.split("_")
        return first + "".join(word.title() for word in rest)

    values = "".join(f"const {spelt(name)} = {json.dumps(value)};\n" for name, value in known.items())
    page.evaluate(f"async () => {{ {values}{source} }}")


def samples(service: Service, label: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Each operation's path, its sample in a language, and the variables that the sample needs."""
    for path, method in OPERATIONS:
        (source,) = (sample["source"] for sample in DOCUMENT["paths"][path][method]["x-codeSamples"] if sample["label"] == label)
        if path.endswith("/bulk-delete"):  # deletes all or nothing, so the ids of the example have to be there
            for number in (1, 2):
                source = source.replace(f"{number:032}", service.export())
        yield path, source, {"waybill": service.url, "token": service.token, **service.variables(path)}


@pytest.mark.parametrize("label", ["curl", "Python"])
def test_every_sample_of_the_reference_runs_as_it_stands(service: Service, tmp_path: Path, label: str) -> None:
    for path, source, known in samples(service, label):
        {"curl": by_curl, "Python": by_python}[label](source, known, tmp_path)
        if path.endswith(("/archive", "/kit", "{token}")):
            assert (tmp_path / "export.zip").read_bytes().startswith(b"PK"), path
            (tmp_path / "export.zip").unlink()


def test_every_sample_for_a_browser_runs_in_one(service: Service) -> None:
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"{service.url}/docs")
        for _, source, known in samples(service, "JavaScript"):
            by_browser(page, source, known)
