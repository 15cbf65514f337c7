"""Sends metrics through Airflow's own stack. `[metrics]` of Airflow's settings decides where they go: StatsD, Datadog or OpenTelemetry.

docs/how-to/metrics.md lists them and deploy/grafana/waybill.json draws them; a test compares both with what is emitted. StatsD without tags
drops the tags, so failures are also counted under a name of their own for each code.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from waybill.states import DeliveryStatus

if TYPE_CHECKING:
    from waybill.deliveries.running import Result
    from waybill.installation import Installation


def deliveries(installation: Installation, results: Sequence[Result]) -> None:
    """Count the outcomes of these deliveries. A file that was only looked at again counts as a delivery of that status, without rows."""
    from airflow.sdk.observability import stats

    from waybill.deliveries.reports.measures import spool_bytes

    for result in results:
        delivery, done = result.delivery, result.outcome
        about = {"tenant": delivery.tenant, "entity": delivery.entity}
        if result.error:
            code = re.sub(r"[^a-z0-9_]", "_", result.error.code)
            stats.incr("waybill.failures", tags={**about, "code": code})
            stats.incr(f"waybill.failures.{code}", tags=about)
        if done:
            tags = {**about, "kind": delivery.kind}
            stats.incr("waybill.deliveries", tags={**tags, "status": done.status})
            if done.status == DeliveryStatus.COMMITTED:
                stats.incr("waybill.rows", done.rows, tags=tags)
                stats.incr("waybill.bytes", done.bytes, tags=tags)
                stats.timing("waybill.delivery.duration", timedelta(seconds=result.seconds), tags=tags)
    stats.gauge("waybill.spool.bytes", spool_bytes(installation), tags={"host": socket.gethostname()})


def standing(installation: Installation) -> None:
    """Send the state of all tenants."""
    from airflow.sdk.observability import stats

    from waybill.deliveries.reports.measures import measure, spool_bytes

    found = measure(installation)
    for tenant, seconds in found.lateness.items():
        stats.gauge("waybill.lateness", seconds, tags={"tenant": tenant})
    stats.gauge("waybill.lateness.longest", max(found.lateness.values(), default=0))
    stats.gauge("waybill.tenants.late", found.late)
    stats.gauge("waybill.tenants.at_risk", found.at_risk)
    stats.gauge("waybill.windows.open", found.open_windows)
    stats.gauge("waybill.windows.oldest", found.oldest_open)
    stats.gauge("waybill.spool.bytes", spool_bytes(installation), tags={"host": socket.gethostname()})
