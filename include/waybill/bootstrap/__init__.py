"""All that touches Airflow: connections become plain values here, and error classes become retry rules. Adapters are imported inside
functions.
"""

from __future__ import annotations

from datetime import UTC, datetime

from waybill.bootstrap.connections import connect_db, lookup
from waybill.config import Settings
from waybill.ledger import Ledger
from waybill.service import Estate

__all__ = ["connect_db", "estate", "lookup", "utc_now"]


def utc_now() -> datetime:
    return datetime.now(UTC)


def estate(settings: Settings | None = None) -> Estate:
    """The installation the environment describes, its ledger ready for use. Raises PermanentError when a shared ledger needs an upgrade
    first.
    """
    settings = settings or Settings.from_environment()
    ledger = Ledger(settings.ledger_url)
    ledger.ready()
    return Estate(settings, ledger, lookup, utc_now, connect_db)
