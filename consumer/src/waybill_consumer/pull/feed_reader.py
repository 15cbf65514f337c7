"""What a tenant's feed names and the folder does not hold: what is new, and what could not be fetched before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from waybill_consumer.errors import Refused
from waybill_consumer.folder.position import RECENT_DATES, Position
from waybill_consumer.manifest import instant_text, now_text
from waybill_consumer.places import Place
from waybill_consumer.pull.arrivals import Arrival, Date, read_signatures
from waybill_consumer.pull.feed import Listed, NewDeliveries, Read, news
from waybill_consumer.pull.listing import Listings

WALK_EVERY = timedelta(days=1)
"""How often the folders are walked beside a feed. A feed is a convenience, and the folders are what was delivered."""
_BATCH = 32


class FeedReader:
    """One run's reading of one tenant's feed."""

    def __init__(self, place: Place, listings: Listings, position: Position, tenant: str, *, signed: bool, only: Sequence[str]) -> None:
        self._place = place
        self._listings = listings
        self._position = position
        self._tenant = tenant
        self._signed = signed
        self._only = only
        self._known: dict[str, Any] = position.feeds.get(tenant, {})
        self._news: NewDeliveries | None = None
        self._missing: set[str] = set()
        self._dates: dict[str, Date] = {}

    def look(self) -> bool:
        """Return whether there is a feed to go by. Raises Refused for one that nobody can read or rely on: the folders have to be walked
        then.
        """
        known = self._known
        try:
            self._news = news(self._place, self._tenant, Read(**{field: known[field] for field in Read._fields if field in known}))
        finally:
            if self._news is not None:
                self._position.lost_feeds.pop(self._tenant, None)
            elif self._position.feeds.pop(self._tenant, None):
                self._position.lost_feeds.setdefault(self._tenant, now_text())
        return self._news is not None

    @property
    def needs_a_walk(self) -> bool:
        """Return whether the folders have to be walked, too, because the feed may be out of use or incomplete."""
        now = datetime.now(timezone.utc)
        if self._news is None or self._news.is_late(now) or any(self._is_lost(listed) for listed in self._entries()):
            return True
        return str(self._known.get("walked") or now_text()) < instant_text(now - WALK_EVERY)

    def walked(self) -> None:
        self._known = {**self._known, "walked": now_text()}

    def taken_away(self) -> Iterator[tuple[str, Refused]]:
        """Return what the feed lists, the folder does not hold, and the place no longer has, by entity."""
        lost: dict[str, list[Listed]] = {}
        for listed in self._entries():
            if self._is_lost(listed):
                lost.setdefault(listed.entity, []).append(listed)
        for entity, entries in sorted(lost.items()):
            chained = sorted((listed.generation, listed.sequence) for listed in entries if listed.kind != "backfill")
            name = f"{self._news.tenant if self._news else ''}/{entity}"
            what = f"a backfill of {name} ({entries[0].manifest})"
            if chained:
                generation, last = chained[-1]
                first = next(sequence for place, sequence in chained if place == generation)
                what = f"sequence {first}{f' to {last}' if last > first else ''} of {name} generation {generation}"
            sentence = f"{self._place.label} no longer holds {what}, which the feed lists: it was taken away before it was pulled"
            step = "Ask the sender for a full load, which starts a new generation" + ("" if chained else ", or for that backfill again")
            yield name, Refused(sentence, next_step=step)

    def dates(self) -> Iterator[Date]:
        """Return every date with something to look at, oldest first."""
        wanted = [listed for listed in self._entries() if not self._is_held(listed)]
        folders = {f"{self._tenant}/{listed.date}" for listed in wanted} | set(self._waiting_dates())
        ordered = sorted(folders, key=lambda path: path[-10:])
        for start in range(0, len(ordered), _BATCH):
            yield from self._batch(ordered[start : start + _BATCH], wanted)

    def settle(self) -> None:
        """Remember how far the feed was read, and what of it to look at again."""
        if self._news is None:
            return
        waiting = [listed for listed in self._entries() if not self._is_held(listed) and not self._is_past(listed)]
        self._position.feeds[self._tenant] = {
            "tenant": self._news.tenant,
            "feed": self._news.feed,
            "number": self._news.last,
            "page": self._news.page,
            "mark": self._news.mark,
            "walked": self._known.get("walked") or now_text(),
            "waiting": [list(listed) for listed in waiting],
            "dates": [path for path, date in self._dates.items() if not self._is_listed(path, date)][-RECENT_DATES:],
            "state": self._news.state,
        }

    def _entries(self) -> list[Listed]:
        """Yield what was read before and is not held, then the new ones."""
        if self._news is None:
            return []
        before = self._known.get("waiting", ()) if self._known.get("feed") == self._news.feed else ()
        found = [Listed(*fields) for fields in before] + self._news.entries
        return [listed for listed in found if not self._only or listed.entity in self._only]

    def _waiting_dates(self) -> list[str]:
        return [str(date) for date in self._known.get("dates", ())]

    def _is_held(self, listed: Listed) -> bool:
        folder, name = self._place_of(listed)
        known = self._position.folders.get(folder)
        return known is not None and name in known.held

    def _place_of(self, listed: Listed) -> tuple[str, str]:
        folder, _, name = f"{self._tenant}/{listed.manifest}".rpartition("/")
        return folder, name

    def _is_lost(self, listed: Listed) -> bool:
        """Return whether a delivery was removed, and the copy lacks its rows."""
        if listed.manifest not in self._missing or self._news is None or listed.redelivers or self._is_held(listed):
            return False
        last = self._position.last(self._news.tenant, listed.entity)
        if listed.kind == "backfill":
            # Its redelivery comes into the same folder.
            is_held = self._position.is_repeated(*self._place_of(listed))
            return last is not None and listed.generation == last[0] and not is_held
        return last is None or (listed.generation, listed.sequence) > last

    def _is_past(self, listed: Listed) -> bool:
        """Return whether a delivery was removed and nothing waits for it."""
        if listed.manifest not in self._missing or self._news is None:
            return False
        last = self._position.last(self._news.tenant, listed.entity)
        return listed.redelivers or listed.kind == "backfill" or (last is not None and (listed.generation, listed.sequence) <= last)

    def _batch(self, folders: list[str], wanted: list[Listed]) -> Iterator[Date]:
        mine = [listed for listed in wanted if f"{self._tenant}/{listed.date}" in folders]
        found = {path: Date(path) for path in folders}
        for path, entries in zip(folders, self._listings.lists(folders), strict=True):
            names = {entry.name for entry in entries or () if not entry.is_folder}
            found[path].lists(names, self._position.known(path).held)
        kept = read_signatures(self._place, [f"{self._tenant}/{listed.manifest}" for listed in mine if self._signed or listed.is_signed])
        for listed, data in zip(mine, self._place.reads([f"{self._tenant}/{listed.manifest}" for listed in mine]), strict=True):
            if data is None:
                self._missing.add(listed.manifest)
            else:
                found[f"{self._tenant}/{listed.date}"].arrivals.append(
                    Arrival(*self._place_of(listed), data, kept.get(f"{self._tenant}/{listed.manifest}"))
                )
        chained = {f"{self._tenant}/{listed.date}" for listed in mine if listed.kind != "backfill"} | set(self._waiting_dates())
        self._dates |= {path: date for path, date in found.items() if path in chained}
        yield from found.values()

    def _is_listed(self, path: str, date: Date) -> bool:
        """Return whether a list of the date came with this run. Until then, the date is looked at again."""
        return bool(date.day_manifests) and set(date.day_manifests) <= self._position.known(path).held
