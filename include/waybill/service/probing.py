"""Rehearsing a tenant's destination: what a delivery will do there, tried out and kept."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from waybill import layout
from waybill.destinations import Probe, Profile
from waybill.errors import ConflictError, PermanentError, TransientError, WaybillError
from waybill.ledger import tenants
from waybill.service.estate import Estate

ADVICE = {
    Profile.FULL: "Nothing to do: the whole protocol works here, files appear complete and are never overwritten.",
    Profile.NO_CAS: "Renaming overwrites here: deliveries go one at a time, and two runs at once may deliver a window twice. "
    "Ask the server's owner for renames that refuse to overwrite.",
    Profile.DROPBOX: "Files cannot be looked at or renamed here: they are uploaded under their final names. "
    "The consumer must wait for the manifest, which comes last.",
    Profile.PICKUP: "Files are taken away as soon as they land: one that is gone after a good upload counts as collected.",
}


def probe(estate: Estate, tenant: str) -> Probe:
    """Rehearse below the tenant's folder and keep the result, which decides how the next deliveries go about it.

    Raises PermanentError, TransientError or ConflictError when the destination cannot be used; why is kept, beside the last good result.
    """
    registered = estate.registered(tenant)
    place = estate.destination_spec(registered).model_dump(mode="json")
    try:
        with estate.session(registered) as session:
            found = session.probe(layout.tenant_folder(tenant))
    except (PermanentError, TransientError, ConflictError) as error:
        with estate.ledger.begin() as connection:
            tenants.store_failed_probe(connection, tenant, {**_failure(error), "destination": place}, estate.now())
        raise
    with estate.ledger.begin() as connection:
        tenants.store_probe(connection, tenant, {**as_json(found), "destination": place}, estate.now())
    return found


def as_json(found: Probe) -> dict[str, Any]:
    """The rehearsal as it is kept and shown, with advice."""
    facts = asdict(found)
    return {**facts, "profile": found.profile.value, "steps": [list(step) for step in found.steps], "advice": ADVICE[found.profile]}


def _failure(error: WaybillError) -> dict[str, str]:
    said = str(error).removesuffix(error.next_step).rstrip() if error.next_step else str(error)
    return {"code": error.code, "what": said, "next_step": error.next_step}
