"""The promises (`deliverBy`): which tenant is promised data by when, and the state of each promise."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from waybill.configuration.policy import Notify
from waybill.configuration.promise import Promise, PromiseState, Terms
from waybill.configuration.registration import ExportOption, starts_at
from waybill.ledger import registrations
from waybill.ledger.reports.overviews import Standing
from waybill.window import Frequency

GRACE = timedelta(hours=3)
_TERMS = ("exportOption", "frequency", "frequencies", "timezone", "deliverAt", "deliverBy")
"""The fields that make up a promise. A registration that changes one of them makes a new promise."""


def terms_of(tenant: str, body: dict[str, Any], otherwise: timedelta | None) -> Terms | None:
    """Return the times that a registration's body promises, or else the time `otherwise` after each run.

    Returns None if there is neither, or if the body cannot be read.
    """
    by = body.get("deliverBy")
    if not (by or otherwise) or body.get("exportOption") == ExportOption.DISABLE:
        return None
    try:
        zone, frequency = ZoneInfo(body.get("timezone", "UTC")), Frequency(body["frequency"])
        return Terms(zone, frequency, starts_at(tenant, body.get("deliverAt")), time.fromisoformat(by) if by else otherwise or timedelta(0))
    except (KeyError, ValueError, TypeError, OSError):
        return None


def grace_of(notify: Notify) -> timedelta:
    """Return how long after its run was due the data of a tenant without `deliverBy` may be outstanding before it counts as late.

    Pages, the feed and metrics share this. Messages need `late_after`, so that nobody is told who did not ask.
    """
    return notify.late_after or GRACE


def promise_of(
    connection: Connection, standing: Standing, warn_before: timedelta, now: datetime, late_after: timedelta | None = None
) -> Promise | None:
    """Return how far a tenant's data is promised, and by when. None if there is neither a promise nor `late_after`.

    An entity that was registered after a run started is owed with the next run.
    """
    terms = terms_of(standing.tenant, standing.body, late_after)
    if terms is None or not standing.streams:
        return None
    if not standing.body.get("deliverBy"):
        warn_before = timedelta(0)  # nobody promised anything, so nothing is at risk
    promise = _promise(terms, standing, standing.created_at, warn_before)
    # The promise may be older than the version in force, which is only looked up where that version could hide a breach.
    earliest = _promise(terms, standing, standing.behind or standing.new_since or standing.created_at, warn_before)
    if earliest.boundary >= promise.boundary or earliest.state(now) is PromiseState.KEPT:
        return promise
    return _promise(terms, standing, registrations.unchanged_since(connection, standing.tenant, _TERMS), warn_before)


def _promise(terms: Terms, standing: Standing, since: datetime, warn_before: timedelta) -> Promise:
    owed = [terms.owed(standing.behind, since)] if standing.behind is not None else []
    if standing.new_since is not None:
        owed.append(terms.owed(None, max(since, standing.new_since)))
    return terms.promise(owed, warn_before)
