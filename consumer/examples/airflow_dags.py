"""Two DAGs that keep a copy of what a Waybill sender delivers. Set the four variables, put this file into the DAGs folder.

WAYBILL_SOURCE      the folder of your deliveries on the server, such as /exports/acme
WAYBILL_CONNECTION  the id of an Airflow connection of type sftp, with the server's `host_key` in its extra
WAYBILL_FOLDER      where to keep the files
WAYBILL_TO          the database, as in `waybill-consumer load --to`
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

from airflow.sdk import DAG, Asset, AssetWatcher, task

from waybill_consumer.airflow import DaySensor, DayWatcher

SOURCE, CONNECTION = os.environ["WAYBILL_SOURCE"], os.environ["WAYBILL_CONNECTION"]
FOLDER, TO = os.environ["WAYBILL_FOLDER"], os.environ["WAYBILL_TO"]
EVERY = float(os.environ.get("WAYBILL_EVERY", "60"))

complete_day = Asset(
    name="waybill_complete_day", watchers=[AssetWatcher(name="day_manifests", trigger=DayWatcher(SOURCE, CONNECTION, every=EVERY))]
)
common = {"start_date": datetime(2026, 1, 1, tzinfo=timezone.utc), "catchup": False, "max_active_runs": 1}


@task(retries=3, retry_delay=timedelta(minutes=5))
def pull() -> int:
    from waybill_consumer import airflow

    return int(airflow.pull(SOURCE, FOLDER, connection=CONNECTION)["deliveries"])


@task(retries=3, retry_delay=timedelta(minutes=5))
def load() -> int:
    from waybill_consumer import airflow

    return int(airflow.load(FOLDER, TO)["rows"])


# Starts when a day is complete.
with DAG("keep_a_copy", schedule=[complete_day], is_paused_upon_creation=False, **common):
    pull() >> load()

# Starts when somebody asks for a day, and waits for it without a worker.
with DAG("wait_for_a_day", schedule=None, params={"date": "2026-06-01"}, is_paused_upon_creation=False, **common):
    day = DaySensor(task_id="day", source=SOURCE, connection=CONNECTION, date="{{ params.date }}", poke_interval=EVERY, timeout=24 * 3600)

    @task
    def rows(found: dict[str, int]) -> int:
        return found["rows"]

    rows(day.output)
