"""A ledger that is older than the destination, restored from a backup or lost, is found before anything is published.

Such a ledger would use sequence numbers a second time and send rows again. Deliveries of dates that this run passes over are looked for by
the names they must have: nothing is listed, and an ordinary night, which passes over no date, reads nothing at all.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from waybill import layout
from waybill.destinations import Profile, Session
from waybill.errors import ConflictError
from waybill.installation import Installation
from waybill.ledger import deliveries
from waybill.ledger.deliveries import Delivery
from waybill.ledger.registrations import Registered
from waybill.window import Frequency, export_date

LOOK_BACK = 62
"""How many days before a full load its tenant's day manifests are looked for: two months, the longest time between two deliveries."""

_UNREADABLE = (Profile.DROPBOX, Profile.PICKUP)
"""Where nothing that was delivered can be read again, nothing can be compared."""


def refuse_unknown(installation: Installation, registered: Registered, session: Session, planned: Sequence[Delivery]) -> None:
    """Raises ConflictError when the destination holds a delivery of this tenant that the ledger does not know."""
    due = [one for one in planned if one.purpose == "schedule" and one.status == "open"]
    if not due or session.profile in _UNREADABLE:
        return
    seen = dict(_delivered(registered, session, due))
    if not seen:
        return
    with installation.ledger.read() as connection:
        known = deliveries.several(connection, list(seen))
    for delivery_id, path in seen.items():
        if delivery_id not in known:
            raise ConflictError(
                f"{path} tells of a delivery that the ledger does not know: the ledger is older than the destination",
                code="ledger_behind",
                next_step=f"Run: waybill reconcile {registered.tenant}",
            )


def _delivered(registered: Registered, session: Session, due: Collection[Delivery]) -> Iterator[tuple[str, str]]:
    """Delivery ids with the path of the document that names them, for the dates that are passed over."""
    frequency, zone = registered.registration.frequency, registered.registration.zone
    full = [one for one in due if one.window_from is None]
    if full:
        newest = max(date.fromisoformat(one.export_date) for one in full)
        for day in _boundaries(frequency, newest - timedelta(days=LOOK_BACK), newest):
            path = f"{layout.day_folder(registered.tenant, day)}/{layout.day_manifest_name(1)}"
            for listed in _facts(session, path).get("deliveries", ()):
                if isinstance(listed, Mapping) and isinstance(found := listed.get("delivery_id"), str):
                    yield found, path
    for one in due:
        end = date.fromisoformat(one.export_date)
        begin = export_date(one.window_from, zone) if one.window_from else end - timedelta(days=LOOK_BACK)
        for day in list(_boundaries(frequency, begin, end))[-2 if one.window_from is None else 0 :]:
            path = f"{layout.entity_folder(one.tenant, day, one.entity)}/{one.entity}.manifest.json"
            if isinstance(found := _facts(session, path).get("delivery_id"), str):
                yield found, path


def _boundaries(frequency: Frequency, begin: date, end: date) -> Iterator[date]:
    """The first days of periods strictly between two dates."""
    day = frequency.first_day_after(begin)
    while day < end:
        yield day
        day = frequency.first_day_after(day)


def _facts(session: Session, path: str) -> Mapping[str, Any]:
    """A JSON document at the destination; nothing for one that is missing, collected, or not ours to read."""
    raw = session.read(path)
    try:
        found = json.loads(raw) if raw else {}
    except ValueError:
        return {}
    return found if isinstance(found, Mapping) else {}
