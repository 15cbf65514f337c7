"""Configuration files -> ledger, every few minutes and on demand: what `waybill apply` does."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow.sdk import DAG, AssetAlias, get_current_context, task

from waybill.bootstrap import upkeep
from waybill.bootstrap.names import APPLY_DAG, CONFIGURATION_ASSET

with DAG(
    APPLY_DAG,
    schedule="*/5 * * * *",
    start_date=datetime(2020, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=None if "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION" in os.environ else False,
    default_args={"retries": 0},  # the next round, five minutes on, is the retry: one that waits would hold it up
    tags=["waybill"],
    doc_md="""Brings the ledger to what `config/tenants/*.yaml` say, one tenant at a time.

A file with a mistake leaves its tenant on the last good version, fails the task `check`, and holds up nobody else.
An apply that would deactivate more than a quarter of the active tenants is refused whole; if it is meant, run
`waybill apply --allow-mass-deactivation`.""",
):

    @task(outlets=[AssetAlias(CONFIGURATION_ASSET)])
    def apply() -> None:
        from airflow.sdk import Asset

        if changes := upkeep.apply():
            events = get_current_context()["outlet_events"][AssetAlias(CONFIGURATION_ASSET)]
            events.add(Asset(name=CONFIGURATION_ASSET), extra=changes)

    @task
    def check() -> None:
        """Fails with every finding of every file; what was right is applied by then."""
        upkeep.check()

    apply() >> check()
