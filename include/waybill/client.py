"""A client of the API for programs: register what a tenant receives, request an export, wait for it, download it whole.

    with Waybill("https://exports.example.com", token, tenant="acme") as waybill:
        export = waybill.wait(waybill.request(["user logins"], ["csv"], range="last_30_days"))
        archive = waybill.download(export, Path("exports"))

It needs httpx alone and nothing of the rest of Waybill.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import httpx

__all__ = ["Export", "NotDone", "Refused", "Registration", "Waybill", "client_credentials"]

API = "/api/v1"
ExportOption = Literal["export all", "export selected", "disable export"]
Frequency = Literal["daily", "weekly", "monthly"]
_BUSY = (429, 502, 503, 504)
"""Answers of a server, or of a proxy before it, that is busy or starts again."""
_LONGEST_PAUSE = 60.0


class Refused(Exception):
    """The API refused a call. `code` is stable and for programs, the text is one sentence for people, and `errors` names the fields."""

    def __init__(self, status: int, code: str, detail: str, errors: Sequence[Mapping[str, str]], retry_after: float | None) -> None:
        self.status, self.code, self.detail, self.errors, self.retry_after = status, code, detail, list(errors), retry_after
        super().__init__(f"{detail} ({code})")


class NotDone(Exception):
    """An export ended without an archive, or was not done in time. `export` is the export as it was last seen."""

    def __init__(self, export: Export, what: str) -> None:
        self.export = export
        super().__init__(f"export {export.id}: {what}")


@dataclass(frozen=True)
class Registration:
    """What a tenant receives. `etag` guards a later change, and `body` is the whole answer."""

    tenant: str
    entities: list[str]
    frequency: str
    version: int
    etag: str
    body: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Export:
    """An on-demand export as it was last seen. `rows`, `bytes` and `sha256` are None until it is done. `body` is the whole answer."""

    id: str
    tenant: str
    status: str
    progress: int
    rows: int | None
    bytes: int | None
    sha256: str | None
    expires_at: str | None
    body: Mapping[str, Any] = field(repr=False)
    retry_after: float = 2.0

    @property
    def is_active(self) -> bool:
        return self.status in ("pending", "running")


def client_credentials(token_url: str, client_id: str, client_secret: str, scope: str = "read write") -> Callable[[], str]:
    """Tokens of the OAuth2 client-credentials flow, kept until shortly before they expire. Pass it to `Waybill` in place of a token."""
    kept: dict[str, Any] = {"token": "", "until": 0.0}

    def token() -> str:
        if time.monotonic() >= kept["until"]:
            data = {"grant_type": "client_credentials", "scope": scope}
            answer = httpx.post(token_url, data=data, auth=(client_id, client_secret), timeout=30)
            answer.raise_for_status()
            found = answer.json()
            kept["token"] = found["access_token"]
            kept["until"] = time.monotonic() + max(0.0, float(found.get("expires_in", 60)) - 30)
        return str(kept["token"])

    return token


class Waybill:
    """One tenant's side of the API. `token` is a bearer token, or a function that is called for one before each call.

    Every call raises Refused if the API refuses it, and httpx.TransportError if the API cannot be reached.
    """

    def __init__(self, url: str, token: str | Callable[[], str], tenant: str, *, timeout: float = 60) -> None:
        self._token = token
        self._base = f"{API}/tenants/{tenant}"
        self._client = httpx.Client(base_url=url.rstrip("/"), timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._client.close()

    def register(
        self,
        entities: Sequence[str] = (),
        frequency: Frequency = "daily",
        *,
        option: ExportOption = "export selected",
        etag: str = "",
        **fields: Any,
    ) -> Registration:
        """Replace what the tenant receives. With the `etag` of the version you saw, a change in between is refused (`etag_mismatch`)."""
        body = {"exportOption": option, "entityList": list(entities), "frequency": frequency, **fields}
        return _registration(self._call("PUT", "/export", body, {"If-Match": etag} if etag else {}))

    def registration(self) -> Registration:
        """Return what the tenant receives now."""
        return _registration(self._call("GET", "/export"))

    def request(
        self,
        entities: Sequence[str],
        formats: Sequence[str],
        *,
        range: str | Mapping[str, str] | None = None,
        scope: Mapping[str, Any] | None = None,
        export_type: str = "",
        key: str = "",
    ) -> Export:
        """Ask for an export. Calls with the same `key` and body give the same export, however often you make them."""
        body = {"entities": list(entities), "formats": list(formats), "range": range, "scope": scope, "exportType": export_type or None}
        sent = {name: value for name, value in body.items() if value is not None}
        return _export(self._call("POST", "/exports", sent, {"Idempotency-Key": key} if key else {}))

    def export(self, export_id: str) -> Export:
        """Return an export as it is now."""
        return _export(self._call("GET", f"/exports/{export_id}"))

    def wait(self, export: Export, timeout: float = 3600, progress: Callable[[Export], None] = lambda export: None) -> Export:
        """Look as often as the API asks for, until the export is done. Raises NotDone if it failed or takes longer.

        A server that cannot be reached, or that answers 429, 502, 503 or 504, is asked again until the time is over.
        """
        deadline = time.monotonic() + timeout
        while export.is_active:
            left = deadline - time.monotonic()
            if left <= 0:
                raise NotDone(export, f"still {export.status} after {timeout:g} s")
            time.sleep(min(export.retry_after, left))
            try:
                export = self.export(export.id)
            except (httpx.TransportError, Refused) as error:
                if not _passes(error) or time.monotonic() >= deadline:
                    raise
                continue
            progress(export)
        if export.status != "done":
            why = export.body.get("error") or {}
            raise NotDone(export, " ".join(part for part in (export.status, why.get("message"), why.get("advice")) if part))
        return export

    def download(self, export: Export, folder: Path, *, tries: int = 5) -> Path:
        """Fetch the whole archive into `folder`, or nothing, and return its path. One that is there already is not fetched again.

        A broken download continues where it stopped, in this call or a later one, until `tries` in a row brought nothing. Size and SHA-256
        are compared with those of the API. Raises NotDone if another archive arrives.
        """
        folder.mkdir(parents=True, exist_ok=True)
        final = folder / f"{export.tenant}-{export.id}.zip"
        if final.exists() and _sha256(final) == export.sha256:
            return final
        part = folder / f".{final.name}.part"
        failures = 0
        while True:
            before = _size(part)
            try:
                self._fetch(export, part)
                break
            except (httpx.TransportError, Refused) as error:
                failures = failures + 1 if _size(part) <= before else 1
                if failures >= tries or not _passes(error):
                    raise
                time.sleep(min(2.0**failures, _LONGEST_PAUSE) / 4)
        if export.sha256 != _sha256(part):
            part.unlink()
            raise NotDone(export, "the archive that arrived is not the one that was announced")
        part.replace(final)
        return final

    def _fetch(self, export: Export, part: Path) -> None:
        """Fetch the rest of the archive, through a link made for this try."""
        there = _size(part)
        if export.bytes is not None and there == export.bytes:
            return
        if export.bytes is not None and there > export.bytes:  # two calls wrote to it: there is no rest to ask for
            there = 0
        link = self._call("POST", f"/exports/{export.id}/link").json()["url"]
        headers = {"Accept-Encoding": "identity"}  # a proxy that compresses would break ranges
        if there:
            headers |= {"Range": f"bytes={there}-", "If-Range": f'"{export.sha256}"'}
        with self._client.stream("GET", link, headers=headers, follow_redirects=True) as answer:
            if answer.is_error:
                answer.read()
                raise _refused(answer)
            with part.open("ab" if answer.status_code == httpx.codes.PARTIAL_CONTENT else "wb") as file:
                for block in answer.iter_bytes():  # written as it comes, so that a broken download loses nothing
                    file.write(block)

    def _call(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> httpx.Response:
        token = self._token() if callable(self._token) else self._token
        sent = {"Authorization": f"Bearer {token}", **(headers or {})}
        answer = self._client.request(method, self._base + path, json=body, headers=sent)
        if answer.is_error:
            raise _refused(answer)
        return answer


def _passes(error: httpx.TransportError | Refused) -> bool:
    """Return whether the same call may be answered a little later."""
    return isinstance(error, httpx.TransportError) or error.status in _BUSY


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refused(answer: httpx.Response) -> Refused:
    problem: dict[str, Any] = answer.json() if "json" in answer.headers.get("content-type", "") else {}
    after = answer.headers.get("retry-after", "")
    detail = problem.get("detail") or f"{answer.status_code} {answer.reason_phrase}"
    return Refused(
        answer.status_code, problem.get("code", ""), detail, problem.get("errors") or [], float(after) if after.isdigit() else None
    )


def _registration(answer: httpx.Response) -> Registration:
    body = answer.json()
    etag = answer.headers.get("etag", "")
    return Registration(body["tenant"], body["entities"], body["frequency"], body["version"], etag, body)


def _export(answer: httpx.Response) -> Export:
    body = answer.json()
    after = answer.headers.get("retry-after", "")
    return Export(
        id=body["id"],
        tenant=body["tenant"],
        status=body["status"],
        progress=body["progress"],
        rows=body["rows"],
        bytes=body["bytes"],
        sha256=body["sha256"],
        expires_at=body["expiresAt"],
        body=body,
        retry_after=float(after) if after.isdigit() else 2.0,
    )
