"""The Python client against the served API: register, request, wait, download, and what happens when a connection breaks."""

from __future__ import annotations

import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path

import httpx
import pytest

from tests.exports import Office
from tests.faults.proxy import Proxy, proxied
from tests.issuer import TestIssuer
from tests.servers.http import serve_http
from tests.serving import serve_office
from waybill.client import Export, NotDone, Refused, Waybill, client_credentials
from waybill.requests.fulfilment.running import fulfil_all
from waybill.web.app import create_app
from waybill.web.serve import NoScheduler

pytestmark = pytest.mark.slow


@dataclass
class Service:
    office: Office
    proxy: Proxy
    token: str

    def client(self, token: str = "") -> Waybill:
        return Waybill(f"http://127.0.0.1:{self.proxy.port}", token or self.token, "acme")

    def done(self, client: Waybill) -> Export:
        export = client.request(["measurement"], ["csv"])
        fulfil_all(self.office.installation())
        return client.wait(export, timeout=120)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, issuer: TestIssuer) -> Iterator[Service]:
    root = tmp_path_factory.mktemp("served")
    with ExitStack() as stack:
        note = "md5(i::varchar) || md5((i + 1)::varchar)"
        office, port = stack.enter_context(serve_office(root, issuer, note, 20_000))
        proxy = stack.enter_context(proxied(port))
        service = Service(office, proxy, issuer.bearer(roles=["admin"])["Authorization"].removeprefix("Bearer "))
        with service.client() as client:
            client.register(["measurement"])  # before it the tenant is not known
        yield service


def test_what_is_registered_is_read_back_and_guarded_by_its_etag(service: Service) -> None:
    with service.client() as client:
        made = client.register(["measurement"], "weekly", timezone="Europe/Berlin")
        assert (made.entities, made.frequency) == (["measurement"], "weekly")
        assert client.registration() == made or client.registration().etag == made.etag
        client.register(["measurement"], "monthly", etag=made.etag)
        with pytest.raises(Refused) as caught:
            client.register(["measurement"], "daily", etag=made.etag)
        assert (caught.value.status, caught.value.code) == (412, "etag_mismatch")
        with pytest.raises(Refused, match="unknown entity") as caught:
            client.register(["measurment"])
        assert caught.value.errors[0]["field"] == "entityList"


def test_an_export_is_requested_awaited_and_downloaded_whole(service: Service, tmp_path: Path) -> None:
    with service.client() as client:
        seen: list[int] = []
        item = client.request(["measurement"], ["csv"], range={"to": "2026-05-31"}, scope={"level": "project", "project": "p1"}, key="k1")
        assert (
            client.request(["measurement"], ["csv"], range={"to": "2026-05-31"}, scope={"level": "project", "project": "p1"}, key="k1").id
            == item.id
        )
        worker = threading.Thread(target=fulfil_all, args=(service.office.installation(),))
        worker.start()
        done = client.wait(item, 120, lambda export: seen.append(export.progress))
        worker.join()
        assert (done.status, done.rows, seen[-1]) == ("done", 20_000, 100)
        path = client.download(done, tmp_path / "in")
        assert path.stat().st_size == done.bytes
        assert [entry.name for entry in path.parent.iterdir()] == [path.name]
        with zipfile.ZipFile(path) as archive:
            assert "measurement.csv" in archive.namelist()


def test_what_breaks_off_is_taken_up_where_it_stopped(service: Service, tmp_path: Path) -> None:
    with service.client() as client:
        done = service.done(client)
        assert done.bytes is not None
        service.proxy.limits["down"] = service.proxy.passed["down"] + done.bytes // 2
        with pytest.raises(httpx.TransportError):
            client.download(done, tmp_path, tries=1)
        [part] = tmp_path.iterdir()
        there = part.stat().st_size
        assert 0 < there < done.bytes
        service.proxy.limits["down"] = None
        before = service.proxy.passed["down"]
        path = client.download(done, tmp_path)
        assert path.stat().st_size == done.bytes
        assert service.proxy.passed["down"] - before < done.bytes - there + 20_000


def test_a_download_that_always_breaks_off_goes_on_for_as_long_as_something_arrives(service: Service, tmp_path: Path) -> None:
    with service.client() as client:
        done = service.done(client)
        assert done.bytes is not None
        proxy, fifth = service.proxy, done.bytes // 5
        proxy.limits["down"] = proxy.passed["down"] + fifth
        lifting = threading.Event()

        def lift() -> None:
            """A line that lets a fifth of the archive through at a time: more breaks than tries."""
            while not lifting.wait(0.02):
                if proxy.passed["down"] >= (proxy.limits["down"] or 0):
                    proxy.limits["down"] = proxy.passed["down"] + fifth

        line = threading.Thread(target=lift)
        line.start()
        try:
            path = client.download(done, tmp_path, tries=2)
        finally:
            lifting.set()
            line.join()
            proxy.limits["down"] = None
        assert path.stat().st_size == done.bytes
        before = proxy.passed["down"]
        assert client.download(done, tmp_path) == path
        assert proxy.passed["down"] == before  # it is there


