"""Airflow's connections as plain values: from the environment, the configured secrets backend, the task's supervisor or the metadata
database.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from waybill.connection import Connection
from waybill.errors import PermanentError


def lookup(connection_id: str) -> Connection:
    """The Airflow connection of that id. Raises PermanentError when there is none, or when it cannot be read."""
    found = _airflow_connection(connection_id)
    return Connection(
        id=connection_id,
        type=found.conn_type or "",
        host=found.host or "",
        port=found.port,
        login=found.login or "",
        schema=found.schema or "",
        password=found.password or "",
        extra=_extra(found, connection_id),
    )


def connect_db(connection_id: str) -> Any:
    """An open DB-API connection through Airflow's hook for that connection, or the hook itself where it only yields frames.

    Raises PermanentError when there is no such connection or its type has no database hook.
    """
    from airflow.sdk.exceptions import AirflowException

    try:
        hook = _airflow_connection(connection_id).get_hook()
    except (AirflowException, ImportError) as error:
        step = "Install the provider of its connection type"
        raise PermanentError(
            f"the connection {connection_id} has no usable hook ({type(error).__name__})", next_step=step, code="connection"
        ) from error
    return hook.get_conn() if hasattr(hook, "get_conn") else hook


def _airflow_connection(connection_id: str) -> Any:
    given = os.environ.get(f"AIRFLOW_CONN_{connection_id.upper()}")
    if given is None and not _airflow_is_here():
        raise _unusable(connection_id, False)

    from airflow.sdk import Connection as AirflowConnection
    from airflow.sdk.exceptions import AirflowException

    try:
        if given is not None:  # Airflow's own first choice, taken here without loading its backends
            return (
                AirflowConnection.from_json(given, conn_id=connection_id)
                if given.lstrip().startswith("{")
                else AirflowConnection.from_uri(given, conn_id=connection_id)
            )
        return AirflowConnection.get(connection_id)
    except (AirflowException, ValueError) as error:
        # The cause is not chained into the sentence: it may quote the connection's value.
        raise _unusable(connection_id, given is not None) from error


def _airflow_is_here() -> bool:
    """Whether anything but the environment could hold a connection. Where nothing could, an answer need not wait seconds for an import."""
    home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
    configured = any(name.startswith("AIRFLOW__") for name in os.environ)
    return "airflow" in sys.modules or configured or (home / "airflow.cfg").exists()


def _unusable(connection_id: str, given: bool) -> PermanentError:
    if given:
        return PermanentError(
            f"AIRFLOW_CONN_{connection_id.upper()} is not a connection", allowed="a URI or Airflow's JSON form", code="connection"
        )
    return PermanentError(
        f"there is no Airflow connection {connection_id!r}",
        next_step=f"Add it in Airflow (Admin > Connections), in the secrets backend, or as AIRFLOW_CONN_{connection_id.upper()}",
        code="missing_connection",
    )


def _extra(found: Any, connection_id: str) -> dict[str, Any]:
    extra = found.extra_dejson
    if not isinstance(extra, dict):
        raise PermanentError(f"the extra of the connection {connection_id} is not a JSON object", code="connection")
    return extra
