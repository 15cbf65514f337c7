"""What a look at a place finds: manifests that are not held yet, by date, with the names of the date's lists."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from waybill_consumer.manifest import DAY_MANIFEST, SUMS

RECENT_DATES = 35
"""The newest dates are always looked at: late and repeated deliveries come there."""


class Arrival(NamedTuple):
    """A manifest that is not held yet."""

    folder: str
    name: str
    data: bytes


@dataclass
class Date:
    """What one date holds that is new: manifests, and the names of its lists (day manifests and checksums)."""

    folder: str
    arrivals: list[Arrival] = field(default_factory=list)
    day_manifests: list[str] = field(default_factory=list)


def lists_among(names: set[str]) -> list[str]:
    """Day manifests and checksums among these names, in order."""
    return sorted((one for one in names if DAY_MANIFEST.match(one) or SUMS.match(one)), key=_number)


def _number(name: str) -> int:
    found = DAY_MANIFEST.match(name) or SUMS.match(name)
    return int(found[1] or 1) if found else 0
