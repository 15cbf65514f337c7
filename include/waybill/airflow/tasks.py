"""What the tasks of our DAGs do. Heavy imports wait until a task runs."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from waybill import logs
from waybill.airflow import open_installation
from waybill.airflow.names import APPLY_DAG, asset_name
from waybill.errors import ConfigError, ConflictError, PermanentError, TransientError, WaybillError, counted
from waybill.states import DeliveryStatus

if TYPE_CHECKING:
    from waybill.deliveries.reports.describing import Described
    from waybill.deliveries.running import PlannedRun, Result
    from waybill.installation import Installation
    from waybill.ledger.deliveries import Delivery

Batch = dict[str, str]
"""Delivery ids by entity id. Tasks hand each other nothing else through XCom."""

Event = tuple[str, dict[str, Any]]
"""An asset's name, and the facts that a consumer checks a file by."""

PLANNED = "planned"
"""The XCom that holds every delivery of a run's plan. The return value of `plan` is only what is left to mapped tasks."""

PARAMETERS = ("entities", "full_load", "until")
"""What a trigger of a tenant's DAG may ask for."""

SHARED = 8
"""At most this many deliveries share a mapped task, and so one login. A delivery that failed before gets a task of its own."""

ANNOUNCED = ("delivery_id", "entity", "kind", "generation", "sequence", "window", "path", "manifest", "rows", "bytes", "sha256")

log = logging.getLogger(__name__)


def until_of(context: Mapping[str, Any]) -> datetime:
    """Return the instant a run delivers up to: its scheduled time, else the parameter `until`, else now.

    Raises PermanentError if `until` is no RFC 3339 time with an offset.
    """
    from waybill.canonical import parse_timestamp
    from waybill.window import utc_now

    run, end = context["dag_run"], context["dag_run"].data_interval_end
    if run.run_type == "scheduled" and end is not None:
        return datetime.fromisoformat(end.isoformat())
    given = context["params"].get("until")
    try:
        return parse_timestamp(given) if given else utc_now()
    except ValueError as error:
        raise PermanentError(
            f"until: {given!r} is not a point in time", allowed="RFC 3339 with an offset, as in 2026-06-01T00:00:00Z", code="until"
        ) from error


@dataclass(frozen=True)
class PlanOutcome:
    """How far the task `plan` came. `batches` is left to mapped tasks; `events` announce what is committed already.

    `closed` is true if nothing is left for any other task of the run.
    """

    batches: list[Batch]
    events: list[Event]
    closed: bool


def plan(tenant: str, context: Mapping[str, Any]) -> PlannedRun:
    """Freeze what is due. Unfinished repairs join in, unless the run is about single entities.

    Raises PermanentError for a parameter that is none: Airflow hands over whatever a trigger names.
    """
    from waybill.deliveries import running
    from waybill.deliveries.reports import describing

    if unknown := sorted(set(context["params"]) - set(PARAMETERS)):
        step = "This run planned nothing. Trigger again with the right name"
        what = f"there is no parameter {', '.join(map(repr, unknown))}"
        raise PermanentError(what, allowed=", ".join(PARAMETERS), next_step=step, code="unknown_parameter")
    installation, until, params = open_installation(), until_of(context), context["params"]
    if until > (now := installation.now()):
        log.warning("until %s lies ahead: delivering up to now, %s", until, now)
        until = now
    found = running.begin(
        installation,
        tenant,
        until,
        entities=params.get("entities") or (),
        full_load=bool(params.get("full_load")),
        asked_at=context["dag_run"].run_after,
    )
    if params.get("entities"):
        found = replace(found, repairs=[])
    if found.full_loads is not None:
        log.info("full load of %s", ", ".join(found.full_loads) or "nothing more: this run has begun it before")
    described = describing.describe(installation, [*found.due, *found.repairs])
    places = {each["delivery_id"]: each["path"] for each in described}
    for delivery in found.due:
        what = f"{delivery.kind} {delivery.entity} #{delivery.sequence}"
        log.info("%s up to %s -> %s", what, delivery.planned_to, places[delivery.id])
    if not found.due:
        log.info("nothing more is due up to %s", until)
    for delivery in found.repairs:
        log.info("%s of %s #%s -> %s", delivery.purpose, delivery.entity, delivery.sequence, places[delivery.id])
    return found


