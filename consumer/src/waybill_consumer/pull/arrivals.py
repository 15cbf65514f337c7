"""What a look at a place finds: manifests that are not held yet, by date, with the names of the date's lists."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from waybill_consumer import signatures
from waybill_consumer.errors import Refused
from waybill_consumer.manifest import DAY_MANIFEST, SUMS
from waybill_consumer.places import Answer, Place


class Arrival(NamedTuple):
    """A manifest that is not held yet, and its signature if one was found: as far as they can be read."""

    folder: str
    name: str
    data: bytes | Refused
    signature: Answer = None

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.name}"


@dataclass
class Date:
    """The new things of one date: manifests, and the names of its lists (day manifests and checksums) and of their signatures."""

    folder: str
    arrivals: list[Arrival] = field(default_factory=list)
    day_manifests: list[str] = field(default_factory=list)
    signatures: set[str] = field(default_factory=set)

    def lists(self, names: set[str], held: set[str]) -> None:
        """Add the names in the date's folder."""
        self.day_manifests = _lists_among(names - held)
        self.signatures = {name for name in names if name.endswith(signatures.SUFFIX)}


def read_signatures(place: Place, manifests: list[str]) -> dict[str, bytes | Refused]:
    """Return the signatures beside these manifests, by the manifest's path."""
    found = place.reads([f"{path}{signatures.SUFFIX}" for path in manifests]) if manifests else []
    return {path: data for path, data in zip(manifests, found, strict=True) if data is not None}


def _lists_among(names: set[str]) -> list[str]:
    """Return day manifests and checksums among these names, in order."""
    return sorted((name for name in names if DAY_MANIFEST.match(name) or SUMS.match(name)), key=_number)


def _number(name: str) -> int:
    found = DAY_MANIFEST.match(name) or SUMS.match(name)
    return int(found[1] or 1) if found else 0
