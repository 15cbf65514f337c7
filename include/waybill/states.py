"""The words for a delivery's purpose, kind and status, and for why a generation began.

The ledger, the manifests and the JSON of shells use them.
"""

from __future__ import annotations

from enum import StrEnum


class Purpose(StrEnum):
    """Why a delivery was planned. Only the schedule moves a stream's sequence and watermark."""

    SCHEDULE = "schedule"
    BACKFILL = "backfill"
    REDELIVERY = "redelivery"


class Kind(StrEnum):
    """What the file of a delivery holds. Its manifest says so, too."""

    FULL = "full"
    DELTA = "delta"
    BACKFILL = "backfill"


class DeliveryStatus(StrEnum):
    """How far a delivery has come. A commit makes an `open` delivery `committed`. If its stream or purpose ends before, it is
    `abandoned`.
    """

    OPEN = "open"
    COMMITTED = "committed"
    ABANDONED = "abandoned"


class GenerationReason(StrEnum):
    """Why a generation began. If its source or catalog was the reason, the ledger holds a sentence instead, which nothing compares."""

    REGISTERED = "registered"
    CATALOGUED = "catalogued"
    FULL_LOAD_ASKED = "full_load_asked"
    OTHER_ROWS = "other_rows"
    MANIFESTS_COLLECTED = "manifests_collected"
    """The destination shows deliveries that the ledger does not know, and their manifests were collected."""
    COLLECTED_UNCOMMITTED = "collected_uncommitted"
    """A delivery was collected before the ledger had noted that it was complete."""
    CLOCK_WAS_AHEAD = "clock_was_ahead"
    """The last delivery ended at a time that had not come yet: the clock was ahead then, and was set back."""
    RECONCILED = "reconciled"


class NoticeState(StrEnum):
    """What became of a notice. `dropped`: its subject is over. `given_up`: no try reached its receiver."""

    OWED = "owed"
    SENT = "sent"
    DROPPED = "dropped"
    GIVEN_UP = "given_up"
