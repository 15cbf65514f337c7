"""Splits tenants whose entities have frequencies of their own.

Reports look at each frequency alone, and tell people about the tenant as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from waybill.configuration.catalog import Catalog
from waybill.ledger import registrations, streams
from waybill.ledger.registrations import Registered
from waybill.ledger.reports.overviews import Standing
from waybill.ledger.streams import StreamProgress


def by_frequency(connection: Connection, catalog: Catalog, standings: Sequence[Standing]) -> list[Standing]:
    """Return the standings, but that of a tenant with several frequencies once for each frequency of an active entity.

    The body of such a standing names that frequency alone.
    """
    mixed = {standing.tenant for standing in standings if standing.body.get("frequencies") and standing.streams}
    if not mixed:
        return list(standings)
    reached = streams.reached_by_all(connection, mixed)
    good = {registration.tenant: registration for registration in registrations.readable(registrations.all_current(connection, mixed))}
    found: list[Standing] = []
    for standing in standings:
        registered = good.get(standing.tenant)
        found += _parts(standing, registered, reached.get(standing.tenant, ()), catalog) if registered else [standing]
    return found


def _parts(standing: Standing, registered: Registered, active: Sequence[StreamProgress], catalog: Catalog) -> list[Standing]:
    registration = registered.registration
    parts = []
    for frequency in registration.rhythm:
        mine = [each for each in active if registration.frequency_of(each.entity, catalog) is frequency]
        new = [each.activated_at for each in mine if each.watermark is None]
        parts.append(
            replace(
                standing,
                body={**standing.body, "frequency": frequency.value},
                streams=len(mine),
                new=len(new),
                behind=min((each.watermark for each in mine if each.watermark), default=None),
                new_since=min(new, default=None),
                entities=frozenset(each.entity for each in mine),
            )
        )
    return [part for part in parts if part.streams] or [standing]
