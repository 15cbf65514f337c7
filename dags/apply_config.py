"""Configuration files -> ledger, every few minutes and on demand: what `waybill apply` does."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, AssetAlias, Param, get_current_context, task

from waybill.airflow import tasks
from waybill.airflow.names import APPLY_DAG, CONFIGURATION_ASSET, dag_id
from waybill.airflow.retries import retry_policy

with DAG(
    APPLY_DAG,
    schedule="*/5 * * * *",
    start_date=datetime(2020, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=None if "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION" in os.environ else False,
    # Airflow and the ledger may start at the same time. More tries would hold up the next round, which comes five minutes on.
    default_args={"retries": 2, "retry_delay": timedelta(seconds=10), "retry_policy": retry_policy()},
    params={
        "allow_mass_deactivation": Param(
            False, type="boolean", description="Deactivate tenants whose files are gone or say so even if they are more than a quarter."
        )
    },
    tags=["waybill"],
    doc_md="""Brings the ledger to what `config/tenants/*.yaml` say, one tenant at a time.

A file with a mistake leaves its tenant on the last good version, fails the task `check`, and holds up nobody else.
An apply that would deactivate more than a quarter of the active tenants is refused whole; if it is meant, trigger
this DAG with `allow_mass_deactivation`, or run `waybill apply --allow-mass-deactivation`.""",
):

    @task(outlets=[AssetAlias(CONFIGURATION_ASSET)])
    def apply() -> list[str]:
        """Returns the DAGs to start: of tenants that had one before and are to receive something they have never got."""
        from airflow.sdk import Asset

        context = get_current_context()
        if changes := tasks.apply(allow_mass_deactivation=context["params"]["allow_mass_deactivation"]):
            events = context["outlet_events"][AssetAlias(CONFIGURATION_ASSET)]
            events.add(Asset(name=CONFIGURATION_ASSET), extra=changes)
        return [dag_id(tenant) for tenant, change in changes.items() if change["action"] == "change" and change["activated"]]

    @task
    def check() -> None:
        """Fails with every finding of every file; what was right is applied by then."""
        tasks.check()

    applied = apply()
    applied >> check()
    TriggerDagRunOperator.partial(task_id="start", openlineage_inject_parent_info=False).expand(trigger_dag_id=applied)
