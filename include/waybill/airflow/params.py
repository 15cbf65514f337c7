"""Parameters of a DAG whose defaults are not checked over and over again."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param as AirflowParam
from airflow.sdk.definitions._internal.types import NOTSET


class Param(AirflowParam):
    """Airflow checks each default against its schema, and the schema itself, 27 times for each DAG: more than half of what parsing costs.

    Here only what somebody gives is checked. A default must be right by itself. Airflow's serialisation knows parameters by the name of
    their class and module alone, so this one bears Airflow's.
    """

    __module__ = AirflowParam.__module__

    def resolve(self, value: Any = NOTSET, suppress_exception: bool = False) -> Any:
        return self.value if value is NOTSET else super().resolve(value, suppress_exception)
