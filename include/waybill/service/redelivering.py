"""Redelivery: the same bytes of a committed delivery once more, under a name of their own."""

from __future__ import annotations

from waybill.errors import PermanentError, TransientError
from waybill.ledger import deliveries, registrations, repairs
from waybill.ledger.deliveries import Delivery
from waybill.service.estate import Estate
from waybill.service.resending import located
from waybill.service.running import Progress, Result, close_day, deliver, silent


def redeliver(estate: Estate, delivery_id: str, *, actor: str, progress: Progress = silent) -> Result:
    """Deliver the bytes of a committed delivery again as `<entity>.g<generation>.<sequence>.r<n>`, n from 2; its manifest says so.

    An unfinished redelivery of the same delivery is finished instead. Raises PermanentError when the delivery is unknown or not committed,
    or when its bytes are gone; the message then names the repair that is left.
    """
    with estate.ledger.begin() as connection:
        found = deliveries.get(connection, delivery_id)
        family = repairs.family(connection, found.redelivers or found.id) if found else []
        adopted = deliveries.adopted_of(connection, family)
    if found is None:
        raise PermanentError(f"there is no delivery {delivery_id!r}", next_step="`waybill deliveries` lists them", code="unknown_delivery")
    original = family[0]
    if original.status != "committed":
        step = "It is delivered by the next run" if original.status == "open" else "There is nothing to send again"
        raise PermanentError(f"the delivery {original.id} is {original.status}, not committed", next_step=step, code="not_committed")
    unfinished = [one for one in family if one.status == "open"]
    if not unfinished:
        with estate.session(estate.registered(original.tenant)) as session:
            located(estate, session, family, adopted)
        unfinished = [_plan(estate, original, len(family), actor)]
    result = deliver(estate, [unfinished[0].id], progress)[0]
    close_day(estate, original.tenant)
    return result


def _plan(estate: Estate, original: Delivery, count: int, actor: str) -> Delivery:
    kept = ("stream", "tenant", "entity", "generation", "sequence", "kind", "window_from", "planned_to", "export_date", "folder")
    facts = {name: getattr(original, name) for name in (*kept, "previous_sequence", "previous_sha256", "registration_version")}
    stem = f"{original.entity}.g{original.generation}.{original.sequence}.r{count + 1}"
    now = estate.now()
    with estate.ledger.begin() as connection:
        planned = deliveries.plan(connection, facts | {"purpose": "redelivery", "stem": stem, "redelivers": original.id, "created_at": now})
        if planned is not None:
            detail = {"delivery": original.id, "redelivery": planned.id}
            registrations.note(connection, original.tenant, actor, "redeliver", detail, now)
            return planned
        beside = [one for one in repairs.family(connection, original.id) if one.stem == stem]
    if not beside:
        raise TransientError(f"{stem} is taken", where=original.folder, next_step="Try again", code="busy")
    return beside[0]
