"""Signed links: one is made for each click, and checked again when somebody uses it.

How long a link works is `link_life` of `ExportPolicy` in `configuration/policy`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from itsdangerous import BadData, URLSafeSerializer
from itsdangerous.encoding import base64_decode, base64_encode

from waybill.access import Caller, Permission
from waybill.errors import PermanentError
from waybill.installation import Installation
from waybill.ledger import registrations
from waybill.ledger.on_demand import requests
from waybill.ledger.on_demand.request_records import ExportRequest, Status
from waybill.requests.following import get_request
from waybill.requests.lifecycle import LinkExpired, Refused
from waybill.requests.rights import may_download, note_denied, roles_of, still_holds
from waybill.requests.upkeep import archives_of

DOWNLOADS = "/api/v1/downloads/"

StillMay = Callable[[str, str], bool]
"""A function of the shell: whether a person (as the ledger names them) may still download exports of a tenant."""


@dataclass(frozen=True)
class Link:
    """A signed link. Its address is `DOWNLOADS` and `token`."""

    token: str
    expires_at: datetime


@dataclass(frozen=True)
class Download:
    """An archive to serve: a local file, or the address of the store that serves it."""

    request: ExportRequest
    filename: str
    path: Path | None
    url: str | None


def mint_link(installation: Installation, caller: Caller, tenant: str, request_id: str) -> Link:
    """Return a link for this caller. Raises not_found, download_denied, not_ready, expired."""
    request = get_request(installation, caller, tenant, request_id)
    if not may_download(caller, request):
        note_denied(installation, caller, tenant, Permission.EXPORTS_DOWNLOAD.value, request=request.id)
        raise Refused("download_denied")
    _require_ready(request, installation.now())
    life = installation.configuration.export_policy(request.tenant).link_life
    link = sign(installation, request, caller.actor, roles_of(caller), life)
    with installation.ledger.begin() as connection:
        detail = {"request": request.id, "expires": link.expires_at.isoformat()}
        registrations.note(connection, request.tenant, caller.actor, "link_export", detail, installation.now())
    return link


def sign(
    installation: Installation, request: ExportRequest, person: str, roles: list[str] | None, life: timedelta | Literal["archive"]
) -> Link:
    """Return a link to a finished export. It lives for `life`, and never longer than the archive."""
    end = request.expires_at or installation.now()
    if life != "archive":
        end = min(end, installation.now() + life)
    end = end.replace(microsecond=0)  # a token knows whole seconds
    token = mint(keys(installation), Ticket(request.id, request.attempt, person, None if roles is None else tuple(roles), end))
    return Link(token, end)


def keys(installation: Installation) -> tuple[bytes, ...]:
    """Return the signing keys, newest first: those of the environment, else those of the ledger."""
    if installation.settings.link_keys:
        return checked_keys(installation.settings.link_keys)
    with installation.ledger.begin() as connection:
        return requests.keys(connection, installation.now())


def _require_ready(request: ExportRequest, now: datetime) -> None:
    status = request.shown(now)
    if status is Status.EXPIRED:
        raise Refused("expired")
    if status is not Status.DONE:
        raise Refused("not_ready")


def open_download(
    installation: Installation, token: str, still_may: StillMay = lambda person, tenant: True, *, taken: bool = True
) -> Download:
    """Return the archive behind a token, after another check of rights and bytes. `taken`: this is a download, not only a look.

    Raises expired if the time of the link or of the archive is over, storage_unavailable, and not_found for everything else.
    """
    ticket, now = read(keys(installation), token), installation.now()
    if ticket is None:
        raise Refused("not_found")
    with installation.ledger.read() as connection:
        request = requests.get(connection, ticket.request)
    if request is None or request.attempt != ticket.attempt or not _may_still(installation, ticket, request, still_may):
        raise Refused("not_found")
    with installation.speaking_to(request.tenant):  # no address of a download names the tenant
        return _open(installation, request, ticket, now, taken=taken)


def _open(installation: Installation, request: ExportRequest, ticket: Ticket, now: datetime, *, taken: bool) -> Download:
    if request.shown(now) is Status.EXPIRED:
        raise Refused("expired")
    if request.status != Status.DONE or request.archive is None:
        raise Refused("not_found")
    if ticket.expires <= now:
        raise LinkExpired
    filename = f"{request.tenant}-export-{request.created_at:%Y%m%d-%H%M%S}.zip"
    archives = archives_of(installation)
    path = archives.found(request.archive, request.bytes, request.sha256)
    url = None if path else archives.presigned(request.archive, filename, ticket.expires - now, taken=taken)
    if taken:
        with installation.ledger.begin() as connection:
            requests.downloaded(connection, request, now)
    return Download(request, filename, path, url)


def _may_still(installation: Installation, ticket: Ticket, request: ExportRequest, still_may: StillMay) -> bool:
    roles = None if ticket.roles is None else list(ticket.roles)
    by_policy = still_holds(installation, roles, request.tenants, Permission.EXPORTS_DOWNLOAD)
    return by_policy and all(still_may(ticket.person, tenant) for tenant in request.tenants)


def public_url(installation: Installation) -> str:
    """Return WAYBILL_PUBLIC_URL, which may be empty. Raises PermanentError if it is neither https nor on this machine."""
    url = installation.settings.public_url
    parts = urlsplit(url)
    if url and parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname or "")):
        raise PermanentError(
            "WAYBILL_PUBLIC_URL must begin with https://",
            allowed="http:// only for localhost and loopback addresses",
            code="public_url",
        )
    return url


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


_PURPOSE = b"waybill.download"
_SHORTEST = 32


@dataclass(frozen=True)
class Ticket:
    """The content of a token. `roles` is None if policy's role table does not decide. `expires` is in whole seconds."""

    request: str
    attempt: int
    person: str
    roles: tuple[str, ...] | None
    expires: datetime


