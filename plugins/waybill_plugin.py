"""Mounts Waybill's API below /waybill of Airflow's API server."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin


class _Lazy:
    """A class attribute computed when it is read: plugins are loaded in every task process, the API only in the server."""

    def __get__(self, _instance: object, _owner: type) -> list[dict[str, Any]]:
        from waybill.web.plugin import apps

        return apps()


class WaybillPlugin(AirflowPlugin):
    """Airflow's door to Waybill."""

    name = "waybill"
    fastapi_apps = _Lazy()
