"""What things are called inside Airflow. Imports next to nothing, as DAG files and the plugin need it at every task start."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

PREFIX = os.environ.get("WAYBILL_DAG_PREFIX", "")
"""Stands before every DAG id of ours, in an Airflow that has DAGs of the same names or sorts its own by prefix."""

DAG_PREFIX = f"{PREFIX}export__"
APPLY_DAG = f"{PREFIX}apply_config"
REQUESTS_DAG = f"{PREFIX}export_requests"
HOUSEKEEPING_DAG = f"{PREFIX}housekeeping"

DAG_FILES = int(os.environ.get("WAYBILL_DAG_FILES") or 1)
"""Files the tenants' DAGs are shared out to: `tenant_exports.py`, `tenant_exports_2.py` and so on, all of one content. Airflow parses a
file whole, so a new tenant's DAG appears the sooner the fewer tenants share its file.
"""
_EXPORTS = "tenant_exports"

CONFIGURATION_ASSET = "waybill/configuration"
REQUESTS_ASSET = "waybill/export_requests"
POOL_PREFIX = "waybill."
_FULL = ".full"


def dag_id(tenant: str) -> str:
    return DAG_PREFIX + tenant


def tenant_of(dag: str) -> str | None:
    """The tenant whose DAG this is, or None for any other DAG."""
    return dag.removeprefix(DAG_PREFIX) if dag.startswith(DAG_PREFIX) else None


def exports_file(number: int = 1) -> str:
    """One of the files that hold tenants' DAGs, relative to its bundle."""
    return f"{_EXPORTS}.py" if number == 1 else f"{_EXPORTS}_{number}.py"


def file_number(tenant: str) -> int:
    """Which of the files holds a tenant's DAG."""
    return zlib.crc32(tenant.encode()) % DAG_FILES + 1


def file_numbers(path: str) -> frozenset[int]:
    """Whose tenants a DAG file makes DAGs for: its own number, and in the first file also those of files that are missing beside it."""
    file = Path(path)
    suffix = file.stem.removeprefix(_EXPORTS).removeprefix("_")
    own = int(suffix) if suffix.isdigit() else 1
    if own > 1:
        return frozenset({own})
    return frozenset({1, *(number for number in range(2, DAG_FILES + 1) if not file.with_name(exports_file(number)).exists())})


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