def checked_keys(keys: Sequence[str]) -> tuple[bytes, ...]:
    """Return the keys of WAYBILL_LINK_KEYS, newest first. Raises PermanentError for a key that is too short."""
    if any(len(key) < _SHORTEST for key in keys):
        raise PermanentError(
            f"WAYBILL_LINK_KEYS holds a key of fewer than {_SHORTEST} characters",
            next_step="Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
            code="link_keys",
        )
    return tuple(key.encode() for key in keys)


def mint(keys: Sequence[bytes], ticket: Ticket) -> str:
    """Return a token, signed with the newest (first) key."""
    roles = None if ticket.roles is None else list(ticket.roles)
    payload = [ticket.request, ticket.attempt, ticket.person, roles, int(ticket.expires.timestamp())]
    return _serializer(keys).dumps(payload)


def read(keys: Sequence[bytes], token: str) -> Ticket | None:
    """Return the content of a token if one of the keys signed it, else None. The caller checks its time."""
    if not _is_spelt_out(token):
        return None
    try:
        request, attempt, person, roles, expires = _serializer(keys).loads(token)
        held = None if roles is None else tuple(str(role) for role in roles)
        return Ticket(str(request), int(attempt), str(person), held, datetime.fromtimestamp(int(expires), UTC))
    except (BadData, ValueError, TypeError, OverflowError, OSError):
        return None


def _is_spelt_out(token: str) -> bool:
    """Return False if the signature's last character has bits that decoding drops. A token has only one valid spelling."""
    signature = token.rpartition(".")[2]
    try:
        return base64_encode(base64_decode(signature)).decode() == signature
    except BadData:
        return False


def _serializer(keys: Sequence[bytes]) -> URLSafeSerializer:
    # itsdangerous signs with the last key of its list and accepts all.
    return URLSafeSerializer(list(reversed(keys)), salt=_PURPOSE, signer_kwargs={"digest_method": hashlib.sha256})
