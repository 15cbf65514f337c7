"""Everything that touches Airflow. Connections become plain values here, error classes become retry rules, and registrations become
schedules.

In: Airflow's connections, users and settings, and what its processes call. Out: an open `Installation`, DAGs and tasks, and answers about
what Airflow does.

`connections/` reads connections. `schedule` makes the schedules of the DAG files (`dags/tenant_exports.py` and its neighbours) with the
`names` and `params` they use, `tasks` holds what their tasks do, and `retries` says when they are tried again. `watcher` starts on-demand
exports. `scheduler/`, `users` and `roles` serve the pages and the API. `listener` makes pools, has DAG files parsed and warms workers up,
`metrics` counts what runs, `celery_worker` sets up workers, and `doctor` checks the set-up. DAG files and the plugin import from here at
every task start, so nothing heavy is imported before it is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from waybill.airflow.connections.lookup import connect_db, lookup

if TYPE_CHECKING:
    from waybill.configuration.loading import Settings
    from waybill.installation import Installation

__all__ = ["connect_db", "lookup", "open_installation"]


def open_installation(settings: Settings | None = None) -> Installation:
    """Open the installation that the environment describes. Its ledger is ready for use.

    Raises PermanentError if a shared ledger needs an upgrade first.
    """
    from waybill import private
    from waybill.configuration.loading import Settings
    from waybill.installation import Installation
    from waybill.ledger import Ledger
    from waybill.ledger.database.clock import LedgerClock

    settings = settings or Settings.from_environment()
    private.narrow(settings.own_folders)
    ledger = Ledger(settings.ledger_url)
    ledger.ready()
    return Installation(settings, ledger, lookup, LedgerClock(ledger), connect_db)
