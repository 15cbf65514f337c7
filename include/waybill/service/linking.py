"""Links: minted per click, checked again when they are used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from waybill import links
from waybill.access import Caller, Permission
from waybill.errors import PermanentError
from waybill.ledger import link_keys, registrations, requests
from waybill.links import Ticket
from waybill.request import ExportRequest, Refused, Status, refused
from waybill.request.refusals import SENTENCES
from waybill.service.estate import Estate
from waybill.service.following import get_request
from waybill.service.permitting import may_download, note_denied, roles_of, still_holds
from waybill.service.requests_upkeep import archives_of

DOWNLOADS = "/api/v1/downloads/"

StillMay = Callable[[str, str], bool]
"""Asks the shell's own authority whether a person (as the ledger names them) may still download exports of a tenant."""


@dataclass(frozen=True)
class Link:
    """A signed link: `token` stands behind `DOWNLOADS`."""

    token: str
    expires_at: datetime


@dataclass(frozen=True)
class Download:
    """An archive to serve: a local file, or the address of the store that serves it."""

    request: ExportRequest
    filename: str
    path: Path | None
    url: str | None


def mint_link(estate: Estate, caller: Caller, tenant: str, request_id: str) -> Link:
    """A link for this caller. Raises not_found, download_denied, not_ready, expired."""
    one = get_request(estate, caller, tenant, request_id)
    if not may_download(caller, one):
        note_denied(estate, caller, tenant, Permission.EXPORTS_DOWNLOAD.value, one.id)
        raise refused("download_denied")
    _require_ready(one, estate.now())
    link = sign(estate, one, caller.actor, roles_of(caller))
    with estate.ledger.begin() as connection:
        detail = {"request": one.id, "expires": link.expires_at.isoformat()}
        registrations.note(connection, one.tenant, caller.actor, "link_export", detail, estate.now())
    return link


def sign(estate: Estate, one: ExportRequest, person: str, roles: list[str] | None) -> Link:
    """A link to a finished export, for policy's `link_life` and never beyond the archive's own."""
    life = estate.configuration.knobs(one.tenant).link_life
    end = one.expires_at or estate.now()
    if life != "archive":
        end = min(end, estate.now() + life)
    end = end.replace(microsecond=0)  # a token knows whole seconds
    token = links.mint(keys(estate), Ticket(one.id, one.attempt, person, None if roles is None else tuple(roles), end))
    return Link(token, end)


def keys(estate: Estate) -> tuple[bytes, ...]:
    """The signing keys, newest first: those of the environment, else the ledger's own."""
    if estate.settings.link_keys:
        return links.checked_keys(estate.settings.link_keys)
    with estate.ledger.begin() as connection:
        return link_keys.keys(connection, estate.now())


def _require_ready(one: ExportRequest, now: datetime) -> None:
    status = one.shown(now)
    if status is Status.EXPIRED:
        raise refused("expired")
    if status is not Status.DONE:
        raise refused("not_ready")


def open_download(estate: Estate, token: str, still_may: StillMay = lambda person, tenant: True) -> Download:
    """The archive behind a token, its bearer's rights checked again.

    Raises expired when the link's or the archive's time is over, storage_unavailable, and not_found for everything else.
    """
    ticket, now = links.read(keys(estate), token), estate.now()
    if ticket is None:
        raise refused("not_found")
    with estate.ledger.begin() as connection:
        one = requests.get(connection, ticket.request)
    if one is None or one.attempt != ticket.attempt or not _may_still(estate, ticket, one, still_may):
        raise refused("not_found")
    if one.shown(now) is Status.EXPIRED:
        raise refused("expired")
    if one.status != Status.DONE or one.archive is None:
        raise refused("not_found")
    if ticket.expires <= now:
        raise Refused("expired", SENTENCES["link_expired"])
    filename = f"{one.tenant}-export-{one.created_at:%Y%m%d-%H%M%S}.zip"
    archives = archives_of(estate)
    path = archives.path(one.archive)
    url = None if path else archives.presigned(one.archive, filename, ticket.expires - now)
    with estate.ledger.begin() as connection:
        requests.downloaded(connection, one, now)
    return Download(one, filename, path, url)


def _may_still(estate: Estate, ticket: Ticket, one: ExportRequest, still_may: StillMay) -> bool:
    roles = None if ticket.roles is None else list(ticket.roles)
    by_policy = still_holds(estate, roles, one.tenants, Permission.EXPORTS_DOWNLOAD)
    return by_policy and all(still_may(ticket.person, tenant) for tenant in one.tenants)


def public_url(estate: Estate) -> str:
    """WAYBILL_PUBLIC_URL, which may be empty. Raises PermanentError when it is not https and not on this machine."""
    url = estate.settings.public_url
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
