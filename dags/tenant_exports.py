"""One DAG for each registered tenant: plan what is due, deliver it, announce it, close the day.

On an ordinary day `plan` does all of it in one process and skips the rest. What is large or has failed gets a mapped task, and the tasks
behind it announce and close what those delivered.

The scheduler's parse reads the registrations of its tenants in one query; `WAYBILL_DAG_FILES` shares tenants out to copies of this file.
A worker parses for one task only and asks nobody: what its DAG looks like depends on the tenant's id alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG, AssetAlias, CronTriggerTimetable, get_current_context, get_parsing_context, task
from airflow.sdk.exceptions import AirflowSkipException, DownstreamTasksSkipped

from waybill.airflow import tasks
from waybill.airflow.names import alias_name, dag_id, described, file_numbers, full_pool, tenant_of
from waybill.airflow.params import Param
from waybill.airflow.retries import retrying
from waybill.airflow.schedule import Schedule, schedules

FIRST_DAY = datetime(2020, 1, 1, tzinfo=UTC)
"""Long past for every tenant, so that a new tenant's first run starts at once instead of after a whole period."""


def tenant_dag(tenant: str, schedule: Schedule | None = None) -> DAG:
    """The DAG of a tenant. Its structure never depends on the schedule, which a worker does without."""
    with DAG(
        dag_id(tenant),
        description=described(schedule.version) if schedule else None,
        schedule=CronTriggerTimetable(schedule.cron, timezone=schedule.timezone) if schedule and schedule.cron else None,
        start_date=FIRST_DAY,
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=None if "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION" in os.environ else False,
        default_args=retrying(),
        params=_params(schedule.entities if schedule else ()),
        tags=[f"tenant:{tenant}", *([schedule.frequency if schedule.cron else "disabled"] if schedule else [])],
        doc_md=schedule.document if schedule else None,
        render_template_as_native_obj=False,
    ) as dag:
        pool = schedule.pool if schedule else ""
        daily: dict[str, Any] = {"pool": pool} if pool else {}
        large: dict[str, Any] = {"pool": full_pool(pool)} if pool else {}
        if schedule and schedule.alone:
            large["max_active_tis_per_dag"] = 1
        planned = plan.override(outlets=[AssetAlias(alias_name(tenant))], **daily)(tenant)
        delivered = deliver.override(**large).partial(tenant=tenant).expand(deliveries=planned)
        announced = announce.override(outlets=[AssetAlias(alias_name(tenant))])(tenant)
        delivered >> announced >> close_day(tenant)
    return dag


def _params(entities: tuple[str, ...]) -> dict[str, Param]:
    return {
        "entities": Param(
            None,
            type=["array", "null"],
            items={"type": "string"},
            examples=list(entities),
            description="Only these entities, by id or display name; all when empty.",
        ),
        "full_load": Param(False, type="boolean", description="Deliver the complete history again, as a new generation."),
        "until": Param(
            None,
            type=["string", "null"],
            format="date-time",
            description="Deliver up to the last boundary at or before this time; now when empty. Scheduled runs use their own time.",
        ),
    }


@task
def plan(tenant: str) -> list[tasks.Batch]:
    context = get_current_context()
    if tasks.is_backfill(context):
        raise AirflowSkipException(
            "Airflow's backfill plans nothing: a delivery continues where the last one ended, whatever interval a run stands for. "
            f"For a past range run: waybill backfill {tenant} ENTITY --from ... --to ..."
        )
    due = tasks.plan(tenant, context)
    context["ti"].xcom_push(key=tasks.PLANNED, value=due.planned)
    is_repeated = context["ti"].try_number > 1
    begun = tasks.begin(due, context["dag_run"].start_date if is_repeated else None)
    announce_all(tenant, begun.events)
    # A cleared run still has the mapped tasks of its first try. Airflow removes them by the length of this list, not if they are skipped.
    if begun.closed and not is_repeated:
        raise DownstreamTasksSkipped(tasks=["deliver", "announce", "close_day"])  # type: ignore[no-untyped-call]
    return begun.batches


@task(map_index_template="{{ task.op_kwargs['deliveries'] | join(', ') }}")
def deliver(tenant: str, deliveries: tasks.Batch) -> None:
    tasks.deliver(tenant, deliveries, get_current_context())


@task(trigger_rule="all_done")
def announce(tenant: str) -> None:
    """Asset events of what mapped tasks committed: by itself, since close_day fails for any entity and a failed task emits none."""
    announce_all(tenant, tasks.announcements(tenant, tasks.left_over(get_current_context())))


def announce_all(tenant: str, events: Iterable[tasks.Event]) -> None:
    from airflow.sdk import Asset

    outlets = get_current_context()["outlet_events"]
    for name, facts in events:
        outlets[AssetAlias(alias_name(tenant))].add(Asset(name=name), extra=facts)


@task(trigger_rule="all_done")
def close_day(tenant: str) -> None:
    tasks.close_day(tenant, tasks.planned_by(get_current_context()))


parsing_for = get_parsing_context().dag_id
if parsing_for is None:
    for each in schedules(file_numbers(__file__)):
        tenant_dag(each.tenant, each)
elif only := tenant_of(parsing_for):
    tenant_dag(only)
