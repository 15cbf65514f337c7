"""Writes what explains a tenant's files at their destination: `feed.json` with its pages, and `_README.txt`, if they are wanted.

A delivery gets its number after its commit, so a feed never names a file that is not there. The ledger freezes each page before it is
published, and the index follows: a run that is killed leaves the index as it was, and the next run goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from waybill import layout
from waybill.canonical import optional_timestamp_text
from waybill.configuration.registration import Landing
from waybill.deliveries.manifests import manifest_sha256, target_of_attempt
from waybill.deliveries.publishing.renaming import publish_document
from waybill.deliveries.reports import overview
from waybill.deliveries.reports.causes import words_for_outsiders
from waybill.deliveries.reports.overview import Row, State
from waybill.deliveries.reports.promises import grace_of
from waybill.destinations import Profile, Session
from waybill.errors import ConflictError, PermanentError, TransientError, WaybillError
from waybill.files import feed as files
from waybill.installation import Installation
from waybill.language import tell
from waybill.ledger import deliveries, feeds, registrations, signatures, streams
from waybill.ledger.database.engine import new_id
from waybill.ledger.deliveries import Attempt, Delivery
from waybill.ledger.feeds import Feed, Page
from waybill.ledger.registrations import Registered

_TRIED_FOR = timedelta(days=1)
"""How long after a change of a registration a feed is tried that no run writes."""
_TRIES = 5
"""The most times that a worker writes the index because another worker numbered deliveries meanwhile."""


def landing_of(installation: Installation, registered: Registered) -> Landing:
    """Return what is wanted beside this tenant's files."""
    return registered.registration.lands(installation.configuration.export_policy(registered.tenant).landing)


def write_feed(installation: Installation, registered: Registered, *, rest_failing: bool = False) -> list[str]:
    """Bring the feed up to date if it is wanted, and return the paths written. It is safe to call this at any time, also twice at once.

    A feed that is no longer wanted is removed, so that nobody waits for news in it.
    """
    tenant = registered.tenant
    with installation.ledger.read() as connection:
        found = feeds.find(connection, tenant)
    if not landing_of(installation, registered).status:
        if found is not None:
            _withdraw(installation, registered, rest_failing=rest_failing)
        return []
    with installation.session(registered, rest_failing=rest_failing) as session:
        return _Writer(installation, registered, session).write()


def refresh(installation: Installation) -> Iterator[WaybillError]:
    """Write the feeds of tenants whose registration has changed: their next run may be far off, or never come. Yield what failed.

    A destination that is out of reach is tried for a day, and left alone as by runs once it failed several times in a row.
    """
    with installation.ledger.read() as connection:
        outdated = feeds.of_earlier_versions(connection, installation.now() - _TRIED_FOR)
    for tenant in outdated:
        try:
            write_feed(installation, installation.registered(tenant), rest_failing=True)
        except WaybillError as error:
            yield error.located(f"tenant {tenant}, feed")


def _withdraw(installation: Installation, registered: Registered, *, rest_failing: bool) -> None:
    with installation.session(registered, rest_failing=rest_failing) as session:
        if session.replaces:
            session.remove(layout.feed_index(registered.tenant))
    with installation.ledger.begin() as connection:
        feeds.end(connection, registered.tenant)


