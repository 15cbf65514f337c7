"""Expiry, retention, stalled requests and orphaned parts, once a day: what `waybill housekeeping` does."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow.sdk import DAG, task

from waybill.airflow import tasks
from waybill.airflow.names import HOUSEKEEPING_DAG
from waybill.airflow.retries import retrying

with DAG(
    HOUSEKEEPING_DAG,
    schedule="17 4 * * *",
    start_date=datetime(2020, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=None if "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION" in os.environ else False,
    default_args=retrying(),
    tags=["waybill"],
    doc_md="Removes what has had its time: archives, delivered files past their retention, parts of dead attempts.",
):

    @task
    def tidy() -> None:
        tasks.housekeeping()

    tidy()
