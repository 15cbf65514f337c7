"""What a link serves: whole archives only, to those who may download, for as long as it was promised."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from tests.issuer import TestIssuer
from tests.presets import NOW, PUBLIC, Shop, code, opened
from tests.servers.smtp import SmtpServer
from waybill_demo.sample import Sample

HOUR = timedelta(hours=1)


@pytest.fixture
def shop(tmp_path: Path, issuer: TestIssuer) -> Iterator[Shop]:
    with opened("metrics", tmp_path, issuer) as shop:
        yield shop


def archive_of(shop: Shop) -> Path:
    [path] = (shop.sample.folder / ".waybill/archive").rglob("*.zip")
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, issuer: TestIssuer) -> tuple[Sample, dict[str, Any]]:
    """A shop that has carried out a request, closed again: to be copied."""
    with opened("metrics", tmp_path_factory.mktemp("exported"), issuer) as shop:
        return shop.sample, shop.done()


@pytest.mark.parametrize("damage", ["cut", "empty", "longer", "flipped", "flipped unseen", "gone", "a folder", "a pipe", "a link"])
@pytest.mark.parametrize("looked_before", [False, True])
def test_a_damaged_archive_is_never_served(
    exported: tuple[Sample, dict[str, Any]], issuer: TestIssuer, tmp_path: Path, damage: str, looked_before: bool
) -> None:
    sample, export = exported
    shutil.copytree(sample.folder, tmp_path, dirs_exist_ok=True)
    shop = Shop(replace(sample, folder=tmp_path), issuer)
    link = shop.link(export)["url"]
    if looked_before:
        assert shop.download(link).status_code == 200
    path = archive_of(shop)
    content, facts = path.read_bytes(), path.stat()
    middle = len(content) // 2
    match damage:
        case "cut":
            path.write_bytes(content[:-1])
        case "empty":
            path.write_bytes(b"")
        case "longer":
            path.write_bytes(content + b"\0")
        case "gone" | "a folder" | "a pipe" | "a link":
            path.unlink()
            {"gone": str, "a folder": Path.mkdir, "a pipe": os.mkfifo, "a link": lambda item: item.symlink_to("/etc/hostname")}[damage](
                path
            )
        case _:
            path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
            if damage == "flipped unseen":
                os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    refused = shop.download(link)
    assert code(refused) == (503, "storage_unavailable")
    assert refused.json()["detail"].endswith("If it still cannot be read, request the export again.")
    if path.is_file() and not path.is_symlink():
        path.write_bytes(content)
        assert shop.download(link).content == content
    shop.ledger.close()


def test_looking_at_a_link_is_no_download(shop: Shop) -> None:
    export = shop.done()
    link = shop.link(export)["url"]
    looked = shop.client.head(link)
    assert (looked.status_code, looked.headers["content-length"]) == (200, str(export["bytes"]))
    assert shop.get(export)["firstDownloadedAt"] is None
    shop.download(link)
    assert shop.get(export)["firstDownloadedAt"] is not None


def test_a_viewer_whom_policy_lets_download_needs_no_right_to_write(shop: Shop) -> None:
    export = shop.done()
    viewer = shop.sample.people["ada"] | {"roles": ["viewer"], "scope": "read", "sub": "vic"}
    path = f"/api/v1/tenants/acme/exports/{export['id']}/link"
    refused = shop.client.post(path, headers=shop.issuer.bearer(**viewer))
    assert code(refused) == (403, "download_denied")
    shop.policy(roles={"owner": ["exports.view", "exports.create", "exports.download"], "viewer": ["exports.view", "exports.download"]})
    link = shop.client.post(path, headers=shop.issuer.bearer(**viewer))
    assert link.status_code == 200
    assert shop.download(link.json()["url"]).status_code == 200


def test_who_lost_the_right_gets_nothing_more_of_a_download_that_broke_off(shop: Shop) -> None:
    export = shop.done()
    link = shop.link(export)["url"]
    first = shop.client.get(link, headers={"Range": "bytes=0-99"})
    assert (first.status_code, len(first.content)) == (206, 100)
    shop.policy(roles={"owner": ["exports.view"]})
    rest = shop.client.get(link, headers={"Range": "bytes=100-", "If-Range": first.headers["etag"]})
    assert code(rest) == (404, "not_found")


def test_a_page_tells_a_link_that_is_over_from_an_export_that_is(shop: Shop) -> None:
    shop.policy(archive_life="7d", link_life="1h")
    link = shop.link(shop.done())["url"]

    def page() -> str:
        answer = shop.client.get(link, headers={"Accept": "text/html"})
        assert answer.status_code == 410
        return answer.text

    shop.clock = NOW + HOUR
    assert "This link has expired" in page()
    assert "click Download to get a new link" in page()
    shop.clock = NOW + 7 * 24 * HOUR
    assert "This export has expired" in page()
    assert "new link" not in page()


def test_looks_and_parts_end_with_the_link_to_the_second(shop: Shop) -> None:
    shop.policy(archive_life="7d", link_life="1h")
    link = shop.link(shop.done())["url"]
    part = {"Range": "bytes=0-9"}
    for clock, expected in ((NOW + HOUR - timedelta(seconds=1), (200, 206)), (NOW + HOUR, (410, 410)), (NOW + 7 * 24 * HOUR, (410, 410))):
        shop.clock = clock
        looked, taken = shop.client.head(link), shop.client.get(link, headers=part)
        assert (looked.status_code, taken.status_code) == expected
        assert looked.content == b""
        if taken.status_code == 410:
            assert taken.json()["code"] == "expired"
            assert "content-range" not in taken.headers


def test_a_mailed_link_lives_as_long_as_the_mail_says(shop: Shop, smtp: SmtpServer) -> None:
    shop.policy(notify=["ready", "failed"], archive_life="30d", link_life="1h")
    export = shop.done()
    shop.mails(smtp.host, smtp.port)
    [received] = smtp.received
    words = body(received.message)
    [link] = [line for line in words.splitlines() if "/downloads/" in line]
    assert f"{PUBLIC}/page/tenants/acme/requests" in words
    assert "2026-07-01 12:00" in words
    for clock, expected in ((NOW + 2 * HOUR, 200), (NOW + 30 * 24 * HOUR - HOUR, 200), (NOW + 30 * 24 * HOUR, 410)):
        shop.clock = clock
        assert shop.download(link).status_code == expected, clock
    shop.clock = NOW
    shop.policy(roles={"owner": ["exports.view"]})
    assert code(shop.download(link)) == (404, "not_found")
    assert export["status"] == "done"


def body(message: EmailMessage) -> str:
    part = message.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


def test_a_failed_export_names_the_houses_support_address(shop: Shop, smtp: SmtpServer) -> None:
    shop.policy(notify=["ready", "failed"])
    failed = shop.failed()
    assert failed["error"]["advice"].endswith("If it fails again, contact support@dashtray.com.")
    shop.mails(smtp.host, smtp.port)
    assert "contact support@dashtray.com." in body(smtp.received[0].message)
