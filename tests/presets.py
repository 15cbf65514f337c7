"""The samples of the presets behind the real API: signed tokens, a clock the test moves, a mail server where one is wanted."""

from __future__ import annotations

import atexit
import hashlib
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import yaml
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests import installations
from tests.issuer import TestIssuer
from waybill.configuration.loading import Settings
from waybill.connection import Connection
from waybill.installation import Installation
from waybill.ledger import Ledger
from waybill.ledger.on_demand import requests
from waybill.ledger.on_demand.request_records import ExportRequest
from waybill.requests import mailing
from waybill.requests.creating import zone_of
from waybill.requests.fulfilment.running import fulfil_all
from waybill.web.app import create_app
from waybill.web.dependencies import Installations
from waybill.web.oauth import Issuer, TokenAccess
from waybill.web.serve import NoScheduler
from waybill_demo.sample import Sample, prepare

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
PUBLIC = "https://exports.example.com"


@dataclass
class Shop:
    """One preset's product. Calls are made as the sample's first person unless `who` says otherwise."""

    sample: Sample
    issuer: TestIssuer
    clock: datetime = NOW
    connections: dict[str, Connection] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings = Settings.from_environment({"WAYBILL_CONFIG_DIR": str(self.sample.config_dir), "WAYBILL_PUBLIC_URL": PUBLIC})
        self.ledger = installations.open_ledger(settings.ledger_url)
        self.ledger.ready()
        installation = Installation(settings, self.ledger, self.connections.__getitem__, lambda: self.clock)
        app = _application(self.issuer.settings)
        app.state.installations = Installations(lambda: installation, every=0)
        self.client = TestClient(app, base_url=PUBLIC, raise_server_exceptions=False)
        self._installation = installation

    @property
    def installation(self) -> Installation:
        """As a new process would see it."""
        return replace(self._installation)

    def __call__(self, method: str, path: str = "", body: Any = None, who: str = "", tenant: str = "acme", **headers: str) -> Any:
        """A call below `/tenants/<tenant>/exports`; a path with a leading `..` leaves that."""
        claims = self.sample.people[who or next(iter(self.sample.people))]
        sent = self.issuer.bearer(**claims) | {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"/api/v1/{path[3:]}" if path.startswith("../") else f"/api/v1/tenants/{tenant}/exports{path}"
        return self.client.request(method, url, json=body, headers=sent)

    def ask(self, who: str = "", **body: Any) -> dict[str, Any]:
        """A request that was accepted: `body`, or the sample's own ask."""
        made = self("POST", "", body or json.loads(self.sample.ask.read_text()), who)
        assert made.status_code == 202, made.json()
        return dict(made.json())

    def sample_ask(self) -> dict[str, Any]:
        """What the sample of the preset asks for."""
        asked: dict[str, Any] = json.loads(self.sample.ask.read_text())
        return asked

    @property
    def zone(self) -> ZoneInfo:
        return zone_of(self.installation, "acme")

    def fulfil(self) -> None:
        fulfil_all(self.installation)

    def get(self, export: dict[str, Any], who: str = "") -> dict[str, Any]:
        return dict(self("GET", f"/{export['id']}", who=who).json())

    def done(self, who: str = "", **body: Any) -> dict[str, Any]:
        """A request that was carried out."""
        item = self.ask(who, **body)
        self.fulfil()
        item = self.get(item, who)
        assert item["status"] == "done", item["error"]
        return item

    def link(self, entry: dict[str, Any], who: str = "") -> dict[str, Any]:
        answer = self("POST", f"/{entry['id']}/link", who=who)
        assert answer.status_code == 200, answer.json()
        return dict(answer.json())

    def download(self, url: str) -> Any:
        """Without a login, as a browser or `curl` follows a link."""
        return self.client.get(url)

    def archive(self, single: dict[str, Any], who: str = "") -> zipfile.ZipFile:
        content = self.download(self.link(single, who)["url"]).content
        assert hashlib.sha256(content).hexdigest() == single["sha256"]
        return zipfile.ZipFile(io.BytesIO(content))

    def running(self, element: dict[str, Any], progress: int = 0) -> ExportRequest:
        """Claimed by a worker that has got so far."""
        with self.ledger.begin() as connection:
            found = requests.get(connection, element["id"])
            assert found is not None
            claimed = requests.claim(connection, found, "worker", self.clock)
            assert claimed is not None
            assert requests.beat(connection, claimed, progress, self.clock)
        return claimed

    def failed(self, who: str = "", **body: Any) -> dict[str, Any]:
        """A request whose data could not be read."""
        piece = self.ask(who, **body)
        with self.warehouse() as connection:
            for (table,) in connection.execute("select table_name from information_schema.tables").fetchall():
                connection.execute(f'drop table "{table}"')
        self.fulfil()
        return self.get(piece, who)

    @contextmanager
    def warehouse(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with installations.opened(self.sample.folder / "warehouse.duckdb") as connection:
            connection.execute("set timezone = 'UTC'")
            yield connection

    def count(self, condition: str, *tables: str) -> int:
        """Rows of tables in the source, counted there."""
        with self.warehouse() as connection:
            counts = [connection.execute(f"select count(*) from {table} where {condition}").fetchall()[0][0] for table in tables]
        return sum(counts)

    def policy(self, **export_policy: Any) -> None:
        path = self.sample.config_dir / "policy.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | export_policy))

    def mails(self, host: str, port: int) -> None:
        """Send what is owed."""
        extra = {"disable_ssl": True, "disable_tls": True, "from_email": "exports@example.com"}
        self.connections["smtp_default"] = Connection("smtp_default", "smtp", host, port, extra=extra)
        assert mailing.send_mails(self.installation) == []


@contextmanager
def opened(preset: str, folder: Path, issuer: TestIssuer, planted: str = "planted-") -> Iterator[Shop]:
    """A shop in an empty folder. Its data ends a minute before now."""
    template = _template(preset, planted)
    shutil.copytree(template.folder, folder, dirs_exist_ok=True)
    shop = Shop(replace(template, folder=folder), issuer)
    yield shop
    shop.ledger.close()


@cache
def _application(issuer: Issuer) -> FastAPI:
    """As `waybill serve` makes it; whoever takes it puts their installation in, since making it anew is what takes time."""
    return create_app(_nothing, TokenAccess(issuer), NoScheduler())


def _nothing() -> Installation:
    raise AssertionError("no shop has put its installation in")


@cache
def _template(preset: str, planted: str) -> Sample:
    """Data and an empty ledger, made once."""
    folder = Path(tempfile.mkdtemp(prefix="waybill-sample-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    sample = prepare(preset, folder, NOW - timedelta(minutes=1), planted)
    ledger = Ledger(Settings.from_environment({"WAYBILL_CONFIG_DIR": str(sample.config_dir)}).ledger_url)
    ledger.ready()
    ledger.close()
    return sample


def code(response: Any) -> tuple[int, str]:
    """Status and code of a problem."""
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


def ends(link: dict[str, Any]) -> datetime:
    """When a link stops working."""
    return datetime.fromisoformat(link["expiresAt"])


def lines(archive: zipfile.ZipFile, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in archive.read(name).splitlines()]
