"""Finds what is new at a place without reading what is known: from the sender's feed, or else by dates forward, then old dates in turn.

If a tenant's folder has a feed, the feed names what is new, also backfills and redeliveries of old dates, and nothing is walked.

Otherwise, a folder is not read again if its stamp (the time something was last added) has not moved since. Something new in an old date,
such as a redelivery, moves the stamp of the date's folder. A backfill of an existing date moves only a folder further down, so old dates
are also looked at in turn, for as long as that is cheap.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence

from waybill_consumer import signatures
from waybill_consumer.errors import Refused
from waybill_consumer.folder.position import RECENT_DATES, SETTLE_SECONDS, Known, Position
from waybill_consumer.manifest import SUFFIX
from waybill_consumer.places import Entry, Place, entries_of
from waybill_consumer.pull.arrivals import Arrival, Date, read_signatures
from waybill_consumer.pull.feed import FEED_ID, INDEX, PAGES
from waybill_consumer.pull.feed_reader import FeedReader
from waybill_consumer.pull.listing import Listings

TURN_SECONDS = 5.0
"""How long a run looks at old dates that seem unchanged."""
_BATCH = 32
_YEAR, _MONTH_OR_DAY = re.compile(r"^\d{4}\Z"), re.compile(r"^\d\d\Z")
_VISIBLE = re.compile(r"^[^./][^/\\]*\Z")


class Finder:
    """One run's look at a place. With `signed`, a signature is looked for beside every manifest, else where one is listed.

    `is_short` tells whether what was found so far leaves a gap. If it does, a feed is not all that is looked at.
    """

    def __init__(
        self,
        place: Place,
        position: Position,
        *,
        rescan: bool,
        signed: bool = False,
        only: Sequence[str] = (),
        is_short: Callable[[], bool] = lambda: False,
    ) -> None:
        self._place = place
        self._position = position
        self._rescan = rescan
        if rescan:  # a feed that the sender gave up is missed no longer
            position.lost_feeds = {}
        self._signed = signed
        self._only = only
        self._is_short = is_short
        self._started = time.time()
        self._is_later = self._started - position.looked_at >= SETTLE_SECONDS
        self._newest = 0.0
        """A past time by the place's own clock. What comes now gets a later stamp."""
        self._seen: dict[str, set[str]] = {}
        self._stable: dict[str, bool] = {}
        self._readers: list[FeedReader] = []
        self.listings = Listings(place)
        self.notes: list[str] = []
        self.has_dates = False
        self.entities: set[str] = set()
        """Folders of entities that were seen, also of those that nobody asked for."""

    def dates(self) -> Iterator[Date]:
        """Yield every date with something to look at, oldest first. Old dates in turn come last."""
        walked = []
        for tenant in tenant_folders(self._place):
            reader = FeedReader(self._place, self.listings, self._position, tenant, signed=self._signed, only=self._only)
            if not self._rescan and self._has_feed(reader):
                self._readers.append(reader)
                self.has_dates = True
                yield from reader.dates()
            if self._rescan or self._is_short() or reader.needs_a_walk:
                walked.append(tenant)
                reader.walked()
        known = [entry for tenant in walked for entry in self._dates_of(tenant)]
        self.has_dates |= bool(known)
        self._newest = max((stamp for _, stamp in known if stamp is not None), default=0.0)
        newest = set(sorted({path[-10:] for path, _ in known})[-RECENT_DATES:])
        due = [folder for folder in known if self._rescan or folder[0][-10:] in newest or not self._is_unchanged(*folder)]
        yield from self._in_batches(sorted(due, key=lambda folder: folder[0][-10:]))
        yield from self._by_turns([folder for folder in known if folder not in due])

    def taken_away(self) -> Iterator[tuple[str, Refused]]:
        """Return what feeds list and nobody can fetch any more, by entity."""
        for reader in self._readers:
            yield from reader.taken_away()

    def _has_feed(self, reader: FeedReader) -> bool:
        try:
            return reader.look()
        except Refused as error:
            self.notes.append(f"{error.where} {error.what}: the folders were looked through instead")
            return False

    def settle(self) -> None:
        """After the run: what was looked at twice without a change, and is held whole, need not be looked at again."""
        folders = self._position.folders
        incomplete = {path for path, names in self._seen.items() if not names <= folders[path].held} | {*self.listings.refused}
        above = {path[:cut] for path in incomplete for cut in range(len(path)) if path[cut] == "/"}
        for path, stable in self._stable.items():
            folders[path].is_settled = stable and path not in incomplete and path not in above
        self._position.looked_at = self._started
        for reader in self._readers:
            reader.settle()

    def _dates_of(self, tenant: str) -> list[tuple[str, float | None]]:
        years = [f"{tenant}/{entry.name}" for entry in self._folders(tenant) if _YEAR.match(entry.name)]
        months = self._below(years)
        return self._below([path for path, _ in months])

    def _below(self, folders: list[str]) -> list[tuple[str, float | None]]:
        listed = self.listings.lists(folders, were_listed=True)
        return [
            (f"{path}/{entry.name}", entry.stamp)
            for path, entries in zip(folders, listed, strict=True)
            for entry in entries or ()
            if entry.is_folder and _MONTH_OR_DAY.match(entry.name)
        ]

    def _folders(self, folder: str) -> list[Entry]:
        return [entry for entry in entries_of(self._place.lists([folder or "/"])[0]) if entry.is_folder and _VISIBLE.match(entry.name)]

    def _is_unchanged(self, path: str, stamp: float | None) -> bool:
        known = self._position.folders.get(path)
        return known is not None and known.is_settled and stamp is not None and stamp == known.stamp

    def _by_turns(self, rest: list[tuple[str, float | None]]) -> Iterator[Date]:
        rest.sort(key=lambda folder: (folder[0][-10:] <= self._position.turn, folder[0][-10:]))
        until = time.monotonic() + TURN_SECONDS
        for start in range(0, len(rest), _BATCH):
            if time.monotonic() > until:
                return
            batch = rest[start : start + _BATCH]
            yield from self._in_batches(batch)
            self._position.turn = batch[-1][0][-10:]

    def _in_batches(self, dates: list[tuple[str, float | None]]) -> Iterator[Date]:
        for start in range(0, len(dates), _BATCH):
            yield from self._batch(dates[start : start + _BATCH])

    def _batch(self, dates: list[tuple[str, float | None]]) -> Iterator[Date]:
        """Look at a few dates at once: their folders, the folders in those, and the manifests that nobody has, in four rounds of
        requests.
        """
        found = {path: Date(path) for path, _ in dates}
        level: list[tuple[str, str, float | None]] = [(path, path, stamp) for path, stamp in dates]
        wanted: list[tuple[str, str, str]] = []
        signed: list[str] = []
        for depth in range(3):
            deeper = []
            listed = self.listings.lists([folder for _, folder, _ in level], were_listed=True)
            for (date, folder, stamp), entries in zip(level, listed, strict=True):
                if entries is None:
                    continue
                inner = [
                    (date, f"{folder}/{entry.name}", entry.stamp) for entry in entries if entry.is_folder and _VISIBLE.match(entry.name)
                ]
                if depth == 0:
                    self.entities |= {path.rpartition("/")[2] for _, path, _ in inner}
                    inner = [level for level in inner if not self._only or level[1].rpartition("/")[2] in self._only]
                names = {entry.name for entry in entries if not entry.is_folder and _VISIBLE.match(entry.name)}
                known = self._look(folder, stamp, {name for name in names if name.endswith(SUFFIX)}, has_folders=bool(inner))
                if depth == 0:
                    found[date].lists(names, known.held)
                new = sorted(self._seen[folder] - known.held)
                wanted += [(date, folder, name) for name in new]
                # What comes while a folder is listed may be missing from the list, so whoever asks for signatures looks again.
                signed += [f"{folder}/{name}" for name in new if self._signed or f"{name}{signatures.SUFFIX}" in names]
                deeper += inner if depth < 2 else []
            level = [deep for deep in deeper if self._rescan or not self._is_flat_and_unchanged(deep[1], deep[2])]
        kept = read_signatures(self._place, signed)
        for (date, folder, name), data in zip(wanted, self._place.reads([f"{folder}/{name}" for _, folder, name in wanted]), strict=True):
            if data is not None:
                found[date].arrivals.append(Arrival(folder, name, data, kept.get(f"{folder}/{name}")))
        yield from found.values()

    def _look(self, folder: str, stamp: float | None, manifests: set[str], *, has_folders: bool) -> Known:
        known = self._position.known(folder)
        is_old = stamp is not None and stamp <= self._newest - SETTLE_SECONDS
        self._stable[folder] = is_old or (self._is_later and stamp is not None and known.stamp == stamp)
        known.stamp, known.has_folders = stamp, has_folders
        self._seen[folder] = manifests
        return known

    def _is_flat_and_unchanged(self, path: str, stamp: float | None) -> bool:
        """A backfill's redelivery comes into a folder inside the entity's, which does not move the entity's stamp."""
        known = self._position.folders.get(path)
        return self._is_unchanged(path, stamp) and known is not None and not known.has_folders


