"""What the tasks of a tenant's DAG do: plan, deliver, announce, close the day. Heavy imports wait until a task runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from waybill.airflow import open_installation, utc_now
from waybill.airflow.names import APPLY_DAG, asset_name
from waybill.errors import ConfigError, ConflictError, PermanentError, TransientError, WaybillError

if TYPE_CHECKING:
    from waybill.ledger.deliveries import Delivery

Batch = dict[str, str]
"""Delivery ids by entity id: what tasks hand each other through XCom, and nothing else."""

SHARED = 8
"""At most this many deliveries share a mapped task, and so one login. One that failed before gets a task of its own."""

ANNOUNCED = ("delivery_id", "entity", "kind", "generation", "sequence", "window", "path", "manifest", "rows", "bytes", "sha256")

log = logging.getLogger(__name__)


def until_of(context: Mapping[str, Any]) -> datetime:
    """The instant a run delivers up to: what a scheduled run is scheduled for, else the parameter `until`, else now.

    Raises PermanentError for an `until` that is no RFC 3339 time with an offset.
    """
    from waybill.canonical import parse_timestamp

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


def plan(tenant: str, context: Mapping[str, Any]) -> list[Batch]:
    """Freeze what is due and return the delivery ids by entity, one mapping for each mapped task. Unfinished repairs come along alone."""
    from waybill.deliveries import planning, running
    from waybill.deliveries.repairs import unfinished_repairs

    installation, until, params = open_installation(), until_of(context), context["params"]
    entities = params.get("entities") or ()
    if params.get("full_load"):
        asked = running.ask_full_load(installation, tenant, entities, context["dag_run"].run_after)
        log.info("full load of %s", ", ".join(asked) or "nothing more: this run has begun it before")
    due = planning.plan(installation, tenant, until, entities=entities)
    for one in due:
        log.info("%s %s #%s up to %s -> %s/%s.csv", one.kind, one.entity, one.sequence, one.planned_to, one.folder, one.stem)
    if not due:
        log.info("nothing is due before %s", until)
    repairs = [] if entities else unfinished_repairs(installation, tenant)
    for one in repairs:
        log.info("%s of %s #%s -> %s/%s.csv", one.purpose, one.entity, one.sequence, one.folder, one.stem)
    return [*batches(due), *({f"{one.entity} {one.purpose} {one.id}": one.id} for one in repairs)]


def batches(due: Sequence[Delivery]) -> list[Batch]:
    """Deliveries by mapped task: up to SHARED together, each that failed before alone so that it holds nobody up."""
    sound = [one for one in due if not one.failures]
    shared = [sound[start : start + SHARED] for start in range(0, len(sound), SHARED)]
    return [{one.entity: one.id for one in batch} for batch in [*shared, *([one] for one in due if one.failures)]]


def deliver(tenant: str, batch: Batch, context: Mapping[str, Any]) -> None:
    """Deliver these, and what is due behind them. Safe to clear: a committed delivery is only verified again.

    All are tried before the failed ones raise: TransientError when trying again may help any of them, else the first one's class.
    """
    from waybill.deliveries import running

    results = running.finish(open_installation(), tenant, until_of(context), list(batch.values()), spare=True)
    for result in results:
        if result.outcome:
            one, done = result.delivery, result.outcome
            log.info("%s %s #%s: %s rows, %s bytes, sha256 %s", done.status, one.entity, one.sequence, done.rows, done.bytes, done.sha256)
    errors = [result.error for result in results if result.error]
    for error in errors:
        log.error("%s", error)
    if errors:
        raise together(errors)


def together(errors: Sequence[WaybillError]) -> WaybillError:
    """One error for several: the class says whether Airflow tries again, the message holds them all."""
    leading = next((error for error in errors if isinstance(error, TransientError)), errors[0])
    kinds = (TransientError, ConflictError, PermanentError)
    kind = next(kind for kind in kinds if isinstance(leading, kind))
    return leading if len(errors) == 1 else kind("\n".join(str(error) for error in errors), code=leading.code)


def is_backfill(context: Mapping[str, Any]) -> bool:
    return bool(context["dag_run"].run_type == "backfill")


def planned_by(context: Mapping[str, Any]) -> Batch | None:
    """The deliveries this run planned, None when planning failed. A backfill of Airflow's plans none."""
    found = [] if is_backfill(context) else context["ti"].xcom_pull(task_ids="plan")
    return None if found is None else {entity: delivery_id for batch in found for entity, delivery_id in batch.items()}


