"""Finds a ledger that is older than the destination (restored from a backup, or lost) before anything is published.

Such a ledger would use sequence numbers twice and send rows again. Watermarks only rise, so an unknown delivery lies under the last date
that the ledger knows of the entity, or under a later one. The folders of these dates are listed: one date on an ordinary night, and all
before the first delivery of an entity. Only documents with unknown names are read.

The ledger notes each delivery before anything of it reaches the destination (`Delivery.begun_at`). So a folder that no begun delivery
explains was made by an unknown one, and a crash is never taken for that.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from sqlalchemy import Connection

from waybill import layout
from waybill.deliveries.manifests import manifest_bytes
from waybill.deliveries.publishing.days import way_out
from waybill.destinations import Item, Profile, Session
from waybill.errors import ConflictError, PermanentError
from waybill.files.manifest import Listed, listed, named
from waybill.installation import Installation
from waybill.ledger import deliveries, streams
from waybill.ledger.delivered import restoring
from waybill.ledger.delivered.restoring import KnownPlaces
from waybill.ledger.deliveries import Delivery
from waybill.ledger.registrations import Registered
from waybill.states import DeliveryStatus, GenerationReason, Purpose
from waybill_consumer.manifest import DAY_MANIFEST
from waybill_consumer.manifest import SUFFIX as MANIFEST
from waybill_consumer.verification import DATA

NEWEST = 7
"""The number of dates to look at if the ledger knows no delivery of the tenant. One date with a manifest settles it."""

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
        renewed = {
            name
            for name, delivery in due.items()
            if streams.get(connection, delivery.stream).reason == GenerationReason.MANIFESTS_COLLECTED and delivery.sequence == 1
        }
    scan = _DestinationScan(session, registered.tenant, due, placed)
    try:
        scan.through()
    except PermanentError as error:  # without the right to list or read, deliveries go on as before (docs/guarantees.md)
        _log.warning("the destination does not let us look for unknown deliveries, so a ledger that is behind is not found: %s", error)
        return set()
    with installation.ledger.read() as connection:  # after the scan, because other workers note what they do before they do it
        if unknown := next(_unknown(connection, scan), None):
            raise ConflictError(
                f"{unknown.path} tells of a delivery that the ledger does not know: the ledger is older than the destination, or another "
                "installation delivers there",
                where=f"entity {unknown.entry.entity}, {session.label}",
                code="ledger_behind",
                next_step=way_out(registered.tenant),
            )
        unexplained = {name: left for name, places in scan.emptied.items() if (left := places - placed.touched)}
        touched = restoring.placed(connection, registered.tenant, list(due)).touched if unexplained else set()
    return {due[name].id for name, left in unexplained.items() if name not in renewed and left - touched}


def _unknown(connection: Connection, scan: _DestinationScan) -> Iterator[_Seen]:
    """Yield what tells of a delivery that the ledger does not know, or of one that it knows as open while another attempt was published."""
    known = deliveries.several(connection, [seen.entry.delivery_id for seen in scan.seen])
    for seen in scan.seen:
        delivery = known.get(seen.entry.delivery_id)
        if delivery is not None and delivery.status == DeliveryStatus.OPEN:
            recorded = deliveries.attempts(connection, delivery.id)
            is_known = any(manifest_bytes(delivery, attempt) == seen.manifest for attempt in recorded)
        else:
            is_known = delivery is not None
        if not is_known and (not scan.placed.since or _follows(scan.due.get(seen.entry.entity), seen.entry.generation)):
            yield seen


def _follows(due: Delivery | None, generation: int) -> bool:
    """Return whether a delivery needs a reader of its generation. The first of a later generation replaces what the reader has."""
    return due is not None and not (due.sequence == 1 and due.generation > generation)


@dataclass(frozen=True)
class _Seen:
    """A document that names a delivery. `manifest` are the bytes of the delivery's own manifest. A day manifest has none of that."""

    path: str
    entry: Listed
    manifest: bytes = b""