def tenant_folders(place: Place) -> list[str]:
    """Return the folders of tenants: the place's root, or some below it, with or without `exports` between."""
    at = ""
    while True:
        entries = entries_of(place.lists([at or "/"])[0])
        names = [entry.name for entry in entries if entry.is_folder and _VISIBLE.match(entry.name)]
        if _is_a_tenants(place, at, entries):
            return [at]
        if names == ["exports"] or (at == "" and "exports" in names):
            at = f"{at}/exports"
            continue
        below = [f"{at}/{name}" for name in names]
        return [path for path, inner in zip(below, place.lists(below), strict=True) if _is_a_tenants(place, path, entries_of(inner))]


def _is_a_tenants(place: Place, folder: str, entries: Sequence[Entry]) -> bool:
    """Return whether a folder holds years or a feed, which may be all that is left of deliveries that were taken away."""
    kinds = {entry.name: entry.is_folder for entry in entries}
    if any(is_folder and _YEAR.match(name) for name, is_folder in kinds.items()) or kinds.get(INDEX) is False:
        return True
    # A tenant may be called feed, and its folder then stands where the pages would.
    lists = entries_of(place.lists([f"{folder}/{PAGES}"])[0]) if kinds.get(PAGES) else []
    return any(entry.is_folder and FEED_ID.match(entry.name) for entry in lists)
