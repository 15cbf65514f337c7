"""On-demand exports: the ledger is watched from the triggerer, and what waits there starts within seconds."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow.sdk import DAG, Asset, AssetWatcher, get_current_context, task

from waybill.airflow import tasks
from waybill.airflow.names import REQUESTS_ASSET, REQUESTS_DAG
from waybill.airflow.retries import retrying
from waybill.airflow.watcher import RequestWatcher

waiting = Asset(name=REQUESTS_ASSET, watchers=[AssetWatcher(name="ledger", trigger=RequestWatcher())])

with DAG(
    REQUESTS_DAG,
    schedule=[waiting],
    start_date=datetime(2020, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=16,
    is_paused_upon_creation=None if "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION" in os.environ else False,
    default_args=retrying(),
    tags=["waybill"],
    doc_md="""Works through pending export requests: one mapped task each, named after its tenant and request.

A trigger in the triggerer watches the ledger and starts a run when something is due: a request, a mail, a recurring request, or a request
whose worker went silent. Each request is claimed once; clearing a task does no harm.""",
):

    @task
    def find() -> list[tasks.Named]:
        return tasks.find()

    @task(map_index_template="{{ task.op_kwargs['named']['tenant'] }} {{ task.op_kwargs['named']['request'] }}")
    def fulfil(named: tasks.Named) -> None:
        context = get_current_context()
        tasks.fulfil(named, f"airflow:{context['dag_run'].run_id}:{context['ti'].map_index}")

    @task(trigger_rule="all_done")
    def tell() -> None:
        tasks.tell()

    fulfil.expand(named=find()) >> tell()
