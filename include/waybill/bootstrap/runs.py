"""What the tasks of a tenant's DAG do: plan, deliver, announce, close the day. Heavy imports wait until a task runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from waybill import bootstrap
from waybill.bootstrap.names import asset_name
from waybill.errors import ConflictError, PermanentError, TransientError, WaybillError

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
        return parse_timestamp(given) if given else bootstrap.utc_now()
    except ValueError as error:
        raise PermanentError(
            f"until: {given!r} is not a point in time", allowed="RFC 3339 with an offset, as in 2026-06-01T00:00:00Z", code="until"
        ) from error


def plan(tenant: str, context: Mapping[str, Any]) -> list[Batch]:
    """Freeze what is due and return the delivery ids by entity, one mapping for each mapped task. Unfinished repairs come along alone."""
    from waybill import service

    estate, until, params = bootstrap.estate(), until_of(context), context["params"]
    entities = params.get("entities") or ()
    if params.get("full_load"):
        asked = service.ask_full_load(estate, tenant, entities, context["dag_run"].run_after)
        log.info("full load of %s", ", ".join(asked) or "nothing more: this run has begun it before")
    due = service.plan(estate, tenant, until, entities=entities)
    for one in due:
        log.info("%s %s #%s up to %s -> %s/%s.csv", one.kind, one.entity, one.sequence, one.planned_to, one.folder, one.stem)
    if not due:
        log.info("nothing is due before %s", until)
    repairs = [] if entities else service.unfinished_repairs(estate, tenant)
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
    from waybill import service

    results = service.finish(bootstrap.estate(), tenant, until_of(context), list(batch.values()), spare=True)
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
    from waybill import service

    for one in reversed(service.listed(bootstrap.estate(), tenant, status="committed") if planned else []):
        if one["purpose"] == "schedule" and one["delivery_id"] >= planned.get(one["entity"], "~"):
            yield asset_name(tenant, one["entity"]), {fact: one[fact] for fact in ANNOUNCED}


def close_day(tenant: str, planned: Batch | None) -> None:
    """Write the day manifests that are due. Raises PermanentError when planning failed or anything planned is uncommitted."""
    from waybill import service

    estate = bootstrap.estate()
    for path in service.close_day(estate, tenant):
        log.info("wrote %s", path)
    if planned is None:
        raise PermanentError(f"nothing was planned for {tenant}", next_step="See the log of the task `plan`", code="not_planned")
    waiting = [one for one in service.listed(estate, tenant, status="open") if one["entity"] in planned and one["purpose"] == "schedule"]
    if waiting:
        service.tell_failed(estate, tenant, waiting)
        reasons = "".join(f"\n{one['entity']}: {one['error'] or 'not delivered yet'}" for one in waiting)
        raise PermanentError(
            f"{len(waiting)} of {len(planned)} entities of {tenant} are not delivered{reasons}",
            next_step="The next run finishes them; to do it now clear the failed task",
            code="undelivered",
        )