@pytest.mark.parametrize("more", [1, 5000])
def test_a_part_that_is_longer_than_the_archive_is_fetched_anew(service: Service, tmp_path: Path, more: int) -> None:
    with service.client() as client:
        done = service.done(client)
        (tmp_path / f".acme-{done.id}.zip.part").write_bytes(b"x" * ((done.bytes or 0) + more))
        assert client.download(done, tmp_path).stat().st_size == done.bytes


def test_a_server_that_is_away_for_a_while_ends_no_wait(service: Service) -> None:
    with service.client() as client:
        export = client.request(["measurement"], ["csv"])
        proxy = service.proxy
        before = proxy.passed["up"]
        client.export(export.id)
        question = proxy.passed["up"] - before
        fulfil_all(service.office.installation())
        proxy.limits["down"], before = proxy.passed["down"], proxy.passed["up"]
        found: list[Export] = []
        waiting = threading.Thread(target=lambda: found.append(client.wait(export, 120)))
        waiting.start()
        deadline = time.monotonic() + 60
        while proxy.passed["up"] < before + 2 * question and waiting.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        proxy.limits["down"] = None
        waiting.join(120)
        assert [each.status for each in found] == ["done"]


def test_an_answer_that_passes_is_asked_for_again_and_no_other(tmp_path: Path) -> None:
    body = {"bytes": 1, "sha256": "0"}
    done = Export("0", "acme", "done", 100, 1, 1, "0", None, body)
    with serve_http() as server, Waybill(server.url, "token", "acme") as client:
        server.answers = [503, 502, 410]
        with pytest.raises(Refused) as caught:
            client.download(done, tmp_path)
        assert (caught.value.status, len(server.received)) == (410, 3)
        server.answers = [504]
        with pytest.raises(Refused) as caught:
            client.download(done, tmp_path, tries=1)
        assert (caught.value.status, len(server.received)) == (504, 4)


def test_an_archive_that_is_another_is_not_kept(service: Service, tmp_path: Path) -> None:
    with service.client() as client:
        done = service.done(client)
        part = tmp_path / f".acme-{done.id}.zip.part"
        part.write_bytes(b"x" * (done.bytes or 0))
        with pytest.raises(NotDone, match="not the one that was announced"):
            client.download(done, tmp_path)
        assert list(tmp_path.iterdir()) == []
        assert client.download(done, tmp_path).exists()


def test_waiting_ends_with_what_went_wrong_or_with_the_time(service: Service) -> None:
    with service.client() as client:
        export = client.request(["measurement"], ["csv"])
        started = time.monotonic()
        with pytest.raises(NotDone, match="still pending after 1 s") as caught:
            client.wait(export, timeout=1)
        assert time.monotonic() >= started + 1
        assert caught.value.export.id == export.id
        with service.office.installation().ledger.begin() as connection:
            connection.exec_driver_sql("update export_request set status = 'cancelled' where status = 'pending'")
        with pytest.raises(NotDone, match="cancelled"):
            client.wait(export)
    with service.client("nonsense") as stranger, pytest.raises(Refused) as refused:
        stranger.registration()
    assert (refused.value.status, refused.value.code) == (401, "unauthenticated")


def test_the_client_speaks_of_what_the_document_has() -> None:
    document = create_app(lambda: None, None, NoScheduler()).openapi()  # type: ignore[arg-type, return-value]
    for path, methods in {
        "/export": {"get", "put"},
        "/exports": {"post"},
        "/exports/{request_id}": {"get"},
        "/exports/{request_id}/link": {"post"},
    }.items():
        assert methods <= document["paths"][f"/api/v1/tenants/{{tenant}}{path}"].keys(), path
    shown = document["components"]["schemas"]["Export"]["properties"].keys()
    camel = {"expires_at": "expiresAt"}
    assert {camel.get(field.name, field.name) for field in fields(Export)} - {"body", "retry_after"} <= shown


def test_tokens_are_asked_for_by_the_clients_credentials_and_kept(issuer: TestIssuer) -> None:
    token = client_credentials(f"{issuer.url}/nowhere", "id", "secret")
    with pytest.raises(httpx.HTTPStatusError):
        token()
