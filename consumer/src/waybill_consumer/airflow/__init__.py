"""Consumers on Airflow 3: wait for a day of deliveries in the triggerer, start a DAG with it, and pull and load in its tasks.

`DayWatcher` is the trigger of an asset watcher: a DAG that its asset schedules starts when a day is complete. `DaySensor` is a deferred
task that waits for one day. Both go by the day's manifest, which comes when every entity of the day is there. `pull` and `load` are the
commands as functions. The files are at a `source` as on the command line, or at a path behind an SFTP connection of Airflow.

`triggers` waits in the triggerer (`sensors` defers to it) for `days` that are complete, `connections` opens the source, and `work` pulls
and loads. It needs `waybill-consumer[airflow]`. What a DAG file imports is paid for at every parse, so the names below are imported when
they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from waybill_consumer.airflow.sensors import DaySensor
    from waybill_consumer.airflow.triggers import DayTrigger, DayWatcher
    from waybill_consumer.airflow.work import load, pull

__all__ = ["DaySensor", "DayTrigger", "DayWatcher", "load", "pull"]

_PLACES = {"DaySensor": "sensors", "DayTrigger": "triggers", "DayWatcher": "triggers", "load": "work", "pull": "work"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
