"""Delivering what is planned, closing days, and the whole of it in one go without a scheduler."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import date, datetime
from time import monotonic
from typing import Any

from sqlalchemy import Connection

from waybill import layout, logs, pgp
from waybill.canonical import optional_timestamp_text
from waybill.deliveries import kept_bytes, protocol, stopping
from waybill.deliveries.comparison.deletes import Keys
from waybill.deliveries.comparison.stale_ledger import BEGUN_AGAIN, refuse_unknown, unseen_generation
from waybill.deliveries.extraction import PositionLost, Task
from waybill.deliveries.planning import entity_ids, plan
from waybill.deliveries.protocol import Outcome, Resources
from waybill.deliveries.publishing import landing
from waybill.deliveries.publishing.manifests import manifest_sha256, placed, publish_document
from waybill.deliveries.publishing.signing import publish_signature, signature_of
from waybill.deliveries.reports import notifying
from waybill.destinations import Profile, Session
from waybill.errors import PermanentError, TransientError, WaybillError
from waybill.files.manifest import day_document
from waybill.installation import PRODUCED_BY, Installation
from waybill.ledger import days, deliveries, registrations, streams
from waybill.ledger.days import Day
from waybill.ledger.deliveries import Attempt, Delivery
from waybill.ledger.engine import new_id
from waybill.ledger.registrations import Registered
from waybill.registrations.replacing import require
from waybill_consumer import sums

PARALLEL = 4
_log = logging.getLogger(__name__)

Progress = Callable[[Delivery, int], None]


def silent(delivery: Delivery, rows: int) -> None:
    return None


@dataclass(frozen=True)
class Result:
    """What became of one delivery: an outcome, or the error that stopped it (kept in the ledger as well), after how many seconds."""

    delivery: Delivery
    outcome: Outcome | None = None
    error: WaybillError | None = None
    seconds: float = 0.0


def deliver(installation: Installation, delivery_ids: Sequence[str], progress: Progress = silent, *, spare: bool = False) -> list[Result]:
    """Deliver these deliveries of one tenant over one connection. One that fails does not stop the others.

    `spare` is for schedulers: a destination that failed several times in a row is left alone for a while.

    Raises PermanentError for an unknown id. What connecting raises is kept with every delivery.
    """
    found = _find(installation, delivery_ids)
    if not found:
        return []
    registered = installation.registered(found[0].tenant)
    try:
        with installation.session(registered, spare=spare) as session:
            emptied = refuse_unknown(installation, registered, session, found)
            found = [_begin_again(installation, delivery, BEGUN_AGAIN) if delivery.id in emptied else delivery for delivery in found]
            workers = 1 if session.profile is Profile.NO_CAS else min(PARALLEL, len(found))
            with ThreadPoolExecutor(workers, thread_name_prefix="deliver") as pool:
                return list(pool.map(lambda due: _deliver_one(installation, registered, session, due, progress), found))
    except WaybillError as error:
        error.located(f"tenant {registered.tenant}, destination")
        for delivery in found:
            _keep_failure(installation, delivery, error)
        return [Result(delivery, error=error) for delivery in found]


def _find(installation: Installation, ids: Sequence[str]) -> list[Delivery]:
    with installation.ledger.read() as connection:
        found = deliveries.several(connection, ids)
    if unknown := next((wanted for wanted in ids if wanted not in found), None):
        raise PermanentError(f"there is no delivery {unknown!r}", next_step="`waybill deliveries` lists them", code="unknown_delivery")
    return [found[wanted] for wanted in ids]


def _deliver_one(installation: Installation, registered: Registered, session: Session, delivery: Delivery, progress: Progress) -> Result:
    begun = monotonic()
    with logs.about(delivery.tenant, delivery.entity, delivery.id):
        return replace(_try(installation, registered, session, delivery, progress), seconds=monotonic() - begun)


def _try(installation: Installation, registered: Registered, session: Session, delivery: Delivery, progress: Progress) -> Result:
    try:
        stopping.check()
        return Result(delivery, outcome=_with_renewal(installation, registered, session, delivery, progress))
    except WaybillError as error:
        failed: WaybillError = error
    except (OSError, MemoryError) as error:  # the machine itself gave out: descriptors, memory, disk
        reason = (isinstance(error, OSError) and error.strerror) or type(error).__name__
        failed = TransientError(f"this machine could not go on: {reason}", next_step="The next run goes on from there", code="machine")
    except Exception as error:  # noqa: BLE001 (a driver's surprise or a mistake of ours: it must not keep the other entities back)
        _log.exception("delivery %s of %s ended unexpectedly", delivery.id, delivery.entity)
        failed = TransientError(f"an unexpected {type(error).__name__}", next_step="The log shows where it came from", code="unexpected")
    if failed.where == session.label:
        failed.where = ""  # said once, below
    failed.located(f"tenant {delivery.tenant}, entity {delivery.entity}, destination {session.label}")
    _keep_failure(installation, delivery, failed)
    return Result(delivery, error=failed)


def _with_renewal(installation: Installation, registered: Registered, session: Session, delivery: Delivery, progress: Progress) -> Outcome:
    """Deliver; when the source lost the position, start the next generation and deliver its full load instead."""
    task = task_of(installation, delivery)
    if delivery.status == "abandoned":
        raise PermanentError(
            "this delivery was abandoned when its stream ended", next_step="The next run plans what is due", code="abandoned"
        )
    resources = Resources(
        installation.ledger,
        installation.source(task.entity.source),
        session,
        installation.settings.spool_dir,
        installation.kept,
        installation.now,
        progress=lambda rows: progress(delivery, rows),
        on_commit=notifying.on_commit(installation, registered),
        signer=installation.signer(delivery.tenant),
    )
    if delivery.purpose == "redelivery":
        repeated, read = kept_bytes.again(installation, session, task)
        return protocol.deliver(repeated, resources, read)
    try:
        return protocol.deliver(task, resources)
    except PositionLost as lost:
        return protocol.deliver(task_of(installation, _begin_again(installation, delivery, lost.what)), resources)


def _begin_again(installation: Installation, delivery: Delivery, reason: str) -> Delivery:
    """The full load of the stream's next generation, in place of a delivery that cannot be what was planned.

    The delivery itself when another worker has committed it meanwhile: what this one read of the ledger was older than that.
    """
    now = installation.now()
    least = unseen_generation(now) if reason == BEGUN_AGAIN else 1
    with installation.ledger.begin() as connection:
        current = deliveries.get(connection, delivery.id)
        if current is not None and current.status == "committed":
            return current
        if streams.get(connection, delivery.stream).active:
            streams.renew(connection, delivery.tenant, delivery.entity, now, reason[:255], least=least)
            registrations.note(connection, delivery.tenant, "waybill", "new_generation", {"entity": delivery.entity, "reason": reason}, now)
    return plan(installation, delivery.tenant, delivery.planned_to, entities=[delivery.entity])[0]


def task_of(installation: Installation, delivery: Delivery) -> Task:
    """Everything a delivery is made from. Raises PermanentError when its entity left the catalog."""
    with installation.ledger.read() as connection:
        stream = deliveries.stream_of(connection, delivery)
        planned_under = in_force = registrations.current(connection, delivery.tenant)
        if planned_under is None or planned_under.version != delivery.registration_version:
            planned_under = registrations.version(connection, delivery.tenant, delivery.registration_version)
        in_force = in_force or planned_under
        salt = registrations.salt(connection, delivery.tenant)
    catalogued = installation.entity(delivery.entity)
    entity = in_force.registration.sees(catalogued)
    # As it is now: a corrected id must not read another's rows.
    source_tenant, where = in_force.registration.reads(delivery.tenant, catalogued)
    folder, zone = installation.settings.spool_dir, planned_under.registration.zone
    keys = Keys(installation.ledger, folder, zone) if entity.compares_keys else None
    task = Task(delivery, stream, entity, planned_under.registration.dialect, salt, PRODUCED_BY, source_tenant, where, keys)
    encryption = in_force.registration.encryption or planned_under.registration.encryption  # a key that expired was replaced
    if task.dialect.encrypted and encryption and delivery.status == "open" and delivery.purpose != "redelivery":
        task = replace(task, recipient=pgp.recipient(encryption.public_key))
    return replace(task, streams=entity.streams) if delivery.reads_all else task


def _keep_failure(installation: Installation, delivery: Delivery, error: WaybillError) -> None:
    """A ledger that is away keeps nothing; who runs the delivery is told all the same."""
    with suppress(TransientError), installation.ledger.begin() as connection:
        deliveries.fail(connection, delivery.id, str(error), error.code)


def close_day(installation: Installation, tenant: str) -> list[str]:
    """Write the day manifests that are due, then the feed where it is wanted; returns their paths.

    Safe to call at any time, also twice at once.
    """
    with _naming(f"tenant {tenant}, day manifest"):
        registered = installation.registered(tenant)
        closed = _close_days(installation, registered)
        return closed + _write_feed(installation, registered)


def _write_feed(installation: Installation, registered: Registered) -> list[str]:
    """The feed. What keeps deliveries back keeps it back, too, and is told with them; the next run completes it."""
    try:
        return landing.write_feed(installation, registered)
    except WaybillError as error:
        with installation.ledger.read() as connection:
            if not deliveries.listed(connection, registered.tenant, status="open", limit=1):
                raise
        _log.warning("the feed of %s is not written yet: %s", registered.tenant, error)
        return []


@contextmanager
def _naming(place: str) -> Iterator[None]:
    try:
        yield
    except WaybillError as error:
        error.located(place)
        raise


def _close_days(installation: Installation, registered: Registered) -> list[str]:
    tenant = registered.tenant
    with installation.ledger.begin() as connection:
        for export_date in days.unlisted_dates(connection, tenant):
            if _is_complete(connection, installation, registered, export_date):
                _freeze_day(connection, tenant, export_date, installation.now())
        waiting = days.unpublished(connection, tenant)
    if not waiting:
        return []
    with installation.session(registered) as session:
        return [_publish_day(installation, registered, session, day) for day in waiting]


def _is_complete(connection: Connection, installation: Installation, registered: Registered, export_date: str) -> bool:
    """True when nothing of the date is open and every active stream has got as far as its own frequency asks for on that date."""
    if days.count_open(connection, registered.tenant, export_date):
        return False
    here = days.committed(connection, registered.tenant, export_date)
    boundary = max(delivery.planned_to for delivery in here)
    delivered = {delivery.entity for delivery in here}
    registration, catalog = registered.registration, installation.configuration.catalog
    return all(
        stream.entity in delivered
        or (
            stream.watermark is not None
            and stream.watermark >= registration.frequency_of(stream.entity, catalog).floor(boundary, registration.zone)
        )
        for stream in streams.active(connection, registered.tenant)
    )


def _freeze_day(connection: Connection, tenant: str, export_date: str, now: datetime) -> None:
    listed = days.committed(connection, tenant, export_date)
    adopted = deliveries.adopted_of(connection, listed)
    number = days.next_number(connection, tenant, export_date)
    entries = [_day_entry(delivery, adopted[delivery.id]) for delivery in listed]
    document = day_document(tenant, date.fromisoformat(export_date), number, entries, PRODUCED_BY)
    days.freeze(
        connection,
        Day(tenant, export_date, number, hashlib.sha256(document).hexdigest(), document, now, None),
        [delivery.id for delivery in listed],
    )


def _day_entry(delivery: Delivery, attempt: Attempt) -> dict[str, object]:
    folder = layout.day_folder(delivery.tenant, date.fromisoformat(delivery.export_date))
    target = placed(delivery, attempt)

    def file_entry(file: dict[str, Any]) -> dict[str, Any]:
        return {**file, "path": f"{target.folder}/{file['path']}".removeprefix(f"{folder}/")}

    gone = attempt.facts.get("deletes")
    return {
        "entity": delivery.entity,
        "delivery_id": delivery.id,
        "kind": delivery.kind,
        "generation": delivery.generation,
        "sequence": delivery.sequence,
        "window": {"from": optional_timestamp_text(delivery.window_from), "to": optional_timestamp_text(delivery.window_to)},
        "manifest": target.manifest.removeprefix(f"{folder}/"),
        "manifest_sha256": manifest_sha256(delivery, attempt),
        "files": [file_entry(file) for file in attempt.files],
        **({"deletes": file_entry(gone)} if gone else {}),
        "rows": attempt.rows,
        "bytes": attempt.bytes,
        "sha256": attempt.sha256,
    }


def _publish_day(installation: Installation, registered: Registered, session: Session, day: Day) -> str:
    folder = layout.day_folder(day.tenant, date.fromisoformat(day.export_date))
    name = layout.day_manifest_name(day.number)
    path = f"{folder}/{name}"
    documents = {path: day.document}
    if landing.wanted(installation, registered).sha256sums:
        documents = {f"{folder}/{sums.name(day.number)}": sums.sums(day.document, name), **documents}
    session.prepare(folder)
    blind = session.profile is Profile.DROPBOX
    signer = installation.signer(day.tenant)
    if signer:
        text = signature_of(installation.ledger, signer, day.tenant, day.document, installation.now())
        if blind:
            documents = {layout.signature(path): text, **documents}
        else:
            publish_signature(installation.ledger, session, day.tenant, path, text, new_id())
    for place, document in () if blind else documents.items():
        publish_document(session, place, document, new_id())
    with installation.ledger.begin() as connection:
        days.mark_published(connection, day, installation.now())
    if blind:  # a second try could not see that the first succeeded, and would fail for ever: at most once is the better failure here
        for place, document in documents.items():
            session.upload(place, [document])
    return path


def run(
    installation: Installation,
    tenant: str,
    until: datetime,
    *,
    entities: Collection[str] = (),
    full_load: bool = False,
    progress: Progress = silent,
) -> list[Result]:
    """Finish what is open, then plan and deliver until nothing is due, then close the day: the whole of a scheduled run."""
    with _naming(f"tenant {tenant}"):
        if full_load:
            ask_full_load(installation, tenant, entities)
        planned = plan(installation, tenant, until, entities=entities)
        results = finish(installation, tenant, until, [delivery.id for delivery in planned], progress)
        with installation.ledger.read() as connection:
            interrupted = deliveries.open_repairs(connection, tenant)
        results += deliver(installation, [delivery.id for delivery in interrupted], progress)
    close_day(installation, tenant)
    return results


def finish(
    installation: Installation,
    tenant: str,
    until: datetime,
    delivery_ids: Sequence[str],
    progress: Progress = silent,
    *,
    spare: bool = False,
) -> list[Result]:
    """Deliver these of one tenant, then what is due behind them: one left open by an earlier run ends before the boundary asked for now."""
    results: dict[str, Result] = {}
    fresh = list(delivery_ids)
    while fresh:
        for result in deliver(installation, fresh, progress, spare=spare):
            results[result.delivery.id] = result
        with installation.ledger.read() as connection:
            active = {stream.entity for stream in streams.active(connection, tenant)}
        done = {result.delivery.entity for result in results.values() if result.error is None} & active
        following = plan(installation, tenant, until, entities=done) if done else []
        fresh = [delivery.id for delivery in following if _is_new(delivery, results)]
    return list(results.values())


def _is_new(delivery: Delivery, results: dict[str, Result]) -> bool:
    """False for what this run tried already, and for what follows a failed or shortened delivery of the same stream."""
    same_stream = [result for result in results.values() if result.delivery.stream == delivery.stream]
    return delivery.id not in results and all(
        result.error is None and delivery.planned_to > result.delivery.planned_to for result in same_stream
    )


def ask_full_load(installation: Installation, tenant: str, entities: Collection[str] = (), asked_at: datetime | None = None) -> list[str]:
    """Queue full history for the next run: of the given entities, or of all active ones. Returns the entity ids.

    Streams begun since `asked_at` have it already: a task that is tried again asks for the same full load, not for a second one. Nor does a
    stream need marking that has delivered nothing yet: what it delivers first is its full load.
    """
    installation.registered(tenant)
    chosen = entity_ids(installation, tenant, entities)
    with installation.ledger.begin() as connection:
        active = [stream for stream in streams.active(connection, tenant) if not chosen or stream.entity in chosen]
        wanted = [stream for stream in active if asked_at is None or stream.activated_at < asked_at]
        streams.ask_full_load(connection, tenant, [stream.entity for stream in wanted if stream.watermark is not None])
    return [stream.entity for stream in wanted]


def queue_full_load(installation: Installation, tenant: str, entities: Collection[str], *, actor: str, when: str) -> list[str]:
    """Full history with the next run, of these entities (ids or display names) or of all. Returns the ids.

    Raises not_found when nothing is active, not_registered for an entity the tenant does not receive.
    """
    require(installation, tenant)
    with installation.ledger.read() as connection:
        active = streams.active(connection, tenant)
    if not active:
        raise PermanentError(f"nothing is active for the tenant {tenant}", next_step="Register entities first", code="not_found")
    chosen = ask_full_load(installation, tenant, entities)
    with installation.ledger.begin() as connection:
        registrations.note(connection, tenant, actor, "full_load", {"entities": chosen, "when": when}, installation.now())
    return chosen
