"""Looks up Airflow's connections in the environment, the secrets backend, the task's supervisor or the metadata database."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from waybill.airflow.connections import written
from waybill.connection import Connection
from waybill.errors import PermanentError


def lookup(connection_id: str) -> Connection:
    """Return the Airflow connection of that id. Raises PermanentError if there is none, or if it cannot be read."""
    value = _in_environment(connection_id)
    if value is not None and "airflow" not in sys.modules:  # where Airflow runs, it reads the value, to mask its secrets in logs
        alone = written.read_alone(connection_id, value)
        if alone is not None:
            return alone
    found = _airflow_connection(connection_id)
    return Connection(
        id=connection_id,
        type=written.connection_type(found.conn_type or ""),
        host=found.host or "",
        port=found.port,
        login=found.login or "",
        schema=found.schema or "",
        password=found.password or "",
        extra=_extra(found, connection_id),
    )


def connect_db(connection_id: str) -> Any:
    """Return an open DB-API connection through Airflow's hook for that connection, or the hook itself if it only yields frames.

    Raises PermanentError if there is no such connection, if its type has no database hook, or if the hook cannot use it. The driver's own
    errors pass through.
    """
    from airflow.sdk.exceptions import AirflowException

    found = _airflow_connection(connection_id)
    kind = found.conn_type or ""
    try:
        hook = found.get_hook()
    except (AirflowException, ImportError, AttributeError) as error:  # AttributeError: the type is known and has no hook
        raise PermanentError(
            f"the connection {connection_id} is of type {kind!r}, which no installed provider knows",
            next_step=f"Install the provider of that type, such as apache-airflow-providers-{kind}, or correct the type",
            code="connection",
        ) from error
    if not hasattr(hook, "get_df_by_chunks"):
        raise PermanentError(f"the connection {connection_id} is of type {kind!r}, which is no database", code="connection")
    if kind == "sqlite" and found.host and not Path(found.host.partition("?")[0]).is_file():  # SQLite would make an empty one
        step = f"Correct the host of the Airflow connection {connection_id}, or put the file back"
        raise PermanentError(f"there is no SQLite file {found.host}", next_step=step, code="source_missing")
    try:
        return hook.get_conn() if hasattr(hook, "get_conn") else hook
    except (AirflowException, ImportError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise PermanentError(
            f"the provider of type {kind!r} cannot use the connection {connection_id}: {str(error).rstrip('.')}",
            next_step="Correct the connection, or install the driver the provider wants",
            code="connection",
        ) from error


def _airflow_connection(connection_id: str) -> Any:
    value = _in_environment(connection_id)
    if value is None and not _airflow_is_here():
        raise written.missing(connection_id)
    if value is not None:  # Airflow asks the environment first, too; its backends need not be loaded for it
        return written.parsed(connection_id, value)

    from airflow.sdk import Connection as AirflowConnection
    from airflow.sdk.exceptions import AirflowException

    try:
        return AirflowConnection.get(connection_id)
    except (AirflowException, ValueError):
        # The cause is not chained, because it may quote the connection's value.
        raise written.missing(connection_id) from None


def _in_environment(connection_id: str) -> str | None:
    return os.environ.get(written.variable(connection_id))


def _airflow_is_here() -> bool:
    """Return whether anything but the environment could hold a connection. If nothing could, the answer need not wait seconds for an
    import.
    """
    home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
    configured = any(name.startswith("AIRFLOW__") for name in os.environ)
    return "airflow" in sys.modules or configured or (home / "airflow.cfg").exists()


def _extra(found: Any, connection_id: str) -> dict[str, Any]:
    extra = found.extra_dejson
    if not isinstance(extra, dict):
        raise PermanentError(f"the extra of the connection {connection_id} is not a JSON object", code="connection")
    return extra
