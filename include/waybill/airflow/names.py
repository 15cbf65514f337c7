"""Names inside Airflow. This module imports next to nothing, because DAG files and the plugin need it at every task start."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

PREFIX = os.environ.get("WAYBILL_DAG_PREFIX", "").strip()
"""The prefix of every DAG id of ours, for an Airflow that has DAGs of the same names or sorts its own by prefix."""

DAG_PREFIX = f"{PREFIX}export__"
APPLY_DAG = f"{PREFIX}apply_config"
REQUESTS_DAG = f"{PREFIX}export_requests"
HOUSEKEEPING_DAG = f"{PREFIX}housekeeping"

DAG_FILES = int(os.environ.get("WAYBILL_DAG_FILES") or 1)
"""The number of files that share the tenants' DAGs: `tenant_exports.py`, `tenant_exports_2.py` and so on, all with the same content.
Airflow parses a whole file, so a new DAG appears sooner if fewer tenants share its file.
"""
_EXPORTS = "tenant_exports"

CONFIGURATION_ASSET = "waybill/configuration"
REQUESTS_ASSET = "waybill/export_requests"
POOL_PREFIX = "waybill."
_FULL = ".full"


def dag_id(tenant: str) -> str:
    return DAG_PREFIX + tenant


def tenant_of(dag: str) -> str | None:
    """Return the tenant of this DAG, or None for any other DAG."""
    return dag.removeprefix(DAG_PREFIX) if dag.startswith(DAG_PREFIX) else None


def exports_file(number: int = 1) -> str:
    """Return one of the files that hold tenants' DAGs, relative to its bundle."""
    return f"{_EXPORTS}.py" if number == 1 else f"{_EXPORTS}_{number}.py"


def file_number(tenant: str) -> int:
    """Return the number of the file that holds a tenant's DAG."""
    return zlib.crc32(tenant.encode()) % DAG_FILES + 1


def file_numbers(path: str) -> frozenset[int]:
    """Return the numbers of the files that a DAG file makes DAGs for: its own, and in the first file also those of missing files."""
    file = Path(path)
    suffix = file.stem.removeprefix(_EXPORTS).removeprefix("_")
    own = int(suffix) if suffix.isdigit() else 1
    if own > 1:
        return frozenset({own})
    return frozenset({1, *(number for number in range(2, DAG_FILES + 1) if not file.with_name(exports_file(number)).exists())})


def alias_name(tenant: str) -> str:
    """Return the asset alias of a tenant's deliveries. A DAG that is scheduled on it follows all of them."""
    return f"export/{tenant}"


def asset_name(tenant: str, entity: str) -> str:
    """Return the asset of an entity's deliveries. If it began with a scheme, Airflow would load every provider to look for a handler."""
    return f"export/{tenant}/{entity}"


def pool_name(kind: str, connection: str = "") -> str:
    """Return the pool that all deliveries to one place share. Folders have no connection and share one pool."""
    return f"{POOL_PREFIX}{kind}.{connection}" if connection else f"{POOL_PREFIX}{kind}"


def full_pool(pool: str) -> str:
    """Return the lane beside a destination's pool for full loads, backfills and large deliveries, so that no daily delivery waits behind
    them.
    """
    return pool + _FULL


def daily_pool(pool: str) -> str:
    """Return the pool of the same destination's daily deliveries."""
    return pool.removesuffix(_FULL)


def described(version: int) -> str:
    """Return the description of a tenant's DAG. It tells which registration Airflow has seen."""
    return f"Exports by registration {version}"