def begin(found: PlannedRun, killed_since: datetime | None = None) -> PlanOutcome:
    """Deliver the small deliveries at once, over one connection. If nothing is left over, close the day, too.

    Large deliveries, deliveries that failed, and unfinished repairs are left to mapped tasks, where the operator sees them by name.
    `killed_since` is when the run started, for a task whose earlier try may have committed something without announcing it.
    """
    from waybill.deliveries import running, sizing, stopping

    installation, tenant = found.installation, found.tenant
    chosen = [delivery.id for delivery in sizing.small(installation, found.due)]
    with installation.kept_open(), stopping.on_sigterm():
        results = running.finish(installation, tenant, found.until, chosen, rest_failing=True)
        log_results(installation, results)
        left = [*batches(found.due, chosen, results), *({name: repair} for name, repair in found.named_repairs.items())]
        # Nobody looks any more for what a day manifest lists, so the events come first.
        events = _events(installation, tenant, results, killed_since)
        return PlanOutcome(left, events, not left and _close(installation, tenant, found.due))


def batches(due: Sequence[Delivery], tried: Collection[str] = (), results: Sequence[Result] = ()) -> list[Batch]:
    """Return what is left to mapped tasks. Up to SHARED deliveries share one. A delivery that failed has its own, so that it delays nobody.

    Deliveries that the same error stopped, such as a server out of reach, share a task, because they wait for the same thing.
    """
    untried = [delivery for delivery in due if delivery.id not in tried]
    sound = [delivery for delivery in untried if not delivery.failures]
    stopped: dict[int, list[Delivery]] = {}
    for result in results:
        if result.error:
            stopped.setdefault(id(result.error), []).append(result.delivery)
    groups = [sound, *stopped.values()]
    shared = [group[start : start + SHARED] for group in groups for start in range(0, len(group), SHARED)]
    return [
        {delivery.entity: delivery.id for delivery in batch}
        for batch in [*shared, *([delivery] for delivery in untried if delivery.failures)]
    ]


def _events(installation: Installation, tenant: str, results: Sequence[Result], killed_since: datetime | None) -> list[Event]:
    """Return the asset events of what this task committed, and of what a killed try of it committed before."""
    from waybill.deliveries.reports import describing

    done = [result.outcome.delivery for result in results if result.outcome and result.outcome.status == DeliveryStatus.COMMITTED]
    return (
        [_event(tenant, done_delivery) for done_delivery in describing.committed(installation, tenant, done, killed_since)]
        if done or killed_since
        else []
    )


def _event(tenant: str, facts: Mapping[str, Any]) -> Event:
    return asset_name(tenant, facts["entity"]), {fact: facts[fact] for fact in ANNOUNCED}


def _close(installation: Installation, tenant: str, due: Sequence[Delivery]) -> bool:
    """Close the day. Returns False if the task `close_day` has to look, because something is open or the day cannot be closed now."""
    from waybill.deliveries.publishing import days
    from waybill.deliveries.reports import describing

    if describing.waiting(installation, tenant, {delivery.entity for delivery in due}):
        return False
    try:
        for path in days.publish_listings(installation, tenant):
            log.info("wrote %s", path)
    except WaybillError as error:
        log.warning("the task close_day tries again: %s", error)
        return False
    tell_of_run(installation, tenant, ())
    return True


def tell_of_run(installation: Installation, tenant: str, entities: Collection[str]) -> list[Described]:
    """Tell people about a run, and return what it left open. `check` sends later what cannot be sent now, so nothing here fails a run."""
    from waybill.deliveries.reports import sending

    told = sending.tell_of_run(installation, tenant, entities)
    for event in told.changes:
        log.info("%s: %s", tenant, event)
    for problem in told.problems:
        log.warning("%s", problem)
    return told.waiting


