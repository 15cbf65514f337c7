"""Asks for the full history: the chosen streams begin a new generation with their next delivery.

What that delivery reads is decided in `extraction.extracting`.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection

from waybill.deliveries.planning import entity_ids
from waybill.errors import PermanentError
from waybill.installation import Installation
from waybill.language import tell
from waybill.ledger import registrations, streams
from waybill.registrations.replacing import require


def ask_full_load(installation: Installation, tenant: str, entities: Collection[str] = (), asked_at: datetime | None = None) -> list[str]:
    """Queue the full history of the given entities, or of all active ones, for the next run. Returns the entity ids.

    A stream that began after `asked_at` is left as it is: a task that is tried again asks for the same full load, not for a second one. A
    stream that has delivered nothing yet is left as it is, too, because its first delivery is a full load anyway.
    """
    installation.registered(tenant)
    chosen = entity_ids(installation, tenant, entities)
    with installation.ledger.begin() as connection:
        return _ask(connection, tenant, chosen, asked_at)


def _ask(connection: Connection, tenant: str, chosen: Collection[str], asked_at: datetime | None = None) -> list[str]:
    active = [stream for stream in streams.active(connection, tenant) if not chosen or stream.entity in chosen]
    wanted = [stream for stream in active if asked_at is None or stream.activated_at < asked_at]
    streams.ask_full_load(connection, tenant, [stream.entity for stream in wanted if stream.watermark is not None])
    return [stream.entity for stream in wanted]


def queue_full_load(installation: Installation, tenant: str, entities: Collection[str], *, actor: str, when: str) -> list[str]:
    """Queue the full history of these entities (ids or display names), or of all, for the next run. Returns the ids.

    Raises PermanentError: `not_found` if the tenant has no active entity, `not_registered` for an entity that the tenant does not receive.
    """
    require(installation, tenant)
    with installation.ledger.read() as connection:
        active = streams.active(connection, tenant)
    if not active:
        raise PermanentError(tell("call.nothing_active", tenant=tenant), next_step=tell("call.nothing_active_step"), code="not_found")
    chosen = entity_ids(installation, tenant, entities)
    with installation.ledger.begin() as connection:  # nothing is asked for without its line in the audit log
        asked = _ask(connection, tenant, chosen)
        registrations.note(connection, tenant, actor, "full_load", {"entities": asked, "when": when}, installation.now())
    return asked
