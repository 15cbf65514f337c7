"""The use-cases: what every shell (Airflow, CLI, web) calls, one function each."""

from __future__ import annotations

from waybill.service.applying import Applied, Change, apply, record
from waybill.service.estate import Estate
from waybill.service.planning import plan
from waybill.service.probing import probe
from waybill.service.running import Result, ask_full_load, close_day, deliver, finish, run
from waybill.service.tidying import Housekeeping, housekeeping
from waybill.service.verifying import verify
from waybill.service.viewing import describe, listed

__all__ = [
    "Applied",
    "Change",
    "Estate",
    "Housekeeping",
    "Result",
    "apply",
    "ask_full_load",
    "close_day",
    "deliver",
    "describe",
    "finish",
    "housekeeping",
    "listed",
    "plan",
    "probe",
    "record",
    "run",
    "verify",
]