def deliver(tenant: str, batch: Batch, context: Mapping[str, Any]) -> None:
    """Deliver these, and then what is due after them. The task is safe to clear: a committed delivery is only verified again.

    All are tried before an error is raised: TransientError if trying again may help any of them, else the class of the first.
    """
    from waybill.deliveries import running, stopping

    installation = open_installation()
    with stopping.on_sigterm():
        results = running.finish(installation, tenant, until_of(context), list(batch.values()), rest_failing=True)
    if errors := log_results(installation, results):
        raise together(errors)


def log_results(installation: Installation, results: Sequence[Result]) -> list[WaybillError]:
    """Write a line and the metrics of each delivery. Returns the errors."""
    from waybill.airflow import metrics

    for result in results:
        delivery, done = result.delivery, result.outcome
        with logs.about(delivery.tenant, delivery.entity, delivery.id):
            if done:
                what = f"{done.status} {delivery.entity} #{delivery.sequence}"
                log.info("%s: %s, %s, sha256 %s", what, counted(done.rows, "row"), counted(done.bytes, "byte"), done.sha256)
            if result.error:
                log.error("%s", result.error)
    metrics.deliveries(installation, results)
    return [result.error for result in results if result.error]


def together(errors: Sequence[WaybillError]) -> WaybillError:
    """Return one error for several. Its class says whether Airflow tries again, and its message contains all of them."""
    leading = next((error for error in errors if isinstance(error, TransientError)), errors[0])
    kinds = (TransientError, ConflictError, PermanentError)
    kind = next(kind for kind in kinds if isinstance(leading, kind))
    return leading if len(errors) == 1 else kind("\n".join(str(error) for error in errors), code=leading.code)


def is_backfill(context: Mapping[str, Any]) -> bool:
    return bool(context["dag_run"].run_type == "backfill")


def planned_by(context: Mapping[str, Any]) -> Batch | None:
    """Return the deliveries that this run planned, or None if planning failed. A backfill of Airflow plans none."""
    found: Batch | None = {} if is_backfill(context) else context["ti"].xcom_pull(task_ids="plan", key=PLANNED)
    return found


def left_over(context: Mapping[str, Any]) -> Batch:
    """Return the deliveries of this run that its plan has not announced: those of mapped tasks, or all if planning failed on the way."""
    left = [] if is_backfill(context) else context["ti"].xcom_pull(task_ids="plan")
    return planned_by(context) or {} if left is None else {entity: delivery_id for batch in left for entity, delivery_id in batch.items()}


def announcements(tenant: str, planned: Batch) -> Iterator[Event]:
    """Return the asset events of what was committed of these and after them, oldest first."""
    from waybill.deliveries.reports import describing

    for delivery in describing.committed_since(open_installation(), tenant, min(planned.values())) if planned else []:
        if delivery["delivery_id"] >= planned.get(delivery["entity"], "~"):
            yield _event(tenant, delivery)


def close_day(tenant: str, planned: Batch | None) -> None:
    """Write the day manifests that are due. Raises PermanentError if planning failed, or if anything planned is uncommitted."""
    from waybill.deliveries.publishing import days

    installation = open_installation()
    for path in days.publish_listings(installation, tenant):
        log.info("wrote %s", path)
    if planned is None:
        raise PermanentError(f"nothing was planned for {tenant}", next_step="See the log of the task `plan`", code="not_planned")
    if waiting := tell_of_run(installation, tenant, planned):
        reasons = "".join(f"\n{delivery['entity']}: {delivery['error'] or 'not delivered yet'}" for delivery in waiting)
        raise PermanentError(
            f"{len(waiting)} of {len(planned)} entities of {tenant} are not delivered{reasons}",
            next_step="The next run finishes them; to do it now clear the failed task",
            code="undelivered",
        )