class _Writer:
    def __init__(self, installation: Installation, registered: Registered, session: Session) -> None:
        self._installation = installation
        self._registered = registered
        self._session = session
        self._tenant = registered.tenant
        self._is_blind = session.profile is Profile.DROPBOX
        self._index = layout.feed_index(registered.tenant)
        self._written: list[str] = []

    def write(self) -> list[str]:
        self._session.prepare(layout.tenant_folder(self._tenant))
        feed = self._feed()
        self._readme(feed)
        for _ in range(_TRIES):
            feed = self._number(feed)
            if not (self._session.replaces and self._replace(feed)):
                self._pages(feed, self._status(feed))
            with self._installation.ledger.read() as connection:
                now = feeds.find(connection, self._tenant)
            if now is None or (now.id, now.last) == (feed.id, feed.last):
                break
            feed = now
        return self._written

    def _feed(self) -> Feed:
        """Return the tenant's feed. It starts over at a new destination, or if the feed there is ahead of the ledger."""
        seen = self._session.read(self._index) if self._session.replaces else None  # read before the ledger, which other workers change
        spec = self._installation.destination_spec(self._registered).model_dump_json()
        destination = hashlib.sha256(spec.encode()).hexdigest()
        with self._installation.ledger.begin() as connection:
            found = feeds.find(connection, self._tenant)
            reached = None if seen is None else files.newest_number(seen, self._tenant, found.id if found else "")
            if seen is not None and reached is None:
                raise ConflictError(
                    f"{self._index} exists and is not a feed of this tenant's",
                    where=self._session.label,
                    next_step="Nothing was touched. Move it away and run again",
                    code="foreign_file",
                )
            if found is None or found.destination != destination or (reached or 0) > found.last:
                moved = found is not None and found.destination != destination
                found = Feed(self._tenant, new_id(), destination, 0, "", "", 0)
                feeds.begin(connection, found, registrations.unchanged_since(connection, self._tenant, ("destination",)), moved=moved)
        return found

    def _readme(self, feed: Feed) -> None:
        digest, path = hashlib.sha256(files.README).hexdigest(), layout.readme(self._tenant)
        if feed.readme == digest:
            return
        if self._is_blind:  # on a drop box a second try could not see that the first succeeded
            self._note_readme(feed, digest)
            self._session.upload(path, [files.README])
            return
        try:
            if (there := self._session.read(path)) is None:
                publish_document(self._session, path, files.README, new_id())
            elif self._session.replaces and there != files.README and b"Waybill" in there:
                self._put(path, files.README)
        except PermanentError:  # a server that refuses such a name says so once, and has the feed from the next run on
            self._note_readme(feed, digest)
            raise
        self._note_readme(feed, digest)

    def _note_readme(self, feed: Feed, digest: str) -> None:
        with self._installation.ledger.begin() as connection:
            feeds.note_shown(connection, self._tenant, feed.id, readme=digest)

    def _number(self, feed: Feed) -> Feed:
        """Number the deliveries committed since, one page in a transaction."""
        while True:
            with self._installation.ledger.begin() as connection:
                found = feeds.unfed(connection, self._tenant, files.PAGE)
                adopted = deliveries.adopted_of(connection, found)
                hashes = {each.id: manifest_sha256(each, adopted[each.id]) for each in found}
                signed = signatures.of(connection, hashes.values())
                entries = [
                    (each.id, files.entry(_entry(number, each, adopted[each.id], hashes[each.id], is_signed=hashes[each.id] in signed)))
                    for number, each in enumerate(found, feed.last + 1)
                ]
                if entries and not feeds.give_numbers(connection, feed, entries):
                    entries = []
                now = feeds.find(connection, self._tenant)
            if now is None or now.id != feed.id:
                raise TransientError(
                    "another worker started the feed over", where=self._session.label, next_step="Run again", code="overtaken"
                )
            feed = now
            if len(entries) < files.PAGE:
                return feed

    def _replace(self, feed: Feed) -> bool:
        """Write the index, full pages first. Returns False if the server does not replace files after all."""
        self._full_pages(feed)
        with self._installation.ledger.read() as connection:
            pages = [page for page in feeds.pages(connection, feed.id) if page.published_at is not None]
            tail = feeds.entries(connection, feed.id, pages[-1].last if pages else 0, 2 * files.PAGE)
        # Another worker may have numbered more deliveries. List and state must be of one moment.
        tail = [(number, text) for number, text in tail if number <= feed.last]
        listed = [
            {
                "path": layout.feed_page_name(feed.id, page.number),
                "first": page.first,
                "last": page.last,
                "bytes": page.size,
                "sha256": page.sha256,
            }
            for page in pages
        ]
        document = files.feed_document(self._status(feed) | {"pages": listed}, [text for _, text in tail])
        try:
            self._put(self._index, document)
        except PermanentError as error:
            if error.code != "refused":
                raise
            return False
        self._written.append(self._index)
        with self._installation.ledger.begin() as connection:
            feeds.note_shown(connection, self._tenant, feed.id, version=self._registered.version)
        return True

    def _full_pages(self, feed: Feed) -> None:
        """Freeze and publish the full pages. The newest entry stays in the index."""
        while True:
            with self._installation.ledger.read() as connection:
                pages = feeds.pages(connection, feed.id)
                after = pages[-1].last if pages else 0
                found = feeds.entries(connection, feed.id, after, files.PAGE) if feed.last - after > files.PAGE else []
            if not found:
                break
            self._freeze(feed, len(pages) + 1, after, found, {})
        self._publish(feed)

    def _pages(self, feed: Feed, status: dict[str, Any]) -> None:
        """Publish a page of new entries, and one for a changed state, at a destination where no file can be replaced."""
        problem = status["problem"] or ""
        while True:
            with self._installation.ledger.read() as connection:
                pages = feeds.pages(connection, feed.id)
                after = pages[-1].last if pages else 0
                found = feeds.entries(connection, feed.id, after, files.PAGE) if feed.last > after else []
            if pages and not found and (problem, self._registered.version) == (feed.problem, feed.version):
                break
            self._freeze(feed, len(pages) + 1, after, found, status)
            with self._installation.ledger.begin() as connection:
                feeds.note_shown(connection, self._tenant, feed.id, problem=problem, version=self._registered.version)
            feed = replace(feed, problem=problem, version=self._registered.version)
        self._publish(feed)

    def _freeze(self, feed: Feed, number: int, after: int, found: list[tuple[int, str]], status: dict[str, Any]) -> None:
        """Record the bytes of the next page. If another worker recorded it first, that page counts."""
        first, last = after + 1, found[-1][0] if found else after
        facts = {
            "format_version": files.FORMAT_VERSION,
            "tenant": self._tenant,
            "feed": feed.id,
            "page": number,
            "first": first,
            "last": last,
        }
        document = files.feed_document(facts | status, [text for _, text in found])
        page = Page(feed.id, number, first, last, len(document), hashlib.sha256(document).hexdigest(), document, None)
        with self._installation.ledger.begin() as connection:
            feeds.freeze(connection, page)

    def _publish(self, feed: Feed) -> None:
        with self._installation.ledger.read() as connection:
            waiting = feeds.unpublished(connection, feed.id)
        for page in waiting:
            name = layout.feed_page_name(feed.id, page.number, new_id() if self._is_blind else "")
            path, document = f"{layout.tenant_folder(self._tenant)}/{name}", page.document or b""
            self._session.prepare(path.rpartition("/")[0])
            if self._is_blind:
                self._session.upload(path, [document])
            else:
                publish_document(self._session, path, document, new_id())
            with self._installation.ledger.begin() as connection:
                feeds.mark_published(connection, page, self._installation.now())
            self._written.append(path)

    def _put(self, path: str, document: bytes) -> None:
        hidden = layout.hidden(path, new_id())
        self._session.upload(hidden, [document])
        try:
            self._session.replace(hidden, path)
        except PermanentError:
            self._session.remove(hidden)
            raise

    def _status(self, feed: Feed) -> dict[str, Any]:
        """Return the sender's state in words for receivers: without hosts, logins, connections or paths of the operator."""
        row = overview.tenant_row(self._installation, self._tenant)
        with self._installation.ledger.read() as connection:
            newest = feeds.newest_entry(connection, feed.id)
            entities = [stream.entity for stream in streams.active(connection, self._tenant)]
        late = (
            row.next_run + grace_of(self._installation.configuration.export_policy(self._tenant).notify) if row and row.next_run else None
        )
        registration = self._registered.registration
        return {
            "format_version": files.FORMAT_VERSION,
            "tenant": self._tenant,
            "feed": feed.id,
            "written_at": self._installation.now(),
            "frequency": registration.frequency.value,
            "timezone": registration.timezone,
            "entities": entities,
            "last_number": feed.last,
            "last_delivery": None if newest is None else json.loads(newest),
            "complete_until": row.until if row else None,
            "next_due": row.next_run if row else None,
            "late_after": late,
            "problem": _problem(row) if row else None,
        }


