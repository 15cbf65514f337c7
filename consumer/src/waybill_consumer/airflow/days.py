"""Finds the days that are complete at a place: those with a day manifest, the newest first."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from waybill_consumer.errors import Refused, Unreachable
from waybill_consumer.manifest import DAY_MANIFEST
from waybill_consumer.places import Place, entries_of, taken
from waybill_consumer.pull.finding import tenant_folders
from waybill_consumer.verification import day_manifest

log = logging.getLogger(__name__)
RECENT = 3
"""The number of the newest dates to look at. A later list of a date, as after a redelivery, counts there."""
_DATE = re.compile(r"^\d{4}-\d{2}-\d{2}\Z")
_PARTS = re.compile(r"^\d{4}\Z"), re.compile(r"^\d{2}\Z"), re.compile(r"^\d{2}\Z")


class Day(NamedTuple):
    """A complete day, by its newest list. `manifest` is the path of that list, below the source."""

    tenant: str
    date: str
    number: int
    manifest: str
    entities: tuple[str, ...]
    rows: int
    bytes: int

    def as_json(self) -> dict[str, Any]:
        return {**self._asdict(), "entities": list(self.entities)}


def on(place: Place, date: str, tenant: str = "") -> Day | None:
    """Return one day, or None while it is not complete. Raises Refused for what is no date, and if it is not clear whose day is meant."""
    if not _DATE.match(date):
        raise Refused(f"{date!r} is no date", next_step="Write it as in 2026-06-01")
    found = [day for folder in tenant_folders(place) if (day := _in(place, f"{folder}/{date.replace('-', '/')}"))]
    found = [day for day in found if tenant in ("", day.tenant)]
    if len({day.tenant for day in found}) > 1:
        listed = ", ".join(sorted(day.tenant for day in found))
        raise Refused(f"holds the days of several tenants: {listed}", where=place.label, next_step="Name one with tenant")
    return found[0] if found else None


def newest(place: Place, tenant: str = "", since: Mapping[str, str] | None = None) -> list[Day]:
    """Return the newest complete days of each tenant, oldest first. For a tenant in `since`, return all from that date on, too."""
    found = [day for folder in tenant_folders(place) for day in _newest_below(place, folder, since or {})]
    return sorted((day for day in found if tenant in ("", day.tenant)), key=lambda day: (day.date, day.tenant))


def _newest_below(place: Place, folder: str, since: Mapping[str, str]) -> Iterator[Day]:
    left, first = RECENT, ""
    for date in _dates(place, folder):
        if left <= 0 and (not first or date[-10:].replace("/", "-") < first):
            return
        with _others_go_on():
            if day := _in(place, date):
                yield day
                left, first = left - 1, since.get(day.tenant, "")


def _dates(place: Place, folder: str, depth: int = 0) -> Iterator[str]:
    """Yield folders of dates, the newest first. No older month is listed while a newer one has enough."""
    if depth == len(_PARTS):
        yield folder
        return
    names: list[str] = []
    with _others_go_on():
        listed = entries_of(place.lists([folder or "/"])[0])
        names = [entry.name for entry in listed if entry.is_folder and _PARTS[depth].match(entry.name)]
    for name in sorted(names, reverse=True):
        yield from _dates(place, f"{folder}/{name}", depth + 1)


@contextmanager
def _others_go_on() -> Iterator[None]:
    """Log that a folder or a list cannot be read, and go on with the days beside it. It is looked at again while it is among the newest."""
    try:
        yield
    except Unreachable:
        raise
    except Refused as error:
        log.warning("%s", error)


def _in(place: Place, folder: str) -> Day | None:
    listed = entries_of(place.lists([folder])[0])
    numbers = {entry.name: int(found[1] or 1) for entry in listed if (found := DAY_MANIFEST.match(entry.name))}
    if not numbers:
        return None
    name = max(numbers, key=lambda number: numbers[number])
    data = taken(place.reads([f"{folder}/{name}"])[0])
    if data is None:
        return None
    try:
        document = day_manifest(data)
    except Refused as error:
        raise Refused(error.what, where=f"{place.label}{folder}/{name}", next_step="Ask the sender") from None
    entities = tuple(sorted({str(delivery["entity"]) for delivery in document["deliveries"]}))
    return Day(document["tenant"], document["date"], document["number"], f"{folder}/{name}", entities, document["rows"], document["bytes"])
