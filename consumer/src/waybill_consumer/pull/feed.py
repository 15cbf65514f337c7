"""The sender's feed: what is new since a number, read from one file instead of a walk through folders, and the state of the sender.

`feed.json` lists the newest deliveries and names the pages that hold the older ones. If a sender cannot replace a file, it writes pages
only, and the newest one tells its state.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Any, NamedTuple

from waybill_consumer.errors import Refused
from waybill_consumer.manifest import instant, json_object
from waybill_consumer.places import Place, entries_of, taken

FORMAT_VERSION = 1
INDEX, PAGES = "feed.json", "feed"
TIMES = ("written_at", "complete_until", "next_due", "late_after")
STATE = (*TIMES, "problem", "entities")
_PAGE = re.compile(r"^page-(\d{6,})(?:\.[0-9a-f]{32})?\.json\Z")
FEED_ID = re.compile(r"^[0-9a-f]{32}\Z")
_PATH = re.compile(r"^\d{4}/\d\d/\d\d/(?:[^./][^/\\]*/)*[^./][^/\\]*\.manifest\.json\Z")


class Listed(NamedTuple):
    """One delivery of a feed. `manifest` is the path of its manifest below the tenant's folder."""

    number: int
    entity: str
    kind: str
    generation: int
    sequence: int
    manifest: str
    redelivers: bool
    is_signed: bool = False

    @property
    def date(self) -> str:
        """The folder of its date, below the tenant's."""
        return self.manifest[:10]


class Read(NamedTuple):
    """How far a feed was read. `mark` is the manifest that its number `number` named, because a restored sender may give numbers
    out again.
    """

    feed: str = ""
    number: int = 0
    page: int = 0
    mark: str = ""


class NewDeliveries(NamedTuple):
    """What a feed lists after the number that was asked for, up to `last`. `page` is the newest page read, if there are pages only."""

    tenant: str
    feed: str
    last: int
    page: int
    mark: str
    entries: list[Listed]
    state: dict[str, Any]

    def is_late(self, now: datetime) -> bool:
        """Return whether the feed should have been written again by now. If so, it may be out of use."""
        late = self.state.get("late_after")
        return late is not None and instant(str(late)) < now


class _NotAFeed(Exception):
    """Nobody can rely on what is there, so the folders are walked instead."""


class _Restored(Exception):
    """Numbers that were read are gone or name something else, so everything counts as new."""


def news(place: Place, folder: str, before: Read) -> NewDeliveries | None:
    """Return what is new at a tenant's `folder` since `before`. Of another feed, and of one that was put back, everything is new.

    It is None if there is no feed. Raises Refused for one that nobody can read or rely on.
    """
    try:
        try:
            return _news_since(place, folder, before)
        except _Restored:
            return _news_since(place, folder, Read())
    except (_NotAFeed, KeyError, TypeError, AttributeError, ValueError, OverflowError):
        raise Refused("is damaged, or no feed that this program knows", where=f"{place.label}{folder}/{INDEX}") from None


def _news_since(place: Place, folder: str, before: Read) -> NewDeliveries | None:
    index = taken(place.reads([f"{folder}/{INDEX}"])[0])
    return _from_pages(place, folder, before) if index is None else _from_index(place, folder, _object(index), before)


def _from_index(place: Place, folder: str, body: dict[str, Any], before: Read) -> NewDeliveries:
    after = before.number if body["feed"] == before.feed else 0
    # The page with the last number read is only read again if nothing newer tells what that number names.
    newest = [item for item in body["deliveries"] if int(item["number"]) == after]
    wanted = [page for page in body["pages"] if int(page["last"]) > after or (not newest and int(page["last"]) == after)]
    listed = []
    for page, answer in zip(wanted, place.reads([f"{folder}/{page['path']}" for page in wanted]), strict=True):
        data = taken(answer)
        if data is None or hashlib.sha256(data).hexdigest() != page["sha256"]:
            raise _NotAFeed
        listed += _object(data)["deliveries"]
    return _news(body, listed + body["deliveries"], before if after else Read(), int(body["last_number"]), 0)


def _from_pages(place: Place, folder: str, before: Read) -> NewDeliveries | None:
    ids = [entry.name for entry in entries_of(place.lists([f"{folder}/{PAGES}"])[0]) if entry.is_folder and FEED_ID.match(entry.name)]
    names = place.lists([f"{folder}/{PAGES}/{feed_id}" for feed_id in ids]) if ids else []
    newest: tuple[str, str, dict[str, Any], dict[int, list[str]]] | None = None
    for feed_id, listing in zip(ids, names, strict=True):
        pages: dict[int, list[str]] = {}
        for entry in entries_of(listing):
            if found := _PAGE.match(entry.name):
                pages.setdefault(int(found[1]), []).append(f"{folder}/{PAGES}/{feed_id}/{entry.name}")
        last = _whole(place, pages[max(pages)]) if pages else None
        if last is not None and "written_at" in last and (newest is None or last["written_at"] > newest[0]):
            newest = (last["written_at"], feed_id, last, pages)
    if newest is None:
        return None
    _, found_id, last, pages = newest
    read = before if found_id == before.feed else Read()
    listed: list[Any] = []
    for at in range(read.page + 1, max(pages) + 1):
        body = last if at == last["page"] else _whole(place, pages.get(at, []))
        if body is None:
            raise _NotAFeed
        listed += body["deliveries"]
    return _news(last, listed, read._replace(mark=""), int(last["last"]), int(last["page"]))


def _whole(place: Place, paths: list[str]) -> dict[str, Any] | None:
    """Return a page under one of its names. An upload that broke off may be beside the one that did not."""
    for answer in place.reads(paths):
        try:
            return _object(taken(answer) or b"")
        except _NotAFeed:
            continue
    return None


def _object(data: bytes) -> dict[str, Any]:
    body = json_object(data)
    if body is None or body.get("format_version") != FORMAT_VERSION or not FEED_ID.match(str(body.get("feed"))):
        raise _NotAFeed
    return body


def _news(body: dict[str, Any], listed: list[Any], before: Read, last: int, page: int) -> NewDeliveries:
    """Return what follows `before` in a list. Raises _Restored if the list no longer holds what was read."""
    after = before.number
    if last < after or (before.mark and [str(item["manifest"]) for item in listed if int(item["number"]) == after] != [before.mark]):
        raise _Restored
    entries = [_listed(item) for item in listed if int(item["number"]) > after]
    if len(entries) != last - after or any(entry.number != number for number, entry in enumerate(entries, after + 1)):
        raise _NotAFeed  # a number is missing
    state = {name: body.get(name) for name in STATE}
    for name in TIMES:
        if state[name] is not None:
            instant(str(state[name]))
    return NewDeliveries(
        str(body["tenant"]), str(body["feed"]), last, page, entries[-1].manifest if entries else before.mark, entries, state
    )


def _listed(item: dict[str, Any]) -> Listed:
    manifest = str(item["manifest"])
    if not _PATH.match(manifest):
        raise _NotAFeed
    place = int(item["generation"]), int(item["sequence"])
    return Listed(
        int(item["number"]), str(item["entity"]), str(item["kind"]), *place, manifest, "redelivers" in item, bool(item.get("signed"))
    )