Named = dict[str, str]
"""A request by tenant and id. Tasks hand each other nothing else through XCom."""


def find() -> list[Named]:
    """Give up stalled requests, make the requests that templates owe, and name what is pending and due."""
    from waybill.requests.fulfilment.running import pending
    from waybill.requests.recurring import make_recurring

    installation = open_installation()
    for request in make_recurring(installation):
        log.info("made export %s of %s from its template", request.id, request.tenant)
    return [{"tenant": request.tenant, "request": request.id} for request in pending(installation, installation.now())]


def fulfil(named: Named, worker: str) -> None:
    """Carry one request to its end. A request that another worker holds is left alone. Raises PermanentError if the request failed."""
    from waybill.ledger.on_demand.request_records import Status
    from waybill.requests.fulfilment import running

    done = running.fulfil(open_installation(), named["request"], worker=worker)
    if done is None:
        log.info("export %s is not pending any more, or was stopped on the way", named["request"])
    elif done.status == Status.FAILED:
        raise PermanentError(
            f"the export failed: {done.error_message}",
            where=f"tenant {done.tenant}, export {done.id}",
            next_step=done.error_advice or "",
            code="export_failed",
        )
    else:
        size = f"{counted(done.rows or 0, 'row')}, {counted(done.bytes or 0, 'byte')}"
        log.info("export %s: %s, %s, archive %s", done.id, done.status, size, done.archive)


def tell() -> None:
    """Send the mail that is owed. What cannot be sent now is tried again later, so nothing here fails a run."""
    from waybill.requests import mailing

    for problem in mailing.send_mails(open_installation()):
        log.warning("%s", problem)


def apply(*, allow_mass_deactivation: bool = False) -> dict[str, Any]:
    """Apply every good file. Returns the diff by tenant as JSON, which is empty if nothing changed.

    Raises ConfigError for a broken catalog or policy, and PermanentError for a mass deactivation that is not allowed. Nothing is changed
    then.
    """
    from waybill.registrations import applying

    applied = applying.apply(open_installation(), actor=f"airflow:{APPLY_DAG}", allow_mass_deactivation=allow_mass_deactivation)
    for line in applied.lines(dry_run=False):
        log.info("%s", line)
    return {
        change.tenant: {
            "action": change.action,
            "file": change.file,
            "version": change.version,
            "fields": {key: list(values) for key, values in change.fields.items()},
            "activated": list(change.difference.activated),
            "deactivated": list(change.difference.deactivated),
        }
        for change in applied.changed
    }


def check() -> None:
    """Tell what is late, at risk or well again, and what changed registrations mean in feeds.

    Raises ConfigError with everything that keeps files from being applied.
    """
    from waybill.airflow import metrics
    from waybill.deliveries.publishing import feed
    from waybill.deliveries.reports import notifying, sending
    from waybill.registrations import applying

    installation = open_installation()
    for tenant, event in notifying.watch(installation):
        with logs.about(tenant):
            log.warning("%s: %s", tenant, event)
    metrics.standing(installation)
    for problem in (*sending.send_due(installation), *feed.refresh(installation)):
        log.warning("%s", problem)
    configuration = installation.configuration
    # Some findings come from the files themselves, others only from the ledger, the sources and gpg.
    shared = configuration.shared_findings
    findings = configuration.findings if shared else applying.apply(installation, actor=f"airflow:{APPLY_DAG}", dry_run=True).findings
    if findings:
        raise ConfigError(list(findings))


def housekeeping() -> None:
    """Do one round, and log its counts. Raises TransientError that names the tenants whose destination is out of reach."""
    from waybill.housekeeping import housekeeping as keep

    done = keep(open_installation())
    for name, found in done.as_json().items():
        log.info("%s: %s", name, found)
    if done.failed:
        failures = "\n".join(done.failed.values())
        raise TransientError(f"housekeeping did not finish:\n{failures}", code="housekeeping")
