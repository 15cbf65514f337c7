"""Finds a ledger that is older than the destination (restored from a backup, or lost) before anything is published.

Such a ledger would use sequence numbers twice and send rows again. Watermarks only rise, so an unknown delivery lies under the last date
that the ledger knows of the entity, or under a later one. The folders of these dates are listed: one date on an ordinary night. Only
documents with unknown names are read.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from waybill import layout
from waybill.deliveries.generations import MANIFESTS_COLLECTED
from waybill.destinations import Item, Profile, Session
from waybill.errors import ConflictError, PermanentError
from waybill.files.manifest import Listed, listed, named
from waybill.installation import Installation
from waybill.ledger import deliveries, streams
from waybill.ledger.delivered import restoring
from waybill.ledger.delivered.restoring import KnownPlaces
from waybill.ledger.deliveries import Delivery
from waybill.ledger.registrations import Registered
from waybill.states import DeliveryStatus, Purpose
from waybill_consumer.manifest import SUFFIX as MANIFEST

NEWEST = 7
"""The number of dates to look at if the ledger knows no delivery of the tenant. One date with a manifest settles it."""

_DAY = re.compile(r"_MANIFEST(?:\.(\d+))?\.json\Z")
_log = logging.getLogger(__name__)


def refuse_unknown(installation: Installation, registered: Registered, session: Session, planned: Sequence[Delivery]) -> set[str]:
    """Raise ConflictError if the destination holds a delivery of a planned entity that the ledger does not know.

    Returns the ids of planned deliveries with unknown folders that a consumer has emptied. Nothing is left there to reconcile with, so
    their streams must begin a generation that no consumer has seen.
    """
    due = {
        delivery.entity: delivery for delivery in planned if delivery.purpose == Purpose.SCHEDULE and delivery.status == DeliveryStatus.OPEN
    }
    if not due or session.profile is Profile.DROPBOX:
        return set()
    with installation.ledger.read() as connection:
        placed = restoring.placed(connection, registered.tenant, list(due))
        begun = {
            name
            for name, delivery in due.items()
            if streams.get(connection, delivery.stream).reason == MANIFESTS_COLLECTED and delivery.sequence == 1
        }
    scan = _DestinationScan(session, registered.tenant, due, placed)
    try:
        scan.through()
    except PermanentError as error:  # without the right to list, deliveries go on as before (docs/guarantees.md)
        _log.warning("the destination shows no folders, so a ledger that is behind is not found: %s", error)
        return set()
    with installation.ledger.read() as connection:
        known = deliveries.several(connection, [entry.delivery_id for _, entry in scan.seen])
    for path, entry in scan.seen:
        if entry.delivery_id not in known and (not placed.since or _follows(due.get(entry.entity), entry.generation)):
            raise ConflictError(
                f"{path} tells of a delivery that the ledger does not know: the ledger is older than the destination",
                where=f"entity {entry.entity}, {session.label}",
                code="ledger_behind",
                next_step=f"Run: waybill reconcile {registered.tenant}",
            )
    return {due[name].id for name in scan.emptied - begun}


def _follows(due: Delivery | None, generation: int) -> bool:
    """Return whether a delivery needs a reader of its generation. The first of a later generation replaces what the reader has."""
    return due is not None and not (due.sequence == 1 and due.generation > generation)


@dataclass
class _DestinationScan:
    """One scan of a tenant's newest dates. `seen` are paths and their meaning, `emptied` are entities with an emptied date."""

    session: Session
    tenant: str
    due: Mapping[str, Delivery]
    placed: KnownPlaces
    seen: list[tuple[str, Listed]] = field(default_factory=list)
    emptied: set[str] = field(default_factory=set)

    def through(self) -> None:
        since = self.placed.since
        if not since:
            self._newest()
            return
        for day in self._dates(min(since.values())):
            items = self.session.entries(self._folder(day))
            self._day_manifests(day, items)
            for name in _folders(items):
                if name in since and since[name] <= day and not self._manifests(day, name) and day <= self.due[name].export_date:
                    self.emptied.add(name)

    def _newest(self) -> None:
        """Look at the newest dates for a ledger that knows nothing. A date that it has not planned shows that another ledger delivered."""
        for number, day in enumerate(self._dates("")):
            if number == NEWEST or self.seen:
                return
            items = self.session.entries(self._folder(day))
            self._day_manifests(day, items)
            for name in _folders(items):
                self._manifests(day, name)
            if not any(known == day for known, _ in self.placed.planned):
                self.emptied |= set(self.due)

    def _folder(self, day: str) -> str:
        return layout.day_folder(self.tenant, date.fromisoformat(day))

    def _dates(self, since: str) -> Iterator[str]:
        """Yield the dates that have a folder, newest first."""
        root = layout.tenant_folder(self.tenant)
        for year in self._numbers(root, 4, since[:4]):
            for month in self._numbers(f"{root}/{year}", 2, since[5:7] if year == since[:4] else ""):
                at_since = f"{year}-{month}" == since[:7]
                for day in self._numbers(f"{root}/{year}/{month}", 2, since[8:] if at_since else ""):
                    yield f"{year}-{month}-{day}"

    def _numbers(self, folder: str, digits: int, least: str) -> list[str]:
        names = _folders(self.session.entries(folder))
        return sorted((name for name in names if re.fullmatch(rf"\d{{{digits}}}", name) and name >= least), reverse=True)

    def _day_manifests(self, day: str, items: list[Item]) -> None:
        """Note what foreign day manifests list: those that the ledger did not write."""
        for item in items:
            numbered = _DAY.fullmatch(item.path.rpartition("/")[2])
            if numbered and not item.is_folder and (day, int(numbered[1] or 1)) not in self.placed.days:
                self.seen += [(item.path, entry) for entry in listed(self.session.read(item.path) or b"")]

    def _manifests(self, day: str, entity: str) -> bool:
        """Note the deliveries of an entity on a date that are not committed in the ledger. Returns whether the date shows or knows any."""
        folder = f"{self._folder(day)}/{entity}"
        before, known = len(self.seen), (day, entity) in self.placed.planned
        for item in self.session.entries(folder):
            name = item.path.rpartition("/")[2]
            stem = name.removesuffix(MANIFEST)
            if name.startswith((".", "backfill-")) or (folder, stem) in self.placed.committed:
                continue
            if item.is_folder:  # a later delivery of the same date, in parts
                self._read(f"{item.path}/{name}{MANIFEST}")
            elif name.endswith(MANIFEST):
                self._read(item.path)
        return known or len(self.seen) > before

    def _read(self, path: str) -> None:
        if delivery := named(self.session.read(path) or b""):
            self.seen.append((path, delivery))


def _folders(items: list[Item]) -> list[str]:
    return [item.path.rpartition("/")[2] for item in items if item.is_folder]
