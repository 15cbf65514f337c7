"""Rehearses a destination: it writes, renames and removes files of its own there. The ledger keeps the result, and deliveries follow it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from waybill import layout
from waybill.destinations import Probe
from waybill.errors import ConflictError, PermanentError, TransientError, WaybillError
from waybill.installation import Installation
from waybill.language import table
from waybill.ledger import destinations
from waybill.ledger.destinations import FailedRehearsal

ADVICE = table("profiles")
"""What a profile means and what to do about it, by its name."""


def probe(installation: Installation, tenant: str) -> Probe:
    """Rehearse below the tenant's folder and keep the result. The next deliveries work as the result allows.

    Raises PermanentError, TransientError or ConflictError if the destination cannot be used. The ledger keeps the reason beside the last
    good result.
    """
    registered = installation.registered(tenant)
    place = installation.destination_spec(registered).model_dump(mode="json")
    try:
        with installation.session(registered) as session:
            found = session.probe(layout.tenant_folder(tenant))
    except (PermanentError, TransientError, ConflictError) as error:
        with installation.ledger.begin() as connection:
            destinations.store_failed_probe(connection, tenant, _failure(error, place), installation.now())
        raise
    with installation.ledger.begin() as connection:
        destinations.store_probe(connection, tenant, {**as_json(found), "destination": place}, installation.now())
    return found


def as_json(found: Probe) -> dict[str, Any]:
    """Return the result of a rehearsal as it is kept and shown, with advice."""
    facts = asdict(found)
    return {**facts, "profile": found.profile.value, "steps": [list(step) for step in found.steps], "advice": ADVICE[found.profile.value]}


def _failure(error: WaybillError, destination: dict[str, Any]) -> FailedRehearsal:
    message = str(error).removesuffix(error.next_step).rstrip() if error.next_step else str(error)
    return {"code": error.code, "what": message, "next_step": error.next_step, "destination": destination}
