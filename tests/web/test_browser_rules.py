"""What every answer tells browsers, and forms that other sites send; one stored registration nobody can read any more."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from tests.installations import vacant_place
from tests.issuer import serve_issuer, tenant_api

BODY = {"entityList": ["user"]}


def test_answers_carry_their_rules_and_null_is_another_site(tmp_path: Path) -> None:
    with vacant_place(tmp_path) as place, serve_issuer() as issuer:
        client, headers = TestClient(tenant_api(place, issuer)), issuer.bearer()
        for path in ("/docs", "/openapi.json", "/api/v1/tenants/acme/export", "/nothing", "/page/sign-in"):
            found = client.get(path, headers=headers).headers
            assert found["x-content-type-options"] == "nosniff"
            assert "default-src 'none'" in found["content-security-policy"]
        form = {**headers, "HX-Request": "true", "Origin": "null"}
        for extra in ({}, {"Sec-Fetch-Site": "same-origin"}):
            assert client.post("/page/tenants/acme/run", headers={**form, **extra}).status_code == 403
            assert client.post("/page/sign-in", data={"token": "x"}, headers={**form, **extra}).status_code == 403


def test_every_route_and_every_status_carries_the_rules(tmp_path: Path) -> None:
    with vacant_place(tmp_path) as place, serve_issuer() as issuer:
        app = tenant_api(place, issuer)
        client = TestClient(app, raise_server_exceptions=False, follow_redirects=False)
        headers = issuer.bearer(roles=["admin"])
        assert client.put("/api/v1/tenants/acme/export", json=BODY, headers=headers).status_code == 201
        made = client.post("/api/v1/tenants/acme/exports", json={"entities": ["user"], "formats": ["csv"]}, headers=headers).json()
        with place.installation().ledger.begin() as connection:
            connection.execute(text("UPDATE export_request SET scope = '5'"))
        callers: list[dict[str, str]] = [{}, headers, {"Cookie": "waybill_session=none", "Accept": "text/html"}]
        seen, bare = set(), []
        for path in sorted(set(addresses(app.routes))):
            address = re.sub(
                r"\{(\w+)[^}]*\}", lambda name: {"tenant": "acme", "number": "1", "path": "page.css"}.get(name[1], made["id"]), path
            )
            for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
                for caller in callers:
                    content = b" " * 300_000 if method in ("POST", "PUT") and caller is headers else None
                    answer = client.request(method, address, headers=caller, content=content)
                    seen.add(answer.status_code)
                    told = answer.headers.get("content-security-policy", ""), answer.headers.get("x-content-type-options")
                    if "frame-ancestors" not in told[0] or told[1] != "nosniff":
                        bare.append((method, path, answer.status_code))
        assert bare == []
        assert {200, 303, 401, 403, 404, 405, 413, 422, 500} <= seen


def addresses(routes: Iterable[Any], before: str = "") -> Iterator[str]:
    for route in routes:
        if getattr(route, "routes", None):
            yield from addresses(route.routes, before + getattr(route, "path", ""))
        elif path := getattr(route, "path", ""):
            yield before + path


def test_one_registration_nobody_can_read_hurts_one_tenant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from waybill.airflow.schedule import schedules

    with vacant_place(tmp_path) as place, serve_issuer() as issuer:
        client = TestClient(tenant_api(place, issuer))
        headers = issuer.bearer(["acme", "globex"])
        for tenant in ("acme", "globex"):
            assert client.put(f"/api/v1/tenants/{tenant}/export", json=BODY, headers=headers).status_code == 201
        with place.installation().ledger.begin() as connection:
            connection.execute(text("UPDATE registration SET body = '{\"frequency\": \"hourly\"}' WHERE tenant = 'acme'"))
        monkeypatch.setenv("WAYBILL_CONFIG_DIR", str(tmp_path / "config"))
        assert {schedule.tenant: schedule.cron is None for schedule in schedules()} == {"acme": True, "globex": False}
        assert client.get("/page/", headers=headers).status_code == 200
        assert client.get("/api/v1/tenants/globex/export", headers=headers).status_code == 200
