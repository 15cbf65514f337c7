"""Airflow's connections as plain values.

`lookup` finds a connection, `written` understands the ones that people write into `AIRFLOW_CONN_<ID>`.
"""

__all__ = ["lookup"]
