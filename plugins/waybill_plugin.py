"""Mounts Waybill's API and pages below /waybill of Airflow's API server, and shows the pages in its navigation and on each tenant's DAG.

Every task process loads this file: it imports next to nothing until the API server asks for the application.
"""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from waybill.airflow import listener


class WaybillPlugin(AirflowPlugin):
    """Airflow's users reach Waybill here; what they may do is what they may do with the DAG `export__<tenant>`."""

    name = "waybill"
    listeners = [listener]  # noqa: RUF012 (Airflow reads it from the class)
    external_views = [  # noqa: RUF012 (Airflow reads it from the class)
        {"name": "Waybill", "href": "waybill/page/", "destination": "nav", "url_route": "waybill"},
        {"name": "Waybill", "href": "waybill/page/dags/{DAG_ID}", "destination": "dag", "url_route": "waybill_tenant"},
    ]

    @property
    def fastapi_apps(self) -> list[Any]:
        from waybill.airflow import open_installation
        from waybill.airflow.scheduler import AirflowScheduler
        from waybill.airflow.users import AirflowAccess
        from waybill.web.app import create_app

        return [{"app": create_app(open_installation, AirflowAccess(), AirflowScheduler()), "url_prefix": "/waybill", "name": "Waybill"}]
