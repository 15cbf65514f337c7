"""What things are called inside Airflow. Imports next to nothing, as DAG files and the plugin need it at every task start."""

from __future__ import annotations

import os

PREFIX = os.environ.get("WAYBILL_DAG_PREFIX", "")
"""Stands before every DAG id of ours, in an Airflow that has DAGs of the same names or sorts its own by prefix."""

DAG_PREFIX = f"{PREFIX}export__"
APPLY_DAG = f"{PREFIX}apply_config"
REQUESTS_DAG = f"{PREFIX}export_requests"
HOUSEKEEPING_DAG = f"{PREFIX}housekeeping"

CONFIGURATION_ASSET = "waybill/configuration"
REQUESTS_ASSET = "waybill/export_requests"
POOL_PREFIX = "waybill."
_FULL = ".full"


def dag_id(tenant: str) -> str:
    return DAG_PREFIX + tenant


def tenant_of(dag: str) -> str | None:
    """The tenant whose DAG this is, or None for any other DAG."""
    return dag.removeprefix(DAG_PREFIX) if dag.startswith(DAG_PREFIX) else None


def alias_name(tenant: str) -> str:
    """The asset alias all of a tenant's deliveries are announced under; a DAG scheduled on it follows all of them."""
    return f"export/{tenant}"


def asset_name(tenant: str, entity: str) -> str:
    """The asset of one entity's deliveries. With a scheme in front Airflow would load every provider to look for its handler."""
    return f"export/{tenant}/{entity}"


def pool_name(kind: str, connection: str = "") -> str:
    """The pool all deliveries to one place share. Folders have no connection and share one."""
    return f"{POOL_PREFIX}{kind}.{connection}" if connection else f"{POOL_PREFIX}{kind}"


def full_pool(pool: str) -> str:
    """The lane beside a destination's pool for full loads, backfills and whatever is large: no daily delivery waits behind them."""
    return pool + _FULL


def daily_pool(pool: str) -> str:
    """The pool of the same destination's daily deliveries."""
    return pool.removesuffix(_FULL)


def described(version: int) -> str:
    """The description of a tenant's DAG. It tells which registration Airflow has seen."""
    return f"Exports by registration {version}"
