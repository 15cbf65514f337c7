"""Delivers what is planned. A run of a tenant is a sequence of three steps:

1. `begin` freezes what is due, and which repairs are unfinished.
2. `finish` delivers these deliveries, and what is due after them.
3. `publishing.days` publishes the day manifests, and `reports.sending.tell_of_run` tells people what happened.

`deliver_due` does the first two in one go, and `run` closes the days, too. `airflow.tasks` spreads the same steps over tasks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic

from waybill import logs, pgp
from waybill.deliveries import full_load_requests, generations, kept_bytes, protocol, stopping
from waybill.deliveries.generations import NewGenerationNeeded
from waybill.deliveries.job import DeliveryJob, source_connections
from waybill.deliveries.key_changes.changes import KeyStore
from waybill.deliveries.planning import plan, plan_after
from waybill.deliveries.protocol import Outcome, Resources
from waybill.deliveries.publishing.days import publish_listings
from waybill.deliveries.recovery.stale_ledger import refuse_unknown
from waybill.deliveries.reports import notifying
from waybill.destinations import Profile, Session
from waybill.errors import PermanentError, TransientError, WaybillError, located_at, unexpected
from waybill.installation import PRODUCED_BY, Installation
from waybill.ledger import deliveries, registrations
from waybill.ledger.deliveries import Delivery
from waybill.ledger.registrations import Registered
from waybill.states import DeliveryStatus, GenerationReason, Purpose

PARALLEL = 4
_log = logging.getLogger(__name__)

Progress = Callable[[Delivery, int], None]


def silent(delivery: Delivery, rows: int) -> None:
    return None


@dataclass(frozen=True)
class Result:
    """The result of one delivery: an outcome, or the error that stopped it (the ledger keeps it, too), and the seconds it took.

    If a new generation began on the way, `delivery` is its full load and not the delivery that was planned.
    """

    delivery: Delivery
    outcome: Outcome | None = None
    error: WaybillError | None = None
    seconds: float = 0.0


def deliver_batch(
    installation: Installation, delivery_ids: Sequence[str], progress: Progress = silent, *, rest_failing: bool = False
) -> list[Result]:
    """Deliver these deliveries of one tenant over one connection. A failed delivery does not stop the others.

    `rest_failing` is for schedulers: it leaves a destination alone for a while after several failures in a row.

    Raises PermanentError for an unknown id, and for one of another tenant, which would be sent to a stranger. An error while connecting
    becomes the error of every delivery.
    """
    if not delivery_ids:
        return []
    found = _find(installation, delivery_ids)
    registered = installation.registered(found[0].tenant)
    try:
        with installation.session(registered, rest_failing=rest_failing) as session:
            emptied = refuse_unknown(installation, registered, session, found)
            workers = 1 if session.profile is Profile.NO_CAS else min(PARALLEL, len(found))
            with ThreadPoolExecutor(workers, thread_name_prefix="deliver") as pool:
                return list(pool.map(lambda due: _timed(installation, registered, session, due, progress, due.id in emptied), found))
    except Exception as error:  # noqa: BLE001 (`_told` logs what nobody expected)
        failed = _told(error, f"connecting for {registered.tenant}").located(f"tenant {registered.tenant}, destination")
        for delivery in found:
            _keep_failure(installation, delivery, failed)
        return [Result(delivery, error=failed) for delivery in found]


def _find(installation: Installation, ids: Sequence[str]) -> list[Delivery]:
    with installation.ledger.read() as connection:
        found = deliveries.several(connection, ids)
    if unknown := next((wanted for wanted in ids if wanted not in found), None):
        step = "`waybill deliveries` lists them. If the ledger was restored or failed over meanwhile, run the tenant again: that plans anew"
        raise PermanentError(f"there is no delivery {unknown!r}", next_step=step, code="unknown_delivery")
    first, *others = found.values()
    strange = next((other for other in others if other.tenant != first.tenant), None)
    if strange:
        what = f"delivery {strange.id} belongs to {strange.tenant}, and {first.id} to {first.tenant}"
        raise PermanentError(what, next_step="Deliver each tenant's on its own", code="unknown_delivery")
    return [found[wanted] for wanted in ids]


def _timed(
    installation: Installation, registered: Registered, session: Session, delivery: Delivery, progress: Progress, is_emptied: bool
) -> Result:
    begun = monotonic()
    with logs.about(delivery.tenant, delivery.entity, delivery.id):
        return replace(_try(installation, registered, session, delivery, progress, is_emptied), seconds=monotonic() - begun)


def _try(
    installation: Installation, registered: Registered, session: Session, delivery: Delivery, progress: Progress, is_emptied: bool
) -> Result:
    """Deliver. If it cannot be a delta any more, begin the next generation and deliver its full load instead."""
    reason = GenerationReason.MANIFESTS_COLLECTED if is_emptied else ""
    try:
        stopping.check()
        try:
            if not reason:
                return Result(delivery, outcome=_deliver(installation, registered, session, delivery, progress))
        except NewGenerationNeeded as needed:
            reason = needed.reason
        delivery = _replaced(installation, delivery, reason)
        return Result(delivery, outcome=_deliver(installation, registered, session, delivery, progress))
    except Exception as error:  # noqa: BLE001 (it must not keep the other entities back, and `_told` logs what nobody expected)
        failed = _told(error, f"delivery {delivery.id} of {delivery.entity}")
    if failed.where == session.label:
        failed.where = ""  # the line below names it
    failed.located(f"tenant {delivery.tenant}, entity {delivery.entity}, destination {session.label}")
    _keep_failure(installation, delivery, failed)
    return Result(delivery, error=failed)


def _deliver(installation: Installation, registered: Registered, session: Session, delivery: Delivery, progress: Progress) -> Outcome:
    if delivery.status == DeliveryStatus.ABANDONED:
        raise _abandoned(delivery)
    _end_without_entity(installation, delivery)
    job = job_of(installation, delivery)
    resources = Resources(
        installation.ledger,
        installation.source(job.entity.source),
        session,
        installation.settings.spool_dir,
        installation.kept,
        installation.now,
        progress=lambda rows: progress(delivery, rows),
        on_commit=notifying.on_commit(installation, registered),
        signer=installation.signer(delivery.tenant),
    )
    if delivery.purpose == Purpose.REDELIVERY:
        repeated, read = kept_bytes.repetition_of(installation, session, job)
        return protocol.deliver_one(repeated, resources, read)
    return protocol.deliver_one(job, resources)


def _told(error: Exception, what: str) -> WaybillError:
    """Return what the ledger and the caller are told of an error that has ended `what`."""
    if isinstance(error, WaybillError):
        return error
    if isinstance(error, (OSError, MemoryError)):  # the machine ran out of descriptors, memory or disk
        reason = (isinstance(error, OSError) and error.strerror) or type(error).__name__
        return TransientError(f"this machine could not go on: {reason}", next_step="The next run goes on from there", code="machine")
    _log.error("%s ended unexpectedly", what, exc_info=error)  # a driver's surprise or a mistake of ours
    return unexpected(error)


def _replaced(installation: Installation, delivery: Delivery, reason: str) -> Delivery:
    """Return the full load of the stream's next generation, or the delivery itself if it was committed meanwhile.

    Raises PermanentError if the tenant was disabled meanwhile.
    """
    if committed := generations.begin_instead_of(installation, delivery, reason):
        return committed
    if planned := plan(installation, delivery.tenant, delivery.planned_to, entities=[delivery.entity]):
        return planned[0]
    raise _abandoned(delivery)


def _abandoned(delivery: Delivery) -> PermanentError:
    if delivery.purpose == Purpose.SCHEDULE:
        what, step = "this delivery was abandoned when its stream ended", "The next run plans what is due"
    else:
        what, step = f"this {delivery.purpose} was abandoned: {delivery.note}", "Ask for it again if it is still wanted"
    return PermanentError(what, next_step=step, code="abandoned")


def _end_without_entity(installation: Installation, delivery: Delivery) -> None:
    """Abandon a repair whose entity has left the catalog, and raise PermanentError.

    One that may be visible stays open, because its manifest is owed.
    """
    known = installation.catalog.entities.keys() | installation.configuration.unfrozen.keys()
    if delivery.purpose == Purpose.SCHEDULE or delivery.status != DeliveryStatus.OPEN or delivery.entity in known:
        return
    gone = f"the catalog has no entity {delivery.entity!r} any more"
    with installation.ledger.begin() as connection:
        if any(attempt.publishing_at for attempt in deliveries.attempts(connection, delivery.id)):
            return
        deliveries.abandon(connection, delivery.id, gone)
    what = f"{gone}, so this {delivery.purpose} is abandoned, and no run tries it again"
    raise PermanentError(what, next_step="Ask for it again once the entity is back", code="unknown_entity")


def job_of(installation: Installation, delivery: Delivery) -> DeliveryJob:
    """Return everything that a delivery is made from. Raises PermanentError if its entity has left the catalog."""
    with installation.ledger.read() as connection:
        stream = deliveries.stream_of(connection, delivery)
        current = registrations.current(connection, delivery.tenant)
        if current is not None and current.version == delivery.registration_version:
            planned_under = current
        else:
            planned_under = registrations.version(connection, delivery.tenant, delivery.registration_version)
        in_force = current or planned_under
        salt = registrations.salt(connection, delivery.tenant)
    catalogued = installation.entity(delivery.entity)
    entity = in_force.registration.sees(catalogued)
    # The id of today, not that of the plan: a delivery planned under a wrong id must not read another tenant's rows.
    source_tenant, where = in_force.registration.reads(delivery.tenant, catalogued)
    zone = planned_under.registration.zone
    style = planned_under.registration.file_style
    # The key of today, because that of the plan may have expired.
    encryption = in_force.registration.encryption or planned_under.registration.encryption
    encrypts = style.encrypted and delivery.status == DeliveryStatus.OPEN and delivery.purpose != Purpose.REDELIVERY
    return DeliveryJob(
        delivery=delivery,
        stream=stream,
        entity=entity,
        file_style=style,
        salt=salt,
        produced_by=PRODUCED_BY,
        source_tenant=source_tenant,
        conditions=where,
        key_store=KeyStore(installation.ledger, installation.settings.spool_dir, zone) if entity.compares_keys else None,
        zone=zone,
        recipient=pgp.recipient(encryption.public_key) if encrypts and encryption else None,
        source_connections=source_connections(delivery, entity.streams),
    )


def _keep_failure(installation: Installation, delivery: Delivery, error: WaybillError) -> None:
    """Write the failure into the ledger. If the ledger is away, the caller still learns of it through the result."""
    with suppress(TransientError), installation.ledger.begin() as connection:
        deliveries.fail(connection, delivery.id, str(error), error.code)


@dataclass(frozen=True)
class PlannedRun:
    """What a run has frozen: open and newly due deliveries, and unfinished repairs. `full_loads` are the entities it asked them for."""

    installation: Installation
    tenant: str
    until: datetime
    due: list[Delivery]
    repairs: list[Delivery]
    full_loads: list[str] | None = None

    @property
    def planned(self) -> dict[str, str]:
        """Return the id of each delivery by a name for operators: that of its entity, with more words for a repair."""
        return {delivery.entity: delivery.id for delivery in self.due} | self.named_repairs

    @property
    def named_repairs(self) -> dict[str, str]:
        return {f"{repair.entity} {repair.purpose} {repair.id}": repair.id for repair in self.repairs}


def begin(
    installation: Installation,
    tenant: str,
    until: datetime,
    *,
    entities: Collection[str] = (),
    full_load: bool = False,
    asked_at: datetime | None = None,
) -> PlannedRun:
    """Plan what is due. With `full_load`, streams that began before `asked_at` deliver everything anew: a task may be tried again."""
    asked = full_load_requests.ask_full_load(installation, tenant, entities, asked_at) if full_load else None
    due = plan(installation, tenant, until, entities=entities)
    with installation.ledger.read() as connection:
        return PlannedRun(installation, tenant, until, due, deliveries.open_repairs(connection, tenant), asked)


def run(
    installation: Installation,
    tenant: str,
    until: datetime,
    *,
    entities: Collection[str] = (),
    full_load: bool = False,
    progress: Progress = silent,
) -> list[Result]:
    """Deliver what is due, and close the day. Whoever calls this tells people."""
    results = deliver_due(installation, tenant, until, entities=entities, full_load=full_load, progress=progress)
    publish_listings(installation, tenant)
    return results


def deliver_due(
    installation: Installation,
    tenant: str,
    until: datetime,
    *,
    entities: Collection[str] = (),
    full_load: bool = False,
    progress: Progress = silent,
) -> list[Result]:
    """Finish open deliveries and repairs, then plan and deliver until nothing is due. The day is still to be closed."""
    with located_at(f"tenant {tenant}"):
        planned = begin(installation, tenant, until, entities=entities, full_load=full_load)
        results = finish(installation, tenant, until, [delivery.id for delivery in planned.due], progress)
        return results + deliver_batch(installation, [repair.id for repair in planned.repairs], progress)


def finish(
    installation: Installation,
    tenant: str,
    until: datetime,
    delivery_ids: Sequence[str],
    progress: Progress = silent,
    *,
    rest_failing: bool = False,
) -> list[Result]:
    """Deliver these deliveries of one tenant, then what is due after them.

    A delivery that an earlier run left open ends before the boundary of today, so its stream has another one due.
    """
    results: dict[str, Result] = {}
    fresh = list(delivery_ids)
    while fresh:
        for result in deliver_batch(installation, fresh, progress, rest_failing=rest_failing):
            results[result.delivery.id] = result
        done = {result.delivery.entity for result in results.values() if result.error is None}
        following = plan_after(installation, tenant, until, done) if done else []
        fresh = [delivery.id for delivery in following if _is_new(delivery, results)]
    return list(results.values())


def _is_new(delivery: Delivery, results: dict[str, Result]) -> bool:
    """Return False if this run has tried the delivery, or if it follows a failed or shortened one of the same stream."""
    same_stream = [result for result in results.values() if result.delivery.stream == delivery.stream]
    return delivery.id not in results and all(
        result.error is None and delivery.planned_to > result.delivery.planned_to for result in same_stream
    )