def _problem(row: Row) -> str | None:
    """Return what keeps data away, as the feed says it. None if nothing does."""
    entities_by_words: dict[str, list[str]] = {}
    for trouble in row.troubles:
        entities_by_words.setdefault(words_for_outsiders(trouble.code), []).append(trouble.entity)
    if entities_by_words:
        return " ".join(f"{', '.join(dict.fromkeys(entities))}: {words}" for words, entities in entities_by_words.items())
    if row.state is State.LATE:
        return tell("feed.late", until=_text(row.due), at=_text(row.due_at))
    return None


def _text(at: datetime) -> str:
    return at.isoformat(timespec="minutes").replace("+00:00", "Z")


def _entry(number: int, delivery: Delivery, attempt: Attempt, sha256: str, *, is_signed: bool) -> dict[str, Any]:
    """Return the entry of one delivery. Paths are below the tenant's folder."""
    target = target_of_attempt(delivery, attempt)
    return {
        "number": number,
        "delivery_id": delivery.id,
        "entity": delivery.entity,
        "kind": delivery.kind,
        "generation": delivery.generation,
        "sequence": delivery.sequence,
        "window": {"from": optional_timestamp_text(delivery.window_from), "to": optional_timestamp_text(delivery.window_to)},
        "date": delivery.export_date,
        "committed_at": optional_timestamp_text(delivery.committed_at),
        "manifest": target.manifest.removeprefix(f"{layout.tenant_folder(delivery.tenant)}/"),
        "manifest_sha256": sha256,
        "files": len(attempt.files),
        "rows": attempt.rows,
        "bytes": attempt.bytes,
        **({"signed": True} if is_signed else {}),
        **({"redelivers": delivery.redelivers} if delivery.redelivers else {}),
    }
