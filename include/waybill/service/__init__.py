"""The use-cases: what every shell (Airflow, CLI, web) calls, one function each."""

from __future__ import annotations

from waybill.service.applying import Applied, Change, apply, record
from waybill.service.estate import Estate
from waybill.service.planning import plan
from waybill.service.running import Result, ask_full_load, close_day, deliver, finish, run
from waybill.service.viewing import describe, listed

__all__ = [
    "Applied",
    "Change",
    "Estate",
    "Result",
    "apply",
    "ask_full_load",
    "close_day",
    "deliver",
    "describe",
    "finish",
    "listed",
    "plan",
    "record",
    "run",
]