def announcements(tenant: str, planned: Batch) -> Iterator[tuple[str, dict[str, Any]]]:
    """The asset events of what this run committed, oldest first: the asset's name, and the facts a consumer checks a file by."""
    from waybill.deliveries import views

    for one in views.committed_since(open_installation(), tenant, min(planned.values())) if planned else []:
        if one["delivery_id"] >= planned.get(one["entity"], "~"):
            yield asset_name(tenant, one["entity"]), {fact: one[fact] for fact in ANNOUNCED}


def close_day(tenant: str, planned: Batch | None) -> None:
    """Write the day manifests that are due. Raises PermanentError when planning failed or anything planned is uncommitted."""
    from waybill.deliveries import notifying, running, views

    installation = open_installation()
    for path in running.close_day(installation, tenant):
        log.info("wrote %s", path)
    if planned is None:
        raise PermanentError(f"nothing was planned for {tenant}", next_step="See the log of the task `plan`", code="not_planned")
    waiting = [
        one for one in views.listed(installation, tenant, status="open") if one["entity"] in planned and one["purpose"] == "schedule"
    ]
    if waiting:
        notifying.notify_failed(installation, tenant, waiting)
        reasons = "".join(f"\n{one['entity']}: {one['error'] or 'not delivered yet'}" for one in waiting)
        raise PermanentError(
            f"{len(waiting)} of {len(planned)} entities of {tenant} are not delivered{reasons}",
            next_step="The next run finishes them; to do it now clear the failed task",
            code="undelivered",
        )


log = logging.getLogger(__name__)

Named = dict[str, str]
"""A request by tenant and id: what tasks hand each other through XCom, and nothing else."""


def find() -> list[Named]:
    """Give up stalled requests, make those that templates owe, and name what is pending and due."""
    from waybill.requests.recurring import make_recurring
    from waybill.requests.running import pending

    installation = open_installation()
    for one in make_recurring(installation):
        log.info("made export %s of %s from its template", one.id, one.tenant)
    return [{"tenant": one.tenant, "request": one.id} for one in pending(installation, installation.now())]


def fulfil(named: Named, worker: str) -> None:
    """Carry one request to its end. A request that somebody else has is left to them. Raises PermanentError when it failed."""
    from waybill.ledger.request_records import Status
    from waybill.requests import running

    done = running.fulfil(open_installation(), named["request"], worker=worker)
    if done is None:
        log.info("export %s is not pending any more, or was stopped on the way", named["request"])
    elif done.status == Status.FAILED:
        raise PermanentError(
            done.error_message or "",
            where=f"tenant {done.tenant}, export {done.id}",
            next_step=done.error_advice or "",
            code="export_failed",
        )
    else:
        log.info("export %s: %s, %s rows, %s bytes, archive %s", done.id, done.status, done.rows, done.bytes, done.archive)


def tell() -> None:
    """Send the mail that is owed. What cannot be sent now is tried again later, so nothing here fails a run."""
    from waybill.requests import mailing

    for problem in mailing.send_mails(open_installation()):
        log.warning("%s", problem)


log = logging.getLogger(__name__)


def apply(*, allow_mass_deactivation: bool = False) -> dict[str, Any]:
    """Apply every good file; returns the diff by tenant as JSON, empty when nothing changed.

    Raises ConfigError for a broken catalog or policy, PermanentError for a mass deactivation that is not allowed; nothing is changed then.
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
    """Tell about tenants whose day is late. Raises ConfigError with the findings of all configuration files, if there are any."""
    from waybill.configuration import loading
    from waybill.deliveries import notifying

    for tenant in notifying.notify_late(open_installation()):
        log.warning("%s is late; mail was sent", tenant)
    findings = loading.load(loading.Settings.from_environment().config_dir).findings
    if findings:
        raise ConfigError(list(findings))


def housekeeping() -> None:
    """One round, its counts in the log. Raises TransientError naming the tenants whose destination could not be reached."""
    from waybill.housekeeping import housekeeping as keep

    done = keep(open_installation())
    for name, found in done.as_json().items():
        log.info("%s: %s", name, found)
    if done.failed:
        raise TransientError("\n".join(done.failed.values()), code="housekeeping")
