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
    family = _committed_family(estate, delivery_id)
    original = family[0]
    unfinished = [one for one in family if one.status == "open"]
    if not unfinished:
        with estate.ledger.begin() as connection:
            adopted = deliveries.adopted_of(connection, family)
        with estate.session(estate.registered(original.tenant)) as session:
            located(estate, session, family, adopted)
        unfinished = [_plan(estate, original, len(family), actor)]
    result = deliver(estate, [unfinished[0].id], progress)[0]
    close_day(estate, original.tenant)
    return result


def queue_redelivery(estate: Estate, tenant: str, delivery_id: str, *, actor: str) -> Delivery:
    """Plan a redelivery for the tenant's next run, without asking the destination; an unfinished one is returned instead.

    Raises PermanentError when the tenant has no such delivery or it is not committed. Whether the bytes are still kept shows in the run.
    """
    with estate.ledger.begin() as connection:
        found = deliveries.get(connection, delivery_id)
    if found is None or found.tenant != tenant:
        raise PermanentError(f"the tenant {tenant} has no delivery {delivery_id}", code="unknown_delivery")
    family = _committed_family(estate, delivery_id)
    return next((one for one in family if one.status == "open"), None) or _plan(estate, family[0], len(family), actor)


def unfinished_repairs(estate: Estate, tenant: str) -> list[Delivery]:
    """The tenant's open redeliveries and backfills, oldest first: a run takes them along."""
    with estate.ledger.begin() as connection:
        return repairs.open_of(connection, tenant)


def _committed_family(estate: Estate, delivery_id: str) -> list[Delivery]:
    """The original of a delivery with all that repeated it. Raises PermanentError when it is unknown or not committed."""
    with estate.ledger.begin() as connection:
        found = deliveries.get(connection, delivery_id)
        family = repairs.family(connection, found.redelivers or found.id) if found else []
    if not family:
        raise PermanentError(f"there is no delivery {delivery_id!r}", next_step="`waybill deliveries` lists them", code="unknown_delivery")
    if family[0].status != "committed":
        step = "It is delivered by the next run" if family[0].status == "open" else "There is nothing to send again"
        raise PermanentError(f"the delivery {family[0].id} is {family[0].status}, not committed", next_step=step, code="not_committed")
    return family


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
