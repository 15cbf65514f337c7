"""What a delivery is for, what it carries and how far it has come: the words that the ledger, the manifests and the JSON of shells use."""

from __future__ import annotations

from enum import StrEnum


class Purpose(StrEnum):
    """Why a delivery was planned. Only the schedule moves a stream's sequence and watermark."""

    SCHEDULE = "schedule"
    BACKFILL = "backfill"
    REDELIVERY = "redelivery"


class Kind(StrEnum):
    """What the file of a delivery holds, as its manifest says."""

    FULL = "full"
    DELTA = "delta"
    BACKFILL = "backfill"


class DeliveryStatus(StrEnum):
    """How far a delivery has come: `open` -commit-> `committed`; an open one whose stream or purpose has ended is `abandoned`."""

    OPEN = "open"
    COMMITTED = "committed"
    ABANDONED = "abandoned"


class NoticeState(StrEnum):
    """What became of a notice. `dropped`: what it was about is over; `given_up`: no try reached its receiver."""

    OWED = "owed"
    SENT = "sent"
    DROPPED = "dropped"
    GIVEN_UP = "given_up"
