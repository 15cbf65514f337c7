"""Feeds: a tenant's committed deliveries in one numbered list, and the pages of it that were frozen. Numbers are given once, in order."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, delete, insert, select, update

from waybill.ledger.database.taken import Taken, unless_taken
from waybill.ledger.deliveries import Delivery
from waybill.ledger.tables import UNFED, delivery, feed, feed_entry, feed_page, registration, tenant
from waybill.states import DeliveryStatus


@dataclass(frozen=True)
class Feed:
    """A tenant's feed at one destination. `last` is the newest number.

    `problem`, `readme` and the `version` of the registration are what was published last.
    """

    tenant: str
    id: str
    destination: str
    last: int
    problem: str
    readme: str
    version: int


@dataclass(frozen=True)
class Page:
    """Entries `first` to `last`, which is below `first` in a page without any. The document is kept until it is published."""

    feed: str
    number: int
    first: int
    last: int
    size: int
    sha256: str
    document: bytes | None
    published_at: datetime | None


def find(connection: Connection, tenant: str) -> Feed | None:
    row = connection.execute(select(feed).where(feed.c.tenant == tenant)).one_or_none()
    return None if row is None else Feed(**row._mapping)


def begin(connection: Connection, new: Feed, since: datetime | None, *, moved: bool) -> None:
    """Start a tenant's feed over. Deliveries committed before `since` are at another destination and are not listed.

    If the feed itself `moved`, the deliveries that the one before listed are not listed either.
    """
    end(connection, new.tenant)
    committed = (delivery.c.tenant == new.tenant, delivery.c.status == DeliveryStatus.COMMITTED)
    numbered = update(delivery).where(*committed, delivery.c.feed_number > 0)
    connection.execute(numbered.values(feed_number=0 if moved else None))
    if since is not None:
        connection.execute(update(delivery).where(*committed, delivery.c.committed_at < since).values(feed_number=0))
    connection.execute(insert(feed).values(**vars(new)))


def end(connection: Connection, tenant: str) -> None:
    """Forget a tenant's feed."""
    own = select(feed.c.id).where(feed.c.tenant == tenant)
    for table in (feed_entry, feed_page):
        connection.execute(delete(table).where(table.c.feed.in_(own)))
    connection.execute(delete(feed).where(feed.c.tenant == tenant))


def unfed(connection: Connection, tenant: str, limit: int) -> list[Delivery]:
    """Return committed deliveries that have no number yet, in the order they were committed."""
    query = select(delivery).where(delivery.c.tenant == tenant, UNFED).order_by(delivery.c.committed_at, delivery.c.id).limit(limit)
    return [Delivery(**row._mapping) for row in connection.execute(query)]


def give_numbers(connection: Connection, current: Feed, entries: Sequence[tuple[str, str]]) -> bool:
    """Number deliveries, each an id and its entry, after `current.last`. False, and nothing changed, when another worker numbered some."""
    same = (feed.c.tenant == current.tenant, feed.c.id == current.id, feed.c.last == current.last)
    if connection.execute(update(feed).where(*same).values(last=current.last + len(entries))).rowcount != 1:
        return False
    numbered = list(enumerate(entries, current.last + 1))
    connection.execute(insert(feed_entry), [{"feed": current.id, "number": number, "entry": text} for number, (_, text) in numbered])
    for number, (delivery_id, _) in numbered:
        connection.execute(update(delivery).where(delivery.c.id == delivery_id).values(feed_number=number))
    return True


def entries(connection: Connection, feed_id: str, after: int, limit: int) -> list[tuple[int, str]]:
    """Return the kept entries after a number, with their numbers."""
    query = select(feed_entry.c.number, feed_entry.c.entry).where(feed_entry.c.feed == feed_id, feed_entry.c.number > after)
    return [(row.number, row.entry) for row in connection.execute(query.order_by(feed_entry.c.number).limit(limit))]


def newest_entry(connection: Connection, feed_id: str) -> str | None:
    query = select(feed_entry.c.entry).where(feed_entry.c.feed == feed_id).order_by(feed_entry.c.number.desc()).limit(1)
    return connection.execute(query).scalar_one_or_none()


_FACTS = [column for column in feed_page.c if column.name != "document"]


def pages(connection: Connection, feed_id: str) -> list[Page]:
    """Return all pages in order, without their documents."""
    rows = connection.execute(select(*_FACTS).where(feed_page.c.feed == feed_id).order_by(feed_page.c.number))
    return [Page(**row._mapping, document=None) for row in rows]


def unpublished(connection: Connection, feed_id: str) -> list[Page]:
    query = select(feed_page).where(feed_page.c.feed == feed_id, feed_page.c.published_at.is_(None)).order_by(feed_page.c.number)
    return [Page(**row._mapping) for row in connection.execute(query)]


def freeze(connection: Connection, page: Page) -> None:
    """Record a page's bytes before they are published. If another worker took the number, that worker's page counts."""
    with suppress(Taken), unless_taken(connection, feed_page, "pk_feed_page"):
        connection.execute(insert(feed_page).values(**vars(page)))


def mark_published(connection: Connection, page: Page, now: datetime) -> None:
    """Note that the destination has the page. The ledger drops its bytes and its entries, except the newest."""
    same = (feed_page.c.feed == page.feed, feed_page.c.number == page.number)
    connection.execute(update(feed_page).where(*same).values(published_at=now, document=None))
    newest = select(feed.c.last).where(feed.c.id == page.feed).scalar_subquery()
    own = (feed_entry.c.feed == page.feed, feed_entry.c.number <= page.last)
    connection.execute(delete(feed_entry).where(*own, feed_entry.c.number < newest))


def of_earlier_versions(connection: Connection, since: datetime) -> list[str]:
    """Return the tenants whose feed tells an earlier version of the registration than the one in force, which is not older than `since`."""
    query = select(feed.c.tenant).join(tenant, tenant.c.id == feed.c.tenant)
    now = (registration.c.tenant == tenant.c.id, registration.c.version == tenant.c.version)
    query = query.join(registration, and_(*now)).where(feed.c.version != tenant.c.version, registration.c.created_at >= since)
    return list(connection.execute(query.order_by(feed.c.tenant)).scalars())


def note_shown(connection: Connection, tenant: str, feed_id: str, **what: str | int) -> None:
    """Remember what the destination shows now: the feed's `problem`, the `version` of the registration, the hash of the `readme`."""
    connection.execute(update(feed).where(feed.c.tenant == tenant, feed.c.id == feed_id).values(**what))
