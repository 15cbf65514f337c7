"""A DAG parameter whose default is not checked again and again."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param as AirflowParam
from airflow.sdk.definitions._internal.types import NOTSET


class Param(AirflowParam):
    """Airflow checks each default against its schema, and the schema itself, 27 times for each DAG. That is more than half of the cost of
    parsing.

    This class only checks what somebody enters, so a default must be right by itself. Airflow's serialisation knows a parameter by the name
    of its class and module, so this class carries Airflow's names.
    """

    __module__ = AirflowParam.__module__

    def resolve(self, value: Any = NOTSET, suppress_exception: bool = False) -> Any:
        return self.value if value is NOTSET else super().resolve(value, suppress_exception)
