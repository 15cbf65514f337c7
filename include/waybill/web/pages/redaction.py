"""What people with a tenant's token see of failures: what happened, but nothing of the house's hosts, logins and connections."""

from __future__ import annotations

from dataclasses import replace

from waybill.deliveries.reports.causes import discreet, words_for_outsiders
from waybill.deliveries.reports.overview import Overview, Row
from waybill.language import tell
from waybill.ledger.destinations import Rehearsed


def row(row: Row) -> Row:
    """Return a tenant's row of the overview."""
    return replace(row, troubles=discreet(row.troubles))


def overview(found: Overview) -> Overview:
    return replace(found, rows=[row(shown_row) for shown_row in found.rows])


def rehearsed(kept: Rehearsed | None) -> Rehearsed | None:
    """Return what is kept of the rehearsals."""
    if kept is None or kept.failed is None:
        return kept
    return replace(
        kept, failed={**kept.failed, "what": words_for_outsiders(kept.failed["code"]), "next_step": tell("refusal.ask_operator")}
    )
