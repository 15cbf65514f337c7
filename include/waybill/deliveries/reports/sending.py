"""The outbox: sends the messages owed about deliveries by mail, to Slack and to webhooks. A refused message is sent again later.

Each message is sent at least once. If a process dies after sending and before noting it, the message is sent again under the same id.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from waybill.canonical import timestamp_text
from waybill.configuration.channels import Event
from waybill.deliveries.manifests import manifest_bytes, target_of_attempt
from waybill.deliveries.reports import describing, notifying
from waybill.deliveries.reports.causes import words_for_outsiders
from waybill.deliveries.reports.describing import Described
from waybill.deliveries.reports.messages import written
from waybill.destinations.public_addresses import checked_address
from waybill.errors import UNEXPECTED, PermanentError, WaybillError, unexpected
from waybill.installation import Installation
from waybill.ledger import deliveries, registrations
from waybill.ledger.reports import notices
from waybill.ledger.reports.notices import Notice
from waybill.messaging import mail, webhooks

WAITS = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 180))
"""The waits before the next tries. The last one repeats."""

GIVEN_UP_AFTER = timedelta(days=3)
PARALLEL = 4
ROUNDS = 20
"""The most looks for due messages. One look may find only messages to channels that do not answer."""

MOST_BYTES = 1_000_000
"""A manifest with more columns than fit is sent without them. The destination has the complete one."""


_FORGOTTEN = "unknown_delivery"
_FOR_GOOD = (mail.REFUSED, _FORGOTTEN)
"""The codes of messages that can never be sent. They hold up no other."""
_OF_ONE = (*_FOR_GOOD, UNEXPECTED)

log = logging.getLogger(__name__)


def send_owed(installation: Installation, tenant: str) -> tuple[list[Event], list[WaybillError]]:
    """Send what people are owed about one tenant. Returns what changed and what could not be sent. One query if nothing is owed."""
    with installation.ledger.read() as connection:
        if not notices.is_pending(connection, tenant):
            return [], []
    changes = [event for _, event in notifying.watch(installation, tenant)]
    return changes, send_due(installation, tenant)


@dataclass(frozen=True)
class ToldOfRun:
    """What a run left open, what changed about the tenant, and what could not be sent."""

    waiting: list[Described]
    changes: list[Event]
    problems: list[WaybillError]


def tell_of_run(installation: Installation, tenant: str, entities: Collection[str]) -> ToldOfRun:
    """Tell people which deliveries of these entities a run left open, and send what they are owed. `send_due` sends the rest later."""
    waiting = describing.waiting(installation, tenant, entities) if entities else []
    if waiting:
        notifying.failed(installation, tenant, waiting)
    return ToldOfRun(waiting, *send_owed(installation, tenant))


def send_due(installation: Installation, tenant: str | None = None) -> list[WaybillError]:
    """Send what is due now, for all tenants or for one, and return the problems. A refused message is sent again later.

    Messages to one channel go out one after another, in order. A refused message holds up the rest of its channel until its next try,
    unless it is refused for good.
    """
    problems: dict[str, WaybillError] = {}
    for _ in range(ROUNDS):
        with installation.ledger.read() as connection:
            due = notices.due(connection, installation.now(), tenant)
        lanes: dict[str, list[Notice]] = {}
        for notice in due:
            lanes.setdefault(json.dumps({key: notice.channel.get(key) for key in ("kind", "connection", "url", "to")}), []).append(notice)
        stopped = {name for name, problem in problems.items() if problem.code not in _OF_ONE}
        for name in lanes.keys() & stopped:  # more is owed than one round takes: none is tried again before its time
            _put_off(installation, lanes.pop(name))
        if lanes:
            with ThreadPoolExecutor(min(PARALLEL, len(lanes)), thread_name_prefix="send") as pool:
                found = zip(lanes, pool.map(lambda lane: _send_lane(installation, lane), lanes.values()), strict=True)
                problems |= {name: problem for name, problem in found if problem}
        if len(due) < notices.MOST or not problems:
            break
    return list(problems.values())


def _put_off(installation: Installation, waiting: Sequence[Notice]) -> None:
    with installation.ledger.begin() as connection:
        notices.put_off(connection, [notice.id for notice in waiting], installation.now() + WAITS[0])


def _send_lane(installation: Installation, lane: Sequence[Notice]) -> WaybillError | None:
    """Send the messages of one channel, in order. Returns the problem that stopped it, else the last message that was refused for good."""
    refused = None
    for number, notice in enumerate(lane, 1):
        now = installation.now()
        with installation.ledger.begin() as connection:
            if not notices.claim(connection, notice, now):
                return None  # another process serves this channel
        try:
            _send(installation, notice)
        except Exception as found:  # noqa: BLE001 (what is wrong with one message must not keep the others back)
            error = _as_problem(found, notice)
            later = None if error.code in _FOR_GOOD else _next_try(notice, now)
            with installation.ledger.begin() as connection:
                notices.postponed(connection, notice, later, str(error))
            problem = error.located(f"message {notice.event} of {notice.tenant}")
            if error.code in _OF_ONE:  # it says nothing of the next one
                refused = problem
                continue
            _put_off(installation, lane[number:])
            return problem
        with installation.ledger.begin() as connection:
            notices.sent(connection, notice, installation.now())
    return refused


def _as_problem(found: Exception, notice: Notice) -> WaybillError:
    if isinstance(found, WaybillError):
        return found
    log.error("message %s of %s could not be made", notice.id, notice.tenant, exc_info=found)
    return unexpected(found)


def _next_try(notice: Notice, now: datetime) -> datetime | None:
    later = now + WAITS[min(notice.tries, len(WAITS) - 1)]
    begun = notice.created_at + timedelta(seconds=notice.channel["after"])
    # A message gets its tries even if no process ran for days.
    return later if later < begun + GIVEN_UP_AFTER or notice.tries < len(WAITS) else None


def _send(installation: Installation, notice: Notice) -> None:
    channel = notice.channel
    if channel["kind"] == "mail":
        _mail(installation, notice)
        return
    connection = installation.connections(channel["connection"])
    if channel["kind"] == "slack":
        url, headers = webhooks.slack_url_of(connection), {}
        body = json.dumps({"text": "*{}*\n{}".format(*_words(installation, notice))}).encode()
    else:
        url, body = channel.get("url") or webhooks.url_of(connection), document(installation, notice)
        headers = webhooks.signed_headers(connection, notice.id, int(installation.now().timestamp()), body)
    address = _guarded(installation, url) if channel["guarded"] else ""
    webhooks.post(url, body, headers, where=f"connection {connection.id}", address=address)


def _guarded(installation: Installation, url: str) -> str:
    """Return the checked address of a webhook that a tenant named. Raises PermanentError for a private address, or one without TLS."""
    networks = installation.configuration.policy.private_networks
    address = checked_address(*webhooks.host_and_port(url), networks)
    if urlsplit(url).scheme != "https" and not any(ip_address(address) in network for network in networks):
        raise PermanentError("the webhook of a tenant is not called without TLS", allowed="https://", code="webhook_url")
    return address


def _mail(installation: Installation, notice: Notice) -> None:
    settings = installation.configuration.policy.mail
    connection = installation.connections(settings.connection)
    words = _words(installation, notice)
    mail.send(connection, mail.composed(connection, settings.sender, notice.channel["to"], *words, key=notice.id, at=notice.created_at))


def _words(installation: Installation, notice: Notice) -> tuple[str, str]:
    """Return subject and text, with times in the tenant's zone and entities by their display names."""
    # Also with a catalog that is broken just now: people hear of what is late meanwhile.
    names = {entity.id: entity.display_name for entity in installation.configuration.catalog.entities.values()}
    with installation.speaking_to(notice.tenant):
        return written(notice, facts(installation, notice), _zone(installation, notice.tenant), names)