@dataclass
class _DestinationScan:
    """One scan of a tenant's newest dates. `emptied` are, by entity, places that a delivery made and that show no manifest."""

    session: Session
    tenant: str
    due: Mapping[str, Delivery]
    placed: KnownPlaces
    seen: list[_Seen] = field(default_factory=list)
    emptied: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def through(self) -> None:
        since = self.placed.since
        if not since:
            self._newest()
            return
        for day in self._dates(min(since.values())):
            items = self.session.entries(self._folder(day))
            self._day_manifests(day, items)
            for name in _folders(items):
                if name in since and since[name] <= day:
                    self.emptied[name] |= self._entity(day, name)

    def _newest(self) -> None:
        """Look at the newest dates for a ledger that knows nothing. A date that it has not begun shows that another ledger delivered."""
        for number, day in enumerate(self._dates("")):
            if number == NEWEST or self.seen:
                return
            items = self.session.entries(self._folder(day))
            self._day_manifests(day, items)
            shown = {name: self._entity(day, name) for name in _folders(items)}
            for name in self.due:
                self.emptied[name] |= shown.get(name, {self._folder(day)})

    def _folder(self, day: str) -> str:
        return layout.day_folder(self.tenant, date.fromisoformat(day))

    def _dates(self, since: str) -> Iterator[str]:
        """Yield the dates that have a folder, newest first."""
        root = layout.tenant_folder(self.tenant)
        for year in self._numbers(root, 4, since[:4]):
            for month in self._numbers(f"{root}/{year}", 2, since[5:7] if year == since[:4] else ""):
                at_since = f"{year}-{month}" == since[:7]
                for day in self._numbers(f"{root}/{year}/{month}", 2, since[8:] if at_since else ""):
                    if layout.date_of(year, month, day):
                        yield f"{year}-{month}-{day}"

    def _numbers(self, folder: str, digits: int, least: str) -> list[str]:
        names = _folders(self.session.entries(folder))
        return sorted((name for name in names if re.fullmatch(rf"[0-9]{{{digits}}}", name) and name >= least), reverse=True)

    def _day_manifests(self, day: str, items: list[Item]) -> None:
        """Note what foreign day manifests list: those that the ledger did not write."""
        for item in items:
            numbered = DAY_MANIFEST.match(item.path.rpartition("/")[2])
            if numbered and not item.is_folder and (day, int(numbered[1] or 1)) not in self.placed.days:
                self.seen += [_Seen(item.path, entry) for entry in listed(self._document(item.path))]

    def _entity(self, day: str, entity: str) -> set[str]:
        """Note the deliveries of an entity on a date that are not committed in the ledger.

        Returns the places that deliveries made. They are nothing to go by where a manifest tells more. Neither is the folder of a planned
        delivery if a file, perhaps a foreign one, has its plain name: LOOK stops there.
        """
        folder = f"{self._folder(day)}/{entity}"
        before, places = len(self.seen), {folder}
        due = self.due.get(entity)
        for item in self.session.entries(folder):
            name = item.path.rpartition("/")[2]
            stem = name.removesuffix(MANIFEST)
            if name.startswith((".", "backfill-")) or (folder, stem) in self.placed.committed:
                continue
            if item.is_folder:  # a later delivery of the same date, in parts
                self._read(f"{item.path}/{name}{MANIFEST}")
            elif name.endswith(MANIFEST):
                self._read(item.path)
            if numbered := layout.numbered_stem(name):
                places.add(f"{folder}/{numbered}")
            elif due and (due.folder, due.stem) == (folder, entity) and (stem != name or (DATA.match(name) and ".deletes." not in name)):
                places.discard(folder)
        return places if len(self.seen) == before else set()

    def _read(self, path: str) -> None:
        data = self._document(path)
        if delivery := named(data):
            self.seen.append(_Seen(path, delivery, data))

    def _document(self, path: str) -> bytes:
        """Return what a document holds. One that is too large is none of Waybill's, and keeps nobody from the others."""
        try:
            return self.session.read(path) or b""
        except PermanentError as error:
            if error.code != "too_large":
                raise
            _log.warning("%s", error)
            return b""


def _folders(items: list[Item]) -> list[str]:
    return [item.path.rpartition("/")[2] for item in items if item.is_folder]
