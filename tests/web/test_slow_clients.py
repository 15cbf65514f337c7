"""`waybill serve` and clients that never finish: each is given up in its time, and holds up nobody else meanwhile."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.issuer import TestIssuer
from tests.serving import serve_office
from waybill.client import Waybill
from waybill.requests.fulfilment.running import fulfil_all
from waybill.web import server_limits


@dataclass
class Service:
    port: int
    token: str
    log: Path
    link: str

    def connect(self) -> socket.socket:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(180)
        client.connect(("127.0.0.1", self.port))
        return client

    def download(self) -> bytes:
        path = self.link.removeprefix(f"http://127.0.0.1:{self.port}")
        return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, issuer: TestIssuer) -> Iterator[Service]:
    root = tmp_path_factory.mktemp("slow")
    note = "md5(i::varchar) || md5((i + 1)::varchar) || md5((i + 2)::varchar)"
    with serve_office(root, issuer, note, 160_000) as (office, port):
        token = issuer.bearer(roles=["admin"])["Authorization"].removeprefix("Bearer ")
        with Waybill(f"http://127.0.0.1:{port}", token, "acme") as client:
            client.register(["measurement"], "weekly")
            export = client.request(["measurement"], ["csv"], range={"to": "2026-05-31"}, scope={"level": "project", "project": "p1"})
            fulfil_all(office.installation())
            done = client.wait(export, 120)
        answer = httpx.post(
            f"http://127.0.0.1:{port}/api/v1/tenants/acme/exports/{done.id}/link", headers={"Authorization": f"Bearer {token}"}
        )
        link = answer.json()["url"]
        yield Service(port, token, root / "log", link)


@pytest.fixture(scope="module")
def stalled(service: Service) -> Iterator[list[socket.socket]]:
    """As many downloads as a tenant may have, begun and never read. They are given up while the other clients of this module wait, too."""
    with ExitStack() as stack:
        clients = [stack.enter_context(closing(service.connect())) for _ in range(server_limits.DOWNLOADS)]
        for client in clients:
            client.sendall(service.download())
            assert client.recv(12) == b"HTTP/1.1 200"
        yield clients


def read_to_the_end(client: socket.socket) -> bytes:
    found = b""
    try:
        while block := client.recv(65536):
            found += block
    except ConnectionError:
        pass
    return found


def test_only_so_many_downloads_of_a_tenant_go_on_at_once(service: Service, stalled: list[socket.socket]) -> None:
    with closing(service.connect()) as one_more:
        one_more.sendall(service.download().replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        archive = httpx.head(service.link).headers["Content-Length"]
        assert read_to_the_end(one_more)[:12] == b"HTTP/1.1 429", (archive, service.log.read_text()[-3000:])
    with Waybill(f"http://127.0.0.1:{service.port}", service.token, "acme") as client:
        assert client.registration().entities == ["measurement"]


@pytest.mark.parametrize(
    "begun",
    [
        b"GET /docs HTTP/1.1\r\nHost: x\r\nX-Long: ",
        b"GET /",
        b"PUT /api/v1/tenants/acme/export HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: ",
        b"PUT /api/v1/tenants/acme/export HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;extension=",
    ],
    ids=["a header", "an address", "a trailer", "the extension of a chunk"],
)
def test_headers_that_fill_the_memory_are_given_up_before_they_do(service: Service, begun: bytes) -> None:
    with closing(service.connect()) as client:
        sent = 0
        try:
            client.sendall(begun)
            while sent < 64 << 20:
                client.sendall(b"x" * 65536)
                sent += 65536
        except ConnectionError:
            pass
    assert sent < 32 << 20  # what the buffers of both sides hold comes on top of what is read


def test_headers_that_are_too_large_are_answered(service: Service) -> None:
    with closing(service.connect()) as client:
        client.sendall(b"GET /docs HTTP/1.1\r\nHost: x\r\nX-Long: ")
        while not select.select([client], [], [], 0)[0]:
            with contextlib.suppress(ConnectionError):
                client.sendall(b"x" * 1024)
        assert read_to_the_end(client)[:12] in (b"HTTP/1.1 431", b"")  # a reset may overtake it


def test_headers_as_large_as_those_of_a_browser_pass(service: Service) -> None:
    answer = httpx.get(f"http://127.0.0.1:{service.port}/docs", headers=[("Cookie", "a=" + "x" * 4000)] * 12)
    assert answer.status_code == 200


@pytest.mark.slow
def test_headers_and_bodies_that_never_end_are_given_up_while_others_are_served(service: Service) -> None:
    headers = f"Host: x\r\nAuthorization: Bearer {service.token}\r\nContent-Type: application/json\r\n"
    head = f"PUT /api/v1/tenants/acme/export HTTP/1.1\r\n{headers}"
    begun = {
        "nothing": b"",
        "half a header": b"GET /api/v1/tenants/acme/export HTTP/1.1\r\nHost: x\r\nAuthor",
        "headers byte by byte": b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        "half a body": head.encode() + b"Content-Length: 1000\r\n\r\n" + b'{"entityList": ["meas',
        "half a chunk": head.encode() + b"Transfer-Encoding: chunked\r\n\r\n400\r\n{",
        "the second request": b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\nGET /nowhere HTTP/1.1\r\nHo",
    }
    clients = {name: service.connect() for name in begun}
    for name, client in clients.items():
        client.sendall(begun[name])
    stop = threading.Event()

    def trickle() -> None:
        try:
            while not stop.wait(0.5):
                clients["headers byte by byte"].sendall(b"x")
        except OSError:
            return

    slow = threading.Thread(target=trickle)
    slow.start()
    with Waybill(f"http://127.0.0.1:{service.port}", service.token, "acme") as client:
        assert client.registration().entities == ["measurement"]
    answers = {name: read_to_the_end(client) for name, client in clients.items()}  # a socket's time-out fails when one is not given up
    stop.set()
    slow.join()
    for client in clients.values():
        client.close()
    assert answers.pop("the second request").startswith(b"HTTP/1.1 404")  # and then the end of a connection that is kept for nothing
    assert {name: answer.split(b"\r\n")[0] for name, answer in answers.items()} == dict.fromkeys(answers, b"HTTP/1.1 408 Request Timeout")
    assert "Traceback" not in (log := service.log.read_text()), log[-6000:]


def test_downloads_nobody_reads_are_given_up(service: Service, stalled: list[socket.socket]) -> None:
    assert len(stalled) == server_limits.DOWNLOADS
    deadline = time.monotonic() + 4 * server_limits.STALL_SECONDS
    while time.monotonic() < deadline:
        with closing(service.connect()) as client:
            client.sendall(service.download())
            if client.recv(12) == b"HTTP/1.1 200":
                break
        threading.Event().wait(1)
    else:
        pytest.fail("the stalled downloads were never given up")
    assert "Traceback" not in (log := service.log.read_text()), log[-6000:]