def _zone(installation: Installation, tenant: str) -> ZoneInfo:
    """Return the tenant's zone, or UTC if its registration cannot be read: the message may be about that, and others wait behind it."""
    with installation.ledger.read() as connection, suppress(PermanentError):
        if registered := registrations.current(connection, tenant):
            return registered.registration.zone
    return ZoneInfo("UTC")


def facts(installation: Installation, notice: Notice) -> dict[str, Any]:
    """Return what a message says. A tenant's own channels see errors as people outside the operator's organisation do."""
    if notice.event == Event.DELIVERED:
        return _delivered(installation, notice)
    found = dict(notice.detail)
    for key in {"deliveries", "missing"} & found.keys():
        found[key] = [
            {**each, "error": words_for_outsiders(each["error_code"] or "")} if notice.channel["own"] and each["error"] else each
            for each in found[key]
        ]
    return found


def _delivered(installation: Installation, notice: Notice) -> dict[str, Any]:
    """Return the manifest at the destination, and where it is. Paths are below the destination's root."""
    with installation.ledger.read() as connection:
        delivery = deliveries.get(connection, notice.delivery or "")
        adopted = deliveries.adopted_of(connection, [delivery]).get(delivery.id) if delivery else None
    if delivery is None or adopted is None:
        raise PermanentError(f"the ledger has no delivery {notice.delivery} any more", code=_FORGOTTEN)
    target, manifest = target_of_attempt(delivery, adopted), json.loads(manifest_bytes(delivery, adopted))
    if len(json.dumps(manifest)) > MOST_BYTES:
        manifest.pop("columns")
    return {"folder": target.folder, "manifest_path": target.manifest, "manifest": manifest}


def document(installation: Installation, notice: Notice) -> bytes:
    """Return the body of a webhook."""
    body = {"id": notice.id, "type": notice.event, "timestamp": timestamp_text(notice.created_at), "tenant": notice.tenant}
    return json.dumps(body | {"data": facts(installation, notice)}, ensure_ascii=False, separators=(",", ":")).encode()
