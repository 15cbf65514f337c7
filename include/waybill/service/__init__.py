"""The use-cases: what every shell (Airflow, CLI, web) calls, one function each."""

from __future__ import annotations

from waybill.service.applying import Applied, Change, apply, record
from waybill.service.backfilling import backfill
from waybill.service.estate import Estate
from waybill.service.following import cancel, delete, describe_request, files_of, get_request, list_requests
from waybill.service.fulfilling import fulfil, fulfil_all
from waybill.service.linking import mint_link, open_download
from waybill.service.mailing import send_mails
from waybill.service.notifying import tell_failed, tell_late
from waybill.service.planning import plan, undelivered
from waybill.service.probing import probe
from waybill.service.reconciling import Reconciled, reconcile
from waybill.service.redelivering import redeliver, unfinished_repairs
from waybill.service.requesting import create, resubmit
from waybill.service.requests_upkeep import keep_requests
from waybill.service.running import Result, ask_full_load, close_day, deliver, finish, run
from waybill.service.tidying import Housekeeping, housekeeping
from waybill.service.verifying import verify
from waybill.service.viewing import describe, listed

__all__ = [
    "Applied",
    "Change",
    "Estate",
    "Housekeeping",
    "Reconciled",
    "Result",
    "apply",
    "ask_full_load",
    "backfill",
    "cancel",
    "close_day",
    "create",
    "delete",
    "deliver",
    "describe",
    "describe_request",
    "files_of",
    "finish",
    "fulfil",
    "fulfil_all",
    "get_request",
    "housekeeping",
    "keep_requests",
    "list_requests",
    "listed",
    "mint_link",
    "open_download",
    "plan",
    "probe",
    "reconcile",
    "record",
    "redeliver",
    "resubmit",
    "run",
    "send_mails",
    "tell_failed",
    "tell_late",
    "undelivered",
    "unfinished_repairs",
    "verify",
]
